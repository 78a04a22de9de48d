/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a repository; the table of operations. */
#include "store/registry/registry.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "store/registry/session.h"

static const struct larder_registry_options *options_of(const struct remote_options *remote)
{
    static const struct larder_registry_options defaults = LARDER_REGISTRY_OPTIONS_INIT;
    return remote && remote->options ? remote->options : &defaults;
}

static uint64_t registry_requests(struct store *s)
{
    return atomic_load(&registry_of(s)->requests);
}

static void registry_close(struct store *s)
{
    struct registry *r = registry_of(s);
    for (size_t i = 0; r->peers && i < r->n_peers; i++) {
        if (r->peers[i].shared)
            r->peers[i].shared->scheme = atomic_load(&r->peers[i].scheme);
        else
            http_pool_free(r->peers[i].pool);
    }
    free(r->peers);
    endpoints_free(r->endpoints, r->n_peers);
    if (r->owns_auth)
        auth_free(r->auth);
    for (size_t i = 0; i < r->n_warnings; i++)
        free(r->warnings[i]);
    pthread_mutex_destroy(&r->lock);
    pthread_mutex_destroy(&r->fallback_lock);
    for (size_t i = 0; i < SUBJECT_LOCKS; i++)
        pthread_mutex_destroy(&r->subject_locks[i]);
    free(r->mount_refused);
    free(r->host);
    free(r->repository);
    free(s->name);
    free(r);
}

static const struct store_ops registry_ops = {
    .transport = "docker",
    .is_remote = true,
    .resolve = registry_resolve,
    .resolve_supposed = registry_resolve_supposed,
    .each_ref = registry_each_ref,
    .remove_ref = registry_remove_ref,
    .manifest_get = registry_manifest_get,
    .manifest_has = registry_manifest_has,
    .manifest_put = registry_manifest_put,
    .manifest_remove = registry_manifest_remove,
    .referrers = registry_referrers,
    .blob_has = registry_blob_has,
    .blob_get = registry_blob_get,
    .blob_put = registry_blob_put,
    .blob_remove = registry_blob_remove,
    .is_fresh = registry_is_fresh,
    .requests = registry_requests,
    .close = registry_close,
};

static int open_peer(struct registry *r, struct peer *peer, const struct endpoint *at,
                     const struct larder_registry_options *o, struct remote_shared *shared,
                     struct larder_error *e)
{
    static const struct larder_net_options defaults = LARDER_NET_OPTIONS_INIT;
    const struct larder_net_options *net = o->net ? o->net : &defaults;
    const struct http_options http = {
        .connect_timeout_ns = net->connect_timeout_ns,
        .stall_timeout_ns = net->stall_timeout_ns,
        .no_netrc = true, /* registries have credentials of their own */
        /* Pipelines have proxies set for all they do, and skopeo, docker and podman reach a
         * registry of the same machine all the same. */
        .no_loopback_proxy = true,
        .ca_file = net->ca_file,
        .ca_dir = at->certs_dir,
        .client_cert = at->client_cert,
        .client_key = at->client_key,
        .insecure_tls = at->tls == ENDPOINT_INSECURE,
        .observer = &r->observer,
    };
    peer->endpoint = at;
    if (at->tls == ENDPOINT_TLS)
        peer->scheme = SCHEME_HTTPS;
    else if (at->tls == ENDPOINT_HTTP)
        peer->scheme = SCHEME_HTTP;
    if (!shared)
        return http_pool_new(&http, &peer->pool, e);
    int rc = remote_shared_pool(shared, at->base, &http, &peer->shared, e);
    if (rc < 0)
        return rc;
    peer->pool = peer->shared->pool;
    if (peer->scheme == SCHEME_UNDECIDED)
        peer->scheme = peer->shared->scheme;
    return 0;
}

static int open_auth(struct registry *r, const struct larder_registry_options *o,
                     const struct remote_shared *shared, struct larder_error *e)
{
    if (shared) {
        r->auth = remote_shared_auth(shared);
        return 0;
    }
    r->owns_auth = true;
    return remote_auth_new(o, &r->observer, &r->auth, e);
}

