/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One descriptor out of a document (image-spec descriptor.md).
 */
#include "oci/manifest.h"
#include "oci/pool.h"

/* what: for messages ("layer 3"). INVAL, UNSUPPORTED (digest), LIMIT, NOMEM. Borrows from the pool
 * only. */
int oci_descriptor_read(struct json_span object, const char *what, struct oci_pool *pool,
                        struct oci_descriptor *ret, struct larder_error *e);
/* NULL for null, missing and "". INVAL (`what: key is no string`), NOMEM. */
int oci_optional_text(struct json_span span, const char *what, const char *key,
                      struct oci_pool *pool, const char **ret, struct larder_error *e);
/* The same of a media type: visible ASCII, below OCI_MEDIA_TYPE_BYTES. */
int oci_type_read(struct json_span span, const char *what, const char *key, bool is_required,
                  struct oci_pool *pool, const char **ret, struct larder_error *e);
/* Annotations, or NULL; as oci_pool_strings. */
int oci_annotations_read(struct json_span span, const char *what, struct oci_pool *pool,
                         const struct json **ret, struct larder_error *e);
