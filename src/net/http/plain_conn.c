/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "net/http/plain.h"
#include "net/http/url.h"

/* The next address is tried as well when one does not answer for so long (RFC 8305 section 5). */
#define NEXT_ADDRESS_NS (250 * NS_PER_MS)
/* Servers and the boxes on the way forget idle connections; asking for a new one is cheaper than
 * finding out. */
#define KEPT_MAX_NS (55 * NS_PER_S)

void plain_conn_free(struct plain_conn *conn)
{
    if (!conn)
        return;
    fd_closep(&conn->fd);
    free(conn->origin);
    free(conn);
}

int plain_conn_adopt(int fd, struct plain_conn **ret, struct larder_error *e)
{
    /* Not cleared: the buffer's pages are touched only as far as bytes come. */
    struct plain_conn *conn = malloc(sizeof(*conn));
    const struct timeval tick = {0, TICK_NS / 1000};
    if (!conn) {
        close(fd);
        return error_nomem(e);
    }
    conn->fd = fd;
    conn->was_used = false;
    conn->kept_ns = 0;
    conn->origin = NULL;
    conn->at = conn->n = 0;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof(tick)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tick, sizeof(tick)) != 0) {
        int rc = error_errno(e, errno, "socket");
        plain_conn_free(conn);
        return rc;
    }
    *ret = conn;
    return 0;
}

/* ---- connecting ---- */

struct dial {
    struct exchange *x;
    const union plain_address *addresses;
    size_t n;
    size_t started;
    struct pollfd open[PLAIN_ADDRESSES];
    nfds_t n_open;
    int64_t next_ns; /* when the next address is due */
    int failed;      /* errno of the first failure */
};

/* Begins with the next address; true: *ret_fd is connected at once. */
static bool dial_next(struct dial *d, int64_t now, int *ret_fd)
{
    const union plain_address *a = &d->addresses[d->started++];
    bool is_v4 = a->any.sa_family == AF_INET;
    const int on = 1;
    d->next_ns = now + NEXT_ADDRESS_NS;
    int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0) {
        if (connect(fd, &a->any, is_v4 ? sizeof(a->v4) : sizeof(a->v6)) == 0) {
            *ret_fd = fd;
            return true;
        }
        if (errno == EINPROGRESS) {
            d->open[d->n_open++] = (struct pollfd){.fd = fd, .events = POLLOUT};
            return false;
        }
    }
    d->failed = d->failed ? d->failed : errno;
    fd_closep(&fd);
    d->next_ns = now;
    return false;
}

/* Takes the attempts that ended out of the list; true: *ret_fd is connected. */
static bool dial_take(struct dial *d, int64_t now, int *ret_fd)
{
    for (nfds_t i = 0; i < d->n_open; i++) {
        if (d->open[i].revents == 0)
            continue;
        int failed = 0;
        socklen_t n = sizeof(failed);
        int fd = d->open[i].fd;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &n) != 0)
            failed = errno;
        d->open[i--] = d->open[--d->n_open];
        if (failed == 0) {
            *ret_fd = fd;
            return true;
        }
        close(fd);
        d->failed = d->failed ? d->failed : failed;
        d->next_ns = now;
    }
    return false;
}

static int dial(struct dial *d, int64_t deadline_ns, int *ret_fd, struct larder_error *e)
{
    for (;;) {
        int64_t now = clock_monotonic_ns();
        if (d->started < d->n && (d->n_open == 0 || now >= d->next_ns)) {
            if (dial_next(d, now, ret_fd))
                return 0;
            continue;
        }
        if (d->n_open == 0)
            return error_errno_code(e, LARDER_UNREACHABLE, d->failed, "can't connect");
        if (now >= deadline_ns)
            return error_errno_code(e, LARDER_UNREACHABLE, ETIMEDOUT, "can't connect");
        int64_t wait = d->started < d->n && d->next_ns - now < TICK_NS ? d->next_ns - now : TICK_NS;
        if (poll(d->open, d->n_open, (int)(wait / NS_PER_MS) + 1) < 0 && errno != EINTR)
            return error_errno(e, errno, "poll");
        now = clock_monotonic_ns();
        if (dial_take(d, now, ret_fd))
            return 0;
        int rc = exchange_tick(d->x, now, e);
        if (rc < 0)
            return rc;
    }
}

