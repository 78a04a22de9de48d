/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a command and strikes at the Nth of its system calls that change files, counted over all
 * its threads and children: kills the whole tree before the call is made, lets the call fail with
 * an errno, or cuts a write short.
 *
 *     inject [-o REPORT] [-c CLASS,...] [-n N [-s]] [-e ERRNO|-w|-i] COMMAND [ARG]...
 *
 * Without -n it only counts. -e: the call fails with that number; -w: half of what was to be
 * written is written; -i: it is made, and the command gets SIGINT; none of them: SIGKILL. -s: from
 * the Nth on, every one that needs space (a disk that stays full). REPORT gets one line a counted
 * call, "N NAME OBJECT", up to the Nth; "total N" ends it. The exit status is the command's, 128 +
 * signal when one ended it, 125 when this program failed.
 *
 * Only calls that change files are counted (with -c net,... those that talk to others, too, with -c
 * thread,... those that start a thread): a kill between two of them leaves what a kill at the
 * second one leaves. A seccomp filter stops the command at these calls only, so that it runs at
 * nearly full speed; strace would stop it at all of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#include <elf.h>
#define OUR_ARCH AUDIT_ARCH_AARCH64
#else
#error "meson.build builds this for x86_64 and aarch64 only"
#endif

#define STATUS_BROKEN 125

enum call_class {
    CLASS_OPEN = 1u << 0, /* that make or empty a file */
    CLASS_WRITE = 1u << 1,
    CLASS_SYNC = 1u << 2,
    CLASS_LINK = 1u << 3,
    CLASS_RENAME = 1u << 4,
    CLASS_UNLINK = 1u << 5,
    CLASS_MKDIR = 1u << 6,
    CLASS_TRUNCATE = 1u << 7,
    CLASS_MODE = 1u << 8,
    CLASS_LOCK = 1u << 9,
    CLASS_CLONE = 1u << 10, /* reflink */
    CLASS_ALL = (1u << 11) - 1,
    CLASS_NET = 1u << 11,    /* only by its name: a connection made, something sent */
    CLASS_RECV = 1u << 12,   /* only by its name: something received */
    CLASS_THREAD = 1u << 13, /* only by its name: a thread or a process started */
    CLASS_NEEDS_SPACE =
        CLASS_OPEN | CLASS_WRITE | CLASS_LINK | CLASS_RENAME | CLASS_MKDIR | CLASS_CLONE,
};
static const char *const class_names[] = {"open",   "write", "sync",     "link",  "rename",
                                          "unlink", "mkdir", "truncate", "mode",  "lock",
                                          "clone",  "net",   "recv",     "thread"};

/* What a call works on, for the report: argument numbers, -1 for none. */
struct call {
    long nr;
    const char *name;
    unsigned class;
    int flags_arg; /* OPEN: counted only with O_CREAT, O_TRUNC or O_TMPFILE in it */
    int fd_arg;
    int path_arg;
};

