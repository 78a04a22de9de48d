/* SPDX-License-Identifier: Apache-2.0 */
/* Templates of Go, as far as scripts for skopeo use them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "cli/template.h"

static const struct template_field fields[] = {
    {"Name", ""},   {"Labels", "map[]"}, {"Layers", "[]"}, {"Created", ""},
    {"Data", "[]"}, {"Size", "0"},       {NULL, NULL},
};

static const char document[] =
    "{\"Name\": \"a/b\", \"Created\": \"2026-01-02T03:04:05.120Z\", \"Size\": 12,"
    " \"Labels\": {\"z\": \"1\", \"a.b\": \"2\", \"esc\": \"\\u001b[1m\"},"
    " \"Layers\": [\"one\", \"two\"], \"Data\": [{\"n\": 1, \"t\": [\"x\"]}, {\"n\": 2}]}";

/* Nine ranges in each other. */
static const char deep[] =
    "{{range .Layers}}{{range .}}{{range .}}{{range .}}{{range .}}{{range .}}{{range .}}"
    "{{range .}}{{range .}}{{end}}{{end}}{{end}}{{end}}{{end}}{{end}}{{end}}{{end}}{{end}}";

static int fill(const char *text, const char *json, struct buf *out, struct larder_error *e)
{
    struct json *root = NULL;
    assert_int_equal(json_parse(slice_of(json), 4096, &root, NULL), 0);
    *out = BUF_INIT(4096);
    memset(e, 0, sizeof(*e));
    int rc = template_fill(text, fields, root, out, e);
    json_free(root);
    return rc;
}

static void test_fill(void **state)
{
    static const struct {
        const char *text, *json, *expected;
    } rows[] = {
        {"{{.Name}}", document, "a/b\n"},
        {"{{ .Name }}\\n", document, "a/b\n"},
        {"<{{.Name}}>\\t{{.Size}} { } \\x", document, "<a/b>\t12 { } \\x\n"},
        {"", document, "\n"},
        {"{{.Layers}}", document, "[one two]\n"},
        {"{{.Labels}}", document, "map[a.b:2 esc:\\x1b[1m z:1]\n"},
        {"{{.Labels.z}}{{.Labels.none}}", document, "1\n"},
        {"{{index .Labels \"a.b\"}} {{index .Labels `z`}}", document, "2 1\n"},
        {"{{index .Layers 1}}{{index .Layers 2}}", document, "two\n"},
        {"{{json .Layers}} {{json .Name}} {{json .Labels.none}}", document,
         "[\"one\",\"two\"] \"a/b\" null\n"},
        {"{{len .Layers}}{{len .Labels}}{{len .Name}}", document, "233\n"},
        {"{{range .Layers}}{{.}},{{end}}!", document, "one,two,!\n"},
        {"{{range .Layers}}{{.}}\\n{{end}}", document, "one\ntwo\n"},
        {"{{range .Data}}{{.n}}:{{range .t}}{{.}}{{end}};{{end}}", document, "1:x;2:;\n"},
        {"{{.Created}}", document, "2026-01-02 03:04:05.12 +0000 UTC\n"},
        {"{{.Created}}", "{\"Created\": \"2026-01-02T03:04:05Z\"}",
         "2026-01-02 03:04:05 +0000 UTC\n"},
        {"{{.Created}}", "{\"Created\": \"2026-01-02T03:04:05.000Z\"}",
         "2026-01-02 03:04:05 +0000 UTC\n"},
        {"{{.Created}}", "{\"Created\": \"2026-01-02T03:04:05+01:00\"}",
         "2026-01-02T03:04:05+01:00\n"},
        {"{{.Created}}", "{\"Created\": \"xxxxxxxxxxTxxxxxxxxxZ\"}", "xxxxxxxxxxTxxxxxxxxxZ\n"},
        {"{{.Name}}|{{.Labels}}|{{.Layers}}|{{.Size}}|{{range .Layers}}x{{end}}", "{}",
         "|map[]|[]|0|\n"},
        {"{{json .}}", "{\"Name\": \"n\"}", "{\"Name\":\"n\"}\n"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e;
        struct buf out;
        int rc = fill(rows[i].text, rows[i].json, &out, &e);
        if (rc != 0 || strcmp(out.p, rows[i].expected) != 0)
            fail_msg("row %zu: %d %s: %s", i, rc, e.msg, out.p ? out.p : "");
        buf_done(&out);
    }
}

static void test_refused(void **state)
{
    static const char *const rows[] = {
        "{{.Nope}}",
        "{{.Nope.Name}}",
        "{{Name}}",
        "{{.Name",
        "{{.Name}",
        "{{}}",
        "{{end}}",
        "{{range .Layers}}",
        "{{range .Layers}}{{.}}",
        "{{range .Nope}}{{end}}",
        "{{range .Layers}}{{nope .}}{{end}}",
        "{{if .Name}}x{{end}}",
        "{{.Name | printf}}",
        "{{- .Name}}",
        "{{index .Layers x}}",
        "{{index .Labels \"z}}",
        "{{.Labels..z}}",
        "{{a b c d}}",
        deep,
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct buf out;
        if (template_fill(rows[i], fields, NULL, NULL, &e) != -LARDER_INVAL ||
            !strstr(e.msg, "--format"))
            fail_msg("row %zu, without a document: %s", i, e.msg);
        if (fill(rows[i], document, &out, &e) != -LARDER_INVAL)
            fail_msg("row %zu: %s", i, out.p ? out.p : "");
        buf_done(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fill),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
