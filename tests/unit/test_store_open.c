/* SPDX-License-Identifier: Apache-2.0 */
#include "store/dir/dir.h"

#include <sys/file.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store_fixture.h"

#define NOBODY 65534

static int open_in_child(struct fixture *f, int i)
{
    char text[16];
    struct larder_digest digest;
    int r = fixture_open(f, LARDER_STORE_CREATE);
    snprintf(text, sizeof text, "%d", i);
    /* At once, so that a late starter meets a store in use. */
    if (r == 0)
        r = larder_blob_put(f->store, text, strlen(text), NULL, &digest, &f->e);
    if (r < 0)
        fprintf(stderr, "%s\n", f->e.msg);
    return r;
}

static void sixteen_processes_make_one_store(void **state)
{
    struct fixture *f = *state;
    for (int round = 0; round < 5; round++) {
        snprintf(f->path, sizeof f->path, "%s/store-%d", f->dir, round);
        assert_int_equal(fixture_race(16, open_in_child, f), 0);
        assert_int_equal(fixture_open(f, 0), 0);
        assert_int_equal(fixture_count(f, ""), 11);
        assert_int_equal(fixture_count(f, "blobs/sha256"), 16);
    }
    assert_string_equal(larder_store_path(f->store), f->path);
}

static void creation_waits_for_its_turn(void **state)
{
    struct fixture *f = *state;
    int status = -1;

    assert_int_equal(mkdir(f->path, 0755), 0);
    int dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(dir, LOCK_EX), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(dir); /* a copy of the lock, too */
        _exit(fixture_open(f, LARDER_STORE_CREATE) == 0 ? 0 : 1);
    }
    clock_sleep_ns(100 * NS_PER_MS);
    assert_int_equal(fixture_count(f, ""), 0);
    close(dir);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(fixture_has(f, "format"));
}

static void missing_is_noent_and_stays_missing(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(fixture_open(f, 0), -LARDER_NOENT);
    assert_true(f->e.hint[0]);
    assert_int_equal(fixture_open(f, LARDER_STORE_READ_ONLY | LARDER_STORE_CREATE), -LARDER_NOENT);
    assert_false(fixture_has(f, ""));
    assert_int_equal(mkdir(f->path, 0755), 0);
    assert_int_equal(fixture_open(f, 0), -LARDER_NOENT);
    assert_int_equal(fixture_count(f, ""), 0);
}

static void other_formats_are_refused(void **state)
{
    static const struct {
        const char *text;
        int code;
    } cases[] = {
        {"larder-store 2\n", LARDER_UNSUPPORTED},
        {"larder-store 4000000000\n", LARDER_UNSUPPORTED},
        {"larder-store 0\n", LARDER_INVAL},
        {"larder-store 1", LARDER_INVAL},
        {"larder-store \n", LARDER_INVAL},
        {"larder-store x\n", LARDER_INVAL},
        {"larder-store 1\nmore\n", LARDER_INVAL},
        {"", LARDER_INVAL},
        {"\n", LARDER_INVAL},
        {"larder-store 1\n", 0},
    };
    struct fixture *f = *state;
    assert_int_equal(fixture_open(f, LARDER_STORE_CREATE), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture_write(f, "format", cases[i].text);
        assert_int_equal(fixture_open(f, LARDER_STORE_CREATE), -cases[i].code);
        if (cases[i].code == LARDER_UNSUPPORTED) {
            assert_non_null(strstr(f->e.msg, "format "));
            assert_non_null(strstr(f->e.msg, "up to 1"));
        }
    }
}

