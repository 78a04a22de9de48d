/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The question "who uses this file?", asked by gc and quarantine, answered by a room above (disk
 * images know about QEMU's locks and overlays). Unknown counts as in use.
 */
#include <stdbool.h>

#include <larder/store.h>

#include "base/buf.h"

enum use_state {
    USE_FREE,    /* nobody, for sure */
    USE_IN_USE,  /* somebody has it open or needs its path */
    USE_UNKNOWN, /* can't tell: treat as in use */
};

/*
 * The probe of every handle until store_set_users: defined by the room above that knows about
 * users, so that the store need not include it.
 */
struct users_probe;
extern const struct users_probe *const store_default_users;

struct users_probe {
    void *arg;
    /*
     * fd: the blob's file, opened read-only by the caller; path: where it is (NULL when in
     * quarantine). *ret_needs_path: the path itself is referred to (an overlay at rest), so it
     * must not be renamed away. who (may be NULL) gets lines for people.
     */
    int (*probe)(void *arg, struct larder_store *store, const struct larder_digest *digest, int fd,
                 const char *path, enum use_state *ret, bool *ret_needs_path, struct buf *who,
                 struct larder_error *e);
};
