/* SPDX-License-Identifier: Apache-2.0 */
/* References and options of an update, read. */
#include <larder/update.h>

#include "store_fixture.h"

#include "base/error.h"
#include "base/mem.h"
#include "update/base/base.h"

#define PIN "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void completes(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *ref, *name;
    } rows[] = {
        {"docker://example.org/os:stable", "docker://example.org/os:stable",
         "example.org/os:stable"},
        {"example.org/os:stable", "docker://example.org/os:stable", "example.org/os:stable"},
        {"example.org/a/b", "docker://example.org/a/b:latest", "example.org/a/b:latest"},
        {"debian", "docker://docker.io/library/debian:latest", "docker.io/library/debian:latest"},
        {"docker://debian:12", "docker://docker.io/library/debian:12",
         "docker.io/library/debian:12"},
        {"docker:27", "docker://docker.io/library/docker:27", "docker.io/library/docker:27"},
        {"index.docker.io/me/app", "docker://docker.io/me/app:latest", "docker.io/me/app:latest"},
        {"localhost:5000/os:1", "docker://localhost:5000/os:1", "localhost:5000/os:1"},
        {"example.org/os:stable@" PIN, "docker://example.org/os:stable@" PIN,
         "example.org/os:stable"},
        {"example.org/os@" PIN, "docker://example.org/os@" PIN, "example.org/os"},
        {"oci:/nowhere/images:a:b", "oci:/nowhere/images:a:b", "/nowhere/images:a:b"},
        {"oci:/nowhere/images", "oci:/nowhere/images", "/nowhere/images"},
        {"oci:/nowhere/images:a@" PIN, "oci:/nowhere/images:a@" PIN, "/nowhere/images:a"},
        {"oci-archive:/nowhere/os.tar:1", "oci-archive:/nowhere/os.tar:1", "/nowhere/os.tar:1"},
        {"oci:/usr/../usr/lib/:x", "oci:/usr/lib:x", "/usr/lib:x"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct update_ask ask;
        int r = update_ask_read(f->store, rows[i].text, NULL, &ask, &e);
        if (r < 0)
            print_error("%s: %s\n", rows[i].text, e.msg);
        assert_int_equal(r, 0);
        assert_string_equal(ask.ref, rows[i].ref);
        assert_string_equal(ask.name, rows[i].name);
        assert_false(ask.is_ostree);
        assert_non_null(ask.options);
        /* What is kept leads to itself. */
        struct update_ask again;
        assert_int_equal(update_ask_read(f->store, ask.ref, NULL, &again, &e), 0);
        assert_string_equal(again.ref, rows[i].ref);
        update_ask_done(&again);
        update_ask_done(&ask);
        update_ask_done(&ask);
    }
}

static void makes_paths_whole(void **state)
{
    struct fixture *f = *state;
    struct update_ask ask;
    char old[512], expected[128];
    assert_non_null(getcwd(old, sizeof(old)));
    assert_int_equal(chdir(f->dir), 0);
    assert_int_equal(update_ask_read(f->store, "oci:x:1", NULL, &ask, &f->e), 0);
    snprintf(expected, sizeof(expected), "oci:%s/x:1", f->dir);
    assert_string_equal(ask.ref, expected);
    assert_string_equal(ask.name, expected + 4);
    update_ask_done(&ask);
    assert_int_equal(update_ask_read(f->store, "oci:none/x:1", NULL, &ask, &f->e), -LARDER_NOENT);
    assert_int_equal(chdir(old), 0);
}

static void refuses_references(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        int code;
        const char *said;
    } rows[] = {
        {NULL, LARDER_INVAL, "no reference"},
        {"", LARDER_INVAL, "empty"},
        {"docker://", LARDER_INVAL, "empty"},
        {"docker:/x", LARDER_INVAL, "docker://"},
        {"https://example.org/os", LARDER_INVAL, "docker://"},
        {"store:os", LARDER_INVAL, "from elsewhere"},
        {"dir:/x", LARDER_UNSUPPORTED, "expected docker://"},
        {"containers-storage:os", LARDER_UNSUPPORTED, "expected docker://"},
        {"example.org/OS", LARDER_INVAL, "lower case"},
        {"example.org/os:", LARDER_INVAL, "tag"},
        {"example.org/os:a b", LARDER_INVAL, "tag"},
        {"example.org/os@sha256:aa", LARDER_INVAL, "digest"},
        {"example.org/os@md5:aa", LARDER_UNSUPPORTED, "digest"},
        {"oci:", LARDER_INVAL, "no path"},
        {"oci:/nowhere/x:-", LARDER_INVAL, "name of an image"},
        {"-rf", LARDER_INVAL, "repository"},
        {"../../etc", LARDER_INVAL, "host"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct update_ask ask = {.name = NULL};
        int r = update_ask_read(f->store, rows[i].text, NULL, &ask, &e);
        if (r != -rows[i].code || !strstr(e.msg, rows[i].said))
            print_error("%s: %d %s\n", rows[i].text ? rows[i].text : "NULL", r, e.msg);
        assert_int_equal(r, -rows[i].code);
        assert_non_null(strstr(e.msg, rows[i].said));
        assert_null(ask.ref);
    }
}

