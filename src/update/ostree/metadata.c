/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two dictionaries (GVariant a{sv}) of a commit: its metadata, which its checksum covers, and
 * its detached metadata, the file OBJECTS/xx/yyyy.commitmeta that anybody may rewrite and prune
 * removes with the commit.
 *
 * Numbers are big-endian, as `ostree show` takes them: a repository may be copied to any machine.
 *
 * libostree trusts what it reads from disk to be in GVariant's normal form, and trusted strings are
 * not looked at for their end. So both are read again as bytes that nobody vouches for.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ostree.h>

#include "base/error.h"
#include "base/mem.h"
#include "update/ostree/repo.h"

/* A commit has a handful of keys. Damage can look like millions of them, and to look at each takes
 * minutes. */
#define KEYS_MAX 4096
/* "objects/xx/" and 62 digits more, ".commitmeta". */
#define OBJECT_PATH_BYTES 96

/* A dictionary whose bytes are not believed; what is of another form reads as empty values. */
static GVariant *doubt(GVariant *dict)
{
    g_autoptr(GBytes) bytes = g_variant_get_data_as_bytes(dict);

    return g_variant_ref_sink(g_variant_new_from_bytes(G_VARIANT_TYPE_VARDICT, bytes, FALSE));
}

static int commit_is_here(struct ostree_repo *r, const char *commit, struct larder_error *e)
{
    GError *error = NULL;
    gboolean is_here = FALSE;

    if (!ostree_validate_checksum_string(commit, &error))
        return gerror_take(e, error, LARDER_INVAL, "ostree repository %s", r->path);
    if (!ostree_repo_has_object(r->repo, OSTREE_OBJECT_TYPE_COMMIT, commit, &is_here, NULL, &error))
        return gerror_take(e, error, LARDER_IO, "ostree repository %s: commit %s", r->path, commit);
    if (!is_here)
        return error_set(e, LARDER_NOENT, "ostree repository %s: has no commit %s", r->path,
                         commit);
    return 0;
}

/* NULL: the commit has none. */
static int read_detached(struct ostree_repo *r, const char *commit, GVariant **ret,
                         struct larder_error *e)
{
    g_autoptr(GVariant) dict = NULL;
    GError *error = NULL;

    if (!ostree_repo_read_commit_detached_metadata(r->repo, commit, &dict, NULL, &error))
        return gerror_take(e, error, LARDER_IO,
                           "ostree repository %s: detached metadata of commit %s", r->path, commit);
    *ret = dict ? doubt(dict) : NULL;
    return 0;
}

/* Damaged so that nothing in it is worth the time to look for it. */
static bool is_hopeless(GVariant *dict)
{
    return dict && g_variant_n_children(dict) > KEYS_MAX && !g_variant_is_normal_form(dict);
}

static int read_metadata(struct ostree_repo *r, const char *commit, GVariant **ret,
                         struct larder_error *e)
{
    g_autoptr(GVariant) whole = NULL;
    GError *error = NULL;

    if (!ostree_repo_load_commit(r->repo, commit, &whole, NULL, &error))
        return gerror_take(e, error, LARDER_CORRUPT, "ostree repository %s: commit %s", r->path,
                           commit);
    /* libostree compares them in fsck only. */
    g_autoptr(GBytes) bytes = g_variant_get_data_as_bytes(whole);
    g_autofree char *name = g_compute_checksum_for_bytes(G_CHECKSUM_SHA256, bytes);
    if (strcmp(name, commit) != 0)
        return error_set(e, LARDER_CORRUPT, OSTREE_NOT_THAT_COMMIT, r->path, commit);
    g_autoptr(GVariant) dict = g_variant_get_child_value(whole, 0);
    *ret = doubt(dict);
    return 0;
}

