/* SPDX-License-Identifier: Apache-2.0 */
/* The index database: records, locks, damage, other schemas, processes that die. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/clock.h"
#include "index/index.h"

#define DATABASE_HEADER_BYTES 100

struct fixture {
    char dir[64];
    char path[96];
    int dirfd;
};

static int take_lock(void *arg, bool exclusive, bool wait, int *ret_fd, struct larder_error *e)
{
    const struct fixture *f = arg;
    (void)e;
    int fd = openat(f->dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    if (flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB)) < 0) {
        close(fd);
        return -LARDER_BUSY;
    }
    *ret_fd = fd;
    return 0;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    if (!f)
        return -1;
    snprintf(f->dir, sizeof(f->dir), "/tmp/larder-index-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    snprintf(f->path, sizeof(f->path), "%s/index.sqlite", f->dir);
    f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = f;
    return f->dirfd < 0;
}

static int teardown(void **state)
{
    static const char *const names[] = {"index.sqlite", "index.sqlite-wal", "index.sqlite-shm",
                                        "index.sqlite.bad", "lock"};
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        unlinkat(f->dirfd, names[i], 0);
    rmdir(f->dir);
    close(f->dirfd);
    free(f);
    return 0;
}

static int try_open(struct fixture *f, struct index **ret, struct larder_error *e)
{
    const struct index_options options = {f->dirfd, f->path, "index.sqlite", take_lock, f};
    return index_open(&options, ret, e);
}

static struct index *open_index(struct fixture *f)
{
    struct index *index = NULL;
    struct larder_error e = LARDER_ERROR_INIT;
    int result = try_open(f, &index, &e);
    if (result < 0)
        fail_msg("%s", e.msg);
    return index;
}

static struct index_blob blob_of(unsigned n)
{
    struct index_blob blob;
    memset(&blob, 0, sizeof(blob));
    blob.digest.alg = n % 2 ? LARDER_DIGEST_SHA256 : LARDER_DIGEST_SHA512;
    memcpy(blob.digest.bytes, &n, sizeof(n));
    blob.size_bytes = 1000 + n;
    blob.allocated_bytes = 4096 * n;
    blob.added_ns = 5;
    blob.used_ns = 100000 - (int64_t)n;
    blob.verified_ns = n;
    blob.is_invalid = n % 3 == 0;
    blob.inode = UINT64_MAX - n;
    blob.memo = (struct index_print){n, 2, -3, 4};
    return blob;
}

static int count_blob(void *arg, const struct index_blob *blob, const char *refs)
{
    (void)blob;
    (void)refs;
    ++*(unsigned *)arg;
    return 0;
}

static unsigned count(struct index *index)
{
    unsigned n = 0;
    assert_int_equal(index_blob_each(index, INDEX_BY_DIGEST, false, count_blob, &n, NULL), 0);
    return n;
}

static void put_blobs(struct index *index, unsigned from, unsigned to)
{
    struct larder_error e = LARDER_ERROR_INIT;
    assert_int_equal(index_begin(index, &e), 0);
    for (unsigned n = from; n < to; n++) {
        struct index_blob blob = blob_of(n);
        assert_int_equal(index_blob_put(index, &blob, &e), 0);
    }
    assert_int_equal(index_commit(index, &e), 0);
}

struct seen {
    struct index_blob blobs[8];
    char refs[8][64];
    unsigned count;
};

static int see(void *arg, const struct index_blob *blob, const char *refs)
{
    struct seen *seen = arg;
    snprintf(seen->refs[seen->count], sizeof(seen->refs[0]), "%s", refs);
    seen->blobs[seen->count++] = *blob;
    return seen->count == ARRAY_LEN(seen->blobs);
}

static void records_come_back(void **state)
{
    struct fixture *f = *state;
    struct index *index = open_index(f);
    struct seen seen = {.count = 0};
    put_blobs(index, 1, 4);
    index_close(index);

    index = open_index(f);
    assert_false(index_is_memory(index));
    assert_int_equal(index_blob_each(index, INDEX_BY_USED_OLDEST, false, see, &seen, NULL), 0);
    assert_int_equal(seen.count, 3);
    for (unsigned i = 0; i < 3; i++) {
        struct index_blob expected = blob_of(3 - i);
        assert_memory_equal(&seen.blobs[i].digest, &expected.digest, sizeof(expected.digest));
        assert_true(seen.blobs[i].size_bytes == expected.size_bytes);
        assert_true(seen.blobs[i].allocated_bytes == expected.allocated_bytes);
        assert_true(seen.blobs[i].used_ns == expected.used_ns);
        assert_true(seen.blobs[i].verified_ns == expected.verified_ns);
        assert_true(seen.blobs[i].inode == expected.inode);
        assert_true(seen.blobs[i].is_invalid == expected.is_invalid);
        assert_true(index_print_equal(&seen.blobs[i].memo, &expected.memo));
    }
    static const enum index_order newest_first[] = {INDEX_BY_USED_NEWEST, INDEX_BY_VERIFIED_OLDEST};
    for (size_t i = 0; i < ARRAY_LEN(newest_first); i++) {
        seen.count = 0;
        assert_int_equal(index_blob_each(index, newest_first[i], false, see, &seen, NULL), 0);
        assert_true(seen.blobs[0].size_bytes == 1001 && seen.blobs[2].size_bytes == 1003);
    }
    index_close(index);
}

static void changes_and_removals(void **state)
{
    struct index *index = open_index(*state);
    struct seen seen = {.count = 0};
    struct index_blob one = blob_of(1), two = blob_of(2);
    put_blobs(index, 1, 4);
    assert_int_equal(index_begin(index, NULL), 0);
    assert_int_equal(index_blob_set_used(index, &one.digest, 7, NULL), 0);
    assert_int_equal(index_blob_remove(index, &two.digest, NULL), 0);
    assert_int_equal(index_commit(index, NULL), 0);
    assert_int_equal(index_blob_each(index, INDEX_BY_USED_OLDEST, false, see, &seen, NULL), 0);
    assert_int_equal(seen.count, 2);
    assert_true(seen.blobs[0].used_ns == 7 && seen.blobs[0].size_bytes == 1001);

    assert_int_equal(index_begin(index, NULL), 0);
    assert_int_equal(index_clear(index, NULL), 0);
    index_rollback(index);
    assert_int_equal(count(index), 2);
    assert_int_equal(index_begin(index, NULL), 0);
    assert_int_equal(index_clear(index, NULL), 0);
    assert_int_equal(index_commit(index, NULL), 0);
    assert_int_equal(count(index), 0);
    index_close(index);
}

static int see_ref(void *arg, const char *name, const struct index_print *print, bool is_bad)
{
    snprintf((char *)arg + strlen(arg), 64, "%s:%llu:%d ", name, (unsigned long long)print->inode,
             is_bad);
    return 0;
}

static void refs_keep_blobs(void **state)
{
    struct index *index = open_index(*state);
    struct seen seen = {.count = 0};
    char names[256] = "";
    struct larder_digest digests[2] = {blob_of(1).digest, blob_of(2).digest};
    const struct index_print print = {9, 0, 0, 0};
    put_blobs(index, 1, 3);
    assert_int_equal(index_begin(index, NULL), 0);
    assert_int_equal(index_ref_put(index, "b", &print, false, digests, 2, NULL), 0);
    assert_int_equal(index_ref_put(index, "a'\"", &print, false, digests, 1, NULL), 0);
    assert_int_equal(index_ref_put(index, "bad", &print, true, NULL, 0, NULL), 0);
    assert_int_equal(index_commit(index, NULL), 0);
    assert_int_equal(index_blob_each(index, INDEX_BY_VERIFIED_OLDEST, true, see, &seen, NULL), 0);
    assert_string_equal(seen.refs[0], "a'\", b");
    assert_string_equal(seen.refs[1], "b");
    assert_int_equal(index_ref_each(index, see_ref, names, NULL), 0);
    assert_string_equal(names, "a'\":9:0 b:9:0 bad:9:1 ");

    /* A ref that points elsewhere now, and one that went. */
    assert_int_equal(index_begin(index, NULL), 0);
    assert_int_equal(index_ref_put(index, "b", &print, false, &digests[1], 1, NULL), 0);
    assert_int_equal(index_ref_remove(index, "a'\"", NULL), 0);
    assert_int_equal(index_commit(index, NULL), 0);
    seen.count = 0;
    assert_int_equal(index_blob_each(index, INDEX_BY_VERIFIED_OLDEST, true, see, &seen, NULL), 0);
    assert_string_equal(seen.refs[0], "");
    assert_string_equal(seen.refs[1], "b");
    index_close(index);
}

