/* SPDX-License-Identifier: Apache-2.0 */
/* An OCI archive as a store: opening, reading (archive_private.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "archive/tar.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "store/layout/archive_private.h"
#include "store/layout/referrers.h"

/* The list of members is kept in memory: some 100 bytes each. */
#define MEMBERS_MAX 1000000UL

/* ---- places ---- */

static struct place *slot_of(const struct places *places, const struct larder_digest *digest)
{
    size_t at = (size_t)digest_spread(digest);
    for (at &= places->n_slots - 1;; at = (at + 1) & (places->n_slots - 1)) {
        struct place *place = &places->slots[at];
        if (place->state == PLACE_NONE || larder_digest_equal(&place->digest, digest))
            return place;
    }
}

struct place *places_find(const struct places *places, const struct larder_digest *digest)
{
    struct place *place = places->n_slots ? slot_of(places, digest) : NULL;
    return place && place->state != PLACE_NONE ? place : NULL;
}

static int places_grow(struct places *places)
{
    struct places bigger = {NULL, places->n_slots ? places->n_slots * 2 : 64, places->count};
    bigger.slots = calloc(bigger.n_slots, sizeof(*bigger.slots));
    if (!bigger.slots)
        return -1;
    for (size_t i = 0; i < places->n_slots; i++) {
        if (places->slots[i].state != PLACE_NONE)
            *slot_of(&bigger, &places->slots[i].digest) = places->slots[i];
    }
    free(places->slots);
    *places = bigger;
    return 0;
}

struct place *places_add(struct places *places, const struct larder_digest *digest)
{
    if (places->count * 2 >= places->n_slots && places_grow(places) < 0)
        return NULL;
    struct place *place = slot_of(places, digest);
    if (place->state == PLACE_NONE) {
        place->digest = *digest;
        places->count++;
    }
    return place;
}

/* ---- the list of members ---- */

struct listing {
    struct archive *archive;
    bool has_mark;
    uint64_t index_offset, index_bytes;
    bool has_index;
    size_t n_members;
};

/* The name without "./" in front; false for one that leads out of where it is unpacked. */
static bool clean_name(const char *name, const char **ret)
{
    while (name[0] == '.' && name[1] == '/')
        name += 2;
    for (const char *p = name; *p; p += strcspn(p, "/"), p += *p == '/') {
        if (p[0] == '.' && p[1] == '.' && (p[2] == '/' || p[2] == '\0'))
            return false;
    }
    *ret = name;
    return name[0] != '/';
}

/* "blobs/<alg>/<hex>" */
static bool parse_blob_name(const char *name, struct larder_digest *ret)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    if (strncmp(name, "blobs/", 6) != 0 || strlen(name + 6) >= sizeof(text))
        return false;
    snprintf(text, sizeof(text), "%s", name + 6);
    char *slash = strchr(text, '/');
    if (!slash)
        return false;
    *slash = ':';
    return oci_digest_parse(slice_of(text), ret, NULL) == 0;
}

static int refuse(const struct archive *archive, const char *name, const char *what,
                  struct larder_error *e)
{
    return error_set(e, LARDER_UNSAFE, "%s: member %.200s: %s", archive->base.name, name, what);
}

static int list_blob(struct archive *archive, const struct tar_member *member, const char *name,
                     const struct larder_digest *digest, struct larder_error *e)
{
    struct place *place = places_add(&archive->places, digest);
    if (!place)
        return error_nomem(e);
    if (place->state != PLACE_NONE)
        return refuse(archive, name, "twice in the archive", e);
    place->state = PLACE_DONE;
    place->offset = member->offset;
    place->n_bytes = member->n_bytes;
    return 0;
}

