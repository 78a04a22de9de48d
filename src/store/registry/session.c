/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One question to the registry.
 *
 * Which scheme: https, or http where the endpoint says so. Endpoints that need not be verified are
 * asked by both, once; loopback in plain text first, because what runs there rarely has TLS and
 * opening the TLS library costs more than all the rest.
 */
#include "store/registry/session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "net/http/url.h"

#define MIRROR_RETRIES 1 /* there is somebody else to ask */
#define HOLD_MAX_NS    (120 * NS_PER_S)
#define POLL_NS        (50 * NS_PER_MS)

#define CHALLENGES_ROUNDS 2

static void secret_freep(char **secret)
{
    if (*secret)
        explicit_bzero(*secret, strlen(*secret));
    free(*secret);
    *secret = NULL;
}

static void call_forget(struct call *c)
{
    http_response_done(&c->response);
    buf_done(&c->error_body);
    free(c->asked_url);
    c->asked_url = NULL;
    c->is_elsewhere = false;
}

void call_done(struct call *c)
{
    call_forget(c);
}

bool call_is_transient(int status)
{
    return status == 408 || status == 429 || status == 499 ||
           (status >= 500 && status != 501 && status != 505);
}

/* ---- bodies ---- */

static int on_body(void *arg, const void *data, size_t n, struct larder_error *e)
{
    struct call *c = arg;
    if (!c->out)
        return 0;
    buf_append(c->out, data, n);
    return buf_failed(c->out, e);
}

/* ---- waiting ---- */

static bool is_canceled(const struct registry *r)
{
    return r->observer.is_canceled && r->observer.is_canceled(r->observer.arg);
}

/* A lane that was told to wait makes the others wait, too: they would be told the same. */
static int wait_for_hold(struct registry *r, struct larder_error *e)
{
    for (;;) {
        int64_t left = atomic_load(&r->hold_until_ns) - clock_monotonic_ns();
        if (left <= 0)
            return 0;
        if (is_canceled(r))
            return error_set(e, LARDER_CANCELED, "canceled while waiting for the registry");
        clock_sleep_ns(left < POLL_NS ? left : POLL_NS);
    }
}

static void hold(struct registry *r, const struct http_response *response)
{
    int64_t wait = response->retry_after_ns;
    if (wait <= 0 || wait > HOLD_MAX_NS || (response->status != 429 && response->status != 503))
        return;
    int64_t until = clock_monotonic_ns() + wait;
    int64_t old = atomic_load(&r->hold_until_ns);
    while (old < until && !atomic_compare_exchange_weak(&r->hold_until_ns, &old, until))
        continue;
}

/* Whether the registry (or its token server) wants to be left alone, and nobody is to wait. */
static bool is_limit(const struct registry *r, const struct call *c,
                     const struct larder_error *failure)
{
    bool is_told = c->response.status == failure->http_status;
    int64_t after_ns = is_told ? c->response.retry_after_ns : 0;
    if (!r->limit || (failure->http_status != 429 && (failure->http_status != 503 || !after_ns)))
        return false;
    if (!c->peer->endpoint->is_mirror) {
        r->limit->is_reached = true;
        r->limit->retry_after_ns = after_ns;
    }
    return true;
}

int call_wait(struct registry *r, struct retry *retry, const struct call *c,
              const struct larder_error *failure, struct larder_error *e)
{
    int64_t after_ns = failure->http_status ? c->response.retry_after_ns : 0;
    if (is_limit(r, c, failure) || !retry_may(retry, failure, after_ns)) {
        if (e)
            *e = *failure;
        return -(int)failure->code;
    }
    char text[LARDER_ERROR_MSG_BYTES + 64];
    char wait[32];
    if (after_ns > 0)
        snprintf(text, sizeof(text), "%s; trying again in %s", failure->msg,
                 duration_format(after_ns, wait));
    else
        snprintf(text, sizeof(text), "%s; trying again", failure->msg);
    if (r->observer.note)
        r->observer.note(r->observer.arg, text);
    if (r->observer.progress) {
        struct larder_progress progress = {.what = "wait", .object = r->store.name};
        r->observer.progress(r->observer.arg, &progress);
    }
    return retry_wait(retry, after_ns, e);
}

