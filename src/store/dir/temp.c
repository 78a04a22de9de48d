/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Temporaries. A name in tmp/ carries pid and start time of its maker, and the file is flocked
 * while the maker lives; a sweeper takes only what is neither. Between open and flock the maker is
 * still protected by its name, and should the name mean nothing to the sweeper (another pid
 * namespace), the maker notices the missing link after its flock and tries again.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/process.h"
#include "base/text.h"
#include "store/dir/blob.h"

#define TEMP_PREFIX ".tmp-"
/* Names are random; a few collisions or sweeps in a row mean something else is wrong. */
#define TEMP_TRIES 16
/* A temporary nobody holds and whose maker can't be judged goes after this time. */
#define TEMP_ORPHAN_NS (3600 * NS_PER_S)

void temp_drop(struct temp_file *temp)
{
    int saved = errno;
    /* Unlinked before the flock ends: nobody can pick the name up in between. */
    if (temp->name[0] && temp->dirfd >= 0)
        (void)unlinkat(temp->dirfd, temp->name, 0);
    fd_closep(&temp->fd);
    *temp = TEMP_FILE_INIT;
    errno = saved;
}

void temp_keep(struct temp_file *temp)
{
    fd_closep(&temp->fd);
    *temp = TEMP_FILE_INIT;
}

/* Whether the name still leads to the file behind fd. */
static bool is_linked(int dirfd, const char *name, int fd)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && fstatat(dirfd, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
           a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int temp_name(char *out, size_t out_bytes, struct larder_error *e)
{
    struct process_id self;
    uint64_t random = 0;

    int r = process_id_self(&self, e);
    if (r < 0)
        return r;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return error_errno(e, errno, "random number");
    snprintf(out, out_bytes, TEMP_PREFIX "%d-%llu-%016llx", (int)self.pid,
             (unsigned long long)self.start_ticks, (unsigned long long)random);
    return 0;
}

static int temp_open_mode(struct larder_store *store, mode_t mode, struct temp_file *ret,
                          struct larder_error *e)
{
    CLEANUP_CLOSE int fd = -1;
    char name[sizeof ret->name];
    int dirfd = -1;

    int r = store_require_writable(store, e);
    if (r == 0)
        r = store_place(store, STORE_TMP, &dirfd, e);
    if (r < 0)
        return r;
    for (int i = 0; i < TEMP_TRIES; i++) {
        r = temp_name(name, sizeof name, e);
        if (r < 0)
            return r;
        fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        if (fd < 0 && errno == EEXIST)
            continue;
        if (fd < 0)
            return error_errno(e, errno, "%s/tmp/%s", larder_store_path(store), name);
        while (flock(fd, LOCK_EX) < 0) {
            if (errno == EINTR)
                continue;
            r = error_errno(e, errno, "%s/tmp/%s: lock", larder_store_path(store), name);
            (void)unlinkat(dirfd, name, 0);
            return r;
        }
        if (is_linked(dirfd, name, fd)) {
            *ret = (struct temp_file){.fd = TAKE_FD(fd), .dirfd = dirfd};
            snprintf(ret->name, sizeof ret->name, "%s", name);
            return 0;
        }
        fd_closep(&fd);
    }
    return error_set(e, LARDER_IO, "%s/tmp: temporaries vanish as they are made",
                     larder_store_path(store));
}

int temp_open(struct larder_store *store, struct temp_file *ret, struct larder_error *e)
{
    return temp_open_mode(store, 0600, ret, e);
}

int store_read_file(int dirfd, const char *name, size_t max_bytes, struct buf *out,
                    struct stat *ret_st, struct larder_error *e)
{
    struct stat st;
    /* O_NONBLOCK: a planted FIFO must not stop us. */
    CLEANUP_CLOSE int fd =
        openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno == ELOOP)
        return error_set(e, LARDER_CORRUPT, "%s: a symbolic link, expected a file", name);
    if (fd < 0)
        return error_errno(e, errno, "%s", name);
    if (fstat(fd, &st) < 0)
        return error_errno(e, errno, "%s", name);
    if (!S_ISREG(st.st_mode))
        return error_set(e, LARDER_CORRUPT, "%s: not a regular file", name);
    if ((uint64_t)st.st_size > max_bytes)
        return error_set(e, LARDER_LIMIT, "%s: %lld bytes, expected at most %zu", name,
                         (long long)st.st_size, max_bytes);
    size_t size = (size_t)st.st_size;
    char *to = buf_reserve(out, size + 1);
    if (!to)
        return buf_failed(out, e);
    /* Files are replaced, never rewritten: the size is that of the content. */
    ssize_t n = fd_read_full(fd, to, size);
    if (n < 0)
        return error_errno(e, errno, "%s", name);
    to[n] = '\0';
    out->n += (size_t)n;
    if (ret_st)
        *ret_st = st;
    return 0;
}

