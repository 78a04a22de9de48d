/* SPDX-License-Identifier: Apache-2.0 */
#include "update/ostree/module.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ostree.h>

#include "base/error.h"
#include "update/ostree/repo.h"

/* Above gvfs, which has 10. */
#define VFS_PRIORITY 1000

int gerror_take(struct larder_error *e, GError *error, enum larder_code otherwise, const char *fmt,
                ...)
{
    static const struct {
        int error;
        enum larder_code code;
        int sys_errno;
    } codes[] = {
        {G_IO_ERROR_NOT_FOUND, LARDER_NOENT, ENOENT},
        {G_IO_ERROR_NOT_DIRECTORY, LARDER_NOENT, ENOTDIR},
        {G_IO_ERROR_READ_ONLY, LARDER_DENIED, EROFS},
        {G_IO_ERROR_PERMISSION_DENIED, LARDER_DENIED, EACCES},
        {G_IO_ERROR_NO_SPACE, LARDER_NOSPACE, ENOSPC},
        {G_IO_ERROR_WOULD_BLOCK, LARDER_BUSY, EWOULDBLOCK},
    };
    enum larder_code code = otherwise;
    int sys_errno = 0;
    char what[LARDER_ERROR_MSG_BYTES];
    va_list ap;

    for (size_t i = 0; i < G_N_ELEMENTS(codes); i++) {
        if (g_error_matches(error, G_IO_ERROR, codes[i].error)) {
            code = codes[i].code;
            sys_errno = codes[i].sys_errno;
        }
    }
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    int r = error_set(e, code, "%s: %s", what, error ? error->message : "failed without a reason");
    if (e)
        e->sys_errno = sys_errno;
    g_clear_error(&error);
    return r;
}

enum larder_code gerror_of_opening(const GError *error)
{
    return error && error->domain == G_KEY_FILE_ERROR ? LARDER_CORRUPT : LARDER_IO;
}

/*
 * libostree makes GFiles, and on a desktop the first of them starts gvfs: a session bus, a socket
 * and threads to read local files. The ostree program says GIO_USE_VFS=local to that; setting a
 * variable is no business of a library, so GLib's own local one is offered again, as the first.
 */
static void prefer_local_files(void)
{
    static gsize done;

    if (g_once_init_enter(&done)) {
        GVfs *local = g_vfs_get_local();
        g_io_extension_point_implement(G_VFS_EXTENSION_POINT_NAME, G_OBJECT_TYPE(local),
                                       "larder-local", VFS_PRIORITY);
        g_once_init_leave(&done, 1);
    }
}

static void close_repo(struct ostree_repo *r)
{
    if (!r)
        return;
    g_clear_object(&r->repo);
    g_clear_object(&r->sysroot);
    free(r->path);
    free(r);
}

/* The whole path of an open repository: a GFile of one that was opened by its descriptor has none
 * that a person would know. */
static char *path_of(const char *path, bool is_sysroot)
{
    g_autofree char *below = g_build_filename(path, is_sysroot ? "ostree/repo" : NULL, NULL);

    return realpath(below, NULL);
}

static int open_repo(const char *path, bool is_sysroot, struct ostree_repo **ret,
                     struct larder_error *e)
{
    struct ostree_repo *r = calloc(1, sizeof(*r));
    int code;

    if (!r)
        return error_nomem(e);
    prefer_local_files();
    if (is_sysroot)
        code = sysroot_open(path, &r->sysroot, &r->repo, e);
    else
        code = repo_open(path, &r->repo, e);
    if (code == 0) {
        r->path = path_of(path, is_sysroot);
        if (!r->path)
            code = error_errno(e, errno, "ostree repository %s", path);
    }
    if (code < 0) {
        close_repo(r);
        return code;
    }
    *ret = r;
    return 0;
}

static const char *repo_path(struct ostree_repo *r)
{
    return r->path;
}

extern const struct ostree_module larder_ostree_module;
__attribute__((visibility("default"))) const struct ostree_module larder_ostree_module = {
    .version = OSTREE_MODULE_VERSION,
    .open = open_repo,
    .close = close_repo,
    .path = repo_path,
    .resolve = repo_resolve,
    .each_ref = repo_each_ref,
    .metadata = repo_metadata,
    .detached_time = repo_detached_time,
    .edit = repo_edit,
    .each_deployment = sysroot_each_deployment,
};
