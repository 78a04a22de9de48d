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

/* One look at the page cache for so much: small against a guest's working set, and larger than
 * the kernel's read-ahead, which would otherwise make the next window look cached. */
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

/* Whether the kernel tells us the truth about residency: only to owners (can_do_mincore). */
static bool is_own(int fd)
{
    struct stat st;

    return geteuid() == 0 || (fstat(fd, &st) == 0 && st.st_uid == geteuid());
}

void hash_read_init(struct hash_read *r, int fd, enum hash_read_cache cache)
{
    *r = (struct hash_read){.fd = fd,
                            .cache = cache == HASH_READ_AUTO ? HASH_READ_DONTCACHE : cache,
                            .may_have_holes = true,
                            .window_start = UINT64_MAX,
                            .may_map = is_own(fd)};
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
}

static bool window_is_absent_mincore(int fd, uint64_t start)
{
    unsigned char resident[WINDOW_BYTES / 4096] = {0}; /* 4096: the smallest page */
    void *map = mmap(NULL, WINDOW_BYTES, PROT_READ, MAP_SHARED, fd, (off_t)start);
    if (map == MAP_FAILED)
        return false;

    /* Only looked at, never touched: no SIGBUS if the file is shorter. To others than the file's
     * owner the kernel says "all resident", and nothing is dropped. */
    bool absent = mincore(map, WINDOW_BYTES, resident) == 0;
    for (size_t i = 0; absent && i < sizeof(resident); i++)
        absent = !(resident[i] & 1);
    munmap(map, WINDOW_BYTES);
    return absent;
}

/* Whether not one page of the window is in the cache; false when it cannot be told. */
static bool window_is_absent(struct hash_read *r, uint64_t start)
{
    if (r->cache == HASH_READ_CACHESTAT) {
        struct cachestat_range range = {start, WINDOW_BYTES};
        struct cachestat_counts counts = {0};
        if (syscall(SYS_cachestat, r->fd, &range, &counts, 0u) == 0)
            return counts.nr_cache == 0;
        r->cache = HASH_READ_MINCORE;
    }
    return window_is_absent_mincore(r->fd, start);
}

static void window_drop(struct hash_read *r)
{
    if (r->window_start != UINT64_MAX && r->window_absent)
        posix_fadvise(r->fd, (off_t)r->window_start, (off_t)WINDOW_BYTES, POSIX_FADV_DONTNEED);
}

/* Called before each read at r->offset. */
static void window_advance(struct hash_read *r)
{
    uint64_t start = r->offset / WINDOW_BYTES * WINDOW_BYTES;

    if (r->cache != HASH_READ_CACHESTAT && r->cache != HASH_READ_MINCORE)
        return;
    if (r->window_start == start)
        return;
    window_drop(r);
    bool follows = r->window_start != UINT64_MAX && r->window_start + WINDOW_BYTES == start;
    r->window_absent = follows ? r->next_absent : window_is_absent(r, start);
    r->next_absent = window_is_absent(r, start + WINDOW_BYTES);
    r->window_start = start;
}

void hash_read_done(struct hash_read *r)
{
    window_drop(r);
    /* Read-ahead may have reached into the next window. */
    if (r->window_start != UINT64_MAX && r->next_absent)
        posix_fadvise(r->fd, (off_t)(r->window_start + WINDOW_BYTES), (off_t)WINDOW_BYTES,
                      POSIX_FADV_DONTNEED);
    r->window_start = UINT64_MAX;
    if (r->map)
        munmap(r->map, MAP_BYTES);
    r->map = NULL;
}

/* --- prefetching --- */

static bool is_resident(int fd, void *map, uint64_t start, uint64_t n)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t pages = (n + page - 1) / page;
    struct cachestat_range range = {start, n};
    struct cachestat_counts counts = {0};
    unsigned char resident[MAP_BYTES / 4096] = {0}; /* 4096: the smallest page */

    if (syscall(SYS_cachestat, fd, &range, &counts, 0u) == 0)
        return counts.nr_cache >= pages;
    bool all = mincore(map, n, resident) == 0;
    for (size_t i = 0; all && i < pages; i++)
        all = resident[i] & 1;
    return all;
}

/* Moves the map to r->offset. It is made anew: the old addresses are of no use any more. */
static void map_move(struct hash_read *r)
{
    struct stat st;

    r->map_start = r->offset / MAP_BYTES * MAP_BYTES;
    r->map_is_resident = false;
    if (fstat(r->fd, &st) < 0 || st.st_size < 0 || (uint64_t)st.st_size <= r->map_start)
        return;
    uint64_t n = (uint64_t)st.st_size - r->map_start;
    n = n < MAP_BYTES ? n : MAP_BYTES;
    void *map = mmap(r->map, MAP_BYTES, PROT_READ, MAP_SHARED | (r->map ? MAP_FIXED : 0), r->fd,
                     (off_t)r->map_start);
    if (map == MAP_FAILED) {
        r->may_map = false;
        return;
    }
    r->map = map;
    if (!is_resident(r->fd, map, r->map_start, n))
        return;
    /* Random: no read-ahead, and unmapping does not count as a use of the pages. */
    madvise(map, MAP_BYTES, MADV_RANDOM);
    if (madvise(map, n, MADV_POPULATE_READ) < 0)
        r->may_map = errno != EINVAL;
    else
        r->map_is_resident = true;
}

const uint8_t *hash_read_ahead(struct hash_read *r)
{
    if (!r->may_map || r->at_end)
        return NULL;
    if (!r->map || r->offset - r->map_start >= MAP_BYTES)
        map_move(r);
    if (!r->map_is_resident)
        return NULL;
    return (const uint8_t *)r->map + (r->offset - r->map_start);
}

static ssize_t read_some(struct hash_read *r, uint8_t *buffer, size_t n)
{
    if (r->cache == HASH_READ_DONTCACHE) {
        struct iovec iov = {buffer, n};
        ssize_t got = preadv2(r->fd, &iov, 1, (off_t)r->offset, RWF_DONTCACHE);
        if (got >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL))
            return got;
        r->cache = HASH_READ_CACHESTAT;
    }
    window_advance(r);
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
