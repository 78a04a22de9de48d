/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON as Go's encoding/json writes it. Compared with Go 1.22 and later, which write \b and \f
 * where older ones wrote \u0008 and \u000c.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "oci/write.h"

/* Length of the UTF-8 sequence at p as Go's utf8.DecodeRune takes it; 0: a byte that is none. */
static size_t sequence(const unsigned char *p)
{
    /* The second byte's range keeps overlong forms, surrogates and all above U+10FFFF out. */
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    size_t n = 0;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        n = 2;
    else if (p[0] >= 0xe0 && p[0] <= 0xef)
        n = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        n = 4;
    else
        return 0;
    if (p[0] == 0xe0)
        low = 0xa0;
    else if (p[0] == 0xed)
        high = 0x9f;
    else if (p[0] == 0xf0)
        low = 0x90;
    else if (p[0] == 0xf4)
        high = 0x8f;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++) {
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    }
    return n;
}

static void put_ascii(struct buf *out, unsigned char c)
{
    static const char named[] = "\"\\\b\f\n\r\t";
    static const char names[] = "\"\\bfnrt";
    const char *at = strchr(named, c);
    if (at) {
        buf_putc(out, '\\');
        buf_putc(out, names[at - named]);
    } else if (c < 0x20 || c == '<' || c == '>' || c == '&') {
        buf_printf(out, "\\u%04x", c);
    } else {
        buf_putc(out, (char)c);
    }
}

void go_json_string(struct buf *out, const char *text)
{
    buf_putc(out, '"');
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        if (*p < 0x80) {
            put_ascii(out, *p++);
            continue;
        }
        size_t n = sequence(p);
        if (n == 0) {
            buf_puts(out, "\\ufffd");
            p++;
            continue;
        }
        /* U+2028 and U+2029 end a line in JavaScript, so Go escapes them. */
        if (n == 3 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9))
            buf_puts(out, p[2] == 0xa8 ? "\\u2028" : "\\u2029");
        else
            buf_append(out, p, n);
        p += n;
    }
    buf_putc(out, '"');
}

/* ---- nodes ---- */

/* Members sorted by the bytes of their keys, as Go writes a map. */
static void put_object(struct buf *out, const struct json *node)
{
    size_t n = 0;
    CLEANUP_FREE struct json_member *list = json_sorted(node, &n);
    if (!list) {
        out->failed = LARDER_NOMEM;
        return;
    }
    buf_putc(out, '{');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_putc(out, ',');
        go_json_string(out, list[i].key);
        buf_putc(out, ':');
        go_json_node(out, list[i].value);
    }
    buf_putc(out, '}');
}

static void put_array(struct buf *out, const struct json *node)
{
    size_t n = json_length(node);
    buf_putc(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_putc(out, ',');
        go_json_node(out, json_at(node, i));
    }
    buf_putc(out, ']');
}

/* Numbers, true, false and null. */
static void put_scalar(struct buf *out, const struct json *node)
{
    struct buf text = BUF_INIT(1024);
    if (json_node_is_null(node))
        buf_puts(out, "null");
    else if (json_dump(node, &text, NULL) == 0)
        buf_append(out, text.p, text.n - 1); /* without the newline */
    else
        out->failed = LARDER_NOMEM;
    buf_done(&text);
}

void go_json_node(struct buf *out, const struct json *node)
{
    if (json_node_is_object(node))
        put_object(out, node);
    else if (json_node_is_array(node))
        put_array(out, node);
    else if (json_node_is_string(node))
        go_json_string(out, json_text(node) ? json_text(node) : "");
    else
        put_scalar(out, node);
}
