/* SPDX-License-Identifier: Apache-2.0 */
#include "json/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/error.h"
#include "base/text.h"

/* struct json is never defined: a node is jansson's, under a name of ours. */
static json_t *raw(struct json *node)
{
    return (json_t *)(void *)node;
}

static const json_t *raw_const(const struct json *node)
{
    return (const json_t *)(const void *)node;
}

static struct json *wrap(json_t *node)
{
    return (struct json *)(void *)node;
}

static const struct json *wrap_const(const json_t *node)
{
    return (const struct json *)(const void *)node;
}

/*
 * jansson loses a character of a token, or aborts, when the buffer of its scanner can't grow. So
 * the document is read as the second member of an array whose first makes that buffer large enough
 * for nearly every token; without memory for that one the reading ends right there.
 */
#define FIRST_TOKEN_BYTES 512

struct source {
    struct slice text;
    size_t at;
    unsigned part;
};

static size_t feed(void *out, size_t out_bytes, void *arg)
{
    struct source *source = arg;
    char *to = out;
    if (source->part == 0) {
        /* 1024 bytes are asked for (jansson's MAX_BUF_LEN). */
        if (out_bytes < FIRST_TOKEN_BYTES + 5)
            return (size_t)-1;
        source->part++;
        memcpy(to, "[\"", 2);
        memset(to + 2, 'x', FIRST_TOKEN_BYTES);
        memcpy(to + 2 + FIRST_TOKEN_BYTES, "\",\n", 3); /* lines are counted from behind it */
        return FIRST_TOKEN_BYTES + 5;
    }
    if (source->part == 1 && source->at < source->text.n) {
        size_t left = source->text.n - source->at;
        size_t n = left < out_bytes ? left : out_bytes;
        memcpy(to, source->text.p + source->at, n);
        source->at += n;
        return n;
    }
    if (source->part++ == 1) {
        *to = ']';
        return 1;
    }
    return 0;
}

static json_t *load(struct slice text, json_error_t *why)
{
    struct source source = {text, 0, 0};
    json_t *array = json_load_callback(feed, &source, JSON_REJECT_DUPLICATES, why);
    if (!array) {
        why->line -= why->line > 1;
        return NULL;
    }
    json_t *document = json_array_get(array, 1);
    bool is_one =
        json_array_size(array) == 2 && (json_is_object(document) || json_is_array(document));
    if (is_one) {
        json_incref(document);
    } else {
        snprintf(why->text, sizeof(why->text), "an object or array expected");
        why->line = why->column = 1;
        errno = 0;
    }
    json_decref(array);
    return is_one ? document : NULL;
}

int json_parse(struct slice text, size_t max_bytes, struct json **ret, struct larder_error *e)
{
    json_error_t why;
    if (text.n > max_bytes)
        return error_set(e, LARDER_LIMIT, "JSON document: %zu bytes, at most %zu are read", text.n,
                         max_bytes);
    /* jansson loses one that stands behind a number, and takes the rest for a sound document. */
    if (text.n > 0 && memchr(text.p, '\0', text.n))
        return error_set(e, LARDER_INVAL, "JSON document: has a NUL byte");
    errno = 0;
    json_t *document = load(text, &why);
    /* In most places jansson reports an allocation that failed as bad syntax; errno tells. A sound
     * document must not be taken for a damaged one: fsck would put it aside. */
    if (!document && (errno == ENOMEM || json_error_code(&why) == json_error_out_of_memory))
        return error_nomem(e);
    if (!document) {
        /* The text quotes the input, which may hold terminal escapes. */
        struct buf clean = BUF_INIT(4 * sizeof(why.text));
        text_sanitize(slice_of(why.text), &clean);
        int r = error_set(e, LARDER_INVAL, "JSON document: line %d, column %d: %s", why.line,
                          why.column, clean.p ? clean.p : "malformed");
        buf_done(&clean);
        return r;
    }
    *ret = wrap(document);
    return 0;
}

void json_free(struct json *node)
{
    json_decref(raw(node));
}

bool json_node_is_object(const struct json *node)
{
    return json_is_object(raw_const(node));
}

bool json_node_is_array(const struct json *node)
{
    return json_is_array(raw_const(node));
}

bool json_node_is_string(const struct json *node)
{
    return json_is_string(raw_const(node));
}

bool json_node_is_null(const struct json *node)
{
    return !node || json_is_null(raw_const(node));
}

const struct json *json_get(const struct json *node, const char *key)
{
    return wrap_const(json_object_get(raw_const(node), key));
}

const struct json *json_at(const struct json *node, size_t index)
{
    return wrap_const(json_array_get(raw_const(node), index));
}

size_t json_length(const struct json *node)
{
    return json_is_array(raw_const(node)) ? json_array_size(raw_const(node))
                                          : json_object_size(raw_const(node));
}

const char *json_text(const struct json *node)
{
    const json_t *string = raw_const(node);
    if (!json_is_string(string) || strlen(json_string_value(string)) != json_string_length(string))
        return NULL;
    return json_string_value(string);
}

const char *json_get_string(const struct json *node, const char *key)
{
    return json_text(json_get(node, key));
}

