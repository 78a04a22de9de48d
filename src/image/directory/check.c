/* SPDX-License-Identifier: Apache-2.0 */
/*
 * larder_image_check: the same judgement over a plain directory. What mismatches and is used by
 * nobody is removed or moved away when asked; everything else is only reported.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "base/sparse.h"
#include "image/directory/directory.h"
#include "image/users.h"
#include "store/dir/dir.h"

struct check_run {
    struct larder_store *store;
    const struct larder_image_check_options *options;
    struct directory dir;
    int quarantine_fd;
    size_t corrupt, left; /* left: corrupt and still there */
    bool has_looked;      /* for overlays in the directory itself */
    unsigned overlays;
};

/* In use, or not known to be free. */
static int find_use(struct check_run *run, const struct directory_image *image, bool *ret,
                    struct larder_error *e)
{
    unsigned flags = 0, overlays = 0;
    CLEANUP_CLOSE int fd =
        openat(run->dir.fd, image->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    *ret = true;
    if (fd < 0)
        return errno == ENOENT ? 0 : error_errno(e, errno, "%s", image->path);
    int r = image_users_of_fd(fd, &flags, NULL, e);
    if (r == 0)
        r = image_users_overlays(run->store, image->path, &overlays, NULL, e);
    *ret = flags || overlays;
    /* Overlays are often kept beside their base; where there are none, one look is enough. */
    if (r == 0 && !run->has_looked)
        r = image_users_overlays_in(run->store, run->dir.path, NULL, &run->overlays, NULL, e);
    run->has_looked = r == 0;
    if (r == 0 && !*ret && run->overlays) {
        r = image_users_overlays_in(run->store, run->dir.path, image->path, &overlays, NULL, e);
        *ret = overlays;
    }
    *ret |= r < 0;
    return r;
}

/* Another file system: copy, then unlink. */
static int move_by_copy(struct check_run *run, const struct directory_image *image,
                        const char *target, struct larder_error *e)
{
    enum copy_how how;
    CLEANUP_CLOSE int in =
        openat(run->dir.fd, image->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    CLEANUP_CLOSE int out = openat(run->quarantine_fd, target,
                                   O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (in < 0 || out < 0)
        return error_errno(e, errno, "%s", in < 0 ? image->path : target);
    int r = sparse_copy(in, out, store_observer(run->store), image->path, &how, e);
    if (r == 0 && fsync(out) < 0)
        r = error_errno(e, errno, "%s", target);
    if (r == 0)
        r = dir_sync(run->quarantine_fd, run->options->quarantine_dir, e);
    if (r < 0) {
        unlinkat(run->quarantine_fd, target, 0);
        return r;
    }
    return file_remove(run->dir.fd, image->name, e);
}

static int move_away(struct check_run *run, const struct directory_image *image,
                     struct larder_error *e)
{
    for (unsigned n = 0; n < 10000; n++) {
        CLEANUP_FREE char *target = NULL;
        if ((n == 0 ? asprintf(&target, "%s", image->name)
                    : asprintf(&target, "%s.%u", image->name, n)) < 0) {
            target = NULL;
            return error_nomem(e);
        }
        if (renameat2(run->dir.fd, image->name, run->quarantine_fd, target, RENAME_NOREPLACE) == 0)
            return dir_sync(run->quarantine_fd, run->options->quarantine_dir, e);
        if (errno == EXDEV) {
            int r = move_by_copy(run, image, target, e);
            if (r != -LARDER_EXIST)
                return r;
            error_clear(e);
        } else if (errno != EEXIST) {
            return error_errno(e, errno, "%s", image->path);
        }
    }
    return error_set(e, LARDER_EXIST, "%s: ten thousand files of that name in %s", image->path,
                     run->options->quarantine_dir);
}

/* Only the very file that was judged: not one that took its name meanwhile. */
static bool is_still_the_same(const struct check_run *run, const struct directory_image *image)
{
    struct stat st;
    return fstatat(run->dir.fd, image->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           st.st_dev == image->st.st_dev && st.st_ino == image->st.st_ino &&
           st.st_size == image->st.st_size && st.st_mtim.tv_sec == image->st.st_mtim.tv_sec &&
           st.st_mtim.tv_nsec == image->st.st_mtim.tv_nsec &&
           st.st_ctim.tv_sec == image->st.st_ctim.tv_sec &&
           st.st_ctim.tv_nsec == image->st.st_ctim.tv_nsec;
}

static int act(struct check_run *run, const struct directory_image *image, bool *ret_acted,
               struct larder_error *e)
{
    *ret_acted = false;
    if (run->options->action == LARDER_CHECK_REPORT || !is_still_the_same(run, image))
        return 0;
    if (run->options->dry_run) {
        *ret_acted = true;
        return 0;
    }
    int r = run->options->action == LARDER_CHECK_REMOVE ? file_remove(run->dir.fd, image->name, e)
                                                        : move_away(run, image, e);
    if (r == 0)
        r = dir_sync(run->dir.fd, run->dir.path, e);
    *ret_acted = r == 0;
    return r;
}

static int settle_one(struct check_run *run, const struct directory_image *image,
                      struct larder_error *e)
{
    struct larder_image_check_result result = {.path = image->path,
                                               .verdict = image->verdict,
                                               .reason = image->reason,
                                               .sidecar = image->sidecar};
    int r = 0;
    if (image->caution)
        store_warn(run->store, "%s: %s", image->path, image->caution);
    if (image->verdict == LARDER_VERDICT_CORRUPT) {
        run->corrupt++;
        r = find_use(run, image, &result.is_in_use, e);
        if (r == 0 && !result.is_in_use)
            r = act(run, image, &result.is_acted_on, e);
        run->left += !result.is_acted_on;
    }
    if (run->options->result)
        run->options->result(run->options->arg, &result);
    return r;
}

static int open_quarantine(struct check_run *run, struct larder_error *e)
{
    const char *path = run->options->quarantine_dir;
    if (run->options->action != LARDER_CHECK_QUARANTINE || run->options->dry_run)
        return 0;
    if (!path)
        return error_set(e, LARDER_INVAL, "check: no quarantine directory given");
    int r = path_make(path, 0700, e);
    if (r < 0)
        return r;
    run->quarantine_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return run->quarantine_fd < 0 ? error_errno(e, errno, "directory %s", path) : 0;
}

int larder_image_check(struct larder_store *store, const char *dir,
                       const struct larder_image_check_options *options, struct larder_error *e)
{
    struct check_run run = {
        .store = store, .options = options, .dir = {.fd = -1}, .quarantine_fd = -1};
    struct larder_error first = LARDER_ERROR_INIT;
    int r = open_quarantine(&run, e);
    if (r == 0)
        r = directory_open(dir, &run.dir, e);
    if (r == 0)
        r = directory_judge(store, &run.dir, options->deep, e);
    for (size_t i = 0; r == 0 && i < run.dir.count; i++) {
        struct larder_error one = LARDER_ERROR_INIT;
        if (settle_one(&run, &run.dir.images[i], &one) < 0 && first.code == LARDER_OK)
            first = one; /* one that cannot be removed does not stop the others */
    }
    directory_done(&run.dir);
    if (run.quarantine_fd >= 0)
        close(run.quarantine_fd);
    if (r < 0)
        return r;
    if (first.code != LARDER_OK) {
        if (e)
            *e = first;
        return -(int)first.code;
    }
    if (run.corrupt > 0)
        return error_set(e, LARDER_CORRUPT, "%s: %zu images do not match their checksum, %zu left",
                         dir, run.corrupt, run.left);
    return 0;
}
