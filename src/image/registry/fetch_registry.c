/* SPDX-License-Identifier: Apache-2.0 */
#include "image/registry/fetch_registry.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "archive/tar.h"
#include "archive/unpack.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "base/sparse.h"
#include "image/registry/registry_source.h"
#include "store/copy/blob_pull.h"

#define READ_BYTES (1024UL * 1024)
/* Where KubeVirt's importer looks: the one file in /disk. */
#define DISK_DIR "disk/"

/* The image being written: holes kept, hashed on the way. */
struct disk_writer {
    struct sparse_writer file;
    struct hash *hash;
    uint64_t max_bytes; /* what the disk has room for */
};

struct pull_progress {
    const struct larder_observer *observer;
    const char *object;
    uint64_t total_bytes;
};

/* ---- the blobs ---- */

static int on_progress(void *arg, uint64_t done_bytes, struct larder_error *e)
{
    const struct pull_progress *p = arg;
    const struct larder_observer *o = p->observer;
    if (o->progress) {
        struct larder_progress progress = {.what = "fetch",
                                           .object = p->object,
                                           .done_bytes = done_bytes,
                                           .total_bytes = p->total_bytes};
        o->progress(o->arg, &progress);
    }
    if (o->is_canceled && o->is_canceled(o->arg))
        return error_set(e, LARDER_CANCELED, "canceled");
    return 0;
}

/* Brings a blob into the store and opens it. */
static int pull_blob(struct fetch_run *run, struct store *registry, struct store *here,
                     const struct artifact_blob *blob, int *ret_fd, struct larder_error *e)
{
    const struct store_descriptor descriptor = {.digest = blob->digest,
                                                .size_bytes = blob->size_bytes};
    struct pull_progress progress = {store_observer(run->store), run->entry->name,
                                     blob->size_bytes};
    const struct blob_pull pull = {.from = registry,
                                   .to = here,
                                   .blob = &descriptor,
                                   .progress = on_progress,
                                   .arg = &progress};
    enum blob_how how;
    int r = fetch_check_space(run, blob->size_bytes, false, e);
    if (r == 0)
        r = blob_pull_run(&pull, &how, e);
    if (r == 0 && here->ops->flush)
        r = here->ops->flush(here, e);
    if (r == -LARDER_NOENT && e) {
        e->code = LARDER_GONE;
        r = -LARDER_GONE;
    }
    struct stat st;
    return r == 0 ? blob_fd(run->store, &blob->digest, ret_fd, &st, e) : r;
}

/* ---- making the image ---- */

static int disk_write(void *arg, const void *data, size_t n, struct larder_error *e)
{
    struct disk_writer *w = arg;
    if (n > w->max_bytes - w->file.offset)
        return error_set(e, LARDER_NOSPACE, "unpacks to more than the disk has room for");
    hash_update(w->hash, data, n);
    return sparse_write(&w->file, data, n, e);
}

/* Bytes offset..offset+n_bytes of fd, unpacked when they are compressed. */
static int copy_range(int fd, uint64_t offset, uint64_t n_bytes, enum unpack_format format,
                      unpack_sink *sink, void *arg, struct larder_error *e)
{
    CLEANUP(unpack_freep) struct unpack *u = NULL;
    CLEANUP_FREE char *data = malloc(READ_BYTES);
    if (!data)
        return error_nomem(e);
    int r = format == UNPACK_NONE ? 0 : unpack_new(format, UINT64_MAX, sink, arg, &u, e);
    for (uint64_t at = 0; r == 0 && at < n_bytes;) {
        size_t want = n_bytes - at < READ_BYTES ? (size_t)(n_bytes - at) : READ_BYTES;
        ssize_t n = fd_pread_full(fd, data, want, offset + at);
        if (n < 0)
            return error_errno(e, errno, "read");
        if ((size_t)n != want)
            return error_set(e, LARDER_CORRUPT, "ends too early");
        r = u ? unpack_push(u, data, want, e) : sink(arg, data, want, e);
        at += want;
    }
    return r == 0 && u ? unpack_finish(u, e) : r;
}

static enum unpack_format detect(int fd)
{
    char head[16];
    ssize_t n = fd_pread_full(fd, head, sizeof(head), 0);
    return n > 0 ? unpack_detect(head, (size_t)n) : UNPACK_NONE;
}

struct plain_sink {
    struct sparse_writer file;
    uint64_t max_bytes;
};
static int plain_write(void *arg, const void *data, size_t n, struct larder_error *e)
{
    struct plain_sink *sink = arg;
    if (n > sink->max_bytes - sink->file.offset)
        return error_set(e, LARDER_NOSPACE, "unpacks to more than the disk has room for");
    return sparse_write(&sink->file, data, n, e);
}

