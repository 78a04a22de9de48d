/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pushing, in the order that leaves nothing half done: blobs, images by digest, the list by digest,
 * then each tag. Whatever step a crash hits, no tag points to an incomplete list, and the next run
 * finds by digest what is there.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/pool.h"
#include "publish/plan.h"
#include "store/copy/copy.h"

/* Some registries show a tag late; coreos-assembler waits as long for its images. */
#define LATE_NS     (600 * NS_PER_S)
#define LATE_MIN_NS (50 * NS_PER_MS)
#define LATE_MAX_NS (10 * NS_PER_S)

/* ---- what is there already ---- */

static bool is_member(const struct oci_manifest *list, const struct larder_digest *digest)
{
    for (size_t i = 0; list && i < list->n_manifests; i++) {
        if (larder_digest_equal(&list->manifests[i].digest, digest))
            return true;
    }
    return false;
}

static struct store_descriptor descriptor_of(const struct plan_image *image)
{
    struct store_descriptor d = {.digest = image->entry.digest,
                                 .size_bytes = image->entry.size_bytes};
    plan_set_type(&d, image->entry.media_type);
    return d;
}

/* A manifest that is there has its blobs: registries check that, and so do layouts here. */
static int find_there(struct plan *plan, bool is_fresh, struct larder_error *e)
{
    for (size_t i = 0; i < plan->n_images; i++) {
        struct plan_image *image = &plan->images[i];
        const struct store_descriptor manifest = descriptor_of(image);
        image->is_there = image->is_at_target && image->converted.n == 0;
        for (size_t t = 0; t < plan->n_tags; t++)
            image->is_there |= is_member(plan->tags[t].list, &manifest.digest);
        if (image->is_there || is_fresh)
            continue;
        int r = plan->target->ops->manifest_has(plan->target, &manifest, e);
        if (r < 0)
            return r;
        image->is_there = r > 0;
    }
    return 0;
}

static bool is_fresh(const struct plan *plan)
{
    for (size_t i = 0; i < plan->n_tags; i++) {
        if (plan->tags[i].now.digest.alg != LARDER_DIGEST_NONE)
            return false;
    }
    /* Not to know is no error here: then there are more questions. */
    return plan->target->ops->is_fresh && plan->target->ops->is_fresh(plan->target, NULL) == 1;
}

/* ---- blobs ---- */

static size_t blobs_of(const struct plan_image *image, struct copy_blob *out)
{
    const struct oci_manifest *m = image->manifest;
    size_t n = 0;
    for (size_t i = 0; i < m->n_layers + 1; i++) {
        const struct oci_descriptor *blob = i < m->n_layers ? &m->layers[i] : &m->config;
        if (media_type_is_foreign(blob->media_type))
            continue;
        if (out) {
            out[n] = (struct copy_blob){
                .from = image->from,
                .mount_from = image->mount_from,
                .blob = {.digest = blob->digest, .size_bytes = blob->size_bytes}};
            plan_set_type(&out[n].blob, blob->media_type);
        }
        n++;
    }
    return n;
}

static bool needs_blobs(const struct plan *plan, const struct plan_image *image)
{
    /* In the same repository they are there, whatever the manifest is. */
    return !image->is_at_target && (!image->is_there || plan->rules.force);
}

static int copy_all(struct plan *plan, bool fresh, struct larder_error *e)
{
    const struct copy_options options = {
        .jobs = plan->jobs, .is_fresh = fresh, .observer = relay_observer(plan->relay)};
    struct copy_result done = {0};
    size_t n = 0;
    for (size_t i = 0; i < plan->n_images; i++)
        n += needs_blobs(plan, &plan->images[i]) ? blobs_of(&plan->images[i], NULL) : 0;
    CLEANUP_FREE struct copy_blob *blobs = calloc(n + 1, sizeof(*blobs));
    if (!blobs)
        return error_nomem(e);
    n = 0;
    for (size_t i = 0; i < plan->n_images; i++)
        n += needs_blobs(plan, &plan->images[i]) ? blobs_of(&plan->images[i], blobs + n) : 0;
    if (n == 0)
        return 0;
    int r = copy_blobs(blobs, n, plan->target, &options, &done, e);
    plan->blobs_copied += done.blobs_copied;
    plan->blobs_existed += done.blobs_existed;
    plan->blobs_mounted += done.blobs_mounted;
    plan->bytes_copied += done.bytes_copied;
    return r;
}

struct side {
    struct plan *plan;
    int result;
    struct larder_error error;
};

static void *run_check(void *arg)
{
    struct side *side = arg;
    side->result = side->plan->check(side->plan->check_arg, &side->error);
    return NULL;
}

/* The check reads what the copying reads, so it costs little beside it. */
static int copy_and_check(struct plan *plan, bool fresh, struct larder_error *e)
{
    struct side side = {.plan = plan};
    pthread_t thread;
    if (!plan->check)
        return copy_all(plan, fresh, e);
    bool is_beside = pool_thread(&thread, run_check, &side) == 0;
    int r = copy_all(plan, fresh, e);
    if (is_beside)
        pthread_join(thread, NULL);
    else
        run_check(&side);
    /* It knows better what is wrong with blobs of a damaged file. */
    if (side.result < 0) {
        if (e)
            *e = side.error;
        r = side.result;
    }
    return r;
}

/* ---- manifests and tags ---- */

static int put(struct plan *plan, const struct store_descriptor *manifest, struct slice bytes,
               const char *const *refs, size_t n_refs, struct larder_error *e)
{
    return plan->target->ops->manifest_put(plan->target, manifest, bytes, refs, n_refs, e);
}

