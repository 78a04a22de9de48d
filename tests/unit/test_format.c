/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "image/format/format.h"
#include "image_samples.h"

#define NOTHING \
    {           \
        NULL, 0 \
    }

/* A file of this many zero bytes with the magic at its place. */
static const struct {
    const char *what;
    size_t offset;
    struct slice magic;
    size_t file_bytes;
    enum image_format format;
} magics[] = {
    {"empty", 0, NOTHING, 0, IMAGE_FORMAT_EMPTY},
    {"zeros", 0, NOTHING, 65536, IMAGE_FORMAT_RAW},
    {"a sector", 0, NOTHING, 512, IMAGE_FORMAT_RAW},
    {"less than a sector", 0, NOTHING, 511, IMAGE_FORMAT_UNKNOWN},
    {"MBR", 510, SLICE_INIT("\x55\xaa"), 4096, IMAGE_FORMAT_RAW},
    {"GPT", 512, SLICE_INIT("EFI PART"), 4096, IMAGE_FORMAT_RAW},
    {"GPT of 4 KiB sectors", 4096, SLICE_INIT("EFI PART"), 8192, IMAGE_FORMAT_RAW},
    {"qcow", 0, SLICE_INIT("QFI\xfb\0\0\0\1"), 4096, IMAGE_FORMAT_QCOW1},
    {"qcow2", 0, SLICE_INIT("QFI\xfb\0\0\0\2"), 4096, IMAGE_FORMAT_QCOW2},
    {"qcow2 version 3", 0, SLICE_INIT("QFI\xfb\0\0\0\3"), 4096, IMAGE_FORMAT_QCOW2},
    {"qcow2 cut after the magic", 0, SLICE_INIT("QFI\xfb"), 4, IMAGE_FORMAT_QCOW2},
    {"QED", 0, SLICE_INIT("QED\0"), 4096, IMAGE_FORMAT_QED},
    {"VMDK", 0, SLICE_INIT("KDMV"), 4096, IMAGE_FORMAT_VMDK},
    {"VMDK of ESX", 0, SLICE_INIT("COWD"), 4096, IMAGE_FORMAT_VMDK},
    {"VMDK descriptor", 0, SLICE_INIT("# Disk DescriptorFile"), 21, IMAGE_FORMAT_VMDK},
    {"dynamic VHD", 0, SLICE_INIT("conectix"), 4096, IMAGE_FORMAT_VHD},
    {"fixed VHD", 3584, SLICE_INIT("conectix"), 4096, IMAGE_FORMAT_VHD},
    {"footer elsewhere", 3000, SLICE_INIT("conectix"), 4096, IMAGE_FORMAT_RAW},
    {"VHDX", 0, SLICE_INIT("vhdxfile"), 4096, IMAGE_FORMAT_VHDX},
    {"VDI", 64, SLICE_INIT("\x7f\x10\xda\xbe"), 4096, IMAGE_FORMAT_VDI},
    {"ISO", 32769, SLICE_INIT("CD001"), 40000, IMAGE_FORMAT_ISO},
    {"UDF", 32769, SLICE_INIT("BEA01"), 40000, IMAGE_FORMAT_ISO},
    {"UDF NSR", 32769, SLICE_INIT("NSR02"), 40000, IMAGE_FORMAT_ISO},
    {"LUKS", 0, SLICE_INIT("LUKS\xba\xbe"), 4096, IMAGE_FORMAT_LUKS},
    {"gzip", 0, SLICE_INIT("\x1f\x8b"), 20, IMAGE_FORMAT_GZIP},
    {"xz", 0, SLICE_INIT("\xfd\x37\x7a\x58\x5a\x00"), 32, IMAGE_FORMAT_XZ},
    {"zstd", 0, SLICE_INIT("\x28\xb5\x2f\xfd"), 13, IMAGE_FORMAT_ZSTD},
    {"bzip2", 0, SLICE_INIT("BZh9"), 14, IMAGE_FORMAT_BZIP2},
    {"lz4", 0, SLICE_INIT("\x04\x22\x4d\x18"), 15, IMAGE_FORMAT_LZ4},
    {"a magic's beginning", 0, SLICE_INIT("\xfd\x37\x7a"), 3, IMAGE_FORMAT_UNKNOWN},
};

static enum image_format detect(const unsigned char *file, size_t bytes)
{
    size_t head = bytes < FORMAT_HEAD_BYTES ? bytes : FORMAT_HEAD_BYTES;
    size_t tail = bytes < FORMAT_TAIL_BYTES ? bytes : FORMAT_TAIL_BYTES;

