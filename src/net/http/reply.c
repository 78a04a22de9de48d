/* SPDX-License-Identifier: Apache-2.0 */
/* Token replies, Link, upload Range, Warning and error bodies, of challenge.h. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"
#include "json/json.h"
#include "net/auth/challenge.h"

/* A token of many scopes is some ten KiB; what is longer would not fit a server's header limit. */
#define TOKEN_MAX_BYTES (32u << 10)
/* distribution's token.md: 60 s when it is not said, and no client takes less. */
#define TOKEN_LIFE_MIN_S 60
/* Longer is asked for again: clocks stop, keys change. */
#define TOKEN_LIFE_MAX_S     (24 * 3600)
#define ERROR_BODY_MAX_BYTES (64u << 10)
#define ERROR_CODE_MAX_BYTES 64
#define ERROR_TEXT_MAX_BYTES 240
#define LINK_MAX_BYTES       (16u << 10)
/* Distribution-spec, "Warnings": at most 4096 bytes in all. */
#define WARNING_MAX_BYTES 4096

/* ---- token replies ---- */

/* Goes into a header line: visible ASCII only. */
static bool is_token_text(const char *text)
{
    size_t n = 0;
    for (; text[n]; n++) {
        if (text[n] <= 0x20 || text[n] >= 0x7f || n >= TOKEN_MAX_BYTES)
            return false;
    }
    return n > 0;
}

static void wipe(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

void token_reply_done(struct token_reply *reply)
{
    wipe(reply->token);
    wipe(reply->refresh_token);
    *reply = (struct token_reply){0};
}

static int read_token_reply(const struct json *doc, struct token_reply *ret, struct larder_error *e)
{
    const char *token = json_get_string(doc, "token");
    const char *refresh = json_get_string(doc, "refresh_token");
    if (!token || !*token)
        token = json_get_string(doc, "access_token");
    if (!token || !*token)
        return error_set(e, LARDER_PROTO, "token reply: neither \"token\" nor \"access_token\"");
    if (!is_token_text(token))
        return error_set(e, LARDER_PROTO,
                         "token reply: the token has blanks or control bytes, or is longer than %u",
                         TOKEN_MAX_BYTES);
    if (refresh && !is_token_text(refresh))
        refresh = NULL;

    int64_t lives_s = json_get_i64(doc, "expires_in", TOKEN_LIFE_MIN_S);
    if (lives_s < TOKEN_LIFE_MIN_S)
        lives_s = TOKEN_LIFE_MIN_S;
    if (lives_s > TOKEN_LIFE_MAX_S)
        lives_s = TOKEN_LIFE_MAX_S;
    struct token_reply reply = {.token = strdup(token), .lives_ns = lives_s * NS_PER_S};
    if (refresh)
        reply.refresh_token = strdup(refresh);
    if (!reply.token || (refresh && !reply.refresh_token)) {
        token_reply_done(&reply);
        return error_nomem(e);
    }
    *ret = reply;
    return 0;
}

int token_reply_parse(struct slice body, struct token_reply *ret, struct larder_error *e)
{
    CLEANUP(json_freep) struct json *doc = NULL;
    int rc = json_parse(body, TOKEN_BODY_MAX_BYTES, &doc, e);
    if (rc == -LARDER_INVAL) /* the parser's text quotes the document: it may be a secret */
        return error_set(e, LARDER_PROTO, "token reply: not a JSON object");
    if (rc < 0) {
        error_context(e, "token reply");
        return rc;
    }
    return read_token_reply(doc, ret, e);
}

/* ---- Link ---- */

static struct slice skip(struct slice s, size_t n)
{
    return (struct slice){s.p + n, s.n - n};
}

/* One of the blank-separated words is "next". */
static bool has_next(struct slice value)
{
    while (value.n) {
        value = slice_trim(value);
        size_t n = 0;
        while (n < value.n && value.p[n] != ' ' && value.p[n] != '\t')
            n++;
        if (slice_equal_nocase((struct slice){value.p, n}, SLICE_LIT("next")))
            return true;
        value = skip(value, n);
    }
    return false;
}

/* Cuts "; name=value" off *rest; false when a comma or the end comes. */
static bool next_param(struct slice *rest, struct slice *name, struct slice *value)
{
    struct slice s = slice_trim(*rest);
    if (s.n == 0 || s.p[0] != ';')
        return false;
    s = slice_trim(skip(s, 1));
    size_t n = 0;
    while (n < s.n && !strchr("=;, \t\"", s.p[n]))
        n++;
    *name = (struct slice){s.p, n};
    *value = (struct slice){s.p, 0};
    s = slice_trim(skip(s, n));
    if (s.n && s.p[0] == '=') {
        s = slice_trim(skip(s, 1));
        bool is_quoted = s.n && s.p[0] == '"';
        if (is_quoted)
            s = skip(s, 1);
        /* (No escape can occur in a rel that matters.) */
        for (n = 0; n < s.n && (is_quoted ? s.p[n] != '"' : !strchr(";, \t", s.p[n])); n++)
            n += is_quoted && s.p[n] == '\\' && n + 1 < s.n;
        *value = (struct slice){s.p, n};
        s = skip(s, is_quoted && n < s.n ? n + 1 : n);
    }
    *rest = s;
    return true;
}

/* Up to the next '<' that begins a link. */
static bool next_target(struct slice *rest, struct slice *target)
{
    const char *open = rest->n ? memchr(rest->p, '<', rest->n) : NULL;
    if (!open)
        return false;
    struct slice s = skip(*rest, (size_t)(open - rest->p) + 1);
    const char *close = s.n ? memchr(s.p, '>', s.n) : NULL;
    if (!close)
        return false;
    *target = (struct slice){s.p, (size_t)(close - s.p)};
    *rest = skip(s, target->n + 1);
    return true;
}

static bool is_target_text(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] <= 0x20 || s.p[i] >= 0x7f)
            return false;
    }
    return s.n > 0;
}

