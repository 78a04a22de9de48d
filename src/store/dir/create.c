/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and making the root of a dir store.
 *
 * Any number of processes may make the same store at once: they take turns on a flock of the root
 * directory itself, and the format file, written last, tells that everything else is there. A
 * creation that was killed leaves empty directories of our names, which the next one completes.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/slice.h"
#include "store/dir/private.h"

#define FORMAT_FILE   "format"
#define FORMAT_PREFIX "larder-store "
/* "larder-store <number>\n"; anything longer is not ours. */
#define FORMAT_BYTES_MAX 64

static const char *owner_name(uid_t uid, char out[64])
{
    struct passwd entry, *pw = NULL;
    char text[1024];
    if (getpwuid_r(uid, &entry, text, sizeof(text), &pw) == 0 && pw)
        snprintf(out, 64, "%s (uid %u)", pw->pw_name, (unsigned)uid);
    else
        snprintf(out, 64, "uid %u", (unsigned)uid);
    return out;
}

/* NOENT when there is no format file. */
static int read_format(const struct larder_store *store, struct larder_error *e)
{
    char text[FORMAT_BYTES_MAX];
    /* O_NONBLOCK: a planted FIFO must not stop us. */
    CLEANUP_CLOSE int fd = openat(store->places[STORE_ROOT], FORMAT_FILE,
                                  O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_errno(e, errno, "%s/" FORMAT_FILE, store->path);
    ssize_t n = read(fd, text, sizeof text); /* a regular file gives all it has at once */
    if (n < 0)
        return error_errno(e, errno, "%s/" FORMAT_FILE, store->path);

    struct slice s = {text, (size_t)n};
    uint64_t version = 0;
    bool ok =
        slice_starts(s, SLICE_LIT(FORMAT_PREFIX)) && s.p[s.n - 1] == '\n' &&
        slice_parse_u64((struct slice){s.p + sizeof FORMAT_PREFIX - 1, s.n - sizeof FORMAT_PREFIX},
                        &version);
    if (!ok || version == 0) {
        error_set(e, LARDER_INVAL, "%s/" FORMAT_FILE ": not a larder store's, expected \"%s%d\"",
                  store->path, FORMAT_PREFIX, STORE_FORMAT_VERSION);
        return error_hint(e, "name another directory");
    }
    if (version > STORE_FORMAT_VERSION) {
        error_set(e, LARDER_UNSUPPORTED, "store %s: format %llu, larder %s knows formats up to %d",
                  store->path, (unsigned long long)version, LARDER_VERSION, STORE_FORMAT_VERSION);
        return error_hint(e, "use a newer larder, or another store");
    }
    return 0;
}

static bool place_is_empty(const struct larder_store *store, enum store_place place)
{
    bool is_empty = true;
    int fd = openat(store->places[STORE_ROOT], store_place_name(place),
                    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0)
            close(fd);
        return true; /* not there */
    }
    for (const struct dirent *d; (d = readdir(dir));)
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
            is_empty = false;
    closedir(dir);
    return is_empty;
}

struct strangers {
    char name[64]; /* first name that is not ours */
    bool has_any;  /* anything at all */
};

static int note_stranger(void *arg, const char *name, unsigned char type)
{
    struct strangers *s = arg;
    (void)type;
    s->has_any = true;
    /* lost+found: a file system of its own; .tmp-: a format file that was being written. */
    if (store_name_is_ours(name) || strcmp(name, "lost+found") == 0 ||
        strncmp(name, ".tmp-", 5) == 0)
        return 0;
    snprintf(s->name, sizeof s->name, "%.63s", name);
    return 1;
}

/* The root has no format file: may it become a store (or is it on the way to be one)? */
static int check_virgin(const struct larder_store *store, struct larder_error *e)
{
    struct strangers s = {0};
    int r = dir_each(store->places[STORE_ROOT], note_stranger, &s, e);
    if (r < 0)
        return error_context(e, "store %s", store->path);
    if (s.name[0]) {
        error_set(e, LARDER_INVAL, "%s: not a store and not empty (there is %s)", store->path,
                  s.name);
        return error_hint(e, "name an empty or a new directory");
    }
    if (!place_is_empty(store, STORE_BLOBS_SHA256) || !place_is_empty(store, STORE_BLOBS_SHA512) ||
        !place_is_empty(store, STORE_REFS)) {
        error_set(e, LARDER_INVAL, "%s: has blobs or refs but no format file", store->path);
        return error_hint(e, "if it is a store whose format file got lost: echo '%s%d' > %.80s/%s",
                          FORMAT_PREFIX, STORE_FORMAT_VERSION, store->path, FORMAT_FILE);
    }
    return 0;
}

static int no_store(const struct larder_store *store, struct larder_error *e)
{
    error_set(e, LARDER_NOENT, "%s: there is no store", store->path);
    return error_hint(e, "a command that adds something makes it; or name another directory");
}

