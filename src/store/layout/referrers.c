/* SPDX-License-Identifier: Apache-2.0 */
#include "store/layout/referrers.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "oci/manifest.h"
#include "oci/reference.h"
#include "store/upkeep/roots.h"

int manifest_read_extent(const char *where, const struct store_descriptor *manifest,
                         const struct store_extent *extent, struct buf *out, struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct larder_digest actual;
    size_t n = (size_t)extent->n_bytes, before = out->n;
    larder_digest_format(&manifest->digest, text);
    if (extent->n_bytes > OCI_MANIFEST_BYTES_MAX)
        return error_set(e, LARDER_LIMIT, "%s: manifest %s: %llu bytes, at most %lu are read",
                         where, text, (unsigned long long)extent->n_bytes, OCI_MANIFEST_BYTES_MAX);
    if (manifest->size_bytes && manifest->size_bytes != extent->n_bytes)
        return error_set(e, LARDER_CORRUPT, "%s: manifest %s: %zu bytes, expected %llu", where,
                         text, n, (unsigned long long)manifest->size_bytes);
    char *to = buf_reserve(out, n);
    if (!to)
        return buf_failed(out, e);
    ssize_t got = fd_pread_full(extent->fd, to, n, extent->offset);
    if (got < 0)
        return error_errno(e, errno, "%s: manifest %s", where, text);
    int r = hash_of(manifest->digest.alg, to, (size_t)got, &actual, e);
    if (r < 0)
        return r;
    if (!larder_digest_equal(&actual, &manifest->digest)) {
        char found[LARDER_DIGEST_TEXT_BYTES];
        return error_set(e, LARDER_CORRUPT, "%s: manifest %s: its bytes are %s", where, text,
                         larder_digest_format(&actual, found));
    }
    out->n = before + (size_t)got;
    out->p[out->n] = '\0';
    return 0;
}

/* *ret NULL for what is no JSON. Only NOMEM is an error: without memory nothing is known. */
static int parse(struct slice bytes, struct json **ret, struct larder_error *e)
{
    *ret = NULL;
    int r = json_parse(bytes, OCI_MANIFEST_BYTES_MAX, ret, NULL);
    return r == -LARDER_NOMEM ? error_nomem(e) : 0;
}

int manifest_media_type(struct slice bytes, char *out, struct larder_error *e)
{
    CLEANUP(json_freep) struct json *document = NULL;
    int r = parse(bytes, &document, e);
    if (r < 0)
        return r;
    const char *type = json_get_string(document, "mediaType");
    if (!type && json_node_is_array(json_get(document, "manifests")))
        type = OCI_TYPE_INDEX;
    if (!type && json_node_is_object(json_get(document, "config")))
        type = OCI_TYPE_MANIFEST;
    snprintf(out, OCI_MEDIA_TYPE_BYTES, "%s",
             type && strlen(type) < OCI_MEDIA_TYPE_BYTES ? type : "");
    return 0;
}

int manifest_has_subject(struct slice bytes, struct larder_error *e)
{
    CLEANUP(json_freep) struct json *document = NULL;
    int r = parse(bytes, &document, e);
    return r < 0 ? r : json_node_is_object(json_get(document, "subject"));
}

int manifest_subject(struct slice bytes, struct larder_digest *ret, struct larder_error *e)
{
    CLEANUP(json_freep) struct json *document = NULL;
    int r = parse(bytes, &document, e);
    const char *text = json_get_string(json_get(document, "subject"), "digest");
    return r < 0 ? r : text && oci_digest_parse(slice_of(text), ret, NULL) == 0;
}

/* ---- referrers ---- */

struct scan {
    const struct index_json_reader *reader;
    const struct larder_digest *subject;
    const char *artifact_type;
    struct digest_set seen; /* looked at, or listed */
    struct json *found;
    struct larder_error *e;
};

static bool was_seen(const struct scan *scan, const struct larder_digest *digest)
{
    for (size_t i = 0; i < scan->seen.count; i++) {
        if (larder_digest_equal(&scan->seen.digests[i], digest))
            return true;
    }
    return false;
}

