/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who hashes what: the caller's thread only waits and reports; workers take jobs into lanes.
 *
 *   jobs[next..count)  --take-->  lanes of a worker  --job over-->  unused lanes
 *                                   |          ^
 *                                   '-- given -'   a worker with two or more gives one to an
 *                                                  idle one, so that a long tail uses all CPUs
 *
 * No worker takes more than its share of what is left: four jobs on two CPUs run two by two.
 */
#include "base/hash_many.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/hash_lane.h"
#include "base/hash_pace.h"
#include "base/mem.h"
#include "base/sha256_ni.h"

/* More threads than this only fight for memory bandwidth, and 8 * 4 lanes show as 34 MiB. */
#define THREADS_MAX 8
/* Ten reports a second at most (larder/observer.h); also how late a cancel is seen. */
#define REPORT_NS (100 * NS_PER_MS)

struct pool {
    struct hash_job *jobs;
    size_t count;
    unsigned threads;
    unsigned lanes_per_thread;
    bool fast;
    enum hash_read_cache cache;
    bool background;
    struct hash_pace pace;
    atomic_bool canceled;
    atomic_uint_fast64_t done_bytes; /* hashed, holes included */

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t idle;  /* a lane was given, or all is over */
    pthread_cond_t ended; /* a worker has ended */
    size_t next;          /* first job nobody has taken */
    unsigned active;      /* lanes with a job, in workers or given */
    unsigned hungry;      /* workers waiting for a lane */
    unsigned running;     /* workers that have not ended */
    struct lane *given;
    struct lane *unused;
    const char *object; /* of the job started last */
};

struct worker {
    struct pool *pool;
    struct lane *lanes[SHA256_NI_STREAMS];
    unsigned busy;
};

static bool fast_is_right;
static pthread_once_t fast_once = PTHREAD_ONCE_INIT;

static void fast_check(void)
{
    fast_is_right = sha256_ni_is_there() && lanes_check();
}

bool hash_has_fast_sha256(void)
{
    pthread_once(&fast_once, fast_check);
    return fast_is_right;
}

/* --- handing out work; the pool's lock is held --- */

/* How many lanes a worker may have now, so that each has something and none more than its share. */
static unsigned fair_share(const struct pool *p)
{
    size_t todo = p->active + (p->count - p->next);
    size_t share = (todo + p->threads - 1) / p->threads;
    return share < p->lanes_per_thread ? (unsigned)share : p->lanes_per_thread;
}

/* Nothing is left to take, somebody waits, and this worker has lanes to spare. */
static void give_lane(struct pool *p, struct worker *w)
{
    if (!p->hungry || p->given || w->busy < 2 || p->next < p->count)
        return;
    struct lane *l = w->lanes[--w->busy];
    l->next = p->given;
    p->given = l;
    pthread_cond_signal(&p->idle);
}

static bool all_is_over(const struct pool *p)
{
    return p->active == 0 && (p->next == p->count || atomic_load(&p->canceled));
}

/* A job for this worker, or NULL; *ret_lane is the lane for it. */
static struct hash_job *take_job(struct pool *p, struct lane **ret_lane)
{
    if (p->next == p->count || atomic_load(&p->canceled))
        return NULL;
    struct hash_job *job = &p->jobs[p->next++];
    *ret_lane = p->unused;
    p->unused = p->unused->next;
    p->active++;
    p->object = job->object;
    return job;
}

/* --- a worker --- */

static void lane_is_over(struct pool *p, struct lane *l)
{
    pthread_mutex_lock(&p->lock);
    l->next = p->unused;
    p->unused = l;
    p->active--;
    if (all_is_over(p))
        pthread_cond_broadcast(&p->idle);
    pthread_mutex_unlock(&p->lock);
}