static const struct call calls[] = {
    {SYS_openat, "openat", CLASS_OPEN, 2, -1, 1},
    {SYS_write, "write", CLASS_WRITE, -1, 0, -1},
    {SYS_writev, "writev", CLASS_WRITE, -1, 0, -1},
    {SYS_pwrite64, "pwrite64", CLASS_WRITE, -1, 0, -1},
    {SYS_pwritev, "pwritev", CLASS_WRITE, -1, 0, -1},
    {SYS_copy_file_range, "copy_file_range", CLASS_WRITE, -1, 2, -1},
    {SYS_sendfile, "sendfile", CLASS_WRITE, -1, 0, -1},
    {SYS_fsync, "fsync", CLASS_SYNC, -1, 0, -1},
    {SYS_fdatasync, "fdatasync", CLASS_SYNC, -1, 0, -1},
    {SYS_syncfs, "syncfs", CLASS_SYNC, -1, 0, -1},
    {SYS_linkat, "linkat", CLASS_LINK, -1, -1, 3},
    {SYS_symlinkat, "symlinkat", CLASS_LINK, -1, -1, 2},
    {SYS_renameat, "renameat", CLASS_RENAME, -1, -1, 3},
    {SYS_renameat2, "renameat2", CLASS_RENAME, -1, -1, 3},
    {SYS_unlinkat, "unlinkat", CLASS_UNLINK, -1, -1, 1},
    {SYS_mkdirat, "mkdirat", CLASS_MKDIR, -1, -1, 1},
    {SYS_ftruncate, "ftruncate", CLASS_TRUNCATE, -1, 0, -1},
    {SYS_fallocate, "fallocate", CLASS_TRUNCATE, -1, 0, -1},
    {SYS_fchmod, "fchmod", CLASS_MODE, -1, 0, -1},
    {SYS_fchmodat, "fchmodat", CLASS_MODE, -1, -1, 1},
    {SYS_fchown, "fchown", CLASS_MODE, -1, 0, -1},
    {SYS_utimensat, "utimensat", CLASS_MODE, -1, 0, 1},
    {SYS_fsetxattr, "fsetxattr", CLASS_MODE, -1, 0, -1},
    {SYS_flock, "flock", CLASS_LOCK, -1, 0, -1},
    {SYS_fcntl, "fcntl", CLASS_LOCK, -1, 0, -1},
    {SYS_ioctl, "ioctl", CLASS_CLONE, -1, 0, -1},
    {SYS_socket, "socket", CLASS_NET, -1, -1, -1},
    {SYS_connect, "connect", CLASS_NET, -1, 0, -1},
    {SYS_sendto, "sendto", CLASS_NET, -1, 0, -1},
    {SYS_sendmsg, "sendmsg", CLASS_NET, -1, 0, -1},
    {SYS_recvfrom, "recvfrom", CLASS_RECV, -1, 0, -1},
    {SYS_recvmsg, "recvmsg", CLASS_RECV, -1, 0, -1},
    {SYS_clone, "clone", CLASS_THREAD, -1, -1, -1},
    {SYS_clone3, "clone3", CLASS_THREAD, -1, -1, -1},
#ifdef SYS_open
    {SYS_open, "open", CLASS_OPEN, 1, -1, 0},
    {SYS_link, "link", CLASS_LINK, -1, -1, 1},
    {SYS_rename, "rename", CLASS_RENAME, -1, -1, 1},
    {SYS_unlink, "unlink", CLASS_UNLINK, -1, -1, 0},
    {SYS_rmdir, "rmdir", CLASS_UNLINK, -1, -1, 0},
    {SYS_mkdir, "mkdir", CLASS_MKDIR, -1, -1, 0},
    {SYS_chmod, "chmod", CLASS_MODE, -1, -1, 0},
#endif
};
#define CALLS (sizeof(calls) / sizeof(calls[0]))

struct options {
    const char *report;
    unsigned classes;
    unsigned long target; /* 0: only count */
    bool sticky;
    bool short_write;
    bool interrupt;
    long errnum; /* 0: kill */
};

struct run {
    struct options options;
    FILE *report;
    pid_t main_pid; /* the command's */
    unsigned long count;
    bool is_killing;
    pid_t *pids; /* whom we trace; nobody else may get an id of theirs and be killed */
    size_t pid_count;
};

static void die(const char *what)
{
    fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
    exit(STATUS_BROKEN);
}

/* ---- the filter --------------------------------------------------------------------------- */

static struct sock_filter *emit(struct sock_filter *at, uint16_t code, uint32_t k, uint8_t jt,
                                uint8_t jf)
{
    *at = (struct sock_filter){code, jt, jf, k};
    return at + 1;
}

static uint32_t arg_offset(int arg)
{
    return (uint32_t)(offsetof(struct seccomp_data, args) + (size_t)arg * sizeof(uint64_t));
}

