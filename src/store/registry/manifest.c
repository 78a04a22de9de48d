/* SPDX-License-Identifier: Apache-2.0 */
/* Asking for manifests: HEAD where the digest is enough, GET otherwise, hashed here. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "oci/manifest.h"
#include "store/registry/session.h"

/* "manifests/" and a tag or digest */
#define PATH_BYTES (16 + LARDER_DIGEST_TEXT_BYTES + OCI_TAG_MAX_BYTES)

static const struct http_header accept_manifests = {"Accept", OCI_ACCEPT_MANIFESTS};

struct question {
    const char *tag;                    /* NULL: by digest */
    const struct larder_digest *digest; /* NULL: by tag */
    struct buf *out;                    /* bytes wanted; NULL: a description will do */
    struct store_descriptor *ret;
    const struct store_descriptor *supposed; /* what the tag may point to still; NULL: no idea */
};

/* What a Content-Type says about a manifest; servers of plain files don't know ("" then). */
static void media_type_of(const struct http_response *response, char *out)
{
    if (!response->content_type || !media_type_clean(slice_of(response->content_type), out) ||
        strcmp(out, "application/json") == 0 || strncmp(out, "text/", 5) == 0 ||
        strcmp(out, "application/octet-stream") == 0)
        out[0] = '\0';
}

static int check_type(const struct registry *r, const struct call *c, const char *type,
                      struct larder_error *e)
{
    if (media_type_is_schema1(type))
        return call_fail(r, c, LARDER_UNSUPPORTED, e,
                         "a manifest of Docker's schema 1, which is not supported");
    return 0;
}

static int check_digest(const struct registry *r, const struct call *c,
                        const struct larder_digest *found, const struct larder_digest *expected,
                        struct larder_error *e)
{
    char found_text[LARDER_DIGEST_TEXT_BYTES];
    char expected_text[LARDER_DIGEST_TEXT_BYTES];
    if (larder_digest_equal(found, expected))
        return 0;
    return call_fail(r, c, LARDER_CORRUPT, e, "the registry has %s there, expected %s",
                     larder_digest_format(found, found_text),
                     larder_digest_format(expected, expected_text));
}

static void question_call(const struct question *q, enum http_method method, char *path,
                          char *digest_text, struct call *ret)
{
    *ret = (struct call){
        .path = path,
        .tag = q->digest ? NULL : q->tag,
        .out = q->out,
        .request = {.method = method, .headers = &accept_manifests, .n_headers = 1},
    };
    if (q->digest)
        ret->digest = larder_digest_format(q->digest, digest_text);
    snprintf(path, PATH_BYTES, "manifests/%s", ret->digest ? ret->digest : q->tag);
}

/* ---- HEAD ---- */

/* 1: *ret is complete; 0: only a GET will tell. */
static int read_head(const struct registry *r, const struct call *c, const struct question *q,
                     struct larder_error *e)
{
    struct store_descriptor found = {0};
    int rc = call_digest(r, c, &found.digest, e);
    if (rc < 0)
        return rc;
    if (found.digest.alg != LARDER_DIGEST_NONE && q->digest && found.digest.alg == q->digest->alg) {
        rc = check_digest(r, c, &found.digest, q->digest, e);
        if (rc < 0)
            return rc;
    }
    media_type_of(&c->response, found.media_type);
    rc = check_type(r, c, found.media_type, e);
    if (rc < 0)
        return rc;
    if (q->digest)
        found.digest = *q->digest;
    if (found.digest.alg == LARDER_DIGEST_NONE || !c->response.has_length ||
        found.media_type[0] == '\0')
        return 0;
    found.size_bytes = c->response.length_bytes;
    *q->ret = found;
    return 1;
}

/* 1: "not modified", and nothing in the answer speaks against it. */
static int read_unmodified(const struct registry *r, const struct call *c, const struct question *q,
                           struct larder_error *e)
{
    struct larder_digest found = {0};
    int rc = call_digest(r, c, &found, e);
    if (rc == 0 && found.alg == q->supposed->digest.alg)
        rc = check_digest(r, c, &found, &q->supposed->digest, e);
    if (rc < 0)
        return rc;
    *q->ret = *q->supposed;
    return 1;
}

/*
 * Where a registry's ETag of a manifest is its digest (distribution's, and what is built on it),
 * the supposed digest is answered without the manifest being read: with an index of thousands of
 * images that is most of the answer's time. Other ETags can't equal a digest; then it is a HEAD.
 */
static int ask_head(struct registry *r, struct peer *peer, const struct question *q,
                    struct larder_error *e)
{
    char path[PATH_BYTES];
    char digest_text[LARDER_DIGEST_TEXT_BYTES];
    char etag[LARDER_DIGEST_TEXT_BYTES + 2];
    struct call c;
    question_call(q, HTTP_HEAD, path, digest_text, &c);
    c.peer = peer;
    c.actions = registry_read_actions(r);
    c.out = NULL;
    if (q->supposed) {
        snprintf(etag, sizeof(etag), "\"%s\"",
                 larder_digest_format(&q->supposed->digest, digest_text));
        c.request.if_none_match = etag;
    }
    int rc = call_run(r, &c, e);
    if (rc == 0 && c.response.status == 200)
        rc = read_head(r, &c, q, e);
    else if (rc == 0 && c.response.status == 304 && q->supposed)
        rc = read_unmodified(r, &c, q, e);
    else if (rc == 0 && (c.response.status == 405 || c.response.status == 501 || c.is_elsewhere))
        rc = 0; /* HEAD is not for them, or a signed URL was for GET only */
    else if (rc == 0)
        rc = call_refused(r, &c, e);
    call_done(&c);
    return rc;
}

