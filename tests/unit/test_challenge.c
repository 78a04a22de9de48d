/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "net/auth/challenge.h"

static void show(struct buf *out, const char *name, const char *value)
{
    if (value)
        buf_printf(out, " %s=<%s>", name, value);
}

static void reads_challenges(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        const char *found;
    } rows[] = {
        {"", ""},
        {"Bearer "
         "realm=\"https://example.org/token\",service=\"s\",scope=\"repository:a/b:pull,push\"",
         "Bearer realm=<https://example.org/token> service=<s> scope=<repository:a/b:pull,push>|"},
        {"bearer REALM=\"r\" , Service=s", "Bearer realm=<r> service=<s>|"},
        {"BASIC realm=x", "Basic realm=<x>|"},
        {"Basic", "Basic|"},
        {"Basic realm=\"a \\\"b\\\\c\"", "Basic realm=<a \"b\\c>|"},
        /* several in one header, with and without parameters, of unknown schemes too */
        {"Basic realm=\"x\", Bearer realm=\"y\"", "Basic realm=<x>|Bearer realm=<y>|"},
        {"Negotiate, Basic realm=x", "Basic realm=<x>|"},
        {"Negotiate YIIabc/+==, NTLM TlRM, Basic realm=x", "Basic realm=<x>|"},
        {"Digest realm=\"d\", nonce=\"n, Basic\", Bearer realm=y", "Bearer realm=<y>|"},
        {"Basic realm=\"x\" Bearer realm=\"y\"", "Basic realm=<x>|Bearer realm=<y>|"},
        {"Basic, Bearer realm=y", "Basic|Bearer realm=<y>|"},
        /* bare values */
        {"Bearer realm=https://example.org/token,service=s,scope=repository:a/b:pull,push",
         "Bearer realm=<https://example.org/token> service=<s> scope=<repository:a/b:pull,push>|"},
        {"Bearer scope=registry:catalog:*,realm=r", "Bearer realm=<r> scope=<registry:catalog:*>|"},
        {"Bearer scope=a:b:pull,Basic realm=r", "Bearer scope=<a:b:pull>|Basic realm=<r>|"},
        {"Bearer realm = \"r\" ,\t service= s", "Bearer realm=<r> service=<s>|"},
        {"Bearer realm=\"https://example.org/t?a=b,c\"",
         "Bearer realm=<https://example.org/t?a=b,c>|"},
        {"Bearer error=\"insufficient_scope\",realm=\"r\"",
         "Bearer realm=<r> error=<insufficient_scope>|"},
        /* the first counts */
        {"Bearer realm=a,realm=b", "Bearer realm=<a>|"},
        /* junk */
        {"realm=\"x\"", ""},
        {",,, ;=\"x\" Basic realm=r", "Basic realm=<r>|"},
        {"Bearer realm=\"never closed", "Bearer realm=<never closed>|"},
        {"Bearer realm=\"r\\", "Bearer realm=<r\\>|"},
        {"Bearer realm=", "Bearer|"},
        {"Bearer realm=\"a\x01z\",service=s", "Bearer service=<s>|"},
        {"Bearer realm=a\x7f", "Bearer|"},
        {"\"Basic realm=x\", Bearer realm=y", "Bearer realm=<y>|"},
        {"Bearer realm=\"\"", "Bearer realm=<>|"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct challenge c[CHALLENGES_MAX];
        size_t n = 0;
        struct buf out = BUF_INIT(4096);
        buf_puts(&out, "");
        assert_int_equal(challenge_parse(slice_of(rows[i].value), c, &n, NULL), 0);
        for (size_t j = 0; j < n; j++) {
            buf_puts(&out, c[j].is_bearer ? "Bearer" : "Basic");
            show(&out, "realm", c[j].realm);
            show(&out, "service", c[j].service);
            show(&out, "scope", c[j].scope);
            show(&out, "error", c[j].error);
            buf_putc(&out, '|');
        }
        /* An empty value is as good as none. */
        if (strcmp(rows[i].value, "Bearer realm=") == 0)
            assert_true(n == 1 && (!c[0].realm || !*c[0].realm));
        else
            assert_string_equal(out.p ? out.p : "", rows[i].found);
        challenges_done(c, n);
        buf_done(&out);
    }
}

