/* SPDX-License-Identifier: Apache-2.0 */
/* larder gc */
#include <stdio.h>

#include <larder/maintain.h>

#include "base/text.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/report.h"

static struct {
    bool dry_run;
    int64_t keep_for_ns;
    uint64_t max_size_bytes;
} args;

static const struct opt opts[] = {
    OPT_FLAG('n', "dry-run", &args.dry_run, "say what would be removed, remove nothing"),
    OPT_DURATION(0, "keep-for", &args.keep_for_ns, "AGE",
                 "keep blobs that nothing refers to for so long after their last use; default: "
                 "gc.keep_for of the configuration (7d)"),
    OPT_SIZE(0, "max-size", &args.max_size_bytes, "SIZE",
             "bring the store down to SIZE, least recently used first, entries' images too; 0 is "
             "no cap; default: gc.max_size of the configuration (0)"),
};

static void print_item(struct report *report, bool is_removed, const char *what, const char *name,
                       uint64_t bytes, const char *why)
{
    char size[32];

    progress_clear(&report->cli->progress);
    if (globals.json) {
        doc_object(&report->doc, NULL);
        doc_text(&report->doc, "action", is_removed ? "removed" : "kept");
        doc_text(&report->doc, "what", what);
        doc_text(&report->doc, "name", name);
        doc_number(&report->doc, "bytes", bytes);
        doc_text(&report->doc, "why", why);
        doc_end(&report->doc);
        return;
    }
    /* The list is what a dry run is for; a real run gives the sum unless asked. */
    if (globals.quiet || !(args.dry_run || globals.verbose))
        return;
    fputs(!is_removed ? "kept " : args.dry_run ? "would remove " : "removed ", stdout);
    printf("%s ", what);
    put_text(stdout, name);
    printf(" (%s)", size_format(bytes, size));
    if (why && *why) {
        fputs(": ", stdout);
        put_text(stdout, why);
    }
    putchar('\n');
}

static void print_removed(void *arg, const char *what, const char *name, uint64_t bytes,
                          const char *why)
{
    print_item(arg, true, what, name, bytes, why);
}

static void print_kept(void *arg, const char *name, uint64_t bytes, const char *why)
{
    print_item(arg, false, "blob", name, bytes, why);
}

static void print_json_sums(struct doc *doc, const void *sums)
{
    const struct larder_gc_report *report = sums;

    doc_number(doc, "removed_blobs", report->removed_blobs);
    doc_number(doc, "removed_bytes", report->removed_bytes);
    doc_number(doc, "pinned_blobs", report->pinned_blobs);
    doc_number(doc, "pinned_bytes", report->pinned_bytes);
    doc_number(doc, "kept_blobs", report->kept_blobs);
    doc_number(doc, "kept_bytes", report->kept_bytes);
    doc_number(doc, "removed_temporaries", report->removed_temporaries);
    doc_number(doc, "removed_leases", report->removed_leases);
    doc_number(doc, "removed_quarantined", report->removed_quarantined);
    doc_bool(doc, "dry_run", args.dry_run);
}

static void print_sums(const struct larder_gc_report *report)
{
    char freed[32];
    char pinned[32];
    char kept[32];

    printf("%s %llu blob%s (%s)", args.dry_run ? "would remove" : "removed",
           (unsigned long long)report->removed_blobs, report->removed_blobs == 1 ? "" : "s",
           size_format(report->removed_bytes, freed));
    if (report->removed_temporaries)
        printf(", %llu temporaries", (unsigned long long)report->removed_temporaries);
    if (report->removed_leases)
        printf(", %llu dead leases", (unsigned long long)report->removed_leases);
    if (report->removed_quarantined)
        printf(", %llu from quarantine", (unsigned long long)report->removed_quarantined);
    printf("; kept %llu (%s)", (unsigned long long)report->kept_blobs,
           size_format(report->kept_bytes, kept));
    if (report->pinned_blobs)
        printf("; %llu more when nobody uses them (%s)", (unsigned long long)report->pinned_blobs,
               size_format(report->pinned_bytes, pinned));
    putchar('\n');
}

static int run_gc(struct cli *cli, int argc, char **argv)
{
    struct larder_gc_options options = LARDER_GC_OPTIONS_INIT;
    struct larder_gc_report sums = {0};
    struct larder_error e = LARDER_ERROR_INIT;
    struct report report;
    struct larder_store *store = NULL;
    int rc;

    (void)argc;
    (void)argv;
    if (cli_store(cli, args.dry_run ? LARDER_STORE_READ_ONLY : 0, &store, &e) < 0)
        return cli_fail(cli, &e);
    options.dry_run = args.dry_run;
    options.keep_for_ns = cli_ns(cli, args.keep_for_ns, CONFIG_gc_keep_for);
    options.max_size_bytes = cli_bytes(cli, args.max_size_bytes, CONFIG_gc_max_size);
    options.keep_partial_ns = config_ns(&cli->config, CONFIG_gc_keep_partial);
    options.max_quarantine_bytes = config_number(&cli->config, CONFIG_gc_max_quarantine);
    options.removed = print_removed;
    options.kept = print_kept;
    options.arg = &report;
    report_begin(&report, cli, "items");
    rc = larder_gc(store, &options, &sums, &e);
    report_end(&report, rc == 0 ? print_json_sums : NULL, &sums);
    if (rc < 0)
        return cli_fail(cli, &e);
    if (!globals.json && !globals.quiet)
        print_sums(&sums);
    return 0;
}

const struct command command_gc = {
    .name = "gc",
    .group = COMMAND_GROUP_STORE,
    .summary = "remove what nothing refers to and nobody uses",
    .about = "Removes blobs that no ref points to and no lease holds, dead leases, old unfinished "
             "downloads, temporaries of processes that have ended, and old evidence from the "
             "quarantine. What is in use, or not known to be free, stays.",
    .usage = "",
    .opts = OPT_SET(opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(7),
    .run = run_gc,
};
