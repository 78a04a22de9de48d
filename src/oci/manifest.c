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
    json_free(manifest->document);
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

static bool has(const struct json *document, const char *key)
{
    return !json_node_is_null(json_get(document, key));
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
static int find_type(const struct json *document, const char *claim, const char **ret,
                     struct larder_error *e)
{
    const char *own = json_get_string(document, "mediaType");
    if (!own && has(document, "mediaType"))
        return error_set(e, LARDER_INVAL, "manifest: mediaType is no string");
    if (own && !*own)
        own = NULL;
    if (media_type_is_schema1(own) || (!own && media_type_is_schema1(claim)) ||
        json_get_i64(document, "schemaVersion", 2) == 1)
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
    if (!found && has(document, "manifests"))
        found = OCI_TYPE_INDEX;
    if (!found && has(document, "config"))
        found = OCI_TYPE_MANIFEST;
    if (!found)
        return error_set(e, LARDER_UNSUPPORTED, "manifest: neither an image nor an index");
    if (!own && media_type_is_docker(found))
        return error_set(e, LARDER_INVAL, "manifest: mediaType is missing, expected %s", found);
    *ret = found;
    return 0;
}

/* ---- what is in it ---- */

static int read_list(const struct json *document, const char *key, const char *what,
                     struct oci_descriptor **ret, size_t *ret_n, struct larder_error *e)
{
    const struct json *list = json_get(document, key);
    size_t n = json_length(list);
    if (!list)
        return error_set(e, LARDER_INVAL, "manifest: %s are missing", key);
    /* Go writes null for an empty list. */
    if (!json_node_is_array(list) && !json_node_is_null(list))
        return error_set(e, LARDER_INVAL, "manifest: %s are no array", key);
    if (n > OCI_MEMBERS_MAX)
        return error_set(e, LARDER_LIMIT, "manifest: %zu %s, at most %d are read", n, key,
                         OCI_MEMBERS_MAX);
    CLEANUP_FREE struct oci_descriptor *made = calloc(n ? n : 1, sizeof(*made));
    if (!made)
        return error_nomem(e);
    for (size_t i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof(name), "manifest: %s %zu", what, i);
        int r = oci_descriptor_read(json_at(list, i), name, &made[i], e);
        if (r < 0)
            return r;
    }
    *ret = TAKE_PTR(made);
    *ret_n = n;
    return 0;
}

static int read_common(struct oci_manifest *m, struct larder_error *e)
{
    const struct json *document = m->document;
    if (json_get_i64(document, "schemaVersion", 0) != 2)
        return error_set(e, LARDER_INVAL, "manifest: schemaVersion is not 2");
    if (has(document, "annotations"))
        m->annotations = json_get(document, "annotations");
    if (!oci_annotations_are_valid(m->annotations))
        return error_set(e, LARDER_INVAL, "manifest: annotations are no object of strings");
    if (has(document, "artifactType") && !json_get_string(document, "artifactType"))
        return error_set(e, LARDER_INVAL, "manifest: artifactType is no string");
    m->artifact_type = json_get_string(document, "artifactType");
    if (m->artifact_type && !*m->artifact_type)
        m->artifact_type = NULL;
    m->has_subject = has(document, "subject");
    return m->has_subject ? oci_descriptor_read(json_get(document, "subject"), "manifest: subject",
                                                &m->subject, e)
                          : 0;
}

static int read_all(struct oci_manifest *m, struct larder_error *e)
{
    const struct json *document = m->document;
    m->kind = media_type_is_index(m->media_type) ? OCI_KIND_INDEX : OCI_KIND_IMAGE;
    m->is_docker = media_type_is_docker(m->media_type);
    /* One document that is two things would be one to us and the other to whoever checked it. */
    bool is_both =
        has(document, "manifests") ? has(document, "layers") || has(document, "config") : false;
    if (is_both || has(document, "fsLayers"))
        return error_set(e, LARDER_INVAL, "manifest: has members of %s, expected those of one kind",
                         is_both ? "both an image and an index" : "schema 1");
    int r = read_common(m, e);
    if (r < 0)
        return r;
    if (m->kind == OCI_KIND_INDEX)
        return read_list(document, "manifests", "member", &m->manifests, &m->n_manifests, e);
    if (!has(document, "config"))
        return error_set(e, LARDER_INVAL, "manifest: config is missing");
    r = oci_descriptor_read(json_get(document, "config"), "manifest: config", &m->config, e);
    if (r < 0)
        return r;
    return read_list(document, "layers", "layer", &m->layers, &m->n_layers, e);
}

int oci_manifest_parse(struct slice bytes, const char *media_type, struct oci_manifest **ret,
                       struct larder_error *e)
{
    char claim[OCI_MEDIA_TYPE_BYTES];
    int r = claimed_type(media_type, claim, e);
    if (r < 0)
        return r;
    CLEANUP(oci_manifest_freep) struct oci_manifest *m = calloc(1, sizeof(*m));
    if (!m)
        return error_nomem(e);
    r = json_parse(bytes, OCI_MANIFEST_BYTES_MAX, &m->document, e);
    if (r < 0) {
        error_context(e, "manifest");
        return r;
    }
    if (!json_node_is_object(m->document))
        return error_set(e, LARDER_INVAL, "manifest: no JSON object");
    r = find_type(m->document, claim, &m->media_type, e);
    if (r < 0)
        return r;
    r = read_all(m, e);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(m);
    return 0;
}

int oci_config_platform(struct slice config, struct json **ret_document, struct oci_platform *ret,
                        struct larder_error *e)
{
    CLEANUP(json_freep) struct json *document = NULL;
    struct oci_platform platform;
    int r = json_parse(config, OCI_MANIFEST_BYTES_MAX, &document, e);
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
