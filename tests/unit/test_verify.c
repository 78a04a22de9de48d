/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "store/dir/blob.h"
#include "store/dir/quarantine.h"
#include "store/upkeep/maintain.h"
#include "store_fixture.h"

#define ABC_HEX "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

/* What the real one (condemn.c, with tests of its own) would do is chosen by each test. */
static struct {
    int calls;
    int result;
    bool is_in_use;
} condemned;

int store_condemn(struct larder_store *store, const struct larder_digest *digest,
                  const struct larder_digest *actual, const char *reason,
                  const struct users_probe *users, bool *ret_moved, struct larder_error *e)
{
    (void)users;
    condemned.calls++;
    if (condemned.result < 0)
        return error_set(e, (enum larder_code) - condemned.result, "the reason");
    *ret_moved = !condemned.is_in_use;
    return condemned.is_in_use ? blob_mark_invalid(store, digest, reason, e)
                               : quarantine_blob(store, digest, actual, reason, e);
}

static int setup(void **state)
{
    memset(&condemned, 0, sizeof condemned);
    return fixture_setup(state);
}

static int verify(struct fixture *f, const struct larder_digest *digest,
                  enum larder_verify_depth depth)
{
    return larder_blob_verify(f->store, digest, depth, &f->e);
}

static void damage(struct fixture *f, const char *text)
{
    assert_int_equal(chmod(fixture_path(f, "blobs/sha256/" ABC_HEX), 0644), 0);
    fixture_write(f, "blobs/sha256/" ABC_HEX, text);
}

static void good_blobs_pass(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc"), none = {.alg = LARDER_DIGEST_SHA256};
    int fd = -1;

    assert_int_equal(verify(f, &digest, LARDER_VERIFY_MEMO), 0);
    assert_int_equal(verify(f, &digest, LARDER_VERIFY_DEEP), 0);
    assert_int_equal(verify(f, &none, LARDER_VERIFY_DEEP), -LARDER_NOENT);
    assert_int_equal(larder_blob_open(f->store, &none, &fd, &f->e), -LARDER_NOENT);
    assert_int_equal(larder_blob_open(f->store, &digest, &fd, &f->e), 0);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    close(fd);
    /* A fingerprint that only differs leads to a hash, not to a verdict. */
    assert_int_equal(chmod(fixture_path(f, "blobs/sha256/" ABC_HEX), 0644), 0);
    assert_int_equal(verify(f, &digest, LARDER_VERIFY_MEMO), 0);
    assert_int_equal(memo_remove(f->store, &digest, &f->e), 0);
    assert_int_equal(larder_blob_open(f->store, &digest, &fd, &f->e), 0);
    close(fd);
    assert_int_equal(condemned.calls, 0);
}

static void bad_blobs_go_in_the_same_call(void **state)
{
    static const char *const texts[] = {"abX", "ab", "abcd", ""};
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct larder_digest digest = fixture_put(f, "abc");
        int fd = -1;
        damage(f, texts[i]);
        assert_int_equal(i % 2 ? larder_blob_open(f->store, &digest, &fd, &f->e)
                               : verify(f, &digest, LARDER_VERIFY_MEMO),
                         -LARDER_CORRUPT);
        assert_int_equal(fd, -1);
        assert_non_null(strstr(f->e.msg, "sha256:" ABC_HEX));
        assert_non_null(strstr(f->e.msg, "moved to quarantine"));
        assert_int_equal(condemned.calls, i + 1);
        assert_int_equal(verify(f, &digest, LARDER_VERIFY_MEMO), -LARDER_NOENT);
    }
}

static void in_use_is_marked(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");
    int fd = -1;

    condemned.is_in_use = true;
    damage(f, "abX");
    assert_int_equal(verify(f, &digest, LARDER_VERIFY_DEEP), -LARDER_CORRUPT);
    assert_non_null(strstr(f->e.msg, "marked invalid"));
    assert_int_equal(verify(f, &digest, LARDER_VERIFY_MEMO), -LARDER_CORRUPT);
    assert_int_equal(larder_blob_open(f->store, &digest, &fd, &f->e), -LARDER_NOENT);
    assert_int_equal(condemned.calls, 1);
}

static void the_verdict_stands_when_moving_fails(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");

    condemned.result = -LARDER_IO;
    damage(f, "abX");
    assert_int_equal(verify(f, &digest, LARDER_VERIFY_DEEP), -LARDER_CORRUPT);
    assert_non_null(strstr(f->e.msg, "the reason"));
    assert_int_equal(fixture_open(f, LARDER_STORE_READ_ONLY), 0);
    assert_int_equal(verify(f, &digest, LARDER_VERIFY_DEEP), -LARDER_CORRUPT);
    assert_int_equal(condemned.calls, 1);
    assert_true(fixture_has(f, "blobs/sha256/" ABC_HEX));
}

static void a_link_is_taken_away_itself(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");
    char real[256];

    snprintf(real, sizeof real, "%s/real", f->dir);
    assert_int_equal(rename(fixture_path(f, "blobs/sha256/" ABC_HEX), real), 0);
    assert_int_equal(symlink(real, fixture_path(f, "blobs/sha256/" ABC_HEX)), 0);
    assert_int_equal(verify(f, &digest, LARDER_VERIFY_MEMO), -LARDER_CORRUPT);
    assert_non_null(strstr(f->e.msg, "symbolic link"));
    assert_false(fixture_has(f, "blobs/sha256/" ABC_HEX));
    assert_int_equal(access(real, R_OK), 0);
}

int main(void)
{
#define STORE(fn) cmocka_unit_test_setup_teardown(fn, setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        STORE(good_blobs_pass),
        STORE(bad_blobs_go_in_the_same_call),
        STORE(in_use_is_marked),
        STORE(the_verdict_stands_when_moving_fails),
        STORE(a_link_is_taken_away_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
