/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time limits: looking up, connecting and TLS have their own; from then on an exchange ends when no
 * byte came or went for stall_timeout_ns, fewer than DRIP_BYTES of an answer that has begun, or no
 * byte of one for answer_timeout_ns after the request was sent. Time spent in the caller's
 * callbacks (a full disk queue) is not the server's and doesn't count.
 */
#include "net/http/exchange.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/text.h"
#include "net/auth/netrc.h"
#include "net/http/hostname.h"
#include "net/http/plain.h"
#include "net/http/url.h"

/* Pages of errors and redirects are read only to keep the connection. */
#define OTHER_BODY_MAX (64 * 1024)
/* A server that drips would hold whoever waits, and all who wait for them, for as long as it likes:
 * with so few bytes of an answer in the time in which one has to come, it might as well be gone. */
#define DRIP_BYTES 1024U
/* The header lines of one request: servers refuse more. */
#define REQUEST_HEAD_MAX (256UL * 1024)
/* A body that is sent once and can't be sent again is worth a round trip to learn that it is
 * welcome; small ones are not. */
#define EXPECT_BYTES (1024ULL * 1024)
/* A registry answers the end of an upload when it has moved the bytes to where they belong. */
#define STORE_TIMEOUT_NS (300 * NS_PER_S)

const char *http_method_name(enum http_method method)
{
    switch (method) {
    case HTTP_HEAD:
        return "HEAD";
    case HTTP_POST:
        return "POST";
    case HTTP_PUT:
        return "PUT";
    case HTTP_PATCH:
        return "PATCH";
    case HTTP_DELETE:
        return "DELETE";
    case HTTP_GET:
    default:
        return "GET";
    }
}

/* ---- the request ---- */

void secret_buf_done(struct buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->cap);
    buf_done(b);
}

static void header(struct buf *out, const char *name, const char *value)
{
    buf_puts(out, name);
    buf_puts(out, ": ");
    buf_puts(out, value);
    buf_puts(out, "\r\n");
}

static bool is_header(const char *name, const char *value)
{
    for (const char *p = value; *p; p++)
        if (((unsigned char)*p < ' ' && *p != '\t') || *p == 0x7f)
            return false;
    return header_is_name(slice_of(name));
}

static void range_headers(const struct http_request *r, struct buf *out)
{
    if (r->range_start == 0 && r->range_end == 0)
        return;
    buf_printf(out, "Range: bytes=%llu-", (unsigned long long)r->range_start);
    if (r->range_end > 0)
        buf_printf(out, "%llu", (unsigned long long)r->range_end - 1);
    buf_puts(out, "\r\n");
    if (r->if_range)
        header(out, "If-Range", r->if_range);
}

static bool has_line(const struct buf *lines, const char *name)
{
    struct slice rest = buf_slice(lines);
    struct slice line;
    size_t n = strlen(name);
    while (slice_next_line(&rest, &line))
        if (line.n > n && line.p[n] == ':' && strncasecmp(line.p, name, n) == 0)
            return true;
    return false;
}

static void basic_header(const char *user, const char *password, struct buf *out)
{
    struct buf plain = BUF_INIT(REQUEST_HEAD_MAX);
    buf_puts(&plain, user);
    buf_putc(&plain, ':');
    buf_puts(&plain, password ? password : "");
    buf_puts(out, "Authorization: Basic ");
    if (plain.failed != LARDER_OK)
        out->failed = plain.failed;
    else
        base64_encode(plain.p, plain.n, out);
    buf_puts(out, "\r\n");
    secret_buf_done(&plain);
}

/* The user's own headers, then credentials: what the request says, else the header file, the URL,
 * netrc. */
static int secret_headers(const struct exchange *x, struct buf *out, struct larder_error *e)
{
    const struct http_client *client = x->client;
    const char *given = x->request->authorization;
    const char *origin = client->header_origin;
    bool has_headers = !origin || url_same_origin(origin, x->url);
    for (size_t i = 0; has_headers && i < client->headers.n; i++) {
        const char *line = client->headers.lines[i];
        if (given && strncasecmp(line, "Authorization:", 14) == 0)
            continue;
        buf_puts(out, line);
        buf_puts(out, "\r\n");
    }
    if (given && !is_header("Authorization", given))
        return error_set(e, LARDER_INVAL, "authorization: has a control character");
    if (given && *given)
        header(out, "Authorization", given);
    if (given || has_line(out, "Authorization"))
        return 0;
    if (x->user && x->password && *x->password)
        basic_header(x->user, x->password, out);
    else if (client->netrc_file) {
        struct netrc_login login = {0};
        int rc = netrc_find(client->netrc_file, x->url, x->user, &login, e);
        if (rc < 0)
            return rc;
        if (login.user)
            basic_header(login.user, login.password, out);
        else if (x->user)
            basic_header(x->user, x->password, out);
        netrc_login_done(&login);
    } else if (x->user) {
        basic_header(x->user, x->password, out);
    }
    return 0;
}

