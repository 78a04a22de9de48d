/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "image/format/backing.h"
#include "image/format/qcow2.h"
#include "image_samples.h"

static unsigned char image[SAMPLE_BYTES];
static const struct slice whole = {(const char *)image, sizeof(image)};

static void test_sound(void **state)
{
    struct qcow2_header h;
    (void)state;

    sample_qcow2(image);
    assert_int_equal(qcow2_parse(whole, SAMPLE_QCOW2_FILE_BYTES, &h, NULL), 0);
    assert_int_equal(h.version, 3);
    assert_int_equal(h.virtual_size_bytes, 1ull << 30);
    assert_int_equal(h.cluster_bits, 16);
    assert_int_equal(h.l1_entries, 2);
    assert_int_equal(h.header_bytes, 112);
    assert_false(h.has_backing);
    assert_int_equal(h.backing_format.n, 0);
}

static void test_version_2(void **state)
{
    struct qcow2_header h;
    (void)state;

    sample_qcow2(image);
    put_be(image, 4, 4, 2);
    /* In version 2 these bytes are extensions, not feature bits. */
    memset(image + 72, 0, 40);
    sample_extension(image, 72, 0xe2792aca, "raw", 3);
    sample_backing(image, "base.img");
    assert_int_equal(qcow2_parse(whole, SAMPLE_QCOW2_FILE_BYTES, &h, NULL), 0);
    assert_int_equal(h.incompatible, 0);
    assert_int_equal(h.refcount_order, 4);
    assert_true(h.has_backing);
    assert_true(slice_equal(h.backing_name, slice_of("base.img")));
    assert_true(slice_equal(h.backing_format, slice_of("raw")));
}

static void test_extensions(void **state)
{
    struct qcow2_header h;
    char bitmaps[24] = {0, 0, 0, 2};
    (void)state;

    sample_qcow2(image);
    size_t at = sample_extension(image, 112, 0xe2792aca, "qcow2", 5);
    at = sample_extension(image, at, 0x44415441, "d.raw", 5);
    at = sample_extension(image, at, 0x6803f857, "names", 5);
    at = sample_extension(image, at, 0x23852875, bitmaps, sizeof(bitmaps));
    at = sample_extension(image, at, 0x12345678, "later", 5);
    sample_backing(image, "b");
    assert_true(at < 528);
    assert_int_equal(qcow2_parse(whole, SAMPLE_QCOW2_FILE_BYTES, &h, NULL), 0);
    assert_true(slice_equal(h.backing_format, slice_of("qcow2")));
    assert_true(slice_equal(h.data_file_name, slice_of("d.raw")));
    assert_int_equal(h.n_bitmaps, 2);
}

