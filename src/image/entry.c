/* SPDX-License-Identifier: Apache-2.0 */
#include "image/entry.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "image/service.h"
#include "image/source.h"
#include "image/sums.h"
#include "net/http/url.h"
#include "oci/reference.h"
#include "store/dir/ref.h"

#define IMAGE_MEDIA_TYPE "application/vnd.larder.disk-image"
#define SUMS_MEDIA_TYPE  "text/plain"

/*
 * The document's three parts and the members of each. One table reads and writes: a member that is
 * in one direction only cannot happen.
 */
enum part { PART_WANTED, PART_LOCAL, PART_UPSTREAM, PART_FAILURE, PART_MAX };
static const char *const part_names[PART_MAX] = {"wanted", "local", "upstream", "failure"};

enum kind { KIND_TEXT, KIND_I64, KIND_U64, KIND_BOOL, KIND_SET, KIND_DIGEST, KIND_FORMAT };

struct member {
    enum part part;
    enum kind kind;
    const char *key;
    size_t offset;
};

#define MEMBER(part, kind, key, field)                       \
    {                                                        \
        part, kind, key, offsetof(struct image_entry, field) \
    }

static const struct member members[] = {
    MEMBER(PART_WANTED, KIND_TEXT, "source", source),
    MEMBER(PART_WANTED, KIND_TEXT, "checksum", checksum),
    MEMBER(PART_WANTED, KIND_TEXT, "keyring", keyring),
    MEMBER(PART_WANTED, KIND_TEXT, "fingerprint", fingerprint),
    MEMBER(PART_WANTED, KIND_I64, "refreshNs", refresh_ns),
    MEMBER(PART_WANTED, KIND_TEXT, "format", format),
    MEMBER(PART_WANTED, KIND_TEXT, "unpack", unpack),
    MEMBER(PART_WANTED, KIND_BOOL, "allowBacking", allow_backing),
    MEMBER(PART_WANTED, KIND_TEXT, "headerFile", header_file),
    MEMBER(PART_WANTED, KIND_I64, "addedNs", added_ns),
    MEMBER(PART_LOCAL, KIND_FORMAT, "format", found_format),
    MEMBER(PART_LOCAL, KIND_U64, "virtualSize", virtual_bytes),
    MEMBER(PART_LOCAL, KIND_I64, "fetchedNs", fetched_ns),
    MEMBER(PART_LOCAL, KIND_BOOL, "invalidated", is_invalidated),
    MEMBER(PART_LOCAL, KIND_TEXT, "invalidatedWhy", invalidated_why),
    MEMBER(PART_UPSTREAM, KIND_SET, "sourceDigests", source_digests),
    MEMBER(PART_UPSTREAM, KIND_U64, "sourceSize", source_bytes),
    MEMBER(PART_UPSTREAM, KIND_TEXT, "transform", transform),
    MEMBER(PART_UPSTREAM, KIND_SET, "published", published),
    MEMBER(PART_UPSTREAM, KIND_U64, "publishedSize", published_bytes),
    MEMBER(PART_UPSTREAM, KIND_TEXT, "sumsUrl", sums_url),
    MEMBER(PART_UPSTREAM, KIND_TEXT, "sumsInnerName", sums_inner_name),
    MEMBER(PART_UPSTREAM, KIND_DIGEST, "sums", sums_blob),
    MEMBER(PART_UPSTREAM, KIND_U64, "sumsSize", sums_bytes),
    MEMBER(PART_UPSTREAM, KIND_DIGEST, "signature", signature_blob),
    MEMBER(PART_UPSTREAM, KIND_U64, "signatureSize", signature_bytes),
    MEMBER(PART_UPSTREAM, KIND_TEXT, "signedBy", signed_by),
    MEMBER(PART_UPSTREAM, KIND_TEXT, "sumsEtag", sums_etag),
    MEMBER(PART_UPSTREAM, KIND_TEXT, "sumsLastModified", sums_last_modified),
    MEMBER(PART_UPSTREAM, KIND_TEXT, "etag", etag),
    MEMBER(PART_UPSTREAM, KIND_TEXT, "lastModified", last_modified),
    MEMBER(PART_UPSTREAM, KIND_TEXT, "finalUrl", final_url),
    MEMBER(PART_UPSTREAM, KIND_I64, "checkedNs", checked_ns),
    MEMBER(PART_UPSTREAM, KIND_I64, "changedNs", changed_ns),
    MEMBER(PART_FAILURE, KIND_I64, "atNs", failed_ns),
    MEMBER(PART_FAILURE, KIND_TEXT, "why", failed_why),
};

