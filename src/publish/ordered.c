/* SPDX-License-Identifier: Apache-2.0 */
#include "publish/ordered.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "publish/ordered_string.h"

/* Documents of builds nest five deep; recursion must not eat the stack. */
#define DEPTH_MAX 100
/* Keys are compared each with each. */
#define MEMBERS_MAX 10000
/* A node takes a hundred times the memory of its shortest text. */
#define NODES_MAX 500000
/* Files of a few hundred KiB are what is met. */
#define TEXT_BYTES_MAX (32UL * 1024 * 1024)
#define INDENT         4

struct reader {
    const char *start, *p, *end;
    size_t n_nodes;
    unsigned depth;
    struct larder_error *e;
};

static int bad(struct reader *r, const char *why)
{
    size_t line = 1, column = 1;
    for (const char *p = r->start; p < r->p; p++) {
        column = *p == '\n' ? 1 : column + 1;
        line += *p == '\n';
    }
    return error_set(r->e, LARDER_INVAL, "JSON document: line %zu, column %zu: %s", line, column,
                     why);
}

static void skip_blanks(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
        r->p++;
}

static bool take(struct reader *r, char c)
{
    if (r->p == r->end || *r->p != c)
        return false;
    r->p++;
    return true;
}

void ordered_free(struct ordered *node)
{
    if (!node)
        return;
    for (size_t i = 0; i < node->n_items; i++)
        ordered_free(node->items[i]);
    free(node->items);
    free(node->key);
    free(node->spelled);
    free(node->text);
    free(node);
}

struct ordered *ordered_new(enum ordered_kind kind)
{
    struct ordered *node = calloc(1, sizeof(*node));
    if (node)
        node->kind = kind;
    return node;
}

static int add_item(struct ordered *list, struct ordered *item)
{
    if (list->n_items == list->room) {
        size_t room = list->room ? 2 * list->room : 8;
        struct ordered **grown = realloc(list->items, room * sizeof(struct ordered *));
        if (!grown)
            return -LARDER_NOMEM;
        list->items = grown;
        list->room = room;
    }
    list->items[list->n_items++] = item;
    return 0;
}

/* ---- reading ---- */

static int read_value(struct reader *r, struct ordered **ret);

static int read_string(struct reader *r, char **ret_spelled, char **ret_text)
{
    struct slice rest = {r->p, (size_t)(r->end - r->p)};
    const char *why = NULL;
    int rc = ordered_string_read(&rest, ret_spelled, ret_text, &why);
    if (rc == -LARDER_NOMEM)
        return error_nomem(r->e);
    r->p = rest.p;
    return rc < 0 ? bad(r, why) : 0;
}

static size_t count_digits(const char *p, const char *end)
{
    size_t n = 0;
    while (p + n < end && p[n] >= '0' && p[n] <= '9')
        n++;
    return n;
}

/* Bytes of a number (RFC 8259 section 6); 0: none. */
static size_t number_bytes(const char *start, const char *end)
{
    const char *p = start;
    if (p < end && *p == '-')
        p++;
    size_t n = count_digits(p, end);
    if (n == 0 || (n > 1 && *p == '0'))
        return 0;
    p += n;
    if (p < end && *p == '.') {
        n = count_digits(p + 1, end);
        if (n == 0)
            return 0;
        p += 1 + n;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        n = count_digits(p, end);
        if (n == 0)
            return 0;
        p += n;
    }
    return (size_t)(p - start);
}

static int read_other(struct reader *r, struct ordered *node)
{
    static const struct slice words[] = {SLICE_INIT("true"), SLICE_INIT("false"),
                                         SLICE_INIT("null")};
    struct slice rest = {r->p, (size_t)(r->end - r->p)};
    size_t n = number_bytes(r->p, r->end);
    for (size_t i = 0; i < ARRAY_LEN(words) && n == 0; i++)
        n = slice_starts(rest, words[i]) ? words[i].n : 0;
    if (n == 0)
        return bad(r, "a value expected");
    node->spelled = slice_dup((struct slice){r->p, n});
    if (!node->spelled)
        return error_nomem(r->e);
    r->p += n;
    return 0;
}

static bool has_key(const struct ordered *object, const char *key)
{
    for (size_t i = 0; i < object->n_items; i++) {
        if (object->items[i]->key && strcmp(object->items[i]->key, key) == 0)
            return true;
    }
    return false;
}

