/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storing a blob: asked for first, mounted if it can be, then sent in the first way that this
 * registry takes. What was learned about the registry serves the blobs after it.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fdio.h"
#include "store/registry/location.h"
#include "store/registry/upload.h"

#define SESSIONS_MAX 8 /* of one blob, failures that wait not counted */

/* ---- sessions ---- */

static void forget_session(struct upload *u)
{
    free(u->location);
    u->location = NULL;
    u->stored_bytes = 0;
    u->is_doubtful = false;
}

int upload_take_session(struct upload *u, const struct call *c, struct larder_error *e)
{
    char *location = NULL;
    uint64_t min_bytes = 0;
    struct slice value = http_response_header(&c->response, "Location", 0);
    if (value.n == 0)
        return call_fail(u->r, c, LARDER_PROTO, e,
                         "the registry opened an upload but does not say where (no Location)");
    int rc = call_resolve(u->r, c, value, &location, e);
    if (rc < 0)
        return rc;
    free(u->location);
    u->location = location;
    value = http_response_header(&c->response, "OCI-Chunk-Min-Length", 0);
    if (value.n > 0 && slice_parse_u64(value, &min_bytes))
        u->min_chunk_bytes = min_bytes;
    return 0;
}

static void post_call(const struct upload *u, struct call *ret)
{
    *ret = (struct call){
        .peer = registry_primary(u->r),
        .path = "blobs/uploads/",
        .actions = "pull,push",
        .blob = u->digest,
        .is_200_stray = true,
        .request = {.method = HTTP_POST},
    };
}

int upload_open(struct upload *u, struct larder_error *e)
{
    struct call c;
    forget_session(u);
    post_call(u, &c);
    int rc = call_run(u->r, &c, e);
    if (rc == 0 && (c.response.status == 202 || c.response.status == 201))
        rc = upload_take_session(u, &c, e);
    else if (rc == 0)
        rc = call_refused(u->r, &c, e);
    call_done(&c);
    return rc;
}

void upload_cancel(struct upload *u)
{
    if (!u->location)
        return;
    struct call c = {
        .peer = registry_primary(u->r),
        .url = u->location,
        .actions = "pull,push", /* some want the right to delete; then it ends by itself */
        .blob = u->digest,
        .no_challenge = true,
        .request = {.method = HTTP_DELETE},
    };
    (void)call_once(u->r, &c, NULL);
    call_done(&c);
    forget_session(u);
}

/* ---- mount ---- */

static bool is_mount_refused(struct registry *r, const char *from)
{
    pthread_mutex_lock(&r->lock);
    bool is_refused = r->mount_refused && strcmp(r->mount_refused, from) == 0;
    pthread_mutex_unlock(&r->lock);
    return is_refused;
}

static void refuse_mount(struct registry *r, const char *from)
{
    char *copy = strdup(from);
    pthread_mutex_lock(&r->lock);
    if (copy) {
        free(r->mount_refused);
        r->mount_refused = copy;
    }
    pthread_mutex_unlock(&r->lock);
}

/*
 * 1: mounted. 0: not; then a session may be open. Refusals of all kinds (also of a token for the
 * other repository) only mean that the bytes must be sent.
 */
static int try_mount(struct upload *u, const char *from, struct larder_error *e)
{
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE char *digest = location_escape(u->digest);
    CLEANUP_FREE char *escaped = location_escape(from);
    struct call c;
    if (!digest || !escaped ||
        asprintf(&path, "blobs/uploads/?mount=%s&from=%s", digest, escaped) < 0) {
        path = NULL;
        return error_nomem(e);
    }
    post_call(u, &c);
    c.path = path;
    c.from = from;
    struct larder_error why = LARDER_ERROR_INIT;
    int rc = call_run(u->r, &c, &why);
    int status = c.response.status;
    int result = 0;
    if (rc == 0 && status == 201)
        result = 1;
    else if (rc == 0 && status == 202)
        result = upload_take_session(u, &c, e);
    else if (rc == -LARDER_CANCELED || rc == -LARDER_NOMEM)
        result = rc;
    else
        refuse_mount(u->r, from);
    if (result == rc && rc < 0 && e)
        *e = why;
    call_done(&c);
    return result;
}

/* ---- all in one POST ---- */

static bool may_post_whole(const struct upload *u)
{
    return u->small && !u->location && atomic_load(&u->r->has_single_post) != KNOWN_NO;
}

