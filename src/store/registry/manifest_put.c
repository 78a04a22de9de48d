/* SPDX-License-Identifier: Apache-2.0 */
/* Storing and deleting manifests. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "oci/manifest.h"
#include "store/registry/session.h"

#define PATH_BYTES (16 + LARDER_DIGEST_TEXT_BYTES + OCI_TAG_MAX_BYTES)

static bool is_same_there(struct registry *r, const char *tag,
                          const struct store_descriptor *manifest, struct larder_digest *ret)
{
    struct store_descriptor found;
    if (registry_resolve(&r->store, tag, &found, NULL) < 0)
        return false;
    *ret = found.digest;
    return larder_digest_equal(&found.digest, &manifest->digest);
}

/*
 * A tag that can't be changed refuses even what it has (with 400, 403, 405, 409 or 412, by
 * registry): then it is as wanted.
 */
static int put_refused(struct registry *r, const struct call *c,
                       const struct store_descriptor *manifest, struct larder_error *e)
{
    struct larder_digest found = {0};
    char text[LARDER_DIGEST_TEXT_BYTES];
    int status = c->response.status;
    bool may_be_fixed = status == 400 || status == 403 || status == 405 || status == 409 ||
                        status == 412 || call_is_transient(status);
    if (c->tag && may_be_fixed && is_same_there(r, c->tag, manifest, &found))
        return 0;
    bool says_fixed = status == 409 || status == 412 || call_says(c, "immutable") ||
                      call_says(c, "already exist") || call_says(c, "cannot be overwritten");
    if (c->tag && says_fixed && found.alg != LARDER_DIGEST_NONE)
        return call_fail(r, c, LARDER_EXIST, e, "the tag can't be changed and points to %s",
                         larder_digest_format(&found, text));
    int rc = call_refused(r, c, e);
    if (!call_has_code(c, "MANIFEST_BLOB_UNKNOWN"))
        return rc;
    if (e)
        e->code = LARDER_NOENT; /* something that it names is not there */
    return -LARDER_NOENT;
}

static int put_accepted(struct registry *r, const struct call *c,
                        const struct store_descriptor *manifest, bool *ret_has_subject,
                        struct larder_error *e)
{
    struct larder_digest said;
    char said_text[LARDER_DIGEST_TEXT_BYTES];
    char text[LARDER_DIGEST_TEXT_BYTES];
    int rc = call_digest(r, c, &said, e);
    if (rc < 0)
        return rc;
    if (said.alg == manifest->digest.alg && !larder_digest_equal(&said, &manifest->digest))
        return call_fail(r, c, LARDER_MISMATCH, e, "the registry stored it as %s, expected %s",
                         larder_digest_format(&said, said_text),
                         larder_digest_format(&manifest->digest, text));
    *ret_has_subject = http_response_header(&c->response, "OCI-Subject", 0).n > 0;
    return 0;
}

int manifest_put_one(struct registry *r, const char *reference, bool is_tag,
                     const struct store_descriptor *manifest, struct slice bytes,
                     bool *ret_has_subject, struct larder_error *e)
{
    char path[PATH_BYTES];
    const struct http_header type = {"Content-Type", manifest->media_type};
    const struct http_upload upload = {.data = bytes.p, .n = bytes.n, .fd = -1};
    struct call c = {
        .peer = registry_primary(r),
        .path = path,
        .actions = "pull,push",
        .tag = is_tag ? reference : NULL,
        .digest = is_tag ? NULL : reference,
        .is_200_stray = true,
        .request = {.method = HTTP_PUT, .headers = &type, .n_headers = 1, .upload = &upload},
    };
    snprintf(path, sizeof(path), "manifests/%s", reference);
    int rc = call_run(r, &c, e);
    int status = c.response.status;
    if (rc == 0 && status >= 200 && status <= 204)
        rc = put_accepted(r, &c, manifest, ret_has_subject, e);
    else if (rc == 0)
        rc = put_refused(r, &c, manifest, e);
    call_done(&c);
    return rc;
}

static int put_all(struct registry *r, const struct store_descriptor *manifest, struct slice bytes,
                   const char *const *refs, size_t n_refs, bool *ret_has_subject,
                   struct larder_error *e)
{
    char digest[LARDER_DIGEST_TEXT_BYTES];
    int rc = 0;
    larder_digest_format(&manifest->digest, digest);
    /* A tag alone stores it under its sha256. */
    if (n_refs == 0 || manifest->digest.alg != LARDER_DIGEST_SHA256)
        rc = manifest_put_one(r, digest, false, manifest, bytes, ret_has_subject, e);
    for (size_t i = 0; rc == 0 && i < n_refs; i++)
        rc = manifest_put_one(r, refs[i], true, manifest, bytes, ret_has_subject, e);
    if (rc == 0 && *ret_has_subject)
        atomic_store(&r->has_referrers, KNOWN_YES);
    return rc;
}

