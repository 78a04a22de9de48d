/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests and tags of registries: asked for, stored, listed, deleted. */
#include "registry_fixture.h"

#include "base/text.h"

#define MANIFEST "application/vnd.oci.image.manifest.v1+json"

static const char document[] = "{\"schemaVersion\":2,\"mediaType\":\"" MANIFEST
                               "\",\"config\":{\"mediaType\":\"application/vnd.oci.empty.v1+json\","
                               "\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8"
                               "310c060f61caaff8a\",\"size\":2},\"layers\":[]}";

static struct store_descriptor described(const char *bytes)
{
    struct store_descriptor d = fixture_descriptor(bytes, strlen(bytes));
    strcpy(d.media_type, MANIFEST);
    return d;
}

static int put(struct fixture *f, const char *bytes, const char *tag)
{
    struct store_descriptor d = described(bytes);
    error_clear(&f->e);
    return f->store->ops->manifest_put(f->store, &d, slice_of(bytes), &tag, tag ? 1 : 0, &f->e);
}

/* Sets; the repository has the document as "v1". */
static void begin(struct fixture *f, const char *settings)
{
    fixture_set(f, "{}");
    fixture_forget(f);
    fixture_has_blob(f, "a/b", "{}", 2);
    assert_int_equal(registry_server_ask(&f->server, "PUT", "/_manifest/a/b/v1", MANIFEST, document,
                                         strlen(document), NULL),
                     200);
    fixture_set(f, settings);
    fixture_open(f, "a/b", true);
}

static int resolve(struct fixture *f, const char *tag, struct store_descriptor *ret)
{
    error_clear(&f->e);
    return f->store->ops->resolve(f->store, tag, ret, &f->e);
}

static int get(struct fixture *f, const char *tag, const struct larder_digest *digest,
               struct buf *out, struct store_descriptor *ret)
{
    error_clear(&f->e);
    *out = BUF_INIT(8 << 20);
    return f->store->ops->manifest_get(f->store, tag, digest, out, ret, &f->e);
}

static void test_resolve(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor expected = described(document);
    static const struct {
        const char *settings;
        int requests;
    } cases[] = {
        {"{}", 1},
        {"{\"digest_header\": false}", 2},
        {"{\"rules\": [{\"match\": \"^HEAD\", \"status\": 405}]}", 2},
        {"{\"rules\": [{\"match\": \"^HEAD\", \"status\": 503, \"times\": 1}]}", 2},
        {"{\"accept_check\": true}", 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct store_descriptor found;
        begin(f, cases[i].settings);
        RC(f, resolve(f, "v1", &found), 0);
        assert_true(larder_digest_equal(&found.digest, &expected.digest));
        assert_int_equal(found.size_bytes, strlen(document));
        assert_string_equal(found.media_type, MANIFEST);
        EXPECT(f, "", cases[i].requests);
    }
}

static int resolve_supposed(struct fixture *f, const struct store_descriptor *supposed,
                            struct store_descriptor *ret)
{
    error_clear(&f->e);
    return f->store->ops->resolve_supposed(f->store, "v1", supposed, ret, &f->e);
}

static void test_resolve_supposed(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor expected = described(document);
    struct store_descriptor other = described("{}");
    struct store_descriptor found = {0};
    static const char *const settings[] = {"{}", "{\"digest_header\": false}"};

    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        begin(f, settings[i]);
        RC(f, resolve_supposed(f, &expected, &found), 0);
        assert_memory_equal(&found, &expected, sizeof(found));
        EXPECT(f, " 304 ", 1);
        EXPECT(f, "", 1);
    }
    /* It moved: what any HEAD says. */
    begin(f, "{}");
    RC(f, resolve_supposed(f, &other, &found), 0);
    assert_true(larder_digest_equal(&found.digest, &expected.digest));
    assert_int_equal(found.size_bytes, strlen(document));
    EXPECT(f, " 200 ", 1);
    EXPECT(f, "", 1);
    /* An answer that contradicts itself, and one to a question that was not put. */
    memset(&found, 0, sizeof(found));
    begin(f, "{\"digest_header\": \"wrong\"}");
    RC(f, resolve_supposed(f, &expected, &found), -LARDER_CORRUPT);
    begin(f, "{\"rules\": [{\"match\": \"^HEAD\", \"status\": 304}]}");
    RC(f, resolve(f, "v1", &found), -LARDER_PROTO);
    begin(f, "{\"rules\": [{\"match\": \"^HEAD\", \"status\": 503, \"times\": 9}]}");
    RC(f, resolve_supposed(f, &expected, &found), -LARDER_UNREACHABLE);
    assert_int_equal(found.digest.alg, LARDER_DIGEST_NONE);
}

