/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/http/http.h"
#include "net/http/url.h"

static void test_check(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        int rc;
    } rows[] = {
        {"http://h/a", 0},
        {"HTTPS://user:pw@h:1/a?b#c", 0},
        {"http://[::1]:80/", 0},
        {"http://h", 0},
        {"file:///etc/passwd", -LARDER_INVAL},
        {"ftp://h/a", -LARDER_INVAL},
        {"h/a", -LARDER_INVAL},
        {"", -LARDER_INVAL},
        {"http://", -LARDER_INVAL},
        {"http:///a", -LARDER_INVAL},
        {"http://user@/a", -LARDER_INVAL},
        {"http://h/a b", -LARDER_INVAL},
        {"http://h/a\r\nX: y", -LARDER_INVAL},
        {"http://a\\@b/", -LARDER_INVAL},
        {"http://h:65535/", 0},
        {"http://h:0080/", 0},
        {"http://h:/", 0}, /* RFC 3986 section 3.2.3: the default one */
        {"http://user@h:8080", 0},
        {"http://h:65536/", -LARDER_INVAL},
        {"http://h:99999/", -LARDER_INVAL},
        {"http://h:0/", -LARDER_INVAL},
        {"http://h:8o/", -LARDER_INVAL},
        {"http://:80/", -LARDER_INVAL},
        {"http://[::1/", -LARDER_INVAL},
        {"http://::1]/", -LARDER_INVAL},
        {"http://[]/", -LARDER_INVAL},
        {"http://[[::1]]/", -LARDER_INVAL},
        {"http://::1/", -LARDER_INVAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(url_check(rows[i].url, NULL), rows[i].rc);
    char *longest = malloc(20001);
    assert_non_null(longest);
    memset(longest, 'a', 20000);
    memcpy(longest, "http://h/", 9);
    longest[20000] = '\0';
    assert_int_equal(url_check(longest, NULL), -LARDER_LIMIT);
    free(longest);
}

static void test_sibling(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"https://h/a/b.img?x=1", "SHA256SUMS", "https://h/a/SHA256SUMS"},
        {"https://h/a/", "S", "https://h/a/S"},
        {"https://h", "S", "https://h/S"},
        {"https://h?q=/x/y", "S", "https://h/S"},
        {"http://u:p@h:8/b#f/g", "b.sha256", "http://u:p@h:8/b.sha256"},
        {"http://h/a%2Fb/c", "S", "http://h/a%2Fb/S"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *got = NULL;
        assert_int_equal(url_sibling(rows[i][0], rows[i][1], &got, NULL), 0);
        assert_string_equal(got, rows[i][2]);
        free(got);
    }
}

static void test_basename(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"https://h/a/b.img?x=/1", "b.img"},
        {"https://h/a/", ""},
        {"https://h", ""},
        {"https://h/a%20b%2", "a b%2"},
        {"https://h/a%00b", "a%00b"},
        {"https://h/x%2fy#z", "x/y"},
        {"https://h/%41", "A"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *got = NULL;
        assert_int_equal(url_basename(rows[i][0], &got, NULL), 0);
        assert_string_equal(got, rows[i][1]);
        free(got);
    }
}

static void test_bust_cache(void **state)
{
    (void)state;
    char *a = NULL;
    char *b = NULL;
    assert_int_equal(url_bust_cache("http://h/a#f", &a, NULL), 0);
    assert_int_equal(url_bust_cache("http://h/a?q=1", &b, NULL), 0);
    assert_int_equal(strncmp(a, "http://h/a?larder-nocache=", 26), 0);
    assert_int_equal(strncmp(b, "http://h/a?q=1&larder-nocache=", 30), 0);
    assert_string_not_equal(a + 26, b + 30);
    assert_null(strchr(a, '#'));
    free(a);
    free(b);
}

