/* SPDX-License-Identifier: Apache-2.0 */
/*
 * larder_image_adopt: takes the images of a directory into the store without reading them twice or
 * storing them twice where that can be had: a reflink; else a hard link, when the file is ours, has
 * one name and nobody has it open (its mode becomes 0444: from then on it is the store's); else a
 * sparse copy.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "base/hash_many.h"
#include "base/mem.h"
#include "base/sparse.h"
#include "image/directory/directory.h"
#include "image/format/probe.h"
#include "image/service.h"
#include "image/source.h"
#include "image/users.h"
#include "store/dir/blob.h"

struct adopt_run {
    struct larder_store *store;
    struct directory *dir;
    bool dry_run;
    const char *how; /* "reflinked", "linked", "copied", "there already" */
};

/* ---- getting the bytes into a temporary ---- */

static bool may_link(const struct directory_image *image, int fd)
{
    unsigned flags = 0;
    return image->st.st_uid == geteuid() && image->st.st_nlink == 1 &&
           image_users_of_fd(fd, &flags, NULL, NULL) == 0 && flags == 0;
}

/* Gives temp the file itself under a second name; fails silently, a copy follows. */
static bool link_into(struct adopt_run *run, const struct directory_image *image,
                      struct temp_file *temp)
{
    char name[sizeof(temp->name)];
    memcpy(name, temp->name, sizeof(name));
    int fd = openat(run->dir->fd, image->name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    if (unlinkat(temp->dirfd, name, 0) < 0 ||
        linkat(run->dir->fd, image->name, temp->dirfd, name, 0) < 0) {
        close(fd);
        return false;
    }
    /* As temp_open's, so that no sweeper takes it; on the file itself only from now on ours. */
    (void)flock(fd, LOCK_EX | LOCK_NB);
    close(temp->fd);
    temp->fd = fd;
    return true;
}

static int bring(struct adopt_run *run, const struct directory_image *image, struct temp_file *temp,
                 struct larder_error *e)
{
    enum copy_how how = COPY_COPIED;
    int r = temp_open(run->store, temp, e);
    if (r < 0)
        return r;
    CLEANUP_CLOSE int fd =
        openat(run->dir->fd, image->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return error_errno(e, errno, "%s", image->path);
    if (ioctl(temp->fd, FICLONE, fd) == 0) {
        run->how = "reflinked";
        return 0;
    }
    if (may_link(image, fd) && link_into(run, image, temp)) {
        run->how = "linked";
        return 0;
    }
    temp_drop(temp);
    r = temp_open(run->store, temp, e);
    if (r == 0)
        r = sparse_copy(fd, temp->fd, store_observer(run->store), image->path, &how, e);
    run->how = "copied";
    return r;
}

static int hash_temp(struct adopt_run *run, const struct directory_image *image, int fd,
                     struct hash_job *job, struct larder_error *e)
{
    struct hash_many_options options = {
        .observer = store_observer(run->store), .what = "adopt", .keep_cache = true};
    *job = (struct hash_job){
        .fd = fd, .alg_bits = HASH_BIT(LARDER_DIGEST_SHA256), .object = image->path};
    if (image->wanted)
        job->alg_bits |= HASH_BIT(image->wanted->alg);
    int r = hash_many(job, 1, &options, e);
    if (r == 0 && job->result < 0) {
        if (e)
            *e = job->error;
        return job->result;
    }
    if (r == 0 && image->wanted &&
        !larder_digest_equal(&job->digests[image->wanted->alg], image->wanted))
        return error_set(e, LARDER_CORRUPT, "%s: does not match %s", image->path, image->sidecar);
    return r;
}

/* ---- the entry ---- */

static int fill_entry(const struct directory_image *image, const struct hash_job *job,
                      const struct image_probe *probe, const struct stat *st,
                      struct image_entry *entry, struct larder_error *e)
{
    struct larder_image_spec spec = LARDER_IMAGE_SPEC_INIT;
    spec.name = image->name;
    spec.source = image->path;
    int r = image_name_check(image->name, e);
    if (r == 0)
        r = image_entry_from_spec(&spec, entry, e);
    if (r < 0)
        return r;
    entry->digest = job->digests[LARDER_DIGEST_SHA256];
    entry->size_bytes = entry->source_bytes = job->size_bytes;
    entry->found_format = probe->format;
    entry->virtual_bytes = probe->virtual_bytes;
    memcpy(entry->source_digests.by_alg, job->digests, sizeof(entry->source_digests.by_alg));
    entry->published = image->published;
    entry->fetched_ns = entry->checked_ns = clock_realtime_ns();
    entry->etag = source_local_etag(st);
    entry->sums_url = image->sidecar ? strdup(image->sidecar) : NULL;
    return !entry->etag || (image->sidecar && !entry->sums_url) ? error_nomem(e) : 0;
}

/* An earlier run took this very file, and it was not touched since. */
static bool was_adopted(const struct adopt_run *run, const struct directory_image *image)
{
    CLEANUP_ENTRY struct image_entry entry;
    enum blob_state state = BLOB_MISSING;
    image_entry_init(&entry);
    if (image_entry_read(run->store, image->name, &entry, NULL) < 0 || !entry.etag ||
        strcmp(entry.source, image->path) ||
        blob_check(run->store, &entry.digest, &state, NULL, NULL, NULL) < 0 || state != BLOB_GOOD)
        return false;
    CLEANUP_FREE char *etag = source_local_etag(&image->st);
    return etag && !strcmp(etag, entry.etag);
}

static bool is_same_content(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/*
 * A linked file can still be opened by its old name and written to until publishing takes the write
 * bits away; publishing vouches for the bytes that were hashed, not for later ones.
 */
static int check_unwritten(struct adopt_run *run, const struct directory_image *image,
                           const struct larder_digest *digest, const struct stat *hashed,
                           struct larder_error *e)
{
    enum blob_state state = BLOB_MISSING;
    struct stat now = {0};
    int r = blob_check(run->store, digest, &state, &now, NULL, e);
    if (r < 0)
        return r;
    if (state != BLOB_MISSING && is_same_content(hashed, &now))
        return 0;
    r = memo_remove(run->store, digest, e); /* whoever asks for it hashes it */
    return r < 0 ? r
                 : error_set(e, LARDER_BUSY, "%s: written to while it was adopted", image->path);
}

static int publish(struct adopt_run *run, const struct directory_image *image,
                   struct temp_file *temp, struct larder_error *e)
{
    CLEANUP_ENTRY struct image_entry entry;
    CLEANUP_CLOSE int entry_lock = -1;
    CLEANUP_CLOSE int gc_lock = -1;
    struct image_entry old;
    struct image_probe probe = {0};
    struct hash_job job;
    struct stat st, hashed;
    char lock_name[64];
    bool existed = false;
    image_entry_init(&entry);
    store_lock_name("entry", image->name, lock_name);
    int r = store_lock(run->store, lock_name, true, true, &entry_lock, e);
    if (r < 0)
        return r;
    if (image_entry_read(run->store, image->name, &old, NULL) == 0) {
        image_entry_done(&old);
        return error_set(e, LARDER_EXIST, "image %s: an entry of that name exists already",
                         image->name);
    }
    if (fstat(temp->fd, &hashed) < 0)
        return error_errno(e, errno, "%s", image->path);
    r = hash_temp(run, image, temp->fd, &job, e);
    if (r == 0)
        r = image_probe_fd(temp->fd, job.size_bytes, NULL, false, image->path, &probe, e);
    if (r == 0)
        r = store_lock(run->store, "gc", false, true, &gc_lock, e);
    if (r == 0)
        r = blob_publish(run->store, temp, &job.digests[LARDER_DIGEST_SHA256], &existed, e);
    if (r == 0 && !existed)
        r = check_unwritten(run, image, &job.digests[LARDER_DIGEST_SHA256], &hashed, e);
    if (r < 0)
        return r;
    if (existed)
        run->how = "there already";
    /* After publishing: a hard link changes the file's own ctime, and with it the validator. */
    if (fstatat(run->dir->fd, image->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return error_errno(e, errno, "%s", image->path);
    r = fill_entry(image, &job, &probe, &st, &entry, e);
    return r < 0 ? r : image_entry_write(run->store, &entry, e);
}

static int adopt_one(struct adopt_run *run, const struct directory_image *image,
                     struct larder_error *e)
{
    struct temp_file temp = TEMP_FILE_INIT;
    if (image->verdict == LARDER_VERDICT_CORRUPT)
        return error_set(e, LARDER_CORRUPT, "%s", image->reason);
    if (image->sidecar && !image->wanted)
        return error_set(e, LARDER_INVAL, "%s", image->reason);
    if (image->caution)
        store_warn(run->store, "%s: %s", image->path, image->caution);
    if (run->dry_run) {
        run->how = "would be adopted";
        return 0;
    }
    if (was_adopted(run, image)) {
        run->how = "there already";
        return 0;
    }
    int r = bring(run, image, &temp, e);
    if (r == 0)
        r = publish(run, image, &temp, e);
    temp_drop(&temp);
    return r;
}

int larder_image_adopt(struct larder_store *store, const char *dir, bool dry_run,
                       void (*fn)(void *arg, const char *path, const char *name, int result,
                                  const char *how_or_why),
                       void *arg, struct larder_error *e)
{
    struct directory directory = {.fd = -1};
    struct adopt_run run = {.store = store, .dir = &directory, .dry_run = dry_run};
    struct larder_error first = LARDER_ERROR_INIT;
    int adopted = 0;
    int r = dry_run ? 0 : store_require_writable(store, e);
    if (r == 0)
        r = directory_open(dir, &directory, e);
    if (r == 0 && dry_run) /* else the bytes are judged on their way in */
        r = directory_judge(store, &directory, false, e);
    for (size_t i = 0; r == 0 && i < directory.count; i++) {
        const struct directory_image *image = &directory.images[i];
        struct larder_error one = LARDER_ERROR_INIT;
        int result = adopt_one(&run, image, &one);
        adopted += result == 0;
        if (result < 0 && first.code == LARDER_OK)
            first = one;
        if (fn)
            fn(arg, image->path, image->name, result, result < 0 ? one.msg : run.how);
        if (one.code == LARDER_CANCELED || one.code == LARDER_NOSPACE)
            break;
    }
    directory_done(&directory);
    if (r < 0)
        return r;
    if (first.code != LARDER_OK) {
        if (e)
            *e = first;
        return -(int)first.code;
    }
    return adopted;
}
