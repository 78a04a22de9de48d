/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The registry store: one repository of an OCI registry (distribution-spec v1.1, and what real
 * registries do instead). A pool of HTTP/1.1 connections, tokens shared by all lanes.
 *
 * Upload strategy (works around every registry we know of): HEAD unless known missing; mount when
 * a source repository is given; POST; PUT whole; on 404/405/400/413/416 POST + one PATCH + PUT;
 * then chunks. Every request is retried as retry.h says; a 5xx on the last PUT is settled by HEAD.
 */
#include <larder/registry.h>

#include "net/http/http.h"
#include "store/store.h"

/* Tokens and open connections, for handles opened one after the other with the same options. */
struct remote_shared;
/* options (NULL: defaults) and observer must outlive it. */
int remote_shared_new(const struct larder_registry_options *options,
                      const struct larder_observer *observer, struct remote_shared **ret,
                      struct larder_error *e);
/* No handle may be open any more. NULL is fine. */
void remote_shared_free(struct remote_shared *shared);
DEFINE_CLEANUP(struct remote_shared *, remote_shared_free)

/* What a registry said about how much it may be asked. A mirror's word is not told. */
struct remote_limit {
    bool is_reached;        /* 429, or 503 with a time to come back */
    int64_t retry_after_ns; /* how long to stay away; 0: it didn't say */
    bool has_left;          /* it counts some questions (RateLimit-Remaining), */
    uint64_t left;          /* of which so many may come yet */
};

/* Made once per command from the public options, shared by the stores opened with it. */
struct remote_options {
    const struct larder_registry_options *options; /* borrowed */
    struct remote_shared *shared;                  /* NULL: everything is the handle's own */
    struct remote_limit *limit; /* not NULL: filled in, and a limit is not waited for: the question
                                   fails at once, for who has others to ask meanwhile */
    const struct larder_observer *observer;
    int64_t retry_wait_ns; /* first wait before trying again, doubled each time; 0: 500 ms */
};

/* Ping with the credentials at hand: GET /v2/ (login). AUTH, UNREACHABLE, PROTO (no registry). */
int registry_ping(const char *host, const struct remote_options *options, struct larder_error *e);

/*
 * Size of a blob of which only the digest is known. By a GET of its first byte: where blobs are
 * kept elsewhere, HEAD is often refused. NOENT, PROTO (it doesn't say).
 */
int registry_blob_size(struct store *s, const struct larder_digest *digest, uint64_t *ret_bytes,
                       struct larder_error *e);
