/* SPDX-License-Identifier: Apache-2.0 */
#include "publish/flufl_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/process.h"
#include "base/text.h"

#define LIFETIME_S    300 /* a change takes milliseconds */
#define CLOCK_SLOP_S  10  /* flufl.lock's own allowance for clocks that differ */
#define POLL_MIN_NS   (5 * NS_PER_MS)
#define POLL_MAX_NS   (250 * NS_PER_MS)
#define CONTENT_MAX   (2 * PATH_MAX)
#define HOST_BYTES    (HOST_NAME_MAX + 1) /* and its NUL */
#define RANDOM_PREFIX "larder."
#define SEPARATOR     '|'

struct flufl_lock {
    int directory;
    char *path;  /* of the directory */
    char *name;  /* of the lock file in it */
    char *claim; /* of our claim in it */
    ino_t claim_inode;
};

/* Who has the lock, as its content says it. */
struct holder {
    char *content;
    char *claim;      /* its last component; NULL: it is no path of a claim */
    char *parts;      /* what follows points into it */
    const char *host; /* NULL: unreadable */
    const char *random;
    pid_t pid;
    struct stat st;
};

static void holder_done(struct holder *h)
{
    free(h->content);
    free(h->claim);
    free(h->parts);
    *h = (struct holder){0};
}

static void lock_free(struct flufl_lock *lock)
{
    free(lock->path);
    free(lock->name);
    free(lock->claim);
    free(lock);
}
DEFINE_CLEANUP(struct flufl_lock *, lock_free)

static void own_host(char out[HOST_BYTES])
{
    if (gethostname(out, HOST_BYTES) < 0)
        out[0] = 0;
    out[HOST_BYTES - 1] = 0;
}

/* Names that any machine may have, as Python's getfqdn() finds them where names aren't set up. */
static bool is_anybody(const char *host)
{
    static const char *const anybody[] = {"", "(none)", "localhost"};
    size_t label = strcspn(host, ".");
    for (size_t i = 0; i < ARRAY_LEN(anybody); i++) {
        if (strlen(anybody[i]) == label && strncmp(host, anybody[i], label) == 0)
            return true;
    }
    return false;
}

/* getfqdn() may have found the long form of the same name. */
static bool is_own_host(const char *host)
{
    char own[HOST_BYTES];
    own_host(own);
    size_t own_label = strcspn(own, "."), label = strcspn(host, ".");
    if (strcmp(own, host) == 0)
        return true;
    return own_label == label && strncmp(own, host, label) == 0 && (!own[label] || !host[label]);
}

/* Whether only processes of this kernel write there. Of what isn't known it is not believed. */
static bool is_local_disk(int directory)
{
    static const long local[] = {EXT4_SUPER_MAGIC,      XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,
                                 OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC,     F2FS_SUPER_MAGIC};
    struct statfs fs;
    if (fstatfs(directory, &fs) < 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(local); i++) {
        if ((long)fs.f_type == local[i])
            return true;
    }
    return false;
}

static int claim_name(struct flufl_lock *lock, struct larder_error *e)
{
    struct process_id self;
    char host[HOST_BYTES];
    static atomic_uint sequence;
    int r = process_id_self(&self, e);
    if (r < 0)
        return r;
    own_host(host);
    for (char *p = host; *p; p++) {
        if (*p == SEPARATOR || *p == '/')
            *p = '-';
    }
    struct buf claim = BUF_INIT(NAME_MAX);
    buf_printf(&claim, "%s%c%s%c%ld%c" RANDOM_PREFIX "%" PRIu64 ".%" PRIu64 ".%s.%" PRIx64 "%x",
               lock->name, SEPARATOR, host, SEPARATOR, (long)self.pid, SEPARATOR, self.start_ticks,
               self.pid_namespace, self.boot_id, (uint64_t)clock_monotonic_ns(),
               atomic_fetch_add(&sequence, 1u));
    r = buf_failed(&claim, e);
    lock->claim = buf_take(&claim);
    buf_done(&claim);
    if (r < 0)
        return r;
    return lock->claim ? 0 : error_nomem(e);
}

