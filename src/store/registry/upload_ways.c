/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes into an open session. What the answers mean (registry by registry):
 *   201, 202, 204 to a PATCH   all say "stored"
 *   Range behind what we sent  not believed while the status says "stored" (one registry's is
 *                              stuck); asked for and followed only after 416 or a cut
 *   413, 416 to a big body     a limit: smaller pieces
 *   404, 405, 400 to PUT+body  this registry wants a PATCH first
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "net/auth/challenge.h"
#include "store/registry/location.h"
#include "store/registry/upload.h"

/* Sizes of a chunk, tried in turn: a good one; below 4 MiB and below 1 MiB, which are common limits
 * of a request's body. */
static const uint64_t chunk_steps[] = {
    16ULL * 1024 * 1024,
    4ULL * 1024 * 1024 - 64 * 1024,
    1024ULL * 1024 - 64 * 1024,
};
#define RANGE_QUESTIONS_MAX 8 /* of one session, without progress */

/* ---- bodies ---- */

bool upload_can_repeat(const struct upload *u)
{
    return u->small || u->source->extent.fd >= 0 || u->source->seek;
}

static int read_stream(void *arg, void *to, size_t n, size_t *ret_n, struct larder_error *e)
{
    struct upload *u = arg;
    int rc = u->source->read(u->source->arg, to, n, ret_n, e);
    if (rc == 0)
        u->at_bytes += *ret_n;
    return rc;
}

static int seek_stream(struct upload *u, uint64_t start, struct larder_error *e)
{
    if (u->at_bytes == start)
        return 0;
    if (!u->source->seek)
        return error_set(e, LARDER_IO, "%s: blob %s: its source can't be read a second time",
                         u->r->store.name, u->digest);
    int rc = u->source->seek(u->source->arg, start, e);
    if (rc == 0)
        u->at_bytes = start;
    return rc;
}

int upload_body(struct upload *u, uint64_t start, uint64_t n, struct http_upload *ret,
                struct larder_error *e)
{
    *ret = (struct http_upload){.fd = -1, .n_bytes = n};
    if (u->small) {
        ret->data = u->small + start;
        ret->n = (size_t)n;
        return 0;
    }
    if (u->source->extent.fd >= 0) {
        ret->fd = u->source->extent.fd;
        ret->offset = u->source->extent.offset + start;
        return 0;
    }
    ret->read = read_stream;
    ret->arg = u;
    return seek_stream(u, start, e);
}

struct rewind {
    struct upload *u;
    uint64_t start;
};

static int rewind_stream(void *arg, struct larder_error *e)
{
    const struct rewind *to = arg;
    return seek_stream(to->u, to->start, e);
}

static int tell_sent(struct upload *u, uint64_t n, struct larder_error *e)
{
    return u->source->sent ? u->source->sent(u->source->arg, n, e) : 0;
}

static int on_tick(void *arg, struct larder_error *e)
{
    struct upload *u = arg;
    const struct larder_observer *o = &u->r->observer;
    if (o->is_canceled && o->is_canceled(o->arg))
        return error_set(e, LARDER_CANCELED, "canceled");
    return tell_sent(u, u->stored_bytes + u->sending_bytes, e);
}

/* One request with the bytes [start, start + n). */
static int send_bytes(struct upload *u, struct call *c, uint64_t start, uint64_t n,
                      struct larder_error *e)
{
    struct rewind to = {u, start};
    struct http_upload body;
    int rc = upload_body(u, start, n, &body, e);
    if (rc < 0)
        return rc;
    c->peer = registry_primary(u->r);
    c->actions = "pull,push";
    c->blob = u->digest;
    /* `to` and `body` are the call's only until it returns. */
    u->sending_bytes = 0;
    body.ret_sent_bytes = &u->sending_bytes;
    c->request.tick = on_tick;
    c->request.arg = u;
    if (n > 0)
        c->request.upload = &body;
    if (body.read && n > 0) {
        c->rewind = rewind_stream;
        c->rewind_arg = &to;
    }
    rc = call_once(u->r, c, e);
    c->request.upload = NULL;
    c->request.tick = NULL;
    c->rewind = NULL;
    c->rewind_arg = NULL;
    return rc;
}

/* ---- answers ---- */

static int refused(struct upload *u, const struct call *c, enum upload_end end,
                   enum upload_end *ret)
{
    (void)call_refused(u->r, c, &u->error);
    u->error_status = c->response.status;
    *ret = end;
    return 0;
}