int64_t json_get_i64(const struct json *node, const char *key, int64_t otherwise)
{
    const json_t *value = json_object_get(raw_const(node), key);
    return json_is_integer(value) ? (int64_t)json_integer_value(value) : otherwise;
}

uint64_t json_get_u64(const struct json *node, const char *key, uint64_t otherwise)
{
    int64_t value = json_get_i64(node, key, -1);
    return value < 0 ? otherwise : (uint64_t)value;
}

bool json_get_bool(const struct json *node, const char *key, bool otherwise)
{
    const json_t *value = json_object_get(raw_const(node), key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

int json_each(const struct json *node,
              int (*fn)(void *arg, const char *key, const struct json *value), void *arg)
{
    /* jansson iterates over a mutable object; nothing here changes it. */
    json_t *object = json_is_object(raw_const(node)) ? (json_t *)(uintptr_t)raw_const(node) : NULL;
    for (void *i = json_object_iter(object); i; i = json_object_iter_next(object, i)) {
        int r = fn(arg, json_object_iter_key(i), wrap_const(json_object_iter_value(i)));
        if (r != 0)
            return r;
    }
    return 0;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct json_member *)a)->key, ((const struct json_member *)b)->key);
}

struct json_member *json_sorted(const struct json *node, size_t *ret_n)
{
    json_t *object = json_is_object(raw_const(node)) ? (json_t *)(uintptr_t)raw_const(node) : NULL;
    struct json_member *list = calloc(json_object_size(object) + 1, sizeof(*list));
    size_t n = 0;

    if (!list)
        return NULL;
    for (void *i = json_object_iter(object); i; i = json_object_iter_next(object, i))
        list[n++] =
            (struct json_member){json_object_iter_key(i), wrap_const(json_object_iter_value(i))};
    qsort(list, n, sizeof(*list), by_key);
    *ret_n = n;
    return list;
}

struct json *json_new_object(void)
{
    return wrap(json_object());
}

struct json *json_new_array(void)
{
    return wrap(json_array());
}

struct json *json_new_string(const char *text)
{
    return wrap(json_string(text));
}

/* The _new functions of jansson free the child when they fail, also for a NULL parent. */
int json_set(struct json *object, const char *key, struct json *child)
{
    return json_object_set_new(raw(object), key, raw(child)) < 0 ? -LARDER_NOMEM : 0;
}

/* Text that is not UTF-8 (a server's header, a file name) is kept with U+FFFD in its place. */
static json_t *string_of(const char *text)
{
    json_t *made = json_string(text);
    if (made)
        return made;
    struct buf fixed = BUF_INIT(1024 * 1024);
    for (const char *p = text; *p; p++) {
        if ((unsigned char)*p < 0x80)
            buf_putc(&fixed, *p);
        else
            buf_puts(&fixed, "\xef\xbf\xbd");
    }
    made = fixed.p ? json_string(fixed.p) : NULL;
    buf_done(&fixed);
    return made;
}

int json_set_string(struct json *object, const char *key, const char *text)
{
    return text ? json_set(object, key, wrap(string_of(text))) : 0;
}

int json_set_i64(struct json *object, const char *key, int64_t value)
{
    return json_set(object, key, wrap(json_integer((json_int_t)value)));
}

int json_set_u64(struct json *object, const char *key, uint64_t value)
{
    if (value > INT64_MAX)
        return -LARDER_INVAL;
    return json_set_i64(object, key, (int64_t)value);
}

int json_set_bool(struct json *object, const char *key, bool value)
{
    return json_set(object, key, wrap(json_boolean(value)));
}

int json_append(struct json *array, struct json *child)
{
    return json_array_append_new(raw(array), raw(child)) < 0 ? -LARDER_NOMEM : 0;
}

struct json *json_share(const struct json *node)
{
    /* Only the count of its references changes. */
    return wrap(json_incref((json_t *)(uintptr_t)raw_const(node)));
}

static int append_chunk(const char *data, size_t n, void *out)
{
    buf_append(out, data, n);
    return ((struct buf *)out)->failed == LARDER_OK ? 0 : -1;
}

static int dump(const struct json *node, size_t flags, struct buf *out, struct larder_error *e)
{
    if (!node)
        return error_nomem(e);
    int r = json_dump_callback(raw_const(node), append_chunk, out, flags | JSON_ENCODE_ANY);
    buf_putc(out, '\n');
    if (buf_failed(out, e) < 0)
        return buf_failed(out, e);
    return r < 0 ? error_nomem(e) : 0;
}

int json_dump(const struct json *node, struct buf *out, struct larder_error *e)
{
    return dump(node, JSON_COMPACT | JSON_SORT_KEYS, out, e);
}

int json_dump_ordered(const struct json *node, struct buf *out, struct larder_error *e)
{
    return dump(node, JSON_COMPACT | JSON_PRESERVE_ORDER, out, e);
}

int json_dump_pretty(const struct json *node, struct buf *out, struct larder_error *e)
{
    return dump(node, JSON_INDENT(2) | JSON_PRESERVE_ORDER, out, e);
}
