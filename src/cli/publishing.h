/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * How the result of a publication is shown, by the two commands that publish.
 */
#include <larder/publish.h>

#include "cli/cli.h"

/* The document of --json. */
void publishing_json(const char *repository, const struct larder_publish_result *result,
                     bool is_dry_run);
/* What was decided and why, and what was sent, on stderr. */
void publishing_say(struct cli *cli, const char *repository,
                    const struct larder_publish_result *result, bool is_dry_run);
