/* SPDX-License-Identifier: Apache-2.0 */
#include "store/blob_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "store/write_behind.h"

/*
 * Large blobs go past the page cache where the file system lets them: new pages of it cost more
 * than all the rest, the fsync at the end finds nothing left to do, and what other programs have
 * in it stays. Measured on ext4: half of the system time, and a third of the wall time when others
 * write, too.
 */
#define DIRECT_BYTES_MIN ((uint64_t)1024 * 1024)
#define DIRECT_ALIGN     4096U /* at least what any disk wants */

/* A thread is worth it from here on. */
#define BEHIND_BYTES_MIN ((uint64_t)8 * 1024 * 1024)

/* Elsewhere the disk begins to write such a piece as soon as it is there. */
#define WRITE_BACK_BYTES ((uint64_t)8 * 1024 * 1024)

static int mismatch_size(const struct blob_write *w, uint64_t found, bool or_more,
                         struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];

    return error_set(e, LARDER_MISMATCH, "blob %s from %s: %llu bytes%s, expected %llu",
                     larder_digest_format(&w->blob->digest, text), w->from_name,
                     (unsigned long long)found, or_more ? " or more" : "",
                     (unsigned long long)w->blob->size_bytes);
}

int blob_write_begin(struct blob_write *w, bool *ret_exists, struct larder_error *e)
{
    bool exists = false;
    int rc;

    w->direct_fd = -1;
    w->behind = NULL;
    w->writer = (struct blob_writer){.fd = -1};
    rc = w->to->ops->blob_begin(w->to, w->blob, &w->writer, &exists, e);
    if (rc == 0 && !exists && w->writer.done_bytes > w->blob->size_bytes) {
        /* More than there can be: not a beginning of this blob. */
        w->to->ops->blob_abort(w->to, &w->writer, false);
        w->writer = (struct blob_writer){.fd = -1};
        rc = w->to->ops->blob_begin(w->to, w->blob, &w->writer, &exists, e);
    }
    if (rc < 0)
        return rc;
    *ret_exists = exists;
    if (exists)
        return 0;
    rc = hash_stream_new(w->team, w->blob->digest.alg, &w->stream, e);
    if (rc < 0)
        w->to->ops->blob_abort(w->to, &w->writer, true);
    return rc;
}

int blob_write_tick(struct blob_write *w, struct larder_error *e)
{
    return w->progress ? w->progress(w->arg, blob_write_bytes(w), e) : 0;
}

int blob_write_resume(struct blob_write *w, struct larder_error *e)
{
    uint64_t left = w->writer.done_bytes;

    while (left) {
        struct hash_buffer *b = hash_stream_room(w->stream);
        size_t want = left < b->cap ? (size_t)left : b->cap;
        ssize_t n = fd_pread_full(w->writer.fd, b->data, want, w->writer.start + w->written_bytes);
        int saved = errno;

        b->n = n < 0 ? 0 : (size_t)n;
        /* Streams want whole blocks and disks whole pages, but at the end of all; what is cut off
         * here comes again. */
        if (w->written_bytes + b->n != w->blob->size_bytes)
            b->n = b->n / DIRECT_ALIGN * DIRECT_ALIGN;
        w->written_bytes += b->n;
        left -= want;
        bool is_short = b->n < b->cap;
        hash_stream_put(w->stream, b);
        if (n < 0)
            return error_errno(e, saved, "%s: reading what an earlier run left", w->to->name);
        int rc = blob_write_tick(w, e);
        if (rc < 0)
            return rc;
        if (is_short)
            break;
    }
    w->resumed_bytes = w->started_bytes = w->written_bytes;
    return 0;
}

uint64_t blob_write_bytes(const struct blob_write *w)
{
    return w->written_bytes + (w->buffer ? w->buffer->n : 0);
}

