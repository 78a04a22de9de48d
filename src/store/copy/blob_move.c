/* SPDX-License-Identifier: Apache-2.0 */
#include "store/copy/blob_move.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "store/blob_write.h"
#include "store/copy/blob_pull.h"

/* --- FILE -> FILE --- */

static int copy_bytes(struct blob_write *w, const struct store_extent *extent,
                      struct larder_error *e)
{
    uint64_t done = blob_write_bytes(w);

    while (done < extent->n_bytes) {
        size_t room;
        char *to = blob_write_room(w, &room);
        uint64_t left = extent->n_bytes - done;
        ssize_t n =
            fd_pread_full(extent->fd, to, left < room ? (size_t)left : room, extent->offset + done);
        char text[LARDER_DIGEST_TEXT_BYTES];
        if (n <= 0)
            return n < 0 ? error_errno(e, errno, "%s: reading blob %s", w->from_name,
                                       larder_digest_format(&w->blob->digest, text))
                         : error_set(e, LARDER_CORRUPT, "blob %s in %s: %llu bytes, expected %llu",
                                     larder_digest_format(&w->blob->digest, text), w->from_name,
                                     (unsigned long long)done, (unsigned long long)extent->n_bytes);
        int rc = blob_write_put(w, to, (size_t)n, e);
        if (rc < 0)
            return rc;
        done += (uint64_t)n;
    }
    return blob_write_finish(w, e);
}

static int copy_once(const struct blob_move *move, const struct store_extent *extent,
                     bool *ret_was_resumed, enum blob_how *ret, struct larder_error *e)
{
    struct blob_write w = {.to = move->to,
                           .from_name = move->from->name,
                           .blob = move->blob,
                           .team = move->team,
                           .progress = move->progress,
                           .arg = move->arg};
    bool exists = false;
    int rc = blob_write_begin(&w, &exists, e);

    if (rc < 0)
        return rc;
    if (exists) {
        *ret = BLOB_EXISTED;
        return 0;
    }
    *ret_was_resumed = w.writer.done_bytes > 0;
    rc = blob_write_resume(&w, e);
    if (rc == 0)
        rc = copy_bytes(&w, extent, e);
    if (rc < 0) {
        blob_write_abort(&w, rc);
        return rc;
    }
    *ret = BLOB_COPIED;
    return blob_write_commit(&w, e);
}

/* The source's file is there, but with other bytes: that is damage, found. */
static int as_damage(const struct blob_move *move, struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];

    return error_set(e, LARDER_CORRUPT, "blob %s in %s: its bytes are others",
                     larder_digest_format(&move->blob->digest, text), move->from->name);
}

static int move_file_to_file(const struct blob_move *move, const struct store_extent *extent,
                             enum blob_how *ret, struct larder_error *e)
{
    struct larder_error first = LARDER_ERROR_INIT;
    bool was_resumed = false;
    int rc = copy_once(move, extent, &was_resumed, ret, &first);

    if (rc == -LARDER_MISMATCH && was_resumed)
        rc = copy_once(move, extent, &was_resumed, ret, &first);
    if (rc == -LARDER_MISMATCH)
        return as_damage(move, e);
    if (rc < 0 && e)
        *e = first;
    return rc;
}

/* --- FILE -> REMOTE --- */

struct sending {
    const struct blob_move *move;
};

static int sending_sent(void *arg, uint64_t done_bytes, struct larder_error *e)
{
    const struct blob_move *move = ((struct sending *)arg)->move;

    return move->progress ? move->progress(move->arg, done_bytes, e) : 0;
}

/*
 * Our bytes were refused. Were they at fault? Only then they are read: what a registry says about
 * it is different with each.
 */
static bool is_damaged(const struct blob_move *move, const struct store_extent *extent)
{
    CLEANUP(hash_stream_freep) struct hash_stream *stream = NULL;
    struct larder_digest found = {0};
    uint64_t done = 0;

    if (hash_stream_new(move->team, move->blob->digest.alg, &stream, NULL) < 0)
        return false;
    while (done < extent->n_bytes) {
        struct hash_buffer *b = hash_stream_room(stream);
        uint64_t left = extent->n_bytes - done;
        ssize_t n = fd_pread_full(extent->fd, b->data, left < b->cap ? (size_t)left : b->cap,
                                  extent->offset + done);
        b->n = n < 0 ? 0 : (size_t)n;
        bool is_whole = b->n == (left < b->cap ? left : b->cap);
        done += b->n;
        hash_stream_put(stream, b);
        if (!is_whole)
            return n >= 0; /* shorter than it was: damaged; unreadable: not known */
    }
    return hash_stream_finish(stream, &found, NULL) == 0 &&
           !larder_digest_equal(&found, &move->blob->digest);
}

static bool may_be_damage(int rc)
{
    return rc == -LARDER_PROTO || rc == -LARDER_MISMATCH || rc == -LARDER_CORRUPT ||
           rc == -LARDER_INVAL;
}

int blob_move_file(const struct blob_move *move, enum blob_how *ret, struct larder_error *e)
{
    struct store_extent extent = {.fd = -1};
    struct sending sending = {move};
    struct blob_source source = {.sent = sending_sent, .arg = &sending};
    int rc = move->from->ops->blob_extent(move->from, move->blob, &extent, e);

    if (rc == -LARDER_NOENT && move->to->ops->blob_has(move->to, move->blob, NULL) == 1) {
        /* A layout need not have everything its manifests name. */
        *ret = BLOB_EXISTED;
        return 0;
    }
    if (rc < 0)
        return rc;
    CLEANUP_CLOSE int fd = extent.fd;
    if (!move->to->ops->is_remote)
        return move_file_to_file(move, &extent, ret, e);
    source.extent = (struct store_extent){fd, extent.offset, extent.n_bytes};
    rc = move->to->ops->blob_put(move->to, move->blob, &source, move->mount_from, move->is_missing,
                                 ret, e);
    if (may_be_damage(rc) && is_damaged(move, &extent))
        return as_damage(move, e);
    return rc;
}

/* --- any --- */

int blob_move_run(const struct blob_move *move, enum blob_how *ret, struct larder_error *e)
{
    if (!move->from->ops->is_remote)
        return blob_move_file(move, ret, e);
    if (move->to->ops->is_remote)
        return blob_move_stream(move, ret, e);
    const struct blob_pull pull = {.from = move->from,
                                   .to = move->to,
                                   .blob = move->blob,
                                   .team = move->team,
                                   .progress = move->progress,
                                   .arg = move->arg,
                                   .ret_resumed = move->ret_resumed};
    return blob_pull_run(&pull, ret, e);
}
