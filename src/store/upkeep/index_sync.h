/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The store's index, brought up to date with the store's files.
 *
 * Nobody who writes to the store tells the index anything; whoever wants to read it calls
 * store_index first. When nothing changed that costs one stat per blob (its memo's mtime is the
 * last use) and takes no lock. What is removed on its word is looked up again in the files (gc.c).
 */
#include "index/index.h"
#include "store/dir/dir.h"

/*
 * Opens index.sqlite and reconciles it. When it can't be opened, locked or written, or is damaged
 * and can't be remade, *ret is an index in memory with the same content: an index never stands
 * between a user and the store. Errors are those of reading the store itself.
 */
int store_index(struct larder_store *store, struct index **ret, struct larder_error *e);
/* Reconciles an open index again. */
int store_index_sync(struct larder_store *store, struct index *index, struct larder_error *e);
/* Opens the database itself; never falls back. For fsck and tests. */
int store_index_open(struct larder_store *store, struct index **ret, struct larder_error *e);

/* Nanoseconds since 1970 of a stat time. */
int64_t stat_time_ns(const struct timespec *ts);
