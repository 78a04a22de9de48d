/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What handles opened one after the other share: a round of many references makes one connection
 * and asks for one token where it can.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "store/registry/session.h"

struct remote_shared {
    const struct larder_observer *observer;
    struct auth *auth;
    struct shared_pool *pools;
};

int remote_auth_new(const struct larder_registry_options *options,
                    const struct larder_observer *observer, struct auth **ret,
                    struct larder_error *e)
{
    const struct auth_options made = {
        .files = {.authfile = options->authfile, .observer = observer},
        .user = options->user,
        .password = options->password,
        .registry_token = options->registry_token,
        .is_anonymous = options->is_anonymous,
        .observer = observer,
    };
    return auth_new(&made, ret, e);
}

int remote_shared_new(const struct larder_registry_options *options,
                      const struct larder_observer *observer, struct remote_shared **ret,
                      struct larder_error *e)
{
    static const struct larder_registry_options defaults = LARDER_REGISTRY_OPTIONS_INIT;
    CLEANUP(remote_shared_freep) struct remote_shared *made = calloc(1, sizeof(*made));
    if (!made)
        return error_nomem(e);
    made->observer = observer;
    int rc = remote_auth_new(options ? options : &defaults, observer, &made->auth, e);
    if (rc == 0)
        *ret = TAKE_PTR(made);
    return rc;
}

static void pool_done(struct shared_pool *entry)
{
    http_pool_free(entry->pool);
    free(entry->key);
    free(entry);
}
DEFINE_CLEANUP(struct shared_pool *, pool_done)

void remote_shared_free(struct remote_shared *shared)
{
    if (!shared)
        return;
    while (shared->pools) {
        struct shared_pool *entry = shared->pools;
        shared->pools = entry->next;
        pool_done(entry);
    }
    auth_free(shared->auth);
    free(shared);
}

struct auth *remote_shared_auth(const struct remote_shared *shared)
{
    return shared->auth;
}

/* Certificates are found by the name as written: another name for the same host may have others. */
static char *make_key(const char *base, const struct http_options *options)
{
    char *key;
    int n = asprintf(&key, "%s\n%d\n%s\n%s\n%s", base, options->insecure_tls,
                     options->ca_dir ? options->ca_dir : "",
                     options->client_cert ? options->client_cert : "",
                     options->client_key ? options->client_key : "");
    return n < 0 ? NULL : key;
}

int remote_shared_pool(struct remote_shared *shared, const char *base,
                       const struct http_options *options, struct shared_pool **ret,
                       struct larder_error *e)
{
    CLEANUP_FREE char *key = make_key(base, options);
    if (!key)
        return error_nomem(e);
    for (struct shared_pool *entry = shared->pools; entry; entry = entry->next) {
        if (strcmp(entry->key, key) == 0) {
            *ret = entry;
            return 0;
        }
    }
    CLEANUP(pool_donep) struct shared_pool *made = calloc(1, sizeof(*made));
    if (!made)
        return error_nomem(e);
    struct http_options own = *options;
    own.observer = shared->observer;
    int rc = http_pool_new(&own, &made->pool, e);
    if (rc < 0)
        return rc;
    made->key = TAKE_PTR(key);
    made->next = shared->pools;
    shared->pools = made;
    *ret = TAKE_PTR(made);
    return 0;
}
