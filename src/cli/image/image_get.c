/* SPDX-License-Identifier: Apache-2.0 */
/* larder image get: what a job runs at its start. */
#include <stdio.h>

#include "cli/commands.h"
#include "cli/image/image.h"

static struct {
    struct image_get_args get;
    struct image_source_args source;
} args;

static const struct opt opts[] = {
    IMAGE_GET_OPTS(&args.get),
    IMAGE_SOURCE_OPTS(&args.source),
};

static int run_get(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_image_result result = {0};

    (void)argc;
    if (args.source.fingerprint && !args.source.keyring)
        return cli_usage(cli, "image get", "found --fingerprint without --keyring");
    if (args.get.offline && (args.get.fresh || args.get.require_fresh))
        return cli_usage(cli, "image get", "found --offline with --%s, which asks upstream",
                         args.get.fresh ? "fresh" : "require-fresh");
    if (image_get(cli, argv[0], &args.get, &args.source, &result, &e) < 0)
        return cli_fail(cli, &e);
    if (globals.json) {
        struct doc doc = DOC_INIT;

        doc_object(&doc, NULL);
        image_result_json(&doc, &result);
        doc_end(&doc);
    } else {
        puts(result.path); /* as it is: scripts use it */
    }
    larder_image_result_done(&result);
    return 0;
}

const struct command command_image_get = {
    .name = "image get",
    .group = COMMAND_GROUP_IMAGES,
    .summary = "print the path of a verified, current image",
    .about = "Prints the path of the image: at once when a valid one is here, after fetching it "
             "when it is missing, outdated or corrupt. The file is read-only and the path never "
             "changes its content; a newer image gets another path. The argument is the name of "
             "an entry, else a source, for which an entry is made; the options about sources "
             "(from --checksum on) hold for that one.",
    .usage = "NAME|SOURCE",
    .min_words = 1,
    .max_words = 1,
    .words = COMMAND_WORDS_ENTRY_OR_FILE,
    .opts = OPT_SET(opts),
    .exits =
        COMMAND_EXIT(3) | COMMAND_EXIT(5) | COMMAND_EXIT(6) | COMMAND_EXIT(7) | COMMAND_EXIT(8),
    .run = run_get,
};