int store_write_file(struct larder_store *store, enum store_place place, const char *name,
                     const void *data, size_t n, unsigned flags, int64_t mtime_ns,
                     struct larder_error *e)
{
    CLEANUP(temp_drop) struct temp_file temp = TEMP_FILE_INIT;
    const char *root = larder_store_path(store);
    const char *where = store_place_name(place);
    int dirfd = -1;
    int r = store_place(store, place, &dirfd, e);
    if (r == 0)
        r = temp_open_mode(store, store_file_mode(store), &temp, e);
    if (r < 0)
        return r;
    if (fd_write_full(temp.fd, data, n) < 0)
        return error_errno(e, errno, "%s/%s/%s", root, where, name);
    if (mtime_ns) {
        struct timespec times[2] = {
            {.tv_nsec = UTIME_OMIT},
            {.tv_sec = mtime_ns / NS_PER_S, .tv_nsec = mtime_ns % NS_PER_S},
        };
        if (futimens(temp.fd, times) < 0)
            return error_errno(e, errno, "%s/%s/%s", root, where, name);
    }
    if ((flags & STORE_WRITE_DURABLE) && fsync(temp.fd) < 0)
        return error_errno(e, errno, "%s/%s/%s", root, where, name);
    if (flags & STORE_WRITE_NEW) {
        if (linkat(temp.dirfd, temp.name, dirfd, name, 0) < 0)
            return error_errno(e, errno, "%s/%s/%s", root, where, name);
    } else {
        if (renameat(temp.dirfd, temp.name, dirfd, name) < 0)
            return error_errno(e, errno, "%s/%s/%s", root, where, name);
        temp.name[0] = '\0';
    }
    r = flags & STORE_WRITE_DURABLE ? dir_sync(dirfd, where, e) : 0;
    return r < 0 ? error_context(e, "%s/%s/%s", root, where, name) : 0;
}

/* ---- sweeping ---- */

struct sweep {
    struct larder_store *store;
    int dirfd;
    int64_t now_ns;
    int64_t keep_partial_ns;
    bool dry_run;
    bool is_partial; /* partial/ is being swept */
    int (*fn)(void *arg, const char *name, bool is_partial, uint64_t bytes);
    void *arg;
    uint64_t files, bytes;
};

static int64_t mtime_of(const struct stat *st)
{
    return st->st_mtim.tv_sec * NS_PER_S + st->st_mtim.tv_nsec;
}

/* The maker by the temporary's name; UNKNOWN for names of another shape. */
static enum process_state maker_state(const char *name)
{
    struct process_id id = {0};
    struct slice rest = slice_of(name + sizeof TEMP_PREFIX - 1);
    const char *dash = memchr(rest.p, '-', rest.n);
    uint64_t pid = 0;

    if (!dash || !slice_parse_u64((struct slice){rest.p, (size_t)(dash - rest.p)}, &pid) ||
        pid == 0 || pid > INT32_MAX)
        return PROCESS_UNKNOWN;
    rest = slice_of(dash + 1);
    dash = memchr(rest.p, '-', rest.n);
    if (!dash || !slice_parse_u64((struct slice){rest.p, (size_t)(dash - rest.p)}, &id.start_ticks))
        return PROCESS_UNKNOWN;
    id.pid = (pid_t)pid;
    snprintf(id.boot_id, sizeof id.boot_id, "%s", process_boot_id());
    return process_check(&id);
}

