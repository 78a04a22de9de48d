/* SPDX-License-Identifier: Apache-2.0 */
/* larder image list, image show. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/image/image.h"

/* ---- list ---- */

#define LIST_COLUMNS 7

static void list_json(struct doc *doc, const struct larder_image_info *info)
{
    doc_object(doc, NULL);
    doc_text(doc, "name", info->name);
    doc_text(doc, "verdict", larder_verdict_name(info->verdict));
    doc_text(doc, "source", info->source);
    doc_digest(doc, "digest", &info->digest);
    doc_number(doc, "size_bytes", info->size_bytes);
    doc_text(doc, "format", info->format);
    doc_time(doc, "checked", info->checked_ns);
    doc_time(doc, "last_used", info->last_used_ns);
    doc_end(doc);
}

static void list_row(struct table *table, const struct larder_image_info *info)
{
    char text[48];

    table_cell(table, info->name);
    table_cell(table, larder_verdict_name(info->verdict));
    table_cell(table,
               info->digest.alg == LARDER_DIGEST_NONE ? "-" : size_format(info->size_bytes, text));
    table_cell(table, info->format ? info->format : "-");
    table_cell(table, age_format(info->checked_ns, text));
    table_cell(table, age_format(info->last_used_ns, text));
    table_cell(table, info->source ? info->source : "-");
}

static void list_head(struct table *table)
{
    static const char *const titles[] = {"NAME",    "VERDICT",   "SIZE",  "FORMAT",
                                         "CHECKED", "LAST USED", "SOURCE"};

    _Static_assert(ARRAY_LEN(titles) == LIST_COLUMNS, "a title each");
    for (size_t i = 0; i < LIST_COLUMNS; i++)
        table_cell(table, titles[i]);
}

static int list_all(struct cli *cli, struct larder_store *store, const struct name_list *list,
                    struct table *table)
{
    struct doc doc = DOC_INIT;
    int status = 0;

    if (globals.json) {
        doc_object(&doc, NULL);
        doc_array(&doc, "images");
    }
    for (size_t i = 0; i < list->count; i++) {
        struct larder_image_info info = {0};
        struct larder_error e = LARDER_ERROR_INIT;
        int rc = larder_image_show(store, list->names[i], false, &info, &e);

        if (rc == -LARDER_NOENT)
            continue; /* removed by somebody else a moment ago */
        if (rc < 0) {
            status = cli_fail(cli, &e); /* one unreadable entry hides no other */
            continue;
        }
        if (globals.json)
            list_json(&doc, &info);
        else
            list_row(table, &info);
        larder_image_info_done(&info);
    }
    if (globals.json) {
        doc_end(&doc);
        doc_end(&doc);
    }
    return status;
}

static int run_list(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_store *store = NULL;
    struct name_list list = {0};
    struct table table;
    int status = 0;

    (void)argc;
    (void)argv;
    if (cli_store(cli, LARDER_STORE_READ_ONLY, &store, &e) < 0 ||
        name_list_read(store, &list, &e) < 0)
        return cli_fail(cli, &e);
    if (globals.quiet && !globals.json) {
        for (size_t i = 0; i < list.count; i++)
            puts(list.names[i]);
    } else {
        table_init(&table, LIST_COLUMNS, 1u << 2);
        if (list.count == 0)
            cli_say(cli, false, "no images; `larder image add` names one");
        else if (!globals.json)
            list_head(&table);
        status = list_all(cli, store, &list, &table);
        if (table_print(&table, &e) < 0)
            status = cli_fail(cli, &e);
    }
    name_list_done(&list);
    return status;
}

const struct command command_image_list = {
    .name = "image list",
    .group = COMMAND_GROUP_IMAGES,
    .summary = "list all entries and their verdicts",
    .about = "Each entry with its verdict, as known without reading any image or asking anybody; "
             "with --quiet only the names.",
    .usage = "",
    .exits = COMMAND_EXIT(3),
    .run = run_list,
};

/* ---- show ---- */

static void show_json(const struct larder_image_info *info)
{
    struct doc doc = DOC_INIT;

    doc_object(&doc, NULL);
    doc_text(&doc, "name", info->name);
    doc_text(&doc, "verdict", larder_verdict_name(info->verdict));
    doc_text(&doc, "reason", info->verdict_reason);
    doc_bool(&doc, "is_invalidated", info->is_invalidated);
    doc_text(&doc, "source", info->source);
    doc_text(&doc, "checksum", info->checksum);
    doc_text(&doc, "keyring", info->keyring);
    doc_text(&doc, "refresh", info->refresh);
    doc_text(&doc, "path", info->path);
    doc_digest(&doc, "digest", &info->digest);
    doc_number(&doc, "size_bytes", info->size_bytes);
    doc_number(&doc, "allocated_bytes", info->allocated_bytes);
    doc_number(&doc, "virtual_bytes", info->virtual_bytes);
    doc_text(&doc, "format", info->format);
    doc_text(&doc, "transform", info->transform);
    doc_digest(&doc, "source_digest", &info->source_digest);
    doc_digest(&doc, "upstream_digest", &info->upstream_digest);
    doc_text(&doc, "sums_url", info->sums_url);
    doc_text(&doc, "signed_by", info->signed_by);
    doc_text(&doc, "final_url", info->final_url);
    doc_text(&doc, "etag", info->etag);
    doc_text(&doc, "last_modified", info->last_modified);
    doc_time(&doc, "added", info->added_ns);
    doc_time(&doc, "fetched", info->fetched_ns);
    doc_time(&doc, "checked", info->checked_ns);
    doc_time(&doc, "last_used", info->last_used_ns);
    doc_time(&doc, "last_verified", info->last_verified_ns);
    doc_text(&doc, "last_error", info->last_error);
    doc_array(&doc, "holders");
    for (char **holder = info->holders; holder && *holder; holder++)
        doc_text(&doc, NULL, *holder);
    doc_end(&doc);
    doc_end(&doc);
}

