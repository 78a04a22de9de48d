/* SPDX-License-Identifier: Apache-2.0 */
#include "net/transfer/transfer_feed.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"

#define PEEK_BYTES  (64UL * 1024)
#define PROGRESS_NS (100 * NS_PER_MS)
/* On a slow line: what came is on disk, and hashed, after this time. */
#define BUFFER_AGE_NS (1 * NS_PER_S)
/* One write(2). Measured on ext4 of Linux 6.18: 2 MiB at once make the kernel look for 2 MiB of
 * contiguous page cache, which costs up to twice the system time of 64 KiB. */
#define WRITE_BYTES (64UL * 1024)
/* Disk writes are started this often, so that the caller's fsync finds little left to do. */
#define WRITEBACK_BYTES (64ULL * 1024 * 1024)

static int cut(int fd, uint64_t n, struct larder_error *e)
{
    if (fd >= 0 && ftruncate(fd, (off_t)n) != 0)
        return error_errno(e, errno, "partial file: can't be truncated");
    return 0;
}

static int wait_tick(void *arg, struct larder_error *e);

int feed_begin(struct feed *f, uint64_t keep_bytes, struct larder_error *e)
{
    struct transfer *t = f->t;
    pipeline_free(f->pipeline);
    f->pipeline = NULL;
    f->buffer = NULL;
    f->unwritten_bytes = 0;
    f->offset = 0;
    f->flushed_bytes = 0;
    f->resumed_bytes = 0;
    f->is_started = false;
    f->has_peeked_result = false;
    f->format = UNPACK_NONE;
    f->partial = (struct sparse_writer){t->partial_fd, keep_bytes};
    int rc = cut(t->partial_fd, keep_bytes, e);
    if (rc == 0)
        rc = cut(t->unpack_fd, 0, e);
    if (rc < 0)
        return rc;
    struct pipeline_options options = {
        .source_alg_bits = t->source_alg_bits,
        .result_alg_bits = t->result_alg_bits,
        .unpack_fd = t->unpack_fd,
        .wait = wait_tick,
        .arg = f,
    };
    return pipeline_new(&options, &f->pipeline, e);
}

void feed_done(struct feed *f)
{
    pipeline_free(f->pipeline);
    f->pipeline = NULL;
    f->buffer = NULL;
}

/* ---- progress ---- */

static void report(struct feed *f, bool is_finished)
{
    const struct larder_observer *o = f->t->observer;
    if (!o || !o->progress)
        return;
    struct larder_progress progress = {
        .what = f->what,
        .object = f->t->object,
        .done_bytes = f->offset,
        .total_bytes = f->total_bytes,
        .resumed_bytes = f->resumed_bytes,
        .is_finished = is_finished,
    };
    o->progress(o->arg, &progress);
}

/* Safe while a buffer is being filled: does not touch it. */
static int wait_tick(void *arg, struct larder_error *e)
{
    struct feed *f = arg;
    const struct larder_observer *o = f->t->observer;
    if (o && o->is_canceled && o->is_canceled(o->arg))
        return error_set(e, LARDER_CANCELED, "canceled");
    int64_t now = clock_monotonic_ns();
    if (now - f->progress_ns >= PROGRESS_NS) {
        f->progress_ns = now;
        report(f, false);
    }
    return 0;
}

/* ---- the head ---- */

static int choose_format(struct feed *f, enum unpack_format *ret, struct larder_error *e)
{
    const struct transfer *t = f->t;
    *ret = UNPACK_NONE;
    if (t->unpack == TRANSFER_UNPACK_NEVER || t->unpack_fd < 0)
        return 0;
    size_t n = f->buffer ? f->buffer->n : 0;
    enum unpack_format by_magic = n > 0 ? unpack_detect(f->buffer->data, n) : UNPACK_NONE;
    if (t->unpack == TRANSFER_UNPACK_ALWAYS) {
        if (by_magic == UNPACK_NONE)
            return error_set(e, LARDER_CORRUPT,
                             "content is not compressed in a known way, but is to be unpacked");
        *ret = by_magic;
    } else if (f->name && unpack_from_name(f->name) == by_magic) {
        *ret = by_magic;
    }
    return 0;
}

