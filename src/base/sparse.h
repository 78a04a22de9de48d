/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Files with holes: writing zeros as holes, walking the data extents, copying without filling.
 * (copy_file_range alone fills holes on ext4.)
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <larder/error.h>
#include <larder/observer.h>

#define SPARSE_BLOCK_BYTES 4096

bool bytes_are_zero(const void *data, size_t n);

/*
 * Sequential writer that skips whole aligned 4 KiB blocks of zeros. The file must read as zeros
 * beyond its written part (new, or truncated). sparse_finish sets the final length.
 */
struct sparse_writer {
    int fd; /* borrowed */
    uint64_t offset;
};
int sparse_write(struct sparse_writer *w, const void *data, size_t n, struct larder_error *e);
int sparse_finish(struct sparse_writer *w, struct larder_error *e);

/*
 * Next data extent at or after offset: *ret_start >= offset, *ret_end > start; both = size at the
 * end. A file system without SEEK_DATA reports one extent.
 */
int sparse_next_extent(int fd, uint64_t offset, uint64_t size, uint64_t *ret_start,
                       uint64_t *ret_end, struct larder_error *e);

enum copy_how { COPY_REFLINKED, COPY_COPIED };
/* Whole file from in to out (empty, writable): FICLONE, else extent by extent, holes kept. */
int sparse_copy(int in, int out, const struct larder_observer *observer, const char *object,
                enum copy_how *ret_how, struct larder_error *e);
