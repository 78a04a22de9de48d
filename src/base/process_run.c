/* SPDX-License-Identifier: Apache-2.0 */
/* process_run and process_run_input of process.h. */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "base/slice.h"

#define READ_BYTES 4096
/* How often a child is looked at where the kernel gives no pidfd. */
#define TICK_MS 20
/* How soon a cancel is noticed. */
#define CANCEL_MS 100
/* Reads in a row: more than a pipe holds (64 KiB), but the time limit must get its turn. */
#define DRAIN_READS 32

struct pipe_ends {
    int read;
    int write;
};

static void pipe_close(struct pipe_ends *p)
{
    fd_closep(&p->read);
    fd_closep(&p->write);
}

/*
 * A host program may run with 0, 1 or 2 closed: a pipe end that landed there would be overwritten
 * in the child before it is used.
 */
static int above_stdio(int *fd)
{
    int moved;

    if (*fd > STDERR_FILENO)
        return 0;
    moved = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (moved < 0)
        return -1;
    fd_closep(fd);
    *fd = moved;
    return 0;
}

static int pipe_make(struct pipe_ends *p)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    p->read = fds[0];
    p->write = fds[1];
    if (above_stdio(&p->read) < 0 || above_stdio(&p->write) < 0)
        return -1;
    /* Only our end: the flag of the other belongs to the child. */
    return fcntl(p->read, F_SETFL, O_NONBLOCK);
}

/*
 * posix_spawn runs no code of ours between fork and exec, and does not copy the page tables of a
 * large parent. Signals are as in a fresh process, whatever this thread blocks. Returns an errno.
 */
static int spawn(const char *const argv[], int in, const struct pipe_ends *out,
                 const struct pipe_ends *err, pid_t *ret_pid)
{
    /* With an input: in a group of its own (0: named as the child). */
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none;
    sigset_t all;
    char **args;
    int rc;

    memcpy(&args, &argv, sizeof(args)); /* it takes char *const *, and does not write */
    sigemptyset(&none);
    sigfillset(&all);
    rc = posix_spawnattr_init(&attr);
    if (rc)
        return rc;
    rc = posix_spawn_file_actions_init(&actions);
    if (rc) {
        posix_spawnattr_destroy(&attr);
        return rc;
    }
    if (in >= 0)
        flags |= POSIX_SPAWN_SETPGROUP;
    if ((rc = posix_spawnattr_setflags(&attr, flags)) ||
        (rc = posix_spawnattr_setpgroup(&attr, 0)) ||
        (rc = posix_spawnattr_setsigmask(&attr, &none)) ||
        (rc = posix_spawnattr_setsigdefault(&attr, &all)) ||
        (rc = in >= 0 ? posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO)
                      : posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null",
                                                         O_RDONLY, 0)) ||
        (rc = posix_spawn_file_actions_adddup2(&actions, out->write, STDOUT_FILENO)) ||
        (rc = posix_spawn_file_actions_adddup2(&actions, err->write, STDERR_FILENO)))
        goto out;
    rc = posix_spawnp(ret_pid, args[0], &actions, &attr, args, environ);
out:
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    return rc;
}

static void keep_tail(struct buf *b, const char *data, size_t n)
{
    size_t drop;

    if (n > b->max_bytes) {
        data += n - b->max_bytes;
        n = b->max_bytes;
    }
    drop = b->n > b->max_bytes - n ? b->n - (b->max_bytes - n) : 0;
    if (drop) {
        memmove(b->p, b->p + drop, b->n - drop);
        b->n -= drop;
    }
    buf_append(b, data, n);
}

/* Takes what is there now; closes *fd at the end of file. */
static void drain(int *fd, struct buf *b, bool tail)
{
    char data[READ_BYTES];

    for (int i = 0; i < DRAIN_READS && *fd >= 0; i++) {
        ssize_t n = read(*fd, data, sizeof(data));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            fd_closep(fd);
            return;
        }
        if (!b)
            continue;
        if (tail)
            keep_tail(b, data, (size_t)n);
        else
            buf_append(b, data, (size_t)n);
        if (b->failed)
            return;
    }
}

struct child {
    const char *name;
    pid_t pid;
    bool is_group; /* of its own */
    int pidfd;     /* -1: the kernel has none */
    const struct larder_observer *observer;
    struct pipe_ends out;
    struct pipe_ends err;
};

static bool is_canceled(const struct larder_observer *o)
{
    return o && o->is_canceled && o->is_canceled(o->arg);
}

