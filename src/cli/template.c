/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/template.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/slice.h"
#include "base/text.h"

#define WORDS_MAX 3
/* Ranges in ranges; documents are not deeper, and the stack stays small. */
#define DEPTH_MAX 8
/* A script's own words in an error. */
#define SHOWN_BYTES 60

struct filling {
    const char *at; /* what is still to be read */
    const struct template_field *fields;
    const struct json *root;
    struct buf *out; /* NULL: only read over it */
    unsigned depth;
    struct larder_error *e;
};

/* {{ words }} */
struct action {
    struct slice words[WORDS_MAX];
    size_t n;
};

static int refuse(const struct filling *f, const char *what, struct slice word)
{
    int n = word.n < SHOWN_BYTES ? (int)word.n : SHOWN_BYTES;
    return error_set(f->e, LARDER_INVAL, "--format: %s: %.*s", what, n, word.p);
}

/* ---- values ---- */

static int print(struct filling *f, const struct json *node);

/* As Go prints maps: sorted. */
static int print_map(struct filling *f, const struct json *node)
{
    size_t n = 0;
    CLEANUP_FREE struct json_member *list = json_sorted(node, &n);
    int rc = 0;

    if (!list)
        return error_nomem(f->e);
    buf_puts(f->out, "map[");
    for (size_t i = 0; rc == 0 && i < n; i++) {
        buf_puts(f->out, i > 0 ? " " : "");
        text_sanitize(slice_of(list[i].key), f->out);
        buf_puts(f->out, ":");
        rc = print(f, list[i].value);
    }
    buf_puts(f->out, "]");
    return rc;
}

static int print_json(struct filling *f, const struct json *node)
{
    if (!node) {
        buf_puts(f->out, "null");
        return 0;
    }
    int rc = json_dump_ordered(node, f->out, f->e);
    if (rc == 0 && f->out->n > 0 && f->out->p[f->out->n - 1] == '\n')
        f->out->n--;
    return rc;
}

static int print(struct filling *f, const struct json *node)
{
    const char *text = json_text(node);
    int rc = 0;

    if (json_node_is_null(node))
        return 0;
    if (text) {
        text_sanitize(slice_of(text), f->out);
        return 0;
    }
    if (json_node_is_object(node))
        return print_map(f, node);
    if (!json_node_is_array(node))
        return print_json(f, node);
    buf_puts(f->out, "[");
    for (size_t i = 0; rc == 0 && i < json_length(node); i++) {
        buf_puts(f->out, i > 0 ? " " : "");
        rc = print(f, json_at(node, i));
    }
    buf_puts(f->out, "]");
    return rc;
}

/* A time as Go prints one; others, and what is no time, as they are. */
static void print_time(struct filling *f, const char *text)
{
    size_t n = strlen(text);

    if (n < 20 || text[10] != 'T' || text[n - 1] != 'Z' || strspn(text, "0123456789-:.TZ") < n) {
        text_sanitize(slice_of(text), f->out);
        return;
    }
    n--;
    if (text[19] == '.') {
        while (text[n - 1] == '0')
            n--;
        n -= text[n - 1] == '.';
    }
    buf_printf(f->out, "%.10s %.*s +0000 UTC", text, (int)n - 11, text + 11);
}

/* ---- operands ---- */

static const struct template_field *field_of(const struct filling *f, struct slice name)
{
    for (const struct template_field *field = f->fields; field->name; field++) {
        if (slice_equal(name, slice_of(field->name)))
            return field;
    }
    return NULL;
}

static int get(const struct filling *f, const struct json *node, struct slice key,
               const struct json **ret)
{
    CLEANUP_FREE char *text = slice_dup(key);

    if (!text)
        return error_nomem(f->e);
    *ret = json_get(node, text);
    return 0;
}

