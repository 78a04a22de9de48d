/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs of a layout directory being written (private.h says where and in what order). */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/process.h"
#include "store/layout/private.h"
#include "store/upkeep/index_sync.h"

/* Space for a blob from this size on is reserved, so that a full disk is found before the work. */
#define RESERVE_BYTES    (4ULL * 1024 * 1024)
#define SYNCFS_BLOBS_MIN 8
/* Each try loses against a process that removes the empty .larder, or finishes the same blob. */
#define OPEN_TRIES_MAX 100
/* A temporary of a dead process; none of ours lives that long unlocked. */
#define KEEP_TEMP_NS    (3600 * NS_PER_S)
#define KEEP_PARTIAL_NS (7 * 24 * 3600 * NS_PER_S)

static size_t alg_slot(enum larder_digest_alg alg)
{
    return alg == LARDER_DIGEST_SHA512 ? 1 : 0;
}

static int open_dir(int dirfd, const char *name, bool make)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 || errno != ENOENT || !make)
        return fd;
    if (mkdirat(dirfd, name, 0777) < 0 && errno != EEXIST)
        return -1;
    return openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int layout_blobs_dir(struct layout *layout, enum larder_digest_alg alg, bool make, int *ret,
                     struct larder_error *e)
{
    int *slot = &layout->blobs[alg_slot(alg)];
    int r = 0;
    pthread_mutex_lock(&layout->mutex);
    if (*slot < 0) {
        CLEANUP_CLOSE int above = open_dir(layout->dirfd, "blobs", make);
        if (above >= 0)
            *slot = open_dir(above, larder_digest_alg_name(alg), make);
        /* A new directory's own name has to be durable, too. */
        if (*slot >= 0 && make &&
            (dir_sync(above, layout->base.name, e) < 0 ||
             dir_sync(layout->dirfd, layout->base.name, e) < 0))
            r = -LARDER_IO;
        else if (*slot < 0 && (make || errno != ENOENT))
            r = error_errno(e, errno, "%s: blobs/%s", layout->base.name,
                            larder_digest_alg_name(alg));
    }
    *ret = *slot;
    pthread_mutex_unlock(&layout->mutex);
    return r;
}

/* again: the one we have open was removed by a process that found it empty. */
int layout_work_dir(struct layout *layout, bool again, int *ret, struct larder_error *e)
{
    int r = 0;
    pthread_mutex_lock(&layout->mutex);
    if (layout->workdir < 0 || again) {
        int fd = open_dir(layout->dirfd, LAYOUT_WORK_NAME, true);
        if (fd < 0) {
            r = error_errno(e, errno, "%s: %s", layout->base.name, LAYOUT_WORK_NAME);
        } else if (layout->workdir < 0) {
            layout->workdir = fd;
        } else {
            /* Other lanes have the number in hand. */
            if (dup3(fd, layout->workdir, O_CLOEXEC) < 0)
                r = error_errno(e, errno, "%s: %s", layout->base.name, LAYOUT_WORK_NAME);
            close(fd);
        }
    }
    *ret = layout->workdir;
    pthread_mutex_unlock(&layout->mutex);
    return r;
}

int layout_temp(struct layout *layout, char *name, int *ret_fd, struct larder_error *e)
{
    static atomic_uint sequence;
    struct process_id self;
    int work = -1;
    int r = process_id_self(&self, e);
    for (unsigned i = 0; r == 0 && i < OPEN_TRIES_MAX; i++) {
        r = layout_work_dir(layout, i > 0, &work, e);
        if (r < 0)
            return r;
        snprintf(name, 64, "tmp-%ld-%llu-%u", (long)self.pid, (unsigned long long)self.start_ticks,
                 atomic_fetch_add(&sequence, 1u));
        int fd = openat(work, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (fd >= 0) {
            flock(fd, LOCK_EX | LOCK_NB); /* not everywhere; then its age protects it */
            *ret_fd = fd;
            return 0;
        }
        if (errno != ENOENT && errno != EEXIST)
            return error_errno(e, errno, "%s: %s", layout->base.name, LAYOUT_WORK_NAME);
    }
    return r < 0 ? r
                 : error_set(e, LARDER_BUSY, "%s: %s is removed all the time", layout->base.name,
                             LAYOUT_WORK_NAME);
}

/* ---- opening ---- */

static void blob_free(struct layout_blob *blob)
{
    if (blob && blob->fd >= 0)
        close(blob->fd);
    free(blob);
}

/* 1: ours; 0: somebody else writes it, or its name is gone meanwhile; negative: errno. */
static int take_partial(int work, const char *name, int *ret_fd, bool *ret_is_busy)
{
    struct stat st, named;
    CLEANUP_CLOSE int fd =
        openat(work, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0666);
    *ret_is_busy = false;
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        *ret_is_busy = true;
        return 0;
    }
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode)) {
        *ret_is_busy = true;
        return 0;
    }
    /* It may have been published between the open and the lock. */
    if (fstatat(work, name, &named, AT_SYMLINK_NOFOLLOW) < 0 || named.st_ino != st.st_ino ||
        named.st_dev != st.st_dev)
        return 0;
    *ret_fd = TAKE_FD(fd);
    return 1;
}

