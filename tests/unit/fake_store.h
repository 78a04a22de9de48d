/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A store in memory that counts, checks its user, and fails where it is told to: for tests of what
 * uses stores. REMOTE or FILE. Included after cmocka.h.
 *
 *     struct fake_store f;
 *     fake_init(&f, "docker", true);
 *     struct store_descriptor layer = fake_add(&f, "layer", 5, "");
 *     ... &f.store ...
 *     fake_done(&f);
 *
 * What it checks (f.broken names the first): bytes that are committed or put hash to their digest;
 * a manifest's blobs and members are there before it; every writer is committed or aborted once.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "oci/manifest.h"
#include "store/store.h"

#define FAKE_START       4096 /* of a blob in the file it is written to */
#define FAKE_RIGHT_BYTES 100  /* of what is sent right all the same */

enum fake_op {
    FAKE_RESOLVE,
    FAKE_MANIFEST_GET,
    FAKE_MANIFEST_HAS,
    FAKE_MANIFEST_PUT,
    FAKE_REFERRERS,
    FAKE_BLOB_HAS,
    FAKE_BLOB_EXTENT,
    FAKE_BLOB_BEGIN,
    FAKE_BLOB_COMMIT,
    FAKE_BLOB_GET,
    FAKE_BLOB_PUT,
    FAKE_FRESH,
    FAKE_FLUSH,
    FAKE_OP_MAX
};

struct fake_object {
    struct fake_object *next;
    struct larder_digest digest;
    bool is_manifest;
    char media_type[OCI_MEDIA_TYPE_BYTES];
    char *bytes;
    size_t n;
    int partial_fd; /* an unfinished blob that is kept; -1: a finished one */
};

struct fake_ref {
    struct fake_ref *next;
    char name[64];
    struct store_descriptor to;
};

struct fake_store {
    struct store store;
    struct store_ops ops;
    pthread_mutex_t lock;
    struct fake_object *objects;
    struct fake_ref *refs;
    unsigned counts[FAKE_OP_MAX];
    unsigned total;   /* of all */
    unsigned fail_at; /* this one fails (of all, from 1); 0: none */
    enum larder_code fail_code;
    unsigned writers;        /* open now */
    const char *broken;      /* a rule that was broken */
    struct fake_store *peer; /* whose blobs can be mounted here */
    bool refuses_mounts;
    bool is_sparse;       /* a manifest may come before what it names */
    bool sends_wrong;     /* the last byte of blobs is another */
    uint64_t cut_after;   /* the first blob_get breaks off then; 0: never */
    bool restarts_once;   /* the first blob_get begins again at 0 half way */
    unsigned slow_us;     /* each piece of a blob */
    size_t piece_bytes;   /* of blob_get; 0: 10000 */
    struct buf referrers; /* answer to all subjects but the referrers themselves */
    struct larder_digest subject;
};

static inline struct fake_store *fake_of(struct store *s)
{
    return (struct fake_store *)s;
}

/* Counts; negative when it is to fail. */
static inline int fake_enter(struct fake_store *f, enum fake_op op, struct larder_error *e)
{
    static const char *const names[] = {"resolve",   "manifest_get", "manifest_has", "manifest_put",
                                        "referrers", "blob_has",     "blob_extent",  "blob_begin",
                                        "commit",    "blob_get",     "blob_put",     "is_fresh",
                                        "flush"};
    bool fails;

    pthread_mutex_lock(&f->lock);
    f->counts[op]++;
    fails = ++f->total == f->fail_at;
    pthread_mutex_unlock(&f->lock);
    return fails ? error_set(e, f->fail_code, "%s of %s failed as told", names[op], f->store.name)
                 : 0;
}

static inline struct fake_object *fake_find(struct fake_store *f, const struct larder_digest *d,
                                            bool is_manifest)
{
    struct fake_object *o = f->objects;

    while (o && (o->is_manifest != is_manifest || !larder_digest_equal(&o->digest, d)))
        o = o->next;
    return o;
}

