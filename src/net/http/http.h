/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * HTTP/1.1 client with two engines behind one interface (exchange.h):
 *   - plain.c, our own, for http:// without a proxy: no library to load, bodies received straight
 *     into the caller's buffers and sent with sendfile(2);
 *   - curl.c, libcurl, for TLS and proxies, opened at the first such request (loading it costs
 *     more than a cache hit). No HTTP/2: 7.88's may report a truncated body as complete.
 * $LARDER_HTTP_ENGINE=curl forces libcurl (tests compare the two).
 *
 * Redirects are followed here, not by libcurl: credentials and private headers go only to the
 * origin (scheme, host, port) they were given for. Proxies come from the usual variables.
 * Threads: one client, one thread.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <larder/error.h>
#include <larder/observer.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/slice.h"

struct http_client;

struct http_options {
    int64_t connect_timeout_ns; /* 0: 20 s */
    int64_t stall_timeout_ns;   /* no byte for so long, or fewer than 1 KiB of an answer
                                   that has begun, ends the transfer; 0: 30 s */
    int64_t answer_timeout_ns;  /* from a sent request to its answer's first byte; 0: as above, but
                                   5 min for POST, PUT, PATCH: registries store before they answer */
    unsigned retries;           /* of requests that failed in a way that may pass */
    int64_t retry_wait_ns;      /* first backoff, doubled with jitter; 0: 500 ms */
    const char
        *header_file; /* extra request headers "Name: value", sent to the first origin only */
    const char *header_origin; /* URL: and only when that is this one's; NULL: to any first one */
    bool no_netrc;             /* else ~/.netrc or $NETRC */
    const char *ca_file;       /* NULL: the system's */
    const char *ca_dir;        /* further authorities: *.crt of a certs.d directory; NULL */
    const char *client_cert;   /* PEM; NULL */
    const char *client_key;    /* PEM; NULL: in client_cert */
    bool insecure_tls;         /* any certificate will do: only when the user said so */
    bool no_loopback_proxy;    /* this machine is not asked by way of a proxy, as Go's clients
                                  have it; else the variables of curl alone decide */
    const struct larder_observer *observer;
};

int http_client_new(const struct http_options *options, struct http_client **ret,
                    struct larder_error *e);
void http_client_free(struct http_client *client);
DEFINE_CLEANUP(struct http_client *, http_client_free)

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE };

struct http_header {
    const char *name;
    const char *value;
};

/* A request's body: one of the three. */
struct http_upload {
    const void *data; /* in memory, n bytes */
    size_t n;
    int fd; /* with data NULL: n_bytes from offset of this file (pread/sendfile; its position is
               not used) */
    uint64_t offset;
    uint64_t n_bytes;
    /* With data NULL and fd -1: n_bytes from this (0 at the end only); a request whose body was
     * begun can't be sent again, and isn't. Negative ends the request with that code. */
    int (*read)(void *arg, void *to, size_t n, size_t *ret_n, struct larder_error *e);
    void *arg;
    uint64_t *ret_sent_bytes; /* handed to the system so far, kept up to date for tick; NULL */
};

struct http_response {
    int status;
    bool has_length;
    uint64_t length_bytes; /* of this body */
    bool has_total;
    uint64_t total_bytes;   /* of the whole object (from Content-Range or length) */
    uint64_t range_start;   /* of a 206 */
    uint64_t range_end;     /* one past its last byte */
    char *etag;             /* as sent, with quotes; NULL */
    char *last_modified;    /* as sent; NULL */
    char *date;             /* as sent; NULL */
    char *content_type;     /* NULL */
    char *content_encoding; /* NULL */
    char *final_url;        /* after redirects; never with user or password */
    int64_t retry_after_ns; /* 0: none */
    bool accepts_ranges;
    bool is_until_close; /* neither length nor chunks: an early end looks like the end */
    struct buf lines;    /* every header line "name: value\n", as sent, of this response only */
};
void http_response_done(struct http_response *response);
/* Value of the index-th header of that name (case-insensitive), trimmed; p NULL: there is none.
 * Borrowed from the response. */
struct slice http_response_header(const struct http_response *response, const char *name,
                                  size_t index);

