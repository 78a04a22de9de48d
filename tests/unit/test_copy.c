/* SPDX-License-Identifier: Apache-2.0 */
/* Copying between every pair of kinds of stores, and what it costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/pool.h"
#include "fake_images.h"

/* ---- every pair of kinds ---- */

static void everything_arrives_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct fake_store from, to;
        struct copy_result result = {0};
        struct larder_error e = LARDER_ERROR_INIT;
        fake_init(&from, "docker://a/from", pairs[i].from_remote);
        fake_init(&to, "docker://b/to", pairs[i].to_remote);
        struct store_descriptor root = add_tree(&from);
        int rc = copy_v1(&from, &to, NULL, &result, &e);
        if (rc < 0)
            print_error("%s\n", e.msg);
        assert_int_equal(rc, 0);
        assert_has_tree(&to, &root);
        assert_true(larder_digest_equal(&result.root.digest, &root.digest));
        assert_false(result.was_there);
        /* 3 configs; layers 1..4, 2..4 and 7, 8 with 3000, 0 and 100000 bytes of other seeds */
        assert_int_equal(result.blobs_copied + result.blobs_existed, result.blobs_copied);
        assert_int_equal(result.manifests_put, 5);
        assert_int_equal(to.counts[FAKE_MANIFEST_PUT], 5);
        if (pairs[i].from_remote)
            assert_int_equal(from.counts[FAKE_BLOB_GET], result.blobs_copied);
        /* each manifest read once, each blob asked for once */
        assert_int_equal(from.counts[FAKE_MANIFEST_GET], 5);
        if (pairs[i].to_remote) {
            assert_int_equal(to.counts[FAKE_BLOB_PUT], result.blobs_copied);
            /* it is fresh: only what the lanes begin with is asked for */
            assert_true(to.counts[FAKE_BLOB_HAS] <= 2 * POOL_LANES_DEFAULT);
            assert_int_equal(to.counts[FAKE_MANIFEST_HAS], 0);
            assert_int_equal(to.counts[FAKE_FRESH], 1);
        } else {
            assert_int_equal(to.counts[FAKE_FLUSH], 1);
        }
        fake_done(&from);
        fake_done(&to);
    }
}

static void the_second_time_is_a_question_a_tag(void **state)
{
    static const char *const tags[] = {"v1", "v2", "v3"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct fake_store from, to;
        struct copy_result result = {0};
        fake_init(&from, "docker://a/from", pairs[i].from_remote);
        fake_init(&to, "docker://b/to", pairs[i].to_remote);
        struct store_descriptor root = add_tree(&from);
        assert_int_equal(
            copy_image(&from.store, "v1", NULL, &to.store, tags, 3, NULL, &result, NULL), 0);
        fake_reset(&from);
        fake_reset(&to);
        assert_int_equal(
            copy_image(&from.store, "v1", NULL, &to.store, tags, 3, NULL, &result, NULL), 0);
        assert_true(result.was_there);
        assert_true(larder_digest_equal(&result.root.digest, &root.digest));
        assert_int_equal(to.counts[FAKE_RESOLVE], 3);
        assert_int_equal(to.total, 3);
        assert_int_equal(from.counts[FAKE_RESOLVE], 1);
        assert_int_equal(from.total, 1);
        /* by digest: the source is not asked at all */
        assert_int_equal(
            copy_image(&from.store, NULL, &root.digest, &to.store, tags, 3, NULL, &result, NULL),
            0);
        assert_int_equal(from.total, 1);
        fake_done(&from);
        fake_done(&to);
    }
}

static void a_further_tag_costs_one_manifest(void **state)
{
    static const char *const tags[] = {"v1", "v2"};
    struct fake_store from, to;
    struct copy_result result = {0};

    (void)state;
    fake_init(&from, "docker://a/from", true);
    fake_init(&to, "docker://b/to", true);
    add_tree(&from);
    assert_int_equal(copy_v1(&from, &to, NULL, &result, NULL), 0);
    fake_reset(&from);
    fake_reset(&to);
    assert_int_equal(copy_image(&from.store, "v1", NULL, &to.store, tags, 2, NULL, &result, NULL),
                     0);
    assert_int_equal(to.total, 3); /* two questions, one put */
    assert_int_equal(to.counts[FAKE_MANIFEST_PUT], 1);
    assert_int_equal(from.total, 2); /* the digest, and the manifest's bytes */
    assert_int_equal(result.manifests_put, 1);
    assert_false(result.was_there);
    /* and again by force */
    const struct copy_options force = {.force = true};
    assert_int_equal(copy_image(&from.store, "v1", NULL, &to.store, tags, 2, &force, &result, NULL),
                     0);
    assert_int_equal(result.manifests_put, 5);
    assert_int_equal(result.blobs_copied, 0);
    fake_done(&from);
    fake_done(&to);
}

