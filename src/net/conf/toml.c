/* SPDX-License-Identifier: Apache-2.0 */
#include "net/conf/toml.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

/* Written by people, or generated from a list of hosts. */
#define TOML_MAX_BYTES (1u << 20)
#define DEPTH_MAX      16
#define KEY_PARTS_MAX  16

struct parser {
    const char *file;
    const char *p;
    const char *end;
    unsigned line;
    struct json *root;
    struct json *table; /* where keys go; within root */
    struct larder_error *e;
};

static int bad(const struct parser *t, const char *what)
{
    return error_set(t->e, LARDER_INVAL, "%s:%u: %s", t->file, t->line, what);
}

/* Nodes of our own document, which json_get gives out read-only. */
static struct json *own(const struct json *node)
{
    return (struct json *)(uintptr_t)node;
}

static char peek(const struct parser *t)
{
    return t->p < t->end ? *t->p : '\0';
}

static void skip_blanks(struct parser *t)
{
    while (peek(t) == ' ' || peek(t) == '\t')
        t->p++;
}

static void skip_comment(struct parser *t)
{
    if (peek(t) == '#')
        while (t->p < t->end && *t->p != '\n')
            t->p++;
}

/* Blanks, comments and line ends. */
static void skip_lines(struct parser *t)
{
    for (;;) {
        skip_blanks(t);
        skip_comment(t);
        if (peek(t) == '\r' && t->p + 1 < t->end && t->p[1] == '\n')
            t->p++;
        if (peek(t) != '\n')
            return;
        t->p++;
        t->line++;
    }
}

static int end_of_line(struct parser *t)
{
    skip_blanks(t);
    skip_comment(t);
    if (t->p < t->end && *t->p != '\n' && !(*t->p == '\r' && t->p + 1 < t->end && t->p[1] == '\n'))
        return bad(t, "the line goes on where its end is expected");
    return 0;
}

/* ---- strings and keys ---- */

static void put_utf8(struct buf *out, uint32_t c)
{
    if (c < 0x80) {
        buf_putc(out, (char)c);
        return;
    }
    unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const unsigned lead[] = {0, 0xc0, 0xe0, 0xf0};
    buf_putc(out, (char)(lead[more] | c >> (6 * more)));
    while (more--)
        buf_putc(out, (char)(0x80 | (c >> (6 * more) & 0x3f)));
}

static int take_unicode(struct parser *t, unsigned digits, struct buf *out)
{
    uint32_t c = 0;
    for (unsigned i = 0; i < digits; i++) {
        char d = peek(t);
        uint32_t value = d >= '0' && d <= '9'   ? (uint32_t)(d - '0')
                         : d >= 'a' && d <= 'f' ? (uint32_t)(d - 'a' + 10)
                         : d >= 'A' && d <= 'F' ? (uint32_t)(d - 'A' + 10)
                                                : 16;
        if (value > 15)
            return bad(t, "hex digits expected behind \\u");
        c = c << 4 | value;
        t->p++;
    }
    if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return bad(t, "\\u means no character");
    put_utf8(out, c);
    return 0;
}

static int take_escape(struct parser *t, struct buf *out)
{
    static const char names[] = "btnfr\"\\";
    static const char values[] = "\b\t\n\f\r\"\\";
    char c = peek(t);
    t->p += t->p < t->end;
    if (c == 'u' || c == 'U')
        return take_unicode(t, c == 'u' ? 4 : 8, out);
    const char *at = c ? strchr(names, c) : NULL;
    if (!at)
        return bad(t, "unknown escape in a string");
    buf_putc(out, values[at - names]);
    return 0;
}

/* At its quote, either kind. */
static int take_string(struct parser *t, struct buf *out)
{
    char quote = *t->p++;
    if (t->end - t->p >= 2 && t->p[0] == quote && t->p[1] == quote)
        return bad(t, "strings of several lines are not supported");
    buf_append(out, "", 0);
    while (t->p < t->end && *t->p != quote) {
        unsigned char c = (unsigned char)*t->p++;
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return bad(t, "control character or line end in a string");
        if (c == '\\' && quote == '"') {
            int rc = take_escape(t, out);
            if (rc < 0)
                return rc;
        } else {
            buf_putc(out, (char)c);
        }
    }
    if (t->p >= t->end)
        return bad(t, "a string is not closed");
    t->p++;
    return buf_failed(out, t->e);
}

