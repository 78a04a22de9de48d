/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record of a base in an ostree repository; its keys are told in base_ostree.h.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "update/base/base_ostree.h"
#include "update/base/ostree_readable.h"

#define STATE_UPDATE    "update"
#define STATE_UNCHANGED "unchanged"
#define DOCUMENTS_EXACT "exact"
#define DOCUMENTS_OTHER "rewritten"

enum {
    CACHED_DIGEST,
    CACHED_MANIFEST,
    CACHED_CONFIG,
    OWN_STATE,
    OWN_REF,
    OWN_PLATFORM,
    OWN_BASE,
    OWN_LISTED,
    OWN_DIGEST,
    OWN_DOCUMENTS,
    OWN_CHECKED,
    N_KEYS
};
static const char *const keys[] = {
    [CACHED_DIGEST] = "ostree-ext.cached.manifest-digest",
    [CACHED_MANIFEST] = "ostree-ext.cached.manifest",
    [CACHED_CONFIG] = "ostree-ext.cached.config",
    [OWN_STATE] = "larder.update.state",
    [OWN_REF] = "larder.update.ref",
    [OWN_PLATFORM] = "larder.update.platform",
    [OWN_BASE] = "larder.update.base",
    [OWN_LISTED] = "larder.update.listed",
    [OWN_DIGEST] = "larder.update.manifest-digest",
    [OWN_DOCUMENTS] = "larder.update.documents",
    [OWN_CHECKED] = "larder.update.checked-at",
};
_Static_assert(ARRAY_LEN(keys) == N_KEYS, "a name each");

static void name_keys(struct ostree_value values[N_KEYS])
{
    for (size_t i = 0; i < N_KEYS; i++)
        values[i] = (struct ostree_value){.key = keys[i], .type = OSTREE_VALUE_NONE};
}

/* ---- reading ---- */

static bool is_text(const struct ostree_value *value)
{
    return value->type == OSTREE_VALUE_STRING;
}

static bool is_digest(const struct ostree_value *value, struct larder_digest *ret)
{
    return is_text(value) && larder_digest_parse(value->text, (size_t)-1, ret, NULL) == 0;
}

/* What our own keys say. */
struct own {
    bool is_there; /* they are whole, and fit ostree-ext's as they are now */
    bool has_update;
    struct larder_digest base, listed, digest;
};

static struct own read_own(const struct ostree_value *v)
{
    struct own own = {.is_there = is_text(&v[OWN_STATE]) && is_text(&v[OWN_REF]) &&
                                  is_text(&v[OWN_PLATFORM]) && is_digest(&v[OWN_BASE], &own.base) &&
                                  is_digest(&v[OWN_LISTED], &own.listed) &&
                                  is_digest(&v[OWN_DIGEST], &own.digest)};
    struct larder_digest cached;

    if (!own.is_there)
        return own;
    own.has_update = strcmp(v[OWN_STATE].text, STATE_UPDATE) == 0;
    if (own.has_update)
        own.is_there =
            is_digest(&v[CACHED_DIGEST], &cached) && larder_digest_equal(&cached, &own.digest);
    else
        own.is_there = strcmp(v[OWN_STATE].text, STATE_UNCHANGED) == 0 &&
                       v[CACHED_DIGEST].type == OSTREE_VALUE_NONE;
    return own;
}

struct reading {
    struct base_ostree *o;
    const struct base_holder *holder;
    struct update_record *record;
    struct larder_error *e;
};

static int damaged(const struct reading *r, const char *key, const char *what)
{
    error_set(r->e, LARDER_CORRUPT, "ostree repository %s: commit %s: %s %s", r->o->base.place,
              r->holder->commit, key, what);
    return error_hint(r->e, "clear it, or check again: the image itself is not concerned");
}

static int copy_text(const char *text, char **ret, struct larder_error *e)
{
    *ret = strdup(text);
    return *ret ? 0 : error_nomem(e);
}

static int fill_common(const struct reading *r, const struct own *own, struct update_record *record)
{
    const struct update_ask *ask = r->o->base.ask;
    int code = copy_text(ask->ref, &record->ref, r->e);

    if (code == 0)
        code = copy_text(ask->platform_text, &record->platform, r->e);
    if (code == 0)
        code = copy_text(r->holder->commit, &record->commit, r->e);
    record->base = r->holder->digest;
    record->listed = own->listed;
    return code;
}

