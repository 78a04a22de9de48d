/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Sources in registries: oras://HOST/NAME[:TAG|@DIGEST]. What upstream publishes is the tag's
 * digest, asked with HEAD; the manifest it names is kept as evidence, as checksum files are.
 *
 *   published.etag     digest of what the reference points to (an index, a manifest, or a blob)
 *   published.text     the manifest of the disk
 *   published.digests  the disk's blob; for disks made of several blobs or found inside one, the
 *                      manifest's digest stands for them
 *
 * A DIGEST is a manifest's, as everybody else means it, or else a blob's, as nosi prints it.
 */
#include "image/entry.h"
#include "image/registry/artifact.h"
#include "image/sums.h"
#include "store/store.h"

/*
 * afresh: the manifest is fetched even when the reference points to what entry was made of.
 * ret_artifact, ret_registry: NULL when the caller only wants to know what is published; the
 * artifact is only set when the answer is not "unchanged". GONE, UNREACHABLE, AUTH, NOENT (no
 * disk in it).
 */
int registry_source_ask(struct larder_store *store, const struct image_entry *entry, bool afresh,
                        struct image_published *ret, struct image_artifact *ret_artifact,
                        struct store **ret_registry, struct larder_error *e);
