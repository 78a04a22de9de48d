/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The images of an index that somebody wants.
 */
#include "base/buf.h"
#include "oci/platform.h"
#include "store/store.h"

/*
 * Replaces *root and its bytes: with one platform by the manifest of the best member for it (also
 * one in an index of the index), with several by a new index of the best member for each, in the
 * old one's order and with its annotations: the same choice gives the same digest, and all members
 * chosen the index itself. An image that is no index stays, if its config does not name another
 * platform. NOENT (naming what there is); on failure both are undefined.
 */
int platform_choose(struct store *from, const struct oci_platform *wanted, size_t n,
                    struct store_descriptor *root, struct buf *bytes, struct larder_error *e);
/* Whether an image without an index, whose configuration this is, serves: NOENT naming both
 * platforms when not. One that names none serves. where: for messages. */
int platform_check(const char *where, struct slice config, const struct oci_platform *wanted,
                   struct larder_error *e);
