/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/descriptor.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "oci/reference.h"

int oci_optional_text(struct json_span span, const char *what, const char *key,
                      struct oci_pool *pool, const char **ret, struct larder_error *e)
{
    *ret = NULL;
    if (json_span_is_null(span))
        return 0;
    if (!json_span_is_string(span))
        return error_set(e, LARDER_INVAL, "%s: %s is no string", what, key);
    if (span.n == 2)
        return 0;
    *ret = oci_pool_text(pool, span);
    return *ret ? 0 : error_nomem(e);
}

int oci_annotations_read(struct json_span span, const char *what, struct oci_pool *pool,
                         const struct json **ret, struct larder_error *e)
{
    *ret = NULL;
    if (json_span_is_null(span))
        return 0;
    if (!json_span_is_object(span))
        return error_set(e, LARDER_INVAL, "%s: annotations are no object", what);
    int r = oci_pool_strings(pool, span, "annotations", ret, e);
    if (r < 0)
        error_context(e, "%s", what);
    return r;
}

static int read_list(struct json_span span, const char *what, const char *key,
                     struct oci_pool *pool, const struct json **ret, struct larder_error *e)
{
    *ret = NULL;
    if (json_span_is_null(span))
        return 0;
    if (!json_span_is_array(span))
        return error_set(e, LARDER_INVAL, "%s: %s are no array", what, key);
    int r = oci_pool_strings(pool, span, key, ret, e);
    if (r < 0)
        error_context(e, "%s", what);
    return r;
}

/* Any visible text: some tools write a type that is none, and nothing but a header depends on it.
 */
static bool is_media_type(const char *type)
{
    size_t n = 0;
    for (; type && type[n]; n++) {
        if (type[n] < ' ' || type[n] > '~' || n + 1 == OCI_MEDIA_TYPE_BYTES)
            return false;
    }
    return n > 0;
}

int oci_type_read(struct json_span span, const char *what, const char *key, bool is_required,
                  struct oci_pool *pool, const char **ret, struct larder_error *e)
{
    int r = oci_optional_text(span, what, key, pool, ret, e);
    if (r == 0 && (*ret ? !is_media_type(*ret) : is_required))
        r = error_set(e, LARDER_INVAL, "%s: %s is missing or malformed", what, key);
    return r;
}

static int read_platform(struct json_span span, const char *what, struct oci_pool *pool,
                         struct oci_descriptor *d, struct larder_error *e)
{
    static const char *const keys[] = {"os",         "architecture", "variant",
                                       "os.version", "os.features",  "features"};
    struct json_span fields[ARRAY_LEN(keys)];
    struct oci_platform p = {.os = NULL};
    const char **const texts[] = {&p.os, &p.architecture, &p.variant, &p.os_version};
    if (json_span_is_null(span))
        return 0;
    if (!json_span_is_object(span))
        return error_set(e, LARDER_INVAL, "%s: platform is no object", what);
    json_span_fields(span, keys, ARRAY_LEN(keys), fields);
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(texts); i++)
        r = oci_optional_text(fields[i], what, keys[i], pool, texts[i], e);
    if (r == 0)
        r = read_list(fields[4], what, keys[4], pool, &p.os_features, e);
    if (r == 0)
        r = read_list(fields[5], what, keys[5], pool, &p.features, e);
    if (r == 0 && (p.os || p.architecture)) {
        d->has_platform = true;
        d->platform = p;
    }
    return r;
}

static int read_digest(struct json_span span, const char *what, struct oci_pool *pool,
                       struct larder_digest *ret, struct larder_error *e)
{
    if (!json_span_is_string(span))
        return error_set(e, LARDER_INVAL, "%s: digest is missing or no string", what);
    struct slice text = {span.p + 1, span.n - 2};
    if (text.n > 0 && memchr(text.p, '\\', text.n)) {
        text = slice_of(oci_pool_text(pool, span));
        if (!text.p)
            return error_nomem(e);
    }
    int r = oci_digest_parse(text, ret, e);
    if (r < 0)
        error_context(e, "%s", what);
    return r;
}

int oci_descriptor_read(struct json_span object, const char *what, struct oci_pool *pool,
                        struct oci_descriptor *ret, struct larder_error *e)
{
    enum { TYPE, DIGEST, SIZE, ARTIFACT_TYPE, DATA, ANNOTATIONS, URLS, PLATFORM, FIELDS };
    static const char *const keys[FIELDS] = {"mediaType", "digest",      "size", "artifactType",
                                             "data",      "annotations", "urls", "platform"};
    struct json_span fields[FIELDS];
    struct oci_descriptor d = {.media_type = NULL};
    int64_t size = -1;
    if (!json_span_is_object(object))
        return error_set(e, LARDER_INVAL, "%s: a descriptor expected", what);
    json_span_fields(object, keys, FIELDS, fields);
    int r = oci_type_read(fields[TYPE], what, keys[TYPE], true, pool, &d.media_type, e);
    if (r == 0)
        r = read_digest(fields[DIGEST], what, pool, &d.digest, e);
    if (r == 0 && (!json_span_i64(fields[SIZE], &size) || size < 0))
        r = error_set(e, LARDER_INVAL, "%s: size is missing, negative or no number", what);
    d.size_bytes = (uint64_t)size;
    if (r == 0)
        r = oci_type_read(fields[ARTIFACT_TYPE], what, keys[ARTIFACT_TYPE], false, pool,
                          &d.artifact_type, e);
    if (r == 0)
        r = oci_optional_text(fields[DATA], what, keys[DATA], pool, &d.data, e);
    if (r == 0)
        r = oci_annotations_read(fields[ANNOTATIONS], what, pool, &d.annotations, e);
    if (r == 0)
        r = read_list(fields[URLS], what, keys[URLS], pool, &d.urls, e);
    if (r == 0)
        r = read_platform(fields[PLATFORM], what, pool, &d, e);
    if (r == 0)
        *ret = d;
    return r;
}

const char *oci_annotation(const struct json *annotations, const char *key)
{
    return json_get_string(annotations, key);
}

int oci_descriptor_data(const struct oci_descriptor *descriptor, char **ret, struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct larder_digest actual = {LARDER_DIGEST_NONE, {0}};
    larder_digest_format(&descriptor->digest, text);
    if (!descriptor->data)
        return error_set(e, LARDER_NOENT, "blob %s: not embedded in its descriptor", text);
    /* The size is only a claim until it fits the text: it is what is allocated. */
    struct slice data = slice_of(descriptor->data);
    size_t n = (size_t)descriptor->size_bytes;
    if (descriptor->size_bytes > data.n)
        return error_set(e, LARDER_CORRUPT,
                         "blob %s: embedded data is too short for the %llu bytes it should have",
                         text, (unsigned long long)descriptor->size_bytes);
    CLEANUP_FREE char *made = malloc(n + 1);
    if (!made)
        return error_nomem(e);
    if (!base64_decode_exact(data, (uint8_t *)made, n))
        return error_set(e, LARDER_CORRUPT, "blob %s: embedded data is not base64 of %zu bytes",
                         text, n);
    made[n] = '\0';
    int r = hash_of(descriptor->digest.alg, made, n, &actual, e);
    if (r < 0)
        return r;
    if (!larder_digest_equal(&actual, &descriptor->digest)) {
        char found[LARDER_DIGEST_TEXT_BYTES];
        return error_set(e, LARDER_CORRUPT, "blob %s: embedded data is %s", text,
                         larder_digest_format(&actual, found));
    }
    *ret = TAKE_PTR(made);
    return 0;
}
