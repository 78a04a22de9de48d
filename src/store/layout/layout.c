/* SPDX-License-Identifier: Apache-2.0 */
/* An OCI image layout directory as a store (private.h says what is where). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "store/layout/private.h"
#include "store/layout/referrers.h"

#define MARK_TEXT      "{\"imageLayoutVersion\":\"1.0.0\"}"
#define MARK_BYTES_MAX 4096

/* ---- blobs ---- */

/* *ret_fd -1 when it is neither there nor waiting. */
static int open_blob(struct layout *layout, const struct larder_digest *digest, int *ret_fd,
                     struct stat *ret_st, struct larder_error *e)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    CLEANUP_CLOSE int fd = -1;
    int dirfd = -1;
    for (unsigned i = 0; fd < 0 && i < 2; i++) {
        int r = i > 0 ? layout_flush(&layout->base, e) : 0;
        if (r == 0)
            r = layout_blobs_dir(layout, digest->alg, false, &dirfd, e);
        if (r < 0)
            return r;
        larder_digest_hex(digest, hex);
        if (dirfd >= 0)
            fd = openat(dirfd, hex, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 && dirfd >= 0 && errno != ENOENT)
            return error_errno(e, errno, "%s: blob %s", layout->base.name,
                               larder_digest_format(digest, hex));
        if (fd < 0 && !layout_is_waiting(layout, digest))
            break;
    }
    if (fd >= 0 && (fstat(fd, ret_st) < 0 || !S_ISREG(ret_st->st_mode)))
        return error_set(e, LARDER_CORRUPT, "%s: blob %s is no regular file", layout->base.name,
                         larder_digest_format(digest, hex));
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int not_there(struct layout *layout, const struct larder_digest *digest,
                     struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    return error_set(e, LARDER_NOENT, "%s: blob %s: not in the layout", layout->base.name,
                     larder_digest_format(digest, text));
}

static int wrong_size(struct layout *layout, const struct store_descriptor *blob, off_t size,
                      struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    return error_set(e, LARDER_CORRUPT, "%s: blob %s: %lld bytes, expected %llu", layout->base.name,
                     larder_digest_format(&blob->digest, text), (long long)size,
                     (unsigned long long)blob->size_bytes);
}

static int layout_blob_has(struct store *s, const struct store_descriptor *blob,
                           struct larder_error *e)
{
    struct layout *layout = layout_of(s);
    char hex[LARDER_DIGEST_TEXT_BYTES];
    struct stat st;
    int dirfd = -1;
    if (layout_is_waiting(layout, &blob->digest))
        return 1;
    int r = layout_blobs_dir(layout, blob->digest.alg, false, &dirfd, e);
    if (r < 0 || dirfd < 0)
        return r;
    if (fstatat(dirfd, larder_digest_hex(&blob->digest, hex), &st, 0) < 0) {
        if (errno == ENOENT)
            return 0;
        return error_errno(e, errno, "%s: blob %s", s->name,
                           larder_digest_format(&blob->digest, hex));
    }
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != blob->size_bytes)
        return wrong_size(layout, blob, st.st_size, e);
    return 1;
}

static int layout_blob_extent(struct store *s, const struct store_descriptor *blob,
                              struct store_extent *ret, struct larder_error *e)
{
    struct layout *layout = layout_of(s);
    CLEANUP_CLOSE int fd = -1;
    struct stat st;
    int r = open_blob(layout, &blob->digest, &fd, &st, e);
    if (r < 0)
        return r;
    if (fd < 0)
        return not_there(layout, &blob->digest, e);
    if ((uint64_t)st.st_size != blob->size_bytes)
        return wrong_size(layout, blob, st.st_size, e);
    *ret = (struct store_extent){TAKE_FD(fd), 0, blob->size_bytes};
    return 0;
}

static int layout_blob_remove(struct store *s, const struct larder_digest *digest,
                              struct larder_error *e)
{
    (void)digest;
    return error_set(e, LARDER_UNSUPPORTED, "%s: blobs are not removed from a layout", s->name);
}

