/* SPDX-License-Identifier: Apache-2.0 */
/* larder update show, update clear: what is recorded, and forgetting it. */
#include "base/error.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/update/update.h"
#include "cli/update/update_print.h"

/* ---- show ---- */

static struct {
    bool exit_code;
    struct update_args update;
} show_args;

static const struct opt show_opts[] = {
    OPT_FLAG(0, "exit-code", &show_args.exit_code, "exit with 77 when no update is recorded"),
    UPDATE_OPTS(&show_args.update),
};

static int run_show(struct cli *cli, int argc, char **argv)
{
    struct update_call call CLEANUP(update_call_done) = UPDATE_CALL_INIT;
    struct larder_update update = {.size = sizeof(update)};
    struct larder_error e = LARDER_ERROR_INIT;
    int status;

    if (update_call_fill(cli, "update show", argc ? argv[0] : NULL, &show_args.update, NULL,
                         UPDATE_STORE_READ, &call, &e) < 0 ||
        larder_update_show(call.store, call.ref, &call.options, &update, &e) < 0)
        return cli_fail(cli, &e);
    status = update_print(cli, &update, true, show_args.exit_code);
    larder_update_done(&update);
    return status;
}

const struct command command_update_show = {
    .name = "update show",
    .group = COMMAND_GROUP_UPDATES,
    .summary = "show what the last check found, without the network",
    .about = "Tells what the last check told, computed anew from the base and the record, and when "
             "that was. Nobody is asked, nothing is written, and no lock is taken. A record that "
             "was made for another base than the current one counts as none.",
    .usage = "[REF]",
    .max_words = 1,
    .words = COMMAND_WORDS_LOCATION,
    .opts = OPT_SET(show_opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(5) | COMMAND_EXIT_UNCHANGED,
    .run = run_show,
};

/* ---- clear ---- */

static struct {
    struct update_args update;
} clear_args;

static const struct opt clear_opts[] = {
    UPDATE_OPTS(&clear_args.update),
};

static int clear(struct cli *cli, const char *ref, char **ret_ref, bool *ret_had,
                 struct larder_error *e)
{
    struct update_call call CLEANUP(update_call_done) = UPDATE_CALL_INIT;
    int rc = update_call_fill(cli, "update clear", ref, &clear_args.update, NULL,
                              UPDATE_STORE_CLEAR, &call, e);

    *ret_had = false;
    if (rc == 0)
        rc = larder_update_ref(call.ref, &call.options, ret_ref, e);
    if (rc < 0)
        return rc;
    if (!call.store && !update_is_ostree(&call.options))
        return 0; /* no store, no record */
    return larder_update_clear(call.store, call.ref, &call.options, ret_had, e);
}

static int run_clear(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    char *ref CLEANUP_FREE = NULL;
    bool had = false;

    if (clear(cli, argc ? argv[0] : NULL, &ref, &had, &e) < 0)
        return cli_fail(cli, &e);
    if (globals.json) {
        struct doc doc = DOC_INIT;

        doc_object(&doc, NULL);
        doc_text(&doc, "ref", ref);
        doc_bool(&doc, "was_there", had);
        doc_end(&doc);
        return 0;
    }
    cli_say(cli, false, "%s: %s", ref, had ? "the record is forgotten" : "nothing was recorded");
    return 0;
}

const struct command command_update_clear = {
    .name = "update clear",
    .group = COMMAND_GROUP_UPDATES,
    .summary = "forget what was found",
    .about = "Removes the record of REF, also a damaged one; nothing else that others keep beside "
             "it. That there is none is a success.",
    .usage = "[REF]",
    .max_words = 1,
    .words = COMMAND_WORDS_LOCATION,
    .opts = OPT_SET(clear_opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(7),
    .run = run_clear,
};