/* One field of the sound image changed, and what comes of it. */
static const struct {
    const char *what;
    size_t offset;
    uint64_t value;
    unsigned width;
    enum larder_code code;
} changes[] = {
    {"magic", 0, 0x514649fa, 4, LARDER_INVAL},
    {"version 0", 4, 0, 4, LARDER_UNSUPPORTED},
    {"version 1", 4, 1, 4, LARDER_UNSUPPORTED},
    {"version 4", 4, 4, 4, LARDER_UNSUPPORTED},
    {"backing name over the header", 8, 100, 8, LARDER_CORRUPT},
    {"backing name behind the cluster", 8, 65537, 8, LARDER_CORRUPT},
    {"backing name at the end of numbers", 8, UINT64_MAX, 8, LARDER_CORRUPT},
    {"cluster bits 8", 20, 8, 4, LARDER_CORRUPT},
    {"cluster bits 22", 20, 22, 4, LARDER_CORRUPT},
    {"cluster bits 64", 20, 64, 4, LARDER_CORRUPT},
    {"cluster bits 2^32-1", 20, UINT32_MAX, 4, LARDER_CORRUPT},
    {"virtual size 2^63", 24, 1ull << 63, 8, LARDER_CORRUPT},
    {"virtual size 2^64-1", 24, UINT64_MAX, 8, LARDER_CORRUPT},
    {"virtual size fills the table", 24, 1ull << 30, 8, LARDER_OK},
    {"virtual size one byte over the table", 24, (1ull << 30) + 1, 8, LARDER_CORRUPT},
    {"virtual size 0", 24, 0, 8, LARDER_OK},
    {"AES", 32, 1, 4, LARDER_OK},
    {"LUKS", 32, 2, 4, LARDER_OK},
    {"encryption 3", 32, 3, 4, LARDER_UNSUPPORTED},
    {"no level 1 table", 36, 0, 4, LARDER_CORRUPT},
    {"level 1 table too long", 36, 4 * 1024 * 1024 + 1, 4, LARDER_CORRUPT},
    {"level 1 table of 2^32-1", 36, UINT32_MAX, 4, LARDER_CORRUPT},
    {"level 1 table behind the end", 40, 4 * 65536, 8, LARDER_CORRUPT},
    {"level 1 table at 2^64-65536", 40, UINT64_MAX - 65535, 8, LARDER_CORRUPT},
    {"level 1 table not aligned", 40, 3 * 65536 + 8, 8, LARDER_CORRUPT},
    {"level 1 table at 0", 40, 0, 8, LARDER_CORRUPT},
    {"refcount table behind the end", 48, 4 * 65536, 8, LARDER_CORRUPT},
    {"refcount table at 2^64-65536", 48, UINT64_MAX - 65535, 8, LARDER_CORRUPT},
    {"refcount table not aligned", 48, 65536 + 512, 8, LARDER_CORRUPT},
    {"no refcount table", 56, 0, 4, LARDER_CORRUPT},
    {"refcount table too long for the file", 56, 4, 4, LARDER_CORRUPT},
    {"refcount table of 2^32-1 clusters", 56, UINT32_MAX, 4, LARDER_CORRUPT},
    {"snapshots over the header", 60, 1, 4, LARDER_CORRUPT},
    {"2^32-1 snapshots", 60, UINT32_MAX, 4, LARDER_CORRUPT},
    {"dirty", 72, 1, 8, LARDER_OK},
    {"corrupt", 72, 2, 8, LARDER_OK},
    {"unknown feature", 72, 1ull << 63, 8, LARDER_OK},
    {"compression bit without type", 72, 8, 8, LARDER_CORRUPT},
    {"extended L2 halves the reach", 72, 16, 8, LARDER_CORRUPT},
    {"refcount order 6", 96, 6, 4, LARDER_OK},
    {"refcount order 7", 96, 7, 4, LARDER_CORRUPT},
    {"header of 104", 100, 104, 4, LARDER_OK},
    {"header of 103", 100, 103, 4, LARDER_CORRUPT},
    {"header of 108", 100, 108, 4, LARDER_CORRUPT},
    {"header of 72", 100, 72, 4, LARDER_CORRUPT},
    {"header longer than a cluster", 100, 65544, 4, LARDER_CORRUPT},
    {"header of 2^32-8", 100, UINT32_MAX - 7, 4, LARDER_CORRUPT},
    {"compression type without bit", 104, 1, 1, LARDER_CORRUPT},
    {"extension too long", 112, 0xe2792acaffffffff, 8, LARDER_CORRUPT},
    {"extension one byte too long", 112, 0xe2792aca0000ff89, 8, LARDER_CORRUPT},
    {"extension to the end", 112, 0xe2792aca0000ff88, 8, LARDER_OK},
    {"short bitmaps", 112, 0x2385287500000008, 8, LARDER_CORRUPT},
};

static void test_changes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        struct qcow2_header h = {.version = 77};
        struct larder_error e = LARDER_ERROR_INIT;
        sample_qcow2(image);
        put_be(image, changes[i].offset, changes[i].width, changes[i].value);
        int r = qcow2_parse(whole, SAMPLE_QCOW2_FILE_BYTES, &h, &e);
        if (r != -(int)changes[i].code)
            fail_msg("%s: %d (%s)", changes[i].what, r, e.msg);
        if (r < 0 && (h.version != 77 || e.msg[0] == '\0'))
            fail_msg("%s: output changed, or no message", changes[i].what);
    }
}

