/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/help.h"

#include <string.h>

#include "cli/cli.h"
#include "cli/config.h"

#define HELP_COLUMNS 80
#define LEFT_COLUMNS 30 /* where the texts of options begin */
#define NAME_COLUMNS 19 /* of commands; longer ones push their text to the right */

static const char *const group_titles[COMMAND_GROUP_MAX] = {
    [COMMAND_GROUP_IMAGES] = "Images",   [COMMAND_GROUP_REGISTRIES] = "Registries",
    [COMMAND_GROUP_UPDATES] = "Updates", [COMMAND_GROUP_STORE] = "The store",
    [COMMAND_GROUP_OTHER] = "Other",
};

/* Text in lines of at most HELP_COLUMNS, each indented; `at` columns of the first are taken. */
static void print_wrapped(FILE *to, const char *text, size_t indent, size_t at)
{
    bool is_line_begun = false;

    if (at > 0 && at >= indent) {
        fputc('\n', to);
        at = 0;
    }
    while (*text) {
        size_t word = strcspn(text, " \n");

        if (is_line_begun && at + 1 + word > HELP_COLUMNS) {
            fputc('\n', to);
            at = 0;
            is_line_begun = false;
        }
        if (is_line_begun) {
            fputc(' ', to);
            at++;
        } else {
            fprintf(to, "%*s", (int)(indent - at), "");
            at = indent;
        }
        fprintf(to, "%.*s", (int)word, text);
        at += word;
        is_line_begun = true;
        text += word;
        text += strspn(text, " \n");
    }
    fputc('\n', to);
}

static void print_opts(FILE *to, const struct opt_set *set)
{
    char left[64];

    for (size_t i = 0; i < set->count; i++) {
        const struct opt *opt = &set->opts[i];
        int n;

        opt_format(opt, left, sizeof(left));
        n = fprintf(to, "  %s%s", opt->letter ? "" : "    ", left);
        /* Two blanks at least between an option and its text. */
        print_wrapped(to, opt->help, LEFT_COLUMNS,
                      (size_t)n + 2 > LEFT_COLUMNS ? LEFT_COLUMNS : (size_t)n);
    }
}

static void print_members(FILE *to, const struct command *group)
{
    for (size_t i = 0; command_table[i]; i++) {
        const struct command *command = command_table[i];

        if (command_is_member(command, group))
            fprintf(to, "  %-*s  %s\n", NAME_COLUMNS, command->name, command->summary);
    }
}

static bool group_is_shown(int group)
{
    for (size_t i = 0; group_titles[group] && command_table[i]; i++) {
        if ((int)command_table[i]->group == group)
            return true;
    }
    return false;
}

int help_overview(FILE *to)
{
    fputs("usage: larder [OPTION]... COMMAND [ARGUMENT]...\n\n"
          "Keeps what was fetched, proves that it is still good, and hands it out.\n",
          to);
    for (int group = 0; group < COMMAND_GROUP_MAX; group++) {
        if (!group_is_shown(group))
            continue;
        fprintf(to, "\n%s:\n", group_titles[group]);
        for (size_t i = 0; command_table[i]; i++) {
            const struct command *command = command_table[i];

            if ((int)command->group == group && command->run)
                fprintf(to, "  %-*s  %s\n", NAME_COLUMNS, command->name, command->summary);
        }
    }
    fputs("\nOptions, before or after the command:\n", to);
    print_opts(to, &global_opts);
    fputs("\n`larder help COMMAND` says more about one, `man larder` about all.\n", to);
    return 0;
}

static bool may_exit(const struct command *command, int status)
{
    if (status == EXIT_UNCHANGED)
        return command->exits & COMMAND_EXIT_UNCHANGED;
    return status <= 2 || command->exits & COMMAND_EXIT(status);
}

int help_command(const struct command *command)
{
    if (!command->run) {
        printf("usage: larder %s COMMAND [OPTION]... [ARGUMENT]...\n\n", command->name);
        print_wrapped(stdout, command->about, 0, 0);
        fputs("\nCommands:\n", stdout);
        print_members(stdout, command);
        printf("\n`larder help %s COMMAND` says more about one.\n", command->name);
        return 0;
    }
    printf("usage: larder %s%s%s%s\n\n", command->name, command->opts.count ? " [OPTION]..." : "",
           *command->usage ? " " : "", command->usage);
    print_wrapped(stdout, command->about, 0, 0);
    if (command->opts.count) {
        fputs("\nOptions:\n", stdout);
        print_opts(stdout, &command->opts);
    }
    fputs("\nExit status:\n", stdout);
    for (size_t i = 0; exit_table[i].text; i++) {
        if (may_exit(command, exit_table[i].status)) {
            int n = printf("  %d", exit_table[i].status);

            print_wrapped(stdout, exit_table[i].text, 5, (size_t)n);
        }
    }
    fputs("\n`larder help` has the options that every command takes.\n", stdout);
    return 0;
}

/* ---- scdoc ---- */

/* Text with what scdoc would take for markup escaped; its first letter as a sentence's. */
static void put_scdoc(const char *text, bool is_sentence)
{
    for (const char *p = text; *p; p++) {
        char c = *p;

        if (p == text && is_sentence && c >= 'a' && c <= 'z')
            c = (char)(c - 'a' + 'A');
        if (strchr("_*\\`", c))
            putchar('\\');
        putchar(c);
    }
    if (is_sentence && text[0] && !strchr(".:", text[strlen(text) - 1]))
        putchar('.');
}