/* One argument of a call decides: stop with one of the bits set. */
static struct sock_filter *emit_bits(struct sock_filter *at, int arg, uint32_t bits)
{
    at = emit(at, BPF_LD | BPF_W | BPF_ABS, arg_offset(arg), 0, 0);
    at = emit(at, BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
    at = emit(at, BPF_RET | BPF_K, SECCOMP_RET_TRACE, 0, 0);
    return emit(at, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

/* Stop when the argument is one of the values. */
static struct sock_filter *emit_values(struct sock_filter *at, int arg, const uint32_t *values,
                                       size_t n)
{
    at = emit(at, BPF_LD | BPF_W | BPF_ABS, arg_offset(arg), 0, 0);
    for (size_t i = 0; i < n; i++) {
        at = emit(at, BPF_JMP | BPF_JEQ | BPF_K, values[i], 0, 1);
        at = emit(at, BPF_RET | BPF_K, SECCOMP_RET_TRACE, 0, 0);
    }
    return emit(at, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

static struct sock_filter *emit_call(struct sock_filter *at, const struct call *call)
{
    static const uint32_t locks[] = {F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW, F_SETLEASE};
    static const uint32_t clones[] = {(uint32_t)FICLONE, (uint32_t)FICLONERANGE};

    if (call->class == CLASS_OPEN)
        return emit_bits(at, call->flags_arg, O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY));
    if (call->nr == SYS_fcntl)
        return emit_values(at, 1, locks, sizeof(locks) / sizeof(locks[0]));
    if (call->nr == SYS_ioctl)
        return emit_values(at, 1, clones, sizeof(clones) / sizeof(clones[0]));
    return emit(at, BPF_RET | BPF_K, SECCOMP_RET_TRACE, 0, 0);
}

static int install_filter(unsigned classes)
{
    struct sock_filter code[CALLS * 16 + 8];
    struct sock_filter *at = code;
    struct sock_fprog program = {0, code};

    at = emit(at, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
    at = emit(at, BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0);
    at = emit(at, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    at = emit(at, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
    for (size_t i = 0; i < CALLS; i++) {
        struct sock_filter *jump = at;

        if (!(calls[i].class & classes))
            continue;
        at = emit_call(at + 1, &calls[i]);
        emit(jump, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i].nr, 0, (uint8_t)(at - jump - 1));
    }
    at = emit(at, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    program.len = (unsigned short)(at - code);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* ---- a stopped call ----------------------------------------------------------------------- */

static void fail_call(pid_t pid, long errnum)
{
#if defined(__x86_64__)
    struct user_regs_struct regs;

    if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0)
        return;
    regs.orig_rax = (unsigned long long)-1;
    regs.rax = (unsigned long long)-errnum;
    ptrace(PTRACE_SETREGS, pid, NULL, &regs);
#else
    struct user_regs_struct regs;
    struct iovec io = {&regs, sizeof(regs)};
    int nr = -1;
    struct iovec nr_io = {&nr, sizeof(nr)};

    if (ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &io) < 0)
        return;
    regs.regs[0] = (unsigned long long)-errnum;
    ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &io);
    ptrace(PTRACE_SETREGSET, pid, NT_ARM_SYSTEM_CALL, &nr_io);
#endif
}

/* The third argument of write, pwrite64 is the number of bytes, of writev, pwritev that of pieces.
 */
static void halve_call(pid_t pid)
{
#if defined(__x86_64__)
    struct user_regs_struct regs;

    if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0)
        return;
    regs.rdx = regs.rdx > 1 ? regs.rdx / 2 : regs.rdx;
    ptrace(PTRACE_SETREGS, pid, NULL, &regs);
#else
    struct user_regs_struct regs;
    struct iovec io = {&regs, sizeof(regs)};

    if (ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &io) < 0)
        return;
    regs.regs[2] = regs.regs[2] > 1 ? regs.regs[2] / 2 : regs.regs[2];
    ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &io);
#endif
}

/* "" when it can't be told. */
static void read_fd_name(pid_t pid, int fd, char *out, size_t n)
{
    char link[64];
    ssize_t got;

    snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)pid, fd);
    got = readlink(link, out, n - 1);
    out[got > 0 ? got : 0] = '\0';
}

