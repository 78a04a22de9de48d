/* SPDX-License-Identifier: Apache-2.0 */
/* larder config: what holds and where it is from; an example file. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/suggest.h"

const struct command command_config = {
    .name = "config",
    .group = COMMAND_GROUP_OTHER,
    .summary = "show the configuration",
    .about = "The configuration comes from /etc/larder/larder.conf, the user's "
             "~/.config/larder/larder.conf, LARDER_* variables and options; later wins.",
    .usage = "",
};

static void show_json(const struct config *config, int argc, char **argv)
{
    struct doc doc = DOC_INIT;

    doc_object(&doc, NULL);
    doc_array(&doc, "keys");
    for (unsigned i = 0; i < CONFIG_ID_MAX; i++) {
        char dotted[64];
        bool is_wanted = argc == 0;

        snprintf(dotted, sizeof(dotted), "%s.%s", config_keys[i].section, config_keys[i].name);
        for (int a = 0; a < argc; a++)
            is_wanted |= strcmp(argv[a], dotted) == 0;
        if (!is_wanted)
            continue;
        doc_object(&doc, NULL);
        doc_text(&doc, "key", dotted);
        doc_text(&doc, "value", config_text(config, (enum config_id)i));
        doc_text(&doc, "origin", config->values[i].origin);
        doc_end(&doc);
    }
    doc_end(&doc);
    doc_end(&doc);
}

static int show_text(const struct config *config, struct larder_error *e)
{
    struct table table;

    table_init(&table, 3, 0);
    for (unsigned i = 0; i < CONFIG_ID_MAX; i++) {
        const char *value = config_text(config, (enum config_id)i);
        char dotted[64];

        snprintf(dotted, sizeof(dotted), "%s.%s", config_keys[i].section, config_keys[i].name);
        table_cell(&table, dotted);
        table_cell(&table, value ? value : "-");
        table_cell(&table, config->values[i].origin);
    }
    return table_print(&table, e);
}

static int unknown_key(struct cli *cli, const char *word)
{
    struct larder_error e = LARDER_ERROR_INIT;
    char names[CONFIG_ID_MAX][64];
    struct suggest near = SUGGEST_INIT(word);

    for (size_t i = 0; i < CONFIG_ID_MAX; i++) {
        snprintf(names[i], sizeof(names[i]), "%s.%s", config_keys[i].section, config_keys[i].name);
        suggest_offer(&near, names[i]);
    }
    error_set(&e, LARDER_INVAL, "config show: unknown key '%s'", word);
    if (near.nearest)
        error_hint(&e, "did you mean %s?", near.nearest);
    return cli_fail(cli, &e);
}

static int run_show(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    const struct config *config = NULL;

    for (int a = 0; a < argc; a++) {
        if (config_find(argv[a]) == CONFIG_ID_MAX)
            return unknown_key(cli, argv[a]);
    }
    if (cli_config(cli, &config, &e) < 0)
        return cli_fail(cli, &e);
    if (globals.store &&
        config_set(&cli->config, CONFIG_store_path, globals.store, "--store", &e) < 0)
        error_clear(&e); /* a relative path is fine there, and shown nowhere else */
    if (globals.json) {
        show_json(config, argc, argv);
    } else if (argc == 0) {
        if (show_text(config, &e) < 0)
            return cli_fail(cli, &e);
    } else {
        for (int a = 0; a < argc; a++) {
            const char *value = config_text(config, config_find(argv[a]));

            puts(value ? value : "");
        }
    }
    return 0;
}

const struct command command_config_show = {
    .name = "config show",
    .group = COMMAND_GROUP_OTHER,
    .summary = "the values that hold, and where each is from",
    .about = "Without an argument: every key, its value and its origin (\"default\", file and "
             "line, or variable). With keys, as in gc.keep_for: only their values, one a line.",
    .usage = "[KEY...]",
    .max_words = COMMAND_ANY_WORDS,
    .exits = COMMAND_EXIT(3),
    .run = run_show,
};

/* Comment lines of at most 90 columns. */
static void print_comment(const char *text)
{
    size_t at = 0;

    while (*text) {
        size_t word = strcspn(text, " ");

        if (at && at + 1 + word > 90) {
            putchar('\n');
            at = 0;
        }
        at += (size_t)printf("%s%.*s", at ? " " : "# ", (int)word, text);
        text += word;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static int run_example(struct cli *cli, int argc, char **argv)
{
    const char *section = "";

    (void)cli;
    (void)argc;
    (void)argv;
    puts("# Example of /etc/larder/larder.conf; see larder.conf(5). Every key is shown with its\n"
         "# default and commented out.");
    for (size_t i = 0; i < CONFIG_ID_MAX; i++) {
        const struct config_key *key = &config_keys[i];

        if (strcmp(key->section, section) != 0) {
            section = key->section;
            printf("\n[%s]\n", section);
        }
        print_comment(key->help);
        printf("#%s =%s%s\n", key->name, *key->def ? " " : "", key->def);
    }
    return 0;
}

const struct command command_config_example = {
    .name = "config example",
    .group = COMMAND_GROUP_OTHER,
    .summary = "print a commented configuration file",
    .about = "A whole configuration file: each key with its meaning and default, commented out.",
    .usage = "",
    .run = run_example,
};
