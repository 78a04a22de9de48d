/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/report.h"

void report_begin(struct report *report, struct cli *cli, const char *list)
{
    *report = (struct report){.cli = cli};
    if (!globals.json)
        return;
    doc_object(&report->doc, NULL);
    doc_array(&report->doc, list);
}

void report_end(struct report *report, void (*print_sums)(struct doc *doc, const void *sums),
                const void *sums)
{
    if (!globals.json)
        return;
    doc_end(&report->doc);
    if (print_sums)
        print_sums(&report->doc, sums);
    doc_end(&report->doc);
}
