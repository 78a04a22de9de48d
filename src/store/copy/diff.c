/* SPDX-License-Identifier: Apache-2.0 */
/* larder_diff: which blobs two images share. */
#include <larder/copy.h>

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "oci/manifest.h"
#include "oci/platform.h"
#include "store/blob_read.h"
#include "store/copy/platform_choice.h"
#include "store/place.h"

#define PLATFORM_BYTES 256U
/* Of both images together; some 300 bytes each. */
#define DIFF_BLOBS_MAX 200000U

/* Digests, each once. Indexes that repeat their members would be read as often as there are ways to
 * them. */
struct seen {
    struct larder_digest *slots; /* alg NONE: free */
    size_t n_slots;
    size_t count;
};

struct diff_call {
    struct larder_store *handle;
    const char *platform_text;
    struct oci_platform platform;
    struct larder_diff diff;
    size_t n_alloc;
    size_t *slots; /* of diff.blobs + 1, by digest; 0: free */
    size_t n_slots;
    enum larder_diff_side side; /* whose blobs are being added */
    struct place *place;
    char *platform_now; /* of the image being read; NULL */
    struct seen seen;   /* manifests of this side */
};

/* --- the set --- */

static size_t slot_of(const struct diff_call *d, const struct larder_digest *digest)
{
    uint64_t at = digest_spread(digest);

    for (at &= d->n_slots - 1; d->slots[at]; at = (at + 1) & (d->n_slots - 1)) {
        if (larder_digest_equal(&d->diff.blobs[d->slots[at] - 1].digest, digest))
            break;
    }
    return (size_t)at;
}

static int grow(struct diff_call *d, struct larder_error *e)
{
    size_t n = d->n_alloc ? d->n_alloc * 2 : 64;
    struct larder_diff_blob *blobs = realloc(d->diff.blobs, n * sizeof(*blobs));

    if (!blobs)
        return error_nomem(e);
    d->diff.blobs = blobs;
    d->n_alloc = n;
    free(d->slots);
    d->n_slots = n * 2;
    d->slots = calloc(d->n_slots, sizeof(*d->slots));
    if (!d->slots)
        return error_nomem(e);
    for (size_t i = 0; i < d->diff.n_blobs; i++)
        d->slots[slot_of(d, &blobs[i].digest)] = i + 1;
    return 0;
}

static int add_blob(struct diff_call *d, const struct oci_descriptor *what, bool is_config,
                    struct larder_error *e)
{
    struct larder_diff_blob *blob;
    size_t slot;
    int rc = !d->slots || d->diff.n_blobs == d->n_alloc ? grow(d, e) : 0;

    if (rc < 0)
        return rc;
    slot = slot_of(d, &what->digest);
    if (d->slots[slot]) {
        blob = &d->diff.blobs[d->slots[slot] - 1];
        if (blob->side != d->side)
            blob->side = LARDER_DIFF_BOTH;
        return 0;
    }
    if (d->diff.n_blobs >= DIFF_BLOBS_MAX)
        return error_set(e, LARDER_LIMIT, "more than %u blobs", DIFF_BLOBS_MAX);
    blob = &d->diff.blobs[d->diff.n_blobs];
    *blob = (struct larder_diff_blob){.side = d->side,
                                      .is_config = is_config,
                                      .media_type = strdup(what->media_type),
                                      .digest = what->digest,
                                      .size_bytes = what->size_bytes,
                                      .platform = d->platform_now ? strdup(d->platform_now) : NULL};
    d->slots[slot] = ++d->diff.n_blobs;
    if (!blob->media_type || (d->platform_now && !blob->platform))
        return error_nomem(e);
    return 0;
}

/* --- reading an image --- */

static void seen_done(struct seen *seen)
{
    free(seen->slots);
    *seen = (struct seen){0};
}

static struct larder_digest *seen_slot(const struct seen *seen, const struct larder_digest *digest)
{
    size_t at = (size_t)digest_spread(digest) & (seen->n_slots - 1);

    while (seen->slots[at].alg != LARDER_DIGEST_NONE &&
           !larder_digest_equal(&seen->slots[at], digest))
        at = (at + 1) & (seen->n_slots - 1);
    return &seen->slots[at];
}

/* 1: it was there already. */
static int seen_add(struct seen *seen, const struct larder_digest *digest, struct larder_error *e)
{
    struct larder_digest *slot;

    if (seen->count * 2 >= seen->n_slots) {
        struct seen bigger = {NULL, seen->n_slots ? seen->n_slots * 4 : 64, seen->count};
        bigger.slots = calloc(bigger.n_slots, sizeof(*bigger.slots));
        if (!bigger.slots)
            return error_nomem(e);
        for (size_t i = 0; i < seen->n_slots; i++) {
            if (seen->slots[i].alg != LARDER_DIGEST_NONE)
                *seen_slot(&bigger, &seen->slots[i]) = seen->slots[i];
        }
        free(seen->slots);
        *seen = bigger;
    }
    slot = seen_slot(seen, digest);
    if (slot->alg != LARDER_DIGEST_NONE)
        return 1;
    *slot = *digest;
    seen->count++;
    return 0;
}

static int add_manifest(struct diff_call *d, const struct store_descriptor *what,
                        const struct buf *bytes, unsigned depth, struct larder_error *e);

static int add_member(struct diff_call *d, const struct oci_descriptor *member, unsigned depth,
                      struct larder_error *e)
{
    struct store *s = d->place->store;
    struct buf bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    struct buf platform = BUF_INIT(PLATFORM_BYTES);
    char *before = d->platform_now;
    struct store_descriptor found;
    int rc;

