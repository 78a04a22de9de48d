/* SPDX-License-Identifier: Apache-2.0 */
#include "store/dir/memo.h"

#include "base/clock.h"
#include "base/process.h"
#include "store_fixture.h"

static struct stat sample(void)
{
    struct stat st = {.st_dev = 5, .st_ino = UINT64_MAX - 1, .st_size = 1000, .st_mode = 0100444};
    st.st_mtim = (struct timespec){1700000000, 1};
    st.st_ctim = (struct timespec){1700000000, 2};
    return st;
}

static void compare(void **state)
{
    (void)state;
    struct memo memo = {0};
    struct stat st = sample();
    memo_fill(&memo, &st);
    assert_true(memo.added_ns > 0);
    assert_int_equal(fingerprint_compare(&memo, &st), MEMO_MATCH);

#define CASE(change, verdict)                                       \
    do {                                                            \
        st = sample();                                              \
        change;                                                     \
        assert_int_equal(fingerprint_compare(&memo, &st), verdict); \
    } while (0)
    CASE(st.st_size++, MEMO_CHANGED);
    CASE(st.st_ino--, MEMO_CHANGED);
    CASE(st.st_mtim.tv_nsec++, MEMO_CHANGED);
    CASE(st.st_mtim.tv_sec--, MEMO_CHANGED);
    CASE(st.st_ctim.tv_nsec++, MEMO_SUSPECT);
    CASE(st.st_mode = 0100644, MEMO_SUSPECT);
    CASE(st.st_uid = 1, MEMO_SUSPECT);
    /* Another disk within this boot; after another boot the same disk may have another number. */
    CASE(st.st_dev++, MEMO_CHANGED);
    snprintf(memo.boot_id, sizeof memo.boot_id, "another");
    CASE(st.st_dev++, MEMO_SUSPECT);
    CASE((void)0, MEMO_MATCH);
    memo.is_invalid = true;
    CASE((void)0, MEMO_INVALID);
}

static void racy_rule(void **state)
{
    (void)state;
    struct stat st = sample();
    int64_t changed = 1700000000 * NS_PER_S + 2;
    assert_false(fingerprint_is_settled(&st, changed));
    assert_false(fingerprint_is_settled(&st, changed + 2 * NS_PER_S));
    assert_true(fingerprint_is_settled(&st, changed + 2 * NS_PER_S + 1));
    assert_false(fingerprint_is_settled(&st, 0));
    st.st_mtim.tv_sec += 10; /* the later one counts */
    assert_false(fingerprint_is_settled(&st, changed + 5 * NS_PER_S));
}

static void settle_gives_the_last_stamps(void **state)
{
    struct fixture *f = *state;
    struct stat st, later;
    fixture_write(f, "tmp/x", "x");
    int fd = open(fixture_path(f, "tmp/x"), O_RDWR);
    assert_int_equal(memo_settle(fd, &st, &f->e), 0);
    /* A write after it is always seen. */
    assert_int_equal(pwrite(fd, "y", 1, 0), 1);
    assert_int_equal(fstat(fd, &later), 0);
    assert_true(later.st_ctim.tv_sec != st.st_ctim.tv_sec ||
                later.st_ctim.tv_nsec != st.st_ctim.tv_nsec);
    close(fd);
}

static void round_trip(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = {.alg = LARDER_DIGEST_SHA512, .bytes = {7}};
    struct memo memo = {.verified_ns = 42}, back;
    struct stat st = sample();
    int64_t used = 0, began = clock_coarse_ns();

    assert_int_equal(memo_read(f->store, &digest, &back, &used, &f->e), -LARDER_NOENT);
    memo_fill(&memo, &st);
    assert_int_equal(memo_write(f->store, &digest, &memo, &f->e), 0);
    assert_int_equal(memo_read(f->store, &digest, &back, &used, &f->e), 0);
    assert_memory_equal(&memo.fingerprint, &back.fingerprint, sizeof memo.fingerprint);
    assert_int_equal(back.verified_ns, 42);
    assert_int_equal(back.added_ns, memo.added_ns);
    assert_string_equal(back.boot_id, process_boot_id());
    assert_false(back.is_invalid);
    assert_true(used >= began);
    assert_int_equal(memo_remove(f->store, &digest, &f->e), 0);
    assert_int_equal(memo_remove(f->store, &digest, &f->e), 0);
}

