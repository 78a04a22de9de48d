/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs from registries that cut, lie, redirect and make us wait. */
#include "registry_fixture.h"

#include "base/clock.h"

#define MIB  (1024UL * 1024)
#define BLOB (2 * MIB + 777)

static struct store_descriptor blob;
static char *data;

/* Sets, opens anew, fetches. */
static int fetch(struct fixture *f, const char *settings, struct sink *s)
{
    fixture_set(f, settings);
    fixture_open(f, "a/b", false);
    return fixture_get(f, &blob, s);
}

static bool is_whole(const struct sink *s)
{
    return s->bytes.n == BLOB && memcmp(s->bytes.p, data, BLOB) == 0;
}

static int setup(void **state)
{
    fixture_setup(state);
    struct fixture *f = *state;
    data = fixture_bytes(BLOB, 1);
    blob = fixture_has_blob(f, "a/b", data, BLOB);
    return 0;
}

static int teardown(void **state)
{
    free(data);
    return fixture_teardown(state);
}

static void test_plain(void **state)
{
    struct fixture *f = *state;
    struct sink s = {0};
    RC(f, fetch(f, "{}", &s), 0);
    assert_true(is_whole(&s));
    EXPECT(f, "", 1);
    assert_int_equal(f->store->ops->requests(f->store), 1);
    s.has_room = true;
    RC(f, fetch(f, "{}", &s), 0);
    assert_true(is_whole(&s));
    /* In the middle, and at the end, where nothing is left to ask for. */
    struct blob_sink sink = {.write = sink_write, .restart = sink_restart, .arg = &s};
    s.bytes.n = 1000;
    RC(f, f->store->ops->blob_get(f->store, &blob, 1000, &sink, &f->e), 0);
    assert_true(is_whole(&s));
    EXPECT(f, " 206 ", 1);
    RC(f, f->store->ops->blob_get(f->store, &blob, BLOB, &sink, &f->e), 0);
    EXPECT(f, "", 2);
    RC(f, f->store->ops->blob_get(f->store, &blob, BLOB + 1, &sink, &f->e), -LARDER_INVAL);
    buf_done(&s.bytes);
}

static void test_empty(void **state)
{
    struct fixture *f = *state;
    struct sink s = {0};
    fixture_set(f, "{}");
    struct store_descriptor none = fixture_has_blob(f, "a/b", "", 0);
    fixture_open(f, "a/b", false);
    RC(f, fixture_get(f, &none, &s), 0);
    assert_int_equal(s.bytes.n, 0);
    buf_done(&s.bytes);
}

static void test_cut_at_many_places(void **state)
{
    struct fixture *f = *state;
    struct sink s = {0};
    char settings[256];
    for (unsigned i = 0; i < 37; i++) {
        unsigned long at = i < 3 ? i : i * (BLOB / 37);
        snprintf(settings, sizeof(settings),
                 "{\"rules\": [{\"match\": \"^GET .*blobs\", \"times\": 1, \"%s\": %lu}]}",
                 i % 4 == 3 ? "close" : "cut", at);
        s.has_room = i % 2 == 0;
        RC(f, fetch(f, settings, &s), 0);
        assert_true(is_whole(&s));
        assert_int_equal(s.restarts, 0);
        EXPECT(f, "GET ", 2);
    }
    /* Each answer is cut; what came counts, and gives the tries back. */
    RC(f, fetch(f, "{\"rules\": [{\"match\": \"^GET\", \"times\": 4, \"cut\": 400000}]}", &s), 0);
    assert_true(is_whole(&s));
    RC(f, fetch(f, "{\"rules\": [{\"match\": \"^GET\", \"cut\": 1}]}", &s), -LARDER_UNREACHABLE);
    EXPECT(f, "GET ", 5);
    buf_done(&s.bytes);
}

