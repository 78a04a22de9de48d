/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What answers a 401. Tokens are in auth_cache.c, requests to token servers in auth_token.c.
 */
#include "net/auth/auth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "net/auth/auth_cache.h"
#include "net/auth/auth_token.h"
#include "net/auth/challenge.h"
#include "net/http/hostname.h"

int auth_new(const struct auth_options *options, struct auth **ret, struct larder_error *e)
{
    return auth_cache_new(options, ret, e);
}

/* ---- scopes ---- */

static int add_repository(struct scope_set *set, const char *repository, const char *actions,
                          struct larder_error *e)
{
    CLEANUP_FREE char *text = NULL;
    if (asprintf(&text, "repository:%s:%s", repository, actions) < 0) {
        text = NULL;
        return error_nomem(e);
    }
    return scope_set_add(set, slice_of(text), e);
}

static int scopes_of(const struct auth_scope *scope, struct scope_set *ret, struct larder_error *e)
{
    struct scope_set set = {0};
    int rc = 0;
    if (scope->repository && scope->actions)
        rc = add_repository(&set, scope->repository, scope->actions, e);
    if (rc == 0 && scope->from)
        rc = add_repository(&set, scope->from, "pull", e);
    if (rc < 0)
        scope_set_done(&set);
    else
        *ret = set;
    return rc;
}

/* ---- challenges ---- */

struct challenges {
    struct challenge list[CHALLENGES_MAX];
    size_t n;
};

static void challenges_freep(struct challenges *c)
{
    challenges_done(c->list, c->n);
}

static int read_challenges(const struct http_response *response, struct challenges *c,
                           struct larder_error *e)
{
    int rc = 0;
    for (size_t i = 0; rc == 0; i++) {
        struct slice value = http_response_header(response, "WWW-Authenticate", i);
        if (!value.p)
            return 0;
        rc = challenge_parse(value, c->list, &c->n, e);
    }
    return rc;
}

/* gcr.io once sent a 401 without the header, except for this one. */
static int ask_challenges(struct http_client *client, const char *url, struct challenges *c,
                          struct larder_error *e)
{
    CLEANUP_FREE char *ping = NULL;
    struct slice authority = hostname_authority(url);
    if (asprintf(&ping, "%.*s://%.*s/v2/", (int)strcspn(url, ":"), url, (int)authority.n,
                 authority.p) < 0) {
        ping = NULL;
        return error_nomem(e);
    }
    struct http_request request = {
        .method = HTTP_GET, .url = ping, .authorization = "", .no_redirect = true};
    struct http_response response = {0};
    int rc = http_perform(client, &request, &response, e);
    if (rc == 0 && response.status == 401)
        rc = read_challenges(&response, c, e);
    http_response_done(&response);
    return rc;
}

static const struct challenge *pick(const struct challenges *c, bool is_bearer)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct challenge *one = &c->list[i];
        if (one->is_bearer == is_bearer && (!is_bearer || (one->realm && *one->realm)))
            return one;
    }
    return NULL;
}

/* ---- answers ---- */

static int refused(const struct auth_scope *scope, const struct credentials *c,
                   struct larder_error *e)
{
    const char *what = c->registry_token ? "token" : "credentials";
    if (c->is_given) {
        int rc =
            error_set(e, LARDER_AUTH, "registry %s: it refused the %s given", scope->host, what);
        error_hint(e, c->registry_token ? "check the token" : "check user and password");
        return rc;
    }
    int rc = error_set(e, LARDER_AUTH, "registry %s: it refused the %s of %s", scope->host, what,
                       c->source);
    error_hint(e, "run `larder login %s`", scope->host);
    return rc;
}

/* The credentials again, where they are a helper's and may have changed: *c and true. */
static bool ask_again(struct auth *auth, const struct auth_scope *scope, struct credentials *c)
{
    struct credentials fresh = {0};
    if (auth_identity_again(auth, scope, c, &fresh, NULL) <= 0)
        return false;
    credentials_done(c);
    *c = fresh;
    return true;
}

static int answer_basic(struct auth *auth, const struct auth_scope *scope, const char *sent,
                        struct credentials *c, char **ret, struct larder_error *e)
{
    CLEANUP(secret_freep) char *header = NULL;
    for (;;) {
        if (!c->password) {
            int rc = error_set(e, LARDER_AUTH, "registry %s: credentials needed, none known",
                               scope->host);
            error_hint(e, "run `larder login %s`", scope->host);
            return rc;
        }
        secret_free(TAKE_PTR(header));
        int rc = basic_header(c->user ? c->user : "", c->password, &header, e);
        if (rc == 0 && strcmp(header, sent) != 0)
            rc = auth_host_secret(auth, scope, e);
        if (rc < 0)
            return rc;
        if (strcmp(header, sent) != 0)
            break;
        if (!ask_again(auth, scope, c))
            return refused(scope, c, e);
    }
    *ret = TAKE_PTR(header);
    return 0;
}

static int ready_header(const struct auth_scope *scope, const char *sent,
                        const struct credentials *c, char **ret, struct larder_error *e)
{
    CLEANUP(secret_freep) char *header = NULL;
    if (asprintf(&header, "Bearer %s", c->registry_token) < 0) {
        header = NULL;
        return error_nomem(e);
    }
    if (strcmp(header, sent) == 0)
        return refused(scope, c, e);
    *ret = TAKE_PTR(header);
    return 0;
}

