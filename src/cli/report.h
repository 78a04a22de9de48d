/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The report of a command that finds things while it works: with --json an object with a list,
 * which is filled on the way, and sums behind it.
 *
 *     report_begin(&report, cli, "found");
 *     ... report.doc gets the members of the list ...
 *     report_end(&report, is_told ? print_sums : NULL, &sums);
 */
#include "cli/cli.h"
#include "cli/out.h"

struct report {
    struct cli *cli;
    struct doc doc; /* only with --json */
};

void report_begin(struct report *report, struct cli *cli, const char *list);
/* Without --json nothing. print_sums NULL: there are none, for the work failed. */
void report_end(struct report *report, void (*print_sums)(struct doc *doc, const void *sums),
                const void *sums);