static void *field_of(struct image_entry *entry, const struct member *m)
{
    return (char *)entry + m->offset;
}

static const void *field_of_const(const struct image_entry *entry, const struct member *m)
{
    return (const char *)entry + m->offset;
}

/* ---- digest sets ---- */

/* Strength, not length: blake2b-512 is as strong as sha512, which is what people publish. */
static const enum larder_digest_alg by_strength[] = {
    LARDER_DIGEST_SHA512, LARDER_DIGEST_BLAKE2B, LARDER_DIGEST_SHA384, LARDER_DIGEST_SHA256,
    LARDER_DIGEST_SHA224, LARDER_DIGEST_SHA1,    LARDER_DIGEST_MD5,
};

const struct larder_digest *digest_set_strongest(const struct digest_set *set)
{
    for (size_t i = 0; i < ARRAY_LEN(by_strength); i++)
        if (set->by_alg[by_strength[i]].alg != LARDER_DIGEST_NONE)
            return &set->by_alg[by_strength[i]];
    return NULL;
}

int digest_set_compare(const struct digest_set *a, const struct digest_set *b)
{
    int result = -1;
    for (size_t i = 0; i < ARRAY_LEN(by_strength); i++) {
        const struct larder_digest *x = &a->by_alg[by_strength[i]];
        const struct larder_digest *y = &b->by_alg[by_strength[i]];
        if (x->alg == LARDER_DIGEST_NONE || y->alg == LARDER_DIGEST_NONE)
            continue;
        if (!larder_digest_equal(x, y))
            return 0;
        result = 1;
    }
    return result;
}

/* ---- life ---- */

void image_entry_init(struct image_entry *entry)
{
    memset(entry, 0, sizeof(*entry));
    entry->refresh_ns = 3600 * NS_PER_S;
}

void image_entry_done(struct image_entry *entry)
{
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (members[i].kind == KIND_TEXT)
            free(*(char **)field_of(entry, &members[i]));
    free(entry->name);
    image_entry_init(entry);
}

char *image_ref_name(const char *name)
{
    char *ref = NULL;
    return asprintf(&ref, IMAGE_REF_PREFIX "%s", name) < 0 ? NULL : ref;
}

/* ---- writing ---- */

static struct json *set_to_json(const struct digest_set *set)
{
    struct json *object = json_new_object();
    char hex[LARDER_DIGEST_TEXT_BYTES];
    int r = 0;
    for (size_t i = 0; i < ARRAY_LEN(by_strength); i++) {
        const struct larder_digest *digest = &set->by_alg[by_strength[i]];
        if (digest->alg != LARDER_DIGEST_NONE)
            r |= json_set_string(object, larder_digest_alg_name(digest->alg),
                                 larder_digest_hex(digest, hex));
    }
    if (r < 0) {
        json_free(object);
        return NULL;
    }
    return object;
}

static int write_member(const struct image_entry *entry, const struct member *m, struct json *part)
{
    const void *field = field_of_const(entry, m);
    char text[LARDER_DIGEST_TEXT_BYTES];
    switch (m->kind) {
    case KIND_TEXT:
        return json_set_string(part, m->key, *(char *const *)field);
    case KIND_I64:
        return *(const int64_t *)field ? json_set_i64(part, m->key, *(const int64_t *)field) : 0;
    case KIND_U64:
        return *(const uint64_t *)field ? json_set_u64(part, m->key, *(const uint64_t *)field) : 0;
    case KIND_BOOL:
        return *(const bool *)field ? json_set_bool(part, m->key, true) : 0;
    case KIND_SET:
        return digest_set_strongest(field) ? json_set(part, m->key, set_to_json(field)) : 0;
    case KIND_DIGEST:
        if (((const struct larder_digest *)field)->alg == LARDER_DIGEST_NONE)
            return 0;
        return json_set_string(part, m->key, larder_digest_format(field, text));
    case KIND_FORMAT:
        if (entry->digest.alg == LARDER_DIGEST_NONE)
            return 0;
        return json_set_string(part, m->key, format_name(*(const enum image_format *)field));
    }
    return 0;
}

