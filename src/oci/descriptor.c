/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/descriptor.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "oci/reference.h"

static int check_text(void *arg, const char *key, const struct json *value)
{
    (void)arg;
    (void)key;
    return json_node_is_string(value) ? 0 : 1;
}

bool oci_annotations_are_valid(const struct json *annotations)
{
    return json_node_is_null(annotations) ||
           (json_node_is_object(annotations) && json_each(annotations, check_text, NULL) == 0);
}

static bool are_strings(const struct json *list)
{
    const struct json *one;
    for (size_t i = 0; (one = json_at(list, i)); i++) {
        if (!json_node_is_string(one))
            return false;
    }
    return json_node_is_null(list) || json_node_is_array(list);
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

/* A member that is a string, null or missing; *ret is NULL for the latter two and for "". */
static bool optional_string(const struct json *node, const char *key, const char **ret)
{
    const char *text = json_get_string(node, key);
    *ret = text && *text ? text : NULL;
    return text || json_node_is_null(json_get(node, key));
}

static const struct json *unless_null(const struct json *node)
{
    return json_node_is_null(node) ? NULL : node;
}

static const char *check(const struct json *node, struct oci_descriptor *d)
{
    if (!json_node_is_object(node))
        return "a descriptor expected";
    d->media_type = json_get_string(node, "mediaType");
    if (!is_media_type(d->media_type))
        return "mediaType is missing or malformed";
    int64_t size = json_get_i64(node, "size", -1);
    if (size < 0)
        return "size is missing, negative or no number";
    d->size_bytes = (uint64_t)size;
    if (!optional_string(node, "artifactType", &d->artifact_type) ||
        (d->artifact_type && !is_media_type(d->artifact_type)))
        return "artifactType is malformed";
    if (!optional_string(node, "data", &d->data))
        return "data is no string";
    d->annotations = unless_null(json_get(node, "annotations"));
    if (!oci_annotations_are_valid(d->annotations))
        return "annotations are no object of strings";
    d->urls = unless_null(json_get(node, "urls"));
    if (!are_strings(d->urls))
        return "urls are no array of strings";
    const struct json *platform = unless_null(json_get(node, "platform"));
    if (platform && !json_node_is_object(platform))
        return "platform is no object";
    d->has_platform = oci_platform_read(platform, &d->platform);
    return NULL;
}

int oci_descriptor_read(const struct json *node, const char *what, struct oci_descriptor *ret,
                        struct larder_error *e)
{
    struct oci_descriptor d = {.media_type = NULL};
    const char *wrong = check(node, &d);
    if (wrong)
        return error_set(e, LARDER_INVAL, "%s: %s", what, wrong);
    const char *digest = json_get_string(node, "digest");
    if (!digest)
        return error_set(e, LARDER_INVAL, "%s: digest is missing or no string", what);
    int r = oci_digest_parse(slice_of(digest), &d.digest, e);
    if (r < 0) {
        error_context(e, "%s", what);
        return r;
    }
    *ret = d;
    return 0;
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
