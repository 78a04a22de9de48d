/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One blob's upload (blob_put.c), and the ways its bytes go over (upload_ways.c).
 *
 *   POST                                       opens a session
 *   UPLOAD_WHOLE    PUT with all bytes         registries without chunks want it
 *   UPLOAD_STREAM   PATCH with all bytes, PUT  those that take no body with the PUT
 *   UPLOAD_CHUNKS   PATCH with ranges, PUT     those that limit a request's body
 *
 * A session that was cut is asked what it holds and goes on from there; one that can't be asked is
 * left, and another is opened.
 */
#include "store/registry/session.h"

/* A blob up to here is read first and sent from memory: one write with the request's head, and it
 * can be sent again whatever its source is. */
#define UPLOAD_SMALL_BYTES (64UL * 1024)

enum upload_end {
    UPLOAD_DONE,    /* the registry has it */
    UPLOAD_REFUSED, /* not in this way */
    UPLOAD_LOST,    /* the session is of no use any more */
};

struct upload {
    struct registry *r;
    const struct store_descriptor *blob;
    struct blob_source *source;
    const char *digest;
    char *small;               /* all bytes; NULL */
    uint64_t at_bytes;         /* where a stream stands */
    char *location;            /* of the open session; NULL */
    uint64_t sending_bytes;    /* of the present request's body, on their way */
    uint64_t stored_bytes;     /* the session holds so many, as far as we know */
    uint64_t min_chunk_bytes;  /* what the session wants at least; 0 */
    bool is_doubtful;          /* the session may hold other bytes than we think */
    bool was_wrong;            /* the digest was, in a session that was in order */
    bool was_closing;          /* the last request was the PUT that ends it */
    struct larder_error error; /* why the last way was refused */
    int error_status;
};

/* POST (the session of an earlier one is forgotten). */
int upload_open(struct upload *u, struct larder_error *e);
/* Keeps a session's answer: Location, OCI-Chunk-Min-Length. PROTO without a Location. */
int upload_take_session(struct upload *u, const struct call *c, struct larder_error *e);
/* Best effort. */
void upload_cancel(struct upload *u);
/* Asks what the session holds: false when that can't be known. */
bool upload_ask_status(struct upload *u);
/* Sends the bytes from stored_bytes on; negative: it may pass (http_is_transient) or not. */
int upload_send(struct upload *u, enum upload_way way, enum upload_end *ret,
                struct larder_error *e);
/* The bytes [start, start + n) as a request's body. IO when a stream can't go back. */
int upload_body(struct upload *u, uint64_t start, uint64_t n, struct http_upload *ret,
                struct larder_error *e);
bool upload_can_repeat(const struct upload *u);
