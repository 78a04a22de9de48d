/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a name under blobs/.
 *
 *   temp (0600, flocked) -> fchmod 0444 -> fsync -> rename, no replace -> fsync of the directory
 *   -> memo -> close (ends the flock)
 *
 * A crash before the rename leaves a temporary for the sweeper; after it, a blob without a memo,
 * which the next check hashes.
 *
 * When the name is taken, the flock of the blob's own inode orders publishers: the one that made
 * it holds it until its memo is there, and the one that replaces a bad blob holds it on the old
 * inode and looks again at what the name leads to.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "store/dir/blob.h"
#include "store/dir/quarantine.h"

/* Every try means that another process changed the name meanwhile. */
#define PUBLISH_TRIES 16
/* A publisher holds its flock for a few fsyncs; any other holder must not stop us. */
#define FLOCK_WAIT_NS (2 * NS_PER_S)
#define FLOCK_STEP_NS (2 * NS_PER_MS)

struct publish {
    struct larder_store *store;
    struct temp_file *temp;
    const struct larder_digest *digest;
    char text[LARDER_DIGEST_TEXT_BYTES]; /* for messages */
    char hex[LARDER_DIGEST_TEXT_BYTES];
    int dirfd;
};

static int rename_new(const struct publish *p)
{
    const struct temp_file *t = p->temp;
    if (renameat2(t->dirfd, t->name, p->dirfd, p->hex, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    /* A file system that can't: the same in two steps. */
    if (linkat(t->dirfd, t->name, p->dirfd, p->hex, 0) < 0)
        return -1;
    (void)unlinkat(t->dirfd, t->name, 0);
    return 0;
}

/* Without a memo the next check hashes; nothing is lost. */
static void record(struct publish *p)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct memo memo = {.verified_ns = clock_realtime_ns()};
    struct stat st;

    int r = memo_settle(p->temp->fd, &st, &why);
    if (r == 0) {
        memo_fill(&memo, &st);
        r = memo_write(p->store, p->digest, &memo, &why);
    }
    if (r == 0)
        memo_touch(p->store, p->digest);
    else
        store_warn(p->store, "blob %s: not recorded as verified: %s", p->text, why.msg);
}

/* The name is ours now: make it last, record it, let the next publisher go on. */
static int finish(struct publish *p, struct larder_error *e)
{
    p->temp->name[0] = '\0';
    int r = dir_sync(p->dirfd, "blobs", e);
    if (r == 0)
        record(p);
    else
        error_context(e, "%s", larder_store_path(p->store));
    temp_drop(p->temp);
    return r;
}

static void wait_for_publisher(int fd)
{
    int64_t deadline = clock_monotonic_ns() + FLOCK_WAIT_NS;
    while (flock(fd, LOCK_EX | LOCK_NB) < 0 && (errno == EWOULDBLOCK || errno == EINTR) &&
           clock_monotonic_ns() < deadline)
        clock_sleep_ns(FLOCK_STEP_NS);
}

/* Whether the blob that has the name may stay. Hashes it when its memo can't tell. */
static int judge_existing(struct publish *p, bool *ret_is_good, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct larder_digest actual;
    enum blob_state state;

    int r = blob_check(p->store, p->digest, &state, NULL, NULL, e);
    if (r < 0)
        return r;
    *ret_is_good = false;
    switch (state) {
    case BLOB_GOOD:
        *ret_is_good = true;
        return 0;
    case BLOB_MARKED:
    case BLOB_MISSING:
        return 0;
    case BLOB_SUSPECT:
    case BLOB_UNSURE:
        r = blob_hash(p->store, p->digest, true, &actual, &why);
        if (r == 0)
            *ret_is_good = true;
        else if (r != -LARDER_CORRUPT && r != -LARDER_NOENT && r != -LARDER_IO) {
            if (e)
                *e = why;
            return r;
        }
        return 0; /* unreadable sectors count as bad bytes: good ones are at hand */
    }
    return 0;
}

/* One try with a taken name: 1 done, 0 look again. */
static int over_existing(struct publish *p, bool *ret_existed, struct larder_error *e)
{
    struct stat held, now;
    bool is_good = false;
    CLEANUP_CLOSE int old =
        openat(p->dirfd, p->hex, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (old < 0 && errno == ENOENT)
        return 0;
    /* A planted link, or a file we may not read, can't be locked; its replacement still works. */
    if (old >= 0) {
        wait_for_publisher(old);
        if (fstat(old, &held) < 0)
            return error_errno(e, errno, "blob %s", p->text);
        if (fstatat(p->dirfd, p->hex, &now, AT_SYMLINK_NOFOLLOW) < 0 || now.st_ino != held.st_ino ||
            now.st_dev != held.st_dev)
            return 0;
    }
    int r = judge_existing(p, &is_good, e);
    if (r < 0)
        return r;
    if (is_good) {
        temp_drop(p->temp);
        *ret_existed = true;
        return 1;
    }
    r = quarantine_link(p->store, p->digest, "replaced by a good copy", e);
    if (r == -LARDER_NOENT)
        return 0;
    if (r < 0)
        return r;
    if (renameat(p->temp->dirfd, p->temp->name, p->dirfd, p->hex) < 0)
        return error_errno(e, errno, "blob %s: replace", p->text);
    r = memo_remove(p->store, p->digest, e); /* a mark is about the old bytes */
    if (r < 0)
        return r;
    r = finish(p, e);
    if (r < 0)
        return r;
    *ret_existed = false;
    return 1;
}

static int prepare(struct publish *p, struct larder_store *store, struct temp_file *temp,
                   const struct larder_digest *digest, struct larder_error *e)
{
    *p = (struct publish){.store = store, .temp = temp, .digest = digest, .dirfd = -1};
    larder_digest_format(digest, p->text);
    larder_digest_hex(digest, p->hex);
    int r = store_require_writable(store, e);
    return r < 0 ? r : store_blob_dir(store, digest->alg, &p->dirfd, e);
}

int blob_publish(struct larder_store *store, struct temp_file *temp,
                 const struct larder_digest *digest, bool *ret_existed, struct larder_error *e)
{
    struct publish p;

    int r = prepare(&p, store, temp, digest, e);
    if (r < 0)
        return r;
    if (fchmod(temp->fd, 0444) < 0)
        return error_errno(e, errno, "blob %s: chmod", p.text);
    if (fsync(temp->fd) < 0)
        return error_errno(e, errno, "blob %s: fsync", p.text);
    for (int i = 0; i < PUBLISH_TRIES; i++) {
        if (rename_new(&p) == 0) {
            r = finish(&p, e);
            if (r == 0)
                *ret_existed = false;
            return r;
        }
        if (errno != EEXIST)
            return error_errno(e, errno, "blob %s: publish", p.text);
        r = over_existing(&p, ret_existed, e);
        if (r != 0)
            return r < 0 ? r : 0;
    }
    return error_set(e, LARDER_BUSY, "blob %s: changed by others again and again", p.text);
}

/* ---- many at once ---- */

/* From so many on one syncfs is cheaper than their fsyncs, each of which flushes the disk's cache,
 * although it writes what other programs left, too. */
#define SYNCFS_MIN 8

int temps_sync(struct temp_file *const *temps, const struct larder_digest *const *digests, size_t n,
               struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    for (size_t i = 0; i < n; i++) {
        if (fchmod(temps[i]->fd, 0444) < 0)
            return error_errno(e, errno, "blob %s: chmod", larder_digest_format(digests[i], text));
    }
    if (n >= SYNCFS_MIN && syncfs(temps[0]->fd) == 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (fsync(temps[i]->fd) < 0)
            return error_errno(e, errno, "blob %s: fsync", larder_digest_format(digests[i], text));
    }
    return 0;
}

/* A name that is free is taken; *ret_is_named. A taken one is judged as by blob_publish. */
static int name_one(struct publish *p, bool *ret_is_named, struct larder_error *e)
{
    bool existed;
    if (rename_new(p) == 0) {
        p->temp->name[0] = '\0';
        *ret_is_named = true;
        return 0;
    }
    if (errno != EEXIST)
        return error_errno(e, errno, "blob %s: publish", p->text);
    return blob_publish(p->store, p->temp, p->digest, &existed, e);
}

int blob_publish_synced(struct larder_store *store, struct temp_file *const *temps,
                        const struct larder_digest *const *digests, size_t n,
                        struct larder_error *e)
{
    CLEANUP_FREE bool *is_named = calloc(n ? n : 1, sizeof(*is_named));
    struct publish p;
    int dirs[2] = {-1, -1};
    int r = is_named ? 0 : error_nomem(e);

    for (size_t i = 0; r == 0 && i < n; i++) {
        r = prepare(&p, store, temps[i], digests[i], e);
        if (r == 0)
            r = name_one(&p, &is_named[i], e);
        if (r == 0)
            dirs[digests[i]->alg == LARDER_DIGEST_SHA512] = p.dirfd;
    }
    /* Also after a failure: what has its name keeps it. */
    for (size_t i = 0; is_named && i < ARRAY_LEN(dirs); i++) {
        struct larder_error why = LARDER_ERROR_INIT;
        if (dirs[i] < 0 || dir_sync(dirs[i], "blobs", &why) == 0 || r < 0)
            continue;
        error_context(&why, "%s", larder_store_path(store));
        r = -(int)why.code;
        if (e)
            *e = why;
    }
    for (size_t i = 0; is_named && i < n; i++) {
        if (!is_named[i])
            continue;
        if (prepare(&p, store, temps[i], digests[i], NULL) == 0)
            record(&p);
        temp_drop(temps[i]);
    }
    return r;
}
