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

/*
 * Asks users; a NULL probe (or one without a function) asks the kernel alone. A probe that fails
 * is USE_UNKNOWN, except for NOMEM and CANCELED. Outputs are always set on success.
 */
int users_ask(const struct users_probe *users, struct larder_store *store,
              const struct larder_digest *digest, int fd, const char *path, enum use_state *ret,
              bool *ret_needs_path, struct buf *who, struct larder_error *e);
/*
 * What the kernel knows: byte-range locks of anybody (QEMU's), and whether the file is open
 * anywhere else (a write lease held for a moment). fd must be the caller's only descriptor of the
 * file, read-only and fresh. Needs the file's owner or CAP_LEASE, else UNKNOWN.
 */
enum use_state users_ask_kernel(int fd);
/* "in use", "not known to be free" */
const char *use_state_text(enum use_state state);