/* Gets lanes up to the share; waits when there is none at all. false: all is over. */
static bool worker_gather(struct worker *w)
{
    struct pool *p = w->pool;
    bool more = true;

    pthread_mutex_lock(&p->lock);
    give_lane(p, w);
    while (more) {
        struct lane *l = NULL;
        struct hash_job *job = NULL;
        if (w->busy < p->lanes_per_thread && p->given) {
            l = p->given;
            p->given = l->next;
            w->lanes[w->busy++] = l;
        } else if (w->busy < fair_share(p) && (job = take_job(p, &l))) {
            pthread_mutex_unlock(&p->lock);
            if (lane_start(l, job, p->fast, p->cache))
                w->lanes[w->busy++] = l;
            else
                lane_is_over(p, l);
            pthread_mutex_lock(&p->lock);
        } else if (w->busy || all_is_over(p)) {
            more = false;
        } else {
            p->hungry++;
            pthread_cond_wait(&p->idle, &p->lock);
            p->hungry--;
        }
    }
    pthread_mutex_unlock(&p->lock);
    return w->busy > 0;
}

static void worker_remove(struct worker *w, unsigned i)
{
    struct lane *l = w->lanes[i];

    w->lanes[i] = w->lanes[--w->busy];
    lane_is_over(w->pool, l);
}

/* Reads what is used up, then hashes as far as all lanes go together. */
static void worker_step(struct worker *w)
{
    struct pool *p = w->pool;
    uint64_t done = 0;

    for (unsigned i = 0; i < w->busy;) {
        size_t read_bytes = 0;
        uint64_t before = w->lanes[i]->size_bytes;
        struct lane *l = w->lanes[i];
        struct hash_job *job = l->job;
        bool goes_on = lane_fill(l, &read_bytes);
        done += (goes_on ? l->size_bytes : job->size_bytes) - before;
        if (read_bytes)
            hash_pace_wait(&p->pace, read_bytes);
        if (goes_on)
            i++;
        else
            worker_remove(w, i);
    }
    atomic_fetch_add_explicit(&p->done_bytes, done, memory_order_relaxed);
    if (w->busy)
        lanes_hash(w->lanes, w->busy);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;

    if (p->background)
        hash_pace_background_thread();
    while (worker_gather(w)) {
        if (!atomic_load_explicit(&p->canceled, memory_order_relaxed)) {
            worker_step(w);
            continue;
        }
        while (w->busy) {
            lane_abort(w->lanes[0], LARDER_CANCELED, "canceled");
            worker_remove(w, 0);
        }
    }
    pthread_mutex_lock(&p->lock);
    p->running--;
    pthread_cond_signal(&p->ended);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* --- the caller's thread --- */

/* Before the workers start: afterwards the descriptors are theirs. 0: unknown. */
static uint64_t total_bytes(const struct hash_job *jobs, size_t count)
{
    uint64_t total = 0;

    for (size_t i = 0; i < count; i++) {
        struct stat st;
        if (jobs[i].expected_bytes)
            total += jobs[i].expected_bytes;
        else if (jobs[i].fd < 0)
            return 0;
        else if (fstat(jobs[i].fd, &st) == 0 && st.st_size > 0)
            total += (uint64_t)st.st_size;
    }
    return total;
}

static void report(struct pool *p, const struct hash_many_options *o, uint64_t total,
                   const char *object, bool is_finished)
{
    if (!o->observer || !o->observer->progress)
        return;
    struct larder_progress progress = {
        .what = o->what ? o->what : "verify",
        .object = object ? object : "",
        .done_bytes = atomic_load_explicit(&p->done_bytes, memory_order_relaxed),
        .total_bytes = total,
        .is_finished = is_finished,
    };
    o->observer->progress(o->observer->arg, &progress);
}

/* Waits for the workers; callbacks are made without the lock. */
static void watch(struct pool *p, const struct hash_many_options *o, uint64_t total)
{
    const char *object = p->count ? p->jobs[0].object : NULL;
    int64_t due = clock_monotonic_ns() + REPORT_NS;

    pthread_mutex_lock(&p->lock);
    while (p->running) {
        struct timespec until = {(time_t)(due / NS_PER_S), (long)(due % NS_PER_S)};
        pthread_cond_timedwait(&p->ended, &p->lock, &until);
        if (!p->running || clock_monotonic_ns() < due)
            continue;
        object = p->object;
        pthread_mutex_unlock(&p->lock);
        report(p, o, total, object, false);
        bool cancel =
            o->observer && o->observer->is_canceled && o->observer->is_canceled(o->observer->arg);
        if (cancel)
            atomic_store(&p->canceled, true);
        due = clock_monotonic_ns() + REPORT_NS;
        pthread_mutex_lock(&p->lock);
        if (cancel)
            pthread_cond_broadcast(&p->idle);
    }
    object = p->object ? p->object : object;
    pthread_mutex_unlock(&p->lock);
    report(p, o, total, object, true);
}

/* What no worker has started gets its result here. */
static void end_rest(struct pool *p, enum larder_code code, const char *why)
{
    for (; p->next < p->count; p->next++) {
        struct hash_job *job = &p->jobs[p->next];
        memset(job->digests, 0, sizeof(job->digests));
        job->size_bytes = job->read_bytes = 0;
        job->result =
            error_set(&job->error, code, "%s: %s", job->object ? job->object : "file", why);
        if (job->fd >= 0 && job->close)
            job->close(job);
    }
}

static unsigned thread_count(const struct hash_many_options *o, size_t jobs)
{
    long cpus = o->threads ? (long)o->threads : sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = cpus < 1 ? 1 : cpus > THREADS_MAX ? THREADS_MAX : (unsigned)cpus;
    return jobs < n ? (unsigned)jobs : n;
}

/* Signals stay with the program's own threads. Returns how many were started. */
static unsigned start_workers(struct pool *p, struct worker *workers, pthread_t *threads)
{
    sigset_t all, before;
    unsigned n = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&p->lock); /* nobody counts until all are there */
    while (n < p->threads) {
        workers[n] = (struct worker){.pool = p};
        if (pthread_create(&threads[n], NULL, worker_main, &workers[n]) != 0)
            break;
        n++;
    }
    p->threads = p->running = n;
    pthread_mutex_unlock(&p->lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return n;
}

static void pool_init(struct pool *p, const struct hash_many_options *o)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->idle, NULL);
    pthread_cond_init(&p->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    hash_pace_init(&p->pace, o->max_bytes_per_s, o->background, &p->canceled);
}

