/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sysroot's deployments. Loading reads files and takes no lock, so it works read-only and without
 * privilege; libostree tells what is booted by comparing devices and inodes with "/".
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <ostree.h>

#include "base/error.h"
#include "update/ostree/repo.h"

int sysroot_open(const char *path, OstreeSysroot **ret, OstreeRepo **ret_repo,
                 struct larder_error *e)
{
    g_autoptr(GFile) file = g_file_new_for_path(path);
    g_autoptr(OstreeSysroot) sysroot = ostree_sysroot_new(file);
    GError *error = NULL;

    if (!ostree_sysroot_load(sysroot, NULL, &error)) {
        int r = gerror_take(e, error, gerror_of_opening(error), "ostree sysroot %s", path);
        if (r == -LARDER_NOENT)
            error_hint(e, "a sysroot has a directory \"ostree/repo\"; the running system's is /");
        return r;
    }
    if (!ostree_sysroot_get_repo(sysroot, ret_repo, NULL, &error))
        return gerror_take(e, error, gerror_of_opening(error), "ostree sysroot %s: its repository",
                           path);
    *ret = g_steal_pointer(&sysroot);
    return 0;
}

/*
 * A booted system's disk is read-only for all but who changes it: as ostree's own programs, root
 * gets a mount namespace of its own and mounts it writable there. The repository has to be opened
 * again for that. Nothing happens for others than root, in other sysroots, and where that is not
 * allowed: then writing says what is wrong.
 */
int sysroot_make_writable(struct ostree_repo *r, struct larder_error *e)
{
    GError *error = NULL;
    gboolean is_locked = FALSE;

    if (!r->sysroot || geteuid() != 0 || !ostree_sysroot_is_booted(r->sysroot) ||
        faccessat(ostree_repo_get_dfd(r->repo), ".", W_OK, AT_EACCESS) == 0 || errno != EROFS)
        return 0;
    g_autoptr(OstreeSysroot) sysroot = ostree_sysroot_new(ostree_sysroot_get_path(r->sysroot));
    g_autoptr(OstreeRepo) repo = NULL;
    /* Taking the sysroot's lock is what mounts it, so loading, which opens the repository, comes
     * after it. The lock itself is not needed: the repository has its own. */
    if (!ostree_sysroot_initialize_with_mount_namespace(sysroot, NULL, &error) ||
        !ostree_sysroot_try_lock(sysroot, &is_locked, &error) ||
        !ostree_sysroot_load(sysroot, NULL, &error))
        return gerror_take(e, error, LARDER_DENIED, "ostree repository %s: can't be made writable",
                           r->path);
    if (is_locked)
        ostree_sysroot_unlock(sysroot);
    if (!ostree_sysroot_get_repo(sysroot, &repo, NULL, &error))
        return gerror_take(e, error, LARDER_IO, "ostree repository %s", r->path);
    g_set_object(&r->repo, repo);
    g_set_object(&r->sysroot, sysroot);
    return 0;
}

/* What "pending" and "rollback" are said of: the booted system, else the first. */
static const char *main_os(OstreeSysroot *sysroot, GPtrArray *deployments)
{
    OstreeDeployment *booted = ostree_sysroot_get_booted_deployment(sysroot);

    if (!booted && deployments->len > 0)
        booted = g_ptr_array_index(deployments, 0);
    return booted ? ostree_deployment_get_osname(booted) : NULL;
}

static int give(OstreeDeployment *deployment, const char *role,
                int (*fn)(void *arg, const struct ostree_deployment_info *info), void *arg)
{
    GKeyFile *origin = ostree_deployment_get_origin(deployment);
    /* NULL also when the file, the group or the key is missing: a deployment of a plain commit. */
    g_autofree char *image =
        origin ? g_key_file_get_string(origin, "origin", "container-image-reference", NULL) : NULL;
    struct ostree_deployment_info info = {
        .role = role,
        .os_name = ostree_deployment_get_osname(deployment),
        .commit = ostree_deployment_get_csum(deployment),
        .image = image,
    };
    return fn(arg, &info);
}

int sysroot_each_deployment(struct ostree_repo *r,
                            int (*fn)(void *arg, const struct ostree_deployment_info *info),
                            void *arg, struct larder_error *e)
{
    g_autoptr(OstreeDeployment) pending = NULL;
    g_autoptr(OstreeDeployment) rollback = NULL;
    int result = 0;

    (void)e;
    if (!r->sysroot)
        return 0;
    g_autoptr(GPtrArray) deployments = ostree_sysroot_get_deployments(r->sysroot);
    OstreeDeployment *booted = ostree_sysroot_get_booted_deployment(r->sysroot);
    const char *os_name = main_os(r->sysroot, deployments);
    if (os_name)
        ostree_sysroot_query_deployments_for(r->sysroot, os_name, &pending, &rollback);
    for (guint i = 0; i < deployments->len && result == 0; i++) {
        OstreeDeployment *deployment = g_ptr_array_index(deployments, i);
        const char *role = "";
        /* A staged one is pending, too, as libostree has it. */
        if (ostree_deployment_is_staged(deployment))
            role = "staged";
        else if (booted && ostree_deployment_equal(deployment, booted))
            role = "booted";
        else if (deployment == pending)
            role = "pending";
        else if (deployment == rollback)
            role = "rollback";
        result = give(deployment, role, fn, arg);
    }
    return result;
}