static int list_member(struct listing *listing, const struct tar_member *member,
                       struct larder_error *e)
{
    struct archive *archive = listing->archive;
    struct larder_digest digest;
    const char *name;
    if (++listing->n_members > MEMBERS_MAX)
        return error_set(e, LARDER_LIMIT, "%s: more than %lu members", archive->base.name,
                         MEMBERS_MAX);
    /* Nothing is unpacked here; but what others would unpack outside of its place is no image. */
    if (!clean_name(member->name, &name))
        return refuse(archive, member->name, "leads out of the archive", e);
    bool is_index = strcmp(name, "index.json") == 0, is_mark = strcmp(name, "oci-layout") == 0;
    bool is_blob = parse_blob_name(name, &digest);
    if (member->type == TAR_DIRECTORY || (!is_index && !is_mark && !is_blob))
        return 0;
    if (member->type == TAR_SPARSE)
        return error_set(e, LARDER_UNSUPPORTED, "%s: member %.200s: sparse", archive->base.name,
                         name);
    if (member->type != TAR_FILE)
        return refuse(archive, name, "a link or device, expected a file", e);
    if (is_blob)
        return list_blob(archive, member, name, &digest, e);
    if (is_index ? listing->has_index : listing->has_mark)
        return refuse(archive, name, "twice in the archive", e);
    if (is_mark) {
        listing->has_mark = true;
    } else {
        listing->has_index = true;
        listing->index_offset = member->offset;
        listing->index_bytes = member->n_bytes;
    }
    return 0;
}

static int list_members(struct archive *archive, struct listing *listing, struct larder_error *e)
{
    struct tar_reader reader;
    struct tar_member member;
    int more = tar_reader_init(&reader, archive->fd, e);
    if (more < 0)
        return more;
    while ((more = tar_next(&reader, &member, e)) > 0) {
        more = list_member(listing, &member, e);
        if (more < 0)
            break;
    }
    if (more < 0 && !strstr(e ? e->msg : "", archive->base.name))
        error_context(e, "%s", archive->base.name);
    tar_reader_done(&reader);
    return more;
}

static int read_index(struct archive *archive, const struct listing *listing,
                      struct larder_error *e)
{
    struct buf text = BUF_INIT(INDEX_JSON_BYTES_MAX);
    size_t n = (size_t)listing->index_bytes;
    if (listing->index_bytes > INDEX_JSON_BYTES_MAX)
        return error_set(e, LARDER_LIMIT, "%s: index.json: %llu bytes, at most %lu are read",
                         archive->base.name, (unsigned long long)listing->index_bytes,
                         INDEX_JSON_BYTES_MAX);
    char *to = n > 0 ? buf_reserve(&text, n) : NULL;
    int r = n > 0 && !to ? buf_failed(&text, e) : 0;
    if (r == 0 && to && fd_pread_full(archive->fd, to, n, listing->index_offset) != (ssize_t)n)
        r = error_set(e, LARDER_IO, "%s: index.json: cut off", archive->base.name);
    if (r == 0) {
        text.n = n;
        r = index_json_parse(buf_slice(&text), archive->base.name, &archive->index, e);
    }
    buf_done(&text);
    return r;
}

/* ---- opening for reading ---- */

static int check_compression(const struct archive *archive, struct larder_error *e)
{
    static const struct {
        const char magic[7];
        size_t n;
        const char *program;
    } known[] = {
        {"\x1f\x8b", 2, "gzip"},
        {"\x28\xb5\x2f\xfd", 4, "zstd"},
        {"\xfd\x37zXZ", 6, "xz"},
        {"BZh", 3, "bzip2"},
    };
    char head[8] = "";
    ssize_t n = fd_pread_full(archive->fd, head, sizeof(head) - 1, 0);
    for (size_t i = 0; n > 0 && i < ARRAY_LEN(known); i++) {
        if ((size_t)n < known[i].n || memcmp(head, known[i].magic, known[i].n) != 0)
            continue;
        error_set(e, LARDER_UNSUPPORTED,
                  "%s: compressed (%s), expected a plain tar file: blobs are read in place",
                  archive->base.name, known[i].program);
        return error_hint(e, "unpack it once: %s -d FILE", known[i].program);
    }
    return 0;
}

