/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What gc must not touch: digests that refs keep (a manifest with all below it) and digests that
 * live leases hold (those of images, too, with all below), read from their files (never from the
 * index: nothing is deleted on a cache's word).
 *
 *     struct roots roots = {0};
 *     roots_load(store, &roots, e);
 *     ... locks/gc exclusively ... roots_refresh(store, &roots, e); roots_have_ref(&roots, digest);
 *     roots_done(&roots);
 *
 * roots_refresh costs two fstat while nobody wrote a ref or lease, so it can be asked again under
 * the lock for each blob.
 */
#include <stdbool.h>
#include <stddef.h>

#include <larder/store.h>

#include "base/mem.h"
#include "index/index.h"

struct digest_set {
    struct larder_digest *digests; /* sorted once the set is complete */
    size_t count, cap;
};
int digest_set_add(struct digest_set *set, const struct larder_digest *digest,
                   struct larder_error *e);
void digest_set_sort(struct digest_set *set); /* also drops doubles */
bool digest_set_has(const struct digest_set *set, const struct larder_digest *digest);
void digest_set_done(struct digest_set *set);

struct reach;

struct roots {
    struct digest_set refs, leases; /* refs: with all that their manifests lead to */
    struct reach *reach;            /* what manifests lead to, read once */
    struct reach *held;             /* the same of leased images; NULL: there is none */
    bool is_held_unknown;           /* one's manifest can't be read: it may hold any blob */
    struct index_print refs_print, leases_print; /* none: read again at each refresh */
    char *bad_ref; /* a damaged one, or with a manifest that can't be read: what it keeps is not
                      known */
};
/*
 * Refs that are kept only as long as something else is: "referrer/<alg>-<hex>/..." keeps its
 * manifest while the blob of that digest is kept. False for other names.
 */
#define ROOTS_REFERRER_PREFIX "referrer/"
bool roots_referrer_subject(const char *name, struct larder_digest *ret);

int roots_load(struct larder_store *store, struct roots *roots, struct larder_error *e);
int roots_refresh(struct larder_store *store, struct roots *roots, struct larder_error *e);
void roots_done(struct roots *roots);
/* Leases are asked for their life now, those of images when they were read. */
int roots_have_lease(struct larder_store *store, const struct roots *roots,
                     const struct larder_digest *digest, bool *ret, struct larder_error *e);
bool roots_have_ref(const struct roots *roots, const struct larder_digest *digest);
