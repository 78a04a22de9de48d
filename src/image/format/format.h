/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What a file is, by its first and last bytes. Pure, no I/O.
 *
 * A raw disk has no magic of its own, so raw is what is left: anything binary of at least a sector.
 * Plain text (a JSON answer, a redirect note, a listing) is never taken for a disk.
 */
#include <stdbool.h>
#include <stdint.h>

#include <larder/error.h>

#include "base/slice.h"
#include "image/format/qcow2.h"

#define FORMAT_HEAD_BYTES QCOW2_HEAD_BYTES
/* VHD's footer is the last 512 bytes, streamOptimized VMDK's begins 1024 before the end. */
#define FORMAT_TAIL_BYTES 1536

enum image_format {
    IMAGE_FORMAT_UNKNOWN = 0, /* shorter than a sector and without a magic */
    IMAGE_FORMAT_RAW,
    IMAGE_FORMAT_QCOW2,
    IMAGE_FORMAT_QCOW1,
    IMAGE_FORMAT_QED,
    IMAGE_FORMAT_VMDK,
    IMAGE_FORMAT_VHD,
    IMAGE_FORMAT_VHDX,
    IMAGE_FORMAT_VDI,
    IMAGE_FORMAT_ISO,
    IMAGE_FORMAT_LUKS,
    IMAGE_FORMAT_GZIP,
    IMAGE_FORMAT_XZ,
    IMAGE_FORMAT_ZSTD,
    IMAGE_FORMAT_BZIP2,
    IMAGE_FORMAT_LZ4,
    IMAGE_FORMAT_HTML,  /* an HTML or XML page */
    IMAGE_FORMAT_TEXT,  /* any other text */
    IMAGE_FORMAT_EMPTY, /* no bytes at all */
    IMAGE_FORMAT_MAX
};

struct format_probe {
    enum image_format format;
    bool has_virtual_size;
    uint64_t virtual_size_bytes; /* of the guest's disk; the file's own size for raw and luks */
    uint64_t file_bytes;
    struct slice head, tail;   /* as given: the views below point into them */
    struct qcow2_header qcow2; /* only of IMAGE_FORMAT_QCOW2 */
};

/* "qcow2"; never NULL. */
const char *format_name(enum image_format format);
/* Inverse of format_name, also "vpc", "img" and "qcow" as QEMU and people call them. INVAL. */
int format_parse(const char *name, enum image_format *ret, struct larder_error *e);

bool format_is_image(enum image_format format); /* a disk a guest could be given */
bool format_is_compressed(enum image_format format);
/* What servers send instead of an image: a page or a text. */
bool format_is_error_page(enum image_format format);

/*
 * Only the magic. head is the first min(FORMAT_HEAD_BYTES, size) bytes; tail is the last bytes of
 * the file, at most FORMAT_TAIL_BYTES, or empty when unknown (then a fixed VHD looks raw).
 */
enum image_format format_detect(struct slice head, struct slice tail, uint64_t file_bytes);
/*
 * The magic and what the header says. head and tail must outlive ret. A header that contradicts
 * itself or the file's length is CORRUPT (truncated), see qcow2_parse; others never fail.
 */
int format_probe(struct slice head, struct slice tail, uint64_t file_bytes,
                 struct format_probe *ret, struct larder_error *e);
