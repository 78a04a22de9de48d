/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "image/format/safety.h"
#include "image_samples.h"

static unsigned char image[SAMPLE_BYTES];

/* Probes and judges image as a file of this length whose end is the buffer's. */
static int judge(uint64_t file_bytes, unsigned flags, unsigned *warnings, struct larder_error *e)
{
    struct slice head = {(const char *)image, sizeof(image)};
    struct slice tail = {(const char *)image + sizeof(image) - FORMAT_TAIL_BYTES,
                         FORMAT_TAIL_BYTES};
    struct format_probe p;
    int r = format_probe(head, tail, file_bytes, &p, e);

    return r < 0 ? r : safety_check(&p, flags, warnings, e);
}

/* Expects a refusal with these words, and its hint. */
static void refused(unsigned flags, const char *words, const char *hint)
{
    struct larder_error e = LARDER_ERROR_INIT;
    unsigned warnings = 77;
    int r = judge(SAMPLE_QCOW2_FILE_BYTES, flags, &warnings, &e);

    if (r != -LARDER_UNSAFE || !strstr(e.msg, words) || !strstr(e.hint, hint) || warnings != 77)
        fail_msg("%d, \"%s\", \"%s\", expected \"%s\" and \"%s\"", r, e.msg, e.hint, words, hint);
}

static void accepted(unsigned flags, unsigned expected_warnings)
{
    struct larder_error e = LARDER_ERROR_INIT;
    unsigned warnings = 77;
    int r = judge(SAMPLE_QCOW2_FILE_BYTES, flags, &warnings, &e);

    if (r != 0 || warnings != expected_warnings)
        fail_msg("%d, \"%s\", warnings %#x, expected %#x", r, e.msg, warnings, expected_warnings);
}

static void test_qcow2_features(void **state)
{
    static const struct {
        uint64_t incompatible;
        const char *words; /* NULL: accepted */
    } cases[] = {
        {0, NULL},
        {QCOW2_INCOMPAT_DIRTY, "marked dirty"},
        {QCOW2_INCOMPAT_CORRUPT, "marked corrupt"},
        {QCOW2_INCOMPAT_DATA_FILE, "data in another file"},
        {1ull << 5, "unknown incompatible features 0x20"},
        {1ull << 63, "unknown incompatible features 0x8000000000000000"},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        sample_qcow2(image);
        put_be(image, 72, 8, cases[i].incompatible);
        if (!cases[i].words) {
            accepted(0, 0);
            continue;
        }
        refused(0, cases[i].words, "");
        refused(SAFETY_ALLOW_BACKING, cases[i].words, "");
    }
}

static void test_qcow2_files(void **state)
{
    (void)state;
    sample_qcow2(image);
    sample_backing(image, "/etc/shadow");
    refused(0, "\"/etc/shadow\"", "--allow-backing");
    accepted(SAFETY_ALLOW_BACKING, 0);

    /* The name is shown without its escape sequences. */
    sample_backing(image, "\x1b[2Jx");
    struct larder_error e = LARDER_ERROR_INIT;
    assert_int_equal(judge(SAMPLE_QCOW2_FILE_BYTES, 0, NULL, &e), -LARDER_UNSAFE);
    assert_null(strchr(e.msg, '\x1b'));

    /* A data file is never allowed, with or without its bit. */
    sample_qcow2(image);
    sample_extension(image, 112, 0x44415441, "/dev/sda", 8);
    refused(SAFETY_ALLOW_BACKING, "\"/dev/sda\"", "qemu-img convert");
}

static void test_qcow2_warnings(void **state)
{
    (void)state;
    sample_qcow2(image);
    put_be(image, 88, 8, QCOW2_AUTOCLEAR_BITMAPS);
    accepted(0, SAFETY_WARN_BITMAPS);
    sample_qcow2(image);
    put_be(image, 32, 4, 2);
    accepted(0, SAFETY_WARN_ENCRYPTED);
    sample_qcow2(image);
    put_be(image, 60, 4, 1);
    put_be(image, 64, 8, 65536 * 2);
    accepted(0, SAFETY_WARN_SNAPSHOTS);
    for (unsigned bit = 1; bit <= SAFETY_WARN_HYBRID_MBR; bit <<= 1)
        assert_string_not_equal(safety_warning_text((enum safety_warning)bit), "unknown warning");
}

