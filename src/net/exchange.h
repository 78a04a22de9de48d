/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One request and its answer over libcurl, without redirects and retries. Inside src/net.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "net/curl_lib.h"
#include "net/header_file.h"
#include "net/http.h"

struct http_client {
    const struct curl_lib *lib; /* NULL until the first request */
    void *easy;
    void *multi;
    int64_t connect_timeout_ns;
    int64_t stall_timeout_ns;
    unsigned retries;
    int64_t retry_wait_ns;
    char *ca_file;    /* NULL: libcurl's own */
    char *netrc_file; /* NULL: none is read */
    struct header_list headers;
    char *header_origin; /* URL; NULL: any */
    const struct larder_observer *observer;
};

struct exchange {
    struct http_client *client;
    const struct http_request *request;
    const char *url;  /* checked, without userinfo */
    bool has_secrets; /* the origin is the first one: credentials and private headers go along */
    const char *user; /* from the URL; NULL */
    const char *password;
    /* out */
    struct http_response response;
    char *redirect_url; /* malloc'd; NULL: this is the final response */
};

/* The response and redirect_url are valid (and to be freed with exchange_done) whatever the result.
 */
int exchange_run(struct exchange *x, struct larder_error *e);
void exchange_done(struct exchange *x);

/* A response's header lines, one after the other (http_head.c). */
struct http_head {
    struct http_response *response;
    bool has_location;
    bool is_chunked;
    bool has_content_range;
    size_t bytes; /* of all lines so far */
};
enum http_head_state { HTTP_HEAD_MORE, HTTP_HEAD_INTERIM, HTTP_HEAD_FINAL };
/* Takes one line with its line end. Returns a state (FINAL at the empty line) or PROTO, LIMIT,
 * NOMEM. */
int http_head_line(struct http_head *head, struct slice line, struct larder_error *e);
/* Counts bytes that are not looked at (trailers) into the same limit. */
int http_head_count(struct http_head *head, size_t n, struct larder_error *e);
bool http_head_is_redirect(const struct http_head *head);
