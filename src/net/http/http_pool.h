/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Clients shared by threads: each lane borrows one for a request and gives it back, with its open
 * connections. The pool hands out the client that was given back last, so that few connections stay
 * warm. Threads: all functions from any thread.
 */
#include "net/http/http.h"

struct http_pool;

/* The options (strings too) are copied; they hold for all clients of the pool. */
int http_pool_new(const struct http_options *options, struct http_pool **ret,
                  struct larder_error *e);
/* No client may be out any more. */
void http_pool_free(struct http_pool *pool);
DEFINE_CLEANUP(struct http_pool *, http_pool_free)
int http_pool_get(struct http_pool *pool, struct http_client **ret, struct larder_error *e);
void http_pool_put(struct http_pool *pool, struct http_client *client);
