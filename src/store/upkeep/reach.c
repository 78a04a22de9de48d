/* SPDX-License-Identifier: Apache-2.0 */
#include "store/upkeep/reach.h"

#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/hash.h"
#include "oci/manifest.h"
#include "store/dir/blob.h"
#include "store/dir/quarantine.h"
#include "store/layout/referrers.h"
#include "store/upkeep/roots.h"

/* One digest. Children are numbers of other nodes: nodes move when there are more. */
struct child {
    uint32_t node;
    bool is_manifest;
};
struct node {
    struct larder_digest digest;
    uint32_t set;    /* the number of the set it is in */
    uint32_t walked; /* and of the one for which its children were added */
    bool is_read;    /* children are known */
    uint32_t n_children;
    struct child *children;
};

struct reach {
    struct larder_store *store;
    uint32_t set; /* number of the present set, from 1 */
    struct node *nodes;
    uint32_t n_nodes, cap;
    uint32_t *slots; /* by digest, open addressing: number of a node plus 1; 0: free */
    size_t n_slots;
    struct digest_set quarantined;
    bool has_quarantined; /* the list was made */
};

int reach_new(struct larder_store *store, struct reach **ret, struct larder_error *e)
{
    struct reach *reach = calloc(1, sizeof(*reach));
    if (!reach)
        return error_nomem(e);
    reach->store = store;
    reach->set = 1;
    *ret = reach;
    return 0;
}

void reach_free(struct reach *reach)
{
    if (!reach)
        return;
    for (uint32_t i = 0; i < reach->n_nodes; i++)
        free(reach->nodes[i].children);
    free(reach->nodes);
    free(reach->slots);
    digest_set_done(&reach->quarantined);
    free(reach);
}

void reach_reset(struct reach *reach)
{
    reach->set++;
    reach->has_quarantined = false;
}

/* ---- nodes ---- */

static size_t slot_of(const struct reach *reach, const struct larder_digest *digest)
{
    size_t at = (size_t)digest_spread(digest) & (reach->n_slots - 1);
    while (reach->slots[at] &&
           !larder_digest_equal(&reach->nodes[reach->slots[at] - 1].digest, digest))
        at = (at + 1) & (reach->n_slots - 1);
    return at;
}

static int grow(struct reach *reach, struct larder_error *e)
{
    uint32_t cap = reach->cap ? reach->cap * 2 : 256;
    struct node *nodes = reallocarray(reach->nodes, cap, sizeof(*nodes));
    if (!nodes)
        return error_nomem(e);
    reach->nodes = nodes;
    uint32_t *slots = calloc((size_t)cap * 2, sizeof(*slots));
    if (!slots)
        return error_nomem(e);
    free(reach->slots);
    reach->slots = slots;
    reach->n_slots = (size_t)cap * 2;
    reach->cap = cap;
    for (uint32_t i = 0; i < reach->n_nodes; i++)
        slots[slot_of(reach, &nodes[i].digest)] = i + 1;
    return 0;
}

static int node_of(struct reach *reach, const struct larder_digest *digest, uint32_t *ret,
                   struct larder_error *e)
{
    if (reach->n_nodes == reach->cap) {
        if (reach->cap > UINT32_MAX / 4)
            return error_set(e, LARDER_LIMIT, "more than %u blobs", reach->cap);
        int r = grow(reach, e);
        if (r < 0)
            return r;
    }
    size_t slot = slot_of(reach, digest);
    if (!reach->slots[slot]) {
        reach->nodes[reach->n_nodes] = (struct node){.digest = *digest};
        reach->slots[slot] = ++reach->n_nodes;
    }
    *ret = reach->slots[slot] - 1;
    return 0;
}

bool reach_has(const struct reach *reach, const struct larder_digest *digest)
{
    if (reach->n_slots == 0)
        return false;
    uint32_t at = reach->slots[slot_of(reach, digest)];
    return at && reach->nodes[at - 1].set == reach->set;
}

int reach_each(const struct reach *reach, int (*fn)(void *arg, const struct larder_digest *digest),
               void *arg)
{
    for (uint32_t i = 0; i < reach->n_nodes; i++) {
        int r = reach->nodes[i].set == reach->set ? fn(arg, &reach->nodes[i].digest) : 0;
        if (r != 0)
            return r;
    }
    return 0;
}

/* ---- reading ---- */

struct listing {
    struct digest_set *set;
    struct larder_error *e;
};

static int list_quarantined(void *arg, const struct quarantine_item *item)
{
    struct listing *listing = arg;
    return digest_set_add(listing->set, &item->digest, listing->e);
}

