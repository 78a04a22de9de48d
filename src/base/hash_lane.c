/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash_lane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static const char *job_object(const struct hash_job *job)
{
    return job->object ? job->object : "file";
}

void lane_done(struct lane *l)
{
    free(l->buffer);
    l->buffer = NULL;
}

/* The job's last step: nothing of the lane points to it afterwards. */
static void lane_release(struct lane *l, int result)
{
    struct hash_job *job = l->job;

    hash_read_done(&l->read);
    hash_free(l->evp);
    l->evp = NULL;
    l->job = NULL;
    l->span = (struct hash_span){NULL, 0, 0};
    job->size_bytes = l->size_bytes;
    job->result = result;
    if (job->close)
        job->close(job);
}

bool lane_start(struct lane *l, struct hash_job *job, bool fast, enum hash_read_cache cache)
{
    struct larder_error *e = &job->error;

    error_clear(e);
    job->size_bytes = job->read_bytes = 0;
    memset(job->digests, 0, sizeof(job->digests));
    if (job->fd < 0) {
        int rc = job->open ? job->open(job, e)
                           : error_set(e, LARDER_INVAL, "%s: not open", job_object(job));
        if (rc == 0 && job->fd < 0)
            rc = error_set(e, LARDER_INVAL, "%s: not open", job_object(job));
        if (rc < 0) {
            job->result = rc;
            return false;
        }
    }

    l->job = job;
    l->size_bytes = 0;
    l->span = (struct hash_span){NULL, 0, 0};
    l->ahead = NULL;
    sha256_ni_init(l->state);
    hash_read_init(&l->read, job->fd, cache);
    if (!l->buffer)
        l->buffer = malloc(LANE_BUFFER_BYTES);
    if (!l->buffer) {
        lane_release(l, error_nomem(e));
        return false;
    }
    if (!fast || job->alg_bits != HASH_BIT(LARDER_DIGEST_SHA256)) {
        int rc = hash_new(job->alg_bits, &l->evp, e);
        if (rc < 0) {
            lane_release(l, rc);
            return false;
        }
    }
    return true;
}

static void finish_fast(struct lane *l, const uint8_t *rest, size_t n)
{
    struct larder_digest *d = &l->job->digests[LARDER_DIGEST_SHA256];

    d->alg = LARDER_DIGEST_SHA256;
    sha256_ni_final(l->state, rest, n, l->size_bytes, d->bytes);
}