/* A foreign record is of the platform that its configuration says; one that says none is anybody's.
 * Damage is told elsewhere. */
static bool is_foreign_platform(const struct reading *r, struct slice config)
{
    CLEANUP(json_freep) struct json *document = NULL;
    struct oci_platform platform;

    return oci_config_platform(config, &document, &platform, NULL) == 0 &&
           !oci_platform_matches(&platform, &r->o->base.ask->platform);
}

/*
 * Exact ones are the registry's bytes and have to fit their digests. ostree-ext writes what it
 * understood of both; whether that happens to be the same bytes is found by trying.
 */
static int check_documents(const struct reading *r, bool is_exact, struct update_record *record)
{
    int code = is_exact ? record_check(record, r->e) : record_check(record, NULL);

    if (!is_exact && code == -LARDER_CORRUPT) {
        record->is_rewritten = true;
        code = record_check(record, r->e);
    }
    if (code == -LARDER_CORRUPT) {
        error_context(r->e, "ostree repository %s: commit %s", r->o->base.place, r->holder->commit);
        error_hint(r->e, "clear it, or check again: the image itself is not concerned");
    }
    return code;
}

static int fill_update(const struct reading *r, const struct ostree_value *v, const struct own *own,
                       struct update_record *record)
{
    bool is_exact = own->is_there && is_text(&v[OWN_DOCUMENTS]) &&
                    strcmp(v[OWN_DOCUMENTS].text, DOCUMENTS_EXACT) == 0;

    record->has_update = true;
    record->manifest = BUF_INIT(RECORD_MANIFEST_BYTES_MAX);
    record->config = BUF_INIT(RECORD_CONFIG_BYTES_MAX);
    buf_puts(&record->manifest, v[CACHED_MANIFEST].text);
    buf_puts(&record->config, v[CACHED_CONFIG].text);
    if (record->manifest.failed == LARDER_LIMIT || record->config.failed == LARDER_LIMIT)
        return damaged(r, "ostree-ext.cached", "is too large");
    if (record->manifest.failed != LARDER_OK || record->config.failed != LARDER_OK)
        return error_nomem(r->e);
    return check_documents(r, is_exact, record);
}

static int read_update(const struct reading *r, const struct ostree_value *v, const struct own *own,
                       struct update_record *record)
{
    if (!is_text(&v[CACHED_DIGEST]) ||
        larder_digest_parse(v[CACHED_DIGEST].text, (size_t)-1, &record->manifest_digest, NULL) < 0)
        return damaged(r, keys[CACHED_DIGEST], "is no digest");
    for (size_t i = CACHED_MANIFEST; i <= CACHED_CONFIG; i++) {
        if (!is_text(&v[i]))
            return damaged(r, keys[i],
                           v[i].type == OSTREE_VALUE_NONE ? "is missing" : "is no text");
    }
    if (!own->is_there && is_foreign_platform(r, slice_of(v[CACHED_CONFIG].text)))
        return error_set(r->e, LARDER_NOENT,
                         "ostree repository %s: commit %s: the record is of "
                         "another platform",
                         r->o->base.place, r->holder->commit);
    int code = fill_update(r, v, own, record);
    return code < 0 ? code : fill_common(r, own, record);
}

static bool is_of_ask(const struct update_ask *ask, const struct ostree_value *v)
{
    return strcmp(v[OWN_REF].text, ask->ref) == 0 &&
           strcmp(v[OWN_PLATFORM].text, ask->platform_text) == 0;
}

static int read_record(void *arg, const struct ostree_value *v)
{
    struct reading *r = arg;
    struct own own = read_own(v);
    struct update_record made = {0};
    int code;

    own.is_there = own.is_there && larder_digest_equal(&own.base, &r->holder->digest);
    bool is_foreign = own.is_there && !is_of_ask(r->o->base.ask, v);
    if (is_foreign || (v[CACHED_DIGEST].type == OSTREE_VALUE_NONE && !own.is_there))
        return error_set(r->e, LARDER_NOENT, "ostree repository %s: commit %s: has no record of %s",
                         r->o->base.place, r->holder->commit, r->o->base.ask->ref);
    if (!own.is_there)
        own = (struct own){.is_there = false};
    if (own.is_there && v[OWN_CHECKED].type == OSTREE_VALUE_NUMBER &&
        v[OWN_CHECKED].number <= INT64_MAX)
        made.checked_ns = (int64_t)v[OWN_CHECKED].number;
    if (v[CACHED_DIGEST].type == OSTREE_VALUE_NONE) {
        made.manifest_digest = own.digest;
        code = fill_common(r, &own, &made);
    } else {
        code = read_update(r, v, &own, &made);
    }
    if (code < 0) {
        record_done(&made);
        return code;
    }
    *r->record = made;
    return own.is_there ? 0 : 1;
}

