/* SPDX-License-Identifier: Apache-2.0 */
#include "store/dir/blob.h"

#include <sys/mount.h>
#include <time.h>

#include "base/clock.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "store/dir/quarantine.h"
#include "store_fixture.h"

#define ABC_HEX "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static enum blob_state check(struct fixture *f, const struct larder_digest *digest)
{
    enum blob_state state = BLOB_MISSING;
    int r = blob_check(f->store, digest, &state, NULL, NULL, &f->e);
    if (r < 0)
        print_error("%s\n", f->e.msg);
    assert_int_equal(r, 0);
    return state;
}

static void put_gives_a_verified_blob(void **state)
{
    struct fixture *f = *state;
    struct larder_blob_info info;
    struct stat st;
    char path[256];
    struct larder_digest digest = fixture_put(f, "abc");

    assert_true(fixture_has(f, "blobs/sha256/" ABC_HEX));
    assert_int_equal(check(f, &digest), BLOB_GOOD);
    assert_int_equal(larder_blob_path(f->store, &digest, path, sizeof path, &f->e), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0444);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(larder_blob_stat(f->store, &digest, &info, &f->e), 0);
    assert_int_equal(info.size_bytes, 3);
    int64_t now = clock_realtime_ns();
    assert_true(now - info.added_ns < 60 * NS_PER_S && now - info.last_used_ns < 60 * NS_PER_S);
    assert_true(info.last_verified_ns > 0);
    assert_int_equal(fixture_count(f, "tmp"), 0);
    assert_int_equal(larder_blob_path(f->store, &digest, path, 20, &f->e), -LARDER_LIMIT);

    /* Again: the same blob, the same inode. */
    ino_t before = st.st_ino;
    fixture_put(f, "abc");
    assert_int_equal(larder_blob_path(f->store, &digest, path, sizeof path, &f->e), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_ino, before);
    assert_int_equal(fixture_count(f, "tmp"), 0);
    assert_int_equal(fixture_count(f, "quarantine"), 0);
}

static void put_checks_what_is_expected(void **state)
{
    struct fixture *f = *state;
    struct larder_digest wrong = {.alg = LARDER_DIGEST_SHA256, .bytes = {1}};
    struct larder_digest sha512, md5 = {.alg = LARDER_DIGEST_MD5}, ret = {0};

    assert_int_equal(larder_blob_put(f->store, "abc", 3, &wrong, &ret, &f->e), -LARDER_MISMATCH);
    assert_int_equal(ret.alg, LARDER_DIGEST_NONE);
    assert_int_equal(fixture_count(f, "blobs/sha256"), 0);
    assert_int_equal(fixture_count(f, "tmp"), 0);
    assert_int_equal(larder_blob_put(f->store, "abc", 3, &md5, &ret, &f->e), -LARDER_INVAL);
    assert_int_equal(hash_of(LARDER_DIGEST_SHA512, "abc", 3, &sha512, &f->e), 0);
    assert_int_equal(larder_blob_put(f->store, "abc", 3, &sha512, &ret, &f->e), 0);
    assert_int_equal(check(f, &sha512), BLOB_GOOD);
    assert_int_equal(fixture_count(f, "blobs/sha512"), 1);
}

static void put_fd_reads_to_the_end_and_keeps_holes(void **state)
{
    struct fixture *f = *state;
    char path[256];
    struct larder_digest digest, expected;
    struct larder_blob_info info;
    struct hash *h = NULL;

    snprintf(path, sizeof path, "%s/source", f->dir);
    int fd = open(path, O_RDWR | O_CREAT, 0644);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "tail", 4, 8 << 20), 4);
    assert_int_equal(larder_blob_put_fd(f->store, fd, NULL, &digest, &f->e), 0);
    close(fd);
    assert_int_equal(hash_new(HASH_BIT(LARDER_DIGEST_SHA256), &h, &f->e), 0);
    hash_update_zeros(h, 8 << 20);
    hash_update(h, "tail", 4);
    assert_int_equal(hash_final(h, LARDER_DIGEST_SHA256, &expected, &f->e), 0);
    hash_free(h);
    assert_true(larder_digest_equal(&digest, &expected));
    assert_int_equal(larder_blob_stat(f->store, &digest, &info, &f->e), 0);
    assert_int_equal(info.size_bytes, (8 << 20) + 4);
    assert_true(info.allocated_bytes < 1 << 20);
}

