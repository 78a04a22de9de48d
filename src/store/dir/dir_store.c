/* SPDX-License-Identifier: Apache-2.0 */
/*
 * larder's own store by the interface of all stores (store/store.h).
 *
 *   manifests and blobs          blobs of the store
 *   refs/oci/<name>              a plain ref to a manifest; gc keeps all below it (roots.h)
 *   refs/referrer/<subject>/<digest>  a manifest with that subject: kept while the subject is
 *
 * A struct larder_store serves one thread: lanes share a handle of our own under a mutex, and write
 * bytes without it. Small blobs wait, written, until there are enough to publish them together
 * (dir_store_blob.c).
 *
 * Nothing but its last use protects a blob from gc until a ref is there. So what this handle
 * promised (found or published) is looked at once more, with locks/gc held, before a ref is made.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fdio.h"
#include "store/dir/dir_store.h"
#include "store/dir/ref.h"
#include "store/layout/referrers.h"

/* ---- refs ---- */

static int ref_name(const char *ref, struct buf *out, struct larder_error *e)
{
    if (!ref || !*ref)
        return error_set(e, LARDER_INVAL, "store: expected a name behind it");
    buf_printf(out, "%s%s", REF_IMAGE_PREFIX, ref);
    return buf_failed(out, e);
}

static bool read_descriptor(const struct json *document, struct store_descriptor *ret)
{
    return index_json_entry(json_get(document, "descriptor"), "", ret, NULL) == 0;
}

static int dir_resolve(struct store *s, const char *ref, struct store_descriptor *ret,
                       struct larder_error *e)
{
    struct buf name = BUF_INIT(4096);
    CLEANUP(json_freep) struct json *document = NULL;
    int r = ref_name(ref, &name, e);
    if (r == 0) {
        struct dir_store *d = lock_dir(s);
        r = unlock_dir(d, ref_read(d->store, name.p, &document, e));
    }
    buf_done(&name);
    if (r == -LARDER_NOENT)
        return error_set(e, LARDER_NOENT, "store:%s: no such image", ref);
    if (r == 0 && !read_descriptor(document, ret))
        return error_set(e, LARDER_CORRUPT, "%s: ref %s%s has no descriptor", s->name,
                         REF_IMAGE_PREFIX, ref);
    return r;
}

struct naming {
    int (*fn)(void *arg, const char *ref);
    void *arg;
};

static int name_one(void *arg, const char *name)
{
    const struct naming *naming = arg;
    return naming->fn(naming->arg, name + strlen(REF_IMAGE_PREFIX));
}

static int dir_each_ref(struct store *s, int (*fn)(void *arg, const char *ref), void *arg,
                        struct larder_error *e)
{
    struct naming naming = {fn, arg};
    struct dir_store *d = lock_dir(s);
    return unlock_dir(d, ref_each(d->store, REF_IMAGE_PREFIX, name_one, &naming, e));
}

static int dir_remove_ref(struct store *s, const char *ref, struct larder_error *e)
{
    struct buf name = BUF_INIT(4096);
    int r = ref_name(ref, &name, e);
    if (r == 0) {
        struct dir_store *d = lock_dir(s);
        r = unlock_dir(d, ref_remove(d->store, name.p, e));
    }
    buf_done(&name);
    return r;
}

/* ---- manifests ---- */

static int read_manifest(void *arg, const struct store_descriptor *manifest, struct buf *out,
                         struct larder_error *e)
{
    struct store *s = arg;
    struct dir_store *d = dir_of(s);
    CLEANUP_CLOSE int fd = -1;
    struct stat st;
    int r = dir_blob_open(s, &manifest->digest, &fd, &st, e);
    if (r < 0)
        return r;
    r = manifest_read_extent(s->name, manifest, &(struct store_extent){fd, 0, (uint64_t)st.st_size},
                             out, e);
    if (r == -LARDER_CORRUPT && d->is_writable) {
        lock_dir(s); /* to quarantine, if it is the bytes and not the descriptor */
        (void)!larder_blob_verify(d->store, &manifest->digest, LARDER_VERIFY_DEEP, NULL);
        unlock_dir(d, 0);
    }
    return r;
}

