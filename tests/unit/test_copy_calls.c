/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls of copy.h and registry.h, against the scripted registry and layouts. */
#include "registry_server.h"

#include <malloc.h>

#include <larder/copy.h>

#include "base/pool.h"
#include "base/text.h"
#include "oci/manifest.h"

static struct registry_server server;
static char dir[64];

#define WORDS 300

/* A location at the server, in a buffer of its own. */
static char *at(const char *rest)
{
    static char text[8][WORDS];
    static unsigned turn;
    char *to = text[turn++ % 8];

    snprintf(to, WORDS, "docker://127.0.0.1:%d/%s", server.port, rest);
    return to;
}

static char *layout(const char *rest)
{
    static char text[8][WORDS];
    static unsigned turn;
    char *to = text[turn++ % 8];

    snprintf(to, WORDS, "oci:%s/%s", dir, rest);
    return to;
}

static int copy_list(const char *from, const char *const *to, size_t n,
                     struct larder_copy_options *options, struct larder_copy_result *ret,
                     struct larder_error *e)
{
    struct larder_copy_options plain = LARDER_COPY_OPTIONS_INIT;
    struct larder_error own = LARDER_ERROR_INIT;
    int rc;

    if (!options)
        options = &plain;
    options->source = from;
    options->destinations = to;
    options->n_destinations = n;
    ret->size = sizeof(*ret);
    rc = larder_copy(NULL, options, ret, &own);
    if (rc < 0 && !e)
        print_error("%s: %s\n", from, own.msg);
    if (e)
        *e = own;
    return rc;
}

static int copy_one(const char *from, const char *to, struct larder_copy_options *options,
                    struct larder_copy_result *ret)
{
    const char *const list[] = {to};

    return copy_list(from, list, 1, options, ret, NULL);
}

static struct larder_digest digest_at(const char *location)
{
    struct larder_manifest m = {0};
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_digest d;

    if (larder_manifest_get(NULL, location, NULL, NULL, &m, &e) < 0)
        fail_msg("%s", e.msg);
    d = m.digest;
    larder_manifest_done(&m);
    return d;
}