static void test_backing_name(void **state)
{
    static const struct {
        uint64_t offset, bytes;
        enum larder_code code;
    } cases[] = {
        {528, 0, LARDER_OK},         {528, 1023, LARDER_OK},
        {528, 1024, LARDER_CORRUPT}, {65526, 10, LARDER_OK},
        {65527, 10, LARDER_CORRUPT}, {112, 4, LARDER_OK},
        {111, 4, LARDER_CORRUPT},    {528, UINT32_MAX, LARDER_CORRUPT},
    };
    struct qcow2_header h;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        sample_qcow2(image);
        put_be(image, 8, 8, cases[i].offset);
        put_be(image, 16, 4, cases[i].bytes);
        if (cases[i].code == LARDER_OK)
            memset(image + cases[i].offset, 'x', cases[i].bytes);
        int r = qcow2_parse(whole, SAMPLE_QCOW2_FILE_BYTES, &h, NULL);
        if (r != -(int)cases[i].code)
            fail_msg("%zu: %d", i, r);
        if (r == 0)
            assert_true(h.has_backing && h.backing_name.n == cases[i].bytes);
    }
    sample_qcow2(image);
    sample_backing(image, "abc");
    image[529] = '\0';
    assert_int_equal(qcow2_parse(whole, SAMPLE_QCOW2_FILE_BYTES, &h, NULL), -LARDER_CORRUPT);
}

static void test_large_clusters(void **state)
{
    struct qcow2_header h;
    (void)state;

    /* Clusters of 2 MiB: the name may be where we don't read. */
    sample_qcow2(image);
    put_be(image, 20, 4, 21);
    put_be(image, 40, 8, 2 << 20);
    put_be(image, 48, 8, 4 << 20);
    assert_int_equal(qcow2_parse(whole, 6 << 20, &h, NULL), 0);
    assert_int_equal(qcow2_parse(whole, (6 << 20) - 1, &h, NULL), -LARDER_CORRUPT);
    put_be(image, 8, 8, 65536);
    put_be(image, 16, 4, 4);
    assert_int_equal(qcow2_parse(whole, 6 << 20, &h, NULL), -LARDER_CORRUPT);
}

static void test_truncated(void **state)
{
    struct qcow2_header h;
    (void)state;

    sample_qcow2(image);
    assert_int_equal(qcow2_parse(whole, 3 * 65536 + 16, &h, NULL), 0);
    for (uint64_t bytes = 0; bytes < 3 * 65536 + 16; bytes += bytes < 200 ? 1 : 977) {
        size_t n = bytes < sizeof(image) ? (size_t)bytes : sizeof(image);
        /* A copy of exactly n bytes: reading behind it is seen by the sanitizer. */
        char *copy = malloc(n ? n : 1);
        assert_non_null(copy);
        memcpy(copy, image, n);
        int r = qcow2_parse((struct slice){copy, n}, bytes, &h, NULL);
        free(copy);
        if (r != (n < 4 ? -LARDER_INVAL : -LARDER_CORRUPT))
            fail_msg("%llu bytes: %d", (unsigned long long)bytes, r);
    }
}

