/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One image on its way to where it was asked for: what the files of fetch share.
 *
 *   fetch.c         which image it is; after it, what becomes of its record
 *   fetch_run.c     the order of everything
 *   fetch_places.c  source and destination, opened when they are needed
 *   fetch_look.c    which blobs are where; those that are here are hashed
 *   fetch_space.c   whether it fits
 *   fetch_reuse.c   layers that can be made from others
 *   fetch_hold.c    gc stays away
 *
 * The order: the manifest is asked for before anything is written, so that an image that is gone
 * costs one question; it is held before anything is counted as here; all that is here is hashed
 * before space is looked for, for what is damaged has to be fetched, too; the name comes last, and
 * only from what it was in the beginning: whoever moved it meanwhile meant that.
 */
#include "base/relay.h"
#include "store/place.h"
#include "update/base/base.h"

enum fetch_where {
    FETCH_MISSING,  /* from the source */
    FETCH_HERE,     /* at the destination already */
    FETCH_NEAR,     /* in the store, to be copied to a layout */
    FETCH_LEFT_OUT, /* not needed there */
    FETCH_UNPACKED, /* made from one that is packed otherwise */
};

struct fetch_blob {
    struct store_descriptor blob;
    struct larder_digest diff_id; /* alg NONE: not known */
    bool is_layer;                /* else the configuration */
    bool may_lack;                /* who imports the layout has it */
    enum fetch_where where;
};

struct fetch_run {
    /* set by the caller, all borrowed */
    const struct update_ask *ask;
    struct base *base;
    const struct larder_update_fetch_options *options;
    struct relay *relay;
    const char *to_text;           /* where it goes */
    struct larder_digest base_was; /* what the base's name pointed to before anything was read; alg
                                      NONE: nothing */
    /* the image */
    struct store_descriptor root;
    struct buf manifest;
    struct buf config;
    bool is_exact;            /* the manifest is the digest's, not somebody's rewriting of it */
    bool is_manifest_here;    /* at the destination, or in the store */
    struct fetch_blob *blobs; /* each once: the configuration, then layers in their order */
    size_t n_blobs;
    /* ours */
    struct place source; /* store NULL: not asked yet */
    struct place to;     /* store NULL: nothing is there */
    bool is_layout;
    struct larder_digest ref_was; /* what to.ref pointed to at the beginning; alg NONE: nothing */
    bool is_ref_damaged;          /* nobody can tell: it is replaced */
    struct store *near;           /* the machine's store, when `to` is a layout; NULL */
    char (*leases)[LARDER_LEASE_ID_BYTES];
    size_t n_leases;
    uint64_t resumed_bytes;
    bool was_there;
};
/* options->dry_run: the blobs' `where` is all that comes out. GONE when the source has it no more.
 */
int fetch_run(struct fetch_run *r, struct larder_error *e);
void fetch_run_done(struct fetch_run *r);
/* Of what was fetched (dry_run: would be). */
void fetch_run_sums(const struct fetch_run *r, struct larder_update_fetched *ret);

/* ---- fetch_places.c ---- */
int fetch_places_read(struct fetch_run *r, struct larder_error *e);
/* Opens the destination to look (r->to.store stays NULL when nothing is there), or to write. */
int fetch_to_look(struct fetch_run *r, struct larder_error *e);
int fetch_to_write(struct fetch_run *r, struct larder_error *e);
/* The refs for manifest_put: "" is a layout's entry without a name. */
const char *fetch_to_ref(const struct fetch_run *r);
/* Asks the source for the manifest, once; then r->manifest is exact, and the blobs are its. */
int fetch_source_ask(struct fetch_run *r, struct larder_error *e);
/* e tells that the source hasn't something: as GONE. */
int fetch_gone(const struct fetch_run *r, struct larder_error *e);

/* ---- fetch_look.c ---- */
/* The blobs of r->manifest. */
int fetch_blobs_read(struct fetch_run *r, struct larder_error *e);
/* Sets `where` of all by asking what is open. */
int fetch_look(struct fetch_run *r, struct larder_error *e);
bool fetch_is_complete(const struct fetch_run *r);
bool fetch_has(const struct fetch_run *r, enum fetch_where where);
/* Hashes what is HERE. In a store damaged ones go to quarantine and are MISSING (or NEAR) then;
 * CORRUPT in a layout, whose files are not ours to remove. */
int fetch_verify(struct fetch_run *r, struct larder_error *e);

/* ---- fetch_space.c ---- */
/* NOSPACE naming what is needed and what is free. */
int fetch_space(struct fetch_run *r, struct larder_error *e);

/* ---- fetch_reuse.c ---- */
/* Makes MISSING layers from others; those that can't be made stay MISSING. */
int fetch_reuse(struct fetch_run *r, struct larder_error *e);

/* ---- fetch_hold.c ---- */
/* Until fetch_hold_end gc takes nothing of it, be it here or still to come. */
int fetch_hold(struct fetch_run *r, struct larder_error *e);
void fetch_hold_end(struct fetch_run *r);
