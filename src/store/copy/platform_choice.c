/* SPDX-License-Identifier: Apache-2.0 */
#include "store/copy/platform_choice.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "oci/manifest.h"
#include "oci/write.h"
#include "store/blob_read.h"

#define CONFIG_BYTES_MAX (8UL * 1024 * 1024)
#define LISTED_BYTES_MAX 300U /* of platforms in a message */
#define PLATFORM_BYTES   256U
/* Indexes without a platform that are looked into: who repeats them at each level makes a tree that
 * nobody gets to the end of. */
#define INSIDE_MAX 64

static int none_there(const struct store *from, const struct oci_manifest *index,
                      const struct oci_platform *wanted, struct larder_error *e)
{
    struct buf want = BUF_INIT(PLATFORM_BYTES);
    struct buf there = BUF_INIT(LISTED_BYTES_MAX);
    int rc;

    oci_platform_format(wanted, &want);
    for (size_t i = 0; i < index->n_manifests; i++) {
        const struct oci_platform *p = &index->manifests[i].platform;
        if (!index->manifests[i].has_platform || (p->os && strcmp(p->os, "unknown") == 0))
            continue;
        buf_puts(&there, there.n ? ", " : "");
        oci_platform_format(p, &there);
    }
    rc = error_set(e, LARDER_NOENT, "%s: no image for %s, only for %s%s", from->name,
                   want.p ? want.p : "it", there.n ? there.p : "no platform that is named",
                   there.failed ? "..." : "");
    buf_done(&want);
    buf_done(&there);
    return rc;
}

/* The best member; -1: none. */
static ssize_t best_member(const struct oci_manifest *index, const struct oci_platform *wanted)
{
    ssize_t best = -1;
    int least = INT_MAX;

    for (size_t i = 0; i < index->n_manifests; i++) {
        int distance = index->manifests[i].has_platform
                           ? oci_platform_distance(&index->manifests[i].platform, wanted)
                           : -1;
        if (distance >= 0 && distance < least) {
            best = (ssize_t)i;
            least = distance;
        }
    }
    return best;
}

/* --- one --- */

int platform_check(const char *where, struct slice config, const struct oci_platform *wanted,
                   struct larder_error *e)
{
    CLEANUP(json_freep) struct json *document = NULL;
    struct larder_error own = LARDER_ERROR_INIT;
    struct buf have = BUF_INIT(PLATFORM_BYTES);
    struct buf want = BUF_INIT(PLATFORM_BYTES);
    struct oci_platform platform;
    int rc = oci_config_platform(config, &document, &platform, &own);

    if (rc == -LARDER_NOENT)
        return 0;
    if (rc < 0) {
        error_context(&own, "%s", where);
        if (e)
            *e = own;
        return rc;
    }
    if (oci_platform_matches(&platform, wanted))
        return 0;
    oci_platform_format(&platform, &have);
    oci_platform_format(wanted, &want);
    rc = error_set(e, LARDER_NOENT, "%s: the image is for %s, not for %s", where,
                   have.p ? have.p : "another platform", want.p ? want.p : "that");
    buf_done(&have);
    buf_done(&want);
    return rc;
}

static int check_image(struct store *from, const struct oci_manifest *image,
                       const struct oci_platform *wanted, struct larder_error *e)
{
    struct buf config = BUF_INIT(CONFIG_BYTES_MAX);
    struct store_descriptor d = {.digest = image->config.digest,
                                 .size_bytes = image->config.size_bytes};
    int rc;

    /* Artifacts have other configs, or none, and no platform. */
    if (strcmp(image->config.media_type, OCI_TYPE_CONFIG) != 0 &&
        strcmp(image->config.media_type, DOCKER_TYPE_CONFIG) != 0)
        return 0;
    rc = blob_read(from, &d, &config, e);
    if (rc >= 0)
        rc = platform_check(from->name, buf_slice(&config), wanted, e);
    buf_done(&config);
    return rc < 0 ? rc : 0;
}

/* Where a choice is. */
struct choice {
    struct store *from;
    const struct oci_platform *wanted;
    unsigned depth;
    unsigned n_inside; /* looked into so far */
};

static int choose_one(struct choice *c, struct store_descriptor *root, struct buf *bytes,
                      struct larder_error *e);

