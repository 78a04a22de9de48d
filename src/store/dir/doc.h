/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the store's small documents (memo, ref, lease, quarantine note) need beyond json.h: members
 * that must be there, and bytes that JSON can't hold.
 */
#include <stdbool.h>
#include <stdint.h>

#include "json/json.h"

/* False when the member is missing or of another type; *ret stays then. Strings are borrowed. */
bool doc_get_i64(const struct json *doc, const char *key, int64_t *ret);
bool doc_get_string(const struct json *doc, const char *key, const char **ret);
/* Numbers that use all 64 bits (device, inode) are written as the int64 of the same bits. */
bool doc_get_bits(const struct json *doc, const char *key, uint64_t *ret);
int doc_set_bits(struct json *doc, const char *key, uint64_t value);
/* A text for people: control bytes and bad UTF-8 as \xHH. */
int doc_set_text(struct json *doc, const char *key, const char *text);
/* "path", or "path_hex" when it is no UTF-8. */
int doc_set_path(struct json *doc, const char *path);
/* malloc'd; NULL when there is none or no memory. */
char *doc_get_path(const struct json *doc);
