/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One blob from any store to any other: the way between the kinds is chosen here.
 *
 *   REMOTE -> FILE    blob_pull.h
 *   FILE   -> REMOTE  from the file, without reading it here; the registry checks the digest
 *   FILE   -> FILE    hashed while copied, for a store takes no byte on trust
 *   REMOTE -> REMOTE  through a few buffers and a second thread, hashed; the last bytes go out only
 *                     when the digest is right
 */
#include "base/hash_team.h"
#include "store/store.h"

struct blob_move {
    struct store *from;
    struct store *to;
    const struct store_descriptor *blob;
    const char *mount_from; /* repository of `to`'s registry that has it, to be mounted; NULL */
    bool is_missing;        /* known not to be at `to` */
    struct hash_team *team; /* of the lanes (blob_pull_team) */
    /* Bytes done so far, often; called from the lane or a thread of it. NULL. */
    int (*progress)(void *arg, uint64_t done_bytes, struct larder_error *e);
    void *arg;
    uint64_t *ret_resumed; /* bytes that an earlier run left and that were right; may be NULL */
};
/* MISMATCH: `from` gave other bytes than the digest's (a file's: CORRUPT). Nothing of them is kept.
 */
int blob_move_run(const struct blob_move *move, enum blob_how *ret, struct larder_error *e);

/* The ways of files of their own. */
int blob_move_file(const struct blob_move *move, enum blob_how *ret, struct larder_error *e);
int blob_move_stream(const struct blob_move *move, enum blob_how *ret, struct larder_error *e);
