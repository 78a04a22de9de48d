/* SPDX-License-Identifier: Apache-2.0 */
#include "publish/decide.h"

#include <string.h>

#define STATE(s) (1u << (unsigned)(s))
#define ANY      (STATE(TAG_STATE_MAX) - 1)

/* Facts that a rule may ask for. */
enum fact {
    FACT_FORCE = 1u << 0,
    FACT_NO_CLOBBER = 1u << 1,
    FACT_SUBSET_DROPS = 1u << 2,
    FACT_RECORDED = 1u << 3,
    FACT_BUILD = 1u << 4,
};

/* The first rule that fits decides; `facts` must all hold. */
static const struct rule {
    unsigned states;
    unsigned facts;
    enum tag_verdict verdict;
} rules[] = {
    {STATE(TAG_EQUAL), FACT_FORCE, TAG_PUT},
    {STATE(TAG_EQUAL), 0, TAG_KEEP},
    {STATE(TAG_ABSENT), 0, TAG_PUT},
    {ANY, FACT_NO_CLOBBER, TAG_CLOBBER},
    {ANY, FACT_FORCE, TAG_PUT},
    /* The same images, but other tags have another list of them: one digest is recorded. */
    {STATE(TAG_SAME), 0, TAG_PUT},
    {ANY, FACT_SUBSET_DROPS, TAG_DROPS},
    {STATE(TAG_OTHER), FACT_RECORDED | FACT_BUILD, TAG_IMMUTABLE},
    {STATE(TAG_OTHER), FACT_RECORDED, TAG_MOVED},
    {ANY, 0, TAG_PUT},
};

enum tag_verdict decide_tag(const struct decide_tag *tag, const struct decide_options *options)
{
    unsigned facts = (options->force ? FACT_FORCE : 0u) |
                     (options->no_clobber ? FACT_NO_CLOBBER : 0u) |
                     (options->is_subset && tag->has_others ? FACT_SUBSET_DROPS : 0u) |
                     (tag->is_recorded ? FACT_RECORDED : 0u) | (tag->is_build ? FACT_BUILD : 0u);
    const struct rule *rule = rules;
    /* The last one takes everything. */
    while (!(rule->states & STATE(tag->state)) || (rule->facts & facts) != rule->facts)
        rule++;
    return rule->verdict;
}

bool tag_verdict_is_refusal(enum tag_verdict verdict)
{
    return verdict != TAG_KEEP && verdict != TAG_PUT;
}

static bool is_equal_text(const char *a, const char *b)
{
    return a && b && strcmp(a, b) == 0;
}

static bool is_platform_equal(const struct oci_descriptor *have, const struct oci_platform *want)
{
    return !want || (is_equal_text(have->platform.os, want->os) &&
                     is_equal_text(have->platform.architecture, want->architecture));
}

static bool is_wanted(const struct oci_descriptor *member, const struct decide_image *image)
{
    return larder_digest_equal(&member->digest, &image->digest) &&
           !media_type_is_index(member->media_type) && is_platform_equal(member, image->platform);
}

static bool is_image(const struct oci_descriptor *member)
{
    return !member->artifact_type && member->has_platform &&
           is_equal_text(member->platform.os, "linux");
}

enum tag_state decide_compare(const struct oci_manifest *list, const struct decide_image *wanted,
                              size_t n, bool *ret_has_others)
{
    size_t n_found = 0, n_others = 0;
    for (size_t w = 0; w < n; w++) {
        size_t i = 0;
        while (i < list->n_manifests && !is_wanted(&list->manifests[i], &wanted[w]))
            i++;
        n_found += i < list->n_manifests;
    }
    for (size_t i = 0; i < list->n_manifests; i++) {
        size_t w = 0;
        while (w < n && !is_wanted(&list->manifests[i], &wanted[w]))
            w++;
        n_others += w == n && is_image(&list->manifests[i]);
    }
    *ret_has_others = n_others > 0;
    if (n_found < n)
        return TAG_OTHER;
    return n_others > 0 ? TAG_MORE : TAG_SAME;
}

void decide_why(enum tag_state state, const struct larder_digest *digest, struct buf *out)
{
    static const char *const texts[] = {
        [TAG_ABSENT] = "absent",
        [TAG_EQUAL] = "as desired",
        [TAG_SAME] = "has the same images in another list, %s",
        [TAG_MORE] = "has further images, %s",
        [TAG_OTHER] = "points to %s",
        [TAG_IMAGE] = "is no list but %s",
    };
    char text[LARDER_DIGEST_TEXT_BYTES] = "";
    if (digest->alg != LARDER_DIGEST_NONE)
        larder_digest_format(digest, text);
    const char *at = strstr(texts[state], "%s");
    buf_append(out, texts[state], at ? (size_t)(at - texts[state]) : strlen(texts[state]));
    if (at)
        buf_puts(out, text);
}
