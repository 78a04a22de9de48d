/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/out.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"
#include "json/json.h"

/* ---- JSON ---- */

/* Far beyond the list of all blobs of a large store. */
#define DOC_BYTES_MAX ((size_t)1 << 30)

static bool doc_begun;
/* A document that could not be made is a failure of the program's output. */
static bool doc_failed;

bool doc_was_begun(void)
{
    return doc_begun;
}

/* Puts the child, which is taken over, into the innermost open node. */
static void doc_add(struct doc *doc, const char *key, struct json *child)
{
    struct json *parent;

    if (!child || doc->depth == 0) {
        doc->is_out_of_memory = true;
        json_free(child);
        return;
    }
    parent = doc->open[doc->depth - 1];
    if ((key ? json_set(parent, key, child) : json_append(parent, child)) < 0)
        doc->is_out_of_memory = true;
}

static void doc_open(struct doc *doc, const char *key, struct json *node)
{
    if (doc->depth == DOC_DEPTH_MAX)
        abort(); /* a mistake in this program, not in its input */
    doc_begun = true;
    if (doc->depth == 0) {
        doc->is_out_of_memory = !node;
    } else {
        doc_add(doc, key, node);
        /* The parent has freed what it could not take. */
        if (doc->is_out_of_memory)
            node = NULL;
    }
    doc->open[doc->depth++] = node;
}

void doc_object(struct doc *doc, const char *key)
{
    doc_open(doc, key, json_new_object());
}

void doc_array(struct doc *doc, const char *key)
{
    doc_open(doc, key, json_new_array());
}

/*
 * JSON's writer leaves DEL and C1 as they are (U+009B begins a terminal sequence as ESC [ does);
 * the same string, spelled so that a terminal does nothing. They occur in strings only.
 */
static void write_json(struct slice text)
{
    size_t done = 0;

    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        unsigned char next = i + 1 < text.n ? (unsigned char)text.p[i + 1] : 0;
        size_t n = c == 0x7f ? 1 : c == 0xc2 && next >= 0x80 && next < 0xa0 ? 2 : 0;

        if (n == 0)
            continue;
        fwrite(text.p + done, 1, i - done, stdout);
        fprintf(stdout, "\\u%04X", n == 2 ? next : c);
        done = i + n;
        i = done - 1;
    }
    fwrite(text.p + done, 1, text.n - done, stdout);
}

static int put_json(const struct json *node, bool is_line)
{
    struct buf text = BUF_INIT(DOC_BYTES_MAX);
    int rc = is_line ? json_dump_ordered(node, &text, NULL) : json_dump_pretty(node, &text, NULL);

    doc_begun = true;
    if (rc == 0)
        write_json(buf_slice(&text));
    buf_done(&text);
    return rc;
}

int out_json(const struct json *node)
{
    return put_json(node, false);
}

void doc_end(struct doc *doc)
{
    struct json *root = doc->open[0];

    if (--doc->depth > 0)
        return;
    if (doc->is_out_of_memory || put_json(root, doc->is_line) < 0)
        doc_failed = true;
    json_free(root);
    *doc = DOC_INIT;
}

void doc_text(struct doc *doc, const char *key, const char *value)
{
    struct buf clean = BUF_INIT(DOC_BYTES_MAX);
    struct json *node;

    if (!value)
        return;
    node = json_new_string(value);
    if (!node) { /* no UTF-8, or no memory: then this fails, too */
        text_sanitize(slice_of(value), &clean);
        node = json_new_string(clean.p ? clean.p : "");
    }
    doc_add(doc, key, node);
    buf_done(&clean);
}

void doc_number(struct doc *doc, const char *key, uint64_t value)
{
    if (doc->depth && json_set_u64(doc->open[doc->depth - 1], key, value) < 0)
        doc->is_out_of_memory = true;
}

void doc_bool(struct doc *doc, const char *key, bool value)
{
    if (doc->depth && json_set_bool(doc->open[doc->depth - 1], key, value) < 0)
        doc->is_out_of_memory = true;
}

void doc_time(struct doc *doc, const char *key, int64_t realtime_ns)
{
    char text[40];

    if (realtime_ns)
        doc_text(doc, key, time_format(realtime_ns, text));
}

void doc_digest(struct doc *doc, const char *key, const struct larder_digest *digest)
{
    char text[LARDER_DIGEST_TEXT_BYTES];

    if (digest->alg != LARDER_DIGEST_NONE)
        doc_text(doc, key, larder_digest_format(digest, text));
}

/* ---- text ---- */

/* Longest text from outside that is shown whole. */
#define PUT_TEXT_BYTES_MAX (1024 * 1024)

void put_text(FILE *to, const char *text)
{
    struct buf clean = BUF_INIT(PUT_TEXT_BYTES_MAX);

    text_sanitize(slice_of(text), &clean);
    if (buf_failed(&clean, NULL) < 0) {
        /* "out of memory" is told without any. */
        for (; *text; text++)
            putc((unsigned char)*text < ' ' || (unsigned char)*text > '~' ? '?' : *text, to);
    } else if (clean.n) {
        fwrite(clean.p, 1, clean.n, to);
    }
    buf_done(&clean);
}

void table_init(struct table *table, unsigned columns, unsigned right_columns)
{
    memset(table, 0, sizeof(*table));
    table->columns = columns < TABLE_COLUMNS_MAX ? columns : TABLE_COLUMNS_MAX;
    table->right_columns = right_columns;
}

