/* SPDX-License-Identifier: Apache-2.0 */
/* Authorization against the scripted registry and its token server. */
#include <errno.h>
#include <pthread.h>

#include "registry_server.h"

#include "base/clock.h"
#include "net/auth/auth.h"
#include "net/auth/auth_token.h"
#include "net/http/hostname.h"

static struct registry_server server;

struct fixture {
    struct auth *auth;
    struct http_client *client;
    char host[64];
    int challenged; /* 401s that were answered */
};

static void with(struct fixture *f, const struct auth_options *options, const char *settings)
{
    const struct http_options http = {.no_netrc = true, .retries = 3, .retry_wait_ns = NS_PER_MS};
    registry_server_set(&server, settings);
    *f = (struct fixture){0};
    snprintf(f->host, sizeof(f->host), "127.0.0.1:%d", server.port);
    assert_int_equal(auth_new(options, &f->auth, NULL), 0);
    assert_int_equal(http_client_new(&http, &f->client, NULL), 0);
}

static void done(struct fixture *f)
{
    auth_free(f->auth);
    http_client_free(f->client);
}

static const struct auth_options as_user = {.user = "user", .password = "secret"};
static const struct auth_options nobody = {.is_anonymous = true};

/* What the registry store does: asks, answers 401s twice. Status, or a negative code. */
static int ask_with(struct fixture *f, enum http_method method, const char *path,
                    const struct auth_scope *scope, bool renew, struct larder_error *e)
{
    char url[300];
    char *sent = NULL;
    int status = 0;
    snprintf(url, sizeof(url), "http://%s%s", f->host, path);
    int rc = auth_renew(f->auth, renew ? f->client : NULL, scope, &sent, e);
    for (int round = 0; rc == 0; round++) {
        struct http_request request = {.method = method, .url = url, .authorization = sent};
        struct http_response response = {0};
        char *next = NULL;
        rc = http_perform(f->client, &request, &response, e);
        status = rc < 0 ? rc : response.status;
        status = status == 404 ? 200 : status; /* let in; there are no repositories */
        bool again = rc == 0 && status == 401 && round < 2;
        if (again) {
            rc = auth_challenged(f->auth, f->client, url, &response, scope, sent, &next, e);
            status = rc;
        }
        http_response_done(&response);
        free(sent);
        sent = next;
        if (!again)
            break;
        f->challenged++;
    }
    free(sent);
    if (e)
        assert_null(strstr(e->msg, "secret"));
    return status;
}

static int ask(struct fixture *f, const char *repository, const char *actions,
               struct larder_error *e)
{
    char path[300];
    struct auth_scope scope = {.host = f->host, .repository = repository, .actions = actions};
    snprintf(path, sizeof(path), "/v2/%s/tags/list", repository);
    return ask_with(f, HTTP_GET, path, &scope, false, e);
}

static int count(const char *text)
{
    return registry_server_count(&server, text);
}

#define TOKEN_OK " 200 "

static void tokens_by_get(void **state)
{
    (void)state;
    static const char *const settings[] = {
        "{\"auth\":\"bearer\"}",
        "{\"auth\":\"bearer\",\"challenge\":\"bare\"}",
        "{\"auth\":\"bearer\",\"challenge\":\"upper\"}",
        "{\"auth\":\"bearer\",\"challenge\":\"list\"}",
        "{\"auth\":\"bearer\",\"challenge\":\"headers\"}",
        "{\"auth\":\"bearer\",\"token_key\":\"access_token\"}",
        "{\"auth\":\"bearer\",\"token_key\":\"both\",\"token_life\":null,\"token_really\":3600}",
        "{\"auth\":\"bearer\",\"token_life\":1,\"token_really\":3600}",
        "{\"auth\":\"bearer\",\"token_at\":\"other\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        struct fixture f;
        with(&f, &as_user, settings[i]);
        assert_int_equal(ask(&f, "a/b", "pull", NULL), 200);
        assert_int_equal(ask(&f, "a/b", "pull", NULL), 200);
        assert_int_equal(f.challenged, 1);
        assert_int_equal(count("/token?"), 1);
        assert_int_equal(count("service=fake&scope=repository%3Aa%2Fb%3Apull&account=user&"
                               "client_id=larder"),
                         1);
        assert_int_equal(count("basic"), 1); /* to the token server only */
        /* More rights need another token; fewer do not. */
        assert_int_equal(ask(&f, "a/b", "pull,push", NULL), 200);
        assert_int_equal(count("GET /token?"), 2);
        assert_int_equal(ask(&f, "a/b", "push", NULL), 200);
        assert_int_equal(count("GET /token?"), 2);
        done(&f);
    }
}

