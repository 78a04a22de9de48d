/* SPDX-License-Identifier: Apache-2.0 */
#include "store/dir/ref.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/text.h"
#include "store/dir/blob.h"
#include "store/dir/doc.h"

#define REF_VERSION 1
/* Names are read into memory to be sorted. */
#define REF_COUNT_MAX 1000000

static int ref_file(const char *name, struct buf *ret, struct larder_error *e)
{
    int r = filename_escape(name, ret, e);
    if (r < 0)
        return error_context(e, "ref");
    return buf_failed(ret, e);
}

static int damaged(struct larder_error *e, const char *what)
{
    error_set(e, LARDER_CORRUPT, "%s", what);
    return error_hint(e, "run `larder fsck`");
}

/* Names are JSON strings and shown to people. */
static int check_name(const char *name, struct larder_error *e)
{
    struct buf clean = BUF_INIT(4 * strlen(name));
    text_sanitize(slice_of(name), &clean);
    int r = buf_failed(&clean, e);
    if (r == 0 && (!clean.p || strcmp(clean.p, name) != 0))
        r = error_set(e, LARDER_INVAL, "ref %s: empty, or has control bytes or bad UTF-8",
                      clean.p ? clean.p : "");
    buf_done(&clean);
    return r;
}

static int check_descriptor(const struct json *d, struct larder_digest *ret, struct larder_error *e)
{
    const char *text = NULL;
    if (!doc_get_string(d, "digest", &text) || larder_digest_parse(text, (size_t)-1, ret, NULL) < 0)
        return damaged(e, "a descriptor without a digest");
    if (!larder_digest_is_identity(ret->alg))
        return damaged(e, "a descriptor whose digest names no blob");
    return 0;
}

int ref_each_digest(const struct json *document,
                    int (*fn)(void *arg, const struct larder_digest *digest), void *arg,
                    struct larder_error *e)
{
    struct larder_digest digest;
    const struct json *descriptor = json_get(document, "descriptor");
    const struct json *keeps = json_get(document, "keeps");
    int r = 0;

    if (descriptor) {
        r = check_descriptor(descriptor, &digest, e);
        if (r == 0 && fn)
            r = fn(arg, &digest);
    }
    if (r == 0 && keeps && !json_node_is_array(keeps))
        r = damaged(e, "keeps: not an array");
    for (size_t i = 0; r == 0 && i < json_length(keeps); i++) {
        r = check_descriptor(json_at(keeps, i), &digest, e);
        if (r == 0 && fn)
            r = fn(arg, &digest);
    }
    return r;
}

/* What every reader relies on; the rooms check their own parts. */
static int check_document(const struct json *doc, const char *name, struct larder_error *e)
{
    int64_t version = 0;
    const char *written = NULL;

    if (!json_node_is_object(doc))
        return damaged(e, "not an object");
    if (!doc_get_i64(doc, "version", &version))
        return damaged(e, "no version");
    if (version > REF_VERSION)
        return error_set(e, LARDER_UNSUPPORTED, "version %lld, larder %s knows up to %d",
                         (long long)version, LARDER_VERSION, REF_VERSION);
    if (version != REF_VERSION)
        return damaged(e, "bad version");
    if (!doc_get_string(doc, "name", &written))
        return damaged(e, "no name");
    if (name && strcmp(name, written) != 0) {
        error_set(e, LARDER_CORRUPT, "its name is %s", written);
        return error_hint(e, "run `larder fsck`");
    }
    return ref_each_digest(doc, NULL, NULL, e);
}

int ref_parse(struct slice text, const char *name, struct json **ret, struct larder_error *e)
{
    CLEANUP(json_freep) struct json *doc = NULL;
    int r = json_parse(text, REF_BYTES_MAX, &doc, e);
    if (r == -LARDER_NOMEM)
        return r;
    if (r < 0) {
        if (e)
            e->code = LARDER_CORRUPT;
        error_hint(e, "run `larder fsck`");
        return -LARDER_CORRUPT;
    }
    r = check_document(doc, name, e);
    if (r == 0)
        *ret = TAKE_PTR(doc);
    return r;
}

