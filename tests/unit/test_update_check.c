/* SPDX-License-Identifier: Apache-2.0 */
/* larder_update_check and larder_update_clear: what is asked, what is answered, what is kept. */
#include "update_registry.h"

#include <sys/stat.h>

#include "base/text.h"

static struct bench b;

#define BOTH ", \"platforms\": [\"linux/amd64\", \"linux/arm64\"]"

/* Of the index's member for a platform: in the answer of a check without a base. */
static struct larder_digest member_of(const char *rest, const char *platform)
{
    struct larder_manifest m = {0};
    if (larder_manifest_get(NULL, bench_at(&b, rest), platform, &b.registry, &m, &b.e) < 0)
        fail_msg("%s", b.e.msg);
    struct larder_digest digest = m.digest;
    larder_manifest_done(&m);
    return digest;
}

/* ---- unchanged ---- */

static void test_unchanged(void **state)
{
    (void)state;
    bench_reset(&b, "{}");
    bench_image(&b, "os", "stable", 1, "");
    bench_copy(&b, "os:stable");
    UNCHANGED(&b, "os:stable", 1);
    UNCHANGED(&b, "os:stable", 1);
    assert_int_equal(registry_server_count(&b.server, "HEAD "), 0); /* show asked nothing */
    struct larder_update u = bench_check(&b, "os:stable");
    assert_int_equal(registry_server_count(&b.server, "HEAD "), 1);
    assert_string_equal(u.ref, bench_at(&b, "os:stable"));
    assert_string_equal(u.platform, "linux/amd64");
    assert_string_equal(u.current.version, "1.0");
    assert_true(u.current.timestamp_ns > 0);
    assert_true(u.is_persisted && u.checked_at_ns > 0 && !u.why);
    assert_string_equal(u.record, "store");
    larder_update_done(&u);
    u = (struct larder_update){.size = 77}; /* the caller's */
    assert_int_equal(larder_update_check(b.store, bench_at(&b, "os:stable"), &b.options, &u, &b.e),
                     0);
    assert_int_equal(u.size, 77);
    larder_update_done(&u);
    assert_int_equal(b.warnings, 0);
}

/* The base is a member of what the tag points to: the index is read once. */
static void test_unchanged_index(void **state)
{
    (void)state;
    bench_reset(&b, "{}");
    struct larder_digest index = bench_image(&b, "os", "stable", 1, BOTH);
    bench_copy(&b, "os:stable");
    UNCHANGED(&b, "os:stable", 1);
    UNCHANGED(&b, "os:stable", 1);
    struct larder_update u = bench_check(&b, "os:stable");
    struct larder_digest member = member_of("os:stable", "linux/amd64");
    assert_true(larder_digest_equal(&u.listed, &index));
    assert_true(larder_digest_equal(&u.current.digest, &member));
    larder_update_done(&u);
    /* Another image in it for others, the same one for us. */
    bench_image(&b, "os", "stable", 1,
                ", \"platforms\": [\"linux/amd64\", \"linux/arm64\", \"linux/s390x\"]");
    UNCHANGED(&b, "os:stable", 2);
    UNCHANGED(&b, "os:stable", 1);
}

/* The same configuration in another manifest is the same image. */
static void test_same_image(void **state)
{
    static const char head[] = "{\"annotations\":{\"a\":\"b\"},";
    (void)state;
    bench_reset(&b, "{}");
    bench_image(&b, "os", "stable", 1, "");
    bench_copy(&b, "os:stable");
    struct buf bytes = bench_get(&b, "/_manifest/os/stable");
    struct buf other = BUF_INIT(1 << 20);
    buf_puts(&other, head);
    buf_append(&other, bytes.p + 1, bytes.n - 1);
    bench_put_manifest(&b, "os", "stable", OCI_TYPE_MANIFEST, other.p, other.n);
    UNCHANGED(&b, "os:stable", 2);
    UNCHANGED(&b, "os:stable", 1);
    buf_done(&other);
    buf_done(&bytes);
}

/* Artifacts share their empty configuration. */
static void test_empty_config(void **state)
{
    (void)state;
    bench_reset(&b, "{}");
    bench_made(&b, "os", "stable", "{}", 0);
    bench_copy(&b, "os:stable");
    UNCHANGED(&b, "os:stable", 1);
    struct larder_digest two = bench_made(&b, "os", "stable", "{}", 2);
    AVAILABLE(&b, "os:stable", &two, 3);
}

