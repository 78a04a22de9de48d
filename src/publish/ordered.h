/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * JSON documents of other programs that are edited in place: members keep their order and numbers
 * their spelling (1.0 stays 1.0, integers may be of any length), and what is written is what
 * Python's json.dump(indent=4) would write. json/json.h is for documents of our own and for those
 * that are only read: it knows no number beyond its C type.
 *
 * Nodes found in a document are borrowed. ordered_set and ordered_append take the child over, also
 * when they fail.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <larder/error.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/slice.h"

enum ordered_kind { ORDERED_OBJECT, ORDERED_ARRAY, ORDERED_STRING, ORDERED_OTHER };

struct ordered {
    enum ordered_kind kind;
    char *key;     /* of a member, spelled as Python does, with its quotes; NULL: no member */
    char *spelled; /* STRING: the same; OTHER: a number, true, false, null as it was read */
    char *text;    /* STRING: UTF-8; NULL when it can't be that (a NUL, half a surrogate pair) */
    struct ordered **items; /* OBJECT, ARRAY */
    size_t n_items;
    size_t room;
};

/* INVAL with line and column (syntax, bad UTF-8, a key twice); LIMIT; NOMEM. Any kind may be the
 * root. */
int ordered_parse(struct slice text, struct ordered **ret, struct larder_error *e);
void ordered_free(struct ordered *node);
DEFINE_CLEANUP(struct ordered *, ordered_free)

/* Member; NULL when there is none or node is no object. node may be NULL. */
struct ordered *ordered_get(const struct ordered *node, const char *key);
/* A string's text; NULL for others. node may be NULL. */
const char *ordered_text(const struct ordered *node);
const char *ordered_get_text(const struct ordered *node, const char *key);
/* The same bytes would be written; two NULLs are equal. */
bool ordered_equal(const struct ordered *a, const struct ordered *b);

/* NULL: out of memory, or text that is not UTF-8. */
struct ordered *ordered_new(enum ordered_kind kind); /* OBJECT, ARRAY */
struct ordered *ordered_new_string(const char *text);
struct ordered *ordered_new_integer(int64_t value);
/* Replaces a member where it is, or adds it at the end. -NOMEM also for a NULL node or child. */
int ordered_set(struct ordered *object, const char *key, struct ordered *child);
int ordered_append(struct ordered *array, struct ordered *child);
void ordered_remove(struct ordered *array, size_t index);

/* Without a newline at the end, as json.dump leaves it. */
int ordered_write(const struct ordered *node, struct buf *out, struct larder_error *e);
