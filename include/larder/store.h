/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A content-addressed store: blobs named by digest, refs that point to them, leases that keep them.
 *
 * Calling sequence: larder_store_open, any calls, larder_store_close. Many processes may have one
 * store open at once; no daemon is needed. One handle serves one thread at a time; open a second
 * handle for a second thread.
 *
 * Caveats (each by design):
 *  - A path returned by this library never changes content, but is only promised to stay while a
 *    ref, a lease or the keep-age of the store holds the blob. Open it, or take a lease.
 *  - Files of the store are mode 0444. Never open them for writing: whatever is written is found
 *    by the next verification and quarantined.
 *  - The directory must be on a local file system with working flock(2).
 *  - index.sqlite is a cache of what the directory says: delete it freely, and never write to it
 *    with another program.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <larder/digest.h>
#include <larder/error.h>
#include <larder/observer.h>
#include <larder/visibility.h>

LARDER_BEGIN_DECLS

struct larder_store;

enum larder_store_flags {
    LARDER_STORE_CREATE = 1u << 0,    /* make it when it is missing */
    LARDER_STORE_READ_ONLY = 1u << 1, /* take no lock that writes, record no last use */
};

struct larder_store_options {
    size_t size;                            /* sizeof(struct larder_store_options) */
    unsigned flags;                         /* enum larder_store_flags */
    const struct larder_observer *observer; /* borrowed until close; NULL: silent */
    void *reserved[4];
};
#define LARDER_STORE_OPTIONS_INIT                  \
    {                                              \
        sizeof(struct larder_store_options), 0, 0, \
        {                                          \
            0, 0, 0, 0                             \
        }                                          \
    }

/*
 * Where the store is when nobody says: $LARDER_HOME, else /var/lib/larder for root, else
 * $XDG_DATA_HOME/larder, else ~/.local/share/larder (XDG base directory specification).
 * Writes a NUL-terminated path. LARDER_NOENT without a home directory, LARDER_LIMIT when it does
 * not fit.
 */
LARDER_API LARDER_MUST_CHECK int larder_store_default_path(char *ret, size_t ret_bytes,
                                                           struct larder_error *e);

/*
 * Opens the store directory at path; NULL: the default path. options may be NULL.
 * Errors: NOENT (no store there and no CREATE), DENIED (permission, read-only file system, or it
 * belongs to somebody else), UNSUPPORTED (a newer format), INVAL (a directory that is not a store
 * and not empty), NOSPACE, IO.
 */
LARDER_API LARDER_MUST_CHECK int larder_store_open(const char *path,
                                                   const struct larder_store_options *options,
                                                   struct larder_store **ret,
                                                   struct larder_error *e);
/* Frees the handle and drops what it holds; NULL is fine. Leases taken for a process stay. */
LARDER_API void larder_store_close(struct larder_store *store);
/* Absolute path of the store directory; owned by the store. */
LARDER_API const char *larder_store_path(const struct larder_store *store);

/* ---- blobs ---- */

struct larder_blob_info {
    struct larder_digest digest;
    uint64_t size_bytes;
    uint64_t allocated_bytes; /* on disk: holes and compression deducted */
    int64_t added_ns;         /* realtime, since 1970 */
    int64_t last_used_ns;
    int64_t last_verified_ns; /* last full hash; 0: unknown */
};

/* Looks a blob up without reading it. LARDER_NOENT when it is not there. */
LARDER_API LARDER_MUST_CHECK int larder_blob_stat(struct larder_store *store,
                                                  const struct larder_digest *digest,
                                                  struct larder_blob_info *ret,
                                                  struct larder_error *e);
/* Absolute path of the blob's file (whether or not it exists). LARDER_LIMIT when too long. */
LARDER_API LARDER_MUST_CHECK int larder_blob_path(struct larder_store *store,
                                                  const struct larder_digest *digest, char *ret,
                                                  size_t ret_bytes, struct larder_error *e);
/*
 * Opens a blob for reading and records a use. The caller owns *ret_fd (O_CLOEXEC, read-only). Size
 * and fingerprint are checked; only when they contradict what was recorded, or nothing was, is the
 * content hashed, as by larder_blob_verify (CORRUPT). NOENT when it is not there or was
 * invalidated.
 */