/* ---- an update ---- */

static void test_update(void **state)
{
    (void)state;
    bench_reset(&b, "{}");
    bench_image(&b, "os", "stable", 1, "");
    bench_copy(&b, "os:stable");
    struct larder_digest v2 = bench_image(&b, "os", "stable", 2, "");
    AVAILABLE(&b, "os:stable", &v2, 3);
    AVAILABLE(&b, "os:stable", &v2, 1);
    struct larder_update u = bench_check(&b, "os:stable");
    assert_string_equal(u.update.version, "2.0");
    assert_string_equal(u.current.version, "1.0");
    assert_int_equal(u.diff.total.layers, 2);
    assert_int_equal(u.diff.added.layers, 2);
    assert_int_equal(u.diff.removed.layers, 2);
    assert_int_equal(u.diff.needed.bytes, 2 * 4096);
    larder_update_done(&u);
    /* Moved again, and back. */
    struct larder_digest v3 = bench_image(&b, "os", "stable", 3, "");
    AVAILABLE(&b, "os:stable", &v3, 3);
    bench_image(&b, "os", "stable", 1, "");
    UNCHANGED(&b, "os:stable", 1);
    UNCHANGED(&b, "os:stable", 1);
    AVAILABLE(&b, "os:stable", (bench_image(&b, "os", "stable", 3, ""), &v3), 3);
    assert_int_equal(b.warnings, 0);
}

static void test_update_index(void **state)
{
    (void)state;
    bench_reset(&b, "{}");
    bench_image(&b, "os", "stable", 1, BOTH);
    bench_copy(&b, "os:stable");
    bench_image(&b, "os", "stable", 2, BOTH);
    struct larder_digest v2 = member_of("os:stable", "linux/amd64");
    AVAILABLE(&b, "os:stable", &v2, 4);
    assert_int_equal(registry_server_count(&b.server, ""), 0);
    AVAILABLE(&b, "os:stable", &v2, 1);
    /* Our member is what it was: its configuration is not asked for again. */
    bench_image(&b, "os", "stable", 2, ", \"platforms\": [\"linux/amd64\", \"linux/s390x\"]");
    AVAILABLE(&b, "os:stable", &v2, 3);
    AVAILABLE(&b, "os:stable", &v2, 1);
    /* From the index to the member itself: known, and known as that the next time. */
    bench_image(&b, "os", "stable", 2, "");
    AVAILABLE(&b, "os:stable", &v2, 1);
    AVAILABLE(&b, "os:stable", &v2, 1);
    struct larder_update u = bench_check(&b, "os:stable");
    assert_true(larder_digest_equal(&u.listed, &v2));
    larder_update_done(&u);
}

/* No layer is asked for, by any method. */
static void test_no_layers(void **state)
{
    (void)state;
    bench_reset(&b, "{}");
    bench_image(&b, "os", "stable", 1, BOTH);
    struct larder_update u = bench_check(&b, "os:stable");
    assert_int_equal(registry_server_count(&b.server, "/blobs/"), 1);
    assert_int_equal(registry_server_count(&b.server, "/manifests/"), 3);
    larder_update_done(&u);
}

static void test_no_base(void **state)
{
    (void)state;
    bench_reset(&b, "{}");
    struct larder_digest v1 = bench_image(&b, "os", "stable", 1, "");
    AVAILABLE(&b, "os:stable", &v1, 3);
    struct larder_update u = bench_check(&b, "os:stable");
    assert_int_equal(u.current.digest.alg, LARDER_DIGEST_NONE);
    assert_int_equal(u.n_holders, 0);
    larder_update_done(&u);
    /* The base appears: it is what was found. */
    bench_copy(&b, "os:stable");
    UNCHANGED(&b, "os:stable", 1);
    UNCHANGED(&b, "os:stable", 1);
}