/* Its bytes were bad: what it should have led to is not known. */
static int is_quarantined(struct reach *reach, const struct larder_digest *digest, bool *ret,
                          struct larder_error *e)
{
    struct listing listing = {&reach->quarantined, e};
    if (!reach->has_quarantined) {
        reach->quarantined.count = 0;
        int r = quarantine_each(reach->store, list_quarantined, &listing, e);
        if (r < 0 && r != -LARDER_NOENT)
            return r;
        digest_set_sort(&reach->quarantined);
        reach->has_quarantined = true;
    }
    *ret = digest_set_has(&reach->quarantined, digest);
    return 0;
}

/* The bytes of a manifest: 1; 0 when it is not there; negative when they can't be had. */
static int read_bytes(struct reach *reach, const struct larder_digest *digest, struct buf *out,
                      struct larder_error *e)
{
    const struct store_descriptor manifest = {.digest = *digest};
    CLEANUP_CLOSE int fd = -1;
    struct stat st;
    int r = blob_fd(reach->store, digest, &fd, &st, e);
    if (r == -LARDER_NOENT)
        return 0;
    if (r == 0)
        r = manifest_read_extent("store", &manifest,
                                 &(struct store_extent){fd, 0, (uint64_t)st.st_size}, out, e);
    return r < 0 ? r : 1;
}

static int add_child(struct reach *reach, const struct oci_descriptor *descriptor,
                     struct child *ret, struct larder_error *e)
{
    ret->is_manifest = media_type_is_manifest(descriptor->media_type) ||
                       media_type_is_index(descriptor->media_type);
    return node_of(reach, &descriptor->digest, &ret->node, e);
}

static int take_children(struct reach *reach, uint32_t at, const struct oci_manifest *manifest,
                         struct larder_error *e)
{
    bool is_index = manifest->kind == OCI_KIND_INDEX;
    size_t n = is_index ? manifest->n_manifests : manifest->n_layers + 1;
    struct child *children = calloc(n ? n : 1, sizeof(*children));
    if (!children || n > UINT32_MAX) {
        free(children);
        return error_nomem(e);
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++) {
        const struct oci_descriptor *descriptor = is_index ? &manifest->manifests[i]
                                                  : i == 0 ? &manifest->config
                                                           : &manifest->layers[i - 1];
        r = add_child(reach, descriptor, &children[i], e);
    }
    if (r < 0) {
        free(children);
        return r;
    }
    reach->nodes[at].children = children;
    reach->nodes[at].n_children = (uint32_t)n;
    reach->nodes[at].is_read = true;
    return 0;
}

/* 1 when its children are known, 0 when it is not there, negative for an error of ours. */
static int read_node(struct reach *reach, uint32_t at, bool *ret_is_known, struct larder_error *e)
{
    struct buf bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    CLEANUP(oci_manifest_freep) struct oci_manifest *manifest = NULL;
    const struct larder_digest digest = reach->nodes[at].digest;
    struct larder_error why = LARDER_ERROR_INIT;
    bool is_bad = false;
    int r = read_bytes(reach, &digest, &bytes, &why);
    if (r == 0)
        r = is_quarantined(reach, &digest, &is_bad, &why);
    else if (r > 0 && (r = oci_manifest_parse(buf_slice(&bytes), NULL, &manifest, &why)) == 0)
        r = take_children(reach, at, manifest, &why);
    buf_done(&bytes);
    if (r == -LARDER_NOMEM) {
        if (e)
            *e = why;
        return r;
    }
    /* Whatever it is that stops us from reading it, it may lead to anything. */
    if (r < 0 || is_bad)
        *ret_is_known = false;
    return r == 0 && manifest ? 1 : 0;
}

static int walk(struct reach *reach, uint32_t at, bool is_manifest, unsigned depth,
                bool *ret_is_known, struct larder_error *e)
{
    struct node *node = &reach->nodes[at];
    node->set = reach->set;
    if (!is_manifest || node->walked == reach->set)
        return 0;
    if (depth == 0) {
        *ret_is_known = false;
        return 0;
    }
    if (!node->is_read) {
        int r = read_node(reach, at, ret_is_known, e);
        if (r <= 0)
            return r;
    }
    reach->nodes[at].walked = reach->set;
    for (uint32_t i = 0; i < reach->nodes[at].n_children; i++) {
        const struct child child = reach->nodes[at].children[i];
        int r = walk(reach, child.node, child.is_manifest, depth - 1, ret_is_known, e);
        if (r < 0)
            return r;
    }
    return 0;
}

int reach_add(struct reach *reach, const struct larder_digest *digest, const char *media_type,
              bool *ret_is_known, struct larder_error *e)
{
    bool is_manifest = media_type_is_manifest(media_type) || media_type_is_index(media_type);
    uint32_t at = 0;
    int r = node_of(reach, digest, &at, e);
    /* An index, and images at the bottom. */
    return r < 0 ? r : walk(reach, at, is_manifest, OCI_INDEX_DEPTH_MAX + 1, ret_is_known, e);
}
