/* SPDX-License-Identifier: Apache-2.0 */
/* larder completion: shell code from the tables. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/commands.h"

const struct command command_completion = {
    .name = "completion",
    .group = COMMAND_GROUP_OTHER,
    .summary = "print shell completion code",
    .about = "Completion code for a shell, made from the same tables as this help.",
    .usage = "",
};

static void print_choices(const char *choices)
{
    for (const char *p = choices; *p; p++)
        putchar(*p == '|' ? ' ' : *p);
}

static void print_option_words(const struct opt_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        printf(" --%s", set->opts[i].name);
}

/* What follows an option that takes an argument: "command:--option) ... ;;" */
static void print_option_cases(const char *command, const struct opt_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct opt *opt = &set->opts[i];

        if (opt->kind == OPT_KIND_FLAG || opt->kind == OPT_KIND_BOOL)
            continue;
        printf("    %s:--%s) ", command, opt->name);
        switch (opt->kind) {
        case OPT_KIND_PATH:
            fputs("_larder_files", stdout);
            break;
        case OPT_KIND_DIR:
            fputs("_larder_dirs", stdout);
            break;
        case OPT_KIND_ENUM:
            fputs("_larder_words \"", stdout);
            print_choices(opt->choices);
            putchar('"');
            break;
        case OPT_KIND_FLAG:
        case OPT_KIND_BOOL:
        case OPT_KIND_STRING:
        case OPT_KIND_DURATION:
        case OPT_KIND_SIZE:
        case OPT_KIND_COUNT:
        case OPT_KIND_LIST:
            putchar(':');
            break;
        }
        puts("; return ;;");
    }
}

static void print_members(const char *prefix)
{
    size_t n = strlen(prefix);

    for (size_t i = 0; command_table[i]; i++) {
        const struct command *command = command_table[i];

        if (command->group == COMMAND_GROUP_HIDDEN)
            continue;
        if (n == 0 && !strchr(command->name, ' '))
            printf(" %s", command->name);
        else if (n && strncmp(command->name, prefix, n) == 0 && command->name[n] == ' ')
            printf(" %s", command->name + n + 1);
    }
}

static const char *words_call(enum command_words words)
{
    switch (words) {
    case COMMAND_WORDS_NONE:
        return ":";
    case COMMAND_WORDS_ENTRY:
        return "_larder_entries";
    case COMMAND_WORDS_ENTRY_OR_FILE:
        return "_larder_entries; _larder_files";
    case COMMAND_WORDS_FILE:
        return "_larder_files";
    case COMMAND_WORDS_DIR:
        return "_larder_dirs";
    case COMMAND_WORDS_LOCATION:
        return "_larder_locations";
    case COMMAND_WORDS_COMMAND:
        return "_larder_commands \"$sub\"";
    case COMMAND_WORDS_SHELL:
        return "_larder_words bash";
    }
    return ":";
}

static const char bash_head[] =
    "# bash completion for larder; made by `larder completion bash`\n"
    "\n"
    "_larder_words() { COMPREPLY+=($(compgen -W \"$1\" -- \"$cur\")); }\n"
    "_larder_lines() {\n"
    "    local line\n"
    "    while IFS= read -r line; do\n"
    "        [[ $line == \"$cur\"* ]] && COMPREPLY+=(\"$(printf '%q' \"$line\")\")\n"
    "    done\n"
    "}\n"
    "_larder_files() { compopt -o filenames 2>/dev/null; local IFS=$'\\n'; "
    "COMPREPLY+=($(compgen -f -- \"$cur\")); }\n"
    "_larder_dirs() { compopt -o filenames 2>/dev/null; local IFS=$'\\n'; "
    "COMPREPLY+=($(compgen -d -- \"$cur\")); }\n"
    "# bash takes the colon behind a transport for the end of a word\n"
    "_larder_locations() {\n"
    "    if [[ $prev == : || $cur == : ]]; then\n"
    "        [[ $cur == : ]] && cur=\n"
    "        _larder_files\n"
    "    else\n"
    "        compopt -o nospace 2>/dev/null\n"
    "        _larder_words 'docker:// oci: oci-archive: store:'\n"
    "    fi\n"
    "}\n"
    "_larder_entries() {\n"
    "    _larder_lines < <(\"${COMP_WORDS[0]}\" ${store:+--store \"$store\"} image list --quiet "
    "2>/dev/null)\n"
    "}\n"
    "\n";

