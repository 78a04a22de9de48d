/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "oci/descriptor.h"
#include "oci/refuse.h"

void oci_manifest_free(struct oci_manifest *manifest)
{
    if (!manifest)
        return;
    free(manifest->layers);
    free(manifest->manifests);
    oci_pool_free(manifest->pool);
    free(manifest);
}

/* ---- what it is ---- */

/* Types that servers of files say when they don't know: no claim. */
static bool is_general(const char *type)
{
    static const char *const list[] = {"application/json", "application/octet-stream",
                                       "binary/octet-stream", "text/plain"};
    for (size_t i = 0; i < ARRAY_LEN(list); i++) {
        if (strcasecmp(type, list[i]) == 0)
            return true;
    }
    return false;
}

/* One of the four in static storage, whatever its case; NULL. */
static const char *known_type(const char *type)
{
    static const char *const list[] = {OCI_TYPE_INDEX, OCI_TYPE_MANIFEST, DOCKER_TYPE_LIST,
                                       DOCKER_TYPE_MANIFEST};
    for (size_t i = 0; i < ARRAY_LEN(list); i++) {
        if (strcasecmp(type, list[i]) == 0)
            return list[i];
    }
    return NULL;
}

enum { /* members of a document */
       SCHEMA_VERSION,
       MEDIA_TYPE,
       ARTIFACT_TYPE,
       CONFIG,
       LAYERS,
       MANIFESTS,
       SUBJECT,
       ANNOTATIONS,
       FS_LAYERS,
       MEMBERS
};
static const char *const members[MEMBERS] = {
    "schemaVersion", "mediaType", "artifactType", "config",   "layers",
    "manifests",     "subject",   "annotations",  "fsLayers",
};

struct document {
    struct json_span member[MEMBERS];
    struct oci_pool *pool;
};

static bool has(const struct document *document, unsigned member)
{
    return !json_span_is_null(document->member[member]);
}

static int refuse_schema1(struct larder_error *e)
{
    return error_set(e, LARDER_UNSUPPORTED,
                     "manifest: schema 1, which registries gave up in 2019; expected schema 2 or "
                     "OCI");
}

/* The claim from outside, cleaned; "" for none. */
static int claimed_type(const char *media_type, char out[OCI_MEDIA_TYPE_BYTES],
                        struct larder_error *e)
{
    out[0] = '\0';
    if (media_type && *media_type && !media_type_clean(slice_of(media_type), out))
        return oci_refuse(e, LARDER_INVAL, "manifest: media type", slice_of(media_type),
                          "malformed");
    if (is_general(out))
        out[0] = '\0';
    return 0;
}

/* Go by the body's own word, then by the claim, then by the members. */
static int find_type(const struct document *document, const char *claim, const char **ret,
                     struct larder_error *e)
{
    const char *own = NULL;
    int64_t version = 0;
    int r = oci_optional_text(document->member[MEDIA_TYPE], "manifest", members[MEDIA_TYPE],
                              document->pool, &own, e);
    if (r < 0)
        return r;
    if (media_type_is_schema1(own) || (!own && media_type_is_schema1(claim)) ||
        (json_span_i64(document->member[SCHEMA_VERSION], &version) && version == 1))
        return refuse_schema1(e);
    if (own && *claim && strcasecmp(own, claim) != 0) {
        char announced[OCI_MEDIA_TYPE_BYTES + 32];
        snprintf(announced, sizeof(announced), "%s was announced", claim);
        return oci_refuse(e, LARDER_MISMATCH, "manifest: media type", slice_of(own), announced);
    }
    const char *type = own ? own : claim;
    const char *found = known_type(type);
    if (!found && *type)
        return oci_refuse(e, LARDER_UNSUPPORTED, "manifest: media type", slice_of(type),
                          "neither an image nor an index");
    if (!found && has(document, MANIFESTS))
        found = OCI_TYPE_INDEX;
    if (!found && has(document, CONFIG))
        found = OCI_TYPE_MANIFEST;
    if (!found)
        return error_set(e, LARDER_UNSUPPORTED, "manifest: neither an image nor an index");
    if (!own && media_type_is_docker(found))
        return error_set(e, LARDER_INVAL, "manifest: mediaType is missing, expected %s", found);
    *ret = found;
    return 0;
}

/* ---- what is in it ---- */

static size_t count(struct json_span list)
{
    const char *at = NULL;
    struct json_span one;
    size_t n = 0;
    while (json_span_next(list, &at, &one))
        n++;
    return n;
}

static int read_list(const struct document *document, unsigned member, const char *what,
                     struct oci_descriptor **ret, size_t *ret_n, struct larder_error *e)
{
    struct json_span list = document->member[member];
    if (!list.p)
        return error_set(e, LARDER_INVAL, "manifest: %s are missing", members[member]);
    /* Go writes null for an empty list. */
    if (!json_span_is_array(list) && !json_span_is_null(list))
        return error_set(e, LARDER_INVAL, "manifest: %s are no array", members[member]);
    size_t n = count(list);
    if (n > OCI_MEMBERS_MAX)
        return error_set(e, LARDER_LIMIT, "manifest: %zu %s, at most %d are read", n,
                         members[member], OCI_MEMBERS_MAX);
    CLEANUP_FREE struct oci_descriptor *made = calloc(n ? n : 1, sizeof(*made));
    if (!made)
        return error_nomem(e);
    const char *at = NULL;
    struct json_span one;
    for (size_t i = 0; i < n && json_span_next(list, &at, &one); i++) {
        char name[64];
        snprintf(name, sizeof(name), "manifest: %s %zu", what, i);
        int r = oci_descriptor_read(one, name, document->pool, &made[i], e);
        if (r < 0)
            return r;
    }
    *ret = TAKE_PTR(made);
    *ret_n = n;
    return 0;
}