static void renewed_before(void **state)
{
    (void)state;
    struct fixture f;
    with(&f, &as_user, "{\"auth\":\"bearer\"}");
    struct auth_scope scope = {.host = f.host, .repository = "a/b", .actions = "pull"};
    struct auth_scope other = {.host = f.host, .repository = "c/d", .actions = "pull,push"};
    /* Nothing is known: nothing is asked. */
    assert_int_equal(ask_with(&f, HTTP_GET, "/v2/a/b/tags/list", &scope, true, NULL), 200);
    assert_int_equal(f.challenged, 1);
    assert_int_equal(ask_with(&f, HTTP_GET, "/v2/c/d/tags/list", &other, true, NULL), 200);
    assert_int_equal(f.challenged, 1);
    assert_int_equal(count("/token?"), 2);
    done(&f);
}

/* A token that ends early (or is revoked) is replaced, once. */
static void token_ends(void **state)
{
    (void)state;
    struct fixture f;
    with(&f, &as_user, "{\"auth\":\"bearer\"}");
    assert_int_equal(ask(&f, "a/b", "pull", NULL), 200);
    assert_int_equal(ask(&f, "a/b", "pull", NULL), 200);
    registry_server_set(&server, "{\"auth\":\"bearer\"}"); /* forgets its tokens */
    assert_int_equal(ask(&f, "a/b", "pull", NULL), 200);
    assert_int_equal(count("/token?"), 1);
    /* All new ones are refused: an end must come. */
    registry_server_set(&server, "{\"auth\":\"bearer\",\"token_really\":0}");
    struct larder_error e = LARDER_ERROR_INIT;
    assert_int_equal(ask(&f, "a/b", "pull", &e), -LARDER_AUTH);
    assert_true(count("/token?") <= 2);
    done(&f);
}

static void rights_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct larder_error e = LARDER_ERROR_INIT;
    with(&f, &as_user, "{\"auth\":\"bearer\",\"scope_denied\":[\"a/b\"]}");
    assert_int_equal(ask(&f, "a/b", "pull", &e), -LARDER_AUTH);
    assert_int_equal(count("/token?"), 1);
    assert_non_null(strstr(e.msg, "a/b"));
    done(&f);

    with(&f, &nobody, "{\"auth\":\"bearer\",\"anonymous\":\"pull\"}");
    assert_int_equal(ask(&f, "a/b", "pull", &e), 200);
    assert_int_equal(ask(&f, "a/b", "pull,push", &e), 200);
    assert_int_equal(count("basic"), 0);
    done(&f);

    /* Wrong password. */
    struct auth_options wrong = {.user = "user", .password = "secret2"};
    with(&f, &wrong, "{\"auth\":\"bearer\"}");
    assert_int_equal(ask(&f, "a/b", "pull", &e), -LARDER_AUTH);
    assert_non_null(strstr(e.msg, "401"));
    assert_int_equal(count("/token?"), 1);
    done(&f);
}

/* The scope of the challenge counts, too: what we did not think of. */
static void scope_of_challenge(void **state)
{
    (void)state;
    struct fixture f;
    with(&f, &as_user, "{\"auth\":\"bearer\"}");
    struct auth_scope none = {.host = f.host};
    assert_int_equal(ask_with(&f, HTTP_GET, "/v2/a/b/tags/list", &none, false, NULL), 200);
    assert_int_equal(count("scope=repository%3Aa%2Fb%3Apull"), 1);
    done(&f);
}