/* A record for another base still tells what is behind the digest. */
static void test_other_base(void **state)
{
    (void)state;
    bench_reset(&b, "{}");
    bench_image(&b, "os", "stable", 2, BOTH);
    struct larder_digest v2 = member_of("os:stable", "linux/amd64");
    AVAILABLE(&b, "os:stable", &v2, 4);
    bench_image(&b, "os", "stable", 1, BOTH);
    bench_copy(&b, "os:stable");
    bench_image(&b, "os", "stable", 2, BOTH);
    struct larder_update shown = bench_show_ref(&b, bench_at(&b, "os:stable"));
    assert_int_equal(shown.state, LARDER_UPDATE_UNKNOWN);
    larder_update_done(&shown);
    AVAILABLE(&b, "os:stable", &v2, 1);
    struct larder_update u = bench_check(&b, "os:stable");
    assert_string_equal(u.current.version, "1.0");
    assert_int_equal(u.diff.removed.layers, 2);
    larder_update_done(&u);
    /* Fetched: the record is consumed, and the next check knows without asking more. */
    bench_copy(&b, "os:stable");
    UNCHANGED(&b, "os:stable", 1);
    UNCHANGED(&b, "os:stable", 1);
}

/* ---- platforms and formats ---- */

static void test_platforms(void **state)
{
    (void)state;
    bench_reset(&b, "{}");
    bench_image(&b, "os", "stable", 1, BOTH);
    struct larder_digest amd64 = member_of("os:stable", "linux/amd64");
    struct larder_digest arm64 = member_of("os:stable", "linux/arm64");
    AVAILABLE(&b, "os:stable", &amd64, 4);
    b.options.platform = "linux/arm64/v8";
    AVAILABLE(&b, "os:stable", &arm64, 4);
    b.options.platform = "linux/amd64";
    AVAILABLE(&b, "os:stable", &amd64, 1);
    b.options.platform = "linux/s390x";
    FAILS(&b, "os:stable", LARDER_NOENT, "linux/s390x");
    assert_non_null(strstr(b.e.msg, "linux/arm64"));
}

static void test_single_platform(void **state)
{
    (void)state;
    bench_reset(&b, "{}");
    struct larder_digest v1 = bench_image(&b, "os", "stable", 1, "");
    b.options.platform = "linux/arm64";
    FAILS(&b, "os:stable", LARDER_NOENT, "linux/arm64");
    assert_non_null(strstr(b.e.msg, "linux/amd64"));
    b.options.platform = "linux/amd64";
    AVAILABLE(&b, "os:stable", &v1, 3);
}

static void test_docker(void **state)
{
    (void)state;
    bench_reset(&b, "{}");
    struct larder_digest v1 = bench_image(&b, "os", "one", 1, ", \"format\": \"docker\"");
    AVAILABLE(&b, "os:one", &v1, 3);
    bench_image(&b, "os", "all", 1, BOTH ", \"format\": \"docker\"");
    bench_copy(&b, "os:all");
    UNCHANGED(&b, "os:all", 1);
    bench_image(&b, "os", "all", 2, BOTH ", \"format\": \"docker\"");
    struct larder_digest v2 = member_of("os:all", "linux/amd64");
    AVAILABLE(&b, "os:all", &v2, 4);
    struct larder_update u = bench_check(&b, "os:all");
    assert_string_equal(u.update.version, "2.0");
    larder_update_done(&u);
}

static void test_odd_images(void **state)
{
    (void)state;
    struct buf config = BUF_INIT(4 << 20);
    bench_reset(&b, "{}");
    /* 40 KiB of labels, no ASCII; a manifest beyond 4 KiB. */
    buf_puts(&config, "{\"os\":\"linux\",\"architecture\":\"amd64\",\"config\":{\"Labels\":{"
                      "\"org.opencontainers.image.version\":\"\xc3\xbc-\xe2\x82\xac \\\"1\\\"\"");
    for (int i = 0; i < 1000; i++)
        buf_printf(&config,
                   ",\"l\xc3\xa4"
                   "bel-%d\":\"\\u0001\xf0\x9f\x93\xa6\\n\"",
                   i);
    buf_puts(&config, "}},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}");
    struct larder_digest big = bench_made(&b, "os", "big", config.p, 500);
    AVAILABLE(&b, "os:big", &big, 3);
    AVAILABLE(&b, "os:big", &big, 1);
    struct larder_update u = bench_check(&b, "os:big");
    assert_string_equal(u.update.version, "\xc3\xbc-\xe2\x82\xac \"1\"");
    assert_int_equal(u.diff.total.layers, 500);
    larder_update_done(&u);
    buf_done(&config);
    /* Neither version nor timestamp. */
    struct larder_digest bare =
        bench_made(&b, "os", "bare", "{\"os\":\"linux\",\"architecture\":\"amd64\"}", 1);
    AVAILABLE(&b, "os:bare", &bare, 3);
    u = bench_check(&b, "os:bare");
    assert_null(u.update.version);
    assert_int_equal(u.update.timestamp_ns, 0);
    larder_update_done(&u);
}

