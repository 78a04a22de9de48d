/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Strings of ordered.h: any spelling is read, Python's is written (json.dumps with ensure_ascii:
 * everything but printable ASCII as \uxxxx, in halves of UTF-16).
 */
#include "base/slice.h"

/*
 * Reads the string whose opening quote is at rest->p and moves rest behind it. *ret_spelled: with
 * quotes. *ret_text: UTF-8, or NULL when it can't be (a NUL, half a surrogate pair). Both malloc'd.
 * -INVAL: *ret_why says so, rest is at the place; -NOMEM.
 */
int ordered_string_read(struct slice *rest, char **ret_spelled, char **ret_text,
                        const char **ret_why);
/* malloc'd, with quotes; NULL: out of memory, or not UTF-8. */
char *ordered_string_spell(const char *text);
