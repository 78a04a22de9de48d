/* SPDX-License-Identifier: Apache-2.0 */
/* Who uses an image: locks and openers in another process, overlays at rest. */
#include <signal.h>
#include <sys/prctl.h>

#include "image_host.h"

#include "image/overlay_write.h"
#include "image/users.h"
#include "store/dir/dir.h"

/* What a child does with the image while it is asked about. */
struct hold {
    bool is_open;
    short lock; /* F_RDLCK, F_WRLCK; 0: none */
    off_t start, length;
    int lease; /* F_RDLCK, F_WRLCK; -1: none */
    bool posix;
};

static void hold(const char *path, const struct hold *how, int ready)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int flags = how->lock == F_WRLCK ? O_RDWR : O_RDONLY;
    int fd = open(path, flags | O_CLOEXEC);
    struct flock lock = {
        .l_type = how->lock, .l_whence = SEEK_SET, .l_start = how->start, .l_len = how->length};
    bool is_done = fd >= 0;
    if (how->lock != F_UNLCK)
        is_done &= fcntl(fd, how->posix ? F_SETLK : F_OFD_SETLK, &lock) == 0;
    if (how->lease >= 0)
        is_done &= fcntl(fd, F_SETLEASE, how->lease) == 0;
    /* Without an open descriptor only the lock of another open file would be seen. */
    if (write(ready, is_done ? "y" : "n", 1) == 1)
        for (;;)
            pause();
    _exit(1);
}

static pid_t begin(const char *path, const struct hold *how)
{
    int pipes[2];
    char byte = 'n';
    signal(SIGIO, SIG_IGN);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        hold(path, how, pipes[1]);
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    close(pipes[0]);
    close(pipes[1]);
    return pid;
}