static void test_resolve_fails(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor found = {0};
    begin(f, "{}");
    RC(f, resolve(f, "v2", &found), -LARDER_NOENT);
    assert_int_equal(found.digest.alg, LARDER_DIGEST_NONE);
    assert_non_null(strstr(f->e.msg, "/a/b:v2: "));
    begin(f, "{\"rules\": [{\"match\": \"^HEAD\", \"status\": 500}]}");
    RC(f, resolve(f, "v1", &found), -LARDER_UNREACHABLE);
    begin(f, "{\"rules\": [{\"match\": \"^HEAD\", \"status\": 403}]}");
    RC(f, resolve(f, "v1", &found), -LARDER_AUTH);
    assert_non_null(strstr(f->e.hint, "larder login 127.0.0.1:"));
    static const char *const bad[] = {"sha256:../../x", "sha256:AB", "md5", "sha256:0123", "x:y:z"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char settings[256];
        snprintf(settings, sizeof(settings),
                 "{\"rules\": [{\"match\": \"^HEAD\", \"status\": 200, \"headers\": "
                 "{\"Docker-Content-Digest\": \"%s\"}}]}",
                 bad[i]);
        begin(f, settings);
        RC(f, resolve(f, "v1", &found), -LARDER_PROTO);
    }
    /* No server at all: not "absent". */
    fixture_set(f, "{}");
    int port = f->server.port;
    f->server.port = 1;
    fixture_open(f, "a/b", false);
    f->server.port = port;
    RC(f, resolve(f, "v1", &found), -LARDER_UNREACHABLE);
}

static void test_get(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor d = described(document);
    struct store_descriptor found;
    struct buf bytes;
    begin(f, "{}");
    RC(f, get(f, "v1", NULL, &bytes, &found), 0);
    assert_string_equal(bytes.p, document);
    assert_true(larder_digest_equal(&found.digest, &d.digest));
    assert_string_equal(found.media_type, MANIFEST);
    EXPECT(f, "", 1);
    buf_done(&bytes);
    RC(f, get(f, NULL, &d.digest, &bytes, &found), 0);
    assert_string_equal(bytes.p, document);
    buf_done(&bytes);
    RC(f, f->store->ops->manifest_has(f->store, &d, &f->e), 1);
    d.digest.bytes[0] ^= 1;
    RC(f, get(f, NULL, &d.digest, &bytes, &found), -LARDER_NOENT);
    RC(f, f->store->ops->manifest_has(f->store, &d, &f->e), 0);
    buf_done(&bytes);
    /* Bytes come once, also when the first answer was cut. */
    begin(f, "{\"rules\": [{\"match\": \"^GET\", \"times\": 2, \"cut\": 100}]}");
    RC(f, get(f, "v1", NULL, &bytes, &found), 0);
    assert_string_equal(bytes.p, document);
    buf_done(&bytes);
    begin(f, "{\"digest_header\": false}");
    RC(f, get(f, "v1", NULL, &bytes, &found), 0);
    buf_done(&bytes);
}

