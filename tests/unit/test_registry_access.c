/* SPDX-License-Identifier: Apache-2.0 */
/* How a registry is reached and who we are there: tokens while uploading, mounts between
 * repositories, redirects, TLS, mirrors. */
#include "registry_fixture.h"

#include <pthread.h>

#define MIB   (1024UL * 1024)
#define LARGE (2 * MIB + 99)

static struct registry_server tls, mirror;

/* ---- tokens ---- */

static void open_as_user(struct fixture *f, const char *repository, bool is_write)
{
    f->options.is_anonymous = false;
    f->options.user = "user";
    f->options.password = "secret";
    fixture_open(f, repository, is_write);
}

static int push(struct fixture *f, const char *settings, enum source_kind kind, const char *from,
                enum blob_how *how)
{
    char *data = fixture_bytes(LARGE, 5);
    fixture_set(f, settings);
    fixture_forget(f);
    if (from)
        fixture_has_blob(f, from, data, LARGE);
    open_as_user(f, "a/b", true);
    int rc = fixture_put(f, kind, data, LARGE, from, true, how);
    if (rc == 0)
        assert_true(fixture_stored(f, "a/b", data, LARGE));
    free(data);
    return rc;
}

static void test_kinds(void **state)
{
    struct fixture *f = *state;
    enum blob_how how;
    RC(f, push(f, "{\"auth\": \"basic\"}", SOURCE_ONCE, NULL, &how), 0);
    RC(f, push(f, "{\"auth\": \"bearer\"}", SOURCE_ONCE, NULL, &how), 0);
    /* POST 401, token, POST, PUT: the body went once. */
    EXPECT(f, "/token", 1);
    EXPECT(f, "", 4);
    RC(f, push(f, "{\"auth\": \"bearer\", \"password\": \"other\"}", SOURCE_ONCE, NULL, &how),
       -LARDER_AUTH);
    RC(f, push(f, "{\"auth\": \"basic\", \"password\": \"other\"}", SOURCE_ONCE, NULL, &how),
       -LARDER_AUTH);
    assert_non_null(strstr(f->e.msg, "docker://127.0.0.1:"));
    assert_true(f->e.hint[0] != '\0');
}

/* The token ends between the requests of one upload. */
static void test_token_ends(void **state)
{
    struct fixture *f = *state;
    enum blob_how how;
    static const char *const settings[] = {
        "{\"auth\": \"bearer\", \"token_revoked_by\": \"POST\"}",
        "{\"auth\": \"bearer\", \"token_revoked_by\": \"PATCH\", \"put_body_refused\": 404}",
        "{\"auth\": \"bearer\", \"token_revoked_by\": \"PATCH\", \"token_revoked_times\": 3, "
        "\"body_max\": 1000000, \"body_max_status\": 413, \"body_max_methods\": [\"PUT\", "
        "\"PATCH\"]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        RC(f, push(f, settings[i], SOURCE_FILE, NULL, &how), 0);
        RC(f, push(f, settings[i], SOURCE_SEEK, NULL, &how), 0);
        assert_true(fixture_count(f, " 401 ") >= 2);
    }
    /* The end of a stream that can't be repeated, too: the PUT has no body of its own then. */
    RC(f, push(f, settings[0], SOURCE_ONCE, NULL, &how), 0);
}

static void test_mounts(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *settings;
        enum blob_how how;
    } cases[] = {
        {"{\"auth\": \"bearer\"}", BLOB_MOUNTED},
        {"{\"auth\": \"basic\"}", BLOB_MOUNTED},
        {"{\"auth\": \"bearer\", \"scope_denied\": [\"c/d\"]}", BLOB_COPIED},
        {"{\"auth\": \"bearer\", \"scope_denied\": [\"c/d\"], \"mount_denied\": 401}", BLOB_COPIED},
        {"{\"auth\": \"bearer\", \"scope_denied\": [\"c/d\"], \"mount_denied\": 403}", BLOB_COPIED},
        {"{\"auth\": \"bearer\", \"scope_denied\": [\"c/d\"], \"mount_denied\": 404}", BLOB_COPIED},
        {"{\"auth\": \"bearer\", \"token_refuses\": [\"c/d\"]}", BLOB_COPIED},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum blob_how how = BLOB_EXISTED;
        RC(f, push(f, cases[i].settings, SOURCE_ONCE, "c/d", &how), 0);
        assert_int_equal(how, cases[i].how);
    }
}