/*
 * Registries that know it need one request a blob; the others open a session as if there had been
 * no body, which costs nothing but these few bytes, once. 1: stored.
 */
static int post_whole(struct upload *u, struct larder_error *e)
{
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE char *digest = location_escape(u->digest);
    const struct http_header type = {"Content-Type", "application/octet-stream"};
    const struct http_upload body = {.data = u->small, .n = (size_t)u->blob->size_bytes, .fd = -1};
    struct call c;
    if (!digest || asprintf(&path, "blobs/uploads/?digest=%s", digest) < 0) {
        path = NULL;
        return error_nomem(e);
    }
    post_call(u, &c);
    c.path = path;
    c.request.headers = &type;
    c.request.n_headers = 1;
    c.request.upload = &body;
    struct larder_error why = LARDER_ERROR_INIT;
    int rc = call_once(u->r, &c, &why);
    int status = c.response.status;
    bool is_stored = rc == 0 && status == 201;
    if (is_stored)
        atomic_store(&u->r->has_single_post, KNOWN_YES);
    else if (rc == 0 && status != 429 && status != 401 && status != 403)
        atomic_store(&u->r->has_single_post, KNOWN_NO);
    int result = is_stored ? 1 : 0;
    if (rc == 0 && status == 202 && upload_take_session(u, &c, NULL) == 0)
        u->is_doubtful = true; /* it might have kept the body */
    /* The answer was lost, or is of a proxy that gave up: the blob may be stored all the same. */
    if ((rc == -LARDER_UNREACHABLE || (rc == 0 && status >= 500)) &&
        registry_blob_has(&u->r->store, u->blob, NULL) == 1)
        result = 1;
    if (rc == -LARDER_CANCELED || rc == -LARDER_NOMEM)
        result = rc;
    if (result < 0 && e)
        *e = why;
    call_done(&c);
    return result;
}

/* ---- the whole ---- */

static int read_small(struct upload *u, struct larder_error *e)
{
    const struct blob_source *s = u->source;
    size_t n = (size_t)u->blob->size_bytes;
    if (u->blob->size_bytes > UPLOAD_SMALL_BYTES)
        return 0;
    u->small = malloc(n + 1);
    if (!u->small)
        return error_nomem(e);
    for (size_t done = 0; done < n;) {
        size_t got = 0;
        int rc = 0;
        if (s->extent.fd >= 0) {
            ssize_t r =
                pread(s->extent.fd, u->small + done, n - done, (off_t)(s->extent.offset + done));
            if (r < 0 && errno == EINTR)
                continue;
            if (r < 0)
                return error_errno(e, errno, "blob %s", u->digest);
            got = (size_t)r;
        } else {
            rc = s->read(s->arg, u->small + done, n - done, &got, e);
        }
        if (rc < 0)
            return rc;
        if (got == 0)
            return error_set(e, LARDER_CORRUPT, "blob %s: %zu bytes, expected %zu", u->digest, done,
                             n);
        done += got;
    }
    return 0;
}

static enum upload_way first_way(const struct upload *u)
{
    enum upload_way way = (enum upload_way)atomic_load(&u->r->upload_way);
    uint64_t max = atomic_load(&u->r->whole_bytes_max);
    return u->blob->size_bytes >= max ? UPLOAD_CHUNKS : way;
}

/* What this way's failure says about the next one. */
static enum upload_way next_way(const struct upload *u, enum upload_way way)
{
    return u->error_status == 413 || way != UPLOAD_WHOLE ? UPLOAD_CHUNKS : UPLOAD_STREAM;
}

/* A way below the first worked: the next blob needs no detour. */
static void learn_way(struct upload *u, enum upload_way way, bool was_size)
{
    struct registry *r = u->r;
    uint64_t size = u->blob->size_bytes;
    if (was_size && way == UPLOAD_CHUNKS) {
        uint64_t old = atomic_load(&r->whole_bytes_max);
        while (old > size && !atomic_compare_exchange_weak(&r->whole_bytes_max, &old, size))
            continue;
    } else if ((int)way > atomic_load(&r->upload_way)) {
        atomic_store(&r->upload_way, (int)way);
    }
}

/* A stream that was begun is lost with the request that took it. */
static bool is_spent(const struct upload *u)
{
    return !upload_can_repeat(u) && u->at_bytes > 0;
}

/*
 * After the failure of an upload. 1: the registry has the blob after all. 0: try again, in the
 * session that is still open or in another.
 */
