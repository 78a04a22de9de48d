/* SPDX-License-Identifier: Apache-2.0 */
#include "net/auth/auth_token.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "net/http/exchange.h"
#include "net/http/hostname.h"
#include "net/http/retry.h"
#include "net/http/url.h"

/* Both protocols want a name for the program. */
#define CLIENT_ID "larder"
/* URL or form; servers take 8 KiB of the first. */
#define QUERY_MAX_BYTES (32u << 10)
/* What a user sees of a token server's words. */
#define ERROR_BODY_BYTES (16u << 10)
/* The time of one try: somebody waits for it, with all lanes. */
#define ANSWER_TIMEOUT_NS (60 * NS_PER_S)
/* Docker's word for "the password is an identity token". */
#define TOKEN_USER "<token>"

void secret_free(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

/* ---- where secrets may go ---- */

static void shown(const char *url, struct buf *out)
{
    *out = BUF_INIT(512);
    url_redact(url, out);
}

static int refuse_realm(enum larder_code code, const char *host, const char *realm, const char *why,
                        struct larder_error *e)
{
    struct buf text;
    shown(realm, &text);
    int rc = error_set(e, code, "registry %s: its token server %s %s", host,
                       text.p ? text.p : "(unnamed)", why);
    buf_done(&text);
    return rc;
}

int token_realm_check(const char *host, const char *url, const char *realm, bool has_secrets,
                      struct larder_error *e)
{
    if (url_check(realm, NULL) < 0)
        return refuse_realm(LARDER_PROTO, host, realm, "is no http or https URL", e);
    if (has_secrets && url_is_https(url) && !url_is_https(realm))
        return refuse_realm(LARDER_UNSAFE, host, realm,
                            "is reached by http: credentials are not sent there", e);
    /* A registry names the realm: it must not make us ask this machine's own services, and hand
     * it what they answer. */
    struct slice server = hostname_of(hostname_authority(realm));
    struct slice asked = hostname_of(hostname_authority(url));
    if (hostname_is_local(server) && !slice_equal_nocase(server, asked) &&
        !(hostname_is_loopback(server) && hostname_is_loopback(asked)))
        return refuse_realm(LARDER_UNSAFE, host, realm,
                            "is an address of this machine, while the registry is elsewhere", e);
    return 0;
}

/* ---- requests ---- */

int basic_header(const char *user, const char *password, char **ret, struct larder_error *e)
{
    struct buf pair = BUF_INIT(64u << 10);
    struct buf value = BUF_INIT(128u << 10);
    size_t n = strlen(user) + 1 + strlen(password);
    char *header = NULL;

    /* Room at once: a buffer that grows leaves copies behind. */
    if (!buf_reserve(&pair, n) || !buf_reserve(&value, sizeof("Basic ") + n / 3 * 4 + 4))
        goto out;
    buf_puts(&pair, user);
    buf_putc(&pair, ':');
    buf_puts(&pair, password);
    buf_puts(&value, "Basic ");
    base64_encode((const uint8_t *)pair.p, pair.n, &value);
    header = buf_take(&value);
out:
    if (pair.p)
        explicit_bzero(pair.p, pair.n);
    int rc = buf_failed(&pair, e);
    if (rc == 0)
        rc = buf_failed(&value, e);
    if (rc == 0 && !header)
        rc = error_nomem(e);
    buf_done(&pair);
    buf_done(&value);
    if (rc == 0)
        *ret = header;
    return rc;
}

/* RFC 3986 unreserved characters stay; for forms and queries. */
static void put_encoded(struct buf *out, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    for (const char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;
        bool is_plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                        (c >= '0' && c <= '9') || strchr("-._~", c);
        if (is_plain) {
            buf_putc(out, *p);
        } else {
            buf_putc(out, '%');
            buf_putc(out, digits[c >> 4]);
            buf_putc(out, digits[c & 15]);
        }
    }
}

static void put_pair(struct buf *out, const char *name, const char *value)
{
    if (!value || !*value)
        return;
    if (out->n && out->p[out->n - 1] != '?' && out->p[out->n - 1] != '&')
        buf_putc(out, '&');
    buf_puts(out, name);
    buf_putc(out, '=');
    put_encoded(out, value);
}

static int put_scope_param(void *arg, const char *scope, struct larder_error *e)
{
    (void)e;
    put_pair(arg, "scope", scope);
    return 0;
}

static int put_scope_word(void *arg, const char *scope, struct larder_error *e)
{
    struct buf *words = arg;
    (void)e;
    if (words->n)
        buf_putc(words, ' ');
    buf_puts(words, scope);
    return 0;
}

/* token.md: each scope is a parameter of its own. */
static int get_url(const struct token_ask *ask, const char *user, char **ret,
                   struct larder_error *e)
{
    CLEANUP_FREE char *clean = NULL;
    CLEANUP_FREE char *realm_user = NULL; /* what a server makes up is not ours to send */
    CLEANUP_FREE char *realm_password = NULL;
    struct buf url = BUF_INIT(QUERY_MAX_BYTES);

    int rc = url_split_userinfo(ask->realm, &clean, &realm_user, &realm_password, e);
    if (rc < 0)
        return rc;
    buf_puts(&url, clean);
    if (!strchr(clean, '?'))
        buf_putc(&url, '?');
    put_pair(&url, "service", ask->service);
    rc = scope_set_each(ask->scopes, put_scope_param, &url, e);
    put_pair(&url, "account", user);
    put_pair(&url, "client_id", CLIENT_ID);
    if (rc == 0)
        rc = buf_failed(&url, e);
    if (rc == 0) {
        *ret = buf_take(&url);
        rc = *ret ? 0 : error_nomem(e);
    }
    buf_done(&url);
    return rc;
}

/* oauth.md: one scope parameter with blanks. */
static int post_form(const struct token_ask *ask, struct buf *form, struct larder_error *e)
{
    struct buf words = BUF_INIT(QUERY_MAX_BYTES);
    int rc = scope_set_each(ask->scopes, put_scope_word, &words, e);
    put_pair(form, "grant_type", "refresh_token");
    put_pair(form, "service", ask->service);
    put_pair(form, "client_id", CLIENT_ID);
    put_pair(form, "scope", words.p);
    put_pair(form, "refresh_token", ask->credentials->identity_token);
    if (rc == 0)
        rc = buf_failed(&words, e);
    if (rc == 0)
        rc = buf_failed(form, e);
    buf_done(&words);
    return rc;
}

/* ---- answers ---- */

struct answer {
    struct buf body;
    struct buf error_body;
    int status;
    int64_t retry_after_ns;
    int64_t deadline_ns; /* monotonic */
    const struct larder_observer *observer;
};

static void answer_done(struct answer *a)
{
    if (a->body.p)
        explicit_bzero(a->body.p, a->body.cap);
    buf_done(&a->body);
    buf_done(&a->error_body);
}

static int take_body(void *arg, const void *data, size_t n, struct larder_error *e)
{
    struct answer *a = arg;
    buf_append(&a->body, data, n);
    return buf_failed(&a->body, e);
}

static int check_time(void *arg, struct larder_error *e)
{
    const struct answer *a = arg;
    const struct larder_observer *o = a->observer;
    if (o && o->is_canceled && o->is_canceled(o->arg))
        return error_set(e, LARDER_CANCELED, "canceled");
    if (clock_monotonic_ns() < a->deadline_ns)
        return 0;
    return error_errno_code(e, LARDER_UNREACHABLE, ETIMEDOUT, "no whole answer after %d s",
                            (int)(ANSWER_TIMEOUT_NS / NS_PER_S));
}

/* The server's status as an error, with its own words. */
static int status_error(const struct token_ask *ask, const struct answer *a, struct larder_error *e)
{
    struct buf where;
    struct buf words = BUF_INIT(512);
    enum larder_code code = LARDER_PROTO;

    if (a->status == 408 || a->status == 429 || a->status >= 500)
        code = LARDER_UNREACHABLE;
    else if (a->status >= 400)
        code = LARDER_AUTH;
    shown(ask->realm, &where);
    registry_error_text(buf_slice(&a->error_body), &words);
    int rc =
        error_set(e, code, "registry %s: token server %s: status %d%s%s", ask->host,
                  where.p ? where.p : "", a->status, words.n ? ": " : "", words.n ? words.p : "");
    buf_done(&where);
    buf_done(&words);
    if (e)
        e->http_status = a->status;
    const struct credentials *c = ask->credentials;
    if (code == LARDER_AUTH && c->is_given)
        error_hint(e, "check user and password");
    else if (code == LARDER_AUTH && c->source)
        error_hint(e, "the credentials are those of %s", c->source);
    else if (code == LARDER_AUTH)
        error_hint(e, "no credentials are known: run `larder login %s`", ask->host);
    return rc;
}

static int request_once(struct http_client *client, const struct http_request *request,
                        struct answer *a, struct larder_error *e)
{
    struct http_request own = *request;
    struct http_response response = {0};

    buf_reset(&a->body);
    buf_reset(&a->error_body);
    a->deadline_ns = clock_monotonic_ns() + ANSWER_TIMEOUT_NS;
    a->retry_after_ns = 0;
    own.body = take_body;
    own.tick = check_time;
    own.error_body = &a->error_body;
    own.max_body_bytes = a->body.max_bytes;
    own.arg = a;
    int rc = http_perform(client, &own, &response, e);
    if (rc == 0) {
        a->status = response.status;
        a->retry_after_ns = response.retry_after_ns;
    }
    http_response_done(&response);
    return rc;
}

/* Until there is an answer that is no passing failure. 0: 2xx, or the status `other`. */
static int request_answer(struct http_client *client, const struct token_ask *ask,
                          const struct http_request *request, struct answer *a,
                          bool (*is_answer)(int status), struct larder_error *e)
{
    struct retry retry;
    retry_init(&retry, client->retries, client->retry_wait_ns, ask->observer);
    for (;;) {
        struct larder_error failure = LARDER_ERROR_INIT;
        int rc = request_once(client, request, a, &failure);
        if (rc == 0 && is_answer(a->status))
            return 0;
        if (rc == 0)
            rc = status_error(ask, a, &failure);
        else
            error_context(&failure, "registry %s: its token server", ask->host);
        bool again = retry_may(&retry, &failure, a->retry_after_ns);
        if (again)
            rc = retry_wait(&retry, a->retry_after_ns, &failure);
        if (!again || rc < 0) {
            if (e)
                *e = failure;
            return rc;
        }
    }
}

static bool is_success(int status)
{
    return status >= 200 && status <= 299;
}

/* Servers without the second protocol say so by one of these. */
static bool is_success_or_no_post(int status)
{
    return is_success(status) || status == 404 || status == 405;
}

static int parse(const struct token_ask *ask, const struct answer *a, struct token_reply *ret,
                 struct larder_error *e)
{
    int rc = token_reply_parse(buf_slice(&a->body), ret, e);
    if (rc < 0)
        error_context(e, "registry %s", ask->host);
    return rc;
}

static int fetch_by_get(struct http_client *client, const struct token_ask *ask,
                        struct token_reply *ret, struct larder_error *e)
{
    const struct credentials *c = ask->credentials;
    CLEANUP(secret_freep) char *header = NULL;
    CLEANUP_FREE char *url = NULL;
    const char *user = c->user;
    const char *password = c->password;

    if (!password && c->identity_token) { /* a server without POST takes it as a password */
        user = user && *user ? user : TOKEN_USER;
        password = c->identity_token;
    }
    int rc = get_url(ask, password ? user : NULL, &url, e);
    if (rc == 0 && password)
        rc = basic_header(user ? user : "", password, &header, e);
    if (rc < 0)
        return rc;
    struct http_request request = {
        .method = HTTP_GET, .url = url, .authorization = header ? header : ""};
    struct answer a = {.body = BUF_INIT(TOKEN_BODY_MAX_BYTES),
                       .error_body = BUF_INIT(ERROR_BODY_BYTES),
                       .observer = ask->observer};
    rc = request_answer(client, ask, &request, &a, is_success, e);
    if (rc == 0)
        rc = parse(ask, &a, ret, e);
    answer_done(&a);
    return rc;
}

/* *ret_is_done false: the server knows no POST. */
static int fetch_by_post(struct http_client *client, const struct token_ask *ask,
                         struct token_reply *ret, bool *ret_is_done, struct larder_error *e)
{
    static const struct http_header headers[] = {
        {"Content-Type", "application/x-www-form-urlencoded"}};
    struct buf form = BUF_INIT(2 * QUERY_MAX_BYTES + 3 * TOKEN_BODY_MAX_BYTES);
    CLEANUP_FREE char *url = NULL;
    CLEANUP_FREE char *user = NULL;
    CLEANUP_FREE char *password = NULL;
    struct answer a = {.body = BUF_INIT(TOKEN_BODY_MAX_BYTES),
                       .error_body = BUF_INIT(ERROR_BODY_BYTES),
                       .observer = ask->observer};

    int rc = url_split_userinfo(ask->realm, &url, &user, &password, e);
    if (rc == 0)
        rc = post_form(ask, &form, e);
    if (rc < 0)
        goto out;
    struct http_upload upload = {.data = form.p, .n = form.n, .fd = -1};
    /* The secret is in the body: it would go along to wherever a redirect leads. */
    struct http_request request = {.method = HTTP_POST,
                                   .url = url,
                                   .headers = headers,
                                   .n_headers = ARRAY_LEN(headers),
                                   .authorization = "",
                                   .upload = &upload,
                                   .no_redirect = true};
    rc = request_answer(client, ask, &request, &a, is_success_or_no_post, e);
    *ret_is_done = rc < 0 || is_success(a.status);
    if (rc == 0 && *ret_is_done)
        rc = parse(ask, &a, ret, e);
out:
    if (form.p)
        explicit_bzero(form.p, form.cap);
    buf_done(&form);
    answer_done(&a);
    return rc;
}

int token_fetch(struct http_client *client, const struct token_ask *ask, struct token_reply *ret,
                struct larder_error *e)
{
    const struct credentials *c = ask->credentials;
    bool has_secrets = c->password || c->identity_token;
    bool is_done = false;
    int rc = token_realm_check(ask->host, ask->url, ask->realm, has_secrets, e);
    if (rc == 0 && c->identity_token)
        rc = fetch_by_post(client, ask, ret, &is_done, e);
    if (rc == 0 && !is_done)
        rc = fetch_by_get(client, ask, ret, e);
    return rc;
}
