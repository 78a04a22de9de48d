/* SPDX-License-Identifier: Apache-2.0 */
#include "net/auth/scope.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

/* Ours are four at most; a challenge may name a few more. */
#define SCOPES_MAX 256
/* Of one scope as it is sent: a name has 255 bytes, actions a few. */
#define SCOPE_MAX_BYTES 4096

void scope_set_done(struct scope_set *set)
{
    for (size_t i = 0; i < set->n; i++)
        free(set->members[i]);
    free(set->members);
    *set = (struct scope_set){0};
}

/* Takes member over, also when it fails. */
static int insert(struct scope_set *set, char *member, struct larder_error *e)
{
    size_t at = 0;
    int order = 1;
    while (at < set->n && (order = strcmp(set->members[at], member)) < 0)
        at++;
    if (at < set->n && order == 0) {
        free(member);
        return 0;
    }
    char **members = set->members;
    if (set->n < SCOPES_MAX)
        members = realloc(members, (set->n + 1) * sizeof(*members));
    if (!members || set->n >= SCOPES_MAX) {
        free(member);
        return members ? error_set(e, LARDER_LIMIT, "more than %d scopes", SCOPES_MAX)
                       : error_nomem(e);
    }
    memmove(members + at + 1, members + at, (set->n - at) * sizeof(*members));
    members[at] = member;
    set->members = members;
    set->n++;
    return 0;
}

static int add_action(struct scope_set *set, struct slice resource, struct slice action,
                      struct larder_error *e)
{
    struct buf member = BUF_INIT(SCOPE_MAX_BYTES);
    buf_append_slice(&member, resource);
    buf_putc(&member, ':');
    buf_append_slice(&member, action);
    int rc = buf_failed(&member, e);
    char *text = buf_take(&member);
    if (rc < 0) {
        buf_done(&member);
        return rc;
    }
    return text ? insert(set, text, e) : error_nomem(e);
}

/* scope.md: type ":" name ":" actions, where the name may hold a colon (host:port). */
static int add_one(struct scope_set *set, struct slice scope, struct larder_error *e)
{
    const char *colon = memrchr(scope.p, ':', scope.n);
    if (!colon)
        return 0; /* no scope at all */
    struct slice resource = {scope.p, (size_t)(colon - scope.p)};
    struct slice actions = {colon + 1, scope.n - resource.n - 1};
    int rc = 0;
    while (rc == 0 && actions.n) {
        const char *comma = memchr(actions.p, ',', actions.n);
        struct slice action = {actions.p, comma ? (size_t)(comma - actions.p) : actions.n};
        size_t used = action.n + (comma ? 1 : 0);
        if (action.n)
            rc = add_action(set, resource, action, e);
        actions = (struct slice){actions.p + used, actions.n - used};
    }
    return rc;
}

int scope_set_add(struct scope_set *set, struct slice text, struct larder_error *e)
{
    int rc = 0;
    while (rc == 0 && (text = slice_trim(text)).n) {
        size_t n = 0;
        while (n < text.n && text.p[n] != ' ' && text.p[n] != '\t')
            n++;
        rc = add_one(set, (struct slice){text.p, n}, e);
        text = (struct slice){text.p + n, text.n - n};
    }
    return rc;
}

int scope_set_copy(const struct scope_set *from, struct scope_set *ret, struct larder_error *e)
{
    struct scope_set copy = {0};
    for (size_t i = 0; i < from->n; i++) {
        char *member = strdup(from->members[i]);
        int rc = member ? insert(&copy, member, e) : error_nomem(e);
        if (rc < 0) {
            scope_set_done(&copy);
            return rc;
        }
    }
    *ret = copy;
    return 0;
}

bool scope_set_equal(const struct scope_set *a, const struct scope_set *b)
{
    return a->n == b->n && scope_set_has(a, b);
}

bool scope_set_has(const struct scope_set *set, const struct scope_set *part)
{
    size_t at = 0;
    for (size_t i = 0; i < part->n; i++) {
        while (at < set->n && strcmp(set->members[at], part->members[i]) < 0)
            at++;
        if (at >= set->n || strcmp(set->members[at], part->members[i]) != 0)
            return false;
    }
    return true;
}

/* Bytes before the last colon. */
static size_t resource_bytes(const char *member)
{
    return (size_t)(strrchr(member, ':') - member);
}

int scope_set_each(const struct scope_set *set,
                   int (*fn)(void *arg, const char *scope, struct larder_error *e), void *arg,
                   struct larder_error *e)
{
    int rc = 0;
    for (size_t i = 0; rc >= 0 && i < set->n;) {
        struct buf scope = BUF_INIT(SCOPE_MAX_BYTES);
        size_t n = resource_bytes(set->members[i]);
        const char *first = set->members[i];
        buf_puts(&scope, first);
        /* (Sorted by the whole text: "a:b" and "a:b:c" may lie between; then a resource comes
         * twice, which means the same.) */
        for (i++; i < set->n && resource_bytes(set->members[i]) == n &&
                  memcmp(set->members[i], first, n) == 0;
             i++) {
            buf_putc(&scope, ',');
            buf_puts(&scope, set->members[i] + n + 1);
        }
        rc = buf_failed(&scope, e);
        if (rc >= 0)
            rc = fn(arg, scope.p, e);
        buf_done(&scope);
    }
    return rc;
}