static inline struct fake_object *fake_find_whole(struct fake_store *f,
                                                  const struct larder_digest *d, bool is_manifest)
{
    struct fake_object *o = fake_find(f, d, is_manifest);

    return o && o->partial_fd < 0 ? o : NULL;
}

static inline struct fake_object *fake_object_new(struct fake_store *f,
                                                  const struct larder_digest *digest,
                                                  const void *bytes, size_t n,
                                                  const char *media_type)
{
    struct fake_object *o = calloc(1, sizeof(*o));

    assert_non_null(o);
    o->bytes = malloc(n + 1);
    assert_non_null(o->bytes);
    memcpy(o->bytes, bytes, n);
    o->n = n;
    o->digest = *digest;
    o->partial_fd = -1;
    o->is_manifest = media_type[0] != '\0';
    snprintf(o->media_type, sizeof(o->media_type), "%s", media_type);
    o->next = f->objects;
    f->objects = o;
    return o;
}

static inline struct store_descriptor fake_describe(const void *bytes, size_t n,
                                                    const char *media_type)
{
    struct store_descriptor d = {.size_bytes = n};

    assert_int_equal(hash_of(LARDER_DIGEST_SHA256, bytes, n, &d.digest, NULL), 0);
    snprintf(d.media_type, sizeof(d.media_type), "%s", media_type);
    return d;
}

/* media_type "": a blob. */
static inline struct store_descriptor fake_add(struct fake_store *f, const void *bytes, size_t n,
                                               const char *media_type)
{
    struct store_descriptor d = fake_describe(bytes, n, media_type);

    if (!fake_find(f, &d.digest, media_type[0] != '\0'))
        fake_object_new(f, &d.digest, bytes, n, media_type);
    return d;
}

static inline void fake_remove(struct fake_store *f, const struct larder_digest *digest)
{
    const struct larder_digest gone = *digest; /* perhaps the object's own */

    for (struct fake_object **at = &f->objects; *at;) {
        struct fake_object *o = *at;
        if (larder_digest_equal(&o->digest, &gone)) {
            *at = o->next;
            if (o->partial_fd >= 0)
                close(o->partial_fd);
            free(o->bytes);
            free(o);
        } else {
            at = &o->next;
        }
    }
}

static inline struct fake_ref *fake_ref_find(struct fake_store *f, const char *name)
{
    struct fake_ref *r = f->refs;

    while (r && strcmp(r->name, name ? name : "") != 0)
        r = r->next;
    return r;
}

static inline void fake_tag(struct fake_store *f, const char *name,
                            const struct store_descriptor *to)
{
    struct fake_ref *r = fake_ref_find(f, name);

    if (!r) {
        r = calloc(1, sizeof(*r));
        assert_non_null(r);
        snprintf(r->name, sizeof(r->name), "%s", name);
        r->next = f->refs;
        f->refs = r;
    }
    r->to = *to;
}

static inline void fake_break(struct fake_store *f, const char *why)
{
    pthread_mutex_lock(&f->lock);
    if (!f->broken)
        f->broken = why;
    pthread_mutex_unlock(&f->lock);
}

/* ---- refs and manifests ---- */

static inline int fake_resolve(struct store *s, const char *ref, struct store_descriptor *ret,
                               struct larder_error *e)
{
    struct fake_store *f = fake_of(s);
    int rc = fake_enter(f, FAKE_RESOLVE, e);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&f->lock);
    struct fake_ref *r = fake_ref_find(f, ref);
    if (r)
        *ret = r->to;
    pthread_mutex_unlock(&f->lock);
    return r ? 0 : error_set(e, LARDER_NOENT, "%s:%s: not there", s->name, ref);
}

static inline int fake_manifest_get(struct store *s, const char *ref,
                                    const struct larder_digest *digest, struct buf *out,
                                    struct store_descriptor *ret, struct larder_error *e)
{
    struct fake_store *f = fake_of(s);
    int rc = fake_enter(f, FAKE_MANIFEST_GET, e);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&f->lock);
    struct fake_ref *r = digest ? NULL : fake_ref_find(f, ref);
    struct fake_object *o =
        digest || r ? fake_find_whole(f, digest ? digest : &r->to.digest, true) : NULL;
    if (o) {
        buf_append(out, o->bytes, o->n);
        *ret = (struct store_descriptor){.digest = o->digest, .size_bytes = o->n};
        strcpy(ret->media_type, o->media_type);
    }
    pthread_mutex_unlock(&f->lock);
    return o ? buf_failed(out, e) : error_set(e, LARDER_NOENT, "%s: no such manifest", s->name);
}