/* ---- failures ---- */

static void test_failures(void **state)
{
    (void)state;
    static const struct {
        const char *settings;
        enum larder_code code;
        const char *words;
    } cases[] = {
        {"{\"rules\": [{\"match\": \"^HEAD\", \"status\": 404}]}", LARDER_NOENT, "os:stable"},
        {"{\"auth\": \"bearer\"}", LARDER_AUTH, ""},
        {"{\"auth\": \"basic\"}", LARDER_AUTH, ""},
        {"{\"rules\": [{\"match\": \"^HEAD\", \"status\": 500}]}", LARDER_UNREACHABLE, "500"},
        {"{\"rules\": [{\"match\": \"^HEAD\", \"drop\": true}]}", LARDER_UNREACHABLE, ""},
        {"{\"rules\": [{\"match\": \"^GET\", \"status\": 503}]}", LARDER_UNREACHABLE, "503"},
        {"{\"rules\": [{\"match\": \"/blobs/\", \"status\": 404}]}", LARDER_NOENT, ""},
        {"{\"digest_header\": \"wrong\"}", LARDER_CORRUPT, "expected"},
        {"{\"rules\": [{\"match\": \"^GET.*/manifests/\", \"text\": \"{}\"}]}", LARDER_CORRUPT,
         "expected"},
        {"{\"rules\": [{\"match\": \"/blobs/\", \"corrupt\": 5}]}", LARDER_MISMATCH, "sha256:"},
        {"{\"rules\": [{\"match\": \"/blobs/\", \"text\": \"{}\"}]}", LARDER_MISMATCH, ""},
    };
    bench_reset(&b, "{}");
    bench_image(&b, "os", "stable", 1, "");
    bench_copy(&b, "os:stable");
    struct larder_digest v2 = bench_image(&b, "os", "stable", 2, "");
    AVAILABLE(&b, "os:stable", &v2, 3);
    bench_image(&b, "os", "stable", 3, "");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bench_set(&b, cases[i].settings);
        FAILS(&b, "os:stable", cases[i].code, cases[i].words);
    }
    bench_set(&b, "{}");
    FAILS(&b, "os:other", LARDER_NOENT, "os:other");
    struct larder_update u = bench_show_ref(&b, bench_at(&b, "os:stable"));
    assert_true(larder_digest_equal(&u.update.digest, &v2));
    larder_update_done(&u);
    assert_int_equal(b.warnings, 0);
}

static void test_bad_refs(void **state)
{
    (void)state;
    bench_reset(&b, "{}");
    bench_fails(&b, "docker://UPPER/case", LARDER_INVAL, "", __LINE__);
    bench_fails(&b, "store:os", LARDER_INVAL, "", __LINE__);
    bench_fails(&b, "", LARDER_INVAL, "", __LINE__);
    b.options.platform = "//";
    FAILS(&b, "os:stable", LARDER_INVAL, "");
}

/* A configuration that claims to be larger than any is not asked for. */
static void test_large_config(void **state)
{
    (void)state;
    char text[600];
    bench_reset(&b, "{}");
    snprintf(text, sizeof(text),
             "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST
             "\",\"config\":{\"mediaType\":\"" OCI_TYPE_CONFIG
             "\",\"size\":99999999,\"digest\":\"sha256:%064x\"},\"layers\":[]}",
             7);
    bench_put_manifest(&b, "os", "stable", OCI_TYPE_MANIFEST, text, strlen(text));
    FAILS(&b, "os:stable", LARDER_LIMIT, "99999999");
    assert_int_equal(registry_server_count(&b.server, "/blobs/"), 0);
}

