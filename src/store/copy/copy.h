/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Copying images between stores: the root's manifest is compared first (an equal ref means nothing
 * to do), then the graph is walked, blobs go over in parallel lanes, each digest once, manifests
 * from the leaves to the root, refs last. Any pair of stores; bytes are never changed.
 */
#include <larder/copy.h>

#include "oci/manifest.h"
#include "store/store.h"

struct copy_options {
    unsigned jobs;                        /* lanes; 0: by kind of store */
    const struct oci_platform *platforms; /* with n: only these members of indexes are copied, and
                                             with one the ref points to the image itself */
    size_t n_platforms;
    bool has_referrers;     /* copy what refers to the copied manifests, too */
    bool force;             /* put manifests even where the ref is equal */
    bool dry_run;           /* ask and count, but send nothing */
    bool is_fresh;          /* the caller knows that nothing is there (copy_blobs) */
    const char *mount_from; /* further repository of the destination's registry to mount from */
    const struct larder_observer *observer;
};

struct copy_result {
    struct store_descriptor root; /* as it is at the destination */
    bool was_there;               /* every ref pointed to it already: nothing was done */
    uint64_t blobs_copied, blobs_existed, blobs_mounted, manifests_put;
    uint64_t bytes_copied;
    uint64_t bytes_resumed; /* of them, that an earlier run had fetched */
};

/*
 * ref: of the source, or NULL and a digest. refs: n_refs names at `to` (0: by digest only). `to` is
 * flushed at the end. Errors: the stores', MISMATCH (bytes are not their digest's), CORRUPT (those
 * of a FILE store), CANCELED. What was copied before a failure stays, and is found by the next run;
 * refs are only changed at the end. The observer is called from this thread; those of the stores
 * are to be a relay's (base/relay.h), as lanes call them.
 */
int copy_image(struct store *from, const char *ref, const struct larder_digest *digest,
               struct store *to, const char *const *refs, size_t n_refs,
               const struct copy_options *options, struct copy_result *ret, struct larder_error *e);

/* Blobs alone, for those who put the manifests themselves (publish). Each digest goes once. `to` is
 * not flushed. */
struct copy_blob {
    struct store *from;
    struct store_descriptor blob;
    const char *mount_from; /* NULL */
};
int copy_blobs(const struct copy_blob *blobs, size_t n, struct store *to,
               const struct copy_options *options, struct copy_result *ret, struct larder_error *e);