static void test_userinfo(void **state)
{
    (void)state;
    static const struct {
        const char *url, *clean, *user, *password;
    } rows[] = {
        {"http://h/a@b", "http://h/a@b", NULL, NULL},
        {"http://me:p%40ss@h:8/a?b#c", "http://h:8/a?b", "me", "p@ss"},
        {"http://me@h", "http://h", "me", ""},
        {"http://a@b:c@h/", "http://h/", "a@b", "c"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *clean = NULL;
        char *user = NULL;
        char *password = NULL;
        assert_int_equal(url_split_userinfo(rows[i].url, &clean, &user, &password, NULL), 0);
        assert_string_equal(clean, rows[i].clean);
        assert_int_equal(user == NULL, rows[i].user == NULL);
        if (rows[i].user) {
            assert_string_equal(user, rows[i].user);
            assert_string_equal(password, rows[i].password);
        }
        free(clean);
        free(user);
        free(password);
    }
}

static void test_origin(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool is_same;
    } rows[] = {
        {"http://h/a", "http://H:80/b?c", true},
        {"https://h:443", "HTTPS://h/", true},
        {"http://h", "https://h", false},
        {"http://h:80", "http://h:81", false},
        {"http://h", "http://h.example", false},
        {"http://u:p@h/", "http://h/", true},
        {"http://h/@i", "http://i/", false},
        {"http://[::1]/", "http://[::1]:80/", true},
        {"http://h:080/", "http://h/", true},
        {"http://h/", "http://h:443/", false},
        {"http://127.0.0.1/", "http://localhost/", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(url_same_origin(rows[i].a, rows[i].b), rows[i].is_same);
}

static void test_resolve(void **state)
{
    (void)state;
    static const struct {
        const char *base, *location, *expected;
    } rows[] = {
        {"http://h/a/b?q#f", "c", "http://h/a/c"},
        {"http://h/a/b?q", "/c?x#y", "http://h/c?x"},
        {"http://h/a/b?q", "?x", "http://h/a/b?x"},
        {"http://h/a/b?q", "#x", "http://h/a/b?q"},
        {"http://h/a/b?q", "", "http://h/a/b?q"},
        {"http://h/a/b?q", "../c", "http://h/c"},
        {"http://h/a/b?q", "../../../c/./d/..", "http://h/c/"},
        {"http://h/a/b?q", "..", "http://h/"},
        {"http://h", "c", "http://h/c"},
        {"http://h?q", "?x", "http://h?x"},
        {"https://h:1/a", "//i/c", "https://i/c"},
        {"https://h/a", "http://i/c", "http://i/c"},
        {"https://h/a", "HTTPS://i/../c d\xc3\xa4#f", "HTTPS://i/../c%20d%C3%A4#f"},
        {"http://h/a/", "b c?\xe4", "http://h/a/b%20c?%E4"},
        {"http://h/v2/x/blobs/uploads/", "1?_state=a/../b",
         "http://h/v2/x/blobs/uploads/1?_state=a/../b"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *out = NULL;
        assert_int_equal(url_resolve(rows[i].base, rows[i].location, &out, NULL), 0);
        assert_string_equal(out, rows[i].expected);
        free(out);
    }
}

static void test_parts(void **state)
{
    (void)state;
    static const struct {
        const char *url, *host, *port, *target;
    } rows[] = {
        {"http://h", "h", "80", "/"},
        {"https://H:8443?q", "H", "8443", "/?q"},
        {"http://[::1]:5000/a/./b/../c?../d#f", "::1", "5000", "/a/c?../d"},
        {"http://h/../..", "h", "80", "/"},
        {"http://h/a//b/..", "h", "80", "/a//"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = BUF_INIT(1000);
        assert_true(slice_equal(url_host(rows[i].url), slice_of(rows[i].host)));
        assert_true(slice_equal(url_port(rows[i].url), slice_of(rows[i].port)));
        assert_int_equal(url_target(rows[i].url, &out, NULL), 0);
        assert_string_equal(out.p, rows[i].target);
        buf_done(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check),    cmocka_unit_test(test_sibling),
        cmocka_unit_test(test_basename), cmocka_unit_test(test_bust_cache),
        cmocka_unit_test(test_userinfo), cmocka_unit_test(test_origin),
        cmocka_unit_test(test_resolve),  cmocka_unit_test(test_parts),
    };
    return cmocka_run_group_tests_name("url", tests, NULL, NULL);
}