/* The first buffer holds PEEK_BYTES, or all there is. */
static int start(struct feed *f, struct larder_error *e)
{
    const struct transfer *t = f->t;
    enum unpack_format format;
    size_t n = f->buffer ? f->buffer->n : 0;
    int rc = 0;
    /* First of all: that it is an error page says more than what follows from it. */
    if (t->peek)
        rc = t->peek(t->arg, n > 0 ? f->buffer->data : "", n < PEEK_BYTES ? n : PEEK_BYTES, false,
                     e);
    if (rc >= 0)
        rc = choose_format(f, &format, e);
    if (rc >= 0 && f->total_bytes > 0 && t->sized)
        rc = t->sized(t->arg, f->total_bytes, format != UNPACK_NONE, e);
    if (rc >= 0)
        rc = pipeline_start(f->pipeline, format, e);
    if (rc < 0)
        return rc;
    f->format = format;
    f->is_started = true;
    return 0;
}

static int peek_result(struct feed *f, bool is_all, struct larder_error *e)
{
    const struct transfer *t = f->t;
    if (f->format == UNPACK_NONE || f->has_peeked_result || !t->peek)
        return 0;
    uint64_t there = pipeline_result_bytes(f->pipeline);
    if (there < PEEK_BYTES && !is_all)
        return 0;
    f->has_peeked_result = true;
    size_t n = there < PEEK_BYTES ? (size_t)there : PEEK_BYTES;
    /* Blocks of zeros may not have been written yet: what can't be read is zero. */
    CLEANUP_FREE char *head = calloc(1, PEEK_BYTES);
    if (!head)
        return error_nomem(e);
    if (fd_pread_full(t->unpack_fd, head, n, 0) < 0)
        return error_errno(e, errno, "unpacked file: can't be read");
    return t->peek(t->arg, head, n, true, e);
}

/* ---- buffers ---- */

static int write_partial(struct feed *f, struct larder_error *e)
{
    if (f->unwritten_bytes == 0 || f->partial.fd < 0) {
        f->unwritten_bytes = 0;
        return 0;
    }
    const struct ring_buffer *b = f->buffer;
    int rc = 0;
    while (rc == 0 && f->unwritten_bytes > 0) {
        size_t n = f->unwritten_bytes < WRITE_BYTES ? f->unwritten_bytes : WRITE_BYTES;
        rc = sparse_write(&f->partial, b->data + b->n - f->unwritten_bytes, n, e);
        f->unwritten_bytes -= n;
    }
    f->unwritten_bytes = 0;
    if (rc < 0)
        return rc;
    if (f->partial.offset - f->flushed_bytes >= WRITEBACK_BYTES) {
        /* Only a hint; where it is not supported the fsync does all. */
        sync_file_range(f->partial.fd, (off_t)f->flushed_bytes,
                        (off_t)(f->partial.offset - f->flushed_bytes), SYNC_FILE_RANGE_WRITE);
        f->flushed_bytes = f->partial.offset;
    }
    return 0;
}

/* Hands the buffer on; before that the bytes are in the partial file. */
static int flush(struct feed *f, struct larder_error *e)
{
    int rc = f->is_started ? 0 : start(f, e);
    if (rc == 0)
        rc = write_partial(f, e);
    if (rc < 0)
        return rc;
    if (f->buffer)
        pipeline_put(f->pipeline, TAKE_PTR(f->buffer));
    return peek_result(f, false, e);
}

