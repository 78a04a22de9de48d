/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/fdio.h"
#include "publish/cosa_build.h"
#include "scratch.h"

#define SUM  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SUM2 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static const struct larder_observer silent;

static void put(struct scratch *s, const char *path, const char *text)
{
    char whole[300];
    snprintf(whole, sizeof(whole), "%s/%s", s->path, path);
    *strrchr(whole, '/') = 0;
    assert_int_equal(path_make(whole, 0755, NULL), 0);
    assert_int_equal(file_write_atomic(s->fd, path, text, strlen(text), 0644, NULL), 0);
}

static void put_builds(struct scratch *s)
{
    put(s, "builds/builds.json",
        "{\"schema-version\":\"1.0.0\",\"builds\":["
        "{\"id\":\"2.0\",\"arches\":[\"x86_64\",\"aarch64\"]},"
        "{\"id\":\"1.0\",\"arches\":[\"x86_64\"]}],\"tags\":[],\"timestamp\":\"t\"}");
    put(s, "builds/2.0/x86_64/meta.json",
        "{\"images\":{\"ostree\":{\"path\":\"a.ociarchive\",\"sha256\":\"" SUM "\",\"size\":5},"
        "\"oci-manifest\":{\"path\":\"m.json\",\"sha256\":\"" SUM2 "\"},"
        "\"kubevirt\":{\"path\":\"k.ociarchive\",\"sha256\":\"" SUM "\"}}}");
    put(s, "builds/2.0/aarch64/meta.json",
        "{\"images\":{\"ostree\":{\"path\":\"b.ociarchive\",\"sha256\":\"" SUM "\"}}}");
    put(s, "builds/1.0/x86_64/meta.json", "{\"images\":{\"ostree\":{}}}");
}

struct heard {
    char lines[1000];
};

static void hear(void *arg, const char *text)
{
    struct heard *heard = arg;
    size_t n = strlen(heard->lines);
    snprintf(heard->lines + n, sizeof(heard->lines) - n, "%s\n", text);
}

static int open_build(struct scratch *s, const char *build, const char *artifact,
                      const char *const *arches, size_t n, struct heard *heard,
                      struct cosa_build **ret)
{
    struct cosa_query query = {s->path, build, artifact, "key", arches, n, &silent, hear, heard};
    struct larder_error e = LARDER_ERROR_INIT;
    int r = cosa_build_open(&query, ret, &e);
    assert_true((r < 0) == (e.code != LARDER_OK));
    assert_true((r < 0) == (*ret == NULL));
    return r;
}

static void whole_build(void **state)
{
    struct scratch *s = *state;
    struct cosa_build *build = NULL;
    struct heard heard = {""};
    char path[300], text[LARDER_DIGEST_TEXT_BYTES];
    put_builds(s);
    assert_int_equal(open_build(s, NULL, "ostree", NULL, 0, &heard, &build), 0);
    assert_string_equal(heard.lines, "Targeting build: 2.0\n");
    assert_string_equal(build->id, "2.0");
    assert_int_equal(build->n_arches, 2);
    assert_false(build->is_subset);
    assert_string_equal(build->arches[0].name, "x86_64");
    snprintf(path, sizeof(path), "%s/builds/2.0/x86_64/a.ociarchive", s->path);
    assert_string_equal(build->arches[0].file, path);
    assert_string_equal(larder_digest_hex(&build->arches[0].sha256, text), SUM);
    assert_string_equal(larder_digest_hex(&build->arches[0].manifest, text), SUM2);
    snprintf(path, sizeof(path), "%s/builds/2.0/x86_64/m.json", s->path);
    assert_string_equal(build->arches[0].manifest_file, path);
    assert_int_equal(build->arches[1].manifest.alg, LARDER_DIGEST_NONE);
    assert_null(build->arches[1].manifest_file);
    cosa_build_free(build);
    cosa_build_free(NULL);
}

static void parts_of_it(void **state)
{
    struct scratch *s = *state;
    static const char *const arm[] = {"aarch64"}, *const x86[] = {"x86_64"},
                             *const both[] = {"aarch64", "x86_64"};
    struct cosa_build *build = NULL;
    struct heard heard = {""};
    put_builds(s);
    assert_int_equal(open_build(s, "latest", "ostree", arm, 1, &heard, &build), 0);
    assert_int_equal(build->n_arches, 1);
    assert_true(build->is_subset);
    assert_string_equal(build->arches[0].name, "aarch64");
    cosa_build_free(build);
    build = NULL;
    /* The order is the build's, so that the list's bytes are. */
    assert_int_equal(open_build(s, "2.0", "ostree", both, 2, &heard, &build), 0);
    assert_false(build->is_subset);
    assert_string_equal(build->arches[0].name, "x86_64");
    cosa_build_free(build);
    build = NULL;
    heard.lines[0] = 0;
    /* Of no other artifact the manifest is known. */
    assert_int_equal(open_build(s, NULL, "kubevirt", NULL, 0, &heard, &build), 0);
    assert_string_equal(heard.lines, "Targeting build: 2.0\nNo artifact kubevirt in 2.0/aarch64\n");
    assert_int_equal(build->n_arches, 1);
    assert_false(build->is_subset);
    assert_int_equal(build->arches[0].manifest.alg, LARDER_DIGEST_NONE);
    cosa_build_free(build);
    build = NULL;
    assert_int_equal(open_build(s, NULL, "kubevirt", x86, 1, &heard, &build), 0);
    cosa_build_free(build);
}

