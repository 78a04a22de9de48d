/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A server whose answers are scripted byte by byte, as a thread of the test: each connection is
 * given to a function of the test, one after the other.
 *
 *     struct sock s;
 *     sock_start(&s, serve, NULL);       // static void serve(struct sock *s, int fd, int number)
 *     fetch(sock_url(&s, "/x"));
 *     sock_stop(&s);
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct sock {
    int fd;
    int port;
    pthread_t thread;
    void (*serve)(struct sock *s, int fd, int number);
    void *arg;
    _Atomic int connections; /* begun */
    _Atomic int closed;      /* of them */
    _Atomic bool is_stopping;
    char url[256];
};

/* One request: its head (NUL-terminated) and body. */
struct sock_request {
    char head[32768];
    size_t head_bytes;
    uint64_t body_bytes; /* read */
    uint64_t sum;        /* of the body's bytes */
};

static inline void *sock_main(void *arg)
{
    struct sock *s = arg;
    for (;;) {
        int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 || atomic_load(&s->is_stopping)) {
            if (fd >= 0)
                close(fd);
            return NULL;
        }
        const int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        s->serve(s, fd, atomic_fetch_add(&s->connections, 1));
        close(fd);
        atomic_fetch_add(&s->closed, 1);
    }
}

static inline void sock_start(struct sock *s, void (*serve)(struct sock *s, int fd, int number),
                              void *arg)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof(address);
    *s = (struct sock){.serve = serve, .arg = arg};
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(s->fd >= 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(s->fd, 64), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&address, &n), 0);
    s->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, sock_main, s), 0);
}

static inline void sock_stop(struct sock *s)
{
    atomic_store(&s->is_stopping, true);
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
}

/* Ends the connection, and returns when the other side's kernel knows it. */
static inline void sock_end(int fd)
{
    struct tcp_info info = {.tcpi_state = TCP_FIN_WAIT1};
    socklen_t n = sizeof(info);
    shutdown(fd, SHUT_WR);
    while (info.tcpi_state == TCP_FIN_WAIT1 &&
           getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) == 0)
        usleep(1000);
}

/* Waits until so many connections are closed. */
static inline void sock_wait_closed(struct sock *s, int n)
{
    while (atomic_load(&s->closed) < n)
        usleep(1000);
}

static inline const char *sock_url(struct sock *s, const char *target)
{
    snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%d%s", s->port, target);
    return s->url;
}

static inline bool sock_send(int fd, const void *data, size_t n)
{
    const char *p = data;
    while (n > 0) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        p += sent;
        n -= (size_t)sent;
    }
    return true;
}

static inline bool sock_puts(int fd, const char *text)
{
    return sock_send(fd, text, strlen(text));
}

/* close() then sends RST */
static inline void sock_reset(int fd)
{
    const struct linger linger = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

/* The head only; false: the client closed. Reads no byte of the body. */
static inline bool sock_read_head(int fd, struct sock_request *r)
{
    char c = 0;
    /* The test may still look at the request before: nothing changes until there is another. */
    if (recv(fd, &c, 1, MSG_PEEK) != 1)
        return false;
    r->head_bytes = 0;
    r->body_bytes = r->sum = 0;
    while (r->head_bytes + 1 < sizeof(r->head)) {
        if (recv(fd, r->head + r->head_bytes, 1, 0) != 1)
            return false;
        r->head[++r->head_bytes] = '\0';
        if (r->head_bytes >= 4 && memcmp(r->head + r->head_bytes - 4, "\r\n\r\n", 4) == 0)
            return true;
    }
    return false;
}

static inline uint64_t sock_length(const struct sock_request *r)
{
    const char *p = strcasestr(r->head, "\r\ncontent-length:");
    return p ? strtoull(p + 17, NULL, 10) : 0;
}

static inline bool sock_read_body(int fd, struct sock_request *r, uint64_t n)
{
    unsigned char piece[65536];
    while (r->body_bytes < n) {
        uint64_t left = n - r->body_bytes;
        ssize_t got = recv(fd, piece, left < sizeof(piece) ? left : sizeof(piece), 0);
        if (got <= 0)
            return false;
        for (ssize_t i = 0; i < got; i++)
            r->sum += piece[i];
        r->body_bytes += (uint64_t)got;
    }
    return true;
}

static inline bool sock_read(int fd, struct sock_request *r)
{
    return sock_read_head(fd, r) && sock_read_body(fd, r, sock_length(r));
}

/* "METHOD target" at the start, or a header line anywhere. */
static inline bool sock_has(const struct sock_request *r, const char *text)
{
    return strcasestr(r->head, text) != NULL;
}
