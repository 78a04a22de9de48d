/* SPDX-License-Identifier: Apache-2.0 */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/slice.h"

/* /proc/PID/stat is some 300 bytes: 52 numbers and a name of at most 64. */
#define STAT_BYTES 2048

/* A small file of /proc, whole in one read, NUL-terminated; -1 with errno. */
static ssize_t proc_read(const char *path, char *out, size_t out_bytes)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return -1;
    do {
        n = read(fd, out, out_bytes - 1);
    } while (n < 0 && errno == EINTR);
    if (n >= 0)
        out[n] = 0;
    return n;
}

static char boot_id[BOOT_ID_BYTES];
static uint64_t pid_namespace;

static void read_boot(void)
{
    char text[64];
    struct stat st;

    if (proc_read("/proc/sys/kernel/random/boot_id", text, sizeof(text)) >= BOOT_ID_BYTES - 1) {
        memcpy(boot_id, text, BOOT_ID_BYTES - 1);
        boot_id[BOOT_ID_BYTES - 1] = 0;
    }
    if (stat("/proc/self/ns/pid", &st) == 0)
        pid_namespace = st.st_ino;
}

static void boot_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, read_boot);
}

const char *process_boot_id(void)
{
    boot_once();
    return boot_id;
}

struct stat_fields {
    char state;
    uint64_t threads;
    uint64_t start_ticks;
};

/*
 * proc(5): the name in field 2 may hold blanks and parentheses, so fields count from the last ')'.
 * 0, or -1 with errno: ENOENT or ESRCH when there is no such process (or no /proc).
 */
static int read_stat(pid_t pid, struct stat_fields *ret)
{
    struct stat_fields f = {0, 0, 0};
    char path[64];
    char text[STAT_BYTES];
    char *save = NULL;
    char *p;
    ssize_t n;
    int field = 3;

    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    n = proc_read(path, text, sizeof(text));
    if (n < 0)
        return -1;
    p = strrchr(text, ')');
    if (!p) {
        errno = EPROTO;
        return -1;
    }
    for (p = strtok_r(p + 1, " ", &save); p && field <= 22; p = strtok_r(NULL, " ", &save)) {
        bool ok = true;

        if (field == 3)
            f.state = *p;
        else if (field == 20)
            ok = slice_parse_u64(slice_of(p), &f.threads);
        else if (field == 22)
            ok = slice_parse_u64(slice_of(p), &f.start_ticks);
        if (!ok)
            break;
        field++;
    }
    if (field <= 22) {
        errno = EPROTO;
        return -1;
    }
    *ret = f;
    return 0;
}

int process_id_of(pid_t pid, struct process_id *ret, struct larder_error *e)
{
    struct process_id id = {.pid = pid};
    struct stat_fields f = {0, 0, 0};

    if (pid <= 0)
        return error_set(e, LARDER_INVAL, "process %ld: not a process id", (long)pid);
    boot_once();
    if (read_stat(pid, &f) < 0) {
        int errnum = errno;

        if (kill(pid, 0) < 0 && errno == ESRCH)
            return error_set(e, LARDER_NOENT, "process %ld: not running", (long)pid);
        if (errnum != ENOENT)
            return error_errno_code(e, LARDER_IO, errnum, "process %ld", (long)pid);
        *ret = id; /* no /proc here: the number must do, with start_ticks 0 */
        return 0;
    }
    id.start_ticks = f.start_ticks;
    id.pid_namespace = pid_namespace;
    memcpy(id.boot_id, boot_id, sizeof(id.boot_id));
    *ret = id;
    return 0;
}

int process_id_self(struct process_id *ret, struct larder_error *e)
{
    return process_id_of(getpid(), ret, e);
}

/*
 * DEAD needs proof. A zombie counts as dead once its last thread is: its files and locks are closed
 * by then, and where nobody reaps (a container's pid 1) it would otherwise live for ever.
 */
enum process_state process_check(const struct process_id *id)
{
    struct stat_fields f = {0, 0, 0};

    boot_once();
    if (id->pid <= 0)
        return PROCESS_UNKNOWN;
    if (id->boot_id[0] && boot_id[0] && strcmp(id->boot_id, boot_id) != 0)
        return PROCESS_DEAD;
    /* Another container's numbers say nothing here. */
    if (id->pid_namespace && pid_namespace && id->pid_namespace != pid_namespace)
        return PROCESS_UNKNOWN;
    if (kill(id->pid, 0) < 0 && errno == ESRCH)
        return PROCESS_DEAD;
    if (read_stat(id->pid, &f) < 0)
        return PROCESS_UNKNOWN;
    if (id->start_ticks == 0)
        return PROCESS_UNKNOWN;
    if (f.start_ticks != id->start_ticks)
        return PROCESS_DEAD;
    if ((f.state == 'Z' || f.state == 'X') && f.threads <= 1)
        return PROCESS_DEAD;
    return PROCESS_ALIVE;
}

char *process_name(pid_t pid, char *out, size_t out_bytes)
{
    char path[64];
    char name[64];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%ld/comm", (long)pid);
    n = proc_read(path, name, sizeof(name));
    if (n > 0 && name[n - 1] == '\n')
        name[n - 1] = 0;
    snprintf(out, out_bytes, "%s", n > 0 ? name : "?");
    return out;
}