/* The storage behind refuses who says more than the URL (see "redirect" of the server). */
static void test_secrets_stay(void **state)
{
    struct fixture *f = *state;
    struct sink s = {0};
    char *data = fixture_bytes(LARGE, 6);
    enum blob_how how;
    fixture_set(f, "{\"auth\": \"bearer\", \"redirect\": 307}");
    struct store_descriptor blob = fixture_has_blob(f, "a/b", data, LARGE);
    open_as_user(f, "a/b", false);
    RC(f, fixture_get(f, &blob, &s), 0);
    assert_int_equal(s.bytes.n, LARGE);
    EXPECT(f, " bearer ", 1);
    RC(f, fixture_get(f, &blob, &s), 0); /* the token is kept */
    EXPECT(f, "/token", 1);
    RC(f, push(f, "{\"auth\": \"bearer\", \"location\": \"other\"}", SOURCE_FILE, NULL, &how), 0);
    struct buf log = registry_server_log(&f->server);
    for (char *line = strtok(log.p, "\n"); line; line = strtok(NULL, "\n"))
        if (strstr(line, " other"))
            assert_non_null(strstr(line, " none "));
    buf_done(&log);
    buf_done(&s.bytes);
    free(data);
}

static void test_anonymous(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor d;
    fixture_set(f, "{}");
    fixture_forget(f);
    registry_server_image(&f->server, "{\"repo\": \"a/b\"}");
    fixture_set(f, "{\"auth\": \"bearer\", \"anonymous\": \"pull\"}");
    fixture_open(f, "a/b", false);
    RC(f, f->store->ops->resolve(f->store, "latest", &d, &f->e), 0);
    EXPECT(f, "", 3);
    RC(f, f->store->ops->resolve(f->store, "latest", &d, &f->e), 0);
    EXPECT(f, "", 4);
    char *data = fixture_bytes(100, 6);
    RC(f, fixture_put(f, SOURCE_FILE, data, 100, NULL, true, NULL), -LARDER_AUTH);
    assert_non_null(strstr(f->e.hint, "larder login 127.0.0.1:"));
    free(data);
}

struct lane {
    struct fixture *f;
    int rc;
};

static void *ask_many(void *arg)
{
    struct lane *lane = arg;
    for (int i = 0; i < 20 && lane->rc == 0; i++) {
        struct store_descriptor d;
        lane->rc = lane->f->store->ops->resolve(lane->f->store, "latest", &d, NULL);
    }
    return NULL;
}