/* Docker Hub counts the manifests that are got: "RateLimit-Remaining: 76;w=21600". */
static void note_left(const struct registry *r, const struct call *c)
{
    struct slice value = http_response_header(&c->response, "RateLimit-Remaining", 0);
    const char *end = value.n ? memchr(value.p, ';', value.n) : NULL;
    uint64_t left;
    if (end)
        value.n = (size_t)(end - value.p);
    if (c->peer->endpoint->is_mirror || c->is_elsewhere ||
        !slice_parse_u64(slice_trim(value), &left))
        return;
    r->limit->has_left = true;
    r->limit->left = left;
}

/* ---- one exchange ---- */

static const char *scheme_text(enum scheme scheme)
{
    return scheme == SCHEME_HTTP ? "http" : "https";
}

static int perform(struct registry *r, struct call *c, struct http_client *client, const char *url,
                   const char *authorization, struct larder_error *e)
{
    struct http_request request = c->request;
    http_response_done(&c->response);
    buf_done(&c->error_body);
    c->error_body = BUF_INIT(CALL_ERROR_BODY_BYTES);
    request.url = url;
    request.authorization = authorization;
    request.error_body = &c->error_body;
    if (!request.head && !request.body && !request.tick) {
        request.body = on_body;
        request.arg = c;
        if (c->out)
            request.max_body_bytes = c->out->max_bytes;
    }
    atomic_fetch_add(&r->requests, 1);
    int rc = http_perform(client, &request, &c->response, e);
    if (rc < 0)
        return rc;
    call_warnings(r, &c->response);
    const char *final_url = c->response.final_url;
    c->is_elsewhere = final_url && !url_same_origin(url, final_url);
    if (r->limit)
        note_left(r, c);
    else
        hold(r, &c->response);
    return 0;
}

/* Who we are is said to the registry only, not to where its Location led. */
static int perform_as_us(struct registry *r, struct call *c, struct http_client *client,
                         const char *url, bool is_foreign, struct larder_error *e)
{
    const struct endpoint *at = c->peer->endpoint;
    const struct auth_scope scope = {
        .host = at->host,
        .repository = at->repository,
        .actions = c->actions,
        .from = c->from,
        .is_mirror = at->is_mirror,
    };
    CLEANUP(secret_freep) char *sent = NULL;
    size_t out_bytes = c->out ? c->out->n : 0;
    if (is_foreign)
        return perform(r, c, client, url, "", e);
    int rc = auth_renew(r->auth, client, &scope, &sent, e);
    if (rc == 0)
        rc = perform(r, c, client, url, sent, e);
    /* A second round is for a token that fell short of the scope or ended on the way. */
    for (unsigned round = 0; rc == 0 && round < CHALLENGES_ROUNDS; round++) {
        CLEANUP(secret_freep) char *fresh = NULL;
        if (c->response.status != 401 || c->is_elsewhere || c->no_challenge)
            return 0;
        rc = auth_challenged(r->auth, client, url, &c->response, &scope, sent, &fresh, e);
        if (rc == 0 && c->rewind)
            rc = c->rewind(c->rewind_arg, e);
        if (rc < 0)
            return rc;
        if (c->out)
            c->out->n = out_bytes;
        rc = perform(r, c, client, url, fresh, e);
        secret_freep(&sent);
        sent = TAKE_PTR(fresh);
    }
    return rc;
}

static int compose_url(const struct registry *r, const struct call *c, enum scheme scheme,
                       char **ret, struct larder_error *e)
{
    const struct endpoint *at = c->peer->endpoint;
    int n;
    if (c->url)
        n = asprintf(ret, "%s", c->url);
    else if (r->repository)
        n = asprintf(ret, "%s://%s/v2/%s/%s", scheme_text(scheme), at->base, at->repository,
                     c->path);
    else
        n = asprintf(ret, "%s://%s/v2/", scheme_text(scheme), at->base);
    if (n >= 0)
        return 0;
    *ret = NULL;
    return error_nomem(e);
}

