/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store handle and its places. A cache hit opens two or three places only, each with one system
 * call where the kernel has openat2.
 */
#include "store/dir/private.h"
#include "store/users.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/error.h"
#include "base/fdio.h"
#include "store/dir/dir.h"

/* Longest warning or note; more is cut. */
#define MESSAGE_BYTES 1024

static const char *const place_names[STORE_PLACE_MAX] = {
    [STORE_ROOT] = ".",
    [STORE_BLOBS_SHA256] = "blobs/sha256",
    [STORE_BLOBS_SHA512] = "blobs/sha512",
    [STORE_MEMO_SHA256] = "memo/sha256",
    [STORE_MEMO_SHA512] = "memo/sha512",
    [STORE_REFS] = "refs",
    [STORE_LEASES] = "leases",
    [STORE_QUARANTINE] = "quarantine",
    [STORE_PARTIAL] = "partial",
    [STORE_TMP] = "tmp",
    [STORE_LOCKS] = "locks",
    [STORE_STATE] = "state",
    [STORE_UPDATES] = "updates",
};

const char *store_place_name(enum store_place place)
{
    return place < STORE_PLACE_MAX ? place_names[place] : "?";
}

bool store_name_is_ours(const char *name)
{
    for (size_t i = STORE_ROOT + 1; i < STORE_PLACE_MAX; i++) {
        size_t n = strcspn(place_names[i], "/");
        if (strlen(name) == n && memcmp(name, place_names[i], n) == 0)
            return true;
    }
    return false;
}

/* One level at a time, for kernels (before 5.6) and sandboxes without openat2. */
static int open_stepwise(int root, const char *path)
{
    CLEANUP_CLOSE int at = -1;
    const char *rest = path;
    while (*rest) {
        char name[32];
        size_t n = strcspn(rest, "/");
        if (n >= sizeof name) {
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(name, rest, n);
        name[n] = '\0';
        int next =
            openat(at < 0 ? root : at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0)
            return -1;
        fd_closep(&at);
        at = next;
        rest += n + (rest[n] == '/' ? 1 : 0);
    }
    return TAKE_FD(at);
}

static int open_no_links(int root, const char *path)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_NO_SYMLINKS,
    };
    long fd = syscall(SYS_openat2, root, path, &how, sizeof how);
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM))
        return (int)fd;
    return open_stepwise(root, path);
}

int store_place_make(struct larder_store *store, enum store_place place, int *ret_fd,
                     struct larder_error *e)
{
    const char *name = place_names[place];
    const char *slash = strchr(name, '/');
    int root = store->places[STORE_ROOT];
    CLEANUP_CLOSE int parent = -1;
    CLEANUP_CLOSE int fd = -1;
    int r;

    if (slash) {
        char first[32];
        snprintf(first, sizeof first, "%.*s", (int)(slash - name), name);
        r = dir_make(root, first, store->dir_mode, &parent, e);
        if (r < 0)
            return r;
        if (store->is_shared && fchmod(parent, store->dir_mode) < 0 && errno != EPERM)
            return error_errno(e, errno, "%s", first);
        name = slash + 1;
    }
    r = dir_make(parent < 0 ? root : parent, name, store->dir_mode, &fd, e);
    if (r < 0)
        return r;
    /* EPERM: another member of the group made it a moment ago, and gave it its mode. */
    if (store->is_shared && fchmod(fd, store->dir_mode) < 0 && errno != EPERM)
        return error_errno(e, errno, "%s", place_names[place]);
    r = dir_sync(parent < 0 ? root : parent, place_names[place], e);
    if (r < 0)
        return error_context(e, "%s", larder_store_path(store));
    if (ret_fd)
        *ret_fd = TAKE_FD(fd);
    return 0;
}