/* The tag moves between the two questions, and the registry forgets what it had. */
static void test_moves_meanwhile(void **state)
{
    (void)state;
    bench_reset(&b, "{}");
    struct larder_digest v1 = bench_image(&b, "os", "stable", 1, "");
    bench_set(&b, "{\"rules\": [{\"match\": \"^GET.*/manifests/sha256\", \"times\": 1, "
                  "\"status\": 404}]}");
    AVAILABLE(&b, "os:stable", &v1, 4);
    /* Pinned, there is nothing else to ask for. */
    char ref[BENCH_TEXT];
    char text[LARDER_DIGEST_TEXT_BYTES];
    snprintf(ref, sizeof(ref), "other@%s", larder_digest_format(&v1, text));
    FAILS(&b, ref, LARDER_NOENT, "other");
    assert_int_equal(registry_server_count(&b.server, ""), 1);
}

/* Registries that don't say the digest: their bytes tell it. */
static void test_no_digest(void **state)
{
    (void)state;
    bench_reset(&b, "{\"digest_header\": false}");
    bench_image(&b, "os", "stable", 1, "");
    bench_copy(&b, "os:stable");
    UNCHANGED(&b, "os:stable", 2);
    struct larder_digest v2 = bench_image(&b, "os", "stable", 2, "");
    AVAILABLE(&b, "os:stable", &v2, 4);
    AVAILABLE(&b, "os:stable", &v2, 2);
}

/* ---- other places ---- */

static void test_pinned(void **state)
{
    (void)state;
    char rest[BENCH_TEXT];
    char text[LARDER_DIGEST_TEXT_BYTES];
    bench_reset(&b, "{}");
    struct larder_digest v1 = bench_image(&b, "os", "stable", 1, "");
    struct larder_digest v2 = bench_image(&b, "os", "next", 2, "");
    bench_copy(&b, "os:stable");
    snprintf(rest, sizeof(rest), "os:stable@%s", larder_digest_format(&v1, text));
    UNCHANGED(&b, rest, 0);
    UNCHANGED(&b, rest, 0);
    snprintf(rest, sizeof(rest), "os:stable@%s", larder_digest_format(&v2, text));
    AVAILABLE(&b, rest, &v2, 2);
    AVAILABLE(&b, rest, &v2, 0);
}

static void copy_layout(const char *rest, const char *to)
{
    struct larder_copy_options options = LARDER_COPY_OPTIONS_INIT;
    struct larder_copy_result result = {.size = sizeof(result)};
    const char *const list[] = {to};
    options.source = bench_at(&b, rest);
    options.source_options = &b.registry;
    options.destinations = list;
    options.n_destinations = 1;
    if (larder_copy(NULL, &options, &result, &b.e) < 0)
        fail_msg("%s", b.e.msg);
}

static void test_layouts(void **state)
{
    (void)state;
    static const char *const kinds[][2] = {{"oci", "images"}, {"oci-archive", "images.tar"}};
    char ref[BENCH_TEXT];
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        bench_reset(&b, "{}");
        struct larder_digest v1 = bench_image(&b, "os", "stable", 1, "");
        snprintf(ref, sizeof(ref), "%s:%s/%s:os", kinds[i][0], b.dir, kinds[i][1]);
        copy_layout("os:stable", ref);
        bench_expect_ref(&b, ref, LARDER_UPDATE_AVAILABLE, &v1, 0, __LINE__);
        bench_expect_ref(&b, ref, LARDER_UPDATE_AVAILABLE, &v1, 0, __LINE__);
        char name[BENCH_TEXT];
        snprintf(name, sizeof(name), "127.0.0.1:%d/os:stable", b.server.port);
        bench_copy(&b, "os:stable");
        b.options.name = name;
        bench_expect_ref(&b, ref, LARDER_UPDATE_UNCHANGED, NULL, 0, __LINE__);
        struct larder_digest v2 = bench_image(&b, "os", "stable", 2, "");
        copy_layout("os:stable", ref);
        bench_expect_ref(&b, ref, LARDER_UPDATE_AVAILABLE, &v2, 0, __LINE__);
        char path[BENCH_TEXT];
        snprintf(path, sizeof(path), "%s/%s", b.dir, kinds[i][1]);
        bench_run("rm -rf --", path);
    }
}

