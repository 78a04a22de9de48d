/* SPDX-License-Identifier: Apache-2.0 */
/* login and logout: changes of the files of credentials.h, and of what helpers keep. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/text.h"
#include "net/auth/auth_token.h"
#include "net/auth/credentials_file.h"
#include "net/auth/credentials_helper.h"

/* What docker itself keeps its hub's credentials under. */
#define DOCKER_HUB_KEY "https://index.docker.io/v1/"

/* A change takes milliseconds; a process that was stopped in one keeps the lock. */
#define LOCK_WAIT_NS (30 * NS_PER_S)
#define LOCK_POLL_NS (5 * NS_PER_MS)

static bool is_host_key(const char *key)
{
    return !strchr(key, '/');
}

/* ---- a changed copy of a document ---- */

/*
 * Members in their order, with one replaced, added or left out. Unchanged ones are shared: the copy
 * and the original are both only read.
 */
struct edit {
    struct json *to;
    bool (*is_meant)(const char *key, const char *name);
    const char *name;
    struct json *value; /* in place of the first that is meant; NULL: they are left out */
    size_t n;           /* how many were meant */
};

static int copy_member(void *arg, const char *key, const struct json *value)
{
    struct edit *edit = arg;
    if (!edit->is_meant(key, edit->name))
        return json_set(edit->to, key, json_share(value));
    if (edit->n++ > 0 || !edit->value)
        return 0;
    return json_set(edit->to, key, json_share(edit->value));
}

static bool is_same(const char *key, const char *name)
{
    return strcmp(key, name) == 0;
}

static bool is_any(const char *key, const char *name)
{
    (void)key;
    (void)name;
    return true;
}

/* *ret: from (NULL: empty) with `name` set to value, or without; *ret_n: how many it had. value
 * stays the caller's. */
static int edit_object(const struct json *from, bool (*is_meant)(const char *, const char *),
                       const char *name, struct json *value, struct json **ret, size_t *ret_n,
                       struct larder_error *e)
{
    struct edit edit = {json_new_object(), is_meant, name, value, 0};
    int rc = edit.to ? json_each(from, copy_member, &edit) : -LARDER_NOMEM;
    if (rc == 0 && value && edit.n == 0)
        rc = json_set(edit.to, name, json_share(value));
    if (rc < 0) {
        json_free(edit.to);
        return error_nomem(e);
    }
    *ret = edit.to;
    *ret_n = edit.n;
    return 0;
}

/* ---- writing ---- */

/* The file that a link leads to is replaced, not the link. */
static int real_path(const char *path, char **ret, struct larder_error *e)
{
    char *real = realpath(path, NULL);
    if (!real && errno != ENOENT)
        return error_errno(e, errno, "credentials file %s", path);
    if (!real)
        real = strdup(path);
    if (!real)
        return error_nomem(e);
    *ret = real;
    return 0;
}

/* *ret_real: the file's real path; *ret_dir: the directory it is in, which has to exist. */
static int open_place(const char *path, char **ret_real, int *ret_dir, struct larder_error *e)
{
    CLEANUP_FREE char *real = NULL;
    CLEANUP_FREE char *dir = NULL;
    int rc = real_path(path, &real, e);
    if (rc < 0)
        return rc;
    const char *slash = strrchr(real, '/');
    dir = slash ? strndup(real, slash == real ? 1 : (size_t)(slash - real)) : strdup(".");
    if (!dir)
        return error_nomem(e);
    rc = path_make(dir, 0700, e);
    if (rc < 0)
        return rc;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(e, errno, "directory %s", dir);
    *ret_real = TAKE_PTR(real);
    *ret_dir = fd;
    return 0;
}

/*
 * The directory is locked, not the file: the file is replaced, and another file would stay behind
 * in a place that is not ours. Where directories can't be locked (NFS) there is no lock.
 */
static int lock_place(const char *path, int *ret_lock, struct larder_error *e)
{
    CLEANUP_FREE char *real = NULL;
    CLEANUP_CLOSE int fd = -1;
    int64_t begin_ns = clock_monotonic_ns();
    int rc = open_place(path, &real, &fd, e);
    if (rc < 0)
        return rc;
    while (flock(fd, LOCK_EX | LOCK_NB) < 0 && (errno == EWOULDBLOCK || errno == EINTR)) {
        if (clock_monotonic_ns() - begin_ns > LOCK_WAIT_NS)
            return error_set(e, LARDER_BUSY, "credentials file %s: locked by another process",
                             path);
        clock_sleep_ns(LOCK_POLL_NS);
    }
    *ret_lock = TAKE_FD(fd);
    return 0;
}

/* Nobody else changes it until the lock is closed; what was read before may be old. */
static int lock_and_read(const struct credential_file *file, int *ret_lock, struct json **ret,
                         struct larder_error *e)
{
    int rc = lock_place(file->path, ret_lock, e);
    return rc < 0 ? rc : credential_file_read(file, ret, e);
}

