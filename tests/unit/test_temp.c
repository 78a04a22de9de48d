/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <time.h>

#include "base/clock.h"
#include "base/fdio.h"
#include "base/process.h"
#include "store/dir/blob.h"
#include "store_fixture.h"

static uint64_t sweep(struct fixture *f, int64_t keep_partial_ns)
{
    uint64_t files = 0, bytes = 0;
    assert_int_equal(temp_sweep(f->store, keep_partial_ns, false, &files, &bytes, &f->e), 0);
    return files;
}

static void set_age(const struct fixture *f, const char *name, int64_t age_s)
{
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT},
                            {.tv_sec = clock_realtime_ns() / NS_PER_S - age_s}};
    assert_int_equal(utimensat(AT_FDCWD, fixture_path(f, name), t, 0), 0);
}

static void a_live_temporary_stays(void **state)
{
    struct fixture *f = *state;
    struct temp_file temp = TEMP_FILE_INIT;
    char name[200];

    assert_int_equal(temp_open(f->store, &temp, &f->e), 0);
    snprintf(name, sizeof name, "tmp/%s", temp.name);
    assert_true(fixture_has(f, name));
    set_age(f, name, 1000000); /* however old */
    assert_int_equal(sweep(f, 0), 0);
    assert_true(fixture_has(f, name));
    temp_drop(&temp);
    assert_false(fixture_has(f, name));
    temp_drop(&temp);
    assert_int_equal(temp.fd, -1);
}

