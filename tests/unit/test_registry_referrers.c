/* SPDX-License-Identifier: Apache-2.0 */
/* Who refers to a manifest: by the API, and by the tag that clients keep where there is none. */
#include "registry_fixture.h"

#include <pthread.h>

#include "json/json.h"

#define MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define INDEX    "application/vnd.oci.image.index.v1+json"
#define EMPTY                                                                              \
    "{\"mediaType\":\"%s\",\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21f" \
    "e77e8310c060f61caaff8a\",\"size\":2}"

static const char subject_bytes[] =
    "{\"schemaVersion\":2,\"mediaType\":\"" INDEX "\",\"manifests\":[]}";

struct referrer {
    char bytes[2048];
    struct store_descriptor d;
};

static struct store_descriptor subject(void)
{
    struct store_descriptor d = fixture_descriptor(subject_bytes, strlen(subject_bytes));
    strcpy(d.media_type, INDEX);
    return d;
}

/* type NULL: said by the config's */
static void make(struct referrer *r, const char *type, const char *config, int n)
{
    char digest[LARDER_DIGEST_TEXT_BYTES];
    struct store_descriptor s = subject();
    char config_text[256];
    char type_text[128] = "";
    snprintf(config_text, sizeof(config_text), EMPTY, config);
    if (type)
        snprintf(type_text, sizeof(type_text), "\"artifactType\":\"%s\",", type);
    int length = snprintf(
        r->bytes, sizeof(r->bytes),
        "{\"schemaVersion\":2,\"mediaType\":\"%s\",%s\"config\":%s,\"layers\":[],\"subject\":"
        "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu},"
        "\"annotations\":{\"org.example.n\":\"%d\"}}",
        MANIFEST, type_text, config_text, INDEX, larder_digest_format(&s.digest, digest),
        strlen(subject_bytes), n);
    r->d = fixture_descriptor(r->bytes, (size_t)length);
    strcpy(r->d.media_type, MANIFEST);
}

static int put(struct fixture *f, const struct referrer *r)
{
    error_clear(&f->e);
    return f->store->ops->manifest_put(f->store, &r->d, slice_of(r->bytes), NULL, 0, &f->e);
}

static void begin(struct fixture *f, const char *settings)
{
    fixture_set(f, settings);
    fixture_forget(f);
    fixture_has_blob(f, "a/b", "{}", 2);
    assert_int_equal(registry_server_ask(&f->server, "PUT", "/_manifest/a/b/v1", INDEX,
                                         subject_bytes, strlen(subject_bytes), NULL),
                     200);
    fixture_open(f, "a/b", true);
}

/* How many; *ret (json_free) is the list. */
static int list(struct fixture *f, const char *type, struct json **ret)
{
    struct store_descriptor s = subject();
    struct buf out = BUF_INIT(8 << 20);
    error_clear(&f->e);
    int rc = f->store->ops->referrers(f->store, &s.digest, type, &out, &f->e);
    if (rc == 0) {
        assert_int_equal(json_parse(buf_slice(&out), 8 << 20, ret, &f->e), 0);
        assert_string_equal(json_get_string(*ret, "mediaType"), INDEX);
        rc = (int)json_length(json_get(*ret, "manifests"));
    }
    buf_done(&out);
    return rc;
}

static int count(struct fixture *f, const char *type)
{
    struct json *doc = NULL;
    int n = list(f, type, &doc);
    json_free(doc);
    return n;
}

static void check_list(struct fixture *f)
{
    struct json *doc = NULL;
    RC(f, list(f, "application/x.sig", &doc), 1);
    const struct json *entry = json_at(json_get(doc, "manifests"), 0);
    assert_string_equal(json_get_string(entry, "artifactType"), "application/x.sig");
    assert_string_equal(json_get_string(json_get(entry, "annotations"), "org.example.n"), "1");
    assert_string_equal(json_get_string(entry, "mediaType"), MANIFEST);
    assert_true(json_get_u64(entry, "size", 0) > 100);
    json_free(doc);
    RC(f, count(f, "application/x.config"), 1);
    RC(f, count(f, NULL), 3);
    RC(f, count(f, "application/x.none"), 0);
}

static void push_three(struct fixture *f)
{
    struct referrer r;
    make(&r, "application/x.sig", "application/vnd.oci.empty.v1+json", 1);
    RC(f, put(f, &r), 0);
    make(&r, NULL, "application/x.config", 2);
    RC(f, put(f, &r), 0);
    make(&r, "application/x.sbom", "application/vnd.oci.empty.v1+json", 3);
    RC(f, put(f, &r), 0);
}

static void test_api(void **state)
{
    struct fixture *f = *state;
    static const char *const settings[] = {"{}", "{\"referrers_max\": 1}"};
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        begin(f, settings[i]);
        RC(f, count(f, NULL), 0);
        push_three(f);
        EXPECT(f, "", 1 + 3);
        check_list(f);
        EXPECT(f, "/manifests/sha256-", 0);
    }
}

