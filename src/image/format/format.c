/* SPDX-License-Identifier: Apache-2.0 */
#include "image/format/format.h"

#include "base/error.h"
#include "base/mem.h"
#include "image/format/endian.h"

#define SECTOR_BYTES 512

static const struct {
    const char *name;
    bool is_image, is_compressed, is_error_page;
} formats[] = {
    [IMAGE_FORMAT_UNKNOWN] = {"unknown", false, false, false},
    [IMAGE_FORMAT_RAW] = {"raw", true, false, false},
    [IMAGE_FORMAT_QCOW2] = {"qcow2", true, false, false},
    [IMAGE_FORMAT_QCOW1] = {"qcow1", true, false, false},
    [IMAGE_FORMAT_QED] = {"qed", true, false, false},
    [IMAGE_FORMAT_VMDK] = {"vmdk", true, false, false},
    [IMAGE_FORMAT_VHD] = {"vhd", true, false, false},
    [IMAGE_FORMAT_VHDX] = {"vhdx", true, false, false},
    [IMAGE_FORMAT_VDI] = {"vdi", true, false, false},
    [IMAGE_FORMAT_ISO] = {"iso", true, false, false},
    [IMAGE_FORMAT_LUKS] = {"luks", true, false, false},
    [IMAGE_FORMAT_GZIP] = {"gzip", false, true, false},
    [IMAGE_FORMAT_XZ] = {"xz", false, true, false},
    [IMAGE_FORMAT_ZSTD] = {"zstd", false, true, false},
    [IMAGE_FORMAT_BZIP2] = {"bzip2", false, true, false},
    [IMAGE_FORMAT_LZ4] = {"lz4", false, true, false},
    [IMAGE_FORMAT_HTML] = {"html", false, false, true},
    [IMAGE_FORMAT_TEXT] = {"text", false, false, true},
    [IMAGE_FORMAT_EMPTY] = {"empty", false, false, false},
};
_Static_assert(ARRAY_LEN(formats) == IMAGE_FORMAT_MAX, "one row for each format");

/* Magics at a fixed offset, tried in order: what an ISO or a VHD begins with may be anything. */
static const struct {
    size_t offset;
    struct slice magic;
    enum image_format format;
} magics[] = {
    {0, SLICE_INIT("QED\0"), IMAGE_FORMAT_QED},
    {0, SLICE_INIT("KDMV"), IMAGE_FORMAT_VMDK},
    {0, SLICE_INIT("COWD"), IMAGE_FORMAT_VMDK},
    {0, SLICE_INIT("# Disk DescriptorFile"), IMAGE_FORMAT_VMDK},
    {0, SLICE_INIT("conectix"), IMAGE_FORMAT_VHD},
    {0, SLICE_INIT("vhdxfile"), IMAGE_FORMAT_VHDX},
    {64, SLICE_INIT("\x7f\x10\xda\xbe"), IMAGE_FORMAT_VDI},
    {0, SLICE_INIT("LUKS\xba\xbe"), IMAGE_FORMAT_LUKS},
    {0, SLICE_INIT("\x1f\x8b"), IMAGE_FORMAT_GZIP},
    {0,
     SLICE_INIT("\xfd"
                "7zXZ\0"),
     IMAGE_FORMAT_XZ},
    {0, SLICE_INIT("\x28\xb5\x2f\xfd"), IMAGE_FORMAT_ZSTD},
    {0, SLICE_INIT("BZh"), IMAGE_FORMAT_BZIP2},
    {0, SLICE_INIT("\x04\x22\x4d\x18"), IMAGE_FORMAT_LZ4},
    {32769, SLICE_INIT("CD001"), IMAGE_FORMAT_ISO},
    /* UDF without ISO 9660 has its own volume recognition sequence. */
    {32769, SLICE_INIT("BEA01"), IMAGE_FORMAT_ISO},
    {32769, SLICE_INIT("NSR0"), IMAGE_FORMAT_ISO},
};

const char *format_name(enum image_format format)
{
    return formats[(unsigned)format < IMAGE_FORMAT_MAX ? format : IMAGE_FORMAT_UNKNOWN].name;
}

