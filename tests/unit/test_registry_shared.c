/* SPDX-License-Identifier: Apache-2.0 */
/* Handles that share tokens and connections, and what a registry says about its limits. */
#include "registry_fixture.h"

#include "base/clock.h"

static struct registry_server mirror;

/* A handle's answer for the tag "latest" of repository a/<i>. */
static int resolve(struct fixture *f, const struct remote_options *remote, int i)
{
    struct oci_reference reference = {0};
    struct store_descriptor d;
    struct store *s = NULL;
    char text[128];
    snprintf(text, sizeof(text), "127.0.0.1:%d/a/%d", f->server.port, i);
    assert_int_equal(oci_reference_parse(text, &reference, NULL), 0);
    int rc = registry_open(&reference, remote, 0, &s, &f->e);
    oci_reference_done(&reference);
    if (rc == 0)
        rc = s->ops->resolve(s, "latest", &d, &f->e);
    store_close(s);
    return rc;
}

static void make_images(struct fixture *f)
{
    char text[64];
    for (int i = 0; i < 4; i++) {
        snprintf(text, sizeof(text), "{\"repo\": \"a/%d\"}", i);
        registry_server_image(&f->server, text);
    }
}

/* Number of different connections of the log. */
static int connections(struct fixture *f)
{
    struct buf log = registry_server_log(&f->server);
    bool seen[64] = {false};
    int n = 0;
    for (char *line = strtok(log.p, "\n"); line; line = strtok(NULL, "\n")) {
        int at = 0;
        if (sscanf(line, "%*s %*s %*s %*s %*s %*s %d", &at) != 1)
            continue;
        assert_true(at > 0);
        n += !seen[at % 64];
        seen[at % 64] = true;
    }
    buf_done(&log);
    return n;
}

static void test_shared(void **state)
{
    struct fixture *f = *state;
    struct remote_shared *shared = NULL;
    fixture_set(f, "{\"auth\": \"bearer\"}");
    f->options.is_anonymous = false;
    f->options.user = "user";
    f->options.password = "secret";
    struct remote_options remote = fixture_remote(f);
    RC(f, remote_shared_new(&f->options, &f->observer, &shared, &f->e), 0);
    remote.shared = shared;
    for (int i = 0; i < 4; i++)
        RC(f, resolve(f, &remote, i), 0);
    /* The challenge of the first tells where the tokens of the others are to be had. */
    EXPECT(f, " 401 ", 1);
    EXPECT(f, "HEAD ", 5);
    EXPECT(f, "/token", 4);
    assert_int_equal(connections(f), 1);
    /* The same repository again needs no other token. */
    RC(f, resolve(f, &remote, 2), 0);
    EXPECT(f, "/token", 4);
    remote_shared_free(shared);
    remote_shared_free(NULL);
}

static void test_not_shared(void **state)
{
    struct fixture *f = *state;
    fixture_set(f, "{}");
    const struct remote_options remote = fixture_remote(f);
    for (int i = 0; i < 3; i++)
        RC(f, resolve(f, &remote, i), 0);
    assert_int_equal(connections(f), 3);
}