static int write_text(const char *path, const struct buf *text, struct larder_error *e)
{
    CLEANUP_FREE char *real = NULL;
    CLEANUP_CLOSE int fd = -1;
    int rc = open_place(path, &real, &fd, e);
    if (rc < 0)
        return rc;
    const char *slash = strrchr(real, '/');
    return file_write_atomic(fd, slash ? slash + 1 : real, text->p, text->n, 0600, e);
}

static int write_doc(const struct credential_file *file, const struct json *doc,
                     struct larder_error *e)
{
    struct buf text = BUF_INIT(CREDENTIAL_FILE_MAX_BYTES);
    int rc = json_dump_pretty(doc, &text, e);
    if (rc == 0)
        rc = write_text(file->path, &text, e);
    if (rc < 0)
        error_context(e, "credentials file %s", file->path);
    if (text.p)
        explicit_bzero(text.p, text.cap);
    buf_done(&text);
    return rc;
}

/* doc (NULL: none yet) with other entries. */
static int write_entries(const struct credential_file *file, const struct json *doc,
                         struct json *entries, struct larder_error *e)
{
    struct json *changed = NULL;
    size_t n = 0;
    if (file->is_flat)
        return write_doc(file, entries, e);
    int rc = edit_object(doc, is_same, "auths", entries, &changed, &n, e);
    if (rc == 0)
        rc = write_doc(file, changed, e);
    json_free(changed);
    return rc;
}

static int helper_text(const char *helper, char **ret, struct larder_error *e)
{
    char *text = NULL;
    if (asprintf(&text, "docker-credential-%s", helper) < 0)
        return error_nomem(e);
    *ret = text;
    return 0;
}

/* ---- store ---- */

static const struct credential_file *file_to_change(const struct credential_files *files)
{
    for (size_t i = 0; i < files->n; i++) {
        if (access(files->list[i].path, F_OK) == 0)
            return &files->list[i];
    }
    return &files->list[0];
}

/* "auth": what both docker and podman read. */
static int make_entry(const char *user, const char *password, struct json **ret,
                      struct larder_error *e)
{
    CLEANUP(secret_freep) char *header = NULL;
    int rc = basic_header(user, password, &header, e);
    struct json *entry = rc == 0 ? json_new_object() : NULL;
    if (rc == 0 && json_set_string(entry, "auth", header + strlen("Basic ")) < 0) {
        json_free(entry);
        return error_nomem(e);
    }
    if (rc == 0)
        *ret = entry;
    return rc;
}

/* The name to keep a key under: one that is there already, else what the file's owner writes. */
static const char *key_to_write(const struct credential_file *file, const struct json *entries,
                                const char *key)
{
    bool is_hub = is_host_key(key) && credential_key_is_host(DOCKER_HUB_KEY, key);
    if (is_hub && file->is_docker)
        return DOCKER_HUB_KEY;
    return is_hub && !json_get(entries, key) ? credential_host(key) : key;
}

static int store_in_file(const struct credential_file *file, const char *key, const char *user,
                         const char *password, struct larder_error *e)
{
    CLEANUP(credential_doc_freep) struct json *doc = NULL;
    CLEANUP_CLOSE int lock = -1;
    struct json *entry = NULL;
    struct json *without = NULL;
    struct json *entries = NULL;
    size_t n = 0;
    int rc = lock_and_read(file, &lock, &doc, e);
    const struct json *old = credential_entries(file, doc);
    const char *name = key_to_write(file, old, key);
    if (rc == 0)
        rc = make_entry(user, password, &entry, e);
    if (rc < 0)
        return rc;
    /* Other spellings of a host would still be found, with what they had. An exact one keeps its
     * place. */
    if (is_host_key(key) && !json_get(old, name))
        rc = edit_object(old, credential_key_is_host, key, NULL, &without, &n, e);
    if (rc == 0)
        rc = edit_object(without ? without : old, is_same, name, entry, &entries, &n, e);
    if (rc == 0)
        rc = write_entries(file, doc, entries, e);
    json_free(entries);
    json_free(without);
    credential_entry_wipe(entry);
    json_free(entry);
    return rc;
}

int credentials_store(const struct credential_options *options, const char *key, const char *user,
                      const char *password, char **ret_where, struct larder_error *e)
{
    struct credential_files files = {0};
    CLEANUP(credential_doc_freep) struct json *doc = NULL;
    CLEANUP_FREE char *where = NULL;
    int rc = credential_files_find(options, &files, e);
    if (rc < 0)
        return rc;
    const struct credential_file *file = file_to_change(&files);
    rc = credential_file_read(file, &doc, e);
    const char *helper =
        rc == 0 && is_host_key(key) && !file->is_flat ? credential_helper_of(doc, key) : NULL;
    if (rc == 0 && helper) {
        rc = helper_text(helper, &where, e);
        if (rc == 0)
            rc = credential_helper_store(options, helper, key, user, password, e);
    } else if (rc == 0) {
        rc = text_copy(file->path, &where, e);
        if (rc == 0)
            rc = store_in_file(file, key, user, password, e);
    }
    credential_files_done(&files);
    if (rc == 0)
        *ret_where = TAKE_PTR(where);
    return rc;
}

