/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ring.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/error.h"

/* Pages, so that reads and writes of whole buffers need no bouncing. */
#define ALIGN_BYTES 4096

/* First in, first out, of at most `count` buffers. */
struct queue {
    struct ring_buffer **items;
    size_t first;
    size_t n;
};

struct ring {
    pthread_mutex_t lock;  /* protects all below */
    pthread_cond_t change; /* of either queue, or of the two flags */
    size_t count;
    struct queue free;
    struct queue full;
    bool is_finished;
    bool is_aborted;
    struct ring_buffer *buffers;
    char *memory;
};

static void queue_put(const struct ring *r, struct queue *q, struct ring_buffer *b)
{
    q->items[(q->first + q->n) % r->count] = b;
    q->n++;
}

static struct ring_buffer *queue_get(const struct ring *r, struct queue *q)
{
    struct ring_buffer *b = q->items[q->first];

    q->first = (q->first + 1) % r->count;
    q->n--;
    return b;
}

int ring_new(size_t buffers, size_t buffer_bytes, struct ring **ret, struct larder_error *e)
{
    CLEANUP(ring_freep) struct ring *made = NULL;
    struct ring *r;
    size_t stride;
    size_t total;
    void *memory;

    if (buffers == 0 || buffer_bytes == 0 || buffer_bytes > SIZE_MAX - ALIGN_BYTES)
        return error_set(e, LARDER_INVAL, "ring of %zu buffers of %zu bytes: impossible", buffers,
                         buffer_bytes);
    stride = (buffer_bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    if (__builtin_mul_overflow(stride, buffers, &total))
        return error_nomem(e);
    r = calloc(1, sizeof(*r));
    if (!r)
        return error_nomem(e);
    /* ring_free destroys what these two make, so it must not see r before. */
    if (pthread_mutex_init(&r->lock, NULL) != 0) {
        free(r);
        return error_nomem(e);
    }
    if (pthread_cond_init(&r->change, NULL) != 0) {
        pthread_mutex_destroy(&r->lock);
        free(r);
        return error_nomem(e);
    }
    made = r;
    r->count = buffers;
    r->buffers = calloc(buffers, sizeof(*r->buffers));
    r->free.items = calloc(buffers, sizeof(*r->free.items));
    r->full.items = calloc(buffers, sizeof(*r->full.items));
    if (!r->buffers || !r->free.items || !r->full.items ||
        posix_memalign(&memory, ALIGN_BYTES, total) != 0)
        return error_nomem(e);
    r->memory = memory;
    for (size_t i = 0; i < buffers; i++) {
        r->buffers[i] = (struct ring_buffer){r->memory + i * stride, 0, buffer_bytes};
        queue_put(r, &r->free, &r->buffers[i]);
    }
    *ret = TAKE_PTR(made);
    return 0;
}

void ring_free(struct ring *r)
{
    if (!r)
        return;
    pthread_cond_destroy(&r->change);
    pthread_mutex_destroy(&r->lock);
    free(r->memory);
    free(r->buffers);
    free(r->free.items);
    free(r->full.items);
    free(r);
}

struct ring_buffer *ring_get_free(struct ring *r)
{
    struct ring_buffer *b = NULL;

    pthread_mutex_lock(&r->lock);
    while (!r->is_aborted && r->free.n == 0)
        pthread_cond_wait(&r->change, &r->lock);
    if (!r->is_aborted) {
        b = queue_get(r, &r->free);
        b->n = 0;
    }
    pthread_mutex_unlock(&r->lock);
    return b;
}

struct ring_buffer *ring_get_full(struct ring *r)
{
    struct ring_buffer *b = NULL;

    pthread_mutex_lock(&r->lock);
    while (!r->is_aborted && !r->is_finished && r->full.n == 0)
        pthread_cond_wait(&r->change, &r->lock);
    if (!r->is_aborted && r->full.n > 0)
        b = queue_get(r, &r->full);
    pthread_mutex_unlock(&r->lock);
    return b;
}

static void put(struct ring *r, struct queue *q, struct ring_buffer *b)
{
    pthread_mutex_lock(&r->lock);
    queue_put(r, q, b);
    pthread_cond_broadcast(&r->change);
    pthread_mutex_unlock(&r->lock);
}

void ring_put_full(struct ring *r, struct ring_buffer *b)
{
    put(r, &r->full, b);
}

void ring_put_free(struct ring *r, struct ring_buffer *b)
{
    put(r, &r->free, b);
}

static void raise_flag(struct ring *r, bool *flag)
{
    pthread_mutex_lock(&r->lock);
    *flag = true;
    pthread_cond_broadcast(&r->change);
    pthread_mutex_unlock(&r->lock);
}

void ring_finish(struct ring *r)
{
    raise_flag(r, &r->is_finished);
}

void ring_abort(struct ring *r)
{
    raise_flag(r, &r->is_aborted);
}

bool ring_is_aborted(struct ring *r)
{
    bool aborted;

    pthread_mutex_lock(&r->lock);
    aborted = r->is_aborted;
    pthread_mutex_unlock(&r->lock);
    return aborted;
}
