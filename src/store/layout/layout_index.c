/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.json on disk. Writers of ours take turns by a flock on the layout's directory itself: no
 * lock file that other programs would have to know or copy. Those lock nothing at all (skopeo
 * writes the file in place, umoci and oras replace it), so everything is looked at again before
 * and after our rename, and done anew on what they wrote.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "store/layout/private.h"

/* Somebody else writes the file all the time. */
#define UPDATE_TRIES_MAX 100
/* A file that is written in place is empty or cut off for some microseconds. */
#define READ_TRIES_MAX 20
#define READ_WAIT_NS   (5 * NS_PER_MS)

struct file_print {
    bool is_there;
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
};

static void print_of(const struct stat *st, struct file_print *ret)
{
    *ret = (struct file_print){true, st->st_dev, st->st_ino, st->st_size, st->st_mtim};
}

static bool print_equal(const struct file_print *a, const struct file_print *b)
{
    if (!a->is_there || !b->is_there)
        return a->is_there == b->is_there;
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static int print_file(int dirfd, const char *name, struct file_print *ret)
{
    struct stat st;
    *ret = (struct file_print){0};
    if (fstatat(dirfd, name, &st, 0) < 0)
        return errno == ENOENT ? 0 : -1;
    print_of(&st, ret);
    return 0;
}

/* One try. The print is of the bytes in out, or the file changed while it was read: BUSY. */
static int read_once(struct layout *layout, struct buf *out, struct file_print *ret,
                     struct larder_error *e)
{
    struct stat before, after;
    buf_reset(out);
    CLEANUP_CLOSE int fd =
        openat(layout->dirfd, "index.json", O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return error_errno(e, errno, "%s: index.json", layout->base.name);
    if (fstat(fd, &before) < 0)
        return error_errno(e, errno, "%s: index.json", layout->base.name);
    if (!S_ISREG(before.st_mode))
        return error_set(e, LARDER_CORRUPT, "%s: index.json is no regular file", layout->base.name);
    if (before.st_size > (off_t)INDEX_JSON_BYTES_MAX)
        return error_set(e, LARDER_LIMIT, "%s: index.json: %lld bytes, at most %lu are read",
                         layout->base.name, (long long)before.st_size, INDEX_JSON_BYTES_MAX);
    char *to = buf_reserve(out, (size_t)before.st_size + 1);
    if (!to)
        return buf_failed(out, e);
    ssize_t n = fd_read_full(fd, to, (size_t)before.st_size + 1);
    if (n < 0 || fstat(fd, &after) < 0)
        return error_errno(e, errno, "%s: index.json", layout->base.name);
    out->n = (size_t)n;
    struct file_print now;
    print_of(&before, ret);
    print_of(&after, &now);
    if (n != before.st_size || !print_equal(ret, &now))
        return error_set(e, LARDER_BUSY, "%s: index.json changes all the time", layout->base.name);
    return 0;
}

static int read_index(struct layout *layout, struct json **ret, struct file_print *print,
                      struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct buf text = BUF_INIT(INDEX_JSON_BYTES_MAX + 1);
    int r = 0;
    for (unsigned i = 0; i < READ_TRIES_MAX; i++) {
        if (i > 0)
            clock_sleep_ns(READ_WAIT_NS);
        r = read_once(layout, &text, print, &why);
        if (r == 0)
            r = index_json_parse(buf_slice(&text), layout->base.name, ret, &why);
        if (r != -LARDER_BUSY && r != -LARDER_CORRUPT)
            break;
    }
    buf_done(&text);
    if (r < 0 && e)
        *e = why;
    return r;
}

int layout_index_read(struct layout *layout, struct json **ret, struct larder_error *e)
{
    struct file_print print;
    return read_index(layout, ret, &print, e);
}

/* A descriptor of its own, so that lanes of one process exclude each other, too. */
static int lock_layout(struct layout *layout, int *ret, struct larder_error *e)
{
    int r;
    int fd = openat(layout->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(e, errno, "%s", layout->base.name);
    do {
        r = flock(fd, LOCK_EX);
    } while (r < 0 && errno == EINTR);
    /* Some network file systems lock no directories; there the looking again has to do. */
    if (r < 0 && errno == ENOMEM) {
        close(fd);
        return error_nomem(e);
    }
    *ret = fd;
    return 0;
}

static int write_temp(struct layout *layout, const struct json *index, char name[64],
                      struct file_print *ret, struct larder_error *e)
{
    struct buf text = BUF_INIT(INDEX_JSON_BYTES_MAX);
    CLEANUP_CLOSE int fd = -1;
    struct stat st;
    int r = json_dump_ordered(index, &text, e);
    if (r == 0)
        r = layout_temp(layout, name, &fd, e);
    if (r == 0 && (fd_write_full(fd, text.p, text.n) < 0 || fsync(fd) < 0 || fstat(fd, &st) < 0)) {
        r = error_errno(e, errno, "%s: index.json", layout->base.name);
        unlinkat(layout->workdir, name, 0);
    }
    if (r == 0)
        print_of(&st, ret);
    buf_done(&text);
    return r;
}

/*
 * Puts the temporary in the place of the file of that print. 1: done; 0: the file is another one.
 * The names are exchanged rather than replaced, so that a change which came between the look and
 * the rename is not lost: it is put back.
 */
static int swap_in(struct layout *layout, const char *temp, const struct file_print *old)
{
    int work = layout->workdir, dir = layout->dirfd;
    struct file_print now;
    if (print_file(dir, "index.json", &now) < 0)
        return -1;
    if (!print_equal(&now, old))
        return 0;
    unsigned flags = old->is_there ? RENAME_EXCHANGE : RENAME_NOREPLACE;
    if (renameat2(work, temp, dir, "index.json", flags) < 0) {
        if (errno == EEXIST || errno == ENOENT)
            return 0;
        if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
            return -1;
        return renameat(work, temp, dir, "index.json") < 0 ? -1 : 1;
    }
    if (!old->is_there)
        return 1;
    if (print_file(work, temp, &now) < 0)
        return -1;
    if (!print_equal(&now, old))
        return renameat2(work, temp, dir, "index.json", RENAME_EXCHANGE) < 0 ? -1 : 0;
    return unlinkat(work, temp, 0) < 0 ? -1 : 1;
}

static int update_once(struct layout *layout,
                       int (*edit)(void *arg, const struct json *index, struct json **ret,
                                   struct larder_error *e),
                       void *arg, struct larder_error *e)
{
    CLEANUP(json_freep) struct json *index = NULL;
    CLEANUP(json_freep) struct json *edited = NULL;
    struct larder_error why = LARDER_ERROR_INIT;
    struct file_print old = {0}, new;
    char temp[64];
    bool is_new = false;
    int r = read_index(layout, &index, &old, &why);
    if (r == -LARDER_NOENT) {
        is_new = true;
        old.is_there = false;
        r = index_json_new(&index, &why);
    }
    if (r < 0) {
        if (e)
            *e = why;
        return r;
    }
    r = edit(arg, index, &edited, e);
    if (r < 0 || (!edited && !is_new))
        return r < 0 ? r : 1;
    r = write_temp(layout, edited ? edited : index, temp, &new, e);
    if (r < 0)
        return r;
    r = swap_in(layout, temp, &old);
    if (r < 0)
        r = error_errno(e, errno, "%s: index.json", layout->base.name);
    if (r != 1)
        unlinkat(layout->workdir, temp, 0);
    if (r == 1 && dir_sync(layout->dirfd, layout->base.name, e) < 0)
        return -LARDER_IO;
    return r;
}

int layout_index_update(struct layout *layout,
                        int (*edit)(void *arg, const struct json *index, struct json **ret,
                                    struct larder_error *e),
                        void *arg, struct larder_error *e)
{
    CLEANUP_CLOSE int lock = -1;
    int r = lock_layout(layout, &lock, e);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < UPDATE_TRIES_MAX; i++) {
        r = update_once(layout, edit, arg, e);
        if (r != 0)
            return r < 0 ? r : 0;
    }
    return error_set(e, LARDER_BUSY, "%s: another program writes index.json all the time",
                     layout->base.name);
}