/* Sets *value from dict; the result, kept by the caller, is what its text borrows from. */
static GVariant *look_up(GVariant *dict, struct ostree_value *value)
{
    GVariant *found = dict ? g_variant_lookup_value(dict, value->key, NULL) : NULL;

    value->type = OSTREE_VALUE_NONE;
    value->text = NULL;
    value->number = 0;
    if (!found)
        return NULL;
    value->type = OSTREE_VALUE_OTHER;
    if (g_variant_is_of_type(found, G_VARIANT_TYPE_STRING)) {
        value->type = OSTREE_VALUE_STRING;
        value->text = g_variant_get_string(found, NULL);
    } else if (g_variant_is_of_type(found, G_VARIANT_TYPE_UINT64)) {
        value->type = OSTREE_VALUE_NUMBER;
        value->number = GUINT64_FROM_BE(g_variant_get_uint64(found));
    }
    return found;
}

static void unref_value(gpointer value)
{
    if (value)
        g_variant_unref(value);
}

int repo_metadata(struct ostree_repo *r, const char *commit, bool is_detached,
                  struct ostree_value *values, size_t n,
                  int (*fn)(void *arg, const struct ostree_value *values), void *arg,
                  struct larder_error *e)
{
    g_autoptr(GVariant) dict = NULL;
    int code = commit_is_here(r, commit, e);

    if (code == 0 && is_detached)
        code = read_detached(r, commit, &dict, e);
    else if (code == 0)
        code = read_metadata(r, commit, &dict, e);
    if (code < 0)
        return code;
    if (dict && !g_variant_is_normal_form(dict))
        return error_set(e, LARDER_CORRUPT, "ostree repository %s: commit %s: %s is damaged",
                         r->path, commit, is_detached ? "its detached metadata" : "its metadata");
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(unref_value);
    for (size_t i = 0; i < n; i++)
        g_ptr_array_add(found, look_up(dict, &values[i]));
    return fn(arg, values);
}

/* Paths of objects are the same in all modes of repositories: ostree's repo format, "objects". */
static void detached_path(const char *commit, char path[OBJECT_PATH_BYTES])
{
    snprintf(path, OBJECT_PATH_BYTES, "objects/%.2s/%.62s.commitmeta", commit, commit + 2);
}

int64_t repo_detached_time(struct ostree_repo *r, const char *commit)
{
    char path[OBJECT_PATH_BYTES];
    struct stat st;

    if (!ostree_validate_checksum_string(commit, NULL))
        return 0;
    detached_path(commit, path);
    if (fstatat(ostree_repo_get_dfd(r->repo), path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    int64_t ns = 0;
    if (__builtin_mul_overflow((int64_t)st.st_mtim.tv_sec, (int64_t)1000000000, &ns) ||
        __builtin_add_overflow(ns, (int64_t)st.st_mtim.tv_nsec, &ns) || ns < 0)
        return 0;
    return ns;
}

/* ---- changing ---- */

static bool is_so_already(GVariant *dict, const struct ostree_value *wanted)
{
    struct ostree_value there = {.key = wanted->key};
    GVariant *found = look_up(dict, &there);
    bool is_so = there.type == wanted->type;

    if (is_so && wanted->type == OSTREE_VALUE_STRING)
        is_so = strcmp(there.text, wanted->text) == 0;
    else if (is_so)
        is_so = there.number == wanted->number;
    if (found)
        g_variant_unref(found);
    return is_so;
}

static bool are_so_already(GVariant *dict, const struct ostree_value *values, size_t n)
{
    if (is_hopeless(dict))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!is_so_already(dict, &values[i]))
            return false;
    }
    /* Damage is not kept when it is noticed: reading says CORRUPT until somebody writes. */
    return !dict || g_variant_is_normal_form(dict);
}

/* The dictionary with the values in it; of a damaged one what can still be read. */
static GVariant *with_values(GVariant *dict, const struct ostree_value *values, size_t n)
{
    GVariantDict d;

    g_variant_dict_init(&d, is_hopeless(dict) ? NULL : dict);
    for (size_t i = 0; i < n; i++) {
        if (values[i].type == OSTREE_VALUE_STRING)
            g_variant_dict_insert(&d, values[i].key, "s", values[i].text);
        else if (values[i].type == OSTREE_VALUE_NUMBER)
            g_variant_dict_insert(&d, values[i].key, "t", GUINT64_TO_BE(values[i].number));
        else
            g_variant_dict_remove(&d, values[i].key);
    }
    return g_variant_ref_sink(g_variant_dict_end(&d));
}