#ifdef HAVE_QEMU_IMG
static const struct {
    const char *what, *command;
    uint64_t incompatible;
    const char *backing, *data_file, *format;
    enum larder_code code;
    unsigned cluster_bits;
} real[] = {
    {"plain", "qemu-img create -f qcow2 img 1G", 0, "", "", "", 0, 16},
    {"version 2", "qemu-img create -f qcow2 -o compat=0.10 img 1G", 0, "", "", "", 0, 16},
    {"backing", "qemu-img create -f qcow2 b 1G; qemu-img create -f qcow2 -b b -F qcow2 img", 0, "b",
     "", "qcow2", 0, 16},
    {"json backing",
     "qemu-img create -f raw b 1G; qemu-img create -f qcow2 -F raw -b "
     "'json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"b\"}}' img",
     0, "json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"b\"}}", "", "raw", 0,
     16},
    {"data file", "qemu-img create -f qcow2 -o data_file=d.raw img 1M", 4, "", "d.raw", "", 0, 16},
    {"extended L2", "qemu-img create -f qcow2 -o extended_l2=on,cluster_size=128k img 1G", 16, "",
     "", "", 0, 17},
    {"zstd", "qemu-img create -f qcow2 -o compression_type=zstd img 1G", 8, "", "", "", 0, 16},
    {"compressed", "seq 100000 > r; truncate -s 1M r; qemu-img convert -c -O qcow2 r img", 0, "",
     "", "", 0, 16},
    {"smallest clusters", "qemu-img create -f qcow2 -o cluster_size=512 img 10M", 0, "", "", "", 0,
     9},
    {"largest clusters", "qemu-img create -f qcow2 -o cluster_size=2M img 10G", 0, "", "", "", 0,
     21},
    {"preallocated", "qemu-img create -f qcow2 -o preallocation=metadata img 100M", 0, "", "", "",
     0, 16},
    {"snapshot", "qemu-img create -f qcow2 img 1G; qemu-img snapshot -c s img", 0, "", "", "", 0,
     16},
    {"no size", "qemu-img create -f qcow2 img 0", 0, "", "", "", 0, 16},
    {"dirty",
     "qemu-img create -f qcow2 -o lazy_refcounts=on img 1G; "
     "printf '\\000\\000\\000\\000\\000\\000\\000\\001' | "
     "dd of=img bs=1 seek=72 conv=notrunc",
     1, "", "", "", 0, 16},
    {"truncated", "qemu-img create -f qcow2 img 1G; truncate -s 100000 img", 0, "", "", "",
     LARDER_CORRUPT, 16},
};

static void test_real(void **state)
{
    static struct sample_file file;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(real); i++) {
        struct qcow2_header h;
        struct larder_error e = LARDER_ERROR_INIT;
        if (!sample_make(real[i].command, &file))
            fail_msg("%s: the command failed", real[i].what);
        struct slice head = {file.head, file.head_bytes};
        int r = qcow2_parse(head, file.file_bytes, &h, &e);
        if (r != -(int)real[i].code)
            fail_msg("%s: %d (%s)", real[i].what, r, e.msg);
        if (r < 0)
            continue;
        if (h.incompatible != real[i].incompatible || h.cluster_bits != real[i].cluster_bits ||
            !slice_equal(h.backing_name, slice_of(real[i].backing)) ||
            !slice_equal(h.backing_format, slice_of(real[i].format)) ||
            !slice_equal(h.data_file_name, slice_of(real[i].data_file)))
            fail_msg("%s: features %llx, backing \"%.*s\", data \"%.*s\"", real[i].what,
                     (unsigned long long)h.incompatible, (int)h.backing_name.n, h.backing_name.p,
                     (int)h.data_file_name.n, h.data_file_name.p);
    }
}

#endif

