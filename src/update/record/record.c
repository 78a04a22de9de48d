/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records are read in place (json/span.h): a manifest of 4 MiB would be copied three times on its
 * way through a tree.
 */
#include "update/record/record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "json/json.h"
#include "json/span.h"

/* Reference, names and digests of a record; what else the sum is made of is a few hundred bytes. */
#define HEAD_BYTES_MAX (512UL * 1024)

void record_done(struct update_record *record)
{
    free(record->ref);
    free(record->platform);
    free(record->name);
    free(record->commit);
    free(record->media_type);
    buf_done(&record->manifest);
    buf_done(&record->config);
    memset(record, 0, sizeof(*record));
}

static int damaged(struct larder_error *e)
{
    if (e)
        e->code = LARDER_CORRUPT;
    error_hint(e, "run `larder update check`, which writes it anew");
    return -LARDER_CORRUPT;
}

/* ---- what it says is true ---- */

static struct slice text_of(const struct buf *b)
{
    return b->p ? buf_slice(b) : SLICE_LIT("");
}

static int check_hash(const char *what, struct slice bytes, const struct larder_digest *expected,
                      struct larder_error *e)
{
    struct larder_digest found;
    char texts[2][LARDER_DIGEST_TEXT_BYTES];
    int r = hash_of(expected->alg, bytes.p, bytes.n, &found, e);
    if (r < 0 || larder_digest_equal(&found, expected))
        return r;
    return error_set(e, LARDER_CORRUPT, "%s: its bytes hash to %s, expected %s", what,
                     larder_digest_format(&found, texts[0]),
                     larder_digest_format(expected, texts[1]));
}

/* Other codes say something of what is parsed, or of this machine, and not of the record. */
static int as_corrupt(int code, const char *what, struct larder_error *e)
{
    if (code == 0 || code == -LARDER_NOMEM)
        return code;
    if (e)
        e->code = LARDER_CORRUPT;
    if (what)
        error_context(e, "%s", what);
    return -LARDER_CORRUPT;
}

static int check_image(const struct update_record *record, struct larder_error *e)
{
    CLEANUP(oci_manifest_freep) struct oci_manifest *manifest = NULL;
    struct slice config = text_of(&record->config);
    struct json_span all;

    int r = oci_manifest_parse(text_of(&record->manifest), record->media_type, &manifest, e);
    if (r < 0)
        return as_corrupt(r, NULL, e);
    if (manifest->kind != OCI_KIND_IMAGE)
        return error_set(e, LARDER_CORRUPT, "manifest: an index, expected an image's");
    if (record->is_rewritten)
        return as_corrupt(json_check(config, RECORD_CONFIG_BYTES_MAX, &all, e), "configuration", e);
    if (manifest->config.size_bytes != config.n)
        return error_set(e, LARDER_CORRUPT, "configuration: %zu bytes, expected %llu", config.n,
                         (unsigned long long)manifest->config.size_bytes);
    return check_hash("configuration", config, &manifest->config.digest, e);
}

int record_check(const struct update_record *record, struct larder_error *e)
{
    int r = 0;
    if (!record->has_update)
        return 0;
    if (!larder_digest_is_identity(record->manifest_digest.alg))
        r = error_set(e, LARDER_CORRUPT, "manifest: no digest");
    /* First: what hashes as it should is what a registry sent, and was parsed before. */
    if (r == 0 && !record->is_rewritten)
        r = check_hash("manifest", text_of(&record->manifest), &record->manifest_digest, e);
    if (r == 0)
        r = check_image(record, e);
    return r == -LARDER_CORRUPT ? damaged(e) : r;
}

/* ---- the sum ---- */

static void add_text(struct buf *out, const char *key, const char *value)
{
    if (!value)
        return;
    buf_printf(out, "%s=%s", key, value);
    buf_putc(out, '\0');
}

static void add_digest(struct buf *out, const char *key, const struct larder_digest *digest)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    if (digest->alg != LARDER_DIGEST_NONE)
        add_text(out, key, larder_digest_format(digest, text));
}

static int sum_of(const struct update_record *record, struct larder_digest *ret,
                  struct larder_error *e)
{
    struct buf head = BUF_INIT(HEAD_BYTES_MAX);
    char number[32];

    snprintf(number, sizeof(number), "%d", RECORD_VERSION);
    add_text(&head, "version", number);
    add_text(&head, "ref", record->ref);
    add_text(&head, "platform", record->platform);
    add_text(&head, "name", record->name);
    add_digest(&head, "base", &record->base);
    add_text(&head, "commit", record->commit);
    add_digest(&head, "listed", &record->listed);
    add_digest(&head, "manifest_digest", &record->manifest_digest);
    snprintf(number, sizeof(number), "%lld", (long long)record->checked_ns);
    add_text(&head, "checked", number);
    if (record->has_update) {
        add_text(&head, "update", "");
        add_text(&head, "media_type", record->media_type);
    }
    int r = buf_failed(&head, e);
    if (r == 0)
        r = hash_of(LARDER_DIGEST_SHA256, head.p, head.n, ret, e);
    buf_done(&head);
    return r;
}