static void limits_challenges(void **state)
{
    (void)state;
    struct larder_error e = LARDER_ERROR_INIT;
    struct challenge c[CHALLENGES_MAX];
    size_t n = 0;
    struct buf text = BUF_INIT(1 << 20);

    for (int i = 0; i < 50; i++)
        buf_puts(&text, "Basic realm=\"x\", ");
    assert_int_equal(challenge_parse(buf_slice(&text), c, &n, &e), 0);
    assert_int_equal(n, CHALLENGES_MAX);
    challenges_done(c, n);

    /* Several headers add up; a bad one leaves those before. */
    n = 0;
    assert_int_equal(challenge_parse(SLICE_LIT("Basic realm=x"), c, &n, &e), 0);
    buf_reset(&text);
    buf_puts(&text, "Bearer realm=\"y\", Bearer realm=\"");
    for (int i = 0; i < 9000; i++)
        buf_putc(&text, 'r');
    assert_int_equal(challenge_parse(buf_slice(&text), c, &n, &e), -LARDER_LIMIT);
    assert_int_equal(n, 1);
    assert_non_null(strstr(e.msg, "parameter realm of a challenge"));
    assert_int_equal(challenge_parse(SLICE_LIT("Bearer realm=z"), c, &n, &e), 0);
    assert_int_equal(n, 2);
    assert_string_equal(c[1].realm, "z");
    challenges_done(c, n);
    buf_done(&text);
}

static void reads_token_replies(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        int rc;
        const char *token;
        const char *refresh;
        int64_t lives_s;
    } rows[] = {
        {"{\"token\":\"abc\"}", 0, "abc", NULL, 60},
        {"{\"access_token\":\"abc\",\"expires_in\":300}", 0, "abc", NULL, 300},
        {"{\"token\":\"a\",\"access_token\":\"b\",\"expires_in\":5}", 0, "a", NULL, 60},
        {"{\"token\":\"\",\"access_token\":\"b\"}", 0, "b", NULL, 60},
        {"{\"token\":\"a\",\"expires_in\":-1}", 0, "a", NULL, 60},
        {"{\"token\":\"a\",\"expires_in\":\"900\"}", 0, "a", NULL, 60},
        {"{\"token\":\"a\",\"expires_in\":9223372036854775807}", 0, "a", NULL, 86400},
        {"{\"token\":\"a\",\"issued_at\":\"1990-01-01T00:00:00Z\",\"expires_in\":90}", 0, "a", NULL,
         90},
        {"{\"token\":\"a\",\"refresh_token\":\"r\"}", 0, "a", "r", 60},
        {"{\"token\":\"a\",\"refresh_token\":\"r\\r\\nX: y\"}", 0, "a", NULL, 60},
        {"{\"token\":\"a\\r\\nX: y\"}", -LARDER_PROTO, NULL, NULL, 0},
        {"{\"token\":\"a b\"}", -LARDER_PROTO, NULL, NULL, 0},
        {"{\"token\":\"a\\u0000b\"}", -LARDER_PROTO, NULL, NULL, 0},
        {"{\"token\":\"\xc3\xa9\"}", -LARDER_PROTO, NULL, NULL, 0},
        {"{\"token\":12}", -LARDER_PROTO, NULL, NULL, 0},
        {"{}", -LARDER_PROTO, NULL, NULL, 0},
        {"[\"token\"]", -LARDER_PROTO, NULL, NULL, 0},
        {"secret-that-is-no-json", -LARDER_PROTO, NULL, NULL, 0},
        {"", -LARDER_PROTO, NULL, NULL, 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct token_reply reply = {0};
        assert_int_equal(token_reply_parse(slice_of(rows[i].body), &reply, &e), rows[i].rc);
        assert_null(strstr(e.msg, "secret"));
        if (rows[i].rc < 0) {
            assert_null(reply.token);
            continue;
        }
        assert_string_equal(reply.token, rows[i].token);
        if (rows[i].refresh)
            assert_string_equal(reply.refresh_token, rows[i].refresh);
        else
            assert_null(reply.refresh_token);
        assert_int_equal(reply.lives_ns, rows[i].lives_s * NS_PER_S);
        token_reply_done(&reply);
    }

    struct buf huge = BUF_INIT(4 << 20);
    buf_puts(&huge, "{\"token\":\"");
    for (int i = 0; i < 40000; i++)
        buf_putc(&huge, 't');
    buf_puts(&huge, "\"}");
    struct token_reply reply = {0};
    assert_int_equal(token_reply_parse(buf_slice(&huge), &reply, NULL), -LARDER_PROTO);
    for (int i = 0; i < (1 << 20); i++)
        buf_putc(&huge, ' ');
    assert_int_equal(token_reply_parse(buf_slice(&huge), &reply, NULL), -LARDER_LIMIT);
    buf_done(&huge);
}

