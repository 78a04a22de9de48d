/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One blob on its way into a FILE store: written and hashed as it passes, committed only when size
 * and digest are right. Inside src/store, for blob_pull.c and blob_move_file.c.
 *
 *     blob_write_begin -> (exists: done) -> blob_write_resume
 *         -> { blob_write_room, blob_write_put }... -> blob_write_finish -> blob_write_commit
 *     after any failure: blob_write_abort
 */
#include "base/hash_team.h"
#include "store/store.h"

struct blob_write {
    /* set by the caller */
    struct store *to;
    const char *from_name; /* for messages */
    const struct store_descriptor *blob;
    struct hash_team *team;
    int (*progress)(void *arg, uint64_t done_bytes, struct larder_error *e); /* NULL */
    void *arg;
    /* ours */
    struct blob_writer writer;
    struct hash_stream *stream;
    struct hash_buffer *buffer;  /* being filled; NULL: none */
    uint64_t written_bytes;      /* to the file, and given to the stream */
    uint64_t resumed_bytes;      /* of them, left by an earlier run */
    int direct_fd;               /* the same file past the page cache; -1 */
    uint64_t started_bytes;      /* write-back begun up to here */
    bool is_not_direct;          /* it can't be opened so */
    struct write_behind *behind; /* writes, and has what is above from direct_fd on; NULL: we do */
};

/* *ret_exists: the store has it, there is nothing to do nor to abort. */
int blob_write_begin(struct blob_write *w, bool *ret_exists, struct larder_error *e);
/* Hashes what an earlier run left: blob_write_bytes says from where to go on. */
int blob_write_resume(struct blob_write *w, struct larder_error *e);
uint64_t blob_write_bytes(const struct blob_write *w);
/* Where the next bytes may go. */
void *blob_write_room(struct blob_write *w, size_t *ret_n);
/* data: at the place room gave, or elsewhere (copied). MISMATCH beyond the blob's size. */
int blob_write_put(struct blob_write *w, const void *data, size_t n, struct larder_error *e);
/* All that came does not count. */
int blob_write_restart(struct blob_write *w, struct larder_error *e);
/* Reports the progress. */
int blob_write_tick(struct blob_write *w, struct larder_error *e);
/* MISMATCH: size or digest differ. */
int blob_write_finish(struct blob_write *w, struct larder_error *e);
int blob_write_commit(struct blob_write *w, struct larder_error *e);
/* reason: the error's (negative) code, which says whether what came is worth keeping. */
void blob_write_abort(struct blob_write *w, int reason);