static int open_for_reading(struct archive *archive, const char *path, struct larder_error *e)
{
    struct listing listing = {.archive = archive};
    struct stat st;
    archive->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (archive->fd < 0 || fstat(archive->fd, &st) < 0)
        return error_errno(e, errno, "%s", archive->base.name);
    if (!S_ISREG(st.st_mode))
        return error_set(e, LARDER_INVAL, "%s: not a regular file%s", archive->base.name,
                         S_ISDIR(st.st_mode) ? ", but a directory (oci: reads those)" : "");
    int r = check_compression(archive, e);
    if (r == 0)
        r = list_members(archive, &listing, e);
    if (r == 0 && !listing.has_index)
        return error_set(e, LARDER_INVAL, "%s: no OCI archive: no index.json in it",
                         archive->base.name);
    return r < 0 ? r : read_index(archive, &listing, e);
}

/* ---- reading ---- */

/* *ret is a copy of the place, and *ret_fd a descriptor of the file it is in (NULL: not asked
 * for). False when nothing whole is there. */
static bool find_place(struct archive *archive, const struct larder_digest *digest,
                       struct place *ret, int *ret_fd)
{
    pthread_mutex_lock(&archive->mutex);
    const struct place *place = places_find(&archive->places, digest);
    bool is_there = place && place->state == PLACE_DONE;
    if (is_there)
        *ret = *place;
    if (is_there && ret_fd)
        *ret_fd = fcntl(archive->fd, F_DUPFD_CLOEXEC, 0);
    pthread_mutex_unlock(&archive->mutex);
    return is_there;
}

static int not_there(struct archive *archive, const struct larder_digest *digest,
                     struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    return error_set(e, LARDER_NOENT, "%s: blob %s: not in the archive", archive->base.name,
                     larder_digest_format(digest, text));
}

static int archive_blob_has(struct store *s, const struct store_descriptor *blob,
                            struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct place place;
    if (!find_place(archive_of(s), &blob->digest, &place, NULL))
        return 0;
    if (place.n_bytes != blob->size_bytes)
        return error_set(e, LARDER_CORRUPT, "%s: blob %s: %llu bytes, expected %llu", s->name,
                         larder_digest_format(&blob->digest, text),
                         (unsigned long long)place.n_bytes, (unsigned long long)blob->size_bytes);
    return 1;
}

static int archive_blob_extent(struct store *s, const struct store_descriptor *blob,
                               struct store_extent *ret, struct larder_error *e)
{
    struct archive *archive = archive_of(s);
    struct place place;
    int r = archive_blob_has(s, blob, e);
    if (r <= 0)
        return r < 0 ? r : not_there(archive, &blob->digest, e);
    int fd = -1;
    if (!find_place(archive, &blob->digest, &place, &fd))
        return not_there(archive, &blob->digest, e);
    if (fd < 0)
        return error_errno(e, errno, "%s", s->name);
    *ret = (struct store_extent){fd, place.offset, place.n_bytes};
    return 0;
}

static int read_manifest(void *arg, const struct store_descriptor *manifest, struct buf *out,
                         struct larder_error *e)
{
    struct archive *archive = arg;
    CLEANUP_CLOSE int fd = -1;
    struct place place;
    if (!find_place(archive, &manifest->digest, &place, &fd))
        return not_there(archive, &manifest->digest, e);
    if (fd < 0)
        return error_errno(e, errno, "%s", archive->base.name);
    return manifest_read_extent(archive->base.name, manifest,
                                &(struct store_extent){fd, place.offset, place.n_bytes}, out, e);
}

/* Until something is put, a target that will be replaced is what it is now. */
static struct store *current(struct store *s)
{
    struct archive *archive = archive_of(s);
    return archive->old && !archive->is_changed && !archive->is_published ? archive->old : s;
}

/* The document as it is now: an edit makes a new one. */
static struct json *index_of(struct archive *archive)
{
    pthread_mutex_lock(&archive->mutex);
    struct json *index = json_share(archive->index);
    pthread_mutex_unlock(&archive->mutex);
    return index;
}

static int archive_resolve(struct store *s, const char *ref, struct store_descriptor *ret,
                           struct larder_error *e)
{
    struct archive *archive = archive_of(current(s));
    const struct index_json_reader reader = {read_manifest, archive};
    CLEANUP(json_freep) struct json *index = index_of(archive);
    return index_json_resolve(index, s->name, ref, &reader, ret, e);
}

