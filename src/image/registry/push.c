/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image as an OCI artifact. Layers, each titled so that `oras pull` makes files of them:
 *
 *   <name>.<format>           the disk
 *   <name>.<format>.sha256    a line for sha256sum -c
 *   the upstream's checksum file and its signature, verbatim, when there are any
 *
 * Nothing in the manifest depends on the time of the push.
 */
#include <stdio.h>
#include <string.h>

#include <larder/image.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/relay.h"
#include "base/slice.h"
#include "base/text.h"
#include "image/context.h"
#include "image/entry.h"
#include "image/source.h"
#include "json/json.h"
#include "oci/write.h"
#include "store/copy/copy.h"
#include "store/dir/dir.h"
#include "store/registry/registry.h"

#define ARTIFACT_TYPE      "application/vnd.larder.disk-image.v1"
#define DISK_TYPE          "application/vnd.larder.disk-image.layer.v1"
#define TITLE_KEY          "org.opencontainers.image.title"
#define ANNOTATION(name)   "dev.larder.image." name
#define LAYERS_MAX         4
#define MANIFEST_BYTES_MAX (64UL * 1024)

struct push {
    struct larder_store *store;
    const struct larder_image_result *image;
    struct image_entry entry; /* empty when the image has none */
    struct oci_artifact_layer layers[LAYERS_MAX];
    struct json *notes[LAYERS_MAX]; /* their annotations */
    size_t n_layers;
    struct json *annotations; /* of the manifest */
    char *title;
    struct buf manifest;
    struct store_descriptor root;
};

/* ---- what is pushed ---- */

static int add_layer(struct push *p, const char *type, const struct larder_digest *digest,
                     uint64_t size_bytes, const char *title, struct larder_error *e)
{
    struct json *notes = json_new_object();
    if (json_set_string(notes, TITLE_KEY, title) < 0) {
        json_free(notes);
        return error_nomem(e);
    }
    p->notes[p->n_layers] = notes;
    p->layers[p->n_layers++] = (struct oci_artifact_layer){
        .media_type = type, .digest = *digest, .size_bytes = size_bytes, .annotations = notes};
    return 0;
}

/* The entry's name as a file name, with what the format is usually called. */
static int make_title(struct push *p, struct larder_error *e)
{
    const char *format = p->image->format ? p->image->format : "img";
    const char *extension = !strcmp(format, "raw") ? "img" : format;
    struct slice name = slice_basename(slice_of(p->image->name));
    struct buf suffix = BUF_INIT(64);
    buf_printf(&suffix, ".%s", extension);
    bool has_it = buf_failed(&suffix, e) == 0 && slice_ends(name, buf_slice(&suffix));
    int n = asprintf(&p->title, "%.*s%s", (int)name.n, name.p, has_it ? "" : suffix.p);
    buf_done(&suffix);
    if (n < 0) {
        p->title = NULL;
        return error_nomem(e);
    }
    for (char *c = p->title; *c; c++)
        if (*c == '/' || (unsigned char)*c < 0x21 || *c == 0x7f)
            *c = '_';
    return 0;
}

/* A line for sha256sum -c, kept in the store as every blob that is pushed. */
static int add_sums(struct push *p, struct larder_error *e)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    CLEANUP_FREE char *line = NULL;
    CLEANUP_FREE char *title = NULL;
    struct larder_digest digest = {0};
    int n = asprintf(&line, "%s  %s\n", larder_digest_hex(&p->image->digest, hex), p->title);
    if (n < 0 || asprintf(&title, "%s.sha256", p->title) < 0)
        return error_nomem(e);
    int rc = larder_blob_put(p->store, line, (size_t)n, NULL, &digest, e);
    return rc == 0 ? add_layer(p, "text/plain", &digest, (uint64_t)n, title, e) : rc;
}

static int add_upstream(struct push *p, struct larder_error *e)
{
    const struct image_entry *entry = &p->entry;
    int rc = 0;
    if (entry->sums_blob.alg == LARDER_DIGEST_NONE || source_is_registry(entry->source, NULL))
        return 0;
    rc = add_layer(p, "text/plain", &entry->sums_blob, entry->sums_bytes, "upstream.sums", e);
    if (rc == 0 && entry->signature_blob.alg != LARDER_DIGEST_NONE)
        rc = add_layer(p, "application/pgp-signature", &entry->signature_blob,
                       entry->signature_bytes, "upstream.sums.asc", e);
    return rc;
}

