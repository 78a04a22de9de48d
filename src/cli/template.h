/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The part of Go's templates that scripts for skopeo use: text, \n and \t, {{.Field}},
 * {{.Labels.key}}, {{index .Labels "a.key"}}, {{json .Field}}, {{len .Field}} and
 * {{range .Field}}...{{.}}...{{end}}.
 */
#include <larder/error.h>

#include "base/buf.h"
#include "json/json.h"

/* A member that documents of the kind may have. empty: what Go prints when this one has it not. */
struct template_field {
    const char *name;
    const char *empty;
};

/*
 * Appends the filled-in template to out, and a newline where it has none at its end. INVAL for what
 * is no template, or none of this part of the language, or names another field; out is undefined
 * then. fields ends with a NULL name; document NULL only checks the template.
 */
int template_fill(const char *text, const struct template_field *fields,
                  const struct json *document, struct buf *out, struct larder_error *e);
