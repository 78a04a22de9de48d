/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Credentials of registries, where docker and podman keep them: docker's config.json (auths,
 * credsStore, credHelpers), containers-auth.json(5), and credential helpers.
 *
 * Order of files: the authfile given, else $REGISTRY_AUTH_FILE, else
 * $XDG_RUNTIME_DIR/containers/auth.json, $XDG_CONFIG_HOME/containers/auth.json,
 * $DOCKER_CONFIG/config.json (~/.docker/config.json), ~/.dockercfg. In a file: credHelpers[host],
 * credsStore, auths by the longest of host/ns/repo, host/ns, host. Helpers are asked once a host,
 * lazily, with a time limit; "not found" is no error.
 */
#include <stdbool.h>

#include <larder/error.h>
#include <larder/observer.h>

#include "base/mem.h"

struct credentials {
    char *user; /* NULL: anonymous */
    char *password;
    char *identity_token; /* OAuth2 refresh token; NULL */
    char *registry_token; /* a ready bearer token; NULL */
    char *source;         /* file or helper they came from, for messages */
};
void credentials_done(struct credentials *c); /* wipes */

struct credential_options {
    const char *authfile; /* NULL: the places above */
    const struct larder_observer *observer;
};

/* *ret is all NULL when there are none. CORRUPT for a file that is no such file (named), DENIED,
 * UNREACHABLE when a helper failed or hung. host as in a reference ("docker.io"), repository may be
 * NULL. */
int credentials_find(const struct credential_options *options, const char *host,
                     const char *repository, struct credentials *ret, struct larder_error *e);

/*
 * login and logout: change the file that --authfile, $REGISTRY_AUTH_FILE or the first of the places
 * above names (containers' when none exists), atomically, mode 0600, every other member kept; a
 * configured helper gets "store" or "erase" instead. *ret_where (malloc'd) is what was changed.
 * NOENT from erase: there were none. key: HOST or HOST/NAMESPACE.
 */
int credentials_store(const struct credential_options *options, const char *key, const char *user,
                      const char *password, char **ret_where, struct larder_error *e);
int credentials_erase(const struct credential_options *options, const char *key, bool all,
                      char **ret_where, struct larder_error *e);
