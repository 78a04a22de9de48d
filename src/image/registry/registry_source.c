/* SPDX-License-Identifier: Apache-2.0 */
#include "image/registry/registry_source.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "image/context.h"
#include "image/source.h"
#include "oci/manifest.h"
#include "store/blob_read.h"
#include "store/dir/dir.h"
#include "store/registry/registry.h"

struct ask {
    struct store *registry;
    struct oci_reference reference;
    const struct image_entry *entry;
    struct store_descriptor root; /* what the reference points to */
    bool is_blob;                 /* the digest is no manifest's but a blob's */
    struct buf manifest;          /* of the disk; empty for a blob */
    struct larder_digest manifest_digest;
    struct image_artifact artifact;
};

static int open_registry(struct larder_store *store, struct ask *ask, struct larder_error *e)
{
    const struct image_context *context = image_context_get(store);
    if (!context)
        return error_nomem(e);
    struct larder_registry_options options = LARDER_REGISTRY_OPTIONS_INIT;
    options.net = &context->net;
    options.authfile = context->net.authfile;
    options.observer = store_observer(store);
    const struct remote_options remote = {.options = &options, .observer = store_observer(store)};
    return registry_open(&ask->reference, &remote, 0, &ask->registry, e);
}

/* Upstream's "not there" is another thing than ours. */
static int upstream(int rc, struct larder_error *e)
{
    if (rc != -LARDER_NOENT)
        return rc;
    if (e)
        e->code = LARDER_GONE;
    return -LARDER_GONE;
}

static int resolve(struct ask *ask, struct larder_error *e)
{
    const struct oci_reference *reference = &ask->reference;
    if (reference->digest.alg != LARDER_DIGEST_NONE) {
        ask->root.digest = reference->digest;
        return 0; /* nothing to ask: it can't move */
    }
    const char *tag = reference->tag ? reference->tag : "latest";
    return upstream(ask->registry->ops->resolve(ask->registry, tag, &ask->root, e), e);
}

static int take_blob(struct ask *ask, struct larder_error *e)
{
    uint64_t size = 0;
    int rc = registry_blob_size(ask->registry, &ask->root.digest, &size, e);
    if (rc == -LARDER_NOENT)
        return error_set(e, LARDER_GONE, "%s: neither a manifest nor a blob of that digest",
                         ask->entry->source);
    if (rc < 0)
        return rc;
    ask->artifact.blobs = calloc(1, sizeof(*ask->artifact.blobs));
    if (!ask->artifact.blobs)
        return error_nomem(e);
    ask->artifact.packing = ARTIFACT_FILE;
    ask->artifact.n_blobs = 1;
    ask->artifact.blobs[0].digest = ask->root.digest;
    ask->artifact.blobs[0].size_bytes = size;
    ask->is_blob = true;
    return 0;
}

static int get_manifest(struct ask *ask, const struct larder_digest *digest,
                        struct oci_manifest **ret, struct larder_error *e)
{
    struct store_descriptor found = {0};
    buf_reset(&ask->manifest);
    int rc =
        ask->registry->ops->manifest_get(ask->registry, NULL, digest, &ask->manifest, &found, e);
    if (rc < 0)
        return rc;
    ask->manifest_digest = *digest;
    rc = manifest_parse_from(ask->registry, buf_slice(&ask->manifest), found.media_type, ret, e);
    return rc < 0 ? error_context(e, "%s", ask->entry->source) : 0;
}

/* Docker's registry finds blobs by way of manifests, too, and fails (500) when they are none. */
static bool may_be_blob(const struct ask *ask, int rc, const struct larder_error *why)
{
    return ask->reference.digest.alg != LARDER_DIGEST_NONE &&
           (rc == -LARDER_NOENT || (rc == -LARDER_UNREACHABLE && why->http_status >= 500));
}

