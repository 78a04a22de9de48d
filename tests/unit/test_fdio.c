/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <signal.h>

#include <cmocka.h>

#include "base/fdio.h"
#include "base/mem.h"
#include "base/process.h"
#include "scratch.h"

static int count_name(void *arg, const char *name, unsigned char d_type)
{
    (void)name;
    (void)d_type;
    (*(int *)arg)++;
    return 0;
}

static int entries(int dirfd)
{
    int n = 0;

    assert_int_equal(dir_each(dirfd, count_name, &n, NULL), 0);
    return n;
}

static void write_read_replace(void **state)
{
    struct scratch *s = *state;
    struct buf out = BUF_INIT(100000);
    char big[40000];
    struct stat st;
    mode_t mask = umask(077);

    assert_int_equal(file_write_atomic(s->fd, "f", "one", 3, 0644, NULL), 0);
    umask(mask);
    assert_int_equal(fstatat(s->fd, "f", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0644); /* exact, whatever the umask */
    assert_int_equal(file_read(s->fd, "f", &out, NULL), 0);
    assert_string_equal(out.p, "one");
    memset(big, 'b', sizeof(big));
    assert_int_equal(file_write_atomic(s->fd, "f", big, sizeof(big), 0444, NULL), 0);
    buf_reset(&out);
    assert_int_equal(file_read(s->fd, "f", &out, NULL), 0);
    assert_int_equal(out.n, sizeof(big));
    assert_int_equal(file_write_atomic(s->fd, "f", NULL, 0, 0644, NULL), 0);
    buf_reset(&out);
    assert_int_equal(file_read(s->fd, "f", &out, NULL), 0);
    assert_int_equal(out.n, 0);
    assert_int_equal(entries(s->fd), 1); /* no temporary left */
    buf_done(&out);
}

static void create_refuses_what_is_there(void **state)
{
    struct scratch *s = *state;
    struct buf out = BUF_INIT(100);

    assert_int_equal(file_create_atomic(s->fd, "f", "one", 3, 0444, NULL), 0);
    assert_int_equal(file_create_atomic(s->fd, "f", "two", 3, 0444, NULL), -LARDER_EXIST);
    assert_int_equal(file_read(s->fd, "f", &out, NULL), 0);
    assert_string_equal(out.p, "one");
    assert_int_equal(entries(s->fd), 1);
    buf_done(&out);
}

static void failures_leave_nothing(void **state)
{
    struct scratch *s = *state;
    struct larder_error e = LARDER_ERROR_INIT;
    struct rlimit old;
    struct rlimit tiny;
    char big[8192] = {1};

    assert_int_equal(mkdirat(s->fd, "d", 0700), 0);
    /* rename over a directory fails after the temporary was written */
    assert_true(file_write_atomic(s->fd, "d", "x", 1, 0644, &e) < 0);
    assert_int_equal(entries(s->fd), 1);
    assert_int_equal(file_write_atomic(s->fd, "no/f", "x", 1, 0644, &e), -LARDER_NOENT);
    assert_int_equal(file_write_atomic(s->fd, "d/", "x", 1, 0644, &e), -LARDER_INVAL);
    assert_int_equal(file_write_atomic(s->fd, "d/f", "x", 1, 0644, &e), 0);
    /* write(2) fails half way */
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tiny = old;
    tiny.rlim_cur = 4096;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
    assert_true(file_write_atomic(s->fd, "g", big, sizeof(big), 0644, &e) < 0);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(e.sys_errno, EFBIG);
    assert_int_equal(entries(s->fd), 1);
}

static int see_temp(void *arg, const char *name, unsigned char d_type)
{
    (void)d_type;
    if (strncmp(name, ".tmp-", 5) == 0)
        strcpy(arg, name);
    return 0;
}

static void temporary_names_their_writer(void **state)
{
    struct scratch *s = *state;
    char name[NAME_MAX + 1];
    char seen[NAME_MAX + 1] = "";
    char expected[64];
    struct process_id self;

    /* The target is an occupied directory and unlink of the temporary cannot be watched, so look
     * at it from a full-length name: it must be cut to fit. */
    memset(name, 'n', NAME_MAX);
    name[NAME_MAX] = 0;
    assert_int_equal(file_write_atomic(s->fd, name, "x", 1, 0644, NULL), 0);
    assert_int_equal(faccessat(s->fd, name, F_OK, 0), 0);

    /* A child dies of the size limit's signal between open and unlink: its temporary stays. */
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit tiny = {0, 0};
        struct rlimit no_core = {0, 0};
        char byte = 'x';

        signal(SIGXFSZ, SIG_DFL);
        setrlimit(RLIMIT_CORE, &no_core);
        setrlimit(RLIMIT_FSIZE, &tiny);
        assert_int_equal(process_id_self(&self, NULL), 0);
        file_write_atomic(s->fd, "victim", &byte, 1, 0644, NULL);
        _exit(0);
    }
    assert_int_equal(process_id_of(pid, &self, NULL), 0);
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(dir_each(s->fd, see_temp, seen, NULL), 0);
    snprintf(expected, sizeof(expected), ".tmp-%d-%llu-", (int)pid,
             (unsigned long long)self.start_ticks);
    assert_memory_equal(seen, expected, strlen(expected));
    assert_string_equal(seen + strlen(seen) - 7, "-victim");
}

