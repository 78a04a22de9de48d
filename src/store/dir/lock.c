/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lock files. Waiting polls: flock(2) itself can be given up only by a signal, which a library may
 * not take for itself.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/process.h"
#include "store/dir/private.h"

/* First pauses are short (most locks are held for microseconds), later ones spare the CPU. */
#define WAIT_FIRST_NS  (1 * NS_PER_MS)
#define WAIT_LONG_NS   (16 * NS_PER_MS)
#define WAIT_REPORT_NS (200 * NS_PER_MS)
/* The observer's promise: at most ten reports a second. */
#define WAIT_REPEAT_NS (100 * NS_PER_MS)

void store_lock_name(const char *kind, const char *text, char out[64])
{
    /* FNV-1a, 64 bits: two texts that share a lock only wait for each other. */
    uint64_t h = 0xcbf29ce484222325u;
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        h = (h ^ *p) * 0x100000001b3u;
    snprintf(out, 64, "%.40s-%016llx", kind, (unsigned long long)h);
}

/*
 * /proc/locks: "1: FLOCK  ADVISORY  WRITE 4242 fe:00:8675309 0 EOF". Matched by inode number only:
 * the device there is not st_dev on btrfs. It is for a message, not for a decision.
 */
static pid_t holder_pid(int fd)
{
    struct stat st;
    char line[256];
    pid_t found = 0;

    if (fstat(fd, &st) < 0)
        return 0;
    FILE *f = fopen("/proc/locks", "re");
    if (!f)
        return 0;
    while (!found && fgets(line, sizeof line, f)) {
        char *rest = NULL;
        char *word[6] = {0};
        size_t n = 0;
        for (char *w = strtok_r(line, " \n", &rest); w && n < ARRAY_LEN(word);
             w = strtok_r(NULL, " \n", &rest))
            word[n++] = w;
        /* A waiter's line has "->" for its second word. */
        const char *inode = n == 6 ? strrchr(word[5], ':') : NULL;
        if (!inode || strcmp(word[1], "FLOCK") != 0 ||
            strtoull(inode + 1, NULL, 10) != (unsigned long long)st.st_ino)
            continue;
        long pid = strtol(word[4], NULL, 10);
        if (pid > 0 && pid <= INT32_MAX)
            found = (pid_t)pid;
    }
    fclose(f);
    return found;
}

void lock_holder(int fd, char *out, size_t out_bytes)
{
    char name[64];
    pid_t pid = holder_pid(fd);
    if (pid > 0)
        snprintf(out, out_bytes, "process %d (%s)", (int)pid, process_name(pid, name, sizeof name));
    else
        snprintf(out, out_bytes, "another process");
}

static int busy(struct larder_store *store, const char *name, int fd, struct larder_error *e)
{
    char holder[128];
    lock_holder(fd, holder, sizeof holder);
    return error_set(e, LARDER_BUSY, "store %s: lock %s is held by %s", store->path, name, holder);
}

static void report_wait(struct larder_store *store, const char *name, bool is_finished)
{
    struct larder_progress p = {.what = "wait", .object = name, .is_finished = is_finished};
    if (store->observer.progress)
        store->observer.progress(store->observer.arg, &p);
}

static int wait_for_lock(struct larder_store *store, const char *name, int fd, int how,
                         struct larder_error *e)
{
    int64_t began = clock_monotonic_ns();
    int64_t pause = WAIT_FIRST_NS;
    int64_t reported = 0;
    int r = 0;

    while (flock(fd, how | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            r = error_errno(e, errno, "store %s: lock %s", store->path, name);
            break;
        }
        if (store->observer.is_canceled && store->observer.is_canceled(store->observer.arg)) {
            r = error_set(e, LARDER_CANCELED, "store %s: canceled while waiting for lock %s",
                          store->path, name);
            break;
        }
        int64_t now = clock_monotonic_ns();
        if (now - began >= WAIT_REPORT_NS && (!reported || now - reported >= WAIT_REPEAT_NS)) {
            reported = now;
            report_wait(store, name, false);
        }
        clock_sleep_ns(pause);
        if (pause < WAIT_LONG_NS)
            pause *= 2;
    }
    if (reported)
        report_wait(store, name, true);
    return r;
}

int store_lock(struct larder_store *store, const char *name, bool exclusive, bool wait, int *ret_fd,
               struct larder_error *e)
{
    int dirfd = -1;
    int how = exclusive ? LOCK_EX : LOCK_SH;
    int r;

    if (exclusive) {
        r = store_require_writable(store, e);
        if (r < 0)
            return r;
    }
    r = store_place(store, STORE_LOCKS, &dirfd, e);
    if (r == -LARDER_NOENT && store->is_read_only) {
        error_clear(e);
        *ret_fd = -1;
        return 0;
    }
    if (r < 0)
        return r;
    /* A shared lock needs no write access, so read-only users can have it too. */
    CLEANUP_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && store->is_read_only) {
        *ret_fd = -1;
        return 0;
    }
    if (fd < 0 && errno == ENOENT)
        fd = openat(dirfd, name, O_RDONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, store->file_mode);
    if (fd < 0)
        return error_errno(e, errno, "store %s: lock %s", store->path, name);
    if (flock(fd, how | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return error_errno(e, errno, "store %s: lock %s", store->path, name);
        if (!wait)
            return busy(store, name, fd, e);
        r = wait_for_lock(store, name, fd, how, e);
        if (r < 0)
            return r;
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}
