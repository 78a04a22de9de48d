/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order of members: the structs of image-spec's specs-go/v1 (Index, Manifest, Descriptor, Platform)
 * for OCI's documents, those of containers/image's manifest package for Docker's.
 */
#include "oci/write.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "oci/refuse.h"

static void put_member(struct buf *out, const char *key, const char *value)
{
    if (value && *value) {
        buf_printf(out, ",\"%s\":", key);
        go_json_string(out, value);
    }
}

static void put_node(struct buf *out, const char *key, const struct json *value)
{
    if (json_length(value) > 0) {
        buf_printf(out, ",\"%s\":", key);
        go_json_node(out, value);
    }
}

/* architecture and os are always there, features only in Docker's lists. */
static void put_platform(struct buf *out, const struct oci_platform *p, bool as_docker)
{
    buf_puts(out, ",\"platform\":{\"architecture\":");
    go_json_string(out, p->architecture ? p->architecture : "");
    buf_puts(out, ",\"os\":");
    go_json_string(out, p->os ? p->os : "");
    put_member(out, "os.version", p->os_version);
    put_node(out, "os.features", p->os_features);
    put_member(out, "variant", p->variant);
    if (as_docker)
        put_node(out, "features", p->features);
    buf_putc(out, '}');
}

/* The three members each descriptor begins with; Docker's have the size before the digest. The
 * object stays open. */
static void open_descriptor(struct buf *out, const char *media_type,
                            const struct larder_digest *digest, uint64_t size_bytes, bool as_docker)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    larder_digest_format(digest, text);
    buf_puts(out, "{\"mediaType\":");
    go_json_string(out, media_type);
    if (as_docker)
        buf_printf(out, ",\"size\":%" PRIu64 ",\"digest\":\"%s\"", size_bytes, text);
    else
        buf_printf(out, ",\"digest\":\"%s\",\"size\":%" PRIu64, text, size_bytes);
}

static void put_entry(struct buf *out, const struct oci_index_entry *entry, bool as_docker)
{
    static const struct oci_platform none = {.os = NULL};
    open_descriptor(out, entry->media_type, &entry->digest, entry->size_bytes, as_docker);
    put_node(out, "annotations", entry->annotations);
    /* In Docker's list the platform is no pointer, so it is never left out. */
    if (entry->has_platform || as_docker)
        put_platform(out, entry->has_platform ? &entry->platform : &none, as_docker);
    put_member(out, "artifactType", entry->artifact_type);
    buf_putc(out, '}');
}

int oci_index_write(const struct oci_index_entry *entries, size_t n, bool as_docker,
                    const struct json *annotations, struct buf *out, struct larder_error *e)
{
    if (as_docker && json_length(annotations) > 0)
        return error_set(e, LARDER_INVAL, "manifest list: Docker's has no annotations");
    for (size_t i = 0; i < n && as_docker; i++) {
        if (json_length(entries[i].annotations) > 0 || entries[i].artifact_type)
            return error_set(e, LARDER_INVAL,
                             "manifest list: member %zu: Docker's has no annotations and no "
                             "artifact type",
                             i);
    }
    buf_puts(out, "{\"schemaVersion\":2");
    put_member(out, "mediaType", as_docker ? DOCKER_TYPE_LIST : OCI_TYPE_INDEX);
    buf_puts(out, ",\"manifests\":[");
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_putc(out, ',');
        put_entry(out, &entries[i], as_docker);
    }
    buf_putc(out, ']');
    put_node(out, "annotations", annotations);
    buf_putc(out, '}');
    return buf_failed(out, e);
}

void oci_index_entry_of(const struct oci_descriptor *descriptor, struct oci_index_entry *ret)
{
    *ret = (struct oci_index_entry){
        .media_type = descriptor->media_type,
        .digest = descriptor->digest,
        .size_bytes = descriptor->size_bytes,
        .has_platform = descriptor->has_platform,
        .platform = descriptor->platform,
        .artifact_type = descriptor->artifact_type,
        .annotations = descriptor->annotations,
    };
}

/* ---- OCI to Docker ---- */

/* OCI's and Docker's names of the same layers. */
static const char *const layer_types[][2] = {
    {OCI_TYPE_LAYER, DOCKER_TYPE_LAYER},
    {OCI_TYPE_LAYER_GZIP, DOCKER_TYPE_LAYER_GZIP},
    {OCI_TYPE_LAYER_FOREIGN, DOCKER_TYPE_LAYER_FOREIGN},
    {OCI_TYPE_LAYER_FOREIGN_GZIP, DOCKER_TYPE_LAYER_FOREIGN_GZIP},
};

/* NULL: schema 2 has no such layer. */
static const char *docker_layer_type(const char *type)
{
    for (size_t i = 0; i < ARRAY_LEN(layer_types); i++) {
        if (strcmp(type, layer_types[i][0]) == 0)
            return layer_types[i][1];
    }
    return NULL;
}