/* "." or ".A.B"; *ret_field: the document's own member that it is, NULL for what is below. */
static int find(const struct filling *f, const struct json *dot, struct slice path,
                const struct json **ret, const struct template_field **ret_field)
{
    struct slice rest = path;
    bool is_top = dot == f->root && f->depth == 0;

    *ret = dot;
    *ret_field = NULL;
    if (rest.n == 0 || rest.p[0] != '.')
        return refuse(f, "expected a field, as .Digest", path);
    for (; rest.n > 1; is_top = false) {
        const char *end = memchr(rest.p + 1, '.', rest.n - 1);
        struct slice name = {rest.p + 1, (end ? (size_t)(end - rest.p) : rest.n) - 1};
        rest = (struct slice){name.p + name.n, rest.n - 1 - name.n};
        *ret_field = is_top ? field_of(f, name) : NULL;
        if (name.n == 0 || (is_top && !*ret_field))
            return refuse(f, "there is no such field", path);
        int rc = get(f, *ret, name, ret);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int print_operand(struct filling *f, const struct json *dot, struct slice path)
{
    const struct template_field *field;
    const struct json *node;
    int rc = find(f, dot, path, &node, &field);

    if (rc < 0 || !f->out)
        return rc;
    if (field && json_node_is_null(node)) {
        buf_puts(f->out, field->empty);
        return 0;
    }
    if (field && strcmp(field->name, "Created") == 0 && json_text(node)) {
        print_time(f, json_text(node));
        return 0;
    }
    return print(f, node);
}

/* ---- actions ---- */

static int call_json(struct filling *f, const struct json *dot, struct slice path)
{
    const struct template_field *field;
    const struct json *node;
    int rc = find(f, dot, path, &node, &field);

    return rc < 0 || !f->out ? rc : print_json(f, node);
}

static int call_len(struct filling *f, const struct json *dot, struct slice path)
{
    const struct template_field *field;
    const struct json *node;
    int rc = find(f, dot, path, &node, &field);

    if (rc == 0 && f->out)
        buf_printf(f->out, "%zu", json_text(node) ? strlen(json_text(node)) : json_length(node));
    return rc;
}

static int call_index(struct filling *f, const struct json *dot, struct slice path,
                      struct slice key)
{
    const struct template_field *field;
    const struct json *node;
    uint64_t number = 0;
    int rc = find(f, dot, path, &node, &field);

    if (rc < 0)
        return rc;
    if (key.n >= 2 && (key.p[0] == '"' || key.p[0] == '`'))
        rc = get(f, node, (struct slice){key.p + 1, key.n - 2}, &node);
    else if (slice_parse_u64(key, &number))
        node = json_at(node, (size_t)number);
    else
        return refuse(f, "expected a \"key\" or a number", key);
    return rc < 0 || !f->out ? rc : print(f, node);
}

/* "{{" was read. Words end at spaces, but for quoted ones. */
static int read_action(struct filling *f, struct action *ret)
{
    const char *start = f->at;

    ret->n = 0;
    for (;;) {
        f->at += strspn(f->at, " \t\n");
        if (strncmp(f->at, "}}", 2) == 0)
            break;
        struct slice word = {f->at, 0};
        char quote = *f->at == '"' || *f->at == '`' ? *f->at : '\0';
        const char *end = quote ? strchr(f->at + 1, quote) : NULL;
        if (quote && end)
            word.n = (size_t)(end - word.p) + 1;
        else if (!quote)
            word.n = strcspn(f->at, " \t\n}");
        if (word.n == 0 || ret->n == WORDS_MAX)
            return refuse(f, "not understood", slice_of(start));
        ret->words[ret->n++] = word;
        f->at += word.n;
    }
    f->at += 2;
    return 0;
}

static int fill(struct filling *f, const struct json *dot, bool *ret_is_end);

static int call_range(struct filling *f, const struct json *dot, struct slice path)
{
    const struct template_field *field;
    const struct json *node;
    const char *body = f->at;
    struct buf *out = f->out;
    bool is_end = false;
    int rc = find(f, dot, path, &node, &field);

    if (rc == 0 && ++f->depth > DEPTH_MAX)
        rc = refuse(f, "too many ranges in each other", path);
    size_t n = rc == 0 && out ? json_length(node) : 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        f->at = body;
        rc = fill(f, json_at(node, i), &is_end);
    }
    if (rc == 0 && n == 0) {
        f->out = NULL;
        rc = fill(f, NULL, &is_end);
        f->out = out;
    }
    if (rc == 0 && !is_end)
        rc = refuse(f, "no {{end}} of the range over", path);
    f->depth--;
    return rc;
}

static int act(struct filling *f, const struct json *dot, const struct action *a, bool *ret_is_end)
{
    const struct slice *words = a->words;

    if (a->n == 1 && slice_equal(words[0], SLICE_LIT("end"))) {
        *ret_is_end = true;
        return f->depth > 0 ? 0 : refuse(f, "no range to be ended by", words[0]);
    }
    if (a->n == 1)
        return print_operand(f, dot, words[0]);
    if (a->n == 2 && slice_equal(words[0], SLICE_LIT("json")))
        return call_json(f, dot, words[1]);
    if (a->n == 2 && slice_equal(words[0], SLICE_LIT("len")))
        return call_len(f, dot, words[1]);
    if (a->n == 2 && slice_equal(words[0], SLICE_LIT("range")))
        return call_range(f, dot, words[1]);
    if (a->n == 3 && slice_equal(words[0], SLICE_LIT("index")))
        return call_index(f, dot, words[1], words[2]);
    return refuse(f, "expected a field, json, index, len, range or end",
                  a->n > 0 ? words[0] : SLICE_LIT("{{}}"));
}

/* To the end of the text, or of the range. */
static int fill(struct filling *f, const struct json *dot, bool *ret_is_end)
{
    *ret_is_end = false;
    while (*f->at && !*ret_is_end) {
        size_t n = strcspn(f->at, "{\\");
        struct action action;
        char escaped = f->at[n] == '\\' ? f->at[n + 1] : '\0';
        if (f->out)
            buf_append(f->out, f->at, n);
        f->at += n;
        if (escaped == 'n' || escaped == 't') {
            if (f->out)
                buf_puts(f->out, escaped == 'n' ? "\n" : "\t");
            f->at += 2;
        } else if (strncmp(f->at, "{{", 2) == 0) {
            f->at += 2;
            int rc = read_action(f, &action);
            if (rc == 0)
                rc = act(f, dot, &action, ret_is_end);
            if (rc < 0)
                return rc;
        } else if (*f->at) {
            if (f->out)
                buf_append(f->out, f->at, 1);
            f->at++;
        }
    }
    return 0;
}

int template_fill(const char *text, const struct template_field *fields,
                  const struct json *document, struct buf *out, struct larder_error *e)
{
    struct filling f = {
        .at = text, .fields = fields, .root = document, .out = document ? out : NULL, .e = e};
    bool is_end = false;
    int rc = fill(&f, document, &is_end);

    if (rc < 0 || !document)
        return rc;
    if (out->n == 0 || out->p[out->n - 1] != '\n')
        buf_puts(out, "\n");
    return buf_failed(out, e);
}