/* A second way to the same file: O_DIRECT on the store's own would change it for others. */
static void open_direct(struct blob_write *w)
{
    char path[64];

    if (w->direct_fd >= 0 || w->is_not_direct || w->blob->size_bytes < DIRECT_BYTES_MIN)
        return;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", w->writer.fd);
    w->direct_fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
    w->is_not_direct = w->direct_fd < 0;
}

/* Writes the buffer's whole pages that way, if it can: how many bytes that were. */
static size_t write_direct(struct blob_write *w, const struct hash_buffer *b, uint64_t at)
{
    size_t n = b->n / DIRECT_ALIGN * DIRECT_ALIGN;

    if (at % DIRECT_ALIGN != 0 || n == 0)
        return 0;
    open_direct(w);
    if (w->direct_fd < 0)
        return 0;
    if (fd_pwrite_full(w->direct_fd, b->data, n, at) == 0)
        return n;
    /* Some file systems take the flag but not the write. Real errors come again in a moment. */
    w->is_not_direct = true;
    fd_closep(&w->direct_fd);
    return 0;
}

static void start_write_back(struct blob_write *w, uint64_t until)
{
    if (w->direct_fd >= 0 || until - w->started_bytes < WRITE_BACK_BYTES)
        return;
    /* A hint: where it can't be done, the fsync does it all. */
    (void)sync_file_range(w->writer.fd, (off64_t)(w->writer.start + w->started_bytes),
                          (off64_t)(until - w->started_bytes), SYNC_FILE_RANGE_WRITE);
    w->started_bytes = until;
}

/* 0, or errno. The end of a blob is rarely a whole page: only that goes through the page cache. */
static int write_buffer(struct blob_write *w, const struct hash_buffer *b, uint64_t at)
{
    size_t direct = write_direct(w, b, at);

    if (direct < b->n &&
        fd_pwrite_full(w->writer.fd, b->data + direct, b->n - direct, at + direct) < 0)
        return errno;
    start_write_back(w, at - w->writer.start + b->n);
    return 0;
}

/* For write_behind: all of them by one call if that can be. */
static int write_several(void *arg, struct hash_buffer *const *b, unsigned n, uint64_t at)
{
    struct blob_write *w = arg;
    struct iovec v[WRITE_BEHIND_BUFFERS];
    size_t total = 0;
    int failed = 0;

    for (unsigned i = 0; i < n; i++) {
        v[i] = (struct iovec){b[i]->data, b[i]->n};
        total += b[i]->n;
    }
    if (at % DIRECT_ALIGN == 0 && total % DIRECT_ALIGN == 0)
        open_direct(w);
    if (w->direct_fd >= 0 && total % DIRECT_ALIGN == 0 &&
        pwritev(w->direct_fd, v, (int)n, (off_t)at) == (ssize_t)total)
        return 0;
    /* One by one, which also tells what was wrong. */
    for (unsigned i = 0; failed == 0 && i < n; i++) {
        failed = write_buffer(w, b[i], at);
        at += b[i]->n;
    }
    return failed;
}

static int write_error(const struct blob_write *w, int failed, struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];

    return error_errno(e, failed, "%s: writing blob %s", w->to->name,
                       larder_digest_format(&w->blob->digest, text));
}

static int behind_end(struct blob_write *w, struct larder_error *e)
{
    int failed = write_behind_end(TAKE_PTR(w->behind));

    return failed ? write_error(w, failed, e) : 0;
}

/*
 * Several blobs at once have several lanes: while some wait for the disk, others receive. For one
 * alone another thread waits.
 */
static bool is_behind(struct blob_write *w)
{
    if (!w->behind && w->blob->size_bytes - w->written_bytes >= BEHIND_BYTES_MIN &&
        hash_stream_is_alone(w->stream))
        w->behind = write_behind_new(w->stream, write_several, w);
    return w->behind != NULL;
}

