/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * From a REMOTE store into a FILE store: bytes are received into large buffers, written and hashed
 * on the way, size and digest checked before anything is committed. Large blobs are hashed by a
 * second thread; small ones in the lane. Memory is bounded whatever the blob's size.
 */
#include "store/store.h"

struct blob_pull {
    struct store *from;
    struct store *to;
    const struct store_descriptor *blob;
    bool may_split; /* a second thread may hash: few blobs, idle cores */
    /* Bytes done so far; called from the lane. */
    int (*progress)(void *arg, uint64_t done_bytes, struct larder_error *e);
    void *arg;
};
/* MISMATCH when the bytes are not the digest's: nothing is left behind. */
int blob_pull_run(const struct blob_pull *pull, enum blob_how *ret, struct larder_error *e);