/* Whoever owns a directory can swap the files in it. */
static int check_owner(struct larder_store *store, enum store_place place, int fd,
                       struct larder_error *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_errno(e, errno, "%s/%s", store->path, place_names[place]);
    if (st.st_mode & S_IWOTH) {
        error_set(e, LARDER_UNSAFE, "%s/%s: everybody may write to the directory", store->path,
                  place_names[place]);
        return error_hint(e, "check what is in it, then chmod o-w");
    }
    if (st.st_uid == store->owner || st.st_uid == 0 || st.st_uid == geteuid() || store->is_shared)
        return 0;
    return error_set(e, LARDER_UNSAFE, "%s/%s: owned by uid %u, expected the store's owner, uid %u",
                     store->path, place_names[place], (unsigned)st.st_uid, (unsigned)store->owner);
}

/* Opens the place's directory, or makes it. */
static int open_place(struct larder_store *store, enum store_place place, int *ret_fd,
                      struct larder_error *e)
{
    const char *name = place_names[place];
    int fd = open_no_links(store->places[STORE_ROOT], name);
    int r;
    if (fd >= 0) {
        *ret_fd = fd;
        return 0;
    }
    switch (errno) {
    case ENOENT:
        if (store->is_read_only)
            return error_errno(e, errno, "%s/%s", store->path, name);
        r = store_place_make(store, place, ret_fd, e);
        return r < 0 ? error_context(e, "store %s", store->path) : 0;
    case ELOOP:
        return error_set(e, LARDER_UNSAFE,
                         "%s/%s: a symbolic link, expected a directory (links inside a store are "
                         "not followed)",
                         store->path, name);
    case ENOTDIR:
        return error_set(e, LARDER_UNSAFE, "%s/%s: not a directory", store->path, name);
    default:
        return error_errno(e, errno, "%s/%s", store->path, name);
    }
}

int store_place(struct larder_store *store, enum store_place place, int *ret_dirfd,
                struct larder_error *e)
{
    CLEANUP_CLOSE int fd = -1;
    if (store->places[place] >= 0) {
        *ret_dirfd = store->places[place];
        return 0;
    }
    int r = open_place(store, place, &fd, e);
    if (r < 0)
        return r;
    r = check_owner(store, place, fd, e);
    if (r < 0)
        return r;
    store->places[place] = TAKE_FD(fd);
    *ret_dirfd = store->places[place];
    return 0;
}

static int identity_place(struct larder_store *store, enum larder_digest_alg alg,
                          enum store_place sha256, enum store_place sha512, int *ret_dirfd,
                          struct larder_error *e)
{
    if (alg == LARDER_DIGEST_SHA256)
        return store_place(store, sha256, ret_dirfd, e);
    if (alg == LARDER_DIGEST_SHA512)
        return store_place(store, sha512, ret_dirfd, e);
    return error_set(e, LARDER_INVAL, "digest algorithm %s: blobs are named by sha256 or sha512",
                     larder_digest_alg_name(alg));
}

int store_blob_dir(struct larder_store *store, enum larder_digest_alg alg, int *ret_dirfd,
                   struct larder_error *e)
{
    return identity_place(store, alg, STORE_BLOBS_SHA256, STORE_BLOBS_SHA512, ret_dirfd, e);
}

int store_memo_dir(struct larder_store *store, enum larder_digest_alg alg, int *ret_dirfd,
                   struct larder_error *e)
{
    return identity_place(store, alg, STORE_MEMO_SHA256, STORE_MEMO_SHA512, ret_dirfd, e);
}

bool store_is_read_only(const struct larder_store *store)
{
    return store->is_read_only;
}

mode_t store_file_mode(const struct larder_store *store)
{
    return store->file_mode;
}

const struct larder_observer *store_observer(const struct larder_store *store)
{
    return &store->observer;
}

void *store_context(const struct larder_store *store)
{
    return store->context;
}

void store_set_context(struct larder_store *store, void *context, void (*free_fn)(void *context))
{
    store->context = context;
    store->context_free = free_fn;
}

const struct users_probe *store_users(const struct larder_store *store)
{
    return store->users;
}

int store_require_writable(struct larder_store *store, struct larder_error *e)
{
    if (!store->is_read_only)
        return 0;
    return error_set(e, LARDER_DENIED, "store %s: opened read-only", store->path);
}

