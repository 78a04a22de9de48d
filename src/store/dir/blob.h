/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Writing and checking blobs of the dir store.
 *
 * A blob's life:   temp_open -> (bytes, hashed while written) -> blob_publish -> handed out ->
 *                  quarantine (corrupt) or blob_remove (gc)
 * Only blob_publish makes a name under blobs/; only quarantine.c and blob_remove take it away.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include <larder/store.h>

#include "base/mem.h"
#include "store/dir/dir.h"
#include "store/dir/memo.h"

/* A temporary in tmp/ (or a partial), flocked while we live. */
struct temp_file {
    int fd;         /* read-write */
    int dirfd;      /* borrowed: where the name is */
    char name[128]; /* "" once published or dropped */
};
#define TEMP_FILE_INIT ((struct temp_file){-1, -1, ""})

int temp_open(struct larder_store *store, struct temp_file *ret, struct larder_error *e);
/* Closes and unlinks; fine on TEMP_FILE_INIT. */
void temp_drop(struct temp_file *temp);
/* Closes and keeps the file: a partial that a later run goes on with. Fine on TEMP_FILE_INIT. */
void temp_keep(struct temp_file *temp);

/*
 * Resumable download in partial/<key>, made when missing. BUSY when another live process has it.
 * Its content is whatever an earlier run left. partial_forget removes it and its .json.
 */
int partial_open(struct larder_store *store, const char *key, struct temp_file *ret,
                 struct larder_error *e);
/* Without opening it. NOENT. */
int partial_stat(struct larder_store *store, const char *key, struct stat *ret,
                 struct larder_error *e);
int partial_write_meta(struct larder_store *store, const char *key, const char *json,
                       struct larder_error *e);
int partial_read_meta(struct larder_store *store, const char *key, char **ret_json,
                      struct larder_error *e); /* NOENT */
int partial_forget(struct larder_store *store, const char *key, struct temp_file *temp,
                   struct larder_error *e);
/* Removes temporaries of dead processes and partials untouched for keep_partial_ns; counts. */
int temp_sweep(struct larder_store *store, int64_t keep_partial_ns, bool dry_run,
               uint64_t *ret_files, uint64_t *ret_bytes, struct larder_error *e);
/* The same, telling each file that was (dry_run: would be) removed. */
int temp_sweep_each(struct larder_store *store, int64_t keep_partial_ns, bool dry_run,
                    int (*fn)(void *arg, const char *name, bool is_partial, uint64_t bytes),
                    void *arg, uint64_t *ret_files, uint64_t *ret_bytes, struct larder_error *e);

/*
 * Publishes a written temporary under its digest: mode 0444, fsync, link, fsync of the
 * directory, memo. The caller vouches that the bytes in temp hash to digest (it hashed them while
 * they passed) and holds locks/gc shared. When the name is taken by a blob that is good by its
 * memo, temp is dropped and *ret_existed set; when that blob is bad or marked invalid it is
 * replaced in one rename (its old inode goes to quarantine first), so the path never misses; one
 * that can't be judged without reading is hashed first. On success temp is empty. The flock on
 * temp is kept until the memo is there, so that a second publisher waits for it instead of hashing.
 */
int blob_publish(struct larder_store *store, struct temp_file *temp,
                 const struct larder_digest *digest, bool *ret_existed, struct larder_error *e);

/*
 * The same for many at once, in two steps. temps_sync makes the bytes durable: it uses nothing of a
 * store, so another thread may use the handle meanwhile. blob_publish_synced does the rest: one
 * fsync of the directory and one wait for the clock in all. Each temp is empty afterwards, or, when
 * it failed (-code of the first), still to be dropped or kept by the caller.
 */
int temps_sync(struct temp_file *const *temps, const struct larder_digest *const *digests, size_t n,
               struct larder_error *e);
int blob_publish_synced(struct larder_store *store, struct temp_file *const *temps,
                        const struct larder_digest *const *digests, size_t n,
                        struct larder_error *e);

enum blob_state {
    BLOB_GOOD,    /* fingerprint as recorded */
    BLOB_SUSPECT, /* only ctime-like fields differ */
    BLOB_UNSURE,  /* must be hashed before it can be trusted */
    BLOB_MARKED,  /* invalid mark: look-ups miss */
    BLOB_MISSING,
};
/* Never reads content. st and memo may be NULL. */
int blob_check(struct larder_store *store, const struct larder_digest *digest, enum blob_state *ret,
               struct stat *ret_st, struct memo *ret_memo, struct larder_error *e);
/*
 * Opens the blob's file for reading, whatever its state; the caller owns *ret_fd. NOENT; CORRUPT
 * when it is no regular file.
 */
int blob_fd(struct larder_store *store, const struct larder_digest *digest, int *ret_fd,
            struct stat *ret_st, struct larder_error *e);
/*
 * Hashes the blob and records the result (new memo when good). *ret_actual is what its bytes hash
 * to; 0 when equal, CORRUPT when not (nothing is moved here; *ret_actual is set all the same,
 * unless there was no regular file: then it stays). BUSY when it changed meanwhile. keep_cache: see
 * hash_many.h.
 */
int blob_hash(struct larder_store *store, const struct larder_digest *digest, bool keep_cache,
              struct larder_digest *ret_actual, struct larder_error *e);
/*
 * After a good hash of fd's content that began at hash_began_ns: store the memo, unless the racy
 * rule forbids it (then a success too: the next check hashes again). An invalid mark stays.
 */
int blob_record_verified(struct larder_store *store, const struct larder_digest *digest, int fd,
                         int64_t hash_began_ns, struct larder_error *e);

/*
 * Sets the invalid mark, or clears it (reason NULL). Durable: a crash must not make bad bytes good
 * again. NOENT when there is no such blob.
 */
int blob_mark_invalid(struct larder_store *store, const struct larder_digest *digest,
                      const char *reason, struct larder_error *e);
/* Unlinks blob and memo; the caller holds locks/gc exclusively and has asked who uses it. */
int blob_remove(struct larder_store *store, const struct larder_digest *digest,
                struct larder_error *e);
/* NOENT: "blob ...: not in the store". */
int blob_none(const struct larder_digest *digest, struct larder_error *e);
/* Digest of a file name under blobs/<alg>; false when it is none of ours. */
bool blob_name_parse(enum larder_digest_alg alg, const char *name, struct larder_digest *ret);
/* Each blob (any order); a non-zero result of fn ends the walk. */
int blob_each(struct larder_store *store, int (*fn)(void *arg, const struct larder_digest *digest),
              void *arg, struct larder_error *e);