static int open_blob(struct layout *layout, struct layout_blob *blob, struct larder_error *e)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    bool is_busy = false;
    int work = -1;
    snprintf(blob->name, sizeof(blob->name), "%s-%s", larder_digest_alg_name(blob->digest.alg),
             larder_digest_hex(&blob->digest, hex));
    for (unsigned i = 0; !is_busy && i < OPEN_TRIES_MAX; i++) {
        int r = layout_work_dir(layout, i > 0, &work, e);
        if (r < 0)
            return r;
        r = take_partial(work, blob->name, &blob->fd, &is_busy);
        if (r < 0)
            return error_errno(e, -r, "%s: %s/%s", layout->base.name, LAYOUT_WORK_NAME, blob->name);
        if (r == 1) {
            blob->is_partial = true;
            return 0;
        }
    }
    /* Two write the same blob: each its own file, the last one stays. */
    return layout_temp(layout, blob->name, &blob->fd, e);
}

/* Bytes of an earlier run that may be good; more than the blob has are not. */
static int size_blob(struct layout *layout, struct layout_blob *blob, uint64_t *ret_done,
                     struct larder_error *e)
{
    struct stat st;
    int failed = fstat(blob->fd, &st);
    *ret_done = 0;
    if (failed == 0 && (uint64_t)st.st_size > blob->size_bytes)
        failed = ftruncate(blob->fd, 0);
    else if (failed == 0)
        *ret_done = (uint64_t)st.st_size;
    if (failed == 0 && blob->size_bytes >= RESERVE_BYTES && blob->size_bytes <= INT64_MAX) {
        failed = fallocate(blob->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)blob->size_bytes);
        if (failed < 0 && errno != ENOSPC && errno != EDQUOT && errno != EFBIG)
            failed = 0; /* only a courtesy, which not all file systems know */
    }
    return failed < 0
               ? error_errno(e, errno, "%s: %s/%s", layout->base.name, LAYOUT_WORK_NAME, blob->name)
               : 0;
}

bool layout_is_waiting(struct layout *layout, const struct larder_digest *digest)
{
    bool is_there = false;
    pthread_mutex_lock(&layout->mutex);
    for (const struct layout_blob *b = layout->list; b && !is_there; b = b->next)
        is_there = larder_digest_equal(&b->digest, digest);
    pthread_mutex_unlock(&layout->mutex);
    return is_there;
}

int layout_blob_begin(struct store *s, const struct store_descriptor *descriptor,
                      struct blob_writer *ret, bool *ret_exists, struct larder_error *e)
{
    struct layout *layout = layout_of(s);
    struct larder_error why = LARDER_ERROR_INIT;
    uint64_t done_bytes = 0;
    if (!layout->is_writable)
        return error_set(e, LARDER_DENIED, "%s: opened for reading only", s->name);
    int r = s->ops->blob_has(s, descriptor, &why);
    *ret_exists = r == 1;
    if (r == 1)
        return 0;
    if (r < 0 && r != -LARDER_CORRUPT) { /* CORRUPT: of the wrong size, and replaced */
        if (e)
            *e = why;
        return r;
    }
    struct layout_blob *blob = calloc(1, sizeof(*blob));
    if (!blob)
        return error_nomem(e);
    blob->digest = descriptor->digest;
    blob->size_bytes = descriptor->size_bytes;
    blob->fd = -1;
    r = open_blob(layout, blob, e);
    if (r == 0)
        r = size_blob(layout, blob, &done_bytes, e);
    if (r < 0) {
        blob_free(blob);
        return r;
    }
    *ret = (struct blob_writer){blob->fd, 0, done_bytes, blob};
    return 0;
}