/* ---- writing ---- */

/* json_set_string() would put U+FFFD in the place of bytes that are no UTF-8. */
static int set_text(struct json *object, const char *key, const char *text, size_t n,
                    struct larder_error *e)
{
    if (strlen(text) != n)
        return error_set(e, LARDER_INVAL, "record: %s has a NUL byte", key);
    errno = 0;
    struct json *child = json_new_string(text);
    if (!child && errno != ENOMEM)
        return error_set(e, LARDER_INVAL, "record: %s is not UTF-8", key);
    return json_set(object, key, child) < 0 ? error_nomem(e) : 0;
}

static int set_optional(struct json *object, const char *key, const char *text,
                        struct larder_error *e)
{
    return text ? set_text(object, key, text, strlen(text), e) : 0;
}

static int set_digest(struct json *object, const char *key, const struct larder_digest *digest,
                      struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    if (digest->alg == LARDER_DIGEST_NONE)
        return 0;
    return set_optional(object, key, larder_digest_format(digest, text), e);
}

static int set_update(struct json *object, const struct update_record *record,
                      struct larder_error *e)
{
    struct slice manifest = text_of(&record->manifest);
    struct slice config = text_of(&record->config);
    struct json *update = json_new_object();
    if (!update)
        return error_nomem(e);
    int r = set_optional(update, "media_type", record->media_type, e);
    if (r == 0)
        r = set_text(update, "manifest", manifest.p, manifest.n, e);
    if (r == 0)
        r = set_text(update, "config", config.p, config.n, e);
    if (r < 0) {
        json_free(update);
        return r;
    }
    return json_set(object, "update", update) < 0 ? error_nomem(e) : 0;
}

static int fill(struct json *object, const struct update_record *record, struct larder_error *e)
{
    struct larder_digest sum = {0};
    int r = json_set_i64(object, "version", RECORD_VERSION) < 0 ? error_nomem(e) : 0;
    if (r == 0)
        r = set_optional(object, "ref", record->ref, e);
    if (r == 0)
        r = set_optional(object, "platform", record->platform, e);
    if (r == 0)
        r = set_optional(object, "name", record->name, e);
    if (r == 0)
        r = set_digest(object, "base", &record->base, e);
    if (r == 0)
        r = set_optional(object, "commit", record->commit, e);
    if (r == 0)
        r = set_digest(object, "listed", &record->listed, e);
    if (r == 0)
        r = set_digest(object, "manifest_digest", &record->manifest_digest, e);
    if (r == 0 && json_set_i64(object, "checked", record->checked_ns) < 0)
        r = error_nomem(e);
    if (r == 0 && record->has_update)
        r = set_update(object, record, e);
    if (r == 0)
        r = sum_of(record, &sum, e);
    return r < 0 ? r : set_digest(object, "sum", &sum, e);
}

int record_format(const struct update_record *record, struct buf *out, struct larder_error *e)
{
    if (record->is_rewritten)
        return error_set(e, LARDER_INVAL,
                         "record: its manifest was written anew, and can't be checked later");
    if (!record->ref || !record->ref[0] || !record->platform || !record->platform[0])
        return error_set(e, LARDER_INVAL, "record: no reference or no platform");
    if (!larder_digest_is_identity(record->listed.alg) ||
        !larder_digest_is_identity(record->manifest_digest.alg))
        return error_set(e, LARDER_INVAL, "record: no digest of what was found");
    if (record->checked_ns < 0)
        return error_set(e, LARDER_INVAL, "record: checked before 1970");
    CLEANUP(json_freep) struct json *object = json_new_object();
    int r = object ? fill(object, record, e) : error_nomem(e);
    return r < 0 ? r : json_dump_pretty(object, out, e);
}

/* ---- reading ---- */

enum {
    VERSION,
    REF,
    PLATFORM,
    NAME,
    BASE,
    COMMIT,
    LISTED,
    MANIFEST_DIGEST,
    CHECKED,
    UPDATE,
    SUM,
    MEMBERS
};
static const char *const members[MEMBERS] = {
    "version",         "ref",     "platform", "name", "base", "commit", "listed",
    "manifest_digest", "checked", "update",   "sum",
};

static int get_text(struct json_span span, const char *key, bool is_optional, char **ret,
                    struct larder_error *e)
{
    if (is_optional && !span.p)
        return 0;
    if (!json_span_is_string(span))
        return error_set(e, LARDER_CORRUPT, "%s: missing, or no string", key);
    char *text = malloc(span.n); /* two quotes more than what is decoded */
    if (!text)
        return error_nomem(e);
    text[json_span_decode(span, text)] = '\0';
    *ret = text;
    return 0;
}

static int get_digest(struct json_span span, const char *key, bool is_optional,
                      struct larder_digest *ret, struct larder_error *e)
{
    CLEANUP_FREE char *text = NULL;
    int r = get_text(span, key, is_optional, &text, e);
    if (r < 0 || !text)
        return r;
    if (larder_digest_parse(text, (size_t)-1, ret, NULL) < 0 ||
        !larder_digest_is_identity(ret->alg))
        return error_set(e, LARDER_CORRUPT, "%s: no digest", key);
    return 0;
}