static int attempt(struct registry *r, struct call *c, enum scheme scheme, struct larder_error *e)
{
    CLEANUP_FREE char *home = NULL;
    struct http_client *client = NULL;
    bool is_foreign = false;
    call_forget(c);
    int rc = compose_url(r, c, scheme, &c->asked_url, e);
    if (rc == 0 && c->url) {
        if (asprintf(&home, "%s://%s/", scheme_text(scheme), c->peer->endpoint->base) < 0) {
            home = NULL;
            return error_nomem(e);
        }
        is_foreign = !url_same_origin(home, c->url);
    }
    if (rc == 0)
        rc = http_pool_get(c->peer->pool, &client, e);
    if (rc < 0)
        return rc;
    rc = perform_as_us(r, c, client, c->asked_url, is_foreign, e);
    http_pool_put(c->peer->pool, client);
    return rc;
}

/* ---- the scheme ---- */

static bool is_loopback(const char *base)
{
    return strncmp(base, "127.", 4) == 0 || strncmp(base, "[::1]", 5) == 0 ||
           (strncasecmp(base, "localhost", 9) == 0 && (base[9] == ':' || base[9] == '\0'));
}

/* Without a port the schemes have one each; else nobody at it means neither. */
static bool is_nobody_there(const struct call *c, const struct larder_error *e)
{
    const char *base = c->peer->endpoint->base;
    const char *colon = strrchr(base, ':');
    bool has_port = colon && !strchr(colon, ']');
    return has_port && (e->sys_errno == ECONNREFUSED || e->sys_errno == ENXIO);
}

/*
 * Whether the other scheme might get an answer: nothing that speaks this one was there. Whoever
 * asked for credentials speaks it, even when there are none.
 */
static bool is_wrong_scheme(int rc, const struct call *c, enum scheme scheme,
                            const struct larder_error *e)
{
    if (rc < 0)
        return c->response.status == 0 && ((rc == -LARDER_UNREACHABLE && !is_nobody_there(c, e)) ||
                                           rc == -LARDER_PROTO || rc == -LARDER_AUTH);
    /* What TLS servers say to plain text: a 400 that is none of the registry's. */
    return scheme == SCHEME_HTTP && c->response.status == 400 && !call_says(c, "\"errors\"");
}

static int find_scheme(struct registry *r, struct call *c, struct larder_error *e)
{
    enum scheme first = is_loopback(c->peer->endpoint->base) ? SCHEME_HTTP : SCHEME_HTTPS;
    enum scheme second = first == SCHEME_HTTP ? SCHEME_HTTPS : SCHEME_HTTP;
    struct larder_error failure = LARDER_ERROR_INIT;
    struct larder_error other = LARDER_ERROR_INIT;
    int rc = attempt(r, c, first, &failure);
    if (!is_wrong_scheme(rc, c, first, &failure)) {
        if (rc == 0)
            atomic_store(&c->peer->scheme, first);
        else if (e)
            *e = failure;
        return rc;
    }
    if (rc == 0)
        rc = error_set(&failure, LARDER_PROTO, "%s: unexpected answer (status %d)", c->asked_url,
                       c->response.status);
    int second_rc = c->rewind ? c->rewind(c->rewind_arg, &other) : 0;
    if (second_rc == 0)
        second_rc = attempt(r, c, second, &other);
    bool is_second = !is_wrong_scheme(second_rc, c, second, &other);
    if (second_rc == 0 && is_second) {
        atomic_store(&c->peer->scheme, second);
        return 0;
    }
    /* Of two failures the one of the scheme that is spoken there, certificates and all. */
    if (second_rc < 0 && (is_second || other.code == LARDER_AUTH)) {
        failure = other;
        rc = second_rc;
    }
    if (e)
        *e = failure;
    return rc;
}