static void test_get_fails(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor d = described(document);
    static const struct {
        const char *settings;
        bool by_digest;
        int rc;
    } cases[] = {
        {"{\"digest_header\": \"wrong\"}", false, -LARDER_CORRUPT},
        {"{\"rules\": [{\"match\": \"^GET\", \"status\": 200, \"text\": \"{}\"}]}", true,
         -LARDER_CORRUPT},
        {"{\"rules\": [{\"match\": \"^GET\", \"gzip\": true}]}", false, -LARDER_PROTO},
        {"{\"rules\": [{\"match\": \"^GET\", \"status\": 200, \"text\": \"{}\", \"headers\": "
         "{\"Content-Type\": \"application/vnd.docker.distribution.manifest.v1+prettyjws\"}}]}",
         false, -LARDER_UNSUPPORTED},
        {"{\"rules\": [{\"match\": \"^GET\", \"status\": 401}]}", false, -LARDER_AUTH},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct store_descriptor found;
        struct buf bytes;
        begin(f, cases[i].settings);
        RC(f, get(f, "v1", cases[i].by_digest ? &d.digest : NULL, &bytes, &found), cases[i].rc);
        assert_int_equal(bytes.n, 0);
        buf_done(&bytes);
    }
    struct store_descriptor found;
    struct buf small = BUF_INIT(50);
    begin(f, "{}");
    RC(f, f->store->ops->manifest_get(f->store, "v1", NULL, &small, &found, &f->e), -LARDER_LIMIT);
    buf_done(&small);
    const char *none[] = {"", NULL};
    for (size_t i = 0; i < 2; i++)
        RC(f, f->store->ops->resolve(f->store, none[i], &found, &f->e), -LARDER_INVAL);
}

static void test_put(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor d = described(document);
    struct store_descriptor found;
    const char *tags[] = {"x", "y", "z"};
    begin(f, "{}");
    RC(f, put(f, document, NULL), 0);
    EXPECT(f, "", 1);
    EXPECT(f, "PUT /v2/a/b/manifests/sha256:", 1);
    RC(f, f->store->ops->manifest_put(f->store, &d, slice_of(document), tags, 3, &f->e), 0);
    EXPECT(f, "", 4);
    RC(f, resolve(f, "z", &found), 0);
    assert_true(larder_digest_equal(&found.digest, &d.digest));
    /* 5xx goes by, and does no harm when it was stored. */
    begin(f,
          "{\"rules\": [{\"match\": \"^PUT\", \"times\": 2, \"after\": true, \"status\": 500}]}");
    RC(f, put(f, document, "w"), 0);
    begin(f, "{\"rules\": [{\"match\": \"^PUT\", \"times\": 1, \"status\": 200, \"text\": "
             "\"Healthcheck requested\"}]}");
    RC(f, put(f, document, "w"), 0);
    RC(f, resolve(f, "w", &found), 0);
}

static void test_put_fails(void **state)
{
    struct fixture *f = *state;
    begin(f, "{\"digest_header\": \"wrong\"}");
    RC(f, put(f, document, "w"), -LARDER_MISMATCH);
    begin(f, "{\"manifest_max\": 10}");
    RC(f, put(f, document, "w"), -LARDER_LIMIT);
    begin(f, "{}");
    fixture_forget(f);
    RC(f, put(f, document, "w"), -LARDER_NOENT);
    assert_non_null(strstr(f->e.msg, "MANIFEST_BLOB_UNKNOWN"));
    begin(f, "{\"rules\": [{\"match\": \"^PUT\", \"status\": 503}]}");
    RC(f, put(f, document, "w"), -LARDER_UNREACHABLE);
    EXPECT(f, "PUT ", 5);
}

static void test_immutable(void **state)
{
    struct fixture *f = *state;
    static const char other[] = "{\"schemaVersion\":2,\"manifests\":[]}";
    begin(f, "{\"immutable\": \"always\"}");
    RC(f, put(f, document, "v1"), 0);
    EXPECT(f, "PUT ", 1);
    EXPECT(f, "HEAD ", 1);
    RC(f, put(f, other, "v1"), -LARDER_EXIST);
    assert_non_null(strstr(f->e.msg, "can't be changed and points to sha256:"));
    begin(f, "{\"rules\": [{\"match\": \"^PUT\", \"status\": 412}]}");
    RC(f, put(f, other, "v1"), -LARDER_EXIST);
    begin(f, "{\"rules\": [{\"match\": \"^PUT\", \"status\": 403}]}");
    RC(f, put(f, other, "v1"), -LARDER_AUTH);
    RC(f, put(f, document, "v1"), 0);
}