/* ---- manifests ---- */

static int read_manifest(void *arg, const struct store_descriptor *manifest, struct buf *out,
                         struct larder_error *e)
{
    struct layout *layout = arg;
    CLEANUP_CLOSE int fd = -1;
    struct stat st;
    int r = open_blob(layout, &manifest->digest, &fd, &st, e);
    if (r < 0)
        return r;
    if (fd < 0)
        return not_there(layout, &manifest->digest, e);
    return manifest_read_extent(layout->base.name, manifest,
                                &(struct store_extent){fd, 0, (uint64_t)st.st_size}, out, e);
}

static struct index_json_reader reader_of(struct layout *layout)
{
    return (struct index_json_reader){read_manifest, layout};
}

static int layout_resolve(struct store *s, const char *ref, struct store_descriptor *ret,
                          struct larder_error *e)
{
    struct layout *layout = layout_of(s);
    const struct index_json_reader reader = reader_of(layout);
    CLEANUP(json_freep) struct json *index = NULL;
    int r = layout_index_read(layout, &index, e);
    return r < 0 ? r : index_json_resolve(index, s->name, ref, &reader, ret, e);
}

static int layout_each_ref(struct store *s, int (*fn)(void *arg, const char *ref), void *arg,
                           struct larder_error *e)
{
    CLEANUP(json_freep) struct json *index = NULL;
    int r = layout_index_read(layout_of(s), &index, e);
    return r < 0 ? r : index_json_each_ref(index, fn, arg);
}

static int layout_manifest_get(struct store *s, const char *ref, const struct larder_digest *digest,
                               struct buf *out, struct store_descriptor *ret,
                               struct larder_error *e)
{
    struct store_descriptor manifest = {0};
    if (digest)
        manifest.digest = *digest;
    int r = digest ? 0 : layout_resolve(s, ref, &manifest, e);
    if (r == 0)
        r = read_manifest(layout_of(s), &manifest, out, e);
    if (r < 0)
        return r;
    manifest.size_bytes = out->n;
    if (!manifest.media_type[0])
        r = manifest_media_type(buf_slice(out), manifest.media_type, e);
    if (r == 0)
        *ret = manifest;
    return r;
}

static int layout_manifest_has(struct store *s, const struct store_descriptor *manifest,
                               struct larder_error *e)
{
    return layout_blob_has(s, manifest, e);
}

struct putting {
    const struct store_descriptor *manifest;
    const char *const *refs;
    size_t n_refs;
};

static int put_names(void *arg, const struct json *index, struct json **ret, struct larder_error *e)
{
    const struct putting *putting = arg;
    return index_json_put(index, putting->manifest, putting->refs, putting->n_refs, ret, e);
}

static int put_bytes(struct store *s, const struct store_descriptor *manifest, struct slice bytes,
                     struct larder_error *e)
{
    struct blob_writer writer = {-1, 0, 0, NULL};
    bool exists = false;
    int r = layout_blob_begin(s, manifest, &writer, &exists, e);
    if (r < 0 || exists)
        return r;
    if (ftruncate(writer.fd, 0) < 0 || fd_pwrite_full(writer.fd, bytes.p, bytes.n, 0) < 0) {
        char text[LARDER_DIGEST_TEXT_BYTES];
        r = error_errno(e, errno, "%s: blob %s", s->name,
                        larder_digest_format(&manifest->digest, text));
    }
    if (r == 0)
        r = layout_blob_commit(s, manifest, &writer, e);
    if (r < 0)
        layout_blob_abort(s, &writer, false);
    return r;
}

static int layout_manifest_put(struct store *s, const struct store_descriptor *manifest,
                               struct slice bytes, const char *const *refs, size_t n_refs,
                               struct larder_error *e)
{
    static const char *const unnamed[] = {""};
    struct layout *layout = layout_of(s);
    struct putting putting = {manifest, refs, n_refs};
    int r = put_bytes(s, manifest, bytes, e);
    if (r < 0)
        return r;
    /* Nothing leads to a referrer but its own entry. */
    if (n_refs == 0) {
        r = manifest_has_subject(bytes, e);
        if (r < 0)
            return r;
        if (r > 0) {
            putting.refs = unnamed;
            putting.n_refs = 1;
        }
    }
    if (putting.n_refs == 0)
        return 0;
    r = layout_flush(s, e);
    return r < 0 ? r : layout_index_update(layout, put_names, &putting, e);
}

