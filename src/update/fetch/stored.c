/* SPDX-License-Identifier: Apache-2.0 */
#include "update/fetch/stored.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "store/copy/platform_choice.h"
#include "store/dir/blob.h"
#include "store/dir/ref.h"
#include "store/layout/index_json.h"

#define REF_NAME_BYTES 4096U
/* A name that moves while it is read, and gc close behind it: more often is no accident. */
#define MOVES_MAX 16

/* ---- blobs ---- */

int stored_has(struct larder_store *store, const struct larder_digest *digest, uint64_t size_bytes,
               struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    char hex[LARDER_DIGEST_TEXT_BYTES];
    struct stat st;
    int dirfd = -1;

    int r = store_blob_dir(store, digest->alg, &dirfd, &why);
    if (r == -LARDER_NOENT)
        return 0; /* a store that nothing was put into yet */
    if (r < 0) {
        if (e)
            *e = why;
        return r;
    }
    if (fstatat(dirfd, larder_digest_hex(digest, hex), &st, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno == ENOENT)
            return 0;
        return error_errno(e, errno, "blob %s", larder_digest_format(digest, hex));
    }
    return S_ISREG(st.st_mode) && (size_bytes == 0 || (uint64_t)st.st_size == size_bytes);
}

static int read_all(int fd, const struct stat *st, const struct larder_digest *digest,
                    struct buf *out, struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];

    if ((uint64_t)st->st_size > out->max_bytes - out->n)
        return error_set(e, LARDER_LIMIT, "blob %s: %llu bytes, at most %zu are read",
                         larder_digest_format(digest, text), (unsigned long long)st->st_size,
                         out->max_bytes - out->n);
    char *to = buf_reserve(out, (size_t)st->st_size);
    if (!to)
        return buf_failed(out, e);
    ssize_t n = fd_read_full(fd, to, (size_t)st->st_size);
    if (n < 0)
        return error_errno(e, errno, "blob %s", larder_digest_format(digest, text));
    out->n += (size_t)n;
    out->p[out->n] = '\0';
    return 0;
}

int stored_read_unchecked(struct larder_store *store, const struct larder_digest *digest,
                          struct buf *out, struct larder_error *e)
{
    CLEANUP_CLOSE int fd = -1;
    struct stat st;
    int r = blob_fd(store, digest, &fd, &st, e);
    return r < 0 ? r : read_all(fd, &st, digest, out, e);
}

int stored_read(struct larder_store *store, const struct larder_digest *digest, struct buf *out,
                struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    char other[LARDER_DIGEST_TEXT_BYTES];
    struct larder_digest found = {0};
    size_t before = out->n;

    int r = stored_read_unchecked(store, digest, out, e);
    if (r == 0)
        r = hash_of(digest->alg, out->p + before, out->n - before, &found, e);
    if (r == 0 && !larder_digest_equal(&found, digest))
        r = error_set(e, LARDER_CORRUPT, "blob %s: its bytes are %s",
                      larder_digest_format(digest, text), larder_digest_format(&found, other));
    return r;
}

/* ---- the store as platform_choose() wants it ---- */

struct reading {
    struct store base; /* first: a struct store is cast to it */
    struct larder_store *store;
};

static struct larder_store *handle_of(struct store *s)
{
    return ((struct reading *)(void *)s)->store;
}

static int get_manifest(struct store *s, const char *ref, const struct larder_digest *digest,
                        struct buf *out, struct store_descriptor *ret, struct larder_error *e)
{
    struct store_descriptor made = {.digest = *digest};
    size_t before = out->n;

    (void)ref; /* by digest only */
    int r = stored_read(handle_of(s), digest, out, e);
    if (r < 0)
        return r;
    made.size_bytes = out->n - before;
    *ret = made; /* its type is what it says itself */
    return 0;
}

static int get_extent(struct store *s, const struct store_descriptor *blob,
                      struct store_extent *ret, struct larder_error *e)
{
    CLEANUP_CLOSE int fd = -1;
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct stat st;
    int r = blob_fd(handle_of(s), &blob->digest, &fd, &st, e);
    /* Of an image that is here; NOENT would say that it is for another platform. */
    if (r == -LARDER_NOENT)
        return error_set(e, LARDER_CORRUPT, "%s: configuration %s is not in the store", s->name,
                         larder_digest_format(&blob->digest, text));
    if (r < 0)
        return r;
    *ret = (struct store_extent){TAKE_FD(fd), 0, (uint64_t)st.st_size};
    return 0;
}

static const struct store_ops reading_ops = {
    .transport = "store",
    .manifest_get = get_manifest,
    .blob_extent = get_extent,
};

/* ---- images ---- */

static int find_root(struct larder_store *store, const char *name, struct store_descriptor *ret,
                     struct larder_error *e)
{
    CLEANUP(json_freep) struct json *document = NULL;
    struct buf ref = BUF_INIT(REF_NAME_BYTES);