static void mounts(void **state)
{
    (void)state;
    struct fixture f;
    with(&f, &as_user, "{\"auth\":\"bearer\"}");
    struct auth_scope scope = {
        .host = f.host, .repository = "z/dst", .actions = "pull,push", .from = "a/src"};
    assert_int_equal(ask_with(&f, HTTP_GET, "/v2/z/dst/tags/list", &scope, false, NULL), 200);
    assert_int_equal(count("scope=repository%3Aa%2Fsrc%3Apull&"
                           "scope=repository%3Az%2Fdst%3Apull%2Cpush"),
                     1);
    /* It covers the destination alone; for the source another is asked for. */
    assert_int_equal(ask(&f, "z/dst", "pull", NULL), 200);
    assert_int_equal(count("/token?"), 1);
    assert_int_equal(ask(&f, "a/src", "pull", NULL), 200);
    assert_int_equal(count("/token?"), 2);
    done(&f);

    struct larder_error e = LARDER_ERROR_INIT;
    with(&f, &as_user, "{\"auth\":\"bearer\",\"token_refuses\":[\"a/src\"]}");
    assert_int_equal(ask_with(&f, HTTP_GET, "/v2/z/dst/tags/list", &scope, false, &e),
                     -LARDER_AUTH);
    scope.from = NULL;
    assert_int_equal(ask_with(&f, HTTP_GET, "/v2/z/dst/tags/list", &scope, false, &e), 200);
    done(&f);
}

static void basic(void **state)
{
    (void)state;
    struct fixture f;
    struct larder_error e = LARDER_ERROR_INIT;
    with(&f, &as_user, "{\"auth\":\"basic\"}");
    assert_int_equal(ask(&f, "a/b", "pull", &e), 200);
    assert_int_equal(ask(&f, "c/d", "pull", &e), 200);
    assert_int_equal(f.challenged, 1);
    done(&f);

    struct auth_options wrong = {.user = "user", .password = "secret2"};
    with(&f, &wrong, "{\"auth\":\"basic\"}");
    assert_int_equal(ask(&f, "a/b", "pull", &e), -LARDER_AUTH);
    assert_int_equal(count("basic"), 1); /* not twice: some lock the account */
    assert_non_null(strstr(e.msg, "refused"));
    done(&f);

    with(&f, &nobody, "{\"auth\":\"basic\"}");
    assert_int_equal(ask(&f, "a/b", "pull", &e), -LARDER_AUTH);
    assert_non_null(strstr(e.hint, "larder login 127.0.0.1"));
    done(&f);
}

static void without_challenge(void **state)
{
    (void)state;
    struct fixture f;
    struct larder_error e = LARDER_ERROR_INIT;
    /* Only /v2/ has the header. */
    with(&f, &as_user,
         "{\"auth\":\"bearer\",\"rules\":[{\"match\":\"GET /v2/a\",\"status\":401,"
         "\"times\":1}]}");
    assert_int_equal(ask(&f, "a/b", "pull", &e), 200);
    assert_int_equal(count("GET /v2/ 401"), 1);
    done(&f);
    with(&f, &as_user, "{\"auth\":\"bearer\",\"challenge\":\"none\"}");
    assert_int_equal(ask(&f, "a/b", "pull", &e), -LARDER_AUTH);
    done(&f);
}

static void ready_token(void **state)
{
    (void)state;
    struct fixture f;
    struct larder_error e = LARDER_ERROR_INIT;
    struct auth_options options = {.registry_token = "secret-token"};
    with(&f, &options, "{\"auth\":\"bearer\",\"service\":\"x\"}");
    assert_int_equal(ask(&f, "a/b", "pull", &e), -LARDER_AUTH); /* it knows no such token */
    assert_int_equal(count("bearer"), 1);
    assert_int_equal(count("/token"), 0);
    done(&f);
}