static void end(pid_t pid)
{
    int status;
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static unsigned ask(struct host *h, const char *path, struct buf *who)
{
    unsigned flags = 0;
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    expect_ok(h, image_users_of_fd(fd, &flags, who, &h->e));
    return flags;
}

static void test_processes(void **state)
{
    static const struct {
        struct hold how;
        unsigned flags;
        const char *who;
    } cases[] = {
        {{true, F_UNLCK, 0, 0, -1, false}, IMAGE_USE_OPENED, "has it open"},
        {{true, F_RDLCK, 100, 1, -1, false}, IMAGE_USE_OPENED | IMAGE_USE_OFD_READER, "reading"},
        {{true, F_RDLCK, 101, 1, -1, false}, IMAGE_USE_OPENED | IMAGE_USE_OFD_WRITER, "writing"},
        {{true, F_RDLCK, 201, 1, -1, false}, IMAGE_USE_OPENED | IMAGE_USE_OFD_READER, "reading"},
        {{true, F_RDLCK, 203, 1, -1, false}, IMAGE_USE_OPENED | IMAGE_USE_OFD_READER, "a lock"},
        {{true, F_WRLCK, 0, 0, -1, false}, IMAGE_USE_OPENED | IMAGE_USE_OFD_WRITER, "writing"},
        {{true, F_RDLCK, 0, 1, -1, true}, IMAGE_USE_OPENED | IMAGE_USE_OFD_READER, "a lock"},
        {{true, F_UNLCK, 0, 0, F_RDLCK, false}, IMAGE_USE_OPENED, "has it open"},
    };
    struct host *h = *state;
    struct buf who = BUF_INIT(4096);
    host_image(h, "x.qcow2", 1);
    const char *path = strdup(host_path(h, "x.qcow2"));
    assert_int_equal(ask(h, path, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char process[64];
        pid_t pid = begin(path, &cases[i].how);
        buf_reset(&who);
        unsigned flags = ask(h, path, &who);
        unsigned quiet = ask(h, path, NULL);
        end(pid);
        snprintf(process, sizeof(process), "process %ld (test_users) has it open", (long)pid);
        if (flags != cases[i].flags || quiet != flags || !strstr(who.p, cases[i].who) ||
            !strstr(who.p, process))
            fail_msg("case %zu: %#x %#x \"%s\", expected %#x \"%s\"", i, flags, quiet, who.p,
                     cases[i].flags, cases[i].who);
        assert_int_equal(ask(h, path, NULL), 0);
    }
    buf_done(&who);
    free((void *)(uintptr_t)path);
}

/* Asking leaves nothing behind that others would meet. */
static void test_no_trace(void **state)
{
    struct host *h = *state;
    unsigned flags = 77;
    host_image(h, "x.qcow2", 1);
    CLEANUP_CLOSE int fd = open(host_path(h, "x.qcow2"), O_RDONLY | O_CLOEXEC);
    expect_ok(h, image_users_of_fd(fd, &flags, NULL, &h->e));
    assert_int_equal(flags, 0);
    assert_int_equal(fcntl(fd, F_GETLEASE), F_UNLCK);
    const struct hold writer = {true, F_WRLCK, 0, 0, -1, false};
    end(begin(host_path(h, "x.qcow2"), &writer));
}

/* ---- overlays at rest ---- */

static void overlay(struct host *h, const char *file, const char *backing)
{
    int fd = open(host_path(h, file), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    expect_ok(h, overlay_write(fd, backing, "qcow2", 1 << 20, &h->e));
    close(fd);
}

static void test_overlays(void **state)
{
    struct host *h = *state;
    struct larder_image_result image = {0};
    char name[1024], guests[512];
    const char *dirs[] = {guests, "/nonexistent-guests"};
    unsigned count = 9;
    host_image(h, "x.qcow2", 1);
    expect_ok(h, larder_image_get(h->store, host_path(h, "x.qcow2"), NULL, &image, &h->e));
    snprintf(guests, sizeof(guests), "%s", host_path(h, "guests"));
    host_shell(h, "mkdir -p guests/a/disk guests/a/disk/deep");
    const char *hex = strrchr(image.path, '/') + 1;
    expect_ok(h, image_users_overlays(h->store, image.path, &count, NULL, &h->e));
    assert_int_equal(count, 0); /* no directory is known yet */
    expect_ok(h, larder_store_set_guest_dirs(h->store, dirs, 2, &h->e));
    static const struct {
        const char *format; /* %s: path of the blob, or what follows it */
        unsigned count;
    } cases[] = {
        {"%s", 1},
        {"file:%s", 1},
        {"json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}", 1},
        {"json:{\"file.filename\":\"%s\"}", 1},
        {"../../store/blobs/sha256/%s", 1},            /* relative to the overlay */
        {"/other/mount/blobs/sha256/%s", 1},           /* the same store by another path */
        {"json:{\"driver\":\"new\",\"x\":\"%s\"}", 1}, /* not understood, but it is named */
        {"/images/base.qcow2", 0},
        {"nbd:localhost:10809", 0},
        {"json:{\"driver\":\"new\",\"x\":\"y\"}", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bool wants_hex = strstr(cases[i].format, "sha256/") != NULL;
        const char *what = wants_hex ? hex : image.path;
        const char *at = strstr(cases[i].format, "%s");
        if (at)
            snprintf(name, sizeof(name), "%.*s%s%s", (int)(at - cases[i].format), cases[i].format,
                     what, at + 2);
        else
            snprintf(name, sizeof(name), "%s", cases[i].format);
        overlay(h, "guests/o.qcow2", name);
        expect_ok(h, image_users_overlays(h->store, image.path, &count, NULL, &h->e));
        if (count != cases[i].count)
            fail_msg("%s: %u, expected %u", name, count, cases[i].count);
    }
    unlink(host_path(h, "guests/o.qcow2"));
    overlay(h, "guests/a/disk/o.qcow2", image.path);
    overlay(h, "guests/a/o.img", image.path);
    overlay(h, "guests/a/disk/deep/o.qcow2", image.path); /* deeper than guests are kept */
    struct buf who = BUF_INIT(4096);
    expect_ok(h, image_users_overlays(h->store, image.path, &count, &who, &h->e));
    assert_int_equal(count, 2);
    assert_non_null(strstr(who.p, "overlay "));
    buf_reset(&who);
    unsigned flags = 0;
    expect_ok(h, image_users_of_blob(h->store, &image.digest, &flags, &who, &h->e));
    assert_int_equal(flags, IMAGE_USE_OVERLAY);
    buf_done(&who);
    larder_image_result_done(&image);
}

/* A backing file by a symbolic link is the file. */
static void test_links(void **state)
{
    struct host *h = *state;
    struct larder_image_result image = {0};
    char guests[512];
    const char *dirs[] = {guests};
    unsigned count = 9;
    host_image(h, "x.qcow2", 1);
    expect_ok(h, larder_image_get(h->store, host_path(h, "x.qcow2"), NULL, &image, &h->e));
    snprintf(guests, sizeof(guests), "%s", host_path(h, "guests"));
    host_shell(h, "mkdir guests");
    expect_ok(h, larder_store_set_guest_dirs(h->store, dirs, 1, &h->e));
    assert_int_equal(symlink(image.path, host_path(h, "guests/base")), 0);
    overlay(h, "guests/o.qcow2", "base");
    expect_ok(h, image_users_overlays(h->store, image.path, &count, NULL, &h->e));
    assert_int_equal(count, 1);
    larder_image_result_done(&image);
}

/* What cannot be looked into may hold an overlay. */
static void test_unreadable(void **state)
{
    struct host *h = *state;
    struct buf who = BUF_INIT(4096);
    char guests[512];
    const char *dirs[] = {guests};
    unsigned count = 9;
    host_image(h, "x.qcow2", 1);
    snprintf(guests, sizeof(guests), "%s", host_path(h, "guests"));
    host_shell(h, "mkdir -p guests/a && chmod 755 .. . && chmod 0 guests/a");
    expect_ok(h, larder_store_set_guest_dirs(h->store, dirs, 1, &h->e));
    bool is_root = geteuid() == 0;
    if (is_root)
        assert_int_equal(seteuid(65534), 0);
    int r = image_users_overlays(h->store, host_path(h, "x.qcow2"), &count, &who, &h->e);
    if (is_root)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(r, 0);
    assert_int_equal(count, 1);
    assert_non_null(strstr(who.p, "unknown: "));
    host_shell(h, "chmod 755 guests/a && : >guests/a/o.qcow2 && chmod 0 guests/a/o.qcow2");
    if (is_root)
        assert_int_equal(seteuid(65534), 0);
    r = image_users_overlays(h->store, host_path(h, "x.qcow2"), &count, NULL, &h->e);
    if (is_root)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(r, 0);
    assert_int_equal(count, 1);
    buf_done(&who);
}

/* A header that can't be understood counts when it speaks of the image. */
static void test_damaged(void **state)
{
    struct host *h = *state;
    struct larder_image_result image = {0};
    char guests[512];
    const char *dirs[] = {guests};
    unsigned count = 9;
    host_image(h, "x.qcow2", 1);
    expect_ok(h, larder_image_get(h->store, host_path(h, "x.qcow2"), NULL, &image, &h->e));
    snprintf(guests, sizeof(guests), "%s", host_path(h, "guests"));
    host_shell(h, "mkdir guests");
    expect_ok(h, larder_store_set_guest_dirs(h->store, dirs, 1, &h->e));
    overlay(h, "guests/o.qcow2", image.path);
    host_shell(h, "printf '\\377' | dd of=guests/o.qcow2 bs=1 seek=7 conv=notrunc");
    expect_ok(h, image_users_overlays(h->store, image.path, &count, NULL, &h->e));
    assert_int_equal(count, 1);
    overlay(h, "guests/o.qcow2", "/images/base.qcow2");
    host_shell(h, "printf '\\377' | dd of=guests/o.qcow2 bs=1 seek=7 conv=notrunc");
    expect_ok(h, image_users_overlays(h->store, image.path, &count, NULL, &h->e));
    assert_int_equal(count, 0);
    larder_image_result_done(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_HOST(test_processes), ON_HOST(test_no_trace),   ON_HOST(test_overlays),
        ON_HOST(test_links),     ON_HOST(test_unreadable), ON_HOST(test_damaged),
    };
    return cmocka_run_group_tests_name("users", tests, NULL, NULL);
}