/* distribution-spec "Listing Referrers": the type of an image without one is that of its config. */
static const char *artifact_type_of(const struct json *document)
{
    const char *type = json_get_string(document, "artifactType");
    return type && *type ? type : json_get_string(json_get(document, "config"), "mediaType");
}

static bool is_about(const struct json *document, const struct larder_digest *subject)
{
    struct larder_digest digest;
    const char *text = json_get_string(json_get(document, "subject"), "digest");
    return text && oci_digest_parse(slice_of(text), &digest, NULL) == 0 &&
           larder_digest_equal(&digest, subject);
}

static int add_found(struct scan *scan, const struct store_descriptor *manifest,
                     const struct json *document)
{
    const char *type = artifact_type_of(document);
    const struct json *annotations = json_get(document, "annotations");
    char digest[LARDER_DIGEST_TEXT_BYTES], media_type[OCI_MEDIA_TYPE_BYTES];
    if (scan->artifact_type && (!type || strcmp(type, scan->artifact_type) != 0))
        return 0;
    const char *own = json_get_string(document, "mediaType");
    snprintf(media_type, sizeof(media_type), "%s",
             manifest->media_type[0] || !own ? manifest->media_type : own);
    struct json *entry = json_new_object();
    int r = json_set_string(entry, "mediaType", media_type);
    r |= json_set_string(entry, "digest", larder_digest_format(&manifest->digest, digest));
    r |= json_set_u64(entry, "size", manifest->size_bytes);
    r |= json_set_string(entry, "artifactType", type);
    if (json_node_is_object(annotations) && json_length(annotations) > 0)
        r |= json_set(entry, "annotations", json_share(annotations));
    r |= json_append(scan->found, entry);
    return r < 0 ? error_nomem(scan->e) : 0;
}

static int scan_one(struct scan *scan, const struct json *entry, unsigned depth)
{
    struct store_descriptor manifest;
    struct buf bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    const struct json *member;
    if (index_json_entry(entry, "", &manifest, NULL) < 0 || was_seen(scan, &manifest.digest))
        return 0;
    int r = digest_set_add(&scan->seen, &manifest.digest, scan->e);
    if (r < 0)
        return r;
    CLEANUP(json_freep) struct json *document = NULL;
    int got = scan->reader->read(scan->reader->arg, &manifest, &bytes, NULL);
    if (got == -LARDER_NOMEM)
        r = error_nomem(scan->e);
    else if (got == 0)
        r = parse(buf_slice(&bytes), &document, scan->e);
    manifest.size_bytes = bytes.n;
    buf_done(&bytes);
    if (!document)
        return r;
    if (is_about(document, scan->subject))
        r = add_found(scan, &manifest, document);
    const struct json *members = json_get(document, "manifests");
    for (size_t i = 0; r == 0 && depth > 0 && (member = json_at(members, i)); i++)
        r = scan_one(scan, member, depth - 1);
    return r;
}

/* Members of the fallback tag are referrers whatever they say (distribution-spec "Referrers Tag
 * Schema"); they are found by their subject, too, when they are there. */
static int scan_all(struct scan *scan, const struct json *index)
{
    const struct json *entry;
    int r = 0;
    for (size_t i = 0; r == 0 && (entry = json_at(json_get(index, "manifests"), i)); i++)
        r = scan_one(scan, entry, OCI_INDEX_DEPTH_MAX);
    return r;
}

int index_json_referrers(const struct json *index, const struct index_json_reader *reader,
                         const struct larder_digest *subject, const char *artifact_type,
                         struct buf *out, struct larder_error *e)
{
    struct scan scan = {reader, subject, artifact_type, {NULL, 0, 0}, json_new_array(), e};
    CLEANUP(json_freep) struct json *result = NULL;
    int r = scan.found ? scan_all(&scan, index) : error_nomem(e);
    if (r == 0)
        r = index_json_new(&result, e);
    if (r == 0 && json_set(result, "manifests", TAKE_PTR(scan.found)) < 0)
        r = error_nomem(e);
    if (r == 0)
        r = json_dump_ordered(result, out, e);
    json_free(scan.found);
    digest_set_done(&scan.seen);
    return r;
}
