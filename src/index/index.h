/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * index.sqlite: a cache of what the store's directories say, so that listing, du and gc need not
 * read thousands of small files. It is never the truth and no writer has to tell it anything:
 * each directory's fingerprint (inode, mtime, ctime) is remembered, and index_sync re-reads only
 * directories that changed since, and in them only files whose own fingerprint changed. A directory
 * that changed less than 2 s before it was read is not trusted next time (the racy rule).
 *
 * Debian's SQLite (before 3.51.3) has the WAL-reset bug, and its busy handler starves writers:
 * every write transaction and every checkpoint is made under an exclusive flock of locks/index;
 * mmap_size=0, wal_autocheckpoint=0, no checkpoint on close. Readers need no lock (opening takes it
 * shared for a moment, so that nobody puts the file aside meanwhile). A database that is damaged,
 * of another schema or unreadable is put aside and made anew.
 *
 * This room knows SQL and nothing of the store: it is given names and records.
 *
 *     struct index *index = NULL;
 *     index_open(&options, &index, e);      // DENIED...: index_open_memory instead
 *     index_begin(index, e); index_blob_put(index, &blob, e); ... index_commit(index, e);
 *     index_blob_each(index, INDEX_BY_USED_NEWEST, true, fn, arg, e);
 *     index_close(index);
 *
 * Errors of every function: CORRUPT (the database is damaged: index_remake), NOSPACE, DENIED,
 * BUSY, IO, NOMEM. Threads: one handle, one thread at a time; any number of processes.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <larder/digest.h>
#include <larder/error.h>

#include "base/mem.h"

#define INDEX_SCHEMA_VERSION 1
/* Beyond this the write-ahead log is folded back after a commit. */
#define INDEX_WAL_BYTES_MAX (16u * 1024 * 1024)

struct index;

struct index_options {
    int dirfd;        /* directory of the database; borrowed until close */
    const char *path; /* its absolute path (SQLite takes no descriptors); copied */
    const char *name; /* "index.sqlite"; copied */
    /* Takes the lock of writers and checkpoints; closing *ret_fd gives it back. */
    int (*lock)(void *arg, bool exclusive, bool wait, int *ret_fd, struct larder_error *e);
    void *lock_arg;
};

/*
 * A fingerprint of a file or directory; what goes into it is the caller's affair, it is compared
 * as a whole. All zero: nothing that can be trusted.
 */
struct index_print {
    uint64_t inode;
    uint64_t size_bytes;
    int64_t mtime_ns;
    int64_t ctime_ns;
};

struct index_blob {
    struct larder_digest digest;
    uint64_t size_bytes;
    uint64_t allocated_bytes;
    int64_t added_ns;
    int64_t used_ns;
    int64_t verified_ns; /* 0: never */
    bool is_invalid;
    uint64_t inode;          /* of the blob's file, as the directory said it */
    struct index_print memo; /* of the memo file; zero: there was none */
};

enum index_order {
    INDEX_BY_DIGEST,
    INDEX_BY_USED_NEWEST,
    INDEX_BY_USED_OLDEST,
    INDEX_BY_VERIFIED_OLDEST,
};

bool index_print_equal(const struct index_print *a, const struct index_print *b);
bool index_print_is_none(const struct index_print *print);

int index_open(const struct index_options *options, struct index **ret, struct larder_error *e);
/* The same in memory, empty: for stores that cannot be written. */
int index_open_memory(struct index **ret, struct larder_error *e);
/* Rolls an open transaction back; after commits folds the log back if nobody is in the way. */
void index_close(struct index *index);
DEFINE_CLEANUP(struct index *, index_close)
bool index_is_memory(const struct index *index);

/*
 * Puts the database aside (NAME.bad, replacing an older one) and makes a new, empty one, unless
 * somebody else did since this handle was opened. Not inside a transaction.
 */
int index_remake(struct index *index, struct larder_error *e);
/* Reads the whole database for damage (PRAGMA quick_check). */
int index_check(struct index *index, struct larder_error *e);
/* Folds the log back and truncates it when nobody is in the way: for moments of leisure. */
void index_idle(struct index *index);

/* One snapshot for several reads; no lock. */
int index_read_begin(struct index *index, struct larder_error *e);
void index_read_end(struct index *index);
/*
 * A write transaction under the exclusive lock. When the file was replaced since it was opened,
 * the new one is opened first. Ended by index_commit or index_rollback.
 */
int index_begin(struct index *index, struct larder_error *e);
int index_commit(struct index *index, struct larder_error *e); /* on failure: rolled back */
void index_rollback(struct index *index);

/* Directory fingerprints by a number the caller chooses; zero print when there is none. */
int index_dir_get(struct index *index, int dir, struct index_print *ret, struct larder_error *e);
int index_dir_set(struct index *index, int dir, const struct index_print *print,
                  struct larder_error *e);

int index_blob_put(struct index *index, const struct index_blob *blob, struct larder_error *e);
int index_blob_set_used(struct index *index, const struct larder_digest *digest, int64_t used_ns,
                        struct larder_error *e);
int index_blob_remove(struct index *index, const struct larder_digest *digest,
                      struct larder_error *e);
/*
 * Each blob; refs (when with_refs) are the names that keep it, sorted and joined by ", ", else
 * "". A non-zero result of fn ends the walk and is returned. fn must not write to the index.
 */
int index_blob_each(struct index *index, enum index_order order, bool with_refs,
                    int (*fn)(void *arg, const struct index_blob *blob, const char *refs),
                    void *arg, struct larder_error *e);

/* Replaces what is known of a ref. is_bad: its file is damaged (then without digests). */
int index_ref_put(struct index *index, const char *name, const struct index_print *print,
                  bool is_bad, const struct larder_digest *digests, size_t count,
                  struct larder_error *e);
int index_ref_remove(struct index *index, const char *name, struct larder_error *e);
/* Each ref by name. */
int index_ref_each(struct index *index,
                   int (*fn)(void *arg, const char *name, const struct index_print *print,
                             bool is_bad),
                   void *arg, struct larder_error *e);
/* Everything out, inside a transaction. */
int index_clear(struct index *index, struct larder_error *e);