static inline int fake_manifest_has(struct store *s, const struct store_descriptor *d,
                                    struct larder_error *e)
{
    struct fake_store *f = fake_of(s);
    int rc = fake_enter(f, FAKE_MANIFEST_HAS, e);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&f->lock);
    rc = fake_find_whole(f, &d->digest, true) != NULL;
    pthread_mutex_unlock(&f->lock);
    return rc;
}

/* Everything but subjects and foreign layers has to be there. */
static inline bool fake_is_complete(struct fake_store *f, struct slice bytes, const char *type)
{
    struct oci_manifest *m = NULL;
    bool is_complete = oci_manifest_parse(bytes, type, &m, NULL) == 0;

    pthread_mutex_lock(&f->lock);
    if (is_complete && m->kind == OCI_KIND_IMAGE)
        is_complete = fake_find_whole(f, &m->config.digest, false) != NULL;
    for (size_t i = 0; is_complete && i < m->n_layers; i++)
        is_complete = media_type_is_foreign(m->layers[i].media_type) ||
                      fake_find_whole(f, &m->layers[i].digest, false);
    for (size_t i = 0; is_complete && i < m->n_manifests; i++)
        is_complete = fake_find_whole(f, &m->manifests[i].digest, true) ||
                      fake_find_whole(f, &m->manifests[i].digest, false);
    pthread_mutex_unlock(&f->lock);
    oci_manifest_free(m);
    return is_complete;
}

static inline int fake_manifest_put(struct store *s, const struct store_descriptor *d,
                                    struct slice bytes, const char *const *refs, size_t n_refs,
                                    struct larder_error *e)
{
    struct fake_store *f = fake_of(s);
    struct larder_digest found = {0};
    int rc = fake_enter(f, FAKE_MANIFEST_PUT, e);

    if (rc < 0)
        return rc;
    assert_int_equal(hash_of(LARDER_DIGEST_SHA256, bytes.p, bytes.n, &found, NULL), 0);
    if (!larder_digest_equal(&found, &d->digest) || d->size_bytes != bytes.n)
        fake_break(f, "a manifest's bytes are not its digest's");
    if (!f->is_sparse && !fake_is_complete(f, bytes, d->media_type))
        fake_break(f, "a manifest came before what it names");
    pthread_mutex_lock(&f->lock);
    if (!fake_find(f, &d->digest, true))
        fake_object_new(f, &d->digest, bytes.p, bytes.n, d->media_type);
    for (size_t i = 0; i < n_refs; i++)
        fake_tag(f, refs[i], d);
    pthread_mutex_unlock(&f->lock);
    return 0;
}

static inline int fake_referrers(struct store *s, const struct larder_digest *subject,
                                 const char *type, struct buf *out, struct larder_error *e)
{
    struct fake_store *f = fake_of(s);
    int rc = fake_enter(f, FAKE_REFERRERS, e);

    (void)type;
    if (rc < 0)
        return rc;
    if (f->referrers.n && larder_digest_equal(subject, &f->subject))
        buf_append_slice(out, buf_slice(&f->referrers));
    else
        buf_puts(out,
                 "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":[]}");
    return buf_failed(out, e);
}

/* ---- blobs ---- */

static inline int fake_blob_has(struct store *s, const struct store_descriptor *d,
                                struct larder_error *e)
{
    struct fake_store *f = fake_of(s);
    int rc = fake_enter(f, FAKE_BLOB_HAS, e);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&f->lock);
    rc = fake_find_whole(f, &d->digest, false) != NULL;
    pthread_mutex_unlock(&f->lock);
    return rc;
}

