/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"

static void lines_end_in_lf_crlf_or_cr(void **state __attribute__((unused)))
{
    static const char *const expected[] = {"a", "", "b", "c", "", "d"};
    struct slice rest = SLICE_LIT("a\n\r\nb\rc\r\n\nd");
    struct slice line;

    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        assert_true(slice_next_line(&rest, &line));
        assert_true(slice_equal(line, slice_of(expected[i])));
    }
    assert_false(slice_next_line(&rest, &line));
    rest = SLICE_LIT("x\n");
    assert_true(slice_next_line(&rest, &line));
    assert_false(slice_next_line(&rest, &line));
    rest = (struct slice){NULL, 0};
    assert_false(slice_next_line(&rest, &line));
}

static void compare_and_cut(void **state __attribute__((unused)))
{
    struct slice none = {NULL, 0};

    assert_true(slice_equal(none, SLICE_LIT("")));
    assert_false(slice_equal(SLICE_LIT("a"), SLICE_LIT("ab")));
    assert_true(slice_equal_nocase(SLICE_LIT("aB[z"), SLICE_LIT("Ab[Z")));
    assert_false(slice_equal_nocase(SLICE_LIT("["), SLICE_LIT("{")));
    assert_true(slice_starts(SLICE_LIT("abc"), SLICE_LIT("ab")));
    assert_false(slice_starts(SLICE_LIT("a"), SLICE_LIT("ab")));
    assert_true(slice_ends(SLICE_LIT("abc"), SLICE_LIT("bc")));
    assert_false(slice_ends(SLICE_LIT("c"), SLICE_LIT("bc")));
    assert_true(slice_equal(slice_trim(SLICE_LIT(" \t a b\r\n")), SLICE_LIT("a b")));
    assert_int_equal(slice_trim(SLICE_LIT(" \n ")).n, 0);
    assert_true(slice_equal(slice_basename(SLICE_LIT("/a/b.c")), SLICE_LIT("b.c")));
    assert_true(slice_equal(slice_basename(SLICE_LIT("b")), SLICE_LIT("b")));
    assert_int_equal(slice_basename(SLICE_LIT("a/")).n, 0);
    assert_int_equal(slice_basename(none).n, 0);
}

static void numbers_are_strict(void **state __attribute__((unused)))
{
    static const char *const bad[] = {
        "", "-1", "+1", " 1", "1 ", "0x1", "1a", "18446744073709551616", "99999999999999999999999"};
    uint64_t value = 7;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(slice_parse_u64(slice_of(bad[i]), &value));
    assert_int_equal(value, 7);
    assert_true(slice_parse_u64(SLICE_LIT("18446744073709551615"), &value));
    assert_true(value == UINT64_MAX);
    assert_true(slice_parse_u64(SLICE_LIT("007"), &value));
    assert_int_equal(value, 7);
}

static void grows_and_stays_terminated(void **state __attribute__((unused)))
{
    struct buf b = BUF_INIT(100000);
    CLEANUP_FREE char *text = NULL;

    assert_null(b.p);
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i);
    assert_int_equal(buf_failed(&b, NULL), 0);
    assert_int_equal(strlen(b.p), b.n);
    assert_int_equal(b.n, 10 * 2 + 90 * 3 + 900 * 4);
    buf_reset(&b);
    assert_int_equal(b.n, 0);
    assert_string_equal(b.p, "");
    buf_puts(&b, "a");
    buf_putc(&b, 'b');
    buf_append_slice(&b, SLICE_LIT("c"));
    buf_append(&b, NULL, 0);
    text = buf_take(&b);
    assert_string_equal(text, "abc");
    assert_null(b.p);
    free(text);
    text = buf_take(&b); /* an empty one is "" */
    assert_string_equal(text, "");
    buf_done(&b);
}

static void limit_is_sticky(void **state __attribute__((unused)))
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct buf b = BUF_INIT(4);

    buf_puts(&b, "abcd");
    assert_int_equal(buf_failed(&b, &e), 0);
    buf_puts(&b, "e");
    assert_int_equal(buf_failed(&b, &e), -LARDER_LIMIT);
    buf_append(&b, "", 0);
    assert_null(buf_reserve(&b, 0));
    assert_null(buf_take(&b));
    assert_string_equal(b.p, "abcd");
    buf_reset(&b);
    buf_printf(&b, "%s", "12345");
    assert_int_equal(buf_failed(&b, &e), -LARDER_LIMIT);
    buf_reset(&b);
    buf_puts(&b, "ok");
    assert_string_equal(b.p, "ok");
    assert_null(buf_reserve(&b, SIZE_MAX));
    buf_done(&b);
    assert_int_equal(buf_failed(&b, &e), 0);

    b = BUF_INIT(SIZE_MAX);
    assert_null(buf_reserve(&b, SIZE_MAX - 1));
    assert_true(buf_failed(&b, &e) < 0);
    buf_done(&b);
}

static void reserve_and_fill(void **state __attribute__((unused)))
{
    struct buf b = BUF_INIT(1000);
    char *to = buf_reserve(&b, 500);

    assert_non_null(to);
    memset(to, 'x', 500);
    b.n += 500;
    buf_puts(&b, "y");
    assert_int_equal(strlen(b.p), 501);
    assert_true(slice_ends(buf_slice(&b), SLICE_LIT("xy")));
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_in_lf_crlf_or_cr),
        cmocka_unit_test(compare_and_cut),
        cmocka_unit_test(numbers_are_strict),
        cmocka_unit_test(grows_and_stays_terminated),
        cmocka_unit_test(limit_is_sticky),
        cmocka_unit_test(reserve_and_fill),
    };

    return cmocka_run_group_tests_name("slice_buf", tests, NULL, NULL);
}
