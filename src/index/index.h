/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * index.sqlite: a cache of what the store's directories say, so that listing, du and gc need not
 * read thousands of small files. It is never the truth and no writer has to tell it anything:
 * each directory's fingerprint (inode, mtime, ctime) is remembered, and index_sync re-reads only
 * directories that changed since, and in them only files whose own fingerprint changed. A directory
 * that changed less than 2 s before it was read is not trusted next time (the racy rule).
 *
 * Debian's SQLite (before 3.51.3) has the WAL-reset bug, and its busy handler starves writers:
 * every write transaction and every checkpoint is made under an exclusive flock of locks/index;
 * mmap_size=0, wal_autocheckpoint=0, no checkpoint on close. Readers need no lock. A database that
 * is damaged, of another schema or unreadable is put aside and made anew.
 *
 * This room knows SQL and nothing of the store: it is given names and records.
 */
#include <stdbool.h>
#include <stdint.h>

#include <larder/digest.h>
#include <larder/error.h>

#include "base/mem.h"