/* One handle, many lanes: one token, few connections. */
static void test_lanes(void **state)
{
    struct fixture *f = *state;
    struct lane lanes[8];
    pthread_t threads[8];
    fixture_set(f, "{}");
    fixture_forget(f);
    registry_server_image(&f->server, "{\"repo\": \"a/b\"}");
    fixture_set(f, "{\"auth\": \"bearer\"}");
    open_as_user(f, "a/b", false);
    for (int i = 0; i < 8; i++) {
        lanes[i] = (struct lane){f, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, ask_many, &lanes[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(lanes[i].rc, 0);
    }
    EXPECT(f, "/token", 1);
    EXPECT(f, " 200 ", 161);
}

static void test_ping(void **state)
{
    struct fixture *f = *state;
    char host[64];
    static const struct {
        const char *settings;
        const char *password;
        int rc;
    } cases[] = {
        {"{}", "secret", 0},
        {"{\"auth\": \"basic\"}", "secret", 0},
        {"{\"auth\": \"basic\"}", "wrong", -LARDER_AUTH},
        {"{\"auth\": \"bearer\"}", "secret", 0},
        {"{\"auth\": \"bearer\"}", "wrong", -LARDER_AUTH},
        {"{\"rules\": [{\"match\": \"/v2/\", \"status\": 404}]}", "secret", -LARDER_PROTO},
        {"{\"rules\": [{\"match\": \"/v2/\", \"status\": 503}]}", "secret", -LARDER_UNREACHABLE},
    };
    snprintf(host, sizeof(host), "127.0.0.1:%d", f->server.port);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fixture_set(f, cases[i].settings);
        f->options.is_anonymous = false;
        f->options.user = "user";
        f->options.password = cases[i].password;
        const struct remote_options remote = fixture_remote(f);
        RC(f, registry_ping(host, &remote, &f->e), cases[i].rc);
    }
}

/* ---- TLS ---- */

static int resolve_tls(struct fixture *f, const char *host)
{
    struct oci_reference reference = {0};
    struct store_descriptor d;
    const struct remote_options remote = fixture_remote(f);
    char text[128];
    store_close(f->store);
    f->store = NULL;
    error_clear(&f->e);
    snprintf(text, sizeof(text), "%s:%d/a/b", host, tls.port);
    assert_int_equal(oci_reference_parse(text, &reference, NULL), 0);
    int rc = registry_open(&reference, &remote, 0, &f->store, &f->e);
    oci_reference_done(&reference);
    if (rc == 0)
        rc = f->store->ops->resolve(f->store, "latest", &d, &f->e);
    return rc;
}

static void test_tls(void **state)
{
    struct fixture *f = *state;
    char certs[96];
    char command[512];
    snprintf(certs, sizeof(certs), "%s/certs", tls.dir);
    snprintf(command, sizeof(command), "mkdir -p %s && cp %s/cert.pem %s/ca.crt", certs, tls.dir,
             certs);
    assert_int_equal(system(command), 0);
    registry_server_set(&tls, "{}");
    registry_server_image(&tls, "{\"repo\": \"a/b\"}");
    fixture_set(f, "{}");
    f->options.tls_verify = 1;
    RC(f, resolve_tls(f, "127.0.0.1"), -LARDER_AUTH);
    assert_true(f->e.hint[0] != '\0');
    f->options.cert_dir = certs;
    RC(f, resolve_tls(f, "127.0.0.1"), 0);
    RC(f, resolve_tls(f, "localhost"), 0);
    f->options.cert_dir = NULL;
    f->options.tls_verify = 0;
    registry_server_set(&tls, "{}");
    RC(f, resolve_tls(f, "127.0.0.1"), 0);
    assert_int_equal(registry_server_count(&tls, "HEAD"), 1);
    /* Loopback without being told: plain text first, then TLS; found out once. */
    f->options.tls_verify = -1;
    RC(f, resolve_tls(f, "127.0.0.1"), 0);
    uint64_t before = f->store->ops->requests(f->store);
    struct store_descriptor d;
    RC(f, f->store->ops->resolve(f->store, "latest", &d, &f->e), 0);
    assert_int_equal(f->store->ops->requests(f->store), before + 1);
}

/* Where both schemes are tried, what fails is told of the one that is spoken there. */
static void test_tls_wants_credentials(void **state)
{
    struct fixture *f = *state;
    fixture_set(f, "{}");
    f->options.tls_verify = -1;
    registry_server_set(&tls, "{\"auth\": \"basic\"}");
    RC(f, resolve_tls(f, "127.0.0.1"), -LARDER_AUTH);
    assert_non_null(strstr(f->e.msg, "credentials needed"));
    f->options.is_anonymous = false;
    f->options.user = "user";
    f->options.password = "wrong";
    RC(f, resolve_tls(f, "127.0.0.1"), -LARDER_AUTH);
    assert_non_null(strstr(f->e.msg, "refused the credentials"));
    f->options.tls_verify = 0;
    registry_server_set(&tls, "{\"auth\": \"basic\"}");
    RC(f, resolve_tls(f, "127.0.0.1"), -LARDER_AUTH);
    assert_int_equal(registry_server_count(&tls, "HEAD"), 2);
    f->options.password = "secret";
    registry_server_image(&tls, "{\"repo\": \"a/b\"}");
    RC(f, resolve_tls(f, "127.0.0.1"), 0);
}

/* What the environment says is for the way out of this machine. */
static void test_proxies(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor d;
    setenv("http_proxy", "http://127.0.0.1:9", 1);
    setenv("https_proxy", "http://127.0.0.1:9", 1);
    fixture_set(f, "{}");
    registry_server_set(&tls, "{}");
    registry_server_image(&f->server, "{\"repo\": \"a/b\"}");
    registry_server_image(&tls, "{\"repo\": \"a/b\"}");
    fixture_open(f, "a/b", false);
    RC(f, f->store->ops->resolve(f->store, "latest", &d, &f->e), 0);
    f->options.tls_verify = 0;
    RC(f, resolve_tls(f, "127.0.0.1"), 0);
    RC(f, resolve_tls(f, "localhost"), 0);
    f->options.tls_verify = 1;
    RC(f, resolve_tls(f, "registry.example.org"), -LARDER_UNREACHABLE);
    assert_non_null(strstr(f->e.msg, "127.0.0.1 port 9"));
    unsetenv("http_proxy");
    unsetenv("https_proxy");
}

/* A proxy ends TLS and the registry behind it says http: it stays https. */
static void test_location_says_http(void **state)
{
    struct fixture *f = *state;
    char *data = fixture_bytes(LARGE, 5);
    int port = f->server.port;
    fixture_set(f, "{}");
    registry_server_set(&tls, "{\"location\": \"http\"}");
    f->options.tls_verify = 0;
    f->server.port = tls.port;
    fixture_open(f, "a/b", true);
    f->server.port = port;
    RC(f, fixture_put(f, SOURCE_FILE, data, LARGE, NULL, true, NULL), 0);
    assert_int_equal(registry_server_count(&tls, "PUT "), 1);
    free(data);
}

/* Not verified is not plain text: and where it is plain text, it is found out. */
static void test_insecure(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor d;
    fixture_set(f, "{}");
    registry_server_image(&f->server, "{\"repo\": \"a/b\"}");
    fixture_set(f, "{}");
    f->options.tls_verify = 0;
    fixture_open(f, "a/b", false);
    RC(f, f->store->ops->resolve(f->store, "latest", &d, &f->e), 0);
    f->options.tls_verify = 1;
    fixture_open(f, "a/b", false);
    int rc = f->store->ops->resolve(f->store, "latest", &d, &f->e);
    assert_true(rc == -LARDER_PROTO || rc == -LARDER_UNREACHABLE || rc == -LARDER_AUTH);
    assert_non_null(strstr(f->e.hint, "--tls-verify=false"));
}

/* ---- mirrors ---- */

static void use_mirror(struct fixture *f, const char *settings, int port)
{
    char conf[512];
    fixture_set(f, "{}");
    fixture_forget(f);
    snprintf(conf, sizeof(conf),
             "[[registry]]\nlocation = \"127.0.0.1:%d\"\n"
             "[[registry.mirror]]\nlocation = \"127.0.0.1:%d/copy\"\n",
             f->server.port, port);
    fixture_conf(f, conf);
    registry_server_set(&mirror, "{}");
    assert_int_equal(registry_server_ask(&mirror, "DELETE", "/_content", "-", "", 0, NULL), 200);
    registry_server_image(&f->server, "{\"repo\": \"a/b\", \"layers\": 1}");
    registry_server_image(&mirror, "{\"repo\": \"copy/a/b\", \"layers\": 1}");
    fixture_set(f, "{}");
    registry_server_set(&mirror, settings);
}

static void test_mirror(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor d;
    struct sink s = {0};
    char *data = fixture_bytes(LARGE, 5);
    struct buf bytes = BUF_INIT(8 << 20);
    use_mirror(f, "{}", mirror.port);
    struct store_descriptor blob = fixture_has_blob(f, "a/b", data, LARGE);
    assert_int_equal(registry_server_ask(&mirror, "PUT", "/_blob/copy/a/b", "-", data, LARGE, NULL),
                     200);
    fixture_open(f, "a/b", false);
    RC(f, f->store->ops->resolve(f->store, "latest", &d, &f->e), 0);
    RC(f, f->store->ops->manifest_get(f->store, NULL, &d.digest, &bytes, &d, &f->e), 0);
    RC(f, f->store->ops->blob_has(f->store, &blob, &f->e), 1);
    RC(f, fixture_get(f, &blob, &s), 0);
    EXPECT(f, "", 0);
    assert_int_equal(registry_server_count(&mirror, "/v2/copy/a/b/"), 4);
    /* Cut in the middle for good: the registry has the rest. */
    registry_server_set(&mirror,
                        "{\"rules\": [{\"match\": \"^GET\", \"cut\": 1000000}, {\"match\": "
                        "\"^HEAD\", \"status\": 500}]}");
    fixture_open(f, "a/b", false);
    RC(f, fixture_get(f, &blob, &s), 0);
    assert_true(s.bytes.n == LARGE && memcmp(s.bytes.p, data, LARGE) == 0);
    RC(f, f->store->ops->resolve(f->store, "latest", &d, &f->e), 0);
    RC(f, f->store->ops->blob_has(f->store, &blob, &f->e), 1);
    /* What a mirror does not have may be there all the same. */
    registry_server_set(&mirror, "{}");
    assert_int_equal(registry_server_ask(&mirror, "DELETE", "/_content", "-", "", 0, NULL), 200);
    RC(f, f->store->ops->blob_has(f->store, &blob, &f->e), 1);
    buf_reset(&bytes);
    RC(f, f->store->ops->manifest_get(f->store, "latest", NULL, &bytes, &d, &f->e), 0);
    buf_done(&bytes);
    buf_done(&s.bytes);
    free(data);
}

static void test_mirror_is_away(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor d;
    use_mirror(f, "{}", 1);
    fixture_open(f, "a/b", false);
    for (int i = 0; i < 3; i++)
        RC(f, f->store->ops->resolve(f->store, "latest", &d, &f->e), 0);
    EXPECT(f, "", 3);
    assert_int_equal(f->notes, 1); /* asked once */
}

/* A manifest that a mirror made up is not taken for the one that was asked for. */
static void test_mirror_lies(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor d;
    struct buf bytes = BUF_INIT(8 << 20);
    use_mirror(f, "{\"rules\": [{\"match\": \"^GET\", \"status\": 200, \"text\": \"{}\"}]}",
               mirror.port);
    fixture_open(f, "a/b", false);
    RC(f, f->store->ops->resolve(f->store, "latest", &d, &f->e), 0);
    RC(f, f->store->ops->manifest_get(f->store, NULL, &d.digest, &bytes, &d, &f->e), 0);
    assert_true(bytes.n > 100);
    EXPECT(f, "GET ", 1);
    buf_done(&bytes);
}

static void test_mirror_is_not_written(void **state)
{
    struct fixture *f = *state;
    struct store_descriptor d;
    char *data = fixture_bytes(100, 5);
    use_mirror(f, "{}", mirror.port);
    fixture_open(f, "a/b", true);
    RC(f, f->store->ops->resolve(f->store, "latest", &d, &f->e), 0);
    RC(f, fixture_put(f, SOURCE_FILE, data, 100, NULL, false, NULL), 0);
    assert_int_equal(registry_server_count(&mirror, ""), 0);
    free(data);
}

static void test_conf(void **state)
{
    struct fixture *f = *state;
    struct oci_reference reference = {0};
    struct store *s = NULL;
    char conf[128];
    fixture_set(f, "{}");
    snprintf(conf, sizeof(conf), "[[registry]]\nlocation = \"127.0.0.1:%d\"\nblocked = true\n",
             f->server.port);
    fixture_conf(f, conf);
    snprintf(conf, sizeof(conf), "127.0.0.1:%d/a/b", f->server.port);
    assert_int_equal(oci_reference_parse(conf, &reference, NULL), 0);
    const struct remote_options remote = fixture_remote(f);
    RC(f, registry_open(&reference, &remote, 0, &s, &f->e), -LARDER_DENIED);
    fixture_conf(f, "[[registry]\n");
    RC(f, registry_open(&reference, &remote, 0, &s, &f->e), -LARDER_INVAL);
    assert_null(s);
    oci_reference_done(&reference);
    fixture_conf(f, "");
}

static int setup(void **state)
{
    registry_server_start(&tls, true);
    registry_server_start(&mirror, false);
    return fixture_setup(state);
}

static int teardown(void **state)
{
    registry_server_stop(&tls);
    registry_server_stop(&mirror);
    return fixture_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),       cmocka_unit_test(test_token_ends),
        cmocka_unit_test(test_mounts),      cmocka_unit_test(test_secrets_stay),
        cmocka_unit_test(test_anonymous),   cmocka_unit_test(test_lanes),
        cmocka_unit_test(test_ping),        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_insecure),    cmocka_unit_test(test_location_says_http),
        cmocka_unit_test(test_mirror),      cmocka_unit_test(test_mirror_is_away),
        cmocka_unit_test(test_mirror_lies), cmocka_unit_test(test_mirror_is_not_written),
        cmocka_unit_test(test_conf),        cmocka_unit_test(test_tls_wants_credentials),
        cmocka_unit_test(test_proxies),
    };
    if (!registry_server_is_possible())
        return 0;
    return cmocka_run_group_tests(tests, setup, teardown);
}