LARDER_API LARDER_MUST_CHECK int larder_blob_open(struct larder_store *store,
                                                  const struct larder_digest *digest, int *ret_fd,
                                                  struct larder_error *e);
/*
 * Stores all bytes that fd gives from its current position. expected may be NULL or NONE: then
 * the blob is named by sha256. With it, other bytes are LARDER_MISMATCH and leave nothing behind.
 * A blob that is there already is a success. *ret is its digest.
 */
LARDER_API LARDER_MUST_CHECK int larder_blob_put_fd(struct larder_store *store, int fd,
                                                    const struct larder_digest *expected,
                                                    struct larder_digest *ret,
                                                    struct larder_error *e);
LARDER_API LARDER_MUST_CHECK int larder_blob_put(struct larder_store *store, const void *data,
                                                 size_t data_bytes,
                                                 const struct larder_digest *expected,
                                                 struct larder_digest *ret, struct larder_error *e);

enum larder_verify_depth {
    LARDER_VERIFY_MEMO, /* compare the recorded stat fingerprint; reads no content */
    LARDER_VERIFY_DEEP, /* hash every byte */
};
/*
 * Is the blob still what its name says? 0 when it is. CORRUPT otherwise: the bytes are then in
 * quarantine (or, while in use, marked so that no look-up finds them). With MEMO, a fingerprint
 * that differs leads to a hash by itself.
 */
LARDER_API LARDER_MUST_CHECK int larder_blob_verify(struct larder_store *store,
                                                    const struct larder_digest *digest,
                                                    enum larder_verify_depth depth,
                                                    struct larder_error *e);

/* ---- refs ---- */

/*
 * A ref is a name ("image/debian-13") that points to a descriptor; an entry is a ref whose file
 * also keeps provenance. The text is the ref's whole JSON document (schema: larder-store(5)).
 */
/* Reads one; *ret_json is malloc'd, NUL-terminated, the caller frees it. LARDER_NOENT. */
LARDER_API LARDER_MUST_CHECK int larder_ref_get(struct larder_store *store, const char *name,
                                                char **ret_json, struct larder_error *e);
/*
 * Points name at a blob of the store, atomically. media_type may be NULL. NOENT when there is no
 * such blob, EXIST when name is an entry: its provenance would be about other bytes.
 */
LARDER_API LARDER_MUST_CHECK int larder_ref_set(struct larder_store *store, const char *name,
                                                const struct larder_digest *digest,
                                                const char *media_type, struct larder_error *e);
LARDER_API LARDER_MUST_CHECK int larder_ref_remove(struct larder_store *store, const char *name,
                                                   struct larder_error *e);
/* Calls fn for each ref whose name begins with prefix, sorted; a non-zero result ends the walk. */
LARDER_API LARDER_MUST_CHECK int larder_ref_each(struct larder_store *store, const char *prefix,
                                                 int (*fn)(void *arg, const char *name), void *arg,
                                                 struct larder_error *e);

/* ---- leases ---- */

#define LARDER_LEASE_ID_BYTES 64

/* Keeps digest until process pid ends (checked by pid, start time and boot). */
LARDER_API LARDER_MUST_CHECK int larder_lease_process(struct larder_store *store,
                                                      const struct larder_digest *digest, pid_t pid,
                                                      const char *purpose,
                                                      char ret_id[LARDER_LEASE_ID_BYTES],
                                                      struct larder_error *e);
/* Keeps digest while the file at path exists (same device and inode): an overlay. */
LARDER_API LARDER_MUST_CHECK int
larder_lease_file(struct larder_store *store, const struct larder_digest *digest, const char *path,
                  const char *purpose, char ret_id[LARDER_LEASE_ID_BYTES], struct larder_error *e);
/* Keeps digest until that time (realtime, since 1970). */
LARDER_API LARDER_MUST_CHECK int
larder_lease_until(struct larder_store *store, const struct larder_digest *digest, int64_t until_ns,
                   const char *purpose, char ret_id[LARDER_LEASE_ID_BYTES], struct larder_error *e);
/* Gives a lease back; one that is gone already is a success. */
LARDER_API LARDER_MUST_CHECK int larder_lease_release(struct larder_store *store, const char *id,
                                                      struct larder_error *e);

LARDER_END_DECLS
