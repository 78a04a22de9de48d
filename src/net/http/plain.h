/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The parts of our own engine: HTTP/1.1 over TCP without TLS and proxies. Inside src/net.
 *
 *   plain_resolve.c  a host's addresses
 *   plain_conn.c     connecting, kept connections, bytes in
 *   plain_send.c     the request
 *   plain.c          the answer, and the order of it all
 *
 * Sockets block, for at most TICK_NS at a time (SO_RCVTIMEO, SO_SNDTIMEO): one system call a piece
 * where poll() would cost two, and a cancel is still obeyed soon.
 */
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "net/http/exchange.h"

/* Holds one header line or chunk size line; also all of a small answer. Presigned Locations of
 * object stores are the longest that are met, with 4 KiB; url_check() accepts 16. */
#define PLAIN_BUFFER_BYTES (20UL * 1024)
#define PLAIN_ADDRESSES    8U

union plain_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct plain_conn {
    int fd;
    bool was_used; /* kept from an earlier request: it may have been closed meanwhile */
    int64_t kept_ns;
    char *origin; /* "host:port" */
    size_t at;    /* data[at .. at + n) came and was not looked at yet */
    size_t n;
    char data[PLAIN_BUFFER_BYTES];
};

/* One request on one connection. */
struct plain {
    struct exchange *x;
    struct plain_conn *conn;
    struct slice head; /* the request's, from plain_compose() */
    bool is_answered;  /* a byte of an answer came */
    bool is_closed;    /* the server ended the connection */
    bool is_early;     /* it answered before all was sent */
    char *big;         /* buffer for bodies whose caller has no room; NULL until needed */
};

/*
 * Addresses of a host, at most PLAIN_ADDRESSES; *ret_n > 0. Obeys cancel and deadline_ns
 * (monotonic). UNREACHABLE with ENXIO, or ETIMEDOUT; the exchange's tick.
 */
int plain_resolve(struct exchange *x, struct slice host, uint16_t port, int64_t deadline_ns,
                  union plain_address *ret, size_t *ret_n, struct larder_error *e);

/* A kept connection to the exchange's origin (unless is_fresh is wanted), or a new one. */
int plain_conn_open(struct exchange *x, bool is_fresh, struct plain_conn **ret,
                    struct larder_error *e);
/* Around an open socket, for tests. Owned then. */
int plain_conn_adopt(int fd, struct plain_conn **ret, struct larder_error *e);
void plain_conn_free(struct plain_conn *conn);
DEFINE_CLEANUP(struct plain_conn *, plain_conn_free)
/* Keeps it for the next request to its origin. */
void plain_conn_keep(struct http_client *client, struct plain_conn *conn);
void plain_client_done(struct http_client *client);

enum plain_got { PLAIN_BYTES, PLAIN_END, PLAIN_NOTHING /* for TICK_NS */ };
/* One recv: a plain_got, or UNREACHABLE. is_all: rather more bytes than soon. */
int plain_receive(struct plain *p, void *to, size_t n, bool is_all, size_t *ret_n,
                  struct larder_error *e);
/* Cancel, tick and stall; after each PLAIN_NOTHING and each piece. */
int plain_check_time(struct plain *p, struct larder_error *e);
/* Ends for a reason that the server gave: UNREACHABLE, ECONNRESET. */
int plain_closed(struct plain *p, const char *when, struct larder_error *e);

/* Reads until an interim or final head is whole: HTTP_HEAD_INTERIM or _FINAL. */
int plain_read_head(struct plain *p, struct larder_error *e);
/* The request's head. It holds secrets. INVAL for headers that are none. */
int plain_compose(const struct exchange *x, struct buf *out, struct larder_error *e);
/* Sends all of the request, or less when an answer came meanwhile (is_early) or the connection
 * broke (is_closed; an answer may still be there to be read). */
int plain_send(struct plain *p, struct larder_error *e);

/* Sends and receives on an open connection. *ret_is_kept: it can be used again. */
int plain_talk(struct plain *p, bool *ret_is_kept, struct larder_error *e);

/* Whether this engine can do it. */
bool plain_can(const struct exchange *x);
int plain_run(struct exchange *x, struct larder_error *e);
