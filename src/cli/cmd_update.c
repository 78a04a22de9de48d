/* SPDX-License-Identifier: Apache-2.0 */
/* larder update: the group, and what its commands (update_<verb>.c) share. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/update/update.h"

/* libostree's own sign of a machine that runs a deployment (ostree-prepare-root makes it). */
#define BOOTED_FILE "/run/ostree-booted"

const struct command command_update = {
    .name = "update",
    .group = COMMAND_GROUP_UPDATES,
    .summary = "find an update of a container image, keep it, show it, fetch exactly it",
    .about = "A check asks what a reference points to now and keeps the manifest and configuration "
             "of an image that is another than the one in use, so that they can be shown without "
             "the network, and exactly that image be fetched later.",
    .usage = "",
};

bool update_is_booted(const struct update_args *args)
{
    return !args->no_ostree && !args->ostree_repo && !args->sysroot &&
           access(BOOTED_FILE, F_OK) == 0;
}

int update_booted_ref(char **ret, struct larder_error *e)
{
    struct larder_update_options options = LARDER_UPDATE_OPTIONS_INIT;
    struct larder_update update = {.size = sizeof(update)};
    struct larder_error why = LARDER_ERROR_INIT;
    int rc;

    options.sysroot = UPDATE_BOOTED_ROOT;
    rc = larder_update_show(NULL, NULL, &options, &update, &why);
    *ret = NULL;
    if (rc == 0) {
        *ret = update.ref;
        update.ref = NULL;
        larder_update_done(&update);
    } else if (rc != -LARDER_NOENT && rc != -LARDER_UNSUPPORTED) {
        *e = why;
        return rc;
    }
    return 0;
}

/* A word without a transport is one of a registry, and one without a tag means latest. */
bool update_is_ref(const char *ref, const char *complete)
{
    static const char docker[] = "docker://";
    static const char latest[] = ":latest";
    size_t n;

    if (strncmp(ref, docker, sizeof(docker) - 1) == 0)
        ref += sizeof(docker) - 1;
    if (strncmp(complete, docker, sizeof(docker) - 1) == 0)
        complete += sizeof(docker) - 1;
    n = strlen(ref);
    return strncmp(ref, complete, n) == 0 && (!complete[n] || strcmp(complete + n, latest) == 0);
}

int update_store_open(struct cli *cli, enum update_store need, bool is_ostree,
                      struct larder_store **ret, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct larder_error later = LARDER_ERROR_INIT;
    int rc;

    *ret = NULL;
    if (need == UPDATE_STORE_FILL)
        return cli_store(cli, is_ostree ? LARDER_STORE_CREATE : 0, ret, e);
    if (is_ostree) {
        /* Only looked into for layers: without one there are none. */
        if (cli_store(cli, LARDER_STORE_READ_ONLY, ret, &why) < 0)
            *ret = NULL;
        return 0;
    }
    if (need == UPDATE_STORE_READ)
        return cli_store(cli, LARDER_STORE_READ_ONLY, ret, e);
    rc = cli_store(cli, need == UPDATE_STORE_KEEP ? LARDER_STORE_CREATE : 0, ret, &why);
    if (rc == -LARDER_NOENT && need == UPDATE_STORE_CLEAR)
        return 0;
    /* The check is answered without a record, too; the library says that there is none. */
    if (rc == -LARDER_DENIED && cli_store(cli, LARDER_STORE_READ_ONLY, ret, &later) == 0)
        return 0;
    if (rc < 0)
        *e = why;
    return rc;
}

int update_place_fill(struct cli *cli, const char *command, const struct update_args *args,
                      const struct remote_args *remote, struct update_call *ret,
                      struct larder_error *e)
{
    const struct config *config = NULL;
    const char *place = args->ostree_repo ? "ostree-repo" : args->sysroot ? "sysroot" : NULL;
    int rc;

    if (args->ostree_repo && args->sysroot)
        return error_set(e, LARDER_INVAL, "%s: found --ostree-repo and --sysroot, expected one",
                         command);
    if (place && (args->no_ostree || args->name))
        return error_set(e, LARDER_INVAL, "%s: found --%s with --%s, which is about the store",
                         command, place, args->no_ostree ? "no-ostree" : "name");
    rc = remote ? remote_fill(cli, command, NULL, remote, &ret->remote, e)
                : cli_config(cli, &config, e);
    if (rc < 0)
        return rc;
    ret->options.name = args->name;
    ret->options.platform = args->platform;
    ret->options.ostree_repo = args->ostree_repo;
    ret->options.sysroot = args->sysroot;
    ret->options.state_dir =
        args->state_dir ? args->state_dir : config_text(&cli->config, CONFIG_update_state_dir);
    ret->options.registry = &ret->remote.options;
    ret->options.observer = &cli->observer;
    return 0;
}

static int no_ref(const char *command, const struct update_args *args, struct larder_error *e)
{
    if (args->ostree_repo)
        return error_set(e, LARDER_INVAL, "%s: found no REF, expected that of an image of %s",
                         command, args->ostree_repo);
    error_set(e, LARDER_INVAL,
              "%s: found no REF, and this machine was not booted from an ostree deployment that "
              "would say it",
              command);
    return error_hint(e, "give one as docker://HOST/NAME:TAG, or --sysroot DIR");
}

/* On an ostree machine: the sysroot for what it follows, the store for all else. */
static int use_booted(const char *ref, struct update_call *call, struct larder_error *e)
{
    char *follows = NULL;
    int rc;

    if (!ref) {
        call->options.sysroot = UPDATE_BOOTED_ROOT;
        return 0;
    }
    rc = update_booted_ref(&follows, e);
    if (rc == 0 && follows && update_is_ref(ref, follows))
        call->options.sysroot = UPDATE_BOOTED_ROOT;
    free(follows);
    return rc;
}

int update_call_fill(struct cli *cli, const char *command, const char *ref,
                     const struct update_args *args, const struct remote_args *remote,
                     enum update_store need, struct update_call *ret, struct larder_error *e)
{
    int rc = update_place_fill(cli, command, args, remote, ret, e);

    /* A name is one of the store. */
    if (rc == 0 && !args->name && update_is_booted(args))
        rc = use_booted(ref, ret, e);
    if (rc == 0 && !ref && !ret->options.sysroot)
        rc = no_ref(command, args, e);
    if (rc == 0)
        rc = update_store_open(cli, need, update_is_ostree(&ret->options), &ret->store, e);
    ret->ref = ref;
    return rc;
}

void update_call_done(struct update_call *call)
{
    remote_done(&call->remote);
}