static bool is_way_refused(int status)
{
    return status == 400 || status == 404 || status == 405 || status == 411 || status == 413 ||
           status == 415 || status == 416 || status == 501;
}

/* A failure that trying again may mend. */
static int not_now(struct upload *u, const struct call *c, struct larder_error *e)
{
    return c->response.status == 200 ? call_stray(u->r, c, e) : call_refused(u->r, c, e);
}

/* After the PUT that ends the session. */
static int judge_put(struct upload *u, const struct call *c, enum upload_end *ret,
                     struct larder_error *e)
{
    int status = c->response.status;
    if (status == 201 || status == 204 ||
        (status == 200 && http_response_header(&c->response, "Docker-Content-Digest", 0).n > 0)) {
        *ret = UPLOAD_DONE;
        return 0;
    }
    /* Perhaps the session had kept what came before a connection was cut: once more, in a new one.
     * Then it is the bytes. */
    if (status == 400 && call_has_code(c, "DIGEST_INVALID") && !u->is_doubtful) {
        if (!u->was_wrong && upload_can_repeat(u)) {
            u->was_wrong = true;
            return refused(u, c, UPLOAD_LOST, ret);
        }
        (void)call_refused(u->r, c, e);
        if (e)
            e->code = LARDER_MISMATCH;
        return -LARDER_MISMATCH;
    }
    if (is_way_refused(status))
        return refused(u, c, u->is_doubtful ? UPLOAD_LOST : UPLOAD_REFUSED, ret);
    return not_now(u, c, e);
}

static int put_url(const struct upload *u, char **ret, struct larder_error *e)
{
    return location_add(u->location, "digest", u->digest, ret, e);
}

/* The PUT that ends the session, with the bytes that are still missing. */
static int close_session(struct upload *u, enum upload_end *ret, struct larder_error *e)
{
    CLEANUP_FREE char *url = NULL;
    const struct http_header type = {"Content-Type", "application/octet-stream"};
    int rc = put_url(u, &url, e);
    if (rc < 0)
        return rc;
    struct call c = {
        .url = url,
        .request = {.method = HTTP_PUT, .headers = &type, .n_headers = 1},
    };
    u->was_closing = true;
    rc = send_bytes(u, &c, u->stored_bytes, u->blob->size_bytes - u->stored_bytes, e);
    if (rc == 0)
        rc = judge_put(u, &c, ret, e);
    call_done(&c);
    return rc;
}

/* ---- status of a session ---- */

bool upload_ask_status(struct upload *u)
{
    uint64_t last = 0;
    bool is_known = false;
    if (!u->location)
        return false;
    struct call c = {
        .peer = registry_primary(u->r),
        .url = u->location,
        .actions = "pull,push",
        .blob = u->digest,
    };
    /* Asked once, and not waited for: a new session is as good. */
    if (call_once(u->r, &c, NULL) == 0 && (c.response.status == 204 || c.response.status == 200)) {
        struct slice range = http_response_header(&c.response, "Range", 0);
        is_known = range.p && upload_range_parse(range, &last) && last < u->blob->size_bytes;
        if (is_known && http_response_header(&c.response, "Location", 0).n > 0)
            is_known = upload_take_session(u, &c, NULL) == 0;
    }
    call_done(&c);
    if (is_known)
        u->stored_bytes = last > 0 ? last + 1 : 0; /* "0-0" says one byte and none */
    return is_known;
}

/* ---- PATCH ---- */

static int patch(struct upload *u, uint64_t n, bool has_range, struct call *c,
                 struct larder_error *e)
{
    char range[48];
    struct http_header headers[2] = {{"Content-Type", "application/octet-stream"},
                                     {"Content-Range", range}};
    snprintf(range, sizeof(range), "%llu-%llu", (unsigned long long)u->stored_bytes,
             (unsigned long long)(u->stored_bytes + n - 1));
    *c = (struct call){
        .url = u->location,
        .request = {.method = HTTP_PATCH, .headers = headers, .n_headers = has_range ? 2 : 1},
    };
    u->was_closing = false;
    int rc = send_bytes(u, c, u->stored_bytes, n, e);
    c->request.headers = NULL;
    c->url = NULL;
    if (rc < 0)
        return rc;
    int status = c->response.status;
    if (status != 201 && status != 202 && status != 204)
        return 0;
    if (http_response_header(&c->response, "Location", 0).n > 0)
        rc = upload_take_session(u, c, e);
    if (rc == 0) {
        u->stored_bytes += n;
        rc = tell_sent(u, u->stored_bytes, e);
    }
    return rc < 0 ? rc : 1;
}

