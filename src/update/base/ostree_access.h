/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * An ostree repository, or a sysroot with its repository: read without libostree where that is
 * possible (reader/reader.h), else, and always for a change, by the module (ostree/module.h), which
 * is opened when it is needed first. Each function is that of struct ostree_module; the answer does
 * not depend on who gives it.
 *
 * LARDER_OSTREE_READER=no has the module answer all of it; =only is UNSUPPORTED where the module
 * would be asked. Both are for tests.
 *
 * Threads: one at a time for each handle.
 */
#include "update/ostree/module.h"

struct ostree_access;

/* And UNSUPPORTED, where the module has to answer and is not there. */
int ostree_access_open(const char *path, bool is_sysroot, struct ostree_access **ret,
                       struct larder_error *e);
void ostree_access_close(struct ostree_access *a); /* NULL is fine */
const char *ostree_access_path(const struct ostree_access *a);
int ostree_access_resolve(struct ostree_access *a, const char *ref, char ret_commit[65],
                          struct larder_error *e);
int ostree_access_each_ref(struct ostree_access *a, const char *prefix,
                           int (*fn)(void *arg, const char *ref, const char *commit), void *arg,
                           struct larder_error *e);
int ostree_access_metadata(struct ostree_access *a, const char *commit, bool is_detached,
                           struct ostree_value *values, size_t n,
                           int (*fn)(void *arg, const struct ostree_value *values), void *arg,
                           struct larder_error *e);
int64_t ostree_access_detached_time(struct ostree_access *a, const char *commit);
/* DENIED also without the module. */
int ostree_access_edit(struct ostree_access *a, const char *commit,
                       const struct ostree_value *values, size_t n, struct larder_error *e);
int ostree_access_each_deployment(struct ostree_access *a,
                                  int (*fn)(void *arg, const struct ostree_deployment_info *info),
                                  void *arg, struct larder_error *e);