static int wait_for_turn(struct larder_store *store, int root, struct larder_error *e)
{
    while (flock(root, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return error_errno(e, errno, "store %s: lock", store->path);
        if (store->observer.is_canceled && store->observer.is_canceled(store->observer.arg))
            return error_set(e, LARDER_CANCELED, "store %s: canceled", store->path);
        clock_sleep_ns(2 * NS_PER_MS);
    }
    return 0;
}

static int make_all(struct larder_store *store, struct larder_error *e)
{
    char text[FORMAT_BYTES_MAX];
    int root = store->places[STORE_ROOT];
    int r;

    for (int p = STORE_ROOT + 1; p < STORE_PLACE_MAX; p++) {
        r = store_place_make(store, (enum store_place)p, NULL, e);
        if (r < 0)
            return r;
    }
    /* There from the start, so that a reader without write access finds it to lock. */
    int fd = -1;
    int locks = -1;
    r = store_place(store, STORE_LOCKS, &locks, e);
    if (r == 0)
        r = lock_take(locks, "gc", false, true, &fd, e);
    if (r < 0)
        return r;
    fd_closep(&fd);
    int n = snprintf(text, sizeof text, "%s%d\n", FORMAT_PREFIX, STORE_FORMAT_VERSION);
    return file_write_atomic(root, FORMAT_FILE, text, (size_t)n, store->file_mode, e);
}

/* No format file is there: make the store, or find that another process has just done it. */
static int create(struct larder_store *store, struct larder_error *e)
{
    int root = store->places[STORE_ROOT];
    /* A descriptor of its own: the turn ends with it, whatever happens to the store's. */
    CLEANUP_CLOSE int turn = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (turn < 0)
        return error_errno(e, errno, "store %s", store->path);
    int r = wait_for_turn(store, turn, e);
    if (r < 0)
        return r;
    r = read_format(store, e);
    if (r != -LARDER_NOENT)
        return r;
    error_clear(e);
    r = check_virgin(store, e);
    if (r < 0)
        return r;
    r = make_all(store, e);
    return r < 0 ? error_context(e, "store %s: create", store->path) : 0;
}

static int open_directory(struct larder_store *store, bool create, struct larder_error *e)
{
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    int fd = open(store->path, flags);
    if (fd < 0 && errno == ENOENT && create) {
        int r = path_make(store->path, 0777, e);
        if (r < 0)
            return error_context(e, "store %s", store->path);
        fd = open(store->path, flags);
        if (fd >= 0) {
            /* Best effort: the parent may be readable for nobody. */
            CLEANUP_CLOSE int parent = openat(fd, "..", flags);
            if (parent >= 0)
                (void)fsync(parent);
        }
    }
    if (fd < 0) {
        if (errno == ENOENT)
            return no_store(store, e);
        if (errno == ENOTDIR)
            return error_set(e, LARDER_INVAL, "store %s: not a directory", store->path);
        return error_errno(e, errno, "store %s", store->path);
    }
    store->places[STORE_ROOT] = fd;
    return 0;
}

static int check_access(struct larder_store *store, struct larder_error *e)
{
    char owner[64];
    uid_t euid = geteuid();

    if (store->is_read_only)
        return 0;
    /* Files that root makes in a user's store would lock the user out of it. */
    if (euid == 0 && store->owner != 0) {
        error_set(e, LARDER_DENIED, "store %s: belongs to %s, refusing to write to it as root",
                  store->path, owner_name(store->owner, owner));
        return error_hint(e, "run as that user, or chown -R root the store");
    }
    if (faccessat(store->places[STORE_ROOT], ".", W_OK | X_OK, AT_EACCESS) == 0)
        return 0;
    if (errno == EROFS) {
        error_set(e, LARDER_DENIED, "store %s: read-only file system", store->path);
        return error_hint(e, "mount it for writing, or name another store");
    }
    if (errno != EACCES && errno != EPERM)
        return error_errno(e, errno, "store %s", store->path);
    if (store->owner == euid) {
        error_set(e, LARDER_DENIED, "store %s: no write permission on the directory", store->path);
        return error_hint(e, "chmod u+rwx the directory, or name another store");
    }
    error_set(e, LARDER_DENIED, "store %s: belongs to %s, no write permission for uid %u",
              store->path, owner_name(store->owner, owner), (unsigned)euid);
    return error_hint(e, "run as that user, or name another store");
}

int store_open_root(struct larder_store *store, unsigned flags, struct larder_error *e)
{
    bool is_creating = (flags & LARDER_STORE_CREATE) && !(flags & LARDER_STORE_READ_ONLY);
    struct stat st;

    int r = open_directory(store, is_creating, e);
    if (r < 0)
        return r;
    if (fstat(store->places[STORE_ROOT], &st) < 0)
        return error_errno(e, errno, "store %s", store->path);
    store->owner = st.st_uid;
    store->is_read_only = flags & LARDER_STORE_READ_ONLY;
    store->is_shared = st.st_mode & S_IWGRP;
    store->dir_mode = st.st_mode & 07777;
    store->file_mode = 0644 | (st.st_mode & S_IWGRP);

    /* What everybody may swap is nothing to hand out (SECURITY.md); a group is shared on purpose.
     */
    if (st.st_mode & S_IWOTH) {
        error_set(e, LARDER_UNSAFE, "store %s: everybody may write to the directory", store->path);
        return error_hint(e, "check what is in it, then chmod o-w");
    }
    /* Before judging access: a newer format or a foreign directory is the better message. */
    r = read_format(store, e);
    if (r == -LARDER_NOENT && is_creating) {
        error_clear(e);
        r = check_access(store, e);
        return r < 0 ? r : create(store, e);
    }
    if (r == -LARDER_NOENT) {
        struct larder_error why = LARDER_ERROR_INIT;
        int virgin = check_virgin(store, &why);
        if (virgin == 0)
            return no_store(store, e);
        /* Unless another process made the store between our two looks. */
        error_clear(e);
        r = read_format(store, e);
        if (r == -LARDER_NOENT) {
            if (e)
                *e = why;
            return virgin;
        }
    }
    return r < 0 ? r : check_access(store, e);
}