    buf_printf(&ref, REF_IMAGE_PREFIX "%s", name);
    int r = buf_failed(&ref, e);
    if (r == 0)
        r = ref_read(store, ref.p, &document, e);
    buf_done(&ref);
    if (r == -LARDER_NOENT)
        return error_set(e, LARDER_NOENT, "store:%s: no such image", name);
    if (r == 0 && index_json_entry(json_get(document, "descriptor"), "", ret, NULL) < 0)
        return error_set(e, LARDER_CORRUPT, "store:%s: its ref has no descriptor", name);
    return r;
}

/* What a ref or manifest of ours names is here, or the image is damaged. */
static int read_part(struct larder_store *store, const char *name, const char *what,
                     const struct larder_digest *digest, struct buf *out, struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct larder_error why = LARDER_ERROR_INIT;

    int r = stored_read(store, digest, out, &why);
    if (r == -LARDER_NOENT)
        return error_set(e, LARDER_CORRUPT, "store:%s: %s %s is not in the store", name, what,
                         larder_digest_format(digest, text));
    if (r < 0) {
        error_context(&why, "store:%s: %s", name, what);
        if (e)
            *e = why;
    }
    return r;
}

static int choose_member(struct larder_store *store, const char *name,
                         const struct oci_platform *platform, struct stored_image *made,
                         struct store_descriptor *root, struct larder_error *e)
{
    struct reading reading = {.base = {.ops = &reading_ops}, .store = store};
    struct buf label = BUF_INIT(REF_NAME_BYTES);

    buf_printf(&label, "store:%s", name);
    int r = buf_failed(&label, e);
    reading.base.name = label.p;
    if (r == 0)
        r = platform_choose(&reading.base, platform, 1, root, &made->manifest, e);
    buf_done(&label);
    return r < 0 ? r : 0;
}

static int read_config(struct larder_store *store, const char *name, struct stored_image *made,
                       struct larder_error *e)
{
    const struct oci_descriptor *config = &made->view.manifest->config;

    if (config->size_bytes > made->config.max_bytes && !media_type_is_config(config->media_type))
        return 0;
    int r = read_part(store, name, "configuration", &config->digest, &made->config, e);
    if (r == 0) {
        r = image_view_add_config(&made->view, buf_slice(&made->config), e);
        if (r < 0)
            error_context(e, "store:%s", name);
    }
    return r;
}

/* Of an image that is in no index, which would say it. */
static int check_platform(const char *name, const struct oci_platform *platform,
                          const struct image_view *view, struct larder_error *e)
{
    if ((!view->platform.os && !view->platform.architecture) ||
        !media_type_is_config(view->manifest->config.media_type) ||
        oci_platform_matches(&view->platform, platform))
        return 0;
    return error_set(e, LARDER_NOENT, "store:%s: the image is for another platform", name);
}

static int read_image(struct larder_store *store, const char *name,
                      const struct oci_platform *platform, struct stored_image *made,
                      struct larder_error *e)
{
    struct store_descriptor root = {0};

    int r = find_root(store, name, &root, e);
    if (r < 0)
        return r;
    made->root = root.digest;
    r = read_part(store, name, "manifest", &root.digest, &made->manifest, e);
    if (r < 0)
        return r;
    /* The choice would read an image, too; it is only asked where there is one. */
    bool is_image = media_type_is_manifest(root.media_type);
    if (!is_image)
        r = choose_member(store, name, platform, made, &root, e);
    if (r < 0)
        return r;
    made->digest = root.digest;
    r = image_view_read(buf_slice(&made->manifest), root.media_type, SLICE_LIT(""), &made->view, e);
    if (r < 0) {
        error_context(e, "store:%s", name);
        return r;
    }
    r = read_config(store, name, made, e);
    return r == 0 && is_image ? check_platform(name, platform, &made->view, e) : r;
}

/* Nothing is locked: what the name meant may be gone, when it means something else by now. */
static bool is_moved(struct larder_store *store, const char *name,
                     const struct larder_digest *before)
{
    struct store_descriptor now = {0};

    return find_root(store, name, &now, NULL) == -LARDER_NOENT ||
           (now.digest.alg != LARDER_DIGEST_NONE && !larder_digest_equal(&now.digest, before));
}

int stored_image_read(struct larder_store *store, const char *name,
                      const struct oci_platform *platform, struct stored_image *ret,
                      struct larder_error *e)
{
    struct stored_image made = STORED_IMAGE_INIT;
    struct larder_error why = LARDER_ERROR_INIT;

    int r = read_image(store, name, platform, &made, &why);
    for (unsigned i = 0; i < MOVES_MAX && r == -LARDER_CORRUPT; i++) {
        struct larder_digest before = made.root;
        if (!is_moved(store, name, &before))
            break;
        stored_image_done(&made);
        error_clear(&why);
        r = read_image(store, name, platform, &made, &why);
    }
    if (r < 0) {
        stored_image_done(&made);
        if (e)
            *e = why;
        return r;
    }
    *ret = made;
    return 0;
}

void stored_image_done(struct stored_image *image)
{
    buf_done(&image->manifest);
    buf_done(&image->config);
    image_view_done(&image->view);
    *image = STORED_IMAGE_INIT;
}
