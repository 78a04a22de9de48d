/* SPDX-License-Identifier: Apache-2.0 */
#include "image/format/qcow2.h"

#include <inttypes.h>

#include "base/error.h"
#include "image/format/endian.h"

#define V2_HEADER_BYTES 72
#define V3_HEADER_BYTES 104

#define CLUSTER_BITS_MIN          9
#define CLUSTER_BITS_MAX          21
#define CLUSTER_BITS_MIN_EXTENDED 14 /* 32 subclusters of 512 bytes */
#define REFCOUNT_ORDER_MAX        6  /* 64-bit counts */

/* Limits of QEMU's own reader: what it refuses to open is of no use to anybody. */
#define L1_BYTES_MAX             (32ull * 1024 * 1024)
#define REFCOUNT_TABLE_BYTES_MAX (8ull * 1024 * 1024)
#define SNAPSHOTS_MAX            65536
#define SNAPSHOT_BYTES_MIN       40 /* fixed part of one snapshot's header */
#define VIRTUAL_BYTES_MAX        ((uint64_t)INT64_MAX)

#define EXT_END            0x00000000u
#define EXT_BACKING_FORMAT 0xe2792acau
#define EXT_DATA_FILE      0x44415441u
#define EXT_BITMAPS        0x23852875u
#define EXT_BITMAPS_BYTES  24

static int corrupt(struct larder_error *e, const char *what)
{
    return error_set(e, LARDER_CORRUPT, "qcow2 header: %s", what);
}

bool qcow2_is_magic(struct slice head)
{
    return slice_starts(head, SLICE_LIT("QFI\xfb"));
}

static uint64_t cluster_bytes(const struct qcow2_header *h)
{
    return 1ull << h->cluster_bits;
}

/* Whether [offset, offset + bytes) lies in a file of this length. */
static bool is_inside(uint64_t offset, uint64_t bytes, uint64_t file_bytes)
{
    return offset <= file_bytes && bytes <= file_bytes - offset;
}

static void read_fields(struct slice head, struct qcow2_header *h)
{
    h->cluster_bits = endian_be32(head, 20);
    h->virtual_size_bytes = endian_be(head, 24, 8);
    h->crypt_method = endian_be32(head, 32);
    h->l1_entries = endian_be32(head, 36);
    h->l1_offset = endian_be(head, 40, 8);
    h->refcount_table_offset = endian_be(head, 48, 8);
    h->refcount_table_clusters = endian_be32(head, 56);
    h->n_snapshots = endian_be32(head, 60);
    h->snapshots_offset = endian_be(head, 64, 8);
    h->refcount_order = 4;
    h->header_bytes = V2_HEADER_BYTES;
    if (h->version == 2)
        return;
    h->incompatible = endian_be(head, 72, 8);
    h->compatible = endian_be(head, 80, 8);
    h->autoclear = endian_be(head, 88, 8);
    h->refcount_order = endian_be32(head, 96);
    h->header_bytes = endian_be32(head, 100);
    if (h->header_bytes > V3_HEADER_BYTES)
        h->compression_type = (unsigned)endian_be(head, 104, 1);
}

