/* SPDX-License-Identifier: Apache-2.0 */
/* Where Locations and Links lead: all forms seen in the world, and those meant to harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "store/registry/location.h"

#define BASE "https://r.example.org:5000/v2/a/b/blobs/uploads/?mount=x"

static void test_resolve(void **state)
{
    static const struct {
        const char *base, *target, *expected; /* expected NULL: refused with code */
        enum larder_code code;
    } cases[] = {
        {BASE, "/v2/a/b/blobs/uploads/1", "https://r.example.org:5000/v2/a/b/blobs/uploads/1", 0},
        {BASE, " /x?y=z&w=%2F ", "https://r.example.org:5000/x?y=z&w=%2F", 0},
        {BASE, "https://other.example.org/u?k=v", "https://other.example.org/u?k=v", 0},
        {BASE, "HTTPS://other.example.org/u", "HTTPS://other.example.org/u", 0},
        {BASE, "//cdn.example.org:444/u", "https://cdn.example.org:444/u", 0},
        {BASE, "1234", "https://r.example.org:5000/v2/a/b/blobs/uploads/1234", 0},
        {BASE, "./1234?s=1", "https://r.example.org:5000/v2/a/b/blobs/uploads/1234?s=1", 0},
        {BASE, "../x", "https://r.example.org:5000/v2/a/b/blobs/x", 0},
        {BASE, "../../../../../../../x", "https://r.example.org:5000/x", 0},
        {BASE, "/a/../../b/./c", "https://r.example.org:5000/b/c", 0},
        {BASE, "/a/..", "https://r.example.org:5000/", 0},
        {BASE, "?_state=5", "https://r.example.org:5000/v2/a/b/blobs/uploads/?_state=5", 0},
        {BASE, "/x?u=https://a/b", "https://r.example.org:5000/x?u=https://a/b", 0},
        {BASE, "/x?a=/../b#frag", "https://r.example.org:5000/x?a=/../b", 0},
        {BASE, "https://h.example.org/x#frag", "https://h.example.org/x", 0},
        {"http://r:5000/v2/x", "http://r:5000/y", "http://r:5000/y", 0},
        {"http://r:5000/v2/x", "https://r/y", "https://r/y", 0},
        {"http://r", "x", "http://r/x", 0},
        /* A proxy ends TLS; the registry behind it does not know. */
        {BASE, "http://r.example.org/v2/u", "https://r.example.org:5000/v2/u", 0},
        {BASE, "http://R.example.org:5000/v2/u", "https://r.example.org:5000/v2/u", 0},
        {BASE, "http://other.example.org/u", NULL, LARDER_UNSAFE},
        /* Into a network that only we can reach. */
        {BASE, "https://127.0.0.1/u", NULL, LARDER_UNSAFE},
        {BASE, "https://127.1/u", NULL, LARDER_UNSAFE},
        {BASE, "https://0x7f000001/u", NULL, LARDER_UNSAFE},
        {BASE, "https://2130706433/u", NULL, LARDER_UNSAFE},
        {BASE, "https://169.254.169.254/latest", NULL, LARDER_UNSAFE},
        {BASE, "https://10.1.2.3/u", NULL, LARDER_UNSAFE},
        {BASE, "https://172.16.0.1/u", NULL, LARDER_UNSAFE},
        {BASE, "https://192.168.0.1/u", NULL, LARDER_UNSAFE},
        {BASE, "https://100.64.0.1/u", NULL, LARDER_UNSAFE},
        {BASE, "https://[::1]/u", NULL, LARDER_UNSAFE},
        {BASE, "https://[fe80::1]:80/u", NULL, LARDER_UNSAFE},
        {BASE, "https://[fd00::1]/u", NULL, LARDER_UNSAFE},
        {BASE, "https://[::ffff:10.0.0.1]/u", NULL, LARDER_UNSAFE},
        {BASE, "//localhost/u", NULL, LARDER_UNSAFE},
        {BASE, "https://172.32.0.1/u", "https://172.32.0.1/u", 0},
        {BASE, "https://[2001:db8::1]/u", "https://[2001:db8::1]/u", 0},
        {"http://127.0.0.1:5000/v2/x", "http://127.0.0.1:6000/u", "http://127.0.0.1:6000/u", 0},
        {"http://10.0.0.1/v2/x", "http://localhost:1/u", "http://localhost:1/u", 0},
        {BASE, "", NULL, LARDER_PROTO},
        {BASE, "ftp://r.example.org/u", NULL, LARDER_PROTO},
        {BASE, "file:/etc/passwd", NULL, LARDER_PROTO},
        {BASE, "https://user:pw@r.example.org/u", NULL, LARDER_PROTO},
        {BASE, "https:///u", NULL, LARDER_PROTO},
        {BASE, "https://", NULL, LARDER_PROTO},
        {BASE, "/a b", NULL, LARDER_PROTO},
        {BASE, "/a\\b", NULL, LARDER_PROTO},
        {BASE, "/a\r\nX: y", NULL, LARDER_PROTO},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        CLEANUP_FREE char *url = NULL;
        int rc = location_resolve(cases[i].base, slice_of(cases[i].target), &url, &e);
        if (rc != -(int)cases[i].code)
            print_message("%s: %d %s %s\n", cases[i].target, rc, e.msg, url ? url : "");
        assert_int_equal(rc, -(int)cases[i].code);
        if (cases[i].expected)
            assert_string_equal(url, cases[i].expected);
        else
            assert_null(url);
    }
}

static void test_too_long(void **state)
{
    static char target[20000];
    CLEANUP_FREE char *url = NULL;
    (void)state;
    memset(target, 'a', sizeof(target) - 1);
    target[0] = '/';
    assert_int_equal(location_resolve(BASE, slice_of(target), &url, NULL), -LARDER_PROTO);
    target[8000] = '\0';
    assert_int_equal(location_resolve(BASE, slice_of(target), &url, NULL), 0);
}

static void test_add(void **state)
{
    static const struct {
        const char *url, *expected;
    } cases[] = {
        {"http://r/u", "http://r/u?digest=sha256%3Aab"},
        {"http://r/u?a=b", "http://r/u?a=b&digest=sha256%3Aab"},
        {"http://r/u?", "http://r/u?digest=sha256%3Aab"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP_FREE char *url = NULL;
        assert_int_equal(location_add(cases[i].url, "digest", "sha256:ab", &url, NULL), 0);
        assert_string_equal(url, cases[i].expected);
    }
    CLEANUP_FREE char *escaped = location_escape("a/b c&d\xff~");
    assert_string_equal(escaped, "a%2Fb%20c%26d%FF~");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resolve),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_add),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
