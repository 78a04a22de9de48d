/* SPDX-License-Identifier: Apache-2.0 */
/* WWW-Authenticate of challenge.h. Everything else a registry says beside bodies: reply.c. */
#include "net/auth/challenge.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

/* A realm with a long query is some hundred bytes; a scope of many repositories a few thousand. */
#define PARAM_MAX_BYTES (8u << 10)

/* RFC 9110 section 5.6.2 */
static bool is_token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct cursor {
    const char *p;
    const char *end;
};

static void skip_blanks(struct cursor *c)
{
    while (c->p < c->end && is_blank(*c->p))
        c->p++;
}

static struct slice take_token(struct cursor *c)
{
    const char *start = c->p;
    while (c->p < c->end && is_token_char(*c->p))
        c->p++;
    return (struct slice){start, (size_t)(c->p - start)};
}

/* What a server forgot to close ends with the header. */
static void take_quoted(struct cursor *c, struct buf *out)
{
    for (c->p++; c->p < c->end && *c->p != '"'; c->p++) {
        if (*c->p == '\\' && c->p + 1 < c->end)
            c->p++;
        buf_putc(out, *c->p);
    }
    if (c->p < c->end)
        c->p++;
}

static bool is_action(struct slice word)
{
    return slice_equal(word, SLICE_LIT("pull")) || slice_equal(word, SLICE_LIT("push")) ||
           slice_equal(word, SLICE_LIT("delete")) || slice_equal(word, SLICE_LIT("*"));
}

static void take_bare(struct cursor *c, struct buf *out)
{
    while (c->p < c->end && !is_blank(*c->p) && *c->p != ',')
        buf_putc(out, *c->p++);
}

/* "scope=repository:a/b:pull,push" without quotes: the comma belongs to the value. */
static void take_more_actions(struct cursor *c, struct buf *out)
{
    for (;;) {
        struct cursor ahead = *c;
        if (ahead.p >= ahead.end || *ahead.p++ != ',')
            return;
        struct slice word = take_token(&ahead);
        bool is_end = ahead.p >= ahead.end || *ahead.p == ',';
        if (!is_end || !is_action(word))
            return;
        buf_putc(out, ',');
        buf_append_slice(out, word);
        *c = ahead;
    }
}

static bool has_control(const struct buf *b)
{
    for (size_t i = 0; i < b->n; i++) {
        if ((unsigned char)b->p[i] < 0x20 || b->p[i] == 0x7f)
            return true;
    }
    return false;
}

static char **member(struct challenge *challenge, struct slice name)
{
    if (slice_equal_nocase(name, SLICE_LIT("realm")))
        return &challenge->realm;
    if (slice_equal_nocase(name, SLICE_LIT("service")))
        return &challenge->service;
    if (slice_equal_nocase(name, SLICE_LIT("scope")))
        return &challenge->scope;
    if (slice_equal_nocase(name, SLICE_LIT("error")))
        return &challenge->error;
    return NULL;
}

/* At the character behind '='. challenge NULL: of a scheme that is not ours. The first parameter of
 * a name counts. */
static int take_param(struct cursor *c, struct slice name, struct challenge *challenge,
                      struct larder_error *e)
{
    struct buf value = BUF_INIT(PARAM_MAX_BYTES);
    skip_blanks(c);
    if (c->p < c->end && *c->p == '"') {
        take_quoted(c, &value);
    } else {
        take_bare(c, &value);
        if (slice_equal_nocase(name, SLICE_LIT("scope")))
            take_more_actions(c, &value);
    }
    char **to = challenge ? member(challenge, name) : NULL;
    int rc = to ? buf_failed(&value, e) : 0;
    if (rc < 0) {
        error_context(e, "parameter %.*s of a challenge", (int)(name.n < 32 ? name.n : 32), name.p);
    } else if (to && !*to && !has_control(&value)) {
        *to = buf_take(&value);
        rc = *to ? 0 : error_nomem(e);
    }
    buf_done(&value);
    return rc;
}

/* "Negotiate YII...==": one word of credentials in place of parameters. */
static bool skip_token68(struct cursor *c)
{
    struct cursor ahead = *c;
    while (ahead.p < ahead.end && (is_token_char(*ahead.p) || *ahead.p == '/'))
        ahead.p++;
    if (ahead.p == c->p)
        return false;
    while (ahead.p < ahead.end && *ahead.p == '=')
        ahead.p++;
    skip_blanks(&ahead);
    if (ahead.p < ahead.end && *ahead.p != ',')
        return false;
    *c = ahead;
    return true;
}

/* The challenge that a scheme's name begins; NULL for a scheme that is not ours, or one too many.
 */
static struct challenge *begin(struct slice scheme, struct challenge *challenges, size_t *n)
{
    bool is_bearer = slice_equal_nocase(scheme, SLICE_LIT("Bearer"));
    if ((!is_bearer && !slice_equal_nocase(scheme, SLICE_LIT("Basic"))) || *n >= CHALLENGES_MAX)
        return NULL;
    challenges[*n] = (struct challenge){.is_bearer = is_bearer};
    return &challenges[(*n)++];
}

int challenge_parse(struct slice value, struct challenge *challenges, size_t *n,
                    struct larder_error *e)
{
    struct cursor c = {value.p, value.p + value.n};
    struct challenge *current = NULL;
    size_t before = *n;
    int rc = 0;

    while (rc == 0 && c.p < c.end) {
        struct slice word = take_token(&c);
        if (word.n == 0) {
            if (*c.p == '"') {
                struct buf junk = BUF_INIT(0);
                take_quoted(&c, &junk);
                buf_done(&junk);
            } else {
                c.p++;
            }
            continue;
        }
        bool is_spaced = c.p < c.end && is_blank(*c.p);
        skip_blanks(&c);
        if (c.p < c.end && *c.p == '=') {
            c.p++;
            rc = take_param(&c, word, current, e);
            continue;
        }
        current = begin(word, challenges, n);
        if (is_spaced)
            skip_token68(&c);
    }
    if (rc < 0) {
        challenges_done(challenges + before, *n - before);
        *n = before;
    }
    return rc;
}

void challenges_done(struct challenge *challenges, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(challenges[i].realm);
        free(challenges[i].service);
        free(challenges[i].scope);
        free(challenges[i].error);
        challenges[i] = (struct challenge){0};
    }
}
