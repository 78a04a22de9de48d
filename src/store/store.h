/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The interface of every store: blobs and manifests named by digest, refs that point to manifests.
 *
 *   dir/dir_store.c       larder's own directory (struct larder_store behind it); refs "oci/<name>"
 *   registry/             one repository of an OCI registry; refs are tags
 *   layout/layout.c       an OCI image layout directory ("oci:"); refs are ref.name annotations
 *   layout/archive.c      the same in a tar file ("oci-archive:")
 *
 * struct larder_store is the machine's dir store; struct store is any store by this interface.
 *
 * Two kinds. FILE stores give and take files: a blob is an extent of an open file, a new one is
 * written by the caller into a file they provide. REMOTE stores give and take streams.
 *
 * Threads: one handle, any number of lanes at once. Observer callbacks are the caller's business:
 * stores call them from the lane that runs (copy.h brings them to one thread).
 *
 * Every digest that comes in was checked by its parser; whatever goes out of a store was hashed:
 * manifests here, blobs by who reads them (blob_pull.h).
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include <larder/digest.h>
#include <larder/error.h>
#include <larder/observer.h>
#include <larder/store.h>

#include "base/buf.h"
#include "base/mem.h"
#include "oci/media_type.h"
#include "oci/reference.h"

/* A descriptor by value: what a ref points to, a blob to move. */
struct store_descriptor {
    struct larder_digest digest;
    uint64_t size_bytes;
    char media_type[OCI_MEDIA_TYPE_BYTES]; /* "" where nobody knows */
};

/* A blob's bytes in an open file. */
struct store_extent {
    int fd; /* owned by the caller of blob_extent; close() */
    uint64_t offset;
    uint64_t n_bytes;
};

/* A blob being written into a FILE store. */
struct blob_writer {
    int fd;              /* pwrite at start .. start + size; owned by the store */
    uint64_t start;      /* where byte 0 of the blob goes */
    uint64_t done_bytes; /* from an earlier run, not hashed yet */
    void *private;
};

enum blob_how { BLOB_EXISTED, BLOB_COPIED, BLOB_MOUNTED };

/* Where an upload's bytes come from: an extent (may be sent again), or a stream. */
struct blob_source {
    struct store_extent extent; /* fd -1: a stream */
    /* Starts (again) at byte offset. NULL: only once, from 0. */
    int (*seek)(void *arg, uint64_t offset, struct larder_error *e);
    int (*read)(void *arg, void *to, size_t n, size_t *ret_n, struct larder_error *e);
    void *arg;
    /* Called with the number of bytes that are on the other side; may be NULL. */
    int (*sent)(void *arg, uint64_t done_bytes, struct larder_error *e);
};

/* Who takes a REMOTE blob's bytes, in order from `offset`. */
struct blob_sink {
    void *(*room)(void *arg, size_t *ret_n); /* NULL: the engine's buffers */
    int (*write)(void *arg, const void *data, size_t n, struct larder_error *e);
    /* The bytes start again at 0: the server would not resume. */
    int (*restart)(void *arg, struct larder_error *e);
    int (*tick)(void *arg, struct larder_error *e);
    void *arg;
};