static int room(struct feed *f, char **ret, size_t *ret_n, struct larder_error *e)
{
    if (!f->buffer) {
        int rc = pipeline_get(f->pipeline, &f->buffer, e);
        if (rc < 0)
            return rc;
        f->buffer_ns = clock_monotonic_ns();
    }
    *ret = f->buffer->data + f->buffer->n;
    *ret_n = f->buffer->cap - f->buffer->n;
    return 0;
}

static int commit(struct feed *f, size_t n, bool is_new, struct larder_error *e)
{
    f->buffer->n += n;
    f->offset += n;
    if (is_new)
        f->unwritten_bytes += n;
    if (!f->is_started && f->buffer->n >= PEEK_BYTES) {
        int rc = start(f, e);
        if (rc < 0)
            return rc;
    }
    return f->buffer->n == f->buffer->cap ? flush(f, e) : 0;
}

int feed_reserve(struct feed *f, char **ret, size_t *ret_n, struct larder_error *e)
{
    return room(f, ret, ret_n, e);
}

int feed_commit(struct feed *f, size_t n, struct larder_error *e)
{
    return commit(f, n, true, e);
}

int feed_bytes(struct feed *f, const void *data, size_t n, struct larder_error *e)
{
    const char *p = data;
    while (n > 0) {
        char *to = NULL;
        size_t space = 0;
        int rc = room(f, &to, &space, e);
        if (rc < 0)
            return rc;
        size_t take = n < space ? n : space;
        memcpy(to, p, take);
        p += take;
        n -= take;
        rc = commit(f, take, true, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int feed_prefix(struct feed *f, uint64_t n, struct larder_error *e)
{
    while (f->offset < n) {
        char *to = NULL;
        size_t space = 0;
        int rc = room(f, &to, &space, e);
        if (rc < 0)
            return rc;
        size_t want = n - f->offset < space ? (size_t)(n - f->offset) : space;
        ssize_t got = fd_pread_full(f->t->partial_fd, to, want, f->offset);
        if (got < 0)
            return error_errno(e, errno, "partial file: can't be read");
        if ((size_t)got < want)
            return error_set(e, LARDER_BUSY, "partial file: shrank while it was read");
        f->resumed_bytes += want;
        rc = commit(f, want, false, e);
        if (rc == 0)
            rc = wait_tick(f, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int feed_tick(struct feed *f, struct larder_error *e)
{
    int rc = wait_tick(f, e);
    if (rc == 0 && f->pipeline)
        rc = pipeline_check(f->pipeline, e);
    if (rc < 0 || !f->is_started)
        return rc;
    bool is_old =
        f->buffer && f->buffer->n > 0 && clock_monotonic_ns() - f->buffer_ns > BUFFER_AGE_NS;
    return is_old ? flush(f, e) : peek_result(f, false, e);
}

int feed_end(struct feed *f, struct larder_error *e)
{
    struct transfer *t = f->t;
    int rc = flush(f, e);
    if (rc == 0 && f->partial.fd >= 0)
        rc = sparse_finish(&f->partial, e);
    if (rc == 0)
        rc = pipeline_finish(f->pipeline, e);
    if (rc == 0)
        rc = peek_result(f, true, e);
    if (rc == 0)
        rc = pipeline_digests(f->pipeline, t->source_digests, t->result_digests, e);
    if (rc < 0)
        return rc;
    t->source_bytes = f->offset;
    t->result_bytes = f->format == UNPACK_NONE ? f->offset : pipeline_result_bytes(f->pipeline);
    t->resumed_bytes = f->resumed_bytes;
    t->unpacked = f->format;
    report(f, true);
    return 0;
}

void feed_keep_partial(struct feed *f)
{
    if (f->t->partial_fd < 0 || !f->pipeline)
        return;
    /* Best effort: the transfer has failed already, with a better message. A head that was not even
     * accepted is not worth keeping. */
    if (!f->is_started)
        f->unwritten_bytes = 0;
    if (write_partial(f, NULL) == 0)
        (void)sparse_finish(&f->partial, NULL);
}
