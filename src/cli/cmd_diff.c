/* SPDX-License-Identifier: Apache-2.0 */
/* larder diff: layers that differ between two images, and what that costs. */
#include <stdio.h>

#include <larder/copy.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/remote.h"

static struct {
    const char *platform;
    bool exit_code;
    bool all;
    struct remote_args remote;
} args;

static const struct opt opts[] = {
    OPT_STRING(0, "platform", &args.platform, "OS/ARCH",
               "compare this member of indexes only (linux/arm64); default: all of them"),
    OPT_FLAG('a', "all", &args.all, "list what both have, too"),
    OPT_FLAG(0, "exit-code", &args.exit_code, "exit with 4 when they differ"),
    REMOTE_OPTS(&args.remote),
    REMOTE_RETRY_OPT(&args.remote),
};

static const char *side_name(enum larder_diff_side side)
{
    switch (side) {
    case LARDER_DIFF_A:
        return "a";
    case LARDER_DIFF_B:
        return "b";
    case LARDER_DIFF_BOTH:
        break;
    }
    return "both";
}

static void print_json(const struct larder_diff *diff)
{
    struct doc doc = DOC_INIT;

    doc_object(&doc, NULL);
    doc_bool(&doc, "equal", diff->is_equal);
    doc_digest(&doc, "a", &diff->a);
    doc_digest(&doc, "b", &diff->b);
    doc_number(&doc, "bytes_only_a", diff->bytes_only_a);
    doc_number(&doc, "bytes_only_b", diff->bytes_only_b);
    doc_number(&doc, "bytes_both", diff->bytes_both);
    doc_number(&doc, "bytes_to_pull", diff->bytes_to_pull);
    doc_array(&doc, "blobs");
    for (size_t i = 0; i < diff->n_blobs; i++) {
        const struct larder_diff_blob *blob = &diff->blobs[i];

        doc_object(&doc, NULL);
        doc_text(&doc, "side", side_name(blob->side));
        doc_text(&doc, "kind", blob->is_config ? "config" : "layer");
        doc_digest(&doc, "digest", &blob->digest);
        doc_number(&doc, "size_bytes", blob->size_bytes);
        doc_text(&doc, "media_type", blob->media_type);
        doc_text(&doc, "platform", blob->platform);
        doc_end(&doc);
    }
    doc_end(&doc);
    doc_end(&doc);
}

static int print_table(const struct larder_diff *diff, struct larder_error *e)
{
    static const char *const marks[] = {
        [LARDER_DIFF_BOTH] = "=", [LARDER_DIFF_A] = "-", [LARDER_DIFF_B] = "+"};
    struct table table;
    char text[LARDER_DIGEST_TEXT_BYTES];
    char size[32];

    table_init(&table, 5, 1u << 2);
    for (size_t i = 0; i < diff->n_blobs; i++) {
        const struct larder_diff_blob *blob = &diff->blobs[i];

        if (blob->side == LARDER_DIFF_BOTH && !args.all)
            continue;
        table_cell(&table, marks[blob->side]);
        table_cell(&table, larder_digest_format(&blob->digest, text));
        table_cell(&table, size_format(blob->size_bytes, size));
        table_cell(&table, blob->is_config ? "config" : "layer");
        table_cell(&table, blob->platform ? blob->platform : "");
    }
    return table_print(&table, e);
}

static int print(struct cli *cli, const struct larder_diff *diff, struct larder_error *e)
{
    char a[32];
    char b[32];
    char both[32];
    char pull[32];
    int rc = 0;

    if (globals.json)
        print_json(diff);
    else
        rc = print_table(diff, e);
    if (rc == 0 && diff->is_equal)
        cli_say(cli, false, "the same image");
    else if (rc == 0)
        cli_say(cli, false, "only in A %s, only in B %s, in both %s; a pull of B: %s",
                size_format(diff->bytes_only_a, a), size_format(diff->bytes_only_b, b),
                size_format(diff->bytes_both, both), size_format(diff->bytes_to_pull, pull));
    return rc;
}

/* What is here need not be pulled; that there is no store yet is no failure. */
static int open_store(struct cli *cli, char **argv, struct larder_store **ret,
                      struct larder_error *e)
{
    int rc = remote_store(cli, (const char *const *)argv, 2, false, ret, e);

    if (rc < 0 || *ret)
        return rc;
    rc = cli_store_to_read(cli, LARDER_STORE_READ_ONLY, ret, e);
    if (rc < 0) {
        error_clear(e);
        *ret = NULL;
    }
    return 0;
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct remote remote CLEANUP(remote_done) = REMOTE_INIT;
    struct larder_store *store = NULL;
    struct larder_diff diff = {.n_blobs = 0};
    int rc;

    (void)argc;
    if (remote_check_location(argv[0], &e) < 0 || remote_check_location(argv[1], &e) < 0 ||
        remote_fill(cli, "diff", NULL, &args.remote, &remote, &e) < 0 ||
        open_store(cli, argv, &store, &e) < 0 ||
        larder_diff(store, argv[0], argv[1], args.platform, &remote.options, &diff, &e) < 0)
        return cli_fail(cli, &e);
    rc = print(cli, &diff, &e);
    int status = args.exit_code && !diff.is_equal ? cli_status(-LARDER_OUTDATED) : 0;
    larder_diff_done(&diff);
    return rc < 0 ? cli_fail(cli, &e) : status;
}

const struct command command_diff = {
    .name = "diff",
    .group = COMMAND_GROUP_REGISTRIES,
    .summary = "compare two images by their layers",
    .about = "Lists the layers and configurations that only A has (-) or only B has (+), and "
             "says how many bytes that is and what a pull of B costs who has A. No layer is "
             "fetched.",
    .usage = "A B",
    .min_words = 2,
    .max_words = 2,
    .words = COMMAND_WORDS_LOCATION,
    .opts = OPT_SET(opts),
    .exits =
        COMMAND_EXIT(3) | COMMAND_EXIT(4) | COMMAND_EXIT(5) | COMMAND_EXIT(6) | COMMAND_EXIT(8),
    .run = run,
};
