/* SPDX-License-Identifier: Apache-2.0 */
/* Asking for blobs, deleting them. */
#include <stdio.h>

#include "base/error.h"
#include "store/registry/session.h"

#define PATH_BYTES (16 + LARDER_DIGEST_TEXT_BYTES)

/*
 * A registry that keeps blobs elsewhere sends us there only for blobs that it has, and the URL is
 * often signed for GET alone: a refusal from there still means "yes".
 */
static int read_answer(struct registry *r, const struct call *c,
                       const struct store_descriptor *blob, struct larder_error *e)
{
    int status = c->response.status;
    if (status == 404)
        return call_fail(r, c, LARDER_NOENT, e, "not found");
    if (c->is_elsewhere && status != 200)
        return status == 400 || status == 401 || status == 403 || status == 405
                   ? 1
                   : call_refused(r, c, e);
    if (status != 200)
        return call_refused(r, c, e);
    if (c->response.has_length && c->response.length_bytes != blob->size_bytes)
        return call_fail(r, c, LARDER_CORRUPT, e, "the registry has %llu bytes, expected %llu",
                         (unsigned long long)c->response.length_bytes,
                         (unsigned long long)blob->size_bytes);
    return 1;
}

static int has_at(struct registry *r, struct peer *peer, void *arg, struct larder_error *e)
{
    const struct store_descriptor *blob = arg;
    char path[PATH_BYTES];
    char digest[LARDER_DIGEST_TEXT_BYTES];
    struct call c = {
        .peer = peer,
        .path = path,
        .actions = registry_read_actions(r),
        .blob = larder_digest_format(&blob->digest, digest),
        .request = {.method = HTTP_HEAD},
    };
    snprintf(path, sizeof(path), "blobs/%s", digest);
    int rc = call_run(r, &c, e);
    if (rc == 0)
        rc = read_answer(r, &c, blob, e);
    call_done(&c);
    return rc;
}

int registry_blob_has(struct store *s, const struct store_descriptor *blob, struct larder_error *e)
{
    struct larder_error own = LARDER_ERROR_INIT;
    struct store_descriptor copy = *blob;
    int rc = registry_ask(registry_of(s), PEER_FOR_DIGEST, has_at, &copy, &own);
    if (rc == -LARDER_NOENT)
        return 0;
    if (rc < 0 && e)
        *e = own;
    return rc;
}

struct size_ask {
    const struct larder_digest *digest;
    uint64_t size_bytes;
};

static int size_at(struct registry *r, struct peer *peer, void *arg, struct larder_error *e)
{
    struct size_ask *ask = arg;
    char path[PATH_BYTES];
    char digest[LARDER_DIGEST_TEXT_BYTES];
    struct call c = {
        .peer = peer,
        .path = path,
        .actions = registry_read_actions(r),
        .blob = larder_digest_format(ask->digest, digest),
        .request = {.method = HTTP_GET, .range_end = 1},
    };
    snprintf(path, sizeof(path), "blobs/%s", digest);
    int rc = call_run(r, &c, e);
    const struct http_response *response = &c.response;
    if (rc == 0 && response->status == 404)
        rc = call_fail(r, &c, LARDER_NOENT, e, "not found");
    else if (rc == 0 && response->status != 206 && response->status != 200)
        rc = call_refused(r, &c, e);
    else if (rc == 0 && !response->has_total)
        rc = call_fail(r, &c, LARDER_PROTO, e, "the registry does not say how large it is");
    if (rc == 0)
        ask->size_bytes = response->total_bytes;
    call_done(&c);
    return rc;
}

int registry_blob_size(struct store *s, const struct larder_digest *digest, uint64_t *ret_bytes,
                       struct larder_error *e)
{
    struct size_ask ask = {digest, 0};
    int rc = registry_ask(registry_of(s), PEER_FOR_DIGEST, size_at, &ask, e);
    if (rc >= 0)
        *ret_bytes = ask.size_bytes;
    return rc < 0 ? rc : 0;
}

int registry_blob_remove(struct store *s, const struct larder_digest *digest,
                         struct larder_error *e)
{
    struct registry *r = registry_of(s);
    char path[PATH_BYTES];
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct call c = {
        .peer = registry_primary(r),
        .path = path,
        .actions = "delete",
        .blob = larder_digest_format(digest, text),
        .request = {.method = HTTP_DELETE},
    };
    snprintf(path, sizeof(path), "blobs/%s", text);
    int rc = call_run(r, &c, e);
    int status = c.response.status;
    if (rc == 0 && status == 400)
        rc = call_fail(r, &c, LARDER_UNSUPPORTED, e,
                       "the registry does not delete blobs (status 400)");
    else if (rc == 0 && status >= 300)
        rc = call_refused(r, &c, e);
    call_done(&c);
    return rc;
}
