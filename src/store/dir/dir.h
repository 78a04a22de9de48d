/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The dir store: a directory that is complete without any database.
 *
 *   format                    "larder-store 1\n": written last by creation, read first by open
 *   blobs/<alg>/<hex>         0444, named by digest, never changed once linked
 *   memo/<alg>/<hex>          what was recorded about a blob (memo.h); its mtime is the last use
 *   refs/<escaped name>       one JSON document each (ref.h)
 *   leases/<id>               one JSON document each (lease.h)
 *   quarantine/<alg>-<hex>.<n> [+ .json]  corrupt bytes and why (quarantine.h)
 *   partial/<key> [+ .json]   resumable downloads, flocked while live
 *   tmp/.tmp-<pid>-<start>-*  temporaries of a process, flocked while live; every small file is
 *                             written there first too
 *   locks/<name>              flock files, never removed
 *   state/<name>              small cursors (scrub, maintain), written atomically
 *   updates/<sha256 of key>   what the last check of a reference found (src/update); a cache,
 *                             and no root of gc. Written in that directory, which is flocked
 *   index.sqlite              cache (src/index), rebuilt at will
 *
 * Lock order (take only downwards): locks/entry-* -> locks/url-* -> locks/blob-<2 hex> ->
 * locks/gc -> locks/index. Everybody who makes bytes reachable (publish a blob and its ref, hand
 * out a path) holds locks/gc shared; whoever removes or quarantines holds it exclusively, for
 * microseconds a blob, and looks again at refs, leases and last use under it.
 *
 * Write order: blob bytes, fsync, link, fsync of the directory; then memo; then ref; the index
 * learns of it later by itself (index.h).
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include <larder/store.h>

#include "base/buf.h"
#include "base/mem.h"

#define STORE_FORMAT_VERSION 1

enum store_place {
    STORE_ROOT,
    STORE_BLOBS_SHA256,
    STORE_BLOBS_SHA512,
    STORE_MEMO_SHA256,
    STORE_MEMO_SHA512,
    STORE_REFS,
    STORE_LEASES,
    STORE_QUARANTINE,
    STORE_PARTIAL,
    STORE_TMP,
    STORE_LOCKS,
    STORE_STATE,
    STORE_UPDATES,
    STORE_PLACE_MAX
};

struct users_probe;

DEFINE_CLEANUP(struct larder_store *, larder_store_close)

/* Who is asked whether a blob's file is in use (users.h): store_default_users. */
const struct users_probe *store_users(const struct larder_store *store);

/*
 * What a room above keeps with the handle, freed by free_fn at close. One per handle. NULL before
 * it is set.
 */
void *store_context(const struct larder_store *store);
void store_set_context(struct larder_store *store, void *context, void (*free_fn)(void *context));

/*
 * Directory descriptor of a place; borrowed, valid until close. Opened on first use, without
 * following a symbolic link below the root (UNSAFE), and refused (UNSAFE) when somebody other than
 * the store's owner, root and ourselves owns it. A missing one is made, unless read-only: NOENT.
 */
int store_place(struct larder_store *store, enum store_place place, int *ret_dirfd,
                struct larder_error *e);
/* Blob (memo) directory of an identity algorithm; INVAL for others. */
int store_blob_dir(struct larder_store *store, enum larder_digest_alg alg, int *ret_dirfd,
                   struct larder_error *e);
int store_memo_dir(struct larder_store *store, enum larder_digest_alg alg, int *ret_dirfd,
                   struct larder_error *e);
/* The place's path in the store ("memo/sha256"), for messages. */
const char *store_place_name(enum store_place place);
/* 0644, and writable for the group when the store's root directory is. */
mode_t store_file_mode(const struct larder_store *store);
bool store_is_read_only(const struct larder_store *store);
const struct larder_observer *store_observer(const struct larder_store *store); /* never NULL */
/* DENIED with a clear message when the store may not be written. */
int store_require_writable(struct larder_store *store, struct larder_error *e);

/*
 * Small files. Reading never follows a link and refuses what is no regular file (both CORRUPT);
 * NOENT; LIMIT beyond max_bytes. ret_st may be NULL. Writing goes through tmp/, so that a reader or
 * a crash sees the old or the new content, whole; name may not contain '/'.
 */
int store_read_file(int dirfd, const char *name, size_t max_bytes, struct buf *out,
                    struct stat *ret_st, struct larder_error *e);
enum store_write_flags {
    STORE_WRITE_DURABLE = 1u << 0, /* fsync the file before and the directory after */
    STORE_WRITE_NEW = 1u << 1,     /* EXIST when the name is taken */
};
/* mtime_ns 0: now. */
int store_write_file(struct larder_store *store, enum store_place place, const char *name,
                     const void *data, size_t n, unsigned flags, int64_t mtime_ns,
                     struct larder_error *e);

/*
 * Takes locks/<name>; see the lock order above. wait=false: BUSY at once, naming the holder when
 * the kernel tells. While waiting longer than 200 ms the observer gets progress "wait" and
 * cancellation is honoured. The lock ends with *ret_fd. On a store opened read-only a lock file
 * that is not there or may not be opened is no error: *ret_fd is -1 then, and there is no lock.
 */
int store_lock(struct larder_store *store, const char *name, bool exclusive, bool wait, int *ret_fd,
               struct larder_error *e);
/* "entry-<hash of text>" and the like: a lock name from arbitrary text. out 64 bytes. */
void store_lock_name(const char *kind, const char *text, char out[64]);
/* Who holds a flock on the file fd refers to: "process 12 (larder)", or "another process". */
void lock_holder(int fd, char *out, size_t out_bytes);

/* Warnings and notes to the observer, formatted. */
void store_warn(struct larder_store *store, const char *fmt, ...) LARDER_PRINTF(2, 3);
void store_note(struct larder_store *store, const char *fmt, ...) LARDER_PRINTF(2, 3);