int base_ostree_record_get(struct base *b, const struct base_holder *holder,
                           struct update_record *ret, struct larder_error *e)
{
    struct base_ostree *o = base_ostree_of(b);
    struct ostree_value values[N_KEYS];
    struct reading r = {o, holder, ret, e};

    if (!holder)
        return error_set(e, LARDER_NOENT, "ostree repository %s: has no image of %s", b->place,
                         b->ask->ref);
    name_keys(values);
    int code =
        ostree_access_metadata(o->repo, holder->commit, true, values, N_KEYS, read_record, &r, e);
    /* Who wrote it did not say when; the file does. */
    if (code == 1) {
        ret->checked_ns = ostree_access_detached_time(o->repo, holder->commit);
        code = 0;
    }
    return code;
}

/* ---- writing ---- */

/* bootc takes what is recorded with a deployment for an update of it. */
static int check_platform(const struct base_ostree *o, const struct base_holder *holder,
                          struct larder_error *e)
{
    CLEANUP(json_freep) struct json *document = NULL;
    struct oci_platform platform;
    struct buf text = BUF_INIT(1024);

    if (oci_config_platform(buf_slice(&holder->config), &document, &platform, NULL) < 0 ||
        oci_platform_matches(&platform, &o->base.ask->platform))
        return 0;
    oci_platform_format(&platform, &text);
    int r =
        error_set(e, LARDER_DENIED,
                  "ostree repository %s: commit %s is of %s, and keeps no "
                  "record of %s",
                  o->base.place, holder->commit, text.p ? text.p : "", o->base.ask->platform_text);
    buf_done(&text);
    return r;
}

static void set_text(struct ostree_value *value, const char *text)
{
    value->type = text ? OSTREE_VALUE_STRING : OSTREE_VALUE_NONE;
    value->text = text;
}

/* The documents as they are written; is_exact: as the registry has them. */
struct documents {
    struct buf manifest, config;
    bool is_exact;
};

static bool is_same(const struct buf *a, const struct buf *b)
{
    return slice_equal(buf_slice(a), buf_slice(b));
}

/* DENIED for what would break the image for others: it may still go to a state directory. */
static int make_documents(const struct base_ostree *o, const struct base_holder *holder,
                          const struct update_record *record, struct documents *ret,
                          struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    int r =
        image_manifest_to_oci(buf_slice(&record->manifest), record->media_type, &ret->manifest, e);

    if (r < 0)
        return r;
    r = ostree_readable_manifest(buf_slice(&ret->manifest), &why);
    if (r == 0)
        r = ostree_readable_config(buf_slice(&record->config), &ret->config, &why);
    /* A string of GVariant ends at its first NUL, which JSON does not have. */
    ret->is_exact = !record->is_rewritten && is_same(&ret->manifest, &record->manifest) &&
                    is_same(&ret->config, &record->config);
    if (r == -LARDER_NOMEM)
        return error_nomem(e);
    if (r < 0)
        return error_set(e, LARDER_DENIED,
                         "ostree repository %s: commit %s can't keep the update: %s", o->base.place,
                         holder->commit, why.msg);
    return 0;
}

static int write_record(struct base_ostree *o, const struct base_holder *holder,
                        const struct update_record *record, const struct documents *documents,
                        struct larder_error *e)
{
    struct ostree_value values[N_KEYS];
    char base[LARDER_DIGEST_TEXT_BYTES], listed[LARDER_DIGEST_TEXT_BYTES];
    char digest[LARDER_DIGEST_TEXT_BYTES];

