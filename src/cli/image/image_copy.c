/* SPDX-License-Identifier: Apache-2.0 */
/* larder image overlay, image copy: what a guest may write to. */
#include <stdio.h>

#include "cli/commands.h"
#include "cli/image/image.h"

static void print_made(const struct larder_image_result *image, const char *file, const char *how)
{
    struct doc doc = DOC_INIT;

    if (!globals.json)
        return;
    doc_object(&doc, NULL);
    doc_text(&doc, "file", file);
    doc_text(&doc, "how", how);
    doc_object(&doc, "image");
    image_result_json(&doc, image);
    doc_end(&doc);
    doc_end(&doc);
}

/* ---- overlay ---- */

static struct {
    struct image_get_args get;
    uint64_t size_bytes;
} overlay_args;

static const struct opt overlay_opts[] = {
    OPT_SIZE('s', "size", &overlay_args.size_bytes, "SIZE",
             "virtual size of the overlay, as in 20G; default: that of the image"),
    IMAGE_GET_OPTS(&overlay_args.get),
};

static int run_overlay(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_image_result image = {0};
    struct larder_store *store = NULL;
    uint64_t size = overlay_args.size_bytes == OPT_BYTES_UNSET ? 0 : overlay_args.size_bytes;
    int status = 0;

    (void)argc;
    if (cli_store(cli, image_store_flags(argv[0]), &store, &e) < 0 ||
        image_get(cli, argv[0], &overlay_args.get, NULL, &image, &e) < 0)
        return cli_fail(cli, &e);
    if (larder_image_overlay(store, &image, argv[1], size, &e) < 0) {
        status = cli_fail(cli, &e);
    } else {
        print_made(&image, argv[1], "overlay");
        cli_say(cli, false,
                "%s: overlay on %s; the image stays while the file does, under this name", argv[1],
                image.name);
    }
    larder_image_result_done(&image);
    return status;
}

const struct command command_image_overlay = {
    .name = "image overlay",
    .group = COMMAND_GROUP_IMAGES,
    .summary = "make a qcow2 overlay on an image",
    .about = "Gets the image and writes FILE, a qcow2 overlay that has the image's path as its "
             "backing file. The image is leased as long as FILE exists under this name: one that "
             "is moved is only seen in a directory of image.guest_dirs.",
    .usage = "NAME FILE",
    .min_words = 2,
    .max_words = 2,
    .words = COMMAND_WORDS_ENTRY_OR_FILE,
    .opts = OPT_SET(overlay_opts),
    .exits =
        COMMAND_EXIT(3) | COMMAND_EXIT(5) | COMMAND_EXIT(6) | COMMAND_EXIT(7) | COMMAND_EXIT(8),
    .run = run_overlay,
};

/* ---- copy ---- */

static struct {
    struct image_get_args get;
    bool force;
} copy_args;

static const struct opt copy_opts[] = {
    OPT_FLAG('f', "force", &copy_args.force, "replace FILE if it exists"),
    IMAGE_GET_OPTS(&copy_args.get),
};

static int run_copy(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_image_result image = {0};
    struct larder_store *store = NULL;
    bool is_reflink = false;
    int status = 0;

    (void)argc;
    if (cli_store_to_read(cli, image_store_flags(argv[0]), &store, &e) < 0 ||
        image_get(cli, argv[0], &copy_args.get, NULL, &image, &e) < 0)
        return cli_fail(cli, &e);
    if (larder_image_copy(store, &image, argv[1], copy_args.force, &is_reflink, &e) < 0) {
        status = cli_fail(cli, &e);
    } else {
        print_made(&image, argv[1], is_reflink ? "reflink" : "copy");
        cli_say(cli, false, "%s: %s of %s", argv[1], is_reflink ? "reflink" : "sparse copy",
                image.name);
    }
    larder_image_result_done(&image);
    return status;
}

const struct command command_image_copy = {
    .name = "image copy",
    .group = COMMAND_GROUP_IMAGES,
    .summary = "make a writable copy of an image",
    .about = "Gets the image and writes a copy that is yours to change: a reflink where the file "
             "system can, else a copy that keeps holes.",
    .usage = "NAME FILE",
    .min_words = 2,
    .max_words = 2,
    .words = COMMAND_WORDS_ENTRY_OR_FILE,
    .opts = OPT_SET(copy_opts),
    .exits =
        COMMAND_EXIT(3) | COMMAND_EXIT(5) | COMMAND_EXIT(6) | COMMAND_EXIT(7) | COMMAND_EXIT(8),
    .run = run_copy,
};
