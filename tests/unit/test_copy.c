/* SPDX-License-Identifier: Apache-2.0 */
/* Copying between every pair of kinds of stores, with failures at every step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_store.h"

#include "base/relay.h"
#include "store/copy.h"

/* Several buffers, and enough for a write past the page cache. */
#define BIG_BYTES ((size_t)1300 * 1000 + 13)

/* Those that must be there. (The compiler does not know that asserts end a test.) */
static struct fake_object *object_of(struct fake_store *f, const struct larder_digest *d,
                                     bool is_manifest)
{
    struct fake_object *o = fake_find(f, d, is_manifest);

    if (!o)
        abort();
    return o;
}

static struct oci_manifest *manifest_of(struct fake_store *f, const struct larder_digest *d)
{
    struct fake_object *o = object_of(f, d, true);
    struct oci_manifest *m = NULL;

    if (oci_manifest_parse((struct slice){o->bytes, o->n}, o->media_type, &m, NULL) < 0 || !m)
        abort();
    return m;
}

/* ---- making images ---- */

static void random_bytes(char *to, size_t n, unsigned seed)
{
    uint32_t x = seed * 2654435761u + 1;

    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        to[i] = (char)x;
    }
}

static struct store_descriptor add_blob(struct fake_store *f, size_t n, unsigned seed)
{
    char *bytes = malloc(n + 1);
    struct store_descriptor d;

    assert_non_null(bytes);
    random_bytes(bytes, n, seed);
    d = fake_add(f, bytes, n, "");
    free(bytes);
    return d;
}

static void put_descriptor(struct buf *b, const char *type, const struct store_descriptor *d,
                           const char *more)
{
    char text[LARDER_DIGEST_TEXT_BYTES];

    buf_printf(b, "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%llu%s}", type,
               larder_digest_format(&d->digest, text), (unsigned long long)d->size_bytes, more);
}

/* Config of 50 bytes and layers of the given sizes, numbered from seed. */
static struct store_descriptor add_image(struct fake_store *f, unsigned seed, const size_t *sizes,
                                         size_t n)
{
    struct buf b = BUF_INIT(1 << 20);
    struct store_descriptor config = add_blob(f, 50, seed + 1000);
    struct store_descriptor d;

    buf_puts(&b, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"config\":");
    put_descriptor(&b, OCI_TYPE_CONFIG, &config, "");
    buf_puts(&b, ",\"layers\":[");
    for (size_t i = 0; i < n; i++) {
        struct store_descriptor layer = add_blob(f, sizes[i], seed + (unsigned)i);
        buf_puts(&b, i ? "," : "");
        put_descriptor(&b, OCI_TYPE_LAYER_GZIP, &layer, "");
    }
    buf_puts(&b, "]}");
    d = fake_add(f, b.p, b.n, OCI_TYPE_MANIFEST);
    buf_done(&b);
    return d;
}

static struct store_descriptor add_index(struct fake_store *f,
                                         const struct store_descriptor *members, size_t n)
{
    static const char *const platforms[] = {"amd64", "arm64", "riscv64", "s390x"};
    struct buf b = BUF_INIT(8 << 20);
    struct store_descriptor d;

    buf_puts(&b, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":[");
    for (size_t i = 0; i < n; i++) {
        char more[100];
        snprintf(more, sizeof(more), ",\"platform\":{\"architecture\":\"%s\",\"os\":\"linux\"}",
                 platforms[i % 4]);
        buf_puts(&b, i ? "," : "");
        put_descriptor(&b, members[i].media_type, &members[i],
                       media_type_is_manifest(members[i].media_type) ? more : "");
    }
    buf_puts(&b, "]}");
    d = fake_add(f, b.p, b.n, OCI_TYPE_INDEX);
    buf_done(&b);
    return d;
}

/* An index of two images that share a layer, and of an index with one more; tagged v1. */
static struct store_descriptor add_tree(struct fake_store *f)
{
    static const size_t sizes[] = {BIG_BYTES, 3000, 0, 100000};
    struct store_descriptor members[3];
    struct store_descriptor inner;
    struct store_descriptor root;