uint64_t layout_blob_kept(struct store *s, const struct store_descriptor *blob)
{
    struct layout *layout = layout_of(s);
    char name[sizeof(LAYOUT_WORK_NAME) + LARDER_DIGEST_TEXT_BYTES + 16];
    char hex[LARDER_DIGEST_TEXT_BYTES];
    struct stat st;
    snprintf(name, sizeof(name), LAYOUT_WORK_NAME "/%s-%s",
             larder_digest_alg_name(blob->digest.alg), larder_digest_hex(&blob->digest, hex));
    if (fstatat(layout->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return 0;
    return store_kept_bytes(&st, blob->size_bytes);
}

void layout_blob_abort(struct store *s, struct blob_writer *writer, bool keep)
{
    struct layout *layout = layout_of(s);
    struct layout_blob *blob = writer->private;
    struct stat st;
    if (!blob)
        return;
    if (!keep || !blob->is_partial || fstat(blob->fd, &st) < 0 || st.st_size == 0)
        unlinkat(layout->workdir, blob->name, 0);
    blob_free(blob);
    *writer = (struct blob_writer){-1, 0, 0, NULL};
}

/* ---- publishing ---- */

/*
 * Each fdatasync costs a commit of the journal, or at least a flush of the disk's cache: with more
 * than a few files one syncfs is cheaper by an order of magnitude, although it writes what other
 * programs left, too.
 */
static int sync_batch(struct layout_blob *batch, struct layout *layout, struct larder_error *e)
{
    size_t n = 0;
    for (struct layout_blob *b = batch; b; b = b->batch_next)
        n++;
    if (n >= SYNCFS_BLOBS_MIN && syncfs(batch->fd) == 0)
        return 0;
    for (struct layout_blob *b = batch; b; b = b->batch_next) {
        if (fdatasync(b->fd) < 0)
            return error_errno(e, errno, "%s: %s/%s", layout->base.name, LAYOUT_WORK_NAME, b->name);
    }
    return 0;
}

static int name_blob(struct layout *layout, struct layout_blob *blob, struct larder_error *e)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    int dirfd = -1;
    int r = layout_blobs_dir(layout, blob->digest.alg, true, &dirfd, e);
    if (r == 0 &&
        renameat(layout->workdir, blob->name, dirfd, larder_digest_hex(&blob->digest, hex)) < 0)
        r = error_errno(e, errno, "%s: blobs/%s/%s", layout->base.name,
                        larder_digest_alg_name(blob->digest.alg),
                        larder_digest_hex(&blob->digest, hex));
    return r;
}

/* With the mutex held: all that waits, for the caller to publish. */
static struct layout_blob *take_batch(struct layout *layout)
{
    struct layout_blob *batch = NULL;
    for (struct layout_blob *b = layout->list; b; b = b->next) {
        if (b->is_taken)
            continue;
        b->is_taken = true;
        b->batch_next = batch;
        batch = b;
    }
    layout->n_waiting = 0;
    layout->waiting_bytes = 0;
    return batch;
}

static void forget_batch(struct layout *layout, struct layout_blob *batch)
{
    while (batch) {
        struct layout_blob *blob = batch;
        struct layout_blob **at = &layout->list;
        batch = blob->batch_next;
        while (*at != blob)
            at = &(*at)->next;
        *at = blob->next;
        blob_free(blob);
    }
}

/* Without the mutex. The files of a failed batch stay as partials. */
static int publish_batch(struct layout *layout, struct layout_blob *batch, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    bool is_unsynced[2] = {false, false};
    int r = sync_batch(batch, layout, &why);
    for (struct layout_blob *b = batch; r == 0 && b; b = b->batch_next) {
        r = name_blob(layout, b, &why);
        is_unsynced[alg_slot(b->digest.alg)] = true;
    }
    pthread_mutex_lock(&layout->mutex);
    for (size_t i = 0; i < ARRAY_LEN(is_unsynced); i++)
        layout->is_unsynced[i] |= is_unsynced[i];
    if (r < 0 && layout->failure.code == LARDER_OK)
        layout->failure = why; /* others may have been told that the blob is there */
    forget_batch(layout, batch);
    pthread_cond_broadcast(&layout->settled);
    pthread_mutex_unlock(&layout->mutex);
    if (r < 0 && e)
        *e = why;
    return r;
}

int layout_blob_commit(struct store *s, const struct store_descriptor *descriptor,
                       struct blob_writer *writer, struct larder_error *e)
{
    struct layout *layout = layout_of(s);
    struct layout_blob *blob = writer->private, *batch = NULL;
    struct stat st;
    if (fstat(blob->fd, &st) < 0)
        return error_errno(e, errno, "%s: %s/%s", s->name, LAYOUT_WORK_NAME, blob->name);
    if ((uint64_t)st.st_size != descriptor->size_bytes) {
        char text[LARDER_DIGEST_TEXT_BYTES];
        return error_set(e, LARDER_IO, "%s: blob %s: %lld bytes were written, expected %llu",
                         s->name, larder_digest_format(&blob->digest, text), (long long)st.st_size,
                         (unsigned long long)descriptor->size_bytes);
    }
    *writer = (struct blob_writer){-1, 0, 0, NULL};
    pthread_mutex_lock(&layout->mutex);
    blob->next = layout->list;
    layout->list = blob;
    layout->n_waiting++;
    layout->waiting_bytes += blob->size_bytes;
    if (layout->n_waiting >= layout->n_batch || layout->waiting_bytes >= LAYOUT_BATCH_BYTES)
        batch = take_batch(layout);
    pthread_mutex_unlock(&layout->mutex);
    return batch ? publish_batch(layout, batch, e) : 0;
}

int layout_flush(struct store *s, struct larder_error *e)
{
    struct layout *layout = layout_of(s);
    bool is_unsynced[2];
    int r = 0;
    pthread_mutex_lock(&layout->mutex);
    struct layout_blob *batch = take_batch(layout);
    pthread_mutex_unlock(&layout->mutex);
    if (batch)
        r = publish_batch(layout, batch, e);
    pthread_mutex_lock(&layout->mutex);
    while (layout->list)
        pthread_cond_wait(&layout->settled, &layout->mutex);
    memcpy(is_unsynced, layout->is_unsynced, sizeof(is_unsynced));
    memset(layout->is_unsynced, 0, sizeof(layout->is_unsynced));
    if (layout->failure.code != LARDER_OK) {
        r = -(int)layout->failure.code;
        if (e)
            *e = layout->failure;
    }
    pthread_mutex_unlock(&layout->mutex);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(is_unsynced); i++) {
        if (is_unsynced[i])
            r = dir_sync(layout->blobs[i], s->name, e);
    }
    return r;
}