static int get_bytes(struct json_span span, const char *key, size_t max_bytes, struct buf *ret,
                     struct larder_error *e)
{
    if (!json_span_is_string(span))
        return error_set(e, LARDER_CORRUPT, "%s: missing, or no string", key);
    /* Escaped it may be longer than it is allowed to be. */
    *ret = BUF_INIT(span.n);
    char *to = buf_reserve(ret, span.n);
    if (!to)
        return buf_failed(ret, e);
    ret->n += json_span_decode(span, to);
    ret->p[ret->n] = '\0';
    ret->max_bytes = max_bytes;
    if (ret->n > max_bytes)
        return error_set(e, LARDER_CORRUPT, "%s: %zu bytes, at most %zu are read", key, ret->n,
                         max_bytes);
    return 0;
}

static int get_update(struct json_span update, struct update_record *ret, struct larder_error *e)
{
    static const char *const keys[] = {"media_type", "manifest", "config"};
    struct json_span fields[ARRAY_LEN(keys)];
    if (!update.p)
        return 0;
    if (!json_span_is_object(update))
        return error_set(e, LARDER_CORRUPT, "update: no object");
    ret->has_update = true;
    json_span_fields(update, keys, ARRAY_LEN(keys), fields);
    int r = get_text(fields[0], keys[0], true, &ret->media_type, e);
    if (r == 0)
        r = get_bytes(fields[1], keys[1], RECORD_MANIFEST_BYTES_MAX, &ret->manifest, e);
    if (r == 0)
        r = get_bytes(fields[2], keys[2], RECORD_CONFIG_BYTES_MAX, &ret->config, e);
    return r;
}

static int check_version(struct json_span span, struct larder_error *e)
{
    int64_t version = 0;
    if (!json_span_i64(span, &version) || version < 1)
        return error_set(e, LARDER_CORRUPT, "version: missing, or no number");
    if (version > RECORD_VERSION) {
        error_set(e, LARDER_UNSUPPORTED, "version %lld, larder %s knows up to %d",
                  (long long)version, LARDER_VERSION, RECORD_VERSION);
        return error_hint(e, "use a newer larder");
    }
    return 0;
}

static int check_sum(struct json_span span, const struct update_record *record,
                     struct larder_error *e)
{
    struct larder_digest said = {0}, sum = {0};
    int r = get_digest(span, members[SUM], false, &said, e);
    if (r == 0)
        r = sum_of(record, &sum, e);
    if (r == 0 && !larder_digest_equal(&said, &sum))
        r = error_set(e, LARDER_CORRUPT, "sum: not that of what it says");
    return r;
}

static int read_members(struct json_span all, struct update_record *ret, struct larder_error *e)
{
    struct json_span fields[MEMBERS];
    json_span_fields(all, members, MEMBERS, fields);
    int r = check_version(fields[VERSION], e);
    if (r == 0)
        r = get_text(fields[REF], members[REF], false, &ret->ref, e);
    if (r == 0)
        r = get_text(fields[PLATFORM], members[PLATFORM], false, &ret->platform, e);
    if (r == 0 && (!ret->ref[0] || !ret->platform[0]))
        r = error_set(e, LARDER_CORRUPT, "no reference or no platform");
    if (r == 0)
        r = get_text(fields[NAME], members[NAME], true, &ret->name, e);
    if (r == 0)
        r = get_digest(fields[BASE], members[BASE], true, &ret->base, e);
    if (r == 0)
        r = get_text(fields[COMMIT], members[COMMIT], true, &ret->commit, e);
    if (r == 0)
        r = get_digest(fields[LISTED], members[LISTED], false, &ret->listed, e);
    if (r == 0)
        r = get_digest(fields[MANIFEST_DIGEST], members[MANIFEST_DIGEST], false,
                       &ret->manifest_digest, e);
    if (r == 0 && (!json_span_i64(fields[CHECKED], &ret->checked_ns) || ret->checked_ns < 0))
        r = error_set(e, LARDER_CORRUPT, "checked: missing, or no time");
    if (r == 0)
        r = get_update(fields[UPDATE], ret, e);
    if (r == 0)
        r = check_sum(fields[SUM], ret, e);
    return r;
}

int record_parse(struct slice text, struct update_record *ret, struct larder_error *e)
{
    CLEANUP(record_done) struct update_record record = {0};
    struct json_span all;

    int r = json_check(text, RECORD_BYTES_MAX, &all, e);
    if (r == -LARDER_INVAL || r == -LARDER_LIMIT)
        r = damaged(e);
    if (r == 0)
        r = read_members(all, &record, e);
    if (r == 0)
        r = record_check(&record, e);
    if (r == -LARDER_CORRUPT)
        return damaged(e);
    if (r < 0)
        return r;
    *ret = record;
    memset(&record, 0, sizeof(record));
    return 0;
}
