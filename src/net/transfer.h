/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Fetching one large object into a file, resumable: bytes go to a partial file while a second
 * thread hashes them, so that each byte is touched once in each place.
 *
 *   network/caller thread: recv -> 2 MiB buffer -> write to the partial -> ring
 *   hash thread:           ring -> source digests [-> unpack -> sparse file + result digests]
 *
 * Resume: only with a strong validator (ETag without W/, else Last-Modified at least a minute older
 * than the Date) via If-Range; the prefix on disk is re-read and re-hashed first. A 200 instead of
 * a 206 starts again from 0. A server that resets, stalls or ends early is asked again with
 * backoff, going on where it stopped.
 *
 * This room knows files and HTTP, not stores: the caller gives open files.
 */
#include <stdbool.h>
#include <stdint.h>

#include <larder/digest.h>
#include <larder/error.h>
#include <larder/observer.h>

#include "archive/unpack.h"
#include "base/buf.h"
#include "net/http.h"

/* What an earlier run left beside its partial file. */
struct transfer_resume {
    char *url;
    char *etag;
    char *last_modified;
    uint64_t total_bytes; /* 0: unknown */
};
void transfer_resume_done(struct transfer_resume *resume);

enum transfer_unpack { TRANSFER_UNPACK_NEVER, TRANSFER_UNPACK_AUTO, TRANSFER_UNPACK_ALWAYS };

struct transfer {
    /* in */
    struct http_client *client;
    const char *url; /* http(s), or NULL: read from source_fd */
    int source_fd;   /* local source, borrowed; -1 with url */
    int partial_fd;  /* read-write; its content is used when resume is given; -1: no partial is kept
                        (local sources that are unpacked) */
    const struct transfer_resume *resume; /* NULL: start at 0 */
    enum transfer_unpack unpack; /* AUTO: by name *and* magic; ALWAYS: by magic, error if none */
    int unpack_fd;               /* empty file for the unpacked bytes; -1: unpack is NEVER */
    unsigned source_alg_bits;    /* digests wanted of the source bytes (HASH_BIT) */
    unsigned result_alg_bits;    /* of the result (= source bytes when nothing is unpacked) */
    uint64_t expected_bytes;     /* from a checksum file; 0: unknown. Other length: fail early */
    bool no_cache;               /* past caches on the way */
    /* Called when the size is known, before the body: check space; non-zero stops. */
    int (*sized)(void *arg, uint64_t total_bytes, bool is_unpacked, struct larder_error *e);
    /* Called with the first bytes (up to 64 KiB) of source and, when unpacked, of the result:
     * refuse an HTML page or a wrong format before the rest is fetched. */
    int (*peek)(void *arg, const void *head, size_t n, bool is_result, struct larder_error *e);
    /* Called when validators are known or change: write them beside the partial. */
    int (*remember)(void *arg, const struct transfer_resume *resume, struct larder_error *e);
    void *arg;
    unsigned retries;
    const struct larder_observer *observer;
    const char *object; /* for progress and messages */
    /* out */
    struct larder_digest source_digests[LARDER_DIGEST_ALG_MAX];
    struct larder_digest result_digests[LARDER_DIGEST_ALG_MAX];
    uint64_t source_bytes;
    uint64_t result_bytes;
    uint64_t resumed_bytes;
    enum unpack_format unpacked;   /* NONE: result is the source */
    struct http_response response; /* of the last answer; caller: http_response_done */
};

/* Errors: those of HTTP (GONE, AUTH, UNREACHABLE...), CORRUPT (compressed stream damaged),
 * MISMATCH (length other than expected_bytes), NOSPACE, IO, the callbacks'. */
int transfer_run(struct transfer *t, struct larder_error *e);
