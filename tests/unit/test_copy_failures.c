/* SPDX-License-Identifier: Apache-2.0 */
/* Copying that fails at every step, is cut, is canceled, and is run again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_images.h"

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
    assert_in_range(result.bytes_resumed, 600007 - 4096, 600007);

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
    assert_int_equal(result.bytes_resumed, 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_failure_is_made_good_by_the_next_run),
        cmocka_unit_test(wrong_bytes_leave_nothing),
        cmocka_unit_test(a_cut_transfer_goes_on_where_it_was),
        cmocka_unit_test(a_server_that_begins_again_is_followed),
        cmocka_unit_test(progress_counts_all_bytes),
        cmocka_unit_test(a_cancel_ends_it_and_keeps_what_came),
    };

    return cmocka_run_group_tests_name("copy_failures", tests, NULL, NULL);
}