    members[0] = add_image(f, 1, sizes, 4);
    members[1] = add_image(f, 2, sizes + 1, 3);
    inner = add_image(f, 7, sizes, 2);
    members[2] = add_index(f, &inner, 1);
    root = add_index(f, members, 3);
    fake_tag(f, "v1", &root);
    return root;
}

/* Whether `to` has everything that root names. */
static bool has_tree(struct fake_store *to, const struct larder_digest *root)
{
    struct oci_manifest *m = fake_find_whole(to, root, true) ? manifest_of(to, root) : NULL;
    bool has = m != NULL;

    for (size_t i = 0; has && i < m->n_manifests; i++)
        has = has_tree(to, &m->manifests[i].digest);
    if (has && m->kind == OCI_KIND_IMAGE) {
        has = fake_find_whole(to, &m->config.digest, false) != NULL;
        for (size_t i = 0; has && i < m->n_layers; i++)
            has = fake_find_whole(to, &m->layers[i].digest, false) != NULL;
    }
    oci_manifest_free(m);
    return has;
}

static const char *const v1[] = {"v1"};

static int copy_v1(struct fake_store *from, struct fake_store *to,
                   const struct copy_options *options, struct copy_result *ret,
                   struct larder_error *e)
{
    return copy_image(&from->store, "v1", NULL, &to->store, v1, 1, options, ret, e);
}

static void assert_has_tree(struct fake_store *to, const struct store_descriptor *root)
{
    assert_true(has_tree(to, &root->digest));
    struct fake_ref *ref = fake_ref_find(to, "v1");
    assert_true(ref && larder_digest_equal(&ref->to.digest, &root->digest));
}

/* ---- every pair of kinds ---- */

static const struct {
    bool from_remote, to_remote;
} pairs[] = {{true, false}, {false, true}, {false, false}, {true, true}};

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
            assert_int_equal(to.counts[FAKE_BLOB_HAS], 0);     /* it is fresh */
            assert_int_equal(to.counts[FAKE_MANIFEST_HAS], 0); /* too */
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

/* ---- failures ---- */

/* Fails each call in turn; then a run without failure must end well. */
static void any_failure_is_made_good_by_the_next_run(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        for (unsigned side = 0; side < 2; side++) {
            unsigned n = 1;
            for (bool was_reached = true; was_reached; n++) {
                struct fake_store from, to;
                struct copy_result result = {.manifests_put = 77};
                struct larder_error e = LARDER_ERROR_INIT;
                const struct copy_options options = {.jobs = 1 + n % 4};
                fake_init(&from, "docker://a/from", pairs[i].from_remote);
                fake_init(&to, "docker://b/to", pairs[i].to_remote);
                struct store_descriptor root = add_tree(&from);
                struct fake_store *failing = side ? &to : &from;
                failing->fail_at = n;
                failing->fail_code = n % 2 ? LARDER_UNREACHABLE : LARDER_NOSPACE;
                int rc = copy_v1(&from, &to, &options, &result, &e);
                was_reached = failing->total >= n;
                if (was_reached && rc == 0) {
                    /* what may fail without harm: nothing here but a manifest that was local */
                    assert_int_equal(failing->counts[FAKE_FLUSH], 0);
                }
                if (rc < 0) {
                    assert_int_equal(rc, -(int)failing->fail_code);
                    assert_int_equal(e.code, failing->fail_code);
                    assert_int_equal(result.manifests_put, 77);
                    if (failing->counts[FAKE_FLUSH] == 0)
                        assert_null(fake_ref_find(&to, "v1"));
                }
                fake_reset(&from);
                fake_reset(&to);
                assert_int_equal(copy_v1(&from, &to, NULL, &result, NULL), 0);
                assert_has_tree(&to, &root);
                if (to.broken)
                    print_error("pair %zu side %u n %u\n", i, side, n);
                fake_done(&from);
                fake_done(&to);
            }
            assert_true(n > 3);
        }
    }
}