static void directories_are_remembered(void **state)
{
    struct index *index = open_index(*state);
    struct index_print print = {1, 2, 3, 4}, back = {9, 9, 9, 9};
    assert_int_equal(index_dir_get(index, 5, &back, NULL), 0);
    assert_true(index_print_is_none(&back));
    assert_int_equal(index_begin(index, NULL), 0);
    assert_int_equal(index_dir_set(index, 5, &print, NULL), 0);
    assert_int_equal(index_commit(index, NULL), 0);
    assert_int_equal(index_dir_get(index, 5, &back, NULL), 0);
    assert_true(index_print_equal(&back, &print));
    index_close(index);
}

static void overwrite(const struct fixture *f, const char *name, off_t at, size_t n, int byte)
{
    char *bytes = malloc(n);
    int fd = openat(f->dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0 && bytes);
    memset(bytes, byte, n);
    assert_true(pwrite(fd, bytes, n, at) == (ssize_t)n);
    close(fd);
    free(bytes);
}

static bool exists(const struct fixture *f, const char *name)
{
    return faccessat(f->dirfd, name, F_OK, 0) == 0;
}

/* Whatever stands there instead of our database is put aside, and a new one works. */
static void damaged_files_are_put_aside(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *what;
        off_t at;
        size_t n;
        int byte;
        bool truncate;
    } cases[] = {
        {"header of zeros", 0, DATABASE_HEADER_BYTES, 0, false},
        {"header of garbage", 0, DATABASE_HEADER_BYTES, 0x5a, false},
        {"schema page of garbage", DATABASE_HEADER_BYTES, 4096 - DATABASE_HEADER_BYTES, 0x5a,
         false},
        {"another user_version", 60, 4, 0x11, false},
        {"empty file", 0, 0, 0, true},
        {"half a page", 0, 2000, 0x42, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct index *index = open_index(f);
        put_blobs(index, 1, 50);
        index_idle(index); /* all of it in the main file */
        index_close(index);
        unlinkat(f->dirfd, "index.sqlite.bad", 0);
        if (cases[i].truncate)
            assert_int_equal(truncate(f->path, 0), 0);
        if (cases[i].n)
            overwrite(f, "index.sqlite", cases[i].at, cases[i].n, cases[i].byte);
        index = open_index(f);
        if (count(index) != 0 || !exists(f, "index.sqlite.bad"))
            fail_msg("%s: not noticed", cases[i].what);
        put_blobs(index, 1, 3);
        assert_int_equal(count(index), 2);
        index_close(index);
    }
}

