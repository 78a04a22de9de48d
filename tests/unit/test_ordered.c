/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "publish/ordered.h"

static struct ordered *parse(const char *text)
{
    struct ordered *document = NULL;
    struct larder_error e = LARDER_ERROR_INIT;
    if (ordered_parse(slice_of(text), &document, &e) < 0)
        fail_msg("%s: %s", text, e.msg);
    return document;
}

static void assert_written(const struct ordered *document, const char *expected)
{
    struct buf out = BUF_INIT(1 << 20);
    assert_int_equal(ordered_write(document, &out, NULL), 0);
    assert_string_equal(out.p, expected);
    buf_done(&out);
}

/* Left: input; right: what Python's json.dump(json.loads(left), f, indent=4) writes. */
static void as_python_writes(void **state __attribute__((unused)))
{
    static const char *const cases[][2] = {
        {"{}", "{}"},
        {" [ ] ", "[]"},
        {"[[],{},[[]]]", "[\n    [],\n    {},\n    [\n        []\n    ]\n]"},
        {"{\"b\":1,\"a\":[1,2,{\"c\":null}]}",
         "{\n    \"b\": 1,\n    \"a\": [\n        1,\n        2,\n        {\n"
         "            \"c\": null\n        }\n    ]\n}"},
        {"[1.0,1e100,-0.5,123456789012345678901234567890,true,false]",
         "[\n    1.0,\n    1e100,\n    -0.5,\n    123456789012345678901234567890,\n    true,\n"
         "    false\n]"},
        {"[\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"]",
         "[\n    \"\\u00e9 \\u20ac \\ud83d\\ude00\"\n]"},
        {"[\"\\u00E9\\/\\b\\f\\n\\r\\t\\\\\\\"\\u0041\\u0000\\u007f\"]",
         "[\n    \"\\u00e9/\\b\\f\\n\\r\\t\\\\\\\"A\\u0000\\u007f\"\n]"},
        {"[\"\\ud800\",\"\\uDC00x\",\"\\uD83D\\uDE00\"]",
         "[\n    \"\\ud800\",\n    \"\\udc00x\",\n    \"\\ud83d\\ude00\"\n]"},
        {"\"x\"", "\"x\""},
        {"17", "17"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct ordered *document = parse(cases[i][0]);
        assert_written(document, cases[i][1]);
        ordered_free(document);
        /* What was written is read and written the same. */
        document = parse(cases[i][1]);
        assert_written(document, cases[i][1]);
        ordered_free(document);
    }
}

static void refused(void **state __attribute__((unused)))
{
    static const char *const bad[] = {
        "",
        "  ",
        "{",
        "{} {}",
        "[1,]",
        "{\"a\":1,}",
        "{'a':1}",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "[01]",
        "[-]",
        "[1.]",
        "[.5]",
        "[1e]",
        "[1e+]",
        "[+1]",
        "[NaN]",
        "[truth]",
        "[nul]",
        "[\"\n\"]",
        "[\"\\x\"]",
        "[\"\\u12\"]",
        "[\"\\u12g4\"]",
        "[\"abc",
        "[\"\\",
        "[\"\xff\"]",
        "[\"\xc0\x80\"]",
        "[\"\xe2\x82\"]",
        "[\"\xed\xa0\x80\"]",
        "[\"\xf4\x90\x80\x80\"]",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "[1 2]",
        "{\"a\":1 \"b\":2}",
        "[1}",
        "\xef\xbb\xbf{}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct ordered *document = NULL;
        if (ordered_parse(slice_of(bad[i]), &document, &e) != -LARDER_INVAL)
            fail_msg("case %zu was not refused", i);
        assert_null(document);
        assert_true(e.msg[0] != 0);
    }
    struct larder_error e = LARDER_ERROR_INIT;
    struct ordered *document = NULL;
    assert_int_equal(ordered_parse(SLICE_LIT("{\"a\": 1,\n  \"b\" 2}"), &document, &e),
                     -LARDER_INVAL);
    assert_string_equal(e.msg, "JSON document: line 2, column 7: ':' expected");
}

