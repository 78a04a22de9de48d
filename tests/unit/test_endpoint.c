/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/fdio.h"
#include "base/mem.h"
#include "net/conf/endpoint.h"
#include "net/http/hostname.h"
#include "net/conf/toml.h"
#include "scratch.h"

static int setup(void **state)
{
    char text[200];
    if (scratch_setup(state) < 0)
        return -1;
    struct scratch *s = *state;
    snprintf(text, sizeof(text), "%s/config", s->path);
    setenv("XDG_CONFIG_HOME", text, 1);
    unsetenv("CONTAINERS_REGISTRIES_CONF");
    return path_make(text, 0755, NULL);
}

static const char *path(struct scratch *s, const char *name)
{
    static char text[200];
    snprintf(text, sizeof(text), "%s/%s", s->path, name);
    return text;
}

static void put(struct scratch *s, const char *name, const char *text)
{
    char dir[200];
    snprintf(dir, sizeof(dir), "%s", path(s, name));
    *strrchr(dir, '/') = '\0';
    assert_int_equal(path_make(dir, 0755, NULL), 0);
    int fd = openat(s->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
    close(fd);
}

/* "base/repository tls [mirror:td]|..." */
static void show(const struct endpoint *list, size_t n, struct buf *out)
{
    static const char *const tls[] = {"tls", "insecure", "http"};
    for (size_t i = 0; i < n; i++) {
        const struct endpoint *at = &list[i];
        buf_printf(out, "%s%s/%s %s", i ? "|" : "", at->base, at->repository ? at->repository : "-",
                   tls[at->tls]);
        if (strcmp(at->host, at->base) != 0)
            buf_printf(out, " host=%s", at->host);
        if (at->is_mirror)
            buf_printf(out, " mirror:%s%s", at->for_tags ? "t" : "", at->for_digests ? "d" : "");
    }
}

static void is_reached(const struct endpoint_options *options, const char *host,
                       const char *repository, const char *expected)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct endpoint *list = NULL;
    size_t n = 0;
    struct buf out = BUF_INIT(4096);
    if (endpoints_find(options, host, repository, &list, &n, &e) < 0)
        print_message("%s\n", e.msg);
    show(list, n, &out);
    assert_non_null(out.p);
    assert_string_equal(out.p, expected);
    buf_done(&out);
    endpoints_free(list, n);
}

static const char conf[] = "# comment\n"
                           "unqualified-search-registries = [\"example.com\", # another\n"
                           "  'example.net',\n"
                           "]\n"
                           "short-name-mode = \"enforcing\"\n"
                           "\n"
                           "[[registry]]\n"
                           "prefix = \"r.example.org\"\n"
                           "location = \"inner.example.org/cache/\" # slash\n"
                           "[[registry.mirror]]\n"
                           "location = \"m1.example.org:5000/all\"\n"
                           "insecure = true\n"
                           "[[registry.mirror]]\n"
                           "location = \"m2.example.org\"\n"
                           "pull-from-mirror = \"digest-only\"\n"
                           "[[registry.mirror]]\n"
                           "location = \"m3.example.org\"\n"
                           "pull-from-mirror = \"tag-only\"\n"
                           "\n"
                           "[[registry]]\n"
                           "location = \"r.example.org/ns\"\n"
                           "insecure = true\n"
                           "[[registry]]\n"
                           "location = \"bad.example.org\"\n"
                           "blocked = true\n"
                           "[[registry]]\n"
                           "prefix = \"*.wild.example.org\"\n"
                           "insecure = true\n"
                           "[[registry]]\n"
                           "prefix = \"*.deep.wild.example.org\"\n"
                           "location = \"deep.example.org\"\n"
                           "[[registry]]\n"
                           "location = \"docker.io\"\n"
                           "mirror-by-digest-only = true\n"
                           "mirror = [{location = \"hub.example.org/proxy\"}]\n"
                           "[[registry]]\n"
                           "prefix = \"short.example.org\"\n"
                           "location = \"docker.io\"\n"
                           "[[registry]]\n"
                           "location = \"localhost:5001\"\n"
                           "insecure = false\n"
                           "[aliases]\n"
                           "\"foo\" = \"example.com/foo\"\n";