static void damage_is_seen_without_reading(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");
    const char *path = fixture_path(f, "blobs/sha256/" ABC_HEX);

    /* Writable: same bytes, so suspect only. */
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(check(f, &digest), BLOB_SUSPECT);
    /* Longer. */
    fixture_write(f, "blobs/sha256/" ABC_HEX, "abcd");
    assert_int_equal(check(f, &digest), BLOB_UNSURE);
    /* Same length and mtime put back: ctime tells. */
    struct fixture *g = f;
    struct larder_digest other = fixture_put(g, "xyz");
    const char *name = fixture_blob_name("blobs", &other);
    struct stat st;
    assert_int_equal(stat(fixture_path(f, name), &st), 0);
    assert_int_equal(chmod(fixture_path(f, name), 0644), 0);
    fixture_write(f, name, "xyZ");
    struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, fixture_path(f, name), times, 0), 0);
    assert_int_equal(chmod(fixture_path(f, name), 0444), 0);
    assert_int_equal(check(f, &other), BLOB_SUSPECT);
    struct larder_digest actual = {0};
    assert_int_equal(blob_hash(f->store, &other, true, &actual, &f->e), -LARDER_CORRUPT);
    assert_int_equal(actual.alg, LARDER_DIGEST_SHA256);
    assert_false(larder_digest_equal(&actual, &other));
    /* Gone. */
    assert_int_equal(unlink(fixture_path(f, name)), 0);
    assert_int_equal(check(f, &other), BLOB_MISSING);
    assert_int_equal(larder_blob_stat(f->store, &other, &(struct larder_blob_info){0}, &f->e),
                     -LARDER_NOENT);
}

