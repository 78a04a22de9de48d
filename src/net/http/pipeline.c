/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http/pipeline.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/sparse.h"

/* More than any disk image has; it ends a bomb of zeros, which would cost no disk, only time. */
#define UNPACKED_MAX_BYTES (1ULL << 44)

/*
 * Who touches what: everything above `lock` belongs to the caller's thread until the thread is
 * started and to the thread from then until it was joined; the ring has its own locks.
 */
struct pipeline {
    struct pipeline_options options;
    struct hash *source_hash;
    struct hash *result_hash; /* NULL: the source's */
    struct unpack *unpack;
    struct sparse_writer writer;
    struct larder_error error;
    struct ring *ring;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t in_flight; /* buffers put and not given back, under lock */
    bool is_done;     /* the thread is about to return, under lock */
    _Atomic bool is_stopping;
    _Atomic uint64_t result_bytes;

    bool has_lock; /* lock and changed are initialised */
    bool is_running;
    pthread_t thread;
};

/* ---- the thread ---- */

static int take_unpacked(void *arg, const void *data, size_t n, struct larder_error *e)
{
    struct pipeline *p = arg;
    /* One input buffer may unpack to gigabytes: don't finish it when nobody waits any more. */
    if (atomic_load_explicit(&p->is_stopping, memory_order_relaxed))
        return error_set(e, LARDER_CANCELED, "canceled");
    hash_update(p->result_hash, data, n);
    int rc = sparse_write(&p->writer, data, n, e);
    if (rc == 0)
        atomic_fetch_add_explicit(&p->result_bytes, n, memory_order_release);
    return rc;
}

static int consume(struct pipeline *p, struct larder_error *e)
{
    struct ring_buffer *b;
    while ((b = ring_get_full(p->ring))) {
        hash_update(p->source_hash, b->data, b->n);
        int rc = p->unpack ? unpack_push(p->unpack, b->data, b->n, e) : 0;
        ring_put_free(p->ring, b);
        pthread_mutex_lock(&p->lock);
        p->in_flight--;
        pthread_cond_signal(&p->changed);
        pthread_mutex_unlock(&p->lock);
        if (rc < 0)
            return rc;
    }
    if (ring_is_aborted(p->ring))
        return error_set(e, LARDER_CANCELED, "canceled");
    if (!p->unpack)
        return 0;
    int rc = unpack_finish(p->unpack, e);
    return rc < 0 ? rc : sparse_finish(&p->writer, e);
}

static void *thread_main(void *arg)
{
    struct pipeline *p = arg;
    if (consume(p, &p->error) < 0)
        ring_abort(p->ring);
    pthread_mutex_lock(&p->lock);
    p->is_done = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- the caller's side ---- */

static int lock_init(struct pipeline *p, struct larder_error *e)
{
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0)
        return error_nomem(e);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int failed = pthread_cond_init(&p->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (failed)
        return error_nomem(e);
    pthread_mutex_init(&p->lock, NULL); /* can't fail without attributes */
    p->has_lock = true;
    return 0;
}

int pipeline_new(const struct pipeline_options *options, struct pipeline **ret,
                 struct larder_error *e)
{
    CLEANUP(pipeline_freep) struct pipeline *p = calloc(1, sizeof(*p));
    if (!p)
        return error_nomem(e);
    p->options = *options;
    p->writer.fd = options->unpack_fd;
    int rc = lock_init(p, e);
    if (rc == 0)
        rc = ring_new(PIPELINE_BUFFERS, PIPELINE_BUFFER_BYTES, &p->ring, e);
    if (rc < 0)
        return rc;
    *ret = TAKE_PTR(p);
    return 0;
}

static void stop(struct pipeline *p)
{
    if (!p->is_running)
        return;
    atomic_store(&p->is_stopping, true);
    ring_abort(p->ring);
    pthread_join(p->thread, NULL);
    p->is_running = false;
}

void pipeline_free(struct pipeline *p)
{
    if (!p)
        return;
    stop(p);
    ring_free(p->ring);
    unpack_free(p->unpack);
    hash_free(p->source_hash);
    hash_free(p->result_hash);
    if (p->has_lock) {
        pthread_cond_destroy(&p->changed);
        pthread_mutex_destroy(&p->lock);
    }
    free(p);
}

int pipeline_start(struct pipeline *p, enum unpack_format format, struct larder_error *e)
{
    const struct pipeline_options *o = &p->options;
    unsigned source_bits = o->source_alg_bits;
    int rc = 0;
    if (format == UNPACK_NONE)
        source_bits |= o->result_alg_bits;
    else
        rc = unpack_new(format, UNPACKED_MAX_BYTES, take_unpacked, p, &p->unpack, e);
    if (rc == 0 && format != UNPACK_NONE)
        rc = hash_new(o->result_alg_bits, &p->result_hash, e);
    if (rc == 0)
        rc = hash_new(source_bits, &p->source_hash, e);
    if (rc < 0)
        return rc;
    int failed = pthread_create(&p->thread, NULL, thread_main, p);
    if (failed)
        return error_errno_code(e, LARDER_NOMEM, failed, "transfer: cannot start a thread");
    p->is_running = true;
    return 0;
}

/* Waits once, at most PIPELINE_WAIT_NS; the lock is held. */
static void wait_changed(struct pipeline *p)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + PIPELINE_WAIT_NS;
    until.tv_sec += ns / NS_PER_S;
    until.tv_nsec = (long)(ns % NS_PER_S);
    pthread_cond_timedwait(&p->changed, &p->lock, &until);
}

