/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"

static void base64_texts(void **state __attribute__((unused)))
{
    static const char *const rows[][2] = {
        {"", ""},        {"f", "Zg=="},        {"fo", "Zm8="},
        {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"\xff\xef\xbe", "/+++"},
        {"u:p", "dTpw"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = BUF_INIT(100);
        base64_encode(rows[i][0], strlen(rows[i][0]), &out);
        assert_string_equal(out.p ? out.p : "", rows[i][1]);
        buf_done(&out);
    }
}

static void hex_and_base64(void **state __attribute__((unused)))
{
    static const struct {
        const char *text;
        const char *bytes; /* NULL: refused for a length of n */
        size_t n;
    } rows[] = {
        {"Zm9vYmFy", "foobar", 6},
        {"Zm9vYmE=", "fooba", 5},
        {"Zm9vYmE", "fooba", 5},
        {"Zm9vYg==", "foob", 4},
        {"Zm9vYg", "foob", 4},
        {"+/8=", "\xfb\xff", 2},
        {"", "", 0},
        {"Zm9vYg=", NULL, 4},
        {"Zm9vYh==", NULL, 4},
        {"Zm9vYmF=", NULL, 5},
        {"Zm9v!mFy", NULL, 6},
        {"Zm9vYmFy", NULL, 5},
        {"Zm9vYmFy=", NULL, 6},
        {"-_8=", NULL, 2},
        {"Zm9v\nmFy", NULL, 6},
    };
    uint8_t out[16];
    char text[33];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        memset(out, 0xee, sizeof(out));
        assert_int_equal(base64_decode_exact(slice_of(rows[i].text), out, rows[i].n),
                         rows[i].bytes != NULL);
        if (rows[i].bytes)
            assert_memory_equal(out, rows[i].bytes, rows[i].n);
        assert_int_equal(out[rows[i].bytes ? rows[i].n : 0], 0xee);
    }
    assert_true(hex_decode(SLICE_LIT("00fFA9"), out, 3));
    assert_memory_equal(out, "\x00\xff\xa9", 3);
    hex_encode(out, 3, text);
    assert_string_equal(text, "00ffa9");
    assert_false(hex_decode(SLICE_LIT("00ff"), out, 3));
    assert_false(hex_decode(SLICE_LIT("00ffa99"), out, 3));
    assert_false(hex_decode(SLICE_LIT("00ffag"), out, 3));
}

static void sizes(void **state __attribute__((unused)))
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"4096", 4096},
        {"4096B", 4096},
        {"1K", 1024},
        {"1k", 1024},
        {"1KiB", 1024},
        {"1kB", 1000},
        {"1MB", 1000000},
        {"200G", 200ULL << 30},
        {"1.5T", 3ULL << 39},
        {"0.5K", 512},
        {"1.5 GiB", 3ULL << 29},
        {"16777215T", 16777215ULL << 40},
        {"18446744073709551615", UINT64_MAX},
    };
    static const char *const bad[] = {
        "",     "G",    "-1",        "1.5",        "1.",
        ".5K",  "1KB2", "1Kib",      "1X",         "1 ",
        "1  K", "0x10", "16777216T", "1.0000001T", "18446744073709551616",
        "1e3",  " 1"};
    struct larder_error e = LARDER_ERROR_INIT;
    uint64_t bytes = 42;
    char out[32];

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(size_parse(bad[i], &bytes, &e), -LARDER_INVAL);
    assert_int_equal(bytes, 42);
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(size_parse(good[i].text, &bytes, &e), 0);
        assert_true(bytes == good[i].bytes);
    }
    assert_string_equal(size_format(0, out), "0 B");
    assert_string_equal(size_format(1023, out), "1023 B");
    assert_string_equal(size_format(1024, out), "1.0 KiB");
    assert_string_equal(size_format(3ULL << 29, out), "1.5 GiB");
    assert_string_equal(size_format((1ULL << 20) - 1, out), "1.0 MiB");
    assert_string_equal(size_format(UINT64_MAX, out), "16.0 EiB");
}

/* The numbers are g_format_size()'s of GLib 2.74. */
static void sizes_in_thousands(void **state __attribute__((unused)))
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 bytes"},
        {1, "1 byte"},
        {2, "2 bytes"},
        {999, "999 bytes"},
        {1000, "1.0 kB"},
        {1049, "1.0 kB"},
        {1051, "1.1 kB"},
        {999949, "999.9 kB"},
        {999999, "1000.0 kB"},
        {1000000, "1.0 MB"},
        {75900000, "75.9 MB"},
        {684549999, "684.5 MB"},
        {1000000000000, "1.0 TB"},
        {UINT64_MAX, "18.4 EB"},
    };
    char out[32];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(size_format_si(cases[i].bytes, out), cases[i].text);
}

