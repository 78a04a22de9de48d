/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads to registries, each with its own idea of how: what arrives, and by how many requests. */
#include "registry_fixture.h"

#include "base/clock.h"

#define MIB   (1024UL * 1024)
#define LARGE (3 * MIB + 12345)

/* Forgets all, sets, opens anew, pushes n bytes that are known to be missing. */
static int push(struct fixture *f, const char *settings, enum source_kind kind, size_t n)
{
    char *data = fixture_bytes(n, (unsigned)n);
    enum blob_how how = BLOB_EXISTED;
    fixture_set(f, settings);
    fixture_forget(f);
    fixture_open(f, "a/b", true);
    int rc = fixture_put(f, kind, data, n, NULL, true, &how);
    if (rc == 0) {
        assert_int_equal(how, BLOB_COPIED);
        assert_true(fixture_stored(f, "a/b", data, n));
    }
    free(data);
    return rc;
}

static void test_small_is_one_post(void **state)
{
    struct fixture *f = *state;
    RC(f, push(f, "{}", SOURCE_FILE, 1000), 0);
    EXPECT(f, "", 1);
    EXPECT(f, "POST /v2/a/b/blobs/uploads/?digest=", 1);
}

static void test_without_single_post(void **state)
{
    struct fixture *f = *state;
    RC(f, push(f, "{\"single_post\": false}", SOURCE_ONCE, 1000), 0);
    EXPECT(f, "", 2);
    char *data = fixture_bytes(1000, 7);
    RC(f, fixture_put(f, SOURCE_FILE, data, 1000, NULL, true, NULL), 0);
    EXPECT(f, "", 4);
    EXPECT(f, "?digest=", 1 + 2); /* and the two PUT, which have "&digest=" or "?digest=" */
    free(data);
}

static void test_large_is_post_and_put(void **state)
{
    struct fixture *f = *state;
    static const enum source_kind kinds[] = {SOURCE_FILE, SOURCE_SEEK, SOURCE_ONCE};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        RC(f, push(f, "{}", kinds[i], LARGE), 0);
        EXPECT(f, "", 2);
        EXPECT(f, "POST ", 1);
        EXPECT(f, "PUT ", 1);
    }
}

/* ---- what registries want ---- */

static void test_patch_only(void **state)
{
    struct fixture *f = *state;
    char *data = fixture_bytes(MIB, 3);
    static const char *const refusals[] = {"404", "405", "400"};
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        char settings[128];
        snprintf(settings, sizeof(settings), "{\"put_body_refused\": %s}", refusals[i]);
        RC(f, push(f, settings, SOURCE_FILE, LARGE), 0);
        EXPECT(f, "PATCH ", 1);
        /* It is learned: the next blob takes no detour. */
        RC(f, push(f, settings, SOURCE_SEEK, LARGE), 0);
        registry_server_ask(&f->server, "DELETE", "/_log", "-", "", 0, NULL);
        RC(f, fixture_put(f, SOURCE_FILE, data, MIB, NULL, true, NULL), 0);
        EXPECT(f, "", 3);
        EXPECT(f, "PATCH ", 1);
    }
    free(data);
}

static void test_monolithic_only(void **state)
{
    struct fixture *f = *state;
    RC(f, push(f, "{\"patch_refused\": 404, \"single_post\": false}", SOURCE_ONCE, LARGE), 0);
    EXPECT(f, "PATCH ", 0);
    EXPECT(f, "", 2);
}