static int open_peers(struct registry *r, const struct larder_registry_options *o,
                      struct remote_shared *shared, struct larder_error *e)
{
    const struct endpoint_options options = {
        .conf = o->registries_conf,
        .certs = o->cert_dir,
        .tls_verify = o->tls_verify,
    };
    int rc = endpoints_find(&options, r->host, r->repository, &r->endpoints, &r->n_peers, e);
    if (rc < 0)
        return rc;
    r->peers = calloc(r->n_peers, sizeof(*r->peers));
    if (!r->peers)
        return error_nomem(e);
    for (size_t i = 0; rc == 0 && i < r->n_peers; i++)
        rc = open_peer(r, &r->peers[i], &r->endpoints[i], o, shared, e);
    return rc;
}

static int name_of(struct registry *r, struct larder_error *e)
{
    int n = r->repository ? asprintf(&r->store.name, "docker://%s/%s", r->host, r->repository)
                          : asprintf(&r->store.name, "%s", r->host);
    if (n >= 0)
        return 0;
    r->store.name = NULL;
    return error_nomem(e);
}

/* repository NULL: only the registry itself is asked. */
static int open_registry(const char *host, const char *repository,
                         const struct remote_options *remote, unsigned flags, struct registry **ret,
                         struct larder_error *e)
{
    const struct larder_registry_options *o = options_of(remote);
    struct registry *r = calloc(1, sizeof(*r));
    if (!r)
        return error_nomem(e);
    r->store.ops = &registry_ops;
    r->store.observer = &r->observer;
    pthread_mutex_init(&r->lock, NULL);
    pthread_mutex_init(&r->fallback_lock, NULL);
    for (size_t i = 0; i < SUBJECT_LOCKS; i++)
        pthread_mutex_init(&r->subject_locks[i], NULL);
    const struct larder_observer *observer =
        remote && remote->observer ? remote->observer : o->observer;
    if (observer)
        r->observer = *observer;
    r->is_writable = (flags & STORE_OPEN_WRITE) != 0;
    r->retries = o->net ? o->net->retries : LARDER_NET_RETRIES;
    r->retry_wait_ns = remote ? remote->retry_wait_ns : 0;
    r->limit = remote ? remote->limit : NULL;
    r->whole_bytes_max = r->chunk_bytes_max = UINT64_MAX;
    r->host = strdup(host);
    r->repository = repository ? strdup(repository) : NULL;
    int rc = r->host && (!repository || r->repository) ? 0 : error_nomem(e);
    if (rc == 0)
        rc = name_of(r, e);
    struct remote_shared *shared = remote ? remote->shared : NULL;
    if (rc == 0)
        rc = open_peers(r, o, shared, e);
    if (rc == 0)
        rc = open_auth(r, o, shared, e);
    if (rc < 0)
        registry_close(&r->store);
    else
        *ret = r;
    return rc;
}

int registry_open(const struct oci_reference *reference, const struct remote_options *options,
                  unsigned flags, struct store **ret, struct larder_error *e)
{
    struct registry *r = NULL;
    int rc = open_registry(reference->host, reference->name, options, flags, &r, e);
    if (rc == 0)
        *ret = &r->store;
    return rc;
}

int registry_ping(const char *host, const struct remote_options *options, struct larder_error *e)
{
    struct registry *r = NULL;
    int rc = open_registry(host, NULL, options, 0, &r, e);
    if (!r)
        return rc;
    struct call c = {.peer = registry_primary(r), .path = ""};
    rc = call_run(r, &c, e);
    if (rc == 0 && c.response.status == 404)
        rc = call_fail(r, &c, LARDER_PROTO, e, "no registry there (/v2/ is not found)");
    else if (rc == 0 && c.response.status != 200)
        rc = call_refused(r, &c, e);
    call_done(&c);
    registry_close(&r->store);
    return rc;
}