static void read_path(pid_t pid, uint64_t address, char *out, size_t n)
{
    struct iovec local = {out, n - 1};
    struct iovec remote = {(void *)(uintptr_t)address, n - 1};
    ssize_t got = address ? process_vm_readv(pid, &local, 1, &remote, 1, 0) : 0;

    /* A path near the end of a mapping: only up to the page's end can be read. */
    if (got < 0 && errno == EFAULT) {
        remote.iov_len = 4096 - (address & 4095);
        local.iov_len = remote.iov_len = remote.iov_len < n - 1 ? remote.iov_len : n - 1;
        got = process_vm_readv(pid, &local, 1, &remote, 1, 0);
    }
    out[got > 0 ? got : 0] = '\0';
}

static const struct call *find_call(uint64_t nr)
{
    for (size_t i = 0; i < CALLS; i++) {
        if ((uint64_t)calls[i].nr == nr)
            return &calls[i];
    }
    return NULL;
}

static void kill_all(struct run *run)
{
    run->is_killing = true;
    for (size_t i = 0; i < run->pid_count; i++)
        kill(run->pids[i], SIGKILL);
}

static void strike(struct run *run, pid_t pid, const struct call *call)
{
    if (run->options.short_write && call->class == CLASS_WRITE)
        halve_call(pid);
    else if (run->options.errnum > 0)
        fail_call(pid, run->options.errnum);
    else if (run->options.interrupt)
        kill(run->main_pid, SIGINT);
    else if (!run->options.short_write)
        kill_all(run);
}

static void at_call(struct run *run, pid_t pid)
{
    struct __ptrace_syscall_info info;
    const struct call *call;
    char object[PATH_MAX] = "";

    if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) <= 0)
        return;
    call = find_call(info.seccomp.nr);
    if (!call)
        return;
    if (call->path_arg >= 0)
        read_path(pid, info.seccomp.args[call->path_arg], object, sizeof(object));
    if (object[0] == '\0' && call->fd_arg >= 0) {
        read_fd_name(pid, (int)info.seccomp.args[call->fd_arg], object, sizeof(object));
        /* Pipes, sockets, terminals and /dev/null are no files. */
        bool is_wanted =
            (run->options.classes & (CLASS_NET | CLASS_RECV)) && strncmp(object, "socket:", 7) == 0;
        if ((object[0] != '/' && !is_wanted) || strncmp(object, "/dev/pts", 8) == 0 ||
            strcmp(object, "/dev/null") == 0 || strncmp(object, "/memfd:", 7) == 0)
            return;
    }
    run->count++;
    if (run->report && (run->options.target == 0 || run->count <= run->options.target))
        fprintf(run->report, "%lu %s %s\n", run->count, call->name, object);
    if (run->options.target != 0 && (run->count == run->options.target ||
                                     (run->options.sticky && run->count > run->options.target &&
                                      (call->class & CLASS_NEEDS_SPACE) != 0)))
        strike(run, pid, call);
}

/* ---- the tracer --------------------------------------------------------------------------- */

static void remember(struct run *run, pid_t pid)
{
    pid_t *more;

    for (size_t i = 0; i < run->pid_count; i++) {
        if (run->pids[i] == pid)
            return;
    }
    more = realloc(run->pids, (run->pid_count + 1) * sizeof(*more));
    if (!more)
        die("realloc");
    run->pids = more;
    run->pids[run->pid_count++] = pid;
}

static void forget(struct run *run, pid_t pid)
{
    for (size_t i = 0; i < run->pid_count; i++) {
        if (run->pids[i] == pid) {
            run->pids[i] = run->pids[--run->pid_count];
            return;
        }
    }
}

