/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What a document that was read needs to keep of its text: strings, each of the usual ones once
 * (20,000 members of an index have some five different ones between them), and the few small trees
 * for which somebody wants struct json.
 */
#include <larder/error.h>

#include "json/span.h"

/* Annotations, URLs and features of one document; a tree takes some 150 bytes for each, however
 * short it is in the text. */
#define OCI_POOL_VALUES_MAX 131072

struct oci_pool;

int oci_pool_new(struct oci_pool **ret, struct larder_error *e);
void oci_pool_free(struct oci_pool *pool);
/* Decoded, lives as long as the pool; NULL without memory. */
const char *oci_pool_text(struct oci_pool *pool, struct json_span string);
/* An object or array of nothing but strings; the tree is the pool's. INVAL when it is no such
 * thing, LIMIT beyond OCI_POOL_VALUES_MAX in all, NOMEM; messages begin with `what`. */
int oci_pool_strings(struct oci_pool *pool, struct json_span container, const char *what,
                     const struct json **ret, struct larder_error *e);