/*
 * One after the other for each subject: olareg forgets one of two that are put at the same moment,
 * and answers both as it should. Listed where its subject's referrers are looked for when the
 * registry does not do so.
 */
static int put_referrer(struct registry *r, const struct oci_manifest *m,
                        const struct store_descriptor *manifest, struct slice bytes,
                        const char *const *refs, size_t n_refs, struct larder_error *e)
{
    pthread_mutex_t *lock = &r->subject_locks[m->subject.digest.bytes[0] % SUBJECT_LOCKS];
    bool has_subject = false;
    pthread_mutex_lock(lock);
    int rc = put_all(r, manifest, bytes, refs, n_refs, &has_subject, e);
    pthread_mutex_unlock(lock);
    return rc == 0 && !has_subject ? referrers_tag_add(r, m, manifest, e) : rc;
}

int registry_manifest_put(struct store *s, const struct store_descriptor *manifest,
                          struct slice bytes, const char *const *refs, size_t n_refs,
                          struct larder_error *e)
{
    struct registry *r = registry_of(s);
    CLEANUP(oci_manifest_freep) struct oci_manifest *m = NULL;
    struct larder_error why = LARDER_ERROR_INIT;
    bool has_subject = false;
    for (size_t i = 0; i < n_refs; i++)
        if (!oci_tag_is_valid(slice_of(refs[i])))
            return error_set(e, LARDER_INVAL, "%s: a tag is needed", s->name);
    int parsed = 0;
    if (memmem(bytes.p, bytes.n, "\"subject\"", 9))
        parsed = oci_manifest_parse(bytes, manifest->media_type, &m, &why);
    if (m && m->has_subject)
        return put_referrer(r, m, manifest, bytes, refs, n_refs, e);
    int rc = put_all(r, manifest, bytes, refs, n_refs, &has_subject, e);
    if (rc < 0 || parsed == 0 || has_subject)
        return rc;
    /* It may have a subject that nobody lists it under. */
    if (e)
        *e = why;
    return parsed;
}

/* ---- deleting ---- */

/* The subject of a manifest that is about to go, for the list it stands in. 1: *ret; 0: none. */
static int find_subject(struct registry *r, const struct larder_digest *digest,
                        struct larder_digest *ret, struct larder_error *e)
{
    CLEANUP(oci_manifest_freep) struct oci_manifest *m = NULL;
    struct buf bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    struct store_descriptor found;
    int has = 0;
    int rc = registry_manifest_get(&r->store, NULL, digest, &bytes, &found, e);
    if (rc == 0 && memmem(bytes.p ? bytes.p : "", bytes.n, "\"subject\"", 9) &&
        oci_manifest_parse(buf_slice(&bytes), found.media_type, &m, NULL) == 0 && m->has_subject) {
        *ret = m->subject.digest;
        has = 1;
    }
    buf_done(&bytes);
    return rc < 0 ? rc : has;
}

int registry_manifest_remove(struct store *s, const struct larder_digest *digest,
                             struct larder_error *e)
{
    struct registry *r = registry_of(s);
    char path[PATH_BYTES];
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct larder_digest subject;
    bool is_api_known = atomic_load(&r->has_referrers) == KNOWN_YES;
    int has_subject = is_api_known ? 0 : find_subject(r, digest, &subject, e);
    if (has_subject < 0)
        return has_subject;
    struct call c = {
        .peer = registry_primary(r),
        .path = path,
        .actions = "delete",
        .digest = larder_digest_format(digest, text),
        .request = {.method = HTTP_DELETE},
    };
    snprintf(path, sizeof(path), "manifests/%s", text);
    int rc = call_run(r, &c, e);
    int status = c.response.status;
    if (rc == 0 && status >= 300) {
        rc = call_refused(r, &c, e);
        if (status == 400 || status == 405) /* how it is said that it is switched off */
            rc = call_fail(r, &c, LARDER_UNSUPPORTED, e,
                           "the registry does not delete manifests (status %d)", status);
    }
    call_done(&c);
    if (rc == 0 && has_subject)
        rc = referrers_tag_drop(r, &subject, digest, e);
    return rc;
}