static bool is_room(const struct pipeline *p)
{
    return p->in_flight < PIPELINE_BUFFERS || p->is_done;
}

static bool is_done(const struct pipeline *p)
{
    return p->is_done;
}

static int wait_until(struct pipeline *p, bool (*is_reached)(const struct pipeline *p),
                      struct larder_error *e)
{
    for (;;) {
        pthread_mutex_lock(&p->lock);
        bool reached = is_reached(p);
        if (!reached) {
            wait_changed(p);
            reached = is_reached(p);
        }
        pthread_mutex_unlock(&p->lock);
        if (reached)
            return 0;
        int rc = p->options.wait ? p->options.wait(p->options.arg, e) : 0;
        if (rc < 0)
            return rc;
    }
}

/* Joins a thread that is done and gives its error. */
static int reap(struct pipeline *p, struct larder_error *e)
{
    if (p->is_running)
        pthread_join(p->thread, NULL);
    p->is_running = false;
    if (p->error.code == LARDER_OK)
        return 0;
    if (e)
        *e = p->error;
    return -(int)p->error.code;
}

int pipeline_check(struct pipeline *p, struct larder_error *e)
{
    if (!ring_is_aborted(p->ring))
        return 0;
    return reap(p, e);
}

int pipeline_get(struct pipeline *p, struct ring_buffer **ret, struct larder_error *e)
{
    int rc = p->is_running ? wait_until(p, is_room, e) : 0;
    if (rc < 0)
        return rc;
    struct ring_buffer *b = ring_get_free(p->ring);
    if (!b) {
        rc = reap(p, e);
        return rc < 0 ? rc : error_set(e, LARDER_CANCELED, "canceled");
    }
    b->n = 0;
    *ret = b;
    return 0;
}

void pipeline_put(struct pipeline *p, struct ring_buffer *buffer)
{
    pthread_mutex_lock(&p->lock);
    p->in_flight++;
    pthread_mutex_unlock(&p->lock);
    ring_put_full(p->ring, buffer);
}

int pipeline_finish(struct pipeline *p, struct larder_error *e)
{
    ring_finish(p->ring);
    int rc = wait_until(p, is_done, e);
    return rc < 0 ? rc : reap(p, e);
}

uint64_t pipeline_result_bytes(const struct pipeline *p)
{
    return atomic_load_explicit(&p->result_bytes, memory_order_acquire);
}

static int finals(struct hash *h, unsigned bits, struct larder_digest *ret, struct larder_error *e)
{
    for (unsigned alg = 0; alg < LARDER_DIGEST_ALG_MAX; alg++) {
        if (!(bits & HASH_BIT(alg)))
            continue;
        int rc = hash_final(h, (enum larder_digest_alg)alg, &ret[alg], e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int pipeline_digests(struct pipeline *p, struct larder_digest *ret_source,
                     struct larder_digest *ret_result, struct larder_error *e)
{
    unsigned source = p->options.source_alg_bits;
    unsigned result = p->options.result_alg_bits;
    if (p->unpack) {
        int rc = finals(p->source_hash, source, ret_source, e);
        return rc < 0 ? rc : finals(p->result_hash, result, ret_result, e);
    }
    struct larder_digest all[LARDER_DIGEST_ALG_MAX] = {0};
    int rc = finals(p->source_hash, source | result, all, e);
    for (unsigned alg = 0; rc == 0 && alg < LARDER_DIGEST_ALG_MAX; alg++) {
        if (source & HASH_BIT(alg))
            ret_source[alg] = all[alg];
        if (result & HASH_BIT(alg))
            ret_result[alg] = all[alg];
    }
    return rc;
}
