/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A view of bytes somebody else owns; not NUL-terminated. Parsers take and give slices.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *p;
    size_t n;
};

static inline struct slice slice_of(const char *text)
{
    return (struct slice){text, text ? strlen(text) : 0};
}
#define SLICE_LIT(s) ((struct slice){(s), sizeof(s) - 1})
/* The same as the initializer of a static object, where ISO C allows no compound literal. */
#define SLICE_INIT(s)      \
    {                      \
        (s), sizeof(s) - 1 \
    }

bool slice_equal(struct slice a, struct slice b);
bool slice_equal_nocase(struct slice a, struct slice b); /* ASCII */
bool slice_starts(struct slice s, struct slice prefix);
bool slice_ends(struct slice s, struct slice suffix);
/* Without leading and trailing blanks (space, tab, CR, LF). */
struct slice slice_trim(struct slice s);
/* Cuts *rest at the first LF, CRLF or lone CR; false at the end of input. */
bool slice_next_line(struct slice *rest, struct slice *ret_line);
/* Last component after '/'. */
struct slice slice_basename(struct slice path);
/* malloc'd NUL-terminated copy; NULL when out of memory. */
char *slice_dup(struct slice s);
/* Strict decimal, no sign, no blanks; false on overflow or anything else. */
bool slice_parse_u64(struct slice s, uint64_t *ret);
