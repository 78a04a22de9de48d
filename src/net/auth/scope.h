/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Sets of what a token is for (distribution's scope.md): each member is one action on one
 * resource, "repository:a/b:pull"; sorted, each once. Pure.
 */
#include <stdbool.h>
#include <stddef.h>

#include <larder/error.h>

#include "base/buf.h"
#include "base/slice.h"

struct scope_set {
    char **members; /* malloc'd, each too */
    size_t n;
};

void scope_set_done(struct scope_set *set);
/* Adds all of "repository:a/b:pull,push registry:catalog:*". LIMIT, NOMEM. */
int scope_set_add(struct scope_set *set, struct slice text, struct larder_error *e);
int scope_set_copy(const struct scope_set *from, struct scope_set *ret, struct larder_error *e);
bool scope_set_equal(const struct scope_set *a, const struct scope_set *b);
/* Everything of part is in set. */
bool scope_set_has(const struct scope_set *set, const struct scope_set *part);
/* Calls fn for each resource with its actions, "repository:a/b:pull,push", in order. Ends with fn's
 * first negative result. */
int scope_set_each(const struct scope_set *set,
                   int (*fn)(void *arg, const char *scope, struct larder_error *e), void *arg,
                   struct larder_error *e);
