/* SPDX-License-Identifier: Apache-2.0 */
/* Overlays and copies that are handed out; qemu-img judges them where it is installed. */
#include "image_host.h"

#include <larder/maintain.h>

#include "image/overlay_write.h"
#include "image/format/qcow2.h"
#include "store/dir/lease.h"

static int new_file(struct host *h, const char *name)
{
    unlink(host_path(h, name));
    int fd = open(host_path(h, name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    return fd;
}

static void parsed(struct host *h, const char *name, const char *backing, uint64_t virtual_bytes)
{
    struct buf text = BUF_INIT(64 * 1024 * 1024);
    struct qcow2_header header;
    assert_int_equal(file_read(AT_FDCWD, host_path(h, name), &text, NULL), 0);
    if (qcow2_parse(buf_slice(&text), text.n, &header, &h->e) < 0)
        fail_msg("%s", h->e.msg);
    assert_true(header.has_backing);
    assert_int_equal(header.backing_name.n, strlen(backing));
    assert_memory_equal(header.backing_name.p, backing, header.backing_name.n);
    assert_true(header.virtual_size_bytes == virtual_bytes);
    buf_done(&text);
}

static void qemu_likes(struct host *h, const char *name, const char *base_format,
                       uint64_t virtual_bytes)
{
#ifdef HAVE_QEMU_IMG
    char command[1024];
    snprintf(command, sizeof(command),
             "qemu-img check -q %s && qemu-img info --output=json %s >info && "
             "grep -q '\"backing-filename-format\": \"%s\"' info && "
             "grep -q '\"virtual-size\": %llu,' info",
             name, name, base_format, (unsigned long long)virtual_bytes);
    host_shell(h, command);
#else
    (void)h, (void)name, (void)base_format, (void)virtual_bytes;
#endif
}

static void test_sizes(void **state)
{
    static const uint64_t sizes[] = {0,          1,          511,        512,
                                     513,        1 << 20,    536870912,  536870913,
                                     1ull << 40, 1ull << 45, 1ull << 50, 1ull << 51};
    struct host *h = *state;
    host_shell(h, "truncate -s 1M base.raw");
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        uint64_t rounded = (sizes[i] + 511) / 512 * 512;
        int fd = new_file(h, "o.qcow2");
        expect_ok(h, overlay_write(fd, host_path(h, "base.raw"), "raw", sizes[i], &h->e));
        close(fd);
        parsed(h, "o.qcow2", host_path(h, "base.raw"), rounded);
        qemu_likes(h, "o.qcow2", "raw", rounded);
    }
}

static void test_refused(void **state)
{
    struct host *h = *state;
    char path[1100];
    int fd = new_file(h, "o.qcow2");
    struct stat st;
    memset(path, 'a', sizeof(path));
    path[0] = '/';
    path[1024] = '\0';
    expect_code(h, overlay_write(fd, path, "raw", 512, &h->e), LARDER_INVAL);
    expect_code(h, overlay_write(fd, "/b", "raw", (1ull << 51) + 1, &h->e), LARDER_LIMIT);
    expect_code(h, overlay_write(fd, "/b", "raw", UINT64_MAX, &h->e), LARDER_LIMIT);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 0);
    path[1023] = '\0';
    expect_ok(h, overlay_write(fd, path, "raw", 512, &h->e));
    parsed(h, "o.qcow2", path, 512);
    close(fd);
}

#ifdef HAVE_QEMU_IMG
/* What a guest writes stays in the overlay, and the rest is read from the base. */
static void test_written_to(void **state)
{
    struct host *h = *state;
    host_shell(h, "head -c 3000000 /dev/urandom >base.raw");
    int fd = new_file(h, "o.qcow2");
    expect_ok(h, overlay_write(fd, host_path(h, "base.raw"), "raw", 3000320, &h->e));
    close(fd);
    host_shell(h, "sha256sum base.raw >before && "
                  "qemu-io -f qcow2 -c 'write -P 7 1000000 200000' o.qcow2 && "
                  "qemu-io -f qcow2 -c 'read -P 7 1000000 200000' o.qcow2 && "
                  "qemu-img check -q o.qcow2 && sha256sum -c before && "
                  "qemu-img convert -O raw o.qcow2 flat && "
                  "cmp -n 1000000 flat base.raw && cmp -i 1200000 -n 1800000 flat base.raw");
}
#endif

static void get(struct host *h, const char *source, struct larder_image_result *ret)
{
    expect_ok(h, larder_image_get(h->store, host_path(h, source), NULL, ret, &h->e));
}

static int count_lease(void *arg, const struct lease *lease)
{
    assert_int_equal(lease->kind, LEASE_FILE);
    ++*(unsigned *)arg;
    return 0;
}

static unsigned leases(struct host *h, const struct larder_digest *digest)
{
    unsigned count = 0;
    expect_ok(h, lease_each(h->store, digest, count_lease, &count, &h->e));
    return count;
}

static void collect_all(struct host *h, struct larder_gc_report *ret)
{
    struct larder_gc_options options = LARDER_GC_OPTIONS_INIT;
    options.keep_for_ns = 0;
    expect_ok(h, larder_gc(h->store, &options, ret, &h->e));
}

