/* SPDX-License-Identifier: Apache-2.0 */
/* What the tags point to, and how that compares with what is wanted. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "publish/plan.h"

static bool is_absent(const struct plan_tag *tag)
{
    return tag->now.digest.alg == LARDER_DIGEST_NONE;
}

static bool is_missing(int r)
{
    return r == -LARDER_NOENT || r == -LARDER_GONE;
}

static void forget(struct plan_tag *tag)
{
    buf_done(&tag->bytes);
    oci_manifest_free(TAKE_PTR(tag->list));
    tag->now = (struct store_descriptor){0};
    tag->is_read = false;
}

int plan_read_tag(struct plan *plan, struct plan_tag *tag, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct oci_manifest *manifest = NULL;
    forget(tag);
    tag->bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    int r = plan->target->ops->manifest_get(plan->target, tag->name, NULL, &tag->bytes, &tag->now,
                                            &why);
    if (is_missing(r)) {
        forget(tag);
        tag->is_read = true;
        return 0;
    }
    if (r < 0) {
        if (e)
            *e = why;
        error_context(e, "tag %s", tag->name);
        return r;
    }
    tag->is_read = true;
    r = oci_manifest_parse(buf_slice(&tag->bytes), tag->now.media_type, &manifest, &why);
    if (r == -LARDER_NOMEM)
        return error_nomem(e);
    /* What isn't understood is no list either: it is replaced, or not, by the same rules. */
    if (r == 0 && manifest->kind == OCI_KIND_INDEX)
        tag->list = TAKE_PTR(manifest);
    oci_manifest_free(manifest);
    return 0;
}

/* Two tags may have one list, which then is read once. */
static const struct plan_tag *reader_of(const struct plan *plan, const struct plan_tag *tag)
{
    for (size_t i = 0; i < plan->n_tags; i++) {
        const struct plan_tag *other = &plan->tags[i];
        if (other->is_read && larder_digest_equal(&other->now.digest, &tag->now.digest))
            return other;
    }
    return NULL;
}

static bool needs_bytes(const struct plan *plan, const struct plan_tag *tag)
{
    if (is_absent(tag) || tag->is_read || media_type_is_manifest(tag->now.media_type) ||
        reader_of(plan, tag))
        return false;
    return !plan->has_list || !larder_digest_equal(&tag->now.digest, &plan->list_descriptor.digest);
}

/* One question a tag where the list is known, and it is there. */
static int look(struct plan *plan, struct plan_tag *tag, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    bool has_known = plan->has_list;
    for (size_t i = 0; i < plan->n_tags; i++)
        has_known = has_known || plan->tags[i].list;
    if (!has_known)
        return plan_read_tag(plan, tag, e);
    forget(tag);
    int r = plan->target->ops->resolve(plan->target, tag->name, &tag->now, &why);
    if (is_missing(r)) {
        forget(tag);
        tag->is_read = true;
        return 0;
    }
    if (r < 0) {
        if (e)
            *e = why;
        error_context(e, "tag %s", tag->name);
        return r;
    }
    return needs_bytes(plan, tag) ? plan_read_tag(plan, tag, e) : 0;
}

int plan_look(struct plan *plan, struct larder_error *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < plan->n_tags; i++)
        r = look(plan, &plan->tags[i], e);
    return r;
}

/* ---- judging ---- */

static enum tag_state compare(const struct plan *plan, struct plan_tag *tag,
                              const struct decide_image *wanted)
{
    const struct plan_tag *reader = tag->is_read ? tag : reader_of(plan, tag);
    tag->has_others = false;
    if (is_absent(tag))
        return TAG_ABSENT;
    if (plan->has_list && larder_digest_equal(&tag->now.digest, &plan->list_descriptor.digest))
        return TAG_EQUAL;
    if (!reader || !reader->list)
        return TAG_IMAGE;
    return decide_compare(reader->list, wanted, plan->n_images, &tag->has_others);
}

/* The computed list where any tag has it; else one of the same images that a tag has already, so
 * that what others made of them stays. */
static void choose_goal(struct plan *plan)
{
    const struct plan_tag *same = NULL;
    plan->adopted = NULL;
    plan->goal = plan->list_descriptor;
    for (size_t i = 0; i < plan->n_tags; i++) {
        const struct plan_tag *tag = &plan->tags[i];
        if (tag->state == TAG_EQUAL)
            return;
        if (tag->state == TAG_SAME && tag->list && !same)
            same = tag;
    }
    /* By force the very bytes are wanted. */
    if (!same || plan->rules.force)
        return;
    plan->adopted = same;
    plan->goal = same->now;
    plan_set_type(&plan->goal, same->list->media_type);
    for (size_t i = 0; i < plan->n_tags; i++) {
        struct plan_tag *tag = &plan->tags[i];
        if (larder_digest_equal(&tag->now.digest, &plan->goal.digest))
            tag->state = TAG_EQUAL;
    }
}

int plan_judge(struct plan *plan, struct larder_error *e)
{
    CLEANUP_FREE struct decide_image *wanted = calloc(plan->n_images + 1, sizeof(*wanted));
    if (!wanted)
        return error_nomem(e);
    for (size_t i = 0; i < plan->n_images; i++) {
        const struct plan_image *image = &plan->images[i];
        wanted[i].digest = image->digest;
        wanted[i].platform = image->has_entry ? &image->entry.platform : NULL;
    }
    for (size_t i = 0; i < plan->n_tags; i++)
        plan->tags[i].state = compare(plan, &plan->tags[i], wanted);
    choose_goal(plan);
    for (size_t i = 0; i < plan->n_tags; i++) {
        struct plan_tag *tag = &plan->tags[i];
        const struct decide_tag facts = {tag->state, tag->has_others, tag->is_recorded,
                                         tag->is_build};
        tag->found = tag->now.digest;
        tag->verdict = decide_tag(&facts, &plan->rules);
    }
    return 0;
}

bool plan_has_puts(const struct plan *plan)
{
    for (size_t i = 0; i < plan->n_tags; i++) {
        if (plan->tags[i].verdict == TAG_PUT)
            return true;
    }
    return false;
}

int plan_refusal(const struct plan *plan, struct larder_error *e)
{
    static const struct {
        enum larder_code code;
        const char *text, *hint;
    } refusals[] = {
        [TAG_CLOBBER] = {LARDER_EXIST, "there is something else already", NULL},
        [TAG_DROPS] = {LARDER_EXIST,
                       "it has architectures that were not asked for, and would lose them",
                       "name all architectures, or use --force"},
        [TAG_MOVED] = {LARDER_OUTDATED, "moved on since these images were pushed to it",
                       "--force moves it back"},
        [TAG_IMMUTABLE] = {LARDER_OUTDATED,
                           "names this build, which was pushed to it, but has other images now",
                           "find out who pushed there; --force pushes again"},
    };
    for (size_t i = 0; i < plan->n_tags; i++) {
        const struct plan_tag *tag = &plan->tags[i];
        char digest[LARDER_DIGEST_TEXT_BYTES];
        if (!tag_verdict_is_refusal(tag->verdict))
            continue;
        int r =
            error_set(e, refusals[tag->verdict].code, "tag %s: %s: %s", tag->name,
                      refusals[tag->verdict].text, larder_digest_format(&tag->now.digest, digest));
        if (refusals[tag->verdict].hint)
            error_hint(e, "%s", refusals[tag->verdict].hint);
        return r;
    }
    return 0;
}
