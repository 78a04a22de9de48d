/* SPDX-License-Identifier: Apache-2.0 */
/* What gc and fsck know of images: a ref to a manifest keeps all below it. */
#include "upkeep.h"

#include "layout_fixture.h"
#include "oci/manifest.h"
#include "store/dir/blob.h"
#include "store/upkeep/gc.h"
#include "store/upkeep/reach.h"

struct told {
    unsigned removed, refs, kept;
    char last_why[200];
};

static void told_removed(void *arg, const char *what, const char *name, uint64_t bytes,
                         const char *why)
{
    struct told *told = arg;
    (void)name;
    (void)bytes;
    (void)why;
    if (strcmp(what, "ref") == 0)
        told->refs++;
    else
        told->removed++;
}

static void told_kept(void *arg, const char *name, uint64_t bytes, const char *why)
{
    struct told *told = arg;
    (void)name;
    (void)bytes;
    told->kept++;
    snprintf(told->last_why, sizeof(told->last_why), "%s", why);
}

/* Everything that nothing keeps, however young; the number of blobs that went. */
static uint64_t collect(struct bed *bed, struct told *told)
{
    struct larder_gc_options options = LARDER_GC_OPTIONS_INIT;
    struct larder_gc_report report;
    memset(told, 0, sizeof(*told));
    options.keep_for_ns = 0;
    options.removed = told_removed;
    options.kept = told_kept;
    options.arg = told;
    OK(larder_gc(bed->store, &options, &report, e));
    return report.removed_blobs;
}

static struct store *open_store(struct bed *bed)
{
    struct store *s = NULL;
    OK(dir_store_open(bed->store, STORE_OPEN_WRITE, &s, e));
    return s;
}

static struct larder_digest digest_of(const char *text)
{
    return descriptor_of("", text, strlen(text)).digest;
}

static void images_are_kept_whole(void **state)
{
    struct bed *bed = *state;
    struct told told;
    struct store *s = open_store(bed);
    struct larder_digest layers[] = {digest_of("one"), digest_of("two"), digest_of("three")};
    struct store_descriptor members[2] = {put_image(s, "one", NULL), put_image(s, "two", NULL)};
    put_index(s, members, 2, "app:1");
    put_image(s, "three", "other");
    bed_put(bed, "nobody's");
    assert_int_equal(collect(bed, &told), 1);
    for (size_t i = 0; i < ARRAY_LEN(layers); i++)
        assert_true(bed_has(bed, &layers[i]));
    /* Below a ref that is gone. */
    OK(s->ops->remove_ref(s, "other", e));
    assert_int_equal(collect(bed, &told), 3);
    assert_false(bed_has(bed, &layers[2]));
    /* A member that is not there (other platforms were not copied) is fine. */
    OK(blob_remove(bed->store, &members[0].digest, e));
    assert_int_equal(collect(bed, &told), 2); /* its config and layer */
    assert_true(!bed_has(bed, &layers[0]) && bed_has(bed, &layers[1]));
    OK(s->ops->remove_ref(s, "app:1", e));
    assert_int_equal(collect(bed, &told), 4);
    store_close(s);
}

/* Unknown is in use. */
static void what_cannot_be_read_protects(void **state)
{
    struct bed *bed = *state;
    struct told told;
    struct store *s = open_store(bed);
    static const char *const bad[] = {"no JSON", "{}", "{\"schemaVersion\":1,\"fsLayers\":[]}",
                                      "{\"schemaVersion\":2,\"config\":{\"digest\":\"x\"}}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct larder_digest lone = bed_put(bed, "lone"), digest = bed_put(bed, bad[i]);
        OK(larder_ref_set(bed->store, "oci/bad", &digest, OCI_TYPE_MANIFEST, e));
        assert_int_equal(collect(bed, &told), 0);
        assert_true(bed_has(bed, &lone));
        assert_non_null(strstr(told.last_why, "oci/bad is damaged"));
        OK(larder_ref_remove(bed->store, "oci/bad", e));
        assert_int_equal(collect(bed, &told), 2);
    }
    /* Bytes that changed, in the store or in quarantine already. */
    struct store_descriptor image = put_image(s, "one", "a");
    struct larder_digest lone = bed_put(bed, "lone");
    bed_rot(bed, &image.digest);
    assert_int_equal(collect(bed, &told), 0);
    assert_int_equal(larder_blob_verify(bed->store, &image.digest, LARDER_VERIFY_DEEP, NULL),
                     -LARDER_CORRUPT);
    assert_false(bed_has(bed, &image.digest));
    assert_int_equal(collect(bed, &told), 0);
    assert_true(bed_has(bed, &lone));
    /* Whole again. */
    put_image(s, "one", "a");
    assert_int_equal(collect(bed, &told), 1);
    OK(s->ops->remove_ref(s, "a", e));
    assert_int_equal(collect(bed, &told), 3);
    store_close(s);
}

