/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"

static void sets_and_returns_the_negative_code(void **state __attribute__((unused)))
{
    struct larder_error e = LARDER_ERROR_INIT;

    assert_int_equal(error_set(&e, LARDER_CORRUPT, "blob %s: size %d", "x", 3), -LARDER_CORRUPT);
    assert_int_equal(e.code, LARDER_CORRUPT);
    assert_string_equal(e.msg, "blob x: size 3");
    assert_int_equal(error_hint(&e, "run %s", "fsck"), -LARDER_CORRUPT);
    assert_string_equal(e.hint, "run fsck");
    assert_int_equal(error_context(&e, "entry %s", "y"), -LARDER_CORRUPT);
    assert_string_equal(e.msg, "entry y: blob x: size 3");
    error_set(&e, LARDER_IO, "new");
    assert_string_equal(e.hint, "");
    error_clear(&e);
    assert_int_equal(e.code, LARDER_OK);
    assert_string_equal(e.msg, "");
    assert_int_equal(error_nomem(&e), -LARDER_NOMEM);
    assert_string_equal(e.msg, "out of memory");
}

static void nobody_has_to_ask(void **state __attribute__((unused)))
{
    assert_int_equal(error_set(NULL, LARDER_BUSY, "x"), -LARDER_BUSY);
    assert_int_equal(error_errno(NULL, ENOENT, "x"), -LARDER_NOENT);
    assert_int_equal(error_errno_code(NULL, LARDER_GONE, ENOENT, "x"), -LARDER_GONE);
    assert_int_equal(error_nomem(NULL), -LARDER_NOMEM);
    assert_true(error_context(NULL, "x") < 0);
    assert_true(error_hint(NULL, "x") < 0);
    error_clear(NULL);
}

static void errno_gives_the_code(void **state __attribute__((unused)))
{
    static const struct {
        int errnum;
        enum larder_code code;
    } rows[] = {
        {ENOENT, LARDER_NOENT}, {EACCES, LARDER_DENIED},  {EPERM, LARDER_DENIED},
        {EROFS, LARDER_DENIED}, {ENOSPC, LARDER_NOSPACE}, {EDQUOT, LARDER_NOSPACE},
        {ENOMEM, LARDER_NOMEM}, {EEXIST, LARDER_EXIST},   {EAGAIN, LARDER_BUSY},
        {EBUSY, LARDER_BUSY},   {ETXTBSY, LARDER_BUSY},   {ENAMETOOLONG, LARDER_INVAL},
        {EIO, LARDER_IO},       {ENOTDIR, LARDER_IO},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;

        assert_int_equal(error_errno(&e, rows[i].errnum, "f"), -(int)rows[i].code);
        assert_int_equal(e.sys_errno, rows[i].errnum);
        assert_memory_equal(e.msg, "f: ", 3);
        assert_string_equal(e.msg + 3, strerror(rows[i].errnum));
    }
}

static void too_long_is_cut_at_a_character(void **state __attribute__((unused)))
{
    char text[2 * LARDER_ERROR_MSG_BYTES];

    /* Every alignment of three-byte characters against the end. */
    for (size_t lead = 0; lead < 4; lead++) {
        struct larder_error e = LARDER_ERROR_INIT;
        size_t n;

        memset(text, 'a', lead);
        for (n = lead; n + 3 < sizeof(text); n += 3)
            memcpy(text + n, "\xe2\x82\xac", 3);
        text[n] = 0;
        error_set(&e, LARDER_INVAL, "%s", text);
        n = strlen(e.msg);
        assert_true(n < sizeof(e.msg) && n > sizeof(e.msg) - 8);
        assert_memory_equal(e.msg + n - 3, "\xe2\x80\xa6", 3);
        assert_int_equal((n - 3 - lead) % 3, 0);
        error_context(&e, "new");
        assert_memory_equal(e.msg, "new: ", 5);
        n = strlen(e.msg);
        assert_memory_equal(e.msg + n - 3, "\xe2\x80\xa6", 3);
        error_hint(&e, "%s", text);
        n = strlen(e.hint);
        assert_true(n < sizeof(e.hint));
        assert_memory_equal(e.hint + n - 3, "\xe2\x80\xa6", 3);
    }
}

static void exactly_full_is_not_cut(void **state __attribute__((unused)))
{
    struct larder_error e = LARDER_ERROR_INIT;
    char text[LARDER_ERROR_MSG_BYTES];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    error_set(&e, LARDER_INVAL, "%s", text);
    assert_string_equal(e.msg, text);
    text[10] = 0;
    error_set(&e, LARDER_INVAL, "%s", e.msg); /* its own text as an argument */
    assert_int_equal(strlen(e.msg), LARDER_ERROR_MSG_BYTES - 1);
}

static void every_code_has_a_name_and_an_exit_status(void **state __attribute__((unused)))
{
    static const int exits[LARDER_CODE_MAX] = {
        [LARDER_INVAL] = 2,    [LARDER_NOENT] = 3, [LARDER_OUTDATED] = 4, [LARDER_CORRUPT] = 5,
        [LARDER_MISMATCH] = 5, [LARDER_GONE] = 6,  [LARDER_BUSY] = 7,     [LARDER_UNREACHABLE] = 8,
    };

    for (unsigned i = 0; i < LARDER_CODE_MAX; i++) {
        int expected = exits[i] || i == LARDER_OK ? exits[i] : 1;

        assert_non_null(larder_code_name((enum larder_code)i));
        assert_int_equal(larder_exit_code((enum larder_code)i), expected);
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(larder_code_name((enum larder_code)i),
                                    larder_code_name((enum larder_code)j));
    }
    assert_string_equal(larder_code_name((enum larder_code)999), "unknown");
    assert_int_equal(larder_exit_code((enum larder_code)999), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_and_returns_the_negative_code),
        cmocka_unit_test(nobody_has_to_ask),
        cmocka_unit_test(errno_gives_the_code),
        cmocka_unit_test(too_long_is_cut_at_a_character),
        cmocka_unit_test(exactly_full_is_not_cut),
        cmocka_unit_test(every_code_has_a_name_and_an_exit_status),
    };

    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
