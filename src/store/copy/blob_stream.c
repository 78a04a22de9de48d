/* SPDX-License-Identifier: Apache-2.0 */
/*
 * REMOTE -> REMOTE. A thread (the feeder) receives and hashes, the lane sends, a ring is between
 * them. The feeder starts at the first byte that is asked for: a blob that is there or can be
 * mounted is not fetched. Each new start, also one in the middle, fetches from byte 0, so that
 * always the whole blob is hashed; the feeder keeps the last buffer back until the digest is right.
 *
 * A blob that fits one buffer needs no thread: it is fetched and checked before it is sent.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/ring.h"
#include "store/copy/blob_move.h"

#define RING_BUFFERS      4U
#define RING_BUFFER_BYTES ((size_t)128 * 1024)

struct stream {
    const struct blob_move *move;
    uint64_t size_bytes;
    _Atomic uint64_t sent_bytes; /* as told to progress */
    /* small: */
    char *small;
    uint64_t small_at;
    /* large; the ring is made anew for each start: */
    struct ring *ring;
    pthread_t thread;
    bool has_thread;
    atomic_bool is_stopped;
    uint64_t skip_bytes;         /* the feeder's: hashed but not sent */
    struct ring_buffer *current; /* the lane's, partly read */
    size_t current_at;
    uint64_t given_bytes; /* by this start, with what was skipped */
    /* the feeder's, read by the lane after the join */
    struct hash *hash;
    struct ring_buffer *filling;
    uint64_t got_bytes;
    int result;
    struct larder_error error;
};

static int other_size(const struct stream *s, uint64_t found, struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];

    return error_set(e, LARDER_MISMATCH, "blob %s from %s: %llu bytes or more, expected %llu",
                     larder_digest_format(&s->move->blob->digest, text), s->move->from->name,
                     (unsigned long long)found, (unsigned long long)s->size_bytes);
}

static int check_digest(const struct stream *s, struct larder_error *e)
{
    struct larder_digest found = {0};
    char text[LARDER_DIGEST_TEXT_BYTES];
    char expected[LARDER_DIGEST_TEXT_BYTES];
    int rc;

    if (s->got_bytes != s->size_bytes)
        return error_set(e, LARDER_MISMATCH, "blob %s from %s: %llu bytes, expected %llu",
                         larder_digest_format(&s->move->blob->digest, text), s->move->from->name,
                         (unsigned long long)s->got_bytes, (unsigned long long)s->size_bytes);
    rc = hash_final(s->hash, s->move->blob->digest.alg, &found, e);
    if (rc < 0)
        return rc;
    if (!larder_digest_equal(&found, &s->move->blob->digest))
        return error_set(e, LARDER_MISMATCH, "blob %s from %s: its bytes are %s",
                         larder_digest_format(&s->move->blob->digest, expected),
                         s->move->from->name, larder_digest_format(&found, text));
    return 0;
}

static int hash_anew(struct stream *s, struct larder_error *e)
{
    hash_free(s->hash);
    s->hash = NULL;
    s->got_bytes = 0;
    return hash_new(HASH_BIT(s->move->blob->digest.alg), &s->hash, e);
}

/* --- small --- */

static int small_write(void *arg, const void *data, size_t n, struct larder_error *e)
{
    struct stream *s = arg;

    if (n > s->size_bytes - s->got_bytes)
        return other_size(s, s->got_bytes + n, e);
    memcpy(s->small + s->got_bytes, data, n);
    hash_update(s->hash, data, n);
    s->got_bytes += n;
    return 0;
}

static int any_restart(void *arg, struct larder_error *e)
{
    return hash_anew(arg, e);
}

static int any_tick(void *arg, struct larder_error *e)
{
    struct stream *s = arg;

    if (atomic_load(&s->is_stopped))
        return error_set(e, LARDER_CANCELED, "canceled");
    return s->move->progress ? s->move->progress(s->move->arg, atomic_load(&s->sent_bytes), e) : 0;
}