static void test_tag(void **state)
{
    struct fixture *f = *state;
    struct referrer r;
    begin(f, "{\"referrers\": false}");
    RC(f, count(f, NULL), 0);
    push_three(f);
    EXPECT(f, "PUT /v2/a/b/manifests/sha256-", 3);
    check_list(f);
    EXPECT(f, "/referrers/", 1); /* asked for once */
    make(&r, "application/x.sbom", "application/vnd.oci.empty.v1+json", 3);
    RC(f, put(f, &r), 0); /* again: is listed already */
    EXPECT(f, "PUT /v2/a/b/manifests/sha256-", 3);
    RC(f, f->store->ops->manifest_remove(f->store, &r.d.digest, &f->e), 0);
    RC(f, count(f, NULL), 2);
    RC(f, count(f, "application/x.sbom"), 0);
}

static void test_tag_is_something_else(void **state)
{
    struct fixture *f = *state;
    struct referrer r;
    char path[256];
    char digest[LARDER_DIGEST_TEXT_BYTES];
    struct store_descriptor s = subject();
    begin(f, "{\"referrers\": false}");
    make(&r, NULL, "application/x.config", 2);
    snprintf(path, sizeof(path), "/_manifest/a/b/sha256-%s", larder_digest_hex(&s.digest, digest));
    assert_int_equal(
        registry_server_ask(&f->server, "PUT", path, MANIFEST, r.bytes, strlen(r.bytes), NULL),
        200);
    make(&r, NULL, "application/x.config", 3);
    RC(f, put(f, &r), -LARDER_UNSUPPORTED);
    assert_non_null(strstr(f->e.msg, "not a list of referrers"));
    EXPECT(f, "PUT ", 1);
    assert_true(count(f, NULL) < 0);

    /* Nor is what is no document at all; it is the registry's fault. */
    assert_int_equal(registry_server_ask(&f->server, "PUT", path, INDEX, "<html>", 6, NULL), 200);
    RC(f, count(f, NULL), -LARDER_PROTO);
    RC(f, put(f, &r), -LARDER_PROTO);
}

/* An endpoint that answers 200 to everything is no API. */
static void test_page_of_a_proxy(void **state)
{
    struct fixture *f = *state;
    begin(f, "{\"rules\": [{\"match\": \"/referrers/\", \"status\": 200, \"text\": \"<html>\","
             " \"headers\": {\"Content-Type\": \"text/html\"}}]}");
    RC(f, count(f, NULL), 0);
    begin(f, "{\"rules\": [{\"match\": \"/referrers/\", \"status\": 503}]}");
    RC(f, count(f, NULL), -LARDER_UNREACHABLE);
}

/* Somebody else's write between ours and the look at it. */
static void test_lost_update(void **state)
{
    struct fixture *f = *state;
    begin(f, "{\"referrers\": false, \"tag_delay\": 1}");
    push_three(f);
    fixture_open(f, "a/b", true);
    for (int i = 0; i < 3; i++) /* reads past the delay */
        (void)count(f, NULL);
    RC(f, count(f, NULL), 3);
}

struct lane {
    struct fixture *f;
    int from, rc;
};

static void *push_some(void *arg)
{
    struct lane *lane = arg;
    for (int i = 0; i < 5 && lane->rc == 0; i++) {
        struct referrer r;
        make(&r, "application/x.sig", "application/vnd.oci.empty.v1+json", lane->from + i);
        lane->rc = lane->f->store->ops->manifest_put(lane->f->store, &r.d, slice_of(r.bytes), NULL,
                                                     0, NULL);
    }
    return NULL;
}

static void test_lanes(void **state)
{
    struct fixture *f = *state;
    struct lane lanes[6];
    pthread_t threads[6];
    begin(f, "{\"referrers\": false}");
    for (int i = 0; i < 6; i++) {
        lanes[i] = (struct lane){f, 100 * i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, push_some, &lanes[i]), 0);
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(lanes[i].rc, 0);
    }
    RC(f, count(f, NULL), 30);
}

/* The connections of the log's PUTs: who asks one after the other needs one. */
static int put_connections(struct fixture *f)
{
    struct buf log = registry_server_log(&f->server);
    char *rest = log.p;
    int numbers[64] = {0};
    int n = 0;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        int number = 0;
        int i = 0;
        if (sscanf(line, "PUT %*s %*d %*d %*d %*s %d", &number) != 1)
            continue;
        while (i < n && numbers[i] != number)
            i++;
        if (i == n && n < 64)
            numbers[n++] = number;
    }
    buf_done(&log);
    return n;
}

/* Some registries forget one of two that come at the same moment. */
static void test_lanes_in_turn(void **state)
{
    struct fixture *f = *state;
    struct lane lanes[4];
    pthread_t threads[4];
    begin(f, "{\"delay\": 0.02}");
    for (int i = 0; i < 4; i++) {
        lanes[i] = (struct lane){f, 100 * i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, push_some, &lanes[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(lanes[i].rc, 0);
    }
    assert_int_equal(put_connections(f), 1);
    RC(f, count(f, NULL), 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_api),
        cmocka_unit_test(test_tag),
        cmocka_unit_test(test_tag_is_something_else),
        cmocka_unit_test(test_page_of_a_proxy),
        cmocka_unit_test(test_lost_update),
        cmocka_unit_test(test_lanes),
        cmocka_unit_test(test_lanes_in_turn),
    };
    if (!registry_server_is_possible())
        return 0;
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