    return format_detect((struct slice){(const char *)file, head},
                         (struct slice){(const char *)file + (bytes - tail), tail}, bytes);
}

static void test_magics(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(magics); i++) {
        size_t bytes = magics[i].file_bytes;
        unsigned char *file = calloc(bytes + 1, 1);
        assert_non_null(file);
        if (magics[i].magic.n > 0)
            memcpy(file + magics[i].offset, magics[i].magic.p, magics[i].magic.n);
        enum image_format got = detect(file, bytes);
        free(file);
        if (got != magics[i].format)
            fail_msg("%s: %s", magics[i].what, format_name(got));
    }
}

static void test_texts(void **state)
{
    static const struct {
        const char *text;
        enum image_format format;
    } cases[] = {
        {"<!DOCTYPE html>\n<html>", IMAGE_FORMAT_HTML},
        {"<!doctype HTML>", IMAGE_FORMAT_HTML},
        {"\n\r\n  <html lang=en>", IMAGE_FORMAT_HTML},
        {"\xef\xbb\xbf<HTML>", IMAGE_FORMAT_HTML},
        {"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", IMAGE_FORMAT_HTML},
        {"<Error>", IMAGE_FORMAT_HTML},
        {"<html>\x01\x02 binary behind", IMAGE_FORMAT_HTML},
        {"{\"error\":\"not found\"}", IMAGE_FORMAT_TEXT},
        {"404 page not found\n", IMAGE_FORMAT_TEXT},
        {"<3", IMAGE_FORMAT_TEXT},
        {"Adgang nægtet – prøv igen\n", IMAGE_FORMAT_TEXT},
        {"cut in a sequence \xe2\x80", IMAGE_FORMAT_TEXT},
        {"caf\xe9 in latin-1", IMAGE_FORMAT_UNKNOWN},
        {"a stray \x80", IMAGE_FORMAT_UNKNOWN},
        {"\x7f", IMAGE_FORMAT_UNKNOWN},
        {"x\x1b[0m", IMAGE_FORMAT_UNKNOWN},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum image_format got = detect((const unsigned char *)cases[i].text, strlen(cases[i].text));
        if (got != cases[i].format)
            fail_msg("\"%s\": %s", cases[i].text, format_name(got));
        assert_int_equal(format_is_error_page(got),
                         got == IMAGE_FORMAT_HTML || got == IMAGE_FORMAT_TEXT);
    }
}

static void test_long_text(void **state)
{
    static char text[FORMAT_HEAD_BYTES];
    struct slice head = {text, sizeof(text)};
    (void)state;

    memset(text, 'x', sizeof(text));
    assert_int_equal(format_detect(head, (struct slice){NULL, 0}, 1 << 30), IMAGE_FORMAT_TEXT);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(format_detect(head, (struct slice){NULL, 0}, 1 << 30), IMAGE_FORMAT_RAW);
}

static void test_names(void **state)
{
    enum image_format format = IMAGE_FORMAT_RAW;
    (void)state;

    for (unsigned i = IMAGE_FORMAT_UNKNOWN + 1; i < IMAGE_FORMAT_MAX; i++) {
        assert_int_equal(format_parse(format_name((enum image_format)i), &format, NULL), 0);
        assert_int_equal(format, i);
    }
    assert_int_equal(format_parse("vpc", &format, NULL), 0);
    assert_int_equal(format, IMAGE_FORMAT_VHD);
    assert_int_equal(format_parse("unknown", &format, NULL), -LARDER_INVAL);
    assert_int_equal(format_parse("", &format, NULL), -LARDER_INVAL);
    assert_int_equal(format, IMAGE_FORMAT_VHD);
    assert_string_equal(format_name(IMAGE_FORMAT_MAX), "unknown");
    assert_false(format_is_image(IMAGE_FORMAT_MAX));
    assert_true(format_is_image(IMAGE_FORMAT_RAW));
    assert_false(format_is_image(IMAGE_FORMAT_GZIP));
    assert_true(format_is_compressed(IMAGE_FORMAT_GZIP));
    assert_false(format_is_compressed(IMAGE_FORMAT_QCOW2));
}

