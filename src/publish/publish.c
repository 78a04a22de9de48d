/* SPDX-License-Identifier: Apache-2.0 */
#include <larder/publish.h>

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "publish/plan.h"
#include "store/registry/registry.h"

/* More are a mistake; registries allow fewer members of a list, or tags. */
#define IMAGES_MAX 10000
#define TAGS_MAX   10000

const char *larder_publish_action_name(enum larder_publish_action action)
{
    switch (action) {
    case LARDER_PUBLISH_NOTHING:
        return "nothing";
    case LARDER_PUBLISH_RECORD:
        return "record";
    case LARDER_PUBLISH_PUSH:
        return "push";
    }
    return "unknown";
}

/* ---- opening ---- */

static bool is_layout(const char *repository)
{
    return strncmp(repository, "oci:", 4) == 0;
}

static int parse_target(struct plan *plan, struct larder_error *e)
{
    static const char scheme[] = "docker://";
    struct oci_location *location = &plan->target_location;
    const char *text = plan->repository;
    if (is_layout(text)) {
        int r = oci_location_parse(text, location, e);
        if (r == 0 && (location->ref || location->digest.alg != LARDER_DIGEST_NONE))
            r = error_set(e, LARDER_INVAL, "repository %s: a layout without a ref expected", text);
        return r;
    }
    if (strncmp(text, scheme, strlen(scheme)) == 0)
        text += strlen(scheme);
    location->transport = OCI_TRANSPORT_DOCKER;
    return oci_repository_parse(text, &location->reference, e);
}

static bool is_target(const struct plan *plan, const struct oci_location *location)
{
    const struct oci_location *target = &plan->target_location;
    if (location->transport != target->transport)
        return false;
    if (location->transport == OCI_TRANSPORT_DOCKER)
        return strcmp(location->reference.host, target->reference.host) == 0 &&
               strcmp(location->reference.name, target->reference.name) == 0;
    return location->transport == OCI_TRANSPORT_LAYOUT && strcmp(location->path, target->path) == 0;
}

static int check_tags(const struct plan *plan, struct larder_error *e)
{
    if (plan->n_tags == 0)
        return error_set(e, LARDER_INVAL, "repository %s: no tag given", plan->repository);
    for (size_t i = 0; i < plan->n_tags; i++) {
        const char *name = plan->tags[i].name;
        if (!oci_tag_is_valid(slice_of(name)))
            return error_set(e, LARDER_INVAL, "tag %s: not a tag", name);
        for (size_t k = 0; k < i; k++) {
            if (strcmp(plan->tags[k].name, name) == 0)
                return error_set(e, LARDER_INVAL, "tag %s: given twice", name);
        }
    }
    return 0;
}

static int parse_image(struct plan *plan, struct plan_image *image, struct larder_error *e)
{
    int r = oci_location_parse(image->where, &image->location, e);
    if (r < 0) {
        error_context(e, "image %s", image->where);
        return r;
    }
    image->is_at_target = is_target(plan, &image->location);
    return 0;
}

int plan_open(struct plan *plan, const struct larder_observer *observer, struct larder_error *e)
{
    int r = relay_new(observer, &plan->relay, e);
    if (r == 0)
        r = parse_target(plan, e);
    if (r == 0)
        r = check_tags(plan, e);
    if (r == 0 && plan->n_images == 0)
        r = error_set(e, LARDER_INVAL, "repository %s: no image given", plan->repository);
    for (size_t i = 0; r == 0 && i < plan->n_images; i++)
        r = parse_image(plan, &plan->images[i], e);
    if (r < 0)
        return r;
    const struct remote_options remote = {.options = plan->registry,
                                          .observer = relay_observer(plan->relay)};
    return store_open_location(&plan->target_location, plan->handle, &remote, STORE_OPEN_WRITE,
                               &plan->target, e);
}