struct dropping {
    const char *where;
    const char *ref;
    const struct larder_digest *digest;
};

static int drop(void *arg, const struct json *index, struct json **ret, struct larder_error *e)
{
    const struct dropping *dropping = arg;
    if (dropping->digest)
        return index_json_drop_digest(index, dropping->where, dropping->digest, ret, e);
    return index_json_drop_ref(index, dropping->where, dropping->ref, ret, e);
}

static int layout_remove_ref(struct store *s, const char *ref, struct larder_error *e)
{
    struct dropping dropping = {s->name, ref, NULL};
    return layout_index_update(layout_of(s), drop, &dropping, e);
}

/* The entries only: what the blobs below it are for, other programs may know. */
static int layout_manifest_remove(struct store *s, const struct larder_digest *digest,
                                  struct larder_error *e)
{
    struct dropping dropping = {s->name, NULL, digest};
    return layout_index_update(layout_of(s), drop, &dropping, e);
}

static int layout_referrers(struct store *s, const struct larder_digest *subject,
                            const char *artifact_type, struct buf *out, struct larder_error *e)
{
    struct layout *layout = layout_of(s);
    const struct index_json_reader reader = reader_of(layout);
    CLEANUP(json_freep) struct json *index = NULL;
    int r = layout_index_read(layout, &index, e);
    return r < 0 ? r : index_json_referrers(index, &reader, subject, artifact_type, out, e);
}

/* ---- opening ---- */

static void layout_close(struct store *s)
{
    struct layout *layout = layout_of(s);
    layout_blob_close(layout);
    if (layout->dirfd >= 0)
        close(layout->dirfd);
    pthread_cond_destroy(&layout->settled);
    pthread_mutex_destroy(&layout->mutex);
    free(s->name);
    free(layout);
}

static const struct store_ops layout_ops = {
    .transport = "oci",
    .resolve = layout_resolve,
    .each_ref = layout_each_ref,
    .remove_ref = layout_remove_ref,
    .manifest_get = layout_manifest_get,
    .manifest_has = layout_manifest_has,
    .manifest_put = layout_manifest_put,
    .manifest_remove = layout_manifest_remove,
    .referrers = layout_referrers,
    .blob_has = layout_blob_has,
    .blob_extent = layout_blob_extent,
    .blob_begin = layout_blob_begin,
    .blob_commit = layout_blob_commit,
    .blob_abort = layout_blob_abort,
    .blob_kept = layout_blob_kept,
    .blob_remove = layout_blob_remove,
    .flush = layout_flush,
    .close = layout_close,
};

/* 1: a layout of a version we know; 0: nothing says so. */
static int check_mark(struct layout *layout, struct larder_error *e)
{
    struct buf text = BUF_INIT(MARK_BYTES_MAX);
    CLEANUP(json_freep) struct json *mark = NULL;
    struct larder_error why = LARDER_ERROR_INIT;
    int r = file_read(layout->dirfd, LAYOUT_MARK_NAME, &text, &why);
    if (r == 0)
        r = json_parse(buf_slice(&text), MARK_BYTES_MAX, &mark, &why);
    buf_done(&text);
    if (r == -LARDER_NOENT)
        return 0;
    const char *version = json_get_string(mark, "imageLayoutVersion");
    if (r == 0 && version && strncmp(version, "1.", 2) != 0)
        return error_set(e, LARDER_UNSUPPORTED, "%s: layout version %s, expected 1.0.0",
                         layout->base.name, version);
    if (r < 0 || !version) {
        if (r < 0 && r != -LARDER_INVAL && r != -LARDER_LIMIT) {
            if (e)
                *e = why;
            return r;
        }
        return error_set(e, LARDER_CORRUPT, "%s: %s says no layout version", layout->base.name,
                         LAYOUT_MARK_NAME);
    }
    return 1;
}