static int finish_evp(struct lane *l, const uint8_t *rest, size_t n)
{
    struct hash_job *job = l->job;

    if (n)
        hash_update(l->evp, rest, n);
    for (unsigned alg = 0; alg < LARDER_DIGEST_ALG_MAX; alg++) {
        if (!(job->alg_bits & HASH_BIT(alg)))
            continue;
        int rc = hash_final(l->evp, (enum larder_digest_alg)alg, &job->digests[alg], &job->error);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void lane_finish(struct lane *l)
{
    int rc = 0;

    if (l->evp)
        rc = finish_evp(l, l->span.p, l->span.n);
    else
        finish_fast(l, l->span.p, l->span.n);
    lane_release(l, rc);
}

bool lane_fill(struct lane *l, size_t *ret_read_bytes)
{
    struct hash_job *job = l->job;

    *ret_read_bytes = 0;
    if (l->span.n >= SHA256_BLOCK_BYTES)
        return true;
    /* Less than a block is left only at the end: every other span is whole blocks. */
    if (l->span.n == 0 && !l->read.at_end) {
        if (hash_read_next(&l->read, l->buffer, LANE_BUFFER_BYTES, &l->span) < 0) {
            int saved = errno;
            lane_release(l, error_errno(&job->error, saved, "%s: reading at byte %llu",
                                        job_object(job), (unsigned long long)l->read.offset));
            return false;
        }
        l->ahead = l->evp ? NULL : hash_read_ahead(&l->read);
        l->size_bytes += l->span.n;
        job->read_bytes += l->span.read_bytes;
        *ret_read_bytes = l->span.read_bytes;
        if (l->span.n >= SHA256_BLOCK_BYTES)
            return true;
    }
    lane_finish(l);
    return false;
}

void lane_abort(struct lane *l, enum larder_code code, const char *why)
{
    struct hash_job *job = l->job;

    lane_release(l, error_set(&job->error, code, "%s: %s", job_object(job), why));
}

static void span_skip(struct hash_span *s, size_t n)
{
    s->p += n;
    s->n -= n;
}

void lanes_hash(struct lane *const lanes[], unsigned count)
{
    uint32_t *state[SHA256_NI_STREAMS];
    const uint8_t *data[SHA256_NI_STREAMS];
    const uint8_t *ahead[SHA256_NI_STREAMS];
    struct lane *fast[SHA256_NI_STREAMS];
    unsigned n = 0;
    size_t blocks = SIZE_MAX;

    for (unsigned i = 0; i < count; i++) {
        struct lane *l = lanes[i];
        if (l->evp) {
            hash_update(l->evp, l->span.p, l->span.n);
            span_skip(&l->span, l->span.n);
            continue;
        }
        if (l->span.n / SHA256_BLOCK_BYTES < blocks)
            blocks = l->span.n / SHA256_BLOCK_BYTES;
        state[n] = l->state;
        data[n] = l->span.p;
        ahead[n] = l->ahead ? l->ahead : l->span.p;
        fast[n++] = l;
    }
    if (n == 0)
        return;
    sha256_ni_blocks(n, state, data, ahead, blocks);
    for (unsigned i = 0; i < n; i++) {
        span_skip(&fast[i]->span, blocks * SHA256_BLOCK_BYTES);
        if (fast[i]->ahead)
            fast[i]->ahead += blocks * SHA256_BLOCK_BYTES;
    }
}

bool lanes_check(void)
{
    enum { CHECK_BYTES = 5 * SHA256_BLOCK_BYTES + 9 };
    /* Of the bytes below, computed by another program. */
    static const char *const expected[SHA256_NI_STREAMS] = {
        "34ca9c0ccf7766f2659bd840e61864cb07dae9c3e207f7c2f1c54f9771786843",
        "a208cbe6d498dfb4a90a45af85db3f8881444624572af9c98aff470f13023c8f",
        "09b557983fb44f1d0793574f396cd21f6fa463abd671d08fc7dcdad5133364f9",
        "77caa6bfaba1a04711d16343d4687313e3ea954255ac065957695411bab62f7f",
    };
    uint8_t bytes[SHA256_NI_STREAMS][CHECK_BYTES];

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i / CHECK_BYTES][i % CHECK_BYTES] = (uint8_t)(i * 167 + (i >> 8));
    for (unsigned n = 1; n <= SHA256_NI_STREAMS; n++) {
        struct hash_job jobs[SHA256_NI_STREAMS] = {0};
        struct lane lanes[SHA256_NI_STREAMS] = {0};
        struct lane *list[SHA256_NI_STREAMS];
        for (unsigned i = 0; i < n; i++) {
            lanes[i].job = &jobs[i];
            lanes[i].span = (struct hash_span){bytes[i], CHECK_BYTES, 0};
            lanes[i].size_bytes = CHECK_BYTES;
            sha256_ni_init(lanes[i].state);
            list[i] = &lanes[i];
        }
        lanes_hash(list, n);
        for (unsigned i = 0; i < n; i++) {
            char hex[LARDER_DIGEST_TEXT_BYTES];
            finish_fast(&lanes[i], lanes[i].span.p, lanes[i].span.n);
            larder_digest_hex(&jobs[i].digests[LARDER_DIGEST_SHA256], hex);
            if (strcmp(hex, expected[i]) != 0)
                return false;
        }
    }
    return true;
}
