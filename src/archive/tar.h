/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Tar files as lists of members: ustar (POSIX.1-1988), pax (POSIX.1-2001) and GNU's long names and
 * large numbers. Nothing is extracted; contents are extents of the file.
 */
#include <stdint.h>

#include <larder/error.h>

#include "base/buf.h"

#define TAR_BLOCK 512U
/* A head is a header, or an extended one with it. */
#define TAR_HEAD_BYTES_MAX (4 * TAR_BLOCK)

enum tar_type { TAR_FILE, TAR_DIRECTORY, TAR_SYMLINK, TAR_HARDLINK, TAR_SPARSE, TAR_OTHER };

struct tar_member {
    const char *name; /* as written; good until the next call */
    enum tar_type type;
    uint64_t offset; /* of the content in the file */
    uint64_t n_bytes;
};

struct tar_reader {
    int fd;           /* borrowed; read with pread only */
    uint64_t n_bytes; /* of the whole file */
    uint64_t at;      /* the next header */
    struct buf name;
};

int tar_reader_init(struct tar_reader *reader, int fd, struct larder_error *e);
void tar_reader_done(struct tar_reader *reader);
/*
 * The next member: 1, 0 at the end. CORRUPT for a header that is none or content beyond the end of
 * the file; LIMIT for names and extended headers out of all proportion. An archive may end without
 * the blocks of zeros.
 */
int tar_next(struct tar_reader *reader, struct tar_member *ret, struct larder_error *e);

/*
 * What comes before the content of a file (or a directory: its name ends with '/'): appended to
 * out, at most TAR_HEAD_BYTES_MAX. Equal arguments give equal bytes: time 0, owner 0, mode 0644 or
 * 0755. Content is padded to TAR_BLOCK by the caller; two blocks of zeros end an archive.
 */
int tar_head(const char *name, uint64_t n_bytes, struct buf *out, struct larder_error *e);

static inline uint64_t tar_padded(uint64_t n_bytes)
{
    return (n_bytes + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
}
