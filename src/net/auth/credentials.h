/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Credentials of registries, where docker and podman keep them: docker's config.json (auths,
 * credsStore, credHelpers), containers-auth.json(5), and credential helpers.
 *
 * Order of files: the authfile given, else $REGISTRY_AUTH_FILE (and then no other), else
 * $XDG_RUNTIME_DIR/containers/auth.json (/run/containers/UID/auth.json),
 * $XDG_CONFIG_HOME/containers/auth.json (~/.config), $DOCKER_CONFIG/config.json (~/.docker),
 * ~/.dockercfg. A missing file is an empty one. In a file: the helper of credHelpers[host], else
 * credsStore, then auths by the longest of host/ns/repo, host/ns, host; the first file that has
 * something counts. docker.io, index.docker.io and registry-1.docker.io are one host.
 *
 * Who may read the files is not looked at, as docker and podman don't. "HttpHeaders" and "proxies"
 * of docker's file are not used: they would go to every registry.
 */
#include <stdbool.h>
#include <stdint.h>

#include <larder/error.h>
#include <larder/observer.h>

#include "base/mem.h"

struct credentials {
    char *user; /* NULL: anonymous */
    char *password;
    char *identity_token; /* OAuth2 refresh token; NULL */
    char *registry_token; /* a ready bearer token; NULL */
    char *source;         /* file or helper they came from, for messages; NULL: there are none */
    bool is_given;        /* they are the caller's own, no file's */
    bool is_from_helper;  /* by host, whatever the repository; may be others when asked later */
};
void credentials_done(struct credentials *c); /* wipes */
int credentials_copy(const struct credentials *from, struct credentials *ret,
                     struct larder_error *e);

struct credential_options {
    const char *authfile;      /* NULL: the places above */
    int64_t helper_timeout_ns; /* one that takes longer is killed with its group; 0: 60 s */
    const struct larder_observer *observer;
};

/*
 * *ret is all NULL when there are none. CORRUPT for a file that is no such file (named; messages
 * never quote a file), DENIED, LIMIT, UNREACHABLE when a helper is missing, failed or hung; "not
 * found" of a helper is no error. host as in a reference ("docker.io"), repository may be NULL.
 * Helpers are asked at each call: remember what they said. Threads: any.
 */
int credentials_find(const struct credential_options *options, const char *host,
                     const char *repository, struct credentials *ret, struct larder_error *e);

/*
 * login and logout: change the file that --authfile or $REGISTRY_AUTH_FILE names, else the first of
 * the places above that exists, else (store) containers', atomically, mode 0600, in directories of
 * mode 0700, every other member kept in its order; a symbolic link stays one. A configured helper
 * gets "store" or "erase" instead, when key is a host. erase takes from the first file or helper
 * that has the key; all: everything in that file and its helpers. *ret_where (malloc'd) is what was
 * changed. NOENT from erase: there were none. key: HOST or HOST/NAMESPACE.
 */
int credentials_store(const struct credential_options *options, const char *key, const char *user,
                      const char *password, char **ret_where, struct larder_error *e);
int credentials_erase(const struct credential_options *options, const char *key, bool all,
                      char **ret_where, struct larder_error *e);