static bool is_bare(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

struct key {
    struct buf parts[KEY_PARTS_MAX];
    size_t n;
};

static void key_done(struct key *key)
{
    for (size_t i = 0; i < key->n; i++)
        buf_done(&key->parts[i]);
}

static int take_key(struct parser *t, struct key *key)
{
    for (;;) {
        skip_blanks(t);
        if (key->n == KEY_PARTS_MAX)
            return bad(t, "a key of too many parts");
        struct buf *part = &key->parts[key->n++];
        *part = BUF_INIT(TOML_MAX_BYTES);
        int rc = 0;
        if (peek(t) == '"' || peek(t) == '\'')
            rc = take_string(t, part);
        else
            while (is_bare(peek(t)))
                buf_putc(part, *t->p++);
        if (rc == 0)
            rc = buf_failed(part, t->e);
        if (rc < 0)
            return rc;
        if (!part->p || !*part->p)
            return bad(t, "a key expected");
        skip_blanks(t);
        if (peek(t) != '.')
            return 0;
        t->p++;
    }
}

/* ---- values ---- */

static struct json *new_table(const struct parser *t)
{
    struct json *table = json_new_object();
    if (table && json_set_i64(table, TOML_LINE, t->line) < 0) {
        json_free(table);
        return NULL;
    }
    return table;
}

static int take_value(struct parser *t, unsigned depth, struct json **ret);

/* Goes down parts[0..n) from a table, making what is missing; an array means its last table. */
static int descend(struct parser *t, struct json *from, const struct key *key, size_t n,
                   struct json **ret)
{
    for (size_t i = 0; i < n; i++) {
        const struct json *next = json_get(from, key->parts[i].p);
        if (next && json_node_is_array(next))
            next = json_at(next, json_length(next) - 1);
        else if (!next) {
            struct json *made = json_new_object();
            if (json_set(from, key->parts[i].p, made) < 0)
                return error_nomem(t->e);
            next = made;
        }
        if (!json_node_is_object(next))
            return bad(t, "a table and a value have the same name");
        from = own(next);
    }
    *ret = from;
    return 0;
}

/* key = value, into a table. */
static int take_pair(struct parser *t, struct json *table, unsigned depth)
{
    struct key key = {.n = 0};
    struct json *value = NULL;
    int rc = take_key(t, &key);
    if (rc == 0 && peek(t) != '=')
        rc = bad(t, "= expected behind a key");
    if (rc == 0)
        rc = descend(t, table, &key, key.n - 1, &table);
    if (rc == 0 && json_get(table, key.parts[key.n - 1].p))
        rc = bad(t, "a key occurs twice");
    if (rc == 0) {
        t->p++;
        skip_blanks(t);
        rc = take_value(t, depth, &value);
    }
    if (rc == 0 && json_set(table, key.parts[key.n - 1].p, value) < 0)
        rc = error_nomem(t->e);
    key_done(&key);
    return rc;
}

static int take_array(struct parser *t, unsigned depth, struct json *array)
{
    for (t->p++;;) {
        struct json *item = NULL;
        skip_lines(t);
        if (peek(t) == ']')
            break;
        int rc = take_value(t, depth + 1, &item);
        if (rc < 0)
            return rc;
        if (json_append(array, item) < 0)
            return error_nomem(t->e);
        skip_lines(t);
        if (peek(t) == ',')
            t->p++;
        else if (peek(t) != ']')
            return bad(t, "an array's comma or ] expected");
    }
    t->p++;
    return 0;
}

static int take_inline_table(struct parser *t, unsigned depth, struct json *table)
{
    t->p++;
    skip_blanks(t);
    while (peek(t) != '}') {
        int rc = take_pair(t, table, depth + 1);
        if (rc < 0)
            return rc;
        skip_blanks(t);
        if (peek(t) == ',')
            t->p++;
        else if (peek(t) != '}')
            return bad(t, "an inline table's comma or } expected");
        skip_blanks(t);
    }
    t->p++;
    return 0;
}

static int new_string(struct parser *t, struct json **ret)
{
    struct buf text = BUF_INIT(TOML_MAX_BYTES);
    int rc = take_string(t, &text);
    if (rc == 0) {
        struct json *made = json_new_string(text.p ? text.p : "");
        if (made)
            *ret = made;
        else
            rc = error_nomem(t->e);
    }
    buf_done(&text);
    return rc;
}

/* true, false, numbers, dates. */
static int take_scalar(struct parser *t, struct json **ret)
{
    const char *start = t->p;
    while (is_bare(peek(t)) || (peek(t) && strchr("+.:", peek(t))))
        t->p++;
    struct slice word = {start, (size_t)(t->p - start)};
    struct json *holder = json_new_object();
    uint64_t number = 0;
    int rc = 0;
    char text[64];
    if (word.n == 0 || word.n >= sizeof(text) ||
        (!strchr("0123456789+-", *start) && !slice_equal(word, SLICE_LIT("true")) &&
         !slice_equal(word, SLICE_LIT("false")) && !slice_equal(word, SLICE_LIT("inf")) &&
         !slice_equal(word, SLICE_LIT("nan")))) {
        json_free(holder);
        return bad(t, "a value expected (strings are quoted)");
    }
    memcpy(text, word.p, word.n);
    text[word.n] = '\0';
    if (slice_equal(word, SLICE_LIT("true")) || slice_equal(word, SLICE_LIT("false")))
        rc = json_set_bool(holder, "v", word.p[0] == 't');
    else if (slice_parse_u64(word, &number) && number <= INT64_MAX)
        rc = json_set_u64(holder, "v", number);
    else
        rc = json_set_string(holder, "v", text);
    if (rc == 0)
        *ret = json_share(json_get(holder, "v"));
    json_free(holder);
    return rc < 0 ? error_nomem(t->e) : 0;
}

static int take_value(struct parser *t, unsigned depth, struct json **ret)
{
    char c = peek(t);
    if (depth > DEPTH_MAX)
        return bad(t, "arrays or tables are nested too deeply");
    if (c == '"' || c == '\'')
        return new_string(t, ret);
    if (c != '[' && c != '{')
        return take_scalar(t, ret);
    struct json *made = c == '[' ? json_new_array() : new_table(t);
    if (!made)
        return error_nomem(t->e);
    int rc = c == '[' ? take_array(t, depth, made) : take_inline_table(t, depth, made);
    if (rc < 0)
        json_free(made);
    else
        *ret = made;
    return rc;
}

/* ---- tables ---- */

static int begin_array_table(struct parser *t, struct json *parent, const char *name)
{
    const struct json *array = json_get(parent, name);
    if (array && !json_node_is_array(array))
        return bad(t, "a table, or a value, and an array of tables have the same name");
    if (!array) {
        struct json *made = json_new_array();
        if (json_set(parent, name, made) < 0)
            return error_nomem(t->e);
        array = made;
    }
    struct json *table = new_table(t);
    if (json_append(own(array), table) < 0)
        return error_nomem(t->e);
    t->table = table;
    return 0;
}

static int begin_table(struct parser *t, struct json *parent, const char *name)
{
    const struct json *table = json_get(parent, name);
    if (table && (!json_node_is_object(table) || json_get(table, TOML_LINE)))
        return bad(t, "a table, or a value, occurs twice");
    if (!table) {
        struct json *made = new_table(t);
        if (json_set(parent, name, made) < 0)
            return error_nomem(t->e);
        table = made;
    } else if (json_set_i64(own(table), TOML_LINE, t->line) < 0) {
        return error_nomem(t->e);
    }
    t->table = own(table);
    return 0;
}

/* At [ of [a.b] or [[a.b]]. */
static int take_header(struct parser *t)
{
    struct key key = {.n = 0};
    struct json *parent = t->root;
    bool is_array = t->p + 1 < t->end && t->p[1] == '[';
    t->p += is_array ? 2 : 1;
    int rc = take_key(t, &key);
    if (rc == 0 && (peek(t) != ']' || (is_array && (t->p + 1 >= t->end || t->p[1] != ']'))))
        rc = bad(t, is_array ? "]] expected" : "] expected");
    if (rc == 0) {
        t->p += is_array ? 2 : 1;
        rc = descend(t, t->root, &key, key.n - 1, &parent);
    }
    if (rc == 0)
        rc = is_array ? begin_array_table(t, parent, key.parts[key.n - 1].p)
                      : begin_table(t, parent, key.parts[key.n - 1].p);
    key_done(&key);
    return rc;
}

/* Bytes of the UTF-8 character at p (Unicode, table 3-7); 0: it is none. */
static size_t utf8_bytes(const unsigned char *p, size_t n)
{
    size_t bytes = p[0] < 0x80                    ? 1
                   : p[0] >= 0xc2 && p[0] < 0xe0  ? 2
                   : (p[0] & 0xf0) == 0xe0        ? 3
                   : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
                                                  : 0;
    if (bytes == 0 || bytes > n)
        return 0;
    for (size_t i = 1; i < bytes; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    bool is_bad = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) ||
                  (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90);
    return is_bad ? 0 : bytes;
}

static int check_utf8(struct parser *t)
{
    for (const char *p = t->p; p < t->end;) {
        size_t n = utf8_bytes((const unsigned char *)p, (size_t)(t->end - p));
        if (n == 0)
            return bad(t, "not UTF-8");
        t->line += *p == '\n';
        p += n;
    }
    t->line = 1;
    return 0;
}

int toml_parse(struct slice text, const char *file, struct json **ret, struct larder_error *e)
{
    if (text.n > TOML_MAX_BYTES)
        return error_set(e, LARDER_LIMIT, "%s: %zu bytes, at most %u are read", file, text.n,
                         TOML_MAX_BYTES);
    CLEANUP(json_freep) struct json *root = json_new_object();
    struct parser t = {file, text.p, text.p ? text.p + text.n : NULL, 1, root, root, e};
    if (!root)
        return error_nomem(e);
    if (slice_starts(text, SLICE_LIT("\xef\xbb\xbf")))
        t.p += 3;
    int rc = check_utf8(&t);
    while (rc == 0) {
        skip_lines(&t);
        if (t.p >= t.end)
            break;
        rc = *t.p == '[' ? take_header(&t) : take_pair(&t, t.table, 0);
        if (rc == 0)
            rc = end_of_line(&t);
    }
    if (rc == 0)
        *ret = TAKE_PTR(root);
    return rc;
}
