/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A directory of records, a file each: "updates/" of a store, or a state directory. A file is named
 * by the SHA-256 of its key, so that any reference fits; the key is told by what is in it.
 *
 * Writing is temp, write, fsync, rename, fsync of the directory, under a flock of the directory
 * itself: a reader, which takes no lock and makes nothing, sees the old record or the new one,
 * whole. Only who has the lock has the one temporary: what a killed writer left is removed by the
 * next. The file's mtime is when the reference was last checked: a check that found the same again
 * only sets that.
 *
 *     record_dir_open(state_dir, true, &dir, e);     // or record_dir_open_store(store, &dir, e)
 *     record_key(ref, platform, NULL, NULL, &key, e);
 *     record_dir_put(dir, key, &record, e);
 *     record_dir_get(dir, key, &record, e);
 *     record_dir_close(dir);
 *
 * Threads: one handle, one thread at a time; any number of handles and processes.
 */
#include "base/mem.h"
#include "update/record/record.h"

struct larder_store;
struct record_dir;

/* path: copied. may_create: the directory is made (0755) when it is written the first time, never
 * by reading. One of somebody else than us or root, or that everybody may write, is UNSAFE to all
 * that is done with it. */
int record_dir_open(const char *path, bool may_create, struct record_dir **ret,
                    struct larder_error *e);
/* updates/ of a store, which is borrowed; judged and made as all its places are. */
int record_dir_open_store(struct larder_store *store, struct record_dir **ret,
                          struct larder_error *e);
void record_dir_close(struct record_dir *dir); /* NULL is fine */
DEFINE_CLEANUP(struct record_dir *, record_dir_close)
const char *record_dir_path(const struct record_dir *dir);

/* The key of a record: in a store that of reference and platform (place and commit NULL); in a
 * state directory also of the base's place (base.h) and, with ostree, commit. malloc'd. */
int record_key(const char *ref, const char *platform, const char *place, const char *commit,
               char **ret, struct larder_error *e);

/* checked_ns is the mtime. NOENT (also when there is no directory), CORRUPT (also for what is no
 * regular file or another's, and for a record of another key), UNSUPPORTED (newer), DENIED. */
int record_dir_get(struct record_dir *dir, const char *key, struct update_record *ret,
                   struct larder_error *e);
/* Replaces it, after record_check. DENIED (permission, read-only), NOSPACE, IO, BUSY (locked for
 * half a minute), LIMIT, INVAL (record_format). */
int record_dir_put(struct record_dir *dir, const char *key, const struct update_record *record,
                   struct larder_error *e);
/* "Found the same again at that time." NOENT, DENIED. Not synced: should it get lost, an earlier
 * time is told. */
int record_dir_touch(struct record_dir *dir, const char *key, int64_t checked_ns,
                     struct larder_error *e);
/* 1 removed, 0 there was none. DENIED only when there is one. */
int record_dir_remove(struct record_dir *dir, const char *key, struct larder_error *e);
/* Each record, in order of ref and platform; then the damaged ones, given as such (record NULL,
 * error and file name set). A non-zero result of fn ends the walk and is returned. */
int record_dir_each(struct record_dir *dir,
                    int (*fn)(void *arg, const char *file, const struct update_record *record,
                              const struct larder_error *error),
                    void *arg, struct larder_error *e);
