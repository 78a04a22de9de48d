/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A small blob of any store as a whole in memory, checked: configs, artifacts of a few bytes.
 */
#include "base/buf.h"
#include "oci/manifest.h"
#include "store/store.h"

/* LIMIT: larger than out->max_bytes; MISMATCH or CORRUPT: other bytes than the digest's. */
int blob_read(struct store *from, const struct store_descriptor *blob, struct buf *out,
              struct larder_error *e);
/*
 * rc of a call that read a document of `from`, and its error: INVAL, which would blame whoever
 * called, becomes PROTO (a registry gave what is no such document) or CORRUPT (a store or layout
 * has it). Others stay.
 */
int document_blame(const struct store *from, int rc, struct larder_error *e);
/* oci_manifest_parse() of a manifest that `from` gave. */
int manifest_parse_from(const struct store *from, struct slice bytes, const char *media_type,
                        struct oci_manifest **ret, struct larder_error *e);
