/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * libostree behind a module: larder-ostree.so is opened when a repository is written, or is of a
 * kind that ../reader does not know, so that nothing else loads libostree and its forty libraries,
 * and a machine without them has all the rest. The module has plain C at its border: no type of
 * GLib, no memory that the other side frees.
 *
 * The module is the only place where ostree.h is included. It knows refs, commits,
 * detached metadata and deployments; what keys mean is known in base_ostree.c.
 *
 * Threads: one at a time for each repository. Strings given to callbacks are valid during the call.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <larder/error.h>

#define OSTREE_MODULE_VERSION 1
#define OSTREE_MODULE_SYMBOL  "larder_ostree_module"
#define OSTREE_MODULE_FILE    "larder-ostree.so"

/* Text of what is CORRUPT because a commit's bytes have another SHA-256 than its name, which is the
 * same wherever it is read: path, commit. */
#define OSTREE_NOT_THAT_COMMIT "ostree repository %s: commit %s: its bytes are those of another"

struct ostree_repo; /* the module's own */

enum ostree_value_type {
    OSTREE_VALUE_NONE,   /* there is no such key; in an edit: remove it */
    OSTREE_VALUE_STRING, /* s */
    OSTREE_VALUE_NUMBER, /* t, big-endian as ostree's are */
    OSTREE_VALUE_OTHER,  /* of a type that is not read here; not in an edit */
};
struct ostree_value {
    const char *key;
    enum ostree_value_type type;
    const char *text;
    uint64_t number;
};

struct ostree_deployment_info {
    const char *role; /* "booted", "staged", "pending", "rollback", or "" for further ones */
    const char *os_name;
    const char *commit;
    const char *image; /* origin's container-image-reference; NULL: not of a container image */
};

struct ostree_module {
    uint32_t version;
    /* The repository at path; or with is_sysroot that of the sysroot there, with its deployments.
     * NOENT, DENIED, CORRUPT, IO. */
    int (*open)(const char *path, bool is_sysroot, struct ostree_repo **ret,
                struct larder_error *e);
    void (*close)(struct ostree_repo *repo);
    /* Path of the repository itself; the repository's. */
    const char *(*path)(struct ostree_repo *repo);
    /* Commit of a local ref, 64 hex digits and a NUL. NOENT. */
    int (*resolve)(struct ostree_repo *repo, const char *ref, char ret_commit[65],
                   struct larder_error *e);
    /* Each local ref below prefix ("ostree/container/image"), sorted, whole names. A non-zero
     * result of fn ends the walk and is returned. */
    int (*each_ref)(struct ostree_repo *repo, const char *prefix,
                    int (*fn)(void *arg, const char *ref, const char *commit), void *arg,
                    struct larder_error *e);
    /* Looks up n keys in a commit's metadata, or its detached metadata, and gives them, filled, to
     * fn, whose result is returned. No detached metadata: all NONE. NOENT: no such commit. */
    int (*metadata)(struct ostree_repo *repo, const char *commit, bool is_detached,
                    struct ostree_value *values, size_t n,
                    int (*fn)(void *arg, const struct ostree_value *values), void *arg,
                    struct larder_error *e);
    /* When the detached metadata was last written, by whomever, ns since 1970; 0: not known. */
    int64_t (*detached_time)(struct ostree_repo *repo, const char *commit);
    /*
     * Sets and removes keys of the detached metadata under the repository's exclusive lock, all at
     * once; other keys stay. 1: written, 0: it was so already, and nothing was written. DENIED when
     * the repository can't be written, NOENT, NOSPACE, BUSY (locked for too long). A booted
     * sysroot that is mounted read-only is mounted writable for root, in a mount namespace that
     * this thread (a program without threads: the process) has from then on, as ostree does.
     */
    int (*edit)(struct ostree_repo *repo, const char *commit, const struct ostree_value *values,
                size_t n, struct larder_error *e);
    /* Deployments in boot order; none in a plain repository. */
    int (*each_deployment)(struct ostree_repo *repo,
                           int (*fn)(void *arg, const struct ostree_deployment_info *info),
                           void *arg, struct larder_error *e);
};

/* Opened once in the process. UNSUPPORTED: not built, or not installed (says which, and what to
 * install). In module_load.c, which is part of the library; everything else here is the module. */
int ostree_module_get(const struct ostree_module **ret, struct larder_error *e);
