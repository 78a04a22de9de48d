/* SPDX-License-Identifier: Apache-2.0 */
/* Removing one blob without disturbing anybody (see gc.h). */
#include "store/upkeep/gc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/process.h"
#include "store/dir/blob.h"
#include "store/dir/dir.h"
#include "store/dir/memo.h"
#include "store/upkeep/index_sync.h"

struct removing {
    struct larder_store *store;
    const struct larder_digest *digest;
    const struct removal_terms *terms;
    struct roots *roots;
    int blob_dirfd, tmp_dirfd;
    char hex[LARDER_DIGEST_TEXT_BYTES];
    char temporary[128]; /* "" until renamed */
    uint64_t bytes;
    char *why; /* GC_WHY_BYTES */
};

/* Opens the file and learns its size; errno is ENOENT when it is gone. */
static int open_blob(struct removing *r, struct stat *ret_st)
{
    CLEANUP_CLOSE int fd =
        openat(r->blob_dirfd, r->hex, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, ret_st) < 0)
        return -1;
    /* A second name (an adopted file) keeps the bytes: removing ours frees nothing. */
    r->bytes = ret_st->st_nlink > 1 ? 0 : (uint64_t)ret_st->st_blocks * 512;
    return TAKE_FD(fd);
}

/* Refs, leases and last use, from the files. *ret stays DONE when nothing speaks against it. */
static int judge(struct removing *r, const struct stat *st, enum removal *ret,
                 struct larder_error *e)
{
    const struct removal_terms *terms = r->terms;
    struct memo memo;
    int64_t used_ns = stat_time_ns(&st->st_ctim);
    bool is_leased = false;
    int result = roots_refresh(r->store, r->roots, e);
    if (result == 0)
        result = roots_have_lease(r->store, r->roots, r->digest, &is_leased, e);
    if (result < 0)
        return result;
    result = memo_read(r->store, r->digest, &memo, &used_ns, e);
    if (result < 0 && result != -LARDER_NOENT)
        return result;
    bool is_marked = result == 0 && memo.is_invalid;
    error_clear(e);
    if (is_leased) {
        snprintf(r->why, GC_WHY_BYTES, "a lease holds it");
        *ret = REMOVAL_PINNED;
    } else if (terms->only_marked && !is_marked) {
        snprintf(r->why, GC_WHY_BYTES, "its mark is gone");
        *ret = REMOVAL_KEPT;
    } else if (!terms->ignore_refs && roots_have_ref(r->roots, r->digest)) {
        snprintf(r->why, GC_WHY_BYTES, "a ref keeps it");
        *ret = REMOVAL_KEPT;
    } else if (!terms->ignore_refs && r->roots->bad_ref) {
        snprintf(r->why, GC_WHY_BYTES, "ref %.100s is damaged: what it keeps is not known",
                 r->roots->bad_ref);
        *ret = REMOVAL_PINNED;
    } else if (!terms->only_marked && used_ns >= terms->used_before_ns) {
        snprintf(r->why, GC_WHY_BYTES, "used meanwhile");
        *ret = REMOVAL_KEPT;
    }
    return 0;
}

static int ask(struct removing *r, const struct users_probe *users, int fd, const char *path,
               enum removal *ret, struct larder_error *e)
{
    enum use_state state = USE_UNKNOWN;
    bool needs_path = false;
    int result = users_ask(users, r->store, r->digest, fd, path, &state, &needs_path, NULL, e);
    if (result == 0 && (state != USE_FREE || needs_path)) {
        snprintf(r->why, GC_WHY_BYTES, "%s",
                 needs_path ? "its path is needed" : use_state_text(state));
        *ret = REMOVAL_PINNED;
    }
    return result;
}

