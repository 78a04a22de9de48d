/* SPDX-License-Identifier: Apache-2.0 */
#include "json/span.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"

/* Recursion goes no deeper: some 200 bytes of stack for each, and threads have 256 KiB. Documents
 * have five levels. */
#define DEPTH_MAX 256
/* Longest number there is any sense in: a double in full has some 770 digits. */
#define NUMBER_MAX_BYTES 1024

/* ---- strings ---- */

static const char *skip_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

/* Four hex digits; -1. */
static int32_t read_hex4(const char *p, const char *end)
{
    int32_t value = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(p[i]);
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

static size_t put_utf8(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* What follows the backslash at p: its bytes, their number, and where it ends; NULL when it is no
 * escape, stands for NUL, or is half of a surrogate pair. */
static const char *read_escape(const char *p, const char *end, char out[4], size_t *ret_n)
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    if (++p == end)
        return NULL;
    const char *name = *p ? strchr(names, *p) : NULL;
    if (name) {
        out[0] = values[name - names];
        *ret_n = 1;
        return p + 1;
    }
    int32_t c = *p == 'u' ? read_hex4(p + 1, end) : -1;
    if (c <= 0 || (c >= 0xdc00 && c <= 0xdfff))
        return NULL;
    p += 5;
    if (c >= 0xd800 && c <= 0xdbff) {
        int32_t low = end - p >= 6 && p[0] == '\\' && p[1] == 'u' ? read_hex4(p + 2, end) : -1;
        if (low < 0xdc00 || low > 0xdfff)
            return NULL;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        p += 6;
    }
    *ret_n = put_utf8((uint32_t)c, out);
    return p;
}

/* Bytes of the well-formed sequence at p (Unicode, table 3-7), 0 for none. */
static size_t utf8_length(const char *at, const char *end)
{
    const unsigned char *p = (const unsigned char *)at;
    size_t n = p[0] >= 0xc2 && p[0] <= 0xdf   ? 2
               : p[0] >= 0xe0 && p[0] <= 0xef ? 3
               : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
                                              : 0;
    if (n == 0 || (size_t)(end - at) < n)
        return 0;
    unsigned char low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++) {
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    }
    return n;
}

/* FNV-1a, 64 bits: tells the keys of an object apart. Two keys that were made to collide look like
 * one that is there twice: the document is refused, which is all its maker gets. */
#define HASH_START 0xcbf29ce484222325ULL

static uint64_t hash_bytes(uint64_t hash, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)p[i]) * 0x100000001b3ULL;
    return hash;
}

/* ---- the check ---- */

struct checker {
    const char *p;
    const char *end;
    const char *wrong; /* NULL so far */
    unsigned depth;
    uint64_t *keys; /* hashes of those of the objects that are open, innermost last */
    size_t n_keys;
    size_t cap_keys;
    bool no_memory;
};

static bool refuse(struct checker *c, const char *wrong)
{
    c->wrong = wrong;
    return false;
}

/* Whether one of eight characters is a quote, a backslash, a control or not ASCII; now and then it
 * says so for one that isn't, never the other way round. */
static bool has_special(uint64_t eight)
{
    const uint64_t ones = 0x0101010101010101ULL;
    const uint64_t high = ones << 7;
    uint64_t quote = eight ^ ones * '"';
    uint64_t backslash = eight ^ ones * '\\';
    return (((quote - ones) | (backslash - ones) | (eight - ones * ' ') | eight) & high) != 0;
}

/* A run of characters that stand for themselves, as nearly all do. */
static const char *skip_plain(const char *p, const char *end)
{
    uint64_t eight;
    while (end - p >= (ptrdiff_t)sizeof(eight)) {
        memcpy(&eight, p, sizeof(eight));
        if (has_special(eight))
            break;
        p += sizeof(eight);
    }
    while (p < end && *p >= ' ' && *p != '"' && *p != '\\')
        p++;
    return p;
}