static void rewrites(void **state)
{
    struct scratch *s = *state;
    put(s, "r.conf", conf);
    static char file[200];
    snprintf(file, sizeof(file), "%s", path(s, "r.conf"));
    const struct endpoint_options usual = {.conf = file, .tls_verify = -1};

    is_reached(&usual, "plain.example.org", "a/b", "plain.example.org/a/b tls");
    is_reached(&usual, "r.example.org", "a/b",
               "m1.example.org:5000/all/a/b insecure mirror:td|m2.example.org/a/b tls mirror:d|"
               "m3.example.org/a/b tls mirror:t|inner.example.org/cache/a/b tls");
    is_reached(&usual, "r.example.org", "ns/b", "r.example.org/ns/b insecure");
    is_reached(&usual, "r.example.org", "ns", "r.example.org/ns insecure");
    is_reached(&usual, "r.example.org:5000", "ns", "r.example.org:5000/ns tls");
    /* login: as it is, no mirrors */
    is_reached(&usual, "r.example.org", NULL, "r.example.org/- tls");
    is_reached(&usual, "a.wild.example.org", "x", "a.wild.example.org/x insecure");
    is_reached(&usual, "a.b.wild.example.org:8080", "x", "a.b.wild.example.org:8080/x insecure");
    is_reached(&usual, "wild.example.org", "x", "wild.example.org/x tls");
    is_reached(&usual, "a.deep.wild.example.org", "x", "deep.example.org/x tls");
    is_reached(&usual, "docker.io", "library/x",
               "hub.example.org/proxy/library/x tls mirror:d|"
               "registry-1.docker.io/library/x tls host=docker.io");
    is_reached(&usual, "index.docker.io", NULL, "registry-1.docker.io/- tls host=docker.io");
    is_reached(&usual, "short.example.org", "x",
               "registry-1.docker.io/library/x tls host=docker.io");

    struct larder_error e = LARDER_ERROR_INIT;
    struct endpoint *list = NULL;
    size_t n = 0;
    assert_int_equal(endpoints_find(&usual, "bad.example.org", "x", &list, &n, &e), -LARDER_DENIED);
    assert_non_null(strstr(e.msg, "r.conf:23"));
    assert_int_equal(endpoints_find(&usual, "bad.example.org", NULL, &list, &n, &e),
                     -LARDER_DENIED);
}

static void verification(void **state)
{
    struct scratch *s = *state;
    put(s, "r.conf", conf);
    static char file[200];
    snprintf(file, sizeof(file), "%s", path(s, "r.conf"));
    const struct endpoint_options usual = {.conf = file, .tls_verify = -1};
    const struct endpoint_options never = {.conf = file, .tls_verify = 0};
    const struct endpoint_options always = {.conf = file, .tls_verify = 1};

    is_reached(&usual, "localhost:5000", "x", "localhost:5000/x insecure");
    is_reached(&usual, "127.0.0.5:5000", "x", "127.0.0.5:5000/x insecure");
    is_reached(&usual, "[::1]:5000", "x", "[::1]:5000/x insecure");
    is_reached(&usual, "localhost.example.org", "x", "localhost.example.org/x tls");
    is_reached(&usual, "localhost:5001", "x", "localhost:5001/x tls");
    is_reached(&always, "localhost:5000", "x", "localhost:5000/x tls");
    is_reached(&always, "a.wild.example.org", "x", "a.wild.example.org/x tls");
    is_reached(&never, "plain.example.org", "x", "plain.example.org/x insecure");
}

