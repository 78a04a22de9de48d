/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching what was recorded: exactly that, from a registry that moved on, lost it, or lies. */
#include "update_fetch_fixture.h"

#include <larder/copy.h>
#include <larder/maintain.h>

#include "base/clock.h"

/* ---- the contract ---- */

static void what_was_recorded_comes(void **state)
{
    struct bed *b = *state;
    struct layer l[3] = {layer_of(1, 5000), layer_of(2, 6000), layer_of(3, 7000)};
    struct larder_digest v1 = put_image("a/b", "latest", "1", l, 2, NULL);
    char text[LARDER_DIGEST_TEXT_BYTES], question[WORDS];

    record_now(b);
    fetch_ok(b, NULL);
    assert_true(larder_digest_equal(&b->got.digest, &v1) && is_base(b, &v1));
    assert_false(b->got.was_there || b->got.is_newer || b->got.is_partial);
    assert_int_equal(b->got.layers_fetched, 2);
    assert_int_equal(b->got.bytes_fetched, 11000);
    assert_int_equal(b->got.layers_here, 0);
    /* the manifest, its configuration, two layers: nothing by the tag */
    assert_int_equal(b->got.requests, 4);
    assert_int_equal(registry_server_count(&server, ""), 4);
    assert_int_equal(registry_server_count(&server, "latest"), 0);
    assert_true(says(b->got.location, "store:127.0.0.1:"));
    assert_int_equal(count_leases(b), 0);

    /* The tag moves twice: what was recorded in between is fetched, the layer that is here not. */
    struct larder_digest v2 = put_image("a/b", "latest", "2", &l[1], 2, NULL);
    record_now(b);
    put_image("a/b", "latest", "3", l, 3, NULL);
    registry_server_set(&server, "{}");
    fetch_ok(b, NULL);
    assert_true(larder_digest_equal(&b->got.digest, &v2) && is_base(b, &v2));
    assert_int_equal(b->got.layers_fetched, 1);
    assert_int_equal(b->got.layers_here, 1);
    assert_int_equal(b->got.bytes_here, 6000);
    snprintf(question, sizeof(question), "GET /v2/a/b/manifests/%s",
             larder_digest_format(&v2, text));
    assert_int_equal(registry_server_count(&server, question), 1);
    assert_int_equal(registry_server_count(&server, "/manifests/"), 1);
    assert_true(has_blob(b, &l[2].digest));
    layers_free(l, 3);
}

static void it_is_remembered_as_the_base(void **state)
{
    struct bed *b = *state;
    struct layer l = layer_of(1, 5000);
    struct larder_digest v1 = put_image("a/b", "latest", "1", &l, 1, NULL);
    struct larder_update u = {.size = sizeof(u)};

    record_now(b);
    fetch_ok(b, NULL);
    assert_int_equal(state_now(b), LARDER_UPDATE_UNCHANGED);
    done(larder_update_check(b->store, ref(), &plain, &u, &b->e), &b->e);
    assert_int_equal(u.state, LARDER_UPDATE_UNCHANGED);
    assert_int_equal(u.requests, 1);
    larder_update_done(&u);

    /* Again: nothing is asked. */
    registry_server_set(&server, "{}");
    fetch_ok(b, NULL);
    assert_true(b->got.was_there && larder_digest_equal(&b->got.digest, &v1));
    assert_int_equal(b->got.requests, 0);
    assert_int_equal(b->got.layers_here, 1);
    assert_int_equal(registry_server_count(&server, ""), 0);
    free(l.data);
}

static void nothing_recorded(void **state)
{
    struct bed *b = *state;

    assert_int_equal(fetch_with(b, &plain, NULL), -LARDER_NOENT);
    assert_true(says(b->e.msg, "no update is recorded"));
    assert_true(says(b->e.hint, "update check"));
    assert_int_equal(registry_server_count(&server, ""), 0);
}

