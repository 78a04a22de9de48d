/* SPDX-License-Identifier: Apache-2.0 */
#include "image/overlay_write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "image/format/qcow2.h"

#define CLUSTER_BITS       16
#define CLUSTER_BYTES      (1u << CLUSTER_BITS)
#define REFCOUNT_ORDER     4 /* 16 bits an entry */
#define HEADER_BYTES       104
#define EXT_BACKING_FORMAT 0xe2792acau
/* One L2 table maps CLUSTER_BYTES / 8 clusters. */
#define BYTES_PER_L1_ENTRY ((uint64_t)CLUSTER_BYTES / 8 * CLUSTER_BYTES)
/* QEMU's own limit for an L1 table. */
#define L1_BYTES_MAX (32ull * 1024 * 1024)
/* One refcount block of 16-bit entries covers this many clusters. */
#define REFCOUNTS_PER_BLOCK (CLUSTER_BYTES / 2)

static void put32(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(value >> (24 - 8 * i));
}

static void put64(unsigned char *at, uint64_t value)
{
    put32(at, (uint32_t)(value >> 32));
    put32(at + 4, (uint32_t)value);
}

/* Header cluster: fields, backing format extension, end marker, backing name. */
static void fill_header(unsigned char *h, const char *backing, const char *format,
                        uint64_t virtual_bytes, uint64_t l1_entries)
{
    size_t format_bytes = strlen(format);
    size_t name_at = HEADER_BYTES + 8 + ((format_bytes + 7) & ~(size_t)7) + 8;
    memcpy(h, "QFI\xfb", 4);
    put32(h + 4, 3);
    put64(h + 8, name_at);
    put32(h + 16, (uint32_t)strlen(backing));
    put32(h + 20, CLUSTER_BITS);
    put64(h + 24, virtual_bytes);
    put32(h + 36, (uint32_t)l1_entries);
    put64(h + 40, 3ull * CLUSTER_BYTES); /* L1 behind header, refcount table and block */
    put64(h + 48, 1ull * CLUSTER_BYTES);
    put32(h + 56, 1);
    put32(h + 96, REFCOUNT_ORDER);
    put32(h + 100, HEADER_BYTES);
    put32(h + HEADER_BYTES, EXT_BACKING_FORMAT);
    put32(h + HEADER_BYTES + 4, (uint32_t)format_bytes);
    memcpy(h + HEADER_BYTES + 8, format, format_bytes);
    memcpy(h + name_at, backing, strlen(backing));
}

int overlay_write(int fd, const char *backing, const char *backing_format, uint64_t virtual_bytes,
                  struct larder_error *e)
{
    CLEANUP_FREE unsigned char *meta = calloc(3, CLUSTER_BYTES);
    if (!meta)
        return error_nomem(e);
    if (strlen(backing) > QCOW2_BACKING_NAME_BYTES_MAX)
        return error_set(e, LARDER_INVAL,
                         "overlay: path of the base has %zu bytes, the format allows %d",
                         strlen(backing), QCOW2_BACKING_NAME_BYTES_MAX);
    if (virtual_bytes > UINT64_MAX - 511)
        return error_set(e, LARDER_LIMIT, "overlay: size too large");
    virtual_bytes = (virtual_bytes + 511) & ~511ull;
    uint64_t l1_entries =
        virtual_bytes / BYTES_PER_L1_ENTRY + (virtual_bytes % BYTES_PER_L1_ENTRY != 0);
    uint64_t l1_clusters = (l1_entries * 8 + CLUSTER_BYTES - 1) / CLUSTER_BYTES;
    if (l1_entries * 8 > L1_BYTES_MAX || 3 + l1_clusters > REFCOUNTS_PER_BLOCK)
        return error_set(e, LARDER_LIMIT, "overlay: %llu bytes are more than the format can map",
                         (unsigned long long)virtual_bytes);
    fill_header(meta, backing, backing_format, virtual_bytes, l1_entries);
    put64(meta + CLUSTER_BYTES, 2ull * CLUSTER_BYTES);
    for (uint64_t i = 0; i < 3 + l1_clusters; i++)
        meta[2 * CLUSTER_BYTES + 2 * i + 1] = 1;
    if (fd_pwrite_full(fd, meta, (size_t)3 * CLUSTER_BYTES, 0) < 0 ||
        ftruncate(fd, (off_t)((3 + l1_clusters) * CLUSTER_BYTES)) < 0)
        return error_errno(e, errno, "overlay");
    return 0;
}