static void orphans_go(void **state)
{
    struct fixture *f = *state;
    uint64_t files = 0, bytes = 0;
    struct process_id self;

    assert_int_equal(process_id_self(&self, &f->e), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct temp_file temp;
        if (fixture_open(f, 0) < 0 || temp_open(f->store, &temp, NULL) < 0 ||
            write(temp.fd, "x", 1) != 1)
            _exit(1);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(fixture_count(f, "tmp"), 1);
    /* A pid that was dealt out again. */
    char reused[100];
    snprintf(reused, sizeof reused, "tmp/.tmp-%d-%llu-0", (int)self.pid,
             (unsigned long long)self.start_ticks + 1);
    fixture_write(f, reused, "x");
    /* Of a live process, but not locked: between its open and its flock. */
    char fresh[100];
    snprintf(fresh, sizeof fresh, "tmp/.tmp-%d-%llu-0", (int)self.pid,
             (unsigned long long)self.start_ticks);
    fixture_write(f, fresh, "x");
    /* Of unknown make: only when old. */
    fixture_write(f, "tmp/.tmp-strange", "x");
    fixture_write(f, "tmp/.tmp-old", "x");
    set_age(f, "tmp/.tmp-old", 3700);
    fixture_write(f, ".tmp-format", "x");
    set_age(f, ".tmp-format", 3700);
    /* Not ours at all. */
    fixture_write(f, "tmp/notes", "x");
    set_age(f, "tmp/notes", 1000000);
    assert_int_equal(symlink("/etc/passwd", fixture_path(f, "tmp/.tmp-1-1-link")), 0);

    assert_int_equal(temp_sweep(f->store, 0, true, &files, &bytes, &f->e), 0);
    assert_int_equal(files, 4);
    assert_true(bytes > 0);
    assert_int_equal(fixture_count(f, "tmp"), 7);
    assert_int_equal(sweep(f, 0), 4);
    assert_true(fixture_has(f, fresh));
    assert_true(fixture_has(f, "tmp/.tmp-strange"));
    assert_true(fixture_has(f, "tmp/notes"));
    assert_int_equal(fixture_count(f, "tmp"), 4);
    assert_false(fixture_has(f, ".tmp-format"));
}

/* Even ones make and check temporaries, odd ones sweep: none is taken from its live maker. */
static int make_or_sweep(struct fixture *f, int i)
{
    if (fixture_open(f, 0) < 0)
        return -1;
    for (int n = 0; n < 100; n++) {
        struct temp_file temp = TEMP_FILE_INIT;
        uint64_t files = 0, bytes = 0;
        struct stat st;
        if (i % 2) {
            if (temp_sweep(f->store, 0, false, &files, &bytes, &f->e) < 0)
                return -1;
            continue;
        }
        if (temp_open(f->store, &temp, &f->e) < 0)
            return -1;
        sched_yield();
        if (fstat(temp.fd, &st) < 0 || st.st_nlink != 1)
            return -1;
        temp_drop(&temp);
    }
    return 0;
}

static void sweeping_takes_no_live_one(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(fixture_race(8, make_or_sweep, f), 0);
    assert_int_equal(fixture_count(f, "tmp"), 0);
}

static void partials_are_resumed(void **state)
{
    struct fixture *f = *state;
    struct temp_file a = TEMP_FILE_INIT, b = TEMP_FILE_INIT;
    CLEANUP_FREE char *meta = NULL;
    char text[8] = "";

    assert_int_equal(partial_open(f->store, "k/../1", &a, &f->e), 0);
    assert_int_equal(fixture_count(f, "partial"), 1);
    assert_int_equal(write(a.fd, "half", 4), 4);
    assert_int_equal(partial_read_meta(f->store, "k/../1", &meta, &f->e), -LARDER_NOENT);
    assert_int_equal(partial_write_meta(f->store, "k/../1", "{\"etag\":1}", &f->e), 0);
    assert_int_equal(partial_open(f->store, "k/../1", &b, &f->e), -LARDER_BUSY);
    char holder[64];
    snprintf(holder, sizeof holder, "process %d ", (int)getpid());
    assert_non_null(strstr(f->e.msg, holder));
    assert_int_equal(b.fd, -1);
    /* A live one stays however old. */
    assert_int_equal(sweep(f, -NS_PER_S * 3600), 0);
    temp_keep(&a);
    assert_int_equal(partial_open(f->store, "k/../1", &a, &f->e), 0);
    assert_int_equal(pread(a.fd, text, 8, 0), 4);
    assert_string_equal(text, "half");
    assert_int_equal(partial_read_meta(f->store, "k/../1", &meta, &f->e), 0);
    assert_string_equal(meta, "{\"etag\":1}");
    assert_int_equal(partial_forget(f->store, "k/../1", &a, &f->e), 0);
    assert_int_equal(fixture_count(f, "partial"), 0);
    assert_int_equal(a.fd, -1);
}

/* Its publisher died between the last mode and the other name. */
static void a_partial_that_was_to_be_published_is_resumed(void **state)
{
    struct fixture *f = *state;
    struct temp_file a = TEMP_FILE_INIT, b = TEMP_FILE_INIT;

    assert_int_equal(partial_open(f->store, "k", &a, &f->e), 0);
    assert_int_equal(write(a.fd, "half", 4), 4);
    assert_int_equal(fchmod(a.fd, 0444), 0);
    assert_int_equal(partial_open(f->store, "k", &b, &f->e), -LARDER_BUSY);
    temp_keep(&a);
    assert_int_equal(partial_open(f->store, "k", &a, &f->e), 0);
    assert_int_equal(pwrite(a.fd, "whole", 5, 0), 5);
    assert_int_equal(partial_forget(f->store, "k", &a, &f->e), 0);
}

static void old_partials_go(void **state)
{
    struct fixture *f = *state;
    struct temp_file a = TEMP_FILE_INIT;
    const int64_t keep = 3600 * NS_PER_S;

    for (int i = 0; i < 2; i++) {
        char key[8] = {'k', (char)('0' + i)};
        assert_int_equal(partial_open(f->store, key, &a, &f->e), 0);
        assert_int_equal(partial_write_meta(f->store, key, "{}", &f->e), 0);
        temp_keep(&a);
    }
    fixture_write(f, "partial/lost.json", "{}");
    set_age(f, "partial/k1", 7200);
    set_age(f, "partial/lost.json", 7200);
    set_age(f, "partial/k0.json", 7200); /* belongs to a young one */
    assert_int_equal(sweep(f, keep), 2);
    assert_int_equal(fixture_count(f, "partial"), 2);
    assert_true(fixture_has(f, "partial/k0"));
    assert_true(fixture_has(f, "partial/k0.json"));
}

/*
 * All want the same partial; each winner publishes it. Nobody may end up with the published
 * inode, open for writing, as "its" partial.
 */
static int publish_partial(struct fixture *f, int i)
{
    struct larder_digest digest;
    (void)i;
    if (fixture_open(f, 0) < 0 ||
        larder_digest_parse(
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", (size_t)-1,
            &digest, NULL) < 0)
        return -1;
    for (int n = 0; n < 10;) {
        struct temp_file temp = TEMP_FILE_INIT;
        struct stat st;
        bool existed = false;
        int r = partial_open(f->store, "key", &temp, &f->e);
        if (r == -LARDER_BUSY) {
            sched_yield();
            continue;
        }
        if (r < 0 || fstat(temp.fd, &st) < 0 || (st.st_mode & 0777) != 0600 || st.st_nlink != 1 ||
            pwrite(temp.fd, "abc", 3, 0) != 3 ||
            blob_publish(f->store, &temp, &digest, &existed, &f->e) < 0 || temp.name[0]) {
            fprintf(stderr, "%s\n", f->e.msg);
            return -1;
        }
        n++;
    }
    return 0;
}

static void a_published_partial_is_nobodys(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(fixture_race(6, publish_partial, f), 0);
    assert_int_equal(fixture_count(f, "blobs/sha256"), 1);
    assert_int_equal(fixture_count(f, "quarantine"), 0);
    assert_int_equal(fixture_count(f, "partial"), 0);
}

static void small_files_are_replaced_whole(void **state)
{
    struct fixture *f = *state;
    struct buf text = BUF_INIT(16);
    int fd = -1;

    assert_int_equal(store_place(f->store, STORE_STATE, &fd, &f->e), 0);
    assert_int_equal(store_write_file(f->store, STORE_STATE, "x", "one", 3, 0, 0, &f->e), 0);
    assert_int_equal(
        store_write_file(f->store, STORE_STATE, "x", "two", 3, STORE_WRITE_NEW, 0, &f->e),
        -LARDER_EXIST);
    assert_int_equal(
        store_write_file(f->store, STORE_STATE, "x", "two", 3, STORE_WRITE_DURABLE, 0, &f->e), 0);
    assert_int_equal(store_read_file(fd, "x", 16, &text, NULL, &f->e), 0);
    assert_string_equal(text.p, "two");
    assert_int_equal(store_read_file(fd, "x", 2, &text, NULL, &f->e), -LARDER_LIMIT);
    assert_int_equal(store_read_file(fd, "y", 2, &text, NULL, &f->e), -LARDER_NOENT);
    assert_int_equal(mkdir(fixture_path(f, "state/d"), 0755), 0);
    assert_int_equal(store_read_file(fd, "d", 9999, &text, NULL, &f->e), -LARDER_CORRUPT);
    assert_int_equal(fixture_count(f, "tmp"), 0);
    buf_done(&text);
}

int main(void)
{
#define STORE(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        STORE(a_live_temporary_stays),
        STORE(orphans_go),
        STORE(sweeping_takes_no_live_one),
        STORE(partials_are_resumed),
        STORE(a_partial_that_was_to_be_published_is_resumed),
        STORE(old_partials_go),
        STORE(a_published_partial_is_nobodys),
        STORE(small_files_are_replaced_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