static int touch(struct flufl_lock *lock)
{
    struct timespec until = {clock_realtime_ns() / NS_PER_S + LIFETIME_S, 0};
    const struct timespec times[2] = {until, until};
    return utimensat(lock->directory, lock->claim, times, AT_SYMLINK_NOFOLLOW);
}

static int write_claim(struct flufl_lock *lock, struct larder_error *e)
{
    CLEANUP_CLOSE int fd = openat(lock->directory, lock->claim,
                                  O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    struct stat st;
    if (fd < 0)
        return error_errno(e, errno, "%s/%s", lock->path, lock->name);
    if (dprintf(fd, "%s/%s", lock->path, lock->claim) < 0 || fstat(fd, &st) < 0 ||
        touch(lock) < 0) {
        int errnum = errno;
        unlinkat(lock->directory, lock->claim, 0);
        return error_errno(e, errnum, "%s/%s", lock->path, lock->name);
    }
    lock->claim_inode = st.st_ino;
    return 0;
}

/* HOST|PID|RANDOM of a claim's name behind the lock's; false when it is none. Cuts text. */
static bool parse_claim(char *text, struct holder *h)
{
    char *pid = strchr(text, SEPARATOR);
    char *random = pid ? strchr(pid + 1, SEPARATOR) : NULL;
    if (!random || strchr(random + 1, SEPARATOR))
        return false;
    *pid = *random = 0;
    uint64_t number;
    if (!slice_parse_u64(slice_of(pid + 1), &number) || number == 0 || number > INT_MAX)
        return false;
    h->host = text;
    h->pid = (pid_t)number;
    h->random = random + 1;
    return true;
}

/* The parts of the content, which is the path of the holder's claim. */
static int parse_content(const struct flufl_lock *lock, struct holder *h)
{
    const char *slash = strrchr(h->content, '/');
    const char *base = slash ? slash + 1 : h->content;
    size_t n = strlen(lock->name);
    if (strncmp(base, lock->name, n) != 0 || base[n] != SEPARATOR)
        return 0;
    h->claim = strdup(base);
    h->parts = strdup(base + n + 1);
    if (!h->claim || !h->parts)
        return -1;
    (void)parse_claim(h->parts, h);
    return 0;
}

/* Returns 1 with *ret when somebody has the lock, 0 when nobody does. */
static int read_holder(const struct flufl_lock *lock, struct holder *ret, struct larder_error *e)
{
    CLEANUP_CLOSE int fd =
        openat(lock->directory, lock->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct holder h = {0};
    if (fd < 0 && (errno == ENOENT || errno == ESTALE))
        return 0;
    if (fd < 0 || fstat(fd, &h.st) < 0)
        return error_errno(e, errno, "%s/%s", lock->path, lock->name);
    if (!S_ISREG(h.st.st_mode))
        return error_set(e, LARDER_INVAL, "%s/%s: not a regular file", lock->path, lock->name);
    h.content = calloc(1, CONTENT_MAX + 1);
    if (!h.content)
        return error_nomem(e);
    if (fd_read_full(fd, h.content, CONTENT_MAX) < 0) {
        int errnum = errno;
        holder_done(&h);
        return error_errno(e, errnum, "%s/%s", lock->path, lock->name);
    }
    h.content[strcspn(h.content, "\n")] = 0;
    if (parse_content(lock, &h) < 0) {
        holder_done(&h);
        return error_nomem(e);
    }
    *ret = h;
    return 1;
}

/* Larder's own claims say enough for a proof, wherever the name of the host came from. */
static bool is_own_dead(const struct holder *h)
{
    struct process_id id = {.pid = h->pid};
    if (strncmp(h->random, RANDOM_PREFIX, strlen(RANDOM_PREFIX)) != 0)
        return false;
    if (sscanf(h->random + strlen(RANDOM_PREFIX), "%" SCNu64 ".%" SCNu64 ".%36[^.].",
               &id.start_ticks, &id.pid_namespace, id.boot_id) != 3)
        return false;
    /* Another boot of this machine can't be told from another machine. */
    if (!id.start_ticks || !id.pid_namespace || strcmp(id.boot_id, process_boot_id()) != 0)
        return false;
    return process_check(&id) == PROCESS_DEAD;
}

static bool is_foreign_dead(const struct flufl_lock *lock, const struct holder *h)
{
    int64_t age = FLUFL_FOREIGN_AGE_NS;
    if (strncmp(h->random, RANDOM_PREFIX, strlen(RANDOM_PREFIX)) == 0)
        return false;
    if (is_anybody(h->host)) {
        if (!is_local_disk(lock->directory))
            return false;
        age = FLUFL_NAMELESS_AGE_NS;
    } else if (!is_own_host(h->host)) {
        return false;
    }
    int64_t since = (int64_t)h->st.st_ctim.tv_sec * NS_PER_S + h->st.st_ctim.tv_nsec;
    return clock_realtime_ns() - since >= age && kill(h->pid, 0) < 0 && errno == ESRCH;
}

static bool may_break(const struct flufl_lock *lock, const struct holder *h)
{
    if ((int64_t)h->st.st_mtim.tv_sec + CLOCK_SLOP_S < clock_realtime_ns() / NS_PER_S)
        return true;
    return h->host && (is_own_dead(h) || is_foreign_dead(lock, h));
}

/*
 * Breakers take turns by flock: each looks again when it is its turn, so that nobody removes the
 * lock of whoever took it after the first one broke the old one.
 */
static int break_lock(const struct flufl_lock *lock, const struct holder *seen,
                      struct larder_error *e)
{
    CLEANUP_CLOSE int turn = openat(lock->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct holder now = {0};
    if (turn < 0)
        return error_errno(e, errno, "%s", lock->path);
    while (flock(turn, LOCK_EX) < 0) {
        if (errno != EINTR)
            return error_errno(e, errno, "%s", lock->path);
    }
    int r = read_holder(lock, &now, e);
    if (r <= 0)
        return r;
    r = 0;
    if (now.st.st_ino == seen->st.st_ino && now.content && seen->content &&
        strcmp(now.content, seen->content) == 0 && may_break(lock, &now)) {
        if (unlinkat(lock->directory, lock->name, 0) < 0 && errno != ENOENT)
            r = error_errno(e, errno, "%s/%s", lock->path, lock->name);
        else if (now.claim)
            unlinkat(lock->directory, now.claim, 0);
    }
    holder_done(&now);
    return r;
}

/* 1: we have it now, 0: somebody else does. */
static int try_link(struct flufl_lock *lock, struct larder_error *e)
{
    struct stat st;
    if (linkat(lock->directory, lock->claim, lock->directory, lock->name, 0) == 0) {
        touch(lock);
        return 1;
    }
    int errnum = errno;
    /* Over NFS a link may be made though its reply was lost. */
    if (fstatat(lock->directory, lock->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        st.st_ino == lock->claim_inode && st.st_nlink == 2)
        return 1;
    if (errnum == EEXIST || errnum == ESTALE)
        return 0;
    /* Somebody took our claim away: whoever broke an expired lock of this name. */
    if (errnum == ENOENT)
        return write_claim(lock, e);
    enum larder_code code =
        errnum == EPERM || errnum == EOPNOTSUPP ? LARDER_UNSUPPORTED : LARDER_IO;
    return error_errno_code(e, code, errnum, "%s/%s: hard link", lock->path, lock->name);
}

static void tell(const struct flufl_lock *lock, const struct holder *h,
                 const struct larder_observer *observer)
{
    struct buf text = BUF_INIT(8192);
    struct buf clean = BUF_INIT(32768);
    if (h->host)
        buf_printf(&text, "%s/%s: waiting for process %ld on host %s", lock->path, lock->name,
                   (long)h->pid, h->host);
    else
        buf_printf(&text, "%s/%s: waiting for whoever made it", lock->path, lock->name);
    text_sanitize(buf_slice(&text), &clean);
    if (observer->warning && clean.p)
        observer->warning(observer->arg, clean.p);
    buf_done(&text);
    buf_done(&clean);
}

static int wait_turn(struct flufl_lock *lock, const struct larder_observer *observer,
                     struct larder_error *e)
{
    bool is_told = false;
    int64_t pause = POLL_MIN_NS;
    for (;;) {
        struct holder h = {0};
        int r = try_link(lock, e);
        if (r != 0)
            return r < 0 ? r : 0;
        r = read_holder(lock, &h, e);
        if (r < 0)
            return r;
        if (r > 0 && may_break(lock, &h)) {
            r = break_lock(lock, &h, e);
            holder_done(&h);
            if (r < 0)
                return r;
            continue;
        }
        /* Holders of a moment aren't worth a word. */
        if (r > 0 && !is_told && pause >= POLL_MAX_NS) {
            tell(lock, &h, observer);
            is_told = true;
        }
        holder_done(&h);
        if (observer->is_canceled && observer->is_canceled(observer->arg))
            return error_set(e, LARDER_CANCELED, "%s/%s: waiting for it was canceled", lock->path,
                             lock->name);
        clock_sleep_ns(pause);
        pause = pause * 2 > POLL_MAX_NS ? POLL_MAX_NS : pause * 2;
    }
}

/* Claims whose makers were killed before they had the lock, or with it. */
static int sweep_claim(void *arg, const char *name, unsigned char d_type)
{
    const struct flufl_lock *lock = arg;
    size_t n = strlen(lock->name);
    (void)d_type;
    if (strncmp(name, lock->name, n) != 0 || name[n] != SEPARATOR ||
        (lock->claim && strcmp(name, lock->claim) == 0))
        return 0;
    CLEANUP_FREE char *text = strdup(name + n + 1);
    struct holder h = {0};
    if (text && parse_claim(text, &h) && is_own_dead(&h))
        unlinkat(lock->directory, name, 0);
    return 0;
}

void flufl_lock_sweep(int directory, const char *name)
{
    CLEANUP(lock_freep) struct flufl_lock *lock = calloc(1, sizeof(*lock));
    struct holder h = {0};
    if (!lock)
        return;
    lock->directory = directory;
    lock->name = strdup(name);
    lock->path = strdup("");
    if (!lock->name || !lock->path)
        return;
    if (read_holder(lock, &h, NULL) > 0 && h.host && is_own_dead(&h))
        (void)break_lock(lock, &h, NULL);
    holder_done(&h);
    (void)dir_each(directory, sweep_claim, lock, NULL);
}

int flufl_lock_take(int directory, const char *path, const char *name,
                    const struct larder_observer *observer, struct flufl_lock **ret,
                    struct larder_error *e)
{
    CLEANUP(lock_freep) struct flufl_lock *lock = calloc(1, sizeof(*lock));
    if (!lock)
        return error_nomem(e);
    lock->directory = directory;
    lock->name = strdup(name);
    if (!lock->name)
        return error_nomem(e);
    /* Whoever breaks it may run in another directory. */
    int r = path_absolute(path, &lock->path, e);
    if (r == 0)
        r = claim_name(lock, e);
    if (r == 0)
        r = write_claim(lock, e);
    if (r < 0)
        return r;
    r = wait_turn(lock, observer, e);
    if (r < 0) {
        unlinkat(directory, lock->claim, 0);
        return r;
    }
    /* What can't be swept now is swept next time. */
    (void)dir_each(directory, sweep_claim, lock, NULL);
    *ret = TAKE_PTR(lock);
    return 0;
}

void flufl_lock_release(struct flufl_lock *lock)
{
    struct stat st;
    if (!lock)
        return;
    /* Broken meanwhile by somebody who found it expired, it may be another's now. */
    if (fstatat(lock->directory, lock->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        st.st_ino == lock->claim_inode)
        unlinkat(lock->directory, lock->name, 0);
    unlinkat(lock->directory, lock->claim, 0);
    lock_free(lock);
}