static int flush_buffer(struct blob_write *w, struct larder_error *e)
{
    struct hash_buffer *b = w->buffer;
    uint64_t at = w->writer.start + w->written_bytes;
    int failed = 0;

    /* An empty one stays; the file's state may be the other thread's. */
    if (!b || b->n == 0)
        return 0;
    if (is_behind(w)) {
        w->written_bytes += b->n;
        hash_stream_share(w->stream, TAKE_PTR(w->buffer));
        failed = write_behind_put(w->behind, b, at);
    } else {
        failed = write_buffer(w, b, at);
        if (failed)
            return write_error(w, failed, e);
        w->written_bytes += b->n;
        hash_stream_put(w->stream, TAKE_PTR(w->buffer));
    }
    return failed ? write_error(w, failed, e) : blob_write_tick(w, e);
}

void *blob_write_room(struct blob_write *w, size_t *ret_n)
{
    if (!w->buffer)
        w->buffer = hash_stream_room(w->stream);
    *ret_n = w->buffer->cap - w->buffer->n;
    return w->buffer->data + w->buffer->n;
}

int blob_write_put(struct blob_write *w, const void *data, size_t n, struct larder_error *e)
{
    const char *p = data;

    if (n > w->blob->size_bytes - blob_write_bytes(w))
        return mismatch_size(w, blob_write_bytes(w) + n, true, e);
    while (n) {
        size_t room;
        char *to = blob_write_room(w, &room);
        size_t piece = n < room ? n : room;
        if (to != p)
            memcpy(to, p, piece);
        w->buffer->n += piece;
        p += piece;
        n -= piece;
        if (w->buffer->n == w->buffer->cap) {
            int rc = flush_buffer(w, e);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

int blob_write_restart(struct blob_write *w, struct larder_error *e)
{
    int rc = behind_end(w, e);

    hash_stream_drop(w->stream, TAKE_PTR(w->buffer));
    w->written_bytes = w->resumed_bytes = w->started_bytes = 0;
    return rc < 0 ? rc : hash_stream_reset(w->stream, e);
}

int blob_write_finish(struct blob_write *w, struct larder_error *e)
{
    struct larder_digest found = {0};
    char text[LARDER_DIGEST_TEXT_BYTES];
    char expected[LARDER_DIGEST_TEXT_BYTES];
    int rc = flush_buffer(w, e);

    if (rc < 0)
        return rc;
    if (w->written_bytes != w->blob->size_bytes)
        return mismatch_size(w, w->written_bytes, false, e);
    rc = hash_stream_finish(w->stream, &found, e);
    if (rc == 0)
        rc = behind_end(w, e);
    if (rc < 0)
        return rc;
    if (!larder_digest_equal(&found, &w->blob->digest))
        return error_set(e, LARDER_MISMATCH, "blob %s from %s: its bytes are %s",
                         larder_digest_format(&w->blob->digest, expected), w->from_name,
                         larder_digest_format(&found, text));
    return 0;
}

static void write_done(struct blob_write *w)
{
    /* After a failure, which is told already, what it would say is not wanted any more. */
    (void)write_behind_end(TAKE_PTR(w->behind));
    fd_closep(&w->direct_fd);
    hash_stream_drop(w->stream, TAKE_PTR(w->buffer));
    hash_stream_free(TAKE_PTR(w->stream));
}

int blob_write_commit(struct blob_write *w, struct larder_error *e)
{
    int rc;

    write_done(w);
    rc = w->to->ops->blob_commit(w->to, w->blob, &w->writer, e);
    if (rc < 0)
        w->to->ops->blob_abort(w->to, &w->writer, rc == -LARDER_NOSPACE);
    return rc;
}

void blob_write_abort(struct blob_write *w, int reason)
{
    struct larder_error ignored = LARDER_ERROR_INIT;
    bool keep = reason != -LARDER_MISMATCH && reason != -LARDER_CORRUPT && reason != -LARDER_PROTO;

    /* What is in the buffer is as good as the rest. */
    if (keep && w->stream && reason != -LARDER_IO && reason != -LARDER_NOSPACE)
        (void)flush_buffer(w, &ignored);
    write_done(w);
    w->to->ops->blob_abort(w->to, &w->writer, keep && w->written_bytes > 0);
}
