/* SPDX-License-Identifier: Apache-2.0 */
#include "image/directory/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "base/hash_many.h"
#include "base/mem.h"
#include "base/process.h"
#include "image/checksum/checksum_file.h"
#include "image/checksum/checksum_name.h"
#include "image/format/probe.h"
#include "store/dir/memo.h"

/* A directory of images, not of a million files. */
#define DIRECTORY_FILES_MAX 100000

struct listing {
    char **names;
    size_t count, cap;
    struct larder_error *e;
};

static void listing_done(struct listing *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->names[i]);
    free(list->names);
}

static int listing_add(struct listing *list, const char *name)
{
    if (list->count == DIRECTORY_FILES_MAX)
        return error_set(list->e, LARDER_LIMIT, "directory: more than %d files",
                         DIRECTORY_FILES_MAX);
    if (list->count == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        char **grown = reallocarray(list->names, cap, sizeof(*grown));
        if (!grown)
            return error_nomem(list->e);
        list->names = grown;
        list->cap = cap;
    }
    list->names[list->count] = strdup(name);
    if (!list->names[list->count])
        return error_nomem(list->e);
    list->count++;
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* ---- which file is what ---- */

/*
 * "<image>.digest" is a stamp some tools leave with the digest of what the image was made from, not
 * of the image: judging by it would condemn good files.
 */
static bool is_sums(const char *name)
{
    struct slice s = slice_of(name);
    if (slice_ends(s, SLICE_LIT(".digest")))
        return false;
    return checksum_name_is_sidecar(s, NULL) || checksum_name_is_list(s);
}

static bool is_beside_the_point(const char *name)
{
    static const char *const suffixes[] = {".asc",  ".gpg",  ".sig", ".sign", ".minisig", ".digest",
                                           ".part", ".json", ".txt", ".md",   ".log"};
    struct slice s = slice_of(name);
    if (name[0] == '.')
        return true;
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
        if (slice_ends(s, slice_of(suffixes[i])))
            return true;
    return false;
}

static int collect(void *arg, const char *name, unsigned char d_type)
{
    (void)d_type; /* fstatat decides: some file systems do not say */
    return listing_add(arg, name);
}

/* ---- what is published ---- */

struct sums_file {
    const char *name;
    struct checksum_file *file;
    struct larder_error error; /* why it cannot be used */
};

/* Lower is asked first: the sidecar of this image, then lists; sha256 before others. */
static int rank(const char *sums_name, const char *image_name)
{
    struct slice s = slice_of(sums_name);
    bool is_own = checksum_name_covers(s, slice_of(image_name));
    enum larder_digest_alg alg = checksum_name_alg(s);
    int r = is_own ? 0 : 10;
    if (checksum_name_is_sidecar(s, NULL) && !is_own)
        r = 20; /* another image's sidecar may still list this one by name */
    if (alg == LARDER_DIGEST_SHA256)
        return r;
    return r + (alg == LARDER_DIGEST_MD5 || alg == LARDER_DIGEST_SHA1 ? 2 : 1);
}

static int set_reason(struct directory_image *image, const char *text, struct larder_error *e)
{
    char *made = strdup(text);
    if (!made)
        return error_nomem(e);
    free(image->reason);
    image->reason = made;
    return 0;
}

/* Finds the best checksum file for one image; a contradiction in it is the reason for UNKNOWN. */
static int find_published(const struct directory *dir, const struct sums_file *sums, size_t count,
                          struct directory_image *image, struct larder_error *e)
{
    int best_rank = INT32_MAX;
    for (size_t i = 0; i < count; i++) {
        struct checksum_match match;
        struct larder_error why = LARDER_ERROR_INIT;
        int this_rank = rank(sums[i].name, image->name);
        if (this_rank >= best_rank)
            continue;
        if (!sums[i].file) {
            if (this_rank < 10) { /* its own sidecar is unreadable: do not guess by another */
                best_rank = this_rank;
                image->wanted = NULL;
                free(image->caution);
                image->caution = NULL;
                if (set_reason(image, sums[i].error.msg, e) < 0)
                    return -LARDER_NOMEM;
            }
            continue;
        }
        int r = checksum_file_lookup(sums[i].file, image->name, 0, &match, &why);
        if (r == -LARDER_NOENT)
            continue;
        best_rank = this_rank;
        memset(&image->published, 0, sizeof(image->published));
        image->wanted = NULL;
        free(image->sidecar);
        if (asprintf(&image->sidecar, "%s/%s", dir->path, sums[i].name) < 0) {
            image->sidecar = NULL;
            return error_nomem(e);
        }
        if (set_reason(image, r < 0 ? why.msg : "", e) < 0)
            return -LARDER_NOMEM;
        for (size_t k = 0; r == 0 && k < match.n_digests; k++)
            image->published.by_alg[match.digests[k].alg] = match.digests[k];
        free(image->caution);
        image->caution = r == 0 ? checksum_match_caution(&match) : NULL;
        if (r == 0)
            image->wanted = digest_set_strongest(&image->published);
    }
    if (best_rank == INT32_MAX)
        return set_reason(image, "no checksum file lists it", e);
    return 0;
}

static int load_sums(const struct directory *dir, const struct listing *list,
                     struct sums_file **ret, size_t *ret_count, struct larder_error *e)
{
    struct sums_file *sums = calloc(list->count + 1, sizeof(*sums));
    size_t count = 0;
    if (!sums)
        return error_nomem(e);
    for (size_t i = 0; i < list->count; i++) {
        struct buf text = BUF_INIT(CHECKSUM_FILE_BYTES_MAX);
        struct sums_file *one = &sums[count];
        struct stat st;
        if (!is_sums(list->names[i]) ||
            fstatat(dir->fd, list->names[i], &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
            continue;
        one->name = list->names[i];
        count++;
        if (file_read(dir->fd, one->name, &text, &one->error) == 0)
            (void)(checksum_file_parse(buf_slice(&text), one->name, &one->file, &one->error) < 0);
        buf_done(&text);
    }
    *ret = sums;
    *ret_count = count;
    return 0;
}

/* Files that no checksum file lists are shown only when they look like an image. */
static bool looks_like_image(const struct directory *dir, const char *name, const struct stat *st)
{
    struct image_probe probe = {0};
    CLEANUP_CLOSE int fd = openat(dir->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return true; /* cannot be told: show it */
    return image_probe_fd(fd, (uint64_t)st->st_size, NULL, true, name, &probe, NULL) == 0;
}

static int add_images(struct directory *dir, const struct listing *list,
                      const struct sums_file *sums, size_t sums_count, struct larder_error *e)
{
    dir->images = calloc(list->count + 1, sizeof(*dir->images));
    if (!dir->images)
        return error_nomem(e);
    for (size_t i = 0; i < list->count; i++) {
        struct directory_image *image = &dir->images[dir->count];
        const char *name = list->names[i];
        if (is_sums(name) || name[0] == '.' ||
            fstatat(dir->fd, name, &image->st, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISREG(image->st.st_mode))
            continue;
        image->name = strdup(name);
        dir->count++;
        if (!image->name || asprintf(&image->path, "%s/%s", dir->path, name) < 0)
            return error_nomem(e);
        int r = find_published(dir, sums, sums_count, image, e);
        if (r < 0)
            return r;
        if (!image->sidecar &&
            (is_beside_the_point(name) || !looks_like_image(dir, name, &image->st))) {
            free(image->name);
            free(image->path);
            free(image->reason);
            memset(image, 0, sizeof(*image));
            dir->count--;
        }
    }
    return 0;
}

void directory_done(struct directory *dir)
{
    for (size_t i = 0; dir->images && i < dir->count; i++) {
        free(dir->images[i].name);
        free(dir->images[i].path);
        free(dir->images[i].sidecar);
        free(dir->images[i].caution);
        free(dir->images[i].reason);
    }
    free(dir->images);
    free(dir->path);
    if (dir->fd >= 0)
        close(dir->fd);
    *dir = (struct directory){.fd = -1};
}

int directory_open(const char *path, struct directory *ret, struct larder_error *e)
{
    struct directory dir = {.fd = -1};
    struct listing list = {.e = e};
    struct sums_file *sums = NULL;
    size_t sums_count = 0;
    int r = path_absolute(path, &dir.path, e);
    if (r == 0) {
        dir.fd = open(dir.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir.fd < 0)
            r = error_errno(e, errno, "directory %s", dir.path);
    }
    if (r == 0)
        r = dir_each(dir.fd, collect, &list, e);
    if (r == 0 && list.count > 0)
        qsort(list.names, list.count, sizeof(*list.names), compare_names);
    if (r == 0)
        r = load_sums(&dir, &list, &sums, &sums_count, e);
    if (r == 0)
        r = add_images(&dir, &list, sums, sums_count, e);
    for (size_t i = 0; i < sums_count; i++)
        checksum_file_free(sums[i].file);
    free(sums);
    listing_done(&list);
    if (r < 0) {
        directory_done(&dir);
        return r;
    }
    *ret = dir;
    return 0;
}

/* ---- judging ---- */

struct judge_job {
    struct larder_store *store;
    struct directory *dir;
    struct directory_image *image;
    int64_t began_ns;
    bool is_stable;
};

static int open_image(struct hash_job *job, struct larder_error *e)
{
    struct judge_job *judge = job->arg;
    judge->began_ns = clock_realtime_ns();
    job->fd =
        openat(judge->dir->fd, judge->image->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (job->fd < 0)
        return error_errno(e, errno, "%s", judge->image->path);
    if (fstat(job->fd, &judge->image->st) < 0 || !S_ISREG(judge->image->st.st_mode))
        return error_set(e, LARDER_INVAL, "%s: no regular file any more", judge->image->path);
    return 0;
}

/* The memo is only as good as the file stood still while it was read. */
static void close_image(struct hash_job *job)
{
    struct judge_job *judge = job->arg;
    struct directory_image *image = judge->image;
    struct fingerprint before, after;
    struct stat st;
    if (job->fd < 0)
        return;
    if (job->result == 0 && fstat(job->fd, &st) == 0) {
        fingerprint_of(&image->st, &before);
        fingerprint_of(&st, &after);
        judge->is_stable = before.size_bytes == after.size_bytes &&
                           before.mtime_ns == after.mtime_ns && before.ctime_ns == after.ctime_ns &&
                           before.size_bytes == job->size_bytes;
    }
    close(job->fd);
    job->fd = -1;
}

static void remember(struct judge_job *judge)
{
    struct memo memo = {.added_ns = judge->began_ns, .verified_ns = judge->began_ns};
    if (store_is_read_only(judge->store) ||
        !fingerprint_is_settled(&judge->image->st, judge->began_ns))
        return;
    fingerprint_of(&judge->image->st, &memo.fingerprint);
    snprintf(memo.boot_id, sizeof(memo.boot_id), "%s", process_boot_id());
    /* A memo that cannot be written costs the next run a hash. */
    (void)(memo_write_path(judge->store, judge->image->path, &memo, &judge->image->actual, NULL) <
           0);
}

static bool judged_by_memo(struct larder_store *store, struct directory_image *image)
{
    struct memo memo;
    struct larder_digest digest;
    if (memo_read_path(store, image->path, &memo, &digest, NULL) < 0 ||
        digest.alg != image->wanted->alg || fingerprint_compare(&memo, &image->st) != MEMO_MATCH)
        return false;
    image->actual = digest;
    return true;
}

static int conclude(struct directory_image *image, struct larder_error *e)
{
    char have[LARDER_DIGEST_TEXT_BYTES], want[LARDER_DIGEST_TEXT_BYTES];
    CLEANUP_FREE char *text = NULL;
    if (image->actual.alg == LARDER_DIGEST_NONE)
        return 0;
    if (larder_digest_equal(&image->actual, image->wanted)) {
        image->verdict = LARDER_VERDICT_VALID;
        return set_reason(image, "", e);
    }
    image->verdict = LARDER_VERDICT_CORRUPT;
    if (asprintf(&text, "bytes hash to %s, %s says %s", larder_digest_format(&image->actual, have),
                 image->sidecar, larder_digest_format(image->wanted, want)) < 0) {
        text = NULL;
        return error_nomem(e);
    }
    return set_reason(image, text, e);
}

int directory_judge(struct larder_store *store, struct directory *dir, bool deep,
                    struct larder_error *e)
{
    CLEANUP_FREE struct hash_job *jobs = calloc(dir->count + 1, sizeof(*jobs));
    CLEANUP_FREE struct judge_job *judges = calloc(dir->count + 1, sizeof(*judges));
    struct hash_many_options options = {.observer = store_observer(store), .what = "verify"};
    size_t count = 0;
    if (!jobs || !judges)
        return error_nomem(e);
    for (size_t i = 0; i < dir->count; i++) {
        struct directory_image *image = &dir->images[i];
        if (!image->wanted || (!deep && judged_by_memo(store, image)))
            continue;
        judges[count] = (struct judge_job){.store = store, .dir = dir, .image = image};
        jobs[count] = (struct hash_job){.fd = -1,
                                        .open = open_image,
                                        .close = close_image,
                                        .alg_bits = HASH_BIT(image->wanted->alg),
                                        .object = image->path,
                                        .expected_bytes = (uint64_t)image->st.st_size,
                                        .arg = &judges[count]};
        count++;
    }
    int r = hash_many(jobs, count, &options, e);
    for (size_t i = 0; r == 0 && i < count; i++) {
        struct directory_image *image = judges[i].image;
        if (jobs[i].result < 0) {
            r = set_reason(image, jobs[i].error.msg, e);
        } else if (!judges[i].is_stable) {
            r = set_reason(image, "it changed while it was read", e);
        } else {
            image->actual = jobs[i].digests[image->wanted->alg];
            remember(&judges[i]);
        }
    }
    for (size_t i = 0; r == 0 && i < dir->count; i++)
        if (dir->images[i].wanted)
            r = conclude(&dir->images[i], e);
    return r;
}