int call_once(struct registry *r, struct call *c, struct larder_error *e)
{
    struct larder_error own = LARDER_ERROR_INIT;
    enum scheme scheme = (enum scheme)atomic_load(&c->peer->scheme);
    int rc = wait_for_hold(r, &own);
    if (rc == 0 && is_canceled(r))
        rc = error_set(&own, LARDER_CANCELED, "canceled");
    if (rc == 0 && scheme == SCHEME_UNDECIDED)
        rc = find_scheme(r, c, &own);
    else if (rc == 0)
        rc = attempt(r, c, scheme, &own);
    if (rc == 0)
        return 0;
    struct buf name = BUF_INIT(1024);
    call_name(r, c, &name);
    error_context(&own, "%s", name.p ? name.p : "registry");
    buf_done(&name);
    call_hint(c, &own);
    if (e)
        *e = own;
    return rc;
}

/* A 200 where none can be is the page of a proxy before the registry that restarts. */
static bool is_stray(const struct call *c)
{
    return c->is_200_stray && c->response.status == 200 &&
           http_response_header(&c->response, "Docker-Content-Digest", 0).n == 0;
}

int call_stray(const struct registry *r, const struct call *c, struct larder_error *e)
{
    int rc = call_fail(r, c, LARDER_UNREACHABLE, e, "status 200, which is not the registry's");
    if (e)
        e->http_status = c->response.status;
    return rc;
}

int call_run(struct registry *r, struct call *c, struct larder_error *e)
{
    bool is_mirror = c->peer->endpoint->is_mirror;
    size_t out_bytes = c->out ? c->out->n : 0;
    struct retry retry;
    retry_init(&retry, is_mirror && r->retries > MIRROR_RETRIES ? MIRROR_RETRIES : r->retries,
               r->retry_wait_ns, &r->observer);
    for (;;) {
        struct larder_error failure = LARDER_ERROR_INIT;
        int rc = call_once(r, c, &failure);
        if (rc == 0 && !call_is_transient(c->response.status) && !is_stray(c))
            return 0;
        if (rc == 0 && is_stray(c))
            (void)call_stray(r, c, &failure);
        else if (rc == 0)
            (void)call_refused(r, c, &failure);
        rc = call_wait(r, &retry, c, &failure, e);
        if (rc == 0 && c->rewind)
            rc = c->rewind(c->rewind_arg, e);
        if (rc < 0)
            return rc;
        if (c->out)
            c->out->n = out_bytes;
    }
}

/* ---- mirrors ---- */

static bool is_peer_for(const struct registry *r, const struct peer *peer, enum peer_kind kind)
{
    const struct endpoint *at = peer->endpoint;
    if (!at->is_mirror)
        return true;
    if (r->is_writable || atomic_load(&peer->is_dead))
        return false;
    return kind == PEER_FOR_TAG ? at->for_tags : at->for_digests;
}

/* Failures of ours, or of who takes the bytes: another place would not help. */
static bool is_local(int rc)
{
    switch (-rc) {
    case LARDER_CANCELED:
    case LARDER_NOMEM:
    case LARDER_NOSPACE:
    case LARDER_IO:
    case LARDER_DENIED:
    case LARDER_INVAL:
        return true;
    default:
        return false;
    }
}

int registry_ask(struct registry *r, enum peer_kind kind,
                 int (*fn)(struct registry *r, struct peer *peer, void *arg,
                           struct larder_error *e),
                 void *arg, struct larder_error *e)
{
    for (size_t i = 0; i + 1 < r->n_peers; i++) {
        struct peer *peer = &r->peers[i];
        if (!is_peer_for(r, peer, kind))
            continue;
        struct larder_error failure = LARDER_ERROR_INIT;
        int rc = fn(r, peer, arg, &failure);
        if (rc >= 0 || is_local(rc)) {
            if (rc < 0 && e)
                *e = failure;
            return rc;
        }
        if (rc == -LARDER_UNREACHABLE && failure.http_status == 0)
            atomic_store(&peer->is_dead, true);
        if (r->observer.note) {
            char text[LARDER_ERROR_MSG_BYTES + 300];
            snprintf(text, sizeof(text), "mirror %s: %s; asking the next", peer->endpoint->base,
                     failure.msg);
            r->observer.note(r->observer.arg, text);
        }
    }
    return fn(r, registry_primary(r), arg, e);
}