/* The cap is on PATCH, or on every body. */
static void test_body_caps(void **state)
{
    struct fixture *f = *state;
    RC(f, push(f, "{\"body_max\": 4194304}", SOURCE_FILE, 9 * MIB), 0);
    EXPECT(f, "PATCH ", 0);
    static const char every[] =
        "{\"body_max\": 4194304, \"body_max_methods\": [\"PATCH\", \"PUT\", \"POST\"]}";
    RC(f, push(f, every, SOURCE_FILE, 9 * MIB), 0);
    EXPECT(f, "PATCH ", 1 + 1 + 3); /* at once, 9 MiB as a chunk, three chunks */
    RC(f, push(f, every, SOURCE_SEEK, 3 * MIB), 0);
    EXPECT(f, "", 2);
    static const char proxy[] =
        "{\"body_max\": 1048576, \"body_max_methods\": [\"PATCH\", \"PUT\", \"POST\"],"
        " \"body_max_status\": 413}";
    RC(f, push(f, proxy, SOURCE_FILE, LARGE), 0);
    EXPECT(f, " 413 ", 2); /* the whole, 3 MiB as a chunk */
    char *data = fixture_bytes(5 * MIB, 5);
    registry_server_ask(&f->server, "DELETE", "/_log", "-", "", 0, NULL);
    RC(f, fixture_put(f, SOURCE_FILE, data, 5 * MIB, NULL, true, NULL), 0);
    EXPECT(f, " 413 ", 0); /* learned */
    free(data);
}

static void test_body_cap_too_small(void **state)
{
    struct fixture *f = *state;
    static const char settings[] =
        "{\"body_max\": 1000, \"body_max_methods\": [\"PATCH\", \"PUT\", \"POST\"],"
        " \"body_max_status\": 413}";
    RC(f, push(f, settings, SOURCE_FILE, LARGE), -LARDER_LIMIT);
    assert_non_null(strstr(f->e.msg, "too large"));
}

static void test_patch_statuses(void **state)
{
    struct fixture *f = *state;
    static const char *const settings[] = {
        "{\"put_body_refused\": 404, \"patch_status\": 201}",
        "{\"put_body_refused\": 404, \"patch_status\": 204}",
        "{\"put_body_refused\": 404, \"patch_range\": \"none\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(settings); i++)
        RC(f, push(f, settings[i], SOURCE_FILE, LARGE), 0);
}

/* Chunks of at least 5 MiB, 201, and a Range that stays at the first one's. */
static void test_stuck_range(void **state)
{
    struct fixture *f = *state;
    static const char settings[] =
        "{\"body_max\": 17000000, \"body_max_methods\": [\"PATCH\", \"PUT\"],"
        " \"body_max_status\": 413, \"chunk_min\": 5242880, \"patch_status\": 201,"
        " \"patch_range\": \"stuck\"}";
    RC(f, push(f, settings, SOURCE_FILE, 40 * MIB), 0);
    EXPECT(f, "PATCH ", 3);
}

static void test_chunk_min_length(void **state)
{
    struct fixture *f = *state;
    static const char settings[] =
        "{\"body_max\": 21000000, \"body_max_methods\": [\"PATCH\", \"PUT\"],"
        " \"body_max_status\": 413, \"chunk_min\": 20000000}";
    RC(f, push(f, settings, SOURCE_FILE, 45 * MIB), 0);
    EXPECT(f, "PATCH ", 3);
}

/* ---- where an upload goes on ---- */

static void test_locations(void **state)
{
    struct fixture *f = *state;
    static const char *const good[] = {"relative",       "absolute",   "query",
                                       "absolute+query", "schemeless", "schemeless+query"};
    char settings[256];
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        snprintf(settings, sizeof(settings),
                 "{\"location\": \"%s\", \"put_body_refused\": 404, \"single_post\": false}",
                 good[i]);
        RC(f, push(f, settings, SOURCE_FILE, LARGE), 0);
        RC(f, push(f, settings, SOURCE_FILE, 10), 0);
    }
    RC(f, push(f, "{\"location\": \"missing\"}", SOURCE_FILE, LARGE), -LARDER_PROTO);
    assert_non_null(strstr(f->e.msg, "no Location"));
}

/* Another machine of the registry's: reached, but not told who we are. */
static void test_location_other(void **state)
{
    struct fixture *f = *state;
    RC(f, push(f, "{\"location\": \"other\"}", SOURCE_FILE, LARGE), 0);
    EXPECT(f, "PUT ", 1);
    EXPECT(f, " other", 1);
}

/* ---- failures ---- */