/* Where it came from; a local path says nothing to others, and is nobody else's business. */
static int add_annotations(struct push *p, struct larder_error *e)
{
    const struct image_entry *entry = &p->entry;
    char digest[LARDER_DIGEST_TEXT_BYTES];
    char number[32];
    struct json *notes = p->annotations = json_new_object();
    int rc = json_set_string(notes, ANNOTATION("format"), p->image->format);
    rc |= json_set_string(notes, ANNOTATION("digest"),
                          larder_digest_format(&p->image->digest, digest));
    if (entry->virtual_bytes > 0) {
        snprintf(number, sizeof(number), "%llu", (unsigned long long)entry->virtual_bytes);
        rc |= json_set_string(notes, ANNOTATION("virtual-size"), number);
    }
    bool is_remote =
        entry->source && (source_is_url(entry->source) || source_is_registry(entry->source, NULL));
    if (is_remote) {
        struct buf source = BUF_INIT(4096);
        url_redact(entry->source, &source);
        rc |= json_set_string(notes, ANNOTATION("source"), source.p);
        buf_done(&source);
        const struct larder_digest *from = digest_set_strongest(&entry->source_digests);
        if (from && entry->transform) {
            rc |= json_set_string(notes, ANNOTATION("source-digest"),
                                  larder_digest_format(from, digest));
            rc |= json_set_string(notes, ANNOTATION("transform"), entry->transform);
        }
        rc |= json_set_string(notes, ANNOTATION("sums"), entry->sums_url);
        rc |= json_set_string(notes, ANNOTATION("signed-by"), entry->signed_by);
    }
    return rc < 0 ? error_nomem(e) : 0;
}

static int describe(struct push *p, struct larder_error *e)
{
    int rc = make_title(p, e);
    if (rc == 0)
        rc = add_layer(p, DISK_TYPE, &p->image->digest, p->image->size_bytes, p->title, e);
    if (rc == 0)
        rc = add_sums(p, e);
    if (rc == 0)
        rc = add_upstream(p, e);
    if (rc == 0)
        rc = add_annotations(p, e);
    if (rc == 0)
        rc = oci_artifact_write(ARTIFACT_TYPE, p->layers, p->n_layers, NULL, p->annotations,
                                &p->manifest, e);
    if (rc == 0)
        rc = hash_of(LARDER_DIGEST_SHA256, p->manifest.p, p->manifest.n, &p->root.digest, e);
    p->root.size_bytes = p->manifest.n;
    snprintf(p->root.media_type, sizeof(p->root.media_type), "%s", OCI_TYPE_MANIFEST);
    return rc;
}

/* ---- sending ---- */

static int send_blobs(struct push *p, struct store *here, struct store *to,
                      const struct larder_observer *observer, bool dry_run, struct copy_result *ret,
                      struct larder_error *e)
{
    struct copy_blob blobs[LAYERS_MAX + 1] = {0};
    struct larder_digest empty = {0};
    int rc = larder_blob_put(p->store, "{}", 2, NULL, &empty, e);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < p->n_layers; i++)
        blobs[i] = (struct copy_blob){.from = here,
                                      .blob = {p->layers[i].digest, p->layers[i].size_bytes, ""}};
    blobs[p->n_layers] = (struct copy_blob){.from = here, .blob = {empty, 2, OCI_TYPE_EMPTY}};
    const struct copy_options options = {.observer = observer, .dry_run = dry_run};
    return copy_blobs(blobs, p->n_layers + 1, to, &options, ret, e);
}

/* 1: the ref is there and points to these very bytes. */
static int is_there(struct push *p, struct store *to, const char *ref, struct larder_error *e)
{
    struct store_descriptor now = {0};
    int rc = to->ops->resolve(to, ref, &now, e);
    if (rc == -LARDER_NOENT) {
        error_clear(e);
        return 0;
    }
    return rc < 0 ? rc : larder_digest_equal(&now.digest, &p->root.digest);
}

