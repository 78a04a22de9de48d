/* SPDX-License-Identifier: Apache-2.0 */
/* The desired state: what each image's manifest is, and the list of them. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "publish/plan.h"
#include "store/blob_read.h"
#include "store/registry/registry.h"

/* Configs carry the whole history of an image; 8 MiB as larder_manifest_blob. */
#define CONFIG_BYTES_MAX (8UL * 1024 * 1024)

static int open_source(struct plan *plan, struct plan_image *image, struct larder_error *e)
{
    if (image->from)
        return 0;
    const struct remote_options remote = {.options = plan->registry,
                                          .observer = relay_observer(plan->relay)};
    return store_open_location(&image->location, plan->handle, &remote, 0, &image->from, e);
}

static const char *source_ref(const struct plan_image *image)
{
    if (image->location.transport != OCI_TRANSPORT_DOCKER)
        return image->location.ref;
    return image->location.reference.tag ? image->location.reference.tag : "latest";
}

static const struct larder_digest *source_digest(const struct plan_image *image)
{
    const struct larder_digest *digest = image->location.transport == OCI_TRANSPORT_DOCKER
                                             ? &image->location.reference.digest
                                             : &image->location.digest;
    return digest->alg == LARDER_DIGEST_NONE ? NULL : digest;
}

static int is_list_error(const struct plan_image *image, struct larder_error *e)
{
    error_set(e, LARDER_INVAL, "image %s: an index of several images, one image expected",
              image->where);
    return error_hint(e, "name one of its images: NAME@DIGEST");
}

/* ---- reading an image ---- */

static bool is_image_member(const struct oci_descriptor *member)
{
    return !member->artifact_type && media_type_is_manifest(member->media_type);
}

/* Layouts and archives that other tools make may wrap their only image in an index. */
static int only_member(const struct plan_image *image, const struct oci_manifest *index,
                       struct larder_digest *ret, struct larder_error *e)
{
    const struct oci_descriptor *only = NULL;
    for (size_t i = 0; i < index->n_manifests; i++) {
        if (!is_image_member(&index->manifests[i]))
            continue;
        if (only)
            return is_list_error(image, e);
        only = &index->manifests[i];
    }
    if (!only || image->location.transport == OCI_TRANSPORT_DOCKER)
        return is_list_error(image, e);
    *ret = only->digest;
    return 0;
}

static int read_manifest(struct plan *plan, struct plan_image *image, struct larder_error *e)
{
    const struct larder_digest *wanted = source_digest(image);
    struct larder_digest member;
    int r = open_source(plan, image, e);
    /* What was found first is what is read, though the tag moves. */
    if (!wanted && image->location.transport == OCI_TRANSPORT_DOCKER &&
        image->source.digest.alg != LARDER_DIGEST_NONE)
        wanted = &image->source.digest;
    for (unsigned depth = 0; r == 0 && depth < OCI_INDEX_DEPTH_MAX; depth++) {
        struct store_descriptor found = {0};
        buf_done(&image->source_bytes);
        image->source_bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
        oci_manifest_free(TAKE_PTR(image->manifest));
        r = image->from->ops->manifest_get(image->from, wanted ? NULL : source_ref(image), wanted,
                                           &image->source_bytes, &found, e);
        if (r == 0)
            r = manifest_parse_from(image->from, buf_slice(&image->source_bytes), found.media_type,
                                    &image->manifest, e);
        if (r < 0)
            break;
        if (image->manifest->kind == OCI_KIND_IMAGE) {
            image->source = found;
            plan_set_type(&image->source, image->manifest->media_type);
            return 0;
        }
        r = only_member(image, image->manifest, &member, e);
        if (r < 0)
            return r;
        wanted = &member;
    }
    if (r == 0)
        return error_set(e, LARDER_LIMIT, "image %s: indexes nested more than %d deep",
                         image->where, OCI_INDEX_DEPTH_MAX);
    error_context(e, "image %s", image->where);
    return r;
}

