/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Refs: small JSON documents that point to descriptors. An entry is a ref that also has
 * provenance; what a room keeps there is its own affair, the store only reads
 *
 *   { "version": 1, "name": "image/debian-13",
 *     "descriptor": {"mediaType": "...", "digest": "sha256:...", "size": 123},   optional
 *     "keeps": [ {descriptor}, ... ],         further blobs this ref keeps (sums, signature)
 *     "image": { ... } }                      the room's part
 *
 * so that gc knows what is referred to. Files up to 1 MiB.
 */
#include <larder/store.h>

#include "json/json.h"
#include "store/dir/dir.h"

#define REF_BYTES_MAX (1024 * 1024)
/* The refs of images: "store:NAME" is the ref "oci/NAME". */
#define REF_IMAGE_PREFIX "oci/"

/*
 * A ref document from text; CORRUPT when damaged, UNSUPPORTED when newer. name: what it must be
 * called, NULL: anything.
 */
int ref_parse(struct slice text, const char *name, struct json **ret, struct larder_error *e);
/* *ret: caller frees with json_free. NOENT; CORRUPT when the document is damaged. */
int ref_read(struct larder_store *store, const char *name, struct json **ret,
             struct larder_error *e);
/* Writes atomically; checks name against the document. */
int ref_write(struct larder_store *store, const char *name, const struct json *document,
              struct larder_error *e);
/* larder_ref_set() for who holds locks/gc. */
int ref_point(struct larder_store *store, const char *name, const struct larder_digest *digest,
              const char *media_type, struct larder_error *e);
int ref_remove(struct larder_store *store, const char *name, struct larder_error *e);
/* Sorted by name; prefix "" for all. */
int ref_each(struct larder_store *store, const char *prefix, int (*fn)(void *arg, const char *name),
             void *arg, struct larder_error *e);
/*
 * Calls fn (may be NULL: only checks) for every digest a ref document keeps (descriptor and keeps).
 * CORRUPT when one of them is no digest of a blob.
 */
int ref_each_digest(const struct json *document,
                    int (*fn)(void *arg, const struct larder_digest *digest), void *arg,
                    struct larder_error *e);
