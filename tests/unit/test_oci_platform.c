/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "oci/platform.h"

static void format_is(const struct oci_platform *p, const char *expected)
{
    struct buf out = BUF_INIT(1000);

    oci_platform_format(p, &out);
    assert_string_equal(out.p, expected);
    buf_done(&out);
}

/* Rows of containerd's platforms_test.go (TestParseSelector) and the spellings of uname. */
static void parsing(void **state __attribute__((unused)))
{
    static const struct {
        const char *text, *result;
    } rows[] = {
        {"linux/amd64", "linux/amd64"},       {"linux/x86_64", "linux/amd64"},
        {"linux/x86-64", "linux/amd64"},      {"linux/amd64/v1", "linux/amd64"},
        {"linux/amd64/v3", "linux/amd64/v3"}, {"Linux/AMD64", "linux/amd64"},
        {"linux/aarch64", "linux/arm64"},     {"linux/arm64/v8", "linux/arm64"},
        {"linux/arm64/8", "linux/arm64"},     {"linux/arm64/v8.0", "linux/arm64"},
        {"linux/arm64/v9", "linux/arm64/v9"}, {"linux/arm", "linux/arm/v7"},
        {"linux/arm/7", "linux/arm/v7"},      {"linux/arm/v6", "linux/arm/v6"},
        {"linux/armhf", "linux/arm/v7"},      {"linux/armel", "linux/arm/v6"},
        {"linux/i386", "linux/386"},          {"linux/i686", "linux/386"},
        {"linux/s390x", "linux/s390x"},       {"macOS/arm64", "darwin/arm64"},
        {"windows/amd64", "windows/amd64"},   {"unknown/unknown", "unknown/unknown"},
        {"aarch64", "linux/arm64"},           {"x86_64", "linux/amd64"},
        {"ppc64le", "linux/ppc64le"},         {"armv7l", "linux/arm/v7"},
    };
    static const char *const bad[] = {
        "",         "/",          "linux/",        "/amd64",  "linux//v8", "linux/amd64/v1/x",
        "linux/*",  "a b",        "linux/amd64\n", "neither", "linux,arm", "linux(1.0)/amd64",
        "\xc3\xa9", "linux/a%64",
    };
    struct oci_platform p;
    char *text = NULL;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;

        if (oci_platform_parse(rows[i].text, &p, &text, &e) < 0)
            fail_msg("%s: %s", rows[i].text, e.msg);
        format_is(&p, rows[i].result);
        free(text);
        text = NULL;
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (oci_platform_parse(bad[i], &p, &text, NULL) != -LARDER_INVAL)
            fail_msg("%s: taken", bad[i]);
        assert_null(text);
    }
    char longer[200] = "linux/";
    memset(longer + 6, 'a', 32);
    assert_int_equal(oci_platform_parse(longer, &p, &text, NULL), 0);
    free(text);
    text = NULL;
    longer[6 + 32] = 'a';
    assert_int_equal(oci_platform_parse(longer, &p, &text, NULL), -LARDER_INVAL);
}

static void host(void **state __attribute__((unused)))
{
    struct oci_platform h;
    struct oci_platform parsed;
    char *text = NULL;

    oci_platform_host(&h);
    assert_string_equal(h.os, "linux");
    assert_string_not_equal(h.architecture, "unknown");
    assert_int_equal(oci_platform_parse("linux", &parsed, &text, NULL), 0);
    assert_true(oci_platform_matches(&h, &parsed) && oci_platform_matches(&parsed, &h));
    free(text);
}