/* The layer as a tar: itself, or unpacked into a temporary. *ret_fd is borrowed. */
static int open_tar(struct fetch_run *run, int blob, struct temp_file *temp, int *ret_fd,
                    struct larder_error *e)
{
    enum unpack_format format = detect(blob);
    *ret_fd = blob;
    if (format == UNPACK_NONE)
        return 0;
    struct stat st;
    if (fstat(blob, &st) < 0)
        return error_errno(e, errno, "layer");
    int r = temp_open(run->store, temp, e);
    if (r < 0)
        return r;
    struct plain_sink sink = {{temp->fd, 0}, 0};
    r = disk_free(temp->fd, &sink.max_bytes, e);
    if (r == 0)
        r = copy_range(blob, 0, (uint64_t)st.st_size, format, plain_write, &sink, e);
    if (r == 0)
        r = sparse_finish(&sink.file, e);
    *ret_fd = temp->fd;
    return r;
}

static bool is_disk_member(const struct tar_member *member)
{
    const char *name = member->name;
    while (!strncmp(name, "./", 2) || *name == '/')
        name += *name == '/' ? 1 : 2;
    size_t n = strlen(DISK_DIR);
    return member->type == TAR_FILE && !strncmp(name, DISK_DIR, n) && name[n] &&
           !strchr(name + n, '/');
}

/* 1: the disk was in this layer. */
static int find_in_tar(int fd, struct disk_writer *w, struct larder_error *e)
{
    struct tar_reader reader;
    struct tar_member member = {0};
    int r = tar_reader_init(&reader, fd, e);
    if (r < 0)
        return r;
    while ((r = tar_next(&reader, &member, e)) == 1)
        if (is_disk_member(&member))
            break;
    if (r == 1) {
        r = copy_range(fd, member.offset, member.n_bytes, UNPACK_NONE, disk_write, w, e);
        r = r < 0 ? r : 1;
    }
    tar_reader_done(&reader);
    return r;
}

static int take_from_tars(struct fetch_run *run, struct store *registry, struct store *here,
                          const struct image_artifact *artifact, struct disk_writer *w,
                          struct larder_error *e)
{
    for (size_t i = 0; i < artifact->n_blobs; i++) {
        CLEANUP_CLOSE int blob = -1;
        struct temp_file temp = TEMP_FILE_INIT;
        int fd = -1;
        int r = pull_blob(run, registry, here, &artifact->blobs[i], &blob, e);
        if (r < 0)
            return r;
        r = open_tar(run, blob, &temp, &fd, e);
        if (r == 0)
            r = find_in_tar(fd, w, e);
        temp_drop(&temp);
        if (r < 0)
            return error_context(e, "%s: layer %zu of %zu", run->entry->source, i + 1,
                                 artifact->n_blobs);
        if (r > 0)
            return 0;
    }
    error_set(e, LARDER_NOENT, "%s: no file below /disk in its %zu layers", run->entry->source,
              artifact->n_blobs);
    error_hint(e, "it is a container image, not a containerDisk");
    return -LARDER_NOENT;
}

/* A piece unpacked, and checked when its publisher said what it unpacks to. */
struct piece_sink {
    struct disk_writer *disk;
    struct hash *hash;
    uint64_t n_bytes;
};
static int piece_write(void *arg, const void *data, size_t n, struct larder_error *e)
{
    struct piece_sink *piece = arg;
    hash_update(piece->hash, data, n);
    piece->n_bytes += n;
    return disk_write(piece->disk, data, n, e);
}

static int add_piece(int fd, const struct artifact_blob *blob, struct disk_writer *w,
                     struct larder_error *e)
{
    CLEANUP(hash_freep) struct hash *hash = NULL;
    enum larder_digest_alg alg = blob->unpacked_digest.alg;
    struct larder_digest got = {0};
    int r = hash_new(HASH_BIT(alg != LARDER_DIGEST_NONE ? alg : LARDER_DIGEST_SHA256), &hash, e);
    struct piece_sink sink = {w, hash, 0};
    if (r == 0)
        r = copy_range(fd, 0, blob->size_bytes, UNPACK_LZ4, piece_write, &sink, e);
    if (r < 0)
        return r;
    if (blob->unpacked_bytes > 0 && sink.n_bytes != blob->unpacked_bytes)
        return error_set(e, LARDER_MISMATCH, "unpacks to %llu bytes, %llu were announced",
                         (unsigned long long)sink.n_bytes,
                         (unsigned long long)blob->unpacked_bytes);
    if (alg == LARDER_DIGEST_NONE)
        return 0;
    r = hash_final(hash, alg, &got, e);
    if (r == 0 && !larder_digest_equal(&got, &blob->unpacked_digest))
        r = error_set(e, LARDER_MISMATCH, "unpacks to other bytes than were announced");
    return r;
}

static int join_pieces(struct fetch_run *run, struct store *registry, struct store *here,
                       const struct image_artifact *artifact, struct disk_writer *w,
                       struct larder_error *e)
{
    for (size_t i = 0; i < artifact->n_blobs; i++) {
        CLEANUP_CLOSE int blob = -1;
        int r = pull_blob(run, registry, here, &artifact->blobs[i], &blob, e);
        if (r == 0)
            r = add_piece(blob, &artifact->blobs[i], w, e);
        if (r < 0)
            return error_context(e, "%s: piece %zu of %zu", run->entry->source, i + 1,
                                 artifact->n_blobs);
    }
    return 0;
}

