/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One descriptor out of a document (image-spec descriptor.md).
 */
#include "oci/manifest.h"

/* what: for messages ("layer 3"). INVAL, UNSUPPORTED (digest). Borrows from node. */
int oci_descriptor_read(const struct json *node, const char *what, struct oci_descriptor *ret,
                        struct larder_error *e);
/* Whether they are missing, or an object of strings. */
bool oci_annotations_are_valid(const struct json *annotations);
