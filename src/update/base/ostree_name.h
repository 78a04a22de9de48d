/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Names of container images in ostree repositories, as ostree-ext writes them.
 */
#include <larder/error.h>

#include "base/buf.h"
#include "base/slice.h"

#define OSTREE_IMAGE_DIR    "ostree/container/image"
#define OSTREE_IMAGE_PREFIX "ostree/container/image/"
#define OSTREE_BLOB_PREFIX  "ostree/container/blob/"

/* Escapes text for a ref: ASCII letters, digits and '-' stay, '_' doubles, '/' stays after a letter
 * or digit and not at the end, the rest is _XX_ of the code point. INVAL when empty, with a NUL, or
 * no UTF-8. */
int ostree_name_escape(struct slice text, struct buf *out, struct larder_error *e);
/* The inverse; INVAL for what escape never gives. */
int ostree_name_unescape(struct slice name, struct buf *out, struct larder_error *e);
/* The image of an origin ("ostree-unverified-registry:example.org/os:stable",
 * "ostree-image-signed:docker://...", "ostree-remote-image:REMOTE:docker://...") as
 * "TRANSPORT:NAME", registries as "docker://NAME". malloc'd. INVAL. */
int ostree_name_image(const char *origin, char **ret, struct larder_error *e);
