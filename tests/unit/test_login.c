/* SPDX-License-Identifier: Apache-2.0 */
/* larder_login, larder_logout and larder_login_get against the scripted registry. */
#include "registry_server.h"

#include <sys/stat.h>

#include <larder/registry.h>

static struct registry_server server;
static char host[64];
static char authfile[100];

static struct larder_registry_options options_of(const char *user, const char *password)
{
    struct larder_registry_options options = LARDER_REGISTRY_OPTIONS_INIT;
    options.authfile = authfile;
    options.user = user;
    options.password = password;
    return options;
}

static void in_and_out(void **state)
{
    (void)state;
    static const char *const kinds[] = {"basic", "bearer"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct larder_registry_options right = options_of("user", "secret");
        struct larder_registry_options wrong = options_of("user", "secret2");
        struct larder_registry_options none = options_of(NULL, NULL);
        struct larder_error e = LARDER_ERROR_INIT;
        char settings[100];
        char *where = NULL;
        char *user = NULL;
        snprintf(settings, sizeof(settings), "{\"auth\":\"%s\"}", kinds[i]);
        registry_server_set(&server, settings);
        unlink(authfile);

        assert_int_equal(larder_login(host, &wrong, &where, &e), -LARDER_AUTH);
        assert_null(strstr(e.msg, "secret2"));
        assert_int_equal(access(authfile, F_OK), -1);
        assert_int_equal(larder_login_get(host, &none, &user, &e), -LARDER_NOENT);
        assert_int_equal(larder_logout(host, &none, &where, &e), -LARDER_NOENT);
        assert_int_equal(larder_login(host, &right, &where, &e), 0);
        assert_string_equal(where, authfile);
        free(where);
        where = NULL;
        struct stat st;
        assert_int_equal(stat(authfile, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(larder_login_get(host, &none, &user, &e), 0);
        assert_string_equal(user, "user");
        free(user);
        user = NULL;
        assert_int_equal(larder_logout(host, &none, &where, &e), 0);
        free(where);
        where = NULL;
        assert_int_equal(larder_login_get(host, &none, &user, &e), -LARDER_NOENT);
    }
}

static void arguments(void **state)
{
    (void)state;
    static const char *const keys[] = {"",    "/a",  "https://example.org", "example.org/",
                                       "a b", "a@b", "example.org//a",      "a\n"};
    struct larder_registry_options right = options_of("user", "secret");
    struct larder_error e = LARDER_ERROR_INIT;
    char *where = NULL;
    char *user = NULL;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        assert_int_equal(larder_login(keys[i], &right, &where, &e), -LARDER_INVAL);
        assert_int_equal(larder_logout(keys[i], &right, &where, &e), -LARDER_INVAL);
        assert_int_equal(larder_login_get(keys[i], &right, &user, &e), -LARDER_INVAL);
    }
    struct larder_registry_options half = options_of("user", NULL);
    assert_int_equal(larder_login(host, &half, &where, &e), -LARDER_INVAL);
    struct larder_registry_options colon = options_of("us:er", "secret");
    assert_int_equal(larder_login(host, &colon, &where, &e), -LARDER_INVAL);
    right.size = 7;
    assert_int_equal(larder_login(host, &right, &where, &e), -LARDER_INVAL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(in_and_out),
                                              cmocka_unit_test(arguments)};
    if (!registry_server_is_possible())
        return 0;
    registry_server_start(&server, false);
    snprintf(host, sizeof(host), "127.0.0.1:%d", server.port);
    snprintf(authfile, sizeof(authfile), "%s/auth.json", server.dir);
    int rc = cmocka_run_group_tests_name("login", tests, NULL, NULL);
    registry_server_stop(&server);
    return rc;
}
