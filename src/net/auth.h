/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Authorization towards registries: challenges (RFC 9110 section 11, RFC 7235), Basic, and the
 * bearer token protocol of distribution's docs (token.md, oauth.md), with a cache of tokens.
 *
 *     auth_header(auth, &scope, &header)       what to send first ("" when nothing is known)
 *     ... 401 ...
 *     auth_challenged(auth, client, url, response, &scope, &header)   fetches a token
 *     ... once more; a second 401 is an answer: AUTH
 *
 * Tokens are cached by (host, service, scopes) and fetched by one thread while the others wait.
 * A token that ends within auth_soon() counts as ended, so that a long upload's last request has a
 * fresh one. Threads: one struct auth, all lanes.
 */
#include <stdbool.h>

#include <larder/error.h>
#include <larder/observer.h>

#include "base/mem.h"
#include "net/credentials.h"
#include "net/http.h"

struct auth;

struct auth_options {
    struct credential_options files;
    const char *user; /* given by the user: no file is read; NULL */
    const char *password;
    const char *registry_token;
    bool is_anonymous; /* no credentials at all */
    const struct larder_observer *observer;
};
int auth_new(const struct auth_options *options, struct auth **ret, struct larder_error *e);
void auth_free(struct auth *auth);
DEFINE_CLEANUP(struct auth *, auth_free)

struct auth_scope {
    const char *host;       /* of the reference, whose credentials are used */
    const char *repository; /* NULL: none ("/v2/") */
    const char *actions;    /* "pull", "pull,push", "delete", "*" */
    const char *from;       /* second repository that must be readable (mount); NULL */
};

/* malloc'd value for http_request.authorization; "" when none is known to be needed. */
int auth_header(struct auth *auth, const struct auth_scope *scope, char **ret,
                struct larder_error *e);
/*
 * After a 401 of url: reads the challenges and gets what they ask for. The realm must be https
 * unless url is http, or credentials are not sent there (UNSAFE). AUTH when no challenge can be
 * met; NOENT-like answers of the token server are AUTH, its failures UNREACHABLE.
 */
int auth_challenged(struct auth *auth, struct http_client *client, const char *url,
                    const struct http_response *response, const struct auth_scope *scope,
                    char **ret, struct larder_error *e);
/* Forgets the scope's token (a 401 came although one was sent). */
void auth_forget(struct auth *auth, const struct auth_scope *scope);
