/* SPDX-License-Identifier: Apache-2.0 */
/* larder maintain: rounds of refresh, scrub and gc. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/image/image.h"
#include "cli/interval.h"

static struct {
    bool once;
    int64_t every_ns;
    bool dry_run;
} args;

static const struct opt opts[] = {
    OPT_FLAG(0, "once", &args.once, "one round, whatever maintain.every says"),
    OPT_DURATION(0, "every", &args.every_ns, "TIME",
                 "a round every so often, give or take a tenth, until a signal ends it; default: "
                 "maintain.every of the configuration (never)"),
    OPT_FLAG('n', "dry-run", &args.dry_run, "say what would be done, do nothing"),
};

struct round_state {
    struct cli *cli;
    struct doc doc;
};

static void print_event(void *arg, const char *what, const char *object, const char *text)
{
    struct round_state *state = arg;

    progress_clear(&state->cli->progress);
    if (globals.json) {
        doc_object(&state->doc, NULL);
        doc_text(&state->doc, "what", what);
        doc_text(&state->doc, "object", object);
        doc_text(&state->doc, "text", text);
        doc_end(&state->doc);
        return;
    }
    if (globals.quiet)
        return;
    printf("%s%s", what, object && *object ? " " : "");
    put_text(stdout, object ? object : "");
    if (text && *text) {
        fputs(": ", stdout);
        put_text(stdout, text);
    }
    putchar('\n');
    fflush(stdout); /* the journal is to have it when it happens */
}

static int run_round(struct cli *cli)
{
    struct larder_maintain_options options = LARDER_MAINTAIN_OPTIONS_INIT;
    struct larder_error e = LARDER_ERROR_INIT;
    struct round_state state = {.cli = cli};
    struct larder_store *store = NULL;
    int rc;

    if (cli_store(cli, LARDER_STORE_CREATE, &store, &e) < 0)
        return cli_fail(cli, &e);
    options.scrub_older_than_ns = config_ns(&cli->config, CONFIG_scrub_older_than);
    options.scrub_stop_after_ns = config_ns(&cli->config, CONFIG_scrub_stop_after);
    options.scrub_bytes_per_s = config_number(&cli->config, CONFIG_scrub_max_rate);
    options.keep_for_ns = config_ns(&cli->config, CONFIG_gc_keep_for);
    options.max_size_bytes = config_number(&cli->config, CONFIG_gc_max_size);
    options.keep_partial_ns = config_ns(&cli->config, CONFIG_gc_keep_partial);
    options.max_quarantine_bytes = config_number(&cli->config, CONFIG_gc_max_quarantine);
    options.dry_run = args.dry_run;
    options.event = print_event;
    options.arg = &state;
    if (globals.json) {
        doc_object(&state.doc, NULL);
        doc_array(&state.doc, "events");
    }
    rc = larder_maintain(store, &options, &e);
    if (globals.json) {
        doc_end(&state.doc);
        doc_text(&state.doc, "worst",
                 rc < 0 ? larder_code_name((enum larder_code) - rc) : larder_code_name(LARDER_OK));
        doc_end(&state.doc);
        fflush(stdout);
    }
    /* A new image and a corrupt one that was fetched again have their lines already. */
    return rc < 0 ? cli_fail(cli, &e) : 0;
}

static int run_maintain(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    int64_t every_ns;
    int status;

    (void)argc;
    (void)argv;
    if (args.once && args.every_ns != OPT_NS_UNSET)
        return cli_usage(cli, "maintain", "found --once and --every, expected one");
    if (cli_config(cli, NULL, &e) < 0)
        return cli_fail(cli, &e);
    every_ns = cli_ns(cli, args.every_ns, CONFIG_maintain_every);
    if (args.once || every_ns == INT64_MAX)
        return run_round(cli);
    if (every_ns < INTERVAL_MIN_NS)
        return cli_usage(cli, "maintain", "interval: found less than a second, expected more");
    for (;;) {
        status = run_round(cli);
        /* Kept open, a store that is unmounted or replaced meanwhile would not be noticed. */
        cli_store_close(cli);
        if (cli_caught_signal() == 0)
            interval_wait(interval_jitter(every_ns));
        if (cli_caught_signal())
            break;
    }
    /* To be stopped is how this ends well. */
    (void)status;
    return 128 + cli_caught_signal();
}

const struct command command_maintain = {
    .name = "maintain",
    .group = COMMAND_GROUP_STORE,
    .summary = "refresh, scrub and gc what is due",
    .about = "One round asks upstream about the entries that are due and fetches what is new, "
             "hashes the blobs that are due (corrupt ones are fetched again), and removes what gc "
             "would. With an interval it goes on until a signal ends it; an error ends a round, "
             "not the loop. One line an event.",
    .usage = "",
    .opts = OPT_SET(opts),
    .exits =
        COMMAND_EXIT(4) | COMMAND_EXIT(5) | COMMAND_EXIT(6) | COMMAND_EXIT(7) | COMMAND_EXIT(8),
    .run = run_maintain,
};
