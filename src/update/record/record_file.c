/* SPDX-License-Identifier: Apache-2.0 */
#include "update/record/record_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "store/dir/dir.h"
#include "store/updates.h"
#include "update/record/record_dir.h"

/* A writer holds the lock for milliseconds; who may read the directory could hold it for ever. */
#define LOCK_WAIT_NS  (30 * NS_PER_S)
#define LOCK_FIRST_NS (NS_PER_MS / 4)
#define LOCK_LONG_NS  (20 * NS_PER_MS)

int record_file_name(const char *key, char out[RECORD_FILE_BYTES], struct larder_error *e)
{
    struct larder_digest digest;
    int r = hash_of(LARDER_DIGEST_SHA256, key, strlen(key), &digest, e);
    if (r == 0)
        hex_encode(digest.bytes, larder_digest_size(digest.alg), out);
    return r;
}

bool record_file_is_name(const char *name)
{
    size_t n = strspn(name, "0123456789abcdef");
    return n == RECORD_FILE_BYTES - 1 && name[n] == '\0';
}

/* Another's file can change at any time. In a directory of a group they belong to its members. */
static int check_owner(int dirfd, const struct stat *st, struct larder_error *e)
{
    struct stat dir;
    if (fstat(dirfd, &dir) < 0)
        return error_errno(e, errno, "directory");
    if (st->st_uid == dir.st_uid || st->st_uid == 0 || st->st_uid == geteuid() ||
        (dir.st_mode & S_IWGRP))
        return 0;
    return error_set(e, LARDER_CORRUPT, "owned by uid %u, expected the directory's owner, uid %u",
                     (unsigned)st->st_uid, (unsigned)dir.st_uid);
}

static int read_text(int dirfd, const char *file, struct buf *text, struct stat *ret_st,
                     struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    int r = store_read_file(dirfd, file, RECORD_BYTES_MAX, text, ret_st, &why);
    /* ENXIO: a socket. */
    if (r == -LARDER_LIMIT || (r == -LARDER_IO && why.sys_errno == ENXIO)) {
        why.code = LARDER_CORRUPT;
        r = -LARDER_CORRUPT;
    }
    /* It begins with the file's name, which callers say better. */
    size_t n = strlen(file);
    if (r < 0 && strncmp(why.msg, file, n) == 0 && why.msg[n] == ':')
        memmove(why.msg, why.msg + n + 2, strlen(why.msg + n + 2) + 1);
    if (r < 0 && e)
        *e = why;
    return r == 0 ? check_owner(dirfd, ret_st, e) : r;
}

/* 0: a time that no check can have had, as anybody may set it. */
static int64_t time_of(const struct stat *st)
{
    int64_t ns = 0;

    if (__builtin_mul_overflow((int64_t)st->st_mtim.tv_sec, NS_PER_S, &ns) ||
        __builtin_add_overflow(ns, (int64_t)st->st_mtim.tv_nsec, &ns) || ns < 0)
        return 0;
    return ns;
}

int record_file_read(int dirfd, const char *file, struct update_record *ret, struct larder_error *e)
{
    struct buf text = BUF_INIT(RECORD_BYTES_MAX + 1);
    struct update_record record;
    struct stat st;
    int r = read_text(dirfd, file, &text, &st, e);
    if (r == 0)
        r = record_parse(buf_slice(&text), &record, e);
    buf_done(&text);
    if (r < 0)
        return r;
    record.checked_ns = time_of(&st);
    *ret = record;
    return 0;
}

int record_file_lock(int dirfd, bool wait, int *ret_lock, struct larder_error *e)
{
    /* A descriptor of its own: the lock ends with it, whatever happens to the directory's. */
    CLEANUP_CLOSE int lock = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int64_t until = clock_monotonic_ns() + LOCK_WAIT_NS;
    int64_t pause = LOCK_FIRST_NS;

    if (lock < 0)
        return error_errno(e, errno, "lock");
    while (flock(lock, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return error_errno(e, errno, "lock");
        if (!wait || clock_monotonic_ns() > until) {
            char holder[128];
            lock_holder(lock, holder, sizeof(holder));
            return error_set(e, LARDER_BUSY, "locked by %s", holder);
        }
        clock_sleep_ns(pause);
        if (pause < LOCK_LONG_NS)
            pause *= 2;
    }
    *ret_lock = TAKE_FD(lock);
    return 0;
}

/* ---- fsck ---- */

static int check_file(int dirfd, const char *file, struct larder_error *e)
{
    struct update_record record;
    char expected[RECORD_FILE_BYTES];
    CLEANUP_FREE char *key = NULL;

    int r = record_file_read(dirfd, file, &record, e);
    if (r < 0)
        return r;
    r = record_key(record.ref, record.platform, NULL, NULL, &key, e);
    if (r == 0)
        r = record_file_name(key, expected, e);
    if (r == 0 && strcmp(expected, file) != 0)
        r = error_set(e, LARDER_CORRUPT, "it is that of %s for %s, expected another", record.ref,
                      record.platform);
    record_done(&record);
    return r;
}

static enum update_file judge_file(int dirfd, const char *file, struct larder_error *e)
{
    CLEANUP_CLOSE int lock = -1;
    if (strcmp(file, RECORD_TEMP) == 0)
        return record_file_lock(dirfd, false, &lock, NULL) == 0 ? UPDATE_FILE_TEMPORARY
                                                                : UPDATE_FILE_GOOD;
    if (!record_file_is_name(file))
        return UPDATE_FILE_FOREIGN;
    switch (-check_file(dirfd, file, e)) {
    case LARDER_CORRUPT:
        return UPDATE_FILE_CORRUPT;
    case LARDER_OK:
    case LARDER_NOENT:
        return UPDATE_FILE_GOOD;
    default:
        return UPDATE_FILE_UNKNOWN;
    }
}

/* Judged once more under the lock: a writer may just have replaced it. */
static int remove_file(int dirfd, const char *file, struct larder_error *e)
{
    CLEANUP_CLOSE int lock = -1;
    bool is_temp = strcmp(file, RECORD_TEMP) == 0;
    int r = record_file_lock(dirfd, true, &lock, e);
    if (r < 0)
        return r;
    if (!is_temp && check_file(dirfd, file, NULL) != -LARDER_CORRUPT)
        return 0;
    if (unlinkat(dirfd, file, 0) < 0)
        return errno == ENOENT ? 0 : error_errno(e, errno, "remove");
    return fsync(dirfd) < 0 && errno != EINVAL ? error_errno(e, errno, "sync") : 1;
}

static const struct updates_probe record_files = {judge_file, remove_file};
const struct updates_probe *const store_updates_probe = &record_files;
