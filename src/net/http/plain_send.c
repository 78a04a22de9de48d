/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sending a request. While a body goes out an answer may come in: a refusal, sent before the server
 * closes the connection with bytes of ours unread. It is looked for between pieces and when sending
 * fails, because it says more than the reset that follows it.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/error.h"
#include "net/http/plain.h"
#include "net/http/url.h"

/* Bodies up to this go in one packet train with their head. */
#define SMALL_BYTES (16UL * 1024)
/* One system call: between two an answer is looked for. */
#define PIECE_BYTES (2UL * 1024 * 1024)
#define READ_BYTES  (256UL * 1024) /* of a callback at a time */
/* RFC 9110 section 10.1.1: a server that does not know Expect would never answer it. */
#define CONTINUE_NS (1 * NS_PER_S)

int plain_compose(const struct exchange *x, struct buf *out, struct larder_error *e)
{
    bool has_length = false;
    uint64_t n = exchange_upload_bytes(x, &has_length);
    struct slice port = url_port(x->url);
    struct slice host = url_host(x->url);
    bool is_v6 = memchr(host.p, ':', host.n) != NULL;
    buf_puts(out, http_method_name(x->request->method));
    buf_putc(out, ' ');
    int rc = url_target(x->url, out, e);
    if (rc < 0)
        return rc;
    buf_puts(out, is_v6 ? " HTTP/1.1\r\nHost: [" : " HTTP/1.1\r\nHost: ");
    buf_append_slice(out, host);
    if (is_v6)
        buf_putc(out, ']');
    if (!slice_equal(port, SLICE_LIT("80"))) {
        buf_putc(out, ':');
        buf_append_slice(out, port);
    }
    buf_puts(out, "\r\n");
    rc = exchange_request_lines(x, out, e);
    if (rc < 0)
        return rc;
    if (has_length)
        buf_printf(out, "Content-Length: %llu\r\n", (unsigned long long)n);
    if (exchange_expects_continue(x))
        buf_puts(out, "Expect: 100-continue\r\n");
    buf_puts(out, "\r\n");
    return buf_failed(out, e);
}

/* ---- an answer meanwhile ---- */

static bool is_readable(const struct plain *p, int timeout_ms)
{
    struct pollfd fd = {.fd = p->conn->fd, .events = POLLIN};
    return p->conn->n > 0 || poll(&fd, 1, timeout_ms) > 0;
}

/* Takes what came: 0 to go on (nothing, or 1xx), 1 to stop. */
static int look_for_answer(struct plain *p, struct larder_error *e)
{
    while (!p->is_early && !p->is_closed && is_readable(p, 0)) {
        int rc = plain_read_head(p, e);
        if (rc < 0)
            return rc;
        p->is_early = rc == HTTP_HEAD_FINAL;
    }
    return p->is_early || p->is_closed;
}

/* After a send that failed: 0 try again, 1 stop and read what may be there. */
static int send_failed(struct plain *p, struct larder_error *e)
{
    switch (errno) {
    case EAGAIN:
    case EINTR: {
        int rc = plain_check_time(p, e);
        return rc < 0 ? rc : look_for_answer(p, e);
    }
    case EPIPE:
    case ECONNRESET:
        p->is_closed = true;
        return 1;
    default:
        return error_errno_code(e, LARDER_UNREACHABLE, errno, "can't send");
    }
}

/* Waits for "100 Continue" or an answer, not longer than CONTINUE_NS. */
static int wait_continue(struct plain *p, struct larder_error *e)
{
    int64_t until = clock_monotonic_ns() + CONTINUE_NS;
    while (clock_monotonic_ns() < until) {
        if (is_readable(p, (int)(TICK_NS / NS_PER_MS))) {
            int rc = plain_read_head(p, e);
            p->is_early = rc == HTTP_HEAD_FINAL;
            return rc < 0 ? rc : p->is_early;
        }
        int rc = plain_check_time(p, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- bytes out ---- */

static int send_bytes(struct plain *p, struct iovec *iov, size_t n_iov, bool has_more,
                      struct larder_error *e)
{
    while (n_iov > 0) {
        if (iov->iov_len == 0) {
            iov++;
            n_iov--;
            continue;
        }
        const struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n_iov};
        ssize_t sent = sendmsg(p->conn->fd, &msg, MSG_NOSIGNAL | (has_more ? MSG_MORE : 0));
        if (sent < 0) {
            int rc = send_failed(p, e);
            if (rc != 0)
                return rc;
            continue;
        }
        p->x->active_ns = clock_monotonic_ns();
        for (size_t left = (size_t)sent; left > 0;) {
            size_t take = left < iov->iov_len ? left : iov->iov_len;
            iov->iov_base = (char *)iov->iov_base + take;
            iov->iov_len -= take;
            left -= take;
            if (iov->iov_len == 0 && left > 0) {
                iov++;
                n_iov--;
            }
        }
    }
    return 0;
}

/* Between two pieces of a body. */
static int between(struct plain *p, struct larder_error *e)
{
    int rc = plain_check_time(p, e);
    return rc < 0 ? rc : look_for_answer(p, e);
}

static int send_memory(struct plain *p, const struct http_upload *u, struct larder_error *e)
{
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < u->n; at += PIECE_BYTES) {
        size_t n = u->n - at < PIECE_BYTES ? u->n - at : PIECE_BYTES;
        const void *piece = (const char *)u->data + at;
        struct iovec iov = {.iov_len = n};
        memcpy(&iov.iov_base, &piece, sizeof(piece)); /* writev's type has no const */
        rc = send_bytes(p, &iov, 1, false, e);
        exchange_sent(p->x, at + n);
        if (rc == 0 && at + n < u->n)
            rc = between(p, e);
    }
    return rc;
}

static int send_read(struct plain *p, uint64_t n, struct larder_error *e)
{
    CLEANUP_FREE char *piece = malloc(READ_BYTES);
    if (!piece)
        return error_nomem(e);
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < n;) {
        size_t got = 0;
        rc = exchange_upload_read(p->x, at, piece, READ_BYTES, &got, e);
        p->x->active_ns = clock_monotonic_ns();
        if (rc < 0)
            return rc;
        struct iovec iov = {.iov_base = piece, .iov_len = got};
        rc = send_bytes(p, &iov, 1, false, e);
        at += got;
        exchange_sent(p->x, at);
        if (rc == 0 && at < n)
            rc = between(p, e);
    }
    return rc;
}