static void test_post_fails_for_now(void **state)
{
    struct fixture *f = *state;
    static const char *const rules[] = {
        "{\"rules\": [{\"match\": \"^POST\", \"times\": 2, \"status\": 503}]}",
        "{\"rules\": [{\"match\": \"^POST\", \"times\": 3, \"status\": 429}]}",
        "{\"rules\": [{\"match\": \"^POST\", \"times\": 1, \"drop\": true}]}",
        "{\"rules\": [{\"match\": \"^POST\", \"times\": 1, \"text\": \"Healthcheck requested\"}]}",
        "{\"rules\": [{\"match\": \"^PUT\", \"times\": 1, \"text\": \"Healthcheck requested\"}]}",
        "{\"rules\": [{\"match\": \"^PUT\", \"times\": 2, \"status\": 502}]}",
        "{\"rules\": [{\"match\": \"^PUT\", \"times\": 1, \"status\": 408}]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        RC(f, push(f, rules[i], SOURCE_FILE, LARGE), 0);
        assert_true(f->notes > 0);
        RC(f, push(f, rules[i], SOURCE_SEEK, 100), 0);
    }
}

static void test_stream_once_can_not_be_repeated(void **state)
{
    struct fixture *f = *state;
    static const char rules[] =
        "{\"rules\": [{\"match\": \"^PUT\", \"times\": 1, \"cut_request\": 2000000}]}";
    RC(f, push(f, rules, SOURCE_ONCE, LARGE), -LARDER_UNREACHABLE);
    EXPECT(f, "PUT ", 1);
    /* Refused before a byte was sent. */
    RC(f,
       push(f, "{\"rules\": [{\"match\": \"^PUT\", \"times\": 1, \"status\": 502}]}", SOURCE_ONCE,
            LARGE),
       0);
}

/* 500 after the bytes were stored: asking tells. */
static void test_put_stored_but_failed(void **state)
{
    struct fixture *f = *state;
    RC(f,
       push(f, "{\"rules\": [{\"match\": \"^PUT\", \"after\": true, \"status\": 500}]}",
            SOURCE_ONCE, LARGE),
       0);
    EXPECT(f, "PUT ", 1);
    EXPECT(f, "HEAD ", 1);
    RC(f,
       push(f, "{\"rules\": [{\"match\": \"^PUT\", \"after\": true, \"text\": \"Hello\"}]}",
            SOURCE_FILE, LARGE),
       0);
    EXPECT(f, "PUT ", 1);
}

/* Connections cut at many places; what the session kept is not sent again. */
static void test_cut_and_resumed(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 12; i++) {
        char settings[256];
        snprintf(settings, sizeof(settings),
                 "{\"rules\": [{\"match\": \"^PUT\", \"times\": 1, \"cut_request\": %lu,"
                 " \"keep\": %s}]}",
                 i * (LARGE / 12), i % 3 ? "true" : "false");
        RC(f, push(f, settings, i % 2 ? SOURCE_FILE : SOURCE_SEEK, LARGE), 0);
        EXPECT(f, "POST ", i % 3 ? 1 : 2);
        EXPECT(f, "PATCH ", i % 3 ? 1 : 0);
    }
}

static void test_cut_in_patches(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 8; i++) {
        char settings[320];
        snprintf(settings, sizeof(settings),
                 "{\"body_max\": 4194304, \"body_max_methods\": [\"PATCH\", \"PUT\"], "
                 "\"body_max_status\": 413, \"rules\": [{\"match\": \"^PATCH\", \"skip\": %u, "
                 "\"times\": 1, \"cut_request\": %lu, \"keep\": %s}]}",
                 1 + i % 3, 1 + i * 300000UL, i % 2 ? "true" : "false");
        RC(f, push(f, settings, SOURCE_FILE, 11 * MIB), 0);
    }
}

