/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "json/json.h"

static void strict(void **state __attribute__((unused)))
{
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "{} x",
        "{}{}",
        "[1,]",
        "{'a':1}",
        "{\"a\":1,\"a\":2}",
        "[NaN]",
        "[01]",
        "[1] // c",
        "[\"\xff\"]",
        "[9223372036854775808]",
        "[\"\\ud800\"]",
        "nul",
        "{\"a\" 1}",
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct json *doc = NULL;

        assert_int_equal(json_parse(slice_of(bad[i]), 1000, &doc, &e), -LARDER_INVAL);
        assert_null(doc);
        assert_true(e.msg[0] != 0);
    }
    struct json *doc = NULL;
    assert_int_equal(json_parse(SLICE_LIT("[1234]"), 5, &doc, NULL), -LARDER_LIMIT);
    assert_int_equal(json_parse((struct slice){"[1]x", 3}, 5, &doc, NULL), 0);
    json_free(doc);
    json_free(NULL);
    doc = NULL;
    assert_int_equal(json_parse((struct slice){"{\"a\":0\0}", 8}, 10, &doc, NULL), -LARDER_INVAL);
    assert_null(doc);
}

static int collect(void *arg, const char *key, const struct json *value)
{
    (void)value;
    buf_puts(arg, key);
    return strcmp(key, "t") == 0 ? 5 : 0;
}

static void typed_access(void **state __attribute__((unused)))
{
    static const char text[] = "{\"s\":\"x\",\"i\":-7,\"big\":9223372036854775807,\"t\":true,"
                               "\"a\":[\"p\",2,{}],\"o\":{\"k\":\"v\"},\"n\":null,\"r\":1.5}";
    CLEANUP(json_freep) struct json *doc = NULL;
    struct buf keys = BUF_INIT(100);
    const struct json *list;

    assert_int_equal(json_parse(slice_of(text), sizeof(text), &doc, NULL), 0);
    assert_true(json_node_is_object(doc));
    assert_string_equal(json_get_string(doc, "s"), "x");
    assert_null(json_get_string(doc, "i"));
    assert_null(json_get_string(doc, "missing"));
    assert_null(json_get_string(NULL, "s"));
    assert_int_equal(json_get_i64(doc, "i", 1), -7);
    assert_int_equal(json_get_i64(doc, "s", 1), 1);
    assert_int_equal(json_get_i64(doc, "r", 1), 1);
    assert_true(json_get_i64(doc, "big", 1) == INT64_MAX);
    assert_int_equal(json_get_u64(doc, "i", 3), 3);
    assert_true(json_get_bool(doc, "t", false));
    assert_true(json_get_bool(doc, "n", true));
    list = json_get(doc, "a");
    assert_true(json_node_is_array(list));
    assert_int_equal(json_length(list), 3);
    assert_string_equal(json_text(json_at(list, 0)), "p");
    assert_null(json_text(json_at(list, 1)));
    assert_null(json_at(list, 3));
    assert_int_equal(json_length(doc), 8);
    assert_int_equal(json_length(NULL), 0);
    assert_string_equal(json_get_string(json_get(doc, "o"), "k"), "v");
    assert_int_equal(json_each(doc, collect, &keys), 5);
    assert_string_equal(keys.p, "sibigt"); /* document order, ended by the callback */
    buf_done(&keys);
}

static void building_and_writing(void **state __attribute__((unused)))
{
    CLEANUP(json_freep) struct json *doc = json_new_object();
    struct json *list = json_new_array();
    struct buf out = BUF_INIT(1000);
    struct buf again = BUF_INIT(1000);
    struct buf tiny = BUF_INIT(5);
    int r = 0;

    r |= json_set_string(doc, "z", "\x1b\"");
    r |= json_set_i64(doc, "a", -1);
    r |= json_set_u64(doc, "u", 5);
    r |= json_append(list, json_new_string("e"));
    r |= json_set(doc, "l", list);
    r |= json_set_bool(doc, "b", false);
    r |= json_set_string(doc, "none", NULL);
    assert_int_equal(r, 0);
    assert_true(json_set_u64(doc, "u", UINT64_MAX) < 0);
    assert_true(json_set(NULL, "x", json_new_array()) < 0);
    assert_true(json_append(NULL, json_new_array()) < 0);
    assert_true(json_set(doc, "x", NULL) < 0);
    assert_int_equal(json_dump(doc, &out, NULL), 0);
    assert_string_equal(out.p, "{\"a\":-1,\"b\":false,\"l\":[\"e\"],\"u\":5,"
                               "\"z\":\"\\u001B\\\"\"}\n");
    buf_append_slice(&again, buf_slice(&out));
    buf_reset(&out);
    assert_int_equal(json_dump(doc, &out, NULL), 0);
    assert_string_equal(out.p, again.p);
    buf_reset(&out);
    assert_int_equal(json_dump_pretty(doc, &out, NULL), 0);
    assert_non_null(strstr(out.p, "{\n  \"z\": "));
    assert_true(strstr(out.p, "\"z\"") < strstr(out.p, "\"a\""));
    assert_int_equal(json_dump(doc, &tiny, NULL), -LARDER_LIMIT);
    buf_done(&out);
    buf_done(&again);
    buf_done(&tiny);
}

static void sharing(void **state __attribute__((unused)))
{
    static const char text[] = "{\"z\":1.5,\"a\":[{\"y\":null,\"b\":true}]}";
    CLEANUP(json_freep) struct json *other = json_new_object();
    struct json *doc = NULL;
    struct buf out = BUF_INIT(1000);

    assert_int_equal(json_parse(slice_of(text), sizeof(text), &doc, NULL), 0);
    assert_int_equal(json_set(other, "from", json_share(json_at(json_get(doc, "a"), 0))), 0);
    assert_int_equal(json_dump_ordered(doc, &out, NULL), 0);
    assert_string_equal(out.p, "{\"z\":1.5,\"a\":[{\"y\":null,\"b\":true}]}\n");
    json_free(doc); /* what was shared lives on */
    buf_reset(&out);
    assert_int_equal(json_dump_ordered(other, &out, NULL), 0);
    assert_string_equal(out.p, "{\"from\":{\"y\":null,\"b\":true}}\n");
    assert_null(json_share(NULL));
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strict),
        cmocka_unit_test(typed_access),
        cmocka_unit_test(building_and_writing),
        cmocka_unit_test(sharing),
    };

    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
