/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One request and its answer, without redirects and retries. Inside src/net.
 *
 * exchange.c has what both engines share: which header lines go out, what a head and a body mean,
 * time limits. An engine (curl.c, plain.c) moves bytes and calls it.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "net/http/curl_lib.h"
#include "net/http/http.h"
#include "net/transfer/header_file.h"

struct plain_conn;

struct http_client {
    int64_t connect_timeout_ns;
    int64_t stall_timeout_ns;
    int64_t answer_timeout_ns; /* 0: by the method */
    unsigned retries;
    int64_t retry_wait_ns;
    char *netrc_file; /* NULL: none is read */
    struct header_list headers;
    char *header_origin; /* URL; NULL: any */
    const struct larder_observer *observer;
    bool is_curl_forced;
    struct http_client *next_idle; /* the pool's */

    struct plain_conn
        *kept[4]; /* open connections of plain.c; more origins are not asked in turn */

    /* libcurl's */
    const struct curl_lib *lib; /* NULL until the first request that needs it */
    void *easy;
    void *multi;
    char *ca_file;        /* NULL: libcurl's own */
    struct buf extra_cas; /* PEM; empty: none */
    char *client_cert;    /* NULL */
    char *client_key;     /* NULL */
    bool is_tls_insecure;
    bool no_loopback_proxy;
};

/* A response's header lines, one after the other (http_head.c). */
struct http_head {
    struct http_response *response;
    char *location; /* malloc'd; NULL */
    bool has_status;
    bool is_old; /* HTTP/1.0 */
    bool is_chunked;
    bool is_close; /* the connection ends with this answer */
    bool has_content_range;
    size_t bytes; /* of all lines so far */
};
enum http_head_state { HTTP_HEAD_MORE, HTTP_HEAD_INTERIM, HTTP_HEAD_FINAL };
/* Takes one line with or without its line end. Returns a state (FINAL at the empty line) or PROTO,
 * LIMIT, NOMEM. */
int http_head_line(struct http_head *head, struct slice line, struct larder_error *e);
/* Counts bytes that are not looked at (trailers) into the same limit. */
int http_head_count(struct http_head *head, size_t n, struct larder_error *e);
bool http_head_is_redirect(const struct http_head *head);
void http_head_done(struct http_head *head);

struct exchange {
    struct http_client *client;
    const struct http_request *request;
    const char *url; /* checked, without userinfo */
    bool
        has_secrets; /* at the first origin, never left: credentials and private headers go along */
    const char *user; /* from the URL; NULL */
    const char *password;
    /* out */
    struct http_response response;
    char *redirect_url; /* malloc'd; NULL: this is the final response */
    /* while it runs */
    struct http_head head;
    bool is_head_done;
    bool is_redirect;
    bool is_read_begun; /* a `read` upload's first byte was taken (by any attempt) */
    bool is_sent;       /* the request's last byte left us */
    uint64_t body_bytes;
    int64_t active_ns; /* monotonic: last byte; 0: not connected yet */
    /* since then, and from that byte of the answer on, fewer than DRIP_BYTES came; 0: no byte yet
     */
    int64_t drip_ns;
    uint64_t drip_from, received_bytes;
    int64_t tick_ns;
};

/* The response and redirect_url are valid (and to be freed with exchange_done) whatever the result.
 */
int exchange_run(struct exchange *x, struct larder_error *e);
void exchange_done(struct exchange *x);

/* ---- for the engines ---- */

const char *http_method_name(enum http_method method);
/* The request's header lines "Name: value\r\n", but for Host and what frames the body. They hold
 * secrets: secret_buf_done() them. INVAL for a header that is none. */
int exchange_request_lines(const struct exchange *x, struct buf *out, struct larder_error *e);
void secret_buf_done(struct buf *b);
/* Bytes of the body; *ret_has: whether a length is to be told. */
uint64_t exchange_upload_bytes(const struct exchange *x, bool *ret_has);
/* Whether to wait for "100 Continue" before sending the body. */
bool exchange_expects_continue(const struct exchange *x);
/* The upload's bytes from `at` (those of a read callback come in order only). *ret_n > 0. */
int exchange_upload_read(struct exchange *x, uint64_t at, void *to, size_t n, size_t *ret_n,
                         struct larder_error *e);
/* So much of the request's body is on its way. */
static inline void exchange_sent(const struct exchange *x, uint64_t n_bytes)
{
    const struct http_upload *u = x->request->upload;
    if (u && u->ret_sent_bytes)
        *u->ret_sent_bytes = n_bytes;
}
/* So many bytes of the answer came just now. */
void exchange_received(struct exchange *x, uint64_t n);
/* Begins (again): forgets what an earlier attempt was answered. */
void exchange_begin(struct exchange *x);
/* One line of the head: a state; at FINAL the caller's `head` was called. */
int exchange_line(struct exchange *x, struct slice line, struct larder_error *e);
/* Whether the answer's bytes are for the caller's `body`; else only for error_body. */
bool exchange_is_wanted(const struct exchange *x);
/* Whether proxies don't matter for this URL. */
bool exchange_is_direct(const struct exchange *x);
/* Bytes of the body, is_in_room: received where `room` said. 1: enough of a page nobody wants, end
 * the connection. */
int exchange_body(struct exchange *x, const void *data, size_t n, bool is_in_room,
                  struct larder_error *e);
/* Whether the answer has no body by its kind (RFC 9112 section 6.3). */
bool exchange_is_bodiless(const struct exchange *x);
/* Cancel and `tick`, at most every TICK_NS. `now` monotonic */
#define TICK_NS (100LL * 1000 * 1000)
int exchange_tick(struct exchange *x, int64_t now, struct larder_error *e);
int exchange_check_stall(const struct exchange *x, int64_t now, struct larder_error *e);
/* After an answer that came whole, or that nobody wants whole: length and redirect. */
int exchange_judge(struct exchange *x, struct larder_error *e);

/* A client whose header file gets no warning (again). */
int http_client_make(const struct http_options *options, bool is_quiet, struct http_client **ret,
                     struct larder_error *e);

/* ---- engines ---- */

int curl_run(struct exchange *x, struct larder_error *e);
void curl_client_done(struct http_client *client);
/* *.crt of a directory into out; one that is not there has none. */
int curl_read_cas(const char *dir, struct buf *out, struct larder_error *e);