/* Compressed or not is told by the bytes: titles and media types of disks are anybody's. */
static int unpack_blob(struct fetch_run *run, int fd, const struct artifact_blob *blob,
                       enum unpack_format format, struct disk_writer *w, struct larder_error *e)
{
    store_note(run->store, "image %s: unpacking %s", run->entry->name, unpack_name(format));
    int r = copy_range(fd, 0, blob->size_bytes, format, disk_write, w, e);
    return r < 0 ? error_context(e, "%s", run->entry->source) : 0;
}

/* ---- the whole ---- */

static int begin_disk(struct fetch_run *run, struct disk_writer *w, struct larder_error *e)
{
    int r = temp_open(run->store, &run->unpacked, e);
    if (r == 0)
        r = disk_free(run->unpacked.fd, &w->max_bytes, e);
    if (r == 0)
        r = hash_new(HASH_BIT(LARDER_DIGEST_SHA256), &w->hash, e);
    w->file = (struct sparse_writer){run->unpacked.fd, 0};
    return r;
}

/* What fetch_publish() wants to know, as a transfer would have told it. */
static int end_disk(struct fetch_run *run, struct disk_writer *w,
                    const struct image_artifact *artifact, enum unpack_format format,
                    struct larder_error *e)
{
    int r = sparse_finish(&w->file, e);
    if (r < 0)
        return error_context(e, "image %s", run->entry->name);
    r = hash_final(w->hash, LARDER_DIGEST_SHA256,
                   &run->transfer.result_digests[LARDER_DIGEST_SHA256], e);
    if (artifact->packing != ARTIFACT_FILE)
        run->transform = artifact->packing == ARTIFACT_TAR ? "untar" : "unlz4";
    run->transfer.result_bytes = w->file.offset;
    run->transfer.unpacked = format;
    memcpy(run->transfer.source_digests, run->published->digests.by_alg,
           sizeof(run->transfer.source_digests));
    run->transfer.source_bytes = run->published->size_bytes;
    return r;
}

/* The blob is the image. */
static int take_blob(struct fetch_run *run, int *ret_gc_lock, struct larder_error *e)
{
    int r = fetch_take_existing(run, ret_gc_lock, e);
    if (r == 0)
        return error_set(e, LARDER_BUSY, "image %s: its bytes were removed as they came",
                         run->entry->name);
    return r < 0 ? r : 0;
}

static int make_image(struct fetch_run *run, struct store *registry, struct store *here,
                      const struct image_artifact *artifact, int *ret_gc_lock,
                      struct larder_error *e)
{
    struct disk_writer w = {0};
    CLEANUP_CLOSE int blob = -1;
    enum unpack_format format = UNPACK_NONE;
    int r = 0;
    if (artifact->packing == ARTIFACT_FILE) {
        r = pull_blob(run, registry, here, &artifact->blobs[0], &blob, e);
        if (r < 0)
            return r;
        format = detect(blob);
        const char *policy = run->entry->unpack ? run->entry->unpack : "auto";
        if (format == UNPACK_NONE && !strcmp(policy, "always"))
            return error_set(e, LARDER_CORRUPT, "source %s: is not compressed", run->entry->source);
        if (format == UNPACK_NONE || !strcmp(policy, "never"))
            return take_blob(run, ret_gc_lock, e);
    }
    r = begin_disk(run, &w, e);
    if (r == 0 && artifact->packing == ARTIFACT_FILE)
        r = unpack_blob(run, blob, &artifact->blobs[0], format, &w, e);
    else if (r == 0 && artifact->packing == ARTIFACT_TAR)
        r = take_from_tars(run, registry, here, artifact, &w, e);
    else if (r == 0)
        r = join_pieces(run, registry, here, artifact, &w, e);
    if (r == 0)
        r = end_disk(run, &w, artifact, format, e);
    hash_free(w.hash);
    return r == 0 ? fetch_publish(run, ret_gc_lock, e) : r;
}

int image_fetch_registry(struct fetch_run *run, int *ret_gc_lock, struct larder_error *e)
{
    struct image_published published = {0};
    struct image_artifact artifact = {0};
    struct store *registry = NULL;
    struct store *here = NULL;
    int r = registry_source_ask(run->store, run->entry, true, &published, &artifact, &registry, e);
    if (r < 0)
        return r;
    image_published_done(run->published);
    *run->published = published;
    store_note(run->store, "image %s: fetching %s", run->entry->name, run->entry->source);
    r = dir_store_open(run->store, STORE_OPEN_WRITE, &here, e);
    if (r == 0)
        r = make_image(run, registry, here, &artifact, ret_gc_lock, e);
    store_close(here);
    store_close(registry);
    image_artifact_done(&artifact);
    return r;
}
