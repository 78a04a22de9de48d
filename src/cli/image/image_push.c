/* SPDX-License-Identifier: Apache-2.0 */
/* larder image push: an image as an artifact that oras can pull. */
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/image/image.h"
#include "cli/out.h"
#include "cli/remote.h"

static struct {
    struct image_get_args get;
    bool force;
    bool dry_run;
    struct remote_args remote;
} args;

static const struct opt opts[] = {
    IMAGE_GET_OPTS(&args.get),
    OPT_FLAG('f', "force", &args.force, "push it even where the tag points to it already"),
    OPT_FLAG('n', "dry-run", &args.dry_run, "say what would be sent, send nothing"),
    REMOTE_OPTS(&args.remote),
    REMOTE_RETRY_OPT(&args.remote),
};

static void print_json(const struct larder_image_push_result *pushed,
                       const struct larder_image_result *image, const char *location)
{
    struct doc doc = DOC_INIT;

    doc_object(&doc, NULL);
    doc_text(&doc, "location", location);
    doc_digest(&doc, "digest", &pushed->digest);
    doc_bool(&doc, "was_there", pushed->was_there);
    doc_bool(&doc, "dry_run", args.dry_run);
    doc_number(&doc, "bytes_sent", pushed->bytes_sent);
    doc_object(&doc, "image");
    image_result_json(&doc, image);
    doc_end(&doc);
    doc_end(&doc);
}

static int push(struct cli *cli, const struct larder_image_result *image, const char *location,
                struct larder_store *store, struct larder_image_push_result *ret,
                struct larder_error *e)
{
    struct larder_image_push_options options = LARDER_IMAGE_PUSH_OPTIONS_INIT;
    struct remote remote CLEANUP(remote_done) = REMOTE_INIT;
    int rc = remote_fill(cli, "image push", NULL, &args.remote, &remote, e);

    if (rc < 0)
        return rc;
    options.registry = &remote.options;
    options.force = args.force;
    options.dry_run = args.dry_run;
    return larder_image_push(store, image, location, &options, ret, e);
}

static void say(struct cli *cli, const struct larder_image_push_result *pushed,
                const struct larder_image_result *image, const char *location)
{
    char size[32];

    if (pushed->was_there)
        cli_say(cli, false, "%s: %s is there already, nothing was sent", location, image->name);
    else
        cli_say(cli, false, "%s: %s %s of %s", location, args.dry_run ? "would send" : "sent",
                size_format(pushed->bytes_sent, size), image->name);
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_image_result image = {0};
    struct larder_image_push_result pushed = {0};
    struct larder_store *store = NULL;
    char digest[LARDER_DIGEST_TEXT_BYTES];
    int status = 0;

    (void)argc;
    if (remote_check_location(argv[1], &e) < 0 ||
        cli_store(cli, image_store_flags(argv[0]), &store, &e) < 0 ||
        image_get(cli, argv[0], &args.get, NULL, &image, &e) < 0)
        return cli_fail(cli, &e);
    if (push(cli, &image, argv[1], store, &pushed, &e) < 0) {
        status = cli_fail(cli, &e);
    } else {
        say(cli, &pushed, &image, argv[1]);
        if (globals.json)
            print_json(&pushed, &image, argv[1]);
        else
            puts(larder_digest_format(&pushed.digest, digest));
    }
    larder_image_result_done(&image);
    return status;
}

const struct command command_image_push = {
    .name = "image push",
    .group = COMMAND_GROUP_IMAGES,
    .summary = "push an image to a registry as an artifact",
    .about = "Gets the image and pushes it as an OCI artifact that oras can pull: the disk, a "
             "checksum file for it, what upstream published about it, and where it came from as "
             "annotations. Prints the digest. The same image always makes the same artifact, so "
             "pushing it again sends nothing.",
    .usage = "NAME LOCATION",
    .min_words = 2,
    .max_words = 2,
    .words = COMMAND_WORDS_ENTRY_OR_FILE,
    .opts = OPT_SET(opts),
    .exits =
        COMMAND_EXIT(3) | COMMAND_EXIT(5) | COMMAND_EXIT(6) | COMMAND_EXIT(7) | COMMAND_EXIT(8),
    .run = run,
};
