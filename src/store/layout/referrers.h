/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Manifests of layouts, whatever holds them: reading one that lies in a file, and what refers to
 * one.
 */
#include "store/layout/index_json.h"

/* Appends the manifest's bytes, checked against digest and, unless 0, size. CORRUPT; LIMIT. */
int manifest_read_extent(const char *where, const struct store_descriptor *manifest,
                         const struct store_extent *extent, struct buf *out,
                         struct larder_error *e);
/* By the bytes alone; out holds OCI_MEDIA_TYPE_BYTES, "" when they are no manifest. NOMEM only, as
 * the two below. */
int manifest_media_type(struct slice bytes, char *out, struct larder_error *e);
int manifest_has_subject(struct slice bytes, struct larder_error *e); /* 1: it has */
int manifest_subject(struct slice bytes, struct larder_digest *ret, struct larder_error *e);

/*
 * An index of what refers to subject: manifests with an entry, or in an index with an entry, whose
 * subject it is, and the members of the fallback tag. artifact_type NULL: all. A manifest that is
 * not there or damaged refers to nothing.
 */
int index_json_referrers(const struct json *index, const struct index_json_reader *reader,
                         const struct larder_digest *subject, const char *artifact_type,
                         struct buf *out, struct larder_error *e);