static struct json *descriptor(const char *media_type, const struct larder_digest *digest,
                               uint64_t size_bytes)
{
    struct json *object = json_new_object();
    char text[LARDER_DIGEST_TEXT_BYTES];
    int r = json_set_string(object, "mediaType", media_type);
    r |= json_set_string(object, "digest", larder_digest_format(digest, text));
    r |= json_set_u64(object, "size", size_bytes);
    if (r < 0) {
        json_free(object);
        return NULL;
    }
    return object;
}

static int write_keeps(const struct image_entry *entry, struct json *document)
{
    struct json *keeps = json_new_array();
    int r = 0;
    if (entry->sums_blob.alg != LARDER_DIGEST_NONE)
        r |= json_append(keeps, descriptor(SUMS_MEDIA_TYPE, &entry->sums_blob, entry->sums_bytes));
    if (entry->signature_blob.alg != LARDER_DIGEST_NONE)
        r |= json_append(keeps, descriptor("application/pgp-signature", &entry->signature_blob,
                                           entry->signature_bytes));
    if (r < 0 || json_length(keeps) == 0) {
        json_free(keeps);
        return r;
    }
    return json_set(document, "keeps", keeps);
}

int image_entry_to_json(const struct image_entry *entry, struct json **ret, struct larder_error *e)
{
    CLEANUP(json_freep) struct json *document = json_new_object();
    CLEANUP_FREE char *ref = image_ref_name(entry->name);
    struct json *parts[PART_MAX];
    struct json *image = json_new_object();
    int r = json_set_i64(document, "version", 1);
    r |= json_set_string(document, "name", ref);
    if (entry->digest.alg != LARDER_DIGEST_NONE)
        r |= json_set(document, "descriptor",
                      descriptor(IMAGE_MEDIA_TYPE, &entry->digest, entry->size_bytes));
    r |= write_keeps(entry, document);
    for (size_t i = 0; i < PART_MAX; i++)
        parts[i] = json_new_object();
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        r |= write_member(entry, &members[i], parts[members[i].part]);
    if (entry->failed_ns)
        r |= json_set_string(parts[PART_FAILURE], "code", larder_code_name(entry->failed_code));
    for (size_t i = 0; i < PART_MAX; i++)
        r |= json_set(image, part_names[i], parts[i]);
    r |= json_set(document, "image", image);
    if (r < 0 || !document || !ref)
        return error_nomem(e);
    *ret = TAKE_PTR(document);
    return 0;
}

/* ---- reading ---- */

static int read_digest(const char *text, struct larder_digest *ret, const char *what,
                       struct larder_error *e)
{
    if (!text)
        return 0;
    if (larder_digest_parse(text, (size_t)-1, ret, NULL) < 0)
        return error_set(e, LARDER_CORRUPT, "%s: %.80s is no digest", what, text);
    return 0;
}

static int read_set(const struct json *object, struct digest_set *ret, const char *what,
                    struct larder_error *e)
{
    for (size_t i = 0; i < ARRAY_LEN(by_strength); i++) {
        char text[LARDER_DIGEST_TEXT_BYTES * 2];
        const char *name = larder_digest_alg_name(by_strength[i]);
        const char *hex = json_get_string(object, name);
        if (!hex)
            continue;
        int n = snprintf(text, sizeof(text), "%s:%s", name, hex);
        if (n < 0 || (size_t)n >= sizeof(text))
            return error_set(e, LARDER_CORRUPT, "%s: %s digest too long", what, name);
        int r = read_digest(text, &ret->by_alg[by_strength[i]], what, e);
        if (r < 0)
            return r;
    }
    return 0;
}

