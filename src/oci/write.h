/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * New manifests and indexes, written byte for byte as Go's encoding/json would write the structs
 * of the image-spec's and containers/image's code: compact, members in the struct's order, < > &
 * U+2028 U+2029 escaped. So podman's and our indexes of the same images have the same digest, and
 * equal input always gives equal bytes (nothing here looks at a clock or a hash table's order).
 */
#include <stdbool.h>

#include <larder/error.h>

#include "base/buf.h"
#include "oci/manifest.h"

/* One member of an index; strings are borrowed. */
struct oci_index_entry {
    const char *media_type;
    struct larder_digest digest;
    uint64_t size_bytes;
    bool has_platform;
    struct oci_platform platform;
    const char *artifact_type;      /* NULL */
    const struct json *annotations; /* NULL; written with sorted keys, as Go writes maps */
};
/* Appends to out. Entries in the order given. as_docker: a Docker manifest list (annotations and
 * artifact types are INVAL there). LIMIT and NOMEM of out. */
int oci_index_write(const struct oci_index_entry *entries, size_t n, bool as_docker,
                    const struct json *annotations, struct buf *out, struct larder_error *e);
/* An entry as it stands in an index that was read. */
void oci_index_entry_of(const struct oci_descriptor *descriptor, struct oci_index_entry *ret);

/* The image's manifest as Docker schema 2 (same blobs, other media types, annotations dropped).
 * INVAL naming the layer that schema 2 can't say (zstd, encrypted). */
int oci_manifest_to_docker(const struct oci_manifest *image, struct buf *out,
                           struct larder_error *e);

/* The other way: schema 2 as OCI's, types that have no counterpart kept. INVAL for an index. */
int oci_manifest_from_docker(const struct oci_manifest *image, struct buf *out,
                             struct larder_error *e);

/* An artifact's manifest: empty config, layers as given, of which the empty blob is one if there
 * would be none; of the subject only type, digest and size are written. */
struct oci_artifact_layer {
    const char *media_type;
    struct larder_digest digest;
    uint64_t size_bytes;
    const struct json *annotations; /* NULL */
};
int oci_artifact_write(const char *artifact_type, const struct oci_artifact_layer *layers, size_t n,
                       const struct oci_descriptor *subject, const struct json *annotations,
                       struct buf *out, struct larder_error *e);
#define OCI_EMPTY_DIGEST_HEX "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
/* The blob "{}", as oras embeds it (image-spec manifest.md, "Guidance for an Empty Descriptor"). */
#define OCI_EMPTY_DESCRIPTOR                                                          \
    "{\"mediaType\":\"" OCI_TYPE_EMPTY "\",\"digest\":\"sha256:" OCI_EMPTY_DIGEST_HEX \
    "\",\"size\":2,\"data\":\"e30=\"}"

/* A string or a whole node (objects as Go's maps: sorted) as Go 1.22 and later write it. */
void go_json_string(struct buf *out, const char *text);
void go_json_node(struct buf *out, const struct json *node);