/* One row; nothing when there is no value. */
static void show_row(struct table *table, const char *title, const char *value)
{
    if (!value || !*value)
        return;
    table_cell(table, title);
    table_cell(table, value);
}

static void show_digest(struct table *table, const char *title, const struct larder_digest *digest)
{
    char text[LARDER_DIGEST_TEXT_BYTES];

    if (digest->alg != LARDER_DIGEST_NONE)
        show_row(table, title, larder_digest_format(digest, text));
}

static void show_time(struct table *table, const char *title, int64_t at_ns)
{
    char text[128];
    char when[40];
    char age[48];

    if (!at_ns)
        return;
    /* Whole seconds are enough for people. */
    snprintf(text, sizeof(text), "%s (%s)", time_format(at_ns / NS_PER_S * NS_PER_S, when),
             age_format(at_ns, age));
    show_row(table, title, text);
}

static void show_size(struct table *table, const struct larder_image_info *info)
{
    char text[160];
    char size[32];
    char allocated[32];
    char virtual_size[32];
    char disk[64] = "";

    if (info->digest.alg == LARDER_DIGEST_NONE)
        return;
    if (info->virtual_bytes)
        snprintf(disk, sizeof(disk), ", a disk of %s",
                 size_format(info->virtual_bytes, virtual_size));
    snprintf(text, sizeof(text), "%s (%s on disk%s)", size_format(info->size_bytes, size),
             size_format(info->allocated_bytes, allocated), disk);
    show_row(table, "size", text);
}

static void show_verdict(struct table *table, const struct larder_image_info *info)
{
    struct buf text = BUF_INIT(64 * 1024);

    buf_puts(&text, larder_verdict_name(info->verdict));
    if (info->verdict_reason && *info->verdict_reason)
        buf_printf(&text, ": %s", info->verdict_reason);
    if (info->is_invalidated)
        buf_puts(&text, " (invalidated: the next get fetches it again)");
    show_row(table, "verdict", text.p);
    buf_done(&text);
}

static int show_text(const struct larder_image_info *info, struct larder_error *e)
{
    struct table table;

    table_init(&table, 2, 0);
    show_row(&table, "name", info->name);
    show_verdict(&table, info);
    show_row(&table, "source", info->source);
    show_row(&table, "checksum", info->checksum);
    show_row(&table, "keyring", info->keyring);
    show_row(&table, "refresh", info->refresh);
    show_row(&table, "path", info->path);
    show_digest(&table, "digest", &info->digest);
    show_size(&table, info);
    show_row(&table, "format", info->format);
    show_row(&table, "transform", info->transform);
    show_digest(&table, "source digest", &info->source_digest);
    show_digest(&table, "upstream digest", &info->upstream_digest);
    show_row(&table, "checksums from", info->sums_url);
    show_row(&table, "signed by", info->signed_by);
    show_row(&table, "fetched from", info->final_url);
    show_row(&table, "etag", info->etag);
    show_row(&table, "last modified", info->last_modified);
    show_time(&table, "added", info->added_ns);
    show_time(&table, "fetched", info->fetched_ns);
    show_time(&table, "checked", info->checked_ns);
    show_time(&table, "last used", info->last_used_ns);
    show_time(&table, "last verified", info->last_verified_ns);
    show_row(&table, "last error", info->last_error);
    if (!info->holders || !*info->holders)
        show_row(&table, "in use by", "nobody");
    for (char **holder = info->holders; holder && *holder; holder++)
        show_row(&table, holder == info->holders ? "in use by" : " ", *holder);
    return table_print(&table, e);
}

static int run_show(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_image_info info = {0};
    struct larder_store *store = NULL;
    int status = 0;

    (void)argc;
    if (cli_store(cli, LARDER_STORE_READ_ONLY, &store, &e) < 0 ||
        larder_image_show(store, argv[0], true, &info, &e) < 0)
        return cli_fail(cli, &e);
    if (globals.json)
        show_json(&info);
    else if (show_text(&info, &e) < 0)
        status = cli_fail(cli, &e);
    larder_image_info_done(&info);
    return status;
}

const struct command command_image_show = {
    .name = "image show",
    .group = COMMAND_GROUP_IMAGES,
    .summary = "tell all that is known about an entry, and who uses it",
    .about = "Where the image is from, what it was checked against and when, its verdict, and who "
             "uses it now: leases, processes with the file open or locked, overlays in "
             "image.guest_dirs.",
    .usage = "NAME",
    .min_words = 1,
    .max_words = 1,
    .words = COMMAND_WORDS_ENTRY,
    .exits = COMMAND_EXIT(3),
    .run = run_show,
};
