/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * From holders and a record to what callers get. show.c uses it for what is kept, check.c for what
 * was just found: both tell the same.
 */
#include "update/base/base.h"

/* Fills state, images, diff, holders, listed and times from what is there now; record NULL: none.
 * place: where the record is. ret is zero before, and larder_update_done() by the caller. */
int update_answer(struct base *base, const struct base_holders *holders,
                  const struct update_record *record, enum base_record_place place,
                  struct larder_update *ret, struct larder_error *e);
/* The difference of two images (from may be NULL: everything is added); presence: an entry a layer
 * of `to`. */
int update_diff(const struct image_view *from, const struct image_view *to,
                const enum larder_update_presence *presence, struct larder_update_diff *ret,
                struct larder_error *e);
