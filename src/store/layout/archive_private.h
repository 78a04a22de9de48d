/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * An OCI archive: a layout in a tar file, open.
 *
 * Reading: the members are listed once at open; blobs are extents of the file.
 *
 * Writing: a temporary beside the target, flocked meanwhile. A blob's size is known before, so it
 * gets its place in the file when it is begun, and lanes write theirs at the same time; oci-layout
 * and index.json come last. flush ends the archive and renames it over the target.
 */
#include <pthread.h>

#include "store/layout/index_json.h"
#include "store/store.h"

enum place_state { PLACE_NONE, PLACE_WRITING, PLACE_DONE, PLACE_DROPPED };

struct place {
    enum place_state state;
    struct larder_digest digest;
    uint64_t offset;
    uint64_t n_bytes;
};

/* By digest: open addressing, at most half full. */
struct places {
    struct place *slots;
    size_t n_slots, count;
};

struct archive {
    struct store base; /* first: a struct store is cast to it */
    int fd;            /* the archive, or the temporary; -1: none yet */
    bool is_writable;
    pthread_mutex_t mutex; /* of all below, when writing */
    struct places places;
    struct json *index; /* never NULL once open */
    uint64_t end;       /* where the next member goes */
    unsigned n_writing;
    bool is_changed; /* something was put since the last flush */
    bool is_published;
    bool has_sha512;
    int dirfd;         /* of the target; -1 when reading */
    char *target;      /* its name there */
    char *temp;        /* NULL: none */
    struct store *old; /* what the target is now; NULL: nothing */
};

static inline struct archive *archive_of(struct store *s)
{
    return (struct archive *)(void *)s;
}

/* NULL when it is not there. */
struct place *places_find(const struct places *places, const struct larder_digest *digest);
/* A new one, or the one that is there (then its state is not NONE); NULL: no memory. Pointers got
 * before are void. */
struct place *places_add(struct places *places, const struct larder_digest *digest);

/* ---- archive_write.c ---- */
int archive_write_open(struct archive *archive, const char *path, struct larder_error *e);
void archive_write_close(struct archive *archive);
int archive_blob_begin(struct store *s, const struct store_descriptor *blob,
                       struct blob_writer *ret, bool *ret_exists, struct larder_error *e);
int archive_blob_commit(struct store *s, const struct store_descriptor *blob,
                        struct blob_writer *writer, struct larder_error *e);
void archive_blob_abort(struct store *s, struct blob_writer *writer, bool keep);
int archive_manifest_put(struct store *s, const struct store_descriptor *manifest,
                         struct slice bytes, const char *const *refs, size_t n_refs,
                         struct larder_error *e);
int archive_flush(struct store *s, struct larder_error *e);