static void without_network_when_all_is_here(void **state)
{
    struct bed *b = *state;
    struct layer l[2] = {layer_of(1, 5000), layer_of(2, 6000)};
    struct larder_update_fetch_options to = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    struct larder_digest v1 = put_image("a/b", "latest", "1", l, 2, NULL);

    record_now(b);
    to.to = "store:other";
    fetch_ok(b, &to);
    assert_int_equal(base_digest(b).alg, LARDER_DIGEST_NONE);
    assert_string_equal(b->got.location, "store:other");
    /* A name alone is not enough. */
    char path[WORDS], hex[LARDER_DIGEST_TEXT_BYTES];
    snprintf(path, sizeof(path), "%s/blobs/sha256/%s", b->path, larder_digest_hex(&v1, hex));
    assert_int_equal(unlink(path), 0);
    fetch_ok(b, &to);
    assert_int_equal(b->got.requests, 1);
    assert_false(b->got.was_there);
    /* The record is still one: the base has not moved. */
    registry_server_set(&server, "{\"rules\": [{\"match\": \".\", \"drop\": true}]}");
    fetch_ok(b, NULL);
    assert_true(b->got.was_there && is_base(b, &v1));
    assert_int_equal(b->got.requests, 0);
    /* From the store to a layout, too. */
    char layout[WORDS];
    snprintf(layout, sizeof(layout), "oci:%s/out:v1", b->dir);
    to.to = layout;
    fetch_ok(b, &to);
    assert_int_equal(b->got.requests, 0);
    assert_int_equal(b->got.layers_here, 2);
    assert_string_equal(b->got.location, layout);
    assert_int_equal(registry_server_count(&server, ""), 0);
    assert_int_equal(count_leases(b), 0);
    fetch_ok(b, &to);
    assert_true(b->got.was_there);
    layers_free(l, 2);
}

static void gone(void **state)
{
    struct bed *b = *state;
    struct layer l[3] = {layer_of(1, 5000), layer_of(2, 6000), layer_of(3, BIG_BYTES)};
    struct larder_update_fetch_options one = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct larder_digest v1 = put_image("a/b", "latest", "1", l, 1, NULL);
    one.jobs = 1;

    record_now(b);
    fetch_ok(b, NULL);
    /* The manifest. */
    struct larder_digest v2 = put_image("a/b", "latest", "2", l, 3, NULL);
    record_now(b);
    put_image("a/b", "latest", "3", l, 2, NULL);
    forget("manifest", "a/b", &v2);
    registry_server_set(&server, "{}");
    assert_int_equal(fetch_with(b, &plain, NULL), -LARDER_GONE);
    assert_int_equal(larder_exit_code(b->e.code), 6);
    assert_true(says(b->e.msg, "prepared digest gone"));
    assert_true(says(b->e.msg, larder_digest_format(&v2, text)) && says(b->e.msg, ref()));
    assert_true(says(b->e.hint, "--or-newer"));
    assert_int_equal(registry_server_count(&server, ""), 1);
    assert_true(is_base(b, &v1));
    assert_int_equal(state_now(b), LARDER_UPDATE_AVAILABLE); /* kept */
    assert_false(has_blob(b, &v2) || has_blob(b, &l[1].digest));

    /* A layer. */
    v2 = put_image("a/b", "latest", "2", l, 3, NULL);
    forget("blob", "a/b", &l[2].digest);
    registry_server_set(&server, "{}");
    assert_int_equal(fetch_with(b, &plain, &one), -LARDER_GONE);
    assert_true(says(b->e.msg, "prepared digest gone"));
    assert_true(says(b->e.msg, larder_digest_format(&l[2].digest, text)));
    assert_int_equal(registry_server_count(&server, "latest"), 0);
    assert_true(is_base(b, &v1));
    assert_int_equal(count_leases(b), 0);
    /* It comes back: what came before need not come again. */
    put_image("a/b", "latest", "2", l, 3, NULL);
    fetch_ok(b, NULL);
    assert_true(is_base(b, &v2));
    assert_int_equal(b->got.layers_fetched, 1);
    layers_free(l, 3);
}

