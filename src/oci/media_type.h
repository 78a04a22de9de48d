/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Media types (image-spec media-types.md and Docker's of the same shape).
 */
#include <stdbool.h>

#include "base/slice.h"

#define OCI_MEDIA_TYPE_BYTES 256 /* RFC 6838 section 4.2: 127 + '/' + 127, and NUL */

#define OCI_TYPE_INDEX                 "application/vnd.oci.image.index.v1+json"
#define OCI_TYPE_MANIFEST              "application/vnd.oci.image.manifest.v1+json"
#define OCI_TYPE_CONFIG                "application/vnd.oci.image.config.v1+json"
#define OCI_TYPE_LAYER                 "application/vnd.oci.image.layer.v1.tar"
#define OCI_TYPE_LAYER_GZIP            "application/vnd.oci.image.layer.v1.tar+gzip"
#define OCI_TYPE_LAYER_ZSTD            "application/vnd.oci.image.layer.v1.tar+zstd"
#define OCI_TYPE_LAYER_FOREIGN         "application/vnd.oci.image.layer.nondistributable.v1.tar"
#define OCI_TYPE_LAYER_FOREIGN_GZIP    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
#define OCI_TYPE_LAYER_FOREIGN_ZSTD    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
#define OCI_TYPE_EMPTY                 "application/vnd.oci.empty.v1+json"
#define DOCKER_TYPE_LIST               "application/vnd.docker.distribution.manifest.list.v2+json"
#define DOCKER_TYPE_MANIFEST           "application/vnd.docker.distribution.manifest.v2+json"
#define DOCKER_TYPE_CONFIG             "application/vnd.docker.container.image.v1+json"
#define DOCKER_TYPE_LAYER_GZIP         "application/vnd.docker.image.rootfs.diff.tar.gzip"
#define DOCKER_TYPE_LAYER              "application/vnd.docker.image.rootfs.diff.tar"
#define DOCKER_TYPE_LAYER_FOREIGN_GZIP "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
#define DOCKER_TYPE_LAYER_FOREIGN      "application/vnd.docker.image.rootfs.foreign.diff.tar"
#define DOCKER_TYPE_SCHEMA1            "application/vnd.docker.distribution.manifest.v1+json"
#define DOCKER_TYPE_SCHEMA1_SIGNED     "application/vnd.docker.distribution.manifest.v1+prettyjws"

/* What a client must accept when it asks for a manifest. */
#define OCI_ACCEPT_MANIFESTS \
    OCI_TYPE_INDEX ", " OCI_TYPE_MANIFEST ", " DOCKER_TYPE_LIST ", " DOCKER_TYPE_MANIFEST

bool media_type_is_index(const char *type);    /* OCI's or Docker's; NULL: false */
bool media_type_is_manifest(const char *type); /* of an image or artifact, OCI's or Docker's */
bool media_type_is_docker(const char *type);   /* Docker's manifest or list */
bool media_type_is_schema1(const char *type);
bool media_type_is_config(const char *type); /* of a container image, OCI's or Docker's */
/* A layer that is not pushed (Docker's foreign ones, OCI's nondistributable). */
bool media_type_is_foreign(const char *type);
/* Without parameters and blanks, "type/subtype" of RFC 6838's characters, its case kept; false when
 * it is none, or longer than OCI_MEDIA_TYPE_BYTES - 1. out holds OCI_MEDIA_TYPE_BYTES. */
bool media_type_clean(struct slice type, char *out);