static int dir_manifest_get(struct store *s, const char *ref, const struct larder_digest *digest,
                            struct buf *out, struct store_descriptor *ret, struct larder_error *e)
{
    struct store_descriptor manifest = {0};
    if (digest)
        manifest.digest = *digest;
    int r = digest ? 0 : dir_resolve(s, ref, &manifest, e);
    size_t before = out->n;
    if (r == 0)
        r = read_manifest(s, &manifest, out, e);
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

/* With locks/gc held: everything promised is there still. */
static int check_promises(struct dir_store *d, struct larder_error *e)
{
    digest_set_sort(&d->promised);
    for (size_t i = 0; i < d->promised.count; i++) {
        const struct larder_digest *digest = &d->promised.digests[i];
        char hex[LARDER_DIGEST_TEXT_BYTES];
        struct stat st;
        int dirfd = -1;
        int r = store_blob_dir(d->store, digest->alg, &dirfd, e);
        if (r < 0)
            return r;
        if (fstatat(dirfd, larder_digest_hex(digest, hex), &st, AT_SYMLINK_NOFOLLOW) == 0)
            continue;
        error_set(e, LARDER_BUSY, "%s: blob %s: removed by somebody before the ref was made",
                  d->base.name, larder_digest_format(digest, hex));
        error_hint(e, "run it again");
        return -LARDER_BUSY;
    }
    return 0;
}

void dir_store_expect(struct store *s, const struct larder_digest *expected)
{
    struct dir_store *d = lock_dir(s);
    d->expected = expected;
    unlock_dir(d, 0);
}

/* With locks/gc held exclusively: whoever sets a ref holds it, so nobody does meanwhile. */
static int check_expected(struct dir_store *d, const char *ref, const struct larder_digest *wanted,
                          struct larder_error *e)
{
    CLEANUP(json_freep) struct json *document = NULL;
    struct store_descriptor now = {.size_bytes = 0};
    struct larder_error why = LARDER_ERROR_INIT;
    char text[LARDER_DIGEST_TEXT_BYTES] = "nothing";
    int r = ref_read(d->store, ref, &document, &why);
    if (r < 0 && r != -LARDER_NOENT)
        return error_set(e, why.code, "%s", why.msg);
    if (r == 0 && !read_descriptor(document, &now))
        return 0;
    bool is_none = now.digest.alg == LARDER_DIGEST_NONE;
    if ((is_none && d->expected->alg == LARDER_DIGEST_NONE) ||
        larder_digest_equal(&now.digest, d->expected) || larder_digest_equal(&now.digest, wanted))
        return 0;
    if (!is_none)
        larder_digest_format(&now.digest, text);
    return error_set(e, LARDER_BUSY, "store:%s: was moved by somebody, and points to %s now",
                     ref + strlen(REF_IMAGE_PREFIX), text);
}

static int set_refs(struct dir_store *d, const struct store_descriptor *manifest,
                    const char *const *refs, size_t n_refs, struct larder_error *e)
{
    CLEANUP_CLOSE int lock = -1;
    int r = store_lock(d->store, "gc", d->expected != NULL, true, &lock, e);
    if (r == 0)
        r = check_promises(d, e);
    for (size_t i = 0; r == 0 && i < n_refs; i++) {
        struct buf name = BUF_INIT(4096);
        r = ref_name(refs[i], &name, e);
        if (r == 0 && d->expected)
            r = check_expected(d, name.p, &manifest->digest, e);
        if (r == 0)
            r = ref_point(d->store, name.p, &manifest->digest, manifest->media_type, e);
        buf_done(&name);
    }
    if (r == 0 && n_refs > 0)
        d->promised.count = 0;
    return r;
}

/* "referrer/sha256-<subject>/sha256-<digest>"; digest NULL: the part before it. */
static void referrer_name(const struct larder_digest *subject, const struct larder_digest *digest,
                          struct buf *out)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    buf_printf(out, ROOTS_REFERRER_PREFIX "%s-%s/", larder_digest_alg_name(subject->alg),
               larder_digest_hex(subject, hex));
    if (digest)
        buf_printf(out, "%s-%s", larder_digest_alg_name(digest->alg),
                   larder_digest_hex(digest, hex));
}