/* A sparse VMDK with this descriptor; gd_offset UINT64_MAX puts a footer at the end. */
static void make_vmdk(const char *descriptor, uint64_t gd_offset)
{
    memset(image, 0, sizeof(image));
    memcpy(image, "KDMV", 4);
    put_le(image, 4, 4, 3);
    put_le(image, 12, 8, 20480);
    put_le(image, 28, 8, 1);
    put_le(image, 36, 8, 20);
    put_le(image, 56, 8, gd_offset);
    memcpy(image + 512, descriptor, strlen(descriptor));
    if (gd_offset == UINT64_MAX) {
        memcpy(image + sizeof(image) - 1024, image, 512);
        put_le(image, sizeof(image) - 1024 + 56, 8, 26);
    }
}

#define VMDK_HEAD   "# Disk DescriptorFile\nversion=1\nCID=afddd969\nparentCID=ffffffff\n"
#define VMDK_TYPE   "createType=\"monolithicSparse\"\n"
#define VMDK_EXTENT "RW 20480 SPARSE \"v.vmdk\"\n"

static void test_vmdk_descriptors(void **state)
{
    static const struct {
        const char *descriptor;
        const char *words; /* NULL: accepted */
    } cases[] = {
        {VMDK_HEAD VMDK_TYPE VMDK_EXTENT, NULL},
        {VMDK_HEAD "createType = streamOptimized\r\n" VMDK_EXTENT, NULL},
        {VMDK_HEAD "createType=\"monolithicFlat\"\n" VMDK_EXTENT, "of a type"},
        {VMDK_HEAD "createType=\"twoGbMaxExtentSparse\"\n" VMDK_EXTENT, "of a type"},
        {VMDK_HEAD VMDK_TYPE "createType=\"vmfs\"\n" VMDK_EXTENT, "of a type"},
        {VMDK_HEAD VMDK_EXTENT, "of which type"},
        {VMDK_HEAD VMDK_TYPE, "extents"},
        {VMDK_HEAD VMDK_TYPE VMDK_EXTENT VMDK_EXTENT, "extents"},
        {VMDK_HEAD VMDK_TYPE "RW 20480 FLAT \"/etc/shadow\" 0\n", "another directory"},
        {VMDK_HEAD VMDK_TYPE "  rdonly\t20480 SPARSE \"a/b\"\n", "another directory"},
        {VMDK_HEAD VMDK_TYPE "RW 20480 SPARSE \"..\\b\"\n", "another directory"},
        {VMDK_HEAD VMDK_TYPE VMDK_EXTENT "parentCID=12345678\n", "difference"},
        {VMDK_HEAD VMDK_TYPE VMDK_EXTENT "parentFileNameHint=\"b\"\n", "parent"},
        {"nothing", "no descriptor"},
        {"", "no descriptor"},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        make_vmdk(cases[i].descriptor, 26);
        if (cases[i].words)
            refused(0, cases[i].words, "qemu-img convert");
        else
            accepted(0, 0);
    }
}