/* ---- GET ---- */

static int read_body(const struct registry *r, const struct call *c, const struct question *q,
                     size_t start, struct larder_error *e)
{
    struct slice bytes = {q->out->p ? q->out->p + start : "", q->out->n - start};
    struct larder_digest said = {0};
    struct larder_digest actual = {0};
    struct store_descriptor found = {.size_bytes = bytes.n};
    int rc = call_check_encoding(r, c, e);
    if (rc == 0)
        rc = call_digest(r, c, &said, e);
    if (rc < 0)
        return rc;
    enum larder_digest_alg alg = q->digest ? q->digest->alg : said.alg;
    if (alg == LARDER_DIGEST_NONE)
        alg = LARDER_DIGEST_SHA256;
    media_type_of(&c->response, found.media_type);
    rc = check_type(r, c, found.media_type, e);
    if (rc == 0)
        rc = hash_of(alg, bytes.p, bytes.n, &actual, e);
    if (rc == 0 && said.alg == alg)
        rc = check_digest(r, c, &actual, &said, e);
    if (rc == 0 && q->digest)
        rc = check_digest(r, c, &actual, q->digest, e);
    if (rc < 0)
        return rc;
    found.digest = actual;
    *q->ret = found;
    return 0;
}

static int ask_get(struct registry *r, struct peer *peer, const struct question *q,
                   struct larder_error *e)
{
    char path[PATH_BYTES];
    char digest_text[LARDER_DIGEST_TEXT_BYTES];
    size_t start = q->out->n;
    struct call c;
    question_call(q, HTTP_GET, path, digest_text, &c);
    c.peer = peer;
    c.actions = registry_read_actions(r);
    int rc = call_run(r, &c, e);
    if (rc == 0 && c.response.status == 200)
        rc = read_body(r, &c, q, start, e);
    else if (rc == 0)
        rc = call_refused(r, &c, e);
    if (rc < 0)
        q->out->n = start;
    call_done(&c);
    return rc;
}

/* ---- the operations ---- */

static int resolve_at(struct registry *r, struct peer *peer, void *arg, struct larder_error *e)
{
    struct question *q = arg;
    int rc = ask_head(r, peer, q, e);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    struct buf bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    struct question get = *q;
    get.out = &bytes;
    rc = ask_get(r, peer, &get, e);
    buf_done(&bytes);
    return rc;
}

static int get_at(struct registry *r, struct peer *peer, void *arg, struct larder_error *e)
{
    return ask_get(r, peer, arg, e);
}

static int check_ref(const struct store *s, const char *ref, struct larder_error *e)
{
    if (ref && oci_tag_is_valid(slice_of(ref)))
        return 0;
    return error_set(e, LARDER_INVAL, "%s: a tag is needed", s->name);
}

int registry_resolve(struct store *s, const char *ref, struct store_descriptor *ret,
                     struct larder_error *e)
{
    return registry_resolve_supposed(s, ref, NULL, ret, e);
}

int registry_resolve_supposed(struct store *s, const char *ref,
                              const struct store_descriptor *supposed, struct store_descriptor *ret,
                              struct larder_error *e)
{
    struct store_descriptor found = {0};
    struct question q = {.tag = ref, .ret = &found, .supposed = supposed};
    int rc = check_ref(s, ref, e);
    if (rc == 0)
        rc = registry_ask(registry_of(s), PEER_FOR_TAG, resolve_at, &q, e);
    if (rc == 0)
        *ret = found;
    return rc;
}

int registry_manifest_get(struct store *s, const char *ref, const struct larder_digest *digest,
                          struct buf *out, struct store_descriptor *ret, struct larder_error *e)
{
    struct store_descriptor found = {0};
    struct question q = {.tag = ref, .digest = digest, .out = out, .ret = &found};
    int rc = digest ? 0 : check_ref(s, ref, e);
    if (rc == 0)
        rc = registry_ask(registry_of(s), digest ? PEER_FOR_DIGEST : PEER_FOR_TAG, get_at, &q, e);
    if (rc == 0)
        *ret = found;
    return rc;
}

int registry_manifest_has(struct store *s, const struct store_descriptor *manifest,
                          struct larder_error *e)
{
    struct larder_error own = LARDER_ERROR_INIT;
    struct store_descriptor found = {0};
    struct question q = {.digest = &manifest->digest, .ret = &found};
    int rc = registry_ask(registry_of(s), PEER_FOR_DIGEST, resolve_at, &q, &own);
    if (rc == -LARDER_NOENT)
        return 0;
    if (rc < 0 && e)
        *e = own;
    return rc < 0 ? rc : 1;
}
