/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A small blob of any store as a whole in memory, checked: configs, artifacts of a few bytes.
 */
#include "base/buf.h"
#include "store/store.h"

/* LIMIT: larger than out->max_bytes; MISMATCH or CORRUPT: other bytes than the digest's. */
int blob_read(struct store *from, const struct store_descriptor *blob, struct buf *out,
              struct larder_error *e);