/* Other certificates are another connection. */
static void test_shared_by_options(void **state)
{
    struct fixture *f = *state;
    struct remote_shared *shared = NULL;
    fixture_set(f, "{}");
    struct remote_options remote = fixture_remote(f);
    RC(f, remote_shared_new(NULL, NULL, &shared, &f->e), 0);
    remote.shared = shared;
    RC(f, resolve(f, &remote, 0), 0);
    int fd = open(registry_server_path(&f->server, "x.crt"), O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    f->options.cert_dir = f->server.dir;
    RC(f, resolve(f, &remote, 0), 0);
    assert_int_equal(connections(f), 2);
    RC(f, resolve(f, &remote, 1), 0);
    assert_int_equal(connections(f), 2);
    remote_shared_free(shared);
}

static void test_limits(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *settings;
        int rc, requests;
        bool is_reached;
        int64_t after_s;
        bool has_left;
        uint64_t left;
    } cases[] = {
        {"{}", 0, 1, false, 0, false, 0},
        {"{\"rules\": [{\"match\": \"HEAD\", \"status\": 429, \"retry_after\": \"60\"}]}",
         -LARDER_UNREACHABLE, 1, true, 60, false, 0},
        {"{\"rules\": [{\"match\": \"HEAD\", \"status\": 429, \"retry_after\": \"7200\"}]}",
         -LARDER_UNREACHABLE, 1, true, 7200, false, 0},
        {"{\"rules\": [{\"match\": \"HEAD\", \"status\": 429}]}", -LARDER_UNREACHABLE, 1, true, 0,
         false, 0},
        {"{\"rules\": [{\"match\": \"HEAD\", \"status\": 503, \"retry_after\": \"5\"}]}",
         -LARDER_UNREACHABLE, 1, true, 5, false, 0},
        /* A restart is no limit: it is tried again. */
        {"{\"rules\": [{\"match\": \"HEAD\", \"status\": 503, \"times\": 1}]}", 0, 2, false, 0,
         false, 0},
        {"{\"auth\": \"bearer\", \"anonymous\": \"pull\", \"rules\": [{\"match\": \"/token\", "
         "\"status\": 429, \"retry_after\": \"9\"}]}",
         -LARDER_UNREACHABLE, 2, true, 0, false, 0},
        {"{\"rules\": [{\"match\": \"HEAD\", \"headers\": {\"ratelimit-remaining\": "
         "\"76;w=21600\"}}]}",
         0, 1, false, 0, true, 76},
        {"{\"rules\": [{\"match\": \"HEAD\", \"headers\": {\"RateLimit-Remaining\": \"0\"}}]}", 0,
         1, false, 0, true, 0},
        {"{\"rules\": [{\"match\": \"HEAD\", \"headers\": {\"RateLimit-Remaining\": \"-1\"}}]}", 0,
         1, false, 0, false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct remote_limit limit = {0};
        fixture_set(f, cases[i].settings);
        struct remote_options remote = fixture_remote(f);
        remote.limit = &limit;
        RC(f, resolve(f, &remote, 0), cases[i].rc);
        /* One request: whoever had waited would have asked again. */
        EXPECT(f, "", cases[i].requests);
        assert_int_equal(limit.is_reached, cases[i].is_reached);
        assert_int_equal(limit.retry_after_ns, cases[i].after_s * NS_PER_S);
        assert_int_equal(limit.has_left, cases[i].has_left);
        assert_int_equal(limit.left, cases[i].left);
    }
}

/* The registry itself is asked at once when a mirror wants to be left alone. */
static void test_mirror_limits(void **state)
{
    struct fixture *f = *state;
    struct remote_limit limit = {0};
    char conf[256];
    fixture_set(f, "{}");
    registry_server_set(&mirror, "{\"rules\": [{\"match\": \"HEAD\", \"status\": 429, "
                                 "\"retry_after\": \"60\"}]}");
    snprintf(conf, sizeof(conf),
             "[[registry]]\nlocation = \"127.0.0.1:%d\"\n[[registry.mirror]]\nlocation = "
             "\"127.0.0.1:%d\"\n",
             f->server.port, mirror.port);
    int fd = open(f->conf, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_int_equal(fd_write_full(fd, conf, strlen(conf)), 0);
    struct remote_options remote = fixture_remote(f);
    remote.limit = &limit;
    RC(f, resolve(f, &remote, 0), 0);
    assert_int_equal(registry_server_count(&mirror, "HEAD"), 1);
    EXPECT(f, "HEAD", 1);
    assert_false(limit.is_reached);
    assert_int_equal(ftruncate(fd, 0), 0);
    close(fd);
}

static int setup(void **state)
{
    registry_server_start(&mirror, false);
    int rc = fixture_setup(state);
    make_images(*state);
    return rc;
}

static int teardown(void **state)
{
    registry_server_stop(&mirror);
    return fixture_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shared),
        cmocka_unit_test(test_not_shared),
        cmocka_unit_test(test_shared_by_options),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_mirror_limits),
    };
    if (!registry_server_is_possible())
        return 0;
    return cmocka_run_group_tests(tests, setup, teardown);
}
