/* SPDX-License-Identifier: Apache-2.0 */
#include "update/base/ostree_access.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "update/reader/reader.h"

struct ostree_access {
    struct reader *reader;              /* NULL: none that knows this repository */
    const struct ostree_module *module; /* NULL: not needed so far */
    struct ostree_repo *repo;           /* the module's; NULL as long as module is */
    char *path;
    bool is_sysroot;
    bool is_alone; /* the module is not to be asked */
};

/* The module's turn. */
static int need_module(struct ostree_access *a, struct larder_error *e)
{
    const struct ostree_module *module = NULL;

    if (a->module)
        return 0;
    if (a->is_alone)
        return error_set(e, LARDER_UNSUPPORTED, "ostree repository %s: not read without libostree",
                         a->path);
    int r = ostree_module_get(&module, e);
    if (r == 0)
        r = module->open(a->path, a->is_sysroot, &a->repo, e);
    if (r == 0)
        a->module = module;
    return r;
}

int ostree_access_open(const char *path, bool is_sysroot, struct ostree_access **ret,
                       struct larder_error *e)
{
    const char *mode = secure_getenv("LARDER_OSTREE_READER");
    struct ostree_access *a = calloc(1, sizeof(*a));
    int r = NOT_MINE;

    if (!a)
        return error_nomem(e);
    a->is_sysroot = is_sysroot;
    a->is_alone = mode && strcmp(mode, "only") == 0;
    a->path = strdup(path);
    if (!a->path)
        r = error_nomem(e);
    else if (HAVE_OSTREE && (!mode || strcmp(mode, "no") != 0))
        r = reader_open(path, is_sysroot, &a->reader, e);
    if (r == NOT_MINE)
        r = need_module(a, e);
    if (r < 0) {
        ostree_access_close(a);
        return r;
    }
    *ret = a;
    return 0;
}

void ostree_access_close(struct ostree_access *a)
{
    if (!a)
        return;
    reader_close(a->reader);
    if (a->module)
        a->module->close(a->repo);
    free(a->path);
    free(a);
}

const char *ostree_access_path(const struct ostree_access *a)
{
    return a->reader ? reader_path(a->reader) : a->module->path(a->repo);
}

int ostree_access_resolve(struct ostree_access *a, const char *ref, char ret_commit[65],
                          struct larder_error *e)
{
    int r = a->reader ? reader_resolve(a->reader, ref, ret_commit, e) : NOT_MINE;

    if (r != NOT_MINE)
        return r;
    r = need_module(a, e);
    return r < 0 ? r : a->module->resolve(a->repo, ref, ret_commit, e);
}

int ostree_access_each_ref(struct ostree_access *a, const char *prefix,
                           int (*fn)(void *arg, const char *ref, const char *commit), void *arg,
                           struct larder_error *e)
{
    int r = a->reader ? reader_each_ref(a->reader, prefix, fn, arg, e) : NOT_MINE;

    if (r != NOT_MINE)
        return r;
    r = need_module(a, e);
    return r < 0 ? r : a->module->each_ref(a->repo, prefix, fn, arg, e);
}

int ostree_access_metadata(struct ostree_access *a, const char *commit, bool is_detached,
                           struct ostree_value *values, size_t n,
                           int (*fn)(void *arg, const struct ostree_value *values), void *arg,
                           struct larder_error *e)
{
    int r = a->reader ? reader_metadata(a->reader, commit, is_detached, values, n, fn, arg, e)
                      : NOT_MINE;

    if (r != NOT_MINE)
        return r;
    r = need_module(a, e);
    return r < 0 ? r : a->module->metadata(a->repo, commit, is_detached, values, n, fn, arg, e);
}

int64_t ostree_access_detached_time(struct ostree_access *a, const char *commit)
{
    if (a->reader)
        return reader_detached_time(a->reader, commit);
    return a->module->detached_time(a->repo, commit);
}

int ostree_access_edit(struct ostree_access *a, const char *commit,
                       const struct ostree_value *values, size_t n, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    int r = need_module(a, &why);

    /* What was read is right all the same: it only can't be kept here. */
    if (r == -LARDER_UNSUPPORTED)
        why.code = LARDER_DENIED;
    if (r < 0 && e)
        *e = why;
    return r < 0 ? -(int)why.code : a->module->edit(a->repo, commit, values, n, e);
}

int ostree_access_each_deployment(struct ostree_access *a,
                                  int (*fn)(void *arg, const struct ostree_deployment_info *info),
                                  void *arg, struct larder_error *e)
{
    if (a->reader)
        return reader_each_deployment(a->reader, fn, arg);
    return a->module->each_deployment(a->repo, fn, arg, e);
}