/* Damage behind the schema is met by a query, not by opening. */
static void damage_met_later_can_be_remade(void **state)
{
    struct fixture *f = *state;
    struct larder_error e = LARDER_ERROR_INIT;
    unsigned n = 0;
    struct index *index = open_index(f);
    put_blobs(index, 0, 3000);
    index_idle(index);
    index_close(index);
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    overwrite(f, "index.sqlite", 6 * 4096, (size_t)st.st_size - 6 * 4096, 0x5a);
    index = open_index(f);
    assert_int_equal(index_check(index, &e), -LARDER_CORRUPT);
    assert_int_equal(index_blob_each(index, INDEX_BY_DIGEST, false, count_blob, &n, &e),
                     -LARDER_CORRUPT);
    assert_int_equal(index_remake(index, &e), 0);
    assert_int_equal(index_check(index, &e), 0);
    assert_int_equal(count(index), 0);
    index_close(index);
}

/* A log left behind by a deleted database must not be replayed into the next one. */
static void a_left_over_log_is_not_replayed(void **state)
{
    struct fixture *f = *state;
    struct index *index = open_index(f);
    put_blobs(index, 1, 20);
    index_close(index); /* a small log stays */
    assert_true(exists(f, "index.sqlite-wal"));
    assert_int_equal(unlink(f->path), 0);
    index = open_index(f);
    assert_int_equal(count(index), 0);
    index_close(index);
}

/* A handle whose file was deleted or replaced meanwhile writes to the new one. */
static void a_replaced_file_is_noticed(void **state)
{
    struct fixture *f = *state;
    struct index *old = open_index(f);
    struct index *other = open_index(f);
    put_blobs(old, 1, 5);
    assert_int_equal(index_remake(other, NULL), 0);
    put_blobs(old, 7, 9);
    assert_int_equal(count(old), 2);
    assert_int_equal(count(other), 2);
    /* Remaking what somebody else remade already keeps the newer one. */
    struct index *third = open_index(f);
    assert_int_equal(index_remake(other, NULL), 0);
    put_blobs(other, 1, 2);
    assert_int_equal(index_remake(third, NULL), 0);
    assert_int_equal(count(third), 1);
    index_close(old);
    index_close(other);
    index_close(third);
}

