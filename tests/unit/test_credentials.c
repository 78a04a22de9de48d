/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "net/auth/credentials.h"
#include "scratch.h"

/* Every place that is looked into is below the scratch directory. */
static int setup(void **state)
{
    char text[200];
    if (scratch_setup(state) < 0)
        return -1;
    struct scratch *s = *state;
    static const char *const dirs[] = {
        "run", "run/containers", "config", "config/containers", "docker", "bin"};
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        if (mkdirat(s->fd, dirs[i], 0755) < 0)
            return -1;
    snprintf(text, sizeof(text), "%s/run", s->path);
    setenv("XDG_RUNTIME_DIR", text, 1);
    snprintf(text, sizeof(text), "%s/config", s->path);
    setenv("XDG_CONFIG_HOME", text, 1);
    snprintf(text, sizeof(text), "%s/docker", s->path);
    setenv("DOCKER_CONFIG", text, 1);
    setenv("HOME", s->path, 1);
    snprintf(text, sizeof(text), "%s/bin:/usr/bin:/bin", s->path);
    setenv("PATH", text, 1);
    setenv("HELPER_DIR", s->path, 1);
    unsetenv("REGISTRY_AUTH_FILE");
    return 0;
}

static void put(struct scratch *s, const char *name, const char *text)
{
    int fd = openat(s->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
    close(fd);
}

/* The file as it is; the caller frees. */
static char *get(struct scratch *s, const char *name)
{
    struct buf text = BUF_INIT(1 << 20);
    assert_int_equal(file_read(s->fd, name, &text, NULL), 0);
    return buf_take(&text);
}

static const char *path(struct scratch *s, const char *name)
{
    static char text[200];
    snprintf(text, sizeof(text), "%s/%s", s->path, name);
    return text;
}

#define RUN    "run/containers/auth.json"
#define CONFIG "config/containers/auth.json"
#define DOCKER "docker/config.json"

static const struct credential_options usual = {.helper_timeout_ns = 3600 * NS_PER_S};

static void finds(const char *host, const char *repository, const char *user, const char *password)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct credentials c = {0};
    assert_int_equal(credentials_find(&usual, host, repository, &c, &e), 0);
    if (!user) {
        assert_null(c.user);
        assert_null(c.password);
        assert_null(c.source);
    } else {
        assert_non_null(c.user);
        assert_string_equal(c.user, user);
        assert_string_equal(c.password, password);
        assert_non_null(c.source);
    }
    credentials_done(&c);
}

/* base64 of u:p, u2:p2 ... */
#define AUTH_U1 "\"auth\":\"dTE6cDE=\""
#define AUTH_U2 "\"auth\":\"dTI6cDI=\""
#define AUTH_U3 "\"auth\":\"dTM6cDM\"" /* without its padding */

static void order_of_files(void **state)
{
    struct scratch *s = *state;
    finds("example.org", NULL, NULL, NULL);
    put(s, ".dockercfg", "{\"example.org\":{" AUTH_U1 "},\"other.example.org\":{" AUTH_U3 "}}");
    finds("example.org", NULL, "u1", "p1");
    put(s, DOCKER, "{\"auths\":{\"example.org\":{" AUTH_U2 "}}}");
    finds("example.org", NULL, "u2", "p2");
    put(s, CONFIG, "{\"auths\":{\"example.org\":{\"username\":\"u4\",\"password\":\"p4\"}}}");
    finds("example.org", NULL, "u4", "p4");
    put(s, RUN, "{\"auths\":{\"example.org\":{" AUTH_U3 "}}}");
    finds("example.org", NULL, "u3", "p3");
    /* A file that says nothing of the host, or whose entry is empty, does not end the search. */
    put(s, RUN, "{\"auths\":{\"example.org\":{},\"example.com\":{" AUTH_U1 "}}}");
    finds("example.org", NULL, "u4", "p4");
    finds("other.example.org", NULL, "u3", "p3");
    put(s, RUN, "");
    finds("example.org", NULL, "u4", "p4");

    /* A file that is named stands alone, there or not. */
    setenv("REGISTRY_AUTH_FILE", path(s, "mine.json"), 1);
    finds("example.org", NULL, NULL, NULL);
    put(s, "mine.json", "{\"auths\":{\"example.org\":{" AUTH_U1 "}}}");
    finds("example.org", NULL, "u1", "p1");
    struct credential_options options = {.authfile = path(s, DOCKER)};
    struct credentials c = {0};
    assert_int_equal(credentials_find(&options, "example.org", NULL, &c, NULL), 0);
    assert_string_equal(c.user, "u2");
    assert_non_null(strstr(c.source, DOCKER));
    assert_false(c.is_from_helper);
    credentials_done(&c);
}