/* What a file says: an identity token is exchanged by POST. */
static void file_of(struct fixture *f, const char *entry, const char *settings)
{
    static char path[100];
    char text[500];
    snprintf(path, sizeof(path), "%s/auth.json", server.dir);
    int n = snprintf(text, sizeof(text), "{\"auths\":{\"127.0.0.1:%d\":%s}}", server.port, entry);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, text, (size_t)n), 0);
    close(fd);
    const struct auth_options options = {.files = {.authfile = path}};
    with(f, &options, settings);
}

static void tokens_by_post(void **state)
{
    (void)state;
    struct fixture f;
    struct larder_error e = LARDER_ERROR_INIT;
    const char *entry = "{\"identitytoken\":\"secret-identity\"}";
    file_of(&f, entry, "{\"auth\":\"bearer\",\"identity_token\":\"secret-identity\"}");
    assert_int_equal(ask(&f, "a/b", "pull,push", &e), 200);
    assert_int_equal(count("POST /token "
                           "200"),
                     1);
    assert_int_equal(count("GET /token"), 0);
    done(&f);

    static const int refusals[] = {404, 405};
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        char settings[200];
        snprintf(settings, sizeof(settings),
                 "{\"auth\":\"bearer\",\"token_post\":%d,\"user\":\"<token>\","
                 "\"password\":\"secret-identity\"}",
                 refusals[i]);
        file_of(&f, entry, settings);
        assert_int_equal(ask(&f, "a/b", "pull", &e), 200);
        assert_int_equal(count("POST /token"), 1);
        assert_int_equal(count("GET /token?"), 1);
        done(&f);
    }

    file_of(&f, entry, "{\"auth\":\"bearer\",\"identity_token\":\"other\"}");
    assert_int_equal(ask(&f, "a/b", "pull", &e), -LARDER_AUTH);
    assert_int_equal(count("GET /token?"), 0);
    assert_non_null(strstr(e.hint, "auth.json"));
    done(&f);
}

