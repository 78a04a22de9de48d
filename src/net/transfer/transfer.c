/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Driving a transfer over HTTP: which range is asked for next, and what an answer means.
 *
 *   asked            answer                           then
 *   all              200                              pass from 0
 *   range, If-Range  206, right start, same object    goes on (the partial's prefix is hashed
 * first) 200                              object changed, or no ranges here: from 0 206 otherwise,
 * 416               from 0, without a range either           transient failure                wait;
 * with a strong validator goes on, else from 0
 *
 * Starting over is limited (RESTARTS_MAX): an object that changes each time is not to be had.
 */
#include "net/transfer/transfer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "net/http/retry.h"
#include "net/transfer/transfer_feed.h"
#include "net/transfer/transfer_local.h"

#define RESTARTS_MAX 3
#define REFILL_BYTES (1024ULL * 1024) /* so much progress gives all retries back */
/* RFC 9110 section 8.8.2.2: a Last-Modified younger than that may name two contents. */
#define DATE_IS_STRONG_NS (60 * NS_PER_S)

struct fetch {
    struct transfer *t;
    struct feed feed;
    struct transfer_resume known; /* what the bytes of this pass belong to */
    uint64_t prefix_bytes;        /* in the partial, not yet taken into this pass */
    uint64_t asked_bytes;         /* start of the range asked for; 0: everything */
    uint64_t best_bytes;          /* furthest offset so far */
    unsigned restarts;
    char *room;        /* given out for bytes to come; NULL */
    bool has_head;     /* of the present answer */
    bool must_restart; /* the answer doesn't fit what we have */
};

void transfer_resume_done(struct transfer_resume *resume)
{
    free(resume->url);
    free(resume->etag);
    free(resume->last_modified);
    *resume = (struct transfer_resume){0};
}

/* ---- validators ---- */

static bool is_strong_etag(const char *etag)
{
    return etag && etag[0] == '"' && strlen(etag) > 2;
}

static bool is_strong_date(const struct http_response *r)
{
    int64_t modified = 0;
    int64_t date = 0;
    return r->last_modified && r->date && http_date_parse(r->last_modified, &modified) &&
           http_date_parse(r->date, &date) && date - modified >= DATE_IS_STRONG_NS;
}

static const char *validator(const struct transfer_resume *known)
{
    return is_strong_etag(known->etag) ? known->etag : known->last_modified;
}

static int resume_copy(const char *url, const char *etag, const char *last_modified,
                       uint64_t total_bytes, struct transfer_resume *ret, struct larder_error *e)
{
    struct transfer_resume copy = {.total_bytes = total_bytes};
    copy.url = strdup(url);
    copy.etag = etag ? strdup(etag) : NULL;
    copy.last_modified = last_modified ? strdup(last_modified) : NULL;
    if (!copy.url || (etag && !copy.etag) || (last_modified && !copy.last_modified)) {
        transfer_resume_done(&copy);
        return error_nomem(e);
    }
    transfer_resume_done(ret);
    *ret = copy;
    return 0;
}

static int learn(struct fetch *x, const struct http_response *r, struct larder_error *e)
{
    const struct transfer *t = x->t;
    int rc = resume_copy(t->url, is_strong_etag(r->etag) ? r->etag : NULL,
                         is_strong_date(r) ? r->last_modified : NULL,
                         r->has_total ? r->total_bytes : 0, &x->known, e);
    if (rc == 0 && t->remember)
        rc = t->remember(t->arg, &x->known, e);
    return rc;
}

/* ---- answers ---- */

/* Everything from the first byte again; what is there is thrown away. */
static int begin(struct fetch *x, uint64_t keep_bytes, struct larder_error *e)
{
    x->prefix_bytes = keep_bytes;
    x->feed.total_bytes = 0;
    return feed_begin(&x->feed, keep_bytes, e);
}

static int count_restart(struct fetch *x, struct larder_error *e)
{
    if (++x->restarts > RESTARTS_MAX)
        return error_set(e, LARDER_MISMATCH, "content changed %d times while it was fetched",
                         RESTARTS_MAX);
    return 0;
}

static int check_total(struct fetch *x, const struct http_response *r, struct larder_error *e)
{
    uint64_t expected = x->t->expected_bytes;
    if (!r->has_total)
        return 0;
    if (expected > 0 && r->total_bytes != expected)
        return error_set(e, LARDER_MISMATCH, "the server has %llu bytes, expected %llu",
                         (unsigned long long)r->total_bytes, (unsigned long long)expected);
    x->feed.total_bytes = r->total_bytes;
    return 0;
}

static int check_encoding(const struct fetch *x, const struct http_response *r,
                          struct larder_error *e)
{
    const char *coding = r->content_encoding;
    if (!coding || strcasecmp(coding, "identity") == 0)
        return 0;
    const char *plain = strncasecmp(coding, "x-", 2) == 0 ? coding + 2 : coding;
    enum unpack_format named = x->feed.name ? unpack_from_name(x->feed.name) : UNPACK_NONE;
    if (named != UNPACK_NONE && strcasecmp(plain, unpack_name(named)) == 0)
        return 0;
    return error_set(e, LARDER_PROTO, "the server encoded it (%.40s) unasked", coding);
}