static int small_load(struct stream *s, struct larder_error *e)
{
    const struct blob_sink sink = {NULL, small_write, any_restart, any_tick, s};
    int rc;

    s->small = malloc(s->size_bytes ? (size_t)s->size_bytes : 1);
    if (!s->small)
        return error_nomem(e);
    rc = hash_anew(s, e);
    if (rc == 0)
        rc = s->move->from->ops->blob_get(s->move->from, s->move->blob, 0, &sink, e);
    return rc < 0 ? rc : check_digest(s, e);
}

static int small_seek(void *arg, uint64_t offset, struct larder_error *e)
{
    struct stream *s = arg;

    (void)e;
    s->small_at = offset < s->size_bytes ? offset : s->size_bytes;
    return 0;
}

static int small_read(void *arg, void *to, size_t n, size_t *ret_n, struct larder_error *e)
{
    struct stream *s = arg;

    if (!s->small) {
        int rc = small_load(s, e);
        if (rc < 0) {
            free(TAKE_PTR(s->small));
            return rc;
        }
    }
    if (n > s->size_bytes - s->small_at)
        n = (size_t)(s->size_bytes - s->small_at);
    memcpy(to, s->small + s->small_at, n);
    s->small_at += n;
    *ret_n = n;
    return 0;
}

/* --- the feeder --- */

static int feed_put(struct stream *s, struct larder_error *e)
{
    struct ring_buffer *b = TAKE_PTR(s->filling);

    if (b && b->n)
        ring_put_full(s->ring, b);
    else if (b)
        ring_put_free(s->ring, b);
    return ring_is_aborted(s->ring) ? error_set(e, LARDER_CANCELED, "canceled") : 0;
}

static int feed_write(void *arg, const void *data, size_t n, struct larder_error *e)
{
    struct stream *s = arg;
    const char *p = data;

    if (n > s->size_bytes - s->got_bytes)
        return other_size(s, s->got_bytes + n, e);
    hash_update(s->hash, p, n);
    if (s->got_bytes < s->skip_bytes) {
        uint64_t skip = s->skip_bytes - s->got_bytes;
        if (skip > n)
            skip = n;
        p += skip;
        n -= (size_t)skip;
        s->got_bytes += skip;
    }
    while (n) {
        /* A full one goes when there is more, so that the last one stays here. */
        if (s->filling && s->filling->n == s->filling->cap) {
            int rc = feed_put(s, e);
            if (rc < 0)
                return rc;
        }
        if (!s->filling)
            s->filling = ring_get_free(s->ring);
        if (!s->filling)
            return error_set(e, LARDER_CANCELED, "canceled");
        size_t piece = s->filling->cap - s->filling->n;
        if (piece > n)
            piece = n;
        memcpy(s->filling->data + s->filling->n, p, piece);
        s->filling->n += piece;
        s->got_bytes += piece;
        p += piece;
        n -= piece;
    }
    return 0;
}

/* The source starts again, but what is in the ring was sent perhaps: skip that much. */
static int feed_restart(void *arg, struct larder_error *e)
{
    struct stream *s = arg;
    uint64_t in_hand = s->filling ? s->filling->n : 0;

    if (s->got_bytes > s->skip_bytes)
        s->skip_bytes = s->got_bytes - in_hand;
    if (s->filling)
        s->filling->n = 0;
    return hash_anew(s, e);
}

static void *feeder_main(void *arg)
{
    struct stream *s = arg;
    const struct blob_sink sink = {NULL, feed_write, feed_restart, any_tick, s};
    int rc = s->move->from->ops->blob_get(s->move->from, s->move->blob, 0, &sink, &s->error);

    if (rc >= 0)
        rc = check_digest(s, &s->error);
    if (rc >= 0)
        rc = feed_put(s, &s->error);
    if (s->filling)
        ring_put_free(s->ring, TAKE_PTR(s->filling));
    s->result = rc < 0 ? rc : 0;
    if (rc < 0)
        ring_abort(s->ring);
    else
        ring_finish(s->ring);
    return NULL;
}