static void test_refusals(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *settings;
        int rc;
        const char *says;
    } cases[] = {
        {"{\"rules\": [{\"match\": \"^POST\", \"status\": 404, \"text\": "
         "\"{\\\"errors\\\":[{\\\"code\\\":\\\"NAME_UNKNOWN\\\",\\\"message\\\":\\\"no such "
         "repository\\\"}]}\"}]}",
         -LARDER_NOENT, "NAME_UNKNOWN: no such repository"},
        {"{\"rules\": [{\"match\": \"^POST\", \"status\": 403}]}", -LARDER_AUTH, "403"},
        {"{\"rules\": [{\"match\": \"^POST\", \"status\": 503}]}", -LARDER_UNREACHABLE, "503"},
        {"{\"rules\": [{\"match\": \"^PUT\", \"status\": 400, \"text\": "
         "\"{\\\"errors\\\":[{\\\"code\\\":\\\"DIGEST_INVALID\\\"}]}\"}]}",
         -LARDER_MISMATCH, "DIGEST_INVALID"},
        {"{\"rules\": [{\"match\": \"^PUT\", \"status\": 418}]}", -LARDER_PROTO, "418"},
        {"{\"rules\": [{\"match\": \"^(PUT|PATCH)\", \"status\": 404}]}", -LARDER_NOENT, "404"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        RC(f, push(f, cases[i].settings, SOURCE_FILE, LARGE), cases[i].rc);
        assert_non_null(strstr(f->e.msg, cases[i].says));
        assert_non_null(strstr(f->e.msg, "docker://127.0.0.1:"));
        assert_non_null(strstr(f->e.msg, "/a/b: blob sha256:"));
    }
}

/* The bytes are not the digest's: the registry says so, and says so again. */
static void test_wrong_bytes(void **state)
{
    struct fixture *f = *state;
    char *data = fixture_bytes(LARGE, 1);
    struct store_descriptor d = fixture_descriptor(data, LARGE);
    struct source s = {.data = data, .n = LARGE};
    struct blob_source source = {
        .extent = {.fd = -1}, .read = source_read, .seek = source_seek, .arg = &s};
    enum blob_how how;
    data[1000] ^= 1;
    fixture_set(f, "{}");
    fixture_open(f, "a/b", true);
    RC(f, f->store->ops->blob_put(f->store, &d, &source, NULL, true, &how, &f->e),
       -LARDER_MISMATCH);
    EXPECT(f, "PUT ", 2);
    s.at = 0;
    s.n = LARGE / 2; /* and a source that ends too soon */
    assert_true(f->store->ops->blob_put(f->store, &d, &source, NULL, true, &how, &f->e) < 0);
    free(data);
}

/* ---- progress ---- */

struct slow {
    struct source source; /* first */
    int calls;
    uint64_t last_bytes;
};

static int slow_read(void *arg, void *to, size_t n, size_t *ret_n, struct larder_error *e)
{
    clock_sleep_ns(20 * NS_PER_MS);
    return source_read(arg, to, n, ret_n, e);
}

static int slow_sent(void *arg, uint64_t done_bytes, struct larder_error *e)
{
    struct slow *s = arg;
    (void)e;
    assert_true(done_bytes >= s->last_bytes && done_bytes <= s->source.n);
    s->calls += done_bytes > 0 && done_bytes < s->source.n;
    s->last_bytes = done_bytes;
    return 0;
}

static void test_progress(void **state)
{
    struct fixture *f = *state;
    char *data = fixture_bytes(LARGE, 4);
    struct store_descriptor d = fixture_descriptor(data, LARGE);
    struct slow s = {.source = {.data = data, .n = LARGE}};
    struct blob_source source = {
        .extent = {.fd = -1}, .read = slow_read, .sent = slow_sent, .arg = &s};
    enum blob_how how;
    fixture_set(f, "{}");
    fixture_forget(f);
    fixture_open(f, "a/b", true);
    RC(f, f->store->ops->blob_put(f->store, &d, &source, NULL, true, &how, &f->e), 0);
    assert_true(s.calls > 1);
    assert_int_equal(s.last_bytes, LARGE);
    free(data);
}

static void test_canceled(void **state)
{
    struct fixture *f = *state;
    char *data = fixture_bytes(100, 1);
    fixture_set(f, "{}");
    fixture_open(f, "a/b", true);
    f->is_canceled = true;
    RC(f, fixture_put(f, SOURCE_FILE, data, 100, NULL, true, NULL), -LARDER_CANCELED);
    EXPECT(f, "", 0);
    free(data);
}