static inline int fake_blob_extent(struct store *s, const struct store_descriptor *d,
                                   struct store_extent *ret, struct larder_error *e)
{
    struct fake_store *f = fake_of(s);
    int rc = fake_enter(f, FAKE_BLOB_EXTENT, e);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&f->lock);
    struct fake_object *o = fake_find_whole(f, &d->digest, false);
    pthread_mutex_unlock(&f->lock);
    if (!o)
        return error_set(e, LARDER_NOENT, "%s: no such blob", s->name);
    if (o->n != d->size_bytes)
        return error_set(e, LARDER_CORRUPT, "%s: blob of another size", s->name);
    int fd = memfd_create("blob", MFD_CLOEXEC);
    assert_true(fd >= 0);
    /* Not at the start, as in an archive. */
    assert_int_equal(fd_pwrite_full(fd, o->bytes, o->n, 512), 0);
    if (f->sends_wrong && o->n > FAKE_RIGHT_BYTES)
        assert_int_equal(pwrite(fd, "?", 1, (off_t)(512 + o->n - 1)), 1);
    *ret = (struct store_extent){fd, 512, o->n};
    return 0;
}

struct fake_writer {
    int fd;
    struct larder_digest digest;
};

static inline int fake_blob_begin(struct store *s, const struct store_descriptor *d,
                                  struct blob_writer *ret, bool *ret_exists, struct larder_error *e)
{
    struct fake_store *f = fake_of(s);
    int rc = fake_enter(f, FAKE_BLOB_BEGIN, e);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&f->lock);
    struct fake_object *o = fake_find(f, &d->digest, false);
    *ret_exists = o && o->partial_fd < 0;
    if (!*ret_exists) {
        struct fake_writer *w = calloc(1, sizeof(*w));
        assert_non_null(w);
        w->digest = d->digest;
        w->fd = o ? dup(o->partial_fd) : memfd_create("writer", MFD_CLOEXEC);
        assert_true(w->fd >= 0);
        *ret = (struct blob_writer){.fd = w->fd, .start = FAKE_START, .private = w};
        if (o)
            ret->done_bytes = o->n;
        fake_remove(f, &d->digest);
        f->writers++;
    }
    pthread_mutex_unlock(&f->lock);
    return 0;
}

static inline void fake_writer_done(struct fake_store *f, struct blob_writer *writer)
{
    struct fake_writer *w = writer->private;

    close(w->fd);
    free(w);
    *writer = (struct blob_writer){.fd = -1};
    f->writers--;
}

static inline int fake_blob_commit(struct store *s, const struct store_descriptor *d,
                                   struct blob_writer *writer, struct larder_error *e)
{
    struct fake_store *f = fake_of(s);
    struct larder_digest found = {0};
    int rc = fake_enter(f, FAKE_BLOB_COMMIT, e);

    if (rc < 0)
        return rc;
    char *bytes = malloc(d->size_bytes + 1);
    assert_non_null(bytes);
    ssize_t n = fd_pread_full(writer->fd, bytes, d->size_bytes, writer->start);
    assert_int_equal(hash_of(d->digest.alg, bytes, (size_t)n, &found, NULL), 0);
    if (!larder_digest_equal(&found, &d->digest))
        fake_break(f, "a blob was committed with other bytes");
    pthread_mutex_lock(&f->lock);
    fake_object_new(f, &d->digest, bytes, (size_t)n, "");
    fake_writer_done(f, writer);
    pthread_mutex_unlock(&f->lock);
    free(bytes);
    return 0;
}

static inline void fake_blob_abort(struct store *s, struct blob_writer *writer, bool keep)
{
    struct fake_store *f = fake_of(s);
    struct fake_writer *w = writer->private;

    if (!w)
        return;
    pthread_mutex_lock(&f->lock);
    off_t end = lseek(w->fd, 0, SEEK_END);
    if (keep && end > FAKE_START) {
        struct fake_object *o = fake_object_new(f, &w->digest, "", 0, "");
        o->partial_fd = dup(w->fd);
        o->n = (size_t)(end - FAKE_START);
    }
    fake_writer_done(f, writer);
    pthread_mutex_unlock(&f->lock);
}