static void durations(void **state __attribute__((unused)))
{
    static const struct {
        const char *text;
        int64_t ns;
        const char *shown;
        const char *exact;
    } good[] = {
        {"0", 0, "0s", "0s"},
        {"always", 0, "0s", "0s"},
        {"never", INT64_MAX, "never", "never"},
        {"7d", 7 * 86400 * NS_PER_S, "7d", "604800s"},
        {"1w", 7 * 86400 * NS_PER_S, "7d", "604800s"},
        {"1h30m", 5400 * NS_PER_S, "1h30m", "5400s"},
        {"90s", 90 * NS_PER_S, "1m30s", "90s"},
        {"250ms", 250 * NS_PER_MS, "250ms", "250ms"},
        {"1d1s", 86401 * NS_PER_S, "1d", "86401s"},
        {"1500us", 1500000, "1ms500us", "1500us"},
        {"7ns", 7, "7ns", "7ns"},
        {"9223372036854775806ns", INT64_MAX - 1, "106751d23h", "9223372036854775806ns"},
    };
    static const char *const bad[] = {"",
                                      "h",
                                      "1",
                                      "-1h",
                                      "1h-1m",
                                      "1m1h",
                                      "1h1h",
                                      "1.5h",
                                      "1 h",
                                      " 1h",
                                      "1y",
                                      "106752d",
                                      "15251w",
                                      "Never",
                                      "9223372036854775807ns",
                                      "99999999999999999999s"};
    struct larder_error e = LARDER_ERROR_INIT;
    int64_t ns = 42;
    char out[32];

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(duration_parse(bad[i], &ns, &e), -LARDER_INVAL);
    assert_int_equal(ns, 42);
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(duration_parse(good[i].text, &ns, &e), 0);
        assert_true(ns == good[i].ns);
        assert_string_equal(duration_format(ns, out), good[i].shown);
        assert_string_equal(duration_format_exact(ns, out), good[i].exact);
        assert_int_equal(duration_parse(out, &ns, &e), 0);
        assert_true(ns == good[i].ns);
    }
}

static void times(void **state __attribute__((unused)))
{
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1994-11-06T08:49:37Z", 784111777 * NS_PER_S},
        {"1969-12-31T23:59:59.999999999Z", -1},
        {"2000-02-29T00:00:00.000000001Z", 951782400 * NS_PER_S + 1},
        {"2262-04-11T23:47:16.854775807Z", INT64_MAX},
    };
    static const char *const bad[] = {
        "",
        "1970-01-01",
        "1970-01-01T00:00:00",
        "1970-01-01 00:00:00Z",
        "1970-13-01T00:00:00Z",
        "1970-00-01T00:00:00Z",
        "1970-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "1970-01-01T24:00:00Z",
        "1970-01-01T00:60:00Z",
        "1970-01-01T00:00:61Z",
        "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00Zx",
        "1970-01-01T00:00:00+25:00",
        "2262-04-11T23:47:16.854775808Z",
        "9999-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
    };
    int64_t ns = 42;
    char out[40];

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(time_parse(bad[i], &ns));
    assert_int_equal(ns, 42);
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(time_parse(good[i].text, &ns));
        assert_true(ns == good[i].ns);
        assert_string_equal(time_format(ns, out), good[i].text);
    }
    assert_true(time_parse("1970-01-01T01:30:00+01:30", &ns));
    assert_int_equal(ns, 0);
    assert_true(time_parse("1969-12-31T23:00:00.5-01:00", &ns));
    assert_int_equal(ns, NS_PER_S / 2);
}

static void http_dates(void **state __attribute__((unused)))
{
    static const char *const good[] = {"Sun, 06 Nov 1994 08:49:37 GMT",
                                       "Sunday, 06-Nov-94 08:49:37 GMT",
                                       "Sun Nov  6 08:49:37 1994"};
    static const char *const bad[] = {"",
                                      "06 Nov 1994 08:49:37 GMT",
                                      "Sun, 06 Nov 1994 08:49:37",
                                      "Sun, 06 Nov 1994 08:49:37 CET",
                                      "Sun, 32 Nov 1994 08:49:37 GMT",
                                      "Sun, 06 Nox 1994 08:49:37 GMT",
                                      "Sun, 6 Nov 1994 08:49:37 GMT",
                                      "Sun, 06 Nov 1994 08:49:37 GMTx",
                                      "0",
                                      "Sun"};
    int64_t ns = 42;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(http_date_parse(bad[i], &ns));
    assert_int_equal(ns, 42);
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(http_date_parse(good[i], &ns));
        assert_true(ns == 784111777 * NS_PER_S);
    }
}

