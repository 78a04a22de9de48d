/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A bounded queue of large buffers between one producing and one consuming thread, the pipe of
 * every "hash while the bytes pass". The producer waits when all buffers are full: memory is
 * bounded and a slow side slows the other.
 *
 *   producer: ring_get_free -> fill -> ring_put_full ...  ring_finish
 *   consumer: ring_get_full -> use  -> ring_put_free ...  until false
 *   either:   ring_abort makes the other side stop waiting (get returns NULL/false)
 */
#include <stdbool.h>
#include <stddef.h>

#include <larder/error.h>

#include "base/mem.h"

struct ring;
struct ring_buffer {
    char *data;
    size_t n; /* bytes used */
    size_t cap;
};

int ring_new(size_t buffers, size_t buffer_bytes, struct ring **ret, struct larder_error *e);
void ring_free(struct ring *r);
DEFINE_CLEANUP(struct ring *, ring_free)
struct ring_buffer *ring_get_free(struct ring *r); /* NULL: aborted */
void ring_put_full(struct ring *r, struct ring_buffer *b);
void ring_finish(struct ring *r);
struct ring_buffer *ring_get_full(struct ring *r); /* NULL: finished and empty, or aborted */
void ring_put_free(struct ring *r, struct ring_buffer *b);
void ring_abort(struct ring *r);
bool ring_is_aborted(struct ring *r);