static void wrong_bytes_leave_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct fake_store from, to;
        struct larder_error e = LARDER_ERROR_INIT;
        static const size_t sizes[] = {BIG_BYTES};
        fake_init(&from, "docker://a/from", pairs[i].from_remote);
        fake_init(&to, "docker://b/to", pairs[i].to_remote);
        struct store_descriptor root = add_image(&from, 1, sizes, 1);
        fake_tag(&from, "v1", &root);
        from.sends_wrong = true;
        assert_int_equal(copy_v1(&from, &to, NULL, NULL, &e),
                         pairs[i].from_remote ? -LARDER_MISMATCH : -LARDER_CORRUPT);
        assert_non_null(strstr(e.msg, "sha256:"));
        /* no partial, no manifest: at most the config */
        assert_true(!to.objects || (to.objects->n == 50 && !to.objects->next));
        assert_null(to.refs);
        from.sends_wrong = false;
        assert_int_equal(copy_v1(&from, &to, NULL, NULL, NULL), 0);
        assert_has_tree(&to, &root);
        fake_done(&from);
        fake_done(&to);
    }
}

static void a_cut_transfer_goes_on_where_it_was(void **state)
{
    struct fake_store from, to;
    struct copy_result result;
    static const size_t sizes[] = {BIG_BYTES};

    (void)state;
    fake_init(&from, "docker://a/from", true);
    fake_init(&to, "oci:b", false);
    struct store_descriptor root = add_image(&from, 1, sizes, 1);
    fake_tag(&from, "v1", &root);
    struct store_descriptor layer = add_blob(&from, BIG_BYTES, 1);
    const struct copy_options options = {.jobs = 1};
    from.cut_after = 600007;
    /* The first blob is the config: it is cut at its end, which is no matter. */
    assert_int_equal(copy_v1(&from, &to, &options, &result, NULL), -LARDER_UNREACHABLE);
    from.cut_after = 600007;
    assert_int_equal(copy_v1(&from, &to, &options, &result, NULL), -LARDER_UNREACHABLE);
    struct fake_object *partial = object_of(&to, &layer.digest, false);
    assert_true(partial->partial_fd >= 0);
    assert_int_equal(partial->n, 600007);
    assert_int_equal(copy_v1(&from, &to, &options, &result, NULL), 0);
    assert_has_tree(&to, &root);

    /* What was kept is wrong: fetched again in the same run, from its start. */
    fake_remove(&to, &layer.digest);
    fake_remove(&to, &root.digest);
    to.refs->to.digest.bytes[0] ^= 1;
    from.cut_after = 600007;
    assert_int_equal(copy_v1(&from, &to, &options, &result, NULL), -LARDER_UNREACHABLE);
    partial = object_of(&to, &layer.digest, false);
    assert_int_equal(pwrite(partial->partial_fd, "!", 1, FAKE_START + 5000), 1);
    assert_int_equal(copy_v1(&from, &to, &options, &result, NULL), 0);
    assert_has_tree(&to, &root);
    fake_done(&from);
    fake_done(&to);
}

static void a_server_that_begins_again_is_followed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct fake_store from, to;
        static const size_t sizes[] = {BIG_BYTES, 1000};
        fake_init(&from, "docker://a/from", pairs[i].from_remote);
        fake_init(&to, "docker://b/to", pairs[i].to_remote);
        struct store_descriptor root = add_image(&from, 1, sizes, 2);
        fake_tag(&from, "v1", &root);
        for (int round = 0; round < 3; round++) {
            struct larder_error e = LARDER_ERROR_INIT;
            const struct copy_options options = {.jobs = 1, .force = true};
            from.restarts_once = round != 1;
            to.restarts_once = round != 0;
            int rc = copy_v1(&from, &to, &options, NULL, &e);
            if (rc < 0)
                print_error("%s\n", e.msg);
            assert_int_equal(rc, 0);
            assert_has_tree(&to, &root);
            while (to.objects)
                fake_remove(&to, &to.objects->digest);
        }
        fake_done(&from);
        fake_done(&to);
    }
}