/* ---- where nothing can be written ---- */

static void test_read_only(void **state)
{
    (void)state;
    bench_reset(&b, "{}");
    bench_image(&b, "os", "stable", 1, "");
    bench_copy(&b, "os:stable");
    bench_open(&b, LARDER_STORE_READ_ONLY);
    /* That nothing is new needs no warning. */
    UNCHANGED(&b, "os:stable", 1);
    assert_int_equal(b.warnings, 0);
    struct larder_digest v2 = bench_image(&b, "os", "stable", 2, "");
    struct larder_update u = bench_check(&b, "os:stable");
    assert_int_equal(u.state, LARDER_UPDATE_AVAILABLE);
    assert_false(u.is_persisted);
    assert_null(u.record);
    assert_non_null(u.why);
    assert_int_equal(b.warnings, 1);
    assert_non_null(strstr(b.warning, u.why));
    larder_update_done(&u);
    /* With a directory of one's own. */
    b.options.state_dir = b.state_dir;
    AVAILABLE(&b, "os:stable", &v2, 3);
    AVAILABLE(&b, "os:stable", &v2, 1);
    u = bench_check(&b, "os:stable");
    assert_string_equal(u.record, "state directory");
    assert_true(u.is_persisted);
    larder_update_done(&u);
    assert_int_equal(b.warnings, 1);
    bench_image(&b, "os", "stable", 1, "");
    UNCHANGED(&b, "os:stable", 1);
    bool had = false;
    assert_int_equal(
        larder_update_clear(b.store, bench_at(&b, "os:stable"), &b.options, &had, &b.e), 0);
    assert_true(had);
    u = bench_show_ref(&b, bench_at(&b, "os:stable"));
    assert_int_equal(u.state, LARDER_UPDATE_UNKNOWN);
    larder_update_done(&u);
}

/* A record that is there stays, and counts, where it can't be written any more. */
static void test_became_read_only(void **state)
{
    (void)state;
    bool had = false;
    bench_reset(&b, "{}");
    bench_image(&b, "os", "stable", 1, "");
    bench_copy(&b, "os:stable");
    struct larder_digest v2 = bench_image(&b, "os", "stable", 2, "");
    AVAILABLE(&b, "os:stable", &v2, 3);
    bench_open(&b, LARDER_STORE_READ_ONLY);
    struct larder_update u = bench_check(&b, "os:stable");
    assert_true(u.is_persisted);
    assert_int_equal(bench_requests(&b), 1);
    assert_int_equal(b.warnings, 0);
    larder_update_done(&u);
    /* Now it is wrong, and can't be taken away: that is worth a warning. */
    bench_image(&b, "os", "stable", 1, "");
    u = bench_check(&b, "os:stable");
    assert_int_equal(u.state, LARDER_UPDATE_UNCHANGED);
    assert_false(u.is_persisted);
    assert_int_equal(b.warnings, 1);
    larder_update_done(&u);
    assert_int_equal(
        larder_update_clear(b.store, bench_at(&b, "os:stable"), &b.options, &had, &b.e),
        -LARDER_DENIED);
    assert_int_equal(larder_update_clear(b.store, bench_at(&b, "os:other"), &b.options, &had, &b.e),
                     0);
    /* The state directory's word is newer. */
    b.options.state_dir = b.state_dir;
    UNCHANGED(&b, "os:stable", 1);
}

/* ---- damage, clearing, many at once ---- */

/* The only file of the store's records. */
static void damage_record(const char *words)
{
    char command[BENCH_TEXT];
    snprintf(command, sizeof(command), "for f in '%s'/updates/*; do %s \"$f\"; done", b.path,
             words);
    assert_int_equal(system(command), 0);
}

static void test_damaged(void **state)
{
    (void)state;
    static const char *const ways[] = {":>", "echo x >", "truncate -s 200"};
    bench_reset(&b, "{}");
    bench_image(&b, "os", "stable", 1, "");
    bench_copy(&b, "os:stable");
    struct larder_digest v2 = bench_image(&b, "os", "stable", 2, "");
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        AVAILABLE(&b, "os:stable", &v2, 3);
        damage_record(ways[i]);
        struct larder_update u = bench_show_ref(&b, bench_at(&b, "os:stable"));
        assert_int_equal(u.state, LARDER_UPDATE_CORRUPT);
        larder_update_done(&u);
    }
    AVAILABLE(&b, "os:stable", &v2, 3);
    damage_record(":>");
    bool had = false;
    assert_int_equal(
        larder_update_clear(b.store, bench_at(&b, "os:stable"), &b.options, &had, &b.e), 0);
    assert_true(had);
}

