/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One file on its way through a worker of hash_many: its reader, buffer and hash state. A lane
 * stands on its own, so that a busy thread can give it to an idle one. Internal to hash_many.
 *
 *     lane_start(&l, job, ...) -> { lane_fill -> lanes_hash }... until lane_fill says it is over
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/hash_many.h"
#include "base/hash_read.h"
#include "base/sha256_ni.h"

/* Four of these, and what comes next of four files (hash_read_ahead), fit the L2 of every CPU with
 * SHA-NI, and a system call is spread over enough bytes. Measured: 256 KiB is 10 % slower. */
#define LANE_BUFFER_BYTES ((size_t)64 * 1024)

struct lane {
    struct hash_job *job; /* NULL: unused */
    struct lane *next;    /* in the list of unused or of given-away lanes */
    struct hash_read read;
    struct hash *evp; /* NULL: the SHA-NI kernels */
    uint32_t state[SHA256_STATE_WORDS];
    uint64_t size_bytes;   /* taken into the hash or waiting in the span */
    struct hash_span span; /* not hashed yet */
    const uint8_t *ahead;  /* for prefetching the bytes after the span; NULL: not to be had */
    uint8_t *buffer;       /* LANE_BUFFER_BYTES, kept from job to job */
};

void lane_done(struct lane *l); /* frees the buffer */
/* Opens the job and prepares its hash. On failure the job has its result and the lane is unused. */
bool lane_start(struct lane *l, struct hash_job *job, bool fast, enum hash_read_cache cache);
/*
 * Gets the next bytes when the span is used up. false: the job is over, with its result, and the
 * lane is unused again. *ret_read_bytes is how much was read from the file.
 */
bool lane_fill(struct lane *l, size_t *ret_read_bytes);
/* Ends the job half way with the given error. */
void lane_abort(struct lane *l, enum larder_code code, const char *why);
/*
 * Hashes from the filled spans: SHA-NI lanes together, as far as the shortest of them goes, EVP
 * lanes each to the end of its span.
 */
void lanes_hash(struct lane *const lanes[], unsigned count);
/*
 * One to four SHA-NI streams of different bytes against known digests: a CPU, hypervisor or
 * compiler that gets one wrong must not make good files look corrupt. Only where
 * sha256_ni_is_there().
 */
bool lanes_check(void);