static void a_planted_link_is_no_blob(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc"), actual = {0};
    char secret[256];

    snprintf(secret, sizeof secret, "%s/secret", f->dir);
    assert_int_equal(rename(fixture_path(f, "blobs/sha256/" ABC_HEX), secret), 0);
    assert_int_equal(symlink(secret, fixture_path(f, "blobs/sha256/" ABC_HEX)), 0);
    assert_int_equal(check(f, &digest), BLOB_UNSURE);
    assert_int_equal(blob_hash(f->store, &digest, true, &actual, &f->e), -LARDER_CORRUPT);
    assert_int_equal(actual.alg, LARDER_DIGEST_NONE);

    /* Publishing puts real bytes there; what the link led to is as it was. */
    fixture_put(f, "abc");
    struct stat st;
    assert_int_equal(lstat(fixture_path(f, "blobs/sha256/" ABC_HEX), &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(check(f, &digest), BLOB_GOOD);
    assert_int_equal(stat(secret, &st), 0);
}

static void hash_records_only_settled_files(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc"), actual;

    const char *path = fixture_path(f, "blobs/sha256/" ABC_HEX);
    struct timespec changed[2] = {{.tv_nsec = UTIME_OMIT},
                                  {.tv_sec = clock_realtime_ns() / NS_PER_S + 3600}};

    assert_int_equal(memo_remove(f->store, &digest, &f->e), 0);
    assert_int_equal(check(f, &digest), BLOB_UNSURE);
    /* Changed less than 2 s before, however long we take. */
    assert_int_equal(utimensat(AT_FDCWD, path, changed, 0), 0);
    assert_int_equal(blob_hash(f->store, &digest, true, &actual, &f->e), 0);
    assert_true(larder_digest_equal(&actual, &digest));
    assert_int_equal(check(f, &digest), BLOB_UNSURE);
    changed[1].tv_sec -= 7200;
    assert_int_equal(utimensat(AT_FDCWD, path, changed, 0), 0);
    clock_sleep_ns(2100 * NS_PER_MS);
    assert_int_equal(blob_hash(f->store, &digest, true, &actual, &f->e), 0);
    assert_int_equal(check(f, &digest), BLOB_GOOD);
}

static void marks_hide_and_last(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");
    struct larder_digest none = {.alg = LARDER_DIGEST_SHA256};
    struct larder_blob_info info;
    struct memo memo;

    assert_int_equal(blob_mark_invalid(f->store, &none, "why", &f->e), -LARDER_NOENT);
    assert_int_equal(blob_mark_invalid(f->store, &digest, "bad \xff bytes", &f->e), 0);
    assert_int_equal(check(f, &digest), BLOB_MARKED);
    assert_int_equal(memo_read(f->store, &digest, &memo, NULL, &f->e), 0);
    assert_string_equal(memo.invalid_reason, "bad \\xff bytes");
    assert_int_equal(larder_blob_stat(f->store, &digest, &info, &f->e), -LARDER_NOENT);
    /* A hash that finds the bytes good does not undo somebody's decision. */
    struct larder_digest actual;
    clock_sleep_ns(2100 * NS_PER_MS);
    assert_int_equal(blob_hash(f->store, &digest, true, &actual, &f->e), 0);
    assert_int_equal(check(f, &digest), BLOB_MARKED);
    assert_int_equal(blob_mark_invalid(f->store, &digest, NULL, &f->e), 0);
    assert_int_equal(check(f, &digest), BLOB_GOOD);
    /* A mark on a blob that was never verified leaves no trust behind. */
    assert_int_equal(memo_remove(f->store, &digest, &f->e), 0);
    assert_int_equal(blob_mark_invalid(f->store, &digest, "why", &f->e), 0);
    assert_int_equal(blob_mark_invalid(f->store, &digest, NULL, &f->e), 0);
    assert_int_equal(check(f, &digest), BLOB_UNSURE);
}

static void publish_replaces_what_is_marked(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");
    struct stat before, after, put_away;

    assert_int_equal(stat(fixture_path(f, "blobs/sha256/" ABC_HEX), &before), 0);
    assert_int_equal(blob_mark_invalid(f->store, &digest, "why", &f->e), 0);
    fixture_put(f, "abc");
    assert_int_equal(check(f, &digest), BLOB_GOOD);
    assert_int_equal(stat(fixture_path(f, "blobs/sha256/" ABC_HEX), &after), 0);
    assert_int_not_equal(before.st_ino, after.st_ino);
    assert_int_equal(stat(fixture_path(f, "quarantine/sha256-" ABC_HEX ".0"), &put_away), 0);
    assert_int_equal(put_away.st_ino, before.st_ino);
}

static void publish_replaces_what_is_bad(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");

    assert_int_equal(chmod(fixture_path(f, "blobs/sha256/" ABC_HEX), 0644), 0);
    fixture_write(f, "blobs/sha256/" ABC_HEX, "abX");
    fixture_put(f, "abc");
    assert_int_equal(check(f, &digest), BLOB_GOOD);
    assert_int_equal(fixture_count(f, "quarantine"), 2);
    assert_int_equal(fixture_count(f, "tmp"), 0);
}

static int put_in_child(struct fixture *f, int i)
{
    static char data[300000];
    struct larder_digest digest;
    (void)i;
    memset(data, 'z', sizeof data);
    if (fixture_open(f, 0) < 0)
        return -1;
    int r = larder_blob_put(f->store, data, sizeof data, NULL, &digest, &f->e);
    enum blob_state state = BLOB_MISSING;
    if (r == 0)
        r = blob_check(f->store, &digest, &state, NULL, NULL, &f->e);
    if (r < 0)
        fprintf(stderr, "%s\n", f->e.msg);
    return r < 0 || state != BLOB_GOOD;
}

static void sixteen_processes_put_one_blob(void **state)
{
    struct fixture *f = *state;
    for (int round = 0; round < 5; round++) {
        assert_int_equal(fixture_race(16, put_in_child, f), 0);
        assert_int_equal(fixture_count(f, "blobs/sha256"), 1);
        /* Nobody took another's fresh blob for a bad one. */
        assert_int_equal(fixture_count(f, "quarantine"), 0);
        assert_int_equal(fixture_count(f, "tmp"), 0);
        char command[300];
        snprintf(command, sizeof command, "rm -f %s/blobs/sha256/* %s/memo/sha256/*", f->path,
                 f->path);
        assert_int_equal(system(command), 0);
    }
}

/* Even ones publish, odd ones quarantine; a publisher's look-up right after may miss, never lie. */
static int publish_or_quarantine(struct fixture *f, int i)
{
    struct larder_digest digest;
    if (fixture_open(f, 0) < 0 || hash_of(LARDER_DIGEST_SHA256, "abc", 3, &digest, NULL) < 0)
        return -1;
    for (int n = 0; n < 8; n++) {
        if (i % 2 == 0) {
            if (larder_blob_put(f->store, "abc", 3, NULL, &digest, &f->e) < 0) {
                fprintf(stderr, "%s\n", f->e.msg);
                return -1;
            }
            continue;
        }
        CLEANUP_CLOSE int lock = -1;
        if (store_lock(f->store, "gc", true, true, &lock, &f->e) < 0)
            return -1;
        int r = quarantine_blob(f->store, &digest, NULL, "test", &f->e);
        if (r < 0 && r != -LARDER_NOENT) {
            fprintf(stderr, "%s\n", f->e.msg);
            return -1;
        }
    }
    return 0;
}

static void publish_while_quarantine(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(fixture_race(8, publish_or_quarantine, f), 0);
    fixture_put(f, "abc");
    assert_int_equal(fixture_count(f, "blobs/sha256"), 1);
    assert_int_equal(fixture_count(f, "tmp"), 0);
}

static int count_blob(void *arg, const struct larder_digest *digest)
{
    (void)digest;
    ++*(int *)arg;
    return 0;
}

static void each_and_remove(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");
    int n = 0;

    fixture_put(f, "def");
    fixture_write(f, "blobs/sha256/README", "not ours");
    fixture_write(f,
                  "blobs/sha256/BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD",
                  "another name for abc");
    assert_int_equal(blob_each(f->store, count_blob, &n, &f->e), 0);
    assert_int_equal(n, 2);
    assert_int_equal(blob_remove(f->store, &digest, &f->e), 0);
    assert_int_equal(blob_remove(f->store, &digest, &f->e), 0);
    assert_false(fixture_has(f, "blobs/sha256/" ABC_HEX));
    assert_false(fixture_has(f, "memo/sha256/" ABC_HEX));
}

static void read_only_stores_are_left_alone(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc"), ret;

    assert_int_equal(fixture_open(f, LARDER_STORE_READ_ONLY), 0);
    assert_int_equal(check(f, &digest), BLOB_GOOD);
    assert_int_equal(larder_blob_put(f->store, "x", 1, NULL, &ret, &f->e), -LARDER_DENIED);
    assert_int_equal(blob_remove(f->store, &digest, &f->e), -LARDER_DENIED);
    assert_int_equal(blob_mark_invalid(f->store, &digest, "why", &f->e), -LARDER_DENIED);
    assert_int_equal(blob_hash(f->store, &digest, true, &ret, &f->e), 0);
}

static void a_full_disk_loses_nothing(void **state)
{
    struct fixture *f = *state;
    struct larder_digest ret = {0};
    size_t n = 4 << 20;

    /* Only root can mount; elsewhere the fault tests stand in. */
    if (geteuid() != 0 || mkdir(f->path, 0755) < 0)
        return;
    if (mount("none", f->path, "tmpfs", MS_NOSUID, "size=1m,mode=0700") < 0)
        return;
    char *data = malloc(n);
    assert_non_null(data);
    memset(data, 'q', n);
    int opened = fixture_open(f, LARDER_STORE_CREATE);
    struct larder_digest digest = {0};
    int small = larder_blob_put(f->store, "abc", 3, NULL, &digest, &f->e);
    int big = larder_blob_put(f->store, data, n, NULL, &ret, &f->e);
    int temps = fixture_count(f, "tmp");
    enum blob_state after = check(f, &digest);
    larder_store_close(f->store);
    f->store = NULL;
    umount2(f->path, MNT_DETACH);
    free(data);
    assert_int_equal(opened, 0);
    assert_int_equal(small, 0);
    assert_int_equal(big, -LARDER_NOSPACE);
    assert_int_equal(ret.alg, LARDER_DIGEST_NONE);
    assert_int_equal(temps, 0);
    assert_int_equal(after, BLOB_GOOD);
}

int main(void)
{
#define STORE(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        STORE(put_gives_a_verified_blob),
        STORE(put_checks_what_is_expected),
        STORE(put_fd_reads_to_the_end_and_keeps_holes),
        STORE(damage_is_seen_without_reading),
        STORE(a_planted_link_is_no_blob),
        STORE(hash_records_only_settled_files),
        STORE(marks_hide_and_last),
        STORE(publish_replaces_what_is_marked),
        STORE(publish_replaces_what_is_bad),
        STORE(sixteen_processes_put_one_blob),
        STORE(publish_while_quarantine),
        STORE(each_and_remove),
        STORE(read_only_stores_are_left_alone),
        cmocka_unit_test_setup_teardown(a_full_disk_loses_nothing, fixture_setup_bare,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
