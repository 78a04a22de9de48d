/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a response's head. libcurl has framed it; what we decide by is parsed here, strictly:
 * two lengths that differ, or a Content-Range that contradicts the length, are a broken peer, not
 * a guess.
 */
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "net/exchange.h"

#define HEAD_MAX_BYTES    (256 * 1024) /* no server needs it; libcurl 7.88 limits only one line */
#define RETRY_AFTER_MAX_S (366ULL * 24 * 3600) /* keeps the product with NS_PER_S in range */

void http_response_done(struct http_response *response)
{
    free(response->etag);
    free(response->last_modified);
    free(response->date);
    free(response->content_type);
    free(response->content_encoding);
    free(response->final_url);
    *response = (struct http_response){0};
}

static int status_line(struct http_head *head, struct slice line, struct larder_error *e)
{
    const char *space = memchr(line.p, ' ', line.n);
    size_t at = space ? (size_t)(space - line.p) + 1 : line.n;
    uint64_t status = 0;
    if (line.n < at + 3 || !slice_parse_u64((struct slice){line.p + at, 3}, &status) ||
        status < 100)
        return error_set(e, LARDER_PROTO, "bad status line");
    /* A new head replaces an interim one (1xx). */
    http_response_done(head->response);
    size_t bytes = head->bytes;
    *head = (struct http_head){.response = head->response, .bytes = bytes};
    head->response->status = (int)status;
    return HTTP_HEAD_MORE;
}

/* The first of several equal fields counts. */
static int keep(char **field, struct slice value, struct larder_error *e)
{
    for (size_t i = 0; i < value.n; i++)
        if ((unsigned char)value.p[i] < ' ' || value.p[i] == 0x7f)
            return HTTP_HEAD_MORE; /* not something to store or to send back */
    if (*field || value.n == 0)
        return HTTP_HEAD_MORE;
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
        if (seconds > RETRY_AFTER_MAX_S)
            seconds = RETRY_AFTER_MAX_S;
        r->retry_after_ns = (int64_t)seconds * NS_PER_S;
    } else if (value.n < sizeof(date)) {
        memcpy(date, value.p, value.n);
        date[value.n] = '\0';
        int64_t now = clock_realtime_ns();
        if (http_date_parse(date, &when) && when > now)
            r->retry_after_ns = when - now;
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
        head->is_chunked = true;
    } else if (slice_equal_nocase(name, SLICE_LIT("Location"))) {
        head->has_location = value.n > 0;
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
    if (r->status < 200)
        return HTTP_HEAD_INTERIM;
    if (head->is_chunked) { /* RFC 9112 section 6.3: then Content-Length says nothing */
        r->has_length = false;
        r->length_bytes = 0;
    }
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

int http_head_line(struct http_head *head, struct slice line, struct larder_error *e)
{
    int rc = http_head_count(head, line.n, e);
    if (rc < 0)
        return rc;
    if (slice_starts(line, SLICE_LIT("HTTP/")))
        return status_line(head, line, e);
    struct slice text = slice_trim(line);
    if (text.n == 0)
        return head_end(head, e);
    const char *colon = memchr(line.p, ':', line.n);
    if (!colon)
        return HTTP_HEAD_MORE;
    struct slice name = {line.p, (size_t)(colon - line.p)};
    struct slice value = {colon + 1, line.n - name.n - 1};
    return field(head, name, slice_trim(value), e);
}

bool http_head_is_redirect(const struct http_head *head)
{
    switch (head->response->status) {
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
        return head->has_location;
    default:
        return false;
    }
}