/* From the root down to the manifest of one disk. */
static int find_artifact(struct ask *ask, struct larder_error *e)
{
    struct larder_digest digest = ask->root.digest;
    for (unsigned depth = 0; depth < OCI_INDEX_DEPTH_MAX; depth++) {
        CLEANUP(oci_manifest_freep) struct oci_manifest *manifest = NULL;
        struct larder_error why = LARDER_ERROR_INIT;
        int rc = get_manifest(ask, &digest, &manifest, &why);
        if (depth == 0 && may_be_blob(ask, rc, &why)) {
            buf_reset(&ask->manifest);
            int r = take_blob(ask, rc == -LARDER_NOENT ? e : NULL);
            if (r == 0 || rc == -LARDER_NOENT)
                return r;
        }
        if (rc < 0) {
            if (e)
                *e = why;
            return upstream(rc, e);
        }
        if (manifest->kind == OCI_KIND_IMAGE) {
            rc = image_artifact_pick(manifest, &ask->artifact, e);
            return rc < 0 ? error_context(e, "%s", ask->entry->source) : 0;
        }
        const struct oci_descriptor *member = NULL;
        rc = image_artifact_member(manifest, ask->entry->format, &member, e);
        if (rc < 0)
            return error_context(e, "%s", ask->entry->source);
        digest = member->digest;
    }
    return error_set(e, LARDER_LIMIT, "%s: indexes nested more than %d deep", ask->entry->source,
                     OCI_INDEX_DEPTH_MAX);
}

static int fill_published(struct ask *ask, struct image_published *ret, struct larder_error *e)
{
    char digest[LARDER_DIGEST_TEXT_BYTES];
    const struct image_artifact *artifact = &ask->artifact;
    bool is_one_blob = artifact->packing == ARTIFACT_FILE;
    const struct larder_digest *stands =
        is_one_blob ? &artifact->blobs[0].digest : &ask->manifest_digest;
    ret->digests.by_alg[stands->alg] = *stands;
    ret->size_bytes = is_one_blob ? artifact->blobs[0].size_bytes : 0;
    if (asprintf(&ret->sums_url, "docker://%s/%s@%s", ask->reference.host, ask->reference.name,
                 larder_digest_format(ask->is_blob ? &ask->root.digest : &ask->manifest_digest,
                                      digest)) < 0) {
        ret->sums_url = NULL;
        return error_nomem(e);
    }
    ret->text = ask->manifest;
    ask->manifest = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    return 0;
}

static int answer(struct ask *ask, bool afresh, struct image_published *ret, struct larder_error *e)
{
    char root[LARDER_DIGEST_TEXT_BYTES];
    int rc = resolve(ask, e);
    if (rc < 0)
        return rc;
    ret->etag = strdup(larder_digest_format(&ask->root.digest, root));
    if (!ret->etag)
        return error_nomem(e);
    if (!afresh && ask->entry->sums_etag && !strcmp(ask->entry->sums_etag, root)) {
        ret->is_unchanged = true;
        return 0;
    }
    rc = find_artifact(ask, e);
    return rc == 0 ? fill_published(ask, ret, e) : rc;
}

int registry_source_ask(struct larder_store *store, const struct image_entry *entry, bool afresh,
                        struct image_published *ret, struct image_artifact *ret_artifact,
                        struct store **ret_registry, struct larder_error *e)
{
    struct ask ask = {.entry = entry, .manifest = BUF_INIT(OCI_MANIFEST_BYTES_MAX)};
    struct image_published published = {0};
    const char *text = entry->source;
    source_is_registry(entry->source, &text);
    int rc = oci_reference_parse(text, &ask.reference, e);
    if (rc == 0)
        rc = open_registry(store, &ask, e);
    if (rc == 0)
        rc = answer(&ask, afresh, &published, e);
    if (rc == 0) {
        *ret = published;
        if (ret_artifact) {
            *ret_artifact = ask.artifact;
            ask.artifact = (struct image_artifact){0};
        }
        if (ret_registry)
            *ret_registry = TAKE_PTR(ask.registry);
    } else {
        image_published_done(&published);
    }
    image_artifact_done(&ask.artifact);
    buf_done(&ask.manifest);
    store_close(ask.registry);
    oci_reference_done(&ask.reference);
    return rc;
}
