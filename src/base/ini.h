/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The INI dialect of larder.conf(5): `[section]` or `[section "name"]`, `key = value`, comments
 * with # or ; at the start of a line, values trimmed and optionally in double quotes
 * (\" \\ \n \t inside). No continuation lines. Strict: whatever is none of these is INVAL with
 * file and line. Input up to 1 MiB. Duplicate keys come in order; the handler decides.
 */
#include <larder/error.h>

#include "base/slice.h"

struct ini_item {
    const char *file; /* as given, for messages */
    unsigned line;    /* from 1 */
    const char *section;
    const char *section_name; /* "" when there is none */
    const char *key;
    const char *value;
};
/* Called for each key; a negative result ends the parse and is returned. Strings live for the call.
 */
typedef int ini_handler(void *arg, const struct ini_item *item, struct larder_error *e);

int ini_parse(struct slice text, const char *file, ini_handler *handler, void *arg,
              struct larder_error *e);
