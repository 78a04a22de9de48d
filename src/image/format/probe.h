/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Looking into image files: what format they are, and whether it is safe to use them. Reads the
 * first 64 KiB and the last 1536 bytes, and the metadata of a VHDX.
 */
#include <stdbool.h>
#include <stdint.h>

#include "image/format/format.h"

struct image_probe {
    enum image_format format;
    uint64_t virtual_bytes; /* what a guest sees; the file's size for raw */
};

/*
 * By the first bytes of a stream (n up to 64 KiB): PROTO for an error page or text, or when it
 * contradicts the expected format (NULL: any). object stands in messages.
 */
int image_probe_head(const void *head, size_t n, const char *expected_format, const char *object,
                     struct larder_error *e);
/* The same for a stream that will be unpacked: only what can't be anything compressed is refused.
 */
int image_probe_head_compressed(const void *head, size_t n, const char *object,
                                struct larder_error *e);
/* Format and safety of a whole file: PROTO as above, CORRUPT when it is cut short, UNSAFE. */
int image_probe_fd(int fd, uint64_t size_bytes, const char *expected_format, bool allow_backing,
                   const char *object, struct image_probe *ret, struct larder_error *e);