static int recover(struct upload *u, struct retry *retry, const struct larder_error *failure,
                   struct larder_error *e)
{
    const struct call none = {.response = {.retry_after_ns = 0}};
    bool is_over = is_spent(u) && http_is_transient(failure);
    int rc = is_over ? 0 : call_wait(u->r, retry, &none, failure, e);
    if (rc == 0 && u->was_closing)
        rc = registry_blob_has(&u->r->store, u->blob, is_over ? NULL : e);
    if (is_over && rc != 1) {
        if (e)
            *e = *failure;
        return -(int)failure->code;
    }
    if (rc != 0)
        return rc;
    bool goes_on = upload_can_repeat(u) && upload_ask_status(u) && u->stored_bytes > 0;
    if (goes_on)
        u->is_doubtful = true;
    else
        forget_session(u);
    return 0;
}

static bool is_size_status(int status)
{
    return status == 413 || status == 416;
}

/* One try in a way, with a session. */
static int attempt(struct upload *u, enum upload_way way, enum upload_end *ret,
                   struct larder_error *e)
{
    int rc = u->location ? 0 : upload_open(u, e);
    u->was_closing = false;
    return rc < 0 ? rc : upload_send(u, way, ret, e);
}

static int send_blob(struct upload *u, struct larder_error *e)
{
    enum upload_way way = first_way(u);
    bool was_refused = false;
    bool was_size = false;
    struct retry retry;
    retry_init(&retry, u->r->retries, u->r->retry_wait_ns, &u->r->observer);
    for (unsigned sessions = 0; sessions < SESSIONS_MAX;) {
        enum upload_end end = UPLOAD_DONE;
        struct larder_error failure = LARDER_ERROR_INIT;
        uint64_t before = u->stored_bytes;
        int rc = attempt(u, way, &end, &failure);
        if (rc == 0 && end == UPLOAD_DONE) {
            if (was_refused)
                learn_way(u, way, was_size);
            return 0;
        }
        if (rc < 0) {
            if (u->stored_bytes > before)
                retry_refill(&retry);
            rc = recover(u, &retry, &failure, e);
            if (rc != 0)
                return rc < 0 ? rc : 0;
            continue;
        }
        sessions++;
        bool is_last = way == UPLOAD_CHUNKS && end == UPLOAD_REFUSED;
        if (is_last || is_spent(u))
            break;
        upload_cancel(u);
        forget_session(u);
        if (end == UPLOAD_LOST)
            continue;
        was_refused = true;
        was_size |= is_size_status(u->error_status);
        way = next_way(u, way);
    }
    upload_cancel(u);
    if (e)
        *e = u->error;
    return -(int)u->error.code;
}

static int put(struct upload *u, const char *from, bool is_missing, enum blob_how *ret,
               struct larder_error *e)
{
    int rc = is_missing ? 0 : registry_blob_has(&u->r->store, u->blob, e);
    if (rc != 0) {
        if (rc > 0)
            *ret = BLOB_EXISTED;
        return rc < 0 ? rc : 0;
    }
    if (from && strcmp(from, u->r->repository) != 0 && !is_mount_refused(u->r, from)) {
        rc = try_mount(u, from, e);
        if (rc > 0)
            *ret = BLOB_MOUNTED;
        if (rc != 0)
            return rc < 0 ? rc : 0;
    }
    rc = read_small(u, e);
    if (rc == 0 && may_post_whole(u))
        rc = post_whole(u, e);
    if (rc == 0)
        rc = send_blob(u, e);
    if (rc < 0)
        return rc;
    *ret = BLOB_COPIED;
    return 0;
}

int registry_blob_put(struct store *s, const struct store_descriptor *blob,
                      struct blob_source *source, const char *from, bool is_missing,
                      enum blob_how *ret, struct larder_error *e)
{
    char digest[LARDER_DIGEST_TEXT_BYTES];
    struct larder_error own = LARDER_ERROR_INIT;
    struct upload u = {
        .r = registry_of(s),
        .blob = blob,
        .source = source,
        .digest = larder_digest_format(&blob->digest, digest),
    };
    enum blob_how how = BLOB_COPIED;
    int rc = put(&u, from, is_missing, &how, &own);
    if (rc == 0 && source->sent && how == BLOB_COPIED)
        rc = source->sent(source->arg, blob->size_bytes, &own);
    free(u.small);
    free(u.location);
    if (rc == 0)
        *ret = how;
    else if (e)
        *e = own;
    return rc;
}
