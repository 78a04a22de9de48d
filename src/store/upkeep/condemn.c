/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking bad bytes out of reach (disk images: "invalidate without disturbing users").
 *
 *   nobody needs the path            -> quarantine; running users keep their descriptor
 *   an overlay at rest needs it, or  -> marked: look-ups miss, the overlay's guest still starts,
 *   a lease promises it                 and so does what a leased command starts later
 *   it can't be told who needs it    -> marked
 */
#include "store/upkeep/condemn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "base/error.h"
#include "base/mem.h"
#include "store/dir/blob.h"
#include "store/dir/lease.h"
#include "store/dir/quarantine.h"

static int note_lease(void *arg, const struct lease *lease)
{
    bool *needs_path = arg;
    if (lease_check(lease) != PROCESS_DEAD)
        *needs_path = true;
    return 0;
}

/* NOENT when the blob is not there; *ret_fd is -1 for what is no regular file. */
static int open_blob(struct larder_store *store, const struct larder_digest *digest, int *ret_fd,
                     struct stat *ret_st, struct larder_error *e)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    int dirfd = -1;
    int result = store_blob_dir(store, digest->alg, &dirfd, e);
    if (result < 0)
        return result;
    larder_digest_hex(digest, hex);
    if (fstatat(dirfd, hex, ret_st, AT_SYMLINK_NOFOLLOW) < 0)
        return error_errno(e, errno, "blob %s", hex);
    if (!S_ISREG(ret_st->st_mode)) {
        *ret_fd = -1;
        return 0;
    }
    CLEANUP_CLOSE int fd = openat(dirfd, hex, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, ret_st) < 0)
        return error_errno(e, errno, "blob %s", hex);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Whether the path must stay, before the lock. found: set to the file asked about. */
static int ask_users(struct larder_store *store, const struct larder_digest *digest,
                     const struct users_probe *users, struct stat *found, bool *ret_needs_path,
                     struct larder_error *e)
{
    char path[PATH_MAX];
    CLEANUP_CLOSE int fd = -1;
    enum use_state state = USE_UNKNOWN;
    int result = open_blob(store, digest, &fd, found, e);
    if (result < 0 || fd < 0) /* a planted link has no users of ours */
        return result;
    result = larder_blob_path(store, digest, path, sizeof(path), e);
    if (result == 0)
        result = users_ask(users, store, digest, fd, path, &state, ret_needs_path, NULL, e);
    if (result == 0 && state == USE_UNKNOWN)
        *ret_needs_path = true;
    return result;
}

static int condemn_locked(struct larder_store *store, const struct larder_digest *digest,
                          const struct larder_digest *actual, const char *reason,
                          const struct stat *found, bool needs_path, enum condemn_result *ret,
                          struct larder_error *e)
{
    CLEANUP_CLOSE int lock = -1;
    CLEANUP_CLOSE int fd = -1;
    struct stat now = {.st_ino = 0};
    int result = store_lock(store, "gc", true, true, &lock, e);
    if (result == 0)
        result = open_blob(store, digest, &fd, &now, e);
    if (result < 0)
        return result;
    if (!is_same_file(found, &now)) {
        *ret = CONDEMN_GONE;
        return 0;
    }
    if (!needs_path) {
        result = lease_each(store, digest, note_lease, &needs_path, e);
        if (result == -LARDER_CORRUPT || result == -LARDER_UNSUPPORTED) {
            needs_path = true; /* a lease nobody can read may be about this one */
            result = 0;
        }
    }
    if (result < 0)
        return result;
    if (needs_path)
        result = blob_mark_invalid(store, digest, reason, e);
    else
        result = quarantine_blob(store, digest, actual, reason, e);
    if (result == 0)
        *ret = needs_path ? CONDEMN_MARKED : CONDEMN_MOVED;
    return result;
}

int condemn_blob(struct larder_store *store, const struct larder_digest *digest,
                 const struct larder_digest *actual, const char *reason,
                 const struct users_probe *users, const struct stat *found,
                 enum condemn_result *ret, struct larder_error *e)
{
    struct stat asked = {.st_ino = 0};
    bool needs_path = false;
    enum condemn_result how = CONDEMN_GONE;
    struct larder_error why = LARDER_ERROR_INIT;
    int result = ask_users(store, digest, users, &asked, &needs_path, &why);
    if (result == 0 && found && !is_same_file(found, &asked)) {
        *ret = CONDEMN_GONE;
        return 0;
    }
    if (result == 0)
        result = condemn_locked(store, digest, actual, reason, &asked, needs_path, &how, &why);
    if (result == -LARDER_NOENT) { /* somebody else was quicker */
        *ret = CONDEMN_GONE;
        return 0;
    }
    if (result < 0) {
        if (e)
            *e = why;
        return result;
    }
    *ret = how;
    return 0;
}

int store_condemn(struct larder_store *store, const struct larder_digest *digest,
                  const struct larder_digest *actual, const char *reason,
                  const struct users_probe *users, bool *ret_moved, struct larder_error *e)
{
    enum condemn_result how = CONDEMN_GONE;
    int result = condemn_blob(store, digest, actual, reason, users, NULL, &how, e);
    if (result == 0)
        *ret_moved = how != CONDEMN_MARKED;
    return result;
}
