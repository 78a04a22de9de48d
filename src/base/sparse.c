/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sparse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"

/* Of one system call: what a cancellation may have to wait for. */
#define RANGE_BYTES (16u << 20)
/* Of the fallback's reads: measured best for read + write. */
#define COPY_BYTES          (256u << 10)
#define PROGRESS_PERIOD_NS  (100 * NS_PER_MS)
#define ZERO_COMPARED_BYTES 16

bool bytes_are_zero(const void *data, size_t n)
{
    static const char zeros[ZERO_COMPARED_BYTES];
    const char *p = data;

    if (n <= sizeof(zeros))
        return memcmp(p, zeros, n) == 0;
    /* Each byte equals the one 16 before it, and the first 16 are zero. */
    return memcmp(p, zeros, sizeof(zeros)) == 0 &&
           memcmp(p, p + sizeof(zeros), n - sizeof(zeros)) == 0;
}

int sparse_write(struct sparse_writer *w, const void *data, size_t n, struct larder_error *e)
{
    const char *p = data;
    size_t done = 0;
    size_t run = 0; /* start of the bytes that are still to be written */

    if (n > (uint64_t)INT64_MAX - w->offset)
        return error_errno(e, EFBIG, "write at %llu", (unsigned long long)w->offset);
    while (done < n) {
        size_t in_block = (size_t)((w->offset + done) % SPARSE_BLOCK_BYTES);
        size_t piece = SPARSE_BLOCK_BYTES - in_block;

        if (piece > n - done)
            piece = n - done;
        /* A part of a block may be left out too: nothing but zeros is behind the end. */
        if (bytes_are_zero(p + done, piece)) {
            if (fd_pwrite_full(w->fd, p + run, done - run, w->offset + run) < 0)
                return error_errno(e, errno, "write");
            run = done + piece;
        }
        done += piece;
    }
    if (fd_pwrite_full(w->fd, p + run, done - run, w->offset + run) < 0)
        return error_errno(e, errno, "write");
    w->offset += n;
    return 0;
}

int sparse_finish(struct sparse_writer *w, struct larder_error *e)
{
    if (ftruncate(w->fd, (off_t)w->offset) < 0)
        return error_errno(e, errno, "set size to %llu", (unsigned long long)w->offset);
    return 0;
}

int sparse_next_extent(int fd, uint64_t offset, uint64_t size, uint64_t *ret_start,
                       uint64_t *ret_end, struct larder_error *e)
{
    uint64_t start = size;
    uint64_t end = size;
    off_t at;

    if (offset < size && offset <= INT64_MAX) {
        at = lseek(fd, (off_t)offset, SEEK_DATA);
        if (at < 0 && (errno == EINVAL || errno == EOPNOTSUPP))
            start = offset; /* no SEEK_DATA here: all of it is data */
        else if (at < 0 && errno != ENXIO)
            return error_errno(e, errno, "look for data");
        else if (at >= 0 && (uint64_t)at < size) {
            start = (uint64_t)at;
            at = lseek(fd, at, SEEK_HOLE);
            /* ENXIO: cut off since; whoever reads there finds out */
            if (at < 0 && errno != ENXIO)
                return error_errno(e, errno, "look for holes");
            if (at >= 0 && (uint64_t)at > start && (uint64_t)at < size)
                end = (uint64_t)at;
        }
    }
    *ret_start = start;
    *ret_end = end;
    return 0;
}

struct copy {
    int in;
    int out;
    uint64_t size;
    const struct larder_observer *observer;
    const char *object;
    int64_t reported_ns;
    bool no_range; /* copy_file_range does not work between these two */
    char *buffer;  /* of the fallback, allocated when first needed */
};

static void report(struct copy *c, uint64_t done, bool is_finished)
{
    struct larder_progress progress = {
        .what = "copy",
        .object = c->object,
        .done_bytes = done,
        .total_bytes = c->size,
        .is_finished = is_finished,
    };
    int64_t now;

    if (!c->observer || !c->observer->progress)
        return;
    now = clock_monotonic_ns();
    if (!is_finished && now - c->reported_ns < PROGRESS_PERIOD_NS)
        return;
    c->reported_ns = now;
    c->observer->progress(c->observer->arg, &progress);
}

