/* SPDX-License-Identifier: Apache-2.0 */
/* larder update check: asks, and keeps the answer. */
#include "base/error.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/update/update.h"
#include "cli/update/update_print.h"

static struct {
    bool exit_code;
    bool require_persist;
    struct update_args update;
    struct remote_args remote;
} args;

static const struct opt opts[] = {
    OPT_FLAG(0, "exit-code", &args.exit_code, "exit with 77 when there is no update"),
    OPT_FLAG(0, "require-persist", &args.require_persist,
             "fail when what was found could not be kept, instead of warning"),
    UPDATE_OPTS(&args.update),
    REMOTE_OPTS(&args.remote),
    REMOTE_RETRY_OPT(&args.remote),
};

static int not_persisted(struct cli *cli, const struct larder_update *update)
{
    struct larder_error e = LARDER_ERROR_INIT;

    error_set(&e, LARDER_DENIED, "%s: the record was to be kept, and could not be", update->ref);
    if (!args.update.state_dir)
        error_hint(&e, "--state-dir DIR keeps it elsewhere");
    return cli_fail(cli, &e);
}

static int run_check(struct cli *cli, int argc, char **argv)
{
    struct update_call call CLEANUP(update_call_done) = UPDATE_CALL_INIT;
    struct larder_update update = {.size = sizeof(update)};
    struct larder_error e = LARDER_ERROR_INIT;
    int status;

    if (update_call_fill(cli, "update check", argc ? argv[0] : NULL, &args.update, &args.remote,
                         UPDATE_STORE_KEEP, &call, &e) < 0 ||
        larder_update_check(call.store, call.ref, &call.options, &update, &e) < 0)
        return cli_fail(cli, &e);
    status = update_print(cli, &update, false, args.exit_code);
    /* Where nothing is to be kept, nothing is missing: then there is no reason either. */
    if (args.require_persist && !update.is_persisted && (update_has(&update) || update.why))
        status = not_persisted(cli, &update);
    larder_update_done(&update);
    return status;
}

const struct command command_update_check = {
    .name = "update check",
    .group = COMMAND_GROUP_UPDATES,
    .summary = "ask whether there is an update, and keep the answer",
    .about = "Asks what REF points to now and compares it with its base: the image of that name in "
             "the store, or of an ostree repository. Without a change that is one request. An "
             "image that is another is told in the lines of `bootc upgrade --check` and some more, "
             "and its manifest and configuration are kept; no layer is fetched. With --quiet only "
             "the digest of an update is printed.",
    .usage = "[REF]",
    .max_words = 1,
    .words = COMMAND_WORDS_LOCATION,
    .opts = OPT_SET(opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(5) | COMMAND_EXIT(6) | COMMAND_EXIT(7) |
             COMMAND_EXIT(8) | COMMAND_EXIT_UNCHANGED,
    .run = run_check,
};