int link_next(struct slice value, char **ret, struct larder_error *e)
{
    struct slice target;
    if (value.n > LINK_MAX_BYTES)
        return error_set(e, LARDER_LIMIT, "Link: %zu bytes, at most %u are read", value.n,
                         LINK_MAX_BYTES);
    while (next_target(&value, &target)) {
        struct slice name;
        struct slice rel;
        bool is_next = false;
        bool has_rel = false; /* RFC 8288 section 3.3: the first one counts */
        while (next_param(&value, &name, &rel)) {
            if (!has_rel && slice_equal_nocase(name, SLICE_LIT("rel"))) {
                has_rel = true;
                is_next = has_next(rel);
            }
        }
        if (!is_next)
            continue;
        if (!is_target_text(target))
            return error_set(e, LARDER_PROTO, "Link: no URL for the next page");
        char *made = slice_dup(target);
        if (!made)
            return error_nomem(e);
        *ret = made;
        return 0;
    }
    *ret = NULL;
    return 0;
}

/* ---- upload Range, Warning ---- */

bool upload_range_parse(struct slice value, uint64_t *ret_last)
{
    value = slice_trim(value);
    /* The specification has "0-N"; what proxies and some servers make of it: */
    if (slice_starts(value, SLICE_LIT("bytes=")) || slice_starts(value, SLICE_LIT("bytes ")))
        value = skip(value, 6);
    if (!slice_starts(value, SLICE_LIT("0-")))
        return false;
    return slice_parse_u64(skip(value, 2), ret_last);
}

bool warning_parse(struct slice value, struct buf *out)
{
    struct buf text = BUF_INIT(WARNING_MAX_BYTES);
    size_t i = 0;
    bool is_good = true;

    value = slice_trim(value);
    if (!slice_starts(value, SLICE_LIT("299 - \"")))
        return false;
    value = skip(value, strlen("299 - \""));
    for (; is_good && i < value.n && value.p[i] != '"'; i++) {
        if (value.p[i] == '\\' && i + 1 < value.n)
            i++;
        is_good = (unsigned char)value.p[i] >= 0x20 && value.p[i] != 0x7f;
        buf_putc(&text, value.p[i]);
    }
    is_good = is_good && i < value.n && text.n > 0 && text.failed == LARDER_OK;
    if (is_good)
        text_sanitize(buf_slice(&text), out);
    buf_done(&text);
    return is_good;
}

/* ---- error bodies ---- */

/* text_redact of at most max bytes; not in the middle of a character. */
static void put_text(const char *text, size_t max, struct buf *out)
{
    size_t n = strlen(text);
    if (n > max) {
        n = max;
        while (n && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--;
    }
    CLEANUP_FREE char *part = slice_dup((struct slice){text, n});
    if (part)
        text_redact(part, out);
    if (part && text[n])
        buf_puts(out, "...");
}

void registry_error_text(struct slice body, struct buf *out)
{
    /* What token servers say instead, the most telling first. */
    static const char *const others[] = {"error_description", "details", "message", "error"};
    CLEANUP(json_freep) struct json *doc = NULL;

    if (json_parse(body, ERROR_BODY_MAX_BYTES, &doc, NULL) < 0)
        return;
    const struct json *first = json_at(json_get(doc, "errors"), 0);
    const char *code = json_get_string(first, "code");
    const char *message = json_get_string(first, "message");
    for (size_t i = 0; !first && !message && i < ARRAY_LEN(others); i++)
        message = json_get_string(doc, others[i]);
    if (code && *code)
        put_text(code, ERROR_CODE_MAX_BYTES, out);
    if (code && *code && message && *message)
        buf_puts(out, ": ");
    if (message && *message)
        put_text(message, ERROR_TEXT_MAX_BYTES, out);
}