struct store;
struct store_ops {
    const char *transport; /* "docker", "oci", "oci-archive", "store" */
    bool is_remote;
    /* ---- refs ---- */
    /* What a ref points to, by the cheapest question (HEAD). NOENT; UNREACHABLE is never NOENT. */
    int (*resolve)(struct store *s, const char *ref, struct store_descriptor *ret,
                   struct larder_error *e);
    /* The same, cheaper where the ref points to `supposed` (its digest is not NONE), as the store
     * then need not look at the manifest itself. NULL: resolve is as good. */
    int (*resolve_supposed)(struct store *s, const char *ref,
                            const struct store_descriptor *supposed, struct store_descriptor *ret,
                            struct larder_error *e);
    int (*each_ref)(struct store *s, int (*fn)(void *arg, const char *ref), void *arg,
                    struct larder_error *e);
    /* The name only; the manifest stays (registry: UNSUPPORTED where only digests can go). */
    int (*remove_ref)(struct store *s, const char *ref, struct larder_error *e);
    /* ---- manifests ---- */
    /* By digest (then checked against it) or, with digest NULL, by ref. Exactly the stored bytes.
     * NOENT, CORRUPT, LIMIT. */
    int (*manifest_get)(struct store *s, const char *ref, const struct larder_digest *digest,
                        struct buf *out, struct store_descriptor *ret, struct larder_error *e);
    int (*manifest_has)(struct store *s, const struct store_descriptor *manifest,
                        struct larder_error *e); /* 1, 0, negative */
    /* Stores the bytes under their digest, and makes each ref point to them (n_refs 0: by digest
     * only). All blobs and manifests it names are there before. subject: the manifest has one
     * (registry: keeps the fallback tag where there is no referrers API). */
    int (*manifest_put)(struct store *s, const struct store_descriptor *manifest,
                        struct slice bytes, const char *const *refs, size_t n_refs,
                        struct larder_error *e);
    int (*manifest_remove)(struct store *s, const struct larder_digest *digest,
                           struct larder_error *e);
    /* An index of what refers to subject (maybe empty), into out. */
    int (*referrers)(struct store *s, const struct larder_digest *subject,
                     const char *artifact_type, struct buf *out, struct larder_error *e);
    /* ---- blobs ---- */
    int (*blob_has)(struct store *s, const struct store_descriptor *blob,
                    struct larder_error *e); /* 1, 0, negative; a wrong size is CORRUPT */
    /* FILE: NOENT, CORRUPT (size). */
    int (*blob_extent)(struct store *s, const struct store_descriptor *blob,
                       struct store_extent *ret, struct larder_error *e);
    /* FILE: *ret_exists: it is there (writer untouched). The bytes must hash to the digest before
     * blob_commit; it may become visible and durable as late as flush. */
    int (*blob_begin)(struct store *s, const struct store_descriptor *blob, struct blob_writer *ret,
                      bool *ret_exists, struct larder_error *e);
    int (*blob_commit)(struct store *s, const struct store_descriptor *blob,
                       struct blob_writer *writer, struct larder_error *e);
    /* keep: what came so far is good for a later run (blob_begin's done_bytes). */
    void (*blob_abort)(struct store *s, struct blob_writer *writer, bool keep);
    /* FILE: disk space that an earlier run left for a blob which is not there yet, and that it will
     * go on with: at most the blob's size. 0 when there is nothing, or it can't be told. NULL:
     * there never is. */
    uint64_t (*blob_kept)(struct store *s, const struct store_descriptor *blob);
    /* REMOTE: the bytes from `offset` on, resumed and retried as needed; not hashed here.
     * NOENT/GONE, UNREACHABLE, MISMATCH (another size), the sink's. */
    int (*blob_get)(struct store *s, const struct store_descriptor *blob, uint64_t offset,
                    const struct blob_sink *sink, struct larder_error *e);
    /* REMOTE: stores a blob whose digest is known. from: a repository of the same registry that
     * has it, to be mounted (NULL: none). is_missing: known not to be there, don't ask. */
    int (*blob_put)(struct store *s, const struct store_descriptor *blob,
                    struct blob_source *source, const char *from, bool is_missing,
                    enum blob_how *ret, struct larder_error *e);
    int (*blob_remove)(struct store *s, const struct larder_digest *digest, struct larder_error *e);
    /* ---- the whole ---- */
    /* REMOTE: 1 when nothing was ever pushed here, so that questions for blobs can be saved. NULL:
     * never sure. */
    int (*is_fresh)(struct store *s, struct larder_error *e);
    /* FILE: everything committed is durable and visible. NULL: it always is. */
    int (*flush)(struct store *s, struct larder_error *e);
    /* Requests made so far (registry). NULL: none. */
    uint64_t (*requests)(struct store *s);
    /* Flushed stores lose nothing; an archive being written that was not flushed is dropped. */
    void (*close)(struct store *s);
};

/* What blob_kept tells of a file: reserved space counts, too. */
uint64_t store_kept_bytes(const struct stat *st, uint64_t size_bytes);

struct store {
    const struct store_ops *ops;
    const struct larder_observer *observer; /* never NULL */
    char *name; /* for messages: "docker://example.org/app", "oci:dir" */
};
void store_close(struct store *s); /* NULL is fine */
DEFINE_CLEANUP(struct store *, store_close)

/* What a ref points to; supposed: what it may well be (NULL, or digest NONE: no idea). */
int store_resolve(struct store *s, const char *ref, const struct store_descriptor *supposed,
                  struct store_descriptor *ret, struct larder_error *e);

/* Two handles of the same registry: mounts are possible. */
bool store_is_same_registry(const struct store *a, const struct store *b);

/* ---- opening ---- */
enum store_open_flags {
    STORE_OPEN_WRITE = 1u << 0, /* make it when missing (layout, archive) */
};
struct remote_options; /* registry/registry.h */
int layout_open(const char *path, unsigned flags, const struct larder_observer *observer,
                struct store **ret, struct larder_error *e);
/* For reading: seeks, extracts nothing. For writing: a temporary beside it, renamed by flush. */
int archive_open(const char *path, unsigned flags, const struct larder_observer *observer,
                 struct store **ret, struct larder_error *e);
/* handle: borrowed, and not used by others meanwhile. */
int dir_store_open(struct larder_store *handle, unsigned flags, struct store **ret,
                   struct larder_error *e);
/* Of a dir store: from now on manifest_put moves a ref only from `expected` (borrowed; alg NONE:
 * the ref is not there) or from the manifest itself, else BUSY. No other manifest_put of any
 * process comes between the look and the move. NULL: from whatever it is. */
void dir_store_expect(struct store *s, const struct larder_digest *expected);
/* reference: of a repository (tag and digest are not looked at). */
int registry_open(const struct oci_reference *reference, const struct remote_options *options,
                  unsigned flags, struct store **ret, struct larder_error *e);
/* Any of them; handle may be NULL when it is no "store:". */
int store_open_location(const struct oci_location *location, struct larder_store *handle,
                        const struct remote_options *options, unsigned flags, struct store **ret,
                        struct larder_error *e);