static void or_newer(void **state)
{
    struct bed *b = *state;
    struct layer l[2] = {layer_of(1, 5000), layer_of(2, 6000)};
    struct larder_update_fetch_options options = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    struct larder_digest v1 = put_image("a/b", "latest", "1", l, 1, NULL);

    options.or_newer = true;
    record_now(b);
    fetch_ok(b, &options);
    assert_true(is_base(b, &v1));
    struct larder_digest v2 = put_image("a/b", "latest", "2", l, 2, NULL);
    record_now(b);
    forget("manifest", "a/b", &v2);
    struct larder_digest v3 = put_image("a/b", "latest", "3", l, 2, NULL);
    fetch_ok(b, &options);
    assert_true(b->got.is_newer && larder_digest_equal(&b->got.digest, &v3) && is_base(b, &v3));
    /* The same again is gone still. */
    v2 = put_image("a/b", "latest", "4", &l[1], 1, NULL);
    record_now(b);
    forget("blob", "a/b", &l[1].digest);
    larder_store_close(b->store);
    char command[WORDS];
    snprintf(command, sizeof(command), "rm -rf '%s'", b->path);
    assert_int_equal(system(command), 0);
    struct larder_store_options create = LARDER_STORE_OPTIONS_INIT;
    create.flags = LARDER_STORE_CREATE;
    done(larder_store_open(b->path, &create, &b->store, &b->e), &b->e);
    record_now(b);
    assert_int_equal(fetch_with(b, &plain, &options), -LARDER_GONE);
    layers_free(l, 2);
}

static void no_space(void **state)
{
    struct bed *b = *state;
    struct layer l[2] = {layer_of(1, 5000), layer_of(2, 6000)};
    const uint64_t sizes[] = {5000, 1ULL << 55};
    struct larder_update_fetch_options to = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    char layout[WORDS];

    put_image("a/b", "latest", "1", l, 2, sizes);
    record_now(b);
    assert_int_equal(fetch_with(b, &plain, NULL), -LARDER_NOSPACE);
    assert_true(says(b->e.msg, "36028797") && says(b->e.msg, "are free"));
    assert_int_equal(registry_server_count(&server, "/blobs/"), 0);
    assert_int_equal(count_leases(b), 0);
    snprintf(layout, sizeof(layout), "oci:%s/no/where:v1", b->dir);
    to.to = layout;
    assert_int_equal(fetch_with(b, &plain, &to), -LARDER_NOSPACE);
    snprintf(layout, sizeof(layout), "%s/no", b->dir);
    assert_int_equal(access(layout, F_OK), -1);
    layers_free(l, 2);
}

static void lies_are_seen(void **state)
{
    struct bed *b = *state;
    struct layer l[2] = {layer_of(1, 5000), layer_of(2, BIG_BYTES)};
    struct larder_digest v1 = put_image("a/b", "latest", "1", l, 2, NULL);
    char text[LARDER_DIGEST_TEXT_BYTES], rules[WORDS];

    record_now(b);
    snprintf(rules, sizeof(rules), "{\"rules\": [{\"match\": \"GET .*%s\", \"corrupt\": 2000}]}",
             larder_digest_format(&l[1].digest, text));
    registry_server_set(&server, rules);
    assert_int_equal(fetch_with(b, &plain, NULL), -LARDER_MISMATCH);
    assert_false(has_blob(b, &l[1].digest));
    assert_int_equal(base_digest(b).alg, LARDER_DIGEST_NONE);
    assert_int_equal(count_leases(b), 0);
    snprintf(rules, sizeof(rules), "{\"rules\": [{\"match\": \"GET .*%s\", \"text\": \"{}\"}]}",
             larder_digest_format(&v1, text));
    registry_server_set(&server, rules);
    assert_int_equal(fetch_with(b, &plain, NULL), -LARDER_MISMATCH);
    assert_int_equal(registry_server_count(&server, ""), 1);
    registry_server_set(&server, "{}");
    fetch_ok(b, NULL);
    assert_true(is_base(b, &v1));
    layers_free(l, 2);
}

