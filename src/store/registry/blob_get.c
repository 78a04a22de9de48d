/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetching a blob's bytes: what was delivered is never asked for again, at whichever place the rest
 * comes from (a digest names the same bytes everywhere). Each try begins at the registry, so that a
 * signed URL that expired is replaced by a new one.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "store/registry/session.h"

#define PATH_BYTES   (16 + LARDER_DIGEST_TEXT_BYTES)
#define RESTARTS_MAX 3
#define REFILL_BYTES (1024ULL * 1024) /* so much progress gives all tries back */

struct get {
    struct registry *r;
    const struct store_descriptor *blob;
    const struct blob_sink *sink;
    uint64_t offset;      /* delivered */
    uint64_t best_offset; /* of all tries */
    unsigned restarts;
};

static int check_total(const struct get *g, const struct http_response *a, struct larder_error *e)
{
    if (!a->has_total || a->total_bytes == g->blob->size_bytes)
        return 0;
    return error_set(e, LARDER_MISMATCH, "the server has %llu bytes, expected %llu",
                     (unsigned long long)a->total_bytes, (unsigned long long)g->blob->size_bytes);
}

/* The server sends all of it, though only the rest was asked for. */
static int restart(struct get *g, struct larder_error *e)
{
    if (!g->sink->restart || ++g->restarts > RESTARTS_MAX)
        return error_set(e, LARDER_PROTO, "the server does not go on in the middle (%u tries)",
                         g->restarts);
    int rc = g->sink->restart(g->sink->arg, e);
    if (rc == 0)
        g->offset = 0;
    return rc;
}

static int on_head(void *arg, const struct http_response *a, struct larder_error *e)
{
    struct get *g = arg;
    const char *coding = a->content_encoding;
    if (a->status != 200 && a->status != 206)
        return 0;
    if (coding && strcasecmp(coding, "identity") != 0)
        return error_set(e, LARDER_PROTO, "the server, or a proxy, encoded it (%.40s) unasked",
                         coding);
    int rc = check_total(g, a, e);
    if (rc == 0 && a->status == 200 && g->offset > 0)
        rc = restart(g, e);
    if (rc == 0 && a->status == 206 && a->range_start != g->offset)
        rc = error_set(e, LARDER_MISMATCH, "the server sent bytes from %llu on, asked for %llu",
                       (unsigned long long)a->range_start, (unsigned long long)g->offset);
    if (rc == 0 && a->status == 206 && a->range_end > g->blob->size_bytes)
        rc = error_set(e, LARDER_MISMATCH, "the server sent bytes up to %llu of %llu",
                       (unsigned long long)a->range_end, (unsigned long long)g->blob->size_bytes);
    return rc;
}

static int on_body(void *arg, const void *data, size_t n, struct larder_error *e)
{
    struct get *g = arg;
    if (n > g->blob->size_bytes - g->offset)
        return error_set(e, LARDER_MISMATCH, "the server sent more than the expected %llu bytes",
                         (unsigned long long)g->blob->size_bytes);
    int rc = g->sink->write(g->sink->arg, data, n, e);
    if (rc == 0)
        g->offset += n;
    return rc;
}

static int on_tick(void *arg, struct larder_error *e)
{
    struct get *g = arg;
    const struct larder_observer *o = &g->r->observer;
    if (o->is_canceled && o->is_canceled(o->arg))
        return error_set(e, LARDER_CANCELED, "canceled");
    return g->sink->tick ? g->sink->tick(g->sink->arg, e) : 0;
}

static void *on_room(void *arg, size_t *ret_n)
{
    const struct get *g = arg;
    return g->sink->room(g->sink->arg, ret_n);
}

/* What an answer that ended properly leaves open; 1: all is there. */
static int judge(const struct get *g, const struct call *c, struct larder_error *e)
{
    int status = c->response.status;
    if (status == 200 || status == 206) {
        if (g->offset == g->blob->size_bytes)
            return 1;
        (void)call_fail(g->r, c, LARDER_UNREACHABLE, e, "the server sent %llu of %llu bytes",
                        (unsigned long long)g->offset, (unsigned long long)g->blob->size_bytes);
        e->sys_errno = ECONNRESET; /* as if it had been cut */
        return -LARDER_UNREACHABLE;
    }
    if (status == 416)
        return call_fail(
            g->r, c, LARDER_MISMATCH, e, "the server has fewer than %llu bytes, expected %llu",
            (unsigned long long)g->offset + 1, (unsigned long long)g->blob->size_bytes);
    int rc = call_refused(g->r, c, e);
    if (c->is_elsewhere && (status == 401 || status == 403 || status == 400)) {
        /* A signed URL that expired on the way: the registry has another. */
        e->code = LARDER_UNREACHABLE;
        rc = -LARDER_UNREACHABLE;
    }
    return rc;
}

static int attempt(struct get *g, struct call *c, struct larder_error *e)
{
    c->request.range_start = g->offset;
    int rc = call_once(g->r, c, e);
    return rc < 0 ? rc : judge(g, c, e);
}

static int get_at(struct registry *r, struct peer *peer, void *arg, struct larder_error *e)
{
    struct get *g = arg;
    char path[PATH_BYTES];
    char digest[LARDER_DIGEST_TEXT_BYTES];
    struct call c = {
        .peer = peer,
        .path = path,
        .actions = registry_read_actions(r),
        .blob = larder_digest_format(&g->blob->digest, digest),
        .request = {.head = on_head, .body = on_body, .tick = on_tick, .arg = g},
    };
    if (g->sink->room)
        c.request.room = on_room;
    snprintf(path, sizeof(path), "blobs/%s", digest);
    struct retry retry;
    retry_init(&retry, peer->endpoint->is_mirror ? 1 : r->retries, r->retry_wait_ns, &r->observer);
    int rc = 0;
    while (rc == 0) {
        struct larder_error failure = LARDER_ERROR_INIT;
        rc = attempt(g, &c, &failure);
        if (g->offset >= g->best_offset + REFILL_BYTES)
            retry_refill(&retry);
        if (g->offset > g->best_offset)
            g->best_offset = g->offset;
        if (rc < 0)
            rc = call_wait(r, &retry, &c, &failure, e);
    }
    call_done(&c);
    return rc < 0 ? rc : 0;
}

int registry_blob_get(struct store *s, const struct store_descriptor *blob, uint64_t offset,
                      const struct blob_sink *sink, struct larder_error *e)
{
    struct get g = {
        .r = registry_of(s),
        .blob = blob,
        .sink = sink,
        .offset = offset,
        .best_offset = offset,
    };
    if (offset > blob->size_bytes)
        return error_set(e, LARDER_INVAL, "%s: blob from byte %llu on, it has %llu", s->name,
                         (unsigned long long)offset, (unsigned long long)blob->size_bytes);
    if (offset == blob->size_bytes && offset > 0)
        return 0;
    return registry_ask(g.r, PEER_FOR_DIGEST, get_at, &g, e);
}