/* ---- erase ---- */

struct eraser {
    const struct credential_options *options;
    const struct credential_file *file;
    const struct json *doc;
    struct larder_error *e;
    size_t n; /* erased so far */
};

/* With `all`: each helper of credHelpers is asked for its own hosts only. */
static int erase_of_helper(void *arg, const char *key, const struct json *value)
{
    struct eraser *eraser = arg;
    struct credentials found = {0};
    bool is_found = false;
    const char *helper = json_text(value);
    if (!helper || !*helper)
        return 0;
    int rc = credential_helper_get(eraser->options, helper, key, &found, &is_found, eraser->e);
    credentials_done(&found);
    if (rc == 0 && is_found)
        rc = credential_helper_erase(eraser->options, helper, key, eraser->e);
    eraser->n += rc == 0 && is_found;
    return rc;
}

static int erase_from_helpers(struct eraser *eraser, const char *key, bool all, char **ret_where)
{
    const struct json *doc = eraser->doc;
    const char *store = json_get_string(doc, "credsStore");
    size_t n = 0;
    int rc = 0;
    if (!all) {
        const char *helper = is_host_key(key) ? credential_helper_of(doc, key) : NULL;
        struct json *name = helper ? json_new_string(helper) : NULL;
        if (helper && !name)
            return error_nomem(eraser->e);
        rc = name ? erase_of_helper(eraser, key, name) : 0;
        json_free(name);
        if (rc == 0 && helper && eraser->n)
            rc = helper_text(helper, ret_where, eraser->e);
        return rc;
    }
    rc = json_each(json_get(doc, "credHelpers"), erase_of_helper, eraser);
    if (rc == 0 && store && *store)
        rc = credential_helper_erase_all(eraser->options, store, &n, eraser->e);
    eraser->n += n;
    return rc;
}

/* *ret_n: how many entries there were. */
static int erase_from_entries(const struct eraser *eraser, const char *key, bool all, size_t *ret_n)
{
    CLEANUP(credential_doc_freep) struct json *doc = NULL;
    CLEANUP_CLOSE int lock = -1;
    struct json *entries = NULL;
    size_t n = 0;
    bool (*is_meant)(const char *, const char *) = all                ? is_any
                                                   : is_host_key(key) ? credential_key_is_host
                                                                      : is_same;
    int rc = lock_and_read(eraser->file, &lock, &doc, eraser->e);
    if (rc == 0)
        rc = edit_object(credential_entries(eraser->file, doc), is_meant, key, NULL, &entries, &n,
                         eraser->e);
    if (rc == 0 && n)
        rc = write_entries(eraser->file, doc, entries, eraser->e);
    json_free(entries);
    if (rc == 0)
        *ret_n = n;
    return rc;
}

static int erase_from_file(struct eraser *eraser, const char *key, bool all, char **ret_where)
{
    size_t n = 0;
    int rc = 0;
    if (!eraser->file->is_flat)
        rc = erase_from_helpers(eraser, key, all, ret_where);
    if (rc == 0)
        rc = erase_from_entries(eraser, key, all, &n);
    eraser->n += n;
    if (rc == 0 && eraser->n && !*ret_where)
        rc = text_copy(eraser->file->path, ret_where, eraser->e);
    return rc;
}

int credentials_erase(const struct credential_options *options, const char *key, bool all,
                      char **ret_where, struct larder_error *e)
{
    struct credential_files files = {0};
    CLEANUP_FREE char *where = NULL;
    bool is_done = false;
    int rc = credential_files_find(options, &files, e);
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && !is_done && i < files.n; i++) {
        CLEANUP(credential_doc_freep) struct json *doc = NULL;
        struct eraser eraser = {options, &files.list[i], NULL, e, 0};
        rc = credential_file_read(&files.list[i], &doc, e);
        eraser.doc = doc;
        if (rc == 0 && doc)
            rc = erase_from_file(&eraser, key, all, &where);
        is_done = eraser.n > 0;
    }
    if (rc == 0 && !is_done)
        rc =
            error_set(e, LARDER_NOENT, "registry %s: not logged in%s%s", all ? "(any)" : key,
                      files.is_given ? ", by file " : "", files.is_given ? files.list[0].path : "");
    credential_files_done(&files);
    if (rc == 0)
        *ret_where = TAKE_PTR(where);
    return rc;
}