static int connect_new(struct exchange *x, struct slice host, uint16_t port, int *ret_fd,
                       struct larder_error *e)
{
    union plain_address addresses[PLAIN_ADDRESSES];
    size_t n = 0;
    int64_t deadline = clock_monotonic_ns() + x->client->connect_timeout_ns;
    int rc = plain_resolve(x, host, port, deadline, addresses, &n, e);
    if (rc < 0)
        return rc;
    struct dial d = {.x = x, .addresses = addresses, .n = n};
    rc = dial(&d, deadline, ret_fd, e);
    for (nfds_t i = 0; i < d.n_open; i++)
        close(d.open[i].fd);
    return rc;
}

/* ---- kept ones ---- */

/* Whether nothing came since its last answer: neither an end nor bytes that nobody asked for. */
static bool is_quiet(const struct plain_conn *conn)
{
    char c;
    return recv(conn->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static struct plain_conn *take_kept(struct http_client *client, const char *origin)
{
    int64_t now = clock_monotonic_ns();
    for (size_t i = 0; i < ARRAY_LEN(client->kept); i++) {
        struct plain_conn *conn = client->kept[i];
        if (!conn || strcasecmp(conn->origin, origin) != 0)
            continue;
        client->kept[i] = NULL;
        if (now - conn->kept_ns < KEPT_MAX_NS && is_quiet(conn))
            return conn;
        plain_conn_free(conn);
    }
    return NULL;
}

void plain_conn_keep(struct http_client *client, struct plain_conn *conn)
{
    size_t at = 0; /* an empty place, else the oldest one's */
    for (size_t i = 0; i < ARRAY_LEN(client->kept); i++) {
        if (!client->kept[i]) {
            at = i;
            break;
        }
        if (client->kept[i]->kept_ns < client->kept[at]->kept_ns)
            at = i;
    }
    plain_conn_free(client->kept[at]);
    conn->was_used = true;
    conn->kept_ns = clock_monotonic_ns();
    client->kept[at] = conn;
}

void plain_client_done(struct http_client *client)
{
    for (size_t i = 0; i < ARRAY_LEN(client->kept); i++) {
        plain_conn_free(client->kept[i]);
        client->kept[i] = NULL;
    }
}

int plain_conn_open(struct exchange *x, bool is_fresh, struct plain_conn **ret,
                    struct larder_error *e)
{
    struct slice host = url_host(x->url);
    struct slice port_text = url_port(x->url);
    uint64_t port = 0;
    char *origin = NULL;
    if (!slice_parse_u64(port_text, &port) || port == 0 || port > UINT16_MAX)
        return error_set(e, LARDER_INVAL, "url: bad port");
    if (asprintf(&origin, "%.*s:%u", (int)host.n, host.p, (unsigned)port) < 0)
        return error_nomem(e);
    struct plain_conn *conn = is_fresh ? NULL : take_kept(x->client, origin);
    int rc = 0;
    if (!conn) {
        int fd = -1;
        rc = connect_new(x, host, (uint16_t)port, &fd, e);
        if (rc == 0)
            rc = plain_conn_adopt(fd, &conn, e);
        if (conn)
            conn->origin = TAKE_PTR(origin);
    }
    free(origin);
    if (rc < 0)
        return rc;
    x->active_ns = clock_monotonic_ns();
    *ret = conn;
    return 0;
}

/* ---- bytes ---- */

int plain_closed(struct plain *p, const char *when, struct larder_error *e)
{
    p->is_closed = true;
    return error_errno_code(e, LARDER_UNREACHABLE, ECONNRESET, "the server ended the connection %s",
                            when);
}

int plain_receive(struct plain *p, void *to, size_t n, bool is_all, size_t *ret_n,
                  struct larder_error *e)
{
    ssize_t got = recv(p->conn->fd, to, n, is_all ? MSG_WAITALL : 0);
    if (got > 0) {
        exchange_received(p->x, (uint64_t)got);
        p->is_answered = true;
        *ret_n = (size_t)got;
        return PLAIN_BYTES;
    }
    *ret_n = 0;
    if (got == 0)
        return PLAIN_END;
    if (errno == EAGAIN || errno == EINTR)
        return PLAIN_NOTHING;
    int failed = errno;
    p->is_closed = true;
    if (failed == EPIPE)
        failed = ECONNRESET;
    return error_errno_code(e, LARDER_UNREACHABLE, failed, "can't receive");
}

int plain_check_time(struct plain *p, struct larder_error *e)
{
    int64_t now = clock_monotonic_ns();
    int rc = exchange_tick(p->x, now, e);
    return rc < 0 ? rc : exchange_check_stall(p->x, now, e);
}
