/* SPDX-License-Identifier: Apache-2.0 */
/* larder du */
#include <stdio.h>

#include <larder/maintain.h>

#include "base/text.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/out.h"

static struct {
    bool summarize;
} args;

static const struct opt opts[] = {
    OPT_FLAG('s', "summarize", &args.summarize, "only the sums"),
};

struct du_state {
    struct doc doc;
    struct table table;
};

static int add_blob(void *arg, const struct larder_blob_info *info, const char *refs)
{
    struct du_state *state = arg;
    char text[LARDER_DIGEST_TEXT_BYTES];

    if (globals.json) {
        doc_object(&state->doc, NULL);
        doc_digest(&state->doc, "digest", &info->digest);
        doc_number(&state->doc, "size_bytes", info->size_bytes);
        doc_number(&state->doc, "allocated_bytes", info->allocated_bytes);
        doc_time(&state->doc, "added", info->added_ns);
        doc_time(&state->doc, "last_used", info->last_used_ns);
        doc_time(&state->doc, "last_verified", info->last_verified_ns);
        doc_text(&state->doc, "refs", refs);
        doc_end(&state->doc);
        return 0;
    }
    table_cell(&state->table, size_format(info->allocated_bytes, text));
    table_cell(&state->table, age_format(info->last_used_ns, text));
    table_cell(&state->table, larder_digest_format(&info->digest, text));
    table_cell(&state->table, refs && *refs ? refs : "-");
    return cli_caught_signal() ? -LARDER_CANCELED : 0;
}

static void sum_row(struct table *table, const char *title, uint64_t bytes, uint64_t count)
{
    char text[48];

    table_cell(table, size_format(bytes, text));
    snprintf(text, sizeof(text), "%llu", (unsigned long long)count);
    table_cell(table, text);
    table_cell(table, title);
}

static uint64_t rest(uint64_t all, uint64_t named, uint64_t leased)
{
    return all > named + leased ? all - named - leased : 0;
}

static int print_sums(const struct larder_usage *usage, struct larder_error *e)
{
    struct table table;

    table_init(&table, 3, 3);
    sum_row(&table, "blobs that a name refers to", usage->referred_allocated_bytes,
            usage->referred_blobs);
    sum_row(&table, "blobs that only a lease holds", usage->leased_only_allocated_bytes,
            usage->leased_only_blobs);
    sum_row(&table, "other blobs",
            rest(usage->blob_allocated_bytes, usage->referred_allocated_bytes,
                 usage->leased_only_allocated_bytes),
            rest(usage->blobs, usage->referred_blobs, usage->leased_only_blobs));
    sum_row(&table, "in quarantine", usage->quarantine_allocated_bytes, usage->quarantined);
    sum_row(&table, "unfinished downloads", usage->partial_allocated_bytes, usage->partials);
    sum_row(&table, "records of updates", usage->record_allocated_bytes, usage->records);
    sum_row(&table, "in all",
            usage->blob_allocated_bytes + usage->quarantine_allocated_bytes +
                usage->partial_allocated_bytes + usage->record_allocated_bytes,
            usage->blobs + usage->quarantined + usage->partials + usage->records);
    return table_print(&table, e);
}

static void print_json_sums(struct doc *doc, const struct larder_usage *usage)
{
    doc_number(doc, "blob_count", usage->blobs);
    doc_number(doc, "blob_bytes", usage->blob_bytes);
    doc_number(doc, "blob_allocated_bytes", usage->blob_allocated_bytes);
    doc_number(doc, "referred_blobs", usage->referred_blobs);
    doc_number(doc, "referred_allocated_bytes", usage->referred_allocated_bytes);
    doc_number(doc, "leased_blobs", usage->leased_blobs);
    doc_number(doc, "leased_only_blobs", usage->leased_only_blobs);
    doc_number(doc, "leased_only_allocated_bytes", usage->leased_only_allocated_bytes);
    doc_number(doc, "records", usage->records);
    doc_number(doc, "record_allocated_bytes", usage->record_allocated_bytes);
    doc_number(doc, "quarantined", usage->quarantined);
    doc_number(doc, "quarantine_allocated_bytes", usage->quarantine_allocated_bytes);
    doc_number(doc, "partials", usage->partials);
    doc_number(doc, "partial_allocated_bytes", usage->partial_allocated_bytes);
}

/* The sums are asked for before anything is printed, so that a failure leaves no half document. */
static int run_du(struct cli *cli, int argc, char **argv)
{
    struct larder_usage usage = {0};
    struct larder_error e = LARDER_ERROR_INIT;
    struct du_state state = {0};
    struct larder_store *store = NULL;
    int rc = 0;

    (void)argc;
    (void)argv;
    if (cli_store(cli, LARDER_STORE_READ_ONLY, &store, &e) < 0 ||
        larder_usage_get(store, &usage, &e) < 0)
        return cli_fail(cli, &e);
    table_init(&state.table, 4, 1);
    if (globals.json) {
        doc_object(&state.doc, NULL);
        print_json_sums(&state.doc, &usage);
        doc_array(&state.doc, "blobs");
    }
    if (!args.summarize)
        rc = larder_usage_each(store, add_blob, &state, &e);
    if (globals.json) {
        doc_end(&state.doc);
        doc_end(&state.doc);
    }
    if (rc == 0)
        rc = table_print(&state.table, &e);
    else
        table_free(&state.table);
    if (rc == 0 && !globals.json)
        rc = print_sums(&usage, &e);
    return rc < 0 ? cli_fail(cli, &e) : 0;
}

const struct command command_du = {
    .name = "du",
    .group = COMMAND_GROUP_STORE,
    .summary = "show what takes how much space",
    .about =
        "Each blob with its size on disk, last use, digest and the names that refer to it, "
        "most recently used first; then the sums: what names keep, with all below a manifest; "
        "what only a lease holds, also below a leased image; and the rest, which gc may "
        "remove. A record of an update keeps no blob and counts by itself. Sizes on disk leave "
        "out holes.",
    .usage = "",
    .opts = OPT_SET(opts),
    .exits = COMMAND_EXIT(3),
    .run = run_du,
};