static void image_done(struct plan_image *image)
{
    oci_location_done(&image->location);
    store_close(image->from);
    buf_done(&image->source_bytes);
    oci_manifest_free(image->manifest);
    buf_done(&image->converted);
    json_free(image->config);
    free(image->guessed_arch);
    free(image->mount_from);
}

void plan_done(struct plan *plan)
{
    for (size_t i = 0; i < plan->n_images; i++)
        image_done(&plan->images[i]);
    for (size_t i = 0; i < plan->n_tags; i++) {
        buf_done(&plan->tags[i].bytes);
        oci_manifest_free(plan->tags[i].list);
    }
    free(plan->images);
    free(plan->tags);
    buf_done(&plan->list);
    store_close(plan->target);
    oci_location_done(&plan->target_location);
    relay_free(plan->relay);
    *plan = (struct plan){0};
}

/* ---- comparing ---- */

int plan_compare(struct plan *plan, struct larder_error *e)
{
    int r = plan_identify(plan, e);
    if (r == 0)
        r = plan_look(plan, e);
    if (r == 0)
        r = plan_judge(plan, e);
    if (r < 0 || plan->is_certain || !plan_has_puts(plan) || plan->adopted)
        return r;
    /* Something is to be pushed, so the list must be known, not guessed; the tags are not asked
     * again unless it is another one. */
    struct larder_digest guessed = plan->list_descriptor.digest;
    r = plan_load(plan, e);
    if (r == 0 && guessed.alg != LARDER_DIGEST_NONE &&
        !larder_digest_equal(&guessed, &plan->list_descriptor.digest))
        r = plan_look(plan, e);
    return r == 0 ? plan_judge(plan, e) : r;
}

uint64_t plan_requests(const struct plan *plan)
{
    uint64_t n = 0;
    for (size_t i = 0; i < plan->n_images; i++) {
        struct store *from = plan->images[i].from;
        if (from && from->ops->requests)
            n += from->ops->requests(from);
    }
    if (plan->target && plan->target->ops->requests)
        n += plan->target->ops->requests(plan->target);
    return n;
}

/* ---- the result ---- */

void larder_publish_result_done(struct larder_publish_result *result)
{
    for (size_t i = 0; i < result->n_tags; i++) {
        free(result->tags[i].tag);
        free(result->tags[i].why);
    }
    for (size_t i = 0; i < result->n_images; i++)
        free(result->images[i].platform);
    free(result->tags);
    free(result->images);
    *result = (struct larder_publish_result){0};
}

/* An image that was never read is described by the list that has it. */
static const struct oci_platform *platform_of(const struct plan *plan,
                                              const struct plan_image *image)
{
    if (image->has_entry)
        return &image->entry.platform;
    for (size_t t = 0; t < plan->n_tags; t++) {
        const struct oci_manifest *list = plan->tags[t].list;
        for (size_t i = 0; list && i < list->n_manifests; i++) {
            if (list->manifests[i].has_platform &&
                larder_digest_equal(&list->manifests[i].digest, &image->digest))
                return &list->manifests[i].platform;
        }
    }
    return NULL;
}

static int fill_images(const struct plan *plan, struct larder_publish_result *ret,
                       struct larder_error *e)
{
    for (size_t i = 0; i < plan->n_images; i++) {
        const struct plan_image *image = &plan->images[i];
        const struct oci_platform *platform = platform_of(plan, image);
        struct buf text = BUF_INIT(4096);
        if (platform)
            oci_platform_format(platform, &text);
        ret->images[i].digest = image->digest;
        ret->images[i].platform = buf_take(&text);
        ret->n_images++;
        if (!ret->images[i].platform)
            return error_nomem(e);
    }
    return 0;
}

