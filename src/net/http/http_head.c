/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a response's head, for both engines and strictly: where programs disagree about what a
 * head means (two lengths, a length beside chunks, folded lines), one of them takes a part of the
 * body for an answer. Such a head is a broken peer's, not a guess (RFC 9112 sections 5, 6.3, 11).
 */
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "net/http/exchange.h"

#define HEAD_MAX_BYTES    (256 * 1024) /* no server needs it; libcurl 7.88 limits only one line */
#define RETRY_AFTER_MAX_S (366LL * 24 * 3600) /* keeps the product with NS_PER_S in range */

void http_response_done(struct http_response *response)
{
    free(response->etag);
    free(response->last_modified);
    free(response->date);
    free(response->content_type);
    free(response->content_encoding);
    free(response->final_url);
    buf_done(&response->lines);
    *response = (struct http_response){0};
}

struct slice http_response_header(const struct http_response *response, const char *name,
                                  size_t index)
{
    struct slice rest = buf_slice(&response->lines);
    struct slice wanted = slice_of(name);
    struct slice line;
    while (slice_next_line(&rest, &line)) {
        const char *colon = memchr(line.p, ':', line.n);
        size_t n = colon ? (size_t)(colon - line.p) : line.n;
        if (colon && slice_equal_nocase((struct slice){line.p, n}, wanted) && index-- == 0)
            return slice_trim((struct slice){colon + 1, line.n - n - 1});
    }
    return (struct slice){NULL, 0};
}

void http_head_done(struct http_head *head)
{
    free(head->location);
    head->location = NULL;
}

/* "HTTP/1.x NNN", then a reason that nobody reads. */
static int status_line(struct http_head *head, struct slice line, struct larder_error *e)
{
    const char *p = line.p;
    uint64_t status = 0;
    if (line.n < 12 || memcmp(p, "HTTP/1.", 7) != 0 || p[7] < '0' || p[7] > '9' || p[8] != ' ' ||
        !slice_parse_u64((struct slice){p + 9, 3}, &status) || status < 100 ||
        (line.n > 12 && p[12] != ' '))
        return error_set(e, LARDER_PROTO, "bad status line");
    /* A new head replaces an interim one (1xx). */
    http_response_done(head->response);
    http_head_done(head);
    *head =
        (struct http_head){.response = head->response, .bytes = head->bytes, .has_status = true};
    head->is_close = p[7] == '0';
    head->is_old = p[7] == '0';
    head->response->status = (int)status;
    head->response->lines = BUF_INIT(HEAD_MAX_BYTES);
    return HTTP_HEAD_MORE;
}

static bool has_control(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (((unsigned char)s.p[i] < ' ' && s.p[i] != '\t') || s.p[i] == 0x7f)
            return true;
    return false;
}

/* The first of several equal fields counts. */
static int keep(char **field, struct slice value, struct larder_error *e)
{
    if (*field || value.n == 0 || has_control(value))
        return HTTP_HEAD_MORE; /* control bytes are nothing to store or to send back */
    *field = slice_dup(value);
    return *field ? HTTP_HEAD_MORE : error_nomem(e);
}

static int content_length(struct http_head *head, struct slice value, struct larder_error *e)
{
    struct http_response *r = head->response;
    uint64_t n = 0;
    if (!slice_parse_u64(value, &n) || n > INT64_MAX)
        return error_set(e, LARDER_PROTO, "bad Content-Length");
    if (r->has_length && r->length_bytes != n)
        return error_set(e, LARDER_PROTO, "two Content-Lengths: %llu and %llu",
                         (unsigned long long)r->length_bytes, (unsigned long long)n);
    r->has_length = true;
    r->length_bytes = n;
    return HTTP_HEAD_MORE;
}