static void only_what_lacks_is_copied(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct fake_store from, to;
        struct copy_result result = {0};
        static const size_t sizes[] = {3000, 0, 100000};
        fake_init(&from, "docker://a/from", pairs[i].from_remote);
        fake_init(&to, "docker://b/to", pairs[i].to_remote);
        struct store_descriptor root = add_tree(&from);
        struct store_descriptor second = add_image(&to, 2, sizes, 3); /* the second member */
        assert_int_equal(copy_v1(&from, &to, NULL, &result, NULL), 0);
        assert_has_tree(&to, &root);
        assert_int_equal(result.manifests_put, 4);
        if (pairs[i].to_remote) {
            /* what is under a manifest that is there was not asked for */
            assert_int_equal(result.blobs_existed, 3); /* its layers, as another's */
            assert_int_equal(from.counts[FAKE_MANIFEST_GET], 4);
        }
        fake_done(&from);

        /* A file store may have lost a blob: it is found lacking, though the manifest is there. */
        if (!pairs[i].to_remote) {
            struct oci_manifest *m = manifest_of(&to, &second.digest);
            fake_remove(&to, &m->layers[0].digest);
            oci_manifest_free(m);
            fake_init(&from, "docker://a/from", pairs[i].from_remote);
            add_tree(&from);
            static const char *const other[] = {"other"};
            assert_int_equal(
                copy_image(&from.store, "v1", NULL, &to.store, other, 1, NULL, &result, NULL), 0);
            assert_int_equal(result.blobs_copied, 1);
            assert_int_equal(from.counts[FAKE_MANIFEST_GET], 1); /* the others are there to read */
            assert_has_tree(&to, &root);
            fake_done(&from);
        }
        fake_done(&to);
    }
}

/* ---- graphs ---- */

static void mounts_save_the_bytes(void **state)
{
    struct fake_store from, to;
    struct copy_result result;

    (void)state;
    for (int refuses = 0; refuses < 2; refuses++) {
        fake_init(&from, "docker://a/from", false);
        fake_init(&to, "docker://b/to", true);
        struct store_descriptor root = add_tree(&from);
        to.peer = &from;
        to.refuses_mounts = refuses;
        const struct copy_options options = {.mount_from = "from"};
        assert_int_equal(copy_v1(&from, &to, &options, &result, NULL), 0);
        assert_has_tree(&to, &root);
        if (refuses)
            assert_int_equal(result.blobs_mounted, 0);
        else
            assert_int_equal(result.blobs_copied, 0);
        fake_done(&from);
        fake_done(&to);
    }
}

static void foreign_layers_stay_where_they_are(void **state)
{
    struct fake_store from, to;
    struct buf b = BUF_INIT(1 << 16);
    struct copy_result result;

    (void)state;
    fake_init(&from, "docker://a/from", false);
    fake_init(&to, "docker://b/to", true);
    struct store_descriptor config = add_blob(&from, 20, 1);
    struct store_descriptor layer = add_blob(&from, 200, 2);
    struct store_descriptor foreign = fake_describe("x", 1, "");
    buf_puts(&b, "{\"schemaVersion\":2,\"mediaType\":\"" DOCKER_TYPE_MANIFEST "\",\"config\":");
    put_descriptor(&b, DOCKER_TYPE_CONFIG, &config, "");
    buf_puts(&b, ",\"layers\":[");
    put_descriptor(&b, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", &foreign,
                   ",\"urls\":[\"https://example.com/x\"]");
    buf_puts(&b, ",");
    put_descriptor(&b, DOCKER_TYPE_LAYER_GZIP, &layer, "");
    buf_puts(&b, "]}");
    struct store_descriptor root = fake_add(&from, b.p, b.n, DOCKER_TYPE_MANIFEST);
    buf_done(&b);
    fake_tag(&from, "v1", &root);
    assert_int_equal(copy_v1(&from, &to, NULL, &result, NULL), 0);
    assert_int_equal(result.blobs_copied, 2);
    fake_done(&from);
    fake_done(&to);
}

static void build_caches_have_blobs_in_their_index(void **state)
{
    struct fake_store from, to;
    struct buf b = BUF_INIT(1 << 16);

    (void)state;
    fake_init(&from, "docker://a/from", true);
    fake_init(&to, "docker://b/to", true);
    struct store_descriptor layer = add_blob(&from, 200, 2);
    struct store_descriptor config = add_blob(&from, 30, 3);
    buf_puts(&b, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":[");
    put_descriptor(&b, OCI_TYPE_LAYER_GZIP, &layer, "");
    buf_puts(&b, ",");
    put_descriptor(&b, "application/vnd.buildkit.cacheconfig.v0", &config, "");
    buf_puts(&b, "]}");
    struct store_descriptor root = fake_add(&from, b.p, b.n, OCI_TYPE_INDEX);
    buf_done(&b);
    fake_tag(&from, "v1", &root);
    assert_int_equal(copy_v1(&from, &to, NULL, NULL, NULL), 0);
    assert_non_null(fake_find_whole(&to, &layer.digest, false));
    assert_non_null(fake_find_whole(&to, &config.digest, false));
    fake_done(&from);
    fake_done(&to);
}