static void test_no_ranges(void **state)
{
    struct fixture *f = *state;
    struct sink s = {0};
    RC(f,
       fetch(f,
             "{\"rules\": [{\"match\": \"^GET\", \"times\": 1, \"cut\": 300000},"
             " {\"match\": \"^GET\", \"no_range\": true}]}",
             &s),
       0);
    assert_true(is_whole(&s));
    assert_int_equal(s.restarts, 1);
    RC(f, fetch(f, "{\"rules\": [{\"match\": \"^GET\", \"cut\": 300000, \"no_range\": true}]}", &s),
       -LARDER_PROTO);
    /* A sink that can't start again. */
    struct blob_sink sink = {.write = sink_write, .arg = &s};
    s.bytes.n = 1000;
    fixture_set(f, "{\"rules\": [{\"match\": \"^GET\", \"no_range\": true}]}");
    fixture_open(f, "a/b", false);
    RC(f, f->store->ops->blob_get(f->store, &blob, 1000, &sink, &f->e), -LARDER_PROTO);
    assert_int_equal(s.bytes.n, 1000);
    buf_done(&s.bytes);
}

/* What is no continuation of what we have must not be taken for one. */
static void test_lies(void **state)
{
    struct fixture *f = *state;
    struct sink s = {0};
    static const struct {
        const char *rule;
        int rc;
    } cases[] = {
        {"\"range_shift\": 1", -LARDER_MISMATCH},
        {"\"content_range\": \"bytes 300000-2097928/2097929\"", -LARDER_PROTO},
        {"\"content_range\": \"bytes 300000-2097928/3000000\"", -LARDER_PROTO},
        {"\"content_range\": \"bytes 0-5/2097929\"", -LARDER_PROTO},
        {"\"content_range\": \"nonsense\"", -LARDER_PROTO},
        {"\"status\": 416", -LARDER_MISMATCH},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char settings[512];
        snprintf(settings, sizeof(settings),
                 "{\"rules\": [{\"match\": \"^GET\", \"times\": 1, \"cut\": 299999},"
                 " {\"match\": \"^GET\", %s}]}",
                 cases[i].rule);
        RC(f, fetch(f, settings, &s), cases[i].rc);
        assert_true(s.bytes.n == 0 || memcmp(s.bytes.p, data, s.bytes.n) == 0);
    }
    buf_done(&s.bytes);
}

static void test_sizes(void **state)
{
    struct fixture *f = *state;
    struct sink s = {0};
    static const char *const rules[] = {
        "{\"rules\": [{\"match\": \"^GET\", \"extra\": 1}]}",
        "{\"rules\": [{\"match\": \"^GET\", \"extra\": 100000, \"chunked\": true}]}",
        "{\"rules\": [{\"match\": \"^GET\", \"short\": 1}]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        RC(f, fetch(f, rules[i], &s), -LARDER_MISMATCH);
        assert_true(s.bytes.n <= BLOB);
        EXPECT(f, "", 1); /* no use in trying again */
        assert_non_null(strstr(f->e.msg, "expected"));
    }
    /* Without a length its end is only found out; then it is as good as cut. */
    RC(f,
       fetch(f,
             "{\"rules\": [{\"match\": \"^GET\", \"times\": 1, \"short\": 9, \"chunked\": true}]}",
             &s),
       0);
    assert_true(is_whole(&s));
    buf_done(&s.bytes);
}

/* Not hashed here (who reads does), but encoded bytes are told at once. */
static void test_encoded(void **state)
{
    struct fixture *f = *state;
    struct sink s = {0};
    RC(f, fetch(f, "{\"rules\": [{\"match\": \"^GET\", \"gzip\": true}]}", &s), -LARDER_PROTO);
    assert_int_equal(s.bytes.n, 0);
    assert_non_null(strstr(f->e.msg, "gzip"));
    buf_done(&s.bytes);
}