static void print_command_list(void)
{
    fputs("_larder_commands() {\n    case $1 in\n", stdout);
    for (size_t i = 0; command_table[i]; i++) {
        const struct command *command = command_table[i];

        if (command->run)
            continue;
        printf("    %s) _larder_words \"", command->name);
        print_members(command->name);
        puts("\" ;;");
    }
    fputs("    *) _larder_words \"", stdout);
    print_members("");
    puts("\" ;;\n    esac\n}\n");
}

/* Finds the command's words before the cursor, and --store. */
static const char bash_main[] =
    "_larder() {\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
    "    local word command= sub= store= i takes=0\n"
    "    COMPREPLY=()\n"
    "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
    "        word=${COMP_WORDS[i]}\n"
    "        if ((takes)); then takes=0; continue; fi\n"
    "        case $word in\n"
    "        --) [[ $command == 'image use' ]] && { "
    "compopt -o default 2>/dev/null; return; } ;;\n"
    "        --store) store=${COMP_WORDS[i + 1]}; takes=1 ;;\n"
    "        --config) takes=1 ;;\n"
    "        -*) ;;\n";

static void print_main(void)
{
    fputs(bash_main, stdout);
    fputs(
        "        *)\n            case $command in\n            '') command=$word ;;\n            ",
        stdout);
    for (size_t i = 0, n = 0; command_table[i]; i++) {
        if (!command_table[i]->run)
            printf("%s%s", n++ ? "|" : "", command_table[i]->name);
    }
    fputs(") command+=\" $word\" ;;\n"
          "            help) sub=$word ;;\n"
          "            esac\n"
          "            ;;\n"
          "        esac\n"
          "    done\n"
          "    case \"$command:$prev\" in\n",
          stdout);
    print_option_cases("*", &global_opts);
    for (size_t i = 0; command_table[i]; i++) {
        char quoted[72];

        snprintf(quoted, sizeof(quoted), "'%s'", command_table[i]->name);
        print_option_cases(quoted, &command_table[i]->opts);
    }
    fputs("    esac\n"
          "    if [[ $cur == -* ]]; then\n"
          "        _larder_words \"",
          stdout);
    print_option_words(&global_opts);
    fputs("\"\n        case $command in\n", stdout);
    for (size_t i = 0; command_table[i]; i++) {
        if (!command_table[i]->opts.count || command_table[i]->group == COMMAND_GROUP_HIDDEN)
            continue;
        printf("        '%s') _larder_words \"", command_table[i]->name);
        print_option_words(&command_table[i]->opts);
        puts("\" ;;");
    }
    puts("        esac\n        return\n    fi\n    case $command in\n    '') _larder_commands ;;");
    for (size_t i = 0; command_table[i]; i++) {
        const struct command *command = command_table[i];

        if (command->group == COMMAND_GROUP_HIDDEN)
            continue;
        if (!command->run)
            printf("    '%s') _larder_commands '%s' ;;\n", command->name, command->name);
        else if (command->words != COMMAND_WORDS_NONE)
            printf("    '%s') %s ;;\n", command->name, words_call(command->words));
    }
    puts("    esac\n}\ncomplete -F _larder larder");
}

static int run_bash(struct cli *cli, int argc, char **argv)
{
    (void)cli;
    (void)argc;
    (void)argv;
    fputs(bash_head, stdout);
    print_command_list();
    print_main();
    return 0;
}

const struct command command_completion_bash = {
    .name = "completion bash",
    .group = COMMAND_GROUP_OTHER,
    .summary = "print completion code for bash",
    .about = "Code for bash: `source <(larder completion bash)`, or as a file larder in "
             "/usr/share/bash-completion/completions. Completes commands, options, names of "
             "entries, and files.",
    .usage = "",
    .run = run_bash,
};