static void feeder_stop(struct stream *s)
{
    if (s->has_thread) {
        atomic_store(&s->is_stopped, true);
        ring_abort(s->ring);
        pthread_join(s->thread, NULL);
        s->has_thread = false;
    }
    s->current = NULL;
    ring_free(TAKE_PTR(s->ring));
}

static int feeder_start(struct stream *s, uint64_t offset, struct larder_error *e)
{
    int rc = hash_anew(s, e);

    if (rc == 0)
        rc = ring_new(RING_BUFFERS, RING_BUFFER_BYTES, &s->ring, e);
    if (rc < 0)
        return rc;
    s->skip_bytes = s->given_bytes = offset;
    s->result = 0;
    error_clear(&s->error);
    atomic_store(&s->is_stopped, false);
    rc = pool_thread(&s->thread, feeder_main, s);
    if (rc != 0)
        return error_errno_code(e, LARDER_NOMEM, rc, "cannot start a thread");
    s->has_thread = true;
    return 0;
}

/* --- the lane's side --- */

static int large_seek(void *arg, uint64_t offset, struct larder_error *e)
{
    struct stream *s = arg;

    if (!s->ring && offset == 0)
        return 0; /* before the first read */
    if (s->ring && s->given_bytes == offset)
        return 0;
    feeder_stop(s);
    return feeder_start(s, offset, e);
}

/* Why the feeder stopped giving. */
static int feeder_error(struct stream *s, struct larder_error *e)
{
    if (s->has_thread) {
        pthread_join(s->thread, NULL);
        s->has_thread = false;
    }
    if (s->result == 0)
        return error_set(e, LARDER_CANCELED, "canceled");
    if (e)
        *e = s->error;
    return s->result;
}

static int large_read(void *arg, void *to, size_t n, size_t *ret_n, struct larder_error *e)
{
    struct stream *s = arg;
    int rc;

    if (!s->ring) {
        rc = feeder_start(s, 0, e);
        if (rc < 0)
            return rc;
    }
    if (!s->current) {
        s->current = ring_get_full(s->ring);
        s->current_at = 0;
        if (!s->current && ring_is_aborted(s->ring))
            return feeder_error(s, e);
    }
    if (!s->current) {
        *ret_n = 0;
        return 0;
    }
    if (n > s->current->n - s->current_at)
        n = s->current->n - s->current_at;
    memcpy(to, s->current->data + s->current_at, n);
    s->current_at += n;
    s->given_bytes += n;
    if (s->current_at == s->current->n)
        ring_put_free(s->ring, TAKE_PTR(s->current));
    *ret_n = n;
    return 0;
}

static int stream_sent(void *arg, uint64_t done_bytes, struct larder_error *e)
{
    struct stream *s = arg;

    atomic_store(&s->sent_bytes, done_bytes);
    return s->move->progress ? s->move->progress(s->move->arg, done_bytes, e) : 0;
}

int blob_move_stream(const struct blob_move *move, enum blob_how *ret, struct larder_error *e)
{
    struct stream s = {.move = move, .size_bytes = move->blob->size_bytes};
    bool is_small = s.size_bytes <= RING_BUFFER_BYTES;
    struct blob_source source = {.extent = {.fd = -1},
                                 .seek = is_small ? small_seek : large_seek,
                                 .read = is_small ? small_read : large_read,
                                 .sent = stream_sent,
                                 .arg = &s};
    int rc;

    atomic_init(&s.is_stopped, false);
    rc = move->to->ops->blob_put(move->to, move->blob, &source, move->mount_from, move->is_missing,
                                 ret, e);
    feeder_stop(&s);
    /* What the source did is worth more than that the upload broke off. */
    if (rc < 0 && s.result < 0 && s.result != -LARDER_CANCELED) {
        if (e)
            *e = s.error;
        rc = s.result;
    }
    hash_free(s.hash);
    free(s.small);
    return rc;
}
