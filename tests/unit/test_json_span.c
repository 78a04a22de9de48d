/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "json/span.h"

/* Refused, and by json_parse, too. */
static void refused(void **state __attribute__((unused)))
{
    static const char *const bad[] = {
        "",
        " ",
        "1",
        "\"a\"",
        "null",
        "{",
        "[",
        "{} x",
        "{}{}",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1,,2]",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{a:1}",
        "{'a':1}",
        "{\"a\" 1}",
        "{1:2}",
        "[}",
        "{]",
        "[1}",
        "{\"a\":1]",
        "]",
        "[1]]",
        /* duplicates, however they are spelled */
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "[{\"x\":{\"b\":1,\"c\":2,\"b\":3}}]",
        "{\"\xc3\xa9\":1,\"\\u00e9\":2}",
        "{\"\":1,\"\":2}",
        "{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}",
        /* numbers */
        "[01]",
        "[-]",
        "[+1]",
        "[.5]",
        "[1.]",
        "[1.e5]",
        "[1e]",
        "[1e+]",
        "[0x1]",
        "[NaN]",
        "[Infinity]",
        "[9223372036854775808]",
        "[-9223372036854775809]",
        "[10000000000000000000000000]",
        "[- 1]",
        "[1a]",
        /* strings */
        "[\"a]",
        "[\"\n\"]",
        "[\"\x1f\"]",
        "[\"\\x\"]",
        "[\"\\",
        "[\"\\\"]",
        "[\"\\u12\"]",
        "[\"\\u12g4\"]",
        "[\"\\u0000\"]",
        "[\"\\ud800\"]",
        "[\"\\ud800x\"]",
        "[\"\\ud800\\u0041\"]",
        "[\"\\udc00\"]",
        "[\"\\udc00\\ud800\"]",
        "[\"\xff\"]",
        "[\"\x80\"]",
        "[\"\xc3\"]",
        "[\"\xc0\x80\"]",
        "[\"\xe0\x80\x80\"]",
        "[\"\xed\xa0\x80\"]",
        "[\"\xf4\x90\x80\x80\"]",
        "[\"\xf0\x9f\x98",
        "[\"12345678\xff\"]",
        "[\"1234567\x01\"]",
        "[\"12345678",
        /* words, and what JSON has not */
        "[nul]",
        "[nullx]",
        "[True]",
        "[truefalse]",
        "[1] // c",
        "[/**/]",
        "[\xef\xbb\xbf]",
        "\xef\xbb\xbf[]",
        "[\f1]",
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct json_span all = {NULL, 0};
        struct json *doc = NULL;

        if (json_check(slice_of(bad[i]), 1000, &all, &e) != -LARDER_INVAL)
            fail_msg("%s: taken", bad[i]);
        assert_null(all.p);
        assert_true(e.msg[0] != 0);
        assert_int_equal(json_parse(slice_of(bad[i]), 1000, &doc, NULL), -LARDER_INVAL);
    }
    struct json_span all = {NULL, 0};
    struct larder_error e = LARDER_ERROR_INIT;
    assert_int_equal(json_check(SLICE_LIT("[1234]"), 5, &all, NULL), -LARDER_LIMIT);
    assert_int_equal(json_check((struct slice){NULL, 0}, 5, &all, NULL), -LARDER_INVAL);
    assert_int_equal(json_check(SLICE_LIT("[\"\0\"]"), 50, &all, NULL), -LARDER_INVAL);
    assert_int_equal(json_check(SLICE_LIT("[1,\n\n 2 3]"), 50, &all, &e), -LARDER_INVAL);
    assert_non_null(strstr(e.msg, "line 3"));
    /* Only what is in the slice is looked at. */
    assert_int_equal(json_check((struct slice){"[1]x", 3}, 5, &all, NULL), 0);
    assert_int_equal(json_check((struct slice){"[\"a\"]", 4}, 5, &all, NULL), -LARDER_INVAL);
}

