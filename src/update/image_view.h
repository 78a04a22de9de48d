/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What an update check wants to know of an image: its manifest and configuration, read.
 */
#include <larder/update.h>

#include "base/slice.h"
#include "oci/manifest.h"

struct json;

struct image_layer {
    struct larder_digest digest;
    struct larder_digest diff_id; /* alg NONE: not known */
    uint64_t size_bytes;
    const char *media_type; /* borrowed from the manifest */
};
/* Its bytes are its content: whoever has that in any packing can make it. */
bool image_layer_is_plain(const struct image_layer *layer);
struct image_view {
    struct oci_manifest *manifest;
    struct larder_digest config_digest;
    struct image_layer *layers;
    size_t n_layers;
    char *version;        /* NULL */
    int64_t timestamp_ns; /* 0: none, or none that can be read */
    /* That the configuration names; os and architecture NULL: none. */
    struct oci_platform platform;
    char *platform_texts[4]; /* what it borrows from */
};
/*
 * Reads an image's manifest (OCI or Docker's schema 2) and configuration. config empty: only the
 * manifest is known (no version, no diff ids). INVAL, UNSUPPORTED (an index, an artifact's
 * configuration that is no JSON object is fine: it has no version).
 */
int image_view_read(struct slice manifest, const char *media_type, struct slice config,
                    struct image_view *ret, struct larder_error *e);
/* The same of a manifest that was parsed, which is taken over, also on failure. */
int image_view_take(struct oci_manifest *manifest, struct slice config, struct image_view *ret,
                    struct larder_error *e);
/* The same in two steps, where the manifest says which configuration to read: this is the second.
 * On failure view is as before. */
int image_view_add_config(struct image_view *view, struct slice config, struct larder_error *e);
void image_view_done(struct image_view *view);
/* "2024-01-10T12:00:00.5Z" (RFC 3339, also with an offset); 0 when it is none. */
int64_t image_timestamp(const char *text);

/*
 * A manifest of Docker's schema 2 as an OCI one, and an OCI one as it is: what readers of ostree
 * repositories understand. Appended to out. The digests in it stay; its own does not.
 */
int image_manifest_to_oci(struct slice manifest, const char *media_type, struct buf *out,
                          struct larder_error *e);
