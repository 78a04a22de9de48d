/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

/* Room for a suffix (".tmp-...", ".json") below the 255 bytes of a file name. */
#define FILENAME_BYTES_MAX 200

/* One more than the digit's value; 0: no digit. A table, for comparing guesses wrong on every
 * second digit of a digest, and documents have hundreds of those. */
static const uint8_t hex_digits[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

int hex_value(char c)
{
    return hex_digits[(unsigned char)c] - 1;
}

bool hex_decode(struct slice hex, uint8_t *ret, size_t n)
{
    bool is_hex = true;

    if (hex.n / 2 != n || hex.n % 2 != 0)
        return false;
    for (size_t i = 0; i < hex.n; i++)
        is_hex &= hex_digits[(unsigned char)hex.p[i]] != 0;
    for (size_t i = 0; is_hex && i < n; i++)
        ret[i] = (uint8_t)(hex_value(hex.p[2 * i]) * 16 + hex_value(hex.p[2 * i + 1]));
    return is_hex;
}

void hex_encode(const uint8_t *data, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        *out++ = digits[data[i] >> 4];
        *out++ = digits[data[i] & 15];
    }
    *out = 0;
}

void base64_encode(const void *data, size_t n, struct buf *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i += 3) {
        size_t have = n - i < 3 ? n - i : 3;
        uint32_t bits = (uint32_t)p[i] << 16;
        if (have > 1)
            bits |= (uint32_t)p[i + 1] << 8;
        if (have > 2)
            bits |= p[i + 2];
        buf_putc(out, digits[bits >> 18]);
        buf_putc(out, digits[bits >> 12 & 63]);
        buf_putc(out, have > 1 ? digits[bits >> 6 & 63] : '=');
        buf_putc(out, have > 2 ? digits[bits & 63] : '=');
    }
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

bool base64_decode_exact(struct slice text, uint8_t *ret, size_t n)
{
    size_t digits = n / 3 * 4 + (n % 3 ? n % 3 + 1 : 0);
    size_t padding = n % 3 ? 3 - n % 3 : 0;
    uint32_t bits = 0;
    unsigned have = 0;
    size_t at = 0;

    if (text.n != digits && text.n != digits + padding)
        return false;
    for (size_t i = digits; i < text.n; i++) {
        if (text.p[i] != '=')
            return false;
    }
    for (size_t i = 0; i < digits; i++) {
        if (base64_value(text.p[i]) < 0)
            return false;
    }
    /* Unused low bits must be zero, or several texts would mean the same bytes. */
    if (padding && (base64_value(text.p[digits - 1]) & (padding == 2 ? 15 : 3)) != 0)
        return false;
    for (size_t i = 0; i < digits; i++) {
        bits = bits << 6 | (uint32_t)base64_value(text.p[i]);
        have += 6;
        if (have >= 8) {
            have -= 8;
            ret[at++] = (uint8_t)(bits >> have);
        }
    }
    return true;
}

static bool is_plain(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '@' || c == '+' || c == '-';
}

int filename_escape(const char *name, struct buf *out, struct larder_error *e)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t bytes = 0;

    if (!*name)
        return error_set(e, LARDER_INVAL, "name \"\": empty");
    for (const char *p = name; *p; p++) {
        bytes += is_plain(*p) && !(p == name && *p == '.') ? 1 : 3;
        if (bytes > FILENAME_BYTES_MAX)
            return error_set(e, LARDER_INVAL, "name %.40s...: longer than %d bytes as a file name",
                             name, FILENAME_BYTES_MAX);
    }
    for (const char *p = name; *p; p++) {
        if (is_plain(*p) && !(p == name && *p == '.')) {
            buf_putc(out, *p);
        } else {
            unsigned char c = (unsigned char)*p;
            char hex[3] = {'%', digits[c >> 4], digits[c & 15]};

            buf_append(out, hex, sizeof(hex));
        }
    }
    return buf_failed(out, e);
}

/* Value of an escape as filename_escape writes it; -1 for any other spelling. */
static int escape_value(const char *p, bool first)
{
    int high = hex_value(p[0]);
    int low = high < 0 ? -1 : hex_value(p[1]);
    int c;

    if (low < 0 || p[0] >= 'a' || p[1] >= 'a')
        return -1;
    c = high << 4 | low;
    if (c == 0 || (is_plain((char)c) && !(first && c == '.')))
        return -1;
    return c;
}

/* Accepts only what filename_escape makes: a second file for the same name is no file of ours. */
bool filename_unescape(const char *file, struct buf *out)
{
    char name[FILENAME_BYTES_MAX] = "";
    size_t n = 0;

    if (!*file || strlen(file) > FILENAME_BYTES_MAX)
        return false;
    for (const char *p = file; *p; p++) {
        if (*p == '%') {
            int c = escape_value(p + 1, p == file);

            if (c < 0)
                return false;
            name[n++] = (char)c;
            p += 2;
        } else if (is_plain(*p) && !(p == file && *p == '.')) {
            name[n++] = *p;
        } else {
            return false;
        }
    }
    buf_append(out, name, n);
    return !out->failed;
}

