/* SPDX-License-Identifier: Apache-2.0 */
#include "store/write_behind.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/pool.h"

struct write_behind {
    struct hash_stream *stream;
    int (*write)(void *arg, struct hash_buffer *const *b, unsigned n, uint64_t at);
    void *arg;
    pthread_t thread;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t work;
    struct hash_buffer *first;
    struct hash_buffer **end;
    unsigned n;
    bool is_over; /* nothing more comes */
    int failed;   /* errno of the first failure */
};

/* Waits for enough of them, or the last ones; 0: there are no more. */
static unsigned next_buffers(struct write_behind *w, struct hash_buffer **ret)
{
    unsigned n = 0;

    while (w->n < WRITE_BEHIND_BUFFERS && !w->is_over)
        pthread_cond_wait(&w->work, &w->lock);
    for (; n < WRITE_BEHIND_BUFFERS && w->first; n++) {
        ret[n] = w->first;
        w->first = ret[n]->after;
    }
    if (!w->first)
        w->end = &w->first;
    w->n -= n;
    return n;
}

static void *writer_main(void *arg)
{
    struct write_behind *w = arg;
    struct hash_buffer *b[WRITE_BEHIND_BUFFERS];
    unsigned n;

    pthread_mutex_lock(&w->lock);
    while ((n = next_buffers(w, b)) > 0) {
        int failed = w->failed;
        pthread_mutex_unlock(&w->lock);
        if (!failed)
            failed = w->write(w->arg, b, n, b[0]->at);
        for (unsigned i = 0; i < n; i++)
            hash_stream_release(w->stream, b[i]);
        pthread_mutex_lock(&w->lock);
        w->failed = failed;
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

struct write_behind *write_behind_new(struct hash_stream *stream,
                                      int (*write)(void *arg, struct hash_buffer *const *b,
                                                   unsigned n, uint64_t at),
                                      void *arg)
{
    struct write_behind *w = calloc(1, sizeof(*w));

    if (!w)
        return NULL;
    w->stream = stream;
    w->write = write;
    w->arg = arg;
    w->end = &w->first;
    if (pthread_mutex_init(&w->lock, NULL) != 0)
        goto out;
    if (pthread_cond_init(&w->work, NULL) != 0) {
        pthread_mutex_destroy(&w->lock);
        goto out;
    }
    if (pool_thread(&w->thread, writer_main, w) == 0)
        return w;
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
out:
    free(w);
    return NULL;
}

int write_behind_put(struct write_behind *behind, struct hash_buffer *b, uint64_t at)
{
    int failed;

    b->at = at;
    b->after = NULL;
    pthread_mutex_lock(&behind->lock);
    failed = behind->failed;
    *behind->end = b;
    behind->end = &b->after;
    if (++behind->n == WRITE_BEHIND_BUFFERS)
        pthread_cond_signal(&behind->work);
    pthread_mutex_unlock(&behind->lock);
    return failed;
}

int write_behind_end(struct write_behind *behind)
{
    int failed;

    if (!behind)
        return 0;
    pthread_mutex_lock(&behind->lock);
    behind->is_over = true;
    pthread_cond_signal(&behind->work);
    pthread_mutex_unlock(&behind->lock);
    pthread_join(behind->thread, NULL);
    failed = behind->failed;
    pthread_cond_destroy(&behind->work);
    pthread_mutex_destroy(&behind->lock);
    free(behind);
    return failed;
}