/* RFC 9110 section 14.4: bytes FIRST-LAST/TOTAL, where the range or the total may be a star */
static bool content_range(struct http_response *r, struct slice value)
{
    if (value.n < 6 || strncasecmp(value.p, "bytes ", 6) != 0)
        return false;
    struct slice s = slice_trim((struct slice){value.p + 6, value.n - 6});
    const char *slash = memchr(s.p, '/', s.n);
    if (!slash)
        return false;
    struct slice range = {s.p, (size_t)(slash - s.p)};
    struct slice total = {slash + 1, s.n - range.n - 1};
    bool is_total_known = !slice_equal(total, SLICE_LIT("*"));
    if (is_total_known && (!slice_parse_u64(total, &r->total_bytes) || r->total_bytes > INT64_MAX))
        return false;
    r->has_total = is_total_known;
    if (slice_equal(range, SLICE_LIT("*")))
        return is_total_known;
    const char *dash = memchr(range.p, '-', range.n);
    uint64_t last = 0;
    if (!dash ||
        !slice_parse_u64((struct slice){range.p, (size_t)(dash - range.p)}, &r->range_start) ||
        !slice_parse_u64((struct slice){dash + 1, (size_t)(range.p + range.n - dash) - 1}, &last))
        return false;
    if (last < r->range_start || last >= INT64_MAX || (is_total_known && last >= r->total_bytes))
        return false;
    r->range_end = last + 1;
    return true;
}

static void retry_after(struct http_response *r, struct slice value)
{
    uint64_t seconds = 0;
    char date[64];
    int64_t when = 0;
    if (slice_parse_u64(value, &seconds)) {
        r->retry_after_ns = seconds < RETRY_AFTER_MAX_S ? (int64_t)seconds * NS_PER_S
                                                        : RETRY_AFTER_MAX_S * NS_PER_S;
    } else if (value.n < sizeof(date)) {
        memcpy(date, value.p, value.n);
        date[value.n] = '\0';
        int64_t now = clock_realtime_ns();
        if (http_date_parse(date, &when) && when > now)
            r->retry_after_ns = when - now < RETRY_AFTER_MAX_S * NS_PER_S
                                    ? when - now
                                    : RETRY_AFTER_MAX_S * NS_PER_S;
    }
}

/* Nothing but "chunked", once: no other coding was asked for (no TE was sent). */
static int transfer_encoding(struct http_head *head, struct slice value, struct larder_error *e)
{
    if (head->is_chunked || head->is_old || !slice_equal_nocase(value, SLICE_LIT("chunked")))
        return error_set(e, LARDER_PROTO, "Transfer-Encoding other than chunked");
    head->is_chunked = true;
    return HTTP_HEAD_MORE;
}

static void connection(struct http_head *head, struct slice value)
{
    while (value.n > 0) {
        const char *comma = memchr(value.p, ',', value.n);
        size_t n = comma ? (size_t)(comma - value.p) : value.n;
        if (slice_equal_nocase(slice_trim((struct slice){value.p, n}), SLICE_LIT("close")))
            head->is_close = true;
        n += comma != NULL;
        value = (struct slice){value.p + n, value.n - n};
    }
}

static int field(struct http_head *head, struct slice name, struct slice value,
                 struct larder_error *e)
{
    struct http_response *r = head->response;
    struct {
        const char *name;
        char **field;
    } kept[] = {
        {"ETag", &r->etag},
        {"Last-Modified", &r->last_modified},
        {"Date", &r->date},
        {"Content-Type", &r->content_type},
        {"Content-Encoding", &r->content_encoding},
    };
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        if (slice_equal_nocase(name, slice_of(kept[i].name)))
            return keep(kept[i].field, value, e);
    if (slice_equal_nocase(name, SLICE_LIT("Content-Length")))
        return content_length(head, value, e);
    if (slice_equal_nocase(name, SLICE_LIT("Content-Range"))) {
        head->has_content_range = true;
        if (!content_range(r, value))
            return error_set(e, LARDER_PROTO, "bad Content-Range");
    } else if (slice_equal_nocase(name, SLICE_LIT("Transfer-Encoding"))) {
        return transfer_encoding(head, value, e);
    } else if (slice_equal_nocase(name, SLICE_LIT("Connection"))) {
        connection(head, value);
    } else if (slice_equal_nocase(name, SLICE_LIT("Location"))) {
        return keep(&head->location, value, e);
    } else if (slice_equal_nocase(name, SLICE_LIT("Retry-After"))) {
        retry_after(r, value);
    } else if (slice_equal_nocase(name, SLICE_LIT("Accept-Ranges"))) {
        r->accepts_ranges = slice_equal_nocase(value, SLICE_LIT("bytes"));
    }
    return HTTP_HEAD_MORE;
}