static void files_and_drop_ins(void **state)
{
    struct scratch *s = *state;
    const struct endpoint_options usual = {.tls_verify = -1};
    is_reached(&usual, "a.example.org", "x", "a.example.org/x tls");
    put(s, "config/containers/registries.conf",
        "[[registry]]\nlocation = \"a.example.org\"\ninsecure = true\n"
        "[[registry]]\nlocation = \"b.example.org\"\ninsecure = true\n");
    is_reached(&usual, "a.example.org", "x", "a.example.org/x insecure");
    put(s, "config/containers/registries.conf.d/10.conf",
        "[[registry]]\nprefix = \"a.example.org\"\nlocation = \"ten.example.org\"\n");
    put(s, "config/containers/registries.conf.d/20.conf",
        "[[registry]]\nprefix = \"a.example.org\"\nlocation = \"twenty.example.org\"\n");
    put(s, "config/containers/registries.conf.d/30.conf.off", "nonsense");
    is_reached(&usual, "a.example.org", "x", "twenty.example.org/x tls");
    is_reached(&usual, "b.example.org", "x", "b.example.org/x insecure");

    /* A file that is named, by either way, must be there. */
    struct larder_error e = LARDER_ERROR_INIT;
    struct endpoint *list = NULL;
    size_t n = 0;
    setenv("CONTAINERS_REGISTRIES_CONF", path(s, "none.conf"), 1);
    assert_int_equal(endpoints_find(&usual, "a.example.org", "x", &list, &n, &e), -LARDER_NOENT);
    put(s, "none.conf", "");
    is_reached(&usual, "b.example.org", "x", "b.example.org/x tls");
}

static void refuses(void **state)
{
    struct scratch *s = *state;
    static const struct {
        const char *text;
        const char *says;
    } rows[] = {
        {"[[registry]]\nlocation = example.org\n", "r.conf:2:"},
        {"[[registry]]\nlocation = \"a\"\nlocation = \"b\"\n", "r.conf:3:"},
        {"[[registry]]\nlocation = \"a\" blocked = true\n", "r.conf:2:"},
        {"[[registry]\nlocation = \"a\"\n", "r.conf:1:"},
        {"[registry]\nlocation = \"a\"\n", "r.conf:1: registry"},
        {"\n[[registry]]\nlocation = \"https://a\"\n", "r.conf:2: location"},
        {"\n\n[[registry]]\nblocked = true\n", "r.conf:3: registry"},
        {"[[registry]]\nlocation = \"a\"\nblocked = \"yes\"\n", "r.conf:1: blocked"},
        {"[[registry]]\nlocation = \"a\"\ninsecure = 1\n", "r.conf:1: insecure"},
        {"[[registry]]\nprefix = \"*.a/b\"\n", "r.conf:1: prefix"},
        {"[[registry]]\nprefix = \"a*b\"\n", "r.conf:1: prefix"},
        {"[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\n", "r.conf:3: location"},
        {"[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\nlocation = \"b\"\n"
         "pull-from-mirror = \"never\"\n",
         "r.conf:3: pull-from-mirror"},
        {"[[registry]]\nlocation = \"a\"\nmirror-by-digest-only = true\n[[registry.mirror]]\n"
         "location = \"b\"\npull-from-mirror = \"all\"\n",
         "r.conf:4: pull-from-mirror"},
        {"[registries.block]\nregistries = [\"a\"]\n", "version 2"},
        {"a = \"\"\"x\"\"\"\n", "r.conf:1: strings of several lines"},
        {"a = [1,\n2\n", "r.conf:3:"},
        {"a = \"b\n", "r.conf:1:"},
    };
    put(s, "r.conf", "");
    static char file[200];
    snprintf(file, sizeof(file), "%s", path(s, "r.conf"));
    const struct endpoint_options usual = {.conf = file, .tls_verify = -1};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct endpoint *list = NULL;
        size_t n = 0;
        put(s, "r.conf", rows[i].text);
        assert_int_equal(endpoints_find(&usual, "a.example.org", "x", &list, &n, &e),
                         -LARDER_INVAL);
        if (!strstr(e.msg, rows[i].says))
            print_message("row %zu: %s\n", i, e.msg);
        assert_non_null(strstr(e.msg, rows[i].says));
        assert_null(list);
    }
}