static int read_text(struct larder_store *store, const char *name, struct buf *file,
                     struct buf *text, struct larder_error *e)
{
    int dirfd = -1;
    int r = ref_file(name, file, e);
    if (r == 0)
        r = store_place(store, STORE_REFS, &dirfd, e);
    if (r < 0)
        return r;
    r = store_read_file(dirfd, file->p, REF_BYTES_MAX, text, NULL, e);
    if (r == -LARDER_NOENT)
        return error_set(e, LARDER_NOENT, "ref %s: there is none", name);
    return r < 0 ? error_context(e, "ref %s", name) : 0;
}

static int read_both(struct larder_store *store, const char *name, struct json **ret_doc,
                     char **ret_text, struct larder_error *e)
{
    struct buf file = BUF_INIT(256);
    struct buf text = BUF_INIT(REF_BYTES_MAX + 1);
    struct json *doc = NULL;

    int r = read_text(store, name, &file, &text, e);
    if (r == 0) {
        r = ref_parse(buf_slice(&text), name, &doc, e);
        if (r < 0)
            error_context(e, "%s/refs/%s", larder_store_path(store), file.p);
    }
    if (r == 0 && ret_text) {
        char *copy = buf_take(&text);
        if (copy)
            *ret_text = copy;
        else
            r = error_nomem(e);
    }
    if (r == 0 && ret_doc)
        *ret_doc = TAKE_PTR(doc);
    json_free(doc);
    buf_done(&file);
    buf_done(&text);
    return r;
}

int ref_read(struct larder_store *store, const char *name, struct json **ret,
             struct larder_error *e)
{
    return read_both(store, name, ret, NULL, e);
}

int ref_write(struct larder_store *store, const char *name, const struct json *document,
              struct larder_error *e)
{
    struct buf file = BUF_INIT(256);
    struct buf text = BUF_INIT(REF_BYTES_MAX);

    int r = ref_file(name, &file, e);
    if (r == 0) {
        r = check_document(document, name, e);
        if (r < 0 && e) {
            /* The caller's document, not a file: nothing fsck could do. */
            e->code = LARDER_INVAL;
            e->hint[0] = '\0';
            r = -LARDER_INVAL;
            error_context(e, "ref %s", name);
        }
    }
    if (r == 0)
        r = json_dump_pretty(document, &text, e);
    if (r == 0)
        r = store_write_file(store, STORE_REFS, file.p, text.p, text.n, STORE_WRITE_DURABLE, 0, e);
    buf_done(&file);
    buf_done(&text);
    return r;
}

int ref_remove(struct larder_store *store, const char *name, struct larder_error *e)
{
    struct buf file = BUF_INIT(256);
    int dirfd = -1;

    int r = store_require_writable(store, e);
    if (r == 0)
        r = ref_file(name, &file, e);
    if (r == 0)
        r = store_place(store, STORE_REFS, &dirfd, e);
    if (r == 0 && unlinkat(dirfd, file.p, 0) < 0) {
        r = errno == ENOENT ? error_set(e, LARDER_NOENT, "ref %s: there is none", name)
                            : error_errno(e, errno, "ref %s", name);
    }
    if (r == 0) {
        r = dir_sync(dirfd, "refs", e);
        if (r < 0)
            error_context(e, "ref %s", name);
    }
    buf_done(&file);
    return r;
}

struct names {
    const char *prefix;
    char **p;
    size_t n, cap;
    struct larder_error *e;
};

static int names_add(struct names *names, char *name)
{
    if (names->n == names->cap) {
        size_t cap = names->cap ? names->cap * 2 : 64;
        if (cap > 2 * (size_t)REF_COUNT_MAX)
            return error_set(names->e, LARDER_LIMIT, "more than %d refs", REF_COUNT_MAX);
        char **p = realloc(names->p, cap * sizeof *p);
        if (!p)
            return error_nomem(names->e);
        names->p = p;
        names->cap = cap;
    }
    names->p[names->n++] = name;
    return 0;
}