/* Without the lock: the probe may look through many overlays. */
static int look(struct removing *r, enum removal *ret, struct larder_error *e)
{
    char path[PATH_MAX];
    struct stat st;
    CLEANUP_CLOSE int fd = open_blob(r, &st);
    if (fd < 0 && errno == ENOENT) {
        *ret = REMOVAL_GONE;
        return 0;
    }
    if (fd < 0)
        return error_errno(e, errno, "blob %s", r->hex);
    int result = judge(r, &st, ret, e);
    if (result == 0 && *ret == REMOVAL_DONE)
        result = larder_blob_path(r->store, r->digest, path, sizeof(path), e);
    if (result == 0 && *ret == REMOVAL_DONE)
        result = ask(r, r->terms->users, fd, path, ret, e);
    return result;
}

static int make_temporary_name(struct removing *r, struct larder_error *e)
{
    struct process_id self;
    uint64_t random = 0;
    int result = process_id_self(&self, e);
    if (result < 0)
        return result;
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return error_errno(e, errno, "random number");
    snprintf(r->temporary, sizeof(r->temporary), ".tmp-%d-%llu-%016llx", (int)self.pid,
             (unsigned long long)self.start_ticks, (unsigned long long)random);
    return 0;
}

/*
 * Under the lock nobody publishes, hands a path out, or writes a ref. *ret_fd: the renamed file.
 * The kernel is asked once more; overlays can't have come without a lease.
 */
static int take_away(struct removing *r, int *ret_fd, enum removal *ret, struct larder_error *e)
{
    struct stat st;
    CLEANUP_CLOSE int lock = -1;
    int result = make_temporary_name(r, e);
    if (result == 0)
        result = store_lock(r->store, "gc", true, true, &lock, e);
    if (result < 0)
        return result;
    CLEANUP_CLOSE int fd = open_blob(r, &st);
    if (fd < 0 && errno == ENOENT) {
        *ret = REMOVAL_GONE;
        return 0;
    }
    if (fd < 0)
        return error_errno(e, errno, "blob %s", r->hex);
    result = judge(r, &st, ret, e);
    if (result == 0 && *ret == REMOVAL_DONE)
        result = ask(r, r->terms->users, fd, NULL, ret, e);
    if (result < 0 || *ret != REMOVAL_DONE)
        return result;
    if (renameat2(r->blob_dirfd, r->hex, r->tmp_dirfd, r->temporary, RENAME_NOREPLACE) < 0)
        return error_errno(e, errno, "blob %s: rename to %s", r->hex, r->temporary);
    *ret_fd = TAKE_FD(fd);
    /* Bytes first, memo second: the other way round a crash would leave a blob to be hashed. */
    return memo_remove(r->store, r->digest, e);
}

static int finish(struct removing *r, int fd, enum removal *ret, struct larder_error *e)
{
    if (users_ask_kernel(fd) == USE_IN_USE)
        *ret = REMOVAL_OPEN;
    fd_closep(&fd);
    if (unlinkat(r->tmp_dirfd, r->temporary, 0) < 0 && errno != ENOENT)
        return error_errno(e, errno, "blob %s: remove %s", r->hex, r->temporary);
    return 0;
}

int gc_remove_blob(struct larder_store *store, const struct larder_digest *digest,
                   const struct removal_terms *terms, struct roots *roots, enum removal *ret,
                   uint64_t *ret_bytes, char *ret_why, struct larder_error *e)
{
    struct removing r = {.store = store, .digest = digest, .terms = terms, .roots = roots};
    enum removal how = REMOVAL_DONE;
    int fd = -1;
    r.why = ret_why;
    ret_why[0] = '\0';
    larder_digest_hex(digest, r.hex);
    int result = store_blob_dir(store, digest->alg, &r.blob_dirfd, e);
    if (result == 0)
        result = look(&r, &how, e);
    if (result == 0 && how == REMOVAL_DONE && !terms->dry_run) {
        result = store_place(store, STORE_TMP, &r.tmp_dirfd, e);
        if (result == 0)
            result = take_away(&r, &fd, &how, e);
        if (fd >= 0) { /* renamed: goes whatever else failed */
            int removed = finish(&r, fd, &how, result < 0 ? NULL : e);
            result = result < 0 ? result : removed;
        }
    }
    if (result < 0)
        return error_context(e, "gc");
    *ret = how;
    *ret_bytes = r.bytes;
    return 0;
}
