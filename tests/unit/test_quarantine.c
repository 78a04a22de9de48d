/* SPDX-License-Identifier: Apache-2.0 */
#include "store/dir/quarantine.h"

#include "base/clock.h"
#include "store/dir/blob.h"
#include "store_fixture.h"

#define ABC_HEX "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

struct items {
    struct quarantine_item last;
    char reason[64];
    int n;
};

static int see(void *arg, const struct quarantine_item *item)
{
    struct items *items = arg;
    items->last = *item;
    items->last.reason = NULL;
    snprintf(items->reason, sizeof items->reason, "%s", item->reason ? item->reason : "(none)");
    items->n++;
    return 0;
}

static void moves_bytes_out_of_reach(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc"), actual = fixture_put(f, "abX");
    struct items items = {0};
    int64_t began = clock_coarse_ns();
    char c[3];

    int fd = open(fixture_path(f, "blobs/sha256/" ABC_HEX), O_RDONLY);
    assert_int_equal(quarantine_blob(f->store, &digest, &actual, "bytes\ndiffer", &f->e), 0);
    assert_false(fixture_has(f, "blobs/sha256/" ABC_HEX));
    assert_false(fixture_has(f, "memo/sha256/" ABC_HEX));
    /* Who has it open reads on. */
    assert_int_equal(read(fd, c, 3), 3);
    close(fd);
    assert_int_equal(quarantine_blob(f->store, &digest, &actual, "again", &f->e), -LARDER_NOENT);
    assert_int_equal(quarantine_each(f->store, see, &items, &f->e), 0);
    assert_int_equal(items.n, 1);
    assert_string_equal(items.last.name, "sha256-" ABC_HEX ".0");
    assert_true(larder_digest_equal(&items.last.digest, &digest));
    assert_true(larder_digest_equal(&items.last.actual, &actual));
    assert_string_equal(items.reason, "bytes\\x0adiffer");
    assert_true(items.last.since_ns >= began);
    assert_true(items.last.allocated_bytes > 0);

    /* A second one of the same name, without its note: still listed. */
    fixture_put(f, "abc");
    assert_int_equal(quarantine_blob(f->store, &digest, NULL, "again", &f->e), 0);
    assert_int_equal(unlink(fixture_path(f, "quarantine/sha256-" ABC_HEX ".1.json")), 0);
    items = (struct items){0};
    assert_int_equal(quarantine_each(f->store, see, &items, &f->e), 0);
    assert_int_equal(items.n, 2);
    assert_int_equal(quarantine_remove(f->store, "sha256-" ABC_HEX ".0", &f->e), 0);
    assert_int_equal(quarantine_remove(f->store, "sha256-" ABC_HEX ".1", &f->e), 0);
    assert_int_equal(fixture_count(f, "quarantine"), 0);
}

static void names_are_checked(void **state)
{
    static const char *const bad[] = {
        "../format",
        "sha256-" ABC_HEX,
        "sha256-" ABC_HEX ".x",
        "md5-" ABC_HEX ".0",
        "sha256-" ABC_HEX "0.0",
        "sha256-" ABC_HEX ".0.json",
        "sha256-../../.0",
        "",
        "-.",
        "sha256-" ABC_HEX ".-1",
    };
    struct fixture *f = *state;
    struct items items = {0};
    fixture_write(f, "quarantine/README", "not ours");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(quarantine_remove(f->store, bad[i], &f->e), -LARDER_INVAL);
    assert_int_equal(quarantine_each(f->store, see, &items, &f->e), 0);
    assert_int_equal(items.n, 0);
    assert_true(fixture_has(f, "format"));
}

static void link_keeps_the_path(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");
    struct stat a, b;
    assert_int_equal(quarantine_link(f->store, &digest, "soon replaced", &f->e), 0);
    assert_int_equal(stat(fixture_path(f, "blobs/sha256/" ABC_HEX), &a), 0);
    assert_int_equal(stat(fixture_path(f, "quarantine/sha256-" ABC_HEX ".0"), &b), 0);
    assert_int_equal(a.st_ino, b.st_ino);
}

/* One process keeps looking: with a marked blob being replaced, the path never misses. */
static int replace_or_look(struct fixture *f, int i)
{
    struct larder_digest digest;
    struct stat st;
    if (fixture_open(f, 0) < 0)
        return -1;
    int64_t until = clock_monotonic_ns() + NS_PER_S / 2;
    for (int n = 0; i ? n < 10 : clock_monotonic_ns() < until; n++) {
        if (i == 0) {
            if (stat(fixture_path(f, "blobs/sha256/" ABC_HEX), &st) < 0)
                return -1;
            continue;
        }
        if (larder_digest_parse("sha256:" ABC_HEX, (size_t)-1, &digest, NULL) < 0 ||
            blob_mark_invalid(f->store, &digest, "test", &f->e) < 0 ||
            larder_blob_put(f->store, "abc", 3, NULL, &digest, &f->e) < 0) {
            fprintf(stderr, "%s\n", f->e.msg);
            return -1;
        }
    }
    return 0;
}

static void replacing_never_misses(void **state)
{
    struct fixture *f = *state;
    fixture_put(f, "abc");
    assert_int_equal(fixture_race(5, replace_or_look, f), 0);
    assert_int_equal(fixture_count(f, "blobs/sha256"), 1);
    assert_int_equal(fixture_count(f, "tmp"), 0);
}

int main(void)
{
#define STORE(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        STORE(moves_bytes_out_of_reach),
        STORE(names_are_checked),
        STORE(link_keeps_the_path),
        STORE(replacing_never_misses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
