/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash_read.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80
#endif
#ifndef SYS_cachestat
#define SYS_cachestat 451 /* the same number on all architectures */
#endif

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

/* One look at the page cache for so much: small against a guest's working set. */
#define WINDOW_BYTES ((uint64_t)4 * 1024 * 1024)

/* What is mapped for prefetching counts as ours in RSS, thread by thread and lane by lane. */
#define MAP_BYTES ((uint64_t)1024 * 1024)

/* From <linux/mman.h>, which Debian 12's headers do not have yet. */
struct cachestat_range {
    uint64_t off;
    uint64_t len;
};
struct cachestat_counts {
    uint64_t nr_cache;
    uint64_t nr_dirty;
    uint64_t nr_writeback;
    uint64_t nr_evicted;
    uint64_t nr_recently_evicted;
};

/* Never written: all its pages are the kernel's one zero page, so reading it stays in the L1. */
#define ZERO_BYTES ((size_t)64 * 1024)
static uint8_t zeros[ZERO_BYTES] __attribute__((aligned(4096)));

/* Whether the kernel tells us the truth about the cache: only to owners (can_do_mincore). */
static bool is_own(int fd)
{
    struct stat st;

    return geteuid() == 0 || (fstat(fd, &st) == 0 && st.st_uid == geteuid());
}

void hash_read_init(struct hash_read *r, int fd, enum hash_read_cache cache)
{
    bool own = is_own(fd);

    *r = (struct hash_read){.fd = fd,
                            .cache = cache == HASH_READ_AUTO ? HASH_READ_DONTCACHE : cache,
                            .may_have_holes = true,
                            .is_own = own,
                            .no_cachestat = cache == HASH_READ_MINCORE,
                            .may_map = own,
                            .map_start = UINT64_MAX};
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
}

/* n: of the window, how much lies before the end of the file. */
static enum hash_read_found look_mincore(int fd, uint64_t start, uint64_t n)
{
    unsigned char resident[WINDOW_BYTES / 4096] = {0}; /* 4096: the smallest page */
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    size_t pages = (size_t)((n + page - 1) / page);
    size_t there = 0;
    void *map = mmap(NULL, WINDOW_BYTES, PROT_READ, MAP_SHARED, fd, (off_t)start);
    if (map == MAP_FAILED)
        return HASH_READ_UNKNOWN;

    /* Only looked at, never touched: no SIGBUS if the file is shorter. */
    bool known = mincore(map, n, resident) == 0;
    for (size_t i = 0; i < pages; i++)
        there += resident[i] & 1;
    munmap(map, WINDOW_BYTES);
    if (!known)
        return HASH_READ_UNKNOWN;
    return there == 0 ? HASH_READ_ABSENT : there < pages ? HASH_READ_PARTLY : HASH_READ_RESIDENT;
}

static enum hash_read_found look(struct hash_read *r, uint64_t start)
{
    struct stat st;

    /* To others than the file's owner the kernel says "all resident", or nothing. */
    if (!r->is_own || fstat(r->fd, &st) < 0)
        return HASH_READ_UNKNOWN;
    if (st.st_size < 0 || (uint64_t)st.st_size <= start)
        return HASH_READ_UNKNOWN; /* what grows there later is not ours to drop */
    uint64_t n = (uint64_t)st.st_size - start;
    n = n < WINDOW_BYTES ? n : WINDOW_BYTES;
    if (!r->no_cachestat) {
        uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
        struct cachestat_range range = {start, n};
        struct cachestat_counts counts = {0};
        if (syscall(SYS_cachestat, r->fd, &range, &counts, 0u) == 0)
            return counts.nr_cache == 0                      ? HASH_READ_ABSENT
                   : counts.nr_cache < (n + page - 1) / page ? HASH_READ_PARTLY
                                                             : HASH_READ_RESIDENT;
        r->no_cachestat = true;
    }
    return look_mincore(r->fd, start, n);
}

static void window_drop(const struct hash_read *r, uint64_t window)
{
    if (r->found[window % HASH_READ_WINDOWS] == HASH_READ_ABSENT && r->cache != HASH_READ_KEEP)
        posix_fadvise(r->fd, (off_t)(window * WINDOW_BYTES), (off_t)WINDOW_BYTES,
                      POSIX_FADV_DONTNEED);
}

/* Called before each read at r->offset. */
static void window_advance(struct hash_read *r)
{
    uint64_t window = r->offset / WINDOW_BYTES;

    if (window < r->window_end && window == r->window)
        return;
    for (; r->window < window && r->window < r->window_end; r->window++)
        window_drop(r, r->window);
    r->window = window;
    if (r->window_end < window)
        r->window_end = window;
    for (; r->window_end < window + HASH_READ_WINDOWS; r->window_end++)
        r->found[r->window_end % HASH_READ_WINDOWS] =
            (uint8_t)look(r, r->window_end * WINDOW_BYTES);
}

void hash_read_done(struct hash_read *r)
{
    /* Read-ahead may have gone further than we have. */
    for (; r->window < r->window_end; r->window++)
        window_drop(r, r->window);
    if (r->map)
        munmap(r->map, MAP_BYTES);
    r->map = NULL;
}

