/* SPDX-License-Identifier: Apache-2.0 */
#include "image/format/safety.h"

#include <inttypes.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"
#include "image/format/endian.h"

#define SECTOR_BYTES 512
/* How much of a file name from the image is shown in a message. */
#define SHOWN_NAME_BYTES 128

#define MBR_PARTITIONS        4
#define MBR_TABLE_OFFSET      446
#define MBR_ENTRY_BYTES       16
#define MBR_TYPE_PROTECTIVE   0xee
#define VHD_TYPE_DIFFERENCING 4
#define VDI_TYPE_DYNAMIC      1
#define VDI_TYPE_FIXED        2

static int unsafe(struct larder_error *e, const char *reason)
{
    return error_set(e, LARDER_UNSAFE, "%s", reason);
}

/* The name comes from the image: it may hold escape sequences. */
static int unsafe_name(struct larder_error *e, const char *reason, struct slice name)
{
    struct buf shown = BUF_INIT(4 * SHOWN_NAME_BYTES);

    if (name.n > SHOWN_NAME_BYTES)
        name.n = SHOWN_NAME_BYTES;
    text_sanitize(name, &shown);
    int r = error_set(e, LARDER_UNSAFE, "%s \"%s\"", reason, shown.p ? shown.p : "");
    buf_done(&shown);
    return r;
}

static int check_qcow2(const struct qcow2_header *h, unsigned flags, unsigned *warnings,
                       struct larder_error *e)
{
    uint64_t unknown = h->incompatible & ~QCOW2_INCOMPAT_KNOWN;

    if (h->incompatible & QCOW2_INCOMPAT_DATA_FILE || h->data_file_name.n > 0) {
        unsafe_name(e, "qcow2 image keeps its data in another file,", h->data_file_name);
        return error_hint(e, "make a self-contained image with `qemu-img convert`");
    }
    if (unknown)
        return error_set(e, LARDER_UNSAFE,
                         "qcow2 image has unknown incompatible features 0x%" PRIx64, unknown);
    if (h->incompatible & QCOW2_INCOMPAT_CORRUPT) {
        unsafe(e, "qcow2 image is marked corrupt by the program that wrote it");
        return error_hint(e, "repair its source with `qemu-img check -r all`");
    }
    if (h->incompatible & QCOW2_INCOMPAT_DIRTY) {
        unsafe(e, "qcow2 image is marked dirty: its writer died or is still running");
        return error_hint(e, "repair its source with `qemu-img check -r all`");
    }
    if (h->has_backing && !(flags & SAFETY_ALLOW_BACKING)) {
        unsafe_name(e, "qcow2 image needs another file, its backing file", h->backing_name);
        return error_hint(e, "flatten it with `qemu-img convert`, or pass --allow-backing");
    }
    if (h->autoclear & QCOW2_AUTOCLEAR_BITMAPS || h->n_bitmaps > 0)
        *warnings |= SAFETY_WARN_BITMAPS;
    if (h->crypt_method != 0)
        *warnings |= SAFETY_WARN_ENCRYPTED;
    if (h->n_snapshots > 0)
        *warnings |= SAFETY_WARN_SNAPSHOTS;
    return 0;
}

static int check_vhd(const struct format_probe *p, struct larder_error *e)
{
    struct slice footer = p->head;

    if (!slice_starts(footer, SLICE_LIT("conectix")) && p->tail.n >= SECTOR_BYTES)
        footer = (struct slice){p->tail.p + (p->tail.n - SECTOR_BYTES), SECTOR_BYTES};
    if (footer.n < SECTOR_BYTES)
        return unsafe(e, "vhd image is shorter than its footer");
    if (endian_be32(footer, 60) == VHD_TYPE_DIFFERENCING)
        return unsafe(e, "vhd image is a difference to another file");
    return 0;
}

static int check_vdi(const struct format_probe *p, struct larder_error *e)
{
    uint32_t type = endian_le32(p->head, 76);

    if (type == VDI_TYPE_DYNAMIC || type == VDI_TYPE_FIXED)
        return 0;
    return error_set(e, LARDER_UNSAFE,
                     "vdi image of type %" PRIu32 " is a difference to another file", type);
}

static bool has_gpt(const struct format_probe *p)
{
    static const struct slice magic = SLICE_INIT("EFI PART");
    static const size_t sectors[] = {512, 4096};

    for (size_t i = 0; i < ARRAY_LEN(sectors); i++) {
        if (p->head.n >= sectors[i] + magic.n &&
            memcmp(p->head.p + sectors[i], magic.p, magic.n) == 0)
            return true;
    }
    return false;
}