/*
 * libostree writes the file anew and renames it, but does not wait for the disk where there was
 * none, or an empty one, before. After power loss such a file may be empty, which reads as a
 * dictionary without keys; from here on it is there, whole.
 */
static int sync_detached(struct ostree_repo *r, const char *commit, struct larder_error *e)
{
    int repo_fd = ostree_repo_get_dfd(r->repo);
    char path[OBJECT_PATH_BYTES];

    if (ostree_repo_get_disable_fsync(r->repo))
        return 0;
    detached_path(commit, path);
    for (int i = 0; i < 2; i++) {
        CLEANUP_CLOSE int fd = openat(repo_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 || fsync(fd) < 0)
            return error_errno(e, errno, "ostree repository %s: %s", r->path, path);
        *strrchr(path, '/') = '\0'; /* its directory next */
    }
    return 0;
}

/* Under the lock. */
static int rewrite(struct ostree_repo *r, const char *commit, const struct ostree_value *values,
                   size_t n, struct larder_error *e)
{
    g_autoptr(GVariant) dict = NULL;
    GError *error = NULL;

    /* Prune removes commits under this lock; metadata without a commit would stay for good. */
    int code = commit_is_here(r, commit, e);
    if (code == 0)
        code = read_detached(r, commit, &dict, e);
    if (code < 0)
        return code;
    if (are_so_already(dict, values, n))
        return 0;
    g_autoptr(GVariant) changed = with_values(dict, values, n);
    /*
     * Without any key the file stays, empty. That reads as a dictionary of no keys with every tool,
     * and is what libostree itself leaves behind (gpg-sign --delete); to unlink it would be right
     * only for who knows how objects are stored, and would uncover that of a parent repository.
     */
    if (!ostree_repo_write_commit_detached_metadata(r->repo, commit, changed, NULL, &error))
        return gerror_take(e, error, LARDER_IO, "ostree repository %s: commit %s", r->path, commit);
    code = sync_detached(r, commit, e);
    return code < 0 ? code : 1;
}

int repo_edit(struct ostree_repo *r, const char *commit, const struct ostree_value *values,
              size_t n, struct larder_error *e)
{
    g_autoptr(GVariant) dict = NULL;
    GError *error = NULL;

    for (size_t i = 0; i < n; i++) {
        bool is_text = values[i].type == OSTREE_VALUE_STRING;
        if (values[i].type == OSTREE_VALUE_OTHER ||
            (is_text && !g_utf8_validate(values[i].text, -1, NULL)))
            return error_set(e, LARDER_INVAL,
                             "ostree repository %s: commit %s: the value of %s "
                             "is %s",
                             r->path, commit, values[i].key,
                             is_text ? "no UTF-8" : "of a type that is not written");
    }
    int code = commit_is_here(r, commit, e);
    if (code == 0)
        code = read_detached(r, commit, &dict, e);
    if (code < 0)
        return code;
    /* Nothing to do needs no lock, and no right to write. */
    if (are_so_already(dict, values, n))
        return 0;
    code = sysroot_make_writable(r, e);
    if (code < 0)
        return code;
    if (!ostree_repo_is_writable(r->repo, &error))
        return gerror_take(e, error, LARDER_DENIED, "ostree repository %s: can't be written",
                           r->path);
    /* Waits as long as the repository's core.lock-timeout-secs says (30 s). */
    g_autoptr(OstreeRepoAutoLock) lock =
        ostree_repo_auto_lock_push(r->repo, OSTREE_REPO_LOCK_EXCLUSIVE, NULL, &error);
    if (!lock) {
        code = gerror_take(e, error, LARDER_IO, "ostree repository %s: its lock", r->path);
        if (code == -LARDER_BUSY)
            error_hint(e, "another program changes the repository: try again when it is done");
        return code;
    }
    return rewrite(r, commit, values, n, e);
}