/* --- prefetching --- */

/* Moves the map to r->offset. It is made anew: the old addresses are of no use any more. */
static void map_move(struct hash_read *r)
{
    uint64_t window = r->offset / WINDOW_BYTES;

    r->map_start = r->offset / MAP_BYTES * MAP_BYTES;
    r->map_is_whole = false;
    if (window >= r->window_end || r->found[window % HASH_READ_WINDOWS] != HASH_READ_RESIDENT)
        return;
    void *map = mmap(r->map, MAP_BYTES, PROT_READ, MAP_SHARED | (r->map ? MAP_FIXED : 0), r->fd,
                     (off_t)r->map_start);
    if (map == MAP_FAILED) {
        r->may_map = false;
        return;
    }
    r->map = map;
    /* Random: no read-ahead, and unmapping does not count as a use of the pages. EFAULT: the part
     * behind the end of the file. */
    madvise(map, MAP_BYTES, MADV_RANDOM);
    if (madvise(map, MAP_BYTES, MADV_POPULATE_READ) == 0 || errno == EFAULT)
        r->map_is_whole = true;
    else
        r->may_map = errno != EINVAL;
}

const uint8_t *hash_read_ahead(struct hash_read *r)
{
    if (!r->may_map || r->at_end || r->offset == 0)
        return NULL;
    if (r->map_start == UINT64_MAX || r->offset - r->map_start >= MAP_BYTES)
        map_move(r);
    if (!r->map_is_whole)
        return NULL;
    return (const uint8_t *)r->map + (r->offset - r->map_start);
}

static ssize_t read_some(struct hash_read *r, uint8_t *buffer, size_t n)
{
    window_advance(r);
    if (r->cache == HASH_READ_DONTCACHE) {
        struct iovec iov = {buffer, n};
        ssize_t got = preadv2(r->fd, &iov, 1, (off_t)r->offset, RWF_DONTCACHE);
        if (got >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL))
            return got;
        r->cache = HASH_READ_CACHESTAT;
    }
    return pread(r->fd, buffer, n, (off_t)r->offset);
}

/*
 * Sets extent_end and hole_end for r->offset. The size is asked again each time: a file that grows
 * is read to its new end, and a hole at the end is as long as the file is now.
 */
static void find_extent(struct hash_read *r)
{
    off_t data = lseek(r->fd, (off_t)r->offset, SEEK_DATA);
    if (data >= 0 && (uint64_t)data > r->offset) {
        r->hole_end = (uint64_t)data;
        return;
    }
    if (data < 0 && errno == ENXIO) {
        struct stat st;
        if (fstat(r->fd, &st) == 0 && st.st_size > 0 && (uint64_t)st.st_size > r->offset) {
            r->hole_end = (uint64_t)st.st_size;
            return;
        }
    }
    off_t hole = data < 0 ? -1 : lseek(r->fd, data, SEEK_HOLE);
    if (hole > 0 && (uint64_t)hole > r->offset) {
        r->extent_end = (uint64_t)hole;
    } else {
        r->extent_end = UINT64_MAX;
        r->may_have_holes = false;
    }
}

/* A read up to min(room, extent); 0 at the end of file. */
static ssize_t read_data(struct hash_read *r, uint8_t *buffer, size_t room)
{
    uint64_t left = r->extent_end - r->offset;
    size_t want = left < room ? (size_t)left : room;
    ssize_t got;

    do {
        got = read_some(r, buffer, want);
    } while (got < 0 && errno == EINTR);
    if (got == 0)
        r->at_end = true;
    return got;
}

int hash_read_next(struct hash_read *r, uint8_t *buffer, size_t cap, struct hash_span *ret)
{
    size_t filled = 0, from_disk = 0;

    while (filled < cap && !r->at_end) {
        if (r->offset >= r->hole_end && r->offset >= r->extent_end && r->may_have_holes)
            find_extent(r);
        if (r->offset < r->hole_end) {
            uint64_t hole = r->hole_end - r->offset;
            bool aligned = filled % HASH_READ_ALIGN == 0;
            if (aligned && hole >= HASH_READ_ALIGN) {
                if (filled)
                    break;
                size_t n = hole < ZERO_BYTES ? (size_t)hole : ZERO_BYTES;
                n -= n % HASH_READ_ALIGN;
                r->offset += n;
                *ret = (struct hash_span){zeros, n, 0};
                return 0;
            }
            /* The ends of a hole that are no whole block go through the buffer. */
            size_t pad = HASH_READ_ALIGN - filled % HASH_READ_ALIGN;
            if (pad > hole)
                pad = (size_t)hole;
            memset(buffer + filled, 0, pad);
            filled += pad;
            r->offset += pad;
            continue;
        }
        ssize_t got = read_data(r, buffer + filled, cap - filled);
        if (got < 0)
            return -1;
        filled += (size_t)got;
        from_disk += (size_t)got;
        r->offset += (uint64_t)got;
    }
    *ret = (struct hash_span){buffer, filled, from_disk};
    return 0;
}
