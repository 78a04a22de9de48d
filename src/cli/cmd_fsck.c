/* SPDX-License-Identifier: Apache-2.0 */
/* larder fsck */
#include <stdio.h>

#include <larder/maintain.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/report.h"

static struct {
    bool repair;
    bool rebuild_index;
    bool deep;
} args;

/* Each finding counts once here: what is left to do, what was done, what need not be done. */
static struct {
    unsigned long long problems, repaired, harmless;
} seen;

static const struct opt opts[] = {
    OPT_FLAG(0, "repair", &args.repair, "repair what can be, without losing anything"),
    OPT_FLAG(0, "rebuild-index", &args.rebuild_index,
             "make index.sqlite anew from what the directory says"),
    OPT_FLAG(0, "deep", &args.deep, "hash every blob"),
};

static const char *kind_name(enum larder_fsck_kind kind)
{
    switch (kind) {
    case LARDER_FSCK_TEMPORARY:
        return "temporary";
    case LARDER_FSCK_DEAD_LEASE:
        return "dead-lease";
    case LARDER_FSCK_ORPHAN_MEMO:
        return "orphan-memo";
    case LARDER_FSCK_BAD_MODE:
        return "bad-mode";
    case LARDER_FSCK_FOREIGN:
        return "foreign";
    case LARDER_FSCK_CORRUPT_BLOB:
        return "corrupt-blob";
    case LARDER_FSCK_UNSURE_BLOB:
        return "unsure-blob";
    case LARDER_FSCK_DANGLING_REF:
        return "dangling-ref";
    case LARDER_FSCK_BAD_REF:
        return "bad-ref";
    case LARDER_FSCK_BAD_LEASE:
        return "bad-lease";
    case LARDER_FSCK_BAD_INDEX:
        return "bad-index";
    case LARDER_FSCK_OVERDUE_MARK:
        return "overdue-mark";
    case LARDER_FSCK_INCOMPLETE_REF:
        return "incomplete-ref";
    case LARDER_FSCK_BAD_RECORD:
        return "bad-record";
    }
    return "unknown";
}

static void print_problem(void *arg, const struct larder_fsck_problem *problem)
{
    struct report *report = arg;

    progress_clear(&report->cli->progress);
    if (problem->is_repaired)
        seen.repaired++;
    else if (problem->is_harmless)
        seen.harmless++;
    else
        seen.problems++;
    if (globals.json) {
        doc_object(&report->doc, NULL);
        doc_text(&report->doc, "kind", kind_name(problem->kind));
        doc_text(&report->doc, "object", problem->object);
        doc_text(&report->doc, "text", problem->text);
        doc_bool(&report->doc, "is_repaired", problem->is_repaired);
        doc_bool(&report->doc, "is_harmless", problem->is_harmless);
        doc_end(&report->doc);
        return;
    }
    /* What a crash leaves behind is no news to whoever did not ask. */
    if (problem->is_harmless && !problem->is_repaired && !globals.verbose)
        return;
    if (globals.quiet && (problem->is_harmless || problem->is_repaired))
        return;
    printf("%s ", kind_name(problem->kind));
    put_text(stdout, problem->object);
    fputs(": ", stdout);
    put_text(stdout, problem->text ? problem->text : "");
    fputs(problem->is_repaired   ? " (repaired)\n"
          : problem->is_harmless ? " (harmless)\n"
                                 : "\n",
          stdout);
}

static void print_json_sums(struct doc *doc, const void *sums)
{
    const struct larder_fsck_report *report = sums;

    doc_number(doc, "blobs", report->blobs);
    doc_number(doc, "refs", report->refs);
    doc_number(doc, "leases", report->leases);
    doc_number(doc, "problems", report->problems);
    doc_number(doc, "repaired", report->repaired);
    doc_number(doc, "harmless", report->harmless);
}

static int run_fsck(struct cli *cli, int argc, char **argv)
{
    struct larder_fsck_options options = LARDER_FSCK_OPTIONS_INIT;
    struct larder_fsck_report sums = {0};
    struct larder_error e = LARDER_ERROR_INIT;
    struct report report;
    struct larder_store *store = NULL;
    bool is_told;
    int rc;

    (void)argc;
    (void)argv;
    if (cli_store(cli, args.repair || args.rebuild_index ? 0 : LARDER_STORE_READ_ONLY, &store, &e) <
        0)
        return cli_fail(cli, &e);
    options.repair = args.repair;
    options.rebuild_index = args.rebuild_index;
    options.deep = args.deep;
    options.problem = print_problem;
    options.arg = &report;
    report_begin(&report, cli, "found");
    rc = larder_fsck(store, &options, &sums, &e);
    is_told = rc == 0 || (rc == -LARDER_CORRUPT && sums.problems);
    report_end(&report, is_told ? print_json_sums : NULL, &sums);
    if (!is_told)
        return cli_fail(cli, &e);
    if (!globals.json && !globals.quiet)
        printf(
            "%llu blobs, %llu refs, %llu leases: %llu problems, %llu repaired, %llu harmless%s\n",
            (unsigned long long)sums.blobs, (unsigned long long)sums.refs,
            (unsigned long long)sums.leases, seen.problems, seen.repaired, seen.harmless,
            seen.harmless && !globals.verbose ? " (shown with --verbose)" : "");
    if (rc < 0 && !args.repair)
        cli_say(cli, false, "hint: `larder fsck --repair` repairs what can be");
    return cli_status(rc);
}

const struct command command_fsck = {
    .name = "fsck",
    .group = COMMAND_GROUP_STORE,
    .summary = "check the store, and repair it",
    .about = "Looks at everything in the store: blobs against their recorded fingerprints, refs, "
             "leases, temporaries; when it may write (--repair, --rebuild-index) the index, too. "
             "What a crash leaves behind (temporaries, dead "
             "leases) is harmless and only shown with --verbose. Files that larder did not make "
             "are reported and never touched.",
    .usage = "",
    .opts = OPT_SET(opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(5) | COMMAND_EXIT(7),
    .run = run_fsck,
};
