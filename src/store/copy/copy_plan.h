/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What a copy has still to do: each digest of the graph once, in the order that keeps the memory
 * small and the destination complete. Pure bookkeeping, no I/O; the caller's lock protects it.
 *
 * A manifest is OPENed (read, its children added), waits for them, and is PUT. A blob is MOVEd.
 * Who asks for work gets, in this order:
 *   1. a manifest to PUT: its bytes are not held any longer than needed;
 *   2. a blob to MOVE;
 *   3. a manifest to OPEN, the one added last first (depth first): only when no blob is left, so
 *      that an index of thousands of images is never in memory at once.
 *
 * Digests make cycles impossible, but a store that does not check them could give one: then
 * nothing is left to do while n_undone is not 0.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <larder/digest.h>
#include <larder/error.h>

#include "store/store.h"

/* About 150 bytes each: what a malicious index may cost. */
#define COPY_NODES_MAX 500000U

enum copy_step { COPY_OPEN, COPY_PUT, COPY_MOVE };

struct copy_edge; /* who waits for a node */
struct media_type_name;

struct copy_node {
    /* set when added */
    struct larder_digest digest;
    uint64_t size_bytes;
    const char *media_type; /* the plan's; "" for blobs */
    struct store *from;
    const char *mount_from; /* borrowed; NULL */
    bool is_blob;
    uint8_t depth; /* of indexes above it */
    /* the lane's that works on it */
    char *bytes; /* of a manifest, held until it is put; NULL: to be read again */
    size_t n_bytes;
    bool is_there;             /* at the destination, the manifest itself */
    _Atomic uint64_t progress; /* bytes told so far */
    /* the plan's */
    enum copy_step step;
    bool is_done;
    unsigned n_children; /* to wait for */
    struct copy_edge *parents;
    struct copy_node *next;      /* in its stack */
    struct copy_node *next_hash; /* in its bucket */
};

struct copy_plan {
    struct copy_node **buckets;
    size_t n_buckets;
    size_t n_nodes;
    size_t n_undone;
    uint64_t blob_bytes;           /* of all blobs */
    struct copy_node *todo[3];     /* stacks, by enum copy_step */
    struct copy_node **blobs_end;  /* blobs go first come, first served */
    struct media_type_name *types; /* interned */
    size_t held_bytes;             /* of manifests */
};

int copy_plan_init(struct copy_plan *plan, struct larder_error *e);
void copy_plan_done(struct copy_plan *plan);

/*
 * Adds what parent (NULL: nobody) waits for; once each, however often it is named. All children of
 * a parent are added without anybody else's between. *ret may be NULL. MISMATCH: named before with
 * another size; LIMIT.
 */
int copy_plan_add(struct copy_plan *plan, const struct store_descriptor *what, bool is_blob,
                  struct store *from, const char *mount_from, struct copy_node *parent,
                  struct copy_node **ret, struct larder_error *e);
/* Puts a node among what is to be done next: after copy_plan_add, or when OPEN went well. */
void copy_plan_push(struct copy_plan *plan, struct copy_node *node);
/* NULL: nothing now. */
struct copy_node *copy_plan_take(struct copy_plan *plan);
bool copy_plan_has_work(const struct copy_plan *plan);
/* Its children are added: it waits for them, or can be put. */
void copy_plan_opened(struct copy_plan *plan, struct copy_node *node);
/* It is at the destination: who waited for it goes on. */
void copy_plan_finished(struct copy_plan *plan, struct copy_node *node);

/* Keeps a manifest's bytes (malloc'd, taken over) unless that is too much together. */
void copy_plan_hold(struct copy_plan *plan, struct copy_node *node, char *bytes, size_t n);
void copy_plan_drop(struct copy_plan *plan, struct copy_node *node);
void copy_node_descriptor(const struct copy_node *node, struct store_descriptor *ret);