/* A descriptor that holds the flock of a file nobody else uses; -1 when somebody does. */
static int open_idle(int dirfd, const char *name, struct stat *ret_st)
{
    CLEANUP_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, ret_st) < 0 || !S_ISREG(ret_st->st_mode) ||
        flock(fd, LOCK_EX | LOCK_NB) < 0 || !is_linked(dirfd, name, fd))
        return -1;
    return TAKE_FD(fd);
}

static int sweep_remove(struct sweep *s, const char *name, const struct stat *st)
{
    if (!s->dry_run && unlinkat(s->dirfd, name, 0) < 0)
        return 0; /* somebody else's or gone: not swept */
    uint64_t bytes = st->st_nlink <= 1 ? (uint64_t)st->st_blocks * 512 : 0;
    s->files++;
    s->bytes += bytes;
    return s->fn ? s->fn(s->arg, name, s->is_partial, bytes) : 0;
}

static int sweep_temp(void *arg, const char *name, unsigned char type)
{
    struct sweep *s = arg;
    struct stat st;
    (void)type;

    if (strncmp(name, TEMP_PREFIX, sizeof TEMP_PREFIX - 1) != 0)
        return 0;
    enum process_state maker = maker_state(name);
    CLEANUP_CLOSE int fd = open_idle(s->dirfd, name, &st);
    if (fd < 0)
        return 0;
    if (maker != PROCESS_DEAD && s->now_ns - mtime_of(&st) < TEMP_ORPHAN_NS)
        return 0;
    return sweep_remove(s, name, &st);
}

static int sweep_partial(void *arg, const char *name, unsigned char type)
{
    struct sweep *s = arg;
    struct stat st, other;
    char main_name[256];
    struct slice text = slice_of(name);

    if (strncmp(name, TEMP_PREFIX, sizeof TEMP_PREFIX - 1) == 0)
        return sweep_temp(arg, name, type);
    bool is_meta = slice_ends(text, SLICE_LIT(".json"));
    if (is_meta) {
        snprintf(main_name, sizeof main_name, "%.*s", (int)(text.n - 5), name);
        if (fstatat(s->dirfd, main_name, &other, AT_SYMLINK_NOFOLLOW) == 0)
            return 0; /* goes with its file */
    }
    CLEANUP_CLOSE int fd = open_idle(s->dirfd, name, &st);
    if (fd < 0 || s->now_ns - mtime_of(&st) < s->keep_partial_ns)
        return 0;
    int r = sweep_remove(s, name, &st);
    if (!is_meta && !s->dry_run) {
        snprintf(main_name, sizeof main_name, "%.200s.json", name);
        (void)unlinkat(s->dirfd, main_name, 0);
    }
    return r;
}

int temp_sweep(struct larder_store *store, int64_t keep_partial_ns, bool dry_run,
               uint64_t *ret_files, uint64_t *ret_bytes, struct larder_error *e)
{
    return temp_sweep_each(store, keep_partial_ns, dry_run, NULL, NULL, ret_files, ret_bytes, e);
}

int temp_sweep_each(struct larder_store *store, int64_t keep_partial_ns, bool dry_run,
                    int (*fn)(void *arg, const char *name, bool is_partial, uint64_t bytes),
                    void *arg, uint64_t *ret_files, uint64_t *ret_bytes, struct larder_error *e)
{
    /* Everything small is written in tmp/; the root has the format file's temporary. */
    static const enum store_place places[] = {STORE_TMP, STORE_ROOT, STORE_PARTIAL};
    struct sweep s = {.store = store,
                      .now_ns = clock_realtime_ns(),
                      .keep_partial_ns = keep_partial_ns,
                      .dry_run = dry_run,
                      .fn = fn,
                      .arg = arg};
    int r;

    if (!dry_run) {
        r = store_require_writable(store, e);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        s.is_partial = places[i] == STORE_PARTIAL;
        r = store_place(store, places[i], &s.dirfd, e);
        if (r == 0)
            r = dir_each(s.dirfd, s.is_partial ? sweep_partial : sweep_temp, &s, e);
        if (r < 0)
            return error_context(e, "sweep of %s", store_place_name(places[i]));
    }
    *ret_files = s.files;
    *ret_bytes = s.bytes;
    return 0;
}