/* The overlay keeps its base from gc as long as it is there. */
static void test_lease(void **state)
{
    struct host *h = *state;
    struct larder_image_result image = {0};
    struct larder_gc_report report = {0};
    host_image(h, "x.qcow2", 1);
    get(h, "x.qcow2", &image);
    expect_ok(h, larder_image_overlay(h->store, &image, host_path(h, "o.qcow2"), 0, &h->e));
    parsed(h, "o.qcow2", image.path, 1 << 30);
    qemu_likes(h, "o.qcow2", "qcow2", 1 << 30);
    assert_int_equal(leases(h, &image.digest), 1);
    expect_code(h, larder_image_overlay(h->store, &image, host_path(h, "o.qcow2"), 0, &h->e),
                LARDER_EXIST);
    expect_code(h, larder_image_overlay(h->store, &image, host_path(h, "p.qcow2"), 512, &h->e),
                LARDER_INVAL);
    assert_int_equal(access(host_path(h, "p.qcow2"), F_OK), -1);
    assert_int_equal(leases(h, &image.digest), 1);
    expect_ok(h,
              larder_image_overlay(h->store, &image, host_path(h, "big.qcow2"), 5ull << 30, &h->e));
    qemu_likes(h, "big.qcow2", "qcow2", 5ull << 30);
    expect_ok(h, larder_image_remove(h->store, image.name, &h->e));
    collect_all(h, &report);
    assert_int_equal(access(image.path, F_OK), 0);
    unlink(host_path(h, "o.qcow2"));
    collect_all(h, &report);
    assert_int_equal(access(image.path, F_OK), 0);
    unlink(host_path(h, "big.qcow2"));
    collect_all(h, &report);
    assert_int_equal(access(image.path, F_OK), -1);
    expect_code(h, larder_image_overlay(h->store, &image, host_path(h, "o.qcow2"), 0, &h->e),
                LARDER_NOENT);
    assert_int_equal(access(host_path(h, "o.qcow2"), F_OK), -1);
    larder_image_result_done(&image);
}

/* QEMU's names of formats are not always ours. */
static void test_drivers(void **state)
{
#ifdef HAVE_QEMU_IMG
    static const struct {
        const char *make, *driver;
    } cases[] = {
        {"qemu-img create -f raw x 2M && printf '\\125\\252' | dd of=x bs=1 seek=510 conv=notrunc",
         "raw"},
        {"qemu-img create -f vpc -o subformat=dynamic x 2M", "vpc"},
        {"qemu-img create -f vdi x 2M", "vdi"},
        {"qemu-img create -f vhdx x 2M", "vhdx"},
        {"truncate -s 1M x && printf 'CD001' | dd of=x bs=1 seek=32769 conv=notrunc", "raw"},
    };
    struct host *h = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct larder_image_result image = {0};
        char name[16];
        host_shell(h, cases[i].make);
        snprintf(name, sizeof(name), "s%zu", i);
        assert_int_equal(rename(host_path(h, "x"), host_path(h, name)), 0);
        get(h, name, &image);
        unlink(host_path(h, "o.qcow2"));
        expect_ok(h,
                  larder_image_overlay(h->store, &image, host_path(h, "o.qcow2"), 4 << 20, &h->e));
        qemu_likes(h, "o.qcow2", cases[i].driver, 4 << 20);
        host_shell(h, "qemu-img convert -O raw o.qcow2 flat");
        larder_image_result_done(&image);
    }
#else
    (void)state;
#endif
}

static void test_copy(void **state)
{
    struct host *h = *state;
    struct larder_image_result image = {0};
    struct stat st;
    bool was_reflinked = true;
    host_image(h, "x.qcow2", 1);
    host_shell(h, "truncate -s 50M x.qcow2");
    get(h, "x.qcow2", &image);
    expect_ok(h,
              larder_image_copy(h->store, &image, host_path(h, "c"), false, &was_reflinked, &h->e));
    assert_string_equal(host_hex(host_path(h, "c"), LARDER_DIGEST_SHA256),
                        host_hex(host_path(h, "x.qcow2"), LARDER_DIGEST_SHA256));
    assert_int_equal(stat(host_path(h, "c"), &st), 0);
    assert_true(st.st_mode & 0200); /* theirs to write */
    assert_true(st.st_blocks * 512 < 5 << 20);
    expect_code(h, larder_image_copy(h->store, &image, host_path(h, "c"), false, NULL, &h->e),
                LARDER_EXIST);
    host_text(h, "c", "old");
    expect_ok(h, larder_image_copy(h->store, &image, host_path(h, "c"), true, NULL, &h->e));
    assert_int_equal(stat(host_path(h, "c"), &st), 0);
    assert_int_equal(st.st_size, 50 << 20);
    expect_code(h, larder_image_copy(h->store, &image, host_path(h, "no/c"), true, NULL, &h->e),
                LARDER_NOENT);
    host_shell(h, "test -z \"$(ls | grep larder-)\"");
    larder_image_result_done(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_HOST(test_sizes),      ON_HOST(test_refused), ON_HOST(test_lease),
        ON_HOST(test_drivers),    ON_HOST(test_copy),
#ifdef HAVE_QEMU_IMG
        ON_HOST(test_written_to),
#endif
    };
    return cmocka_run_group_tests_name("overlay", tests, NULL, NULL);
}
