/* SPDX-License-Identifier: Apache-2.0 */
/* larder update list: every reference that has a record. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/update/update.h"
#include "cli/update/update_print.h"

#define LIST_COLUMNS    6
#define PLATFORM_COLUMN 1
/* On a terminal that is too narrow for all of it. */
#define REF_WIDTH_MIN          20
#define VERSION_WIDTH_MIN      12
#define VERSION_TEXT_BYTES_MAX 1024
/* So much of a digest tells one from another for people. */
#define SHORT_DIGEST_BYTES (sizeof("sha256:") - 1 + 12)
#define DOCKER             "docker://"
#define LINUX              "linux/"

static struct {
    struct update_args update;
} args;

static const struct opt opts[] = {
    UPDATE_PLACE_OPTS(&args.update),
};

/* On a terminal a row is kept short: without what is the same everywhere, or goes without saying.
 * Elsewhere nothing is left out. */
struct list {
    struct table table;
    struct table narrow; /* the same without platforms */
    char *platform;      /* of the first row */
    bool has_platforms;  /* more than one */
    bool is_terminal;
    struct doc doc;
    size_t count;
};

static void add_cell(struct list *list, size_t column, const char *text)
{
    table_cell(&list->table, text);
    if (column != PLATFORM_COLUMN)
        table_cell(&list->narrow, text);
}

static void note_platform(struct list *list, const char *platform)
{
    if (!list->platform)
        list->platform = strdup(platform);
    if (!list->platform || strcmp(list->platform, platform) != 0)
        list->has_platforms = true;
}

static const char *without(const struct list *list, const char *prefix, const char *text)
{
    size_t n = strlen(prefix);

    return list->is_terminal && strncmp(text, prefix, n) == 0 ? text + n : text;
}

static void add_row(struct list *list, const struct larder_update *update)
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
    note_platform(list, update->platform);
    add_cell(list, 0, without(list, DOCKER, update->ref));
    add_cell(list, PLATFORM_COLUMN, without(list, LINUX, update->platform));
    add_cell(list, 2, larder_update_state_name(update->state));
    add_cell(list, 3, version.p ? version.p : "-");
    add_cell(list, 4, without(list, "sha256:", digest));
    add_cell(list, 5, age_format(update->checked_at_ns, age));
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
        add_row(list, update);
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

static void list_begin(struct list *list)
{
    static const char *const titles[] = {"REF",     "PLATFORM", "STATE",
                                         "VERSION", "DIGEST",   "CHECKED"};

    _Static_assert(ARRAY_LEN(titles) == LIST_COLUMNS, "a title each");
    list->is_terminal = out_columns() > 0;
    table_init(&list->table, LIST_COLUMNS, 0);
    table_init(&list->narrow, LIST_COLUMNS - 1, 0);
    list->table.min_widths[0] = list->narrow.min_widths[0] = REF_WIDTH_MIN;
    list->table.min_widths[3] = list->narrow.min_widths[2] = VERSION_WIDTH_MIN;
    for (size_t i = 0; i < LIST_COLUMNS; i++)
        add_cell(list, i, titles[i]);
}

static void list_end(struct list *list)
{
    table_free(&list->table);
    table_free(&list->narrow);
    free(list->platform);
}

static int list_print(struct list *list, struct larder_error *e)
{
    bool is_narrow = list->is_terminal && !list->has_platforms;

    return table_print(is_narrow ? &list->narrow : &list->table, e);
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
    list_begin(&list);
    rc = list_all(&call, is_booted, &list, &e);
    if (list.count && !globals.json && !globals.quiet) {
        int printed = list_print(&list, rc == 0 ? &e : NULL);

        rc = rc < 0 ? rc : printed;
    }
    list_end(&list);
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
    .about =
        "Each reference that was checked, with what is recorded about it; with --quiet only "
        "the references. On a terminal long ones are cut, and what goes without saying is left "
        "out. Nobody is asked.",
    .usage = "",
    .opts = OPT_SET(opts),
    .exits = COMMAND_EXIT(3),
    .run = run_list,
};