/*
 * A protective MBR that protects nothing, or begins elsewhere, shows different disks to different
 * readers. A plain MBR is not judged: boot code fills the same bytes in many ways.
 */
static int check_mbr(const struct format_probe *p, unsigned *warnings, struct larder_error *e)
{
    bool has_protective = false, has_others = false, has_bad_flag = false, is_misplaced = false;

    if (p->head.n < SECTOR_BYTES || endian_be(p->head, 510, 2) != 0x55aa)
        return 0;
    for (size_t i = 0; i < MBR_PARTITIONS; i++) {
        size_t entry = MBR_TABLE_OFFSET + i * MBR_ENTRY_BYTES;
        uint64_t flag = endian_be(p->head, entry, 1);
        uint64_t type = endian_be(p->head, entry + 4, 1);
        has_bad_flag = has_bad_flag || (flag != 0 && flag != 0x80);
        if (type == MBR_TYPE_PROTECTIVE) {
            is_misplaced = is_misplaced || has_protective || endian_le32(p->head, entry + 8) != 1;
            has_protective = true;
        } else if (type != 0) {
            has_others = true;
        }
    }
    if (!has_protective)
        return 0;
    if (!has_gpt(p))
        return unsafe(e, "raw image has a protective MBR but no GPT");
    if (has_bad_flag || is_misplaced)
        return unsafe(e, "raw image has a protective MBR that contradicts its GPT");
    if (has_others)
        *warnings |= SAFETY_WARN_HYBRID_MBR;
    return 0;
}

static int check_format(const struct format_probe *p, unsigned flags, unsigned *warnings,
                        struct larder_error *e)
{
    switch (p->format) {
    case IMAGE_FORMAT_QCOW2:
        return check_qcow2(&p->qcow2, flags, warnings, e);
    case IMAGE_FORMAT_RAW:
        return check_mbr(p, warnings, e);
    case IMAGE_FORMAT_VMDK:
        return safety_check_vmdk(p, e);
    case IMAGE_FORMAT_VHD:
        return check_vhd(p, e);
    case IMAGE_FORMAT_VDI:
        return check_vdi(p, e);
    case IMAGE_FORMAT_LUKS:
        *warnings |= SAFETY_WARN_ENCRYPTED;
        return 0;
    case IMAGE_FORMAT_QCOW1:
        unsafe(e, "image is in the first qcow format, which nothing writes any more");
        return error_hint(e, "convert it with `qemu-img convert -O qcow2`");
    case IMAGE_FORMAT_QED:
        unsafe(e, "image is in qed format, which may name other files and is abandoned");
        return error_hint(e, "convert it with `qemu-img convert -O qcow2`");
    case IMAGE_FORMAT_HTML:
        unsafe(e, "is an HTML or XML page, not an image");
        return error_hint(e, "is the address right? servers send error pages like this");
    case IMAGE_FORMAT_TEXT:
        unsafe(e, "is plain text, not an image");
        return error_hint(e, "is the address right? servers send error messages like this");
    case IMAGE_FORMAT_EMPTY:
        return unsafe(e, "is empty, not an image");
    case IMAGE_FORMAT_UNKNOWN:
    case IMAGE_FORMAT_MAX:
        return unsafe(e, "is shorter than a disk's sector, not an image");
    case IMAGE_FORMAT_VHDX: /* judged by its metadata: vhdx.h */
    case IMAGE_FORMAT_ISO:
    case IMAGE_FORMAT_GZIP:
    case IMAGE_FORMAT_XZ:
    case IMAGE_FORMAT_ZSTD:
    case IMAGE_FORMAT_BZIP2:
    case IMAGE_FORMAT_LZ4:
        return 0;
    }
    return 0;
}

int safety_check(const struct format_probe *probe, unsigned flags, unsigned *ret_warnings,
                 struct larder_error *e)
{
    unsigned warnings = 0;
    int r = check_format(probe, flags, &warnings, e);

    if (r < 0)
        return r;
    if (ret_warnings)
        *ret_warnings = warnings;
    return 0;
}

const char *safety_warning_text(enum safety_warning warning)
{
    switch (warning) {
    case SAFETY_WARN_BITMAPS:
        return "holds persistent bitmaps, which QEMU changes when it opens the image for writing";
    case SAFETY_WARN_ENCRYPTED:
        return "is encrypted";
    case SAFETY_WARN_SNAPSHOTS:
        return "holds internal snapshots";
    case SAFETY_WARN_HYBRID_MBR:
        return "has both an MBR and a GPT partition table";
    }
    return "unknown warning";
}