/*
 * Length of the well-formed UTF-8 sequence at p (Unicode, table 3-7: no overlong forms, no
 * surrogates, nothing above U+10FFFF), 0 when there is none.
 */
static size_t utf8_sequence(const unsigned char *p, size_t n, uint32_t *ret_char)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t bytes = p[0] < 0x80                    ? 1
                   : p[0] >= 0xc2 && p[0] < 0xe0  ? 2
                   : (p[0] & 0xf0) == 0xe0        ? 3
                   : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
                                                  : 0;
    uint32_t c;

    if (bytes == 0 || bytes > n)
        return 0;
    c = bytes == 1 ? p[0] : p[0] & (0xffu >> (bytes + 1));
    for (size_t i = 1; i < bytes; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    if (c < least[bytes] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    *ret_char = c;
    return bytes;
}

/* What a terminal obeys instead of showing: C0, DEL, C1, line ends and direction changes. */
static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || c == 0x200e || c == 0x200f ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

int text_copy(const char *text, char **ret, struct larder_error *e)
{
    *ret = text ? strdup(text) : NULL;
    return text && !*ret ? error_nomem(e) : 0;
}

void text_sanitize(struct slice s, struct buf *out)
{
    const unsigned char *p = (const unsigned char *)s.p;
    size_t i = 0;

    while (i < s.n) {
        uint32_t c = 0;
        size_t n = utf8_sequence(p + i, s.n - i, &c);

        if (n && !is_control(c)) {
            buf_append(out, p + i, n);
            i += n;
            continue;
        }
        for (size_t end = i + (n ? n : 1); i < end; i++)
            buf_printf(out, "\\x%02x", p[i]);
    }
}

static bool has_word(struct slice key, const char *word)
{
    struct slice w = slice_of(word);

    for (size_t i = 0; i + w.n <= key.n; i++) {
        if (slice_equal_nocase((struct slice){key.p + i, w.n}, w))
            return true;
    }
    return false;
}

/* A key with escapes in it could be any of the words, so it counts as one. */
static bool is_secret_key(struct slice key)
{
    static const char *const words[] = {"token", "sig",  "pass", "pwd", "secret", "key",
                                        "cred",  "auth", "sess", "jwt", "code",   "%"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (has_word(key, words[i]))
            return true;
    }
    return false;
}

static size_t find_any(struct slice s, const char *set)
{
    for (size_t i = 0; i < s.n; i++) {
        if (strchr(set, s.p[i]) && s.p[i])
            return i;
    }
    return s.n;
}

static struct slice slice_from(struct slice s, size_t at)
{
    return (struct slice){s.p + at, s.n - at};
}

/* key=value pairs up to the end, with the separators kept; '#' begins a fragment of more pairs. */
static void redact_pairs(struct slice rest, struct buf *out)
{
    while (rest.n) {
        size_t n = find_any(rest, "&;#?");
        struct slice pair = {rest.p, n};
        size_t eq = find_any(pair, "=");

        if (eq < n && is_secret_key((struct slice){pair.p, eq})) {
            text_sanitize((struct slice){pair.p, eq + 1}, out);
            buf_puts(out, "***");
        } else {
            text_sanitize(pair, out);
        }
        if (n < rest.n)
            buf_putc(out, rest.p[n++]);
        rest = slice_from(rest, n);
    }
}

void url_redact(const char *url, struct buf *out)
{
    struct slice rest = slice_of(url);
    const char *scheme_end = strstr(url, "://");
    struct slice authority;
    const char *at;
    size_t n;

    if (scheme_end) {
        n = (size_t)(scheme_end - url) + 3;
        text_sanitize((struct slice){url, n}, out);
        rest = slice_from(rest, n);
    }
    authority = (struct slice){rest.p, find_any(rest, "/?#")};
    at = authority.n ? memrchr(authority.p, '@', authority.n) : NULL;
    /* "user:password@proxy:3128" is understood without a scheme; "name@1.2" is no secret. */
    if (at && (scheme_end || memchr(authority.p, ':', (size_t)(at - authority.p))))
        rest = slice_from(rest, (size_t)(at - rest.p) + 1);
    n = find_any(rest, "?#");
    text_sanitize((struct slice){rest.p, n}, out);
    if (n == rest.n)
        return;
    buf_putc(out, rest.p[n]);
    redact_pairs(slice_from(rest, n + 1), out);
}

void text_redact(const char *text, struct buf *out)
{
    while (*text) {
        const char *url = strstr(text, "http");
        while (url && strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
            url = strstr(url + 4, "http");
        size_t n = url ? (size_t)(url - text) : strlen(text);
        text_sanitize((struct slice){text, n}, out);
        text += n;
        if (!url)
            return;
        n = strcspn(text, " \t\n\"'<>");
        char *one = strndup(text, n);
        if (one)
            url_redact(one, out);
        else
            buf_puts(out, "***");
        free(one);
        text += n;
    }
}