    if (!media_type_is_index(member->media_type) && !media_type_is_manifest(member->media_type))
        return add_blob(d, member, false, e);
    rc = seen_add(&d->seen, &member->digest, e);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (member->has_platform) {
        oci_platform_format(&member->platform, &platform);
        d->platform_now = platform.p;
    }
    rc = s->ops->manifest_get(s, NULL, &member->digest, &bytes, &found, e);
    if (rc >= 0)
        rc = add_manifest(d, &found, &bytes, depth + 1, e);
    d->platform_now = before;
    buf_done(&bytes);
    buf_done(&platform);
    return rc;
}

static int add_manifest(struct diff_call *d, const struct store_descriptor *what,
                        const struct buf *bytes, unsigned depth, struct larder_error *e)
{
    CLEANUP(oci_manifest_freep) struct oci_manifest *m = NULL;
    int rc = manifest_parse_from(d->place->store, buf_slice(bytes), what->media_type, &m, e);

    if (rc < 0)
        return error_context(e, "%s", d->place->store->name);
    if (depth > OCI_INDEX_DEPTH_MAX)
        return error_set(e, LARDER_LIMIT, "%s: indexes in indexes, more than %d deep",
                         d->place->store->name, OCI_INDEX_DEPTH_MAX);
    for (size_t i = 0; rc == 0 && i < m->n_manifests; i++)
        rc = add_member(d, &m->manifests[i], depth, e);
    if (m->kind == OCI_KIND_IMAGE)
        rc = add_blob(d, &m->config, true, e);
    for (size_t i = 0; rc == 0 && i < m->n_layers; i++)
        rc = add_blob(d, &m->layers[i], false, e);
    return rc;
}

/* The root of a side, and all its blobs unless it is the other side's. */
static int add_side(struct diff_call *d, struct place *place, enum larder_diff_side side,
                    struct larder_digest *ret, struct larder_error *e)
{
    struct buf bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    struct store_descriptor root;
    int rc;

    d->place = place;
    d->side = side;
    rc = place->store->ops->manifest_get(place->store, place->digest ? NULL : place->ref,
                                         place->digest, &bytes, &root, e);
    if (rc >= 0 && d->platform_text)
        rc = platform_choose(place->store, &d->platform, 1, &root, &bytes, e);
    if (rc >= 0) {
        *ret = root.digest;
        d->diff.is_equal = larder_digest_equal(&d->diff.a, &d->diff.b);
        if (d->diff.is_equal) {
            for (size_t i = 0; i < d->diff.n_blobs; i++)
                d->diff.blobs[i].side = LARDER_DIFF_BOTH;
        } else {
            rc = add_manifest(d, &root, &bytes, 0, e);
        }
    }
    buf_done(&bytes);
    seen_done(&d->seen);
    return rc < 0 ? rc : 0;
}

/* --- the sums --- */

static int add_up(struct diff_call *d, struct larder_error *e)
{
    for (size_t i = 0; i < d->diff.n_blobs; i++) {
        const struct larder_diff_blob *b = &d->diff.blobs[i];
        struct larder_blob_info info;
        switch (b->side) {
        case LARDER_DIFF_BOTH:
            d->diff.bytes_both += b->size_bytes;
            break;
        case LARDER_DIFF_A:
            d->diff.bytes_only_a += b->size_bytes;
            break;
        case LARDER_DIFF_B:
        default:
            d->diff.bytes_only_b += b->size_bytes;
            int rc = d->handle ? larder_blob_stat(d->handle, &b->digest, &info, e) : -LARDER_NOENT;
            if (rc < 0 && rc != -LARDER_NOENT)
                return rc;
            d->diff.bytes_to_pull += rc < 0 ? b->size_bytes : 0;
        }
    }
    return 0;
}

/* --- the whole --- */

static int diff_places(struct diff_call *d, const char *a, const char *b,
                       const struct larder_registry_options *options, struct larder_error *e)
{
    struct place places[2] = {PLACE_INIT, PLACE_INIT};
    int rc = place_parse(a, &places[0], e);

    if (rc == 0)
        rc = place_parse(b, &places[1], e);
    if (rc == 0)
        rc = place_open(&places[0], d->handle, options, NULL, 0, e);
    if (rc == 0)
        rc = add_side(d, &places[0], LARDER_DIFF_A, &d->diff.a, e);
    /* One store handle serves one store at a time. */
    store_close(TAKE_PTR(places[0].store));
    if (rc == 0)
        rc = place_open(&places[1], d->handle, options, NULL, 0, e);
    if (rc == 0)
        rc = add_side(d, &places[1], LARDER_DIFF_B, &d->diff.b, e);
    d->place = NULL;
    place_done(&places[0]);
    place_done(&places[1]);
    return rc;
}

int larder_diff(struct larder_store *store, const char *a, const char *b, const char *platform,
                const struct larder_registry_options *options, struct larder_diff *ret,
                struct larder_error *e)
{
    CLEANUP_FREE char *text = NULL;
    struct diff_call d = {.handle = store, .platform_text = platform};
    int rc = platform ? oci_platform_parse(platform, &d.platform, &text, e) : 0;

    if (rc == 0)
        rc = diff_places(&d, a, b, options, e);
    if (rc == 0)
        rc = add_up(&d, e);
    free(d.slots);
    if (rc < 0) {
        larder_diff_done(&d.diff);
        return rc;
    }
    *ret = d.diff;
    return 0;
}

void larder_diff_done(struct larder_diff *diff)
{
    for (size_t i = 0; i < diff->n_blobs; i++) {
        free(diff->blobs[i].media_type);
        free(diff->blobs[i].platform);
    }
    free(diff->blobs);
    memset(diff, 0, sizeof(*diff));
}
