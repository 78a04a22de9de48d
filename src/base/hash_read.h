/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Reading a whole file once, in order, for hashing: holes come as zeros without being read, and
 * the page cache is left as it was found. Internal to hash_many.
 *
 *     struct hash_read r;
 *     hash_read_init(&r, fd, keep_cache, probe);
 *     while (hash_read_next(&r, buffer, cap, &span) == 0 && span.n) ... use span ...
 *     hash_read_done(&r);
 *
 * Every span but the last is a whole number of 64-byte blocks, so that the caller needs no carry.
 * The file offset of fd is moved by the search for holes; nothing depends on it.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HASH_READ_ALIGN 64

/* How pages that were not in the cache before are kept out of it after. */
enum hash_read_cache {
    HASH_READ_AUTO,      /* the best of the following that works for this file */
    HASH_READ_DONTCACHE, /* preadv2(RWF_DONTCACHE), Linux >= 6.14, and what it missed dropped */
    HASH_READ_CACHESTAT, /* only cachestat(2), Linux >= 6.5, then POSIX_FADV_DONTNEED */
    HASH_READ_MINCORE,   /* only mincore(2), then POSIX_FADV_DONTNEED */
    HASH_READ_KEEP       /* plain reads */
};

/* How much of a window is in the page cache; UNKNOWN where the kernel would not say. */
enum hash_read_found { HASH_READ_UNKNOWN, HASH_READ_ABSENT, HASH_READ_PARTLY, HASH_READ_RESIDENT };

/* How far ahead windows are looked at; further than the kernel's read-ahead, which would otherwise
 * make them look cached. 64 MiB: block devices with 8 MiB (doubled for sequential files) exist. */
#define HASH_READ_WINDOWS 16

struct hash_span {
    const uint8_t *p;  /* in the caller's buffer, or constant zeros */
    size_t n;          /* 0: end of file */
    size_t read_bytes; /* of n, how many came from read(2) */
};

struct hash_read {
    int fd; /* borrowed */
    enum hash_read_cache cache;
    bool at_end;
    bool may_have_holes;
    uint64_t offset;
    uint64_t extent_end; /* data up to here, UINT64_MAX: no more holes known */
    uint64_t hole_end;   /* > offset while inside a hole */
    /* What of each window was cached before we came: known for [window, window_end), in a ring. */
    uint64_t window; /* the current one's number */
    uint64_t window_end;
    uint8_t found[HASH_READ_WINDOWS]; /* enum hash_read_found */
    bool is_own;                      /* the kernel tells us what is cached */
    bool no_cachestat;
    /* For hash_read_ahead: part of the file, mapped but never read through. */
    void *map; /* NULL: none */
    uint64_t map_start;
    bool map_is_whole; /* all of it can be prefetched */
    bool may_map;
};

void hash_read_init(struct hash_read *r, int fd, enum hash_read_cache cache);
/* 0, or -1 with errno. cap: a multiple of HASH_READ_ALIGN. */
int hash_read_next(struct hash_read *r, uint8_t *buffer, size_t cap, struct hash_span *ret);
/*
 * An address for prefetch instructions, where the bytes that come next are in the page cache; NULL
 * when they are not all there, or cannot be told. For nothing else: reading through it would raise
 * SIGBUS if somebody cut the file off. Copying cached bytes that are in no CPU cache takes a third
 * as long as hashing them; with prefetching a tenth.
 */
const uint8_t *hash_read_ahead(struct hash_read *r);
/* Drops what the last window brought in; also right after an error or half way. */
void hash_read_done(struct hash_read *r);