/* ---- not sent at all ---- */

static void test_exists(void **state)
{
    struct fixture *f = *state;
    char *data = fixture_bytes(5000, 9);
    enum blob_how how = BLOB_COPIED;
    fixture_set(f, "{}");
    fixture_forget(f);
    fixture_has_blob(f, "a/b", data, 5000);
    fixture_open(f, "a/b", true);
    RC(f, fixture_put(f, SOURCE_ONCE, data, 5000, NULL, false, &how), 0);
    assert_int_equal(how, BLOB_EXISTED);
    EXPECT(f, "", 1);
    EXPECT(f, "HEAD ", 1);
    free(data);
}

static void test_mounts(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *settings;
        enum blob_how how;
        int posts; /* for a large blob */
    } cases[] = {
        {"{}", BLOB_MOUNTED, 1},
        {"{\"mount\": 202}", BLOB_COPIED, 1},
        {"{\"mount\": 400}", BLOB_COPIED, 2},
        {"{\"mount\": 401}", BLOB_COPIED, 2},
        {"{\"mount\": 403}", BLOB_COPIED, 2},
        {"{\"mount\": 404}", BLOB_COPIED, 2},
        {"{\"rules\": [{\"match\": \"^POST.*mount=\", \"status\": 405}]}", BLOB_COPIED, 2},
        {"{\"rules\": [{\"match\": \"^POST.*mount=\", \"status\": 500}]}", BLOB_COPIED, 6},
    };
    char *data = fixture_bytes(LARGE, 11);
    char *small = fixture_bytes(50, 12);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum blob_how how = BLOB_EXISTED;
        fixture_set(f, cases[i].settings);
        fixture_forget(f);
        fixture_has_blob(f, "other/repo", data, LARGE);
        fixture_has_blob(f, "other/repo", small, 50);
        fixture_open(f, "a/b", true);
        RC(f, fixture_put(f, SOURCE_FILE, data, LARGE, "other/repo", true, &how), 0);
        assert_int_equal(how, cases[i].how);
        assert_true(fixture_stored(f, "a/b", data, LARGE));
        EXPECT(f, "POST ", cases[i].posts);
        RC(f, fixture_put(f, SOURCE_FILE, small, 50, "other/repo", true, &how), 0);
        assert_int_equal(how, cases[i].how);
        /* A refusal is not asked for again. */
        EXPECT(f, "mount=", cases[i].posts == 6 ? 5 : cases[i].posts == 2 ? 1 : 2);
    }
    free(data);
    free(small);
}

static void test_empty_blob(void **state)
{
    struct fixture *f = *state;
    RC(f, push(f, "{}", SOURCE_FILE, 0), 0);
    RC(f, push(f, "{\"single_post\": false}", SOURCE_FILE, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_is_one_post),
        cmocka_unit_test(test_without_single_post),
        cmocka_unit_test(test_large_is_post_and_put),
        cmocka_unit_test(test_patch_only),
        cmocka_unit_test(test_monolithic_only),
        cmocka_unit_test(test_body_caps),
        cmocka_unit_test(test_body_cap_too_small),
        cmocka_unit_test(test_patch_statuses),
        cmocka_unit_test(test_stuck_range),
        cmocka_unit_test(test_chunk_min_length),
        cmocka_unit_test(test_locations),
        cmocka_unit_test(test_location_other),
        cmocka_unit_test(test_post_fails_for_now),
        cmocka_unit_test(test_stream_once_can_not_be_repeated),
        cmocka_unit_test(test_put_stored_but_failed),
        cmocka_unit_test(test_cut_and_resumed),
        cmocka_unit_test(test_cut_in_patches),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_wrong_bytes),
        cmocka_unit_test(test_progress),
        cmocka_unit_test(test_canceled),
        cmocka_unit_test(test_exists),
        cmocka_unit_test(test_mounts),
        cmocka_unit_test(test_empty_blob),
    };
    if (!registry_server_is_possible())
        return 0;
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
