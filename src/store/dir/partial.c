/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resumable downloads: partial/<key> holds the bytes that came so far, <key>.json what the caller
 * must know to go on (validators of the source). The flock on the file makes one download of many
 * and tells the sweeper that it is live.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/text.h"
#include "store/dir/blob.h"

/* URL, validators, digest: far below; a limit because it is read whole. */
#define PARTIAL_META_BYTES_MAX (64 * 1024)
/* Each try means that a finished download took the name away; more than a few is no accident. */
#define PARTIAL_TRIES 16

static int partial_name(const char *key, const char *suffix, char *out, size_t out_bytes,
                        struct larder_error *e)
{
    struct buf name = BUF_INIT(256);
    int r = filename_escape(key, &name, e);
    if (r == 0)
        buf_puts(&name, suffix);
    if (r == 0)
        r = buf_failed(&name, e);
    if (r == 0 && name.n >= out_bytes)
        r = error_set(e, LARDER_INVAL, "partial %s: name longer than %zu bytes", key,
                      out_bytes - 1);
    if (r == 0)
        memcpy(out, name.p, name.n + 1);
    buf_done(&name);
    return r;
}

#define OPEN_FLAGS (O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

/* One that is being published is read-only already: only root could still open it to write. */
static int open_to_lock(int dirfd, const char *name, bool *ret_is_published)
{
    int fd = openat(dirfd, name, O_RDWR | O_CREAT | OPEN_FLAGS, 0600);
    *ret_is_published = fd < 0 && errno == EACCES;
    return *ret_is_published ? openat(dirfd, name, O_RDONLY | OPEN_FLAGS) : fd;
}

/* With its lock: its publisher died before it had the other name, or before it lost this one. */
static int take_back(int dirfd, const char *name, int fd, const struct stat *st)
{
    return st->st_nlink == 1 ? fchmod(fd, 0600) : unlinkat(dirfd, name, 0);
}

int partial_open(struct larder_store *store, const char *key, struct temp_file *ret,
                 struct larder_error *e)
{
    char name[sizeof ret->name];
    struct stat a, b;
    int dirfd = -1;

    int r = store_require_writable(store, e);
    if (r == 0)
        r = store_place(store, STORE_PARTIAL, &dirfd, e);
    if (r == 0)
        r = partial_name(key, "", name, sizeof name, e);
    if (r < 0)
        return r;
    for (int i = 0; i < PARTIAL_TRIES; i++) {
        bool is_published = false;
        CLEANUP_CLOSE int fd = open_to_lock(dirfd, name, &is_published);
        if (fd < 0 && is_published && errno == ENOENT)
            continue;
        if (fd < 0)
            return error_errno(e, errno, "%s/partial/%s", larder_store_path(store), name);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            char holder[128];
            if (errno != EWOULDBLOCK)
                return error_errno(e, errno, "%s/partial/%s: lock", larder_store_path(store), name);
            lock_holder(fd, holder, sizeof holder);
            return error_set(e, LARDER_BUSY, "partial %s: being written by %s", name, holder);
        }
        if (fstat(fd, &a) < 0)
            return error_errno(e, errno, "partial %s", name);
        if (!S_ISREG(a.st_mode))
            return error_set(e, LARDER_CORRUPT, "partial %s: not a regular file", name);
        /* Between our open and our flock its owner may have published or forgotten the file:
         * ours would then be a blob. */
        if (fstatat(dirfd, name, &b, AT_SYMLINK_NOFOLLOW) < 0 || a.st_dev != b.st_dev ||
            a.st_ino != b.st_ino)
            continue;
        if (is_published) {
            if (take_back(dirfd, name, fd, &a) < 0)
                return error_errno(e, errno, "%s/partial/%s", larder_store_path(store), name);
            continue;
        }
        *ret = (struct temp_file){.fd = TAKE_FD(fd), .dirfd = dirfd};
        snprintf(ret->name, sizeof ret->name, "%s", name);
        return 0;
    }
    return error_set(e, LARDER_BUSY, "partial %s: taken by others again and again", name);
}

int partial_stat(struct larder_store *store, const char *key, struct stat *ret,
                 struct larder_error *e)
{
    char name[160];
    struct stat st;
    int dirfd = -1;
    int r = partial_name(key, "", name, sizeof name, e);
    if (r == 0)
        r = store_place(store, STORE_PARTIAL, &dirfd, e);
    if (r < 0)
        return r;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return error_errno(e, errno, "partial %s", name);
    if (!S_ISREG(st.st_mode))
        return error_set(e, LARDER_NOENT, "partial %s: not a regular file", name);
    *ret = st;
    return 0;
}

int partial_write_meta(struct larder_store *store, const char *key, const char *json,
                       struct larder_error *e)
{
    char name[160];
    int r = partial_name(key, ".json", name, sizeof name, e);
    if (r < 0)
        return r;
    size_t n = strlen(json);
    if (n > PARTIAL_META_BYTES_MAX)
        return error_set(e, LARDER_LIMIT, "partial %s: %zu bytes, expected at most %d", name, n,
                         PARTIAL_META_BYTES_MAX);
    return store_write_file(store, STORE_PARTIAL, name, json, n, 0, 0, e);
}

int partial_read_meta(struct larder_store *store, const char *key, char **ret_json,
                      struct larder_error *e)
{
    char name[160];
    int dirfd = -1;
    struct buf text = BUF_INIT(PARTIAL_META_BYTES_MAX + 1);

    int r = store_place(store, STORE_PARTIAL, &dirfd, e);
    if (r == 0)
        r = partial_name(key, ".json", name, sizeof name, e);
    if (r == 0)
        r = store_read_file(dirfd, name, PARTIAL_META_BYTES_MAX, &text, NULL, e);
    if (r == 0) {
        char *json = buf_take(&text);
        if (json)
            *ret_json = json;
        else
            r = error_nomem(e);
    }
    buf_done(&text);
    return r;
}

int partial_forget(struct larder_store *store, const char *key, struct temp_file *temp,
                   struct larder_error *e)
{
    char name[160];
    int dirfd = -1;

    int r = store_place(store, STORE_PARTIAL, &dirfd, e);
    if (r == 0)
        r = partial_name(key, ".json", name, sizeof name, e);
    /* Meta first: bytes without meta are useless, meta without bytes would be believed. */
    if (r == 0)
        r = file_remove(dirfd, name, e);
    temp_drop(temp);
    return r;
}