static void test_redirects(void **state)
{
    struct fixture *f = *state;
    struct sink s = {0};
    static const int statuses[] = {301, 302, 303, 307, 308};
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        char settings[128];
        snprintf(settings, sizeof(settings), "{\"redirect\": %d}", statuses[i]);
        RC(f, fetch(f, settings, &s), 0);
        assert_true(is_whole(&s));
        EXPECT(f, "/storage/", 1);
    }
    /* Cut at the storage: goes on through the registry. */
    RC(f,
       fetch(f,
             "{\"redirect\": 307, \"rules\": [{\"match\": \"^GET /storage\", \"times\": 2,"
             " \"cut\": 700000}]}",
             &s),
       0);
    assert_true(is_whole(&s));
    EXPECT(f, "/v2/", 3);
    /* A URL that has expired is replaced by a new one. */
    RC(f,
       fetch(f,
             "{\"redirect\": 307, \"rules\": [{\"match\": \"^GET /storage\", \"times\": 1,"
             " \"status\": 403}]}",
             &s),
       0);
    EXPECT(f, "/v2/", 2);
    RC(f,
       fetch(f, "{\"redirect\": 307, \"rules\": [{\"match\": \"^GET /storage\", \"status\": 403}]}",
             &s),
       -LARDER_UNREACHABLE);
    assert_non_null(strstr(f->e.msg, "after a redirect"));
    buf_done(&s.bytes);
}

static void test_not_now(void **state)
{
    struct fixture *f = *state;
    struct sink s = {0};
    static const char *const rules[] = {
        "{\"rules\": [{\"match\": \"^GET\", \"times\": 4, \"status\": 503}]}",
        "{\"rules\": [{\"match\": \"^GET\", \"times\": 2, \"status\": 429}]}",
        "{\"rules\": [{\"match\": \"^GET\", \"times\": 1, \"status\": 500}]}",
        "{\"rules\": [{\"match\": \"^GET\", \"times\": 1, \"status\": 499}]}",
        "{\"rules\": [{\"match\": \"^GET\", \"times\": 1, \"status\": 522}]}",
        "{\"rules\": [{\"match\": \"^GET\", \"times\": 1, \"drop\": true}]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        RC(f, fetch(f, rules[i], &s), 0);
        assert_true(is_whole(&s));
        assert_true(f->notes > 0);
    }
    /* Other stalls, of a slow machine, are tried again as well. */
    fixture_set(f, "{\"rules\": [{\"match\": \"^GET\", \"times\": 1, \"stall_after\": 1000}]}");
    f->net.stall_timeout_ns = 2 * NS_PER_S;
    f->net.retries = 30;
    fixture_open(f, "a/b", false);
    RC(f, fixture_get(f, &blob, &s), 0);
    assert_true(is_whole(&s));
    assert_true(f->notes > 0);
    RC(f, fetch(f, "{\"rules\": [{\"match\": \"^GET\", \"status\": 503}]}", &s),
       -LARDER_UNREACHABLE);
    EXPECT(f, "", 5);
    assert_int_equal(f->e.http_status, 503);
    buf_done(&s.bytes);
}

static void test_refused(void **state)
{
    struct fixture *f = *state;
    struct sink s = {0};
    static const struct {
        const char *settings;
        int rc;
    } cases[] = {
        {"{\"rules\": [{\"match\": \"^GET\", \"status\": 404}]}", -LARDER_NOENT},
        {"{\"rules\": [{\"match\": \"^GET\", \"status\": 403}]}", -LARDER_AUTH},
        {"{\"rules\": [{\"match\": \"^GET\", \"status\": 410}]}", -LARDER_NOENT},
        {"{\"rules\": [{\"match\": \"^GET\", \"status\": 400}]}", -LARDER_PROTO},
        {"{\"rules\": [{\"match\": \"^GET\", \"status\": 501}]}", -LARDER_UNSUPPORTED},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        RC(f, fetch(f, cases[i].settings, &s), cases[i].rc);
        EXPECT(f, "", 1);
    }
    buf_done(&s.bytes);
}