static void what_is_no_file_is_refused(void **state)
{
    struct fixture *f = *state;
    struct index *index = NULL;
    struct larder_error e = LARDER_ERROR_INIT;
    assert_int_equal(mkdirat(f->dirfd, "index.sqlite", 0755), 0);
    assert_int_equal(try_open(f, &index, &e), -LARDER_DENIED);
    assert_int_equal(unlinkat(f->dirfd, "index.sqlite", AT_REMOVEDIR), 0);
    assert_int_equal(symlinkat("/dev/null", f->dirfd, "index.sqlite"), 0);
    assert_int_equal(try_open(f, &index, &e), -LARDER_DENIED);
}

static void in_memory_it_works_too(void **state)
{
    struct index *index = NULL;
    (void)state;
    assert_int_equal(index_open_memory(&index, NULL), 0);
    assert_true(index_is_memory(index));
    put_blobs(index, 1, 4);
    assert_int_equal(count(index), 3);
    assert_true(index_remake(index, NULL) < 0);
    index_close(index);
}

static void writers_take_turns(void **state)
{
    struct fixture *f = *state;
    pid_t pids[8];
    const unsigned rounds = 40;
    for (unsigned p = 0; p < ARRAY_LEN(pids); p++) {
        pids[p] = fork();
        assert_true(pids[p] >= 0);
        if (pids[p] > 0)
            continue;
        struct index *index = NULL;
        if (try_open(f, &index, NULL) < 0)
            _exit(2);
        for (unsigned i = 0; i < rounds; i++) {
            struct index_blob blob = blob_of(p * 1000 + i);
            unsigned n = 0;
            if (index_begin(index, NULL) < 0 || index_blob_put(index, &blob, NULL) < 0 ||
                index_commit(index, NULL) < 0)
                _exit(3);
            if (index_blob_each(index, INDEX_BY_DIGEST, false, count_blob, &n, NULL) < 0)
                _exit(4);
            if (i % 10 == 9)
                index_idle(index);
        }
        index_close(index);
        _exit(0);
    }
    for (unsigned p = 0; p < ARRAY_LEN(pids); p++) {
        int status = 0;
        assert_int_equal(waitpid(pids[p], &status, 0), pids[p]);
        assert_int_equal(status, 0);
    }
    struct index *index = open_index(f);
    assert_int_equal(count(index), rounds * ARRAY_LEN(pids));
    assert_int_equal(index_check(index, NULL), 0);
    index_close(index);
}

/* kill -9 inside a transaction: the lock ends, the rows do not appear, others go on. */
static void a_killed_writer_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    int ready[2];
    char byte = 0;
    struct index *index = open_index(f);
    put_blobs(index, 1, 3);
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct index *mine = NULL;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (try_open(f, &mine, NULL) < 0 || index_begin(mine, NULL) < 0)
            _exit(2);
        /* Enough to spill into the log before the commit. */
        for (unsigned n = 10; n < 30000; n++) {
            struct index_blob blob = blob_of(n);
            if (index_blob_put(mine, &blob, NULL) < 0)
                _exit(3);
        }
        (void)!write(ready[1], "x", 1);
        pause();
        _exit(4);
    }
    assert_true(read(ready[0], &byte, 1) == 1);
    assert_int_equal(count(index), 2); /* a reader beside the writer */
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    put_blobs(index, 3, 4);
    assert_int_equal(count(index), 3);
    assert_int_equal(index_check(index, NULL), 0);
    index_close(index);
    close(ready[0]);
    close(ready[1]);
}

/* Above the limit the log is folded back by the writer itself. */
static void the_log_does_not_grow_for_ever(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    struct index *index = open_index(f);
    for (unsigned i = 0; i < 12; i++)
        put_blobs(index, 0, 20000);
    assert_int_equal(fstatat(f->dirfd, "index.sqlite-wal", &st, 0), 0);
    assert_true(st.st_size < (off_t)INDEX_WAL_BYTES_MAX / 2 * 3);
    index_close(index); /* at leisure it goes altogether */
    assert_int_equal(fstatat(f->dirfd, "index.sqlite-wal", &st, 0), 0);
    assert_int_equal(st.st_size, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
        T(records_come_back),
        T(changes_and_removals),
        T(refs_keep_blobs),
        T(directories_are_remembered),
        T(damaged_files_are_put_aside),
        T(damage_met_later_can_be_remade),
        T(a_left_over_log_is_not_replayed),
        T(a_replaced_file_is_noticed),
        T(what_is_no_file_is_refused),
        T(in_memory_it_works_too),
        T(writers_take_turns),
        T(a_killed_writer_leaves_nothing),
        T(the_log_does_not_grow_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
