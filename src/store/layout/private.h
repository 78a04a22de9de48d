/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * An OCI image layout directory, open.
 *
 *   oci-layout, index.json, blobs/<alg>/<hex>    as image-spec image-layout.md says
 *   .larder/<alg>-<hex>                          a blob that is being written, flocked meanwhile;
 *                                                left behind it is a partial to go on with
 *   .larder/<others>                             temporaries
 *
 * .larder is beside blobs/, not in it: umoci and regctl take every name below blobs/<alg> for a
 * blob when they clean up, while unknown names at the top are ignored by all. It is on the file
 * system of blobs/, and goes away with the last file in it.
 *
 * Durability in batches: a committed blob waits, written but not synced, until there are enough of
 * them; then all are synced together, and renamed to blobs/ after that. The directories are synced
 * once, by flush, before any name in index.json points to what is in them.
 */
#include <pthread.h>

#include "store/layout/index_json.h"
#include "store/store.h"

#define LAYOUT_WORK_NAME ".larder"
#define LAYOUT_MARK_NAME "oci-layout"
/* A batch: one commit of a journal for this many blobs; as many files are open meanwhile, which may
 * be a quarter of all we are allowed. */
#define LAYOUT_BATCH_BLOBS 256
#define LAYOUT_BATCH_BYTES (64ULL * 1024 * 1024)

/* A blob that was begun: private to its writer until it is committed, then in the list. */
struct layout_blob {
    struct layout_blob *next;
    struct layout_blob *batch_next;
    struct larder_digest digest;
    uint64_t size_bytes;
    int fd;
    bool is_partial; /* has the name by which a later run finds it */
    bool is_taken;   /* some lane publishes it now */
    char name[LARDER_DIGEST_TEXT_BYTES + 64];
};

struct layout {
    struct store base; /* first: a struct store is cast to it */
    int dirfd;
    bool is_writable;
    size_t n_batch;
    pthread_mutex_t mutex; /* of all below */
    pthread_cond_t settled;
    int workdir;              /* -1: not opened yet */
    int blobs[2];             /* of sha256 and sha512; -1: not opened, or not there */
    bool is_unsynced[2];      /* names were made there since the last fsync */
    struct layout_blob *list; /* committed, not published yet */
    size_t n_waiting;
    uint64_t waiting_bytes;
    struct larder_error failure; /* of a batch: flush tells it; code OK: none */
};

static inline struct layout *layout_of(struct store *s)
{
    return (struct layout *)(void *)s;
}

/* ---- layout_blob.c ---- */
/* The directory of an algorithm's blobs; *ret -1 when there is none and make is false. */
int layout_blobs_dir(struct layout *layout, enum larder_digest_alg alg, bool make, int *ret,
                     struct larder_error *e);
/* A new temporary in .larder, flocked. name holds 64 bytes. */
int layout_temp(struct layout *layout, char *name, int *ret_fd, struct larder_error *e);
int layout_work_dir(struct layout *layout, bool again, int *ret, struct larder_error *e);
bool layout_is_waiting(struct layout *layout, const struct larder_digest *digest);
int layout_blob_begin(struct store *s, const struct store_descriptor *descriptor,
                      struct blob_writer *ret, bool *ret_exists, struct larder_error *e);
uint64_t layout_blob_kept(struct store *s, const struct store_descriptor *blob);
int layout_blob_commit(struct store *s, const struct store_descriptor *descriptor,
                       struct blob_writer *writer, struct larder_error *e);
void layout_blob_abort(struct store *s, struct blob_writer *writer, bool keep);
int layout_flush(struct store *s, struct larder_error *e);
/* Forgets what was not flushed (its files stay as partials), removes old leavings. */
void layout_blob_close(struct layout *layout);

/* ---- layout_index.c ---- */
/* NOENT when there is no index.json. */
int layout_index_read(struct layout *layout, struct json **ret, struct larder_error *e);
/* Changes index.json: edit gets the document (an empty one when there was no file) and gives the
 * new one, or NULL for no change; it may be called several times. Durable when it returns. */
int layout_index_update(struct layout *layout,
                        int (*edit)(void *arg, const struct json *index, struct json **ret,
                                    struct larder_error *e),
                        void *arg, struct larder_error *e);
