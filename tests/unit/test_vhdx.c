/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "image/format/vhdx.h"

#define KIB           1024
#define REGION_TABLE  (192 * KIB)
#define METADATA      (2048 * KIB)
#define ITEMS         (64 * KIB) /* from METADATA */
#define FILE_BYTES    (3072 * KIB)
#define VIRTUAL_BYTES 0x0102030405060000ull

static const char region_guid[] =
    "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";
static const char parameters_guid[] =
    "\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b";
static const char size_guid[] = "\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8";

static void put(int fd, uint64_t offset, const void *data, size_t n)
{
    assert_int_equal(pwrite(fd, data, n, (off_t)offset), (ssize_t)n);
}

/* Little-endian. */
static void put_number(int fd, uint64_t offset, uint64_t value, size_t width)
{
    unsigned char bytes[8];
    for (size_t i = 0; i < width; i++)
        bytes[i] = (unsigned char)(value >> (8 * i));
    put(fd, offset, bytes, width);
}

/* What Hyper-V and QEMU make, without what vhdx_read does not look at. */
static int sample(void)
{
    int fd = memfd_create("vhdx", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, FILE_BYTES), 0);
    put(fd, 0, "vhdxfile", 8);
    put(fd, REGION_TABLE, "regi", 4);
    put_number(fd, REGION_TABLE + 8, 2, 4);
    put(fd, REGION_TABLE + 16, "another region..", 16);
    put(fd, REGION_TABLE + 48, region_guid, 16);
    put_number(fd, REGION_TABLE + 64, METADATA, 8);
    put_number(fd, REGION_TABLE + 72, 1024 * KIB, 4);
    put(fd, METADATA, "metadata", 8);
    put_number(fd, METADATA + 10, 2, 2);
    put(fd, METADATA + 32, size_guid, 16);
    put_number(fd, METADATA + 48, ITEMS + 8, 4);
    put(fd, METADATA + 64, parameters_guid, 16);
    put_number(fd, METADATA + 80, ITEMS, 4);
    put_number(fd, METADATA + ITEMS, 32 * 1024 * KIB, 4);
    put_number(fd, METADATA + ITEMS + 8, VIRTUAL_BYTES, 8);
    return fd;
}

static void test_size(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct vhdx_info info = {0};
    (void)state;
    int fd = sample();
    assert_int_equal(vhdx_read(fd, FILE_BYTES, &info, &e), 0);
    assert_true(info.virtual_bytes == VIRTUAL_BYTES);
    close(fd);
}

static void test_damaged(void **state)
{
    static const struct {
        uint64_t offset, value;
        size_t width;
        uint64_t file_bytes;
        int r;
    } cases[] = {
        {REGION_TABLE, 0, 1, FILE_BYTES, -LARDER_CORRUPT},               /* no signature */
        {REGION_TABLE + 8, 1, 4, FILE_BYTES, -LARDER_CORRUPT},           /* metadata not listed */
        {REGION_TABLE + 8, UINT32_MAX, 4, FILE_BYTES, -LARDER_CORRUPT},  /* too many regions */
        {REGION_TABLE + 48, 0, 1, FILE_BYTES, -LARDER_CORRUPT},          /* another GUID */
        {REGION_TABLE + 64, FILE_BYTES, 8, FILE_BYTES, -LARDER_CORRUPT}, /* behind the end */
        {REGION_TABLE + 64, UINT64_MAX, 8, FILE_BYTES, -LARDER_CORRUPT}, /* wraps */
        {REGION_TABLE + 72, 4096, 4, FILE_BYTES, -LARDER_CORRUPT},       /* shorter than a table */
        {METADATA, 0, 1, FILE_BYTES, -LARDER_CORRUPT},                   /* no signature */
        {METADATA + 10, 1, 2, FILE_BYTES, -LARDER_CORRUPT},              /* one item only */
        {METADATA + 10, UINT16_MAX, 2, FILE_BYTES, -LARDER_CORRUPT},     /* too many items */
        {METADATA + 48, UINT32_MAX, 4, FILE_BYTES, -LARDER_CORRUPT},     /* item far away */
        {METADATA + 48, 1024 * KIB - 7, 4, FILE_BYTES, -LARDER_CORRUPT}, /* sticks out */
        {METADATA + ITEMS + 4, 2, 4, FILE_BYTES, -LARDER_UNSAFE},        /* has a parent */
        {METADATA + ITEMS + 4, 1, 4, FILE_BYTES, 0},                     /* fixed */
        {0, 0, 1, REGION_TABLE + 100, -LARDER_CORRUPT},                  /* cut in a table */
        {0, 0, 1, METADATA + ITEMS, -LARDER_CORRUPT},                    /* cut before the items */
        {0, 0, 1, 0, -LARDER_CORRUPT},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct vhdx_info info = {.virtual_bytes = 1};
        int fd = sample();
        put_number(fd, cases[i].offset, cases[i].value, cases[i].width);
        int r = vhdx_read(fd, cases[i].file_bytes, &info, &e);
        if (r != cases[i].r)
            fail_msg("case %zu: %d (%s)", i, r, e.msg);
        if (r < 0) {
            assert_true(info.virtual_bytes == 1);
            assert_int_equal(-r, (int)e.code);
        }
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