/* All that is missing with one PATCH. */
static int send_stream(struct upload *u, enum upload_end *ret, struct larder_error *e)
{
    struct call c;
    uint64_t n = u->blob->size_bytes - u->stored_bytes;
    int rc = n > 0 ? patch(u, n, u->stored_bytes > 0, &c, e) : 1;
    if (n > 0 && rc == 0)
        rc = is_way_refused(c.response.status)
                 ? refused(u, &c, u->is_doubtful ? UPLOAD_LOST : UPLOAD_REFUSED, ret)
                 : not_now(u, &c, e);
    if (n > 0)
        call_done(&c);
    return rc == 1 ? close_session(u, ret, e) : rc;
}

/* ---- chunks ---- */

static uint64_t chunk_bytes(const struct upload *u)
{
    uint64_t max = atomic_load(&u->r->chunk_bytes_max);
    uint64_t want = u->min_chunk_bytes;
    for (size_t i = 0; i < sizeof(chunk_steps) / sizeof(chunk_steps[0]); i++)
        if (chunk_steps[i] < max)
            return want > chunk_steps[i] && want < max ? want : chunk_steps[i];
    return 0;
}

/* A chunk of n bytes was refused as too large: smaller ones from now on. */
static void learn_chunk_limit(struct registry *r, uint64_t n)
{
    uint64_t old = atomic_load(&r->chunk_bytes_max);
    while (old > n && !atomic_compare_exchange_weak(&r->chunk_bytes_max, &old, n))
        continue;
}

/* 413 and 416: too large, or not where the session stands. *ret stays when it goes on. */
static int chunk_refused(struct upload *u, const struct call *c, uint64_t n, unsigned *questions,
                         enum upload_end *ret)
{
    uint64_t before = u->stored_bytes;
    (void)refused(u, c, UPLOAD_LOST, ret);
    if (++*questions > RANGE_QUESTIONS_MAX)
        return 0;
    bool is_known = upload_ask_status(u);
    bool has_moved = is_known && u->stored_bytes != before;
    if (has_moved && upload_can_repeat(u)) {
        u->is_doubtful = true;
        return 1;
    }
    if (n > chunk_steps[2])
        learn_chunk_limit(u->r, n);
    else
        *ret = UPLOAD_REFUSED;
    return is_known && !has_moved && chunk_bytes(u) > 0 && n > chunk_steps[2];
}

static int send_chunks(struct upload *u, enum upload_end *ret, struct larder_error *e)
{
    unsigned questions = 0;
    while (u->stored_bytes < u->blob->size_bytes) {
        uint64_t n = chunk_bytes(u);
        uint64_t left = u->blob->size_bytes - u->stored_bytes;
        struct call c;
        if (n == 0) {
            *ret = UPLOAD_REFUSED;
            return 0;
        }
        if (n > left)
            n = left;
        int rc = patch(u, n, true, &c, e);
        int status = c.response.status;
        if (rc == 0 && (status == 413 || status == 416))
            rc = chunk_refused(u, &c, n, &questions, ret);
        else if (rc == 0 && is_way_refused(status))
            rc = refused(u, &c, status == 404 ? UPLOAD_LOST : UPLOAD_REFUSED, ret);
        else if (rc == 0)
            rc = not_now(u, &c, e);
        else if (rc == 1)
            questions = 0;
        call_done(&c);
        if (rc != 1)
            return rc;
    }
    return close_session(u, ret, e);
}

int upload_send(struct upload *u, enum upload_way way, enum upload_end *ret, struct larder_error *e)
{
    switch (way) {
    case UPLOAD_WHOLE:
        /* What is left of a cut body goes on with a PATCH: a PUT in the middle is not for all. */
        return u->stored_bytes > 0 ? send_stream(u, ret, e) : close_session(u, ret, e);
    case UPLOAD_STREAM:
        return send_stream(u, ret, e);
    case UPLOAD_CHUNKS:
    case UPLOAD_WAYS:
    default:
        return send_chunks(u, ret, e);
    }
}