static void keys(void **state)
{
    struct scratch *s = *state;
    put(s, RUN,
        "{\"auths\":{\"example.org\":{" AUTH_U1 "},\"example.org/ns\":{" AUTH_U2 "},"
        "\"example.org/ns/app\":{" AUTH_U3 "},\"https://v1.example.org/v1/\":{" AUTH_U1 "},"
        "\"http://path.example.org/some/where\":{" AUTH_U1 "},\"v2.example.org/v2/\":{" AUTH_U2 "},"
        "\"example.org:5000\":{" AUTH_U3 "},\"ns.example.org/only\":{" AUTH_U3 "}}}");
    finds("example.org", NULL, "u1", "p1");
    finds("example.org", "other/app", "u1", "p1");
    finds("example.org", "ns/other", "u2", "p2");
    finds("example.org", "nsx/app", "u1", "p1");
    finds("example.org", "ns/app", "u3", "p3");
    finds("example.org", "ns/app/deep/er", "u3", "p3");
    finds("v1.example.org", "a", "u1", "p1");
    finds("path.example.org", "a", "u1", "p1");
    finds("v2.example.org", "a", "u2", "p2");
    finds("example.org:5000", "ns/app", "u3", "p3");
    finds("example.org:5001", NULL, NULL, NULL);
    finds("EXAMPLE.org", NULL, "u1", "p1");
    finds("ns.example.org", "other/x", NULL, NULL);
    finds("ns.example.org", "only/x", "u3", "p3");
    finds("xexample.org", NULL, NULL, NULL);

    static const char *const hub[] = {"https://index.docker.io/v1/", "index.docker.io", "docker.io",
                                      "registry-1.docker.io", "https://docker.io"};
    for (size_t i = 0; i < ARRAY_LEN(hub); i++) {
        char text[200];
        snprintf(text, sizeof(text), "{\"auths\":{\"%s\":{" AUTH_U2 "}}}", hub[i]);
        put(s, RUN, text);
        finds("docker.io", "library/x", "u2", "p2");
        finds("index.docker.io", NULL, "u2", "p2");
        finds("example.org", NULL, NULL, NULL);
    }
}

static void tokens(void **state)
{
    struct scratch *s = *state;
    struct credentials c = {0};
    put(s, RUN,
        "{\"auths\":{\"id.example.org\":{\"auth\":\"PHRva2VuPjo=\",\"identitytoken\":\"idt\"},"
        "\"reg.example.org\":{\"registrytoken\":\"rt\"},"
        "\"user.example.org\":{\"username\":\"<token>\",\"password\":\"secret\"}},"
        "\"HttpHeaders\":{\"X-Mine\":\"1\"}}");
    assert_int_equal(credentials_find(&usual, "id.example.org", NULL, &c, NULL), 0);
    assert_string_equal(c.identity_token, "idt");
    assert_null(c.password);
    credentials_done(&c);
    assert_int_equal(credentials_find(&usual, "reg.example.org", NULL, &c, NULL), 0);
    assert_string_equal(c.registry_token, "rt");
    credentials_done(&c);
    assert_int_equal(credentials_find(&usual, "user.example.org", NULL, &c, NULL), 0);
    assert_string_equal(c.identity_token, "secret");
    assert_null(c.password);
    assert_null(c.user);
    credentials_done(&c);
}

