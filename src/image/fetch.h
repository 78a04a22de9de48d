/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Bringing an image into the store: space check, transfer (resumable), format and safety checks,
 * comparison with what is published, publication of the blob. Follows the torn-publication
 * protocol: sums, image, on mismatch the sums once more past caches, then the image once more from
 * 0, then MISMATCH ("upstream inconsistent"), with the old entry untouched.
 */
#include "image/entry.h"
#include "image/sums.h"

/*
 * Fetches entry->source; published is what image_sums_ask just gave (and is updated when asked
 * again). On success entry has its new local and upstream parts (not yet written: the caller
 * writes the ref) and the blob is in the store. The caller holds the entry's lock, and closes
 * *ret_gc_lock (locks/gc, shared) when the ref is written: until then nothing refers to the blob.
 */
int image_fetch(struct larder_store *store, struct http_client *client, struct image_entry *entry,
                struct image_published *published, int *ret_gc_lock, struct larder_error *e);