static void strangers_are_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkdir(f->path, 0755), 0);
    fixture_write(f, "thesis.tex", "x");
    assert_int_equal(fixture_open(f, LARDER_STORE_CREATE), -LARDER_INVAL);
    assert_non_null(strstr(f->e.msg, "thesis.tex"));
    assert_int_equal(fixture_count(f, ""), 1);
    assert_int_equal(unlink(fixture_path(f, "thesis.tex")), 0);

    /* Blobs without a format file are somebody's data, not the rest of a creation. */
    assert_int_equal(mkdir(fixture_path(f, "blobs"), 0755), 0);
    assert_int_equal(mkdir(fixture_path(f, "blobs/sha256"), 0755), 0);
    fixture_write(f, "blobs/sha256/x", "x");
    assert_int_equal(fixture_open(f, LARDER_STORE_CREATE), -LARDER_INVAL);
    assert_int_equal(unlink(fixture_path(f, "blobs/sha256/x")), 0);

    /* What a killed creation leaves is completed; so is the root of a fresh file system. */
    assert_int_equal(mkdir(fixture_path(f, "lost+found"), 0755), 0);
    assert_int_equal(fixture_open(f, LARDER_STORE_CREATE), 0);
    assert_true(fixture_has(f, "format"));
}

static void a_file_is_no_store(void **state)
{
    struct fixture *f = *state;
    int fd = open(f->path, O_CREAT | O_WRONLY, 0644);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(fixture_open(f, LARDER_STORE_CREATE), -LARDER_INVAL);
}

static void links_inside_are_not_followed(void **state)
{
    struct fixture *f = *state;
    char other[256];
    int fd = -1;

    assert_int_equal(fixture_open(f, LARDER_STORE_CREATE), 0);
    snprintf(other, sizeof other, "%s/other", f->dir);
    assert_int_equal(mkdir(other, 0755), 0);
    assert_int_equal(rmdir(fixture_path(f, "refs")), 0);
    assert_int_equal(symlink(other, fixture_path(f, "refs")), 0);
    assert_int_equal(store_place(f->store, STORE_REFS, &fd, &f->e), -LARDER_UNSAFE);
    assert_int_equal(fd, -1);

    /* Also when the link is not the last part of the path. */
    char from[256];
    snprintf(from, sizeof from, "%s/memo", f->path);
    snprintf(other, sizeof other, "%s/memo-moved", f->dir);
    assert_int_equal(rename(from, other), 0);
    assert_int_equal(symlink(other, from), 0);
    assert_int_equal(store_place(f->store, STORE_MEMO_SHA256, &fd, &f->e), -LARDER_UNSAFE);

    fixture_write(f, "format.other", "larder-store 1\n");
    assert_int_equal(unlink(fixture_path(f, "format")), 0);
    assert_int_equal(symlink("format.other", fixture_path(f, "format")), 0);
    assert_int_not_equal(fixture_open(f, 0), 0);
}

static void a_lost_directory_is_made_again(void **state)
{
    struct fixture *f = *state;
    int fd = -1;
    assert_int_equal(fixture_open(f, LARDER_STORE_CREATE), 0);
    assert_int_equal(rmdir(fixture_path(f, "quarantine")), 0);
    assert_int_equal(rmdir(fixture_path(f, "blobs/sha512")), 0);
    assert_int_equal(fixture_open(f, LARDER_STORE_READ_ONLY), 0);
    assert_int_equal(store_place(f->store, STORE_QUARANTINE, &fd, &f->e), -LARDER_NOENT);
    assert_int_equal(fixture_open(f, 0), 0);
    assert_int_equal(store_place(f->store, STORE_QUARANTINE, &fd, &f->e), 0);
    assert_int_equal(store_place(f->store, STORE_BLOBS_SHA512, &fd, &f->e), 0);
}

/* Runs in a child that is somebody else. */
static int as_nobody(struct fixture *f, int i)
{
    (void)i;
    if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
        return -1;
    int r = fixture_open(f, LARDER_STORE_CREATE);
    if (r != -LARDER_DENIED || !f->e.hint[0])
        return -1;
    r = fixture_open(f, LARDER_STORE_READ_ONLY);
    if (r != 0)
        return -1;
    int fd = -1;
    if (store_lock(f->store, "gc", false, false, &fd, &f->e) != 0 || fd < 0)
        return -1;
    return store_lock(f->store, "gc", true, false, &fd, &f->e) == -LARDER_DENIED ? 0 : -1;
}

