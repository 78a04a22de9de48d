/* SPDX-License-Identifier: Apache-2.0 */
/* larder image add, image remove. */
#include <string.h>

#include "cli/commands.h"
#include "cli/image/image.h"

/* What a shell takes as it is; any other byte of a name makes it need quotes. */
#define PLAIN_WORD "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-+/:@%="

static struct {
    struct image_source_args source;
    bool replace;
} args;

static const struct opt opts[] = {
    IMAGE_SOURCE_OPTS(&args.source),
    OPT_FLAG(0, "replace", &args.replace, "change the entry if there is one of that name"),
};

static int run_add(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_image_spec spec = LARDER_IMAGE_SPEC_INIT;
    struct larder_store *store = NULL;

    (void)argc;
    if (args.source.fingerprint && !args.source.keyring)
        return cli_usage(cli, "image add", "found --fingerprint without --keyring");
    if (cli_store(cli, LARDER_STORE_CREATE, &store, &e) < 0 ||
        image_spec_fill(cli, &args.source, &spec, &e) < 0)
        return cli_fail(cli, &e);
    spec.name = argv[0];
    spec.source = argv[1];
    spec.replace = args.replace;
    if (larder_image_add(store, &spec, &e) < 0)
        return cli_fail(cli, &e);
    if (globals.json) {
        struct doc doc = DOC_INIT;

        doc_object(&doc, NULL);
        doc_text(&doc, "name", spec.name);
        doc_text(&doc, "source", spec.source);
        doc_end(&doc);
    }
    const char *quote = spec.name[strspn(spec.name, PLAIN_WORD)] ? "'" : "";
    cli_say(cli, false, "%s: added; `larder image get %s%s%s` fetches it", spec.name, quote,
            spec.name, quote);
    return 0;
}

const struct command command_image_add = {
    .name = "image add",
    .group = COMMAND_GROUP_IMAGES,
    .summary = "name an image and say where it is from",
    .about = "Records the entry NAME with its SOURCE, a local path or an http(s) URL. Nothing is "
             "fetched before the first get.",
    .usage = "NAME SOURCE",
    .min_words = 2,
    .max_words = 2,
    .words = COMMAND_WORDS_FILE,
    .opts = OPT_SET(opts),
    .exits = COMMAND_EXIT(3),
    .run = run_add,
};

static int run_remove(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_store *store = NULL;
    int status = 0;

    if (cli_store(cli, 0, &store, &e) < 0)
        return cli_fail(cli, &e);
    for (int i = 0; i < argc; i++) {
        if (larder_image_remove(store, argv[i], &e) == 0)
            cli_say(cli, false, "%s: removed; gc takes its bytes when nobody uses them", argv[i]);
        else
            status = cli_fail(cli, &e);
    }
    return status;
}

const struct command command_image_remove = {
    .name = "image remove",
    .group = COMMAND_GROUP_IMAGES,
    .summary = "forget an entry",
    .about = "Forgets the entries. Their bytes stay until gc finds that nobody uses them.",
    .usage = "NAME...",
    .min_words = 1,
    .max_words = COMMAND_ANY_WORDS,
    .words = COMMAND_WORDS_ENTRY,
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(7),
    .run = run_remove,
};