static void reading_refuses(void **state)
{
    struct scratch *s = *state;
    struct larder_error e = LARDER_ERROR_INIT;
    struct buf out = BUF_INIT(10);

    buf_puts(&out, "old");
    assert_int_equal(file_read(s->fd, "missing", &out, &e), -LARDER_NOENT);
    assert_int_equal(file_read(s->fd, "/dev/null", &out, &e), 0);
    assert_int_equal(file_read(s->fd, "/dev/zero", &out, &e), -LARDER_INVAL);
    assert_int_equal(file_read(s->fd, ".", &out, &e), -LARDER_INVAL);
    assert_int_equal(mkfifoat(s->fd, "fifo", 0600), 0);
    assert_int_equal(file_read(s->fd, "fifo", &out, &e), -LARDER_INVAL); /* and does not hang */
    assert_int_equal(file_write_atomic(s->fd, "f", "12345678", 8, 0644, &e), 0);
    assert_int_equal(file_read(s->fd, "f", &out, &e), -LARDER_LIMIT);
    assert_int_equal(file_read(s->fd, "f", &out, NULL), -LARDER_LIMIT);
    assert_int_equal(e.code, LARDER_LIMIT);
    assert_string_equal(out.p, "old"); /* unchanged */
    buf_reset(&out);
    assert_int_equal(file_read(s->fd, "f", &out, &e), 0);
    buf_done(&out);
}