static const struct {
    const char *name;
    enum backing_kind kind;
    const char *path;
} names[] = {
    {"", BACKING_NONE, NULL},
    {"base.qcow2", BACKING_LOCAL, "/o/base.qcow2"},
    {"./base.qcow2", BACKING_LOCAL, "/o/base.qcow2"},
    {"../b/base.qcow2", BACKING_LOCAL, "/o/../b/base.qcow2"},
    {"/b/base.qcow2", BACKING_LOCAL, "/b/base.qcow2"},
    {"./a:b", BACKING_LOCAL, "/o/a:b"},
    {"/a:b", BACKING_LOCAL, "/a:b"},
    {"file:/b/x", BACKING_LOCAL, "/b/x"},
    {"file:x", BACKING_LOCAL, "/o/x"},
    {"file:", BACKING_NONE, NULL},
    {"nbd:localhost:10809", BACKING_REMOTE, NULL},
    {"https://example.org/x", BACKING_REMOTE, NULL},
    {"json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"/b/x\"}}",
     BACKING_LOCAL, "/b/x"},
    {"json:{\"file\":{\"filename\":\"x\"}}", BACKING_LOCAL, "/o/x"},
    {"json:{\"driver\":\"qcow2\",\"file.driver\":\"file\",\"file.filename\":\"x\"}", BACKING_LOCAL,
     "/o/x"},
    {"json:{\"driver\":\"file\",\"filename\":\"a:b\"}", BACKING_LOCAL, "/o/a:b"},
    {"json:{\"filename\":\"file:/b/x\"}", BACKING_LOCAL, "/b/x"},
    {"json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"raw\",\"file\":{\"driver\":\"host_device\","
     "\"filename\":\"/dev/x\"}}}",
     BACKING_LOCAL, "/dev/x"},
    {"json:{\"file\":{\"file.filename\":\"x\"},\"backing\":null}", BACKING_LOCAL, "/o/x"},
    {"json:{\"file.driver\":\"nbd\",\"file.host\":\"h\"}", BACKING_REMOTE, NULL},
    {"json:{\"file.filename\":\"nbd:h:1\"}", BACKING_REMOTE, NULL},
    {"json:{\"file\":\"node0\"}", BACKING_UNKNOWN, NULL},
    {"json:{\"driver\":\"quorum\",\"children\":[]}", BACKING_UNKNOWN, NULL},
    {"json:{\"file.filename\":\"x\",\"backing\":{\"driver\":\"file\",\"filename\":\"y\"}}",
     BACKING_UNKNOWN, NULL},
    {"json:{\"file.filename\":\"x\",\"data-file.filename\":\"y\"}", BACKING_UNKNOWN, NULL},
    {"json:{\"driver\":\"strange\",\"filename\":\"x\"}", BACKING_UNKNOWN, NULL},
    {"json:{\"driver\":\"file\",\"filename\":\"\"}", BACKING_UNKNOWN, NULL},
    {"json:{\"a\":1,\"a\":2}", BACKING_UNKNOWN, NULL},
    {"json:{", BACKING_UNKNOWN, NULL},
    {"json:[]", BACKING_UNKNOWN, NULL},
    {"json:", BACKING_UNKNOWN, NULL},
};

static void test_backing_resolve(void **state)
{
    enum backing_kind kind;
    char *path;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_int_equal(backing_resolve(slice_of(names[i].name), "/o", &kind, &path, NULL), 0);
        if (kind != names[i].kind || (path != NULL) != (names[i].path != NULL) ||
            (path && strcmp(path, names[i].path) != 0))
            fail_msg("\"%s\": kind %d, path %s", names[i].name, (int)kind, path ? path : "none");
        free(path);
    }
    assert_int_equal(backing_resolve(slice_of("x"), "/", &kind, &path, NULL), 0);
    assert_string_equal(path, "/x");
    free(path);

    char *longer = malloc(BACKING_PATH_BYTES_MAX + 1);
    assert_non_null(longer);
    memset(longer, 'x', BACKING_PATH_BYTES_MAX);
    kind = BACKING_NONE;
    assert_int_equal(
        backing_resolve((struct slice){longer, BACKING_PATH_BYTES_MAX}, "/o", &kind, &path, NULL),
        -LARDER_LIMIT);
    assert_int_equal(kind, BACKING_NONE);
    free(longer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound),        cmocka_unit_test(test_version_2),
        cmocka_unit_test(test_extensions),   cmocka_unit_test(test_changes),
        cmocka_unit_test(test_backing_name), cmocka_unit_test(test_large_clusters),
        cmocka_unit_test(test_truncated),    cmocka_unit_test(test_backing_resolve),
#ifdef HAVE_QEMU_IMG
        cmocka_unit_test(test_real),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
