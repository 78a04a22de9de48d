/* SPDX-License-Identifier: Apache-2.0 */
/* Writing an OCI archive (archive_private.h). */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "archive/tar.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/process.h"
#include "store/layout/archive_private.h"
#include "store/layout/referrers.h"

#define TEMP_PREFIX       ".larder-archive-"
#define MARK_TEXT         "{\"imageLayoutVersion\":\"1.0.0\"}"
#define MEMBER_NAME_BYTES (LARDER_DIGEST_TEXT_BYTES + 16)
/* Each try loses against a process that sweeps. */
#define OPEN_TRIES_MAX 10

/* ---- the temporary ---- */

struct sweeping {
    int dirfd;
    const char *target;
};

/* A temporary for the same target whose writer died. */
static int sweep_one(void *arg, const char *name, unsigned char d_type)
{
    const struct sweeping *sweeping = arg;
    size_t n = strlen(name), n_target = strlen(sweeping->target);
    (void)d_type;
    if (strncmp(name, TEMP_PREFIX, strlen(TEMP_PREFIX)) != 0 || n < n_target + 1 ||
        strcmp(name + n - n_target, sweeping->target) != 0 || name[n - n_target - 1] != '-')
        return 0;
    CLEANUP_CLOSE int fd =
        openat(sweeping->dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0)
        unlinkat(sweeping->dirfd, name, 0);
    return 0;
}

