/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Texts made from the tables: help for people, sections for the manual pages.
 */
#include <stdio.h>

#include "cli/command.h"

/* The list of commands and the global options. Returns the exit status, 0. */
int help_overview(FILE *to);
/* Usage, options and exit statuses of one command, or the commands of a group. */
int help_command(const struct command *command);

/*
 * One generated part of a manual page as scdoc text on stdout: "synopsis", "options" (after the
 * description) or "exits" of a command; "commands" of a group, with all of these; "commands",
 * "options" and "exits" of "larder" itself; "keys" of the configuration. false: no such part.
 */
bool man_part(const char *part, const char *name);