/* The virtual size as each header has it. */
static void test_virtual_size(void **state)
{
    static unsigned char file[SAMPLE_BYTES];
    static const struct {
        const char *magic;
        size_t magic_bytes, magic_offset, offset;
        uint64_t value, expect;
        unsigned width;
        bool is_little, has;
    } cases[] = {
        {"", 0, 0, 0, 0, SAMPLE_BYTES, 0, false, true},
        {"QFI\xfb\0\0\0\1", 8, 0, 24, 12345, 12345, 8, false, true},
        {"QED\0", 4, 0, 48, 12345, 12345, 8, true, true},
        {"KDMV", 4, 0, 12, 3, 1536, 8, true, true},
        {"KDMV", 4, 0, 12, UINT64_MAX, 0, 8, true, false},
        {"COWD", 4, 0, 12, 3, 1536, 4, true, true},
        {"conectix", 8, 0, 48, 12345, 12345, 8, false, true},
        {"conectix", 8, SAMPLE_BYTES - 512, SAMPLE_BYTES - 464, 12345, 12345, 8, false, true},
        {"\x7f\x10\xda\xbe", 4, 64, 368, 12345, 12345, 8, true, true},
        {"\x1f\x8b", 2, 0, 0, 0, 0, 0, false, false},
    };
    struct slice head = {(const char *)file, sizeof(file)};
    struct slice tail = {(const char *)file + sizeof(file) - FORMAT_TAIL_BYTES, FORMAT_TAIL_BYTES};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct format_probe p;
        memset(file, 0, sizeof(file));
        memcpy(file + cases[i].magic_offset, cases[i].magic, cases[i].magic_bytes);
        if (cases[i].is_little)
            put_le(file, cases[i].offset, cases[i].width, cases[i].value);
        else if (cases[i].width > 0)
            put_be(file, cases[i].offset, cases[i].width, cases[i].value);
        assert_int_equal(format_probe(head, tail, sizeof(file), &p, NULL), 0);
        if (p.has_virtual_size != cases[i].has || p.virtual_size_bytes != cases[i].expect)
            fail_msg("%zu: %s, %d, %llu", i, format_name(p.format), p.has_virtual_size,
                     (unsigned long long)p.virtual_size_bytes);
    }
}

#ifdef HAVE_QEMU_IMG
static void test_real(void **state)
{
    static const struct {
        const char *command;
        enum image_format format;
        bool has_virtual_size;
    } cases[] = {
        {"qemu-img create -f raw img 10M", IMAGE_FORMAT_RAW, true},
        {"qemu-img create -f qcow2 img 10M", IMAGE_FORMAT_QCOW2, true},
        {"qemu-img create -f qcow img 10M", IMAGE_FORMAT_QCOW1, true},
        {"qemu-img create -f qed img 10M", IMAGE_FORMAT_QED, true},
        {"qemu-img create -f vmdk img 10M", IMAGE_FORMAT_VMDK, true},
        {"qemu-img create -f vmdk -o subformat=streamOptimized img 10M", IMAGE_FORMAT_VMDK, true},
        {"qemu-img create -f vmdk -o subformat=monolithicFlat img 10M", IMAGE_FORMAT_VMDK, false},
        {"qemu-img create -f vpc -o force_size=on img 10M", IMAGE_FORMAT_VHD, true},
        {"qemu-img create -f vpc -o subformat=fixed,force_size=on img 10M", IMAGE_FORMAT_VHD, true},
        {"qemu-img create -f vhdx img 10M", IMAGE_FORMAT_VHDX, false},
        {"qemu-img create -f vdi img 10M", IMAGE_FORMAT_VDI, true},
        {"head -c 1000 /dev/zero | gzip > img", IMAGE_FORMAT_GZIP, false},
        {"head -c 1000 /dev/zero | xz > img", IMAGE_FORMAT_XZ, false},
        {"head -c 1000 /dev/zero | bzip2 > img", IMAGE_FORMAT_BZIP2, false},
    };
    static struct sample_file file;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct format_probe p;
        if (!sample_make(cases[i].command, &file))
            fail_msg("failed: %s", cases[i].command);
        assert_int_equal(format_probe((struct slice){file.head, file.head_bytes},
                                      (struct slice){file.tail, file.tail_bytes}, file.file_bytes,
                                      &p, NULL),
                         0);
        if (p.format != cases[i].format || p.has_virtual_size != cases[i].has_virtual_size ||
            (p.has_virtual_size && p.virtual_size_bytes != 10 << 20))
            fail_msg("%s: %s, %llu", cases[i].command, format_name(p.format),
                     (unsigned long long)p.virtual_size_bytes);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_magics),       cmocka_unit_test(test_texts),
        cmocka_unit_test(test_long_text),    cmocka_unit_test(test_names),
        cmocka_unit_test(test_virtual_size),
#ifdef HAVE_QEMU_IMG
        cmocka_unit_test(test_real),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