/* ret_hash may be NULL. */
static bool check_string(struct checker *c, uint64_t *ret_hash)
{
    uint64_t hash = HASH_START;
    for (c->p++;;) {
        char bytes[4];
        size_t n = 0;
        const char *start = c->p;
        c->p = skip_plain(start, c->end);
        if (ret_hash)
            hash = hash_bytes(hash, start, (size_t)(c->p - start));
        if (c->p == c->end)
            return refuse(c, "a string without end");
        if (*c->p == '"')
            break;
        if ((unsigned char)*c->p < 0x20)
            return refuse(c, "a control character in a string");
        if (*c->p == '\\') {
            const char *after = read_escape(c->p, c->end, bytes, &n);
            if (!after)
                return refuse(c, "a malformed escape in a string");
            hash = hash_bytes(hash, bytes, n);
            c->p = after;
            continue;
        }
        n = utf8_length(c->p, c->end);
        if (n == 0)
            return refuse(c, "bytes that are not UTF-8");
        hash = hash_bytes(hash, c->p, n);
        c->p += n;
    }
    c->p++;
    if (ret_hash)
        *ret_hash = hash;
    return true;
}

static size_t skip_digits(struct checker *c)
{
    const char *start = c->p;
    while (c->p < c->end && *c->p >= '0' && *c->p <= '9')
        c->p++;
    return (size_t)(c->p - start);
}

static bool check_number(struct checker *c)
{
    const char *start = c->p;
    bool is_integer = true;
    int64_t value;
    c->p += *c->p == '-';
    bool is_zero = c->p < c->end && *c->p == '0';
    size_t digits = skip_digits(c);
    if (digits == 0 || (is_zero && digits > 1))
        return refuse(c, "a malformed number");
    if (c->p < c->end && *c->p == '.') {
        is_integer = false;
        c->p++;
        if (skip_digits(c) == 0)
            return refuse(c, "a malformed number");
    }
    if (c->p < c->end && (*c->p == 'e' || *c->p == 'E')) {
        is_integer = false;
        c->p++;
        c->p += c->p < c->end && (*c->p == '+' || *c->p == '-');
        if (skip_digits(c) == 0)
            return refuse(c, "a malformed number");
    }
    size_t n = (size_t)(c->p - start);
    if (n > NUMBER_MAX_BYTES ||
        (is_integer && !json_span_i64((struct json_span){start, n}, &value)))
        return refuse(c, "a number that is too large");
    return true;
}

static bool check_word(struct checker *c, struct slice word)
{
    if ((size_t)(c->end - c->p) < word.n || memcmp(c->p, word.p, word.n) != 0)
        return refuse(c, "a value expected");
    c->p += word.n;
    return true;
}