static int push_to(struct push *p, struct store *to, const char *ref,
                   const struct larder_observer *observer,
                   const struct larder_image_push_options *options,
                   struct larder_image_push_result *ret, struct larder_error *e)
{
    struct copy_result copied = {0};
    struct store *here = NULL;
    int rc = options->force ? 0 : is_there(p, to, ref, e);
    ret->was_there = rc == 1;
    if (rc != 0)
        return rc < 0 ? rc : 0;
    rc = dir_store_open(p->store, 0, &here, e);
    if (rc == 0)
        rc = send_blobs(p, here, to, observer, options->dry_run, &copied, e);
    if (rc == 0 && !options->dry_run)
        rc = to->ops->manifest_put(to, &p->root, buf_slice(&p->manifest), &ref, 1, e);
    if (rc == 0 && to->ops->flush)
        rc = to->ops->flush(to, e);
    store_close(here);
    ret->bytes_sent = copied.bytes_copied;
    return rc;
}

static const char *ref_of(const struct oci_location *location)
{
    const char *ref =
        location->transport == OCI_TRANSPORT_DOCKER ? location->reference.tag : location->ref;
    return ref ? ref : location->transport == OCI_TRANSPORT_DOCKER ? "latest" : "";
}

static int check_location(const struct oci_location *location, const char *text,
                          struct larder_error *e)
{
    bool has_digest = location->digest.alg != LARDER_DIGEST_NONE ||
                      (location->transport == OCI_TRANSPORT_DOCKER &&
                       location->reference.digest.alg != LARDER_DIGEST_NONE);
    if (!has_digest)
        return 0;
    return error_set(e, LARDER_INVAL, "%s: push to a tag, not to a digest", text);
}

static int push_image(struct push *p, const struct oci_location *location,
                      const struct larder_image_push_options *options,
                      struct larder_image_push_result *ret, struct larder_error *e)
{
    CLEANUP(relay_freep) struct relay *relay = NULL;
    const struct image_context *context = image_context_get(p->store);
    struct larder_registry_options registry = LARDER_REGISTRY_OPTIONS_INIT;
    struct store *to = NULL;
    if (!context)
        return error_nomem(e);
    if (options->registry)
        memcpy(&registry, options->registry,
               options->registry->size < sizeof(registry) ? options->registry->size
                                                          : sizeof(registry));
    if (!registry.net)
        registry.net = &context->net;
    int rc = relay_new(store_observer(p->store), &relay, e);
    if (rc < 0)
        return rc;
    const struct remote_options remote = {.options = &registry, .observer = relay_observer(relay)};
    rc = store_open_location(location, p->store, &remote, STORE_OPEN_WRITE, &to, e);
    if (rc == 0)
        rc = push_to(p, to, ref_of(location), relay_observer(relay), options, ret, e);
    store_close(to);
    ret->digest = p->root.digest;
    return rc;
}

int larder_image_push(struct larder_store *store, const struct larder_image_result *image,
                      const char *location, const struct larder_image_push_options *options,
                      struct larder_image_push_result *ret, struct larder_error *e)
{
    const struct larder_image_push_options defaults = LARDER_IMAGE_PUSH_OPTIONS_INIT;
    struct oci_location where = {0};
    struct larder_image_push_result result = {0};
    struct push p = {.store = store, .image = image, .manifest = BUF_INIT(MANIFEST_BYTES_MAX)};
    image_entry_init(&p.entry);
    int rc = oci_location_parse(location, &where, e);
    if (rc == 0)
        rc = check_location(&where, location, e);
    if (rc == 0)
        rc = image_entry_read(store, image->name, &p.entry, e);
    if (rc == 0)
        rc = describe(&p, e);
    if (rc == 0)
        rc = push_image(&p, &where, options ? options : &defaults, &result, e);
    if (rc == 0)
        *ret = result;
    for (size_t i = 0; i < p.n_layers; i++)
        json_free(p.notes[i]);
    json_free(p.annotations);
    buf_done(&p.manifest);
    free(p.title);
    image_entry_done(&p.entry);
    oci_location_done(&where);
    return rc < 0 ? error_context(e, "image %s", image->name) : 0;
}
