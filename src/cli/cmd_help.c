/* SPDX-License-Identifier: Apache-2.0 */
/* larder help, and the hidden command that makes parts of the manual pages. */
#include <stdio.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/help.h"

static int run_help(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    const struct command *command = NULL;
    int words = 0;

    if (argc == 0)
        return help_overview(stdout);
    if (command_lookup(argc, argv, &command, &words, &e) < 0)
        return cli_fail(cli, &e);
    if (words < argc)
        return cli_usage(cli, "help", "found '%s' after a whole command, expected nothing",
                         argv[words]);
    return help_command(command);
}

const struct command command_help = {
    .name = "help",
    .group = COMMAND_GROUP_OTHER,
    .summary = "say how a command is used",
    .about = "Without an argument: the list of commands and the options that all of them have. "
             "With a command: how it is used, its options and exit statuses.",
    .usage = "[COMMAND]",
    .max_words = 2,
    .words = COMMAND_WORDS_COMMAND,
    .run = run_help,
};

static int run_man(struct cli *cli, int argc, char **argv)
{
    char name[64];

    snprintf(name, sizeof(name), "%s%s%s", argc > 1 ? argv[1] : "larder", argc > 2 ? " " : "",
             argc > 2 ? argv[2] : "");
    if (!man_part(argv[0], name))
        return cli_usage(cli, "__man", "no part '%s' of '%s'", argv[0], name);
    return 0;
}

const struct command command_man = {
    .name = "__man",
    .group = COMMAND_GROUP_HIDDEN,
    .summary = "print a generated part of a manual page",
    .about = "For the build.",
    .usage = "PART [COMMAND]",
    .min_words = 1,
    .max_words = 3,
    .run = run_man,
};
