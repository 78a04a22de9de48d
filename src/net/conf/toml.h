/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * TOML 1.0 as configuration files of container tools use it, read into a JSON document: tables,
 * arrays of tables, dotted and quoted keys, strings of one line, booleans, decimal integers, arrays
 * over several lines, inline tables. Other scalars (floats, dates) become strings; strings of
 * several lines are refused. Pure.
 */
#include <stdint.h>

#include "base/slice.h"
#include "json/json.h"

/* Line of a table's header or opening brace, an integer member of each table. (No key that one can
 * write without quotes.) */
#define TOML_LINE "#line"

/* LIMIT, NOMEM; INVAL as "FILE:LINE: ...", which quotes nothing. json_free the result. */
int toml_parse(struct slice text, const char *file, struct json **ret, struct larder_error *e);
