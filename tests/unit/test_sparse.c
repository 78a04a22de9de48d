/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/fdio.h"
#include "base/mem.h"
#include "base/sparse.h"
#include "scratch.h"

static void zero_or_not(void **state __attribute__((unused)))
{
    char data[100] = {0};

    for (size_t n = 0; n <= sizeof(data); n++) {
        assert_true(bytes_are_zero(data, n));
        for (size_t i = 0; i < n; i++) {
            data[i] = 1;
            assert_false(bytes_are_zero(data, n));
            data[i] = 0;
        }
    }
}

static int make(struct scratch *s, const char *name)
{
    int fd = openat(s->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    return fd;
}

/* Eight blocks, the last, and one where a file system keeps the list of so many extents once they
 * are on the disk. */
#define SPARSE_BYTES_MAX ((uint64_t)10 * 4096)

static uint64_t allocated(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* 64 blocks; every eighth, and the last but one half, hold something. */
#define IMAGE_BYTES (64u * 4096)

static char *make_image(void)
{
    char *image = calloc(1, IMAGE_BYTES);

    assert_non_null(image);
    for (size_t i = 0; i < 64; i += 8)
        memset(image + i * 4096, (int)i + 1, 4096);
    image[63 * 4096 - 1] = 'e';
    return image;
}

static void assert_content(int fd, const char *image, size_t n)
{
    CLEANUP_FREE char *got = malloc(n + 1);

    assert_non_null(got);
    assert_int_equal(fd_pread_full(fd, got, n + 1, 0), n);
    assert_memory_equal(got, image, n);
}

static void writer_leaves_holes(void **state)
{
    static const size_t pieces[] = {1, 511, 4096, 5000, 100000, IMAGE_BYTES};
    CLEANUP_FREE char *image = make_image();
    char name[32];

    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        snprintf(name, sizeof(name), "w%zu", i);
        CLEANUP_CLOSE int fd = make(*state, name);
        struct sparse_writer w = {fd, 0};

        for (size_t at = 0; at < IMAGE_BYTES; at += pieces[i]) {
            size_t n = IMAGE_BYTES - at < pieces[i] ? IMAGE_BYTES - at : pieces[i];

            assert_int_equal(sparse_write(&w, image + at, n, NULL), 0);
        }
        assert_int_equal(sparse_finish(&w, NULL), 0);
        assert_int_equal(w.offset, IMAGE_BYTES);
        assert_content(fd, image, IMAGE_BYTES);
        assert_true(allocated(fd) <= SPARSE_BYTES_MAX);
    }
    struct sparse_writer far = {-1, UINT64_MAX - 1};
    assert_true(sparse_write(&far, "x", 1, NULL) < 0);
}

static void extents(void **state)
{
    CLEANUP_CLOSE int fd = make(*state, "f");
    uint64_t start = 0;
    uint64_t end = 0;

    assert_int_equal(sparse_next_extent(fd, 0, 0, &start, &end, NULL), 0);
    assert_true(start == 0 && end == 0);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    assert_int_equal(sparse_next_extent(fd, 0, 1 << 20, &start, &end, NULL), 0);
    assert_true(start == 1 << 20 && end == 1 << 20);
    assert_int_equal(fd_pwrite_full(fd, "x", 1, 65536), 0);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(sparse_next_extent(fd, 0, 1 << 20, &start, &end, NULL), 0);
    assert_true(start <= 65536 && end > 65536 && end < 1 << 20);
    assert_int_equal(sparse_next_extent(fd, end, 1 << 20, &start, &end, NULL), 0);
    assert_true(start == 1 << 20 && end == 1 << 20);
    assert_int_equal(sparse_next_extent(fd, 65537, 65540, &start, &end, NULL), 0);
    assert_true(start == 65537 && end == 65540); /* never beyond size */
    assert_int_equal(sparse_next_extent(fd, 2 << 20, 1 << 20, &start, &end, NULL), 0);
    assert_true(start == 1 << 20 && end == 1 << 20);
    assert_true(sparse_next_extent(-1, 0, 1, &start, &end, NULL) < 0);
}

struct watch {
    int calls;
    int finished;
    uint64_t last;
    bool cancel;
};

static void see(void *arg, const struct larder_progress *p)
{
    struct watch *w = arg;

    w->calls++;
    w->finished += p->is_finished;
    assert_true(p->done_bytes >= w->last && p->done_bytes <= p->total_bytes);
    assert_string_equal(p->what, "copy");
    assert_string_equal(p->object, "image");
    w->last = p->done_bytes;
}

static bool wants_cancel(void *arg)
{
    return ((struct watch *)arg)->cancel;
}

static void copy_keeps_holes(void **state)
{
    CLEANUP_FREE char *image = make_image();
    CLEANUP_CLOSE int in = make(*state, "in");
    CLEANUP_CLOSE int out = make(*state, "out");
    struct sparse_writer w = {in, 0};
    struct watch watch = {0, 0, 0, false};
    struct larder_observer observer = {.arg = &watch, .progress = see, .is_canceled = wants_cancel};
    struct larder_error e = LARDER_ERROR_INIT;
    enum copy_how how = COPY_REFLINKED;

    assert_int_equal(sparse_write(&w, image, IMAGE_BYTES, NULL), 0);
    assert_int_equal(sparse_finish(&w, NULL), 0);
    assert_int_equal(sparse_copy(in, out, &observer, "image", &how, NULL), 0);
    assert_content(out, image, IMAGE_BYTES);
    if (how == COPY_COPIED)
        assert_true(allocated(out) <= SPARSE_BYTES_MAX);
    assert_int_equal(watch.finished, 1);
    assert_int_equal(watch.last, IMAGE_BYTES);

    watch = (struct watch){.cancel = true};
    CLEANUP_CLOSE int other = make(*state, "other");
    if (how == COPY_COPIED) { /* a reflink is done before anybody can stop it */
        assert_int_equal(sparse_copy(in, other, &observer, "image", &how, &e), -LARDER_CANCELED);
        assert_int_equal(watch.finished, 0);
    }
    assert_true(sparse_copy(in, -1, NULL, "image", &how, &e) < 0);
    assert_true(sparse_copy(-1, other, NULL, "image", &how, &e) < 0);
}

/* From another file system there is neither FICLONE nor, on some kernels, copy_file_range. */
static void copy_across_file_systems(void **state)
{
    CLEANUP_FREE char *image = make_image();
    CLEANUP_CLOSE int in = open("/dev/shm", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    CLEANUP_CLOSE int out = make(*state, "out");
    enum copy_how how = COPY_REFLINKED;

    if (in < 0)
        return;
    assert_int_equal(fd_pwrite_full(in, image, IMAGE_BYTES, 0), 0); /* zeros are data here */
    assert_int_equal(ftruncate(in, IMAGE_BYTES + 100), 0);
    assert_int_equal(sparse_copy(in, out, NULL, "image", &how, NULL), 0);
    assert_int_equal(how, COPY_COPIED);
    assert_content(
        out,
        (image = realloc(image, IMAGE_BYTES + 100), memset(image + IMAGE_BYTES, 0, 100), image),
        IMAGE_BYTES + 100);
}

static void copy_of_nothing(void **state)
{
    CLEANUP_CLOSE int in = make(*state, "in");
    CLEANUP_CLOSE int out = make(*state, "out");

    assert_int_equal(sparse_copy(in, out, NULL, "empty", NULL, NULL), 0);
    assert_content(out, "", 0);
}

#define IN_SCRATCH(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_or_not),
        IN_SCRATCH(writer_leaves_holes),
        IN_SCRATCH(extents),
        IN_SCRATCH(copy_keeps_holes),
        IN_SCRATCH(copy_across_file_systems),
        IN_SCRATCH(copy_of_nothing),
    };

    return cmocka_run_group_tests_name("sparse", tests, NULL, NULL);
}
