/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Authorization towards registries: challenges (RFC 9110 section 11), Basic, and the bearer token
 * protocol of distribution's documents (token.md, oauth.md), with a cache of tokens.
 *
 *     auth_renew(auth, client, &scope, &sent)   what to send first ("" when nothing is known)
 *     ... 401 ...
 *     auth_challenged(auth, client, url, response, &scope, sent, &header)   fetches a token
 *     ... once more with header; a further 401 may be given to auth_challenged again (then
 *     sent = header): it ends with AUTH as soon as nothing more can be got
 *
 * Tokens are cached by (host, user, scopes), from the moment they came, and fetched by one thread
 * while the others wait. One that ends soon counts as ended and is fetched anew before the request,
 * so that no body is sent in vain.
 *
 * Secrets go to the host they belong to and to the token server it named, nowhere else: a realm is
 * checked, a redirect of it gets none. Messages hold none. Threads: one struct auth, all lanes.
 */
#include <stdbool.h>

#include <larder/error.h>
#include <larder/observer.h>

#include "base/mem.h"
#include "net/auth/credentials.h"
#include "net/http/http.h"

struct auth;

struct auth_options {
    struct credential_options files;
    const char *user; /* given by the user: no file is read; NULL */
    const char *password;
    const char *registry_token;
    bool is_anonymous; /* no credentials at all */
    const struct larder_observer *observer;
};
/* The options (strings too) are copied; the observer must outlive it. */
int auth_new(const struct auth_options *options, struct auth **ret, struct larder_error *e);
void auth_free(struct auth *auth);
DEFINE_CLEANUP(struct auth *, auth_free)

struct auth_scope {
    const char *host;       /* whose credentials are used, as in references (endpoint.host) */
    const char *repository; /* NULL: none ("/v2/") */
    const char *actions;    /* "pull", "pull,push", "delete", "*" */
    const char *from;       /* second repository that must be readable (mount); NULL */
    /* endpoint.is_mirror: user, password and token of the options are for the registry itself, not
     * for this one; what the files have for host is used. */
    bool is_mirror;
};

/*
 * malloc'd value for http_request.authorization; "" when none is known to be needed. May read files
 * and run a helper where the host wants Basic. Where it is known to want tokens and there is none
 * for the scope, or one that ends soon, a new one is fetched; client NULL: not, nobody is asked. A
 * failure to get one is no error here: "" then, and the server's 401 tells. CANCELED, NOMEM.
 */
int auth_renew(struct auth *auth, struct http_client *client, const struct auth_scope *scope,
               char **ret, struct larder_error *e);
/*
 * After a 401 of url to a request with the authorization `sent` ("" or NULL: none): reads the
 * challenges and gets what they ask for. Without any challenge those of GET /v2/ count. Secrets are
 * not sent to a realm by http unless url is http, nor to a machine-local address unless url is one
 * (UNSAFE). AUTH when no challenge can be met or what we have was refused; failures of the token
 * server are UNREACHABLE.
 */
int auth_challenged(struct auth *auth, struct http_client *client, const char *url,
                    const struct http_response *response, const struct auth_scope *scope,
                    const char *sent, char **ret, struct larder_error *e);