static int on_whole(struct fetch *x, const struct http_response *r, struct larder_error *e)
{
    int rc = 0;
    if (x->feed.offset > 0 || x->prefix_bytes > 0) {
        /* With a range asked for this says that the object changed, or that ranges are not to be
         * had; without one the bytes can't be told from the ones we have. */
        bool had_range = x->asked_bytes > 0;
        rc = begin(x, 0, e);
        if (rc == 0 && had_range && x->best_bytes > 0)
            rc = count_restart(x, e);
    }
    if (rc == 0)
        rc = check_encoding(x, r, e);
    if (rc == 0)
        rc = check_total(x, r, e);
    return rc < 0 ? rc : learn(x, r, e);
}

/* Whether a 206 is about the object that we have the beginning of. */
static bool is_continuation(const struct fetch *x, const struct http_response *r)
{
    const struct transfer_resume *known = &x->known;
    if (r->range_start != x->asked_bytes)
        return false;
    if (known->total_bytes > 0 && r->has_total && r->total_bytes != known->total_bytes)
        return false;
    return !is_strong_etag(known->etag) || !r->etag || strcmp(known->etag, r->etag) == 0;
}

static int on_part(struct fetch *x, const struct http_response *r, struct larder_error *e)
{
    if (x->asked_bytes == 0)
        return error_set(e, LARDER_PROTO, "status 206 to a request without a range");
    if (!is_continuation(x, r)) {
        x->must_restart = true;
        return error_set(e, LARDER_PROTO, "a part of another object");
    }
    int rc = check_encoding(x, r, e);
    if (rc == 0)
        rc = check_total(x, r, e);
    if (rc == 0 && x->prefix_bytes > 0) {
        /* Only now: had the object changed, reading the prefix would have been in vain. */
        rc = feed_prefix(&x->feed, x->prefix_bytes, e);
        x->prefix_bytes = 0;
    }
    return rc;
}

static int on_head(void *arg, const struct http_response *r, struct larder_error *e)
{
    struct fetch *x = arg;
    x->has_head = true;
    if (r->status == 200)
        return on_whole(x, r, e);
    if (r->status == 206)
        return on_part(x, r, e);
    x->must_restart = r->status == 416 && x->asked_bytes > 0;
    return 0;
}

static int on_body(void *arg, const void *data, size_t n, struct larder_error *e)
{
    struct fetch *x = arg;
    struct feed *f = &x->feed;
    uint64_t expected = x->t->expected_bytes;
    if (f->total_bytes > 0 && n > f->total_bytes - f->offset)
        return error_set(e, LARDER_PROTO, "the server sent more than its %llu bytes",
                         (unsigned long long)f->total_bytes);
    if (expected > 0 && n > expected - f->offset)
        return error_set(e, LARDER_MISMATCH, "the server sent more than the expected %llu bytes",
                         (unsigned long long)expected);
    if (data != x->room)
        return feed_bytes(f, data, n, e);
    x->room = NULL;
    return feed_commit(f, n, e);
}

/* Bytes are received where they are hashed and written from. What is wrong when there is no place
 * (a thread failed, a cancel) feed_bytes() will say. */
static void *on_room(void *arg, size_t *ret_n)
{
    struct fetch *x = arg;
    x->room = NULL;
    (void)feed_reserve(&x->feed, &x->room, ret_n, NULL);
    return x->room;
}

static int on_tick(void *arg, struct larder_error *e)
{
    struct fetch *x = arg;
    return feed_tick(&x->feed, e);
}

/* ---- attempts ---- */

/* What a 2xx answer that ended properly leaves open. */
static int judge_end(struct fetch *x, const struct http_response *r, struct larder_error *e)
{
    const struct feed *f = &x->feed;
    if (r->status != 200 && r->status != 206)
        return http_status_error(x->t->url, r->status, e);
    if (f->total_bytes > 0 && f->offset < f->total_bytes)
        return error_errno_code(e, LARDER_UNREACHABLE, ECONNRESET,
                                "the server sent %llu of %llu bytes", (unsigned long long)f->offset,
                                (unsigned long long)f->total_bytes);
    if (x->t->expected_bytes > 0 && f->offset != x->t->expected_bytes)
        return error_set(e, LARDER_MISMATCH, "the server sent %llu bytes, expected %llu",
                         (unsigned long long)f->offset, (unsigned long long)x->t->expected_bytes);
    return 0;
}