struct http_request {
    enum http_method method;
    const char *url;
    uint64_t range_start;              /* > 0: Range: bytes=N- with if_range */
    uint64_t range_end;                /* one past the last byte wanted; 0: to the end */
    const struct http_header *headers; /* further ones, sent to every origin of a redirect */
    size_t n_headers;
    /* Sent as "Authorization" to url's own origin only and never after a redirect elsewhere, nor
     * after one back from there; netrc and URL credentials are not used then. "" sends none and
     * uses none. */
    const char *authorization;
    const struct http_upload *upload; /* NULL: none (POST, PUT, PATCH then say length 0) */
    bool no_redirect;                 /* a 3xx is the final response */
    const char *if_range;             /* strong ETag or Last-Modified */
    const char *if_none_match;
    const char *if_modified_since;
    bool no_cache;           /* Cache-Control: no-cache, past caches on the way */
    uint64_t max_body_bytes; /* 0: no limit; LIMIT beyond */
    /* All callbacks may be NULL. Called once per final response (one that is no redirect we
     * follow) before its body; negative ends the transfer with that code. */
    int (*head)(void *arg, const struct http_response *response, struct larder_error *e);
    /* Body pieces of a 2xx in order; negative ends the transfer with that code. */
    int (*body)(void *arg, const void *data, size_t n, struct larder_error *e);
    /* Called about every 100 ms whether bytes flow or not; negative ends the transfer. */
    int (*tick)(void *arg, struct larder_error *e);
    /* Where the next piece of a 2xx body should go: *ret_n > 0 bytes at the result; `body` is then
     * called with exactly that pointer, or room again after a tick. Large buffers save half of the
     * CPU. NULL, as the member or the result: the engine's. */
    void *(*room)(void *arg, size_t *ret_n);
    /* Body of a final response that is no 2xx (cut at max_bytes; reset before), for the messages in
     * it; NULL: dropped. */
    struct buf *error_body;
    void *arg;
};

/*
 * One request with redirects, no retry (but of a kept connection that turns out to be closed). A
 * redirected request keeps method and body for 307 and 308; 301, 302 and 303 turn anything but GET
 * and HEAD into PROTO (no registry means that), and so does a redirect after a `read` body was
 * begun. 0 when an HTTP answer came, whatever its status, and a 2xx body arrived whole (its length
 * checked). An answer that comes while the body is still being sent ends the sending.
 * UNREACHABLE: no or no complete answer; AUTH for TLS verification failures; UNSAFE for a redirect
 * from https to http; PROTO for an answer that makes no sense or too many redirects; CANCELED; the
 * callback's own error. No decoding is asked for or done: see content_encoding. Messages and
 * final_url hold no credentials.
 */
int http_perform(struct http_client *client, const struct http_request *request,
                 struct http_response *ret, struct larder_error *e);

/*
 * Turns a status that is not a success into an error: 404/410 GONE, 401/403/407 AUTH, 408/429/5xx
 * UNREACHABLE, others PROTO.
 */
int http_status_error(const char *url, int status, struct larder_error *e);
/*
 * Whether trying again may help: UNREACHABLE by a reset, a cut or stalled body, 408/429/5xx. Not
 * when the host was not found or refused the connection, nor by TLS: then the answer "offline" is
 * worth more soon than the small hope.
 */
bool http_is_transient(const struct larder_error *e);

/* Small document into out (limit: out->max_bytes), with retries and a limit of two minutes for each
 * try; or, with HTTP_HEAD, its head only. The request's own callbacks are not used. 200, or 304
 * with if_none_match or if_modified_since; else http_status_error. PROTO when the server encoded
 * it. On failure out may hold a part. */
int http_get_text(struct http_client *client, const struct http_request *request, struct buf *out,
                  struct http_response *ret, struct larder_error *e);

/* URL helpers (pure). */
bool url_is_http(const char *url);
/* Same directory, other last component, query dropped: "https://h/a/b.img?x" + "SHA256SUMS".
 * malloc'd. */
int url_sibling(const char *url, const char *name, char **ret, struct larder_error *e);
/* Last path component, percent-decoded, without query. malloc'd; "" possible. */
int url_basename(const char *url, char **ret, struct larder_error *e);
/* Adds a throw-away query parameter so that caches on the way miss. malloc'd */
int url_bust_cache(const char *url, char **ret, struct larder_error *e);
