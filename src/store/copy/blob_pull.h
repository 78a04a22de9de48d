/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * From a REMOTE store into a FILE store: bytes are received into large buffers, written and hashed
 * on the way, size and digest checked before anything is committed. Hashing is shared with other
 * lanes and a helper thread (hash_team.h). Memory is bounded whatever the blob's size.
 *
 * What an earlier run kept is hashed again and gone on with; when it turns out to be wrong, the
 * blob is fetched once more from its start.
 */
#include "base/hash_team.h"
#include "store/store.h"

struct blob_pull {
    struct store *from;
    struct store *to;
    const struct store_descriptor *blob;
    struct hash_team *team; /* shared with other lanes; NULL: one of its own */
    /* Bytes done so far, often; called from the lane. Negative ends it with that code. NULL. */
    int (*progress)(void *arg, uint64_t done_bytes, struct larder_error *e);
    void *arg;
    uint64_t *ret_resumed; /* bytes that an earlier run left and that were right; may be NULL */
};
/*
 * MISMATCH when the bytes are not the digest's: nothing is left behind. After other failures what
 * came so far is kept for the next run.
 */
int blob_pull_run(const struct blob_pull *pull, enum blob_how *ret, struct larder_error *e);

/*
 * For lanes that work at once: memory for `lanes` of them, a helper where there is a CPU for it.
 */
int blob_pull_team(unsigned lanes, struct hash_team **ret, struct larder_error *e);