static int attempt(struct fetch *x, struct larder_error *e)
{
    struct transfer *t = x->t;
    uint64_t have = x->prefix_bytes > 0 ? x->prefix_bytes : x->feed.offset;
    const char *if_range = validator(&x->known);
    x->asked_bytes = if_range ? have : 0;
    x->must_restart = false;
    x->has_head = false;
    struct http_request request = {
        .method = HTTP_GET,
        .url = t->url,
        .range_start = x->asked_bytes,
        .if_range = if_range,
        .no_cache = t->no_cache,
        .head = on_head,
        .body = on_body,
        .room = on_room,
        .tick = on_tick,
        .arg = x,
    };
    struct http_response response = {0};
    int rc = http_perform(t->client, &request, &response, e);
    /* A head that makes no sense: perhaps its server only can't do ranges. */
    if (rc == -LARDER_PROTO && x->asked_bytes > 0 && !x->has_head)
        x->must_restart = true;
    if (rc < 0)
        return rc;
    http_response_done(&t->response);
    t->response = response;
    return judge_end(x, &response, e);
}

static int restart(struct fetch *x, struct larder_error *e)
{
    transfer_resume_done(&x->known);
    int rc = count_restart(x, e);
    return rc < 0 ? rc : begin(x, 0, e);
}

static int wait_for_retry(struct fetch *x, struct retry *retry, const struct larder_error *failure,
                          struct larder_error *e)
{
    const struct larder_observer *o = x->t->observer;
    if (x->feed.offset >= x->best_bytes + REFILL_BYTES)
        retry_refill(retry);
    if (x->feed.offset > x->best_bytes)
        x->best_bytes = x->feed.offset;
    int64_t after_ns = failure->http_status ? x->t->response.retry_after_ns : 0;
    if (!retry_may(retry, failure, after_ns))
        return -(int)failure->code;
    if (o && o->note) {
        char text[LARDER_ERROR_MSG_BYTES + 32];
        snprintf(text, sizeof(text), "%s; trying again", failure->msg);
        o->note(o->arg, text);
    }
    return retry_wait(retry, after_ns, e);
}

static int fetch_loop(struct fetch *x, struct larder_error *e)
{
    struct retry retry;
    retry_init(&retry, x->t->retries, x->t->retry_wait_ns, x->t->observer);
    for (;;) {
        struct larder_error failure = LARDER_ERROR_INIT;
        int rc = attempt(x, &failure);
        if (rc == 0)
            return 0;
        if (x->must_restart) {
            rc = restart(x, e);
        } else {
            *e = failure;
            rc = wait_for_retry(x, &retry, &failure, e);
        }
        if (rc < 0)
            return rc;
    }
}

/* How much of the partial is worth asking the server to go on from. */
static int resumable_bytes(struct fetch *x, uint64_t *ret, struct larder_error *e)
{
    const struct transfer *t = x->t;
    const struct transfer_resume *old = t->resume;
    *ret = 0;
    if (!old || t->partial_fd < 0 || !old->url || strcmp(old->url, t->url) != 0 ||
        (!is_strong_etag(old->etag) && !old->last_modified))
        return 0;
    struct stat st;
    if (fstat(t->partial_fd, &st) != 0)
        return error_errno(e, errno, "partial file");
    uint64_t have = (uint64_t)st.st_size;
    if (old->total_bytes > 0 && have > old->total_bytes)
        return 0;
    /* A range must ask for something: the last byte again, so that the validator is checked. */
    if (old->total_bytes > 0 && have == old->total_bytes && have > 0)
        have--;
    int rc = resume_copy(old->url, old->etag, old->last_modified, old->total_bytes, &x->known, e);
    if (rc == 0)
        *ret = have;
    return rc;
}

static int fetch_run(struct fetch *x, struct larder_error *e)
{
    uint64_t have = 0;
    int rc = resumable_bytes(x, &have, e);
    if (rc == 0)
        rc = begin(x, have, e);
    if (rc == 0)
        rc = fetch_loop(x, e);
    return rc < 0 ? rc : feed_end(&x->feed, e);
}

int transfer_run(struct transfer *t, struct larder_error *e)
{
    struct larder_error own = LARDER_ERROR_INIT; /* what happened matters here even if not asked */
    struct fetch x = {.t = t, .feed = {.t = t}};
    CLEANUP_FREE char *name = NULL;
    int rc = 0;
    if (t->unpack_fd < 0 && t->unpack == TRANSFER_UNPACK_ALWAYS)
        return error_set(e, LARDER_INVAL, "transfer: no file to unpack to");
    if (t->url) {
        x.feed.what = "fetch";
        rc = url_basename(t->url, &name, &own);
        x.feed.name = name;
        if (rc == 0)
            rc = fetch_run(&x, &own);
        transfer_resume_done(&x.known);
    } else {
        x.feed.what = "copy";
        x.feed.name = t->object;
        rc = transfer_local_run(&x.feed, &own);
    }
    if (rc < 0)
        feed_keep_partial(&x.feed);
    feed_done(&x.feed);
    if (rc < 0 && e)
        *e = own;
    return rc;
}