static void at_stop(struct run *run, pid_t pid, int status)
{
    int event = status >> 16;
    int sig = WSTOPSIG(status);

    if (event == PTRACE_EVENT_SECCOMP && !run->is_killing)
        at_call(run, pid);
    if (run->is_killing) {
        kill(pid, SIGKILL);
        return;
    }
    /* A real stop (SIGSTOP and the like) has to last; everything else goes on. */
    if (event == PTRACE_EVENT_STOP && sig != SIGTRAP)
        ptrace(PTRACE_LISTEN, pid, NULL, NULL);
    else
        ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)(event != 0 ? 0 : sig));
}

static int follow(struct run *run)
{
    int result = STATUS_BROKEN;
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
        if (pid <= 0)
            continue;
        if (WIFSTOPPED(status)) {
            remember(run, pid);
            at_stop(run, pid, status);
            continue;
        }
        forget(run, pid);
        if (pid == run->main_pid)
            result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    return result;
}

static pid_t start(const struct options *options, char **command)
{
    int gate[2];
    char byte = 0;
    pid_t pid;

    if (pipe2(gate, O_CLOEXEC) < 0)
        die("pipe");
    pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        /* Background jobs of a shell ignore it, and so would the command. */
        if (options->interrupt)
            signal(SIGINT, SIG_DFL);
        /* Not before the tracer is there: a filtered call without one fails. */
        if (read(gate[0], &byte, 1) != 1 || install_filter(options->classes) < 0)
            die("filter");
        execvp(command[0], command);
        die(command[0]);
    }
    if (ptrace(PTRACE_SEIZE, pid, NULL,
               (void *)(intptr_t)(PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
                                  PTRACE_O_TRACEVFORK | PTRACE_O_EXITKILL)) < 0)
        die("ptrace");
    if (write(gate[1], &byte, 1) != 1)
        die("write");
    close(gate[0]);
    close(gate[1]);
    return pid;
}

static unsigned parse_classes(char *text)
{
    unsigned classes = 0;

    for (char *word = strtok(text, ","); word; word = strtok(NULL, ",")) {
        unsigned one = 0;

        for (size_t i = 0; i < sizeof(class_names) / sizeof(class_names[0]); i++) {
            if (strcmp(word, class_names[i]) == 0)
                one = 1u << i;
        }
        if (!one) {
            fprintf(stderr, "inject: unknown class '%s'\n", word);
            exit(STATUS_BROKEN);
        }
        classes |= one;
    }
    return classes;
}

static void parse(int argc, char **argv, struct options *options)
{
    int c;

    /* "+": the command's own options are its own. */
    while ((c = getopt(argc, argv, "+o:c:n:e:swi")) != -1) {
        if (c == 'o')
            options->report = optarg;
        else if (c == 'c')
            options->classes = parse_classes(optarg);
        else if (c == 'n')
            options->target = strtoul(optarg, NULL, 10);
        else if (c == 'e')
            options->errnum = strtol(optarg, NULL, 10);
        else if (c == 's')
            options->sticky = true;
        else if (c == 'w')
            options->short_write = true;
        else if (c == 'i')
            options->interrupt = true;
        else
            exit(STATUS_BROKEN);
    }
    if (optind >= argc) {
        fputs("inject: no command\n", stderr);
        exit(STATUS_BROKEN);
    }
}

int main(int argc, char **argv)
{
    struct run run = {.options = {.classes = CLASS_ALL}};
    int result;

    parse(argc, argv, &run.options);
    if (run.options.report) {
        run.report = fopen(run.options.report, "we");
        if (!run.report)
            die(run.options.report);
    }
    run.main_pid = start(&run.options, argv + optind);
    remember(&run, run.main_pid);
    result = follow(&run);
    if (run.report) {
        fprintf(run.report, "total %lu\n", run.count);
        if (fclose(run.report) != 0)
            die(run.options.report);
    }
    free(run.pids);
    return result;
}
