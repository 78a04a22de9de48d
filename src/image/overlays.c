/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Overlays at rest: an overlay that no process has open leaves no lock and no lease, only its
 * header says which base it needs. The configured guest directories are walked (GUEST_DEPTH_MAX
 * deep, symbolic links are not followed), qcow2 headers are read, backing names are resolved. What
 * cannot be looked into counts as a user: an overlay may be in it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "base/text.h"
#include "image/context.h"
#include "image/format/backing.h"
#include "image/format/qcow2.h"
#include "image/users.h"
#include "store/dir/dir.h"

/* DIR/guest/disk/x.qcow2 is as deep as guests are kept. */
#define GUEST_DEPTH_MAX 3

struct overlay_scan {
    struct larder_store *store;
    const char *path;      /* the blob's; NULL: anything that has a base counts */
    const char *base_name; /* its last component */
    bool is_digest;        /* which is a blob's: the same name elsewhere means the same bytes */
    struct stat target;
    unsigned count;
    struct buf *who;
    struct larder_error *e;
    char *head; /* QCOW2_HEAD_BYTES, shared by all files */
};

/* The same file, or a path that ends in the blob's digest (another mount of the same store). */
static bool names_target(const struct overlay_scan *scan, const char *backing)
{
    struct stat st;
    if (stat(backing, &st) == 0 && st.st_dev == scan->target.st_dev &&
        st.st_ino == scan->target.st_ino)
        return true;
    const char *slash = strrchr(backing, '/');
    return scan->is_digest && !strcmp(slash ? slash + 1 : backing, scan->base_name);
}

static void count_unknown(struct overlay_scan *scan, const char *dir, const char *name, int errnum)
{
    scan->count++;
    if (scan->who)
        buf_printf(scan->who, "unknown: guest directory %s%s%s: %s\n", dir, *name ? "/" : "", name,
                   strerror(errnum));
}

/* What is not understood means this image when it speaks of it. */
static bool speaks_of_target(const struct overlay_scan *scan, struct slice text)
{
    return !scan->path || memmem(text.p, text.n, scan->base_name, strlen(scan->base_name)) != NULL;
}

static int is_overlay_of(struct overlay_scan *scan, struct slice head, uint64_t file_bytes,
                         const char *dir, bool *ret)
{
    CLEANUP_FREE char *backing = NULL;
    struct qcow2_header header;
    enum backing_kind kind = BACKING_NONE;
    if (!slice_starts(head, SLICE_LIT("QFI\xfb")))
        return 0;
    if (qcow2_parse(head, file_bytes, &header, NULL) < 0) {
        *ret = speaks_of_target(scan, head);
        return 0;
    }
    if (!header.has_backing)
        return 0;
    if (!scan->path) {
        *ret = true;
        return 0;
    }
    int r = backing_resolve(header.backing_name, dir, &kind, &backing, scan->e);
    if (r < 0)
        return r;
    if (kind == BACKING_UNKNOWN)
        *ret = speaks_of_target(scan, header.backing_name);
    else
        *ret = kind == BACKING_LOCAL && names_target(scan, backing);
    return 0;
}

static int look_at_file(struct overlay_scan *scan, int dirfd, const char *dir, const char *name)
{
    struct stat st = {0};
    CLEANUP_FREE char *file = NULL;
    CLEANUP_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && (errno == ENOENT || errno == ELOOP || errno == ENXIO))
        return 0;
    if (fd >= 0 && fstat(fd, &st) == 0 &&
        (!S_ISREG(st.st_mode) ||
         (st.st_dev == scan->target.st_dev && st.st_ino == scan->target.st_ino)))
        return 0;
    ssize_t n = fd < 0 ? -1 : fd_pread_full(fd, scan->head, QCOW2_HEAD_BYTES, 0);
    if (n < 0) {
        count_unknown(scan, dir, name, errno);
        return 0;
    }
    bool is_user = false;
    int r = is_overlay_of(scan, (struct slice){scan->head, (size_t)n}, (uint64_t)st.st_size, dir,
                          &is_user);
    if (r < 0 || !is_user)
        return r;
    if (asprintf(&file, "%s/%s", dir, name) < 0) {
        file = NULL;
        return error_nomem(scan->e);
    }
    scan->count++;
    if (scan->who)
        buf_printf(scan->who, "overlay %s\n", file);
    return 0;
}

