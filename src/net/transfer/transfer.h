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
#include "net/http/http.h"

/* What an earlier run left beside its partial file. */
struct transfer_resume {
    char *url;
    char *etag;
    char *last_modified;
    uint64_t total_bytes; /* 0: unknown */
};
void transfer_resume_done(struct transfer_resume *resume); /* frees the strings */

enum transfer_unpack { TRANSFER_UNPACK_NEVER, TRANSFER_UNPACK_AUTO, TRANSFER_UNPACK_ALWAYS };

struct transfer {
    /* in */
    struct http_client *client;
    const char *url; /* http(s), or NULL: read from source_fd */
    int source_fd;   /* local source, borrowed: a regular file (read from its start) or a pipe */
    int partial_fd;  /* read-write; its content is used when resume is given; -1: no partial is kept
                        (local sources that are unpacked) */
    const struct transfer_resume *resume; /* NULL, or of another URL: start at 0 */
    enum transfer_unpack unpack; /* AUTO: by name *and* magic; ALWAYS: by magic, CORRUPT if none */
    int unpack_fd;               /* empty file for the unpacked bytes; -1: unpack is NEVER */
    unsigned source_alg_bits;    /* digests wanted of the source bytes (HASH_BIT) */
    unsigned result_alg_bits;    /* of the result (= source bytes when nothing is unpacked) */
    uint64_t expected_bytes;     /* from a checksum file; 0: unknown. Other length: fail early */
    bool no_cache;               /* past caches on the way */
    /* All callbacks come from the caller's thread; negative ends the transfer with that code; they
     * come again when the transfer starts over because upstream changed. */
    /* Called with the first bytes (up to 64 KiB) of source before any is written and, when
     * unpacked, of the result: refuse an HTML page or a wrong format before the rest is fetched. */
    int (*peek)(void *arg, const void *head, size_t n, bool is_result, struct larder_error *e);
    /* Called after that when the size is known: check space. */
    int (*sized)(void *arg, uint64_t total_bytes, bool is_unpacked, struct larder_error *e);
    /* Called when validators are known or change: write them beside the partial. Without a strong
     * one both are NULL: such a partial can't be resumed. */
    int (*remember)(void *arg, const struct transfer_resume *resume, struct larder_error *e);
    void *arg;
    unsigned retries;      /* in a row without at least 1 MiB of progress */
    int64_t retry_wait_ns; /* first backoff; 0: 500 ms */
    const struct larder_observer *observer;
    const char *object; /* for progress and messages; its name is what AUTO looks at without url */
    /* out */
    struct larder_digest source_digests[LARDER_DIGEST_ALG_MAX];
    struct larder_digest result_digests[LARDER_DIGEST_ALG_MAX];
    uint64_t source_bytes;
    uint64_t result_bytes;
    uint64_t resumed_bytes;
    enum unpack_format unpacked;   /* NONE: result is the source */
    struct http_response response; /* of the last answer; caller: http_response_done */
};

/*
 * Errors: those of HTTP (GONE, AUTH, UNREACHABLE...), CORRUPT (compressed stream damaged),
 * MISMATCH (length other than expected_bytes, or content that keeps changing), PROTO (among others:
 * the server encoded the bytes), BUSY (local source changed meanwhile), NOSPACE, IO, the
 * callbacks'. After a failure of the network the partial file holds what came, for a next run with
 * what `remember` was told; nothing is synced to disk.
 *
 * A Content-Encoding is refused, but for the one that the name itself tells (x.img.gz sent as
 * "gzip" by servers that mean the file): those bytes are the published ones.
 */
int transfer_run(struct transfer *t, struct larder_error *e);
