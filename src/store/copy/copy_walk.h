/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The lanes of a copy: they take steps from a plan (copy_plan.h) until nothing is left. Inside
 * src/store, for copy.c.
 *
 *     copy_walk_init -> copy_plan_add... (w->plan) -> copy_walk_run -> copy_walk_done
 */
#include <pthread.h>
#include <stdatomic.h>

#include "base/hash_team.h"
#include "base/slice.h"
#include "store/copy/copy.h"
#include "store/copy/copy_plan.h"

struct copy_walk {
    /* set by the caller between init and run */
    struct store *to;
    const struct copy_options *options;
    struct copy_result *result; /* counted up */
    atomic_bool is_fresh;       /* nothing seems to be at `to`; until a blob turns up there */
    const char *object;         /* for progress */
    struct copy_node *root;     /* it is the caller's to put: when the rest is done; NULL */
    struct slice root_bytes;    /* borrowed */
    struct copy_plan plan;      /* under the lock while lanes run */
    /* ours */
    pthread_mutex_t lock;
    pthread_cond_t change; /* something to do, or all is over */
    unsigned n_lanes;
    atomic_uint n_moved; /* blobs, see is_missing() */
    unsigned n_active;   /* lanes that work on a step */
    bool is_over;
    atomic_bool is_stopped;
    struct hash_team *team;
    _Atomic uint64_t done_bytes;
    _Atomic uint64_t there_bytes; /* of them, that did not have to be copied */
};

int copy_walk_init(struct copy_walk *w, struct store *to, const struct copy_options *options,
                   struct larder_error *e);
void copy_walk_done(struct copy_walk *w);
/* All nodes and what they need; INVAL: a manifest contains itself. */
int copy_walk_run(struct copy_walk *w, struct larder_error *e);
