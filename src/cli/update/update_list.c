/* SPDX-License-Identifier: Apache-2.0 */
/* larder update list: every reference that has a record. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/update/update.h"
#include "cli/update/update_print.h"

#define LIST_COLUMNS           6
#define VERSION_TEXT_BYTES_MAX 1024
/* So much of a digest tells one from another for people. */
#define SHORT_DIGEST_BYTES (sizeof("sha256:") - 1 + 12)

static struct {
    struct update_args update;
} args;

static const struct opt opts[] = {
    UPDATE_PLACE_OPTS(&args.update),
};

struct list {
    struct table table;
    struct doc doc;
    size_t count;
};

static void add_row(struct table *table, const struct larder_update *update)
{
    char digest[LARDER_DIGEST_TEXT_BYTES] = "-";
    struct buf version = BUF_INIT(VERSION_TEXT_BYTES_MAX);
    char age[48];

    if (update_has(update) && update->update.version)
        update_version_text(update->update.version, &version);
    if (update_has(update)) {
        larder_digest_format(&update->update.digest, digest);
        digest[SHORT_DIGEST_BYTES] = 0;
    }
    table_cell(table, update->ref);
    table_cell(table, update->platform);
    table_cell(table, larder_update_state_name(update->state));
    table_cell(table, version.p ? version.p : "-");
    table_cell(table, digest);
    table_cell(table, age_format(update->checked_at_ns, age));
    buf_done(&version);
}

static int add(void *arg, const struct larder_update *update)
{
    struct list *list = arg;

    list->count++;
    if (globals.json) {
        doc_object(&list->doc, NULL);
        update_json(&list->doc, update);
        doc_end(&list->doc);
    } else if (globals.quiet) {
        put_text(stdout, update->ref);
        putchar('\n');
    } else {
        add_row(&list->table, update);
    }
    return 0;
}

/* The booted deployment's; a machine without libostree has none that larder could tell. */
static int add_booted(const struct update_call *call, struct list *list, struct larder_error *e)
{
    struct larder_update_options options = call->options;
    struct larder_error why = LARDER_ERROR_INIT;
    int rc;

    options.sysroot = UPDATE_BOOTED_ROOT;
    rc = larder_update_each(call->store, &options, add, list, &why);
    if (rc < 0 && rc != -LARDER_NOENT && rc != -LARDER_UNSUPPORTED) {
        *e = why;
        return rc;
    }
    return 0;
}

static int list_all(struct update_call *call, bool is_booted, struct list *list,
                    struct larder_error *e)
{
    int rc = 0;

    if (globals.json) {
        doc_object(&list->doc, NULL);
        doc_array(&list->doc, "updates");
    }
    if (is_booted)
        rc = add_booted(call, list, e);
    if (rc == 0 && (call->store || update_is_ostree(&call->options)))
        rc = larder_update_each(call->store, &call->options, add, list, e);
    if (globals.json) {
        doc_end(&list->doc);
        doc_end(&list->doc);
    }
    return rc;
}

static void list_head(struct table *table)
{
    static const char *const titles[] = {"REF",     "PLATFORM", "STATE",
                                         "VERSION", "DIGEST",   "CHECKED"};

    _Static_assert(ARRAY_LEN(titles) == LIST_COLUMNS, "a title each");
    table_init(table, LIST_COLUMNS, 0);
    for (size_t i = 0; i < LIST_COLUMNS; i++)
        table_cell(table, titles[i]);
}

static int run_list(struct cli *cli, int argc, char **argv)
{
    struct update_call call CLEANUP(update_call_done) = UPDATE_CALL_INIT;
    bool is_booted = update_is_booted(&args.update);
    struct larder_error e = LARDER_ERROR_INIT;
    struct list list = {.count = 0};
    int rc;

    (void)argc;
    (void)argv;
    rc = update_place_fill(cli, "update list", &args.update, NULL, &call, &e);
    if (rc == 0)
        rc = update_store_open(cli, UPDATE_STORE_READ, update_is_ostree(&call.options), &call.store,
                               &e);
    if (rc == -LARDER_NOENT && is_booted)
        rc = 0;
    if (rc < 0)
        return cli_fail(cli, &e);
    list_head(&list.table);
    rc = list_all(&call, is_booted, &list, &e);
    if (list.count && !globals.json && !globals.quiet) {
        int printed = table_print(&list.table, rc == 0 ? &e : NULL);

        rc = rc < 0 ? rc : printed;
    }
    table_free(&list.table);
    if (rc < 0)
        return cli_fail(cli, &e);
    if (list.count == 0)
        cli_say(cli, false, "nothing is recorded; `larder update check` asks for an update");
    return 0;
}

const struct command command_update_list = {
    .name = "update list",
    .group = COMMAND_GROUP_UPDATES,
    .summary = "list all references that have a record",
    .about = "Each reference that was checked, with what is recorded about it; with --quiet only "
             "the references. Nobody is asked.",
    .usage = "",
    .opts = OPT_SET(opts),
    .exits = COMMAND_EXIT(3),
    .run = run_list,
};