static void refusals(void **state)
{
    struct scratch *s = *state;
    static const char *const other[] = {"x86_64", "s390x"}, *const arm[] = {"aarch64"};
    struct cosa_build *build = NULL;
    struct heard heard = {""};
    assert_int_equal(open_build(s, NULL, "ostree", NULL, 0, &heard, &build), -LARDER_NOENT);
    put_builds(s);
    assert_int_equal(open_build(s, "3.0", "ostree", NULL, 0, &heard, &build), -LARDER_NOENT);
    assert_string_equal(heard.lines, "Targeting build: 3.0\n");
    heard.lines[0] = 0;
    assert_int_equal(open_build(s, NULL, "ostree", other, 2, &heard, &build), -LARDER_NOENT);
    assert_string_equal(heard.lines,
                        "Targeting build: 2.0\nRequested architecture s390x is not in 2.0\n");
    heard.lines[0] = 0;
    assert_int_equal(open_build(s, NULL, "kubevirt", arm, 1, &heard, &build), -LARDER_NOENT);
    assert_string_equal(heard.lines, "Targeting build: 2.0\nNo artifact kubevirt in 2.0/aarch64\n");
    /* Nobody has it: an error, no empty list. */
    assert_int_equal(open_build(s, "1.0", "ostree", NULL, 0, &heard, &build), -LARDER_NOENT);
    assert_int_equal(open_build(s, NULL, "nothing", NULL, 0, &heard, &build), -LARDER_NOENT);
    assert_int_equal(unlinkat(s->fd, "builds/2.0/aarch64/meta.json", 0), 0);
    assert_int_equal(open_build(s, NULL, "ostree", NULL, 0, &heard, &build), -LARDER_NOENT);
}

static void malformed(void **state)
{
    struct scratch *s = *state;
    static const struct {
        const char *builds, *meta;
        int result;
    } cases[] = {
        {"{\"schema-version\":\"2.0.0\",\"builds\":[]}", NULL, -LARDER_UNSUPPORTED},
        {"{\"builds\":[]}", NULL, -LARDER_UNSUPPORTED},
        {"{\"schema-version\":\"1.0.0\",\"builds\":[]}", NULL, -LARDER_NOENT},
        {"{\"schema-version\":\"1.0.0\"}", NULL, -LARDER_NOENT},
        {"{\"schema-version\":\"1.0.0\",\"builds\":[{\"id\":\"../x\",\"arches\":[\"a\"]}]}", NULL,
         -LARDER_INVAL},
        {"{\"schema-version\":\"1.0.0\",\"builds\":[{\"arches\":[\"a\"]}]}", NULL, -LARDER_INVAL},
        {"{\"schema-version\":\"1.0.0\",\"builds\":[{\"id\":\"1\",\"arches\":[\"..\"]}]}", NULL,
         -LARDER_INVAL},
        {"{\"schema-version\":\"1.0.0\",\"builds\":[{\"id\":\"1\",\"arches\":\"a\"}]}", NULL,
         -LARDER_INVAL},
        {"[]", NULL, -LARDER_UNSUPPORTED},
        {"{", NULL, -LARDER_INVAL},
        {"{\"schema-version\":\"1.0.0\",\"builds\":[{\"id\":\"1\",\"arches\":[\"a\"]}]}",
         "{\"images\":{\"ostree\":{\"path\":\"p\"}}}", -LARDER_INVAL},
        {"{\"schema-version\":\"1.0.0\",\"builds\":[{\"id\":\"1\",\"arches\":[\"a\"]}]}",
         "{\"images\":{\"ostree\":{\"path\":\"\",\"sha256\":\"" SUM "\"}}}", -LARDER_INVAL},
        {"{\"schema-version\":\"1.0.0\",\"builds\":[{\"id\":\"1\",\"arches\":[\"a\"]}]}",
         "{\"images\":{\"ostree\":{\"path\":\"p\",\"sha256\":\"xy\"}}}", -LARDER_INVAL},
        {"{\"schema-version\":\"1.0.0\",\"builds\":[{\"id\":\"1\",\"arches\":[\"a\"]}]}",
         "{\"images\":[]}", -LARDER_NOENT},
        {"{\"schema-version\":\"1.0.0\",\"builds\":[{\"id\":\"1\",\"arches\":[\"a\"]}]}",
         "{\"images\":", -LARDER_INVAL},
        {"{\"schema-version\":\"1.0.0\",\"builds\":[{\"id\":\"1\",\"arches\":[\"a\"]}]}",
         "{\"images\":{\"ostree\":{\"path\":\"p\",\"sha256\":\"" SUM
         "\"},\"oci-manifest\":{\"sha256\":5}}}",
         0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cosa_build *build = NULL;
        struct heard heard = {""};
        put(s, "builds/builds.json", cases[i].builds);
        if (cases[i].meta)
            put(s, "builds/1/a/meta.json", cases[i].meta);
        int r = open_build(s, NULL, "ostree", NULL, 0, &heard, &build);
        if (r != cases[i].result)
            fail_msg("case %zu: %d", i, r);
        cosa_build_free(build);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole_build, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(parts_of_it, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(refusals, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(malformed, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
