/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Overlays at rest: an overlay that no process has open leaves no lock and no lease, only its
 * header says which base it needs. The configured guest directories are walked (two levels deep:
 * DIR/x.qcow2 and DIR/guest/x.qcow2), qcow2 headers are read, backing names are resolved.
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
#include "image/backing.h"
#include "image/context.h"
#include "image/qcow2.h"
#include "image/users.h"
#include "store/dir/dir.h"

/* DIR/guest/disk/x.qcow2 is as deep as guests are kept. */
#define GUEST_DEPTH_MAX 3

struct overlay_scan {
    struct larder_store *store;
    const char *path;      /* the blob's */
    const char *base_name; /* its last component: the digest */
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
    return !strcmp(slash ? slash + 1 : backing, scan->base_name);
}

static int look_at_file(struct overlay_scan *scan, int dirfd, const char *dir, const char *name)
{
    struct qcow2_header header;
    struct stat st;
    CLEANUP_FREE char *file = NULL;
    CLEANUP_FREE char *backing = NULL;
    CLEANUP_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    ssize_t n = fd_pread_full(fd, scan->head, QCOW2_HEAD_BYTES, 0);
    if (n < 0 ||
        qcow2_parse((struct slice){scan->head, (size_t)n}, (uint64_t)st.st_size, &header, NULL) < 0)
        return 0;
    if (!header.has_backing)
        return 0;
    enum backing_kind kind = BACKING_NONE;
    int r = backing_resolve(header.backing_name, dir, &kind, &backing, scan->e);
    if (r < 0)
        return r;
    if (kind == BACKING_UNKNOWN) {
        /* Not understood, but when the digest stands in it, it means this blob. */
        if (!memmem(header.backing_name.p, header.backing_name.n, scan->base_name,
                    strlen(scan->base_name)))
            return 0;
    } else if (kind != BACKING_LOCAL || !names_target(scan, backing)) {
        return 0;
    }
    if (asprintf(&file, "%s/%s", dir, name) < 0) {
        file = NULL;
        return error_nomem(scan->e);
    }
    scan->count++;
    if (scan->who)
        buf_printf(scan->who, "overlay %s\n", file);
    return 0;
}

static int walk(struct overlay_scan *scan, const char *path, unsigned depth)
{
    DIR *dir = opendir(path);
    int r = 0;
    if (!dir) {
        if (errno == ENOENT || errno == ENOTDIR)
            return 0;
        /* Not readable: an overlay may be in it. Unknown counts as in use. */
        scan->count++;
        if (scan->who)
            buf_printf(scan->who, "unknown: guest directory %s: %s\n", path, strerror(errno));
        return 0;
    }
    for (struct dirent *d; r == 0 && (d = readdir(dir));) {
        if (d->d_name[0] == '.' && (!d->d_name[1] || (d->d_name[1] == '.' && !d->d_name[2])))
            continue;
        if (d->d_type == DT_DIR) {
            CLEANUP_FREE char *sub = NULL;
            if (depth + 1 >= GUEST_DEPTH_MAX)
                continue;
            if (asprintf(&sub, "%s/%s", path, d->d_name) < 0) {
                sub = NULL;
                r = error_nomem(scan->e);
            } else {
                r = walk(scan, sub, depth + 1);
            }
        } else if (d->d_type == DT_REG || d->d_type == DT_UNKNOWN) {
            r = look_at_file(scan, dirfd(dir), path, d->d_name);
        }
    }
    closedir(dir);
    return r;
}

int image_users_overlays(struct larder_store *store, const char *path, unsigned *ret_count,
                         struct buf *who, struct larder_error *e)
{
    const struct image_context *context = image_context_get(store);
    const char *slash = strrchr(path, '/');
    struct overlay_scan scan = {
        .store = store, .path = path, .base_name = slash ? slash + 1 : path, .who = who, .e = e};
    int r = 0;
    if (!context)
        return error_nomem(e);
    if (context->guest_dir_count == 0) {
        *ret_count = 0;
        return 0;
    }
    if (stat(path, &scan.target) < 0 && errno != ENOENT)
        return error_errno(e, errno, "%s", path);
    scan.head = malloc(QCOW2_HEAD_BYTES);
    if (!scan.head)
        return error_nomem(e);
    for (size_t i = 0; r == 0 && i < context->guest_dir_count; i++)
        r = walk(&scan, context->guest_dirs[i], 0);
    free(scan.head);
    if (r == 0)
        *ret_count = scan.count;
    return r;
}
