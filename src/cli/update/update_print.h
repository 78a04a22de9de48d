/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * How an update is shown, by all commands alike: `show` tells what `check` told.
 */
#include <larder/update.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "cli/out.h"

/* The members, into an open object. */
void update_json(struct doc *doc, const struct larder_update *update);
/* The lines for people; with is_kept also when that was found out. */
void update_text(const struct larder_update *update, bool is_kept);
/* A version as people see it: its beginning, when it is long. */
void update_version_text(const char *version, struct buf *out);
/* "39.2 (2024-01-10T12:00:00Z) sha256:...": version and time where there are any. */
void update_image_text(const struct larder_update_image *image, struct buf *out);
/*
 * Prints it in the form that was asked for (--json, --quiet, text) and returns the exit status;
 * a damaged record is reported as a failure. is_status: EXIT_UNCHANGED where there is no update.
 */
int update_print(struct cli *cli, const struct larder_update *update, bool is_kept, bool is_status);

static inline bool update_has(const struct larder_update *update)
{
    return update->state == LARDER_UPDATE_AVAILABLE || update->state == LARDER_UPDATE_STAGED;
}
