/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Upkeep of a dir store: gc, scrub, fsck, du, status, behind include/larder/maintain.h. The
 * functions here take the in-use probe of a room above; the public ones give them the images'
 * probe.
 */
#include <larder/maintain.h>

#include "store/users.h"

int store_gc(struct larder_store *store, const struct larder_gc_options *options,
             const struct users_probe *users, struct larder_gc_report *ret, struct larder_error *e);
int store_scrub(struct larder_store *store, const struct larder_scrub_options *options,
                const struct users_probe *users, struct larder_scrub_report *ret,
                struct larder_error *e);
int store_fsck(struct larder_store *store, const struct larder_fsck_options *options,
               const struct users_probe *users, struct larder_fsck_report *ret,
               struct larder_error *e);
/*
 * What to do with a blob whose bytes are wrong: quarantine it, or, when its path is needed or
 * (unless force) something can't be told, mark it invalid and leave it. Takes locks/gc.
 * *ret_moved says which.
 */
int store_condemn(struct larder_store *store, const struct larder_digest *digest,
                  const struct larder_digest *actual, const char *reason,
                  const struct users_probe *users, bool *ret_moved, struct larder_error *e);
