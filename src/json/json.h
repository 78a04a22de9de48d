/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * JSON (RFC 8259): strict parsing, typed access, building, byte-stable writing. The only room that
 * knows jansson.
 *
 * Reading: duplicate keys, trailing bytes, bad UTF-8, comments, NaN and integers beyond int64 are
 * errors. Getters never fail: a missing member or another type gives the default, so that a
 * document is checked by asking for what it needs.
 *
 * Building: setters and appenders return 0 or -LARDER_NOMEM, also for a NULL parent, so that a
 * chain may be checked once (`r |= json_set_...`). A NULL string is left out.
 *
 * Ownership: a document (from json_parse, json_new_*) is freed with json_free by who made it. Nodes
 * found in it are borrowed and live as long as it. json_set / json_append take the child over,
 * also when they fail.
 *
 * Never write a document again that has a digest: keep the bytes as they came.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <larder/error.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/slice.h"

struct json; /* a node */

/* LIMIT beyond max_bytes; INVAL with line and column; NOMEM. */
int json_parse(struct slice text, size_t max_bytes, struct json **ret, struct larder_error *e);
void json_free(struct json *node);
DEFINE_CLEANUP(struct json *, json_free)

/* ---- reading; node may be NULL everywhere ---- */
bool json_node_is_object(const struct json *node);
bool json_node_is_array(const struct json *node);
bool json_node_is_string(const struct json *node);
/* null, or nothing at all: Go writes both for a member that is empty. */
bool json_node_is_null(const struct json *node);
/* Member, NULL when there is none. Borrowed. */
const struct json *json_get(const struct json *node, const char *key);
/* Element, NULL beyond the end. Borrowed. */
const struct json *json_at(const struct json *node, size_t index);
/* Of an array or object; 0 for others. */
size_t json_length(const struct json *node);
/* Borrowed; NULL when missing or no string (a string with a NUL byte counts as none). */
const char *json_get_string(const struct json *node, const char *key);
int64_t json_get_i64(const struct json *node, const char *key, int64_t otherwise);
/* Negative numbers give `otherwise`. */
uint64_t json_get_u64(const struct json *node, const char *key, uint64_t otherwise);
bool json_get_bool(const struct json *node, const char *key, bool otherwise);
/* Value of a string node, NULL for others. */
const char *json_text(const struct json *node);
/* Each member in the document's order; a non-zero result ends the walk and is returned. */
int json_each(const struct json *node,
              int (*fn)(void *arg, const char *key, const struct json *value), void *arg);
struct json_member {
    const char *key;
    const struct json *value;
};
/* All members in the order of their keys' bytes, as Go has maps; malloc'd, of the node's lifetime.
 * NULL: out of memory. */
struct json_member *json_sorted(const struct json *node, size_t *ret_n);

/* ---- building ---- */
struct json *json_new_object(void); /* NULL: out of memory */
struct json *json_new_array(void);
struct json *json_new_string(const char *text);
int json_set(struct json *object, const char *key, struct json *child);
int json_set_string(struct json *object, const char *key, const char *text);
int json_set_i64(struct json *object, const char *key, int64_t value);
/* Values beyond INT64_MAX are refused (INVAL): no reader could take them. */
int json_set_u64(struct json *object, const char *key, uint64_t value);
int json_set_bool(struct json *object, const char *key, bool value);
int json_append(struct json *array, struct json *child);
/* The node once more, for a second document: nothing is copied, so neither may be changed below it
 * from then on. Freed by json_free, or taken over by json_set / json_append. NULL gives NULL. */
struct json *json_share(const struct json *node);

/* ---- writing; appends to out and a newline ---- */
/* Compact, keys sorted: equal documents give equal bytes. */
int json_dump(const struct json *node, struct buf *out, struct larder_error *e);
/* Compact, keys in the order they were read or set: for documents shared with other programs. */
int json_dump_ordered(const struct json *node, struct buf *out, struct larder_error *e);
/* Two spaces, keys in the order they were set: for people and --json. */
int json_dump_pretty(const struct json *node, struct buf *out, struct larder_error *e);