static void limits(void **state __attribute__((unused)))
{
    struct buf deep = BUF_INIT(1 << 20);
    struct ordered *document = NULL;
    for (unsigned i = 0; i < 5000; i++)
        buf_putc(&deep, '[');
    assert_int_equal(ordered_parse(buf_slice(&deep), &document, NULL), -LARDER_LIMIT);
    buf_done(&deep);

    struct buf wide = BUF_INIT(16 << 20);
    buf_puts(&wide, "[0");
    for (unsigned i = 0; i < 600000; i++)
        buf_puts(&wide, ",0");
    buf_puts(&wide, "]");
    assert_int_equal(ordered_parse(buf_slice(&wide), &document, NULL), -LARDER_LIMIT);
    buf_reset(&wide);
    buf_puts(&wide, "{\"x\":0");
    for (unsigned i = 0; i < 20000; i++)
        buf_printf(&wide, ",\"%u\":0", i);
    buf_puts(&wide, "}");
    assert_int_equal(ordered_parse(buf_slice(&wide), &document, NULL), -LARDER_LIMIT);
    buf_done(&wide);
    assert_null(document);
}

static void looking(void **state __attribute__((unused)))
{
    struct ordered *document = parse("{\"a\":\"x\",\"b\\\"c\":\"\\u00e9\",\"n\":\"a\\u0000\","
                                     "\"t\":true,\"f\":false,\"d\\\\u00e9\":1,\"\\u00e9\":2}");
    assert_string_equal(ordered_get_text(document, "a"), "x");
    assert_string_equal(ordered_get_text(document, "b\"c"), "\xc3\xa9");
    assert_null(ordered_get_text(document, "n"));
    assert_non_null(ordered_get(document, "n"));
    assert_null(ordered_get(document, "missing"));
    assert_null(ordered_get(document, "a\""));
    assert_null(ordered_get(NULL, "a"));
    assert_null(ordered_get(ordered_get(document, "a"), "a"));
    assert_null(ordered_text(NULL));
    assert_string_equal(ordered_get(document, "d\\u00e9")->spelled, "1");
    assert_string_equal(ordered_get(document, "\xc3\xa9")->spelled, "2");
    assert_null(ordered_get(document, "\\u00e9"));
    ordered_free(document);
}

static void changing(void **state __attribute__((unused)))
{
    struct ordered *document = parse("{\"z\":1,\"list\":[\"a\",\"b\"],\"k\":2}");
    struct ordered *list = ordered_get(document, "list");
    struct ordered *other;
    assert_int_equal(ordered_set(document, "z", ordered_new_string("\xc3\xa9\"")), 0);
    assert_int_equal(ordered_set(document, "new", ordered_new_integer(-5)), 0);
    assert_int_equal(ordered_append(list, ordered_new(ORDERED_OBJECT)), 0);
    ordered_remove(list, 0);
    assert_written(document, "{\n    \"z\": \"\\u00e9\\\"\",\n    \"list\": [\n        \"b\",\n"
                             "        {}\n    ],\n    \"k\": 2,\n    \"new\": -5\n}");
    other = parse("{\"z\":\"\\u00e9\\\"\",\"list\":[\"b\",{}],\"k\":2,\"new\":-5}");
    assert_true(ordered_equal(document, other));
    assert_int_equal(ordered_set(other, "k", ordered_new_integer(3)), 0);
    assert_false(ordered_equal(document, other));
    assert_true(ordered_equal(NULL, NULL));
    assert_false(ordered_equal(document, NULL));
    assert_int_equal(ordered_set(NULL, "k", ordered_new_integer(3)), -LARDER_NOMEM);
    assert_int_equal(ordered_set(document, "k", NULL), -LARDER_NOMEM);
    assert_int_equal(ordered_append(NULL, ordered_new_integer(3)), -LARDER_NOMEM);
    assert_null(ordered_new_string("\xff"));
    ordered_free(document);
    ordered_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_python_writes), cmocka_unit_test(refused),  cmocka_unit_test(limits),
        cmocka_unit_test(looking),          cmocka_unit_test(changing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