    name_keys(values);
    larder_digest_format(&record->manifest_digest, digest);
    if (record->has_update) {
        set_text(&values[CACHED_DIGEST], digest);
        set_text(&values[CACHED_MANIFEST], documents->manifest.p);
        set_text(&values[CACHED_CONFIG], documents->config.p);
        set_text(&values[OWN_DOCUMENTS], documents->is_exact ? DOCUMENTS_EXACT : DOCUMENTS_OTHER);
    }
    set_text(&values[OWN_STATE], record->has_update ? STATE_UPDATE : STATE_UNCHANGED);
    set_text(&values[OWN_REF], o->base.ask->ref);
    set_text(&values[OWN_PLATFORM], o->base.ask->platform_text);
    set_text(&values[OWN_BASE], larder_digest_format(&holder->digest, base));
    set_text(&values[OWN_LISTED], larder_digest_format(&record->listed, listed));
    set_text(&values[OWN_DIGEST], digest);
    values[OWN_CHECKED].type = OSTREE_VALUE_NUMBER;
    values[OWN_CHECKED].number = record->checked_ns < 0 ? 0 : (uint64_t)record->checked_ns;
    int r = ostree_access_edit(o->repo, holder->commit, values, N_KEYS, e);
    return r < 0 ? r : 0;
}

int base_ostree_record_put(struct base *b, const struct base_holder *holder,
                           const struct update_record *record, struct larder_error *e)
{
    struct base_ostree *o = base_ostree_of(b);
    struct documents documents = {.manifest = BUF_INIT(RECORD_MANIFEST_BYTES_MAX),
                                  .config = BUF_INIT(RECORD_CONFIG_BYTES_MAX)};

    if (!holder)
        return error_set(e, LARDER_DENIED,
                         "ostree repository %s: has no image of %s yet to keep a record with",
                         b->place, b->ask->ref);
    int r = check_platform(o, holder, e);
    if (r == 0 && record->has_update)
        r = make_documents(o, holder, record, &documents, e);
    if (r == 0)
        r = write_record(o, holder, record, &documents, e);
    buf_done(&documents.manifest);
    buf_done(&documents.config);
    return r;
}

/* A time alone is not worth a new file, a lock and two syncs an hour: who wants to know when was
 * checked last learns when it was found. */
int base_ostree_record_touch(struct base *b, const struct base_holder *holder, int64_t checked_ns,
                             struct larder_error *e)
{
    (void)b;
    (void)holder;
    (void)checked_ns;
    (void)e;
    return 0;
}

struct peek {
    const char *ref;
    char *ret_platform;
};

static int peek_record(void *arg, const struct ostree_value *v)
{
    struct peek *p = arg;
    struct own own = read_own(v);

    if (!own.is_there)
        return v[CACHED_DIGEST].type != OSTREE_VALUE_NONE;
    if (strcmp(v[OWN_REF].text, p->ref) != 0)
        return 0;
    p->ret_platform = strdup(v[OWN_PLATFORM].text);
    return p->ret_platform ? 1 : -LARDER_NOMEM;
}

int base_ostree_record_peek(struct ostree_access *repo, const char *commit, const char *ref,
                            char **ret_platform, struct larder_error *e)
{
    struct ostree_value values[N_KEYS];
    struct peek p = {.ref = ref};

    name_keys(values);
    int r = ostree_access_metadata(repo, commit, true, values, N_KEYS, peek_record, &p, e);
    if (r == -LARDER_CORRUPT) {
        error_clear(e);
        r = 1;
    }
    if (r == -LARDER_NOMEM)
        return error_nomem(e);
    if (r == 1)
        *ret_platform = p.ret_platform;
    return r;
}

/* Of ours, only those of the ask; anybody's that ours don't belong to, and all damage. */
static int is_to_be_removed(void *arg, const struct ostree_value *v)
{
    const struct base *b = arg;
    struct own own = read_own(v);

    if (own.is_there && !is_of_ask(b->ask, v))
        return 0;
    for (size_t i = 0; i < N_KEYS; i++) {
        if (v[i].type != OSTREE_VALUE_NONE)
            return 1;
    }
    return 0;
}

int base_ostree_record_remove(struct base *b, const struct base_holder *holder,
                              struct larder_error *e)
{
    struct base_ostree *o = base_ostree_of(b);
    struct ostree_value values[N_KEYS];

    if (!holder)
        return 0;
    name_keys(values);
    int r = ostree_access_metadata(o->repo, holder->commit, true, values, N_KEYS, is_to_be_removed,
                                   b, e);
    if (r == 0 || r == -LARDER_NOENT) {
        error_clear(e);
        return 0;
    }
    if (r < 0 && r != -LARDER_CORRUPT)
        return r;
    error_clear(e);
    name_keys(values);
    return ostree_access_edit(o->repo, holder->commit, values, N_KEYS, e);
}
