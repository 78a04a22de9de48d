/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Fetching a disk from a registry: its blobs come into the store as blobs (resumable, checked
 * against their digests), and the image is made of them: the blob itself, unpacked, found in a tar
 * or put together of pieces. The blobs it was made of are gc's afterwards.
 */
#include "image/fetch_run.h"

int image_fetch_registry(struct fetch_run *run, int *ret_gc_lock, struct larder_error *e);
