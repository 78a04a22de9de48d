/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash_team.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/hash_many.h"
#include "base/pool.h"
#include "base/sha256_ni.h"

#define HELPERS_MAX 4U
/* Waking a helper costs as much as hashing this. */
#define WAKE_BYTES ((size_t)64 * 1024)
/*
 * Asked for this far before it is hashed: the bytes lie in the cache of the CPU that received them.
 * Measured: a fifth less time in the kernels, the same from 1 to 4 KiB.
 */
#define AHEAD_BYTES 2048U

struct hash_stream {
    struct hash_team *team;
    /* The team's lock: */
    struct hash_buffer *first; /* filled, not hashed; those of a busy stream only grow at the end */
    struct hash_buffer **end;
    struct hash_stream *next; /* in the team's list of ready streams */
    bool is_ready;            /* in that list: has buffers, and nobody hashes them */
    bool is_busy;             /* somebody hashes: what follows is theirs, else the owner's */
    size_t taken_bytes;       /* of `first`, hashed already */
    uint32_t state[SHA256_STATE_WORDS];
    struct hash *evp; /* NULL: the kernels */
    enum larder_digest_alg alg;
    uint64_t total_bytes;
    uint8_t rest[SHA256_BLOCK_BYTES]; /* after the last whole block */
    size_t n_rest;
};

struct hash_team {
    pthread_mutex_t lock;  /* of all below */
    pthread_cond_t change; /* a buffer is free, or a stream is no longer busy */
    pthread_cond_t work;   /* for the helpers: a stream became ready, or all is over */
    struct hash_buffer *free;
    struct hash_stream *ready;
    struct hash_stream **ready_end;
    unsigned n_waiting;
    unsigned n_streams;
    bool is_over;
    bool is_fast;
    struct hash_buffer *buffers;
    char *memory;
    pthread_t helpers[HELPERS_MAX];
    unsigned n_helpers;
};

/* --- under the lock --- */

static void ready_add(struct hash_team *t, struct hash_stream *s)
{
    if (s->is_ready || s->is_busy || !s->first)
        return;
    s->is_ready = true;
    s->next = NULL;
    *t->ready_end = s;
    t->ready_end = &s->next;
}

static void ready_remove(struct hash_team *t, struct hash_stream *s)
{
    struct hash_stream **at = &t->ready;

    if (!s->is_ready)
        return;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    if (!s->next)
        t->ready_end = at;
    s->is_ready = false;
}

static void buffer_free(struct hash_team *t, struct hash_buffer *b)
{
    if (b->is_shared) { /* the last of two frees it */
        b->is_shared = false;
        return;
    }
    b->next = t->free;
    t->free = b;
    if (t->n_waiting)
        pthread_cond_broadcast(&t->change);
}

/* --- hashing, without the lock: the streams are busy, hence ours --- */

/* Takes as much as all the streams have in their first buffers. */
static void hash_together(struct hash_stream *const streams[], unsigned count)
{
    uint32_t *state[SHA256_NI_STREAMS];
    const uint8_t *data[SHA256_NI_STREAMS];
    const uint8_t *ahead[SHA256_NI_STREAMS];
    struct hash_stream *fast[SHA256_NI_STREAMS];
    size_t blocks = SIZE_MAX;
    unsigned n = 0;

    for (unsigned i = 0; i < count; i++) {
        struct hash_stream *s = streams[i];
        const char *p = s->first->data + s->taken_bytes;
        size_t left = s->first->n - s->taken_bytes;
        if (s->evp) {
            hash_update(s->evp, p, left);
            s->taken_bytes += left;
        } else if (left < SHA256_BLOCK_BYTES) {
            memcpy(s->rest, p, left);
            s->n_rest = left;
            s->taken_bytes += left;
        } else {
            state[n] = s->state;
            data[n] = (const uint8_t *)p;
            ahead[n] = data[n] + AHEAD_BYTES;
            fast[n++] = s;
            if (left / SHA256_BLOCK_BYTES < blocks)
                blocks = left / SHA256_BLOCK_BYTES;
        }
    }
    if (n == 0)
        return;
    sha256_ni_blocks(n, state, data, ahead, blocks);
    for (unsigned i = 0; i < n; i++)
        fast[i]->taken_bytes += blocks * SHA256_BLOCK_BYTES;
}

/* One round of up to four ready streams; false when there is none. The lock is held, but not while
 * hashing. */
