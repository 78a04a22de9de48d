/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMDK: only the two kinds that keep everything in one file are let in, and only when the embedded
 * descriptor, the header and (streamOptimized) the footer tell one story.
 */
#include <inttypes.h>

#include "base/error.h"
#include "base/mem.h"
#include "image/format/endian.h"
#include "image/format/safety.h"

#define SECTOR_BYTES 512
/* Fields of the sparse header, little-endian. */
#define OFF_VERSION           4
#define OFF_CAPACITY          12
#define OFF_DESCRIPTOR        28
#define OFF_DESCRIPTOR_LENGTH 36
#define OFF_GRAIN_DIRECTORY   56
#define HEADER_BYTES          77
/* "The real grain directory is in the footer." */
#define GRAIN_DIRECTORY_AT_END UINT64_MAX
/* Footer: marker sector, header copy, end-of-stream sector. */
#define FOOTER_FROM_END_BYTES 1024
#define VERSION_MAX           3

static int unsafe(struct larder_error *e, const char *reason)
{
    error_set(e, LARDER_UNSAFE, "vmdk image %s", reason);
    return error_hint(e, "convert its source with `qemu-img convert -O qcow2`");
}

/* Value of `key = "value"` when line has this key; blanks around '=' and quotes are optional. */
static bool key_value(struct slice line, struct slice key, struct slice *ret)
{
    if (line.n < key.n || !slice_equal_nocase((struct slice){line.p, key.n}, key))
        return false;
    struct slice v = slice_trim((struct slice){line.p + key.n, line.n - key.n});
    if (v.n == 0 || v.p[0] != '=')
        return false;
    v = slice_trim((struct slice){v.p + 1, v.n - 1});
    if (v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"')
        v = (struct slice){v.p + 1, v.n - 2};
    *ret = v;
    return true;
}

/* RW 4192256 SPARSE "x.vmdk" */
static bool is_extent(struct slice line)
{
    static const struct slice access[] = {SLICE_INIT("RW"), SLICE_INIT("RDONLY"),
                                          SLICE_INIT("NOACCESS")};

    for (size_t i = 0; i < ARRAY_LEN(access); i++) {
        size_t n = access[i].n;
        if (line.n > n && slice_equal_nocase((struct slice){line.p, n}, access[i]) &&
            (line.p[n] == ' ' || line.p[n] == '\t'))
            return true;
    }
    return false;
}

struct descriptor {
    bool is_one_file; /* createType is one of the two */
    size_t n_extents;
};

static int check_line(struct slice line, struct descriptor *d, struct larder_error *e)
{
    struct slice value;

    if (key_value(line, SLICE_LIT("createType"), &value)) {
        if (!slice_equal_nocase(value, SLICE_LIT("monolithicSparse")) &&
            !slice_equal_nocase(value, SLICE_LIT("streamOptimized")))
            return unsafe(e, "is of a type that keeps its data in other files");
        d->is_one_file = true;
    } else if (key_value(line, SLICE_LIT("parentCID"), &value)) {
        if (!slice_equal_nocase(value, SLICE_LIT("ffffffff")))
            return unsafe(e, "is a difference to another file");
    } else if (key_value(line, SLICE_LIT("parentFileNameHint"), &value)) {
        return unsafe(e, "names a parent file");
    } else if (is_extent(line)) {
        d->n_extents++;
        if (memchr(line.p, '/', line.n) || memchr(line.p, '\\', line.n))
            return unsafe(e, "has an extent in another directory");
    }
    return 0;
}

static int check_descriptor(struct slice text, struct larder_error *e)
{
    struct descriptor d = {false, 0};
    struct slice line;
    const char *nul = text.n > 0 ? memchr(text.p, '\0', text.n) : NULL;

    if (nul)
        text.n = (size_t)(nul - text.p);
    if (!slice_starts(text, SLICE_LIT("# Disk DescriptorFile")))
        return unsafe(e, "has no descriptor");
    while (slice_next_line(&text, &line)) {
        int r = check_line(slice_trim(line), &d, e);
        if (r < 0)
            return r;
    }
    if (!d.is_one_file)
        return unsafe(e, "does not say of which type it is");
    if (d.n_extents != 1)
        return unsafe(e, "has more or fewer extents than the one it is");
    return 0;
}

/* Readers that seek to the end first must see the same disk and descriptor as those that don't. */
static int check_footer(const struct format_probe *p, struct larder_error *e)
{
    static const struct {
        size_t offset, width;
    } same[] = {
        {OFF_VERSION, 4}, {OFF_CAPACITY, 8}, {OFF_DESCRIPTOR, 8}, {OFF_DESCRIPTOR_LENGTH, 8}};
    struct slice footer;

    if (endian_le(p->head, OFF_GRAIN_DIRECTORY, 8) != GRAIN_DIRECTORY_AT_END)
        return 0;
    if (p->tail.n < FOOTER_FROM_END_BYTES)
        return unsafe(e, "is shorter than its footer");
    footer = (struct slice){p->tail.p + (p->tail.n - FOOTER_FROM_END_BYTES), SECTOR_BYTES};
    if (!slice_starts(footer, SLICE_LIT("KDMV")) ||
        endian_le(footer, OFF_GRAIN_DIRECTORY, 8) == GRAIN_DIRECTORY_AT_END)
        return unsafe(e, "has no footer where its header says (truncated)");
    for (size_t i = 0; i < ARRAY_LEN(same); i++) {
        if (endian_le(footer, same[i].offset, same[i].width) !=
            endian_le(p->head, same[i].offset, same[i].width))
            return unsafe(e, "has a header and a footer that contradict each other");
    }
    return 0;
}

int safety_check_vmdk(const struct format_probe *probe, struct larder_error *e)
{
    struct slice head = probe->head;

    if (!slice_starts(head, SLICE_LIT("KDMV")))
        return unsafe(e, "keeps its data in other files");
    if (head.n < HEADER_BYTES)
        return unsafe(e, "is shorter than its header");
    uint32_t version = endian_le32(head, OFF_VERSION);
    if (version < 1 || version > VERSION_MAX)
        return error_set(e, LARDER_UNSAFE, "vmdk image of unknown version %" PRIu32, version);
    uint64_t offset = endian_le(head, OFF_DESCRIPTOR, 8);
    uint64_t length = endian_le(head, OFF_DESCRIPTOR_LENGTH, 8);
    uint64_t sectors = head.n / SECTOR_BYTES;
    if (offset == 0 || length == 0)
        return unsafe(e, "has no descriptor");
    if (offset > sectors || length > sectors - offset)
        return unsafe(e, "has its descriptor behind the first 64 KiB");
    int r = check_descriptor(
        (struct slice){head.p + offset * SECTOR_BYTES, (size_t)(length * SECTOR_BYTES)}, e);
    return r < 0 ? r : check_footer(probe, e);
}
