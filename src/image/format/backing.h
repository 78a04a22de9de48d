/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Which local file a qcow2 image's backing name means, as QEMU reads it: a path (relative to the
 * directory of the overlay), "file:PATH", or "json:{...}" with the file somewhere inside. Pure, no
 * I/O: ".." and symbolic links are left for the caller's realpath.
 */
#include <larder/error.h>

#include "base/slice.h"

enum backing_kind {
    BACKING_NONE,    /* an empty name */
    BACKING_LOCAL,   /* a local path */
    BACKING_REMOTE,  /* nbd:, http:, rbd: ...: never a file of this host's store */
    BACKING_UNKNOWN, /* names something this code does not understand: count it as in use */
};

/* A deeper or longer one is not written by any tool. */
#define BACKING_PATH_BYTES_MAX 4096

/*
 * overlay_dir: directory of the overlay, absolute. *ret_path is malloc'd for LOCAL, else NULL.
 * A relative path behind "file:" or "json:" means QEMU's working directory then; it is resolved
 * against overlay_dir, which is where tools run. Errors: LIMIT, NOMEM only.
 */
int backing_resolve(struct slice name, const char *overlay_dir, enum backing_kind *ret_kind,
                    char **ret_path, struct larder_error *e);
