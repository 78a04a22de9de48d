/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/ini.h"
#include "base/mem.h"

static int collect(void *arg, const struct ini_item *item, struct larder_error *e)
{
    (void)e;
    assert_string_equal(item->file, "t.conf");
    buf_printf(arg, "%u:%s:%s:%s=%s|", item->line, item->section, item->section_name, item->key,
               item->value);
    return 0;
}

static void accepts(void **state __attribute__((unused)))
{
    static const struct {
        const char *text;
        const char *items;
    } rows[] = {
        {"", ""},
        {"\n\n# c\n  ; d\n", ""},
        {"a=b", "1:::a=b|"},
        {"[s]\na = b \n", "2:s::a=b|"},
        {" [ s ]\r\n\ta\t=\tb c\t\r\n", "2:s::a=b c|"},
        {"[image \"deb ian\"]\nx=1\n[t]\ny=2", "2:image:deb ian:x=1|4:t::y=2|"},
        {"[s \"a\\\"\\\\]\"]\nk=v", "2:s:a\"\\]:k=v|"},
        {"[s]\nk=\nk=\"\"\n", "2:s::k=|3:s::k=|"},
        {"k = \" a # b \"", "1:::k= a # b |"},
        {"k = a # b ; c", "1:::k=a # b ; c|"},
        {"k = a\"b\"", "1:::k=a\"b\"|"},
        {"k = \"\\t\\n\\\\\\\"\"", "1:::k=\t\n\\\"|"},
        {"k=a=b\nk=c", "1:::k=a=b|2:::k=c|"},
        {"a.b-c_D9=\xc3\xa9", "1:::a.b-c_D9=\xc3\xa9|"},
        {"a=1\rb=2", "1:::a=1|2:::b=2|"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct buf out = BUF_INIT(1000);

        buf_puts(&out, "");
        assert_int_equal(ini_parse(slice_of(rows[i].text), "t.conf", collect, &out, &e), 0);
        assert_string_equal(out.p, rows[i].items);
        buf_done(&out);
    }
}

static void refuses(void **state __attribute__((unused)))
{
    static const struct {
        const char *text;
        const char *where;
    } rows[] = {
        {"a", "t.conf:1:"},
        {"\n=b", "t.conf:2:"},
        {"a b=c", "t.conf:1:"},
        {"[", "t.conf:1:"},
        {"[]", "t.conf:1:"},
        {"[s", "t.conf:1:"},
        {"[s] x", "t.conf:1:"},
        {"[s] # x", "t.conf:1:"},
        {"[s \"x]", "t.conf:1:"},
        {"[s x]", "t.conf:1:"},
        {"[s \"x\" \"y\"]", "t.conf:1:"},
        {"k=\"a", "t.conf:1:"},
        {"k=\"a\" b", "t.conf:1:"},
        {"k=\"a\\", "t.conf:1:"},
        {"k=\"a\\x\"", "t.conf:1:"},
        {"k=v\n  continued", "t.conf:2:"},
        {"k=\x1b[2J", "t.conf:1:"},
        {"\xef\xbb\xbfk=v", "t.conf:1:"},
        {"k:v", "t.conf:1:"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct buf out = BUF_INIT(1000);

        assert_int_equal(ini_parse(slice_of(rows[i].text), "t.conf", collect, &out, &e),
                         -LARDER_INVAL);
        assert_memory_equal(e.msg, rows[i].where, strlen(rows[i].where));
        buf_done(&out);
    }
    assert_int_equal(ini_parse((struct slice){"k=\0v", 4}, "t.conf", collect, NULL, NULL),
                     -LARDER_INVAL);
}

static int refuse_b(void *arg, const struct ini_item *item, struct larder_error *e)
{
    (*(int *)arg)++;
    if (strcmp(item->key, "b") == 0)
        return error_set(e, LARDER_UNSUPPORTED, "%s:%u: unknown", item->file, item->line);
    return 0;
}

static void handler_ends_the_parse(void **state __attribute__((unused)))
{
    struct larder_error e = LARDER_ERROR_INIT;
    int calls = 0;

    assert_int_equal(ini_parse(SLICE_LIT("a=1\nb=2\nc=3\n!"), "f", refuse_b, &calls, &e),
                     -LARDER_UNSUPPORTED);
    assert_int_equal(calls, 2);
    assert_string_equal(e.msg, "f:2: unknown");
}

static void a_megabyte_is_enough(void **state __attribute__((unused)))
{
    size_t n = (1u << 20) + 1;
    CLEANUP_FREE char *text = malloc(n);
    int calls = 0;

    assert_non_null(text);
    memset(text, 'x', n);
    memcpy(text, "k=", 2);
    assert_int_equal(ini_parse((struct slice){text, n}, "f", refuse_b, &calls, NULL),
                     -LARDER_LIMIT);
    assert_int_equal(calls, 0);
    assert_int_equal(ini_parse((struct slice){text, n - 1}, "f", refuse_b, &calls, NULL), 0);
    assert_int_equal(calls, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts),
        cmocka_unit_test(refuses),
        cmocka_unit_test(handler_ends_the_parse),
        cmocka_unit_test(a_megabyte_is_enough),
    };

    return cmocka_run_group_tests_name("ini", tests, NULL, NULL);
}