/* ---- tags ---- */

struct names {
    struct buf all; /* each with a blank behind it */
    int n, stop_at;
};

static int take_name(void *arg, const char *ref)
{
    struct names *names = arg;
    buf_printf(&names->all, "%s ", ref);
    return ++names->n == names->stop_at ? 77 : 0;
}

static int list(struct fixture *f, struct names *names)
{
    buf_done(&names->all);
    names->all = BUF_INIT(16 << 20);
    names->n = 0;
    error_clear(&f->e);
    return f->store->ops->each_ref(f->store, take_name, names, &f->e);
}

static void add_tags(struct fixture *f, int n)
{
    static const char empty[] = "{\"schemaVersion\":2,\"manifests\":[]}";
    for (int i = 0; i < n; i++) {
        char path[64];
        snprintf(path, sizeof(path), "/_manifest/a/b/%c%05d", i % 2 ? 'T' : 't', i * 7919 % 100000);
        assert_int_equal(registry_server_ask(&f->server, "PUT", path,
                                             "application/vnd.oci.image.index.v1+json", empty,
                                             strlen(empty), NULL),
                         200);
    }
}

static void test_tags(void **state)
{
    struct fixture *f = *state;
    struct names names = {0};
    static const struct {
        const char *settings;
        int requests;
    } cases[] = {
        {"{}", 3},
        {"{\"tags_max\": 100}", 25},
        {"{\"tags_link\": \"absolute\"}", 3},
        {"{\"tags_link\": false}", 3},
        {"{\"tags_link\": false, \"tags_max\": 100}", 26},
        {"{\"tags_order\": \"unsorted\"}", 3},
        {"{\"tags_order\": \"unsorted\", \"tags_link\": false}", 3},
        {"{\"tags_order\": \"ignoring-case\", \"tags_link\": false}", 3},
        {"{\"tags_n_limit\": 500}", 2},
    };
    fixture_set(f, "{}");
    fixture_forget(f);
    add_tags(f, 2450);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fixture_set(f, cases[i].settings);
        fixture_open(f, "a/b", false);
        RC(f, list(f, &names), 0);
        assert_int_equal(names.n, 2450);
        EXPECT(f, "", cases[i].requests);
        assert_non_null(strstr(names.all.p, "t00000 "));
        assert_non_null(strstr(names.all.p, "T07919 "));
    }
    names.stop_at = 1500;
    RC(f, list(f, &names), 77);
    buf_done(&names.all);
}

#define PAGE(headers, text)                                                           \
    "{\"rules\": [{\"match\": \"tags/list\", \"status\": 200, \"headers\": {" headers \
    "}, \"text\": \"" text "\"}]}"

