/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Reading GVariant, as GLib's "GVariant Specification" 1.0 has it in chapter 2, of the types that
 * ostree's repositories are made of: all but maybes, object paths, signatures and file handles.
 * Pure data, no I/O.
 *
 * The serialised form allows any bytes and gives each of them a value. Here they are read only when
 * they are in normal form (2.7.3), of which each value has one; all else is refused, as is what is
 * nested too deeply or has too many parts. GLib itself is not used for it: to load that takes
 * a tenth of the time that a question about an update may take, and to read it takes two pages.
 */
#include <stdbool.h>

#include "base/slice.h"
#include "update/ostree/module.h"

#define GVARIANT_DICT   "a{sv}"
#define GVARIANT_COMMIT "(a{sv}aya(say)sstayay)"

/* Whether data is a value of this type in normal form, and small enough to be looked at. */
bool gvariant_is_normal(const char *type, struct slice data);
/* The dictionary of a GVARIANT_COMMIT in normal form. */
struct slice gvariant_commit_dict(struct slice commit);
/* The value of a key in a dictionary in normal form: its type, and its bytes; false: none. Of
 * several the first, as GLib has it. */
bool gvariant_look_up(struct slice dict, const char *key, struct slice *ret_type,
                      struct slice *ret_value);
/* The same of n keys, in words (ostree's numbers are big-endian). Texts are in dict. */
void gvariant_values(struct slice dict, struct ostree_value *values, size_t n);