struct names {
    bool is_layout;
    bool has_others;
};

static int look_at_name(void *arg, const char *name, unsigned char d_type)
{
    struct names *names = arg;
    (void)d_type;
    /* skopeo makes blobs/ first and the mark last. */
    if (strcmp(name, "blobs") == 0 || strcmp(name, "index.json") == 0 ||
        strcmp(name, LAYOUT_WORK_NAME) == 0)
        names->is_layout = true;
    else if (strncmp(name, ".tmp-", 5) != 0)
        names->has_others = true;
    return 0;
}

/* Whether a directory without the mark may become a layout, or is read as one. */
static int check_unmarked(struct layout *layout, struct larder_error *e)
{
    struct names names = {false, false};
    int r = dir_each(layout->dirfd, look_at_name, &names, e);
    if (r < 0)
        return r;
    if (names.is_layout || (!names.has_others && layout->is_writable))
        return 0;
    return error_set(e, LARDER_INVAL, "%s: no OCI layout: neither %s nor index.json in it",
                     layout->base.name, LAYOUT_MARK_NAME);
}

static int keep_as_is(void *arg, const struct json *index, struct json **ret,
                      struct larder_error *e)
{
    (void)arg;
    (void)index;
    (void)e;
    *ret = NULL;
    return 0;
}

/* A layout is complete from the start, so that other programs can read one that is being filled. */
static int make_layout(struct layout *layout, bool is_marked, struct larder_error *e)
{
    int dirfd = -1;
    int r = layout_blobs_dir(layout, LARDER_DIGEST_SHA256, true, &dirfd, e);
    if (r == 0 && faccessat(layout->dirfd, "index.json", F_OK, 0) < 0)
        r = layout_index_update(layout, keep_as_is, NULL, e);
    if (r == 0 && !is_marked)
        r = file_write_atomic(layout->dirfd, LAYOUT_MARK_NAME, MARK_TEXT, strlen(MARK_TEXT), 0644,
                              e);
    return r;
}

static int open_layout(struct layout *layout, const char *path, struct larder_error *e)
{
    int r = layout->is_writable ? path_make(path, 0777, e) : 0;
    if (r < 0)
        return r;
    layout->dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (layout->dirfd < 0)
        return error_errno(e, errno, "%s", layout->base.name);
    int is_marked = check_mark(layout, e);
    r = is_marked == 0 ? check_unmarked(layout, e) : is_marked < 0 ? is_marked : 0;
    if (r == 0 && layout->is_writable)
        r = make_layout(layout, is_marked == 1, e);
    return r;
}

static size_t batch_size(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur / 4 >= LAYOUT_BATCH_BLOBS)
        return LAYOUT_BATCH_BLOBS;
    return limit.rlim_cur / 4 + 1;
}

int layout_open(const char *path, unsigned flags, const struct larder_observer *observer,
                struct store **ret, struct larder_error *e)
{
    static const struct larder_observer silent = {0};
    struct layout *layout = calloc(1, sizeof(*layout));
    if (!layout)
        return error_nomem(e);
    layout->base.ops = &layout_ops;
    layout->base.observer = observer ? observer : &silent;
    layout->is_writable = flags & STORE_OPEN_WRITE;
    layout->n_batch = batch_size();
    layout->dirfd = layout->workdir = layout->blobs[0] = layout->blobs[1] = -1;
    pthread_mutex_init(&layout->mutex, NULL);
    pthread_cond_init(&layout->settled, NULL);
    int r = asprintf(&layout->base.name, "oci:%s", path) < 0 ? error_nomem(e) : 0;
    if (r < 0)
        layout->base.name = NULL;
    if (r == 0)
        r = open_layout(layout, path, e);
    if (r < 0) {
        layout_close(&layout->base);
        return r;
    }
    *ret = &layout->base;
    return 0;
}