static int answer_bearer(struct auth *auth, struct http_client *client, const char *url,
                         const struct challenge *challenge, const struct auth_scope *scope,
                         const char *sent, struct credentials *c, char **ret,
                         struct larder_error *e)
{
    struct scope_set scopes = {0};
    int rc = scopes_of(scope, &scopes, e);
    if (rc == 0 && challenge->scope)
        rc = scope_set_add(&scopes, slice_of(challenge->scope), e);
    struct token_ask ask = {.host = scope->host,
                            .url = url,
                            .realm = challenge->realm,
                            .service = challenge->service,
                            .scopes = &scopes,
                            .credentials = c,
                            .is_scope_refused = challenge->error &&
                                                strcmp(challenge->error, "insufficient_scope") == 0,
                            .observer = auth_observer(auth)};
    if (rc == 0)
        rc = auth_host_bearer(auth, scope, &ask, e);
    if (rc == 0)
        rc = auth_token_get(auth, client, scope, &ask, sent, ret, e);
    if (rc == -LARDER_AUTH && ask_again(auth, scope, c)) {
        if (e)
            error_clear(e);
        rc = auth_token_get(auth, client, scope, &ask, sent, ret, e);
    }
    scope_set_done(&scopes);
    return rc;
}

int auth_challenged(struct auth *auth, struct http_client *client, const char *url,
                    const struct http_response *response, const struct auth_scope *scope,
                    const char *sent, char **ret, struct larder_error *e)
{
    CLEANUP(challenges_freep) struct challenges challenges = {.n = 0};
    CLEANUP(credentials_done) struct credentials c = {0};

    sent = sent ? sent : "";
    int rc = read_challenges(response, &challenges, e);
    if (rc == 0 && challenges.n == 0)
        rc = ask_challenges(client, url, &challenges, e);
    if (rc == 0)
        rc = auth_identity_get(auth, scope, &c, e);
    if (rc < 0)
        return rc;
    if (c.registry_token) {
        rc = auth_host_secret(auth, scope, e);
        return rc == 0 ? ready_header(scope, sent, &c, ret, e) : rc;
    }

    const struct challenge *bearer = pick(&challenges, true);
    const struct challenge *basic = pick(&challenges, false);
    if (bearer) {
        rc = answer_bearer(auth, client, url, bearer, scope, sent, &c, ret, e);
        /* (Both are offered by servers whose token part is not set up for password logins.) */
        if (rc != -LARDER_AUTH || !basic || !c.password || strncmp(sent, "Basic ", 6) == 0)
            return rc;
    }
    if (basic)
        return answer_basic(auth, scope, sent, &c, ret, e);
    return error_set(e, LARDER_AUTH,
                     "registry %s: it wants authorization, but not by a scheme larder knows "
                     "(Bearer with a realm, Basic)",
                     scope->host);
}

/* ---- before a request ---- */

/* What the host wanted last, filled with what the scope needs; client NULL: from the cache only. */
static int header_by_token(struct auth *auth, struct http_client *client,
                           const struct auth_scope *scope, const struct auth_host *host, char **ret,
                           struct larder_error *e)
{
    CLEANUP(credentials_done) struct credentials c = {0};
    struct scope_set scopes = {0};
    int rc = scopes_of(scope, &scopes, e);
    struct token_ask ask = {.host = scope->host,
                            .url = host->url,
                            .realm = host->realm,
                            .service = host->service,
                            .scopes = &scopes,
                            .credentials = &c,
                            .observer = auth_observer(auth)};
    if (rc == 0)
        rc = auth_token_find(auth, scope, &scopes, ret, e);
    if (rc == 0 && !*ret && client)
        rc = auth_identity_get(auth, scope, &c, e);
    if (rc == 0 && !*ret && client && !c.registry_token)
        rc = auth_token_get(auth, client, scope, &ask, "", ret, e);
    scope_set_done(&scopes);
    return rc;
}

static int header_by_secret(struct auth *auth, const struct auth_scope *scope, bool is_basic,
                            char **ret, struct larder_error *e)
{
    CLEANUP(credentials_done) struct credentials c = {0};
    int rc = auth_identity_get(auth, scope, &c, e);
    if (rc == 0 && c.registry_token)
        return ready_header(scope, "", &c, ret, e);
    if (rc == 0 && is_basic && c.password)
        return basic_header(c.user ? c.user : "", c.password, ret, e);
    return rc;
}

int auth_renew(struct auth *auth, struct http_client *client, const struct auth_scope *scope,
               char **ret, struct larder_error *e)
{
    struct larder_error failure = LARDER_ERROR_INIT;
    struct auth_host host = {0};
    char *header = NULL;

    int rc = auth_host_get(auth, scope, &host, &failure);
    if (rc == 0 && (host.wants_secret || host.has_ready_token))
        rc = header_by_secret(auth, scope, host.wants_secret, &header, &failure);
    else if (rc == 0 && host.realm)
        rc = header_by_token(auth, client, scope, &host, &header, &failure);
    auth_host_done(&host);
    if (rc < 0 && (rc == -LARDER_NOMEM || rc == -LARDER_CANCELED)) {
        if (e)
            *e = failure;
        return rc;
    }
    if (!header)
        header = strdup("");
    if (!header)
        return error_nomem(e);
    *ret = header;
    return 0;
}