static int read_key(struct reader *r, const struct ordered *object, char **ret)
{
    CLEANUP_FREE char *key = NULL, *text = NULL;
    if (r->p == r->end || *r->p != '"')
        return bad(r, "a key expected");
    int rc = read_string(r, &key, &text);
    if (rc < 0)
        return rc;
    /* Readers differ in which of two they take. */
    if (has_key(object, key))
        return bad(r, "a key twice");
    skip_blanks(r);
    if (!take(r, ':'))
        return bad(r, "':' expected");
    skip_blanks(r);
    *ret = TAKE_PTR(key);
    return 0;
}

/* The members or elements up to the closing bracket. */
static int read_items(struct reader *r, struct ordered *list)
{
    bool is_object = list->kind == ORDERED_OBJECT;
    char close = is_object ? '}' : ']';
    skip_blanks(r);
    if (take(r, close))
        return 0;
    for (;;) {
        CLEANUP_FREE char *key = NULL;
        struct ordered *item = NULL;
        skip_blanks(r);
        int rc = is_object ? read_key(r, list, &key) : 0;
        if (rc == 0)
            rc = read_value(r, &item);
        if (rc < 0 || !item)
            return rc;
        item->key = TAKE_PTR(key);
        if (is_object && list->n_items == MEMBERS_MAX) {
            ordered_free(item);
            return error_set(r->e, LARDER_LIMIT, "JSON document: an object of more than %d members",
                             MEMBERS_MAX);
        }
        if (add_item(list, item) < 0) {
            ordered_free(item);
            return error_nomem(r->e);
        }
        skip_blanks(r);
        if (take(r, close))
            return 0;
        if (!take(r, ','))
            return bad(r, is_object ? "',' or '}' expected" : "',' or ']' expected");
    }
}

static int read_list(struct reader *r, struct ordered *node)
{
    if (++r->depth > DEPTH_MAX)
        return error_set(r->e, LARDER_LIMIT, "JSON document: nested more than %d deep", DEPTH_MAX);
    r->p++;
    int rc = read_items(r, node);
    r->depth--;
    return rc;
}

static int read_value(struct reader *r, struct ordered **ret)
{
    char c = r->p < r->end ? *r->p : 0;
    enum ordered_kind kind = c == '{'   ? ORDERED_OBJECT
                             : c == '[' ? ORDERED_ARRAY
                             : c == '"' ? ORDERED_STRING
                                        : ORDERED_OTHER;
    if (++r->n_nodes > NODES_MAX)
        return error_set(r->e, LARDER_LIMIT, "JSON document: more than %d values", NODES_MAX);
    CLEANUP(ordered_freep) struct ordered *node = ordered_new(kind);
    if (!node)
        return error_nomem(r->e);
    int rc = kind == ORDERED_STRING  ? read_string(r, &node->spelled, &node->text)
             : kind == ORDERED_OTHER ? read_other(r, node)
                                     : read_list(r, node);
    if (rc < 0)
        return rc;
    *ret = TAKE_PTR(node);
    return 0;
}

int ordered_parse(struct slice text, struct ordered **ret, struct larder_error *e)
{
    CLEANUP(ordered_freep) struct ordered *node = NULL;
    struct reader r = {text.p, text.p, text.p + text.n, 0, 0, e};
    if (text.n > TEXT_BYTES_MAX)
        return error_set(e, LARDER_LIMIT, "JSON document: %zu bytes, at most %lu are read", text.n,
                         TEXT_BYTES_MAX);
    if (text.n == 0)
        return error_set(e, LARDER_INVAL, "JSON document: empty");
    skip_blanks(&r);
    int rc = read_value(&r, &node);
    if (rc < 0)
        return rc;
    skip_blanks(&r);
    if (r.p != r.end)
        return bad(&r, "nothing more expected");
    *ret = TAKE_PTR(node);
    return 0;
}

/* ---- looking ---- */