static void full_reads_and_writes(void **state)
{
    struct scratch *s = *state;
    CLEANUP_CLOSE int fd = openat(s->fd, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int pipe_fds[2];
    char data[16] = "";

    assert_int_equal(fd_pwrite_full(fd, "abc", 3, 5), 0);
    assert_int_equal(fd_pread_full(fd, data, 16, 0), 8);
    assert_memory_equal(data, "\0\0\0\0\0abc", 8);
    assert_int_equal(fd_pread_full(fd, data, 16, 100), 0);
    assert_int_equal(fd_pread_full(fd, data, 1, UINT64_MAX), -1);
    assert_int_equal(errno, EOVERFLOW);
    assert_int_equal(fd_pwrite_full(fd, data, 1, INT64_MAX), -1);
    assert_int_equal(fd_pread_full(-1, data, 1, 0), -1);
    /* Two short reads make one full one. */
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(fd_write_full(pipe_fds[1], "ab", 2), 0);
    pid_t pid = fork();
    if (pid == 0) {
        usleep(50000);
        _exit(fd_write_full(pipe_fds[1], "cd", 2) == 0 ? 0 : 1);
    }
    assert_int_equal(fd_read_full(pipe_fds[0], data, 4), 4);
    assert_memory_equal(data, "abcd", 4);
    waitpid(pid, NULL, 0);
    close(pipe_fds[1]);
    assert_int_equal(fd_read_full(pipe_fds[0], data, 4), 0);
    close(pipe_fds[0]);
}

static int stop_at_b(void *arg, const char *name, unsigned char d_type)
{
    int dirfd = *(int *)arg;

    assert_int_equal(d_type, DT_REG);
    assert_int_equal(file_remove(dirfd, name, NULL), 0);
    return strcmp(name, "b") == 0 ? 77 : 0;
}

static void directories(void **state)
{
    struct scratch *s = *state;
    CLEANUP_CLOSE int fd = -1;
    int other = -1;

    assert_int_equal(dir_make(s->fd, "d", 0700, &fd, NULL), 0);
    assert_int_equal(dir_make(s->fd, "d", 0700, NULL, NULL), 0);
    assert_int_equal(dir_sync(fd, "d", NULL), 0);
    assert_int_equal(file_write_atomic(fd, "a", "", 0, 0600, NULL), 0);
    assert_int_equal(file_write_atomic(fd, "b", "", 0, 0600, NULL), 0);
    assert_int_equal(entries(fd), 2);
    assert_int_equal(entries(fd), 2); /* the position is not shared */
    assert_int_equal(dir_each(fd, stop_at_b, &fd, NULL), 77);
    assert_int_equal(file_remove(fd, "b", NULL), 0);
    assert_true(file_remove(s->fd, "d", NULL) < 0);
    assert_int_equal(symlinkat("d", s->fd, "link"), 0);
    assert_true(dir_make(s->fd, "link", 0700, &other, NULL) < 0);
    assert_int_equal(file_write_atomic(s->fd, "file", "", 0, 0600, NULL), 0);
    assert_true(dir_make(s->fd, "file", 0700, &other, NULL) < 0);
    assert_int_equal(other, -1);
}

static void locks(void **state)
{
    struct scratch *s = *state;
    struct larder_error e = LARDER_ERROR_INIT;
    CLEANUP_CLOSE int a = -1;
    CLEANUP_CLOSE int b = -1;
    int c = -1;

    assert_int_equal(lock_take(s->fd, "l", false, false, &a, &e), 0);
    assert_int_equal(lock_take(s->fd, "l", false, false, &b, &e), 0);
    assert_int_equal(lock_take(s->fd, "l", true, false, &c, &e), -LARDER_BUSY);
    assert_int_equal(c, -1);
    fd_closep(&a);
    fd_closep(&b);
    assert_int_equal(lock_take(s->fd, "l", true, false, &a, &e), 0);
    assert_int_equal(lock_take(s->fd, "l", false, false, &c, &e), -LARDER_BUSY);
    assert_true(fcntl(a, F_GETFD) & FD_CLOEXEC);

    /* Whoever waits for a file that is then removed must lock the one that came after it. */
    pid_t pid = fork();
    if (pid == 0) {
        int mine = -1;
        struct stat x;
        struct stat y;

        close(a);
        if (lock_take(s->fd, "l", true, true, &mine, NULL) < 0 || fstat(mine, &x) < 0 ||
            fstatat(s->fd, "l", &y, 0) < 0)
            _exit(1);
        _exit(x.st_ino == y.st_ino ? 0 : 2);
    }
    usleep(100000);
    assert_int_equal(file_remove(s->fd, "l", NULL), 0);
    fd_closep(&a);
    int status = 0;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

static void paths(void **state)
{
    struct scratch *s = *state;
    CLEANUP_FREE char *real = realpath(s->path, NULL);
    char path[200];
    char expected[200];
    static const struct {
        const char *tail;
        const char *result;
    } rows[] = {
        {"/a/b/c", "/a/b/c"}, {"/a/b/c/", "/a/b/c"}, {"/a/./b/../x", "/a/x"}, {"/a/b/..", "/a"},
        {"/a/.", "/a"},       {"/link/c", "/a/b/c"}, {"/link", "/link"},
    };

    snprintf(path, sizeof(path), "%s/a/b/c//", s->path);
    assert_int_equal(path_make(path, 0700, NULL), 0);
    assert_int_equal(path_make(path, 0700, NULL), 0);
    assert_int_equal(symlinkat("a/b", s->fd, "link"), 0);
    assert_int_equal(file_write_atomic(s->fd, "f", "", 0, 0600, NULL), 0);
    snprintf(path, sizeof(path), "%s/f", s->path);
    assert_true(path_make(path, 0700, NULL) < 0);
    snprintf(path, sizeof(path), "%s/f/x", s->path);
    assert_true(path_make(path, 0700, NULL) < 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP_FREE char *got = NULL;

        snprintf(path, sizeof(path), "%s%s", s->path, rows[i].tail);
        snprintf(expected, sizeof(expected), "%s%s", real, rows[i].result);
        assert_int_equal(path_absolute(path, &got, NULL), 0);
        assert_string_equal(got, expected);
    }
    CLEANUP_FREE char *root = NULL;
    CLEANUP_FREE char *top = NULL;
    char *none = NULL;
    assert_int_equal(path_absolute("//", &root, NULL), 0);
    assert_string_equal(root, "/");
    assert_int_equal(path_absolute("/x", &top, NULL), 0);
    assert_string_equal(top, "/x");
    assert_int_equal(path_absolute("", &none, NULL), -LARDER_INVAL);
    assert_int_equal(path_absolute("/no-such-dir/x", &none, NULL), -LARDER_NOENT);
    assert_null(none);
    uint64_t bytes = 0;
    assert_int_equal(disk_free(s->fd, &bytes, NULL), 0);
    assert_true(bytes > 0);
    assert_true(disk_free(-1, &bytes, NULL) < 0);
}

#define IN_SCRATCH(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(write_read_replace),
        IN_SCRATCH(create_refuses_what_is_there),
        IN_SCRATCH(failures_leave_nothing),
        IN_SCRATCH(temporary_names_their_writer),
        IN_SCRATCH(reading_refuses),
        IN_SCRATCH(full_reads_and_writes),
        IN_SCRATCH(directories),
        IN_SCRATCH(locks),
        IN_SCRATCH(paths),
    };

    return cmocka_run_group_tests_name("fdio", tests, NULL, NULL);
}
