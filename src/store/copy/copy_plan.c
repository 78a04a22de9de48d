/* SPDX-License-Identifier: Apache-2.0 */
#include "store/copy/copy_plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "oci/manifest.h"

/* Of all manifests that wait for their blobs; what is above is read again when its turn comes. */
#define HELD_BYTES_MAX  ((size_t)16 * 1024 * 1024)
#define BUCKETS_INITIAL 64U
#define MEDIA_TYPES_MAX 64U

struct copy_edge {
    struct copy_edge *next;
    struct copy_node *parent;
};

struct media_type_name {
    struct media_type_name *next;
    char text[];
};

int copy_plan_init(struct copy_plan *plan, struct larder_error *e)
{
    memset(plan, 0, sizeof(*plan));
    plan->buckets = calloc(BUCKETS_INITIAL, sizeof(struct copy_node *));
    if (!plan->buckets)
        return error_nomem(e);
    plan->n_buckets = BUCKETS_INITIAL;
    plan->blobs_end = &plan->todo[COPY_MOVE];
    return 0;
}

static void edges_free(struct copy_node *node)
{
    while (node->parents) {
        struct copy_edge *edge = node->parents;
        node->parents = edge->next;
        free(edge);
    }
}

void copy_plan_done(struct copy_plan *plan)
{
    for (size_t i = 0; i < plan->n_buckets; i++) {
        while (plan->buckets[i]) {
            struct copy_node *node = plan->buckets[i];
            plan->buckets[i] = node->next_hash;
            edges_free(node);
            free(node->bytes);
            free(node);
        }
    }
    free(plan->buckets);
    while (plan->types) {
        struct media_type_name *type = plan->types;
        plan->types = type->next;
        free(type);
    }
    memset(plan, 0, sizeof(*plan));
}

static size_t bucket_of(const struct copy_plan *plan, const struct larder_digest *digest)
{
    return (size_t)digest_spread(digest) & (plan->n_buckets - 1);
}

static void plan_grow(struct copy_plan *plan)
{
    size_t n = plan->n_buckets;
    struct copy_node **old = plan->buckets;
    struct copy_node **buckets = calloc(n * 4, sizeof(struct copy_node *));

    if (!buckets)
        return; /* slower, but right */
    plan->buckets = buckets;
    plan->n_buckets = n * 4;
    for (size_t i = 0; i < n; i++) {
        while (old[i]) {
            struct copy_node *node = old[i];
            old[i] = node->next_hash;
            size_t to = bucket_of(plan, &node->digest);
            node->next_hash = buckets[to];
            buckets[to] = node;
        }
    }
    free(old);
}

static int type_intern(struct copy_plan *plan, const char *text, const char **ret,
                       struct larder_error *e)
{
    struct media_type_name *type = plan->types;
    size_t n = strlen(text) + 1;
    unsigned count = 0;

    *ret = "";
    if (n == 1)
        return 0;
    for (; type; type = type->next, count++) {
        if (strcmp(type->text, text) == 0) {
            *ret = type->text;
            return 0;
        }
    }
    if (count >= MEDIA_TYPES_MAX)
        return error_set(e, LARDER_LIMIT, "more than %u media types of manifests", MEDIA_TYPES_MAX);
    type = malloc(sizeof(*type) + n);
    if (!type)
        return error_nomem(e);
    memcpy(type->text, text, n);
    type->next = plan->types;
    plan->types = type;
    *ret = type->text;
    return 0;
}

/* The same bytes may be somebody's blob and somebody else's manifest: stores keep them apart. */
static struct copy_node *plan_find(const struct copy_plan *plan, const struct larder_digest *digest,
                                   bool is_blob)
{
    struct copy_node *node = plan->buckets[bucket_of(plan, digest)];

    while (node && (node->is_blob != is_blob || !larder_digest_equal(&node->digest, digest)))
        node = node->next_hash;
    return node;
}

static int node_new(struct copy_plan *plan, const struct store_descriptor *what, bool is_blob,
                    struct copy_node **ret, struct larder_error *e)
{
    const char *type = "";
    struct copy_node *node;
    size_t bucket;
    int rc = is_blob ? 0 : type_intern(plan, what->media_type, &type, e);

    if (rc < 0)
        return rc;
    if (plan->n_nodes >= COPY_NODES_MAX)
        return error_set(e, LARDER_LIMIT, "more than %u manifests and blobs", COPY_NODES_MAX);
    node = calloc(1, sizeof(*node));
    if (!node)
        return error_nomem(e);
    node->digest = what->digest;
    node->size_bytes = what->size_bytes;
    node->media_type = type;
    node->is_blob = is_blob;
    node->step = is_blob ? COPY_MOVE : COPY_OPEN;
    if (plan->n_nodes >= plan->n_buckets)
        plan_grow(plan);
    bucket = bucket_of(plan, &what->digest);
    node->next_hash = plan->buckets[bucket];
    plan->buckets[bucket] = node;
    plan->n_nodes++;
    plan->n_undone++;
    if (is_blob)
        plan->blob_bytes += what->size_bytes;
    *ret = node;
    return 0;
}