static void a_cycle_is_an_error(void **state)
{
    struct fake_store from, to;
    struct larder_error e = LARDER_ERROR_INIT;

    (void)state;
    fake_init(&from, "docker://a/from", true);
    fake_init(&to, "docker://b/to", true);
    /* A store that does not check digests: an index that names another's digest for itself. */
    struct store_descriptor lie = fake_describe("lie", 3, OCI_TYPE_INDEX);
    struct store_descriptor inner = add_index(&from, &lie, 1);
    lie.size_bytes = inner.size_bytes;
    struct store_descriptor outer = add_index(&from, &inner, 1);
    struct fake_object *o = object_of(&from, &outer.digest, true);
    lie.size_bytes = 3;
    o->digest = lie.digest; /* what inner names is outer */
    lie.size_bytes = o->n;
    fake_tag(&from, "v1", &lie);
    int rc = copy_v1(&from, &to, NULL, NULL, &e);
    assert_true(rc == -LARDER_INVAL || rc == -LARDER_MISMATCH);
    assert_null(to.refs);
    fake_done(&from);
    fake_done(&to);
}

static void deep_indexes_are_refused(void **state)
{
    struct fake_store from, to;
    static const size_t sizes[] = {10};

    (void)state;
    for (int depth = OCI_INDEX_DEPTH_MAX; depth <= OCI_INDEX_DEPTH_MAX + 1; depth++) {
        fake_init(&from, "docker://a/from", false);
        fake_init(&to, "docker://b/to", true);
        struct store_descriptor d = add_image(&from, 1, sizes, 1);
        for (int i = 0; i < depth; i++)
            d = add_index(&from, &d, 1);
        fake_tag(&from, "v1", &d);
        assert_int_equal(copy_v1(&from, &to, NULL, NULL, NULL),
                         depth > OCI_INDEX_DEPTH_MAX ? -LARDER_LIMIT : 0);
        fake_done(&from);
        fake_done(&to);
    }
}

static void thousands_of_images_cost_few_requests(void **state)
{
    enum { IMAGES = 2000 };
    struct store_descriptor *members = calloc(IMAGES, sizeof(*members));
    struct fake_store from, to;
    struct copy_result result;

    (void)state;
    assert_non_null(members);
    fake_init(&from, "docker://a/from", true);
    fake_init(&to, "docker://b/to", true);
    for (unsigned i = 0; i < IMAGES; i++) {
        const size_t sizes[] = {200 + i % 800};
        members[i] = add_image(&from, 10000 + i, sizes, 1);
    }
    struct store_descriptor root = add_index(&from, members, IMAGES);
    fake_tag(&from, "v1", &root);
    fake_reset(&from);
    to.is_sparse = true; /* the check would be quadratic */
    assert_int_equal(copy_v1(&from, &to, NULL, &result, NULL), 0);
    assert_int_equal(from.counts[FAKE_MANIFEST_GET], IMAGES + 1);
    assert_int_equal(to.counts[FAKE_MANIFEST_PUT], IMAGES + 1);
    assert_int_equal(to.counts[FAKE_BLOB_PUT], result.blobs_copied);
    /* resolve, is_fresh, and what the lanes begin with */
    assert_in_range(to.total, IMAGES + 1 + result.blobs_copied + 2,
                    IMAGES + 1 + result.blobs_copied + 2 + 2 * POOL_LANES_DEFAULT);
    free(members);
    fake_done(&from);
    fake_done(&to);
}