static void man_synopsis(const struct command *command)
{
    printf("*larder %s*", command->name);
    if (command->opts.count)
        fputs(" [_OPTION_...]", stdout);
    if (*command->usage) {
        putchar(' ');
        put_scdoc(command->usage, false);
    }
    fputs("\n\n", stdout);
}

static void man_options(const struct opt_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct opt *opt = &set->opts[i];

        if (opt->letter)
            printf("*-%c*, ", opt->letter);
        printf("*--%s*", opt->name);
        if (opt->kind == OPT_KIND_BOOL)
            fputs("[=_BOOL_]", stdout);
        if (opt->arg) {
            putchar(' ');
            put_scdoc(opt->arg, false);
        }
        fputs("\n\t", stdout);
        put_scdoc(opt->help, true);
        fputs("\n\n", stdout);
    }
}

static void man_exits(const struct command *command)
{
    for (size_t i = 0; exit_table[i].text; i++) {
        if (command && !may_exit(command, exit_table[i].status))
            continue;
        printf("*%d*\n\t", exit_table[i].status);
        put_scdoc(exit_table[i].text, true);
        fputs("\n\n", stdout);
    }
}

/* "Exit status besides 0, 1 and 2: 3 (not found), 8 (...)." */
static void man_exits_short(const struct command *command)
{
    bool is_first = true;

    for (size_t i = 0; exit_table[i].text; i++) {
        int status = exit_table[i].status;
        const char *text = exit_table[i].text;

        if (status <= 2 || !may_exit(command, status))
            continue;
        printf("%s%d (%.*s)", is_first ? "Exit status besides 0, 1 and 2: " : ", ", status,
               (int)strcspn(text, ":"), text);
        is_first = false;
    }
    if (!is_first)
        fputs(".\n\n", stdout);
}

static void man_members(const struct command *group)
{
    for (size_t i = 0; command_table[i]; i++) {
        const struct command *command = command_table[i];

        if (!command_is_member(command, group))
            continue;
        printf("## larder %s\n\n", command->name);
        man_synopsis(command);
        put_scdoc(command->about, true);
        fputs("\n\n", stdout);
        man_options(&command->opts);
        man_exits_short(command);
    }
}

static void man_overview(void)
{
    for (int group = 0; group < COMMAND_GROUP_MAX; group++) {
        if (!group_is_shown(group))
            continue;
        printf("## %s\n\n", group_titles[group]);
        for (size_t i = 0; command_table[i]; i++) {
            const struct command *command = command_table[i];

            if ((int)command->group != group || !command->run)
                continue;
            printf("*larder %s*\n\t", command->name);
            put_scdoc(command->summary, true);
            printf(" See *larder-%.*s*(1).\n\n", (int)strcspn(command->name, " "), command->name);
        }
    }
}

static void man_keys(void)
{
    const char *section = "";
    struct buf variable = BUF_INIT(256);

    for (size_t i = 0; i < CONFIG_ID_MAX; i++) {
        const struct config_key *key = &config_keys[i];

        if (strcmp(key->section, section) != 0) {
            section = key->section;
            printf("## [%s]\n\n", section);
        }
        fputc('*', stdout);
        put_scdoc(key->name, false);
        fputs("* = ", stdout);
        put_scdoc(key->unit, false);
        fputs("\n\t", stdout);
        put_scdoc(key->help, true);
        if (*key->def) {
            fputs(" Default: ", stdout);
            put_scdoc(key->def, false);
            putchar('.');
        }
        buf_reset(&variable);
        config_variable((enum config_id)i, &variable);
        fputs(" Variable: ", stdout);
        put_scdoc(variable.p ? variable.p : "", false);
        fputs(".\n\n", stdout);
    }
    buf_done(&variable);
}

/* Parts of larder(1) itself. */
static bool man_program_part(const char *part)
{
    if (strcmp(part, "commands") == 0)
        man_overview();
    else if (strcmp(part, "options") == 0)
        man_options(&global_opts);
    else if (strcmp(part, "exits") == 0)
        man_exits(NULL);
    else
        return false;
    return true;
}

/* Parts of a command's page, or of its section in that of its group. */
static bool man_command_part(const char *part, const struct command *command)
{
    if (strcmp(part, "commands") == 0) {
        man_members(command);
    } else if (strcmp(part, "synopsis") == 0) {
        man_synopsis(command);
    } else if (strcmp(part, "options") == 0) {
        put_scdoc(command->about, true);
        fputs(command->opts.count ? "\n\n# OPTIONS\n\n" : "\n\n", stdout);
        man_options(&command->opts);
    } else if (strcmp(part, "exits") == 0) {
        man_exits(command);
    } else {
        return false;
    }
    return true;
}

bool man_part(const char *part, const char *name)
{
    const struct command *command;

    if (strcmp(part, "keys") == 0) {
        man_keys();
        return true;
    }
    if (strcmp(name, "larder") == 0)
        return man_program_part(part);
    command = command_find(name);
    return command && man_command_part(part, command);
}