/* The manifest that is pushed, from the one that was read. */
static int convert(const struct plan *plan, struct plan_image *image, struct larder_error *e)
{
    bool is_converted = plan->v2s2 && !image->manifest->is_docker;
    buf_done(&image->converted);
    image->converted = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    if (is_converted) {
        int r = oci_manifest_to_docker(image->manifest, &image->converted, e);
        if (r < 0) {
            error_context(e, "image %s", image->where);
            return r;
        }
    }
    struct slice bytes = plan_image_bytes(image);
    image->entry.media_type = is_converted ? DOCKER_TYPE_MANIFEST : image->manifest->media_type;
    image->entry.size_bytes = bytes.n;
    if (!is_converted)
        image->entry.digest = image->source.digest;
    else if (hash_of(LARDER_DIGEST_SHA256, bytes.p, bytes.n, &image->entry.digest, e) < 0)
        return -LARDER_NOMEM;
    image->digest = image->entry.digest;
    return 0;
}

void plan_set_type(struct store_descriptor *descriptor, const char *type)
{
    snprintf(descriptor->media_type, sizeof(descriptor->media_type), "%s", type);
}

struct slice plan_image_bytes(const struct plan_image *image)
{
    return buf_slice(image->converted.n > 0 ? &image->converted : &image->source_bytes);
}

static int read_platform(struct plan_image *image, struct larder_error *e)
{
    const struct oci_descriptor *config = &image->manifest->config;
    struct store_descriptor blob = {.digest = config->digest, .size_bytes = config->size_bytes};
    struct buf bytes = BUF_INIT(CONFIG_BYTES_MAX);
    struct json *document = NULL;
    int r = blob_read(image->from, &blob, &bytes, e);
    if (r == 0)
        r = oci_config_platform(buf_slice(&bytes), &document, &image->entry.platform, e);
    buf_done(&bytes);
    if (r < 0) {
        error_context(e, "image %s: config", image->where);
        return r;
    }
    json_free(image->config);
    image->config = document;
    image->entry.has_platform = true;
    return 0;
}

static int load_image(struct plan *plan, struct plan_image *image, struct larder_error *e)
{
    struct larder_digest before = image->digest;
    char had[LARDER_DIGEST_TEXT_BYTES], has[LARDER_DIGEST_TEXT_BYTES];
    if (image->is_loaded)
        return 0;
    int r = read_manifest(plan, image, e);
    if (r == 0)
        r = convert(plan, image, e);
    if (r == 0)
        r = read_platform(image, e);
    if (r < 0)
        return r;
    if (before.alg != LARDER_DIGEST_NONE && !larder_digest_equal(&before, &image->digest))
        return error_set(e, LARDER_CORRUPT, "image %s: manifest %s, expected %s", image->where,
                         larder_digest_format(&image->digest, has),
                         larder_digest_format(&before, had));
    image->has_entry = image->is_loaded = true;
    return 0;
}

int plan_load(struct plan *plan, struct larder_error *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < plan->n_images; i++)
        r = load_image(plan, &plan->images[i], e);
    if (r == 0)
        r = plan_write_list(plan, e);
    plan->is_certain = r == 0;
    return r;
}

/* ---- the cheapest questions ---- */

/* The manifest's bytes that a build kept beside the archive. */
static int read_hint_file(struct plan_image *image)
{
    struct larder_digest digest;
    image->source_bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    if (!image->hint_file ||
        file_read(AT_FDCWD, image->hint_file, &image->source_bytes, NULL) < 0 ||
        hash_of(LARDER_DIGEST_SHA256, image->source_bytes.p, image->source_bytes.n, &digest, NULL) <
            0 ||
        !larder_digest_equal(&digest, &image->hint) ||
        oci_manifest_parse(buf_slice(&image->source_bytes), NULL, &image->manifest, NULL) < 0)
        return -1;
    return image->manifest->kind == OCI_KIND_IMAGE ? 0 : -1;
}

/*
 * Without opening the archive: what its manifest is was written down when it was made, and its
 * platform follows from the architecture, all but surely (a variant may be missing). A list from
 * guesses is only ever compared; what is pushed is loaded.
 */