static void test_vmdk_headers(void **state)
{
    static const char sound[] = VMDK_HEAD VMDK_TYPE VMDK_EXTENT;
    (void)state;

    make_vmdk(sound, UINT64_MAX);
    accepted(0, 0);
    put_le(image, sizeof(image) - 1024 + 12, 8, 1);
    refused(0, "contradict", "");
    make_vmdk(sound, UINT64_MAX);
    put_le(image, sizeof(image) - 1024 + 28, 8, 9);
    refused(0, "contradict", "");
    make_vmdk(sound, UINT64_MAX);
    memset(image + sizeof(image) - 1024, 0, 512);
    refused(0, "no footer", "");

    make_vmdk(sound, 26);
    put_le(image, 4, 4, 4);
    refused(0, "version 4", "");
    make_vmdk(sound, 26);
    put_le(image, 28, 8, 0);
    refused(0, "no descriptor", "");
    make_vmdk(sound, 26);
    put_le(image, 36, 8, UINT64_MAX);
    refused(0, "behind the first", "");
    make_vmdk(sound, 26);
    put_le(image, 28, 8, UINT64_MAX);
    refused(0, "behind the first", "");

    memset(image, 0, sizeof(image));
    memcpy(image, "COWD", 4);
    refused(0, "other files", "");
    memcpy(image, sound, sizeof(sound));
    refused(0, "other files", "");
}

static void mbr_entry(unsigned i, unsigned flag, unsigned type, uint32_t start)
{
    size_t at = 446 + 16 * (size_t)i;

    put_be(image, at, 1, flag);
    put_be(image, at + 4, 1, type);
    put_le(image, at + 8, 4, start);
    put_be(image, 510, 2, 0x55aa);
}

static void test_partition_tables(void **state)
{
    (void)state;
    memset(image, 0, sizeof(image));
    accepted(0, 0); /* no table at all: a file system, or swap */
    mbr_entry(0, 0x80, 0x83, 2048);
    accepted(0, 0);
    mbr_entry(0, 0x12, 0x83, 2048); /* boot code of a lone file system */
    accepted(0, 0);

    memset(image, 0, sizeof(image));
    mbr_entry(0, 0, 0xee, 1);
    refused(0, "no GPT", "");
    memcpy(image + 512, "EFI PART", 8);
    accepted(0, 0);
    mbr_entry(0, 0x80, 0xee, 1);
    accepted(0, 0);
    mbr_entry(1, 0, 0x0c, 2048);
    accepted(0, SAFETY_WARN_HYBRID_MBR);
    mbr_entry(1, 7, 0, 0);
    refused(0, "contradicts its GPT", "");
    mbr_entry(1, 0, 0xee, 1);
    refused(0, "contradicts its GPT", "");
    mbr_entry(1, 0, 0, 0);
    mbr_entry(0, 0, 0xee, 5);
    refused(0, "contradicts its GPT", "");

    memset(image, 0, sizeof(image));
    mbr_entry(0, 0, 0xee, 1);
    memcpy(image + 4096, "EFI PART", 8);
    accepted(0, 0);
}

static void test_other_formats(void **state)
{
    static const struct {
        const char *magic;
        size_t magic_bytes, offset;
        size_t at;
        unsigned long long value; /* big-endian, four bytes at `at` when that is not 0 */
        const char *words;        /* NULL: accepted */
        unsigned warnings;
    } cases[] = {
        {"QFI\xfb\0\0\0\1", 8, 0, 0, 0, "first qcow format", 0},
        {"QED\0", 4, 0, 0, 0, "qed", 0},
        {"conectix", 8, 0, 60, 3, NULL, 0},
        {"conectix", 8, 0, 60, 4, "difference", 0},
        {"conectix", 8, SAMPLE_BYTES - 512, SAMPLE_BYTES - 452, 2, NULL, 0},
        {"conectix", 8, SAMPLE_BYTES - 512, SAMPLE_BYTES - 452, 4, "difference", 0},
        {"\x7f\x10\xda\xbe", 4, 64, 76, 0x01000000, NULL, 0},
        {"\x7f\x10\xda\xbe", 4, 64, 76, 0x02000000, NULL, 0},
        {"\x7f\x10\xda\xbe", 4, 64, 76, 0x04000000, "type 4", 0},
        {"vhdxfile", 8, 0, 0, 0, NULL, 0},
        {"CD001", 5, 32769, 0, 0, NULL, 0},
        {"LUKS\xba\xbe", 6, 0, 0, 0, NULL, SAFETY_WARN_ENCRYPTED},
        {"\x1f\x8b", 2, 0, 0, 0, NULL, 0},
        {"<html>", 6, 0, 0, 0, "HTML", 0},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        memset(image, 0, sizeof(image));
        memcpy(image + cases[i].offset, cases[i].magic, cases[i].magic_bytes);
        if (cases[i].at)
            put_be(image, cases[i].at, 4, cases[i].value);
        if (cases[i].words)
            refused(0, cases[i].words, "");
        else
            accepted(0, cases[i].warnings);
    }
    memset(image, 'x', sizeof(image));
    refused(0, "plain text", "address");

    struct format_probe p;
    assert_int_equal(format_probe((struct slice){NULL, 0}, (struct slice){NULL, 0}, 0, &p, NULL),
                     0);
    assert_int_equal(safety_check(&p, 0, NULL, NULL), -LARDER_UNSAFE);
    assert_int_equal(
        format_probe((struct slice){"\x01", 1}, (struct slice){"\x01", 1}, 1, &p, NULL), 0);
    assert_int_equal(safety_check(&p, 0, NULL, NULL), -LARDER_UNSAFE);
}