static void pool_done(struct pool *p)
{
    hash_pace_done(&p->pace);
    pthread_cond_destroy(&p->ended);
    pthread_cond_destroy(&p->idle);
    pthread_mutex_destroy(&p->lock);
}

int hash_many(struct hash_job *jobs, size_t count, const struct hash_many_options *options,
              struct larder_error *e)
{
    static const struct hash_many_options defaults;
    const struct hash_many_options *o = options ? options : &defaults;
    struct worker workers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    struct lane lanes[THREADS_MAX * SHA256_NI_STREAMS] = {0};

    if (count == 0)
        return 0;
    bool fast = !o->force_evp && hash_has_fast_sha256();
    struct pool p = {
        .jobs = jobs,
        .count = count,
        .threads = thread_count(o, count),
        .lanes_per_thread = fast ? SHA256_NI_STREAMS : 1,
        .fast = fast,
        .cache = o->keep_cache ? HASH_READ_KEEP : HASH_READ_AUTO,
        .background = o->background,
    };
    for (unsigned i = 0; i < p.threads * p.lanes_per_thread; i++) {
        lanes[i].next = p.unused;
        p.unused = &lanes[i];
    }
    pool_init(&p, o);
    uint64_t total = o->observer && o->observer->progress ? total_bytes(jobs, count) : 0;
    unsigned started = start_workers(&p, workers, threads);
    if (started)
        watch(&p, o, total);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < ARRAY_LEN(lanes); i++)
        lane_done(&lanes[i]);

    int rc = 0;
    if (!started) {
        end_rest(&p, LARDER_NOMEM, "no thread for it");
        rc = error_set(e, LARDER_NOMEM, "%s: cannot start a thread", o->what ? o->what : "hash");
    } else if (atomic_load(&p.canceled)) {
        end_rest(&p, LARDER_CANCELED, "canceled");
        rc = error_set(e, LARDER_CANCELED, "%s: canceled", o->what ? o->what : "hash");
    }
    pool_done(&p);
    return rc;
}