void store_warn(struct larder_store *store, const char *fmt, ...)
{
    char text[MESSAGE_BYTES];
    va_list ap;

    if (!store->observer.warning)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    store->observer.warning(store->observer.arg, text);
}

void store_note(struct larder_store *store, const char *fmt, ...)
{
    char text[MESSAGE_BYTES];
    va_list ap;

    if (!store->observer.note)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    store->observer.note(store->observer.arg, text);
}

const char *larder_store_path(const struct larder_store *store)
{
    return store->path;
}

int larder_store_default_path(char *ret, size_t ret_bytes, struct larder_error *e)
{
    const char *home = secure_getenv("LARDER_HOME");
    const char *data = secure_getenv("XDG_DATA_HOME");
    const char *format = "%s";
    const char *base = home;

    if (home && *home) {
        ;
    } else if (geteuid() == 0) {
        base = "/var/lib/larder";
    } else if (data && data[0] == '/') { /* a relative one is to be ignored (XDG basedir) */
        base = data;
        format = "%s/larder";
    } else {
        base = secure_getenv("HOME");
        format = "%s/.local/share/larder";
        if (!base || !*base) {
            error_set(e, LARDER_NOENT, "no store: none of LARDER_HOME, XDG_DATA_HOME, HOME is set");
            return error_hint(e, "name a store directory, or set LARDER_HOME");
        }
    }
    size_t n = strlen(base) + strlen(format) - 2 + 1;
    if (n > ret_bytes)
        return error_set(e, LARDER_LIMIT, "default store path: %zu bytes, expected at most %zu", n,
                         ret_bytes);
    size_t base_bytes = strlen(base);
    memcpy(ret, base, base_bytes);
    memcpy(ret + base_bytes, format + 2, strlen(format + 2) + 1);
    return 0;
}

static int store_new(const char *path, const struct larder_store_options *options,
                     struct larder_store **ret, struct larder_error *e)
{
    CLEANUP(larder_store_closep) struct larder_store *store = calloc(1, sizeof *store);
    if (!store)
        return error_nomem(e);
    for (size_t i = 0; i < STORE_PLACE_MAX; i++)
        store->places[i] = -1;
    store->users = store_default_users;
    if (options && options->observer)
        store->observer = *options->observer;
    store->path = strdup(path);
    if (!store->path)
        return error_nomem(e);
    size_t n = strlen(store->path);
    while (n > 1 && store->path[n - 1] == '/')
        store->path[--n] = '\0';
    *ret = TAKE_PTR(store);
    return 0;
}

int larder_store_open(const char *path, const struct larder_store_options *options,
                      struct larder_store **ret, struct larder_error *e)
{
    char fallback[PATH_MAX] = "";
    unsigned flags = options ? options->flags : 0;
    CLEANUP(larder_store_closep) struct larder_store *store = NULL;
    int r;

    if (options && options->size != sizeof *options)
        return error_set(e, LARDER_INVAL, "store options: size %zu, expected %zu", options->size,
                         sizeof *options);
    if (path && !*path)
        return error_set(e, LARDER_INVAL, "store path: empty");
    if (!path) {
        r = larder_store_default_path(fallback, sizeof fallback, e);
        if (r < 0)
            return r;
        path = fallback;
    }
    r = store_new(path, options, &store, e);
    if (r < 0 || !store)
        return r;
    r = store_open_root(store, flags, e);
    if (r < 0)
        return r;
    /* An absolute path is used as it is: resolving it would cost a call for each component. */
    if (path[0] != '/') {
        char *resolved = realpath(store->path, NULL);
        if (!resolved)
            return error_errno(e, errno, "store %s", store->path);
        free(store->path);
        store->path = resolved;
    }
    *ret = TAKE_PTR(store);
    return 0;
}

void larder_store_close(struct larder_store *store)
{
    if (!store)
        return;
    for (size_t i = 0; i < STORE_PLACE_MAX; i++)
        fd_closep(&store->places[i]);
    if (store->context_free)
        store->context_free(store->context);
    free(store->path);
    free(store);
}
