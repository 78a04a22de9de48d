/* SPDX-License-Identifier: Apache-2.0 */
#include "net/transfer/transfer_local.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/sparse.h"

#define POLL_MS 100

/* Pieces small enough that a cancel is obeyed on a slow disk. */
#define READ_BYTES (512UL * 1024)

static const char *object_of(const struct feed *f)
{
    return f->t->object ? f->t->object : "source";
}

static int check_length(const struct feed *f, uint64_t bytes, struct larder_error *e)
{
    uint64_t expected = f->t->expected_bytes;
    if (expected == 0 || bytes == expected)
        return 0;
    return error_set(e, LARDER_MISMATCH, "%s: has %llu bytes, expected %llu", object_of(f),
                     (unsigned long long)bytes, (unsigned long long)expected);
}

/* Holes are not read: that would only fill the page cache with zeros. */
static int read_piece(struct feed *f, uint64_t size, uint64_t *extent_start, uint64_t *extent_end,
                      struct larder_error *e)
{
    int fd = f->t->source_fd;
    char *to = NULL;
    size_t n = 0;
    int rc = feed_reserve(f, &to, &n, e);
    if (rc == 0 && f->offset >= *extent_end)
        rc = sparse_next_extent(fd, f->offset, size, extent_start, extent_end, e);
    if (rc < 0)
        return rc;
    bool is_hole = f->offset < *extent_start;
    uint64_t until = is_hole ? *extent_start : *extent_end;
    if (until <= f->offset)
        until = size;
    if (n > READ_BYTES)
        n = READ_BYTES;
    if (n > until - f->offset)
        n = (size_t)(until - f->offset);
    if (is_hole) {
        memset(to, 0, n);
    } else {
        ssize_t got = fd_pread_full(fd, to, n, f->offset);
        if (got < 0)
            return error_errno(e, errno, "%s: can't be read", object_of(f));
        if ((size_t)got < n)
            return error_set(e, LARDER_BUSY, "%s: shrank while it was read", object_of(f));
    }
    return feed_commit(f, n, e);
}

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int read_regular(struct feed *f, const struct stat *before, struct larder_error *e)
{
    uint64_t size = (uint64_t)before->st_size;
    uint64_t extent_start = 0;
    uint64_t extent_end = 0;
    int rc = check_length(f, size, e);
    f->total_bytes = size;
    posix_fadvise(f->t->source_fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    while (rc == 0 && f->offset < size) {
        rc = read_piece(f, size, &extent_start, &extent_end, e);
        if (rc == 0)
            rc = feed_tick(f, e);
    }
    struct stat after;
    if (rc == 0 && fstat(f->t->source_fd, &after) != 0)
        return error_errno(e, errno, "%s", object_of(f));
    if (rc == 0 && !is_same(before, &after))
        return error_set(e, LARDER_BUSY, "%s: changed while it was read", object_of(f));
    return rc;
}

/* 1: may be read; 0: nothing yet */
static int wait_readable(struct feed *f, struct larder_error *e)
{
    struct pollfd p = {f->t->source_fd, POLLIN, 0};
    int n = poll(&p, 1, POLL_MS);
    if (n < 0 && errno != EINTR)
        return error_errno(e, errno, "%s: can't be polled", object_of(f));
    int rc = feed_tick(f, e);
    return rc < 0 ? rc : n > 0;
}

static int read_pipe(struct feed *f, struct larder_error *e)
{
    for (;;) {
        int rc = wait_readable(f, e);
        if (rc < 0)
            return rc;
        if (rc == 0)
            continue;
        char *to = NULL;
        size_t n = 0;
        rc = feed_reserve(f, &to, &n, e);
        if (rc < 0)
            return rc;
        ssize_t got = read(f->t->source_fd, to, n);
        if (got == 0)
            return check_length(f, f->offset, e);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0)
            return error_errno(e, errno, "%s: can't be read", object_of(f));
        rc = feed_commit(f, (size_t)got, e);
        if (rc < 0)
            return rc;
    }
}

int transfer_local_run(struct feed *f, struct larder_error *e)
{
    struct stat st;
    if (fstat(f->t->source_fd, &st) != 0)
        return error_errno(e, errno, "%s", object_of(f));
    if (S_ISDIR(st.st_mode))
        return error_set(e, LARDER_INVAL, "%s: is a directory", object_of(f));
    int rc = feed_begin(f, 0, e);
    if (rc == 0)
        rc = S_ISREG(st.st_mode) ? read_regular(f, &st, e) : read_pipe(f, e);
    return rc < 0 ? rc : feed_end(f, e);
}