static void test_clear(void **state)
{
    (void)state;
    bool had = true;
    bench_reset(&b, "{}");
    const char *ref = bench_at(&b, "os:stable");
    assert_int_equal(larder_update_clear(b.store, ref, &b.options, &had, &b.e), 0);
    assert_false(had);
    struct larder_digest v1 = bench_image(&b, "os", "stable", 1, "");
    AVAILABLE(&b, "os:stable", &v1, 3);
    bench_quiet(&b);
    assert_int_equal(larder_update_clear(b.store, ref, &b.options, &had, &b.e), 0);
    assert_true(had);
    assert_int_equal(larder_update_clear(b.store, ref, &b.options, &had, &b.e), 0);
    assert_false(had);
    assert_int_equal(larder_update_clear(b.store, ref, &b.options, NULL, NULL), 0);
    assert_int_equal(bench_requests(&b), 0);
    AVAILABLE(&b, "os:stable", &v1, 3);
}

/* Processes check while the tag moves: what remains is one of the two, whole. */
static void test_many(void **state)
{
    (void)state;
    pid_t children[8];
    bench_reset(&b, "{}");
    struct larder_digest v1 = bench_image(&b, "os", "stable", 1, "");
    for (size_t i = 0; i < ARRAY_LEN(children); i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] > 0)
            continue;
        struct larder_update u = {0};
        struct larder_store *store = NULL;
        int rc = larder_store_open(b.path, NULL, &store, NULL);
        for (int n = 0; rc == 0 && n < 10; n++) {
            rc = larder_update_check(store, bench_at(&b, "os:stable"), &b.options, &u, NULL);
            rc = rc == 0 && u.state == LARDER_UPDATE_AVAILABLE && u.is_persisted ? 0 : 1;
            larder_update_done(&u);
        }
        _exit(rc == 0 ? 0 : 1);
    }
    struct larder_digest v2 = {0};
    for (int n = 0; n < 20; n++) {
        v2 = bench_image(&b, "os", "stable", n % 2 ? 2 : 1, "");
        struct larder_update u = bench_show_ref(&b, bench_at(&b, "os:stable"));
        assert_true(u.state == LARDER_UPDATE_AVAILABLE || u.state == LARDER_UPDATE_UNKNOWN);
        larder_update_done(&u);
    }
    for (size_t i = 0; i < ARRAY_LEN(children); i++) {
        int status = 1;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    struct larder_update u = bench_show_ref(&b, bench_at(&b, "os:stable"));
    assert_int_equal(u.state, LARDER_UPDATE_AVAILABLE);
    assert_true(larder_digest_equal(&u.update.digest, &v1) ||
                larder_digest_equal(&u.update.digest, &v2));
    larder_update_done(&u);
}

static int setup(void **state)
{
    (void)state;
    bench_start(&b);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bench_stop(&b);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unchanged),
        cmocka_unit_test(test_unchanged_index),
        cmocka_unit_test(test_same_image),
        cmocka_unit_test(test_empty_config),
        cmocka_unit_test(test_update),
        cmocka_unit_test(test_update_index),
        cmocka_unit_test(test_no_layers),
        cmocka_unit_test(test_no_base),
        cmocka_unit_test(test_other_base),
        cmocka_unit_test(test_platforms),
        cmocka_unit_test(test_single_platform),
        cmocka_unit_test(test_docker),
        cmocka_unit_test(test_odd_images),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_bad_refs),
        cmocka_unit_test(test_large_config),
        cmocka_unit_test(test_moves_meanwhile),
        cmocka_unit_test(test_no_digest),
        cmocka_unit_test(test_pinned),
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_became_read_only),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_clear),
        cmocka_unit_test(test_many),
    };
    if (!registry_server_is_possible())
        return 0;
    return cmocka_run_group_tests(tests, setup, teardown);
}