static void referrers_come_along(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct fake_store from, to;
        struct copy_result result;
        static const size_t sizes[] = {10};
        const struct copy_options options = {.has_referrers = true};
        fake_init(&from, "docker://a/from", pairs[i].from_remote);
        fake_init(&to, "docker://b/to", pairs[i].to_remote);
        struct store_descriptor image = add_image(&from, 1, sizes, 1);
        struct store_descriptor root = add_index(&from, &image, 1);
        struct store_descriptor sbom = add_image(&from, 50, sizes, 1);
        fake_tag(&from, "v1", &root);
        /* The image has one, and it is in the list of its own referrers again: a loop. */
        struct store_descriptor list[] = {sbom, image};
        struct store_descriptor answer = add_index(&from, list, 2);
        struct fake_object *o = object_of(&from, &answer.digest, true);
        buf_append(&from.referrers, o->bytes, o->n);
        from.subject = image.digest;
        fake_remove(&from, &answer.digest);
        assert_int_equal(copy_v1(&from, &to, NULL, &result, NULL), 0);
        assert_null(fake_find(&to, &sbom.digest, true));
        /* The tag is right already: still they are looked for. */
        assert_int_equal(copy_v1(&from, &to, &options, &result, NULL), 0);
        assert_true(has_tree(&to, &sbom.digest));
        assert_int_equal(result.manifests_put, 1);
        assert_int_equal(copy_v1(&from, &to, &options, &result, NULL), 0);
        assert_true(result.was_there);
        fake_done(&to);
        fake_init(&to, "docker://b/to", pairs[i].to_remote);
        assert_int_equal(copy_v1(&from, &to, &options, &result, NULL), 0);
        assert_has_tree(&to, &root);
        assert_true(has_tree(&to, &sbom.digest));
        fake_done(&from);
        fake_done(&to);
    }
}

static void a_dry_run_changes_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct fake_store from, to;
        struct copy_result result, real;
        const struct copy_options dry = {.dry_run = true};
        fake_init(&from, "docker://a/from", pairs[i].from_remote);
        fake_init(&to, "docker://b/to", pairs[i].to_remote);
        add_tree(&from);
        assert_int_equal(copy_v1(&from, &to, &dry, &result, NULL), 0);
        assert_null(to.objects);
        assert_null(to.refs);
        assert_int_equal(from.counts[FAKE_BLOB_GET], 0);
        assert_int_equal(copy_v1(&from, &to, NULL, &real, NULL), 0);
        assert_int_equal(result.blobs_copied, real.blobs_copied);
        assert_int_equal(result.bytes_copied, real.bytes_copied);
        assert_int_equal(result.manifests_put, real.manifests_put);
        assert_int_equal(copy_v1(&from, &to, &dry, &result, NULL), 0);
        assert_true(result.was_there);
        fake_done(&from);
        fake_done(&to);
    }
}

static void blobs_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct fake_store from, to;
        struct copy_result result;
        fake_init(&from, "docker://a/from", pairs[i].from_remote);
        fake_init(&to, "docker://b/to", pairs[i].to_remote);
        struct store_descriptor a = add_blob(&from, 200, 1);
        struct store_descriptor b = add_blob(&from, BIG_BYTES, 2);
        const struct copy_blob blobs[] = {
            {&from.store, a, NULL}, {&from.store, b, NULL}, {&from.store, a, NULL}};
        assert_int_equal(copy_blobs(blobs, 3, &to.store, NULL, &result, NULL), 0);
        assert_int_equal(result.blobs_copied, 2);
        assert_int_equal(result.bytes_copied, a.size_bytes + b.size_bytes);
        assert_int_equal(copy_blobs(blobs, 3, &to.store, NULL, &result, NULL), 0);
        assert_int_equal(result.blobs_existed, 2);
        assert_int_equal(copy_blobs(blobs, 0, &to.store, NULL, &result, NULL), 0);
        fake_done(&from);
        fake_done(&to);
    }
}

static void a_lost_source_blob_is_no_matter_where_it_is_there(void **state)
{
    struct fake_store from, to;
    static const size_t sizes[] = {10, 20};

    (void)state;
    for (int has = 0; has < 2; has++) {
        fake_init(&from, "oci:a", false);
        fake_init(&to, "docker://b/to", true);
        struct store_descriptor root = add_image(&from, 1, sizes, 2);
        fake_tag(&from, "v1", &root);
        struct store_descriptor lost = add_blob(&from, 20, 2);
        fake_remove(&from, &lost.digest);
        if (has)
            add_blob(&to, 20, 2);
        assert_int_equal(copy_v1(&from, &to, NULL, NULL, NULL), has ? 0 : -LARDER_NOENT);
        fake_done(&from);
        fake_done(&to);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_arrives_once),
        cmocka_unit_test(the_second_time_is_a_question_a_tag),
        cmocka_unit_test(a_further_tag_costs_one_manifest),
        cmocka_unit_test(only_what_lacks_is_copied),
        cmocka_unit_test(mounts_save_the_bytes),
        cmocka_unit_test(foreign_layers_stay_where_they_are),
        cmocka_unit_test(build_caches_have_blobs_in_their_index),
        cmocka_unit_test(a_cycle_is_an_error),
        cmocka_unit_test(deep_indexes_are_refused),
        cmocka_unit_test(thousands_of_images_cost_few_requests),
        cmocka_unit_test(referrers_come_along),
        cmocka_unit_test(a_dry_run_changes_nothing),
        cmocka_unit_test(blobs_alone),
        cmocka_unit_test(a_lost_source_blob_is_no_matter_where_it_is_there),
    };

    return cmocka_run_group_tests_name("copy", tests, NULL, NULL);
}
