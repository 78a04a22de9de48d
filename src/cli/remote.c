/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/remote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"

/* ---- options ---- */

static const char *first_text(const char *a, const char *b)
{
    return a ? a : b;
}

/* A new empty set, so that one that is not given need not be looked at. */
static struct remote_args no_args(void)
{
    return (struct remote_args){.tls_verify = OPT_BOOL_UNSET, .retry_times = OPT_COUNT_UNSET};
}

static int split_creds(const char *command, const char *creds, struct remote *ret,
                       struct larder_error *e)
{
    const char *colon = strchr(creds, ':');

    /* The value is not repeated: it may be the password alone. */
    if (!colon || colon == creds)
        return error_set(e, LARDER_INVAL, "%s: option --creds: found no USER:PASSWORD", command);
    ret->user = strdup(creds);
    if (!ret->user)
        return error_nomem(e);
    ret->user_bytes = strlen(creds);
    ret->user[colon - creds] = 0;
    ret->options.user = ret->user;
    ret->options.password = ret->user + (colon - creds) + 1;
    return 0;
}

static int fill_identity(const char *command, const struct remote_args *args, struct remote *ret,
                         struct larder_error *e)
{
    int given = (args->creds != NULL) + (args->username || args->password) +
                (args->registry_token != NULL) + args->no_creds;

    if (given > 1)
        return error_set(e, LARDER_INVAL,
                         "%s: found more than one of --creds, --username, --registry-token and "
                         "--no-creds for the same registry, expected one",
                         command);
    if (!args->username != !args->password)
        return error_set(e, LARDER_INVAL,
                         "%s: found --%s alone, expected --username and --password", command,
                         args->username ? "username" : "password");
    ret->options.user = args->username;
    ret->options.password = args->password;
    ret->options.registry_token = args->registry_token;
    ret->options.is_anonymous = args->no_creds;
    return args->creds ? split_creds(command, args->creds, ret, e) : 0;
}

static void fill_net(const struct config *config, int retries, struct remote *ret)
{
    ret->net.connect_timeout_ns = config_ns(config, CONFIG_net_connect_timeout);
    ret->net.stall_timeout_ns = config_ns(config, CONFIG_net_stall_timeout);
    ret->net.retries = retries == OPT_COUNT_UNSET
                           ? (unsigned)config_number(config, CONFIG_net_retries)
                           : (unsigned)retries;
    ret->net.ca_file = config_text(config, CONFIG_net_ca_file);
    ret->options.net = &ret->net;
}

int remote_fill(struct cli *cli, const char *command, const struct remote_args *side,
                const struct remote_args *both, struct remote *ret, struct larder_error *e)
{
    const struct config *config = NULL;
    struct remote_args args = side ? *side : no_args();
    struct remote_args rest = both ? *both : no_args();
    int rc = cli_config(cli, &config, e);

    if (rc < 0)
        return rc;
    /* Who we are is one thing: a side that says anything of it does not take parts from both. */
    if (!args.creds && !args.username && !args.password && !args.registry_token && !args.no_creds) {
        args.creds = rest.creds;
        args.username = rest.username;
        args.password = rest.password;
        args.registry_token = rest.registry_token;
        args.no_creds = rest.no_creds;
    }
    ret->options.authfile = first_text(first_text(args.authfile, rest.authfile),
                                       config_text(config, CONFIG_registry_authfile));
    ret->options.cert_dir = first_text(args.cert_dir, rest.cert_dir);
    ret->options.tls_verify = args.tls_verify != OPT_BOOL_UNSET ? args.tls_verify : rest.tls_verify;
    ret->options.observer = &cli->observer;
    fill_net(config, rest.retry_times, ret);
    return fill_identity(command, &args, ret, e);
}

void remote_done(struct remote *remote)
{
    if (remote->user)
        explicit_bzero(remote->user, remote->user_bytes);
    free(remote->user);
    remote->user = NULL;
}

unsigned remote_jobs(const struct cli *cli, int given)
{
    if (given != OPT_COUNT_UNSET)
        return (unsigned)given;
    return (unsigned)config_number(&cli->config, CONFIG_registry_jobs);
}

/* ---- locations ---- */

static bool begins(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool remote_is_registry(const char *location)
{
    return begins(location, "docker://");
}

int remote_store(struct cli *cli, const char *const *locations, size_t count, bool may_create,
                 struct larder_store **ret, struct larder_error *e)
{
    bool is_needed = false;

    for (size_t i = 0; i < count; i++)
        is_needed = is_needed || begins(locations[i], "store:");
    *ret = NULL;
    return is_needed ? cli_store(cli, may_create ? LARDER_STORE_CREATE : 0, ret, e) : 0;
}

/* "//HOST/NAME" is what is left of a location whose transport was forgotten. */
static bool looks_like_path(const char *word)
{
    return word[0] == '.' || word[0] == '~' || (word[0] == '/' && word[1] != '/');
}

int remote_check_location(const char *location, struct larder_error *e)
{
    /* Ours, and skopeo's others, of which the library says that they are not supported. */
    static const char *const transports[] = {
        "docker:", "oci:",           "oci-archive:",    "store:",  "dir:",
        "sif:",    "docker-daemon:", "docker-archive:", "ostree:", "containers-storage:",
        "tarball:"};

    for (size_t i = 0; i < ARRAY_LEN(transports); i++) {
        if (begins(location, transports[i]))
            return 0;
    }
    error_set(e, LARDER_INVAL,
              "'%s': found no transport, expected docker://, oci:, oci-archive: "
              "or store:",
              location);
    if (looks_like_path(location))
        return error_hint(e, "an image layout is written oci:%s", location);
    return error_hint(e, "an image of a registry is written docker://%s",
                      begins(location, "//") ? location + 2 : location);
}

int remote_repository(const char *word, char **ret, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    char *text = NULL;

    if (remote_check_location(word, &why) == 0)
        text = strdup(word);
    else if (looks_like_path(word)) {
        *e = why;
        return -LARDER_INVAL;
    } else if (asprintf(&text, "docker://%s", begins(word, "//") ? word + 2 : word) < 0)
        text = NULL;
    if (!text)
        return error_nomem(e);
    *ret = text;
    return 0;
}

const char *remote_host_platform(char out[96])
{
    struct utsname name;

    snprintf(out, 96, "linux/%s", uname(&name) == 0 ? name.machine : "amd64");
    return out;
}

/* ---- files ---- */

int remote_write_file(const char *path, const char *text, struct larder_error *e)
{
    int fd CLEANUP_CLOSE = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    if (fd < 0 || fd_write_full(fd, text, strlen(text)) < 0)
        return error_errno(e, errno, "%s", path);
    return 0;
}