static int poll_ms(const struct child *c, int64_t deadline_ns)
{
    int64_t ms = c->observer ? CANCEL_MS : INT32_MAX;

    if (deadline_ns)
        ms = (deadline_ns - clock_monotonic_ns()) / NS_PER_MS + 1;
    if (c->pidfd < 0 && ms > TICK_MS)
        ms = TICK_MS;
    return ms < 0 ? 0 : (int)(ms < INT32_MAX ? ms : INT32_MAX);
}

/*
 * Until the child itself has ended: a grandchild may keep the pipes open for as long as it likes.
 * Returns 0 with *ret_status; the child is reaped whatever is returned.
 */
static int attend(struct child *c, int64_t timeout_ms, struct buf *out, struct buf *err,
                  int *ret_status, struct larder_error *e)
{
    int64_t deadline_ns = 0;
    int status = 0;
    pid_t got = 0;
    int rc = 0;

    if (timeout_ms > 0 && (__builtin_mul_overflow(timeout_ms, NS_PER_MS, &deadline_ns) ||
                           __builtin_add_overflow(deadline_ns, clock_monotonic_ns(), &deadline_ns)))
        deadline_ns = 0;
    while (rc == 0 && got == 0) {
        struct pollfd fds[] = {
            {c->out.read, POLLIN, 0}, {c->err.read, POLLIN, 0}, {c->pidfd, POLLIN, 0}};

        if (poll(fds, ARRAY_LEN(fds), poll_ms(c, deadline_ns)) < 0 && errno != EINTR)
            rc = error_errno(e, errno, "program %s", c->name);
        /* Asked before the pipes are drained, so that its last words are among what is read. */
        got = waitpid(c->pid, &status, WNOHANG);
        drain(&c->out.read, out, false);
        drain(&c->err.read, err, true);
        if (rc == 0 && ((out && buf_failed(out, e) < 0) || (err && buf_failed(err, e) < 0)))
            rc = error_context(e, "output of program %s", c->name);
        else if (rc == 0 && got == 0 && is_canceled(c->observer))
            rc = error_set(e, LARDER_CANCELED, "canceled");
        else if (rc == 0 && got == 0 && deadline_ns && clock_monotonic_ns() >= deadline_ns)
            rc = error_set(e, LARDER_IO, "program %s: still running after %lld ms, killed", c->name,
                           (long long)timeout_ms);
    }
    if (got == 0) {
        kill(c->is_group ? -c->pid : c->pid, SIGKILL);
        do {
            got = waitpid(c->pid, &status, 0);
        } while (got < 0 && errno == EINTR);
    }
    if (rc == 0 && got < 0) /* ECHILD: the host program ignores SIGCHLD */
        rc = error_errno(e, errno, "end of program %s", c->name);
    if (rc == 0)
        *ret_status = status;
    return rc;
}

static int run(const char *const argv[], int in, int64_t timeout_ms,
               const struct larder_observer *observer, struct buf *out, struct buf *err,
               int *ret_status, struct larder_error *e)
{
    struct child c = {argv[0], -1, in >= 0, -1, observer, {-1, -1}, {-1, -1}};
    int rc;

    if (pipe_make(&c.out) < 0 || pipe_make(&c.err) < 0) {
        rc = error_errno(e, errno, "pipe to program %s", argv[0]);
        goto out;
    }
    rc = spawn(argv, in, &c.out, &c.err, &c.pid);
    if (rc) {
        rc = error_errno(e, rc, "program %s", argv[0]);
        goto out;
    }
    fd_closep(&c.out.write);
    fd_closep(&c.err.write);
    c.pidfd = (int)syscall(SYS_pidfd_open, c.pid, 0);
    rc = attend(&c, timeout_ms, out, err, ret_status, e);
out:
    fd_closep(&c.pidfd);
    pipe_close(&c.out);
    pipe_close(&c.err);
    return rc;
}

int process_run(const char *const argv[], int64_t timeout_ms, struct buf *out, struct buf *err,
                int *ret_status, struct larder_error *e)
{
    return run(argv, -1, timeout_ms, NULL, out, err, ret_status, e);
}

/* A file of memory, not a pipe: nobody has to write while the program reads, and one that reads
 * nothing does not end us by SIGPIPE. */
int process_run_input(const char *const argv[], struct slice input, int64_t timeout_ms,
                      const struct larder_observer *observer, struct buf *out, struct buf *err,
                      int *ret_status, struct larder_error *e)
{
    CLEANUP_CLOSE int in = memfd_create("input", MFD_CLOEXEC);

    if (in < 0 || above_stdio(&in) < 0 || fd_pwrite_full(in, input.p, input.n, 0) < 0)
        return error_errno(e, errno, "input of program %s", argv[0]);
    return run(argv, in, timeout_ms, observer, out, err, ret_status, e);
}