static int identify_by_hint(struct plan *plan, struct plan_image *image)
{
    struct larder_error ignored = LARDER_ERROR_INIT;
    if (image->hint.alg == LARDER_DIGEST_NONE)
        return -1;
    if (read_hint_file(image) < 0) {
        buf_done(&image->source_bytes);
        oci_manifest_free(TAKE_PTR(image->manifest));
        /* A converted manifest's digest needs the bytes. */
        image->digest = image->hint;
        return plan->v2s2 ? -1 : 0;
    }
    image->source.digest = image->hint;
    if (convert(plan, image, &ignored) < 0)
        return -1;
    image->guessed_arch = strdup(platform_arch_from_uname(image->hint_arch));
    if (!image->guessed_arch)
        return -1;
    image->entry.platform =
        (struct oci_platform){.os = "linux", .architecture = image->guessed_arch};
    image->has_entry = image->entry.has_platform = true;
    return 0;
}

static int identify_remote(struct plan *plan, struct plan_image *image, struct larder_error *e)
{
    const struct larder_digest *digest = source_digest(image);
    if (digest) {
        image->digest = image->source.digest = *digest;
        return 0;
    }
    int r = open_source(plan, image, e);
    if (r == 0)
        r = image->from->ops->resolve(image->from, source_ref(image), &image->source, e);
    if (r < 0) {
        error_context(e, "image %s", image->where);
        return r;
    }
    if (media_type_is_index(image->source.media_type))
        return is_list_error(image, e);
    image->digest = image->source.digest;
    return 0;
}

static int identify(struct plan *plan, struct plan_image *image, struct larder_error *e)
{
    if (identify_by_hint(plan, image) == 0)
        return 0;
    image->digest = (struct larder_digest){0};
    if (image->location.transport == OCI_TRANSPORT_DOCKER && !plan->v2s2)
        return identify_remote(plan, image, e);
    return load_image(plan, image, e);
}

int plan_identify(struct plan *plan, struct larder_error *e)
{
    bool has_all = true, is_certain = true;
    for (size_t i = 0; i < plan->n_images; i++) {
        int r = identify(plan, &plan->images[i], e);
        if (r < 0)
            return r;
        has_all = has_all && plan->images[i].has_entry;
        is_certain = is_certain && plan->images[i].is_loaded;
    }
    int r = has_all ? plan_write_list(plan, e) : 0;
    plan->is_certain = r == 0 && has_all && is_certain;
    return r;
}

/* ---- the list ---- */

static int check_platforms(const struct plan *plan, struct larder_error *e)
{
    for (size_t i = 0; i < plan->n_images; i++) {
        for (size_t k = 0; k < i; k++) {
            const struct plan_image *a = &plan->images[k], *b = &plan->images[i];
            struct buf text = BUF_INIT(4096);
            if (oci_platform_compare(&a->entry.platform, &b->entry.platform) != 0)
                continue;
            oci_platform_format(&a->entry.platform, &text);
            int r = error_set(e, LARDER_INVAL, "images %s and %s: both are for %s", a->where,
                              b->where, text.p ? text.p : "one platform");
            buf_done(&text);
            return r;
        }
    }
    return 0;
}

int plan_write_list(struct plan *plan, struct larder_error *e)
{
    CLEANUP_FREE struct oci_index_entry *entries =
        calloc(plan->n_images + 1, sizeof(struct oci_index_entry));
    if (!entries)
        return error_nomem(e);
    int r = check_platforms(plan, e);
    for (size_t i = 0; i < plan->n_images; i++)
        entries[i] = plan->images[i].entry;
    buf_done(&plan->list);
    plan->list = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    if (r == 0)
        r = oci_index_write(entries, plan->n_images, plan->v2s2, NULL, &plan->list, e);
    struct store_descriptor *list = &plan->list_descriptor;
    if (r == 0)
        r = hash_of(LARDER_DIGEST_SHA256, plan->list.p, plan->list.n, &list->digest, e);
    list->size_bytes = plan->list.n;
    plan_set_type(list, plan->v2s2 ? DOCKER_TYPE_LIST : OCI_TYPE_INDEX);
    plan->has_list = r == 0;
    return r;
}