static int archive_each_ref(struct store *s, int (*fn)(void *arg, const char *ref), void *arg,
                            struct larder_error *e)
{
    CLEANUP(json_freep) struct json *index = index_of(archive_of(current(s)));
    (void)e;
    return index_json_each_ref(index, fn, arg);
}

static int archive_manifest_get(struct store *s, const char *ref,
                                const struct larder_digest *digest, struct buf *out,
                                struct store_descriptor *ret, struct larder_error *e)
{
    struct store_descriptor manifest = {0};
    if (digest)
        manifest.digest = *digest;
    int r = digest ? 0 : archive_resolve(s, ref, &manifest, e);
    size_t before = out->n;
    if (r == 0)
        r = read_manifest(archive_of(current(s)), &manifest, out, e);
    if (r < 0)
        return r;
    struct slice bytes = {out->p + before, out->n - before};
    manifest.size_bytes = bytes.n;
    if (!manifest.media_type[0])
        r = manifest_media_type(bytes, manifest.media_type, e);
    if (r == 0)
        *ret = manifest;
    return r;
}

static int archive_referrers(struct store *s, const struct larder_digest *subject,
                             const char *artifact_type, struct buf *out, struct larder_error *e)
{
    struct archive *archive = archive_of(current(s));
    const struct index_json_reader reader = {read_manifest, archive};
    CLEANUP(json_freep) struct json *index = index_of(archive);
    return index_json_referrers(index, &reader, subject, artifact_type, out, e);
}

static int only_whole(struct store *s, struct larder_error *e)
{
    return error_set(e, LARDER_UNSUPPORTED, "%s: nothing is removed from an archive", s->name);
}

static int archive_remove_ref(struct store *s, const char *ref, struct larder_error *e)
{
    (void)ref;
    return only_whole(s, e);
}

static int archive_remove(struct store *s, const struct larder_digest *digest,
                          struct larder_error *e)
{
    (void)digest;
    return only_whole(s, e);
}

static void archive_close(struct store *s)
{
    struct archive *archive = archive_of(s);
    archive_write_close(archive);
    fd_closep(&archive->fd);
    json_free(archive->index);
    free(archive->places.slots);
    pthread_mutex_destroy(&archive->mutex);
    free(s->name);
    free(archive);
}

static const struct store_ops archive_ops = {
    .transport = "oci-archive",
    .resolve = archive_resolve,
    .each_ref = archive_each_ref,
    .remove_ref = archive_remove_ref,
    .manifest_get = archive_manifest_get,
    .manifest_has = archive_blob_has,
    .manifest_put = archive_manifest_put,
    .manifest_remove = archive_remove,
    .referrers = archive_referrers,
    .blob_has = archive_blob_has,
    .blob_extent = archive_blob_extent,
    .blob_begin = archive_blob_begin,
    .blob_commit = archive_blob_commit,
    .blob_abort = archive_blob_abort,
    .blob_remove = archive_remove,
    .flush = archive_flush,
    .close = archive_close,
};

int archive_open(const char *path, unsigned flags, const struct larder_observer *observer,
                 struct store **ret, struct larder_error *e)
{
    static const struct larder_observer silent = {0};
    struct archive *archive = calloc(1, sizeof(*archive));
    struct larder_error why = LARDER_ERROR_INIT;
    if (!archive)
        return error_nomem(e);
    archive->base.ops = &archive_ops;
    archive->base.observer = observer ? observer : &silent;
    archive->is_writable = flags & STORE_OPEN_WRITE;
    archive->fd = archive->dirfd = -1;
    pthread_mutex_init(&archive->mutex, NULL);
    int r = asprintf(&archive->base.name, "oci-archive:%s", path) < 0 ? error_nomem(&why) : 0;
    if (r < 0)
        archive->base.name = NULL;
    if (r == 0)
        r = archive->is_writable ? archive_write_open(archive, path, &why)
                                 : open_for_reading(archive, path, &why);
    if (r < 0) {
        archive_close(&archive->base);
        if (e)
            *e = why;
        return r;
    }
    *ret = &archive->base;
    return 0;
}
