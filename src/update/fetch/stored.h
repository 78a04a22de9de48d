/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Images of larder's store, as showing an update wants them: read from the files alone, without a
 * lock, memo or index, and without recording a use. What is read is hashed; whether a layer is here
 * is only looked at, because a fetch proves it.
 *
 * Threads: those of the store's handle.
 */
#include <larder/store.h>

#include "base/buf.h"
#include "oci/platform.h"
#include "store/store.h"
#include "update/image_view.h"

/* Whether the store has a file for the blob: 1, 0, negative. size_bytes 0: of any size. */
int stored_has(struct larder_store *store, const struct larder_digest *digest, uint64_t size_bytes,
               struct larder_error *e);
/* A small blob, appended. NOENT, CORRUPT, LIMIT (beyond out->max_bytes). unchecked: not hashed. */
int stored_read(struct larder_store *store, const struct larder_digest *digest, struct buf *out,
                struct larder_error *e);
int stored_read_unchecked(struct larder_store *store, const struct larder_digest *digest,
                          struct buf *out, struct larder_error *e);

struct stored_image {
    struct larder_digest root;   /* what the name points to: an index, or the manifest */
    struct larder_digest digest; /* of the manifest for the platform */
    struct buf manifest;
    struct buf config; /* empty: larger than anybody reads, and no container's */
    struct image_view view;
};
#define STORED_IMAGE_INIT                                                \
    ((struct stored_image){.manifest = BUF_INIT(OCI_MANIFEST_BYTES_MAX), \
                           .config = BUF_INIT(OCI_MANIFEST_BYTES_MAX)})
/* "store:NAME" for the platform. NOENT (no such name, or no image for the platform behind it),
 * CORRUPT. ret is STORED_IMAGE_INIT before, and stays. */
int stored_image_read(struct larder_store *store, const char *name,
                      const struct oci_platform *platform, struct stored_image *ret,
                      struct larder_error *e);
void stored_image_done(struct stored_image *image);

/* A blob of the store with the content of another one. */
struct layer_twin {
    struct larder_digest digest; /* alg NONE: there is none */
    uint64_t size_bytes;
    char media_type[OCI_MEDIA_TYPE_BYTES];
};
/*
 * For each layer i of view that is NEEDED by presence[i] and has a diff id: a layer of the same
 * diff id of an image of the store ("store:..."), whose blob is here. twins: an entry a layer, all
 * set. name (NULL): the image that is looked at first; others of its repository are next. Damaged
 * images are passed over.
 */
int layer_twins_find(struct larder_store *store, const char *name, const struct image_view *view,
                     const enum larder_update_presence *presence, struct layer_twin *twins,
                     struct larder_error *e);
/* Sets presence[i] of each layer by what the store has; what is HERE before stays so. By diff id
 * only where the layer can be made from what is here: an uncompressed one. */
int stored_layers_here(struct larder_store *store, const char *name, const struct image_view *view,
                       enum larder_update_presence *presence, struct larder_error *e);
