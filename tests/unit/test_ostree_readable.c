/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows were compared with what ostree-ext 0.15.3 (oci-spec 0.7.1) does with them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "update/base/ostree_readable.h"

#define ROOTFS "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}"
#define WHOLE  "\"architecture\":\"amd64\",\"os\":\"linux\"," ROOTFS ",\"history\":[]"
#define HEX    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define UPPER  "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define DESC   "\"mediaType\":\"a/b\",\"digest\":\"sha256:" HEX "\",\"size\":1"

static void configurations(void **state __attribute__((unused)))
{
    static const struct {
        const char *text;
        const char *as; /* NULL: refused; "": as it is */
    } rows[] = {
        {"{" WHOLE "}", ""},
        {" {" WHOLE ", \"unknown\": [null, {\"deep\": 1e3}]}\n", ""},
        {"{" WHOLE ",\"created\":null,\"author\":null,\"variant\":null,\"config\":null}", ""},
        {"{" WHOLE ",\"created\":\"any text\",\"os.features\":[\"x\"],\"os.version\":\"1\"}", ""},
        {"{" WHOLE
         ",\"config\":{\"User\":\"u\",\"ExposedPorts\":{\"8080/tcp\":{}},\"Env\":[\"A=b\"],"
         "\"Entrypoint\":null,\"Cmd\":[],\"Volumes\":null,\"Labels\":{\"a\":\"b\"},"
         "\"WorkingDir\":\"\",\"StopSignal\":\"9\",\"OnBuild\":7}}",
         ""},
        {"{" WHOLE ",\"config\":{\"Labels\":null}}", ""},
        {"{\"architecture\":\"a\",\"os\":\"b\"," ROOTFS ",\"history\":[{},{\"created\":null,"
         "\"empty_layer\":true,\"comment\":\"c\"}]}",
         ""},
        /* What the image-spec leaves to choice, and Go leaves out. */
        {"{\"os\":\"linux\",\"architecture\":\"amd64\"," ROOTFS "}",
         "{\"os\":\"linux\",\"architecture\":\"amd64\"," ROOTFS ",\"history\":[]}\n"},
        {"{\"history\":null,\"os\":\"linux\",\"architecture\":null,\"rootfs\":{\"diff_ids\":null}}",
         "{\"history\":[],\"os\":\"linux\",\"architecture\":\"\"," ROOTFS "}\n"},
        {"{\"os\":\"linux\",\"architecture\":\"\",\"rootfs\":{\"diff_ids\":[\"sha256:" HEX "\"]},"
         "\"history\":[]}",
         "{\"os\":\"linux\",\"architecture\":\"\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":["
         "\"sha256:" HEX "\"]},\"history\":[]}\n"},
        {"{}", "{\"architecture\":\"\",\"os\":\"\"," ROOTFS ",\"history\":[]}\n"},
        /* Nothing can be put in here. */
        {"", NULL},
        {"[]", NULL},
        {"null", NULL},
        {"{" WHOLE "", NULL},
        {"\xef\xbb\xbf{" WHOLE "}", NULL},
        {"{" WHOLE ",\"os\":\"linux\"}", NULL},
        {"{\"architecture\":7,\"os\":\"linux\"," ROOTFS ",\"history\":[]}", NULL},
        {"{\"architecture\":\"a\",\"os\":{}," ROOTFS ",\"history\":[]}", NULL},
        {"{\"architecture\":\"a\",\"os\":\"b\"," ROOTFS ",\"history\":{}}", NULL},
        {"{\"architecture\":\"a\",\"os\":\"b\"," ROOTFS ",\"history\":[null]}", NULL},
        {"{\"architecture\":\"a\",\"os\":\"b\"," ROOTFS ",\"history\":[{\"created\":1}]}", NULL},
        {"{\"architecture\":\"a\",\"os\":\"b\"," ROOTFS ",\"history\":[{\"empty_layer\":\"\"}]}",
         NULL},
        {"{\"architecture\":\"a\",\"os\":\"b\",\"rootfs\":\"x\",\"history\":[]}", NULL},
        {"{\"architecture\":\"a\",\"os\":\"b\",\"rootfs\":{\"type\":\"l\",\"diff_ids\":[1]},"
         "\"history\":[]}",
         NULL},
        {"{\"architecture\":\"a\",\"os\":\"b\",\"rootfs\":{\"type\":1,\"diff_ids\":[]},"
         "\"history\":[]}",
         NULL},
        {"{" WHOLE ",\"created\":5}", NULL},
        {"{" WHOLE ",\"os.features\":\"x\"}", NULL},
        {"{" WHOLE ",\"config\":\"x\"}", NULL},
        {"{" WHOLE ",\"config\":{\"Labels\":{\"a\":5}}}", NULL},
        {"{" WHOLE ",\"config\":{\"Labels\":{\"a\":null}}}", NULL},
        {"{" WHOLE ",\"config\":{\"Labels\":[\"a\"]}}", NULL},
        {"{" WHOLE ",\"config\":{\"Env\":\"A=b\"}}", NULL},
        {"{" WHOLE ",\"config\":{\"Cmd\":[null]}}", NULL},
        {"{" WHOLE ",\"config\":{\"User\":0}}", NULL},
        {"{" WHOLE ",\"config\":{\"Volumes\":{\"/a\":\"\"}}}", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct buf out = BUF_INIT(4096);
        int r = ostree_readable_config(slice_of(rows[i].text), &out, &e);
        if (r != 0 && rows[i].as)
            fail_msg("%s: %s", rows[i].text, e.msg);
        if (r == 0 && !rows[i].as)
            fail_msg("%s", rows[i].text);
        if (r == 0)
            assert_string_equal(out.p, *rows[i].as ? rows[i].as : rows[i].text);
        buf_done(&out);
    }
}

static void manifests(void **state __attribute__((unused)))
{
    static const struct {
        const char *text;
        bool is_good;
    } rows[] = {
        {"{\"schemaVersion\":2,\"config\":{" DESC "},\"layers\":[]}", true},
        {"{\"schemaVersion\":2,\"config\":{" DESC "},\"layers\":[{" DESC ",\"x\":1},{" DESC "}],"
         "\"mediaType\":null,\"annotations\":{\"a\":\"b\"},\"subject\":null,\"y\":[]}",
         true},
        {"{\"schemaVersion\":2,\"config\":{" DESC ",\"platform\":{\"architecture\":\"a\","
         "\"os\":\"b\"},\"urls\":[],\"annotations\":null,\"data\":\"e30=\"},\"layers\":[],"
         "\"subject\":{" DESC "}}",
         true},
        {"", false},
        {"[]", false},
        {"{\"config\":{" DESC "},\"layers\":[]}", false},
        {"{\"schemaVersion\":\"2\",\"config\":{" DESC "},\"layers\":[]}", false},
        {"{\"schemaVersion\":2,\"layers\":[]}", false},
        {"{\"schemaVersion\":2,\"config\":null,\"layers\":[]}", false},
        {"{\"schemaVersion\":2,\"config\":{" DESC "}}", false},
        {"{\"schemaVersion\":2,\"config\":{" DESC "},\"layers\":null}", false},
        {"{\"schemaVersion\":2,\"config\":{" DESC "},\"layers\":[null]}", false},
        {"{\"schemaVersion\":2,\"config\":{" DESC "},\"layers\":[],\"mediaType\":1}", false},
        {"{\"schemaVersion\":2,\"config\":{" DESC "},\"layers\":[],\"annotations\":{\"a\":1}}",
         false},
        {"{\"schemaVersion\":2,\"config\":{" DESC "},\"layers\":[],\"subject\":{}}", false},
        {"{\"schemaVersion\":2,\"config\":{" DESC "},\"layers\":[{\"digest\":\"sha256:" HEX
         "\",\"size\":1}]}",
         false},
        {"{\"schemaVersion\":2,\"config\":{" DESC
         "},\"layers\":[{\"mediaType\":\"a\",\"size\":1}]}",
         false},
        {"{\"schemaVersion\":2,\"config\":{" DESC "},\"layers\":[{\"mediaType\":\"a\",\"digest\":"
         "\"sha256:" HEX "\"}]}",
         false},
        {"{\"schemaVersion\":2,\"config\":{" DESC "},\"layers\":[{\"mediaType\":\"a\",\"digest\":"
         "\"sha256:" HEX "\",\"size\":-1}]}",
         false},
        {"{\"schemaVersion\":2,\"config\":{" DESC "},\"layers\":[{\"mediaType\":\"a\",\"digest\":"
         "\"sha256:" HEX "\",\"size\":1.0}]}",
         false},
        {"{\"schemaVersion\":2,\"config\":{" DESC "},\"layers\":[{\"mediaType\":\"a\",\"digest\":"
         "\"sha256:" UPPER "\",\"size\":1}]}",
         false},
        {"{\"schemaVersion\":2,\"config\":{" DESC ",\"urls\":\"x\"},\"layers\":[]}", false},
        {"{\"schemaVersion\":2,\"config\":{" DESC ",\"platform\":{\"os\":\"x\"}},\"layers\":[]}",
         false},
        {"{\"schemaVersion\":2,\"config\":{" DESC ",\"data\":5},\"layers\":[]}", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        int r = ostree_readable_manifest(slice_of(rows[i].text), &e);
        if ((r == 0) != rows[i].is_good)
            fail_msg("%s: %s", rows[i].text, e.msg);
        if (r < 0)
            assert_true(e.msg[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configurations),
        cmocka_unit_test(manifests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