static int group_nobody(struct fixture *f, int i)
{
    struct larder_digest digest;
    (void)i;
    if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
        return -1;
    if (fixture_open(f, 0) != 0)
        return -1;
    return larder_blob_put(f->store, "shared", 6, NULL, &digest, &f->e);
}

static void other_owners(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    if (geteuid() != 0)
        return; /* only root can be somebody else */
    assert_int_equal(chmod(f->dir, 0755), 0);
    assert_int_equal(fixture_open(f, LARDER_STORE_CREATE), 0);
    assert_int_equal(fixture_race(1, as_nobody, f), 0);

    /* Root on a user's store. */
    assert_int_equal(chown(f->path, NOBODY, NOBODY), 0);
    assert_int_equal(fixture_open(f, LARDER_STORE_CREATE), -LARDER_DENIED);
    assert_non_null(strstr(f->e.msg, "65534"));
    assert_int_equal(fixture_open(f, LARDER_STORE_READ_ONLY), 0);

    /* A store that a group shares on purpose. */
    char shared[256];
    snprintf(f->path, sizeof f->path, "%s/shared", f->dir);
    snprintf(shared, sizeof shared, "%s", f->path);
    assert_int_equal(mkdir(shared, 0755), 0);
    assert_int_equal(chown(shared, 0, NOBODY), 0);
    assert_int_equal(chmod(shared, 02775), 0);
    assert_int_equal(fixture_open(f, LARDER_STORE_CREATE), 0);
    assert_int_equal(stat(fixture_path(f, "blobs/sha256"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 02775);
    assert_int_equal(fixture_race(1, group_nobody, f), 0);
}

static void read_only_directory_is_denied(void **state)
{
    struct fixture *f = *state;
    if (geteuid() == 0)
        return; /* no permission stops root */
    assert_int_equal(fixture_open(f, LARDER_STORE_CREATE), 0);
    assert_int_equal(chmod(f->path, 0555), 0);
    assert_int_equal(fixture_open(f, 0), -LARDER_DENIED);
    assert_int_equal(fixture_open(f, LARDER_STORE_READ_ONLY), 0);
    assert_int_equal(chmod(f->path, 0755), 0);
}

static void default_path(void **state)
{
    (void)state;
    char path[64];
    struct larder_error e = LARDER_ERROR_INIT;
    setenv("LARDER_HOME", "/srv/x", 1);
    assert_int_equal(larder_store_default_path(path, sizeof path, &e), 0);
    assert_string_equal(path, "/srv/x");
    assert_int_equal(larder_store_default_path(path, 7, &e), 0);
    assert_int_equal(larder_store_default_path(path, 6, &e), -LARDER_LIMIT);
    setenv("LARDER_HOME", "", 1);
    setenv("XDG_DATA_HOME", "/data", 1);
    assert_int_equal(larder_store_default_path(path, sizeof path, &e), 0);
    assert_string_equal(path, geteuid() == 0 ? "/var/lib/larder" : "/data/larder");
}

/* ---- locks ---- */

static int child_holds(struct fixture *f, const char *name, bool exclusive, int *ret_go)
{
    int ready[2], go[2];
    char c = 0;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(go), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = -1;
        close(go[1]);
        if (fixture_open(f, 0) < 0 || store_lock(f->store, name, exclusive, true, &fd, NULL) < 0)
            _exit(1);
        (void)!write(ready[1], "x", 1);
        (void)!read(go[0], &c, 1);
        _exit(0);
    }
    close(go[0]);
    close(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    *ret_go = go[1];
    return pid;
}

struct waiting {
    int reports, finished, polls, cancel_after, release_after, go;
};

static void on_progress(void *arg, const struct larder_progress *p)
{
    struct waiting *w = arg;
    assert_string_equal(p->what, "wait");
    w->reports++;
    w->finished += p->is_finished;
    if (w->release_after && w->reports == w->release_after)
        close(w->go);
}

static bool on_poll(void *arg)
{
    struct waiting *w = arg;
    return w->cancel_after && ++w->polls > w->cancel_after;
}

static void locks_wait_tell_and_give_up(void **state)
{
    struct fixture *f = *state;
    struct waiting w = {.cancel_after = 3};
    struct larder_observer o = {.arg = &w, .progress = on_progress, .is_canceled = on_poll};
    struct larder_store_options options = LARDER_STORE_OPTIONS_INIT;
    int fd = -1, go = -1;

    assert_int_equal(fixture_open(f, LARDER_STORE_CREATE), 0);
    pid_t pid = child_holds(f, "entry-x", true, &go);
    larder_store_close(f->store);
    options.observer = &o;
    assert_int_equal(larder_store_open(f->path, &options, &f->store, &f->e), 0);

    assert_int_equal(store_lock(f->store, "entry-x", true, false, &fd, &f->e), -LARDER_BUSY);
    char holder[64];
    snprintf(holder, sizeof holder, "process %d ", (int)pid);
    assert_non_null(strstr(f->e.msg, holder));

    assert_int_equal(store_lock(f->store, "entry-x", false, true, &fd, &f->e), -LARDER_CANCELED);
    assert_int_equal(fd, -1);

    /* let go after the second report, so after more than 200 ms */
    w = (struct waiting){.release_after = 2, .go = go};
    assert_int_equal(store_lock(f->store, "entry-x", true, true, &fd, &f->e), 0);
    assert_true(w.reports >= 3);
    assert_int_equal(w.finished, 1);
    close(fd);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(fixture_has(f, "locks/entry-x")); /* never removed */
}

static void shared_locks_are_shared(void **state)
{
    struct fixture *f = *state;
    int fd = -1, go = -1;
    assert_int_equal(fixture_open(f, LARDER_STORE_CREATE), 0);
    pid_t pid = child_holds(f, "gc", false, &go);
    assert_int_equal(store_lock(f->store, "gc", false, false, &fd, &f->e), 0);
    close(fd);
    assert_int_equal(store_lock(f->store, "gc", true, false, &fd, &f->e), -LARDER_BUSY);
    close(go);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(store_lock(f->store, "gc", true, false, &fd, &f->e), 0);
    close(fd);
}

static void lock_names_are_short_and_distinct(void **state)
{
    (void)state;
    char a[64], b[64], text[4096];
    store_lock_name("entry", "debian-13", a);
    store_lock_name("entry", "debian-12", b);
    assert_string_not_equal(a, b);
    memset(text, '/', sizeof text);
    text[sizeof text - 1] = '\0';
    store_lock_name("url", text, a);
    assert_null(strchr(a, '/'));
    assert_int_equal(strncmp(a, "url-", 4), 0);
}

int main(void)
{
#define BARE(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup_bare, fixture_teardown)
    const struct CMUnitTest tests[] = {
        BARE(sixteen_processes_make_one_store),
        BARE(creation_waits_for_its_turn),
        BARE(missing_is_noent_and_stays_missing),
        BARE(other_formats_are_refused),
        BARE(strangers_are_refused),
        BARE(a_file_is_no_store),
        BARE(links_inside_are_not_followed),
        BARE(a_lost_directory_is_made_again),
        BARE(other_owners),
        BARE(read_only_directory_is_denied),
        BARE(default_path),
        BARE(locks_wait_tell_and_give_up),
        BARE(shared_locks_are_shared),
        BARE(lock_names_are_short_and_distinct),
    };
    umask(022); /* other users are to read what we make */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