/* 2: this file can't be sent so. */
static int send_file(struct plain *p, const struct http_upload *u, struct larder_error *e)
{
    uint64_t at = 0;
    uint64_t left = 0;
    int rc = 0;
    while (rc == 0 && (left = u->n_bytes - at) > 0) {
        off_t offset = (off_t)(u->offset + at);
        ssize_t sent =
            sendfile(p->conn->fd, u->fd, &offset, left < PIECE_BYTES ? (size_t)left : PIECE_BYTES);
        if (sent < 0 && at == 0 && (errno == EINVAL || errno == ENOSYS))
            return 2;
        if (sent < 0) {
            rc = send_failed(p, e);
            continue;
        }
        if (sent == 0)
            return error_set(e, LARDER_BUSY, "file to send ends after %llu of %llu bytes",
                             (unsigned long long)at, (unsigned long long)u->n_bytes);
        p->x->active_ns = clock_monotonic_ns();
        at += (uint64_t)sent;
        exchange_sent(p->x, at);
        if (at < u->n_bytes)
            rc = between(p, e);
    }
    return rc;
}

/* sendfile(2) has no MSG_NOSIGNAL: the signal is held back in this thread and taken away. */
static int send_file_quietly(struct plain *p, const struct http_upload *u, struct larder_error *e)
{
    sigset_t pipe_set;
    sigset_t before;
    sigset_t pending;
    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    sigpending(&pending);
    bool was_pending = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_set, &before);
    int rc = send_file(p, u, e);
    /* Also after a sendfile that succeeded: one that sent a part before the end of the connection
     * gives both the part and the signal. */
    if (!was_pending) {
        const struct timespec now = {0, 0};
        while (sigtimedwait(&pipe_set, NULL, &now) < 0 && errno == EINTR)
            continue;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static int send_body(struct plain *p, struct larder_error *e)
{
    const struct http_upload *u = p->x->request->upload;
    if (u->data)
        return send_memory(p, u, e);
    int rc = u->fd >= 0 ? send_file_quietly(p, u, e) : 2;
    return rc == 2 ? send_read(p, u->n_bytes, e) : rc;
}

/* Head and small body at once; true in *ret_is_all: that was everything. */
static int send_head(struct plain *p, bool *ret_is_all, struct larder_error *e)
{
    const struct http_upload *u = p->x->request->upload;
    bool has_length = false;
    bool expects = exchange_expects_continue(p->x);
    size_t n = 0;
    uint64_t all = exchange_upload_bytes(p->x, &has_length);
    struct iovec iov[2] = {{NULL, p->head.n}, {NULL, 0}};
    memcpy(&iov[0].iov_base, &p->head.p, sizeof(p->head.p)); /* the type has no const */
    CLEANUP_FREE char *small = NULL;
    *ret_is_all = all <= SMALL_BYTES && !expects;
    if (*ret_is_all && all > 0 && u && u->data) {
        memcpy(&iov[1].iov_base, &u->data, sizeof(u->data));
        iov[1].iov_len = n = (size_t)all;
    } else if (*ret_is_all && all > 0) {
        small = malloc((size_t)all);
        if (!small)
            return error_nomem(e);
        iov[1].iov_base = small;
    }
    while (*ret_is_all && n < all) {
        size_t got = 0;
        int rc = exchange_upload_read(p->x, n, small + n, (size_t)all - n, &got, e);
        if (rc < 0)
            return rc;
        n += got;
        iov[1].iov_len = n;
    }
    return send_bytes(p, iov, 2, !*ret_is_all && !expects, e);
}

int plain_send(struct plain *p, struct larder_error *e)
{
    bool is_all = false;
    int rc = send_head(p, &is_all, e);
    if (rc == 0 && exchange_expects_continue(p->x))
        rc = wait_continue(p, e);
    if (rc == 0 && !is_all)
        rc = send_body(p, e);
    if (rc == 0)
        p->x->is_sent = true;
    return rc < 0 ? rc : 0;
}