static void depth(void **state __attribute__((unused)))
{
    char text[520];
    struct json_span all = {NULL, 0};

    memset(text, '[', 256);
    memset(text + 256, ']', 256);
    assert_int_equal(json_check((struct slice){text, 512}, 1000, &all, NULL), 0);
    memset(text, '[', 257);
    memset(text + 257, ']', 257);
    assert_int_equal(json_check((struct slice){text, 514}, 1000, &all, NULL), -LARDER_INVAL);
    /* Side by side is no depth. */
    memcpy(text, "[[]", 3);
    for (size_t i = 3; i + 3 < sizeof(text); i += 3)
        memcpy(text + i, ",[]", 3);
    text[516] = ']';
    assert_int_equal(json_check((struct slice){text, 517}, 1000, &all, NULL), 0);
}

static void decodes_to(struct json_span span, const char *expected)
{
    char text[200];

    assert_true(span.n <= sizeof(text));
    text[json_span_decode(span, text)] = '\0';
    assert_string_equal(text, expected);
}

static void reading(void **state __attribute__((unused)))
{
    static const char text[] =
        " { \"s\" : \"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\xe2\x82\xac}]\" ,\n"
        "\"i\":-7,\"max\":9223372036854775807,\"r\":1.5e3,\"t\":true,\"n\":null,"
        "\"a\":[ 1 ,\"]\", {\"x\":[]},[[]] , -0 ],\"o\":{\"i\":1,\"}\":\"{\"},"
        "\"\\u0065sc\\\"aped\":5, \"e\":[], \"m\":{} } ";
    static const char *const keys[] = {"s", "i",  "max", "r",         "t", "n", "a",
                                       "o", "no", "e",   "esc\"aped", "m", "]"};
    struct json_span f[ARRAY_LEN(keys)];
    struct json_span all;
    struct json_span one;
    struct json_span key;
    const char *at = NULL;
    int64_t value = 1;

    assert_int_equal(json_check(slice_of(text), 1000, &all, NULL), 0);
    assert_int_equal(all.n, strlen(text) - 2);
    json_span_fields(all, keys, ARRAY_LEN(keys), f);
    decodes_to(f[0], "a\"\\/\b\f\n\r\t\xc3\xa9\xf0\x9f\x98\x80\xe2\x82\xac}]");
    assert_true(json_span_i64(f[1], &value) && value == -7);
    assert_true(json_span_i64(f[2], &value) && value == INT64_MAX);
    assert_false(json_span_i64(f[3], &value) || json_span_i64(f[4], &value) ||
                 json_span_i64(f[0], &value) || json_span_i64(f[8], &value));
    assert_true(json_span_is_null(f[5]) && json_span_is_null(f[8]) && !json_span_is_null(f[4]));
    assert_true(json_span_is_array(f[6]) && json_span_is_object(f[7]));
    assert_null(f[12].p);
    assert_true(json_span_i64(f[10], &value) && value == 5);

    size_t n = 0;
    while (json_span_next(f[6], &at, &one))
        n += n < 5 && one.n == (const size_t[]){1, 3, 8, 4, 2}[n];
    assert_int_equal(n, 5);
    at = NULL;
    assert_true(json_span_next_member(f[7], &at, &key, &one));
    decodes_to(key, "i");
    assert_true(json_span_next_member(f[7], &at, &key, &one));
    decodes_to(key, "}");
    decodes_to(one, "{");
    assert_false(json_span_next_member(f[7], &at, &key, &one));
    at = NULL;
    assert_false(json_span_next(f[9], &at, &one) || json_span_next(f[11], &at, &one) ||
                 json_span_next(f[0], &at, &one) || json_span_next(f[8], &at, &one));

    CLEANUP(json_freep) struct json *tree = NULL;
    assert_int_equal(json_span_parse(f[7], &tree, NULL), 0);
    assert_int_equal(json_get_i64(tree, "i", 0), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused),
        cmocka_unit_test(depth),
        cmocka_unit_test(reading),
    };

    return cmocka_run_group_tests_name("json_span", tests, NULL, NULL);
}
