/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The question "what is this file in updates/?", asked by fsck, answered by the room above that
 * keeps records of updates there.
 */
#include <larder/error.h>

enum update_file {
    UPDATE_FILE_GOOD,      /* a sound record; also one that is gone, or is being written */
    UPDATE_FILE_TEMPORARY, /* of a writer that is gone */
    UPDATE_FILE_FOREIGN,   /* none of ours */
    UPDATE_FILE_CORRUPT,   /* e says how */
    UPDATE_FILE_UNKNOWN,   /* of a newer larder, or it can't be read; e says which */
};

struct updates_probe {
    enum update_file (*judge)(int dirfd, const char *file, struct larder_error *e);
    /* Removes a temporary or a corrupt one: 1; 0 when it is so no more. */
    int (*remove)(int dirfd, const char *file, struct larder_error *e);
};
extern const struct updates_probe *const store_updates_probe;