static int collect(void *arg, const char *file, unsigned char type)
{
    struct names *names = arg;
    struct buf name = BUF_INIT(256);
    (void)type;
    int r = 0;

    /* Dot files are temporaries; what does not unescape is not ours (fsck tells of it). */
    if (file[0] == '.' || !filename_unescape(file, &name) || !name.p) {
        buf_done(&name);
        return 0;
    }
    if (strncmp(name.p, names->prefix, strlen(names->prefix)) == 0) {
        char *copy = buf_take(&name);
        r = copy ? names_add(names, copy) : error_nomem(names->e);
        if (r < 0)
            free(copy);
    }
    buf_done(&name);
    return r;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int ref_each(struct larder_store *store, const char *prefix, int (*fn)(void *arg, const char *name),
             void *arg, struct larder_error *e)
{
    struct names names = {.prefix = prefix, .e = e};
    int dirfd = -1;

    int r = store_place(store, STORE_REFS, &dirfd, e);
    if (r == 0)
        r = dir_each(dirfd, collect, &names, e);
    if (r == 0 && names.n)
        qsort(names.p, names.n, sizeof *names.p, by_name);
    for (size_t i = 0; r == 0 && i < names.n; i++)
        r = fn(arg, names.p[i]);
    for (size_t i = 0; i < names.n; i++)
        free(names.p[i]);
    free(names.p);
    return r;
}

/* ---- public ---- */

int larder_ref_get(struct larder_store *store, const char *name, char **ret_json,
                   struct larder_error *e)
{
    return read_both(store, name, NULL, ret_json, e);
}

static struct json *plain_ref(const char *name, const struct larder_digest *digest,
                              uint64_t size_bytes, const char *media_type)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct json *doc = json_new_object();
    struct json *descriptor = json_new_object();

    int r = json_set_i64(doc, "version", REF_VERSION);
    r |= json_set_string(doc, "name", name);
    r |=
        doc_set_text(descriptor, "mediaType", media_type ? media_type : "application/octet-stream");
    r |= json_set_string(descriptor, "digest", larder_digest_format(digest, text));
    r |= json_set_u64(descriptor, "size", size_bytes);
    r |= json_set(doc, "descriptor", descriptor);
    if (r < 0) {
        json_free(doc);
        return NULL;
    }
    return doc;
}

/* An entry's provenance would be about other bytes afterwards. */
static int check_replaceable(struct larder_store *store, const char *name, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    CLEANUP(json_freep) struct json *old = NULL;
    static const char *const known[] = {"version", "name", "descriptor", "keeps"};

    int r = ref_read(store, name, &old, &why);
    if (r == -LARDER_NOENT || r == -LARDER_CORRUPT)
        return 0;
    if (r < 0) {
        if (e)
            *e = why;
        return r;
    }
    size_t ours = 0;
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        ours += json_get(old, known[i]) ? 1 : 0;
    if (json_length(old) > ours)
        return error_set(e, LARDER_EXIST, "ref %s: an entry with provenance, not a plain ref",
                         name);
    return 0;
}

int larder_ref_set(struct larder_store *store, const char *name, const struct larder_digest *digest,
                   const char *media_type, struct larder_error *e)
{
    CLEANUP_CLOSE int lock = -1;

    int r = check_name(name, e);
    if (r == 0)
        r = store_require_writable(store, e);
    if (r == 0)
        r = store_lock(store, "gc", false, true, &lock, e);
    return r < 0 ? r : ref_point(store, name, digest, media_type, e);
}

int ref_point(struct larder_store *store, const char *name, const struct larder_digest *digest,
              const char *media_type, struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    CLEANUP(json_freep) struct json *doc = NULL;
    struct stat st;
    enum blob_state state = BLOB_MISSING;

    int r = check_name(name, e);
    if (r == 0)
        r = blob_check(store, digest, &state, &st, NULL, e);
    if (r < 0)
        return r;
    if (state == BLOB_MISSING || state == BLOB_MARKED)
        return error_set(e, LARDER_NOENT, "ref %s: there is no blob %s", name,
                         larder_digest_format(digest, text));
    r = check_replaceable(store, name, e);
    if (r < 0)
        return r;
    doc = plain_ref(name, digest, (uint64_t)st.st_size, media_type);
    if (!doc)
        return error_nomem(e);
    return ref_write(store, name, doc, e);
}

int larder_ref_remove(struct larder_store *store, const char *name, struct larder_error *e)
{
    return ref_remove(store, name, e);
}

int larder_ref_each(struct larder_store *store, const char *prefix,
                    int (*fn)(void *arg, const char *name), void *arg, struct larder_error *e)
{
    return ref_each(store, prefix ? prefix : "", fn, arg, e);
}