static void failing_token_server(void **state)
{
    (void)state;
    static const struct {
        const char *rule;
        int result;
        int requests;
        const char *says;
    } rows[] = {
        {"\"status\":503,\"times\":2", 200, 3, ""},
        {"\"status\":429,\"times\":1,\"retry_after\":\"1\"", 200, 2, ""},
        {"\"drop\":true,\"times\":1", 200, 2, ""},
        {"\"status\":503", -LARDER_UNREACHABLE, 4, "status 503"},
        {"\"status\":403,\"text\":\"{\\\"details\\\":\\\"no such user\\\"}\"", -LARDER_AUTH, 1,
         "no such user"},
        {"\"status\":404", -LARDER_AUTH, 1, "status 404"},
        {"\"status\":200,\"text\":\"secret\"", -LARDER_PROTO, 1, "token reply"},
        {"\"status\":200,\"text\":\"{}\"", -LARDER_PROTO, 1, "token reply"},
        {"\"status\":302,\"headers\":{\"Location\":\"ftp://example.org\"}", -LARDER_PROTO, 1, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fixture f;
        struct larder_error e = LARDER_ERROR_INIT;
        char settings[400];
        snprintf(settings, sizeof(settings),
                 "{\"auth\":\"bearer\",\"rules\":[{\"match\":\"/token\",%s}]}", rows[i].rule);
        with(&f, &as_user, settings);
        int result = ask(&f, "a/b", "pull", &e);
        if (result != rows[i].result)
            print_message("row %zu: %s\n", i, e.msg);
        assert_int_equal(result, rows[i].result);
        assert_int_equal(count("/token"), rows[i].requests);
        assert_non_null(strstr(e.msg, rows[i].says));
        done(&f);
    }

    /* A body that never ends. */
    struct fixture f;
    struct larder_error e = LARDER_ERROR_INIT;
    struct buf settings = BUF_INIT(4 << 20);
    buf_puts(&settings, "{\"auth\":\"bearer\",\"rules\":[{\"match\":\"/token\",\"text\":\"");
    for (int i = 0; i < (1 << 20) + 100; i++)
        buf_putc(&settings, 'x');
    buf_puts(&settings, "\"}]}");
    with(&f, &as_user, settings.p);
    assert_int_equal(ask(&f, "a/b", "pull", &e), -LARDER_LIMIT);
    done(&f);
    buf_done(&settings);
}

/* A redirect of the token server to another origin gets neither password nor token. */
static void redirects_of_realm(void **state)
{
    (void)state;
    struct fixture f;
    struct larder_error e = LARDER_ERROR_INIT;
    char settings[400];
    snprintf(
        settings, sizeof(settings),
        "{\"auth\":\"bearer\",\"anonymous\":\"pull\",\"identity_token\":\"secret-identity\","
        "\"rules\":[{\"match\":\"/token\",\"status\":307,\"times\":1,"
        "\"headers\":{\"Location\":\"http://localhost:%d/token?scope=repository:a/b:pull\"}}]}",
        server.other_port);
    with(&f, &as_user, settings);
    (void)ask(&f, "a/b", "pull", &e);
    assert_int_equal(count(" other"), 1);
    assert_int_equal(count("basic"), 1);
    assert_int_equal(count("307 0 0 basic"), 1);
    done(&f);

    file_of(&f, "{\"identitytoken\":\"secret-identity\"}", settings);
    assert_int_equal(ask(&f, "a/b", "pull", &e), -LARDER_PROTO);
    assert_int_equal(count(" other"), 0);
    done(&f);
}

/* --creds are the registry's, not those of its mirrors; a file's go to the host they are for. */
static void whose_credentials(void **state)
{
    (void)state;
    struct fixture f;
    struct larder_error e = LARDER_ERROR_INIT;
    with(&f, &as_user, "{\"auth\":\"basic\"}");
    setenv("REGISTRY_AUTH_FILE", "/nonexistent/auth.json", 1);
    struct auth_scope mirror = {
        .host = f.host, .repository = "a/b", .actions = "pull", .is_mirror = true};
    assert_int_equal(ask_with(&f, HTTP_GET, "/v2/a/b/tags/list", &mirror, false, &e), -LARDER_AUTH);
    assert_int_equal(count("basic"), 0);
    assert_int_equal(ask(&f, "a/b", "pull", &e), 200);
    /* Now that the registry is known to want Basic, the mirror still gets none. */
    char *header = NULL;
    assert_int_equal(auth_renew(f.auth, NULL, &mirror, &header, &e), 0);
    assert_string_equal(header, "");
    free(header);
    struct auth_scope other = {.host = "example.org", .repository = "a/b", .actions = "pull"};
    assert_int_equal(auth_renew(f.auth, NULL, &other, &header, &e), 0);
    assert_string_equal(header, "");
    free(header);
    unsetenv("REGISTRY_AUTH_FILE");
    done(&f);
}

static void realms(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        const char *realm;
        bool has_secrets;
        int rc;
    } rows[] = {
        {"https://r.example.org/v2/", "https://auth.example.com/token", true, 0},
        {"https://r.example.org/v2/", "http://auth.example.com/token", true, -LARDER_UNSAFE},
        {"https://r.example.org/v2/", "http://r.example.org/token", true, -LARDER_UNSAFE},
        {"https://r.example.org/v2/", "http://auth.example.com/token", false, 0},
        {"http://r.example.org/v2/", "http://auth.example.com/token", true, 0},
        {"https://r.example.org/v2/", "/token", true, -LARDER_PROTO},
        {"https://r.example.org/v2/", "file:///etc/passwd", false, -LARDER_PROTO},
        {"https://r.example.org/v2/", "https://a b/", false, -LARDER_PROTO},
        {"https://r.example.org/v2/", "http://169.254.169.254/latest", false, -LARDER_UNSAFE},
        {"https://r.example.org/v2/", "https://[fe80::1]/", false, -LARDER_UNSAFE},
        {"https://r.example.org/v2/", "https://[::ffff:127.0.0.1]/", false, -LARDER_UNSAFE},
        {"https://r.example.org/v2/", "https://127.1:8443/", false, -LARDER_UNSAFE},
        {"https://r.example.org/v2/", "https://2130706433/", false, -LARDER_UNSAFE},
        {"https://r.example.org/v2/", "https://x@localhost/", false, -LARDER_UNSAFE},
        {"https://r.example.org/v2/", "https://a.localhost./", false, -LARDER_UNSAFE},
        {"https://localhost:5000/v2/", "https://127.0.0.1:5001/token", true, 0},
        {"http://169.254.1.1/v2/", "http://169.254.1.1:81/token", true, 0},
        {"https://10.0.0.1/v2/", "https://10.0.0.2/token", true, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        int rc = token_realm_check("r", rows[i].url, rows[i].realm, rows[i].has_secrets, &e);
        if (rc != rows[i].rc)
            print_message("row %zu: %s\n", i, e.msg);
        assert_int_equal(rc, rows[i].rc);
    }
}

/* ---- threads ---- */

#define THREADS 16

struct lane {
    struct fixture *f;
    pthread_barrier_t *barrier;
    int status;
};

static void *run_lane(void *arg)
{
    struct lane *lane = arg;
    struct fixture own = *lane->f;
    const struct http_options http = {.no_netrc = true, .retries = 0};
    own.client = NULL;
    if (http_client_new(&http, &own.client, NULL) < 0)
        return NULL;
    pthread_barrier_wait(lane->barrier);
    lane->status = ask(&own, "a/b", "pull", NULL);
    http_client_free(own.client);
    return NULL;
}

static void run_lanes(struct fixture *f, int status)
{
    pthread_t threads[THREADS];
    struct lane lanes[THREADS];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        lanes[i] = (struct lane){f, &barrier, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, run_lane, &lanes[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(lanes[i].status, status);
    }
    pthread_barrier_destroy(&barrier);
}

static void one_fetch_for_all(void **state)
{
    (void)state;
    struct fixture f;
    with(&f, &as_user, "{\"auth\":\"bearer\",\"rules\":[{\"match\":\"/token\",\"delay\":0.3}]}");
    run_lanes(&f, 200);
    assert_int_equal(count("/token?"), 1);
    /* The token is gone: one more, for all. */
    registry_server_set(&server,
                        "{\"auth\":\"bearer\",\"rules\":[{\"match\":\"/token\",\"delay\":0.3}]}");
    run_lanes(&f, 200);
    assert_int_equal(count("/token?"), 1);
    done(&f);

    /* So is a failure. */
    /* Whoever comes when it is over asks for himself: a slow machine is given more time to come. */
    static const char *const delays[] = {"0.5", "2", "8", "30"};
    int n = 0;
    for (size_t i = 0; i < ARRAY_LEN(delays) && n != 1; i++) {
        char settings[128];
        snprintf(settings, sizeof(settings),
                 "{\"auth\":\"bearer\",\"rules\":[{\"match\":\"/token\",\"delay\":%s,"
                 "\"status\":403}]}",
                 delays[i]);
        with(&f, &as_user, settings);
        run_lanes(&f, -LARDER_AUTH);
        n = count("/token?");
        done(&f);
    }
    assert_int_equal(n, 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(realms),
        cmocka_unit_test(tokens_by_get),
        cmocka_unit_test(renewed_before),
        cmocka_unit_test(token_ends),
        cmocka_unit_test(rights_refused),
        cmocka_unit_test(scope_of_challenge),
        cmocka_unit_test(mounts),
        cmocka_unit_test(basic),
        cmocka_unit_test(without_challenge),
        cmocka_unit_test(ready_token),
        cmocka_unit_test(tokens_by_post),
        cmocka_unit_test(failing_token_server),
        cmocka_unit_test(redirects_of_realm),
        cmocka_unit_test(whose_credentials),
        cmocka_unit_test(one_fetch_for_all),
    };
    if (!registry_server_is_possible())
        return 0;
    unsetenv("REGISTRY_AUTH_FILE");
    registry_server_start(&server, false);
    int rc = cmocka_run_group_tests_name("auth", tests, NULL, NULL);
    registry_server_stop(&server);
    return rc;
}
