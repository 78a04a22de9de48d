/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handing an image out without ever giving its bytes away for writing: an overlay on the digest
 * path, or a copy. The overlay's header is written here (qcow2 version 3, as qemu-img create -b
 * makes it), so that no qemu-img is needed; a lease on the overlay's file keeps the base.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "base/sparse.h"
#include "image/overlay_write.h"
#include "image/probe.h"
#include "image/service.h"
#include "store/dir/blob.h"

/* An open descriptor of the image's blob, recorded as a use; gc cannot take what is open. */
static int open_image(struct larder_store *store, const struct larder_image_result *image,
                      int *ret_fd, struct larder_error *e)
{
    int r = larder_blob_open(store, &image->digest, ret_fd, e);
    if (r == 0)
        memo_touch(store, &image->digest);
    return r < 0 ? error_context(e, "image %s", image->name) : 0;
}

static int sync_parent(const char *file, struct larder_error *e)
{
    CLEANUP_FREE char *dir = strdup(file);
    if (!dir)
        return error_nomem(e);
    char *slash = strrchr(dir, '/');
    const char *where = !slash ? "." : slash == dir ? "/" : (*slash = '\0', dir);
    CLEANUP_CLOSE int fd = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(e, errno, "directory %s", where);
    return dir_sync(fd, where, e);
}

/* What QEMU calls a format: an ISO is raw bytes to it, LUKS is opened by whoever has the key. */
static const char *driver_name(enum image_format format)
{
    switch (format) {
    case IMAGE_FORMAT_QCOW2:
    case IMAGE_FORMAT_QED:
    case IMAGE_FORMAT_VMDK:
    case IMAGE_FORMAT_VHDX:
    case IMAGE_FORMAT_VDI:
        return format_name(format);
    case IMAGE_FORMAT_QCOW1:
        return "qcow";
    case IMAGE_FORMAT_VHD:
        return "vpc";
    case IMAGE_FORMAT_RAW:
    case IMAGE_FORMAT_ISO:
    case IMAGE_FORMAT_LUKS:
        return "raw";
    case IMAGE_FORMAT_UNKNOWN:
    case IMAGE_FORMAT_GZIP:
    case IMAGE_FORMAT_XZ:
    case IMAGE_FORMAT_ZSTD:
    case IMAGE_FORMAT_BZIP2:
    case IMAGE_FORMAT_LZ4:
    case IMAGE_FORMAT_HTML:
    case IMAGE_FORMAT_TEXT:
    case IMAGE_FORMAT_EMPTY:
    case IMAGE_FORMAT_MAX:
        break;
    }
    return NULL;
}

int larder_image_overlay(struct larder_store *store, const struct larder_image_result *image,
                         const char *file, uint64_t virtual_bytes, struct larder_error *e)
{
    char id[LARDER_LEASE_ID_BYTES] = "";
    CLEANUP_CLOSE int base = -1;
    struct image_probe probe = {0};
    CLEANUP_CLOSE int fd = -1;
    int r = open_image(store, image, &base, e);
    if (r == 0)
        r = image_probe_fd(base, image->size_bytes, NULL, true, image->name, &probe, e);
    if (r < 0)
        return r;
    const char *driver = driver_name(probe.format);
    if (!driver)
        return error_set(e, LARDER_INVAL, "overlay %s: its base is %s, expected a disk image", file,
                         format_name(probe.format));
    if (virtual_bytes && virtual_bytes < probe.virtual_bytes)
        return error_set(e, LARDER_INVAL, "overlay %s: %llu bytes, smaller than its base of %llu",
                         file, (unsigned long long)virtual_bytes,
                         (unsigned long long)probe.virtual_bytes);
    fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return error_errno(e, errno, "overlay %s", file);
    /* The lease first: between the two, the overlay is an empty file that is used by nobody. */
    r = larder_lease_file(store, &image->digest, file, "image overlay", id, e);
    if (r == 0)
        r = overlay_write(fd, image->path, driver,
                          virtual_bytes ? virtual_bytes : probe.virtual_bytes, e);
    if (r == 0 && fsync(fd) < 0)
        r = error_errno(e, errno, "overlay %s", file);
    if (r == 0)
        r = sync_parent(file, e);
    if (r < 0) {
        unlink(file);
        if (id[0] && larder_lease_release(store, id, NULL) < 0)
            return r; /* a lease on a file that is gone is dead: gc sweeps it */
    }
    return r;
}

/* A device, a FIFO or a directory is not to be replaced by a file, be it through a link. */
static int check_replaceable(const char *file, struct larder_error *e)
{
    struct stat st;
    if (stat(file, &st) == 0 && !S_ISREG(st.st_mode))
        return error_set(e, LARDER_INVAL, "%s: not a regular file, expected one to replace", file);
    return 0;
}

/* Gives temp the name file, which nothing has. */
static int rename_new(const char *temp, const char *file)
{
    if (renameat2(AT_FDCWD, temp, AT_FDCWD, file, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    /* A file system that can't (NFS): the same in two steps. */
    if (link(temp, file) < 0)
        return -1;
    (void)unlink(temp);
    return 0;
}

int larder_image_copy(struct larder_store *store, const struct larder_image_result *image,
                      const char *file, bool replace, bool *ret_reflinked, struct larder_error *e)
{
    enum copy_how how = COPY_COPIED;
    CLEANUP_FREE char *temp = NULL;
    CLEANUP_CLOSE int in = -1;
    CLEANUP_CLOSE int out = -1;
    int r = open_image(store, image, &in, e);
    if (r < 0)
        return r;
    if (!replace && access(file, F_OK) == 0)
        return error_set(e, LARDER_EXIST, "%s: exists already", file);
    r = check_replaceable(file, e);
    if (r < 0)
        return r;
    if (asprintf(&temp, "%s.larder-%ld", file, (long)getpid()) < 0) {
        temp = NULL;
        return error_nomem(e);
    }
    unlink(temp); /* of an earlier process of this number that was killed */
    out = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (out < 0)
        return error_errno(e, errno, "copy %s", temp);
    r = sparse_copy(in, out, store_observer(store), image->name, &how, e);
    if (r == 0 && fsync(out) < 0)
        r = error_errno(e, errno, "copy %s", temp);
    if (r == 0 && replace && rename(temp, file) < 0)
        r = error_errno(e, errno, "copy %s", file);
    if (r == 0 && !replace && rename_new(temp, file) < 0)
        r = error_errno(e, errno, "copy %s", file);
    if (r < 0) {
        unlink(temp);
        return r;
    }
    r = sync_parent(file, e);
    if (r == 0 && ret_reflinked)
        *ret_reflinked = how == COPY_REFLINKED;
    return r;
}