static void deep_nests(void **state)
{
    struct bed *bed = *state;
    struct told told;
    struct store *s = open_store(bed);
    struct store_descriptor top = put_image(s, "one", NULL);
    for (int i = 0; i < OCI_INDEX_DEPTH_MAX; i++)
        top = put_index(s, &top, 1, i == OCI_INDEX_DEPTH_MAX - 1 ? "deep" : NULL);
    bed_put(bed, "lone");
    assert_int_equal(collect(bed, &told), 1);
    top = put_index(s, &top, 1, "deeper");
    OK(s->ops->remove_ref(s, "deep", e));
    bed_put(bed, "lone");
    assert_int_equal(collect(bed, &told), 0);
    assert_non_null(strstr(told.last_why, "oci/deeper"));
    OK(s->ops->remove_ref(s, "deeper", e));
    assert_int_equal(collect(bed, &told), OCI_INDEX_DEPTH_MAX + 5);
    store_close(s);
}

static void referrers_live_with_their_subject(void **state)
{
    struct bed *bed = *state;
    struct told told;
    struct store *s = open_store(bed);
    struct store_descriptor image = put_image(s, "one", "a"), sbom, signature;
    put_referrer(s, &image, "a/sbom", &sbom);
    put_referrer(s, &sbom, "a/sig", &signature);
    assert_int_equal(collect(bed, &told), 0);
    assert_true(bed_has(bed, &sbom.digest) && bed_has(bed, &signature.digest));
    OK(s->ops->remove_ref(s, "a", e));
    assert_int_equal(collect(bed, &told), 6);
    assert_int_equal(told.refs, 2);
    struct buf out = BUF_INIT(65536);
    OK(s->ops->referrers(s, &image.digest, NULL, &out, e));
    assert_null(strstr(out.p, "sha256:"));
    buf_done(&out);
    store_close(s);
}

/* A blob that is a leaf of one image and a manifest of another ref. */
static void walked_whatever_came_first(void **state)
{
    struct bed *bed = *state;
    struct store *s = open_store(bed);
    struct store_descriptor image = put_image(s, "one", "a");
    struct larder_digest layer = digest_of("one");
    CLEANUP(reach_freep) struct reach *reach = NULL;
    bool is_known = true;
    OK(reach_new(bed->store, &reach, e));
    assert_false(reach_has(reach, &layer));
    OK(reach_add(reach, &image.digest, "a/b", &is_known, e));
    assert_true(reach_has(reach, &image.digest) && !reach_has(reach, &layer));
    OK(reach_add(reach, &image.digest, OCI_TYPE_MANIFEST, &is_known, e));
    assert_true(reach_has(reach, &layer) && is_known);
    reach_reset(reach);
    assert_false(reach_has(reach, &layer) || reach_has(reach, &image.digest));
    /* From memory, as a digest never changes. */
    OK(blob_remove(bed->store, &image.digest, e));
    OK(reach_add(reach, &image.digest, OCI_TYPE_MANIFEST, &is_known, e));
    assert_true(reach_has(reach, &layer));
    store_close(s);
}

static void count_incomplete(void *arg, const struct larder_fsck_problem *problem)
{
    unsigned *n = arg;
    assert_true(problem->is_harmless);
    if (problem->kind == LARDER_FSCK_INCOMPLETE_REF) {
        assert_string_equal(problem->object, "oci/app");
        ++*n;
    }
}

static void fsck_tells_of_incomplete_images(void **state)
{
    struct bed *bed = *state;
    struct larder_fsck_options options = LARDER_FSCK_OPTIONS_INIT;
    struct larder_fsck_report report;
    unsigned n = 0;
    struct store *s = open_store(bed);
    struct store_descriptor members[2] = {put_image(s, "one", NULL), put_image(s, "two", NULL)};
    struct larder_digest layer = digest_of("two");
    put_index(s, members, 2, "app");
    options.problem = count_incomplete;
    options.arg = &n;
    OK(larder_fsck(bed->store, &options, &report, e));
    assert_int_equal(n, 0);
    OK(blob_remove(bed->store, &layer, e));
    OK(larder_fsck(bed->store, &options, &report, e));
    assert_int_equal(n, 1);
    OK(blob_remove(bed->store, &members[1].digest, e));
    OK(larder_fsck(bed->store, &options, &report, e));
    assert_int_equal(n, 2);
    store_close(s);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)
    const struct CMUnitTest tests[] = {
        T(images_are_kept_whole),
        T(what_cannot_be_read_protects),
        T(deep_nests),
        T(referrers_live_with_their_subject),
        T(walked_whatever_came_first),
        T(fsck_tells_of_incomplete_images),
    };
    return cmocka_run_group_tests_name("reach", tests, NULL, NULL);
}
