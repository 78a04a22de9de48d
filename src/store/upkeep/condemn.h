/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Condemning exactly the file that was found bad; store_condemn (maintain.h) is its short form. */
#include <sys/stat.h>

#include "store/upkeep/maintain.h"

enum condemn_result {
    CONDEMN_MOVED,  /* to quarantine */
    CONDEMN_MARKED, /* its path is needed, or nobody can tell: marked invalid */
    CONDEMN_GONE,   /* not there any more, or replaced or changed since */
};

/*
 * found: what fstat said of the file whose bytes were read; NULL: whatever has the name. Takes
 * locks/gc exclusively. The probe is asked before (it may look through guest directories), leases
 * are asked under the lock.
 */
int condemn_blob(struct larder_store *store, const struct larder_digest *digest,
                 const struct larder_digest *actual, const char *reason,
                 const struct users_probe *users, const struct stat *found,
                 enum condemn_result *ret, struct larder_error *e);