static bool hash_round(struct hash_team *t)
{
    struct hash_stream *streams[SHA256_NI_STREAMS];
    unsigned n = 0;

    while (t->ready && n < SHA256_NI_STREAMS) {
        struct hash_stream *s = t->ready;
        ready_remove(t, s);
        s->is_busy = true;
        streams[n++] = s;
    }
    if (n == 0)
        return false;
    pthread_mutex_unlock(&t->lock);
    hash_together(streams, n);
    pthread_mutex_lock(&t->lock);
    for (unsigned i = 0; i < n; i++) {
        struct hash_stream *s = streams[i];
        struct hash_buffer *b = s->first;
        s->is_busy = false;
        if (s->taken_bytes == b->n) {
            s->total_bytes += b->n;
            s->taken_bytes = 0;
            s->first = b->next;
            if (!s->first)
                s->end = &s->first;
            buffer_free(t, b);
        }
        ready_add(t, s);
    }
    if (t->n_waiting)
        pthread_cond_broadcast(&t->change);
    return true;
}

/* For a helper: several streams are waited for, as two cost little more than one. */
static bool is_worth_it(const struct hash_team *t)
{
    return t->ready && (t->n_streams == 1 || t->ready->next);
}

static void *helper_main(void *arg)
{
    struct hash_team *t = arg;

    pthread_mutex_lock(&t->lock);
    while (!t->is_over) {
        if (!is_worth_it(t) || !hash_round(t))
            pthread_cond_wait(&t->work, &t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static void team_wait(struct hash_team *t)
{
    t->n_waiting++;
    pthread_cond_wait(&t->change, &t->lock);
    t->n_waiting--;
}

/* --- the team --- */

unsigned hash_team_helpers(void)
{
    return sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 1 : 0;
}

static int team_init_locks(struct hash_team *t, struct larder_error *e)
{
    if (pthread_mutex_init(&t->lock, NULL) != 0)
        return error_nomem(e);
    if (pthread_cond_init(&t->change, NULL) != 0) {
        pthread_mutex_destroy(&t->lock);
        return error_nomem(e);
    }
    if (pthread_cond_init(&t->work, NULL) != 0) {
        pthread_cond_destroy(&t->change);
        pthread_mutex_destroy(&t->lock);
        return error_nomem(e);
    }
    return 0;
}

int hash_team_new(unsigned helpers, size_t buffers, size_t buffer_bytes, struct hash_team **ret,
                  struct larder_error *e)
{
    CLEANUP(hash_team_freep) struct hash_team *made = NULL;
    struct hash_team *t;
    size_t total;
    void *memory;
    int rc;

    if (buffers == 0 || buffer_bytes == 0 || buffer_bytes % 4096 != 0 ||
        __builtin_mul_overflow(buffers, buffer_bytes, &total))
        return error_set(e, LARDER_INVAL, "%zu buffers of %zu bytes: impossible", buffers,
                         buffer_bytes);
    t = calloc(1, sizeof(*t));
    if (!t)
        return error_nomem(e);
    rc = team_init_locks(t, e);
    if (rc < 0) {
        free(t);
        return rc;
    }
    made = t;
    t->ready_end = &t->ready;
    t->is_fast = hash_has_fast_sha256();
    t->buffers = calloc(buffers, sizeof(*t->buffers));
    if (!t->buffers || posix_memalign(&memory, 4096, total) != 0)
        return error_nomem(e);
    t->memory = memory;
    /* The first one is given out first: few busy streams touch little memory. */
    for (size_t i = buffers; i-- > 0;) {
        t->buffers[i] =
            (struct hash_buffer){.data = t->memory + i * buffer_bytes, .cap = buffer_bytes};
        buffer_free(t, &t->buffers[i]);
    }
    /* Without helpers it works as well, only slower. */
    for (unsigned i = 0; i < helpers && i < HELPERS_MAX; i++) {
        if (pool_thread(&t->helpers[t->n_helpers], helper_main, t) == 0)
            t->n_helpers++;
    }
    *ret = TAKE_PTR(made);
    return 0;
}

void hash_team_free(struct hash_team *team)
{
    if (!team)
        return;
    pthread_mutex_lock(&team->lock);
    team->is_over = true;
    pthread_cond_broadcast(&team->work);
    pthread_mutex_unlock(&team->lock);
    for (unsigned i = 0; i < team->n_helpers; i++)
        pthread_join(team->helpers[i], NULL);
    pthread_cond_destroy(&team->work);
    pthread_cond_destroy(&team->change);
    pthread_mutex_destroy(&team->lock);
    free(team->memory);
    free(team->buffers);
    free(team);
}

/* --- streams --- */

static int stream_start(struct hash_stream *s, struct larder_error *e)
{
    sha256_ni_init(s->state);
    s->taken_bytes = s->n_rest = 0;
    s->total_bytes = 0;
    if (s->alg == LARDER_DIGEST_SHA256 && s->team->is_fast)
        return 0;
    hash_free(s->evp);
    s->evp = NULL;
    return hash_new(HASH_BIT(s->alg), &s->evp, e);
}

int hash_stream_new(struct hash_team *team, enum larder_digest_alg alg, struct hash_stream **ret,
                    struct larder_error *e)
{
    struct hash_stream *s = calloc(1, sizeof(*s));
    int rc;

    if (!s)
        return error_nomem(e);
    s->team = team;
    s->alg = alg;
    s->end = &s->first;
    rc = stream_start(s, e);
    if (rc < 0) {
        free(s);
        return rc;
    }
    pthread_mutex_lock(&team->lock);
    team->n_streams++;
    pthread_mutex_unlock(&team->lock);
    *ret = s;
    return 0;
}

/* Takes back all that was put and is not hashed. */
static void stream_drain(struct hash_stream *s)
{
    struct hash_team *t = s->team;

    pthread_mutex_lock(&t->lock);
    ready_remove(t, s);
    while (s->is_busy)
        team_wait(t);
    ready_remove(t, s);
    while (s->first) {
        struct hash_buffer *b = s->first;
        s->first = b->next;
        buffer_free(t, b);
    }
    s->end = &s->first;
    pthread_mutex_unlock(&t->lock);
}

void hash_stream_free(struct hash_stream *stream)
{
    if (!stream)
        return;
    stream_drain(stream);
    pthread_mutex_lock(&stream->team->lock);
    stream->team->n_streams--;
    pthread_mutex_unlock(&stream->team->lock);
    hash_free(stream->evp);
    free(stream);
}

struct hash_buffer *hash_stream_room(struct hash_stream *stream)
{
    struct hash_team *t = stream->team;
    struct hash_buffer *b;

    pthread_mutex_lock(&t->lock);
    while (!t->free) {
        if (!hash_round(t))
            team_wait(t);
    }
    b = t->free;
    t->free = b->next;
    b->n = 0;
    pthread_mutex_unlock(&t->lock);
    return b;
}

void hash_stream_put(struct hash_stream *stream, struct hash_buffer *buffer)
{
    struct hash_team *t = stream->team;

    pthread_mutex_lock(&t->lock);
    if (buffer->n == 0) {
        buffer_free(t, buffer);
    } else {
        bool is_large = buffer->n >= WAKE_BYTES;
        buffer->next = NULL;
        *stream->end = buffer;
        stream->end = &buffer->next;
        ready_add(t, stream);
        if (is_large && t->n_helpers && is_worth_it(t))
            pthread_cond_signal(&t->work);
    }
    pthread_mutex_unlock(&t->lock);
}

void hash_stream_share(struct hash_stream *stream, struct hash_buffer *buffer)
{
    buffer->is_shared = true;
    hash_stream_put(stream, buffer);
}

void hash_stream_release(struct hash_stream *stream, struct hash_buffer *buffer)
{
    struct hash_team *t = stream->team;

    pthread_mutex_lock(&t->lock);
    buffer_free(t, buffer);
    pthread_mutex_unlock(&t->lock);
}

bool hash_stream_is_alone(struct hash_stream *stream)
{
    struct hash_team *t = stream->team;

    pthread_mutex_lock(&t->lock);
    bool is_alone = t->n_streams == 1;
    pthread_mutex_unlock(&t->lock);
    return is_alone;
}

void hash_stream_drop(struct hash_stream *stream, struct hash_buffer *buffer)
{
    if (!buffer)
        return;
    buffer->n = 0;
    hash_stream_put(stream, buffer);
}

int hash_stream_reset(struct hash_stream *stream, struct larder_error *e)
{
    stream_drain(stream);
    return stream_start(stream, e);
}

int hash_stream_finish(struct hash_stream *stream, struct larder_digest *ret,
                       struct larder_error *e)
{
    struct hash_team *t = stream->team;
    struct larder_digest d = {.alg = stream->alg};

    pthread_mutex_lock(&t->lock);
    while (stream->first || stream->is_busy) {
        if (!hash_round(t))
            team_wait(t);
    }
    pthread_mutex_unlock(&t->lock);
    if (stream->evp)
        return hash_final(stream->evp, stream->alg, ret, e);
    sha256_ni_final(stream->state, stream->rest, stream->n_rest, stream->total_bytes, d.bytes);
    *ret = d;
    return 0;
}