/* ---- cancel, progress ---- */

struct watch {
    pthread_t thread;
    unsigned reports;
    uint64_t last_done, last_total;
    bool is_finished;
    bool cancel;
    bool was_elsewhere;
};

static void watch_progress(void *arg, const struct larder_progress *p)
{
    struct watch *w = arg;

    w->reports++;
    w->was_elsewhere |= !pthread_equal(w->thread, pthread_self());
    w->last_done = p->done_bytes;
    w->last_total = p->total_bytes;
    w->is_finished = p->is_finished;
    assert_string_equal(p->what, "copy");
}

static bool watch_is_canceled(void *arg)
{
    struct watch *w = arg;

    w->was_elsewhere |= !pthread_equal(w->thread, pthread_self());
    return w->cancel && w->reports >= 2;
}

static void progress_counts_all_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct fake_store from, to;
        struct watch w = {.thread = pthread_self()};
        const struct larder_observer observer = {
            .arg = &w, .progress = watch_progress, .is_canceled = watch_is_canceled};
        const struct copy_options options = {.observer = &observer};
        struct copy_result result;
        fake_init(&from, "docker://a/from", pairs[i].from_remote);
        fake_init(&to, "docker://b/to", pairs[i].to_remote);
        add_tree(&from);
        assert_int_equal(copy_v1(&from, &to, &options, &result, NULL), 0);
        assert_true(w.reports >= 1);
        assert_true(w.is_finished);
        assert_int_equal(w.last_done, w.last_total);
        assert_int_equal(w.last_done, result.bytes_copied);
        assert_false(w.was_elsewhere);
        fake_done(&from);
        fake_done(&to);
    }
}

static void a_cancel_ends_it_and_keeps_what_came(void **state)
{
    static const bool to_remote[] = {false, true};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(to_remote); i++) {
        struct fake_store from, to;
        struct watch w = {.thread = pthread_self(), .cancel = true};
        const struct larder_observer observer = {
            .arg = &w, .progress = watch_progress, .is_canceled = watch_is_canceled};
        const struct copy_options options = {.observer = &observer};
        struct larder_error e = LARDER_ERROR_INIT;
        static const size_t sizes[] = {BIG_BYTES};
        fake_init(&from, "docker://a/from", true);
        fake_init(&to, "docker://b/to", to_remote[i]);
        struct store_descriptor root = add_image(&from, 1, sizes, 1);
        fake_tag(&from, "v1", &root);
        from.slow_us = 20000; /* 130 pieces: 2.6 s */
        assert_int_equal(copy_v1(&from, &to, &options, NULL, &e), -LARDER_CANCELED);
        assert_int_equal(e.code, LARDER_CANCELED);
        assert_true(w.reports < 8);
        assert_null(to.refs);
        if (!to_remote[i]) {
            struct store_descriptor layer = add_blob(&from, BIG_BYTES, 1);
            struct fake_object *partial = object_of(&to, &layer.digest, false);
            assert_true(partial->partial_fd >= 0 && partial->n >= 10000);
        }
        from.slow_us = 0;
        assert_int_equal(copy_v1(&from, &to, NULL, NULL, NULL), 0);
        assert_has_tree(&to, &root);
        fake_done(&from);
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
    assert_int_equal(to.total, IMAGES + 1 + result.blobs_copied + 2); /* resolve, is_fresh */
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
        cmocka_unit_test(any_failure_is_made_good_by_the_next_run),
        cmocka_unit_test(wrong_bytes_leave_nothing),
        cmocka_unit_test(a_cut_transfer_goes_on_where_it_was),
        cmocka_unit_test(a_server_that_begins_again_is_followed),
        cmocka_unit_test(progress_counts_all_bytes),
        cmocka_unit_test(a_cancel_ends_it_and_keeps_what_came),
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
