/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Copying and comparing images. Locations and options as in registry.h.
 */
#include <larder/registry.h>

LARDER_BEGIN_DECLS

struct larder_copy_options {
    size_t size;
    const char *source;
    const char *const *destinations; /* at least one; those of one repository share the work */
    size_t n_destinations;
    const char *const *platforms; /* "linux/arm64"; n 0: the whole index */
    size_t n_platforms;
    bool has_referrers; /* signatures, SBOMs...: what refers to the image, too */
    bool force;         /* put manifests even where nothing changed */
    bool dry_run;       /* find out what would be copied */
    unsigned jobs;      /* 0: default */
    const struct larder_registry_options *source_options;      /* NULL: defaults */
    const struct larder_registry_options *destination_options; /* NULL: defaults */
    const struct larder_observer *observer;
    void *reserved[4];
};
#define LARDER_COPY_OPTIONS_INIT                                                            \
    {                                                                                       \
        sizeof(struct larder_copy_options), 0, 0, 0, 0, 0, false, false, false, 0, 0, 0, 0, \
        {                                                                                   \
            0, 0, 0, 0                                                                      \
        }                                                                                   \
    }

struct larder_copy_result {
    size_t size;
    struct larder_digest digest; /* of what the destinations now point to */
    char media_type[256];
    bool was_there; /* every destination had it: nothing was sent */
    uint64_t blobs_copied;
    uint64_t blobs_existed;
    uint64_t blobs_mounted;
    uint64_t manifests_put;
    uint64_t bytes_copied;
    uint64_t requests; /* HTTP requests, both sides */
    void *reserved[4];
};

/*
 * Copies an image or index to every destination: blobs in parallel, each checked against its
 * digest on the way, manifests unchanged, tags last. When all destinations point to it already,
 * one question each is all that is asked. Errors: those of registry.h; MISMATCH (bytes are not
 * their digest's; nothing of them is kept), NOSPACE, DENIED, CANCELED.
 */
LARDER_API LARDER_MUST_CHECK int larder_copy(struct larder_store *store,
                                             const struct larder_copy_options *options,
                                             struct larder_copy_result *ret,
                                             struct larder_error *e);

/* ---- comparing ---- */

enum larder_diff_side { LARDER_DIFF_BOTH, LARDER_DIFF_A, LARDER_DIFF_B };
struct larder_diff_blob {
    enum larder_diff_side side;
    bool is_config;
    char *media_type;
    struct larder_digest digest;
    uint64_t size_bytes;
    char *platform; /* "linux/amd64"; NULL: no index */
};
struct larder_diff {
    struct larder_digest a, b;
    bool is_equal; /* the same digest */
    struct larder_diff_blob *blobs;
    size_t n_blobs;
    uint64_t bytes_only_a, bytes_only_b, bytes_both;
    uint64_t bytes_to_pull; /* of B for who has A and this machine's store */
};
/* Layers and bytes that differ between the images at two locations. */
LARDER_API LARDER_MUST_CHECK int larder_diff(struct larder_store *store, const char *a,
                                             const char *b, const char *platform,
                                             const struct larder_registry_options *options,
                                             struct larder_diff *ret, struct larder_error *e);
LARDER_API void larder_diff_done(struct larder_diff *diff);

LARDER_END_DECLS
