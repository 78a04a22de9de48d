/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our own engine: why is in http.h, its parts are in plain.h.
 *
 *   kept or new connection -> send -> head (1xx skipped) -> body by one of:
 *     none       HEAD, 204, 304
 *     chunked    RFC 9112 section 7.1, CRLF only, hexadecimal digits only
 *     length     received straight into the caller's room
 *     to the end of the connection
 *   -> connection kept when the answer ended where it said, with nothing behind it
 */
#include "net/http/plain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "net/http/url.h"

#define REQUEST_MAX (300UL * 1024)
/* Bodies for callers without a room: small enough for the cache, large enough to make system calls
 * rare. */
#define BIG_BYTES (256UL * 1024)
/* From so many expected bytes on a receive waits until they are there (or TICK_NS passed). */
#define ALL_BYTES (64UL * 1024)

/* ---- lines ---- */

/* One line with its end, borrowed until the next read. */
static int read_line(struct plain *p, const char *what, struct slice *ret, struct larder_error *e)
{
    struct plain_conn *conn = p->conn;
    for (;;) {
        const char *end = memchr(conn->data + conn->at, '\n', conn->n);
        if (end) {
            *ret = (struct slice){conn->data + conn->at, (size_t)(end - conn->data) + 1 - conn->at};
            conn->at += ret->n;
            conn->n -= ret->n;
            return 0;
        }
        if (conn->at > 0)
            memmove(conn->data, conn->data + conn->at, conn->n);
        conn->at = 0;
        if (conn->n == sizeof(conn->data))
            return error_set(e, LARDER_LIMIT, "a line of more than %zu bytes in %s", conn->n, what);
        size_t got = 0;
        int rc =
            plain_receive(p, conn->data + conn->n, sizeof(conn->data) - conn->n, false, &got, e);
        conn->n += got;
        if (rc == PLAIN_END)
            return plain_closed(p, p->is_answered ? "within its answer" : "without an answer", e);
        if (rc >= 0)
            rc = plain_check_time(p, e);
        if (rc < 0)
            return rc;
    }
}

int plain_read_head(struct plain *p, struct larder_error *e)
{
    for (;;) {
        struct slice line = {NULL, 0};
        int rc = read_line(p, "the head", &line, e);
        if (rc == 0)
            rc = exchange_line(p->x, line, e);
        if (rc != HTTP_HEAD_MORE)
            return rc;
    }
}

/* ---- bodies ---- */

/* Where bytes that are not here yet should go. */
static int find_room(struct plain *p, uint64_t limit, void **ret, size_t *ret_n, bool *ret_is_room,
                     struct larder_error *e)
{
    const struct http_request *request = p->x->request;
    size_t n = 0;
    void *to = NULL;
    if (request->room && exchange_is_wanted(p->x))
        to = request->room(request->arg, &n);
    *ret_is_room = to != NULL;
    if (!to && limit > sizeof(p->conn->data) && exchange_is_wanted(p->x)) {
        if (!p->big)
            p->big = malloc(BIG_BYTES);
        if (!p->big)
            return error_nomem(e);
        to = p->big;
        n = BIG_BYTES;
    } else if (!to) {
        to = p->conn->data; /* empty now */
        n = sizeof(p->conn->data);
        p->conn->at = 0;
    }
    *ret = to;
    *ret_n = n < limit ? n : (size_t)limit;
    return 0;
}

/*
 * Takes a piece of at most limit bytes: *ret_n of them, 0 when none came for a while. Results of
 * plain_receive, or 3 when the page is long enough.
 */
#define BODY_ENOUGH 3
static int take_piece(struct plain *p, uint64_t limit, size_t *ret_n, struct larder_error *e)
{
    struct plain_conn *conn = p->conn;
    bool is_room = false;
    int got = PLAIN_BYTES;
    void *data = NULL;
    size_t n = 0;
    if (conn->n > 0) {
        data = conn->data + conn->at;
        n = conn->n < limit ? conn->n : (size_t)limit;
        conn->at += n;
        conn->n -= n;
    } else {
        size_t room = 0;
        int rc = find_room(p, limit, &data, &room, &is_room, e);
        if (rc < 0)
            return rc;
        got = plain_receive(p, data, room, room >= ALL_BYTES, &n, e);
        if (got < 0)
            return got;
    }
    *ret_n = n;
    if (n > 0) {
        int rc = exchange_body(p->x, data, n, is_room, e);
        if (rc != 0)
            return rc < 0 ? rc : BODY_ENOUGH;
    }
    int rc = plain_check_time(p, e);
    return rc < 0 ? rc : got;
}

