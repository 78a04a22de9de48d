/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VHDX: the region table says where the metadata are, their table says where each item is. Only the
 * first of the two region tables is read, as QEMU does: both must agree, and a reader that took the
 * second would see another disk than the guest.
 */
#include "image/format/vhdx.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "image/format/endian.h"

#define REGION_TABLE_OFFSET (192 * 1024)
/* Both tables are of this size, and begin with their header. */
#define TABLE_BYTES       (64 * 1024)
#define REGION_HEAD_BYTES 16
#define ITEM_HEAD_BYTES   32
#define ENTRY_BYTES       32
#define ENTRIES_MAX       2047
/* Every item of interest has 8 bytes. */
#define ITEM_BYTES 8
/* Second word of the file parameters. */
#define HAS_PARENT 2u

/* GUIDs as they are in the file: the first three numbers little-endian. */
static const struct slice metadata_region =
    SLICE_INIT("\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e");
static const struct slice file_parameters =
    SLICE_INIT("\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b");
static const struct slice virtual_disk_size =
    SLICE_INIT("\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8");

static int damaged(struct larder_error *e, const char *what)
{
    return error_set(e, LARDER_CORRUPT, "vhdx image: %s", what);
}

static int read_at(int fd, char *data, size_t n, uint64_t offset, uint64_t file_bytes,
                   const char *what, struct larder_error *e)
{
    if (offset > file_bytes || n > file_bytes - offset)
        return error_set(e, LARDER_CORRUPT,
                         "vhdx image: %s at %" PRIu64 " ends behind the file's %" PRIu64
                         " bytes (truncated)",
                         what, offset, file_bytes);
    ssize_t got = fd_pread_full(fd, data, n, offset);
    if (got < 0)
        return error_errno(e, errno, "vhdx image: %s", what);
    return (size_t)got == n ? 0 : damaged(e, "cut short while it was read");
}

/* The entry of that GUID in a table whose entries begin at head_bytes; empty when it has none. */
static struct slice find_entry(struct slice table, size_t head_bytes, uint64_t count,
                               struct slice guid)
{
    for (size_t i = 0; i < count; i++) {
        size_t offset = head_bytes + i * ENTRY_BYTES;
        if (offset + ENTRY_BYTES > table.n)
            break;
        if (memcmp(table.p + offset, guid.p, guid.n) == 0)
            return (struct slice){table.p + offset, ENTRY_BYTES};
    }
    return (struct slice){NULL, 0};
}

/* Where the metadata are. */
static int find_metadata(int fd, char *buffer, uint64_t file_bytes, uint64_t *ret_offset,
                         uint64_t *ret_bytes, struct larder_error *e)
{
    struct slice table = {buffer, TABLE_BYTES};
    int r =
        read_at(fd, buffer, TABLE_BYTES, REGION_TABLE_OFFSET, file_bytes, "its region table", e);
    if (r < 0)
        return r;
    uint64_t count = endian_le(table, 8, 4);
    if (!slice_starts(table, SLICE_LIT("regi")) || count > ENTRIES_MAX)
        return damaged(e, "its region table is damaged");
    struct slice entry = find_entry(table, REGION_HEAD_BYTES, count, metadata_region);
    if (entry.n == 0)
        return damaged(e, "no metadata in its region table");
    *ret_offset = endian_le(entry, 16, 8);
    *ret_bytes = endian_le(entry, 24, 4);
    if (*ret_bytes < TABLE_BYTES)
        return damaged(e, "its metadata are shorter than their table");
    return 0;
}

int vhdx_read(int fd, uint64_t file_bytes, struct vhdx_info *ret, struct larder_error *e)
{
    static const struct slice *const wanted[] = {&file_parameters, &virtual_disk_size};
    char items[ARRAY_LEN(wanted)][ITEM_BYTES] = {{0}};
    uint64_t offset = 0, bytes = 0;
    CLEANUP_FREE char *buffer = calloc(1, TABLE_BYTES);
    if (!buffer)
        return error_nomem(e);
    int r = find_metadata(fd, buffer, file_bytes, &offset, &bytes, e);
    if (r == 0)
        r = read_at(fd, buffer, TABLE_BYTES, offset, file_bytes, "its metadata table", e);
    if (r < 0)
        return r;
    struct slice table = {buffer, TABLE_BYTES};
    uint64_t count = endian_le(table, 10, 2);
    if (!slice_starts(table, SLICE_LIT("metadata")) || count > ENTRIES_MAX)
        return damaged(e, "its metadata table is damaged");
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        struct slice entry = find_entry(table, ITEM_HEAD_BYTES, count, *wanted[i]);
        uint64_t at = endian_le(entry, 16, 4);
        if (entry.n == 0 || at > bytes - ITEM_BYTES)
            return damaged(e, "its metadata lack the size or the kind of the disk");
        /* Cannot wrap: the table at offset lies in the file, and at is of 32 bits. */
        r = read_at(fd, items[i], ITEM_BYTES, offset + at, file_bytes, "a metadata item", e);
        if (r < 0)
            return r;
    }
    if (endian_le32((struct slice){items[0], ITEM_BYTES}, 4) & HAS_PARENT)
        return error_set(e, LARDER_UNSAFE, "vhdx image is a difference to another file");
    ret->virtual_bytes = endian_le((struct slice){items[1], ITEM_BYTES}, 0, 8);
    return 0;
}