static int check_fields(const struct qcow2_header *h, size_t head_bytes, struct larder_error *e)
{
    unsigned min_bits = (h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2) ? CLUSTER_BITS_MIN_EXTENDED
                                                                       : CLUSTER_BITS_MIN;

    if (h->cluster_bits < min_bits || h->cluster_bits > CLUSTER_BITS_MAX)
        return error_set(e, LARDER_CORRUPT, "qcow2 header: cluster bits %u, expected %u to %d",
                         h->cluster_bits, min_bits, CLUSTER_BITS_MAX);
    if (h->virtual_size_bytes > VIRTUAL_BYTES_MAX)
        return corrupt(e, "virtual size is larger than any file can be");
    if (h->crypt_method > 2)
        return error_set(e, LARDER_UNSUPPORTED, "qcow2 header: unknown encryption method %" PRIu32,
                         h->crypt_method);
    if (h->refcount_order > REFCOUNT_ORDER_MAX)
        return corrupt(e, "refcounts wider than 64 bits");
    if (h->version == 3 && (h->header_bytes < V3_HEADER_BYTES || h->header_bytes % 8 != 0 ||
                            h->header_bytes > cluster_bytes(h)))
        return error_set(e, LARDER_CORRUPT, "qcow2 header: claims to be %" PRIu32 " bytes long",
                         h->header_bytes);
    if (h->header_bytes > head_bytes)
        return corrupt(e, "the file ends inside it (truncated)");
    if (((h->incompatible & QCOW2_INCOMPAT_COMPRESSION) != 0) != (h->compression_type != 0))
        return corrupt(e, "compression type and its feature bit disagree");
    if (h->compression_type > 1)
        return error_set(e, LARDER_UNSUPPORTED, "qcow2 header: unknown compression type %u",
                         h->compression_type);
    return 0;
}

static int check_table(const char *what, const struct qcow2_header *h, uint64_t offset,
                       uint64_t bytes, uint64_t file_bytes, struct larder_error *e)
{
    if (offset % cluster_bytes(h) != 0)
        return error_set(e, LARDER_CORRUPT, "qcow2 header: %s not at a cluster boundary", what);
    if (bytes > 0 && offset == 0)
        return error_set(e, LARDER_CORRUPT, "qcow2 header: %s lies over the header", what);
    if (!is_inside(offset, bytes, file_bytes))
        return error_set(e, LARDER_CORRUPT,
                         "qcow2 header: %s of %" PRIu64 " bytes at %" PRIu64
                         " ends behind the file's %" PRIu64 " bytes (truncated)",
                         what, bytes, offset, file_bytes);
    return 0;
}

/* Entries that map the whole virtual size; the arithmetic can't overflow with checked fields. */
static uint64_t l1_entries_needed(const struct qcow2_header *h)
{
    unsigned entry_shift = (h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2) ? 4 : 3;
    unsigned shift = h->cluster_bits + (h->cluster_bits - entry_shift);
    uint64_t whole = h->virtual_size_bytes >> shift;

    return whole + ((h->virtual_size_bytes & ((1ull << shift) - 1)) != 0);
}

static int check_tables(const struct qcow2_header *h, uint64_t file_bytes, struct larder_error *e)
{
    uint64_t l1_bytes = 8ull * h->l1_entries;
    uint64_t refcount_bytes = (uint64_t)h->refcount_table_clusters << h->cluster_bits;

    if (l1_bytes > L1_BYTES_MAX)
        return corrupt(e, "the level 1 table is larger than 32 MiB");
    if (h->l1_entries < l1_entries_needed(h))
        return corrupt(e, "the level 1 table is too small for the virtual size");
    int r = check_table("the level 1 table", h, h->l1_offset, l1_bytes, file_bytes, e);
    if (r < 0)
        return r;
    if (refcount_bytes == 0)
        return corrupt(e, "no refcount table");
    if (refcount_bytes > REFCOUNT_TABLE_BYTES_MAX)
        return corrupt(e, "the refcount table is larger than 8 MiB");
    r = check_table("the refcount table", h, h->refcount_table_offset, refcount_bytes, file_bytes,
                    e);
    if (r < 0 || h->n_snapshots == 0)
        return r;
    if (h->n_snapshots > SNAPSHOTS_MAX)
        return corrupt(e, "more than 65536 snapshots");
    return check_table("the snapshot table", h, h->snapshots_offset,
                       (uint64_t)h->n_snapshots * SNAPSHOT_BYTES_MIN, file_bytes, e);
}