static int walk(struct overlay_scan *scan, const char *path, unsigned depth);

static int walk_below(struct overlay_scan *scan, const char *path, const char *name, unsigned depth)
{
    CLEANUP_FREE char *sub = NULL;
    if (depth + 1 >= GUEST_DEPTH_MAX)
        return 0;
    if (asprintf(&sub, "%s/%s", path, name) < 0) {
        sub = NULL;
        return error_nomem(scan->e);
    }
    return walk(scan, sub, depth + 1);
}

/* Some file systems do not say the type in the listing. */
static unsigned char type_of(int dirfd, const struct dirent *d)
{
    struct stat st;
    if (d->d_type != DT_UNKNOWN)
        return d->d_type;
    if (fstatat(dirfd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return DT_REG; /* opening it will tell why */
    return S_ISDIR(st.st_mode) ? DT_DIR : S_ISREG(st.st_mode) ? DT_REG : DT_LNK;
}

static int walk(struct overlay_scan *scan, const char *path, unsigned depth)
{
    DIR *dir = opendir(path);
    int r = 0;
    if (!dir) {
        if (errno != ENOENT && errno != ENOTDIR)
            count_unknown(scan, path, "", errno);
        return 0;
    }
    for (struct dirent *d; r == 0 && (errno = 0, d = readdir(dir));) {
        if (d->d_name[0] == '.' && (!d->d_name[1] || (d->d_name[1] == '.' && !d->d_name[2])))
            continue;
        unsigned char type = type_of(dirfd(dir), d);
        if (type == DT_DIR)
            r = walk_below(scan, path, d->d_name, depth);
        else if (type == DT_REG)
            r = look_at_file(scan, dirfd(dir), path, d->d_name);
        errno = 0;
    }
    if (r == 0 && errno != 0)
        count_unknown(scan, path, "", errno);
    closedir(dir);
    return r;
}

static bool is_digest_name(const char *name)
{
    uint8_t bytes[LARDER_DIGEST_BYTES_MAX];
    struct slice s = slice_of(name);
    return (s.n == 64 || s.n == 128) && hex_decode(s, bytes, s.n / 2);
}

static int scan_dirs(struct larder_store *store, char *const *dirs, size_t dir_count,
                     const char *path, unsigned *ret_count, struct buf *who, struct larder_error *e)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    struct overlay_scan scan = {
        .store = store, .path = path, .base_name = slash ? slash + 1 : path, .who = who, .e = e};
    int r = 0;
    scan.is_digest = path && is_digest_name(scan.base_name);
    if (dir_count == 0) {
        *ret_count = 0;
        return 0;
    }
    if (path && stat(path, &scan.target) < 0 && errno != ENOENT)
        return error_errno(e, errno, "%s", path);
    scan.head = malloc(QCOW2_HEAD_BYTES);
    if (!scan.head)
        return error_nomem(e);
    for (size_t i = 0; r == 0 && i < dir_count; i++)
        r = walk(&scan, dirs[i], 0);
    free(scan.head);
    if (r == 0)
        *ret_count = scan.count;
    return r;
}

/* One that was given up is no reason to keep images for ever, but one that is not mounted now has
 * guests that nobody sees. */
static void tell_missing(struct larder_store *store, struct image_context *context)
{
    for (size_t i = 0; !context->is_missing_told && i < context->guest_dir_count; i++) {
        if (access(context->guest_dirs[i], F_OK) < 0 && errno == ENOENT)
            store_warn(store, "guest directory %s is not there: guests in it are not seen",
                       context->guest_dirs[i]);
    }
    context->is_missing_told = true;
}

int image_users_overlays(struct larder_store *store, const char *path, unsigned *ret_count,
                         struct buf *who, struct larder_error *e)
{
    struct image_context *context = image_context_get(store);
    if (!context)
        return error_nomem(e);
    tell_missing(store, context);
    return scan_dirs(store, context->guest_dirs, context->guest_dir_count, path, ret_count, who, e);
}

int image_users_overlays_in(struct larder_store *store, const char *dir, const char *path,
                            unsigned *ret_count, struct buf *who, struct larder_error *e)
{
    CLEANUP_FREE char *copy = strdup(dir);
    if (!copy)
        return error_nomem(e);
    return scan_dirs(store, &copy, 1, path, ret_count, who, e);
}