static int read_common(const struct document *document, struct oci_manifest *m,
                       struct larder_error *e)
{
    int64_t version = 0;
    if (!json_span_i64(document->member[SCHEMA_VERSION], &version) || version != 2)
        return error_set(e, LARDER_INVAL, "manifest: schemaVersion is not 2");
    int r = oci_annotations_read(document->member[ANNOTATIONS], "manifest", document->pool,
                                 &m->annotations, e);
    if (r == 0)
        r = oci_type_read(document->member[ARTIFACT_TYPE], "manifest", members[ARTIFACT_TYPE],
                          false, document->pool, &m->artifact_type, e);
    m->has_subject = has(document, SUBJECT);
    if (r == 0 && m->has_subject)
        r = oci_descriptor_read(document->member[SUBJECT], "manifest: subject", document->pool,
                                &m->subject, e);
    return r;
}

static int read_all(const struct document *document, struct oci_manifest *m, struct larder_error *e)
{
    m->kind = media_type_is_index(m->media_type) ? OCI_KIND_INDEX : OCI_KIND_IMAGE;
    m->is_docker = media_type_is_docker(m->media_type);
    /* One document that is two things would be one to us and the other to whoever checked it. */
    bool is_both = has(document, MANIFESTS) && (has(document, LAYERS) || has(document, CONFIG));
    if (is_both || has(document, FS_LAYERS))
        return error_set(e, LARDER_INVAL, "manifest: has members of %s, expected those of one kind",
                         is_both ? "both an image and an index" : "schema 1");
    int r = read_common(document, m, e);
    if (r < 0)
        return r;
    if (m->kind == OCI_KIND_INDEX)
        return read_list(document, MANIFESTS, "member", &m->manifests, &m->n_manifests, e);
    if (!has(document, CONFIG))
        return error_set(e, LARDER_INVAL, "manifest: config is missing");
    r = oci_descriptor_read(document->member[CONFIG], "manifest: config", document->pool,
                            &m->config, e);
    if (r < 0)
        return r;
    return read_list(document, LAYERS, "layer", &m->layers, &m->n_layers, e);
}

int oci_manifest_parse(struct slice bytes, const char *media_type, struct oci_manifest **ret,
                       struct larder_error *e)
{
    char claim[OCI_MEDIA_TYPE_BYTES];
    struct json_span all = {NULL, 0};
    int r = claimed_type(media_type, claim, e);
    if (r < 0)
        return r;
    r = json_check(bytes, OCI_MANIFEST_BYTES_MAX, &all, e);
    if (r < 0) {
        error_context(e, "manifest");
        return r;
    }
    if (!json_span_is_object(all))
        return error_set(e, LARDER_INVAL, "manifest: no JSON object");
    CLEANUP(oci_manifest_freep) struct oci_manifest *m = calloc(1, sizeof(*m));
    if (!m)
        return error_nomem(e);
    r = oci_pool_new(&m->pool, e);
    if (r < 0)
        return r;
    struct document document = {.pool = m->pool};
    json_span_fields(all, members, MEMBERS, document.member);
    r = find_type(&document, claim, &m->media_type, e);
    if (r == 0)
        r = read_all(&document, m, e);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(m);
    return 0;
}

/* Of a config's os.features, which become a tree; a handful of short names in practice. */
#define FEATURES_MAX_BYTES 65536

/* A document of those members of the config alone: the rest (labels, history, whatever somebody put
 * there) may be large. */
static int config_members(struct slice config, struct json *document, struct larder_error *e)
{
    static const char *const keys[] = {"os", "architecture", "variant", "os.version",
                                       "os.features"};
    struct json_span fields[ARRAY_LEN(keys)];
    struct json_span all = {NULL, 0};
    int r = json_check(config, OCI_MANIFEST_BYTES_MAX, &all, e);
    if (r < 0)
        return r;
    json_span_fields(all, keys, ARRAY_LEN(keys), fields);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct json *tree = NULL;
        if (json_span_is_array(fields[i]) && fields[i].n > FEATURES_MAX_BYTES)
            return error_set(e, LARDER_LIMIT, "%s: more than %d bytes", keys[i],
                             FEATURES_MAX_BYTES);
        if (json_span_is_array(fields[i]))
            r = json_span_parse(fields[i], &tree, e);
        if (r < 0)
            return r;
        if (tree && json_set(document, keys[i], tree) < 0)
            return error_nomem(e);
        if (!json_span_is_string(fields[i]))
            continue;
        CLEANUP_FREE char *text = malloc(fields[i].n);
        if (!text)
            return error_nomem(e);
        text[json_span_decode(fields[i], text)] = '\0';
        if (json_set_string(document, keys[i], text) < 0)
            return error_nomem(e);
    }
    return 0;
}

int oci_config_platform(struct slice config, struct json **ret_document, struct oci_platform *ret,
                        struct larder_error *e)
{
    CLEANUP(json_freep) struct json *document = json_new_object();
    struct oci_platform platform;
    if (!document)
        return error_nomem(e);
    int r = config_members(config, document, e);
    if (r < 0) {
        error_context(e, "config of the image");
        return r;
    }
    if (!oci_platform_read(document, &platform))
        return error_set(e, LARDER_NOENT, "config of the image: names no platform");
    *ret_document = TAKE_PTR(document);
    *ret = platform;
    return 0;
}
