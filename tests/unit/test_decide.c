/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "publish/decide.h"

enum { OTHERS = 1, RECORDED = 2, BUILD = 4, FORCE = 8, NO_CLOBBER = 16, SUBSET = 32 };

static const struct {
    enum tag_state state;
    unsigned facts;
    enum tag_verdict verdict;
} rows[] = {
    /* as desired */
    {TAG_EQUAL, 0, TAG_KEEP},
    {TAG_EQUAL, RECORDED | BUILD, TAG_KEEP},
    {TAG_EQUAL, NO_CLOBBER, TAG_KEEP},
    {TAG_EQUAL, SUBSET | OTHERS, TAG_KEEP},
    {TAG_EQUAL, FORCE, TAG_PUT},
    /* absent, whatever is recorded */
    {TAG_ABSENT, 0, TAG_PUT},
    {TAG_ABSENT, RECORDED | BUILD, TAG_PUT},
    {TAG_ABSENT, NO_CLOBBER | FORCE, TAG_PUT},
    {TAG_ABSENT, SUBSET, TAG_PUT},
    /* the same images in two lists: all tags get one */
    {TAG_SAME, 0, TAG_PUT},
    {TAG_SAME, RECORDED | BUILD, TAG_PUT},
    {TAG_SAME, NO_CLOBBER, TAG_CLOBBER},
    /* further architectures go, unless only some were asked for */
    {TAG_MORE, OTHERS, TAG_PUT},
    {TAG_MORE, OTHERS | RECORDED | BUILD, TAG_PUT},
    {TAG_MORE, OTHERS | SUBSET, TAG_DROPS},
    {TAG_MORE, OTHERS | SUBSET | FORCE, TAG_PUT},
    {TAG_MORE, OTHERS | NO_CLOBBER, TAG_CLOBBER},
    {TAG_MORE, OTHERS | NO_CLOBBER | FORCE, TAG_CLOBBER},
    /* another list: moved on when this build was there before */
    {TAG_OTHER, 0, TAG_PUT},
    {TAG_OTHER, BUILD, TAG_PUT},
    {TAG_OTHER, RECORDED, TAG_MOVED},
    {TAG_OTHER, RECORDED | BUILD, TAG_IMMUTABLE},
    {TAG_OTHER, RECORDED | FORCE, TAG_PUT},
    {TAG_OTHER, RECORDED | BUILD | FORCE, TAG_PUT},
    {TAG_OTHER, OTHERS | SUBSET, TAG_DROPS},
    {TAG_OTHER, SUBSET, TAG_PUT},
    {TAG_OTHER, NO_CLOBBER, TAG_CLOBBER},
    /* no list: replaced as if it were not there */
    {TAG_IMAGE, 0, TAG_PUT},
    {TAG_IMAGE, RECORDED | BUILD, TAG_PUT},
    {TAG_IMAGE, FORCE, TAG_PUT},
    {TAG_IMAGE, NO_CLOBBER, TAG_CLOBBER},
};

static void every_row(void **state __attribute__((unused)))
{
    unsigned states = 0, verdicts = 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned f = rows[i].facts;
        struct decide_tag tag = {rows[i].state, (f & OTHERS) != 0, (f & RECORDED) != 0,
                                 (f & BUILD) != 0};
        struct decide_options options = {(f & FORCE) != 0, (f & NO_CLOBBER) != 0,
                                         (f & SUBSET) != 0};
        enum tag_verdict verdict = decide_tag(&tag, &options);
        if (verdict != rows[i].verdict)
            fail_msg("row %zu: %d instead of %d", i, (int)verdict, (int)rows[i].verdict);
        assert_true(tag_verdict_is_refusal(verdict) == (verdict != TAG_KEEP && verdict != TAG_PUT));
        states |= 1u << (unsigned)rows[i].state;
        verdicts |= 1u << (unsigned)verdict;
    }
    /* No row is missing. */
    assert_int_equal(states, (1u << (unsigned)TAG_STATE_MAX) - 1);
    assert_int_equal(verdicts, (1u << (unsigned)TAG_VERDICT_MAX) - 1);
}

/* Every combination of facts has a verdict, and these hold always. */
static void laws(void **state __attribute__((unused)))
{
    for (unsigned s = 0; s < TAG_STATE_MAX; s++) {
        for (unsigned f = 0; f < 64; f++) {
            struct decide_tag tag = {(enum tag_state)s, (f & OTHERS) != 0, (f & RECORDED) != 0,
                                     (f & BUILD) != 0};
            struct decide_options options = {(f & FORCE) != 0, (f & NO_CLOBBER) != 0,
                                             (f & SUBSET) != 0};
            enum tag_verdict verdict = decide_tag(&tag, &options);
            if (s == TAG_EQUAL || s == TAG_ABSENT)
                assert_false(tag_verdict_is_refusal(verdict));
            if (f & FORCE)
                assert_true(verdict == TAG_PUT || verdict == TAG_CLOBBER);
            if (verdict == TAG_KEEP)
                assert_true(s == TAG_EQUAL);
            if ((f & NO_CLOBBER) && verdict == TAG_PUT)
                assert_true(s == TAG_ABSENT || s == TAG_EQUAL);
        }
    }
}

