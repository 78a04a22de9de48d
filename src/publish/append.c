/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adding images to the lists that tags point to, while other hosts do the same.
 *
 * Registries can't compare and swap, so a list that was read may be another's by the time the
 * merged one is put, and one of the two writes is lost:
 *
 *     A reads {}    B reads {}    A puts {A}    B puts {B}
 *
 * B can't see what it overwrote, but A can, if it looks after B's write. B's write comes at the
 * latest the length of B's window, from its read to its put, after A's. So everybody keeps that
 * window short (one GET, one PUT, nothing between), waits for several of its own windows after a
 * put, and looks again: whoever lost merges again. Who merges again knows that there is contention,
 * and waits longer, by a random time, so that two don't lose in step.
 *
 * Members are sorted by platform, so that all orders of writers end with the same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "publish/plan.h"

/* Rounds in which others always won; each needs another writer, and all of them end. */
#define ROUNDS_MAX    100
#define SETTLE_MIN_NS (250 * NS_PER_MS)
#define SETTLE_MAX_NS (10 * NS_PER_S)
/* Others' windows are as long as ours, but for their luck. */
#define SETTLE_WINDOWS 8

struct appended {
    struct oci_manifest *first; /* the list before our first put; NULL: none */
    bool is_done;
};

static bool is_same_platform(const struct oci_descriptor *member, const struct plan_image *image)
{
    return !member->artifact_type && member->has_platform && image->has_entry &&
           oci_platform_compare(&member->platform, &image->entry.platform) == 0;
}

static const struct oci_descriptor *find(const struct oci_manifest *list,
                                         const struct plan_image *image)
{
    for (size_t i = 0; list && i < list->n_manifests; i++) {
        if (larder_digest_equal(&list->manifests[i].digest, &image->digest))
            return &list->manifests[i];
    }
    return NULL;
}

/* Who has the image's platform instead of it. */
static const struct oci_descriptor *find_rival(const struct oci_manifest *list,
                                               const struct plan_image *image)
{
    for (size_t i = 0; list && i < list->n_manifests; i++) {
        if (is_same_platform(&list->manifests[i], image) &&
            !larder_digest_equal(&list->manifests[i].digest, &image->digest))
            return &list->manifests[i];
    }
    return NULL;
}

static bool has_all(const struct plan *plan, const struct oci_manifest *list)
{
    for (size_t i = 0; i < plan->n_images; i++) {
        if (!find(list, &plan->images[i]) || find_rival(list, &plan->images[i]))
            return false;
    }
    return true;
}

/* ---- merging ---- */

static int compare_entries(const void *a, const void *b)
{
    const struct oci_index_entry *x = a, *y = b;
    /* Artifacts and what has no platform come last. */
    bool is_x_image = x->has_platform && !x->artifact_type;
    bool is_y_image = y->has_platform && !y->artifact_type;
    if (is_x_image != is_y_image)
        return is_x_image ? -1 : 1;
    int r = x->has_platform && y->has_platform ? oci_platform_compare(&x->platform, &y->platform)
                                               : (int)y->has_platform - (int)x->has_platform;
    return r ? r : memcmp(x->digest.bytes, y->digest.bytes, sizeof(x->digest.bytes));
}

static bool is_replaced(const struct plan *plan, const struct oci_descriptor *member)
{
    for (size_t i = 0; i < plan->n_images; i++) {
        if (is_same_platform(member, &plan->images[i]) ||
            larder_digest_equal(&member->digest, &plan->images[i].digest))
            return true;
    }
    return false;
}

static int merge(struct plan *plan, const struct oci_manifest *list, struct larder_error *e)
{
    size_t n = 0, n_old = list ? list->n_manifests : 0;
    CLEANUP_FREE struct oci_index_entry *entries =
        calloc(n_old + plan->n_images + 1, sizeof(*entries));
    if (!entries)
        return error_nomem(e);
    for (size_t i = 0; i < n_old; i++) {
        if (!is_replaced(plan, &list->manifests[i]))
            oci_index_entry_of(&list->manifests[i], &entries[n++]);
    }
    for (size_t i = 0; i < plan->n_images; i++)
        entries[n++] = plan->images[i].entry;
    qsort(entries, n, sizeof(*entries), compare_entries);
    buf_done(&plan->list);
    plan->list = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    int r = oci_index_write(entries, n, plan->v2s2, list && !plan->v2s2 ? list->annotations : NULL,
                            &plan->list, e);
    struct store_descriptor *d = &plan->list_descriptor;
    if (r == 0)
        r = hash_of(LARDER_DIGEST_SHA256, plan->list.p, plan->list.n, &d->digest, e);
    d->size_bytes = plan->list.n;
    plan_set_type(d, plan->v2s2 ? DOCKER_TYPE_LIST : OCI_TYPE_INDEX);
    return r;
}

/* ---- a round ---- */

/* An image of ours that was there is gone: its place is empty, or as it was before us (both a lost
 * write), or somebody has put another image there on purpose. */
static int check_rivals(const struct plan *plan, const struct plan_tag *tag,
                        const struct appended *a, struct larder_error *e)
{
    for (size_t i = 0; i < plan->n_images; i++) {
        const struct plan_image *image = &plan->images[i];
        const struct oci_descriptor *rival = find_rival(tag->list, image);
        char theirs[LARDER_DIGEST_TEXT_BYTES], ours[LARDER_DIGEST_TEXT_BYTES];
        if (!rival)
            continue;
        const struct oci_descriptor *before = find_rival(a->first, image);
        if (before && larder_digest_equal(&before->digest, &rival->digest))
            continue;
        return error_set(e, LARDER_OUTDATED,
                         "tag %s: %s for the platform of %s, though %s was just pushed: somebody "
                         "else replaced it",
                         tag->name, larder_digest_format(&rival->digest, theirs), image->where,
                         larder_digest_format(&image->digest, ours));
    }
    return 0;
}