/* ---- the end ---- */

struct sweeping {
    int dirfd;
    int64_t now_ns;
};

static int sweep_one(void *arg, const char *name, unsigned char d_type)
{
    const struct sweeping *sweeping = arg;
    struct stat st;
    (void)d_type;
    CLEANUP_CLOSE int fd =
        openat(sweeping->dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || flock(fd, LOCK_EX | LOCK_NB) < 0)
        return 0;
    int64_t age = sweeping->now_ns - stat_time_ns(&st.st_mtim);
    bool is_partial = strncmp(name, "tmp-", 4) != 0 && strncmp(name, ".tmp-", 5) != 0;
    if (age > (is_partial ? KEEP_PARTIAL_NS : KEEP_TEMP_NS))
        unlinkat(sweeping->dirfd, name, 0);
    return 0;
}

/* Beside blobs/ only file_write_atomic leaves something of ours: the mark of a layout that was
 * being made. Other programs have temporaries there, too. */
static int sweep_mark(void *arg, const char *name, unsigned char d_type)
{
    static const char tail[] = "-" LAYOUT_MARK_NAME;
    size_t n = strlen(name);
    if (strncmp(name, ".tmp-", 5) != 0 || n < sizeof(tail) ||
        strcmp(name + n - (sizeof(tail) - 1), tail) != 0)
        return 0;
    return sweep_one(arg, name, d_type);
}

void layout_blob_close(struct layout *layout)
{
    while (layout->list) {
        struct layout_blob *blob = layout->list;
        layout->list = blob->next;
        if (!blob->is_partial)
            unlinkat(layout->workdir, blob->name, 0);
        blob_free(blob);
    }
    if (layout->workdir >= 0) {
        struct sweeping sweeping = {layout->workdir, clock_realtime_ns()};
        (void)dir_each(layout->workdir, sweep_one, &sweeping, NULL);
        sweeping.dirfd = layout->dirfd;
        (void)dir_each(layout->dirfd, sweep_mark, &sweeping, NULL);
        unlinkat(layout->dirfd, LAYOUT_WORK_NAME, AT_REMOVEDIR); /* when it is empty */
        close(layout->workdir);
    }
    for (size_t i = 0; i < ARRAY_LEN(layout->blobs); i++)
        fd_closep(&layout->blobs[i]);
}