int exchange_request_lines(const struct exchange *x, struct buf *out, struct larder_error *e)
{
    const struct http_request *r = x->request;
    range_headers(r, out);
    if (r->if_none_match)
        header(out, "If-None-Match", r->if_none_match);
    if (r->if_modified_since)
        header(out, "If-Modified-Since", r->if_modified_since);
    if (r->no_cache)
        header(out, "Cache-Control", "no-cache");
    for (size_t i = 0; i < r->n_headers; i++) {
        if (!is_header(r->headers[i].name, r->headers[i].value))
            return error_set(e, LARDER_INVAL, "request header %zu: not \"Name: value\"", i + 1);
        header(out, r->headers[i].name, r->headers[i].value);
    }
    int rc = x->has_secrets ? secret_headers(x, out, e) : 0;
    if (rc < 0)
        return rc;
    if (!has_line(out, "User-Agent"))
        header(out, "User-Agent", "larder/" LARDER_VERSION);
    if (!has_line(out, "Accept"))
        header(out, "Accept", "*/*");
    return buf_failed(out, e);
}

uint64_t exchange_upload_bytes(const struct exchange *x, bool *ret_has)
{
    const struct http_upload *upload = x->request->upload;
    enum http_method m = x->request->method;
    *ret_has = upload || m == HTTP_POST || m == HTTP_PUT || m == HTTP_PATCH;
    if (!upload)
        return 0;
    return upload->data ? upload->n : upload->n_bytes;
}

bool exchange_expects_continue(const struct exchange *x)
{
    const struct http_upload *u = x->request->upload;
    return u && !u->data && u->fd < 0 && u->n_bytes > EXPECT_BYTES;
}

int exchange_upload_read(struct exchange *x, uint64_t at, void *to, size_t n, size_t *ret_n,
                         struct larder_error *e)
{
    const struct http_upload *u = x->request->upload;
    uint64_t left = (u->data ? u->n : u->n_bytes) - at;
    if (n > left)
        n = (size_t)left;
    if (u->data) {
        memcpy(to, (const char *)u->data + at, n);
        *ret_n = n;
        return 0;
    }
    if (u->fd < 0) {
        size_t got = 0;
        x->is_read_begun = true;
        int rc = u->read(u->arg, to, n, &got, e);
        if (rc < 0)
            return rc;
        if (got == 0 || got > n)
            return error_set(e, LARDER_BUSY, "body to send ends after %llu of %llu bytes",
                             (unsigned long long)at, (unsigned long long)u->n_bytes);
        *ret_n = got;
        return 0;
    }
    ssize_t got = fd_pread_full(u->fd, to, n, u->offset + at);
    if (got < 0)
        return error_errno(e, errno, "body to send: can't be read");
    if (got == 0)
        return error_set(e, LARDER_BUSY, "file to send ends after %llu of %llu bytes",
                         (unsigned long long)at, (unsigned long long)u->n_bytes);
    *ret_n = (size_t)got;
    return 0;
}

/* ---- the answer ---- */

void exchange_begin(struct exchange *x)
{
    http_response_done(&x->response);
    http_head_done(&x->head);
    x->head = (struct http_head){.response = &x->response};
    x->is_head_done = x->is_redirect = x->is_sent = false;
    x->body_bytes = 0;
    x->active_ns = x->drip_ns = 0;
    x->drip_from = x->received_bytes = 0;
    x->tick_ns = clock_monotonic_ns();
    if (x->request->error_body)
        buf_reset(x->request->error_body);
}

int exchange_line(struct exchange *x, struct slice line, struct larder_error *e)
{
    const struct http_request *request = x->request;
    int state = http_head_line(&x->head, line, e);
    if (state == HTTP_HEAD_INTERIM)
        x->drip_ns = 0; /* the next byte comes when it comes */
    if (state != HTTP_HEAD_FINAL)
        return state;
    x->is_head_done = true;
    x->is_redirect = !request->no_redirect && http_head_is_redirect(&x->head);
    if (!x->is_redirect && request->head) {
        int rc = request->head(request->arg, &x->response, e);
        if (rc < 0)
            return rc;
    }
    x->active_ns = x->drip_ns = clock_monotonic_ns();
    x->drip_from = x->received_bytes;
    return HTTP_HEAD_FINAL;
}

bool exchange_is_wanted(const struct exchange *x)
{
    int status = x->response.status;
    return status >= 200 && status <= 299;
}

bool exchange_is_direct(const struct exchange *x)
{
    return x->client->no_loopback_proxy && hostname_is_loopback(url_host(x->url));
}

bool exchange_is_bodiless(const struct exchange *x)
{
    int status = x->response.status;
    return x->request->method == HTTP_HEAD || status == 204 || status == 304;
}

/* The page of an answer that is no success: up to what the caller keeps of it, or a little. */
static int other_body(struct exchange *x, const void *data, size_t n)
{
    struct buf *keep = x->request->error_body;
    uint64_t enough = OTHER_BODY_MAX;
    if (keep && !x->is_redirect) {
        size_t room = keep->max_bytes > keep->n ? keep->max_bytes - keep->n : 0;
        buf_append(keep, data, n < room ? n : room);
        if (keep->max_bytes > enough)
            enough = keep->max_bytes;
    }
    return x->body_bytes > enough;
}

