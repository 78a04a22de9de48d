/* SPDX-License-Identifier: Apache-2.0 */
#include "publish/ordered_string.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <larder/error.h>

#include "base/buf.h"
#include "base/text.h"

/* Every byte of a document may become six. */
#define SPELLED_BYTES_MAX (256UL * 1024 * 1024)
#define NO_CHARACTER      UINT32_MAX

static bool is_high(uint32_t c)
{
    return c >= 0xd800 && c < 0xdc00;
}

static bool is_low(uint32_t c)
{
    return c >= 0xdc00 && c < 0xe000;
}

/* The character at p (RFC 3629: no overlong form, no surrogate, at most U+10FFFF). */
static uint32_t utf8_read(const char *text, size_t n, size_t *ret_n)
{
    const unsigned char *p = (const unsigned char *)text;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t bytes = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (bytes == 0 || bytes > n || p[0] > 0xf4)
        return NO_CHARACTER;
    uint32_t c = bytes == 1 ? p[0] : p[0] & (0xffu >> (bytes + 1));
    for (size_t i = 1; i < bytes; i++) {
        if ((p[i] & 0xc0u) != 0x80)
            return NO_CHARACTER;
        c = c << 6 | (p[i] & 0x3fu);
    }
    if (c < least[bytes] || c > 0x10ffff || is_high(c) || is_low(c))
        return NO_CHARACTER;
    *ret_n = bytes;
    return c;
}

static void utf8_put(struct buf *out, uint32_t c)
{
    if (c < 0x80) {
        buf_putc(out, (char)c);
        return;
    }
    unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    buf_putc(out, (char)((0xff00u >> (more + 1) & 0xffu) | c >> (6 * more)));
    while (more-- > 0)
        buf_putc(out, (char)(0x80u | (c >> (6 * more) & 0x3fu)));
}

/* One character, or half a pair, as Python spells it. */
static void spell(struct buf *out, uint32_t c)
{
    static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (size_t i = 0; c && i < sizeof(shorts) - 1; i += 2) {
        if (c == (unsigned char)shorts[i]) {
            buf_putc(out, '\\');
            buf_putc(out, shorts[i + 1]);
            return;
        }
    }
    if (c >= 0x10000) {
        c -= 0x10000;
        buf_printf(out, "\\u%04x\\u%04x", 0xd800u + (c >> 10), 0xdc00u + (c & 0x3ffu));
    } else if (c < ' ' || c > '~') {
        buf_printf(out, "\\u%04x", c);
    } else {
        buf_putc(out, (char)c);
    }
}

static uint32_t hex4(struct slice s)
{
    uint32_t c = 0;
    if (s.n < 4)
        return NO_CHARACTER;
    for (size_t i = 0; i < 4; i++) {
        int digit = hex_value(s.p[i]);
        if (digit < 0)
            return NO_CHARACTER;
        c = c << 4 | (uint32_t)digit;
    }
    return c;
}

static void skip(struct slice *s, size_t n)
{
    s->p += n;
    s->n -= n;
}

/* What stands behind a backslash. */
static uint32_t escape_read(struct slice *rest)
{
    static const char shorts[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    if (rest->n == 0)
        return NO_CHARACTER;
    char letter = rest->p[0];
    for (size_t i = 0; i < sizeof(shorts) - 1; i += 2) {
        if (letter == shorts[i]) {
            skip(rest, 1);
            return (unsigned char)shorts[i + 1];
        }
    }
    if (letter != 'u')
        return NO_CHARACTER;
    uint32_t c = hex4((struct slice){rest->p + 1, rest->n - 1});
    if (c == NO_CHARACTER)
        return c;
    skip(rest, 5);
    if (is_high(c) && rest->n >= 6 && rest->p[0] == '\\' && rest->p[1] == 'u') {
        uint32_t low = hex4((struct slice){rest->p + 2, rest->n - 2});
        if (low != NO_CHARACTER && is_low(low)) {
            skip(rest, 6);
            return 0x10000u + ((c - 0xd800u) << 10) + (low - 0xdc00u);
        }
    }
    return c;
}

static uint32_t character_read(struct slice *rest, const char **ret_why)
{
    unsigned char first = (unsigned char)rest->p[0];
    size_t n = 0;
    if (first < ' ') {
        *ret_why = "a control character in a string";
        return NO_CHARACTER;
    }
    if (first == '\\') {
        struct slice behind = {rest->p + 1, rest->n - 1};
        uint32_t c = escape_read(&behind);
        if (c == NO_CHARACTER)
            *ret_why = "a malformed escape";
        else
            *rest = behind;
        return c;
    }
    uint32_t c = utf8_read(rest->p, rest->n, &n);
    if (c == NO_CHARACTER)
        *ret_why = "not UTF-8";
    else
        skip(rest, n);
    return c;
}

int ordered_string_read(struct slice *rest, char **ret_spelled, char **ret_text,
                        const char **ret_why)
{
    struct buf spelled = BUF_INIT(SPELLED_BYTES_MAX), text = BUF_INIT(SPELLED_BYTES_MAX);
    bool has_text = true;
    int rc = 0;

    skip(rest, 1);
    buf_putc(&spelled, '"');
    while (rest->n > 0 && rest->p[0] != '"') {
        uint32_t c = character_read(rest, ret_why);
        if (c == NO_CHARACTER) {
            rc = -LARDER_INVAL;
            goto out;
        }
        spell(&spelled, c);
        has_text = has_text && c != 0 && !is_high(c) && !is_low(c);
        if (has_text)
            utf8_put(&text, c);
    }
    if (rest->n == 0) {
        *ret_why = "a string without end";
        rc = -LARDER_INVAL;
        goto out;
    }
    skip(rest, 1);
    buf_putc(&spelled, '"');
    char *as_spelled = buf_take(&spelled);
    char *as_text = has_text ? buf_take(&text) : NULL;
    if (!as_spelled || (has_text && !as_text)) {
        free(as_spelled);
        free(as_text);
        rc = -LARDER_NOMEM;
        goto out;
    }
    *ret_spelled = as_spelled;
    *ret_text = as_text;
out:
    buf_done(&spelled);
    buf_done(&text);
    return rc;
}

char *ordered_string_spell(const char *text)
{
    struct buf out = BUF_INIT(SPELLED_BYTES_MAX);
    size_t left = strlen(text);
    buf_putc(&out, '"');
    while (left > 0) {
        size_t n = 0;
        uint32_t c = utf8_read(text, left, &n);
        if (c == NO_CHARACTER) {
            buf_done(&out);
            return NULL;
        }
        spell(&out, c);
        text += n;
        left -= n;
    }
    buf_putc(&out, '"');
    char *spelled = buf_take(&out);
    buf_done(&out);
    return spelled;
}
