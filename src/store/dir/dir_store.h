/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What dir_store.c (refs, manifests) and dir_store_blob.c share; everybody else has store.h.
 */
#include <pthread.h>
#include <stdint.h>

#include "store/dir/blob.h"
#include "store/store.h"
#include "store/upkeep/roots.h"

struct dir_blob; /* one that is being written, or waits to be published */

struct dir_store {
    struct store base; /* first: a struct store is cast to it */
    bool is_writable;
    pthread_mutex_t mutex; /* of all below */
    pthread_cond_t settled;
    struct larder_store *store;
    struct dir_blob *list; /* committed, not published yet */
    size_t n_waiting;
    uint64_t waiting_bytes;
    struct digest_set promised;           /* since the last ref */
    const struct larder_digest *expected; /* dir_store_expect() */
    struct larder_error failure;
};

static inline struct dir_store *dir_of(struct store *s)
{
    return (struct dir_store *)(void *)s;
}

static inline struct dir_store *lock_dir(struct store *s)
{
    struct dir_store *d = dir_of(s);
    pthread_mutex_lock(&d->mutex);
    return d;
}

static inline int unlock_dir(struct dir_store *d, int result)
{
    pthread_mutex_unlock(&d->mutex);
    return result;
}

/* ---- dir_store_blob.c: as in struct store_ops ---- */

int dir_blob_has(struct store *s, const struct store_descriptor *blob, struct larder_error *e);
int dir_blob_extent(struct store *s, const struct store_descriptor *blob, struct store_extent *ret,
                    struct larder_error *e);
uint64_t dir_blob_kept(struct store *s, const struct store_descriptor *blob);
int dir_blob_begin(struct store *s, const struct store_descriptor *descriptor,
                   struct blob_writer *ret, bool *ret_exists, struct larder_error *e);
int dir_blob_commit(struct store *s, const struct store_descriptor *descriptor,
                    struct blob_writer *writer, struct larder_error *e);
void dir_blob_abort(struct store *s, struct blob_writer *writer, bool keep);
int dir_blob_remove(struct store *s, const struct larder_digest *digest, struct larder_error *e);
int dir_flush(struct store *s, struct larder_error *e);
/* The file of a blob, which is published before if it waits. The caller closes it. NOENT. Takes the
 * mutex itself. */
int dir_blob_open(struct store *s, const struct larder_digest *digest, int *ret_fd,
                  struct stat *ret_st, struct larder_error *e);
/* Only when closing: what still waits is given up; the next run may go on with it. */
void dir_blobs_drop(struct dir_store *d);