static void names_as_files(void **state __attribute__((unused)))
{
    static const struct {
        const char *name;
        const char *file;
    } rows[] = {
        {"debian-12.qcow2", "debian-12.qcow2"},
        {"a/b", "a%2Fb"},
        {".", "%2E"},
        {"..", "%2E."},
        {"../x", "%2E.%2Fx"},
        {"a%b c", "a%25b%20c"},
        {"\xc3\xa9\n", "%C3%A9%0A"},
        {"@_+-.9", "@_+-.9"},
        {"https://example.org/x?y", "https%3A%2F%2Fexample.org%2Fx%3Fy"},
    };
    static const char *const strangers[] = {
        "",     ".x",  "a%2fb", "%41",          "a%2E", "a%",   "a%2",
        "a%00", "a b", "a/b",   ".tmp-1-2-3-x", "%2e",  "a%zz", "\xc3\xa9"};
    struct larder_error e = LARDER_ERROR_INIT;
    struct buf out = BUF_INIT(1000);
    char name[256];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        buf_reset(&out);
        assert_int_equal(filename_escape(rows[i].name, &out, &e), 0);
        assert_string_equal(out.p, rows[i].file);
        buf_reset(&out);
        assert_true(filename_unescape(rows[i].file, &out));
        assert_string_equal(out.p, rows[i].name);
    }
    buf_reset(&out);
    for (size_t i = 0; i < ARRAY_LEN(strangers); i++)
        assert_false(filename_unescape(strangers[i], &out));
    assert_int_equal(filename_escape("", &out, &e), -LARDER_INVAL);
    assert_int_equal(out.n, 0);
    /* Each byte alone, and the limit of 200. */
    for (int c = 1; c < 256; c++) {
        struct buf back = BUF_INIT(8);

        name[0] = 'x';
        name[1] = (char)c;
        name[2] = 0;
        buf_reset(&out);
        assert_int_equal(filename_escape(name, &out, &e), 0);
        assert_true(filename_unescape(out.p, &back));
        assert_string_equal(back.p, name);
        buf_done(&back);
    }
    memset(name, 'x', sizeof(name));
    name[200] = 0;
    buf_reset(&out);
    assert_int_equal(filename_escape(name, &out, &e), 0);
    name[199] = '/';
    buf_reset(&out);
    assert_int_equal(filename_escape(name, &out, &e), -LARDER_INVAL);
    assert_int_equal(out.n, 0);
    buf_done(&out);
}

static void terminals_are_safe(void **state __attribute__((unused)))
{
    static const struct {
        const char *text;
        const char *shown;
    } rows[] = {
        {"plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
         "plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\x1b[31mred", "\\x1b[31mred"},
        {"a\r\nb\tc\x7f", "a\\x0d\\x0ab\\x09c\\x7f"},
        {"\xc2\x9b"
         "31m",
         "\\xc2\\x9b31m"},          /* CSI as one character */
        {"\x9b", "\\x9b"},          /* and as a lone byte */
        {"\xc0\xaf", "\\xc0\\xaf"}, /* overlong */
        {"\xe0\x80\xaf", "\\xe0\\x80\\xaf"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* surrogate */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* above U+10FFFF */
        {"\xe2\x82", "\\xe2\\x82"},                   /* cut off */
        {"\xe2\x80\xae"
         "x",
         "\\xe2\\x80\\xaex"},         /* right-to-left override */
        {"\xd8\x9c.", "\\xd8\\x9c."}, /* Arabic letter mark */
    };
    struct buf out = BUF_INIT(1000);

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        buf_reset(&out);
        text_sanitize(slice_of(rows[i].text), &out);
        assert_string_equal(out.p, rows[i].shown);
    }
    buf_reset(&out);
    text_sanitize((struct slice){"a\0b", 3}, &out);
    assert_string_equal(out.p, "a\\x00b");
    buf_done(&out);
}

static void urls_lose_their_secrets(void **state __attribute__((unused)))
{
    static const struct {
        const char *url;
        const char *shown;
    } rows[] = {
        {"https://example.org/a?b=c#d", "https://example.org/a?b=c#d"},
        {"https://user:pw@example.org:8/a", "https://example.org:8/a"},
        {"https://user@example.org/a@b", "https://example.org/a@b"},
        {"https://u:p@w@example.org", "https://example.org"},
        {"u:p@proxy:3128", "proxy:3128"},
        {"https://h/?X-Amz-Signature=s&x=1&X-Amz-Credential=c",
         "https://h/?X-Amz-Signature=***&x=1&X-Amz-Credential=***"},
        {"https://h/?TOKEN=s;x=2", "https://h/?TOKEN=***;x=2"},
        {"https://h/?tok%65n=s", "https://h/?tok%65n=***"},
        {"https://h/a#access_token=s", "https://h/a#access_token=***"},
        {"https://h/a?x#token=s", "https://h/a?x#token=***"},
        {"https://h/?x=1?token=s", "https://h/?x=1?token=***"},
        {"https://h?token=a=b", "https://h?token=***"},
        {"https://h/\x1b[2J", "https://h/\\x1b[2J"},
        {"plain", "plain"},
    };
    struct buf out = BUF_INIT(1000);

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        buf_reset(&out);
        url_redact(rows[i].url, &out);
        assert_string_equal(out.p, rows[i].shown);
    }
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hex_and_base64),
        cmocka_unit_test(base64_texts),
        cmocka_unit_test(sizes),
        cmocka_unit_test(sizes_in_thousands),
        cmocka_unit_test(durations),
        cmocka_unit_test(times),
        cmocka_unit_test(http_dates),
        cmocka_unit_test(names_as_files),
        cmocka_unit_test(terminals_are_safe),
        cmocka_unit_test(urls_lose_their_secrets),
    };

    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