static void last_use(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");
    struct memo memo;
    int64_t used = 0, again = 0;
    const char *name = fixture_path(f, fixture_blob_name("memo", &digest));

    /* A use of the last minute is not written again; an old one is; one in the future is put
     * right. */
    static const struct {
        int64_t age_s;
        bool is_touched;
    } cases[] = {{0, false}, {61, true}, {86400, true}, {-86400, true}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct timespec t[2] = {{.tv_nsec = UTIME_OMIT},
                                {.tv_sec = clock_realtime_ns() / NS_PER_S - cases[i].age_s}};
        assert_int_equal(utimensat(AT_FDCWD, name, t, 0), 0);
        memo_touch(f->store, &digest);
        assert_int_equal(memo_read(f->store, &digest, &memo, &used, &f->e), 0);
        assert_int_equal(used != t[1].tv_sec * NS_PER_S, cases[i].is_touched);
    }
    /* A scrub that rewrites the memo is no use. */
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1600000000, .tv_nsec = 5}};
    assert_int_equal(utimensat(AT_FDCWD, name, t, 0), 0);
    assert_int_equal(memo_write(f->store, &digest, &memo, &f->e), 0);
    assert_int_equal(memo_read(f->store, &digest, &memo, &again, &f->e), 0);
    assert_int_equal(again, 1600000000 * NS_PER_S + 5);

    assert_int_equal(fixture_open(f, LARDER_STORE_READ_ONLY), 0);
    memo_touch(f->store, &digest);
    assert_int_equal(memo_read(f->store, &digest, &memo, &again, &f->e), 0);
    assert_int_equal(again, 1600000000 * NS_PER_S + 5);
}

static void damage_counts_as_none(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{\"version\": 1}",
        "{\"version\": 2, \"device\": 1}",
        "{\"version\":1,\"device\":1,\"inode\":1,\"size\":3,\"mtime_ns\":1,\"ctime_ns\":1,"
        "\"mode\":292,\"uid\":0,\"added_ns\":1,\"verified_ns\":1,\"boot_id\":\"\",\"invalid\":1}",
        "{\"version\":1,\"device\":1,\"inode\":1,\"size\":3,\"mtime_ns\":1,\"ctime_ns\":1,"
        "\"mode\":292000000000,\"uid\":0,\"added_ns\":1,\"verified_ns\":1,\"boot_id\":\"\"}",
        "{\"version\":1,\"device\":1,\"inode\":1,\"size\":3,\"mtime_ns\":1,\"ctime_ns\":1,"
        "\"mode\":292,\"uid\":0,\"added_ns\":1,\"verified_ns\":1,\"boot_id\":"
        "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}",
    };
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");
    struct memo memo;

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        fixture_write(f, fixture_blob_name("memo", &digest), texts[i]);
        assert_int_equal(memo_read(f->store, &digest, &memo, NULL, &f->e), -LARDER_NOENT);
    }
    assert_int_equal(unlink(fixture_path(f, fixture_blob_name("memo", &digest))), 0);
    assert_int_equal(symlink("/etc/passwd", fixture_path(f, fixture_blob_name("memo", &digest))),
                     0);
    assert_int_equal(memo_read(f->store, &digest, &memo, NULL, &f->e), -LARDER_NOENT);
    assert_int_equal(unlink(fixture_path(f, fixture_blob_name("memo", &digest))), 0);
    assert_int_equal(mkfifo(fixture_path(f, fixture_blob_name("memo", &digest)), 0644), 0);
    assert_int_equal(memo_read(f->store, &digest, &memo, NULL, &f->e), -LARDER_NOENT);
}

static void by_path(void **state)
{
    struct fixture *f = *state;
    static const char *const paths[] = {"/srv/images/a.qcow2", "/srv/im\xff\x01s/%41 \"b\""};
    struct larder_digest digest = {.alg = LARDER_DIGEST_SHA1, .bytes = {1}}, back;
    struct memo memo = {.verified_ns = 9}, other;
    struct stat st = sample();

    memo_fill(&memo, &st);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        assert_int_equal(memo_read_path(f->store, paths[i], &other, &back, &f->e), -LARDER_NOENT);
        assert_int_equal(memo_write_path(f->store, paths[i], &memo, &digest, &f->e), 0);
        assert_int_equal(memo_read_path(f->store, paths[i], &other, &back, &f->e), 0);
        assert_true(larder_digest_equal(&digest, &back));
        assert_int_equal(fingerprint_compare(&other, &st), MEMO_MATCH);
    }
}

int main(void)
{
#define STORE(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compare),
        cmocka_unit_test(racy_rule),
        STORE(settle_gives_the_last_stamps),
        STORE(round_trip),
        STORE(last_use),
        STORE(damage_counts_as_none),
        STORE(by_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