static void certificates(void **state)
{
    struct scratch *s = *state;
    struct larder_error e = LARDER_ERROR_INIT;
    struct endpoint *list = NULL;
    size_t n = 0;
    const struct endpoint_options usual = {.tls_verify = -1};
#define DIR "config/containers/certs.d/r.example.org:5000/"
    put(s, DIR "ca.crt", "x");
    put(s, DIR "b.cert", "x");
    put(s, DIR "b.key", "x");
    put(s, DIR "a.cert", "x");
    put(s, DIR "a.key", "x");
    put(s, DIR "README", "x");
    assert_int_equal(endpoints_find(&usual, "r.example.org:5000", "x", &list, &n, &e), 0);
    assert_non_null(strstr(list[0].certs_dir, "certs.d/r.example.org:5000"));
    assert_non_null(strstr(list[0].client_cert, "/a.cert"));
    assert_non_null(strstr(list[0].client_key, "/a.key"));
    endpoints_free(list, n);
    assert_int_equal(endpoints_find(&usual, "r.example.org", "x", &list, &n, &e), 0);
    assert_null(list[0].certs_dir);
    assert_null(list[0].client_cert);
    endpoints_free(list, n);
    list = NULL;

    assert_int_equal(unlinkat(s->fd, DIR "b.key", 0), 0);
    assert_int_equal(endpoints_find(&usual, "r.example.org:5000", "x", &list, &n, &e),
                     -LARDER_INVAL);
    assert_non_null(strstr(e.msg, "b.cert has no .key"));
    put(s, "certs/c.key", "x");
    struct endpoint_options given = {.tls_verify = -1, .certs = path(s, "certs")};
    assert_int_equal(endpoints_find(&given, "r.example.org", "x", &list, &n, &e), -LARDER_INVAL);
    assert_non_null(strstr(e.msg, "c.key has no .cert"));
    put(s, "certs/c.cert", "x");
    given.certs = path(s, "certs");
    assert_int_equal(endpoints_find(&given, "r.example.org", "x", &list, &n, &e), 0);
    assert_null(list[0].certs_dir); /* no authority in it */
    assert_non_null(list[0].client_cert);
    endpoints_free(list, n);
    given.certs = path(s, "nowhere");
    assert_int_equal(endpoints_find(&given, "r.example.org", "x", &list, &n, &e), -LARDER_NOENT);
}

