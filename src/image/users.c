/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes of one file: advisory locks and open descriptors. The byte offsets are those of QEMU's
 * block/file-posix.c: 100 + i "I hold permission i", 200 + i "I do not share permission i", with i
 * 0 consistent read, 1 write, 2 write unchanged, 3 resize.
 */
#include "image/users.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/process.h"
#include "store/dir/blob.h"
#include "store/dir/lease.h"

/* Ten thousand leases are not read by anybody; what is left of the caller's buffer is for openers.
 */
#define DESCRIBED_BYTES (16 * 1024)

#define QEMU_BYTE_READ      100
#define QEMU_BYTE_WRITE     101
#define QEMU_BYTE_NO_SHARED 201
/* More users than this makes are not named in a message; image show has room for them. */
#define USERS_SHOWN_BYTES 4096

static void say(struct buf *who, const char *text)
{
    if (who) {
        buf_puts(who, text);
        buf_putc(who, '\n');
    }
}

/* 1: somebody's lock overlaps; 0: none; -1: can't tell (errno). Takes no lock. */
static int lock_is_held(int fd, off_t start, off_t length)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
        return -1;
    return lock.l_type != F_UNLCK;
}

static unsigned probe_locks(int fd, struct buf *who)
{
    int any = lock_is_held(fd, 0, 0);
    if (any == 0)
        return 0;
    if (any < 0) {
        say(who, "unknown: the file system cannot tell about locks");
        return IMAGE_USE_UNKNOWN;
    }
    if (lock_is_held(fd, QEMU_BYTE_WRITE, 1) == 1) {
        say(who, "a QEMU process, writing (lock on byte 101)");
        return IMAGE_USE_OFD_WRITER;
    }
    if (lock_is_held(fd, QEMU_BYTE_READ, 1) == 1 || lock_is_held(fd, QEMU_BYTE_NO_SHARED, 1) == 1) {
        say(who, "a QEMU process, reading (lock on byte 100 or 201)");
        return IMAGE_USE_OFD_READER;
    }
    say(who, "a process with a lock on it");
    return IMAGE_USE_OFD_READER;
}

/*
 * A write lease is granted only when nobody else has the file open. It is given back at once; an
 * opener that comes in between waits for that, and the kernel signals this process: by default with
 * SIGIO, which would end a program (in any of its threads). SIGURG is ignored by default.
 */
static unsigned probe_openers(int fd, struct buf *who)
{
    if (fcntl(fd, F_SETSIG, SIGURG) < 0)
        return IMAGE_USE_UNKNOWN;
    int granted = fcntl(fd, F_SETLEASE, F_WRLCK);
    int saved = errno;
    if (granted == 0)
        fcntl(fd, F_SETLEASE, F_UNLCK);
    if (granted == 0)
        return 0;
    if (saved == EAGAIN || saved == EBUSY)
        return IMAGE_USE_OPENED;
    say(who, saved == EACCES ? "unknown: only its owner may ask who has it open"
                             : "unknown: the file system has no leases");
    return IMAGE_USE_UNKNOWN;
}

int image_users_of_fd(int fd, unsigned *ret_flags, struct buf *who, struct larder_error *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_errno(e, errno, "image file");
    unsigned flags = probe_locks(fd, who) | probe_openers(fd, who);
    if (flags & (IMAGE_USE_OPENED | IMAGE_USE_OFD_READER | IMAGE_USE_OFD_WRITER)) {
        size_t before = who ? who->n : 0;
        int r = who ? image_users_pids((uint64_t)st.st_dev, (uint64_t)st.st_ino, who, e) : 0;
        if (r < 0)
            return r;
        if ((flags & IMAGE_USE_OPENED) && who && who->n == before)
            say(who, "a process that has it open");
    }
    *ret_flags = flags;
    return 0;
}

/* ---- /proc ---- */

static bool fd_dir_has(const char *pid, uint64_t device, uint64_t inode)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
    DIR *dir = opendir(path);
    bool found = false;
    if (!dir)
        return false;
    for (struct dirent *d; !found && (d = readdir(dir));)
        found = d->d_name[0] != '.' && fstatat(dirfd(dir), d->d_name, &st, 0) == 0 &&
                (uint64_t)st.st_dev == device && (uint64_t)st.st_ino == inode;
    closedir(dir);
    return found;
}

