/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifest and configuration of an image as an update check wants them. The configuration is read
 * in place (json/span.h): that of a large OS image has a history of hundreds of steps, and five
 * members of it matter here.
 */
#include "update/image_view.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "json/span.h"
#include "oci/reference.h"
#include "oci/write.h"

/* As other readers of configurations here have it; registries cap manifests, not configurations. */
#define CONFIG_BYTES_MAX (8UL * 1024 * 1024)
/* "2024-01-10T12:00:00.123456789+01:00" and some digits more */
#define TIMESTAMP_BYTES 64

#define LABEL_VERSION "org.opencontainers.image.version"
#define LABEL_CREATED "org.opencontainers.image.created"

int64_t image_timestamp(const char *text)
{
    char clean[TIMESTAMP_BYTES];
    int64_t ns = 0;
    size_t n = text ? strlen(text) : 0;

    if (n <= strlen("2024-01-10") || n >= sizeof(clean))
        return 0;
    memcpy(clean, text, n + 1);
    /* RFC 3339 section 5.6: "t" and "z" may be lower case, and a blank may stand for the "T". */
    if (strchr("t ", clean[strlen("2024-01-10")]))
        clean[strlen("2024-01-10")] = 'T';
    if (clean[n - 1] == 'z')
        clean[n - 1] = 'Z';
    return time_parse(clean, &ns) ? ns : 0;
}

/* ---- the configuration ---- */

enum { CREATED, CONFIG, ROOTFS, OS, ARCHITECTURE, VARIANT, OS_VERSION, MEMBERS };
#define PLATFORM_TEXTS 4 /* the last ones */

/* malloc'd; *ret stays NULL for what is no string or an empty one. -NOMEM. */
static int read_text(struct json_span span, char **ret, struct larder_error *e)
{
    if (!json_span_is_string(span) || span.n <= strlen("\"\""))
        return 0;
    char *text = malloc(span.n);
    if (!text)
        return error_nomem(e);
    text[json_span_decode(span, text)] = '\0';
    *ret = text;
    return 0;
}

static int read_version(struct json_span label, struct json_span plain, struct image_view *made,
                        struct larder_error *e)
{
    int r = read_text(label, &made->version, e);
    return r < 0 || made->version ? r : read_text(plain, &made->version, e);
}

static int read_timestamp(struct json_span label, struct json_span created, struct image_view *made,
                          struct larder_error *e)
{
    const struct json_span sources[] = {label, created};
    for (size_t i = 0; i < ARRAY_LEN(sources) && made->timestamp_ns == 0; i++) {
        CLEANUP_FREE char *text = NULL;
        int r = read_text(sources[i], &text, e);
        if (r < 0)
            return r;
        made->timestamp_ns = image_timestamp(text);
    }
    return 0;
}

static size_t count(struct json_span array)
{
    const char *at = NULL;
    struct json_span one;
    size_t n = 0;
    while (json_span_is_array(array) && json_span_next(array, &at, &one))
        n++;
    return n;
}

/*
 * image-spec config.md: a diff id a layer, in their order. Where their numbers differ nobody can
 * say which belongs to which; one that can't be read is only unknown itself.
 */
static void read_diff_ids(struct json_span rootfs, struct image_view *made)
{
    static const char *const key[] = {"diff_ids"};
    struct json_span ids = {NULL, 0};
    struct json_span one;
    const char *at = NULL;

    if (json_span_is_object(rootfs))
        json_span_fields(rootfs, key, 1, &ids);
    if (count(ids) != made->n_layers)
        return;
    for (size_t i = 0; i < made->n_layers && json_span_next(ids, &at, &one); i++) {
        char text[LARDER_DIGEST_TEXT_BYTES];
        if (!json_span_is_string(one) || one.n >= sizeof(text))
            continue;
        struct slice id = {text, json_span_decode(one, text)};
        (void)!oci_digest_parse(id, &made->layers[i].diff_id, NULL);
    }
}

static int read_labels(struct json_span config, struct json_span created, struct image_view *made,
                       struct larder_error *e)
{
    static const char *const labels_key[] = {"Labels"};
    static const char *const keys[] = {LABEL_VERSION, "version", LABEL_CREATED};
    struct json_span labels = {NULL, 0};
    struct json_span values[ARRAY_LEN(keys)] = {{NULL, 0}};

    if (json_span_is_object(config))
        json_span_fields(config, labels_key, 1, &labels);
    if (json_span_is_object(labels))
        json_span_fields(labels, keys, ARRAY_LEN(keys), values);
    int r = read_version(values[0], values[1], made, e);
    return r < 0 ? r : read_timestamp(values[2], created, made, e);
}

static void forget_config(struct image_view *view)
{
    free(view->version);
    for (size_t i = 0; i < PLATFORM_TEXTS; i++)
        free(view->platform_texts[i]);
}

