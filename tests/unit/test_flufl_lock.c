/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fdio.h"
#include "base/process.h"
#include "publish/flufl_lock.h"
#include "scratch.h"

#define NAME ".meta.json.lock"

static const struct larder_observer silent;

struct ear {
    char said[1024];
    unsigned n_said;
    unsigned polls_left; /* until it is canceled */
};

static void hear(void *arg, const char *msg)
{
    struct ear *ear = arg;
    snprintf(ear->said, sizeof(ear->said), "%s", msg);
    ear->n_said++;
}

static bool is_canceled(void *arg)
{
    struct ear *ear = arg;
    return ear->polls_left-- == 0;
}

static void assert_taken(struct scratch *s)
{
    struct stat st;
    assert_int_equal(fstatat(s->fd, NAME, &st, 0), 0);
    assert_int_equal(st.st_nlink, 2);
    /* Others may break it when it is of no use any more, not before, not after an hour. */
    assert_true(st.st_mtim.tv_sec > time(NULL) + 60);
    assert_true(st.st_mtim.tv_sec < time(NULL) + 3600);
}

static int count(void *arg, const char *name, unsigned char d_type)
{
    (void)d_type;
    (void)name;
    ++*(unsigned *)arg;
    return 0;
}

static unsigned n_files(struct scratch *s)
{
    unsigned n = 0;
    assert_int_equal(dir_each(s->fd, count, &n, NULL), 0);
    return n;
}

/* The lock as another program leaves it: a claim of that name, linked. */
static void plant(struct scratch *s, const char *tail, time_t until)
{
    char claim[420], content[600];
    struct timespec times[2] = {{until, 0}, {until, 0}};
    snprintf(claim, sizeof(claim), NAME "|%.390s", tail);
    snprintf(content, sizeof(content), "%s/%s", s->path, claim);
    assert_int_equal(file_write_atomic(s->fd, claim, content, strlen(content), 0644, NULL), 0);
    assert_int_equal(linkat(s->fd, claim, s->fd, NAME, 0), 0);
    assert_int_equal(utimensat(s->fd, claim, times, 0), 0);
}

static pid_t dead_pid(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    assert_true(pid > 0 && waitpid(pid, NULL, 0) == pid);
    return pid;
}

static void take_and_release(void **state)
{
    struct scratch *s = *state;
    struct flufl_lock *lock = NULL;
    char content[1024] = "", own[64];
    assert_int_equal(flufl_lock_take(s->fd, s->path, NAME, &silent, &lock, NULL), 0);
    assert_taken(s);
    /* DIR/NAME|HOST|PID|RANDOM */
    struct buf text = BUF_INIT(sizeof(content));
    assert_int_equal(file_read(s->fd, NAME, &text, NULL), 0);
    snprintf(content, sizeof(content), "%s/" NAME "|", s->path);
    assert_true(strncmp(text.p, content, strlen(content)) == 0);
    snprintf(own, sizeof(own), "|%ld|", (long)getpid());
    assert_non_null(strstr(text.p, own));
    assert_int_equal(access(text.p, F_OK), 0);
    buf_done(&text);
    flufl_lock_release(lock);
    assert_int_equal(n_files(s), 0);
    flufl_lock_release(NULL);
}

static void waits_and_says_for_whom(void **state)
{
    struct scratch *s = *state;
    struct ear ear = {.polls_left = 10};
    struct larder_observer observer = {.arg = &ear, .warning = hear, .is_canceled = is_canceled};
    struct flufl_lock *lock = NULL;
    char said[300];
    plant(s, "far.example.org|1234|99", time(NULL) + 1000);
    assert_int_equal(flufl_lock_take(s->fd, s->path, NAME, &observer, &lock, NULL),
                     -LARDER_CANCELED);
    assert_null(lock);
    snprintf(said, sizeof(said), "%s/" NAME ": waiting for process 1234 on host far.example.org",
             s->path);
    assert_string_equal(ear.said, said);
    assert_int_equal(ear.n_said, 1);
    assert_int_equal(n_files(s), 2);
}