void table_cell(struct table *table, const char *text)
{
    struct buf clean = BUF_INIT(PUT_TEXT_BYTES_MAX);

    if (table->is_out_of_memory)
        return;
    if (table->cell_count == table->cell_capacity) {
        size_t capacity = table->cell_capacity ? table->cell_capacity * 2 : 64;
        char **cells = reallocarray(table->cells, capacity, sizeof(*cells));

        if (!cells) {
            table->is_out_of_memory = true;
            return;
        }
        table->cells = cells;
        table->cell_capacity = capacity;
    }
    text_sanitize(slice_of(text), &clean);
    table->cells[table->cell_count] = buf_take(&clean);
    buf_done(&clean);
    if (!table->cells[table->cell_count])
        table->is_out_of_memory = true;
    else
        table->cell_count++;
}

/* Characters, not bytes: what a column's width is made of (wide ones are taken for one). */
static size_t text_width(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

unsigned out_columns(void)
{
    struct winsize size = {.ws_col = 0};

    return isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

/* Behind so many characters. */
static const char *text_skip(const char *text, size_t n)
{
    while (*text && (n > 0 || ((unsigned char)*text & 0xc0) == 0x80)) {
        text++;
        n -= n > 0 && ((unsigned char)*text & 0xc0) != 0x80;
    }
    return text;
}

/* Names differ at their ends: most of that stays. */
static void print_cut(const char *text, size_t width)
{
    static const char gap[] = "...";
    size_t has = text_width(text);
    size_t begin = (width - (sizeof(gap) - 1)) / 3;
    size_t end = width - (sizeof(gap) - 1) - begin;

    if (has <= width || width < sizeof(gap)) {
        fputs(text, stdout);
        return;
    }
    fwrite(text, 1, (size_t)(text_skip(text, begin) - text), stdout);
    fputs(gap, stdout);
    fputs(text_skip(text, has - end), stdout);
}

static void print_cell(const struct table *table, size_t column, const char *text, size_t width)
{
    size_t has = text_width(text);
    size_t pad = has < width ? width - has : 0;
    bool is_right = table->right_columns & (1u << column);
    bool is_last = column + 1 == table->columns;

    if (is_right)
        printf("%*s", (int)pad, "");
    print_cut(text, width);
    if (!is_right && !is_last)
        printf("%*s", (int)pad, "");
    fputs(is_last ? "\n" : "  ", stdout);
}

/* From the right, until a row fits or there is nothing to be cut. */
static void shrink(const struct table *table, size_t widths[TABLE_COLUMNS_MAX], size_t columns)
{
    size_t sum = 2 * (size_t)(table->columns - 1);

    for (size_t i = 0; i < table->columns; i++)
        sum += widths[i];
    for (size_t i = table->columns; i > 0 && sum > columns; i--) {
        size_t least = table->min_widths[i - 1];
        size_t spare = least && widths[i - 1] > least ? widths[i - 1] - least : 0;
        size_t less = spare < sum - columns ? spare : sum - columns;

        widths[i - 1] -= less;
        sum -= less;
    }
}

int table_print(struct table *table, struct larder_error *e)
{
    size_t widths[TABLE_COLUMNS_MAX] = {0};
    int rc = table->is_out_of_memory ? error_nomem(e) : 0;

    for (size_t i = 0; rc == 0 && i < table->cell_count; i++) {
        size_t width = text_width(table->cells[i]);

        if (width > widths[i % table->columns])
            widths[i % table->columns] = width;
    }
    if (out_columns())
        shrink(table, widths, out_columns());
    for (size_t i = 0; i < table->cell_count; i++) {
        if (rc == 0)
            print_cell(table, i % table->columns, table->cells[i], widths[i % table->columns]);
    }
    table_free(table);
    return rc;
}

void table_free(struct table *table)
{
    for (size_t i = 0; i < table->cell_count; i++)
        free(table->cells[i]);
    free(table->cells);
    memset(table, 0, sizeof(*table));
}

char *age_format(int64_t realtime_ns, char out[48])
{
    char text[32];
    int64_t age = clock_realtime_ns() - realtime_ns;

    if (realtime_ns == 0)
        snprintf(out, 48, "never");
    else if (age < NS_PER_S)
        snprintf(out, 48, "now");
    else
        snprintf(out, 48, "%s ago", duration_format(age / NS_PER_S * NS_PER_S, text));
    return out;
}

/* What a failed write said is lost by now; a pipe that nobody reads can still be told. */
static bool out_is_broken_pipe(void)
{
    struct pollfd out = {.fd = fileno(stdout), .events = POLLOUT};
    return poll(&out, 1, 0) == 1 && (out.revents & POLLERR);
}

int out_finish(bool *ret_is_pipe, struct larder_error *e)
{
    bool had_error = ferror(stdout) != 0;

    *ret_is_pipe = false;
    if (doc_failed)
        return error_nomem(e);
    errno = 0;
    if (fflush(stdout) == 0 && !had_error)
        return 0;
    /* An earlier failure left no errno behind; it is nearly always the reason of this one, too. */
    if (errno == 0 && out_is_broken_pipe())
        errno = EPIPE;
    if (errno == EPIPE)
        *ret_is_pipe = true;
    if (errno == 0)
        return error_set(e, LARDER_IO, "standard output: write failed");
    return error_errno_code(e, LARDER_IO, errno, "standard output");
}