static int check_convertible(const struct oci_manifest *image, struct larder_error *e)
{
    if (image->kind != OCI_KIND_IMAGE || image->is_docker)
        return error_set(e, LARDER_INVAL, "manifest: %s, expected " OCI_TYPE_MANIFEST,
                         image->media_type);
    if (strcmp(image->config.media_type, OCI_TYPE_CONFIG) != 0)
        return oci_refuse(e, LARDER_INVAL, "manifest: config", slice_of(image->config.media_type),
                          "Docker's schema 2 is for container images only");
    for (size_t i = 0; i < image->n_layers; i++) {
        char text[LARDER_DIGEST_TEXT_BYTES];
        if (docker_layer_type(image->layers[i].media_type))
            continue;
        oci_refuse(e, LARDER_INVAL, "type", slice_of(image->layers[i].media_type),
                   "Docker's schema 2 knows plain and gzip'd tar only");
        error_context(e, "layer %s", larder_digest_format(&image->layers[i].digest, text));
        return -LARDER_INVAL;
    }
    return 0;
}

static void put_docker_descriptor(struct buf *out, const struct oci_descriptor *d, const char *type)
{
    open_descriptor(out, type, &d->digest, d->size_bytes, true);
    put_node(out, "urls", d->urls);
    buf_putc(out, '}');
}

int oci_manifest_to_docker(const struct oci_manifest *image, struct buf *out,
                           struct larder_error *e)
{
    int r = check_convertible(image, e);
    if (r < 0)
        return r;
    buf_puts(out, "{\"schemaVersion\":2,\"mediaType\":\"" DOCKER_TYPE_MANIFEST "\",\"config\":");
    put_docker_descriptor(out, &image->config, DOCKER_TYPE_CONFIG);
    buf_puts(out, ",\"layers\":[");
    for (size_t i = 0; i < image->n_layers; i++) {
        if (i > 0)
            buf_putc(out, ',');
        put_docker_descriptor(out, &image->layers[i],
                              docker_layer_type(image->layers[i].media_type));
    }
    buf_puts(out, "]}");
    return buf_failed(out, e);
}

/* ---- Docker to OCI ---- */

static const char *oci_type_of(const char *type)
{
    for (size_t i = 0; i < ARRAY_LEN(layer_types); i++) {
        if (strcmp(type, layer_types[i][1]) == 0)
            return layer_types[i][0];
    }
    return strcmp(type, DOCKER_TYPE_CONFIG) == 0 ? OCI_TYPE_CONFIG : type;
}

static void put_oci_descriptor(struct buf *out, const struct oci_descriptor *d)
{
    open_descriptor(out, oci_type_of(d->media_type), &d->digest, d->size_bytes, false);
    put_node(out, "urls", d->urls);
    put_node(out, "annotations", d->annotations);
    put_member(out, "data", d->data);
    buf_putc(out, '}');
}

int oci_manifest_from_docker(const struct oci_manifest *image, struct buf *out,
                             struct larder_error *e)
{
    if (image->kind != OCI_KIND_IMAGE)
        return error_set(e, LARDER_INVAL, "manifest: %s, expected " DOCKER_TYPE_MANIFEST,
                         image->media_type);
    buf_puts(out, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"config\":");
    put_oci_descriptor(out, &image->config);
    buf_puts(out, ",\"layers\":[");
    for (size_t i = 0; i < image->n_layers; i++) {
        if (i > 0)
            buf_putc(out, ',');
        put_oci_descriptor(out, &image->layers[i]);
    }
    buf_putc(out, ']');
    put_node(out, "annotations", image->annotations);
    buf_putc(out, '}');
    return buf_failed(out, e);
}

/* ---- artifacts ---- */

int oci_artifact_write(const char *artifact_type, const struct oci_artifact_layer *layers, size_t n,
                       const struct oci_descriptor *subject, const struct json *annotations,
                       struct buf *out, struct larder_error *e)
{
    /* image-spec manifest.md: with the empty config it must say what it is. */
    if (!artifact_type || !*artifact_type)
        return error_set(e, LARDER_INVAL, "artifact: its type is missing");
    buf_puts(out, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\"");
    put_member(out, "artifactType", artifact_type);
    buf_puts(out, ",\"config\":" OCI_EMPTY_DESCRIPTOR ",\"layers\":[");
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_putc(out, ',');
        open_descriptor(out, layers[i].media_type, &layers[i].digest, layers[i].size_bytes, false);
        put_node(out, "annotations", layers[i].annotations);
        buf_putc(out, '}');
    }
    /* "layers SHOULD have one entry": without any, the empty blob stands for it. */
    if (n == 0)
        buf_puts(out, OCI_EMPTY_DESCRIPTOR);
    buf_putc(out, ']');
    if (subject) {
        buf_puts(out, ",\"subject\":");
        open_descriptor(out, subject->media_type, &subject->digest, subject->size_bytes, false);
        buf_putc(out, '}');
    }
    put_node(out, "annotations", annotations);
    buf_putc(out, '}');
    return buf_failed(out, e);
}