static int open_temp(struct archive *archive, struct larder_error *e)
{
    static atomic_uint sequence;
    struct sweeping sweeping = {archive->dirfd, archive->target};
    struct process_id self;
    struct stat st;
    int r = process_id_self(&self, e);
    if (r < 0)
        return r;
    (void)dir_each(archive->dirfd, sweep_one, &sweeping, NULL);
    for (unsigned i = 0; i < OPEN_TRIES_MAX; i++) {
        free(archive->temp);
        if (asprintf(&archive->temp, TEMP_PREFIX "%ld-%llu-%u-%s", (long)self.pid,
                     (unsigned long long)self.start_ticks, atomic_fetch_add(&sequence, 1u),
                     archive->target) < 0) {
            archive->temp = NULL;
            return error_nomem(e);
        }
        CLEANUP_CLOSE int fd = openat(archive->dirfd, archive->temp,
                                      O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (fd < 0 || fstat(fd, &st) < 0) {
            r = error_errno(e, errno, "%s", archive->base.name);
            break;
        }
        /* Where there are no locks nothing sweeps either: its flock fails, too. */
        flock(fd, LOCK_EX | LOCK_NB);
        if (fstat(fd, &st) == 0 && st.st_nlink > 0) {
            archive->fd = TAKE_FD(fd);
            return 0;
        }
    }
    free(archive->temp);
    archive->temp = NULL;
    return r < 0 ? r
                 : error_set(e, LARDER_BUSY, "%s: its temporary is removed all the time",
                             archive->base.name);
}

static int append_head(struct archive *archive, const char *name, uint64_t n_bytes,
                       struct larder_error *e)
{
    struct buf head = BUF_INIT(TAR_HEAD_BYTES_MAX);
    int r = tar_head(name, n_bytes, &head, e);
    if (r == 0 && fd_pwrite_full(archive->fd, head.p, head.n, archive->end) < 0)
        r = error_errno(e, errno, "%s", archive->base.name);
    if (r == 0)
        archive->end += head.n;
    buf_done(&head);
    return r;
}

/* The archive that was published already, as the beginning of the next one. */
static int copy_published(struct archive *archive, int from, struct larder_error *e)
{
    uint64_t left = archive->end;
    off_t in = 0, out = 0;
    while (left > 0) {
        ssize_t n = copy_file_range(from, &in, archive->fd, &out, left, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_errno(e, n < 0 ? errno : EIO, "%s", archive->base.name);
        left -= (uint64_t)n;
    }
    return 0;
}

/* With the mutex held: there is a temporary that may be written. */
static int want_temp(struct archive *archive, struct larder_error *e)
{
    if (archive->temp)
        return 0;
    CLEANUP_CLOSE int published = TAKE_FD(archive->fd);
    int r = open_temp(archive, e);
    if (r == 0 && published >= 0)
        r = copy_published(archive, published, e);
    if (r == 0 && published < 0)
        r = append_head(archive, "blobs/", 0, e);
    if (r == 0 && published < 0)
        r = append_head(archive, "blobs/sha256/", 0, e);
    if (r == 0)
        return 0;
    if (archive->temp)
        unlinkat(archive->dirfd, archive->temp, 0);
    free(archive->temp);
    archive->temp = NULL;
    fd_closep(&archive->fd);
    archive->fd = TAKE_FD(published);
    return r;
}

/* ---- opening ---- */

/* A target that is there is replaced only when it is of our kind. */
static int look_at_target(struct archive *archive, const char *path, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct stat st;
    if (stat(path, &st) < 0)
        return errno == ENOENT ? 0 : error_errno(e, errno, "%s", archive->base.name);
    if (S_ISREG(st.st_mode) && st.st_size == 0)
        return 0;
    int r = archive_open(path, 0, archive->base.observer, &archive->old, &why);
    if (r == -LARDER_INVAL || r == -LARDER_CORRUPT || r == -LARDER_UNSUPPORTED ||
        r == -LARDER_UNSAFE)
        return error_set(e, LARDER_EXIST, "not overwritten: %s", why.msg);
    if (r < 0 && e)
        *e = why;
    return r;
}

int archive_write_open(struct archive *archive, const char *path, struct larder_error *e)
{
    CLEANUP_FREE char *real = realpath(path, NULL);
    if (!real)
        real = strdup(path);
    CLEANUP_FREE char *directory = real ? strdup(real) : NULL;
    if (!directory)
        return error_nomem(e);
    const char *name = strrchr(real, '/');
    archive->target = strdup(name ? name + 1 : real);
    if (!archive->target)
        return error_nomem(e);
    if (!*archive->target)
        return error_set(e, LARDER_INVAL, "%s: expected the name of a file", archive->base.name);
    archive->dirfd = open(dirname(directory), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (archive->dirfd < 0)
        return error_errno(e, errno, "%s: its directory", archive->base.name);
    int r = look_at_target(archive, real, e);
    return r < 0 ? r : index_json_new(&archive->index, e);
}

void archive_write_close(struct archive *archive)
{
    if (archive->temp)
        unlinkat(archive->dirfd, archive->temp, 0);
    free(archive->temp);
    free(archive->target);
    fd_closep(&archive->dirfd);
    store_close(archive->old);
}

/* ---- blobs ---- */

static void member_name(const char *top, const struct larder_digest *digest, char *out, size_t n)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    snprintf(out, n, "%s/%s/%s", top, larder_digest_alg_name(digest->alg),
             larder_digest_hex(digest, hex));
}

/* Tops are of one length, so that the new head is as long as the old one. */
static int rename_place(struct archive *archive, const struct place *place, const char *top,
                        struct larder_error *e)
{
    char name[MEMBER_NAME_BYTES];
    struct buf head = BUF_INIT(TAR_HEAD_BYTES_MAX);
    member_name(top, &place->digest, name, sizeof(name));
    int r = tar_head(name, place->n_bytes, &head, e);
    if (r == 0 && fd_pwrite_full(archive->fd, head.p, head.n, place->offset - head.n) < 0)
        r = error_errno(e, errno, "%s", archive->base.name);
    buf_done(&head);
    return r;
}

static int reserve(struct archive *archive, const struct store_descriptor *blob, uint64_t *ret,
                   struct larder_error *e)
{
    char name[MEMBER_NAME_BYTES];
    int r = 0;
    if (blob->digest.alg == LARDER_DIGEST_SHA512 && !archive->has_sha512) {
        r = append_head(archive, "blobs/sha512/", 0, e);
        archive->has_sha512 = r == 0;
    }
    member_name("blobs", &blob->digest, name, sizeof(name));
    if (r == 0 && blob->size_bytes > (uint64_t)INT64_MAX / 2)
        r = error_set(e, LARDER_LIMIT, "%s: %s: %llu bytes", archive->base.name, name,
                      (unsigned long long)blob->size_bytes);
    if (r == 0)
        r = append_head(archive, name, blob->size_bytes, e);
    if (r < 0)
        return r;
    *ret = archive->end;
    archive->end += tar_padded(blob->size_bytes);
    return 0;
}

static int begin(struct archive *archive, const struct store_descriptor *blob,
                 struct blob_writer *ret, bool *ret_exists, struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct place *place = places_find(&archive->places, &blob->digest);
    enum place_state state = place ? place->state : PLACE_NONE;
    uint64_t offset = place ? place->offset : 0;
    if (state != PLACE_NONE && place->n_bytes != blob->size_bytes)
        return error_set(e, LARDER_CORRUPT, "%s: blob %s: %llu bytes, expected %llu",
                         archive->base.name, larder_digest_format(&blob->digest, text),
                         (unsigned long long)place->n_bytes, (unsigned long long)blob->size_bytes);
    if (state == PLACE_WRITING)
        return error_set(e, LARDER_BUSY, "%s: blob %s: is being written already",
                         archive->base.name, larder_digest_format(&blob->digest, text));
    *ret_exists = state == PLACE_DONE;
    if (state == PLACE_DONE)
        return 0;
    int r = want_temp(archive, e);
    if (r == 0 && state == PLACE_DROPPED)
        r = rename_place(archive, place, "blobs", e);
    else if (r == 0)
        r = reserve(archive, blob, &offset, e);
    if (r < 0)
        return r;
    if (!place)
        place = places_add(&archive->places, &blob->digest);
    if (!place)
        return error_nomem(e); /* its member stays, empty, of zeros: the archive is given up */
    place->state = PLACE_WRITING;
    place->offset = offset;
    place->n_bytes = blob->size_bytes;
    archive->n_writing++;
    archive->is_changed = true;
    *ret = (struct blob_writer){archive->fd, offset, 0, NULL};
    return 0;
}

int archive_blob_begin(struct store *s, const struct store_descriptor *blob,
                       struct blob_writer *ret, bool *ret_exists, struct larder_error *e)
{
    struct archive *archive = archive_of(s);
    if (!archive->is_writable)
        return error_set(e, LARDER_DENIED, "%s: opened for reading only", s->name);
    /* The writer knows its blob by this; it has to outlive a growing table. */
    struct larder_digest *digest = malloc(sizeof(*digest));
    if (!digest)
        return error_nomem(e);
    *digest = blob->digest;
    pthread_mutex_lock(&archive->mutex);
    int r = begin(archive, blob, ret, ret_exists, e);
    pthread_mutex_unlock(&archive->mutex);
    if (r == 0 && !*ret_exists)
        ret->private = digest;
    else
        free(digest);
    return r;
}

static void settle(struct archive *archive, struct blob_writer *writer, enum place_state state)
{
    pthread_mutex_lock(&archive->mutex);
    struct place *place = places_find(&archive->places, writer->private);
    if (place && place->state == PLACE_WRITING) {
        place->state = state;
        archive->n_writing--;
    }
    pthread_mutex_unlock(&archive->mutex);
    free(writer->private);
    *writer = (struct blob_writer){-1, 0, 0, NULL};
}

int archive_blob_commit(struct store *s, const struct store_descriptor *blob,
                        struct blob_writer *writer, struct larder_error *e)
{
    (void)blob;
    (void)e;
    settle(archive_of(s), writer, PLACE_DONE);
    return 0;
}

/* The place is for the next try with the same blob. */
void archive_blob_abort(struct store *s, struct blob_writer *writer, bool keep)
{
    (void)keep;
    if (writer->private)
        settle(archive_of(s), writer, PLACE_DROPPED);
}

/* ---- manifests ---- */

static int put_names(struct archive *archive, const struct store_descriptor *manifest,
                     const char *const *refs, size_t n_refs, struct larder_error *e)
{
    struct json *index = NULL;
    pthread_mutex_lock(&archive->mutex);
    int r = want_temp(archive, e);
    if (r == 0)
        r = index_json_put(archive->index, manifest, refs, n_refs, &index, e);
    if (r == 0 && index) {
        json_free(archive->index);
        archive->index = index;
        archive->is_changed = true;
    }
    pthread_mutex_unlock(&archive->mutex);
    return r;
}

int archive_manifest_put(struct store *s, const struct store_descriptor *manifest,
                         struct slice bytes, const char *const *refs, size_t n_refs,
                         struct larder_error *e)
{
    static const char *const unnamed[] = {""};
    struct blob_writer writer = {-1, 0, 0, NULL};
    bool exists = false;
    int r = archive_blob_begin(s, manifest, &writer, &exists, e);
    if (r == 0 && !exists) {
        if (fd_pwrite_full(writer.fd, bytes.p, bytes.n, writer.start) < 0) {
            r = error_errno(e, errno, "%s", s->name);
            archive_blob_abort(s, &writer, false);
        } else {
            r = archive_blob_commit(s, manifest, &writer, e);
        }
    }
    if (r < 0)
        return r;
    /* Nothing leads to a referrer but its own entry. */
    if (n_refs > 0)
        return put_names(archive_of(s), manifest, refs, n_refs, e);
    r = manifest_has_subject(bytes, e);
    return r > 0 ? put_names(archive_of(s), manifest, unnamed, 1, e) : r;
}

/* ---- the end ---- */

/* A place that was given up has a header, but not its bytes: it must not look like the blob. */
static int disown_dropped(struct archive *archive, struct larder_error *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < archive->places.n_slots; i++) {
        const struct place *place = &archive->places.slots[i];
        if (place->state == PLACE_DROPPED)
            r = rename_place(archive, place, ".void", e);
    }
    return r;
}

static int append_file(struct archive *archive, uint64_t *at, const char *name, const char *data,
                       size_t n, struct larder_error *e)
{
    uint64_t end = archive->end;
    archive->end = *at;
    int r = append_head(archive, name, n, e);
    uint64_t content = archive->end;
    archive->end = end;
    if (r == 0 && fd_pwrite_full(archive->fd, data, n, content) < 0)
        r = error_errno(e, errno, "%s", archive->base.name);
    *at = content + tar_padded(n);
    return r;
}

/* What comes behind the blobs. archive->end stays before it: the next flush writes it anew. */
static int write_tail(struct archive *archive, struct larder_error *e)
{
    struct buf text = BUF_INIT(INDEX_JSON_BYTES_MAX);
    uint64_t at = archive->end;
    int r = json_dump_ordered(archive->index, &text, e);
    if (r == 0)
        r = append_file(archive, &at, "oci-layout", MARK_TEXT, strlen(MARK_TEXT), e);
    if (r == 0)
        r = append_file(archive, &at, "index.json", text.p, text.n, e);
    /* Two blocks of zeros, and nothing behind them of an older tail. */
    if (r == 0 && (ftruncate(archive->fd, (off_t)at) < 0 ||
                   ftruncate(archive->fd, (off_t)(at + 2 * (uint64_t)TAR_BLOCK)) < 0))
        r = error_errno(e, errno, "%s", archive->base.name);
    buf_done(&text);
    return r;
}

static int missing_name(void *arg, const char *ref)
{
    struct archive *archive = arg;
    struct store_descriptor found;
    const struct index_json_reader none = {NULL, NULL};
    return index_json_resolve(archive->index, "", ref, &none, &found, NULL) < 0;
}

/* skopeo replaces the file, too, but says nothing. */
static void warn_of_loss(struct archive *archive)
{
    const struct larder_observer *observer = archive->base.observer;
    CLEANUP_FREE char *text = NULL;
    if (!archive->old || !observer->warning ||
        archive->old->ops->each_ref(archive->old, missing_name, archive, NULL) == 0)
        return;
    if (asprintf(&text, "%s: replaced; the other images that were in it are gone",
                 archive->base.name) < 0)
        text = NULL;
    if (text)
        observer->warning(observer->arg, text);
}

static int publish(struct archive *archive, struct larder_error *e)
{
    int r = disown_dropped(archive, e);
    if (r == 0)
        r = write_tail(archive, e);
    if (r < 0)
        return r;
    if (fsync(archive->fd) < 0 ||
        renameat(archive->dirfd, archive->temp, archive->dirfd, archive->target) < 0)
        return error_errno(e, errno, "%s", archive->base.name);
    free(archive->temp);
    archive->temp = NULL;
    archive->is_changed = false;
    archive->is_published = true;
    warn_of_loss(archive);
    store_close(archive->old);
    archive->old = NULL;
    return dir_sync(archive->dirfd, archive->base.name, e);
}

/* Without an entry it is not an archive of anything yet: the target stays as it is. */
int archive_flush(struct store *s, struct larder_error *e)
{
    struct archive *archive = archive_of(s);
    int r = 0;
    pthread_mutex_lock(&archive->mutex);
    if (archive->n_writing > 0)
        r = error_set(e, LARDER_BUSY, "%s: %u blobs are being written", s->name,
                      archive->n_writing);
    else if (archive->is_changed && json_length(json_get(archive->index, "manifests")) > 0)
        r = publish(archive, e);
    pthread_mutex_unlock(&archive->mutex);
    return r;
}