static bool exists(const char *name)
{
    char path[WORDS];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

static int start(void **state)
{
    (void)state;
    registry_server_set(&server, "{}");
    assert_int_equal(registry_server_ask(&server, "DELETE", "/_content", "-", "", 0, NULL), 200);
    registry_server_image(&server, "{\"repo\": \"a/b\", \"tag\": \"v1\", \"platforms\": "
                                   "[\"linux/amd64\", \"linux/arm64\", \"linux/s390x\"]}");
    assert_int_equal(registry_server_ask(&server, "DELETE", "/_log", "-", "", 0, NULL), 200);
    strcpy(dir, "/tmp/larder-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return 0;
}

static int end(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf -- '%s'", dir);
    return system(command);
}

static void around_and_back(void **state)
{
    struct larder_copy_result r = {0};

    (void)state;
    assert_int_equal(copy_one(at("a/b:v1"), layout("x:v1"), NULL, &r), 0);
    assert_false(r.was_there);
    assert_int_equal(r.manifests_put, 4);
    assert_true(r.blobs_copied >= 3);
    /* one request an object: index, 3 manifests, blobs; and a HEAD before a layout is made */
    assert_int_equal(registry_server_count(&server, ""), 5 + r.blobs_copied);
    assert_int_equal(r.requests, 5 + r.blobs_copied);
    struct larder_digest there = digest_at(at("a/b:v1"));
    assert_true(larder_digest_equal(&r.digest, &there));
    assert_string_equal(r.media_type, OCI_TYPE_INDEX);

    registry_server_set(&server, "{}");
    assert_int_equal(copy_one(at("a/b:v1"), layout("x:v1"), NULL, &r), 0);
    assert_true(r.was_there);
    assert_int_equal(registry_server_count(&server, ""), 1);
    assert_int_equal(registry_server_count(&server, "HEAD "), 1);
    assert_int_equal(registry_server_count(&server, " 304 "), 1);

    /* Into a new repository: only what the lanes begin with is asked for. */
    registry_server_set(&server, "{}");
    uint64_t blobs = r.blobs_copied;
    assert_int_equal(copy_one(layout("x:v1"), at("c/d:v1"), NULL, &r), 0);
    assert_int_equal(r.manifests_put, 4);
    assert_true(r.blobs_copied > blobs);
    assert_in_range(registry_server_count(&server, "HEAD "), 1, 1 + 2 * POOL_LANES_DEFAULT);
    assert_int_equal(registry_server_count(&server, "PUT /v2/c/d/manifests/"), 4);
    registry_server_set(&server, "{}");
    assert_int_equal(copy_one(layout("x:v1"), at("c/d:v1"), NULL, &r), 0);
    assert_true(r.was_there);
    assert_int_equal(registry_server_count(&server, ""), 1);
    assert_int_equal(registry_server_count(&server, " 304 "), 0); /* it may have been lost */
    there = digest_at(at("c/d:v1"));
    assert_true(larder_digest_equal(&r.digest, &there));
}

/* A registry need not read what is large to say that it is the same. */
static void a_large_manifest_is_asked_for_by_its_digest(void **state)
{
    struct larder_copy_options options = LARDER_COPY_OPTIONS_INIT;
    struct larder_copy_result r = {0};

    (void)state;
    registry_server_image(&server, "{\"repo\": \"large/from\", \"tag\": \"v1\", \"layers\": 600, "
                                   "\"size\": 3}");
    assert_int_equal(copy_one(at("large/from:v1"), layout("large:v1"), NULL, &r), 0);
    assert_int_equal(copy_one(layout("large:v1"), at("large/to:v1"), NULL, &r), 0);
    assert_false(r.was_there);
    registry_server_set(&server, "{}");
    assert_int_equal(copy_one(layout("large:v1"), at("large/to:v1"), NULL, &r), 0);
    assert_true(r.was_there);
    assert_int_equal(registry_server_count(&server, ""), 1);
    assert_int_equal(registry_server_count(&server, " 304 "), 1);

    options.force = true;
    registry_server_set(&server, "{}");
    assert_int_equal(copy_one(layout("large:v1"), at("large/to:v1"), &options, &r), 0);
    assert_false(r.was_there);
    assert_int_equal(registry_server_count(&server, " 304 "), 0);
}

/* What is on the disk, not what came: ends within a page, at one, at a buffer's; one that is long
 * enough for every way of writing. */
static void files_are_what_their_names_say(void **state)
{
    static const unsigned long sizes[] = {1,       4096,        1048575,     1048576,
                                          1048577, 3 * 393216L, 3 * 393217L, 9437184L + 5000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct larder_copy_result r = {0};
        char text[WORDS];

        snprintf(text, sizeof(text),
                 "{\"repo\": \"s/%zu\", \"tag\": \"v1\", \"layers\": 1, \"size\": %lu}", i,
                 sizes[i]);
        registry_server_image(&server, text);
        snprintf(text, sizeof(text), "s/%zu:v1", i);
        assert_int_equal(copy_one(at(text), layout("sizes:v1"), NULL, &r), 0);
    }
    char command[2 * WORDS];
    snprintf(command, sizeof(command),
             "cd '%s/sizes/blobs/sha256' && test $(ls | wc -l) -ge %zu && "
             "for f in *; do echo \"$f  $f\"; done | sha256sum --quiet -c",
             dir, ARRAY_LEN(sizes));
    assert_int_equal(system(command), 0);
}

static void repositories_of_one_registry_mount(void **state)
{
    struct larder_copy_result r = {0};

    (void)state;
    assert_int_equal(copy_one(at("a/b:v1"), at("e/f:v1"), NULL, &r), 0);
    assert_int_equal(r.blobs_copied, 0);
    assert_true(r.blobs_mounted > 0);
    assert_int_equal(r.bytes_copied, 0);
    assert_int_equal(registry_server_count(&server, "GET /v2/a/b/blobs/"), 0);
    /* refused: fetched and sent */
    registry_server_set(&server, "{\"mount\": 202}");
    assert_int_equal(copy_one(at("a/b:v1"), at("g/h:v1"), NULL, &r), 0);
    assert_int_equal(r.blobs_mounted, 0);
    struct larder_digest there = digest_at(at("g/h:v1"));
    assert_true(larder_digest_equal(&r.digest, &there));
}

static void many_destinations_share_the_work(void **state)
{
    const char *const to[] = {layout("x:v1"), at("i/j:v1"),     at("i/j:v2"),
                              layout("x:v2"), at("k/l:latest"), at("i/j")};
    struct larder_copy_result r = {0};

    (void)state;
    assert_int_equal(copy_list(at("a/b:v1"), to, ARRAY_LEN(to), NULL, &r, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(to); i++) {
        struct larder_digest there = digest_at(to[i]);
        assert_true(larder_digest_equal(&r.digest, &there));
    }
    /* The tags of a repository: one manifest each, the rest once. */
    assert_int_equal(registry_server_count(&server, "PUT /v2/i/j/manifests/"), 3 + 3);
    registry_server_set(&server, "{}");
    assert_int_equal(copy_list(at("a/b:v1"), to, ARRAY_LEN(to), NULL, &r, NULL), 0);
    assert_true(r.was_there);
    assert_int_equal(registry_server_count(&server, "GET "), 0);
    assert_int_equal(registry_server_count(&server, "PUT "), 0);
}

static void platforms_are_chosen(void **state)
{
    static const char *const one[] = {"linux/arm64"};
    static const char *const two[] = {"linux/s390x", "linux/amd64"};
    static const char *const all[] = {"linux/s390x", "linux/amd64", "linux/arm64"};
    static const char *const none[] = {"linux/riscv64"};
    const char *const to[] = {layout("n:v1")};
    struct larder_copy_options o = LARDER_COPY_OPTIONS_INIT;
    struct larder_copy_result r = {0};
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_manifest m = {0};

    (void)state;
    o.platforms = one;
    o.n_platforms = 1;
    assert_int_equal(copy_one(at("a/b:v1"), layout("one:v1"), &o, &r), 0);
    assert_string_equal(r.media_type, OCI_TYPE_MANIFEST);
    assert_int_equal(r.manifests_put, 1);
    assert_int_equal(larder_manifest_get(NULL, at("a/b:v1"), "linux/arm64", NULL, &m, NULL), 0);
    assert_true(larder_digest_equal(&m.digest, &r.digest));
    larder_manifest_done(&m);
    assert_int_equal(copy_one(at("a/b:v1"), layout("one:v1"), &o, &r), 0);
    assert_true(r.was_there);

    o.platforms = two;
    o.n_platforms = 2;
    assert_int_equal(copy_one(at("a/b:v1"), layout("two:v1"), &o, &r), 0);
    assert_string_equal(r.media_type, OCI_TYPE_INDEX);
    assert_int_equal(r.manifests_put, 3);
    struct larder_digest first = r.digest;
    struct larder_digest whole = digest_at(at("a/b:v1"));
    assert_false(larder_digest_equal(&first, &whole));
    assert_int_equal(copy_one(at("a/b:v1"), at("t/wo:v1"), &o, &r), 0);
    assert_true(larder_digest_equal(&first, &r.digest)); /* the same choice, the same bytes */
    assert_int_equal(copy_one(at("a/b:v1"), at("t/wo:v1"), &o, &r), 0);
    assert_true(r.was_there);

    o.platforms = all;
    o.n_platforms = 3;
    assert_int_equal(copy_one(at("a/b:v1"), layout("all:v1"), &o, &r), 0);
    assert_true(larder_digest_equal(&whole, &r.digest));

    o.platforms = none;
    o.n_platforms = 1;
    assert_int_equal(copy_list(at("a/b:v1"), to, 1, &o, &r, &e), -LARDER_NOENT);
    assert_non_null(strstr(e.msg, "linux/riscv64"));
    assert_non_null(strstr(e.msg, "linux/s390x"));
    /* An image by itself is for one platform, too. */
    assert_int_equal(copy_list(layout("one:v1"), to, 1, &o, &r, &e), -LARDER_NOENT);
    assert_non_null(strstr(e.msg, "for linux/arm64"));
    o.platforms = one;
    assert_int_equal(copy_list(layout("one:v1"), to, 1, &o, &r, &e), 0);
}

static void a_dry_run_makes_nothing(void **state)
{
    struct larder_copy_options o = LARDER_COPY_OPTIONS_INIT;
    struct larder_copy_result dry = {0};
    struct larder_copy_result r = {0};

    (void)state;
    o.dry_run = true;
    assert_int_equal(copy_one(at("a/b:v1"), layout("dry:v1"), &o, &dry), 0);
    assert_false(exists("dry"));
    assert_false(dry.was_there);
    assert_int_equal(copy_one(at("a/b:v1"), at("d/ry:v1"), &o, &dry), 0);
    assert_int_equal(registry_server_count(&server, "PUT "), 0);
    assert_int_equal(registry_server_count(&server, "POST "), 0);
    assert_int_equal(copy_one(at("a/b:v1"), layout("dry:v1"), NULL, &r), 0);
    assert_int_equal(dry.manifests_put, r.manifests_put);
}

static void bad_words(void **state)
{
    const char *const there[] = {layout("x:v1")};
    const char *const both[] = {
        at("a/b:v1@sha256:0000000000000000000000000000000000000000000000000000000000000000")};
    const char *const other[] = {
        at("q/r@sha256:0000000000000000000000000000000000000000000000000000000000000000")};
    struct larder_copy_result r = {0};
    struct larder_error e = LARDER_ERROR_INIT;
    static const char *const wrong[] = {"linux/"};
    struct larder_copy_options o = LARDER_COPY_OPTIONS_INIT;

    (void)state;
    assert_int_equal(copy_list("nowhere:x", there, 1, NULL, &r, &e), -LARDER_INVAL);
    assert_int_equal(copy_list(at("a/b:v1"), there, 0, NULL, &r, &e), -LARDER_INVAL);
    assert_int_equal(copy_list(at("a/b:v1"), both, 1, NULL, &r, &e), -LARDER_INVAL);
    assert_int_equal(copy_list(at("a/b:v1"), other, 1, NULL, &r, &e), -LARDER_MISMATCH);
    assert_int_equal(copy_list("store:x", there, 1, NULL, &r, &e), -LARDER_INVAL);
    o.platforms = wrong;
    o.n_platforms = 1;
    assert_int_equal(copy_list(at("a/b:v1"), there, 1, &o, &r, &e), -LARDER_INVAL);
    int rc = copy_list(at("a/b:absent"), there, 1, NULL, &r, &e);
    assert_true(rc == -LARDER_NOENT || rc == -LARDER_GONE);
}

static void damage_is_named(void **state)
{
    const char *const to[] = {at("bad/one:v1")};
    struct larder_copy_result r = {0};
    struct larder_error e = LARDER_ERROR_INIT;
    char command[WORDS];

    (void)state;
    assert_int_equal(copy_one(at("a/b:v1"), layout("x:v1"), NULL, &r), 0);
    /* Every blob larger than a config gets another first byte; sizes stay. */
    snprintf(command, sizeof(command),
             "find %s/x/blobs -size +1 -exec chmod u+w {} + -exec "
             "sh -c 'for f; do printf X | dd of=$f conv=notrunc 2>/dev/null; done' x {} +",
             dir);
    assert_int_equal(system(command), 0);
    int rc = copy_list(layout("x:v1"), to, 1, NULL, &r, &e);
    assert_int_equal(rc, -LARDER_CORRUPT);
    assert_non_null(strstr(e.msg, "sha256:"));
}

static int count_tag(void *arg, const char *tag)
{
    unsigned *n = arg;

    (void)tag;
    return ++*n == 100 ? 7 : 0;
}

static void tags_and_deletes(void **state)
{
    struct larder_copy_result r = {0};
    struct larder_error e = LARDER_ERROR_INIT;
    enum larder_deleted how = LARDER_DELETED_MANIFEST;
    const char *const to[] = {at("t/ags:v1"), at("t/ags:v2"), layout("x:v1"), layout("x:v2")};
    unsigned n = 0;

    (void)state;
    assert_int_equal(copy_list(at("a/b:v1"), to, 4, NULL, &r, NULL), 0);
    assert_int_equal(larder_tags_each(NULL, at("t/ags"), NULL, count_tag, &n, NULL), 0);
    assert_int_equal(n, 2);
    n = 99;
    assert_int_equal(larder_tags_each(NULL, at("t/ags"), NULL, count_tag, &n, NULL), 7);
    assert_int_equal(larder_image_delete(NULL, to[0], false, NULL, &how, &e), 0);
    assert_int_equal(how, LARDER_DELETED_TAG);
    digest_at(to[1]);
    assert_int_equal(larder_image_delete(NULL, to[2], false, NULL, &how, &e), 0);
    assert_int_equal(how, LARDER_DELETED_TAG);
    digest_at(to[3]);

    /* Where only manifests can go: all tags of it. */
    registry_server_set(&server, "{\"delete_tag\": 405}");
    assert_int_equal(larder_image_delete(NULL, to[1], true, NULL, &how, &e), -LARDER_UNSUPPORTED);
    assert_int_equal(larder_image_delete(NULL, to[1], false, NULL, &how, &e), 0);
    assert_int_equal(how, LARDER_DELETED_MANIFEST);
    struct larder_manifest m = {0};
    assert_true(larder_manifest_get(NULL, to[1], NULL, NULL, &m, &e) < 0);
    assert_int_equal(larder_image_delete(NULL, layout("absent:v1"), false, NULL, &how, &e),
                     -LARDER_NOENT);
    assert_false(exists("absent"));
}

static void what_differs(void **state)
{
    struct larder_diff d = {0};
    struct larder_error e = LARDER_ERROR_INIT;

    (void)state;
    registry_server_image(&server, "{\"repo\": \"a/b\", \"tag\": \"v2\", \"seed\": 9, "
                                   "\"platforms\": [\"linux/amd64\"], \"layers\": 3}");
    assert_int_equal(larder_diff(NULL, at("a/b:v1"), at("a/b:v1"), NULL, NULL, &d, &e), 0);
    assert_true(d.is_equal);
    assert_true(d.n_blobs > 0);
    assert_int_equal(d.bytes_only_a + d.bytes_only_b + d.bytes_to_pull, 0);
    assert_true(d.bytes_both > 0);
    larder_diff_done(&d);
    assert_int_equal(larder_diff(NULL, at("a/b:v1"), at("a/b:v2"), "linux/amd64", NULL, &d, &e), 0);
    assert_false(d.is_equal);
    uint64_t sums[3] = {0};
    for (size_t i = 0; i < d.n_blobs; i++) {
        sums[d.blobs[i].side] += d.blobs[i].size_bytes;
        assert_true(d.blobs[i].media_type[0] != '\0');
    }
    assert_int_equal(sums[LARDER_DIFF_A], d.bytes_only_a);
    assert_int_equal(sums[LARDER_DIFF_B], d.bytes_only_b);
    assert_int_equal(sums[LARDER_DIFF_BOTH], d.bytes_both);
    assert_int_equal(d.bytes_to_pull, d.bytes_only_b);
    assert_true(d.bytes_only_b > 0);
    larder_diff_done(&d);
    /* A member of the index against the whole: nothing new. */
    struct larder_copy_result r = {0};
    static const char *const one[] = {"linux/arm64"};
    struct larder_copy_options o = LARDER_COPY_OPTIONS_INIT;
    o.platforms = one;
    o.n_platforms = 1;
    assert_int_equal(copy_one(at("a/b:v1"), layout("one:v1"), &o, &r), 0);
    assert_int_equal(larder_diff(NULL, at("a/b:v1"), layout("one:v1"), NULL, NULL, &d, &e), 0);
    assert_int_equal(d.bytes_only_b, 0);
    assert_true(d.bytes_only_a > 0 && d.bytes_both > 0);
    larder_diff_done(&d);
}

static void a_config_can_be_read(void **state)
{
    struct larder_manifest m = {0};
    struct larder_manifest config = {0};
    struct oci_manifest *parsed = NULL;
    struct larder_copy_result copied = {0};
    struct larder_error e = LARDER_ERROR_INIT;

    (void)state;
    assert_int_equal(larder_manifest_get(NULL, at("a/b:v1"), "linux/amd64", NULL, &m, &e), 0);
    if (oci_manifest_parse((struct slice){m.bytes, m.n_bytes}, m.media_type, &parsed, NULL) < 0 ||
        !parsed)
        abort();
    assert_int_equal(larder_manifest_blob(NULL, at("a/b"), &parsed->config.digest,
                                          parsed->config.size_bytes, NULL, &config, &e),
                     0);
    assert_non_null(strstr((const char *)config.bytes, "amd64"));
    larder_manifest_done(&config);
    assert_int_equal(larder_manifest_blob(NULL, at("a/b"), &parsed->config.digest,
                                          parsed->config.size_bytes + 1, NULL, &config, &e),
                     -LARDER_MISMATCH);
    assert_int_equal(larder_manifest_blob(NULL, at("a/b"), &parsed->config.digest, 1ULL << 30, NULL,
                                          &config, &e),
                     -LARDER_LIMIT);
    /* Out of a file, too, it is a string: whatever was in the memory before. */
    assert_int_equal(copy_one(at("a/b:v1"), layout("strings:one"), NULL, &copied), 0);
    mallopt(M_PERTURB, 0x55);
    assert_int_equal(larder_manifest_blob(NULL, layout("strings:one"), &parsed->config.digest,
                                          parsed->config.size_bytes, NULL, &config, &e),
                     0);
    assert_int_equal(strlen(config.bytes), config.n_bytes);
    larder_manifest_done(&config);
    mallopt(M_PERTURB, 0);
    oci_manifest_free(parsed);
    larder_manifest_done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(around_and_back, start, end),
        cmocka_unit_test_setup_teardown(a_large_manifest_is_asked_for_by_its_digest, start, end),
        cmocka_unit_test_setup_teardown(files_are_what_their_names_say, start, end),
        cmocka_unit_test_setup_teardown(repositories_of_one_registry_mount, start, end),
        cmocka_unit_test_setup_teardown(many_destinations_share_the_work, start, end),
        cmocka_unit_test_setup_teardown(platforms_are_chosen, start, end),
        cmocka_unit_test_setup_teardown(a_dry_run_makes_nothing, start, end),
        cmocka_unit_test_setup_teardown(bad_words, start, end),
        cmocka_unit_test_setup_teardown(damage_is_named, start, end),
        cmocka_unit_test_setup_teardown(tags_and_deletes, start, end),
        cmocka_unit_test_setup_teardown(what_differs, start, end),
        cmocka_unit_test_setup_teardown(a_config_can_be_read, start, end),
    };

    if (!registry_server_is_possible())
        return 0;
    registry_server_start(&server, false);
    int failed = cmocka_run_group_tests_name("copy_calls", tests, NULL, NULL);
    registry_server_stop(&server);
    return failed;
}