struct ordered *ordered_get(const struct ordered *node, const char *key)
{
    CLEANUP_FREE char *spelled = NULL;
    if (!node || node->kind != ORDERED_OBJECT)
        return NULL;
    /* Few keys need an escape; then no memory is needed to compare. */
    size_t n = strlen(key);
    for (size_t i = 0; i < node->n_items && !strpbrk(key, "\\\""); i++) {
        const char *have = node->items[i]->key;
        if (have && strncmp(have + 1, key, n) == 0 && strcmp(have + 1 + n, "\"") == 0)
            return node->items[i];
    }
    spelled = ordered_string_spell(key);
    for (size_t i = 0; spelled && i < node->n_items; i++) {
        if (node->items[i]->key && strcmp(node->items[i]->key, spelled) == 0)
            return node->items[i];
    }
    return NULL;
}

const char *ordered_text(const struct ordered *node)
{
    return node && node->kind == ORDERED_STRING ? node->text : NULL;
}

const char *ordered_get_text(const struct ordered *node, const char *key)
{
    return ordered_text(ordered_get(node, key));
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool ordered_equal(const struct ordered *a, const struct ordered *b)
{
    if (!a || !b)
        return a == b;
    if (a->kind != b->kind || a->n_items != b->n_items || !same_text(a->spelled, b->spelled))
        return false;
    for (size_t i = 0; i < a->n_items; i++) {
        if (!same_text(a->items[i]->key, b->items[i]->key) ||
            !ordered_equal(a->items[i], b->items[i]))
            return false;
    }
    return true;
}

/* ---- building ---- */

struct ordered *ordered_new_string(const char *text)
{
    CLEANUP(ordered_freep) struct ordered *node = ordered_new(ORDERED_STRING);
    if (!node)
        return NULL;
    node->text = strdup(text);
    node->spelled = ordered_string_spell(text);
    return node->text && node->spelled ? TAKE_PTR(node) : NULL;
}

struct ordered *ordered_new_integer(int64_t value)
{
    CLEANUP(ordered_freep) struct ordered *node = ordered_new(ORDERED_OTHER);
    char digits[24];
    snprintf(digits, sizeof(digits), "%lld", (long long)value);
    if (node)
        node->spelled = strdup(digits);
    return node && node->spelled ? TAKE_PTR(node) : NULL;
}

int ordered_set(struct ordered *object, const char *key, struct ordered *child)
{
    CLEANUP(ordered_freep) struct ordered *owned = child;
    if (!object || !child)
        return -LARDER_NOMEM;
    free(child->key);
    child->key = ordered_string_spell(key);
    if (!child->key)
        return -LARDER_NOMEM;
    for (size_t i = 0; i < object->n_items; i++) {
        if (!same_text(object->items[i]->key, child->key))
            continue;
        ordered_free(object->items[i]);
        object->items[i] = TAKE_PTR(owned);
        return 0;
    }
    if (add_item(object, child) < 0)
        return -LARDER_NOMEM;
    (void)TAKE_PTR(owned);
    return 0;
}

int ordered_append(struct ordered *array, struct ordered *child)
{
    if (!array || !child || add_item(array, child) < 0) {
        ordered_free(child);
        return -LARDER_NOMEM;
    }
    return 0;
}

void ordered_remove(struct ordered *array, size_t index)
{
    ordered_free(array->items[index]);
    array->n_items--;
    memmove(array->items + index, array->items + index + 1,
            (array->n_items - index) * sizeof(struct ordered *));
}

/* ---- writing ---- */

static void new_line(struct buf *out, unsigned depth)
{
    buf_putc(out, '\n');
    for (unsigned i = 0; i < depth * INDENT; i++)
        buf_putc(out, ' ');
}

static void write_node(const struct ordered *node, unsigned depth, struct buf *out)
{
    if (node->spelled) {
        buf_puts(out, node->spelled);
        return;
    }
    bool is_object = node->kind == ORDERED_OBJECT;
    buf_putc(out, is_object ? '{' : '[');
    for (size_t i = 0; i < node->n_items; i++) {
        if (i > 0)
            buf_putc(out, ',');
        new_line(out, depth + 1);
        if (is_object) {
            buf_puts(out, node->items[i]->key);
            buf_puts(out, ": ");
        }
        write_node(node->items[i], depth + 1, out);
    }
    if (node->n_items > 0)
        new_line(out, depth);
    buf_putc(out, is_object ? '}' : ']');
}

int ordered_write(const struct ordered *node, struct buf *out, struct larder_error *e)
{
    write_node(node, 0, out);
    return buf_failed(out, e);
}
