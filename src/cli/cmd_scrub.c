/* SPDX-License-Identifier: Apache-2.0 */
/* larder scrub */
#include <stdio.h>

#include <larder/maintain.h>

#include "base/text.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/report.h"

static struct {
    int64_t older_than_ns;
    uint64_t max_rate_bytes;
    int64_t stop_after_ns;
    bool foreground;
} args;

static const struct opt opts[] = {
    OPT_DURATION(0, "older-than", &args.older_than_ns, "AGE",
                 "only blobs not hashed for so long; 0 is all; default: scrub.older_than of the "
                 "configuration (30d)"),
    OPT_SIZE(0, "max-rate", &args.max_rate_bytes, "SIZE",
             "read at most SIZE a second; 0 is no limit; default: scrub.max_rate of the "
             "configuration (0)"),
    OPT_DURATION(0, "stop-after", &args.stop_after_ns, "TIME",
                 "end after so long, one blob at least, to be gone on with by the next run; 0 is "
                 "never; default: "
                 "scrub.stop_after of the configuration (0)"),
    OPT_FLAG(0, "foreground", &args.foreground, "work at normal priority and do not back off"),
};

static void print_result(void *arg, const struct larder_digest *digest, int result,
                         const struct larder_error *e)
{
    struct report *report = arg;
    char text[LARDER_DIGEST_TEXT_BYTES];

    progress_clear(&report->cli->progress);
    if (globals.json) {
        doc_object(&report->doc, NULL);
        doc_digest(&report->doc, "digest", digest);
        doc_text(&report->doc, "result",
                 result < 0 ? larder_code_name((enum larder_code) - result) : "valid");
        doc_text(&report->doc, "reason", result < 0 && e ? e->msg : NULL);
        doc_end(&report->doc);
        return;
    }
    if (result == 0 && (globals.quiet || !globals.verbose))
        return;
    printf("%s: %s", larder_digest_format(digest, text),
           result < 0 ? larder_code_name((enum larder_code) - result) : "valid");
    if (result < 0 && e && e->msg[0]) {
        fputs(": ", stdout);
        put_text(stdout, e->msg);
    }
    putchar('\n');
}

static void print_json_sums(struct doc *doc, const void *sums)
{
    const struct larder_scrub_report *report = sums;

    doc_number(doc, "checked_blobs", report->checked_blobs);
    doc_number(doc, "checked_bytes", report->checked_bytes);
    doc_number(doc, "read_bytes", report->read_bytes);
    doc_number(doc, "corrupt_blobs", report->corrupt_blobs);
    doc_number(doc, "skipped_blobs", report->skipped_blobs);
    doc_bool(doc, "is_complete", report->is_complete);
}

static void print_sums(const struct larder_scrub_report *report)
{
    char checked[32];
    char read_bytes[32];

    printf("checked %llu blob%s (%s, %s of it data), %llu corrupt, %llu skipped%s\n",
           (unsigned long long)report->checked_blobs, report->checked_blobs == 1 ? "" : "s",
           size_format(report->checked_bytes, checked), size_format(report->read_bytes, read_bytes),
           (unsigned long long)report->corrupt_blobs, (unsigned long long)report->skipped_blobs,
           report->is_complete ? "" : "; stopped early, the next run goes on from here");
}

static int run_scrub(struct cli *cli, int argc, char **argv)
{
    struct larder_scrub_options options = LARDER_SCRUB_OPTIONS_INIT;
    struct larder_scrub_report sums = {0};
    struct larder_error e = LARDER_ERROR_INIT;
    struct report report;
    struct larder_store *store = NULL;
    bool is_told;
    int rc;

    (void)argc;
    (void)argv;
    if (cli_store(cli, 0, &store, &e) < 0)
        return cli_fail(cli, &e);
    options.older_than_ns = cli_ns(cli, args.older_than_ns, CONFIG_scrub_older_than);
    options.max_bytes_per_s = cli_bytes(cli, args.max_rate_bytes, CONFIG_scrub_max_rate);
    options.stop_after_ns = cli_ns(cli, args.stop_after_ns, CONFIG_scrub_stop_after);
    options.foreground = args.foreground;
    options.result = print_result;
    options.arg = &report;
    report_begin(&report, cli, "blobs");
    rc = larder_scrub(store, &options, &sums, &e);
    is_told = rc == 0 || (rc == -LARDER_CORRUPT && sums.corrupt_blobs);
    report_end(&report, is_told ? print_json_sums : NULL, &sums);
    if (!is_told)
        return cli_fail(cli, &e);
    if (!globals.json && !globals.quiet)
        print_sums(&sums);
    return cli_status(rc);
}

const struct command command_scrub = {
    .name = "scrub",
    .group = COMMAND_GROUP_STORE,
    .summary = "hash blobs again, in the background",
    .about = "Reads and hashes blobs, those not hashed for longest first, at idle priority and "
             "backing off when the system waits for its disks. Corrupt ones are put into "
             "quarantine; `larder image get` fetches them again. A run that is stopped is gone on "
             "with by the next.",
    .usage = "",
    .opts = OPT_SET(opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(5) | COMMAND_EXIT(7),
    .run = run_scrub,
};