static int deliver(const struct http_request *request, const char *data, size_t n, bool is_in_room,
                   struct larder_error *e)
{
    while (n > 0 && request->room && !is_in_room) {
        size_t space = 0;
        void *to = request->room(request->arg, &space);
        if (!to)
            break;
        size_t take = n < space ? n : space;
        memcpy(to, data, take);
        int rc = request->body(request->arg, to, take, e);
        if (rc < 0)
            return rc;
        data += take;
        n -= take;
    }
    return n > 0 ? request->body(request->arg, data, n, e) : 0;
}

int exchange_body(struct exchange *x, const void *data, size_t n, bool is_in_room,
                  struct larder_error *e)
{
    const struct http_request *request = x->request;
    if (!x->is_head_done)
        return error_set(e, LARDER_PROTO, "a body before the response's head ended");
    x->body_bytes += n;
    if (!exchange_is_wanted(x))
        return other_body(x, data, n);
    if (request->max_body_bytes > 0 && x->body_bytes > request->max_body_bytes)
        return error_set(e, LARDER_LIMIT, "body is larger than %llu bytes",
                         (unsigned long long)request->max_body_bytes);
    int64_t began = clock_monotonic_ns();
    int rc = request->body ? deliver(request, data, n, is_in_room, e) : 0;
    x->active_ns = clock_monotonic_ns();
    if (x->drip_ns != 0)
        x->drip_ns += x->active_ns - began; /* our own time is not the server's */
    return rc < 0 ? rc : 0;
}

/* ---- time ---- */

void exchange_received(struct exchange *x, uint64_t n)
{
    x->active_ns = clock_monotonic_ns();
    x->received_bytes += n;
    if (x->drip_ns == 0 || x->received_bytes - x->drip_from >= DRIP_BYTES) {
        x->drip_ns = x->active_ns;
        x->drip_from = x->received_bytes;
    }
}

int exchange_tick(struct exchange *x, int64_t now, struct larder_error *e)
{
    if (now - x->tick_ns < TICK_NS)
        return 0;
    const struct larder_observer *o = x->client->observer;
    const struct http_request *request = x->request;
    if (o && o->is_canceled && o->is_canceled(o->arg))
        return error_set(e, LARDER_CANCELED, "canceled");
    int rc = request->tick ? request->tick(request->arg, e) : 0;
    x->tick_ns = clock_monotonic_ns();
    return rc < 0 ? rc : 0;
}

int exchange_check_stall(const struct exchange *x, int64_t now, struct larder_error *e)
{
    const struct http_client *client = x->client;
    int64_t limit = client->stall_timeout_ns;
    enum http_method m = x->request->method;
    if (x->is_sent && x->head.bytes == 0) {
        if (client->answer_timeout_ns > 0)
            limit = client->answer_timeout_ns;
        else if ((m == HTTP_PUT || m == HTTP_POST || m == HTTP_PATCH) && limit < STORE_TIMEOUT_NS)
            limit = STORE_TIMEOUT_NS;
    }
    char text[32];
    if (x->active_ns != 0 && now - x->active_ns >= limit)
        return error_errno_code(e, LARDER_UNREACHABLE, ETIME, "no byte for %s",
                                duration_format(limit, text));
    if (x->drip_ns != 0 && x->is_sent && now - x->drip_ns >= limit)
        return error_errno_code(e, LARDER_UNREACHABLE, ETIME, "fewer than %u bytes in %s",
                                DRIP_BYTES, duration_format(limit, text));
    return 0;
}

/* ---- the end ---- */

static int keep_redirect(struct exchange *x, struct larder_error *e)
{
    int rc = url_resolve(x->url, x->head.location, &x->redirect_url, e);
    return rc < 0 ? error_context(e, "redirect") : 0;
}

int exchange_judge(struct exchange *x, struct larder_error *e)
{
    const struct http_response *r = &x->response;
    if (x->is_redirect)
        return keep_redirect(x, e);
    if (!exchange_is_wanted(x))
        return 0; /* the status is the answer, however its page ended */
    /* The engines check it too; this is what "whole" rests on. */
    if (!exchange_is_bodiless(x) && r->has_length && x->body_bytes != r->length_bytes)
        return error_errno_code(
            e, LARDER_UNREACHABLE, ECONNRESET, "body has %llu bytes, its Content-Length is %llu",
            (unsigned long long)x->body_bytes, (unsigned long long)r->length_bytes);
    return 0;
}

int exchange_run(struct exchange *x, struct larder_error *e)
{
    exchange_begin(x);
    return plain_can(x) ? plain_run(x, e) : curl_run(x, e);
}

void exchange_done(struct exchange *x)
{
    http_response_done(&x->response);
    http_head_done(&x->head);
    free(x->redirect_url);
    x->redirect_url = NULL;
}