static int check_same(const struct copy_node *node, const struct store_descriptor *what,
                      struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];

    if (node->size_bytes != what->size_bytes)
        return error_set(e, LARDER_MISMATCH, "%s: %llu bytes in one manifest, %llu in another",
                         larder_digest_format(&what->digest, text),
                         (unsigned long long)node->size_bytes,
                         (unsigned long long)what->size_bytes);
    return 0;
}

int copy_plan_add(struct copy_plan *plan, const struct store_descriptor *what, bool is_blob,
                  struct store *from, const char *mount_from, struct copy_node *parent,
                  struct copy_node **ret, struct larder_error *e)
{
    struct copy_node *node = plan_find(plan, &what->digest, is_blob);
    struct copy_edge *edge = NULL;
    bool is_new = !node;
    int rc;

    if (parent && !is_blob && parent->depth >= OCI_INDEX_DEPTH_MAX)
        return error_set(e, LARDER_LIMIT, "indexes in indexes, more than %d deep",
                         OCI_INDEX_DEPTH_MAX);
    rc = node ? check_same(node, what, e) : node_new(plan, what, is_blob, &node, e);
    if (rc < 0 || !node)
        return rc;
    /* Named twice in one manifest: one wait. (Its children are added without a break.) */
    if (parent && !node->is_done && !(node->parents && node->parents->parent == parent)) {
        edge = malloc(sizeof(*edge));
        if (!edge)
            return error_nomem(e);
        edge->parent = parent;
        edge->next = node->parents;
        node->parents = edge;
        parent->n_children++;
    }
    if (is_new) {
        node->from = from;
        node->mount_from = mount_from;
        node->depth = parent ? (uint8_t)(parent->depth + 1) : 0;
        copy_plan_push(plan, node);
    }
    if (ret)
        *ret = node;
    return 0;
}

void copy_plan_push(struct copy_plan *plan, struct copy_node *node)
{
    struct copy_node **stack = &plan->todo[node->step];

    if (node->step == COPY_MOVE) {
        node->next = NULL;
        *plan->blobs_end = node;
        plan->blobs_end = &node->next;
    } else {
        node->next = *stack;
        *stack = node;
    }
}

struct copy_node *copy_plan_take(struct copy_plan *plan)
{
    static const enum copy_step order[] = {COPY_PUT, COPY_MOVE, COPY_OPEN};

    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        struct copy_node *node = plan->todo[order[i]];
        if (!node)
            continue;
        plan->todo[order[i]] = node->next;
        if (order[i] == COPY_MOVE && !node->next)
            plan->blobs_end = &plan->todo[COPY_MOVE];
        return node;
    }
    return NULL;
}

bool copy_plan_has_work(const struct copy_plan *plan)
{
    return plan->todo[COPY_OPEN] || plan->todo[COPY_PUT] || plan->todo[COPY_MOVE];
}

void copy_plan_opened(struct copy_plan *plan, struct copy_node *node)
{
    node->step = COPY_PUT;
    if (node->n_children == 0)
        copy_plan_push(plan, node);
}

void copy_plan_finished(struct copy_plan *plan, struct copy_node *node)
{
    node->is_done = true;
    plan->n_undone--;
    copy_plan_drop(plan, node);
    for (struct copy_edge *edge = node->parents; edge; edge = edge->next) {
        struct copy_node *parent = edge->parent;
        /* One that is still being opened is pushed by copy_plan_opened. */
        if (--parent->n_children == 0 && parent->step == COPY_PUT)
            copy_plan_push(plan, parent);
    }
    edges_free(node);
}

void copy_plan_hold(struct copy_plan *plan, struct copy_node *node, char *bytes, size_t n)
{
    if (plan->held_bytes + n > HELD_BYTES_MAX && plan->held_bytes > 0) {
        free(bytes);
        return;
    }
    plan->held_bytes += n;
    node->bytes = bytes;
    node->n_bytes = n;
}

void copy_plan_drop(struct copy_plan *plan, struct copy_node *node)
{
    if (!node->bytes)
        return;
    plan->held_bytes -= node->n_bytes;
    free(node->bytes);
    node->bytes = NULL;
}

void copy_node_descriptor(const struct copy_node *node, struct store_descriptor *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->digest = node->digest;
    ret->size_bytes = node->size_bytes;
    strncpy(ret->media_type, node->media_type, sizeof(ret->media_type) - 1);
}
