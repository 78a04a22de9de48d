/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Streaming decompression of gzip (also concatenated members), xz, zstd (also several frames),
 * bzip2 (also several streams) and Apple's LZ4. Push bytes in, get bytes out by callback;
 * truncated or damaged input, trailing garbage and checks that fail are errors. Memory is bounded
 * (zstd windows up to 128 MiB, xz memlimit 256 MiB, lz4 blocks 16 MiB). Expansion is capped by
 * max_out_bytes.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <larder/error.h>

#include "base/mem.h"

enum unpack_format {
    UNPACK_NONE,
    UNPACK_GZIP,
    UNPACK_XZ,
    UNPACK_ZSTD,
    UNPACK_BZIP2,
    UNPACK_LZ4, /* Apple's frames (lz4.c) */
};

/* By magic; NONE when it is none of them. */
enum unpack_format unpack_detect(const void *head, size_t n);
/* By file name: .gz .xz .zst .bz2 (LZ4 has none that means these frames) */
enum unpack_format unpack_from_name(const char *name);
const char *unpack_name(enum unpack_format format);

typedef int unpack_sink(void *arg, const void *data, size_t n, struct larder_error *e);

/*
 * max_out_bytes caps the expansion: LIMIT beyond it (UINT64_MAX: whatever the sink takes). CORRUPT:
 * damaged data or trailing garbage; UNSUPPORTED: a check, filter or dictionary that is not built
 * in. After a failure only unpack_free() may follow. The sink is called from unpack_push() and
 * unpack_finish(); its error is returned as it is. gzip may be followed by zero padding.
 */
struct unpack;
int unpack_new(enum unpack_format format, uint64_t max_out_bytes, unpack_sink *sink, void *arg,
               struct unpack **ret, struct larder_error *e);
int unpack_push(struct unpack *u, const void *data, size_t n, struct larder_error *e);
/* End of input: CORRUPT when the stream was not complete. */
int unpack_finish(struct unpack *u, struct larder_error *e);
void unpack_free(struct unpack *u);
DEFINE_CLEANUP(struct unpack *, unpack_free)