static int read_member(const struct json *part, const struct member *m, struct image_entry *entry,
                       struct larder_error *e)
{
    void *field = field_of(entry, m);
    const char *text;
    switch (m->kind) {
    case KIND_TEXT:
        text = json_get_string(part, m->key);
        *(char **)field = text ? strdup(text) : NULL;
        return text && !*(char **)field ? error_nomem(e) : 0;
    case KIND_I64:
        *(int64_t *)field = json_get_i64(part, m->key, 0);
        return 0;
    case KIND_U64:
        *(uint64_t *)field = json_get_u64(part, m->key, 0);
        return 0;
    case KIND_BOOL:
        *(bool *)field = json_get_bool(part, m->key, false);
        return 0;
    case KIND_SET:
        return read_set(json_get(part, m->key), field, m->key, e);
    case KIND_DIGEST:
        return read_digest(json_get_string(part, m->key), field, m->key, e);
    case KIND_FORMAT:
        text = json_get_string(part, m->key);
        if (text && format_parse(text, field, NULL) < 0)
            *(enum image_format *)field = IMAGE_FORMAT_UNKNOWN; /* a newer larder's format */
        return 0;
    }
    return 0;
}

static enum larder_code code_from_name(const char *name)
{
    for (int code = LARDER_OK; name && code < LARDER_CODE_MAX; code++)
        if (!strcmp(larder_code_name((enum larder_code)code), name))
            return (enum larder_code)code;
    return LARDER_IO;
}

static int from_json(const struct json *document, struct image_entry *entry, struct larder_error *e)
{
    const struct json *image = json_get(document, "image");
    const struct json *local = json_get(document, "descriptor");
    const char *name = json_get_string(document, "name");
    if (json_get_i64(document, "version", 0) != 1)
        return error_set(e, LARDER_UNSUPPORTED, "entry: version %lld, expected 1",
                         (long long)json_get_i64(document, "version", 0));
    if (!name || strncmp(name, IMAGE_REF_PREFIX, strlen(IMAGE_REF_PREFIX)) || !image)
        return error_set(e, LARDER_CORRUPT, "entry: no image part, or no name under image/");
    entry->name = strdup(name + strlen(IMAGE_REF_PREFIX));
    if (!entry->name)
        return error_nomem(e);
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        int r = read_member(json_get(image, part_names[members[i].part]), &members[i], entry, e);
        if (r < 0)
            return r;
    }
    if (entry->failed_ns)
        entry->failed_code =
            code_from_name(json_get_string(json_get(image, part_names[PART_FAILURE]), "code"));
    if (!entry->source)
        return error_set(e, LARDER_CORRUPT, "entry: no source");
    entry->size_bytes = json_get_u64(local, "size", 0);
    int r = read_digest(json_get_string(local, "digest"), &entry->digest, "descriptor", e);
    if (r == 0 && entry->digest.alg != LARDER_DIGEST_NONE &&
        !larder_digest_is_identity(entry->digest.alg))
        r = error_set(e, LARDER_CORRUPT, "descriptor: %s names no blob",
                      larder_digest_alg_name(entry->digest.alg));
    return r;
}

int image_entry_from_json(const struct json *document, struct image_entry *ret,
                          struct larder_error *e)
{
    struct image_entry entry;
    image_entry_init(&entry);
    int r = from_json(document, &entry, e);
    if (r < 0) {
        image_entry_done(&entry);
        return r;
    }
    *ret = entry;
    return 0;
}

int image_entry_read(struct larder_store *store, const char *name, struct image_entry *ret,
                     struct larder_error *e)
{
    CLEANUP(json_freep) struct json *document = NULL;
    CLEANUP_FREE char *ref = image_ref_name(name);
    if (!ref)
        return error_nomem(e);
    int r = ref_read(store, ref, &document, e);
    if (r == -LARDER_NOENT)
        return error_set(e, LARDER_NOENT, "image %s: no such entry", name);
    if (r == 0)
        r = image_entry_from_json(document, ret, e);
    return r < 0 ? error_context(e, "image %s", name) : 0;
}