static void matching(void **state __attribute__((unused)))
{
    static const struct {
        struct oci_platform have, want;
        int distance;
    } rows[] = {
        {{.os = "linux", .architecture = "amd64"}, {.os = "linux", .architecture = "amd64"}, 0},
        {{.os = "linux", .architecture = "x86_64"}, {.os = "linux", .architecture = "amd64"}, 0},
        {{.os = "linux", .architecture = "amd64"}, {.os = "linux", .architecture = "arm64"}, -1},
        {{.os = "windows", .architecture = "amd64"}, {.os = "linux", .architecture = "amd64"}, -1},
        /* arm64 = arm64/v8, arm = arm/v7, amd64 = amd64/v1 */
        {{.os = "linux", .architecture = "arm64", .variant = "v8"},
         {.os = "linux", .architecture = "arm64"},
         0},
        {{.os = "linux", .architecture = "arm64"},
         {.os = "linux", .architecture = "arm64", .variant = "v8"},
         0},
        {{.os = "linux", .architecture = "arm", .variant = "v7"},
         {.os = "linux", .architecture = "arm"},
         0},
        {{.os = "linux", .architecture = "arm", .variant = "v5"},
         {.os = "linux", .architecture = "arm"},
         2},
        {{.os = "linux", .architecture = "arm", .variant = "v7"},
         {.os = "linux", .architecture = "arm", .variant = "v6"},
         -1},
        {{.os = "linux", .architecture = "arm", .variant = "v8"},
         {.os = "linux", .architecture = "arm"},
         -1},
        {{.os = "linux", .architecture = "amd64"},
         {.os = "linux", .architecture = "amd64", .variant = "v3"},
         2},
        {{.os = "linux", .architecture = "amd64", .variant = "v2"},
         {.os = "linux", .architecture = "amd64", .variant = "v3"},
         1},
        {{.os = "linux", .architecture = "amd64", .variant = "v3"},
         {.os = "linux", .architecture = "amd64"},
         -1},
        {{.os = "linux", .architecture = "arm64"},
         {.os = "linux", .architecture = "arm64", .variant = "v9"},
         1},
        {{.os = "linux", .architecture = "arm", .variant = "hf"},
         {.os = "linux", .architecture = "arm"},
         -1},
        /* no other architecture, though it would run */
        {{.os = "linux", .architecture = "386"}, {.os = "linux", .architecture = "amd64"}, -1},
        {{.os = "linux", .architecture = "ppc64le", .variant = "power9"},
         {.os = "linux", .architecture = "ppc64le"},
         1},
        {{.os = "linux", .architecture = "ppc64le"},
         {.os = "linux", .architecture = "ppc64le", .variant = "power9"},
         -1},
        /* what is not asked for */
        {{.os = "linux", .architecture = "s390x"}, {.os = "linux"}, 0},
        {{.os = "plan9", .architecture = "s390x"}, {.architecture = "s390x"}, 0},
        {{.os = "linux"}, {.os = "linux", .architecture = "amd64"}, -1},
        {{.os = "unknown", .architecture = "unknown"},
         {.os = "linux", .architecture = "amd64"},
         -1},
        /* Windows */
        {{.os = "windows", .architecture = "amd64", .os_version = "10.0.17763.316"},
         {.os = "windows", .architecture = "amd64"},
         0},
        {{.os = "windows", .architecture = "amd64", .os_version = "10.0.17763.316"},
         {.os = "windows", .architecture = "amd64", .os_version = "10.0.17763"},
         0},
        {{.os = "windows", .architecture = "amd64", .os_version = "10.0.177631"},
         {.os = "windows", .architecture = "amd64", .os_version = "10.0.17763"},
         -1},
        {{.os = "windows", .architecture = "amd64"},
         {.os = "windows", .architecture = "amd64", .os_version = "10.0.17763"},
         -1},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int distance = oci_platform_distance(&rows[i].have, &rows[i].want);

        if (distance != rows[i].distance)
            fail_msg("row %zu: %d", i, distance);
        assert_int_equal(oci_platform_matches(&rows[i].have, &rows[i].want), distance >= 0);
    }
}

static void order(void **state __attribute__((unused)))
{
    static const struct oci_platform sorted[] = {
        {.architecture = "amd64"},
        {.os = "linux"},
        {.os = "linux", .architecture = "amd64"},
        {.os = "linux", .architecture = "arm", .variant = "v6"},
        {.os = "linux", .architecture = "arm", .variant = "v7"},
        {.os = "linux", .architecture = "arm64"},
        {.os = "windows", .architecture = "amd64", .os_version = "10.0.1"},
        {.os = "windows", .architecture = "amd64", .os_version = "10.0.2"},
    };

    for (size_t i = 0; i < ARRAY_LEN(sorted); i++) {
        for (size_t k = 0; k < ARRAY_LEN(sorted); k++) {
            int r = oci_platform_compare(&sorted[i], &sorted[k]);

            assert_true(i < k ? r < 0 : i > k ? r > 0 : r == 0);
        }
    }
}

static void reading(void **state __attribute__((unused)))
{
    static const char text[] = "{\"architecture\":\"arm64\",\"os\":\"linux\",\"variant\":\"\","
                               "\"os.version\":\"1\",\"os.features\":[\"a\"],\"features\":null}";
    CLEANUP(json_freep) struct json *doc = NULL;
    CLEANUP(json_freep) struct json *empty = NULL;
    struct oci_platform p = {.os = "untouched"};
    char hostile[300];

    assert_int_equal(json_parse(SLICE_LIT("{\"os\":\"\",\"architecture\":1}"), 100, &empty, NULL),
                     0);
    assert_false(oci_platform_read(empty, &p));
    assert_false(oci_platform_read(NULL, &p));
    assert_string_equal(p.os, "untouched");
    assert_int_equal(json_parse(slice_of(text), sizeof(text), &doc, NULL), 0);
    assert_true(oci_platform_read(doc, &p));
    assert_string_equal(p.os, "linux");
    assert_null(p.variant);
    assert_null(p.features);
    assert_string_equal(p.os_version, "1");
    assert_int_equal(json_length(p.os_features), 1);
    format_is(&p, "linux/arm64");
    /* Names of any length and content are looked at, and shown without harm. */
    memset(hostile, '8', sizeof(hostile));
    hostile[sizeof(hostile) - 1] = '\0';
    p = (struct oci_platform){.os = hostile, .architecture = "arm64", .variant = hostile};
    assert_int_equal(oci_platform_distance(&p, &p), -1);
    p = (struct oci_platform){.os = "\x1b[2J", .variant = "\n"};
    format_is(&p, "\\x1b[2J/unknown/\\x0a");
}

static void uname_names(void **state __attribute__((unused)))
{
    assert_string_equal(platform_arch_to_uname("amd64"), "x86_64");
    assert_string_equal(platform_arch_to_uname("arm64"), "aarch64");
    assert_string_equal(platform_arch_to_uname("s390x"), "s390x");
    assert_string_equal(platform_arch_from_uname("x86_64"), "amd64");
    assert_string_equal(platform_arch_from_uname("aarch64"), "arm64");
    assert_string_equal(platform_arch_from_uname("ppc64le"), "ppc64le");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parsing), cmocka_unit_test(host),    cmocka_unit_test(matching),
        cmocka_unit_test(order),   cmocka_unit_test(reading), cmocka_unit_test(uname_names),
    };

    return cmocka_run_group_tests_name("oci_platform", tests, NULL, NULL);
}
