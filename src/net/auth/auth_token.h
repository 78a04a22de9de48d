/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One request to a token server (distribution's token.md and oauth.md). Inside src/net; auth.h
 * caches what comes.
 */
#include "net/auth/challenge.h"
#include "net/auth/credentials.h"
#include "net/auth/scope.h"
#include "net/http/http.h"

struct token_ask {
    const char *host;  /* the registry, for messages */
    const char *url;   /* of the request that was challenged */
    const char *realm; /* as the challenge has it */
    const char *service;
    const struct scope_set *scopes;
    const struct credentials *credentials; /* all NULL: anonymous */
    bool is_scope_refused;                 /* the challenge says that a token had too few rights */
    const struct larder_observer *observer;
};

/* UNSAFE: secrets (or, for machine-local addresses, anything) must not go to that realm. PROTO: it
 * is no URL. */
int token_realm_check(const char *host, const char *url, const char *realm, bool has_secrets,
                      struct larder_error *e);
/* AUTH: the server refuses; UNREACHABLE: it failed, after retries; PROTO, UNSAFE, CANCELED. */
int token_fetch(struct http_client *client, const struct token_ask *ask, struct token_reply *ret,
                struct larder_error *e);
/* "Basic ..." for a user and a password; wipe it. malloc'd. */
int basic_header(const char *user, const char *password, char **ret, struct larder_error *e);
/* Wipes and frees a secret; NULL is fine. */
void secret_free(char *secret);
DEFINE_CLEANUP(char *, secret_free)
