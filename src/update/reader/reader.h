/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Reading ostree repositories and sysroots without libostree, whose libraries take longer to load
 * than everything that a question about an update needs.
 *
 * The reader answers what it knows exactly, and answers it as the module (ostree/module.h) does;
 * for all else it says NOT_MINE, and the module is asked: forms of a repository that it does not
 * know, all that is damaged or strange, and nearly all that is missing, so that there is one place
 * that finds the words for it. ostree_access.h is what brings the two together.
 *
 * Whatever is read may have been made by anybody: symlinks are not followed, only regular files of
 * a bounded size are read, and a commit has to be what its name says (which libostree believes).
 * No lock is taken and nothing is written: a file that is replaced meanwhile is read old or new.
 *
 * Threads: one at a time for each reader.
 */
#include <limits.h>

#include "update/ostree/module.h"

/* The result of a function here: ask the module. No code, and no result of a callback. */
#define NOT_MINE INT_MIN

struct reader;

/* The repository at path, or that of the sysroot there, with its deployments. 0, NOT_MINE,
 * CORRUPT. */
int reader_open(const char *path, bool is_sysroot, struct reader **ret, struct larder_error *e);
void reader_close(struct reader *r); /* NULL is fine */

/* As those of struct ostree_module, and NOT_MINE. Before that no callback has been called. */
const char *reader_path(const struct reader *r);
int reader_resolve(struct reader *r, const char *ref, char ret_commit[65], struct larder_error *e);
int reader_each_ref(struct reader *r, const char *prefix,
                    int (*fn)(void *arg, const char *ref, const char *commit), void *arg,
                    struct larder_error *e);
int reader_metadata(struct reader *r, const char *commit, bool is_detached,
                    struct ostree_value *values, size_t n,
                    int (*fn)(void *arg, const struct ostree_value *values), void *arg,
                    struct larder_error *e);
int64_t reader_detached_time(const struct reader *r, const char *commit); /* 0: not known */
int reader_each_deployment(struct reader *r,
                           int (*fn)(void *arg, const struct ostree_deployment_info *info),
                           void *arg);
