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
#include "image/format/probe.h"
#include "image/overlay_write.h"
#include "image/service.h"
#include "store/dir/blob.h"
#include "store/dir/lease.h"

/* An open descriptor of the image's blob, recorded as a use; gc cannot take what is open. */
static int open_image(struct larder_store *store, const struct larder_image_result *image,
                      int *ret_fd, struct larder_error *e)
{
    int r = larder_blob_open(store, &image->digest, ret_fd, e);
    if (r == 0)
        memo_touch(store, &image->digest);
    return r < 0 ? error_context(e, "image %s", image->name) : 0;
}

/* The directory of file, in dir, a copy of file that is cut. */
static const char *parent_of(char *dir)
{
    char *slash = strrchr(dir, '/');
    return !slash ? "." : slash == dir ? "/" : (*slash = '\0', dir);
}

static int sync_parent(const char *file, struct larder_error *e)
{
    CLEANUP_FREE char *dir = strdup(file);
    if (!dir)
        return error_nomem(e);
    const char *where = parent_of(dir);
    CLEANUP_CLOSE int fd = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(e, errno, "directory %s", where);
    return dir_sync(fd, where, e);
}

/*
 * A new file to become file: without a name until it is complete, so that one who is killed leaves
 * nothing; with its name at once (*ret_is_named) on a file system that has no such files.
 */
static int create_overlay(const char *file, int *ret_fd, bool *ret_is_named, struct larder_error *e)
{
    CLEANUP_FREE char *dir = strdup(file);
    struct stat st;
    if (!dir)
        return error_nomem(e);
    if (lstat(file, &st) == 0)
        return error_errno(e, EEXIST, "overlay %s", file);
    *ret_is_named = false;
    *ret_fd = open(parent_of(dir), O_RDWR | O_TMPFILE | O_CLOEXEC, 0666);
    if (*ret_fd < 0) {
        *ret_is_named = true;
        *ret_fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    }
    return *ret_fd < 0 ? error_errno(e, errno, "overlay %s", file) : 0;
}

/* Gives an unnamed file its name, which nothing may have. */
static int name_file(int fd, const char *file)
{
    char link[64];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, link, AT_FDCWD, file, AT_SYMLINK_FOLLOW);
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
    bool is_named = false;
    r = create_overlay(file, &fd, &is_named, e);
    if (r < 0)
        return r;
    /* The lease before the name, or at least before the content. */
    r = lease_unnamed_file(store, &image->digest, fd, file, "image overlay", id, e);
    if (r == 0)
        r = overlay_write(fd, image->path, driver,
                          virtual_bytes ? virtual_bytes : probe.virtual_bytes, e);
    if (r == 0 && fsync(fd) < 0)
        r = error_errno(e, errno, "overlay %s", file);
    if (r == 0 && !is_named) {
        is_named = name_file(fd, file) == 0;
        if (!is_named)
            r = error_errno(e, errno, "overlay %s", file);
    }
    if (r == 0)
        r = sync_parent(file, e);
    /* Until there was a file of that name a gc could take the lease for dead; base is still open,
     * so not the image. */
    if (r == 0 && !lease_is_there(store, id))
        r = larder_lease_file(store, &image->digest, file, "image overlay", id, e);
    if (r < 0) {
        if (is_named)
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

/* A file to copy into: unnamed where the file system can, so that a kill leaves nothing; else temp.
 */
static int create_copy(const char *file, const char *temp, int *ret_fd, bool *ret_is_named,
                       struct larder_error *e)
{
    CLEANUP_FREE char *dir = strdup(file);
    if (!dir)
        return error_nomem(e);
    *ret_is_named = false;
    *ret_fd = open(parent_of(dir), O_RDWR | O_TMPFILE | O_CLOEXEC, 0666);
    if (*ret_fd >= 0)
        return 0;
    unlink(temp); /* of an earlier process of this number that was killed */
    *ret_is_named = true;
    *ret_fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    return *ret_fd < 0 ? error_errno(e, errno, "copy %s", temp) : 0;
}

/* The complete copy gets the name it is for, in one step. */
static int name_copy(int fd, bool is_named, const char *temp, const char *file, bool replace)
{
    if (is_named)
        return replace ? rename(temp, file) : rename_new(temp, file);
    if (!replace)
        return name_file(fd, file);
    unlink(temp);
    return name_file(fd, temp) < 0 ? -1 : rename(temp, file);
}

int larder_image_copy(struct larder_store *store, const struct larder_image_result *image,
                      const char *file, bool replace, bool *ret_reflinked, struct larder_error *e)
{
    enum copy_how how = COPY_COPIED;
    CLEANUP_FREE char *temp = NULL;
    CLEANUP_CLOSE int in = -1;
    CLEANUP_CLOSE int out = -1;
    bool is_named = false;
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
    r = create_copy(file, temp, &out, &is_named, e);
    if (r < 0)
        return r;
    r = sparse_copy(in, out, store_observer(store), image->name, &how, e);
    if (r == 0 && fsync(out) < 0)
        r = error_errno(e, errno, "copy %s", file);
    if (r == 0 && name_copy(out, is_named, temp, file, replace) < 0)
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