static int head_end(struct http_head *head, struct larder_error *e)
{
    struct http_response *r = head->response;
    if (r->status < 200) {
        head->has_status = false;
        return r->status == 101 ? error_set(e, LARDER_PROTO, "switches to a protocol unasked")
                                : HTTP_HEAD_INTERIM;
    }
    if (head->is_chunked && r->has_length)
        return error_set(e, LARDER_PROTO, "both Transfer-Encoding and Content-Length");
    if (r->status == 206) {
        if (!head->has_content_range || r->range_end == 0)
            return error_set(e, LARDER_PROTO, "status 206 without a Content-Range");
        if (r->has_length && r->length_bytes != r->range_end - r->range_start)
            return error_set(e, LARDER_PROTO, "Content-Range and Content-Length differ");
    } else if (r->status == 200) {
        r->has_total = r->has_length;
        r->total_bytes = r->length_bytes;
        r->range_start = r->range_end = 0;
        r->is_until_close = !r->has_length && !head->is_chunked;
    }
    return HTTP_HEAD_FINAL;
}

int http_head_count(struct http_head *head, size_t n, struct larder_error *e)
{
    head->bytes += n;
    if (head->bytes > HEAD_MAX_BYTES)
        return error_set(e, LARDER_LIMIT, "more than %d bytes of response headers", HEAD_MAX_BYTES);
    return 0;
}

static int header_line(struct http_head *head, struct slice line, struct larder_error *e)
{
    const char *colon = memchr(line.p, ':', line.n);
    if (!colon || colon == line.p)
        return error_set(e, LARDER_PROTO, "a header line without a name");
    struct slice name = {line.p, (size_t)(colon - line.p)};
    for (size_t i = 0; i < name.n; i++) /* RFC 9112 section 5.1, and folded lines (5.2) */
        if ((unsigned char)name.p[i] <= ' ' || name.p[i] == 0x7f)
            return error_set(e, LARDER_PROTO, "a header name with a blank");
    struct slice value = slice_trim((struct slice){colon + 1, line.n - name.n - 1});
    int rc = field(head, name, value, e);
    if (rc < 0 || has_control(value))
        return rc;
    struct buf *lines = &head->response->lines;
    buf_append_slice(lines, name);
    buf_puts(lines, ": ");
    buf_append_slice(lines, value);
    buf_putc(lines, '\n');
    int failed = buf_failed(lines, e);
    return failed < 0 ? failed : rc;
}

int http_head_line(struct http_head *head, struct slice line, struct larder_error *e)
{
    int rc = http_head_count(head, line.n, e);
    if (rc < 0)
        return rc;
    line.n -= line.n > 0 && line.p[line.n - 1] == '\n';
    line.n -= line.n > 0 && line.p[line.n - 1] == '\r';
    if (memchr(line.p, '\0', line.n) || memchr(line.p, '\r', line.n) ||
        memchr(line.p, '\n', line.n))
        return error_set(e, LARDER_PROTO, "a NUL or a lone CR in a header");
    if (!head->has_status)
        return status_line(head, line, e);
    return line.n == 0 ? head_end(head, e) : header_line(head, line, e);
}

bool http_head_is_redirect(const struct http_head *head)
{
    switch (head->response->status) {
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
        return head->location != NULL;
    default:
        return false;
    }
}