static int take_extension(uint32_t type, struct slice data, struct qcow2_header *h,
                          struct larder_error *e)
{
    switch (type) {
    case EXT_BACKING_FORMAT:
        h->backing_format = data;
        break;
    case EXT_DATA_FILE:
        h->data_file_name = data;
        break;
    case EXT_BITMAPS:
        if (data.n != EXT_BITMAPS_BYTES)
            return corrupt(e, "the bitmaps extension has a wrong length");
        h->n_bitmaps = endian_be32(data, 0);
        break;
    default:
        break; /* the feature name table, the LUKS pointer, and what the future brings */
    }
    return 0;
}

/* Where header extensions must end: the backing name, else the first cluster; never behind head. */
static uint64_t extensions_end(const struct qcow2_header *h, uint64_t backing_offset,
                               size_t head_bytes)
{
    uint64_t end = backing_offset ? backing_offset : cluster_bytes(h);

    return end < head_bytes ? end : head_bytes;
}

static int read_extensions(struct slice head, uint64_t backing_offset, struct qcow2_header *h,
                           struct larder_error *e)
{
    uint64_t end = extensions_end(h, backing_offset, head.n);
    uint64_t pos = h->header_bytes;

    /* pos <= end <= 64 KiB and lengths are 32 bits wide: nothing here can overflow. */
    while (pos <= end && end - pos >= 8) {
        uint32_t type = endian_be32(head, (size_t)pos);
        uint64_t bytes = endian_be32(head, (size_t)pos + 4);
        if (type == EXT_END)
            return 0;
        pos += 8;
        if (bytes > end - pos)
            return corrupt(e, "an extension ends behind the space for extensions");
        int r = take_extension(type, (struct slice){head.p + pos, (size_t)bytes}, h, e);
        if (r < 0)
            return r;
        pos += (bytes + 7) / 8 * 8;
    }
    return 0;
}

static int read_backing_name(struct slice head, uint64_t offset, uint64_t bytes,
                             struct qcow2_header *h, struct larder_error *e)
{
    if (offset == 0)
        return 0;
    h->has_backing = true;
    if (bytes > QCOW2_BACKING_NAME_BYTES_MAX)
        return corrupt(e, "the backing file's name is longer than 1023 bytes");
    if (offset < h->header_bytes || !is_inside(offset, bytes, cluster_bytes(h)))
        return corrupt(e, "the backing file's name is not inside the first cluster");
    if (!is_inside(offset, bytes, head.n))
        return corrupt(e, "the backing file's name is not in the first 64 KiB");
    h->backing_name = (struct slice){head.p + offset, (size_t)bytes};
    if (bytes > 0 && memchr(h->backing_name.p, '\0', (size_t)bytes))
        return corrupt(e, "the backing file's name contains a NUL byte");
    return 0;
}

int qcow2_parse(struct slice head, uint64_t file_bytes, struct qcow2_header *ret,
                struct larder_error *e)
{
    struct qcow2_header h = {.version = endian_be32(head, 4)};
    uint64_t backing_offset = endian_be(head, 8, 8);
    uint64_t backing_bytes = endian_be(head, 16, 4);

    if (!qcow2_is_magic(head))
        return error_set(e, LARDER_INVAL, "not a qcow2 image");
    if (head.n < V2_HEADER_BYTES)
        return corrupt(e, "the file ends inside it (truncated)");
    if (h.version != 2 && h.version != 3)
        return error_set(e, LARDER_UNSUPPORTED,
                         "qcow2 header: version %" PRIu32 ", expected 2 or 3", h.version);
    if (h.version == 3 && head.n < V3_HEADER_BYTES)
        return corrupt(e, "the file ends inside it (truncated)");
    read_fields(head, &h);
    int r = check_fields(&h, head.n, e);
    if (r >= 0)
        r = read_backing_name(head, backing_offset, backing_bytes, &h, e);
    if (r >= 0)
        r = read_extensions(head, backing_offset, &h, e);
    if (r >= 0)
        r = check_tables(&h, file_bytes, e);
    if (r < 0)
        return r;
    *ret = h;
    return 0;
}