int format_parse(const char *name, enum image_format *ret, struct larder_error *e)
{
    static const struct {
        const char *name;
        enum image_format format;
    } aliases[] = {
        {"img", IMAGE_FORMAT_RAW}, {"vpc", IMAGE_FORMAT_VHD},  {"qcow", IMAGE_FORMAT_QCOW1},
        {"gz", IMAGE_FORMAT_GZIP}, {"zst", IMAGE_FORMAT_ZSTD}, {"bz2", IMAGE_FORMAT_BZIP2},
    };

    for (unsigned i = IMAGE_FORMAT_UNKNOWN + 1; i < IMAGE_FORMAT_MAX; i++) {
        if (strcmp(name, formats[i].name) == 0) {
            *ret = (enum image_format)i;
            return 0;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++) {
        if (strcmp(name, aliases[i].name) == 0) {
            *ret = aliases[i].format;
            return 0;
        }
    }
    return error_set(e, LARDER_INVAL, "image format \"%s\": unknown, expected raw, qcow2, ...",
                     name);
}

bool format_is_image(enum image_format format)
{
    return (unsigned)format < IMAGE_FORMAT_MAX && formats[format].is_image;
}

bool format_is_compressed(enum image_format format)
{
    return (unsigned)format < IMAGE_FORMAT_MAX && formats[format].is_compressed;
}

bool format_is_error_page(enum image_format format)
{
    return (unsigned)format < IMAGE_FORMAT_MAX && formats[format].is_error_page;
}

static bool has_magic(struct slice s, size_t offset, struct slice magic)
{
    return offset <= s.n && magic.n <= s.n - offset && memcmp(s.p + offset, magic.p, magic.n) == 0;
}

static struct slice skip_bom(struct slice s)
{
    return slice_starts(s, SLICE_LIT("\xef\xbb\xbf")) ? (struct slice){s.p + 3, s.n - 3} : s;
}

/* A page begins with '<' and the name of an element, or a declaration. */
static bool is_markup(struct slice head)
{
    static const struct slice begins[] = {
        SLICE_INIT("<!doctype"), SLICE_INIT("<html"), SLICE_INIT("<?xml"),   SLICE_INIT("<head"),
        SLICE_INIT("<body"),     SLICE_INIT("<!--"),  SLICE_INIT("<title"),  SLICE_INIT("<error"),
        SLICE_INIT("<script"),   SLICE_INIT("<meta"), SLICE_INIT("<center"),
    };
    struct slice s = slice_trim(skip_bom(head));

    for (size_t i = 0; i < ARRAY_LEN(begins); i++) {
        if (s.n >= begins[i].n && slice_equal_nocase((struct slice){s.p, begins[i].n}, begins[i]))
            return true;
    }
    return false;
}

/* Bytes of the UTF-8 sequence that begins here, 0 when it is none; overlong forms don't matter. */
static size_t utf8_bytes(unsigned char lead)
{
    if (lead >= 0xc2 && lead <= 0xdf)
        return 2;
    if (lead >= 0xe0 && lead <= 0xef)
        return 3;
    return lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
}

/* Only printable UTF-8 and blanks, as far as it was read (a sequence may be cut at the end). */
static bool is_text(struct slice head)
{
    for (size_t i = 0; i < head.n;) {
        unsigned char c = (unsigned char)head.p[i++];
        if (c == '\t' || c == '\n' || c == '\r' || c == '\f' || (c >= 0x20 && c < 0x7f))
            continue;
        size_t more = utf8_bytes(c);
        if (more == 0)
            return false;
        for (; more > 1 && i < head.n; more--) {
            if (((unsigned char)head.p[i++] & 0xc0) != 0x80)
                return false;
        }
    }
    return true;
}

enum image_format format_detect(struct slice head, struct slice tail, uint64_t file_bytes)
{
    if (file_bytes == 0 || head.n == 0)
        return IMAGE_FORMAT_EMPTY;
    if (qcow2_is_magic(head))
        return endian_be32(head, 4) == 1 ? IMAGE_FORMAT_QCOW1 : IMAGE_FORMAT_QCOW2;
    for (size_t i = 0; i < ARRAY_LEN(magics); i++) {
        if (has_magic(head, magics[i].offset, magics[i].magic))
            return magics[i].format;
    }
    if (is_markup(head))
        return IMAGE_FORMAT_HTML;
    if (is_text(head))
        return IMAGE_FORMAT_TEXT;
    if (tail.n >= SECTOR_BYTES && has_magic(tail, tail.n - SECTOR_BYTES, SLICE_LIT("conectix")))
        return IMAGE_FORMAT_VHD;
    return file_bytes < SECTOR_BYTES ? IMAGE_FORMAT_UNKNOWN : IMAGE_FORMAT_RAW;
}

static void set_virtual_size(struct format_probe *p, uint64_t units, uint64_t unit_bytes)
{
    p->has_virtual_size = !__builtin_mul_overflow(units, unit_bytes, &p->virtual_size_bytes);
    if (!p->has_virtual_size)
        p->virtual_size_bytes = 0;
}

/* In the header's own words; a field behind the bytes read leaves the size unknown. */
static void read_virtual_size(struct format_probe *p)
{
    struct slice head = p->head;
    struct slice footer = head;

    switch (p->format) {
    case IMAGE_FORMAT_RAW:
    case IMAGE_FORMAT_LUKS:
        set_virtual_size(p, p->file_bytes, 1);
        break;
    case IMAGE_FORMAT_QCOW2:
        set_virtual_size(p, p->qcow2.virtual_size_bytes, 1);
        break;
    case IMAGE_FORMAT_QCOW1:
        if (head.n >= 32)
            set_virtual_size(p, endian_be(head, 24, 8), 1);
        break;
    case IMAGE_FORMAT_QED:
        if (head.n >= 56)
            set_virtual_size(p, endian_le(head, 48, 8), 1);
        break;
    case IMAGE_FORMAT_VMDK:
        if (head.n >= 20 && head.p[0] == 'K')
            set_virtual_size(p, endian_le(head, 12, 8), SECTOR_BYTES);
        else if (head.n >= 16 && head.p[0] == 'C')
            set_virtual_size(p, endian_le(head, 12, 4), SECTOR_BYTES);
        break;
    case IMAGE_FORMAT_VHD:
        if (!slice_starts(head, SLICE_LIT("conectix")) && p->tail.n >= SECTOR_BYTES)
            footer = (struct slice){p->tail.p + (p->tail.n - SECTOR_BYTES), SECTOR_BYTES};
        if (footer.n >= 56)
            set_virtual_size(p, endian_be(footer, 48, 8), 1);
        break;
    case IMAGE_FORMAT_VDI:
        if (head.n >= 376)
            set_virtual_size(p, endian_le(head, 368, 8), 1);
        break;
    case IMAGE_FORMAT_ISO:
        set_virtual_size(p, p->file_bytes, 1);
        break;
    case IMAGE_FORMAT_VHDX: /* behind the bytes read: vhdx.h */
    case IMAGE_FORMAT_UNKNOWN:
    case IMAGE_FORMAT_GZIP:
    case IMAGE_FORMAT_XZ:
    case IMAGE_FORMAT_ZSTD:
    case IMAGE_FORMAT_BZIP2:
    case IMAGE_FORMAT_LZ4:
    case IMAGE_FORMAT_HTML:
    case IMAGE_FORMAT_TEXT:
    case IMAGE_FORMAT_EMPTY:
    case IMAGE_FORMAT_MAX:
        break;
    }
}

int format_probe(struct slice head, struct slice tail, uint64_t file_bytes,
                 struct format_probe *ret, struct larder_error *e)
{
    struct format_probe p = {
        .format = format_detect(head, tail, file_bytes),
        .file_bytes = file_bytes,
        .head = head,
        .tail = tail,
    };

    if (p.format == IMAGE_FORMAT_QCOW2) {
        int r = qcow2_parse(head, file_bytes, &p.qcow2, e);
        if (r < 0)
            return r;
    }
    read_virtual_size(&p);
    *ret = p;
    return 0;
}
