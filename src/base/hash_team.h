/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Hashing streams that several threads receive at once, together: whoever waits for a buffer, and
 * a helper thread or two, takes the filled buffers of up to four streams and hashes them side by
 * side (sha256_ni.h: twice as fast as one after the other). One stream alone is hashed by the
 * helper while its thread goes on receiving. Memory is bounded: all buffers are made at the start.
 *
 *     hash_team_new(helpers, buffers, bytes, &team, e);
 *     each thread:
 *         hash_stream_new(team, LARDER_DIGEST_SHA256, &stream, e);
 *         while (more) {
 *             b = hash_stream_room(stream);  fill b->data, set b->n;  hash_stream_put(stream, b);
 *         }
 *         hash_stream_finish(stream, &digest, e);
 *         hash_stream_free(stream);
 *     hash_team_free(team);
 *
 * A thread holds at most one buffer that it fills; there are at least two more buffers than
 * threads, so that somebody always gets on.
 *
 * Where the SHA extensions are not to be had, or for other algorithms: the same through OpenSSL.
 * Threads: a team by any, a stream by one.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <larder/digest.h>
#include <larder/error.h>

#include "base/mem.h"

#define HASH_BLOCK_BYTES 64

struct hash_team;
struct hash_stream;

struct hash_buffer {
    char *data; /* page aligned */
    size_t n;
    size_t cap;
    struct hash_buffer *next; /* the team's */
    bool is_shared;           /* somebody else reads it, too: see hash_stream_share */
    /* of who else reads it: */
    struct hash_buffer *after;
    uint64_t at;
};

/* helpers 0: only who waits hashes. buffer_bytes: a multiple of 4096. */
int hash_team_new(unsigned helpers, size_t buffers, size_t buffer_bytes, struct hash_team **ret,
                  struct larder_error *e);
/* All streams are gone. */
void hash_team_free(struct hash_team *team);
DEFINE_CLEANUP(struct hash_team *, hash_team_free)
/* How many helpers are worth it on this machine: one if there is a second CPU. */
unsigned hash_team_helpers(void);

/* alg: an identity algorithm. */
int hash_stream_new(struct hash_team *team, enum larder_digest_alg alg, struct hash_stream **ret,
                    struct larder_error *e);
/* Drops what was not hashed yet. */
void hash_stream_free(struct hash_stream *stream);
DEFINE_CLEANUP(struct hash_stream *, hash_stream_free)
/* An empty buffer; waits, and hashes meanwhile. Never NULL. */
struct hash_buffer *hash_stream_room(struct hash_stream *stream);
/* Hands a filled buffer over; every one but the stream's last is a whole number of
 * HASH_BLOCK_BYTES. */
void hash_stream_put(struct hash_stream *stream, struct hash_buffer *buffer);
/*
 * The same, while somebody else reads the buffer: it is free again only after the stream is done
 * with it, and they are, which they say by hash_stream_release, from any thread. The stream must
 * not be freed before.
 */
void hash_stream_share(struct hash_stream *stream, struct hash_buffer *buffer);
void hash_stream_release(struct hash_stream *stream, struct hash_buffer *buffer);
/* Whether no other stream is being hashed now. */
bool hash_stream_is_alone(struct hash_stream *stream);
/* Gives a buffer back as if it never was asked for. */
void hash_stream_drop(struct hash_stream *stream, struct hash_buffer *buffer);
/* From the start again; what was put before does not count. */
int hash_stream_reset(struct hash_stream *stream, struct larder_error *e);
/* The digest of all that was put; the stream is then over. */
int hash_stream_finish(struct hash_stream *stream, struct larder_digest *ret,
                       struct larder_error *e);