static inline int fake_send(struct fake_store *f, const struct fake_object *o, uint64_t offset,
                            uint64_t end, const struct blob_sink *sink, struct larder_error *e)
{
    size_t piece = f->piece_bytes ? f->piece_bytes : 10000;
    int rc = 0;

    while (rc >= 0 && offset < end) {
        size_t n = end - offset < piece ? (size_t)(end - offset) : piece;
        size_t room = 0;
        char *to = sink->room ? sink->room(sink->arg, &room) : NULL;
        CLEANUP_FREE char *own = malloc(n);
        assert_non_null(own);
        if (to && room < n)
            n = room;
        if (!to)
            to = own;
        memcpy(to, o->bytes + offset, n);
        if (f->sends_wrong && o->n > FAKE_RIGHT_BYTES && offset + n == o->n)
            to[n - 1] = (char)(to[n - 1] ^ 1);
        if (f->slow_us)
            usleep(f->slow_us);
        rc = sink->write(sink->arg, to, n, e);
        if (rc >= 0 && sink->tick)
            rc = sink->tick(sink->arg, e);
        offset += n;
    }
    return rc;
}

static inline int fake_blob_get(struct store *s, const struct store_descriptor *d, uint64_t offset,
                                const struct blob_sink *sink, struct larder_error *e)
{
    struct fake_store *f = fake_of(s);
    int rc = fake_enter(f, FAKE_BLOB_GET, e);
    uint64_t cut;

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&f->lock);
    struct fake_object *o = fake_find_whole(f, &d->digest, false);
    cut = f->cut_after;
    f->cut_after = 0;
    bool restarts = f->restarts_once;
    f->restarts_once = false;
    pthread_mutex_unlock(&f->lock);
    if (!o)
        return error_set(e, LARDER_NOENT, "%s: no such blob", s->name);
    if (restarts) {
        rc = fake_send(f, o, offset, o->n / 2, sink, e);
        if (rc >= 0)
            rc = sink->restart(sink->arg, e);
        offset = 0;
    }
    if (rc >= 0)
        rc = fake_send(f, o, offset, cut && cut < o->n ? cut : o->n, sink, e);
    if (rc < 0)
        return rc;
    return cut ? error_set(e, LARDER_UNREACHABLE, "%s: cut off", s->name) : 0;
}

static inline bool fake_mount(struct fake_store *f, const struct store_descriptor *d)
{
    struct fake_object *o;

    if (!f->peer || f->refuses_mounts)
        return false;
    pthread_mutex_lock(&f->peer->lock);
    o = fake_find_whole(f->peer, &d->digest, false);
    pthread_mutex_unlock(&f->peer->lock);
    if (!o)
        return false;
    pthread_mutex_lock(&f->lock);
    fake_object_new(f, &d->digest, o->bytes, o->n, "");
    pthread_mutex_unlock(&f->lock);
    return true;
}

/* Reads a stream twice where that is possible: the first half, then again from its middle. */
static inline int fake_receive(struct fake_store *f, const struct store_descriptor *d,
                               struct blob_source *source, char *bytes, struct larder_error *e)
{
    uint64_t done = 0;
    bool is_again = source->seek && f->restarts_once;
    int rc = 0;

    while (rc >= 0) {
        size_t n = d->size_bytes - done < 7777 ? (size_t)(d->size_bytes - done) : 7777;
        if (source->extent.fd >= 0) {
            ssize_t got =
                fd_pread_full(source->extent.fd, bytes + done, n, source->extent.offset + done);
            n = got < 0 ? 0 : (size_t)got;
        } else {
            rc = source->read(source->arg, bytes + done, n ? n : 1, &n, e);
        }
        if (rc < 0 || n == 0)
            break;
        done += n;
        if (is_again && done > d->size_bytes / 2) {
            is_again = false;
            done /= 2;
            rc = source->seek(source->arg, done, e);
        }
        if (rc >= 0 && source->sent)
            rc = source->sent(source->arg, done, e);
    }
    return rc >= 0 && done != d->size_bytes
               ? error_set(e, LARDER_PROTO, "%s: incomplete", f->store.name)
               : rc;
}

