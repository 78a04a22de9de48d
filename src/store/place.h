/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A location as a user wrote it, with the store that is there: what the public calls of registry.h
 * and copy.h begin with.
 */
#include <larder/registry.h>

#include "oci/reference.h"
#include "store/registry/registry.h"
#include "store/store.h"

struct place {
    struct oci_location location;
    struct remote_options remote;
    struct store *store;                /* NULL: not opened */
    const char *ref;                    /* tag or name; NULL: none, or a digest was given instead */
    const struct larder_digest *digest; /* NULL */
};
#define PLACE_INIT ((struct place){.store = NULL})

/* Only reads the text. A registry's tag is "latest" where none was written. */
int place_parse(const char *text, struct place *ret, struct larder_error *e);
/* observer NULL: that of the options. handle: for "store:". */
int place_open(struct place *place, struct larder_store *handle,
               const struct larder_registry_options *options,
               const struct larder_observer *observer, unsigned flags, struct larder_error *e);
void place_done(struct place *place); /* fine on PLACE_INIT */
/* The same repository, file or store, whatever the tags. */
bool place_is_same(const struct place *a, const struct place *b);