static void test_tags_strange(void **state)
{
    struct fixture *f = *state;
    struct names names = {0};
    static const struct {
        const char *settings;
        int rc, n;
    } cases[] = {
        {PAGE("", "{\\\"name\\\":\\\"a/b\\\",\\\"tags\\\":null}"), 0, 0},
        {PAGE("", "{\\\"tags\\\":[\\\"a\\\",\\\"../x\\\",\\\"b c\\\",7,\\\"\\\",\\\"d\\\"]}"), 0,
         2},
        {PAGE("", "<html>"), -LARDER_PROTO, 0},
        {PAGE("\"Link\": \"</v2/a/b/tags/list?last=a>; rel=\\\"next\\\"\"",
              "{\\\"tags\\\":[\\\"a\\\"]}"),
         -LARDER_PROTO, 2},
        {PAGE("\"Link\": \"<http://localhost:9/v2/x>; rel=next\"", "{\\\"tags\\\":[\\\"a\\\"]}"),
         -LARDER_UNSAFE, 1},
        {"{\"rules\": [{\"match\": \"tags/list\", \"status\": 404}]}", -LARDER_NOENT, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fixture_set(f, cases[i].settings);
        fixture_open(f, "a/b", false);
        RC(f, list(f, &names), cases[i].rc);
        assert_int_equal(names.n, cases[i].n);
    }
    /* "last" is not known here: the same page again and again. */
    struct buf page = BUF_INIT(1 << 20);
    buf_puts(&page, "{\"rules\": [{\"match\": \"tags/list\", \"status\": 200, \"text\": "
                    "\"{\\\"tags\\\":[\\\"x\\\"");
    for (int i = 1; i < 1000; i++)
        buf_printf(&page, ",\\\"t%d\\\"", i);
    buf_puts(&page, "]}\"}]}");
    fixture_set(f, page.p);
    fixture_open(f, "a/b", false);
    RC(f, list(f, &names), 0);
    assert_int_equal(names.n, 1000);
    EXPECT(f, "", 2);
    buf_done(&page);
    buf_done(&names.all);
}

static void test_fresh(void **state)
{
    struct fixture *f = *state;
    begin(f, "{}");
    RC(f, f->store->ops->is_fresh(f->store, &f->e), 0);
    fixture_open(f, "a/none", true);
    RC(f, f->store->ops->is_fresh(f->store, &f->e), 1);
    EXPECT(f, "", 2);
    begin(f, "{\"rules\": [{\"match\": \"tags/list\", \"status\": 404}]}");
    RC(f, f->store->ops->is_fresh(f->store, &f->e), 0);
    begin(f, "{\"rules\": [{\"match\": \"tags/list\", \"status\": 503}]}");
    RC(f, f->store->ops->is_fresh(f->store, &f->e), -LARDER_UNREACHABLE);
}

/* ---- deleting ---- */

static void test_delete(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor d = described(document);
    struct store_descriptor found;
    static const char *const no[] = {"{\"delete_tag\": 400, \"delete_manifest\": 400}",
                                     "{\"delete_tag\": 405, \"delete_manifest\": 405}",
                                     "{\"delete_tag\": 404, \"delete_manifest\": 405}"};
    for (size_t i = 0; i < ARRAY_LEN(no); i++) {
        begin(f, no[i]);
        RC(f, f->store->ops->remove_ref(f->store, "v1", &f->e), -LARDER_UNSUPPORTED);
        RC(f, f->store->ops->manifest_remove(f->store, &d.digest, &f->e), -LARDER_UNSUPPORTED);
        RC(f, resolve(f, "v1", &found), 0);
    }
    begin(f, "{}");
    RC(f, f->store->ops->remove_ref(f->store, "v1", &f->e), 0);
    RC(f, f->store->ops->remove_ref(f->store, "v1", &f->e), -LARDER_NOENT);
    RC(f, f->store->ops->manifest_has(f->store, &d, &f->e), 1);
    RC(f, f->store->ops->manifest_remove(f->store, &d.digest, &f->e), 0);
    RC(f, f->store->ops->manifest_remove(f->store, &d.digest, &f->e), -LARDER_NOENT);
}

static void test_warnings(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor found;
    begin(f, "{\"warning\": [\"this is old\", \"so is that\", \"this is old\"]}");
    for (int i = 0; i < 5; i++)
        RC(f, resolve(f, "v1", &found), 0);
    if (f->warnings != 2)
        print_message("%d warnings, last: %s\n", f->warnings, f->warning);
    assert_int_equal(f->warnings, 2);
    assert_non_null(strstr(f->warning, "the registry warns: so is that"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resolve),
        cmocka_unit_test(test_resolve_fails),
        cmocka_unit_test(test_resolve_supposed),
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_get_fails),
        cmocka_unit_test(test_put),
        cmocka_unit_test(test_put_fails),
        cmocka_unit_test(test_immutable),
        cmocka_unit_test(test_tags),
        cmocka_unit_test(test_tags_strange),
        cmocka_unit_test(test_fresh),
        cmocka_unit_test(test_delete),
        cmocka_unit_test(test_warnings),
    };
    if (!registry_server_is_possible())
        return 0;
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