int image_entry_write(struct larder_store *store, const struct image_entry *entry,
                      struct larder_error *e)
{
    CLEANUP(json_freep) struct json *document = NULL;
    CLEANUP_FREE char *ref = image_ref_name(entry->name);
    if (!ref)
        return error_nomem(e);
    int r = image_entry_to_json(entry, &document, e);
    if (r == 0)
        r = ref_write(store, ref, document, e);
    return r < 0 ? error_context(e, "image %s", entry->name) : 0;
}

/* ---- from a spec ---- */

static int storable(const char *text, const char *what, struct larder_error *e)
{
    if (!text || image_text_is_storable(text))
        return 0;
    return error_set(e, LARDER_INVAL, "image: %s %s: has control bytes or is not valid UTF-8", what,
                     text);
}

static int check_texts(const struct image_entry *entry, struct larder_error *e)
{
    const char *const texts[][2] = {{"source", entry->source},
                                    {"checksum", entry->checksum},
                                    {"keyring", entry->keyring},
                                    {"fingerprint", entry->fingerprint},
                                    {"header file", entry->header_file}};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        int r = storable(texts[i][1], texts[i][0], e);
        if (r < 0)
            return r;
    }
    return 0;
}

/* An entry is shown to everybody: what is secret has its own files. */
static int check_url(const char *url, const char *what, struct larder_error *e)
{
    CLEANUP_FREE char *clean = NULL;
    CLEANUP_FREE char *user = NULL;
    CLEANUP_FREE char *password = NULL;
    int r = url_check(url, e);
    if (r == 0)
        r = url_split_userinfo(url, &clean, &user, &password, e);
    if (r < 0)
        return error_context(e, "%s", what);
    if (!user && !password)
        return 0;
    error_set(e, LARDER_INVAL, "%s %s: has a user name or a password in it", what, clean);
    error_hint(e, "put them into ~/.netrc, or a header into a file for --header-file");
    return -LARDER_INVAL;
}

static int take_reference(const char *source, const char *text, char **ret, const char *what,
                          struct larder_error *e)
{
    struct oci_reference reference = {0};
    int r = oci_reference_parse(text, &reference, e);
    oci_reference_done(&reference);
    if (r < 0)
        return error_context(e, "%s %s", what, source);
    *ret = strdup(source);
    return *ret ? 0 : error_nomem(e);
}

static int take_source(const char *source, char **ret, const char *what, struct larder_error *e)
{
    if (source_is_url(source)) {
        int r = check_url(source, what, e);
        if (r < 0)
            return r;
        *ret = strdup(source);
        return *ret ? 0 : error_nomem(e);
    }
    const char *reference = NULL;
    if (source_is_registry(source, &reference))
        return take_reference(source, reference, ret, what, e);
    if (strstr(source, "://"))
        return error_set(e, LARDER_UNSUPPORTED,
                         "%s %s: neither a local path, an http(s) URL nor oras://HOST/NAME:TAG",
                         what, source);
    return path_absolute(source, ret, e);
}

static int take_path(const char *path, char **ret, struct larder_error *e)
{
    return path ? path_absolute(path, ret, e) : 0;
}

static int take_text(const char *text, char **ret, struct larder_error *e)
{
    *ret = text ? strdup(text) : NULL;
    return text && !*ret ? error_nomem(e) : 0;
}

/* "sha256:..." with a slip is a digest with a slip, not the name of a file. */
static int check_checksum(const char *checksum, struct larder_error *e)
{
    const char *colon = checksum ? strchr(checksum, ':') : NULL;
    struct larder_digest digest;
    if (!colon ||
        larder_digest_alg_parse(checksum, (size_t)(colon - checksum)) == LARDER_DIGEST_NONE)
        return 0;
    return larder_digest_parse(checksum, (size_t)-1, &digest, e) < 0 ? error_context(e, "checksum")
                                                                     : 0;
}