#ifdef HAVE_QEMU_IMG
static void test_real(void **state)
{
    static const struct {
        const char *command;
        int r;
        unsigned warnings;
    } cases[] = {
        {"qemu-img create -f raw img 10M", 0, 0},
        {"qemu-img create -f qcow2 img 10M", 0, 0},
        {"qemu-img create -f qcow2 b 10M; qemu-img create -f qcow2 -b b -F qcow2 img",
         -LARDER_UNSAFE, 0},
        {"qemu-img create -f qcow2 -o data_file=d img 10M", -LARDER_UNSAFE, 0},
        {"qemu-img create -f qcow2 img 10M; qemu-img bitmap --add img b", 0, SAFETY_WARN_BITMAPS},
        {"qemu-img create -f qcow2 img 10M; qemu-img snapshot -c s img", 0, SAFETY_WARN_SNAPSHOTS},
        {"qemu-img create -f qed img 10M", -LARDER_UNSAFE, 0},
        {"qemu-img create -f vmdk img 10M", 0, 0},
        {"qemu-img create -f vmdk v 10M; "
         "qemu-img convert -f vmdk -O vmdk -o subformat=streamOptimized v img",
         0, 0},
        {"qemu-img create -f vmdk -o subformat=monolithicFlat img 10M", -LARDER_UNSAFE, 0},
        {"qemu-img create -f vmdk b 10M; qemu-img create -f vmdk -b b -F vmdk img", -LARDER_UNSAFE,
         0},
        {"qemu-img create -f vpc img 10M", 0, 0},
        {"qemu-img create -f vdi img 10M", 0, 0},
        {"qemu-img create -f vhdx img 10M", 0, 0},
    };
    static struct sample_file file;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct format_probe p;
        struct larder_error e = LARDER_ERROR_INIT;
        unsigned warnings = 0;
        if (!sample_make(cases[i].command, &file))
            fail_msg("failed: %s", cases[i].command);
        assert_int_equal(format_probe((struct slice){file.head, file.head_bytes},
                                      (struct slice){file.tail, file.tail_bytes}, file.file_bytes,
                                      &p, NULL),
                         0);
        int r = safety_check(&p, 0, &warnings, &e);
        if (r != cases[i].r || warnings != cases[i].warnings)
            fail_msg("%s: %d (%s), warnings %#x", cases[i].command, r, e.msg, warnings);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_qcow2_features), cmocka_unit_test(test_qcow2_files),
        cmocka_unit_test(test_qcow2_warnings), cmocka_unit_test(test_vmdk_descriptors),
        cmocka_unit_test(test_vmdk_headers),   cmocka_unit_test(test_partition_tables),
        cmocka_unit_test(test_other_formats),
#ifdef HAVE_QEMU_IMG
        cmocka_unit_test(test_real),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
