/* SPDX-License-Identifier: Apache-2.0 */
/*
 * larder: finds the command, parses its options and runs it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/help.h"
#include "cli/out.h"

/* A closed 0, 1 or 2 would be given to the next file that is opened, and a message would then be
 * written into it. Read-only: what we print into a closed output is an error, not lost. */
static void fill_standard_descriptors(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    } while (fd >= 0 && fd <= STDERR_FILENO && fcntl(fd, F_SETFD, 0) == 0);
    if (fd > STDERR_FILENO)
        close(fd);
}

static int print_version(void)
{
    puts("larder " LARDER_VERSION);
    return 0;
}

static int check_words(struct cli *cli, const struct command *command, int words)
{
    if (words < command->min_words)
        return cli_usage(cli, command->name, "found %d word%s, expected %s", words,
                         words == 1 ? "" : "s", command->usage);
    if (command->max_words != COMMAND_ANY_WORDS && words > command->max_words)
        return cli_usage(cli, command->name, "found %d word%s, expected %s", words,
                         words == 1 ? "" : "s", *command->usage ? command->usage : "none");
    return 0;
}

/* argv[0] is the last word of the command's name. */
static int run_command(struct cli *cli, const struct command *command, int argc, char **argv)
{
    const struct opt_set sets[] = {command->opts, global_opts};
    const struct opt_set foreign = {command->opts.opts, command->n_foreign};
    struct larder_error e = LARDER_ERROR_INIT;
    char *memory CLEANUP_FREE = NULL;
    int first = 0;
    int status;

    opt_reset(&command->opts);
    if (foreign.count && opt_write_out(&foreign, argc, argv, &memory, &e) < 0)
        return cli_fail(cli, &e);
    if (opt_parse(command->name, sets, ARRAY_LEN(sets), argc, argv, false, &first, &e) < 0) {
        if (!e.hint[0])
            error_hint(&e, "`larder help %s` says how it is used", command->name);
        return cli_fail(cli, &e);
    }
    /* Flags that came after the command count as well. */
    progress_init(&cli->progress, globals.quiet || globals.no_progress, globals.verbose);
    if (globals.help)
        return help_command(command);
    if (globals.version)
        return print_version();
    if (!command->run)
        return cli_usage(cli, command->name, "found no command, expected one of its commands");
    status = check_words(cli, command, argc - first);
    return status ? status : command->run(cli, argc - first, argv + first);
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    const struct command *command = NULL;
    int first = 0;
    int words = 0;

    command = command_alias(argv[0]);
    if (command)
        return run_command(cli, command, argc, argv);
    if (opt_parse("larder", &global_opts, 1, argc, argv, true, &first, &e) < 0) {
        if (!e.hint[0])
            error_hint(&e, "`larder help` lists commands and options");
        /* Each message begins with the program's name. */
        if (!strncmp(e.msg, "larder: ", 8))
            memmove(e.msg, e.msg + 8, strlen(e.msg + 8) + 1);
        return cli_fail(cli, &e);
    }
    if (globals.version)
        return print_version();
    if (globals.help && first == argc)
        return help_overview(stdout);
    if (first == argc) {
        help_overview(stderr);
        return EXIT_USAGE;
    }
    if (command_lookup(argc - first, argv + first, &command, &words, &e) < 0)
        return cli_fail(cli, &e);
    first += words - 1;
    return run_command(cli, command, argc - first, argv + first);
}

/* What was printed must have arrived; a reader that went away (`| head`) ends us as it ends
 * everybody else. */
static int finish(struct cli *cli, int status)
{
    struct larder_error e = LARDER_ERROR_INIT;
    bool is_pipe = false;

    if (out_finish(&is_pipe, &e) == 0)
        return status;
    if (is_pipe && !cli->is_pipe_ignored) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    cli_fail(cli, &e);
    return status ? status : EXIT_FAILED;
}

int main(int argc, char **argv)
{
    struct cli cli;
    int status;

    fill_standard_descriptors();
    opt_reset(&global_opts);
    cli_init(&cli);
    status = argc > 0 ? run(&cli, argc, argv) : EXIT_USAGE;
    progress_clear(&cli.progress);
    status = finish(&cli, status);
    cli_done(&cli);
    return status;
}