static void toml(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *json; /* NULL: refused */
    } rows[] = {
        {"", "{}"},
        {"\xef\xbb\xbf"
         "a=1\r\nb = true\r\n",
         "{\"a\":1,\"b\":true}"},
        {"a = \"x\\t\\\"\\u00e9\\U0001F600\"", "{\"a\":\"x\\t\\\"\xc3\xa9\xf0\x9f\x98\x80\"}"},
        {"a = 'x\\t'", "{\"a\":\"x\\\\t\"}"},
        {"a.b.\"c.d\" = 1\na.e = 2", "{\"a\":{\"b\":{\"c.d\":1},\"e\":2}}"},
        {"a = [\n 1, # one\n 'b',\n ]", "{\"a\":[1,\"b\"]}"},
        {"a = [[1],[]]", "{\"a\":[[1],[]]}"},
        {"a = -1.5e3\nb = 1979-05-27T07:32:00Z",
         "{\"a\":\"-1.5e3\",\"b\":\"1979-05-27T07:32:00Z\"}"},
        {"[a]\nb=1\n[a.c]\nd=2", "{\"a\":{\"#line\":1,\"b\":1,\"c\":{\"#line\":3,\"d\":2}}}"},
        {"[a.c]\n[a]\nb=1", "{\"a\":{\"#line\":2,\"b\":1,\"c\":{\"#line\":1}}}"},
        {"[[a]]\n[[a.b]]\nc=1\n[[a]]\n",
         "{\"a\":[{\"#line\":1,\"b\":[{\"#line\":2,\"c\":1}]},{\"#line\":4}]}"},
        {"a = {b = 1, c.d = 2}", "{\"a\":{\"#line\":1,\"b\":1,\"c\":{\"d\":2}}}"},
        {"a = {}", "{\"a\":{\"#line\":1}}"},
        {"a = \"\"", "{\"a\":\"\"}"},
        {"a = 1\na = 2", NULL},
        {"[a]\n[a]", NULL},
        {"a = 1\n[a]", NULL},
        {"a = 1\n[[a]]", NULL},
        {"a = 1\na.b = 2", NULL},
        {"a", NULL},
        {"= 1", NULL},
        {"a = ", NULL},
        {"a = yes", NULL},
        {"a = \"\\x\"", NULL},
        {"a = \"\\ud800\"", NULL},
        {"a = \"\\u0000\"", NULL},
        {"a = \"x\ty\x01\"", NULL},
        {"a = {b = 1", NULL},
        {"a = [1 2]", NULL},
        {"[]", NULL},
        {"a = 'x\xe9'", NULL},
        {"# \xed\xa0\x80", NULL},
        {"[a", NULL},
        {"a = [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct json *doc = NULL;
        struct buf out = BUF_INIT(4096);
        int rc = toml_parse(slice_of(rows[i].text), "t", &doc, &e);
        if (!rows[i].json) {
            assert_int_equal(rc, -LARDER_INVAL);
            assert_null(doc);
            continue;
        }
        if (rc < 0)
            print_message("row %zu: %s\n", i, e.msg);
        assert_int_equal(rc, 0);
        assert_int_equal(json_dump(doc, &out, NULL), 0);
        out.p[out.n - 1] = '\0';
        assert_string_equal(out.p, rows[i].json);
        buf_done(&out);
        json_free(doc);
    }
}

static void hosts(void **state)
{
    (void)state;
    static const struct {
        const char *authority;
        const char *host;
        bool is_loopback;
        bool is_local;
    } rows[] = {
        {"localhost:5000", "localhost", true, true},
        {"LocalHost", "LocalHost", true, true},
        {"a.localhost.", "a.localhost.", true, true},
        {"notlocalhost", "notlocalhost", false, false},
        {"127.255.0.1:1", "127.255.0.1", true, true},
        {"[::1]:80", "::1", true, true},
        {"::1", "::1", true, true},
        {"[::ffff:127.0.0.1]", "::ffff:127.0.0.1", true, true},
        {"[fe80::1%eth0]:80", "fe80::1%eth0", false, true},
        {"169.254.169.254", "169.254.169.254", false, true},
        {"0.0.0.0:80", "0.0.0.0", false, true},
        {"[::]", "::", false, true},
        {"128.0.0.1", "128.0.0.1", false, false},
        {"127.example.org", "127.example.org", false, false},
        {"", "", false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice host = hostname_of(slice_of(rows[i].authority));
        assert_true(slice_equal(host, slice_of(rows[i].host)));
        assert_int_equal(hostname_is_loopback(host), rows[i].is_loopback);
        assert_int_equal(hostname_is_local(host), rows[i].is_local);
    }
    assert_true(slice_equal(hostname_authority("https://u:p@h:1/x@y?z"), SLICE_LIT("h:1")));
    assert_true(slice_equal(hostname_authority("http://[::1]:5?x"), SLICE_LIT("[::1]:5")));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, scratch_teardown)
    static const struct CMUnitTest tests[] = {
        TEST(rewrites),     TEST(verification),     TEST(files_and_drop_ins), TEST(refuses),
        TEST(certificates), cmocka_unit_test(toml), cmocka_unit_test(hosts),
    };

    return cmocka_run_group_tests_name("endpoint", tests, NULL, NULL);
}