/* Killed in the middle of a layer: the next run goes on there. */
static void a_killed_one_is_gone_on_with(void **state)
{
    struct bed *b = *state;
    struct layer l[2] = {layer_of(1, 5000), layer_of(2, BIG_BYTES)};
    struct larder_update_fetch_options dry = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    struct larder_digest v1 = put_image("a/b", "latest", "1", l, 2, NULL);
    char text[LARDER_DIGEST_TEXT_BYTES], rules[WORDS], path[WORDS];
    struct stat st = {0};
    int status;

    record_now(b);
    snprintf(rules, sizeof(rules),
             "{\"rules\": [{\"match\": \"GET .*%s\", \"stall_after\": 2000000}]}",
             larder_digest_format(&l[1].digest, text));
    registry_server_set(&server, rules);
    pid_t pid = fork();
    if (pid == 0)
        _exit(fetch_with(b, &plain, NULL) == 0 ? 0 : 1);
    snprintf(path, sizeof(path), "%s/partial/oci-sha256-%s", b->path,
             larder_digest_hex(&l[1].digest, text));
    for (unsigned i = 0; i < 10000 && (stat(path, &st) < 0 || st.st_size < 1000000); i++)
        clock_sleep_ns(10 * NS_PER_MS);
    assert_true(st.st_size >= 1000000);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(count_leases(b), 1); /* of a dead process */
    assert_int_equal(base_digest(b).alg, LARDER_DIGEST_NONE);

    registry_server_set(&server, "{}");
    dry.dry_run = true;
    fetch_ok(b, &dry);
    assert_int_equal(registry_server_count(&server, "GET /v2/a/b/blobs"), 0);
    assert_in_range(b->got.bytes_resumed, 1000000, 2000000);
    assert_int_equal(base_digest(b).alg, LARDER_DIGEST_NONE);
    fetch_ok(b, NULL);
    assert_true(is_base(b, &v1));
    assert_in_range(b->got.bytes_resumed, 1000000, 2000000);
    assert_true(b->got.bytes_fetched + b->got.bytes_resumed + b->got.bytes_here ==
                BIG_BYTES + 5000);
    layers_free(l, 2);
}

/* Whenever it ends, the name is the old image's or the new one's, and all of that is there. */
static void killed_at_any_time(void **state)
{
    struct bed *b = *state;
    struct layer l[4] = {layer_of(1, 5000), layer_of(2, 6000), layer_of(3, BIG_BYTES),
                         layer_of(4, 2000)};
    struct larder_digest v[2] = {put_image("a/b", "latest", "1", l, 2, NULL)};
    bool is_new = false;
    int64_t wait_ns = 0;
    int status = 0;

    record_now(b);
    fetch_ok(b, NULL);
    v[1] = put_image("a/b", "latest", "2", &l[1], 3, NULL);
    record_now(b);
    /* Half a millisecond later each time; on a slow machine, where all of it takes longer than
     * fifty, a tenth later. */
    for (; !is_new; wait_ns += wait_ns < 50 * NS_PER_MS ? NS_PER_MS / 2 : wait_ns / 10) {
        struct larder_fsck_report report = {0};
        pid_t pid = fork();
        if (pid == 0)
            _exit(fetch_with(b, &plain, NULL) == 0 ? 0 : 1);
        clock_sleep_ns(wait_ns);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        is_new = is_base(b, &v[1]);
        assert_true(is_new || is_base(b, &v[0]));
        done(larder_fsck(b->store, NULL, &report, &b->e), &b->e);
        assert_int_equal(report.problems, report.harmless);
        for (unsigned i = is_new; i < (is_new ? 4 : 2); i++)
            done(larder_blob_verify(b->store, &l[i].digest, LARDER_VERIFY_DEEP, &b->e), &b->e);
    }
    fetch_ok(b, NULL);
    assert_true(b->got.was_there && is_base(b, &v[1]));
    layers_free(l, 4);
}