/* Rows: a lock that is there, and whether it is broken at once. */
static void breaking(void **state)
{
    struct scratch *s = *state;
    struct process_id self;
    char host[256], rows[12][400];
    bool is_broken[12];
    time_t lasts_s[12];
    size_t n = 0;
    long dead = dead_pid(), parent = (long)getppid(), far = 1000;

    assert_int_equal(gethostname(host, sizeof(host)), 0);
    assert_int_equal(process_id_self(&self, NULL), 0);
#define ROW(broken, when, ...)                           \
    do {                                                 \
        snprintf(rows[n], sizeof(rows[n]), __VA_ARGS__); \
        is_broken[n] = (broken);                         \
        lasts_s[n++] = (when);                           \
    } while (0)
    ROW(true, -60, "far.example.org|1234|99");
    ROW(false, -3, "far.example.org|1234|99"); /* clocks differ */
    ROW(false, far, "%s|%ld|99", host, dead);  /* taken just now */
    ROW(false, far, "%s|%ld|99", host, parent);
    ROW(true, far, "%s|%ld|larder.7.%llu.%s.1", "other", dead,
        (unsigned long long)self.pid_namespace, self.boot_id);
    ROW(true, far, "%s|%ld|larder.7.%llu.%s.1", host, parent, /* another of that pid */
        (unsigned long long)self.pid_namespace, self.boot_id);
    ROW(false, far, "%s|%ld|larder.7.%llu.%s.1", host, dead,
        (unsigned long long)self.pid_namespace + 1, self.boot_id);
    ROW(false, far, "%s|%ld|larder.7.%llu.%s.1", host, dead, (unsigned long long)self.pid_namespace,
        "00000000-0000-0000-0000-000000000000");
    ROW(false, far, "%s|%ld|larder.nonsense", host, dead);
    ROW(false, far, "nonsense");
    ROW(true, -60, "nonsense");
    for (size_t i = 0; i < n; i++) {
        struct ear ear = {.polls_left = 1};
        struct larder_observer observer = {.arg = &ear, .is_canceled = is_canceled};
        struct flufl_lock *lock = NULL;
        time_t now = time(NULL);
        plant(s, rows[i], now + lasts_s[i]);
        int r = flufl_lock_take(s->fd, s->path, NAME, &observer, &lock, NULL);
        flufl_lock_release(lock);
        char claim[420];
        snprintf(claim, sizeof(claim), NAME "|%.399s", rows[i]);
        /* A machine that stood still for so long made the lock older than its row says. */
        bool was_late = r == 0 && !is_broken[i] && time(NULL) - now > 5;
        if (!was_late && r != (is_broken[i] ? 0 : -LARDER_CANCELED))
            fail_msg("row %zu (%s): %d", i, rows[i], r);
        /* The dead one's claim went with its lock. */
        assert_int_equal(n_files(s), r == 0 ? 0 : 2);
        unlinkat(s->fd, claim, 0);
        unlinkat(s->fd, NAME, 0);
        i -= was_late; /* once more */
    }
}

/* Of a program that was killed between its claim and the lock. */
static void sweeps_claims(void **state)
{
    struct scratch *s = *state;
    struct process_id self;
    struct flufl_lock *lock = NULL;
    char claim[400];
    assert_int_equal(process_id_self(&self, NULL), 0);
    snprintf(claim, sizeof(claim), NAME "|h|%ld|larder.7.%llu.%s.1", (long)dead_pid(),
             (unsigned long long)self.pid_namespace, self.boot_id);
    assert_int_equal(file_write_atomic(s->fd, claim, "x", 1, 0644, NULL), 0);
    assert_int_equal(file_write_atomic(s->fd, NAME "|h|1|99", "x", 1, 0644, NULL), 0);
    assert_int_equal(flufl_lock_take(s->fd, s->path, NAME, &silent, &lock, NULL), 0);
    flufl_lock_release(lock);
    assert_int_equal(n_files(s), 1);
    assert_int_equal(faccessat(s->fd, NAME "|h|1|99", F_OK, 0), 0);
}

/* Who lost the lock to somebody else leaves it alone. */
static void broken_by_others(void **state)
{
    struct scratch *s = *state;
    struct flufl_lock *lock = NULL;
    assert_int_equal(flufl_lock_take(s->fd, s->path, NAME, &silent, &lock, NULL), 0);
    assert_int_equal(unlinkat(s->fd, NAME, 0), 0);
    plant(s, "far.example.org|1234|99", time(NULL) + 1000);
    flufl_lock_release(lock);
    assert_int_equal(n_files(s), 2);
}

/* One of many at a time, also when some of them are killed while they have it. */
static void exclusive(void **state)
{
    struct scratch *s = *state;
    enum { WRITERS = 6, TIMES = 20 };
    pid_t children[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] > 0)
            continue;
        for (int t = 0; t < TIMES; t++) {
            struct flufl_lock *lock = NULL;
            if (flufl_lock_take(s->fd, s->path, NAME, &silent, &lock, NULL) < 0)
                _exit(2);
            int fd = openat(s->fd, "inside", O_CREAT | O_EXCL | O_WRONLY, 0600);
            if (fd < 0)
                _exit(3);
            close(fd);
            clock_sleep_ns(NS_PER_MS / 4);
            unlinkat(s->fd, "inside", 0);
            if (i % 2 == 0 && t == TIMES / 2)
                _exit(0); /* with the lock */
            flufl_lock_release(lock);
        }
        _exit(0);
    }
    for (int i = 0; i < WRITERS; i++) {
        int status = 0;
        assert_true(waitpid(children[i], &status, 0) == children[i]);
        assert_int_equal(status, 0);
    }
    struct flufl_lock *lock = NULL;
    assert_int_equal(flufl_lock_take(s->fd, s->path, NAME, &silent, &lock, NULL), 0);
    flufl_lock_release(lock);
    assert_int_equal(n_files(s), 0);
}

static void no_directory(void **state)
{
    struct scratch *s = *state;
    struct flufl_lock *lock = NULL;
    char path[100];
    snprintf(path, sizeof(path), "%s/gone", s->path);
    assert_int_equal(mkdir(path, 0700), 0);
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    assert_int_equal(rmdir(path), 0);
    assert_true(flufl_lock_take(fd, path, NAME, &silent, &lock, NULL) < 0);
    assert_null(lock);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(take_and_release, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(waits_and_says_for_whom, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(breaking, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(sweeps_claims, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(broken_by_others, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(exclusive, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(no_directory, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