static int check_values(const struct larder_image_spec *spec, struct larder_error *e)
{
    enum image_format format;
    if (!spec->source || !spec->source[0])
        return error_set(e, LARDER_INVAL, "image: no source given");
    if (spec->refresh_ns < 0)
        return error_set(e, LARDER_INVAL, "image: refresh may not be negative");
    if (spec->fingerprint && !spec->keyring)
        return error_set(e, LARDER_INVAL, "image: a fingerprint needs a keyring");
    if (spec->keyring && image_checksum_is_literal(spec->checksum))
        return error_set(e, LARDER_INVAL,
                         "image: a keyring has nothing to check: the checksum is "
                         "a digest already");
    if (spec->unpack && strcmp(spec->unpack, "auto") && strcmp(spec->unpack, "always") &&
        strcmp(spec->unpack, "never"))
        return error_set(e, LARDER_INVAL, "image: unpack %s: expected auto, always or never",
                         spec->unpack);
    if (spec->source && (spec->checksum || spec->keyring) && source_is_registry(spec->source, NULL))
        return error_set(e, LARDER_INVAL,
                         "image: source %s has its digest in the registry: no --checksum or "
                         "--keyring; pin it by @sha256:... instead",
                         spec->source);
    int r = check_checksum(spec->checksum, e);
    return r == 0 && spec->format ? format_parse(spec->format, &format, e) : r;
}

/* The algorithm that a bare hex digest must be of, by its length; NONE when it is none. */
static enum larder_digest_alg bare_digest_alg(const char *text)
{
    size_t n = strlen(text);
    if (strspn(text, "0123456789abcdefABCDEF") != n)
        return LARDER_DIGEST_NONE;
    switch (n) {
    case 32:
        return LARDER_DIGEST_MD5;
    case 40:
        return LARDER_DIGEST_SHA1;
    case 64:
        return LARDER_DIGEST_SHA256;
    case 96:
        return LARDER_DIGEST_SHA384;
    case 128:
        return LARDER_DIGEST_SHA512;
    default:
        return LARDER_DIGEST_NONE;
    }
}

/* A digest with its algorithm, a bare one as people paste it, else where a checksum file is. */
static int take_checksum(const char *checksum, char **ret, struct larder_error *e)
{
    enum larder_digest_alg alg = bare_digest_alg(checksum);
    if (alg != LARDER_DIGEST_NONE && access(checksum, F_OK) != 0) {
        if (asprintf(ret, "%s:%s", larder_digest_alg_name(alg), checksum) >= 0)
            return 0;
        *ret = NULL;
        return error_nomem(e);
    }
    if (image_checksum_is_literal(checksum))
        return take_text(checksum, ret, e);
    if (source_is_registry(checksum, NULL))
        return error_set(e, LARDER_INVAL, "checksum %s: a digest, URL or path was expected",
                         checksum);
    return take_source(checksum, ret, "checksum", e);
}

static int from_spec(const struct larder_image_spec *spec, struct image_entry *entry,
                     struct larder_error *e)
{
    int r = check_values(spec, e);
    if (r == 0)
        r = take_source(spec->source, &entry->source, "source", e);
    if (r == 0 && spec->checksum)
        r = take_checksum(spec->checksum, &entry->checksum, e);
    if (r == 0)
        r = take_path(spec->keyring, &entry->keyring, e);
    if (r == 0)
        r = take_path(spec->header_file, &entry->header_file, e);
    if (r == 0)
        r = take_text(spec->fingerprint, &entry->fingerprint, e);
    if (r == 0)
        r = take_text(spec->format, &entry->format, e);
    if (r == 0)
        r = take_text(spec->unpack, &entry->unpack, e);
    if (r == 0 && spec->name)
        r = take_text(spec->name, &entry->name, e);
    else if (r == 0)
        r = image_name_from_source(entry->source, &entry->name, e);
    if (r == 0)
        r = check_texts(entry, e);
    entry->refresh_ns = spec->refresh_ns;
    entry->allow_backing = spec->allow_backing;
    entry->added_ns = clock_realtime_ns();
    return r;
}

int image_entry_from_spec(const struct larder_image_spec *spec, struct image_entry *ret,
                          struct larder_error *e)
{
    struct image_entry entry;
    image_entry_init(&entry);
    int r = from_spec(spec, &entry, e);
    if (r < 0) {
        image_entry_done(&entry);
        return r;
    }
    *ret = entry;
    return 0;
}
