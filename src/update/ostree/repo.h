/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The inside of the module: what its files share. GLib's types are only declared here.
 *
 * A GError is given away to gerror_take(), which frees it. Nothing of GLib's leaves the module, and
 * no GLib call of it sees input that GLib asserts on (text that is no UTF-8, a malformed commit).
 */
#include "update/ostree/module.h"

struct _GError; /* NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): GLib's */
struct OstreeRepo;
struct OstreeSysroot;

struct ostree_repo {
    struct OstreeRepo *repo;
    struct OstreeSysroot *sysroot; /* NULL: a plain repository; loaded otherwise */
    char *path;
};

/* The code of an error of libostree: NOENT, DENIED, NOSPACE, BUSY, else `otherwise`; the message is
 * the text, ": ", and that of the error. Frees it. */
int gerror_take(struct larder_error *e, struct _GError *error, enum larder_code otherwise,
                const char *fmt, ...) LARDER_PRINTF(4, 5);

/* What an error of opening means that has no code of its own: GLib gives a failing disk none, so
 * only a configuration that can't be read is certain to be damage. */
enum larder_code gerror_of_opening(const struct _GError *error);

/* repo.c */
int repo_open(const char *path, struct OstreeRepo **ret, struct larder_error *e);
int repo_resolve(struct ostree_repo *r, const char *ref, char ret_commit[65],
                 struct larder_error *e);
int repo_each_ref(struct ostree_repo *r, const char *prefix,
                  int (*fn)(void *arg, const char *ref, const char *commit), void *arg,
                  struct larder_error *e);
/* metadata.c */
int repo_metadata(struct ostree_repo *r, const char *commit, bool is_detached,
                  struct ostree_value *values, size_t n,
                  int (*fn)(void *arg, const struct ostree_value *values), void *arg,
                  struct larder_error *e);
int64_t repo_detached_time(struct ostree_repo *r, const char *commit);
int repo_edit(struct ostree_repo *r, const char *commit, const struct ostree_value *values,
              size_t n, struct larder_error *e);
/* sysroot.c; gives the sysroot's repository, too, each a reference. */
int sysroot_open(const char *path, struct OstreeSysroot **ret, struct OstreeRepo **ret_repo,
                 struct larder_error *e);
/* Before a repository of a booted sysroot is written; does what has to be done for it, and nothing
 * for any other. DENIED. */
int sysroot_make_writable(struct ostree_repo *r, struct larder_error *e);
int sysroot_each_deployment(struct ostree_repo *r,
                            int (*fn)(void *arg, const struct ostree_deployment_info *info),
                            void *arg, struct larder_error *e);
