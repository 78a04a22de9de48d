/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Manifests and indexes, read (image-spec manifest.md, image-index.md; Docker's schema 2 and
 * manifest list, of the same shape). Reading only: bytes with a digest are never written again;
 * new documents come from write.h.
 *
 * What is returned borrows from the document, which the struct owns.
 */
#include <stdbool.h>
#include <stdint.h>

#include <larder/digest.h>
#include <larder/error.h>

#include "base/mem.h"
#include "json/json.h"
#include "oci/media_type.h"
#include "oci/platform.h"

#define OCI_MANIFEST_BYTES_MAX (8UL * 1024 * 1024) /* read; registries take 4 MiB */
/* Of layers or of an index; what fits into the bytes above when each is as short as can be is not
 * much more. */
#define OCI_MEMBERS_MAX     65536
#define OCI_INDEX_DEPTH_MAX 8 /* of indexes in indexes */

struct oci_descriptor {
    const char *media_type; /* never NULL */
    struct larder_digest digest;
    uint64_t size_bytes;
    const char *artifact_type; /* NULL */
    bool has_platform;
    struct oci_platform platform;
    const struct json *annotations; /* strings by name; NULL: none */
    const struct json *urls;        /* an array of strings; NULL */
    const char *data;               /* base64, see oci_descriptor_data; NULL */
};

struct oci_pool;

enum oci_kind { OCI_KIND_IMAGE, OCI_KIND_INDEX };

struct oci_manifest {
    enum oci_kind kind;
    bool is_docker;
    const char *media_type;        /* one of the four; of the body, else as given, else guessed */
    const char *artifact_type;     /* NULL */
    struct oci_descriptor config;  /* IMAGE */
    struct oci_descriptor *layers; /* IMAGE */
    size_t n_layers;
    struct oci_descriptor *manifests; /* INDEX */
    size_t n_manifests;
    bool has_subject;
    struct oci_descriptor subject;
    const struct json *annotations; /* NULL */
    struct oci_pool *pool;          /* what the above borrows from */
};

/*
 * media_type: what the Content-Type or descriptor said, parameters and all; NULL, or a general type
 * such as application/json: by the body alone. MISMATCH when the body says another; UNSUPPORTED for
 * schema 1, for what is neither manifest nor index, and for digests of algorithms we don't know;
 * INVAL for JSON that is none, a missing or malformed required member, a negative size, a duplicate
 * key, layers and manifests in one document (CVE-2021-41190); LIMIT beyond
 * OCI_MANIFEST_BYTES_MAX or OCI_MEMBERS_MAX; NOMEM. Unknown members and unknown media types of
 * children are fine.
 */
int oci_manifest_parse(struct slice bytes, const char *media_type, struct oci_manifest **ret,
                       struct larder_error *e);
void oci_manifest_free(struct oci_manifest *manifest);
DEFINE_CLEANUP(struct oci_manifest *, oci_manifest_free)

/* An annotation of a descriptor or manifest; NULL. */
const char *oci_annotation(const struct json *annotations, const char *key);
/* Embedded content ("data", base64), decoded and checked against size and digest: *ret malloc'd, of
 * size_bytes and a NUL. NOENT without; CORRUPT when it differs. */
int oci_descriptor_data(const struct oci_descriptor *descriptor, char **ret,
                        struct larder_error *e);
/* The platform an image's config names (image-spec config.md); it borrows from *ret_document, which
 * has nothing else in it and is freed by the caller. NOENT when it names none (an artifact's);
 * INVAL. */
int oci_config_platform(struct slice config, struct json **ret_document, struct oci_platform *ret,
                        struct larder_error *e);
