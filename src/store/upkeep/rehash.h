/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Reading a list of blobs in full and telling, one by one as they are done, whether their bytes
 * are what their names say: the engine of scrub and of fsck.
 *
 * Files are opened read-only by the workers and compared before and after (size, mtime, ctime,
 * inode): one that changed or went while it was read is no finding, only skipped. At most
 * REHASH_BATCH descriptors are open at once.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include <larder/store.h>

#define REHASH_BATCH 64

/* One blob, done. Lives for the call of `done`. */
struct rehash {
    struct larder_digest digest;
    struct larder_digest actual; /* NONE unless it was read to its end */
    /* 0 good; CORRUPT; BUSY changed while read; NOENT gone; CANCELED not reached; else unreadable
     */
    int result;
    struct larder_error error;
    uint64_t size_bytes, read_bytes;
    int64_t began_ns; /* realtime, before the first byte was read */
    struct stat st;   /* of the file that was read */
    int fd;           /* open during the call when result is 0 or CORRUPT; borrowed */
};

struct rehash_options {
    const char *what; /* progress verb */
    bool background;
    bool keep_cache;
    uint64_t max_bytes_per_s; /* 0: unlimited */
    int64_t deadline_ns; /* monotonic; 0: none. Blobs are then read one after the other, and the
                            first to its end, however long that takes */
    /* From the caller's thread, in the order they get done; non-zero ends the run. */
    int (*done)(void *arg, struct rehash *item, struct larder_error *e);
    void *arg;
};

/*
 * *ret_is_complete: false when the deadline came first. CANCELED when the observer asked for it;
 * what was done until then has been told.
 */
int rehash_run(struct larder_store *store, const struct larder_digest *digests, size_t count,
               const struct rehash_options *options, bool *ret_is_complete, struct larder_error *e);