/* Puts the merged list when something of ours lacks. Returns 1 when it did. */
static int append_to(struct plan *plan, struct plan_tag *tag, struct appended *a, bool is_first,
                     struct larder_error *e)
{
    int r = plan_read_tag(plan, tag, e);
    if (r < 0)
        return r;
    if (has_all(plan, tag->list) && !(is_first && plan->rules.force)) {
        a->is_done = true;
        return 0;
    }
    r = is_first ? 0 : check_rivals(plan, tag, a, e);
    if (r == 0)
        r = merge(plan, tag->list, e);
    if (r == 0)
        r = plan->target->ops->manifest_put(plan->target, &plan->list_descriptor,
                                            buf_slice(&plan->list), &tag->name, 1, e);
    if (r < 0) {
        error_context(e, "tag %s", tag->name);
        return r;
    }
    if (is_first)
        a->first = TAKE_PTR(tag->list);
    return 1;
}

static int settle(struct plan *plan, int64_t window_ns, unsigned round, struct larder_error *e)
{
    int64_t wait = window_ns * SETTLE_WINDOWS;
    wait = wait < SETTLE_MIN_NS ? SETTLE_MIN_NS : wait;
    if (round > 0) {
        wait += wait * (clock_monotonic_ns() / 1000 % 1000) / 1000;
        wait = wait << (round < 4 ? round : 4);
    }
    wait = wait > SETTLE_MAX_NS ? SETTLE_MAX_NS : wait;
    for (int64_t end = clock_monotonic_ns() + wait; clock_monotonic_ns() < end;) {
        int64_t left = end - clock_monotonic_ns();
        if (observer_pump(relay_observer(plan->relay)))
            return error_set(e, LARDER_CANCELED, "appending was canceled");
        clock_sleep_ns(left > 100 * NS_PER_MS ? 100 * NS_PER_MS : left > 0 ? left : 1);
    }
    return 0;
}

static int append_all(struct plan *plan, struct appended *appended, struct larder_error *e)
{
    for (unsigned round = 0; round < ROUNDS_MAX; round++) {
        int64_t longest = 0;
        bool has_put = false;
        for (size_t i = 0; i < plan->n_tags; i++) {
            int64_t start = clock_monotonic_ns();
            int r = appended[i].is_done
                        ? 0
                        : append_to(plan, &plan->tags[i], &appended[i], round == 0, e);
            if (r < 0)
                return r;
            int64_t took = clock_monotonic_ns() - start;
            has_put = has_put || r > 0;
            longest = took > longest ? took : longest;
        }
        if (!has_put)
            return 0;
        int r = plan->target->ops->flush ? plan->target->ops->flush(plan->target, e) : 0;
        if (r == 0)
            r = settle(plan, longest, round, e);
        if (r < 0)
            return r;
    }
    return error_set(e, LARDER_BUSY, "%s: others changed the tags each of %d times",
                     plan->target->name, ROUNDS_MAX);
}

/* ---- the whole ---- */

static int check_clobber(const struct plan *plan, struct larder_error *e)
{
    for (size_t t = 0; t < plan->n_tags; t++) {
        const struct plan_tag *tag = &plan->tags[t];
        bool is_taken = tag->state == TAG_IMAGE;
        for (size_t i = 0; i < plan->n_images; i++)
            is_taken = is_taken || find_rival(tag->list, &plan->images[i]);
        if (is_taken)
            return error_set(e, LARDER_EXIST, "tag %s: there is another image of that platform",
                             tag->name);
    }
    return 0;
}

static int look(struct plan *plan, bool *ret_has_all, struct larder_error *e)
{
    bool is_complete = true;
    for (size_t i = 0; i < plan->n_tags; i++) {
        struct plan_tag *tag = &plan->tags[i];
        int r = plan_read_tag(plan, tag, e);
        if (r < 0)
            return r;
        bool has = has_all(plan, tag->list) && !plan->rules.force;
        tag->found = tag->now.digest;
        tag->verdict = has ? TAG_KEEP : TAG_PUT;
        tag->state = tag->now.digest.alg == LARDER_DIGEST_NONE ? TAG_ABSENT
                     : !tag->list                              ? TAG_IMAGE
                     : has                                     ? TAG_EQUAL
                                                               : TAG_OTHER;
        is_complete = is_complete && has;
    }
    *ret_has_all = is_complete;
    return 0;
}

int plan_append(struct plan *plan, bool dry_run, struct larder_error *e)
{
    CLEANUP_FREE struct appended *appended = calloc(plan->n_tags + 1, sizeof(*appended));
    bool is_complete = false;
    if (!appended)
        return error_nomem(e);
    int r = plan_identify(plan, e);
    if (r == 0)
        r = look(plan, &is_complete, e);
    if (r == 0 && !is_complete)
        r = plan_load(plan, e);
    if (r == 0 && !is_complete && plan->rules.no_clobber)
        r = check_clobber(plan, e);
    if (r == 0 && !is_complete && !dry_run)
        r = plan_push_images(plan, e);
    if (r == 0 && !is_complete && !dry_run)
        r = append_all(plan, appended, e);
    if (r == 0 && dry_run && !is_complete)
        r = merge(plan, plan->tags[0].list, e);
    plan->goal = dry_run && !is_complete ? plan->list_descriptor : plan->tags[0].now;
    for (size_t i = 0; i < plan->n_tags; i++)
        oci_manifest_free(appended[i].first);
    return r;
}