static void reads_names(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *given, *name; /* NULL: refused */
    } rows[] = {
        {"os", "os"},
        {"store:os", "os"},
        {"my/os:stable", "my/os:stable"},
        {"", NULL},
        {"store:", NULL},
        {"os@" PIN, NULL},
        {"o\ns", NULL},
        {"\xff", NULL},
        {"a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/"
         "a/"
         "a/a/a/a/a/a/a/a/a",
         NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_update_options options = LARDER_UPDATE_OPTIONS_INIT;
        struct larder_error e = LARDER_ERROR_INIT;
        struct update_ask ask;
        options.name = rows[i].given;
        int r = update_ask_read(f->store, "example.org/os", &options, &ask, &e);
        assert_int_equal(r, rows[i].name ? 0 : -LARDER_INVAL);
        if (r < 0)
            continue;
        assert_string_equal(ask.name, rows[i].name);
        assert_string_equal(ask.ref, "docker://example.org/os:latest");
        update_ask_done(&ask);
    }
    /* One that is too long by itself. */
    char text[256] = "example.org";
    struct update_ask ask;
    while (strlen(text) < 180)
        strcat(text, "/a");
    error_clear(&f->e);
    assert_int_equal(update_ask_read(f->store, text, NULL, &ask, &f->e), -LARDER_INVAL);
    assert_non_null(strstr(f->e.hint, "name"));
}

static void reads_platforms(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *given, *text; /* NULL: refused */
    } rows[] = {
        {"linux/arm64", "linux/arm64"},
        {"linux/arm64/v8", "linux/arm64"},
        {"linux/x86_64", "linux/amd64"},
        {"linux/arm/v7", "linux/arm/v7"},
        {"", NULL},
        {"a/b/c/d/e", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_update_options options = LARDER_UPDATE_OPTIONS_INIT;
        struct larder_error e = LARDER_ERROR_INIT;
        struct update_ask ask;
        options.platform = rows[i].given;
        int r = update_ask_read(f->store, "example.org/os", &options, &ask, &e);
        assert_int_equal(r, rows[i].text ? 0 : -LARDER_INVAL);
        if (r < 0)
            continue;
        if (i == 0)
            assert_string_equal(ask.platform.architecture, "arm64");
        assert_string_equal(ask.platform_text, rows[i].text);
        update_ask_done(&ask);
    }
    struct update_ask ask;
    assert_int_equal(update_ask_read(f->store, "example.org/os", NULL, &ask, &f->e), 0);
    assert_true(strncmp(ask.platform_text, "linux/", 6) == 0);
    update_ask_done(&ask);
}

/* The text is what the ref of the repository is made of. */
static void keeps_references_of_ostree(void **state __attribute__((unused)))
{
    static const struct {
        const char *text, *ref;
    } rows[] = {
        {"docker://example.org/os:stable", "docker://example.org/os:stable"},
        {"example.org/os", "docker://example.org/os"},
        {"debian", "docker://debian"},
        {"docker://index.docker.io/library/debian:12",
         "docker://index.docker.io/library/debian:12"},
        {"oci:some/dir:1", "oci:some/dir:1"},
        {"example.org/os@" PIN, "docker://example.org/os@" PIN},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_update_options options = LARDER_UPDATE_OPTIONS_INIT;
        struct larder_error e = LARDER_ERROR_INIT;
        struct update_ask ask;
        options.ostree_repo = "/nowhere";
        assert_int_equal(update_ask_read(NULL, rows[i].text, &options, &ask, &e), 0);
        assert_string_equal(ask.ref, rows[i].ref);
        assert_null(ask.name);
        assert_true(ask.is_ostree);
        update_ask_done(&ask);
    }
    struct larder_update_options options = LARDER_UPDATE_OPTIONS_INIT;
    struct update_ask ask;
    options.ostree_repo = "/nowhere";
    assert_int_equal(update_ask_read(NULL, "example.org/OS", &options, &ask, NULL), -LARDER_INVAL);
}

static void refuses_options(void **state)
{
    struct fixture *f = *state;
    struct update_ask ask;
    const struct larder_update_options none = LARDER_UPDATE_OPTIONS_INIT;
    struct larder_update_options options = none;

    assert_int_equal(update_ask_read(NULL, "example.org/os", NULL, &ask, &f->e), -LARDER_INVAL);
    options.size = 1;
    assert_int_equal(update_ask_read(f->store, "example.org/os", &options, &ask, &f->e),
                     -LARDER_INVAL);
    options = none;
    options.ostree_repo = options.sysroot = "/";
    assert_int_equal(update_ask_read(f->store, "example.org/os", &options, &ask, &f->e),
                     -LARDER_INVAL);
    options.sysroot = NULL;
    options.name = "os";
    assert_int_equal(update_ask_read(f->store, "example.org/os", &options, &ask, &f->e),
                     -LARDER_INVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(completes, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(makes_paths_whole, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(refuses_references, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(reads_names, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(reads_platforms, fixture_setup, fixture_teardown),
        cmocka_unit_test(keeps_references_of_ostree),
        cmocka_unit_test_setup_teardown(refuses_options, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests_name("update_ask", tests, NULL, NULL);
}
