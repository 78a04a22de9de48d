/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/relay.h"

#ifndef __SANITIZE_THREAD__
#define POOL_STACK_BYTES ((size_t)768 * 1024)
#else
/* ThreadSanitizer takes as much of each stack for itself. */
#define POOL_STACK_BYTES ((size_t)1536 * 1024)
#endif
#define TICK_NS (100 * NS_PER_MS)

struct pool {
    const struct pool_job *job;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t ended;
    unsigned n_running;
    unsigned n_started;
    int result;
    struct larder_error error;
};

int pool_thread(pthread_t *ret, void *(*fn)(void *arg), void *arg)
{
    pthread_attr_t attr;
    sigset_t all;
    sigset_t old;
    int rc = pthread_attr_init(&attr);

    if (rc != 0)
        return rc;
    rc = pthread_attr_setstacksize(&attr, POOL_STACK_BYTES);
    if (rc == 0) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        rc = pthread_create(ret, &attr, fn, arg);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    pthread_attr_destroy(&attr);
    return rc;
}

static void *pool_lane(void *arg)
{
    struct pool *p = arg;
    struct larder_error e = LARDER_ERROR_INIT;
    unsigned number;
    bool is_first = false;
    int rc;

    pthread_mutex_lock(&p->lock);
    number = p->n_started++;
    pthread_mutex_unlock(&p->lock);
    rc = p->job->lane(p->job->arg, number, &e);
    pthread_mutex_lock(&p->lock);
    if (rc < 0 && p->result == 0) {
        p->result = rc;
        p->error = e;
        is_first = true;
    }
    pthread_mutex_unlock(&p->lock);
    /* Without the lock: stop may take locks that lanes hold. The pool lives until n_running is 0.
     */
    if (is_first)
        p->job->stop(p->job->arg);
    pthread_mutex_lock(&p->lock);
    p->n_running--;
    pthread_cond_signal(&p->ended);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Until all lanes have ended. */
static void pool_watch(struct pool *p)
{
    const struct pool_job *job = p->job;
    int64_t due = clock_monotonic_ns() + TICK_NS;
    bool is_canceled = false;

    pthread_mutex_lock(&p->lock);
    while (p->n_running) {
        struct timespec until = {(time_t)(due / NS_PER_S), (long)(due % NS_PER_S)};
        pthread_cond_timedwait(&p->ended, &p->lock, &until);
        if (!p->n_running || clock_monotonic_ns() < due)
            continue;
        pthread_mutex_unlock(&p->lock);
        if (job->tick)
            job->tick(job->arg);
        if (observer_pump(job->observer) && !is_canceled) {
            is_canceled = true;
            job->stop(job->arg);
        }
        due = clock_monotonic_ns() + TICK_NS;
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    if (is_canceled && (p->result == 0 || p->result == -LARDER_CANCELED))
        p->result = error_set(&p->error, LARDER_CANCELED, "canceled");
}

static int pool_init(struct pool *p, struct larder_error *e)
{
    pthread_condattr_t attr;
    int rc;

    if (pthread_mutex_init(&p->lock, NULL) != 0)
        return error_nomem(e);
    if (pthread_condattr_init(&attr) != 0) {
        pthread_mutex_destroy(&p->lock);
        return error_nomem(e);
    }
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    rc = pthread_cond_init(&p->ended, &attr);
    pthread_condattr_destroy(&attr);
    if (rc != 0) {
        pthread_mutex_destroy(&p->lock);
        return error_nomem(e);
    }
    return 0;
}

int pool_run(const struct pool_job *job, struct larder_error *e)
{
    struct pool p = {.job = job};
    pthread_t threads[POOL_LANES_MAX];
    unsigned lanes = job->lanes ? job->lanes : POOL_LANES_DEFAULT;
    unsigned n = 0;
    int failed = 0;
    int rc = pool_init(&p, e);

    if (rc < 0)
        return rc;
    if (lanes > POOL_LANES_MAX)
        lanes = POOL_LANES_MAX;
    /* Fewer than asked for do it, too. */
    while (n < lanes && !failed) {
        pthread_mutex_lock(&p.lock);
        p.n_running++;
        pthread_mutex_unlock(&p.lock);
        failed = pool_thread(&threads[n], pool_lane, &p);
        if (!failed) {
            n++;
            continue;
        }
        pthread_mutex_lock(&p.lock);
        p.n_running--;
        pthread_mutex_unlock(&p.lock);
    }
    if (n == 0) {
        p.result = error_errno_code(&p.error, LARDER_NOMEM, failed, "cannot start a thread");
    } else {
        pool_watch(&p);
        for (unsigned i = 0; i < n; i++)
            pthread_join(threads[i], NULL);
        observer_pump(job->observer);
    }
    pthread_cond_destroy(&p.ended);
    pthread_mutex_destroy(&p.lock);
    if (p.result < 0 && e)
        *e = p.error;
    return p.result < 0 ? p.result : 0;
}

/* --- one call for each of n things --- */

struct each {
    size_t n;
    atomic_size_t next;
    atomic_bool stop;
    int (*fn)(void *arg, size_t i, struct larder_error *e);
    void *arg;
};

static int each_lane(void *arg, unsigned number, struct larder_error *e)
{
    struct each *each = arg;

    (void)number;
    while (!atomic_load(&each->stop)) {
        size_t i = atomic_fetch_add(&each->next, 1);
        if (i >= each->n)
            break;
        int rc = each->fn(each->arg, i, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void each_stop(void *arg)
{
    struct each *each = arg;

    atomic_store(&each->stop, true);
}

int pool_each(unsigned lanes, size_t n, const struct larder_observer *observer,
              int (*fn)(void *arg, size_t i, struct larder_error *e), void *arg,
              struct larder_error *e)
{
    struct each each = {.n = n, .fn = fn, .arg = arg};
    struct pool_job job = {.lanes = lanes ? lanes : POOL_LANES_DEFAULT,
                           .observer = observer,
                           .lane = each_lane,
                           .stop = each_stop,
                           .arg = &each};

    if (n == 0)
        return 0;
    if (job.lanes > n)
        job.lanes = (unsigned)n;
    if (job.lanes > 1)
        return pool_run(&job, e);
    for (size_t i = 0; i < n; i++) {
        if (observer_pump(observer))
            return error_set(e, LARDER_CANCELED, "canceled");
        int rc = fn(arg, i, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}