/* n bytes, no more and no less. */
static int read_exactly(struct plain *p, uint64_t n, struct larder_error *e)
{
    while (n > 0) {
        size_t took = 0;
        int rc = take_piece(p, n, &took, e);
        if (rc < 0 || rc == BODY_ENOUGH)
            return rc;
        n -= took;
        if (rc == PLAIN_END)
            return error_errno_code(e, LARDER_UNREACHABLE, ECONNRESET,
                                    "the server ended the connection within the body, %llu bytes "
                                    "before its end",
                                    (unsigned long long)n);
    }
    return 0;
}

static int read_to_end(struct plain *p, struct larder_error *e)
{
    for (;;) {
        size_t took = 0;
        int rc = take_piece(p, UINT64_MAX, &took, e);
        if (rc < 0 || rc == BODY_ENOUGH)
            return rc;
        if (rc == PLAIN_END)
            return 0;
    }
}

/* A line of the chunked coding, without its CRLF. */
static int read_chunk_line(struct plain *p, struct slice *ret, struct larder_error *e)
{
    int rc = read_line(p, "a chunk", ret, e);
    if (rc < 0)
        return rc;
    if (ret->n < 2 || ret->p[ret->n - 2] != '\r')
        return error_set(e, LARDER_PROTO, "a chunk's line does not end in CR LF");
    ret->n -= 2;
    return 0;
}

static bool parse_chunk_size(struct slice line, uint64_t *ret)
{
    uint64_t size = 0;
    size_t digits = 0;
    while (digits < line.n && hex_value(line.p[digits]) >= 0) {
        if (size > INT64_MAX >> 4)
            return false;
        size = size << 4 | (unsigned)hex_value(line.p[digits]);
        digits++;
    }
    /* Blanks as padding are as old as the coding; extensions are for nobody here. */
    struct slice rest = {line.p + digits, line.n - digits};
    while (rest.n > 0 && (rest.p[0] == ' ' || rest.p[0] == '\t')) {
        rest.p++;
        rest.n--;
    }
    *ret = size;
    return digits > 0 && (rest.n == 0 || rest.p[0] == ';') && !memchr(rest.p, '\r', rest.n);
}

static int read_chunks(struct plain *p, struct larder_error *e)
{
    struct slice line;
    for (;;) {
        uint64_t size = 0;
        int rc = read_chunk_line(p, &line, e);
        if (rc < 0)
            return rc;
        if (!parse_chunk_size(line, &size))
            return error_set(e, LARDER_PROTO, "bad size of a chunk");
        if (size == 0)
            break;
        rc = read_exactly(p, size, e);
        if (rc != 0)
            return rc;
        rc = read_chunk_line(p, &line, e);
        if (rc < 0)
            return rc;
        if (line.n > 0)
            return error_set(e, LARDER_PROTO, "a chunk is longer than its size");
    }
    do { /* trailers */
        int rc = read_chunk_line(p, &line, e);
        if (rc == 0)
            rc = http_head_count(&p->x->head, line.n + 2, e);
        if (rc < 0)
            return rc;
    } while (line.n > 0);
    return 0;
}

/* 0: whole. BODY_ENOUGH: cut by us. */
static int read_body(struct plain *p, struct larder_error *e)
{
    const struct exchange *x = p->x;
    if (exchange_is_bodiless(x))
        return 0;
    if (x->head.is_chunked)
        return read_chunks(p, e);
    if (x->response.has_length)
        return read_exactly(p, x->response.length_bytes, e);
    return read_to_end(p, e);
}

/* ---- one exchange ---- */