static int set_referrer(struct dir_store *d, const struct store_descriptor *manifest,
                        const struct larder_digest *subject, struct larder_error *e)
{
    struct buf name = BUF_INIT(4096);
    referrer_name(subject, &manifest->digest, &name);
    int r = buf_failed(&name, e);
    if (r == 0)
        r = larder_ref_set(d->store, name.p, &manifest->digest, manifest->media_type, e);
    buf_done(&name);
    return r;
}

static int put_bytes(struct store *s, const struct store_descriptor *manifest, struct slice bytes,
                     struct larder_error *e)
{
    struct blob_writer writer = {-1, 0, 0, NULL};
    bool exists = false;
    int r = dir_blob_begin(s, manifest, &writer, &exists, e);
    if (r < 0 || exists)
        return r;
    if (ftruncate(writer.fd, 0) < 0 || fd_pwrite_full(writer.fd, bytes.p, bytes.n, 0) < 0)
        r = error_errno(e, errno, "%s: manifest", s->name);
    if (r == 0)
        r = dir_blob_commit(s, manifest, &writer, e);
    if (r < 0)
        dir_blob_abort(s, &writer, false);
    return r;
}

static int dir_manifest_put(struct store *s, const struct store_descriptor *manifest,
                            struct slice bytes, const char *const *refs, size_t n_refs,
                            struct larder_error *e)
{
    struct larder_digest subject;
    int has_subject = manifest_subject(bytes, &subject, e);
    int r = has_subject < 0 ? has_subject : put_bytes(s, manifest, bytes, e);
    if (r < 0 || (n_refs == 0 && !has_subject))
        return r;
    r = dir_flush(s, e);
    if (r < 0)
        return r;
    struct dir_store *d = lock_dir(s);
    if (has_subject)
        r = set_referrer(d, manifest, &subject, e);
    if (r == 0 && n_refs > 0)
        r = set_refs(d, manifest, refs, n_refs, e);
    return unlock_dir(d, r);
}

struct collecting {
    struct dir_store *d;
    const struct larder_digest *only; /* NULL: all */
    struct json *entries;
    char **names; /* of refs that go */
    size_t n, cap;
    struct larder_error *e;
};

static int collect_name(void *arg, const char *name)
{
    struct collecting *c = arg;
    struct store_descriptor found;
    CLEANUP(json_freep) struct json *document = NULL;
    int r = ref_read(c->d->store, name, &document, NULL);
    if (r == -LARDER_NOMEM)
        return error_nomem(c->e);
    if (r < 0 || !read_descriptor(document, &found) || !larder_digest_equal(&found.digest, c->only))
        return 0;
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 16;
        char **bigger = reallocarray(c->names, cap, sizeof(*bigger));
        if (!bigger)
            return error_nomem(c->e);
        c->names = bigger;
        c->cap = cap;
    }
    c->names[c->n] = strdup(name);
    return c->names[c->n] ? (c->n++, 0) : error_nomem(c->e);
}

/* The refs that point to it; gc takes the rest. */
static int dir_manifest_remove(struct store *s, const struct larder_digest *digest,
                               struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct dir_store *d = lock_dir(s);
    struct collecting c = {.d = d, .only = digest, .e = e};
    int r = ref_each(d->store, REF_IMAGE_PREFIX, collect_name, &c, e);
    if (r == 0)
        r = ref_each(d->store, ROOTS_REFERRER_PREFIX, collect_name, &c, e);
    if (r == 0 && c.n == 0)
        r = error_set(e, LARDER_NOENT, "%s: no ref to %s", s->name,
                      larder_digest_format(digest, text));
    for (size_t i = 0; r == 0 && i < c.n; i++) {
        r = ref_remove(d->store, c.names[i], e);
        if (r == -LARDER_NOENT)
            r = 0;
    }
    for (size_t i = 0; i < c.n; i++)
        free(c.names[i]);
    free(c.names);
    return unlock_dir(d, r);
}

static int collect_entry(void *arg, const char *name)
{
    struct collecting *c = arg;
    CLEANUP(json_freep) struct json *document = NULL;
    struct larder_error why = LARDER_ERROR_INIT;
    int r = ref_read(c->d->store, name, &document, &why);
    if (r == -LARDER_NOENT)
        return 0;
    if (r < 0 && c->e)
        *c->e = why;
    if (r < 0)
        return r;
    const struct json *descriptor = json_get(document, "descriptor");
    if (json_node_is_object(descriptor) && json_append(c->entries, json_share(descriptor)) < 0)
        return error_nomem(c->e);
    return 0;
}