static int read_platform(const struct json_span *fields, struct image_view *made,
                         struct larder_error *e)
{
    char *const *texts = made->platform_texts;
    int r = 0;

    for (size_t i = 0; r == 0 && i < PLATFORM_TEXTS; i++)
        r = read_text(fields[OS + i], &made->platform_texts[i], e);
    made->platform = (struct oci_platform){.os = texts[0],
                                           .architecture = texts[ARCHITECTURE - OS],
                                           .variant = texts[VARIANT - OS],
                                           .os_version = texts[OS_VERSION - OS]};
    return r;
}

static int read_members(struct json_span all, struct image_view *made, struct larder_error *e)
{
    static const char *const members[MEMBERS] = {"created",      "config",  "rootfs",    "os",
                                                 "architecture", "variant", "os.version"};
    struct json_span fields[MEMBERS];

    json_span_fields(all, members, MEMBERS, fields);
    int r = read_labels(fields[CONFIG], fields[CREATED], made, e);
    if (r == 0)
        r = read_platform(fields, made, e);
    if (r == 0)
        read_diff_ids(fields[ROOTFS], made);
    return r;
}

int image_view_add_config(struct image_view *view, struct slice config, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct image_view made = *view;
    struct json_span all;

    if (config.n == 0)
        return 0;
    int r = json_check(config, CONFIG_BYTES_MAX, &all, &why);
    if (r == 0 && !json_span_is_object(all))
        r = error_set(&why, LARDER_INVAL, "not an object");
    /* An artifact's may be anything. */
    if (r < 0 && r != -LARDER_NOMEM && !media_type_is_config(view->manifest->config.media_type))
        return 0;
    if (r < 0) {
        error_context(&why, "configuration");
        if (e)
            *e = why;
        return r;
    }
    made.version = NULL;
    made.timestamp_ns = 0;
    memset(made.platform_texts, 0, sizeof(made.platform_texts));
    r = read_members(all, &made, e);
    if (r < 0) {
        forget_config(&made);
        return r;
    }
    forget_config(view);
    *view = made;
    return 0;
}

/* ---- the manifest ---- */

static int read_layers(struct image_view *made, struct larder_error *e)
{
    const struct oci_manifest *m = made->manifest;

    made->layers = calloc(m->n_layers + 1, sizeof(*made->layers));
    if (!made->layers)
        return error_nomem(e);
    made->n_layers = m->n_layers;
    for (size_t i = 0; i < m->n_layers; i++) {
        made->layers[i].digest = m->layers[i].digest;
        made->layers[i].size_bytes = m->layers[i].size_bytes;
        made->layers[i].media_type = m->layers[i].media_type;
    }
    return 0;
}

static int refuse_index(struct larder_error *e)
{
    return error_set(e, LARDER_UNSUPPORTED,
                     "manifest: an index, expected the image of one "
                     "platform");
}

int image_view_take(struct oci_manifest *manifest, struct slice config, struct image_view *ret,
                    struct larder_error *e)
{
    struct image_view made = {.manifest = manifest};

    int r = manifest->kind == OCI_KIND_INDEX ? refuse_index(e) : read_layers(&made, e);
    if (r == 0) {
        made.config_digest = manifest->config.digest;
        r = image_view_add_config(&made, config, e);
    }
    if (r < 0) {
        image_view_done(&made);
        return r;
    }
    *ret = made;
    return 0;
}

int image_view_read(struct slice manifest, const char *media_type, struct slice config,
                    struct image_view *ret, struct larder_error *e)
{
    struct oci_manifest *m = NULL;
    int r = oci_manifest_parse(manifest, media_type, &m, e);
    return r < 0 ? r : image_view_take(m, config, ret, e);
}

void image_view_done(struct image_view *view)
{
    oci_manifest_free(view->manifest);
    free(view->layers);
    forget_config(view);
    *view = (struct image_view){.manifest = NULL};
}

int image_manifest_to_oci(struct slice manifest, const char *media_type, struct buf *out,
                          struct larder_error *e)
{
    CLEANUP(oci_manifest_freep) struct oci_manifest *m = NULL;

    int r = oci_manifest_parse(manifest, media_type, &m, e);
    if (r < 0)
        return r;
    if (m->kind == OCI_KIND_INDEX)
        return refuse_index(e);
    if (m->is_docker)
        return oci_manifest_from_docker(m, out, e);
    buf_append_slice(out, manifest);
    return buf_failed(out, e);
}

bool image_layer_is_plain(const struct image_layer *layer)
{
    return larder_digest_equal(&layer->digest, &layer->diff_id) &&
           (strcmp(layer->media_type, OCI_TYPE_LAYER) == 0 ||
            strcmp(layer->media_type, DOCKER_TYPE_LAYER) == 0);
}
