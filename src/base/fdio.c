/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fdio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/process.h"

#define READ_BYTES 16384
/* A lock file that is replaced again and again while we wait is somebody's mistake. */
#define LOCK_TRIES_MAX 100

ssize_t fd_read_full(int fd, void *data, size_t n)
{
    size_t done = 0;

    while (done < n) {
        ssize_t got = read(fd, (char *)data + done, n - done);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

/* An offset as the system takes it; -1 with EOVERFLOW when it takes none so large. */
static int to_off(uint64_t offset, size_t n, off_t *ret)
{
    if (n > INT64_MAX || offset > (uint64_t)INT64_MAX - n) {
        errno = EOVERFLOW;
        return -1;
    }
    *ret = (off_t)offset;
    return 0;
}

ssize_t fd_pread_full(int fd, void *data, size_t n, uint64_t offset)
{
    size_t done = 0;
    off_t at;

    if (to_off(offset, n, &at) < 0)
        return -1;
    while (done < n) {
        ssize_t got = pread(fd, (char *)data + done, n - done, at + (off_t)done);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

int fd_write_full(int fd, const void *data, size_t n)
{
    size_t done = 0;

    while (done < n) {
        ssize_t put = write(fd, (const char *)data + done, n - done);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        done += (size_t)put;
    }
    return 0;
}

int fd_pwrite_full(int fd, const void *data, size_t n, uint64_t offset)
{
    size_t done = 0;
    off_t at;

    if (to_off(offset, n, &at) < 0)
        return -1;
    while (done < n) {
        ssize_t put = pwrite(fd, (const char *)data + done, n - done, at + (off_t)done);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        done += (size_t)put;
    }
    return 0;
}

static int open_retry(int dirfd, const char *path, int flags, mode_t mode)
{
    int fd;

    do {
        fd = openat(dirfd, path, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

int file_read(int dirfd, const char *path, struct buf *out, struct larder_error *e)
{
    /* O_NONBLOCK: opening a fifo that somebody put there must not wait for its writer. */
    CLEANUP_CLOSE int fd = open_retry(dirfd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    size_t before = out->n;
    char data[READ_BYTES];
    struct stat st;
    ssize_t n;
    int rc = 0;

    if (fd < 0)
        return error_errno(e, errno, "%s", path);
    if (fstat(fd, &st) < 0)
        return error_errno(e, errno, "%s", path);
    if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)) /* /dev/null: "no such settings" */
        return 0;
    if (!S_ISREG(st.st_mode))
        return error_set(e, LARDER_INVAL, "%s: not a regular file", path);
    if (buf_failed(out, e) < 0)
        return error_context(e, "%s", path);
    do {
        n = fd_read_full(fd, data, sizeof(data));
        if (n < 0)
            rc = error_errno(e, errno, "%s", path);
        else
            buf_append(out, data, (size_t)n);
        if (rc == 0 && buf_failed(out, e) < 0) {
            rc = -(int)out->failed;
            error_context(e, "%s", path);
        }
    } while (rc == 0 && n == (ssize_t)sizeof(data));
    if (rc < 0) {
        out->n = before;
        out->failed = LARDER_OK;
        if (out->p)
            out->p[before] = 0;
    }
    return rc;
}

/* Splits name into its directory, opened, and the last component. */
static int open_parent(int dirfd, const char *name, int *ret_fd, const char **ret_base,
                       struct larder_error *e)
{
    const char *slash = strrchr(name, '/');
    CLEANUP_FREE char *dir = NULL;
    int fd;

    if (slash) {
        dir = slice_dup((struct slice){name, slash == name ? 1 : (size_t)(slash - name)});
        if (!dir)
            return error_nomem(e);
    }
    /* Also without a slash: dirfd may be AT_FDCWD or O_PATH, which can't be synced. */
    fd = open_retry(dirfd, dir ? dir : ".", O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return error_errno(e, errno, "directory of %s", name);
    *ret_fd = fd;
    *ret_base = slash ? slash + 1 : name;
    return 0;
}

/*
 * ".tmp-<pid>-<start ticks>-<sequence>-<name>": a sweeper sees from it whether the writer is alive.
 * The name is for people only, and cut to what fits a file name.
 */
static int temp_name(const char *base, char out[NAME_MAX + 1], struct larder_error *e)
{
    static atomic_uint sequence;
    struct process_id self;
    int rc = process_id_self(&self, e);
    int n;

    if (rc < 0)
        return rc;
    n = snprintf(out, NAME_MAX + 1, ".tmp-%ld-%llu-%u-", (long)self.pid,
                 (unsigned long long)self.start_ticks, atomic_fetch_add(&sequence, 1u));
    snprintf(out + n, NAME_MAX + 1 - (size_t)n, "%s", base);
    return 0;
}

/* The new content, whole and on disk, under the name temp. */
static int write_temp(int dir, const char *temp, const void *data, size_t n, mode_t mode)
{
    CLEANUP_CLOSE int fd = open_retry(dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);

    if (fd < 0)
        return -1;
    if (fd_write_full(fd, data, n) < 0 || fchmod(fd, mode) < 0 || fsync(fd) < 0) {
        int errnum = errno;

        unlinkat(dir, temp, 0);
        errno = errnum;
        return -1;
    }
    return 0;
}

/* link(2), or where there are no hard links a rename that refuses to replace. Consumes temp. */
static int publish_new(int dir, const char *temp, const char *base)
{
    if (linkat(dir, temp, dir, base, 0) == 0) {
        unlinkat(dir, temp, 0); /* content is published; a left name is only swept later */
        return 0;
    }
    if (errno == EPERM || errno == ENOSYS || errno == EOPNOTSUPP)
        return renameat2(dir, temp, dir, base, RENAME_NOREPLACE);
    return -1;
}

static int write_atomic(int dirfd, const char *name, const void *data, size_t n, mode_t mode,
                        bool replace, struct larder_error *e)
{
    CLEANUP_CLOSE int dir = -1;
    char temp[NAME_MAX + 1];
    const char *base = name;
    int rc;

    rc = open_parent(dirfd, name, &dir, &base, e);
    if (rc < 0)
        return rc;
    if (!*base)
        return error_set(e, LARDER_INVAL, "%s: expected the name of a file", name);
    rc = temp_name(base, temp, e);
    if (rc < 0)
        return rc;
    if (write_temp(dir, temp, data, n, mode) < 0)
        return error_errno(e, errno, "write %s", name);
    if ((replace ? renameat(dir, temp, dir, base) : publish_new(dir, temp, base)) < 0) {
        rc = error_errno(e, errno, "write %s", name);
        unlinkat(dir, temp, 0);
        return rc;
    }
    return dir_sync(dir, name, e);
}

int file_write_atomic(int dirfd, const char *name, const void *data, size_t n, mode_t mode,
                      struct larder_error *e)
{
    return write_atomic(dirfd, name, data, n, mode, true, e);
}

int file_create_atomic(int dirfd, const char *name, const void *data, size_t n, mode_t mode,
                       struct larder_error *e)
{
    return write_atomic(dirfd, name, data, n, mode, false, e);
}

int dir_sync(int dirfd, const char *what, struct larder_error *e)
{
    /* EINVAL: a file system that has no such operation for directories, as some FUSE ones. */
    if (fsync(dirfd) < 0 && errno != EINVAL)
        return error_errno(e, errno, "sync directory of %s", what);
    return 0;
}

int dir_make(int dirfd, const char *name, mode_t mode, int *ret_fd, struct larder_error *e)
{
    CLEANUP_CLOSE int fd = -1;

    if (mkdirat(dirfd, name, mode) < 0 && errno != EEXIST) {
        int errnum = errno;

        /* On a read-only file system EROFS comes before EEXIST is looked for. */
        fd = open_retry(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
        if (fd < 0)
            return error_errno(e, errnum, "directory %s", name);
    }
    if (fd < 0)
        fd = open_retry(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (fd < 0)
        return error_errno(e, errno, "directory %s", name);
    if (ret_fd)
        *ret_fd = TAKE_FD(fd);
    return 0;
}

int file_remove(int dirfd, const char *name, struct larder_error *e)
{
    if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
        return error_errno(e, errno, "remove %s", name);
    return 0;
}

static void dir_closep(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

int dir_each(int dirfd, int (*fn)(void *arg, const char *name, unsigned char d_type), void *arg,
             struct larder_error *e)
{
    CLEANUP(dir_closep) DIR *dir = NULL;
    struct dirent *entry;
    int fd;

    /* A descriptor of its own: a dup would share, and move, the caller's position. */
    fd = open_retry(dirfd, ".", O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return error_errno(e, errno, "list directory");
    dir = fdopendir(fd);
    if (!dir) {
        int rc = error_errno(e, errno, "list directory");

        close(fd);
        return rc;
    }
    while ((errno = 0, entry = readdir(dir))) {
        unsigned char type = entry->d_type;
        struct stat st;
        int rc;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (type == DT_UNKNOWN && fstatat(dirfd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            type = (unsigned char)IFTODT(st.st_mode);
        rc = fn(arg, entry->d_name, type);
        if (rc)
            return rc;
    }
    if (errno)
        return error_errno(e, errno, "list directory");
    return 0;
}

static int lock_open(int dirfd, const char *name, bool exclusive)
{
    /* Without O_CREAT first: in a sticky directory it is refused for files of others. */
    int fd = open_retry(dirfd, name, O_RDWR | O_NOFOLLOW, 0);

    if (fd < 0 && errno == ENOENT)
        fd = open_retry(dirfd, name, O_RDWR | O_NOFOLLOW | O_CREAT, 0666);
    if (fd < 0 && !exclusive && (errno == EROFS || errno == EACCES)) {
        int errnum = errno;

        fd = open_retry(dirfd, name, O_RDONLY | O_NOFOLLOW, 0);
        if (fd < 0 && errno == ENOENT)
            errno = errnum;
    }
    return fd;
}

/* Whether the name still leads to the file that was locked. */
static bool is_still_named(int fd, int dirfd, const char *name)
{
    struct stat mine;
    struct stat named;

    return fstat(fd, &mine) == 0 && fstatat(dirfd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

int lock_take(int dirfd, const char *name, bool exclusive, bool wait, int *ret_fd,
              struct larder_error *e)
{
    int how = (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB);

    for (int i = 0; i < LOCK_TRIES_MAX; i++) {
        CLEANUP_CLOSE int fd = lock_open(dirfd, name, exclusive);
        int rc;

        if (fd < 0)
            return error_errno(e, errno, "lock %s", name);
        do {
            rc = flock(fd, how);
        } while (rc < 0 && errno == EINTR);
        if (rc < 0 && errno == EWOULDBLOCK)
            return error_set(e, LARDER_BUSY, "lock %s: held by another process", name);
        if (rc < 0)
            return error_errno(e, errno, "lock %s", name);
        /* Removed while we waited: a lock on it excludes nobody who comes later. */
        if (is_still_named(fd, dirfd, name)) {
            *ret_fd = TAKE_FD(fd);
            return 0;
        }
    }
    return error_set(e, LARDER_BUSY, "lock %s: replaced again and again", name);
}

int disk_free(int fd, uint64_t *ret_bytes, struct larder_error *e)
{
    struct statvfs fs;
    uint64_t bytes;

    if (fstatvfs(fd, &fs) < 0)
        return error_errno(e, errno, "free space");
    if (__builtin_mul_overflow((uint64_t)fs.f_bavail, (uint64_t)fs.f_frsize, &bytes))
        bytes = UINT64_MAX;
    *ret_bytes = bytes;
    return 0;
}

int path_make(const char *path, mode_t mode, struct larder_error *e)
{
    CLEANUP_FREE char *copy = slice_dup(slice_of(path));
    struct stat st;
    char *p;

    if (!copy)
        return error_nomem(e);
    for (p = copy; *p;) {
        char saved;

        while (*p == '/')
            p++;
        while (*p && *p != '/')
            p++;
        saved = *p;
        *p = 0;
        /* Looked at first: of a directory that is there, mkdir may say EROFS or EACCES. */
        if (stat(copy, &st) < 0 && mkdir(copy, mode) < 0 && errno != EEXIST)
            return error_errno(e, errno, "directory %s", copy);
        *p = saved;
    }
    if (stat(path, &st) < 0)
        return error_errno(e, errno, "directory %s", path);
    if (!S_ISDIR(st.st_mode))
        return error_set(e, LARDER_INVAL, "%s: not a directory", path);
    return 0;
}

int path_absolute(const char *path, char **ret, struct larder_error *e)
{
    struct slice rest = slice_of(path);
    CLEANUP_FREE char *dir = NULL;
    CLEANUP_FREE char *real = NULL;
    struct slice last;
    char *joined;

    if (rest.n == 0)
        return error_set(e, LARDER_INVAL, "path \"\": empty");
    while (rest.n > 1 && rest.p[rest.n - 1] == '/')
        rest.n--;
    last = slice_basename(rest);
    /* Where the last component is no name of its own, all of it is directory part. */
    if (last.n == 0 || slice_equal(last, SLICE_LIT(".")) || slice_equal(last, SLICE_LIT("..")))
        last.n = 0;
    rest.n -= last.n;
    dir = rest.n ? slice_dup(rest) : slice_dup(SLICE_LIT("."));
    if (!dir)
        return error_nomem(e);
    real = realpath(dir, NULL);
    if (!real)
        return error_errno(e, errno, "directory of %s", path);
    if (last.n == 0) {
        *ret = TAKE_PTR(real);
        return 0;
    }
    if (asprintf(&joined, "%s%s%.*s", real, strcmp(real, "/") == 0 ? "" : "/", (int)last.n,
                 last.p) < 0)
        return error_nomem(e);
    *ret = joined;
    return 0;
}
