/* SPDX-License-Identifier: Apache-2.0 */
#include "update/ostree/repo.h"

#include <fcntl.h>
#include <string.h>

#include <ostree.h>

#include "base/error.h"

int repo_open(const char *path, OstreeRepo **ret, struct larder_error *e)
{
    GError *error = NULL;
    OstreeRepo *repo = ostree_repo_open_at(AT_FDCWD, path, NULL, &error);

    if (!repo) {
        int r = gerror_take(e, error, gerror_of_opening(error), "ostree repository %s", path);
        if (r == -LARDER_NOENT)
            error_hint(e, "a repository has a directory \"objects\"; a system's is in "
                          "/ostree/repo");
        return r;
    }
    *ret = repo;
    return 0;
}

/* Only local refs: images are never fetched as refs of a remote, and a remote's must not pass for
 * one that was imported here. */
int repo_resolve(struct ostree_repo *r, const char *ref, char ret_commit[65],
                 struct larder_error *e)
{
    g_autofree char *commit = NULL;
    GError *error = NULL;

    /* Else it would be taken for "REMOTE:REF", for a commit, or for a commit's parent. */
    if (!ostree_validate_rev(ref, &error))
        return gerror_take(e, error, LARDER_INVAL, "ostree repository %s: ref %s", r->path, ref);
    if (ostree_validate_checksum_string(ref, NULL))
        return error_set(e, LARDER_INVAL, "ostree repository %s: %s is a commit, not a ref",
                         r->path, ref);
    if (!ostree_repo_resolve_rev_ext(r->repo, ref, true, OSTREE_REPO_RESOLVE_REV_EXT_LOCAL_ONLY,
                                     &commit, &error))
        return gerror_take(e, error, LARDER_IO, "ostree repository %s: ref %s", r->path, ref);
    if (!commit)
        return error_set(e, LARDER_NOENT, "ostree repository %s: has no ref %s", r->path, ref);
    if (!ostree_validate_checksum_string(commit, &error))
        return gerror_take(e, error, LARDER_CORRUPT, "ostree repository %s: ref %s", r->path, ref);
    memcpy(ret_commit, commit, 65);
    return 0;
}

static gint compare_refs(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int repo_each_ref(struct ostree_repo *r, const char *prefix,
                  int (*fn)(void *arg, const char *ref, const char *commit), void *arg,
                  struct larder_error *e)
{
    g_autoptr(GHashTable) refs = NULL;
    GError *error = NULL;
    GHashTableIter iter;
    gpointer key;
    int result = 0;

    if (!ostree_repo_list_refs_ext(r->repo, prefix, &refs,
                                   OSTREE_REPO_LIST_REFS_EXT_EXCLUDE_REMOTES, NULL, &error))
        return gerror_take(e, error, LARDER_IO, "ostree repository %s: refs below %s", r->path,
                           prefix);
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_hash_table_iter_init(&iter, refs);
    while (g_hash_table_iter_next(&iter, &key, NULL))
        g_ptr_array_add(names, key);
    g_ptr_array_sort(names, compare_refs);
    for (guint i = 0; i < names->len && result == 0; i++) {
        const char *name = g_ptr_array_index(names, i);
        result = fn(arg, name, g_hash_table_lookup(refs, name));
    }
    return result;
}
