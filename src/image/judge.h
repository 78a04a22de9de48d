/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The verdict of an entry, in its two independent halves.
 */
#include "image/entry.h"
#include "image/sums.h"
#include "store/dir/blob.h"

/*
 * Integrity, L against R. Reads no content unless deep, or the fingerprint leaves doubt (then it
 * hashes: suspect by ctime only is accepted without deep, and re-hashed by scrub). VALID, CORRUPT,
 * or UNKNOWN with *ret_why "not fetched" (blob missing).  why: static or in buf.
 */
int image_judge_local(struct larder_store *store, const struct image_entry *entry, bool deep,
                      enum larder_verdict *ret, struct larder_digest *ret_actual, struct buf *why,
                      struct larder_error *e);
/*
 * Freshness, R (or S) against U, by asking upstream: sums with their validators, or without any
 * sums a HEAD of the image (ETag, then Last-Modified, then size). Updates entry's upstream part
 * (checked, published, changed). VALID or OUTDATED; *published is for a fetch that follows.
 * Errors: as image_sums_ask; GONE when the image itself is gone.
 */
int image_judge_fresh(struct larder_store *store, struct http_client *client,
                      struct image_entry *entry, enum larder_verdict *ret,
                      struct image_published *ret_published, struct buf *why,
                      struct larder_error *e);
