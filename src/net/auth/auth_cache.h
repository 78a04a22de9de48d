/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What struct auth remembers: credentials by host and repository, what a host wants, tokens; and
 * which thread is fetching what. Inside src/net. Threads: all functions from any thread; results
 * are copies of the caller's.
 */
#include "net/auth/auth.h"
#include "net/auth/auth_token.h"

int auth_cache_new(const struct auth_options *options, struct auth **ret, struct larder_error *e);
const struct larder_observer *auth_observer(const struct auth *auth);

/* Who we are there; all NULL: nobody. Files are read and helpers asked at the first call, by one
 * thread while the others wait. */
int auth_identity_get(struct auth *auth, const struct auth_scope *scope, struct credentials *ret,
                      struct larder_error *e);
/*
 * After `used` was refused: 1 when there are others now. Helpers give out passwords that end; they
 * are asked again, but not sooner than AUTH_AGAIN_NS after the last time. 0: nothing new.
 */
int auth_identity_again(struct auth *auth, const struct auth_scope *scope,
                        const struct credentials *used, struct credentials *ret,
                        struct larder_error *e);

/* What the host wanted last; url is the one it challenged. */
struct auth_host {
    bool wants_secret;    /* Basic, or the ready token that our credentials are */
    bool has_ready_token; /* credentials with a registry token, given by the user */
    char *url;
    char *realm; /* NULL: it never wanted a token */
    char *service;
};
void auth_host_done(struct auth_host *host);
/* All zero when nothing is known. */
int auth_host_get(struct auth *auth, const struct auth_scope *scope, struct auth_host *ret,
                  struct larder_error *e);
int auth_host_secret(struct auth *auth, const struct auth_scope *scope, struct larder_error *e);
int auth_host_bearer(struct auth *auth, const struct auth_scope *scope, const struct token_ask *ask,
                     struct larder_error *e);

/* "Bearer ..." of a token that covers the scopes and does not end soon; NULL: none. */
int auth_token_find(struct auth *auth, const struct auth_scope *scope,
                    const struct scope_set *scopes, char **ret, struct larder_error *e);
/* The same, else fetched; but never `sent`, which was refused. AUTH when sent is a new token for
 * exactly these scopes. */
int auth_token_get(struct auth *auth, struct http_client *client, const struct auth_scope *scope,
                   const struct token_ask *ask, const char *sent, char **ret,
                   struct larder_error *e);
