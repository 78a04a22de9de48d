/* SPDX-License-Identifier: Apache-2.0 */
/* Who we are at a registry: larder_login, larder_logout, larder_login_get. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "net/auth/credentials.h"
#include "store/registry/registry.h"

static int check_options(const struct larder_registry_options *options, struct larder_error *e)
{
    if (options && options->size != sizeof(*options))
        return error_set(e, LARDER_INVAL, "registry options: size %zu, expected %zu", options->size,
                         sizeof(*options));
    return 0;
}

/* HOST or HOST/NAMESPACE: what can be in a reference. */
static int check_key(const char *key, struct larder_error *e)
{
    bool is_good = *key && *key != '/' && !strstr(key, "://") && !strstr(key, "//");
    size_t n = strlen(key);
    for (const char *p = key; *p; p++)
        is_good = is_good && (unsigned char)*p > ' ' && *p != 0x7f && !strchr("@?#\\\"", *p);
    if (is_good && key[n - 1] != '/')
        return 0;
    return error_set(e, LARDER_INVAL,
                     "registry \"%.80s\": host[:port][/namespace] expected, without a scheme", key);
}

static char *host_of(const char *key)
{
    return strndup(key, strcspn(key, "/"));
}

static struct credential_options files_of(const struct larder_registry_options *options)
{
    return (struct credential_options){.authfile = options ? options->authfile : NULL,
                                       .observer = options ? options->observer : NULL};
}

int larder_login(const char *key, const struct larder_registry_options *options, char **ret_where,
                 struct larder_error *e)
{
    int rc = check_options(options, e);
    if (rc == 0)
        rc = check_key(key, e);
    if (rc < 0)
        return rc;
    /* (Basic separates the two by the first colon.) */
    if (!options || !options->user || !*options->user || !options->password ||
        strchr(options->user, ':'))
        return error_set(e, LARDER_INVAL,
                         "registry %s: a user without \":\" and a password are "
                         "needed to log in",
                         key);
    CLEANUP_FREE char *host = host_of(key);
    if (!host)
        return error_nomem(e);
    struct larder_registry_options with_password = *options;
    with_password.is_anonymous = false;
    with_password.registry_token = NULL;
    const struct remote_options remote = {.options = &with_password, .observer = options->observer};
    rc = registry_ping(host, &remote, e);
    if (rc < 0)
        return rc;
    const struct credential_options files = files_of(options);
    return credentials_store(&files, key, options->user, options->password, ret_where, e);
}

int larder_logout(const char *key, const struct larder_registry_options *options, char **ret_where,
                  struct larder_error *e)
{
    int rc = check_options(options, e);
    if (rc == 0 && key)
        rc = check_key(key, e);
    if (rc < 0)
        return rc;
    const struct credential_options files = files_of(options);
    return credentials_erase(&files, key ? key : "", !key, ret_where, e);
}

int larder_login_get(const char *key, const struct larder_registry_options *options,
                     char **ret_user, struct larder_error *e)
{
    CLEANUP(credentials_done) struct credentials found = {0};
    int rc = check_options(options, e);
    if (rc == 0)
        rc = check_key(key, e);
    if (rc < 0)
        return rc;
    CLEANUP_FREE char *host = host_of(key);
    if (!host)
        return error_nomem(e);
    const struct credential_options files = files_of(options);
    const char *slash = strchr(key, '/');
    rc = credentials_find(&files, host, slash ? slash + 1 : NULL, &found, e);
    if (rc < 0)
        return rc;
    if (!found.source)
        return error_set(e, LARDER_NOENT, "registry %s: not logged in", key);
    char *user = strdup(found.user ? found.user : "<token>");
    if (!user)
        return error_nomem(e);
    *ret_user = user;
    return 0;
}