static int fill_tags(const struct plan *plan, struct larder_publish_result *ret,
                     struct larder_error *e)
{
    for (size_t i = 0; i < plan->n_tags; i++) {
        const struct plan_tag *tag = &plan->tags[i];
        struct buf why = BUF_INIT(4096);
        decide_why(tag->state, &tag->found, &why);
        ret->tags[i].tag = strdup(tag->name);
        ret->tags[i].why = buf_take(&why);
        ret->tags[i].is_changed = tag->verdict == TAG_PUT;
        ret->n_tags++;
        if (!ret->tags[i].tag || !ret->tags[i].why)
            return error_nomem(e);
    }
    return 0;
}

int plan_result(const struct plan *plan, struct larder_publish_result *ret, struct larder_error *e)
{
    struct larder_publish_result made = {0};
    made.tags = calloc(plan->n_tags + 1, sizeof(*made.tags));
    made.images = calloc(plan->n_images + 1, sizeof(*made.images));
    if (!made.tags || !made.images) {
        larder_publish_result_done(&made);
        return error_nomem(e);
    }
    int r = fill_tags(plan, &made, e);
    if (r == 0)
        r = fill_images(plan, &made, e);
    if (r < 0) {
        larder_publish_result_done(&made);
        return r;
    }
    made.action = plan_has_puts(plan) ? LARDER_PUBLISH_PUSH : LARDER_PUBLISH_NOTHING;
    made.digest = plan->goal.digest;
    made.blobs_copied = plan->blobs_copied;
    made.blobs_existed = plan->blobs_existed;
    made.blobs_mounted = plan->blobs_mounted;
    made.bytes_copied = plan->bytes_copied;
    made.requests = plan_requests(plan);
    *ret = made;
    return 0;
}

/* ---- the call ---- */

static int fill_plan(struct plan *plan, const struct larder_publish_options *options,
                     struct larder_error *e)
{
    plan->images = calloc(options->n_images + 1, sizeof(*plan->images));
    plan->tags = calloc(options->n_tags + 1, sizeof(*plan->tags));
    if (!plan->images || !plan->tags)
        return error_nomem(e);
    for (size_t i = 0; i < options->n_images; i++)
        plan->images[plan->n_images++].where = options->images[i];
    for (size_t i = 0; i < options->n_tags; i++)
        plan->tags[plan->n_tags++].name = options->tags[i];
    return 0;
}

static int check_options(const struct larder_publish_options *options, struct larder_error *e)
{
    if (options->size < sizeof(struct larder_publish_options) || !options->repository ||
        options->n_images > IMAGES_MAX || options->n_tags > TAGS_MAX)
        return error_set(e, LARDER_INVAL, "publish options: malformed");
    if (options->force && options->no_clobber)
        return error_set(e, LARDER_INVAL,
                         "publish options: force and no_clobber exclude each other");
    return 0;
}

static int run(struct plan *plan, const struct larder_publish_options *options,
               struct larder_error *e)
{
    if (options->append)
        return plan_append(plan, options->dry_run, e);
    int r = plan_compare(plan, e);
    if (r == 0)
        r = plan_refusal(plan, e);
    if (r < 0 || options->dry_run || !plan_has_puts(plan))
        return r;
    r = plan_push(plan, e);
    return r == 0 ? plan_verify(plan, e) : r;
}

int larder_publish(struct larder_store *store, const struct larder_publish_options *options,
                   struct larder_publish_result *ret, struct larder_error *e)
{
    int r = check_options(options, e);
    if (r < 0)
        return r;
    struct plan plan = {
        .handle = store,
        .registry = options->registry,
        .repository = options->repository,
        .v2s2 = options->v2s2,
        .jobs = options->jobs,
        .rules = {.force = options->force, .no_clobber = options->no_clobber},
    };
    r = fill_plan(&plan, options, e);
    if (r == 0)
        r = plan_open(&plan, options->observer, e);
    if (r == 0)
        r = run(&plan, options, e);
    if (r == 0)
        r = plan_result(&plan, ret, e);
    plan_done(&plan);
    return r;
}