/* From a layout, whose tag moved and whose blob went. */
static void other_sources(void **state)
{
    struct bed *b = *state;
    struct layer l[3] = {layer_of(1, 5000), layer_of(2, 6000), layer_of(3, 7000)};
    struct larder_update u = {.size = sizeof(u)};
    struct larder_copy_options copy = LARDER_COPY_OPTIONS_INIT;
    struct larder_digest v1 = put_image("a/b", "latest", "1", l, 2, NULL);
    char at[WORDS], path[WORDS], text[LARDER_DIGEST_TEXT_BYTES];
    const char *const to[] = {at};

    snprintf(at, sizeof(at), "oci:%s/from:v", b->dir);
    copy.source = ref();
    copy.destinations = to;
    copy.n_destinations = 1;
    done(larder_copy(NULL, &copy, NULL, &b->e), &b->e);
    done(larder_update_check(b->store, at, &plain, &u, &b->e), &b->e);
    larder_update_done(&u);
    put_image("a/b", "latest", "2", &l[1], 2, NULL);
    done(larder_copy(NULL, &copy, NULL, &b->e), &b->e);
    snprintf(path, sizeof(path), "%s/from/blobs/sha256/%s", b->dir,
             larder_digest_hex(&l[0].digest, text));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(larder_update_fetch(b->store, at, &plain, NULL, &b->got, &b->e), -LARDER_GONE);
    assert_true(says(b->e.msg, "prepared digest gone"));
    put_image("a/b", "latest", "1", l, 2, NULL);
    done(larder_copy(NULL, &copy, NULL, &b->e), &b->e);
    done(larder_update_fetch(b->store, at, &plain, NULL, &b->got, &b->e), &b->e);
    assert_true(larder_digest_equal(&b->got.digest, &v1));
    assert_int_equal(b->got.requests, 0);
    layers_free(l, 3);
}

static void dry_runs_only_count(void **state)
{
    struct bed *b = *state;
    struct layer l[2] = {layer_of(1, 5000), layer_of(2, 6000)};
    struct larder_update_fetch_options dry = LARDER_UPDATE_FETCH_OPTIONS_INIT;

    dry.dry_run = true;
    put_image("a/b", "latest", "1", l, 1, NULL);
    record_now(b);
    fetch_ok(b, NULL);
    put_image("a/b", "latest", "2", l, 2, NULL);
    record_now(b);
    fetch_ok(b, &dry);
    assert_int_equal(b->got.layers_fetched, 1);
    assert_int_equal(b->got.bytes_fetched, 6000);
    assert_int_equal(b->got.layers_here, 1);
    assert_false(b->got.was_there);
    dry.to = "oci:/nowhere/at/all";
    fetch_ok(b, &dry);
    assert_int_equal(b->got.layers_here, 1);
    /* each: the manifest, and whether the configuration and the layer are there */
    assert_int_equal(registry_server_count(&server, ""), 6);
    assert_int_equal(registry_server_count(&server, "HEAD /v2/a/b/blobs"), 4);
    assert_int_equal(access("/nowhere", F_OK), -1);
    assert_false(has_blob(b, &l[1].digest));
    layers_free(l, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_was_recorded_comes),
        T(it_is_remembered_as_the_base),
        T(nothing_recorded),
        T(without_network_when_all_is_here),
        T(gone),
        T(or_newer),
        T(no_space),
        T(lies_are_seen),
        T(a_killed_one_is_gone_on_with),
        T(killed_at_any_time),
        T(other_sources),
        T(dry_runs_only_count),
    };

    if (!registry_server_is_possible())
        return 0;
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