static bool is_canceled(const struct copy *c)
{
    return c->observer && c->observer->is_canceled && c->observer->is_canceled(c->observer->arg);
}

/* Some bytes at offset, by the kernel; 0: not possible between these two. */
static ssize_t copy_range(struct copy *c, uint64_t offset, size_t n, struct larder_error *e)
{
    off_t from = (off_t)offset;
    off_t to = (off_t)offset;
    ssize_t done;

    do {
        done = copy_file_range(c->in, &from, c->out, &to, n, 0);
    } while (done < 0 && errno == EINTR);
    if (done > 0)
        return done;
    if (done < 0 && errno != EXDEV && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP &&
        errno != EPERM)
        return error_errno(e, errno, "copy %s", c->object);
    /* Some file systems answer 0 instead of an error; at a real end read() says the same. */
    c->no_range = true;
    return 0;
}

/* Some bytes at offset, through a buffer, zero blocks left out. */
static ssize_t copy_buffered(struct copy *c, uint64_t offset, size_t n, struct larder_error *e)
{
    struct sparse_writer w = {c->out, offset};
    ssize_t got;
    int rc;

    if (!c->buffer) {
        c->buffer = malloc(COPY_BYTES);
        if (!c->buffer)
            return error_nomem(e);
    }
    got = fd_pread_full(c->in, c->buffer, n < COPY_BYTES ? n : COPY_BYTES, offset);
    if (got < 0)
        return error_errno(e, errno, "read %s", c->object);
    if (got == 0)
        return error_set(e, LARDER_CORRUPT, "%s: ends at %llu while it is copied, expected %llu",
                         c->object, (unsigned long long)offset, (unsigned long long)c->size);
    rc = sparse_write(&w, c->buffer, (size_t)got, e);
    if (rc < 0) {
        error_context(e, "copy %s", c->object);
        return rc;
    }
    return got;
}

static int copy_extent(struct copy *c, uint64_t start, uint64_t end, struct larder_error *e)
{
    while (start < end) {
        size_t n = end - start < RANGE_BYTES ? (size_t)(end - start) : RANGE_BYTES;
        ssize_t done = 0;

        if (is_canceled(c))
            return error_set(e, LARDER_CANCELED, "copy %s: canceled", c->object);
        if (!c->no_range)
            done = copy_range(c, start, n, e);
        if (done == 0)
            done = copy_buffered(c, start, n, e);
        if (done < 0)
            return (int)done;
        start += (uint64_t)done;
        report(c, start, false);
    }
    return 0;
}

/* copy_file_range over a hole writes zeros on ext4, so it never sees one. */
static int copy_extents(struct copy *c, struct larder_error *e)
{
    uint64_t offset = 0;

    while (offset < c->size) {
        uint64_t start = offset;
        uint64_t end = c->size;
        int rc = sparse_next_extent(c->in, offset, c->size, &start, &end, e);

        if (rc < 0) {
            error_context(e, "copy %s", c->object);
            return rc;
        }
        rc = copy_extent(c, start, end, e);
        if (rc < 0)
            return rc;
        offset = end;
    }
    return 0;
}

int sparse_copy(int in, int out, const struct larder_observer *observer, const char *object,
                enum copy_how *ret_how, struct larder_error *e)
{
    struct copy c = {.in = in, .out = out, .observer = observer, .object = object};
    enum copy_how how = COPY_REFLINKED;
    struct stat st;
    int rc = 0;

    if (fstat(in, &st) < 0)
        return error_errno(e, errno, "copy %s", object);
    c.size = (uint64_t)st.st_size;
    /* Whatever the reason for which it can't: reading and writing tells what is really wrong. */
    if (ioctl(out, FICLONE, in) < 0) {
        how = COPY_COPIED;
        rc = copy_extents(&c, e);
        if (rc == 0 && ftruncate(out, (off_t)c.size) < 0)
            rc = error_errno(e, errno, "copy %s", object);
    }
    free(c.buffer);
    if (rc < 0)
        return rc;
    report(&c, c.size, true);
    if (ret_how)
        *ret_how = how;
    return 0;
}
