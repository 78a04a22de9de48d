/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of scrub and fsck (see rehash.h). Workers hash and queue what is done; the caller's
 * thread takes it from the queue whenever hash_many reports progress or asks whether to stop, so
 * that a killed run loses no blob it finished.
 */
#include "store/upkeep/rehash.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/hash_many.h"
#include "base/mem.h"
#include "store/dir/dir.h"

struct slot {
    struct run *run;
    struct rehash item;
    char object[LARDER_DIGEST_TEXT_BYTES];
    int dirfd; /* borrowed */
    bool is_changed;
    bool is_told;
    struct slot *next; /* in the queue of done ones */
};

struct run {
    struct larder_store *store;
    const struct rehash_options *options;
    const struct larder_observer *outer;
    pthread_mutex_t lock;
    struct slot *done; /* guarded by lock */
    struct slot slots[REHASH_BATCH];
    struct hash_job jobs[REHASH_BATCH];
    int result; /* of options->done; non-zero ends the run */
    struct larder_error error;
    size_t told;      /* how many blobs have a result */
    bool is_late;     /* the deadline came */
    bool is_canceled; /* the observer asked */
};

static bool is_unchanged(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Worker thread. */
static int open_slot(struct hash_job *job, struct larder_error *e)
{
    struct slot *slot = job->arg;
    char hex[LARDER_DIGEST_TEXT_BYTES];
    slot->item.began_ns = clock_realtime_ns();
    CLEANUP_CLOSE int fd = openat(slot->dirfd, larder_digest_hex(&slot->item.digest, hex),
                                  O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &slot->item.st) < 0)
        return error_errno(e, errno, "blob %s", slot->object);
    if (!S_ISREG(slot->item.st.st_mode))
        return error_set(e, LARDER_CORRUPT, "blob %s: not a regular file", slot->object);
    job->fd = TAKE_FD(fd);
    return 0;
}

/* Worker thread: the file is kept open until it was told. */
static void close_slot(struct hash_job *job)
{
    struct slot *slot = job->arg;
    struct stat now;
    slot->item.fd = job->fd;
    job->fd = -1;
    slot->is_changed = fstat(slot->item.fd, &now) < 0 || !is_unchanged(&slot->item.st, &now);
    pthread_mutex_lock(&slot->run->lock);
    slot->next = slot->run->done;
    slot->run->done = slot;
    pthread_mutex_unlock(&slot->run->lock);
}

static void judge(struct slot *slot, const struct hash_job *job)
{
    struct rehash *item = &slot->item;
    char actual[LARDER_DIGEST_TEXT_BYTES];
    item->result = job->result;
    item->error = job->error;
    item->size_bytes = job->size_bytes;
    item->read_bytes = job->read_bytes;
    if (job->result < 0)
        return;
    if (slot->is_changed) {
        item->result = error_set(&item->error, LARDER_BUSY, "blob %s: changed while it was read",
                                 slot->object);
        return;
    }
    item->actual = job->digests[item->digest.alg];
    if (!larder_digest_equal(&item->actual, &item->digest))
        item->result = error_set(&item->error, LARDER_CORRUPT, "blob %s: its bytes hash to %s",
                                 slot->object, larder_digest_format(&item->actual, actual));
}

static void tell(struct run *run, struct slot *slot)
{
    struct rehash *item = &slot->item;
    if (slot->is_told)
        return;
    slot->is_told = true;
    judge(slot, &run->jobs[slot - run->slots]);
    /* Not reached: no result. */
    run->told += item->result != -LARDER_CANCELED;
    if (item->result != -LARDER_CANCELED && run->result == 0)
        run->result = run->options->done(run->options->arg, item, &run->error);
    fd_closep(&item->fd);
}

static void tell_done(struct run *run)
{
    pthread_mutex_lock(&run->lock);
    struct slot *done = run->done;
    run->done = NULL;
    pthread_mutex_unlock(&run->lock);
    while (done) {
        struct slot *next = done->next;
        tell(run, done);
        done = next;
    }
}

static void pass_progress(void *arg, const struct larder_progress *progress)
{
    struct run *run = arg;
    tell_done(run);
    if (run->outer->progress)
        run->outer->progress(run->outer->arg, progress);
}

static bool should_stop(void *arg)
{
    struct run *run = arg;
    tell_done(run);
    if (run->outer->is_canceled && run->outer->is_canceled(run->outer->arg))
        run->is_canceled = true;
    /* One is always read to its end: else a blob that takes longer than a run has time is begun by
     * each of them, ended by none, and stands in the way of all others. */
    if (run->options->deadline_ns && run->told > 0 &&
        clock_monotonic_ns() >= run->options->deadline_ns)
        run->is_late = true;
    return run->is_canceled || run->is_late || run->result != 0;
}

static int run_batch(struct run *run, const struct larder_digest *digests, size_t count,
                     struct larder_error *e)
{
    const struct larder_observer observer = {
        .arg = run, .progress = pass_progress, .is_canceled = should_stop};
    const struct hash_many_options options = {.keep_cache = run->options->keep_cache,
                                              .background = run->options->background,
                                              .max_bytes_per_s = run->options->max_bytes_per_s,
                                              .observer = &observer,
                                              .what = run->options->what};
    memset(run->slots, 0, sizeof(run->slots));
    memset(run->jobs, 0, sizeof(run->jobs));
    for (size_t i = 0; i < count; i++) {
        struct slot *slot = &run->slots[i];
        slot->run = run;
        slot->item.digest = digests[i];
        slot->item.fd = -1;
        larder_digest_format(&digests[i], slot->object);
        int result = store_blob_dir(run->store, digests[i].alg, &slot->dirfd, e);
        if (result < 0)
            return result;
        run->jobs[i] = (struct hash_job){.fd = -1,
                                         .open = open_slot,
                                         .close = close_slot,
                                         .alg_bits = HASH_BIT(digests[i].alg),
                                         .object = slot->object,
                                         .arg = slot,
                                         .result = -LARDER_CANCELED};
    }
    int result = hash_many(run->jobs, count, &options, e);
    tell_done(run);
    /* Those that could not be opened were never queued. */
    for (size_t i = 0; i < count; i++)
        tell(run, &run->slots[i]);
    if (run->result != 0) {
        if (e)
            *e = run->error;
        return run->result;
    }
    if (result == -LARDER_CANCELED && run->is_late && !run->is_canceled) {
        error_clear(e);
        return 0;
    }
    return result;
}

int rehash_run(struct larder_store *store, const struct larder_digest *digests, size_t count,
               const struct rehash_options *options, bool *ret_is_complete, struct larder_error *e)
{
    CLEANUP_FREE struct run *run = calloc(1, sizeof(*run));
    /* Side by side they would all be half done when the time is over. */
    size_t batch = options->deadline_ns ? 1 : REHASH_BATCH;
    int result = 0;
    size_t at = 0;
    if (!run)
        return error_nomem(e);
    run->store = store;
    run->options = options;
    run->outer = store_observer(store);
    pthread_mutex_init(&run->lock, NULL);
    while (result == 0 && at < count && !should_stop(run)) {
        size_t n = count - at < batch ? count - at : batch;
        result = run_batch(run, digests + at, n, e);
        at += n;
    }
    pthread_mutex_destroy(&run->lock);
    if (result == 0 && run->is_canceled)
        result = error_set(e, LARDER_CANCELED, "%s of %s: canceled", options->what,
                           larder_store_path(store));
    if (result == 0)
        *ret_is_complete = !run->is_late || run->told == count;
    return result;
}