static int compare_hashes(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Forgets the keys from `first` on, all of one object; false when two were the same. */
static bool close_keys(struct checker *c, size_t first)
{
    size_t n = c->n_keys - first;
    c->n_keys = first;
    if (n < 2)
        return true;
    uint64_t *keys = c->keys + first;
    qsort(keys, n, sizeof(*keys), compare_hashes);
    for (size_t i = 1; i < n; i++) {
        if (keys[i] == keys[i - 1])
            return refuse(c, "a duplicate key in an object that ends here");
    }
    return true;
}

static bool add_key(struct checker *c, uint64_t hash)
{
    if (c->n_keys == c->cap_keys) {
        size_t cap = c->cap_keys ? 2 * c->cap_keys : 64;
        uint64_t *keys = reallocarray(c->keys, cap, sizeof(*keys));
        if (!keys) {
            c->no_memory = true;
            return false;
        }
        c->keys = keys;
        c->cap_keys = cap;
    }
    c->keys[c->n_keys++] = hash;
    return true;
}

static bool check_value(struct checker *c);

static bool check_member(struct checker *c)
{
    uint64_t hash = 0;
    c->p = skip_blanks(c->p, c->end);
    if (c->p == c->end || *c->p != '"')
        return refuse(c, "a key expected");
    if (!check_string(c, &hash) || !add_key(c, hash))
        return false;
    c->p = skip_blanks(c->p, c->end);
    if (c->p == c->end || *c->p != ':')
        return refuse(c, "':' expected");
    c->p++;
    return check_value(c);
}

/* From the opening bracket to behind the closing one. */
static bool check_container(struct checker *c, char close)
{
    size_t first = c->n_keys;
    if (++c->depth > DEPTH_MAX)
        return refuse(c, "nested too deep");
    c->p = skip_blanks(c->p + 1, c->end);
    bool is_empty = c->p < c->end && *c->p == close;
    while (!is_empty) {
        if (close == '}' ? !check_member(c) : !check_value(c))
            return false;
        c->p = skip_blanks(c->p, c->end);
        if (c->p < c->end && *c->p == close)
            break;
        if (c->p == c->end || *c->p != ',')
            return refuse(c, close == '}' ? "',' or '}' expected" : "',' or ']' expected");
        c->p++;
    }
    c->p++;
    c->depth--;
    return close_keys(c, first);
}

static bool check_value(struct checker *c)
{
    c->p = skip_blanks(c->p, c->end);
    if (c->p == c->end)
        return refuse(c, "the document ends too early");
    switch (*c->p) {
    case '{':
        return check_container(c, '}');
    case '[':
        return check_container(c, ']');
    case '"':
        return check_string(c, NULL);
    case 't':
        return check_word(c, SLICE_LIT("true"));
    case 'f':
        return check_word(c, SLICE_LIT("false"));
    case 'n':
        return check_word(c, SLICE_LIT("null"));
    default:
        return check_number(c);
    }
}

static size_t line_of(const char *start, const char *at)
{
    size_t line = 1;
    for (; start < at; start++)
        line += *start == '\n';
    return line;
}

int json_check(struct slice text, size_t max_bytes, struct json_span *ret, struct larder_error *e)
{
    if (text.n > max_bytes)
        return error_set(e, LARDER_LIMIT, "JSON document: %zu bytes, at most %zu are read", text.n,
                         max_bytes);
    if (text.n == 0)
        return error_set(e, LARDER_INVAL, "JSON document: empty");
    struct checker c = {.p = text.p, .end = text.p + text.n};
    const char *start = skip_blanks(c.p, c.end);
    bool is_sound = start < c.end && (*start == '{' || *start == '[')
                        ? check_value(&c)
                        : refuse(&c, "an object or array expected");
    const char *end = c.p;
    if (is_sound) {
        c.p = skip_blanks(c.p, c.end);
        is_sound = c.p == c.end || refuse(&c, "end of the document expected");
    }
    free(c.keys);
    if (c.no_memory)
        return error_nomem(e);
    if (!is_sound)
        return error_set(e, LARDER_INVAL, "JSON document: line %zu, byte %zu: %s",
                         line_of(text.p, c.p), (size_t)(c.p - text.p), c.wrong);
    *ret = (struct json_span){start, (size_t)(end - start)};
    return 0;
}

/* ---- reading what was checked ---- */

static bool starts_with(struct json_span span, char c)
{
    return span.p && span.p[0] == c;
}

bool json_span_is_null(struct json_span span)
{
    return !span.p || span.p[0] == 'n';
}

bool json_span_is_object(struct json_span span)
{
    return starts_with(span, '{');
}

bool json_span_is_array(struct json_span span)
{
    return starts_with(span, '[');
}

bool json_span_is_string(struct json_span span)
{
    return starts_with(span, '"');
}

/* Behind the string that begins at p. */
static const char *skip_string(const char *p, const char *end)
{
    for (p++;; p += 2) {
        p = skip_plain(p, end);
        while (*p != '"' && *p != '\\')
            p++;
        if (*p == '"')
            return p + 1;
    }
}

/* Behind the value that begins at p; brackets in strings don't count. */
static const char *skip_value(const char *p, const char *end)
{
    size_t depth = 0;
    if (*p != '{' && *p != '[') {
        if (*p == '"')
            return skip_string(p, end);
        while (p < end && !strchr(",]} \t\r\n", *p))
            p++;
        return p;
    }
    for (;;) {
        if (*p == '"') {
            p = skip_string(p, end);
            continue;
        }
        depth += *p == '{' || *p == '[';
        depth -= *p == '}' || *p == ']';
        p++;
        if (depth == 0)
            return p;
    }
}

/* Steps over one value, and its key in an object. */
static bool next(struct json_span container, const char **at, struct json_span *ret_key,
                 struct json_span *ret)
{
    const char *end = container.p + container.n;
    const char *p = skip_blanks(*at ? *at : container.p + 1, end);
    if (*p == ',')
        p = skip_blanks(p + 1, end);
    if (*p == ']' || *p == '}')
        return false;
    if (container.p[0] == '{') {
        const char *key = p;
        p = skip_string(p, end);
        *ret_key = (struct json_span){key, (size_t)(p - key)};
        p = skip_blanks(p, end);
        p = skip_blanks(p + 1, end); /* the colon */
    }
    *at = skip_value(p, end);
    *ret = (struct json_span){p, (size_t)(*at - p)};
    return true;
}

bool json_span_next_member(struct json_span object, const char **at, struct json_span *ret_key,
                           struct json_span *ret)
{
    return json_span_is_object(object) && next(object, at, ret_key, ret);
}

bool json_span_next(struct json_span container, const char **at, struct json_span *ret)
{
    struct json_span key;
    return (json_span_is_object(container) || json_span_is_array(container)) &&
           next(container, at, &key, ret);
}

/* Longest name written wholly in escapes, six bytes a character. */
#define KEY_MAX_BYTES 256

static bool key_is(struct json_span key, const char *name)
{
    size_t n = strlen(name);
    char text[KEY_MAX_BYTES];
    if (key.n == n + 2 && memcmp(key.p + 1, name, n) == 0)
        return true;
    return key.n > n + 2 && key.n <= sizeof(text) && memchr(key.p, '\\', key.n) &&
           json_span_decode(key, text) == n && memcmp(text, name, n) == 0;
}

void json_span_fields(struct json_span object, const char *const *keys, size_t n,
                      struct json_span *ret)
{
    const char *at = NULL;
    struct json_span key;
    struct json_span value;
    memset(ret, 0, n * sizeof(*ret));
    while (json_span_is_object(object) && next(object, &at, &key, &value)) {
        for (size_t i = 0; i < n; i++) {
            if (key_is(key, keys[i]))
                ret[i] = value;
        }
    }
}

bool json_span_i64(struct json_span span, int64_t *ret)
{
    char text[24];
    char *end = NULL;
    if (!span.p || span.n == 0 || span.n >= sizeof(text) ||
        (span.p[0] != '-' && (span.p[0] < '0' || span.p[0] > '9')))
        return false;
    memcpy(text, span.p, span.n);
    text[span.n] = '\0';
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || *end || end == text)
        return false;
    *ret = value;
    return true;
}

size_t json_span_decode(struct json_span string, char *out)
{
    const char *end = string.p + string.n - 1;
    size_t at = 0;
    for (const char *p = string.p + 1; p < end;) {
        char bytes[4];
        size_t n = 0;
        if (*p != '\\') {
            out[at++] = *p++;
            continue;
        }
        p = read_escape(p, end, bytes, &n);
        if (!p)
            break; /* json_check lets none through */
        memcpy(out + at, bytes, n);
        at += n;
    }
    return at;
}

int json_span_parse(struct json_span span, struct json **ret, struct larder_error *e)
{
    return json_parse((struct slice){span.p, span.n}, span.n, ret, e);
}
