/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which layers of an image the store has: by digest, and where that fails by content. Of the latter
 * the configurations of the images that are here tell; there is no index of them, so this is only
 * done for layers that would be fetched otherwise, and ends when none is left or enough were read.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "json/span.h"
#include "store/dir/ref.h"
#include "store/layout/index_json.h"
#include "update/fetch/stored.h"

/* Manifests read at most: some 0.1 ms each. The likely ones come first. */
#define IMAGES_MAX 256

/* A layer that is looked for. */
struct wanted {
    const struct larder_digest *diff_id;
    struct layer_twin *twin;
};

struct look {
    struct larder_store *store;
    struct wanted *wanted; /* sorted by diff id */
    size_t n_wanted;
    size_t n_missing; /* of them, still */
    struct larder_digest seen[IMAGES_MAX];
    size_t n_seen;
    struct buf manifest, config;
    struct larder_error *e;
};

static int by_diff_id(const void *a, const void *b)
{
    return digest_compare(((const struct wanted *)a)->diff_id, ((const struct wanted *)b)->diff_id);
}

static bool is_done(const struct look *l)
{
    return l->n_missing == 0 || l->n_seen == IMAGES_MAX;
}

/* ---- images that are here ---- */

/* The first of those that want this content; l->n_wanted: nobody. */
static size_t find_wanted(const struct look *l, const struct larder_digest *diff_id)
{
    size_t low = 0;
    size_t high = l->n_wanted;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (digest_compare(l->wanted[middle].diff_id, diff_id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < l->n_wanted && digest_compare(l->wanted[low].diff_id, diff_id) == 0)
        return low;
    return l->n_wanted;
}

static int offer(struct look *l, const struct image_layer *layer)
{
    size_t at =
        layer->diff_id.alg == LARDER_DIGEST_NONE ? l->n_wanted : find_wanted(l, &layer->diff_id);
    if (at == l->n_wanted || l->wanted[at].twin->digest.alg != LARDER_DIGEST_NONE)
        return 0;
    int r = stored_has(l->store, &layer->digest, layer->size_bytes, l->e);
    if (r <= 0)
        return r;
    for (; at < l->n_wanted && larder_digest_equal(l->wanted[at].diff_id, &layer->diff_id); at++) {
        struct layer_twin *twin = l->wanted[at].twin;
        twin->digest = layer->digest;
        twin->size_bytes = layer->size_bytes;
        snprintf(twin->media_type, sizeof(twin->media_type), "%s", layer->media_type);
        l->n_missing--;
    }
    return 0;
}

/* Of others' damage nothing is told here: fsck does. */
static int forgive(struct larder_error *e, int r)
{
    if (r >= 0 || r == -LARDER_NOMEM)
        return r;
    error_clear(e);
    return 0;
}

/*
 * Whether one of the digests in a configuration is wanted: only then is it worth being read. It
 * misses ids that are written with escapes, which nobody does.
 */
static bool is_promising(const struct look *l)
{
    static const char algorithm[] = "sha256:";
    const char *at = l->config.p;
    const char *end = at + l->config.n;

    /* The longer ones are too rare to be looked for here. */
    if (l->wanted[l->n_wanted - 1].diff_id->alg != LARDER_DIGEST_SHA256)
        return true;
    while (at && (at = memmem(at, (size_t)(end - at), algorithm, strlen(algorithm)))) {
        struct larder_digest id = {.alg = LARDER_DIGEST_SHA256};
        struct slice hex = {at + strlen(algorithm), 64};
        at = hex.p;
        if ((size_t)(end - at) < hex.n)
            return false;
        if (hex_decode(hex, id.bytes, 32) && find_wanted(l, &id) < l->n_wanted)
            return true;
    }
    return false;
}

/* The configuration of a manifest that is an image's; false when it has none. */
static bool find_config(struct slice manifest, struct larder_digest *ret)
{
    static const char *const config_key[] = {"config"};
    static const char *const digest_key[] = {"digest"};
    struct json_span all, config, digest;
    char text[LARDER_DIGEST_TEXT_BYTES] = "";

    if (json_check(manifest, OCI_MANIFEST_BYTES_MAX, &all, NULL) < 0 || !json_span_is_object(all))
        return false;
    json_span_fields(all, config_key, 1, &config);
    if (!json_span_is_object(config))
        return false;
    json_span_fields(config, digest_key, 1, &digest);
    if (!json_span_is_string(digest) || digest.n >= sizeof(text))
        return false;
    size_t n = json_span_decode(digest, text);
    return oci_digest_parse((struct slice){text, n}, ret, NULL) == 0;
}

/* One that has what is wanted: from here on nothing is believed. */
static int look_closely(struct look *l, const struct larder_digest *digest,
                        const struct larder_digest *config)
{
    struct image_view view;

    buf_reset(&l->manifest);
    buf_reset(&l->config);
    int r = stored_read(l->store, digest, &l->manifest, l->e);
    if (r == 0)
        r = stored_read(l->store, config, &l->config, l->e);
    if (r == 0)
        r = image_view_read(buf_slice(&l->manifest), NULL, buf_slice(&l->config), &view, l->e);
    if (r < 0)
        return r;
    for (size_t i = 0; r == 0 && i < view.n_layers && l->n_missing > 0; i++)
        r = offer(l, &view.layers[i]);
    image_view_done(&view);
    return r;
}

static int look_at_image(struct look *l, const struct larder_digest *digest,
                         const struct larder_digest *config)
{
    buf_reset(&l->config);
    int r = stored_read_unchecked(l->store, config, &l->config, l->e);
    if (r == 0 && l->config.n > 0 && is_promising(l))
        r = look_closely(l, digest, config);
    return r;
}

static bool is_seen(struct look *l, const struct larder_digest *digest)
{
    for (size_t i = 0; i < l->n_seen; i++) {
        if (larder_digest_equal(&l->seen[i], digest))
            return true;
    }
    l->seen[l->n_seen++] = *digest;
    return false;
}

/* 0, also when it has nothing; -NOMEM. */
static int look_at(struct look *l, const struct larder_digest *digest, unsigned depth)
{
    CLEANUP(oci_manifest_freep) struct oci_manifest *index = NULL;
    struct larder_digest config;

    /* Often only some members of an index are here. */
    int r = is_done(l) || depth > OCI_INDEX_DEPTH_MAX ? 0 : stored_has(l->store, digest, 0, l->e);
    if (r <= 0)
        return forgive(l->e, r);
    if (is_seen(l, digest))
        return 0;
    buf_reset(&l->manifest);
    r = stored_read_unchecked(l->store, digest, &l->manifest, l->e);
    if (r == 0 && find_config(buf_slice(&l->manifest), &config))
        return forgive(l->e, look_at_image(l, digest, &config));
    if (r == 0)
        r = oci_manifest_parse(buf_slice(&l->manifest), NULL, &index, l->e);
    for (size_t i = 0; r == 0 && i < index->n_manifests; i++)
        r = look_at(l, &index->manifests[i].digest, depth + 1);
    return forgive(l->e, r);
}

/* ---- their names ---- */

struct names {
    char **list;
    size_t n, cap;
    struct larder_error *e;
};

static int add_name(void *arg, const char *name)
{
    struct names *names = arg;
    if (names->n == names->cap) {
        size_t cap = names->cap ? 2 * names->cap : 64;
        char **bigger = reallocarray(names->list, cap, sizeof(*bigger));
        if (!bigger)
            return error_nomem(names->e);
        names->list = bigger;
        names->cap = cap;
    }
    names->list[names->n] = strdup(name + strlen(REF_IMAGE_PREFIX));
    return names->list[names->n] ? (names->n++, 0) : error_nomem(names->e);
}

static size_t repository_bytes(const char *name)
{
    const char *slash = strrchr(name, '/');
    const char *colon = strchr(slash ? slash : name, ':');
    return colon ? (size_t)(colon - name) : strlen(name);
}

/* 0: the image itself, 1: of its repository, 2: of others. */
static int nearness(const char *name, const char *other)
{
    size_t n = name ? repository_bytes(name) : 0;
    if (!name || repository_bytes(other) != n || memcmp(name, other, n) != 0)
        return 2;
    return strcmp(name, other) == 0 ? 0 : 1;
}

static int look_at_name(struct look *l, const char *name)
{
    CLEANUP(json_freep) struct json *document = NULL;
    struct store_descriptor root;
    struct buf ref = BUF_INIT(4096);

    buf_printf(&ref, REF_IMAGE_PREFIX "%s", name);
    int r = buf_failed(&ref, l->e);
    if (r == 0)
        r = ref_read(l->store, ref.p, &document, l->e);
    buf_done(&ref);
    if (r < 0)
        return forgive(l->e, r);
    if (index_json_entry(json_get(document, "descriptor"), "", &root, NULL) < 0)
        return 0;
    return look_at(l, &root.digest, 0);
}

static int look_at_all(struct look *l, const char *name)
{
    struct names names = {.e = l->e};

    int r = ref_each(l->store, REF_IMAGE_PREFIX, add_name, &names, l->e);
    if (r == -LARDER_NOENT) /* a store without any */
        r = forgive(l->e, r);
    for (int turn = 0; turn <= 2; turn++) {
        for (size_t i = 0; r == 0 && i < names.n && !is_done(l); i++) {
            if (nearness(name, names.list[i]) == turn)
                r = look_at_name(l, names.list[i]);
        }
    }
    for (size_t i = 0; i < names.n; i++)
        free(names.list[i]);
    free(names.list);
    return r;
}

/* ---- both ---- */

int layer_twins_find(struct larder_store *store, const char *name, const struct image_view *view,
                     const enum larder_update_presence *presence, struct layer_twin *twins,
                     struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    CLEANUP_FREE struct look *l = calloc(1, sizeof(*l));
    CLEANUP_FREE struct wanted *wanted = calloc(view->n_layers + 1, sizeof(*wanted));

    if (!l || !wanted)
        return error_nomem(e);
    *l = (struct look){.store = store,
                       .wanted = wanted,
                       .manifest = BUF_INIT(OCI_MANIFEST_BYTES_MAX),
                       .config = BUF_INIT(OCI_MANIFEST_BYTES_MAX),
                       .e = &why};
    memset(twins, 0, view->n_layers * sizeof(*twins));
    for (size_t i = 0; i < view->n_layers; i++) {
        const struct image_layer *layer = &view->layers[i];
        if (presence[i] == LARDER_UPDATE_NEEDED && layer->diff_id.alg != LARDER_DIGEST_NONE)
            wanted[l->n_wanted++] = (struct wanted){&layer->diff_id, &twins[i]};
    }
    l->n_missing = l->n_wanted;
    qsort(wanted, l->n_wanted, sizeof(*wanted), by_diff_id);
    int r = l->n_missing > 0 ? look_at_all(l, name) : 0;
    buf_done(&l->manifest);
    buf_done(&l->config);
    if (r < 0 && e)
        *e = why;
    return r;
}

/*
 * Layers that fetch can make from another image's: uncompressed ones. A compressed one of the same
 * content is to be fetched all the same.
 */
static int look_for_content(struct larder_store *store, const char *name,
                            const struct image_view *view, enum larder_update_presence *presence,
                            struct larder_error *e)
{
    CLEANUP_FREE struct layer_twin *twins = calloc(view->n_layers + 1, sizeof(*twins));
    CLEANUP_FREE enum larder_update_presence *asked = calloc(view->n_layers + 1, sizeof(*asked));
    int r;

    if (!twins || !asked)
        return error_nomem(e);
    for (size_t i = 0; i < view->n_layers; i++)
        asked[i] = image_layer_is_plain(&view->layers[i]) ? presence[i] : LARDER_UPDATE_HERE;
    r = layer_twins_find(store, name, view, asked, twins, e);
    for (size_t i = 0; r == 0 && i < view->n_layers; i++) {
        if (twins[i].digest.alg != LARDER_DIGEST_NONE)
            presence[i] = LARDER_UPDATE_HERE_DIFF_ID;
    }
    return r;
}

int stored_layers_here(struct larder_store *store, const char *name, const struct image_view *view,
                       enum larder_update_presence *presence, struct larder_error *e)
{
    size_t n_missing = 0;

    for (size_t i = 0; i < view->n_layers; i++) {
        if (presence[i] == LARDER_UPDATE_HERE)
            continue;
        int r = stored_has(store, &view->layers[i].digest, view->layers[i].size_bytes, e);
        if (r < 0)
            return r;
        if (r > 0)
            presence[i] = LARDER_UPDATE_HERE;
        n_missing += presence[i] == LARDER_UPDATE_NEEDED;
    }
    if (n_missing == 0)
        return 0;
    return look_for_content(store, name, view, presence, e);
}