int plain_talk(struct plain *p, bool *ret_is_kept, struct larder_error *e)
{
    struct exchange *x = p->x;
    *ret_is_kept = false;
    int rc = plain_send(p, e);
    bool has_broken = p->is_closed;
    while (rc == 0 && !x->is_head_done) {
        rc = plain_read_head(p, e);
        rc = rc < 0 ? rc : 0;
    }
    if (rc < 0)
        return rc;
    rc = read_body(p, e);
    free(p->big);
    p->big = NULL;
    bool is_framed = exchange_is_bodiless(x) || x->head.is_chunked || x->response.has_length;
    *ret_is_kept =
        rc == 0 && is_framed && !x->head.is_close && !has_broken && x->is_sent && p->conn->n == 0;
    if (!exchange_is_wanted(x) && (rc == -LARDER_UNREACHABLE || rc == -LARDER_PROTO)) {
        error_clear(e); /* the status is the answer, however its page ended */
        rc = 0;
    }
    return rc < 0 ? rc : exchange_judge(x, e);
}

/* A server that had closed the connection took no more than what fits into the sockets; a body that
 * is longer may have been taken, and whoever sends it knows how to ask where to go on. */
#define REPEAT_BYTES (64 * 1024)

/* Whether the same bytes can and may go out again after a kept connection broke unanswered. A PATCH
 * appends: twice is not once. */
static bool can_repeat(const struct exchange *x)
{
    const struct http_upload *u = x->request->upload;
    if (!u)
        return true;
    bool can_rewind = u->data || u->fd >= 0 || !x->is_read_begun;
    if ((u->data ? u->n : u->n_bytes) > REPEAT_BYTES)
        return false;
    return can_rewind && x->request->method != HTTP_PATCH;
}

static int run(struct exchange *x, struct slice head, struct larder_error *e)
{
    for (bool is_fresh = false;; is_fresh = true) {
        struct plain p = {.x = x, .head = head};
        bool is_kept = false;
        int rc = plain_conn_open(x, is_fresh, &p.conn, e);
        if (rc < 0)
            return rc;
        rc = plain_talk(&p, &is_kept, e);
        free(p.big);
        bool is_stale = p.conn->was_used && p.is_closed && !p.is_answered;
        if (is_kept)
            plain_conn_keep(x->client, p.conn);
        else
            plain_conn_free(p.conn);
        if (rc == 0 || !is_stale || !can_repeat(x))
            return rc;
        error_clear(e);
        exchange_begin(x);
    }
}

int plain_run(struct exchange *x, struct larder_error *e)
{
    struct buf head = BUF_INIT(REQUEST_MAX);
    int rc = plain_compose(x, &head, e);
    if (rc == 0)
        rc = run(x, buf_slice(&head), e);
    secret_buf_done(&head);
    return rc;
}

/* ---- whether ---- */

/* A name that every reader understands in the same way. */
static bool is_plain_host(struct slice host)
{
    for (size_t i = 0; i < host.n; i++) {
        char c = host.p[i];
        bool is_alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!is_alnum && c != '.' && c != '-' && c != '_' && c != ':')
            return false;
    }
    return host.n > 0;
}

static const char *proxy_variable(void)
{
    /* As libcurl: HTTP_PROXY in capitals is what a CGI program gets from its client. */
    static const char *const names[] = {"http_proxy", "all_proxy", "ALL_PROXY"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *value = getenv(names[i]);
        if (value)
            return value;
    }
    return NULL;
}

/* Only the plain cases of no_proxy ("host", ".domain", "*"); libcurl decides the others. */
static bool is_no_proxy(struct slice host)
{
    const char *list = getenv("no_proxy");
    if (!list)
        list = getenv("NO_PROXY");
    while (list && *list) {
        list += strspn(list, " \t,");
        struct slice item = {list, strcspn(list, " \t,")};
        list += item.n;
        if (slice_equal(item, SLICE_LIT("*")) || slice_equal_nocase(item, host))
            return true;
        if (item.n > 0 && item.p[0] == '.')
            item = (struct slice){item.p + 1, item.n - 1};
        if (item.n == 0 || host.n <= item.n || host.p[host.n - item.n - 1] != '.' ||
            memchr(item.p, '/', item.n))
            continue;
        if (slice_equal_nocase((struct slice){host.p + host.n - item.n, item.n}, item))
            return true;
    }
    return false;
}

bool plain_can(const struct exchange *x)
{
    struct slice host = url_host(x->url);
    if (x->client->is_curl_forced || url_is_https(x->url) || !is_plain_host(host))
        return false;
    if (exchange_is_direct(x))
        return true;
    const char *proxy = proxy_variable();
    return !proxy || !*proxy || is_no_proxy(host);
}