static void test_sink_fails(void **state)
{
    struct fixture *f = *state;
    struct sink s = {.fail_at = 100000};
    RC(f, fetch(f, "{}", &s), -LARDER_NOSPACE);
    EXPECT(f, "", 1);
    s.fail_at = 0;
    fixture_set(f, "{}");
    fixture_open(f, "a/b", false);
    f->is_canceled = true;
    RC(f, fixture_get(f, &blob, &s), -LARDER_CANCELED);
    buf_done(&s.bytes);
}

static void test_has(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor other = fixture_descriptor("x", 1);
    struct store_descriptor wrong = blob;
    static const char *const yes[] = {
        "{}",
        "{\"redirect\": 307, \"redirect_head\": true}", /* signed for GET: 403 to HEAD */
        "{\"rules\": [{\"match\": \"^HEAD\", \"times\": 2, \"status\": 503}]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        fixture_set(f, yes[i]);
        fixture_open(f, "a/b", false);
        RC(f, f->store->ops->blob_has(f->store, &blob, &f->e), 1);
        RC(f, f->store->ops->blob_has(f->store, &other, &f->e), 0);
    }
    wrong.size_bytes++;
    fixture_set(f, "{}");
    fixture_open(f, "a/b", false);
    RC(f, f->store->ops->blob_has(f->store, &wrong, &f->e), -LARDER_CORRUPT);
    EXPECT(f, "", 1);
    fixture_set(f, "{\"rules\": [{\"match\": \"^HEAD\", \"status\": 503}]}");
    fixture_open(f, "a/b", false);
    RC(f, f->store->ops->blob_has(f->store, &blob, &f->e), -LARDER_UNREACHABLE);
}

static void test_retry_after(void **state)
{
    struct fixture *f = *state;
    struct sink s = {0};
    static const char *const rules[] = {
        "{\"rules\": [{\"match\": \"^GET\", \"times\": 1, \"status\": 429, \"retry_after\": "
        "\"1\"}]}",
        "{\"rules\": [{\"match\": \"^GET\", \"times\": 1, \"status\": 503,"
        " \"retry_after\": \"date+2\"}]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        int64_t before = clock_monotonic_ns();
        RC(f, fetch(f, rules[i], &s), 0);
        int64_t ms = (clock_monotonic_ns() - before) / NS_PER_MS;
        assert_true(ms >= 700);
        assert_non_null(strstr(f->note, "trying again in"));
    }
    /* Nobody waits an hour. */
    RC(f,
       fetch(f, "{\"rules\": [{\"match\": \"^GET\", \"status\": 429, \"retry_after\": \"3600\"}]}",
             &s),
       -LARDER_UNREACHABLE);
    EXPECT(f, "", 1);
    assert_non_null(strstr(f->e.hint, "1h"));
    buf_done(&s.bytes);
}

static void test_delete(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor other = fixture_has_blob(f, "a/b", "bye", 3);
    static const char *const no[] = {"{\"delete_blob\": 405}", "{\"delete_blob\": 400}"};
    for (size_t i = 0; i < ARRAY_LEN(no); i++) {
        fixture_set(f, no[i]);
        fixture_open(f, "a/b", true);
        RC(f, f->store->ops->blob_remove(f->store, &other.digest, &f->e), -LARDER_UNSUPPORTED);
    }
    fixture_set(f, "{}");
    fixture_open(f, "a/b", true);
    RC(f, f->store->ops->blob_remove(f->store, &other.digest, &f->e), 0);
    RC(f, f->store->ops->blob_remove(f->store, &other.digest, &f->e), -LARDER_NOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_cut_at_many_places),
        cmocka_unit_test(test_no_ranges),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_encoded),
        cmocka_unit_test(test_redirects),
        cmocka_unit_test(test_not_now),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_sink_fails),
        cmocka_unit_test(test_has),
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_delete),
    };
    if (!registry_server_is_possible())
        return 0;
    return cmocka_run_group_tests(tests, setup, teardown);
}
