/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The header of a qcow2 image (qemu docs/interop/qcow2), version 2 and 3. Pure: it reads the first
 * bytes of the file, which hold the header, its extensions and the backing file's name.
 *
 * It judges consistency, not safety: an image that names a backing file or has unknown feature bits
 * parses fine and is refused by image/format/safety.h.
 */
#include <stdbool.h>
#include <stdint.h>

#include <larder/error.h>

#include "base/slice.h"

/* Read this much (or the whole file when it is shorter). */
#define QCOW2_HEAD_BYTES (64 * 1024)
/* The format's own limit for the backing file's name. */
#define QCOW2_BACKING_NAME_BYTES_MAX 1023

#define QCOW2_INCOMPAT_DIRTY        (1ull << 0)
#define QCOW2_INCOMPAT_CORRUPT      (1ull << 1)
#define QCOW2_INCOMPAT_DATA_FILE    (1ull << 2)
#define QCOW2_INCOMPAT_COMPRESSION  (1ull << 3)
#define QCOW2_INCOMPAT_EXTENDED_L2  (1ull << 4)
#define QCOW2_INCOMPAT_KNOWN        0x1full
#define QCOW2_COMPAT_LAZY_REFCOUNTS (1ull << 0)
#define QCOW2_AUTOCLEAR_BITMAPS     (1ull << 0)
#define QCOW2_AUTOCLEAR_RAW_DATA    (1ull << 1)

struct qcow2_header {
    uint32_t version;
    uint64_t virtual_size_bytes;
    unsigned cluster_bits;
    uint32_t crypt_method; /* 0 none, 1 AES, 2 LUKS */
    uint32_t l1_entries;
    uint64_t l1_offset;
    uint64_t refcount_table_offset;
    uint32_t refcount_table_clusters;
    uint32_t n_snapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible, compatible, autoclear; /* QCOW2_* bits; 0 in version 2 */
    uint32_t refcount_order;
    uint32_t header_bytes;
    unsigned compression_type; /* 0 deflate, 1 zstd */
    bool has_backing;
    /* Views of the parsed head, empty when absent. */
    struct slice backing_name, backing_format, data_file_name;
    uint32_t n_bitmaps;
};

/* Whether head begins with the magic of qcow2 (or its ancestor qcow, version 1). */
bool qcow2_is_magic(struct slice head);

/*
 * Parses the header; head is the first min(QCOW2_HEAD_BYTES, file size) bytes and must outlive the
 * views in ret. INVAL: not qcow2. UNSUPPORTED: qcow version 1 or an unknown version or compression.
 * CORRUPT: contradicts itself, or its tables end behind file_bytes (a truncated file). A file that
 * passes may still lack data clusters: only its digest tells.
 */
int qcow2_parse(struct slice head, uint64_t file_bytes, struct qcow2_header *ret,
                struct larder_error *e);
