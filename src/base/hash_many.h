/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Hashing many files at once, as fast as the machine can: worker threads, and on x86 with SHA-NI
 * four interleaved SHA-256 streams a thread (one stream leaves much of the unit idle). Falls back
 * to EVP by CPU check. Holes are fed as zeros without being read. Memory is bounded: threads ×
 * streams × (64 KiB of buffer, 1 MiB of mapped page cache), whatever the number and size of files.
 *
 * Page cache: reads with RWF_DONTCACHE where the kernel has it; else looks with cachestat/mincore
 * before each window and drops only the windows that were absent. Pages that were there stay.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <larder/digest.h>
#include <larder/error.h>
#include <larder/observer.h>

struct hash_job {
    /* in */
    int fd; /* borrowed, seekable, read-only; -1: `open` is called */
    int (*open)(struct hash_job *job, struct larder_error *e); /* lazily sets fd; or NULL */
    /* When set, called once for each job whose fd is open, after its result is complete: from a
     * worker thread, or from the caller's for jobs a cancel kept from starting. */
    void (*close)(struct hash_job *job);
    unsigned alg_bits;  /* HASH_BIT(...); SHA-256 alone takes the fast path */
    const char *object; /* for messages and progress */
    void *arg;
    uint64_t expected_bytes; /* for the progress total only; 0: asked of fd, or unknown */
    /* out; set in every job when hash_many returns */
    struct larder_digest digests[LARDER_DIGEST_ALG_MAX]; /* by algorithm */
    uint64_t size_bytes; /* hashed: where the file ended then. The caller compares */
    uint64_t read_bytes; /* really read: without holes */
    int result;          /* 0 or negative code; then error says why */
    struct larder_error error;
};

struct hash_many_options {
    unsigned threads;         /* 0: one per online CPU, at most 8 */
    bool keep_cache;          /* read normally (somebody will use the bytes soon) */
    bool background;          /* idle I/O class, SCHED_IDLE, backs off under I/O pressure */
    uint64_t max_bytes_per_s; /* 0: unlimited */
    bool force_evp;           /* tests and CPU-less fallback */
    const struct larder_observer *observer;
    const char *what; /* progress verb, "verify" or "scrub" */
};

/*
 * Hashes all jobs; each job's result stands in the job, one failing does not stop the others.
 * Returns 0 when all were tried; CANCELED or NOMEM otherwise.
 */
int hash_many(struct hash_job *jobs, size_t count, const struct hash_many_options *options,
              struct larder_error *e);

/* Whether the SHA-NI kernels are used here. */
bool hash_has_fast_sha256(void);
