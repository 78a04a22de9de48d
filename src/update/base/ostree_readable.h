/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What ostree-ext, and bootc and rpm-ostree by it, can read of a recorded update. It takes an image
 * for unreadable as a whole, also the one in use, when the update that is recorded with it has a
 * member of another type than it expects, or lacks one that it requires (history, which the
 * image-spec leaves to choice): such a document must never be put there.
 *
 * The types are those of its library oci-spec 0.7, which knows more members than the image-spec.
 */
#include <larder/error.h>

#include "base/buf.h"
#include "base/slice.h"

/* UNSUPPORTED, naming the member. */
int ostree_readable_manifest(struct slice manifest, struct larder_error *e);
/* Appends the configuration, with what is required and missing put in, else byte by byte.
 * UNSUPPORTED. */
int ostree_readable_config(struct slice config, struct buf *out, struct larder_error *e);