int image_users_pids(uint64_t device, uint64_t inode, struct buf *who, struct larder_error *e)
{
    DIR *proc = opendir("/proc");
    (void)e;
    if (!proc)
        return 0; /* best effort: only for messages */
    for (struct dirent *d; (d = readdir(proc));) {
        char *end;
        long pid = strtol(d->d_name, &end, 10);
        char name[64];
        if (*end || pid <= 0 || pid == (long)getpid() || !fd_dir_has(d->d_name, device, inode))
            continue;
        buf_printf(who, "process %ld (%s) has it open\n", pid,
                   process_name((pid_t)pid, name, sizeof(name)));
    }
    closedir(proc);
    return 0;
}

/* ---- a blob of the store ---- */

struct lease_scan {
    struct buf *who;
    unsigned flags;
    bool needs_path;
};

static int scan_lease(void *arg, const struct lease *lease)
{
    struct lease_scan *scan = arg;
    if (lease_check(lease) == PROCESS_DEAD)
        return 0;
    scan->flags |= IMAGE_USE_LEASE;
    /* A file names the path; a process was given it and may open it at any time. */
    scan->needs_path = true;
    if (scan->who && scan->who->n < DESCRIBED_BYTES) {
        int r = lease_describe(lease, scan->who);
        buf_putc(scan->who, '\n');
        return r;
    }
    return 0;
}

/* path NULL: the blob is in quarantine, no overlay can name it there. */
static int find_users(struct larder_store *store, const struct larder_digest *digest, int fd,
                      const char *path, unsigned *ret_flags, bool *ret_needs_path, struct buf *who,
                      struct larder_error *e)
{
    struct lease_scan scan = {.who = who};
    unsigned of_fd = 0, overlays = 0;
    int r = lease_each(store, digest, scan_lease, &scan, e);
    if (r == 0)
        r = image_users_of_fd(fd, &of_fd, who, e);
    if (r == 0 && path)
        r = image_users_overlays(store, path, &overlays, who, e);
    if (r < 0)
        return r;
    *ret_flags = scan.flags | of_fd | (overlays ? IMAGE_USE_OVERLAY : 0);
    *ret_needs_path = scan.needs_path || overlays > 0;
    return 0;
}

int image_users_of_blob(struct larder_store *store, const struct larder_digest *digest,
                        unsigned *ret_flags, struct buf *who, struct larder_error *e)
{
    char path[4096];
    bool needs_path = false;
    int r = larder_blob_path(store, digest, path, sizeof(path), e);
    if (r < 0)
        return r;
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return error_errno(e, errno, "blob %s", path);
    return find_users(store, digest, fd, path, ret_flags, &needs_path, who, e);
}

void image_users_say(struct larder_store *store, const struct larder_digest *digest,
                     struct buf *message)
{
    struct buf who = BUF_INIT(USERS_SHOWN_BYTES);
    const char *before = "; in use by ";
    unsigned flags = 0;
    struct slice line;
    if (image_users_of_blob(store, digest, &flags, &who, NULL) == 0) {
        for (struct slice rest = buf_slice(&who); slice_next_line(&rest, &line); before = ", ") {
            buf_puts(message, before);
            buf_append_slice(message, line);
        }
    }
    buf_done(&who);
}

static int probe(void *arg, struct larder_store *store, const struct larder_digest *digest, int fd,
                 const char *path, enum use_state *ret, bool *ret_needs_path, struct buf *who,
                 struct larder_error *e)
{
    unsigned flags = 0;
    bool needs_path = false;
    (void)arg;
    int r = find_users(store, digest, fd, path, &flags, &needs_path, who, e);
    if (r < 0)
        return r;
    *ret = (flags & ~(unsigned)IMAGE_USE_UNKNOWN) ? USE_IN_USE : flags ? USE_UNKNOWN : USE_FREE;
    *ret_needs_path = needs_path;
    return 0;
}

const struct users_probe image_users_probe = {NULL, probe};
const struct users_probe *const store_default_users = &image_users_probe;
