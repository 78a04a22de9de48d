/* SPDX-License-Identifier: Apache-2.0 */
/* larder status */
#include <stdio.h>

#include <larder/maintain.h>

#include "base/text.h"
#include "cli/commands.h"
#include "cli/image/image.h"

#define VERDICTS (LARDER_VERDICT_CORRUPT + 1)

/* How many entries have which verdict, by what is known without reading or asking. */
static int count_verdicts(struct larder_store *store, uint64_t counts[VERDICTS],
                          struct larder_error *e)
{
    struct name_list list = {0};
    int rc = name_list_read(store, &list, e);

    for (size_t i = 0; rc == 0 && i < list.count; i++) {
        struct larder_image_info info = {0};

        if (larder_image_show(store, list.names[i], false, &info, NULL) < 0) {
            counts[LARDER_VERDICT_UNKNOWN]++;
            continue;
        }
        counts[info.verdict]++;
        larder_image_info_done(&info);
    }
    name_list_done(&list);
    return rc;
}

static void print_json(struct larder_store *store, const struct larder_usage *usage,
                       const uint64_t counts[VERDICTS])
{
    struct doc doc = DOC_INIT;

    doc_object(&doc, NULL);
    doc_text(&doc, "store", larder_store_path(store));
    doc_object(&doc, "images");
    for (int i = 0; i < VERDICTS; i++)
        doc_number(&doc, larder_verdict_name((enum larder_verdict)i), counts[i]);
    doc_end(&doc);
    doc_number(&doc, "blobs", usage->blobs);
    doc_number(&doc, "blob_bytes", usage->blob_bytes);
    doc_number(&doc, "blob_allocated_bytes", usage->blob_allocated_bytes);
    doc_number(&doc, "refs", usage->refs);
    doc_number(&doc, "leases", usage->leases);
    doc_number(&doc, "leased_blobs", usage->leased_blobs);
    doc_number(&doc, "quarantined", usage->quarantined);
    doc_number(&doc, "partials", usage->partials);
    doc_number(&doc, "free_bytes", usage->free_bytes);
    doc_time(&doc, "oldest_verified", usage->oldest_verified_ns);
    doc_end(&doc);
}

static void row(struct table *table, const char *title, const char *text)
{
    table_cell(table, title);
    table_cell(table, text);
}

static int print_text(struct larder_store *store, const struct larder_usage *usage,
                      const uint64_t counts[VERDICTS], struct larder_error *e)
{
    struct table table;
    char text[160];
    char size[48];

    table_init(&table, 2, 0);
    row(&table, "store", larder_store_path(store));
    snprintf(text, sizeof(text), "%llu valid, %llu outdated, %llu corrupt, %llu unknown",
             (unsigned long long)counts[LARDER_VERDICT_VALID],
             (unsigned long long)counts[LARDER_VERDICT_OUTDATED],
             (unsigned long long)counts[LARDER_VERDICT_CORRUPT],
             (unsigned long long)counts[LARDER_VERDICT_UNKNOWN]);
    row(&table, "images", text);
    snprintf(text, sizeof(text), "%llu (%s on disk)", (unsigned long long)usage->blobs,
             size_format(usage->blob_allocated_bytes, size));
    row(&table, "blobs", text);
    snprintf(text, sizeof(text), "%llu on %llu blobs", (unsigned long long)usage->leases,
             (unsigned long long)usage->leased_blobs);
    row(&table, "leases", text);
    snprintf(text, sizeof(text), "%llu (%s)", (unsigned long long)usage->quarantined,
             size_format(usage->quarantine_allocated_bytes, size));
    row(&table, "quarantine", text);
    snprintf(text, sizeof(text), "%llu (%s)", (unsigned long long)usage->partials,
             size_format(usage->partial_allocated_bytes, size));
    row(&table, "unfinished", text);
    row(&table, "free", size_format(usage->free_bytes, size));
    if (usage->blobs)
        row(&table, "oldest full hash",
            usage->oldest_verified_ns ? age_format(usage->oldest_verified_ns, size)
                                      : "at the fetch");
    return table_print(&table, e);
}

static int run_status(struct cli *cli, int argc, char **argv)
{
    struct larder_usage usage = {0};
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_store *store = NULL;
    uint64_t counts[VERDICTS] = {0};

    (void)argc;
    (void)argv;
    if (cli_store(cli, LARDER_STORE_READ_ONLY, &store, &e) < 0 ||
        larder_usage_get(store, &usage, &e) < 0 || count_verdicts(store, counts, &e) < 0)
        return cli_fail(cli, &e);
    if (globals.json)
        print_json(store, &usage, counts);
    else if (print_text(store, &usage, counts, &e) < 0)
        return cli_fail(cli, &e);
    return 0;
}

const struct command command_status = {
    .name = "status",
    .group = COMMAND_GROUP_STORE,
    .summary = "show the store at a glance",
    .about = "Where the store is, how many images have which verdict, what is leased, in "
             "quarantine and unfinished, and how much space is left.",
    .usage = "",
    .exits = COMMAND_EXIT(3),
    .run = run_status,
};
