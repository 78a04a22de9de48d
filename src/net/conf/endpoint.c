/* SPDX-License-Identifier: Apache-2.0 */
#include "net/conf/endpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "net/auth/credentials_file.h"
#include "net/conf/certs_dir.h"
#include "net/conf/registries_conf.h"
#include "net/http/hostname.h"

/* docker.io is a name; this serves it. */
#define DOCKER_HUB     "docker.io"
#define DOCKER_HUB_API "registry-1.docker.io"

static void endpoint_done(struct endpoint *at)
{
    free(at->base);
    free(at->host);
    free(at->repository);
    free(at->certs_dir);
    free(at->client_cert);
    free(at->client_key);
    *at = (struct endpoint){0};
}

void endpoints_free(struct endpoint *endpoints, size_t n)
{
    for (size_t i = 0; i < n; i++)
        endpoint_done(&endpoints[i]);
    free(endpoints);
}

static enum endpoint_tls choose_tls(const struct endpoint_options *options, const char *host,
                                    bool has_insecure, bool insecure)
{
    if (options->tls_verify >= 0)
        return options->tls_verify ? ENDPOINT_TLS : ENDPOINT_INSECURE;
    if (has_insecure)
        return insecure ? ENDPOINT_INSECURE : ENDPOINT_TLS;
    return hostname_is_loopback(hostname_of(slice_of(host))) ? ENDPOINT_INSECURE : ENDPOINT_TLS;
}

/* name: "host[/repository]" as it is to be asked. */
static int set_name(struct endpoint *at, const char *name, const char *where,
                    struct larder_error *e)
{
    size_t n = strcspn(name, "/");
    struct slice host = {name, n};
    bool is_hub = slice_equal(host, SLICE_LIT(DOCKER_HUB));
    if (n == 0)
        return error_set(e, LARDER_INVAL, "%s: it makes %s, which has no host", where, name);
    at->host = slice_dup(host);
    at->base = is_hub ? strdup(DOCKER_HUB_API) : slice_dup(host);
    if (!at->host || !at->base)
        return error_nomem(e);
    if (name[n] == '\0')
        return 0;
    /* A location of the hub without a namespace means what a reference of it means. */
    const char *rest = name + n + 1;
    if (asprintf(&at->repository, "%s%s", is_hub && !strchr(rest, '/') ? "library/" : "", rest) <
        0) {
        at->repository = NULL;
        return error_nomem(e);
    }
    return 0;
}

static int set_certs(struct endpoint *at, const char *given, struct larder_error *e)
{
    struct certs certs = {0};
    int rc = certs_find(given, at->host, &certs, e);
    if (rc < 0)
        return rc;
    at->certs_dir = certs.dir;
    at->client_cert = certs.client_cert;
    at->client_key = certs.client_key;
    return 0;
}

/* The name with the prefix's bytes replaced. */
static int add(struct endpoint **list, size_t *n, const struct endpoint_options *options,
               const struct endpoint *kind, const char *location, const char *rest,
               const char *where, bool has_insecure, struct larder_error *e)
{
    CLEANUP_FREE char *name = NULL;
    struct endpoint at = *kind;
    struct endpoint *grown = realloc(*list, (*n + 1) * sizeof(*grown));
    if (!grown)
        return error_nomem(e);
    *list = grown;
    if (asprintf(&name, "%s%s", location, rest) < 0) {
        name = NULL;
        return error_nomem(e);
    }
    int rc = set_name(&at, name, where, e);
    if (rc == 0) {
        at.tls = choose_tls(options, at.host, has_insecure, kind->tls == ENDPOINT_INSECURE);
        rc = set_certs(&at, options->certs, e);
    }
    if (rc < 0)
        endpoint_done(&at);
    else
        grown[(*n)++] = at;
    return rc;
}

static int add_mirrors(struct endpoint **list, size_t *n, const struct endpoint_options *options,
                       const struct conf_registry *r, const char *rest, struct larder_error *e)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < r->n_mirrors; i++) {
        const struct conf_mirror *m = &r->mirrors[i];
        struct endpoint kind = {.is_mirror = true,
                                .for_tags = m->for_tags,
                                .for_digests = m->for_digests,
                                .tls = m->insecure ? ENDPOINT_INSECURE : ENDPOINT_TLS};
        rc = add(list, n, options, &kind, m->location, rest, r->where, m->insecure, e);
    }
    return rc;
}

static int find(const struct endpoint_options *options, const struct registries_conf *conf,
                const char *name, bool has_repository, struct endpoint **list, size_t *n,
                struct larder_error *e)
{
    size_t used = 0;
    const struct conf_registry *r = registries_conf_find(conf, name, &used);
    const char *location = "";
    int rc = 0;
    if (r && r->blocked)
        return error_set(e, LARDER_DENIED, "registry %s: blocked by %s", name, r->where);
    if (r && has_repository)
        rc = add_mirrors(list, n, options, r, name + used, e);
    if (r && has_repository && *r->location)
        location = r->location;
    else
        used = 0;
    struct endpoint kind = {.for_tags = true,
                            .for_digests = true,
                            .tls = r && r->insecure ? ENDPOINT_INSECURE : ENDPOINT_TLS};
    if (rc == 0)
        rc = add(list, n, options, &kind, location, name + used, r ? r->where : "reference",
                 r && r->has_insecure, e);
    return rc;
}

int endpoints_find(const struct endpoint_options *options, const char *host, const char *repository,
                   struct endpoint **ret, size_t *ret_n, struct larder_error *e)
{
    CLEANUP_FREE char *name = NULL;
    struct registries_conf conf = {0};
    struct endpoint *list = NULL;
    size_t n = 0;
    if (asprintf(&name, "%s%s%s", credential_host(host), repository ? "/" : "",
                 repository ? repository : "") < 0) {
        name = NULL;
        return error_nomem(e);
    }
    int rc = registries_conf_read(options->conf, &conf, e);
    if (rc == 0)
        rc = find(options, &conf, name, repository != NULL, &list, &n, e);
    registries_conf_done(&conf);
    if (rc < 0) {
        endpoints_free(list, n);
        return rc;
    }
    *ret = list;
    *ret_n = n;
    return 0;
}