/* An index of what may refer to subject, as a layout has it. */
static int collect_referrers(struct dir_store *d, const struct larder_digest *subject,
                             struct json **ret, struct larder_error *e)
{
    char tag[128];
    struct buf prefix = BUF_INIT(4096), fallback = BUF_INIT(4096);
    struct collecting c = {.d = d, .entries = json_new_array(), .e = e};
    referrer_name(subject, NULL, &prefix);
    buf_printf(&fallback, "%s%s", REF_IMAGE_PREFIX, oci_referrers_tag(subject, tag));
    int r = c.entries ? buf_failed(&prefix, e) : error_nomem(e);
    if (r == 0)
        r = buf_failed(&fallback, e);
    if (r == 0)
        r = ref_each(d->store, prefix.p, collect_entry, &c, e);
    if (r == 0)
        r = collect_entry(&c, fallback.p);
    buf_done(&prefix);
    buf_done(&fallback);
    if (r == 0)
        r = index_json_new(ret, e);
    if (r == 0 && json_set(*ret, "manifests", TAKE_PTR(c.entries)) < 0)
        r = error_nomem(e);
    json_free(c.entries);
    return r;
}

static int dir_referrers(struct store *s, const struct larder_digest *subject,
                         const char *artifact_type, struct buf *out, struct larder_error *e)
{
    const struct index_json_reader reader = {read_manifest, s};
    CLEANUP(json_freep) struct json *index = NULL;
    struct dir_store *d = lock_dir(s);
    int r = unlock_dir(d, collect_referrers(d, subject, &index, e));
    return r < 0 ? r : index_json_referrers(index, &reader, subject, artifact_type, out, e);
}

/* ---- opening ---- */

static void dir_close(struct store *s)
{
    struct dir_store *d = dir_of(s);
    /* Finished blobs are good for the next run. */
    if (d->list)
        (void)dir_flush(s, NULL);
    dir_blobs_drop(d);
    larder_store_close(d->store);
    digest_set_done(&d->promised);
    pthread_cond_destroy(&d->settled);
    pthread_mutex_destroy(&d->mutex);
    free(s->name);
    free(d);
}

static const struct store_ops dir_ops = {
    .transport = "store",
    .resolve = dir_resolve,
    .each_ref = dir_each_ref,
    .remove_ref = dir_remove_ref,
    .manifest_get = dir_manifest_get,
    .manifest_has = dir_blob_has,
    .manifest_put = dir_manifest_put,
    .manifest_remove = dir_manifest_remove,
    .referrers = dir_referrers,
    .blob_has = dir_blob_has,
    .blob_extent = dir_blob_extent,
    .blob_begin = dir_blob_begin,
    .blob_commit = dir_blob_commit,
    .blob_abort = dir_blob_abort,
    .blob_kept = dir_blob_kept,
    .blob_remove = dir_blob_remove,
    .flush = dir_flush,
    .close = dir_close,
};

int dir_store_open(struct larder_store *handle, unsigned flags, struct store **ret,
                   struct larder_error *e)
{
    struct larder_store_options options = LARDER_STORE_OPTIONS_INIT;
    struct dir_store *d = calloc(1, sizeof(*d));
    if (!d)
        return error_nomem(e);
    d->base.ops = &dir_ops;
    d->base.observer = store_observer(handle);
    d->is_writable = flags & STORE_OPEN_WRITE;
    pthread_mutex_init(&d->mutex, NULL);
    pthread_cond_init(&d->settled, NULL);
    /* Lanes must not call the observer of the caller's thread: this handle has none. */
    if (store_is_read_only(handle))
        options.flags |= LARDER_STORE_READ_ONLY;
    int r = d->is_writable ? store_require_writable(handle, e) : 0;
    if (r == 0 && asprintf(&d->base.name, "store %s", larder_store_path(handle)) < 0) {
        d->base.name = NULL;
        r = error_nomem(e);
    }
    if (r == 0)
        r = larder_store_open(larder_store_path(handle), &options, &d->store, e);
    if (r < 0) {
        dir_close(&d->base);
        return r;
    }
    *ret = &d->base;
    return 0;
}
