/* SPDX-License-Identifier: Apache-2.0 */
/* What a registry's answer means, in an error and in words. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "net/auth/challenge.h"
#include "net/http/url.h"
#include "store/registry/location.h"
#include "store/registry/session.h"

#define SHOWN_BYTES 1024

void call_name(const struct registry *r, const struct call *c, struct buf *out)
{
    buf_puts(out, r->store.name);
    if (c->tag)
        buf_printf(out, ":%s", c->tag);
    else if (c->digest)
        buf_printf(out, "@%s", c->digest);
    else if (c->blob)
        buf_printf(out, ": blob %s", c->blob);
}

int call_fail(const struct registry *r, const struct call *c, enum larder_code code,
              struct larder_error *e, const char *fmt, ...)
{
    struct buf name = BUF_INIT(SHOWN_BYTES);
    struct buf text = BUF_INIT(SHOWN_BYTES);
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    call_name(r, c, &name);
    int rc = error_set(e, code, "%s: %s", name.p ? name.p : "registry", text.p ? text.p : "");
    buf_done(&name);
    buf_done(&text);
    return rc;
}

static enum larder_code status_code(int status)
{
    switch (status) {
    case 404:
    case 410:
        return LARDER_NOENT;
    case 401:
    case 403:
    case 407:
        return LARDER_AUTH;
    case 405:
    case 501:
        return LARDER_UNSUPPORTED;
    case 413:
        return LARDER_LIMIT;
    default:
        return call_is_transient(status) ? LARDER_UNREACHABLE : LARDER_PROTO;
    }
}

static const char *status_words(int status)
{
    static const struct {
        int status;
        const char *words;
    } known[] = {
        {401, "authentication required"},
        {403, "access denied"},
        {404, "not found"},
        {405, "the registry does not allow it"},
        {413, "too large"},
        {429, "too many requests"},
        {500, "internal server error"},
        {502, "bad gateway"},
        {503, "service unavailable"},
        {504, "gateway timed out"},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (known[i].status == status)
            return known[i].words;
    return "unexpected answer";
}

static void status_hint(const struct registry *r, const struct call *c, struct larder_error *e)
{
    const char *host = c->peer->endpoint->host;
    char wait[32];
    int status = c->response.status;
    (void)r;
    /* Where the registry sent us to nobody has an account. */
    if (status == 401 && !c->is_elsewhere)
        error_hint(e, "`larder login %s`", host);
    else if (status == 403 && !c->is_elsewhere)
        error_hint(e, "`larder login %s` with an account that may do this", host);
    else if (status == 429 && c->response.retry_after_ns > 0)
        error_hint(e, "the registry asks to wait for %s",
                   duration_format(c->response.retry_after_ns, wait));
    else if (status == 429)
        error_hint(e, "the registry limits requests; more may be allowed after `larder login %s`",
                   host);
}

int call_refused(const struct registry *r, const struct call *c, struct larder_error *e)
{
    int status = c->response.status;
    struct buf text = BUF_INIT(SHOWN_BYTES);
    registry_error_text(buf_slice(&c->error_body), &text);
    int rc = call_fail(r, c, status_code(status), e, "%s (status %d%s)",
                       text.n > 0 ? text.p : status_words(status), status,
                       c->is_elsewhere ? ", after a redirect" : "");
    buf_done(&text);
    if (e)
        e->http_status = status;
    status_hint(r, c, e);
    return rc;
}

bool call_has_code(const struct call *c, const char *code)
{
    struct buf text = BUF_INIT(SHOWN_BYTES);
    registry_error_text(buf_slice(&c->error_body), &text);
    size_t n = strlen(code);
    bool has = text.n >= n && memcmp(text.p, code, n) == 0 && (text.n == n || text.p[n] == ':');
    buf_done(&text);
    return has;
}

bool call_says(const struct call *c, const char *word)
{
    return c->error_body.p && strcasestr(c->error_body.p, word);
}

/* The room below gives general advice; here it is known which file and which option help. */
void call_hint(const struct call *c, struct larder_error *e)
{
    if (e->http_status != 0 || !c->asked_url || !url_is_https(c->asked_url))
        return;
    if (strstr(e->hint, "certificate of its authority"))
        error_hint(e,
                   "put its authority's certificate into /etc/containers/certs.d/%s/ca.crt, or "
                   "use --tls-verify=false",
                   c->peer->endpoint->base);
    else if (strstr(e->hint, "may speak http"))
        error_hint(e, "the registry may speak http, not https: --tls-verify=false");
}

static bool is_new_warning(struct registry *r, const char *text)
{
    for (size_t i = 0; i < r->n_warnings; i++)
        if (strcmp(r->warnings[i], text) == 0)
            return false;
    if (r->n_warnings == WARNINGS_MAX)
        return false;
    char *copy = strdup(text);
    if (!copy)
        return false;
    r->warnings[r->n_warnings++] = copy;
    return true;
}

void call_warnings(struct registry *r, const struct http_response *response)
{
    if (!r->observer.warning)
        return;
    for (size_t i = 0; i < WARNINGS_MAX; i++) {
        struct slice value = http_response_header(response, "Warning", i);
        if (!value.p)
            return;
        struct buf text = BUF_INIT(SHOWN_BYTES);
        struct buf clean = BUF_INIT(4UL * SHOWN_BYTES);
        buf_printf(&clean, "%s: the registry warns: ", r->store.name);
        bool is_one = warning_parse(value, &text) && text.n > 0;
        if (is_one)
            text_sanitize(buf_slice(&text), &clean);
        if (is_one && !clean.failed) {
            pthread_mutex_lock(&r->lock);
            bool is_new = is_new_warning(r, clean.p);
            pthread_mutex_unlock(&r->lock);
            if (is_new)
                r->observer.warning(r->observer.arg, clean.p);
        }
        buf_done(&text);
        buf_done(&clean);
    }
}

int call_digest(const struct registry *r, const struct call *c, struct larder_digest *ret,
                struct larder_error *e)
{
    struct slice value = http_response_header(&c->response, "Docker-Content-Digest", 0);
    *ret = (struct larder_digest){0};
    if (!value.p || value.n == 0)
        return 0;
    struct larder_digest digest = {0};
    int rc = oci_digest_parse(value, &digest, NULL);
    if (rc == -LARDER_UNSUPPORTED)
        return 0; /* of an algorithm that we do not have: as if it were not there */
    if (rc < 0)
        return call_fail(r, c, LARDER_PROTO, e, "its Docker-Content-Digest is no digest");
    *ret = digest;
    return 0;
}

int call_check_encoding(const struct registry *r, const struct call *c, struct larder_error *e)
{
    const char *coding = c->response.content_encoding;
    if (!coding || strcasecmp(coding, "identity") == 0)
        return 0;
    return call_fail(r, c, LARDER_PROTO, e, "the server, or a proxy, encoded it (%.40s) unasked",
                     coding);
}

int call_resolve(const struct registry *r, const struct call *c, struct slice target, char **ret,
                 struct larder_error *e)
{
    const char *base = c->response.final_url ? c->response.final_url : c->asked_url;
    struct larder_error why = LARDER_ERROR_INIT;
    int rc = location_resolve(base, target, ret, &why);
    if (rc < 0)
        return call_fail(r, c, why.code, e, "where it says to go on is refused: %s", why.msg);
    return 0;
}