static void bad_files(void **state)
{
    struct scratch *s = *state;
    static const struct {
        const char *text;
        const char *says;
    } rows[] = {
        {"{\"auths\":{\"example.org\":\n{\"auth\":\"dTE6cDE=\"s3cret}}}", "line 2"},
        {"[1]", "auths"},
        {"{\"auths\":[]}", "auths"},
        {"s3cret", RUN},
        {"{\"auths\":{\"example.org\":{\"auth\":\"s3cret!\"}}}", "base64"},
        {"{\"auths\":{\"example.org\":{\"auth\":\"czNjcmV0\"}}}", "example.org"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct credentials c = {0};
        put(s, RUN, rows[i].text);
        assert_int_equal(credentials_find(&usual, "example.org", NULL, &c, &e), -LARDER_CORRUPT);
        assert_non_null(strstr(e.msg, RUN));
        assert_non_null(strstr(e.msg, rows[i].says));
        assert_null(strstr(e.msg, "s3cret"));
        assert_null(strstr(e.msg, "dTE6"));
        assert_null(c.source);
    }
    /* Too large; a directory. */
    struct larder_error e = LARDER_ERROR_INIT;
    struct credentials c = {0};
    assert_int_equal(truncate(path(s, RUN), 2 << 20), 0);
    assert_int_equal(credentials_find(&usual, "example.org", NULL, &c, &e), -LARDER_LIMIT);
    assert_int_equal(unlinkat(s->fd, RUN, 0), 0);
    assert_int_equal(mkdirat(s->fd, RUN, 0700), 0);
    assert_true(credentials_find(&usual, "example.org", NULL, &c, &e) < 0);
    assert_non_null(strstr(e.msg, RUN));
}

/* Answers by a file SERVER in the scratch directory (slashes are _), logs what it is asked. */
static const char helper[] =
    "#!/bin/sh\n"
    "in=$(cat)\n"
    "printf '%s %s\\n' \"$1\" \"$in\" >>\"$HELPER_DIR/helper.log\"\n"
    "[ ! -e \"$HELPER_DIR/helper.slow\" ] || { sleep 1000; exit 0; }\n"
    "[ ! -e \"$HELPER_DIR/helper.bad\" ] || { cat \"$HELPER_DIR/helper.bad\"; exit 1; }\n"
    "case $1 in\n"
    "list) cat \"$HELPER_DIR/helper.list\"; exit ;;\n"
    "store) exit 0 ;;\n"
    "esac\n"
    "f=$HELPER_DIR/key.$(printf %s \"$in\" | tr / _)\n"
    "[ -e \"$f\" ] || { echo 'credentials not found in native keychain'; exit 1; }\n"
    "[ \"$1\" = get ] && cat \"$f\"\n"
    "[ \"$1\" = erase ] && rm \"$f\"\n"
    "exit 0\n";

static void fails(const char *host, int code, const char *says)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct credentials c = {0};
    assert_int_equal(credentials_find(&usual, host, NULL, &c, &e), code);
    if (!strstr(e.msg, says))
        print_message("%s\n", e.msg);
    assert_non_null(strstr(e.msg, says));
    assert_null(strstr(e.msg, "s3cret"));
    assert_null(c.source);
}

static void helpers(void **state)
{
    struct scratch *s = *state;
    struct credentials c = {0};
    put(s, "bin/docker-credential-fake", helper);
    put(s, DOCKER,
        "{\"credsStore\":\"missing\",\"credHelpers\":{\"example.org\":\"fake\","
        "\"https://index.docker.io/v1/\":\"fake\",\"path.example.org\":\"../bin/x\"},"
        "\"auths\":{\"example.org\":{" AUTH_U1 "},\"store.example.org\":{" AUTH_U2 "}}}");

    /* Not found: what the file itself has. */
    finds("example.org", "a/b", "u1", "p1");
    put(s, "key.example.org",
        "{\"ServerURL\":\"example.org\",\"Username\":\"hu\",\"Secret\":\"hp\"}\n");
    finds("example.org", "a/b", "hu", "hp");
    assert_int_equal(credentials_find(&usual, "example.org", NULL, &c, NULL), 0);
    assert_string_equal(c.source, "docker-credential-fake");
    assert_true(c.is_from_helper);
    credentials_done(&c);
    put(s, "key.https:__index.docker.io_v1_", "{\"Username\":\"<token>\",\"Secret\":\"idt\"}");
    assert_int_equal(credentials_find(&usual, "docker.io", "library/x", &c, NULL), 0);
    assert_string_equal(c.identity_token, "idt");
    assert_null(c.user);
    credentials_done(&c);
    put(s, "key.example.org", "{\"ServerURL\":\"\",\"Username\":\"\",\"Secret\":\"\"}");
    finds("example.org", NULL, "u1", "p1");

    /* The store for all others is not there. */
    fails("store.example.org", -LARDER_UNREACHABLE, "docker-credential-missing");
    fails("path.example.org", -LARDER_CORRUPT, "slash");

    put(s, "key.example.org", "{\"Username\":\"s3cret");
    fails("example.org", -LARDER_UNREACHABLE, "docker-credential-fake get");
    put(s, "key.example.org", "[]");
    fails("example.org", -LARDER_UNREACHABLE, "docker-credential-fake get");
    put(s, "helper.bad", "the keychain is locked\x1b[31m\n");
    fails("example.org", -LARDER_UNREACHABLE, "the keychain is locked\\x1b[31m");
    put(s, "helper.bad", "{\"Secret\":\"s3cret\"}");
    fails("example.org", -LARDER_UNREACHABLE, "exit status 1");
    assert_int_equal(unlinkat(s->fd, "helper.bad", 0), 0);

    /* One that hangs is ended. */
    put(s, "helper.slow", "");
    struct credential_options hasty = {.helper_timeout_ns = 300 * NS_PER_MS};
    struct larder_error e = LARDER_ERROR_INIT;
    assert_int_equal(credentials_find(&hasty, "example.org", NULL, &c, &e), -LARDER_UNREACHABLE);
    assert_non_null(strstr(e.msg, "docker-credential-fake"));
}

