/* SPDX-License-Identifier: Apache-2.0 */
/* larder logout. */
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/remote.h"

static struct {
    bool all;
    struct remote_args remote;
} args;

static const struct opt opts[] = {
    OPT_FLAG('a', "all", &args.all, "remove the credentials of all registries"),
    REMOTE_AUTHFILE_OPT(&args.remote),
};

static int run(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct remote remote CLEANUP(remote_done) = REMOTE_INIT;
    struct doc doc = DOC_INIT;
    const char *registry = argc > 0 ? argv[0] : NULL;
    char *where CLEANUP_FREE = NULL;

    /* There are no such options here: no registry is asked. */
    args.remote.tls_verify = OPT_BOOL_UNSET;
    args.remote.retry_times = OPT_COUNT_UNSET;
    if (args.all == (argc > 0))
        return cli_usage(cli, "logout", "expected either HOST or --all");
    if (remote_fill(cli, "logout", NULL, &args.remote, &remote, &e) < 0 ||
        larder_logout(registry, &remote.options, &where, &e) < 0)
        return cli_fail(cli, &e);
    cli_say(cli, false, "removed the credentials of %s from %s",
            registry ? registry : "all registries", where);
    if (globals.json) {
        doc_object(&doc, NULL);
        doc_text(&doc, "registry", registry);
        doc_text(&doc, "file", where);
        doc_end(&doc);
    }
    return 0;
}

const struct command command_logout = {
    .name = "logout",
    .group = COMMAND_GROUP_REGISTRIES,
    .summary = "remove kept credentials",
    .about = "Removes what `larder login`, docker or podman kept for a registry from their file "
             "or credential helper.",
    .usage = "[HOST[/NAMESPACE]]",
    .max_words = 1,
    .opts = OPT_SET(opts),
    .exits = COMMAND_EXIT(3),
    .run = run,
};
