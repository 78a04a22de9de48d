/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ini.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"

/* A configuration is written by people; a larger file is a mistake or an attack. */
#define INI_BYTES_MAX (1u << 20)

struct parser {
    const char *file;
    unsigned line;
    struct buf section;
    struct buf section_name;
    struct buf key;
    struct buf value;
};

static bool is_word_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
}

static size_t word_length(struct slice s)
{
    size_t n = 0;

    while (n < s.n && is_word_char(s.p[n]))
        n++;
    return n;
}

static struct slice skip(struct slice s, size_t n)
{
    return (struct slice){s.p + n, s.n - n};
}

static int bad(const struct parser *p, const char *what, struct larder_error *e)
{
    return error_set(e, LARDER_INVAL, "%s:%u: %s", p->file, p->line, what);
}

static int set(struct buf *b, struct slice s, struct larder_error *e)
{
    buf_reset(b);
    buf_append_slice(b, s);
    return buf_failed(b, e);
}

/* "..." at the start of s into out; *ret_n is its length with the quotes. */
static int unquote(const struct parser *p, struct slice s, struct buf *out, size_t *ret_n,
                   struct larder_error *e)
{
    size_t i;

    buf_reset(out);
    buf_append(out, "", 0); /* "" is a value too */
    for (i = 1; i < s.n && s.p[i] != '"'; i++) {
        char c = s.p[i];

        if (c == '\\') {
            c = ++i < s.n ? s.p[i] : 0;
            if (c == 'n')
                c = '\n';
            else if (c == 't')
                c = '\t';
            else if (c != '"' && c != '\\')
                return bad(p, "unknown escape, expected \\\", \\\\, \\n or \\t", e);
        }
        buf_putc(out, c);
    }
    if (i >= s.n)
        return bad(p, "quote is not closed", e);
    *ret_n = i + 1;
    return buf_failed(out, e);
}

/* `[section]` or `[section "name"]`; s begins after the bracket. */
static int parse_section(struct parser *p, struct slice s, struct larder_error *e)
{
    size_t n;
    int rc;

    s = slice_trim(s);
    n = word_length(s);
    if (n == 0)
        return bad(p, "expected the name of a section after [", e);
    rc = set(&p->section, (struct slice){s.p, n}, e);
    if (rc < 0)
        return rc;
    s = slice_trim(skip(s, n));
    rc = set(&p->section_name, SLICE_LIT(""), e);
    if (rc < 0)
        return rc;
    if (s.n && s.p[0] == '"') {
        rc = unquote(p, s, &p->section_name, &n, e);
        if (rc < 0)
            return rc;
        s = slice_trim(skip(s, n));
    }
    if (!slice_equal(s, SLICE_LIT("]")))
        return bad(p, "expected [section] or [section \"name\"]", e);
    return 0;
}

static int parse_value(struct parser *p, struct slice s, struct larder_error *e)
{
    size_t n = 0;
    int rc;

    if (s.n == 0 || s.p[0] != '"')
        return set(&p->value, s, e);
    rc = unquote(p, s, &p->value, &n, e);
    if (rc < 0)
        return rc;
    if (n != s.n)
        return bad(p, "text after the closing quote", e);
    return 0;
}

static int parse_item(struct parser *p, struct slice s, ini_handler *handler, void *arg,
                      struct larder_error *e)
{
    struct ini_item item = {.file = p->file, .line = p->line};
    size_t n = word_length(s);
    struct slice rest = slice_trim(skip(s, n));
    int rc;

    if (n == 0 || rest.n == 0 || rest.p[0] != '=')
        return bad(p, "expected key = value, [section] or a comment", e);
    rc = set(&p->key, (struct slice){s.p, n}, e);
    if (rc == 0)
        rc = parse_value(p, slice_trim(skip(rest, 1)), e);
    if (rc < 0)
        return rc;
    item.section = p->section.p;
    item.section_name = p->section_name.p;
    item.key = p->key.p;
    item.value = p->value.p;
    return handler(arg, &item, e);
}

static bool has_control(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (((unsigned char)s.p[i] < 0x20 && s.p[i] != '\t') || s.p[i] == 0x7f)
            return true;
    }
    return false;
}

static int parse_line(struct parser *p, struct slice line, ini_handler *handler, void *arg,
                      struct larder_error *e)
{
    struct slice s = slice_trim(line);

    if (s.n == 0 || s.p[0] == '#' || s.p[0] == ';')
        return 0;
    if (has_control(s))
        return bad(p, "control character", e);
    if (s.p[0] == '[')
        return parse_section(p, skip(s, 1), e);
    return parse_item(p, s, handler, arg, e);
}

int ini_parse(struct slice text, const char *file, ini_handler *handler, void *arg,
              struct larder_error *e)
{
    struct parser p = {
        .file = file,
        .section = BUF_INIT(INI_BYTES_MAX),
        .section_name = BUF_INIT(INI_BYTES_MAX),
        .key = BUF_INIT(INI_BYTES_MAX),
        .value = BUF_INIT(INI_BYTES_MAX),
    };
    struct slice line;
    int rc;

    if (text.n > INI_BYTES_MAX)
        return error_set(e, LARDER_LIMIT, "%s: size %zu, expected at most %u", file, text.n,
                         INI_BYTES_MAX);
    /* Keys before the first section belong to "". */
    rc = set(&p.section, SLICE_LIT(""), e);
    if (rc == 0)
        rc = set(&p.section_name, SLICE_LIT(""), e);
    while (rc >= 0 && slice_next_line(&text, &line)) {
        p.line++;
        rc = parse_line(&p, line, handler, arg, e);
    }
    buf_done(&p.section);
    buf_done(&p.section_name);
    buf_done(&p.key);
    buf_done(&p.value);
    return rc < 0 ? rc : 0;
}