static void stores(void **state)
{
    struct scratch *s = *state;
    struct stat st;
    char *where = NULL;

    /* Nothing there: containers' place, made for us only. */
    assert_int_equal(unlinkat(s->fd, "run/containers", AT_REMOVEDIR), 0);
    assert_int_equal(credentials_store(&usual, "example.org", "u1", "p1", &where, NULL), 0);
    assert_string_equal(where, path(s, RUN));
    free(where);
    assert_int_equal(fstatat(s->fd, RUN, &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(fstatat(s->fd, "run/containers", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    finds("example.org", NULL, "u1", "p1");

    /* Members of others stay, in their order; the hub has docker's key in docker's file. */
    assert_int_equal(unlinkat(s->fd, RUN, 0), 0);
    put(s, "real.json",
        "{\"zeta\":1,\"auths\":{\"b.example.org\":{" AUTH_U1 ",\"email\":\"x\"},"
        "\"https://example.org/v2/\":{" AUTH_U2 "}},\"HttpHeaders\":{\"A\":\"b\"},\"alpha\":[]}");
    assert_int_equal(symlinkat("../real.json", s->fd, DOCKER), 0);
    assert_int_equal(credentials_store(&usual, "example.org", "u3", "p3", &where, NULL), 0);
    assert_string_equal(where, path(s, DOCKER));
    free(where);
    assert_int_equal(credentials_store(&usual, "docker.io", "u", "p:q", &where, NULL), 0);
    free(where);
    assert_int_equal(credentials_store(&usual, "example.org/ns", "n", "s", &where, NULL), 0);
    free(where);
    assert_int_equal(fstatat(s->fd, DOCKER, &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISLNK(st.st_mode));
    finds("example.org", NULL, "u3", "p3");
    finds("example.org", "ns/a", "n", "s");
    finds("docker.io", "library/a", "u", "p:q");
    finds("b.example.org", NULL, "u1", "p1");
    CLEANUP_FREE char *text = get(s, "real.json");
    const char *const order[] = {"zeta",           "auths",           "b.example.org",
                                 "email",          "\"example.org\"", "https://index.docker.io/v1/",
                                 "example.org/ns", "HttpHeaders",     "alpha"};
    const char *at = text;
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        at = strstr(at, order[i]);
        assert_non_null(at);
    }
    assert_null(strstr(text, "https://example.org/v2/"));
    assert_null(strstr(text, "p3"));

    /* A file that is no JSON is left alone. */
    put(s, "real.json", "{\"auths\":");
    assert_int_equal(credentials_store(&usual, "example.org", "u", "p", &where, NULL),
                     -LARDER_CORRUPT);
    CLEANUP_FREE char *kept = get(s, "real.json");
    assert_string_equal(kept, "{\"auths\":");
}

static void erases(void **state)
{
    struct scratch *s = *state;
    struct larder_error e = LARDER_ERROR_INIT;
    char *where = NULL;
    assert_int_equal(credentials_erase(&usual, "example.org", false, &where, &e), -LARDER_NOENT);
    put(s, RUN, "{\"auths\":{\"x.example.org\":{" AUTH_U1 "},\"example.org/ns\":{" AUTH_U2 "}}}");
    put(s, DOCKER,
        "{\"a\":1,\"auths\":{\"https://example.org/v1/\":{" AUTH_U2 "},\"example.org\":{" AUTH_U1
        "},\"y.example.org\":{" AUTH_U1 "}}}");
    assert_int_equal(credentials_erase(&usual, "example.org", false, &where, &e), 0);
    assert_string_equal(where, path(s, DOCKER));
    free(where);
    where = NULL;
    finds("example.org", NULL, NULL, NULL);
    finds("example.org", "ns/a", "u2", "p2");
    finds("y.example.org", NULL, "u1", "p1");
    assert_int_equal(credentials_erase(&usual, "example.org", false, &where, &e), -LARDER_NOENT);
    assert_non_null(strstr(e.msg, "example.org: not logged in"));
    assert_int_equal(credentials_erase(&usual, "example.org/ns", false, &where, &e), 0);
    free(where);
    finds("example.org", "ns/a", NULL, NULL);
    finds("x.example.org", NULL, "u1", "p1");
    assert_int_equal(credentials_erase(&usual, "", true, &where, &e), 0);
    assert_string_equal(where, path(s, RUN));
    free(where);
    finds("x.example.org", NULL, NULL, NULL);
    CLEANUP_FREE char *text = get(s, DOCKER);
    assert_non_null(strstr(text, "\"a\": 1"));
}

static void changes_by_helper(void **state)
{
    struct scratch *s = *state;
    struct larder_error e = LARDER_ERROR_INIT;
    char *where = NULL;
    put(s, "bin/docker-credential-fake", helper);
    put(s, DOCKER, "{\"credsStore\":\"fake\"}");
    assert_int_equal(credentials_store(&usual, "docker.io", "u", "p\"", &where, &e), 0);
    assert_string_equal(where, "docker-credential-fake");
    free(where);
    CLEANUP_FREE char *log = get(s, "helper.log");
    assert_string_equal(log, "store {\"ServerURL\":\"https://index.docker.io/v1/\","
                             "\"Username\":\"u\",\"Secret\":\"p\\\"\"}\n");
    CLEANUP_FREE char *text = get(s, DOCKER);
    assert_string_equal(text, "{\"credsStore\":\"fake\"}");

    assert_int_equal(credentials_erase(&usual, "example.org", false, &where, &e), -LARDER_NOENT);
    put(s, "key.example.org", "{\"Username\":\"u\",\"Secret\":\"p\"}");
    assert_int_equal(credentials_erase(&usual, "example.org", false, &where, &e), 0);
    assert_string_equal(where, "docker-credential-fake");
    free(where);
    assert_int_equal(faccessat(s->fd, "key.example.org", F_OK, 0), -1);

    put(s, "key.example.org", "{\"Username\":\"u\",\"Secret\":\"p\"}");
    put(s, "key.b.example.org", "{\"Username\":\"u\",\"Secret\":\"p\"}");
    put(s, "helper.list", "{\"example.org\":\"u\",\"b.example.org\":\"u\"}");
    assert_int_equal(credentials_erase(&usual, "", true, &where, &e), 0);
    free(where);
    assert_int_equal(faccessat(s->fd, "key.example.org", F_OK, 0), -1);
    assert_int_equal(faccessat(s->fd, "key.b.example.org", F_OK, 0), -1);

    put(s, "helper.bad", "no");
    assert_int_equal(credentials_store(&usual, "example.org", "u", "p", &where, &e),
                     -LARDER_UNREACHABLE);
    assert_null(strstr(e.msg, "Secret"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, scratch_teardown)
    static const struct CMUnitTest tests[] = {
        TEST(order_of_files), TEST(keys),   TEST(tokens), TEST(bad_files),
        TEST(helpers),        TEST(stores), TEST(erases), TEST(changes_by_helper),
    };

    return cmocka_run_group_tests_name("credentials", tests, NULL, NULL);
}