#define IMAGE(c, os_, arch_)                                                                       \
    {                                                                                              \
        .media_type = OCI_TYPE_MANIFEST, .digest = {LARDER_DIGEST_SHA256, {(c)}}, .size_bytes = 1, \
        .has_platform = true, .platform = {                                                        \
            .os = (os_),                                                                           \
            .architecture = (arch_)                                                                \
        }                                                                                          \
    }

static void comparing(void **state __attribute__((unused)))
{
    struct oci_descriptor amd = IMAGE(1, "linux", "amd64"), arm = IMAGE(2, "linux", "arm64"),
                          s390 = IMAGE(3, "linux", "s390x"), win = IMAGE(4, "windows", "amd64"),
                          unknown = IMAGE(5, "unknown", "unknown"),
                          disk = IMAGE(6, "linux", "amd64"), bare = IMAGE(7, "linux", "amd64"),
                          nested = IMAGE(1, "linux", "amd64"), wrong = IMAGE(1, "linux", "arm64");
    static const struct oci_platform p_amd = {.os = "linux", .architecture = "amd64"},
                                     p_arm = {.os = "linux", .architecture = "arm64"};
    const struct decide_image want[] = {{amd.digest, &p_amd}, {arm.digest, &p_arm}};
    const struct decide_image unsure[] = {{amd.digest, NULL}, {arm.digest, NULL}};
    const struct decide_image windows[] = {{win.digest, NULL}};
    disk.artifact_type = "application/vnd.example.disk";
    bare.has_platform = false;
    nested.media_type = OCI_TYPE_INDEX;
    const struct {
        struct oci_descriptor members[5];
        size_t n;
        const struct decide_image *wanted;
        size_t n_wanted;
        enum tag_state state;
        bool has_others;
    } cases[] = {
        {{amd, arm}, 2, want, 2, TAG_SAME, false},
        {{arm, amd}, 2, want, 2, TAG_SAME, false},
        {{arm, amd, disk, bare, unknown}, 5, want, 2, TAG_SAME, false},
        {{amd, arm, s390}, 3, want, 2, TAG_MORE, true},
        {{amd}, 1, want, 2, TAG_OTHER, false},
        {{amd, s390}, 2, want, 2, TAG_OTHER, true},
        {{s390}, 1, want, 2, TAG_OTHER, true},
        {{amd}, 0, want, 2, TAG_OTHER, false},
        {{amd, arm}, 2, unsure, 2, TAG_SAME, false},
        {{wrong, arm}, 2, want, 2, TAG_OTHER, true},
        {{wrong, arm}, 2, unsure, 2, TAG_SAME, false},
        {{nested, arm}, 2, unsure, 2, TAG_OTHER, true},
        {{win}, 1, windows, 1, TAG_SAME, false},
        {{win, amd}, 2, windows, 1, TAG_MORE, true},
        {{amd, amd, arm}, 3, want, 2, TAG_SAME, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct oci_descriptor members[5];
        memcpy(members, cases[i].members, sizeof(members));
        struct oci_manifest list = {
            .kind = OCI_KIND_INDEX, .manifests = members, .n_manifests = cases[i].n};
        bool has_others = false;
        enum tag_state s = decide_compare(&list, cases[i].wanted, cases[i].n_wanted, &has_others);
        if (s != cases[i].state || has_others != cases[i].has_others)
            fail_msg("case %zu: %d, others %d", i, (int)s, (int)has_others);
    }
}

static void reasons(void **state __attribute__((unused)))
{
    struct larder_digest none = {0}, digest = {LARDER_DIGEST_SHA256, {0xab}};
    struct buf out = BUF_INIT(1000);
    decide_why(TAG_ABSENT, &none, &out);
    assert_string_equal(out.p, "absent");
    buf_reset(&out);
    decide_why(TAG_EQUAL, &digest, &out);
    assert_string_equal(out.p, "as desired");
    for (unsigned s = TAG_SAME; s < TAG_STATE_MAX; s++) {
        buf_reset(&out);
        decide_why((enum tag_state)s, &digest, &out);
        assert_non_null(strstr(out.p, "sha256:ab00"));
        assert_null(strchr(out.p, '%'));
    }
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row),
        cmocka_unit_test(laws),
        cmocka_unit_test(comparing),
        cmocka_unit_test(reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
