/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Standard output: text for people, tables, and JSON documents. Everything goes through stdio's
 * stdout; out_finish() finds write errors at the end.
 *
 *     struct doc doc = DOC_INIT;
 *     doc_object(&doc, NULL);
 *     doc_text(&doc, "name", "debian-13");
 *     doc_end(&doc);                       // the outermost end prints and frees it
 *
 * Keys are NULL inside arrays. What has no value (a NULL text, a time of 0, no digest) is left out
 * of an object. Text that is no UTF-8 is shown as text_sanitize() does: JSON has no other.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <larder/digest.h>
#include <larder/error.h>

#define DOC_DEPTH_MAX 8

struct json;

struct doc {
    struct json *open[DOC_DEPTH_MAX]; /* outermost first; only that one is owned */
    unsigned depth;
    bool is_out_of_memory; /* found out once, at the outermost end */
    bool is_line;          /* set before the first doc_object(): printed as one line */
};
#define DOC_INIT ((struct doc){{NULL}, 0, false, false})

/* Whether any document was begun: an error object beside it would spoil it. */
bool doc_was_begun(void);
void doc_object(struct doc *doc, const char *key);
void doc_array(struct doc *doc, const char *key);
void doc_end(struct doc *doc);
void doc_text(struct doc *doc, const char *key, const char *value);
void doc_number(struct doc *doc, const char *key, uint64_t value);
void doc_bool(struct doc *doc, const char *key, bool value);
void doc_time(struct doc *doc, const char *key, int64_t realtime_ns);
void doc_digest(struct doc *doc, const char *key, const struct larder_digest *digest);

/* The node as a document of its own, for what has the shape of somebody else's. NOMEM. */
int out_json(const struct json *node);

/* Text that came from outside: control bytes and escape sequences become visible. */
void put_text(FILE *to, const char *text);

/* ---- tables ---- */

#define TABLE_COLUMNS_MAX 8

/* Rows are kept until table_print(), which aligns them. The last column is not padded. */
struct table {
    unsigned columns;
    unsigned right_columns;                 /* bit n: column n is aligned to the right */
    unsigned min_widths[TABLE_COLUMNS_MAX]; /* not 0: where the terminal is narrower than a row, the
                                               column is cut ("regis...stable"), but not below it */
    char **cells;
    size_t cell_count;
    size_t cell_capacity;
    bool is_out_of_memory;
};

void table_init(struct table *table, unsigned columns, unsigned right_columns);
/* Appends one cell (sanitised and copied); rows fill from left to right. */
void table_cell(struct table *table, const char *text);
/* Characters in a line of standard output's terminal; 0: it is none, or nobody can tell. */
unsigned out_columns(void);
/* Prints and frees. NOMEM when a cell could not be kept. */
int table_print(struct table *table, struct larder_error *e);
/* Frees without printing. */
void table_free(struct table *table);

/* "2 h ago", "never" for 0; returns out. */
char *age_format(int64_t realtime_ns, char out[48]);

/* Flushes stdout. 0, or IO, NOSPACE... of this or any earlier write. *ret_is_pipe: the error is
 * that the reader has gone (`larder image list | head`). */
int out_finish(bool *ret_is_pipe, struct larder_error *e);
