/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Removing one blob, the way gc and fsck do it.
 *
 * locks/gc is held exclusively only while it is looked at again and renamed to tmp/; the unlink,
 * which takes seconds for many gigabytes on ext4, comes after. A process that dies in between
 * leaves a temporary, which any sweep removes.
 */
#include <stdbool.h>
#include <stdint.h>

#include "store/upkeep/maintain.h"
#include "store/upkeep/roots.h"

enum removal {
    REMOVAL_DONE,   /* removed, its bytes are free */
    REMOVAL_OPEN,   /* removed, but somebody opened it meanwhile: its bytes are not free yet */
    REMOVAL_PINNED, /* in use, leased, or not known to be free: kept */
    REMOVAL_KEPT,   /* referred to or used since: not due any more */
    REMOVAL_GONE,   /* was not there */
};

struct removal_terms {
    bool dry_run;
    bool ignore_refs;       /* the cap on the size counts more than refs */
    bool only_marked;       /* due because it is marked invalid: stays if the mark is gone */
    int64_t used_before_ns; /* due only while the last use is older */
    const struct users_probe *users;
};

/* roots are read again when they changed. ret_why: 160 bytes, why it was kept ("" otherwise). */
int gc_remove_blob(struct larder_store *store, const struct larder_digest *digest,
                   const struct removal_terms *terms, struct roots *roots, enum removal *ret,
                   uint64_t *ret_bytes, char *ret_why, struct larder_error *e);
#define GC_WHY_BYTES 160