int plan_push_images(struct plan *plan, struct larder_error *e)
{
    bool fresh = is_fresh(plan);
    int r = find_there(plan, fresh, e);
    if (r == 0)
        r = copy_and_check(plan, fresh, e);
    for (size_t i = 0; r == 0 && i < plan->n_images; i++) {
        const struct plan_image *image = &plan->images[i];
        const struct store_descriptor manifest = descriptor_of(image);
        if (image->is_there && !plan->rules.force)
            continue;
        r = put(plan, &manifest, plan_image_bytes(image), NULL, 0, e);
        if (r < 0)
            error_context(e, "image %s", image->where);
    }
    return r;
}

static int flush(struct plan *plan, struct larder_error *e)
{
    return plan->target->ops->flush ? plan->target->ops->flush(plan->target, e) : 0;
}

/* A tag that points to it proves that the list is there, with all it names. */
static bool is_goal_there(const struct plan *plan)
{
    bool is_there = false;
    for (size_t i = 0; i < plan->n_tags && !plan->rules.force; i++)
        is_there |= larder_digest_equal(&plan->tags[i].now.digest, &plan->goal.digest);
    return is_there;
}

int plan_push(struct plan *plan, struct larder_error *e)
{
    const struct plan_tag *adopted = plan->adopted;
    struct slice bytes = buf_slice(adopted ? &adopted->bytes : &plan->list);
    CLEANUP_FREE const char **refs = calloc(plan->n_tags + 1, sizeof(*refs));
    size_t n = 0;
    if (!refs)
        return error_nomem(e);
    /* An adopted list has its images. */
    bool is_there = adopted || is_goal_there(plan);
    int r = is_there ? 0 : plan_push_images(plan, e);
    if (r == 0 && !is_there)
        r = put(plan, &plan->goal, bytes, NULL, 0, e);
    for (size_t i = 0; i < plan->n_tags; i++) {
        if (plan->tags[i].verdict == TAG_PUT)
            refs[n++] = plan->tags[i].name;
    }
    if (r == 0)
        r = put(plan, &plan->goal, bytes, refs, n, e);
    return r == 0 ? flush(plan, e) : r;
}

/* ---- as a reader finds it ---- */

/* 0: look again; 1: it was long enough; CANCELED. */
static int wait_more(struct plan *plan, int64_t since_ns, int64_t *pause_ns, struct larder_error *e)
{
    if (clock_monotonic_ns() - since_ns > LATE_NS)
        return 1;
    if (observer_pump(relay_observer(plan->relay)))
        return error_set(e, LARDER_CANCELED, "waiting for the registry was canceled");
    clock_sleep_ns(*pause_ns);
    *pause_ns = *pause_ns * 2 > LATE_MAX_NS ? LATE_MAX_NS : *pause_ns * 2;
    return 0;
}

/* What a tag points to; absent is no error. */
static int ask_tag(struct plan *plan, const struct plan_tag *tag, struct store_descriptor *ret,
                   struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    *ret = (struct store_descriptor){0};
    int r = plan->target->ops->resolve(plan->target, tag->name, ret, &why);
    if (r == 0)
        return 0;
    *ret = (struct store_descriptor){0};
    if (r == -LARDER_NOENT || r == -LARDER_GONE)
        return 0;
    if (e)
        *e = why;
    error_context(e, "tag %s", tag->name);
    return r;
}

static int verify_tag(struct plan *plan, const struct plan_tag *tag, struct larder_error *e)
{
    int64_t since = clock_monotonic_ns(), pause = LATE_MIN_NS;
    char found[LARDER_DIGEST_TEXT_BYTES], wanted[LARDER_DIGEST_TEXT_BYTES];
    struct store_descriptor now;
    larder_digest_format(&plan->goal.digest, wanted);
    for (;;) {
        int r = ask_tag(plan, tag, &now, e);
        if (r < 0 || larder_digest_equal(&now.digest, &plan->goal.digest))
            return r;
        bool is_there = now.digest.alg != LARDER_DIGEST_NONE;
        if (is_there)
            larder_digest_format(&now.digest, found);
        /* A late registry shows what was there before, nothing else. */
        if (is_there && !larder_digest_equal(&now.digest, &tag->now.digest))
            return error_set(e, LARDER_OUTDATED,
                             "tag %s: %s, though %s was just pushed: somebody else moved it",
                             tag->name, found, wanted);
        r = wait_more(plan, since, &pause, e);
        if (r < 0)
            return r;
        if (r > 0 && is_there)
            return error_set(e, LARDER_OUTDATED, "tag %s: still %s, though %s was pushed",
                             tag->name, found, wanted);
        if (r > 0)
            return error_set(e, LARDER_GONE, "tag %s: not there, though it was just pushed",
                             tag->name);
    }
}

static int verify_image(struct plan *plan, const struct plan_image *image, struct larder_error *e)
{
    struct store_descriptor manifest = {.digest = image->digest};
    int64_t since = clock_monotonic_ns(), pause = LATE_MIN_NS;
    char text[LARDER_DIGEST_TEXT_BYTES];
    if (image->has_entry)
        manifest = descriptor_of(image);
    for (;;) {
        int r = plan->target->ops->manifest_has(plan->target, &manifest, e);
        if (r != 0)
            return r < 0 ? r : 0;
        r = wait_more(plan, since, &pause, e);
        if (r < 0)
            return r;
        if (r > 0)
            return error_set(e, LARDER_GONE, "image %s: %s is not there, though it was pushed",
                             image->where, larder_digest_format(&image->digest, text));
    }
}

int plan_verify(struct plan *plan, struct larder_error *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < plan->n_tags; i++) {
        if (plan->tags[i].verdict == TAG_PUT)
            r = verify_tag(plan, &plan->tags[i], e);
    }
    for (size_t i = 0; r == 0 && i < plan->n_images; i++)
        r = verify_image(plan, &plan->images[i], e);
    return r;
}
