/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * JSON read in place: no tree is built, a value is a piece of the text. For documents that others
 * may make large (an index of 20,000 members would be a tree of 40 MB).
 *
 *     struct json_span all;
 *     r = json_check(text, max_bytes, &all, e);          // as strict as json_parse
 *     struct json_span fields[2];
 *     static const char *const keys[] = {"digest", "size"};
 *     json_span_fields(all, keys, 2, fields);            // p NULL where missing
 *
 * Nothing but json_check looks at syntax: the others are only for what it passed. As with
 * json_parse, duplicate keys, NUL characters, bad UTF-8 and integers beyond int64 are errors.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <larder/error.h>

#include "base/slice.h"
#include "json/json.h"

/* Borrows from the text; p NULL: nothing there. */
struct json_span {
    const char *p;
    size_t n;
};

/* Checks an object or array to its end. LIMIT beyond max_bytes; INVAL with the line and byte, also
 * for more than 256 levels; NOMEM (it takes 8 bytes a member of the objects open at one time). */
int json_check(struct slice text, size_t max_bytes, struct json_span *ret, struct larder_error *e);

/* null or nothing. */
bool json_span_is_null(struct json_span span);
bool json_span_is_object(struct json_span span);
bool json_span_is_array(struct json_span span);
bool json_span_is_string(struct json_span span);
/* Values of these members of an object, in their order. */
void json_span_fields(struct json_span object, const char *const *keys, size_t n,
                      struct json_span *ret);
/* Elements of an array or values of an object: begin with *at NULL. False: no more. */
bool json_span_next(struct json_span container, const char **at, struct json_span *ret);
/* The same of an object's members, with their keys, which are strings to be decoded. */
bool json_span_next_member(struct json_span object, const char **at, struct json_span *ret_key,
                           struct json_span *ret);
/* False when it is no integer. */
bool json_span_i64(struct json_span span, int64_t *ret);
/* Decodes a string, without NUL, into out, which holds span.n bytes; returns its length. */
size_t json_span_decode(struct json_span string, char *out);
/* The value as a tree (an object or array). */
int json_span_parse(struct json_span span, struct json **ret, struct larder_error *e);