static inline int fake_blob_put(struct store *s, const struct store_descriptor *d,
                                struct blob_source *source, const char *from, bool is_missing,
                                enum blob_how *ret, struct larder_error *e)
{
    struct fake_store *f = fake_of(s);
    struct larder_digest found = {0};
    int rc = fake_enter(f, FAKE_BLOB_PUT, e);

    if (rc < 0)
        return rc;
    if (!is_missing && fake_blob_has(s, d, NULL) == 1) {
        *ret = BLOB_EXISTED;
        return 0;
    }
    if (from && fake_mount(f, d)) {
        *ret = BLOB_MOUNTED;
        return 0;
    }
    CLEANUP_FREE char *bytes = malloc(d->size_bytes + 1);
    assert_non_null(bytes);
    rc = fake_receive(f, d, source, bytes, e);
    if (rc < 0)
        return rc;
    assert_int_equal(hash_of(d->digest.alg, bytes, d->size_bytes, &found, NULL), 0);
    if (!larder_digest_equal(&found, &d->digest)) {
        if (source->extent.fd < 0)
            fake_break(f, "an upload with other bytes was completed");
        return error_set(e, LARDER_PROTO, "%s: DIGEST_INVALID", s->name);
    }
    pthread_mutex_lock(&f->lock);
    if (fake_find(f, &d->digest, false))
        f->broken = "a blob was uploaded twice";
    fake_object_new(f, &d->digest, bytes, d->size_bytes, "");
    pthread_mutex_unlock(&f->lock);
    *ret = BLOB_COPIED;
    return 0;
}

/* ---- the whole ---- */

static inline int fake_is_fresh(struct store *s, struct larder_error *e)
{
    struct fake_store *f = fake_of(s);
    int rc = fake_enter(f, FAKE_FRESH, e);

    return rc < 0 ? rc : f->objects == NULL;
}

static inline int fake_flush(struct store *s, struct larder_error *e)
{
    return fake_enter(fake_of(s), FAKE_FLUSH, e);
}

static inline void fake_init(struct fake_store *f, const char *name, bool is_remote)
{
    static const struct larder_observer silent = {0};
    memset(f, 0, sizeof(*f));
    f->ops = (struct store_ops){
        .transport = is_remote ? "docker" : "oci",
        .is_remote = is_remote,
        .resolve = fake_resolve,
        .manifest_get = fake_manifest_get,
        .manifest_has = fake_manifest_has,
        .manifest_put = fake_manifest_put,
        .referrers = fake_referrers,
        .blob_has = fake_blob_has,
        .blob_extent = is_remote ? NULL : fake_blob_extent,
        .blob_begin = is_remote ? NULL : fake_blob_begin,
        .blob_commit = is_remote ? NULL : fake_blob_commit,
        .blob_abort = is_remote ? NULL : fake_blob_abort,
        .blob_get = is_remote ? fake_blob_get : NULL,
        .blob_put = is_remote ? fake_blob_put : NULL,
        .is_fresh = is_remote ? fake_is_fresh : NULL,
        .flush = is_remote ? NULL : fake_flush,
    };
    f->store.ops = &f->ops;
    f->store.observer = &silent;
    f->store.name = strdup(name);
    f->fail_code = LARDER_UNREACHABLE;
    f->referrers = BUF_INIT(1 << 20);
    pthread_mutex_init(&f->lock, NULL);
}

/* Forgets what was counted and how it was to fail. */
static inline void fake_reset(struct fake_store *f)
{
    memset(f->counts, 0, sizeof(f->counts));
    f->total = f->fail_at = 0;
}

static inline void fake_done(struct fake_store *f)
{
    if (f->broken)
        fail_msg("%s: %s", f->store.name, f->broken);
    assert_int_equal(f->writers, 0);
    while (f->objects)
        fake_remove(f, &f->objects->digest);
    while (f->refs) {
        struct fake_ref *r = f->refs;
        f->refs = r->next;
        free(r);
    }
    buf_done(&f->referrers);
    free(f->store.name);
    pthread_mutex_destroy(&f->lock);
}
