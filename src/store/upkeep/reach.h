/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What can be reached from a manifest: its config and layers, the members of an index and all below
 * them. Subjects are not: a referrer does not keep what it refers to.
 *
 *     reach_new(store, &reach, e);
 *     reach_add(reach, &digest, media_type, &is_known, e); ...
 *     reach_has(reach, &digest); reach_each(reach, fn, arg);
 *     reach_reset(reach);  // another set; what was read is remembered: a digest never changes
 *     reach_free(reach);
 *
 * Everything is read from the blobs themselves and checked against their digests: nothing is
 * deleted on a cache's word. Threads: one at a time.
 */
#include <larder/store.h>

#include "base/mem.h"

struct reach;

int reach_new(struct larder_store *store, struct reach **ret, struct larder_error *e);
void reach_free(struct reach *reach);
DEFINE_CLEANUP(struct reach *, reach_free)
/*
 * Adds the digest and, when the media type is that of a manifest or index, what is below it.
 * *ret_is_known becomes false (and else stays) when that can't be told: a manifest that is damaged,
 * in quarantine, of a form we don't read, or nested too deep. One that is simply not there has
 * nothing below it.
 */
int reach_add(struct reach *reach, const struct larder_digest *digest, const char *media_type,
              bool *ret_is_known, struct larder_error *e);
bool reach_has(const struct reach *reach, const struct larder_digest *digest);
/* A non-zero result ends it and is returned. */
int reach_each(const struct reach *reach, int (*fn)(void *arg, const struct larder_digest *digest),
               void *arg);
void reach_reset(struct reach *reach);