static void finds_next_link(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        int rc;
        const char *next;
    } rows[] = {
        {"</v2/a/tags/list?n=2&last=b>; rel=\"next\"", 0, "/v2/a/tags/list?n=2&last=b"},
        {"<https://example.org/x>;rel=next", 0, "https://example.org/x"},
        {"<x>; REL = \"NEXT\"", 0, "x"},
        {"<x>; title=\"a, <b>; rel=next\"; rel=prev, <y>; rel=next", 0, "y"},
        {"<x>; title=\"a\\\"; rel=next\"; rel=prev", 0, NULL},
        {"<x>; rel=prev, <y>; rel=\"last next\"", 0, "y"},
        {"<x>; rel=prev; rel=next", 0, NULL},
        {"<x>; rel=nextish", 0, NULL},
        {"<x>", 0, NULL},
        {"x; rel=next", 0, NULL},
        {"<x; rel=next", 0, NULL},
        {"junk <x>;;; ; rel=next", 0, "x"},
        {"<>; rel=next", -LARDER_PROTO, NULL},
        {"<a b>; rel=next", -LARDER_PROTO, NULL},
        {"<a\r\nb>; rel=next", -LARDER_PROTO, NULL},
        {"<x>; rel=\"next", 0, "x"},
        {"", 0, NULL},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *next = NULL;
        assert_int_equal(link_next(slice_of(rows[i].value), &next, NULL), rows[i].rc);
        if (rows[i].next) {
            assert_non_null(next);
            assert_string_equal(next, rows[i].next);
        } else {
            assert_null(next);
        }
        free(next);
    }
}

static void reads_upload_ranges(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        bool is_good;
        uint64_t last;
    } rows[] = {
        {"0-1233", true, 1233},
        {" 0-0 ", true, 0},
        {"bytes=0-7", true, 7},
        {"bytes 0-7", true, 7},
        {"0-18446744073709551615", true, UINT64_MAX},
        {"0-18446744073709551616", false, 0},
        {"1-7", false, 0},
        {"0-", false, 0},
        {"0--1", false, 0},
        {"7", false, 0},
        {"", false, 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t last = 42;
        assert_int_equal(upload_range_parse(slice_of(rows[i].value), &last), rows[i].is_good);
        assert_int_equal(last, rows[i].is_good ? rows[i].last : 42);
    }
}

static void reads_warnings(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        const char *text;
    } rows[] = {
        {"299 - \"will be gone soon\"", "will be gone soon"},
        {"299 - \"a \\\"b\\\" c\" \"Sun, 06 Nov 1994 08:49:37 GMT\"", "a \"b\" c"},
        {"299 - \"\"", NULL},
        {"299 - \"a\x1b[31m\"", NULL},
        {"299 - \"a", NULL},
        {"299 - a", NULL},
        {"299 host \"a\"", NULL},
        {"199 - \"a\"", NULL},
        {"", NULL},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = BUF_INIT(100);
        assert_int_equal(warning_parse(slice_of(rows[i].value), &out), rows[i].text != NULL);
        if (rows[i].text)
            assert_string_equal(out.p, rows[i].text);
        else
            assert_int_equal(out.n, 0);
        buf_done(&out);
    }
}

static void reads_error_bodies(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        const char *text;
    } rows[] = {
        {"{\"errors\":[{\"code\":\"DENIED\",\"message\":\"requested access\",\"detail\":null},"
         "{\"code\":\"X\"}]}",
         "DENIED: requested access"},
        {"{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"\"}]}", "UNAUTHORIZED"},
        {"{\"errors\":[{\"message\":\"only this\"}]}", "only this"},
        {"{\"errors\":[{\"code\":\"A\\u001b[2J\",\"message\":\"b\\nc\"}]}", "A\\x1b[2J: b\\x0ac"},
        {"{\"details\":\"incorrect username or password\"}", "incorrect username or password"},
        {"{\"error\":\"invalid_grant\",\"error_description\":\"too old\"}", "too old"},
        {"{\"error\":\"invalid_grant\"}", "invalid_grant"},
        {"{\"errors\":[{\"message\":\"see https://u:p@example.org/x\"}]}",
         "see https://example.org/x"},
        {"{\"errors\":[]}", ""},
        {"{\"errors\":{\"code\":1}}", ""},
        {"{\"errors\":[7]}", ""},
        {"<html>", ""},
        {"", ""},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = BUF_INIT(1000);
        registry_error_text(slice_of(rows[i].body), &out);
        assert_string_equal(out.p ? out.p : "", rows[i].text);
        buf_done(&out);
    }

    /* Long ones are cut, not within a character. */
    struct buf body = BUF_INIT(1 << 20);
    struct buf out = BUF_INIT(1000);
    buf_puts(&body, "{\"message\":\"a");
    for (int i = 0; i < 3000; i++)
        buf_puts(&body, "\xc3\xa9");
    buf_puts(&body, "\"}");
    registry_error_text(buf_slice(&body), &out);
    assert_true(out.n > 200 && out.n < 260);
    assert_null(strchr(out.p, '\\'));
    assert_string_equal(out.p + out.n - 3, "...");
    buf_done(&out);
    buf_done(&body);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_challenges),    cmocka_unit_test(limits_challenges),
        cmocka_unit_test(reads_token_replies), cmocka_unit_test(finds_next_link),
        cmocka_unit_test(reads_upload_ranges), cmocka_unit_test(reads_warnings),
        cmocka_unit_test(reads_error_bodies),
    };

    return cmocka_run_group_tests_name("challenge", tests, NULL, NULL);
}