/* Indexes in the index that say no platform may have it inside. */
static int choose_inside(struct choice *c, const struct oci_manifest *index,
                         struct store_descriptor *root, struct buf *bytes, struct larder_error *e)
{
    struct store *from = c->from;
    for (size_t i = 0; i < index->n_manifests; i++) {
        const struct oci_descriptor *member = &index->manifests[i];
        if (member->has_platform || !media_type_is_index(member->media_type))
            continue;
        if (c->n_inside++ >= INSIDE_MAX)
            return error_set(e, LARDER_LIMIT, "%s: more than %d indexes in indexes", from->name,
                             INSIDE_MAX);
        buf_reset(bytes);
        int rc = from->ops->manifest_get(from, NULL, &member->digest, bytes, root, e);
        c->depth++;
        if (rc >= 0)
            rc = choose_one(c, root, bytes, e);
        c->depth--;
        if (rc != -LARDER_NOENT)
            return rc;
    }
    return none_there(from, index, c->wanted, e);
}

static int choose_one(struct choice *c, struct store_descriptor *root, struct buf *bytes,
                      struct larder_error *e)
{
    struct store *from = c->from;
    CLEANUP(oci_manifest_freep) struct oci_manifest *m = NULL;
    ssize_t best;
    int rc;

    if (c->depth > OCI_INDEX_DEPTH_MAX)
        return error_set(e, LARDER_LIMIT, "%s: indexes in indexes, more than %d deep", from->name,
                         OCI_INDEX_DEPTH_MAX);
    rc = manifest_parse_from(from, buf_slice(bytes), root->media_type, &m, e);
    if (rc < 0)
        return error_context(e, "%s", from->name);
    if (m->kind == OCI_KIND_IMAGE)
        return c->depth == 0 ? check_image(from, m, c->wanted, e) : 0;
    best = best_member(m, c->wanted);
    if (best < 0)
        return choose_inside(c, m, root, bytes, e);
    buf_reset(bytes);
    rc = from->ops->manifest_get(from, NULL, &m->manifests[best].digest, bytes, root, e);
    c->depth++;
    rc = rc < 0 ? rc : choose_one(c, root, bytes, e);
    c->depth--;
    return rc;
}

/* --- several --- */

static int write_index(const struct oci_manifest *old, const bool *is_chosen, size_t n,
                       struct store_descriptor *root, struct buf *bytes, struct larder_error *e)
{
    CLEANUP_FREE struct oci_index_entry *entries = calloc(n, sizeof(*entries));
    struct buf out = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    struct larder_digest digest = {0};
    size_t at = 0;
    int rc;

    if (!entries)
        return error_nomem(e);
    for (size_t i = 0; i < old->n_manifests; i++) {
        if (is_chosen[i])
            oci_index_entry_of(&old->manifests[i], &entries[at++]);
    }
    rc = oci_index_write(entries, at, old->is_docker, old->annotations, &out, e);
    if (rc == 0)
        rc = buf_failed(&out, e);
    if (rc == 0)
        rc = hash_of(LARDER_DIGEST_SHA256, out.p, out.n, &digest, e);
    if (rc < 0) {
        buf_done(&out);
        return rc;
    }
    root->digest = digest;
    root->size_bytes = out.n;
    snprintf(root->media_type, sizeof(root->media_type), "%s",
             old->is_docker ? DOCKER_TYPE_LIST : OCI_TYPE_INDEX);
    buf_done(bytes);
    *bytes = out;
    return 0;
}

static int choose_several(struct store *from, const struct oci_platform *wanted, size_t n,
                          const struct oci_manifest *index, struct store_descriptor *root,
                          struct buf *bytes, struct larder_error *e)
{
    CLEANUP_FREE bool *is_chosen = calloc(index->n_manifests + 1, sizeof(bool));
    size_t count = 0;

    if (!is_chosen)
        return error_nomem(e);
    for (size_t i = 0; i < n; i++) {
        ssize_t best = best_member(index, &wanted[i]);
        if (best < 0)
            return none_there(from, index, &wanted[i], e);
        count += !is_chosen[best];
        is_chosen[best] = true;
    }
    if (count == index->n_manifests)
        return 0;
    return write_index(index, is_chosen, count, root, bytes, e);
}

int platform_choose(struct store *from, const struct oci_platform *wanted, size_t n,
                    struct store_descriptor *root, struct buf *bytes, struct larder_error *e)
{
    CLEANUP(oci_manifest_freep) struct oci_manifest *m = NULL;
    int rc;

    if (n == 0)
        return 0;
    if (n == 1) {
        struct choice choice = {.from = from, .wanted = wanted};
        return choose_one(&choice, root, bytes, e);
    }
    rc = manifest_parse_from(from, buf_slice(bytes), root->media_type, &m, e);
    if (rc < 0)
        return error_context(e, "%s", from->name);
    if (m->kind == OCI_KIND_INDEX)
        return choose_several(from, wanted, n, m, root, bytes, e);
    /* One image serves if it is for any of them. */
    for (size_t i = 0; i < n; i++) {
        rc = check_image(from, m, &wanted[i], e);
        if (rc != -LARDER_NOENT)
            break;
    }
    return rc;
}
