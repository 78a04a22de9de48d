/* SPDX-License-Identifier: Apache-2.0 */
/* larder image check, image adopt: directories of images that larder does not own. */
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/image/image.h"

/* ---- check ---- */

static struct {
    bool remove;
    const char *quarantine;
    bool deep;
    bool dry_run;
} check_args;

static const struct opt check_opts[] = {
    OPT_FLAG(0, "remove", &check_args.remove, "delete the mismatching ones that nobody uses"),
    OPT_DIR(0, "quarantine", &check_args.quarantine, "DIR2",
            "move the mismatching ones that nobody uses to DIR2"),
    OPT_FLAG(0, "deep", &check_args.deep, "hash also what was not touched since the last check"),
    OPT_FLAG('n', "dry-run", &check_args.dry_run, "say what would be done, do nothing"),
};

struct check_state {
    struct cli *cli;
    struct doc doc;
    size_t count, corrupt;
};

/* Silence would pass for "all of them are good" where the wrong directory was named. */
static void say_nothing_found(struct cli *cli, const char *dir)
{
    cli_say(cli, false, "%s: no image in it; directories below it and links are not looked at",
            dir);
}

static const char *check_action(const struct larder_image_check_result *result)
{
    if (result->is_acted_on)
        return check_args.dry_run ? "would go" : check_args.remove ? "removed" : "moved";
    if (result->is_in_use && result->verdict == LARDER_VERDICT_CORRUPT)
        return "in use, left alone";
    return NULL;
}

static void print_checked(void *arg, const struct larder_image_check_result *result)
{
    struct check_state *state = arg;
    const char *action = check_action(result);

    progress_clear(&state->cli->progress);
    state->count++;
    state->corrupt += result->verdict == LARDER_VERDICT_CORRUPT;
    if (globals.json) {
        doc_object(&state->doc, NULL);
        doc_text(&state->doc, "path", result->path);
        doc_text(&state->doc, "verdict", larder_verdict_name(result->verdict));
        doc_text(&state->doc, "reason", result->reason);
        doc_text(&state->doc, "sidecar", result->sidecar);
        doc_bool(&state->doc, "is_in_use", result->is_in_use);
        doc_bool(&state->doc, "is_acted_on", result->is_acted_on);
        doc_end(&state->doc);
        return;
    }
    if (globals.quiet && result->verdict == LARDER_VERDICT_VALID)
        return;
    put_text(stdout, result->path);
    printf(": %s", larder_verdict_name(result->verdict));
    if (result->reason && *result->reason) {
        fputs(": ", stdout);
        put_text(stdout, result->reason);
    }
    if (action)
        printf(" (%s)", action);
    putchar('\n');
}

static int run_check(struct cli *cli, int argc, char **argv)
{
    struct larder_image_check_options options = LARDER_IMAGE_CHECK_OPTIONS_INIT;
    struct larder_error e = LARDER_ERROR_INIT;
    struct check_state state = {.cli = cli};
    struct larder_store *store = NULL;
    int rc;

    (void)argc;
    if (check_args.remove && check_args.quarantine)
        return cli_usage(cli, "image check", "found --remove and --quarantine, expected one");
    if (cli_store(cli, LARDER_STORE_CREATE, &store, &e) < 0)
        return cli_fail(cli, &e);
    if (check_args.remove)
        options.action = LARDER_CHECK_REMOVE;
    else if (check_args.quarantine)
        options.action = LARDER_CHECK_QUARANTINE;
    options.quarantine_dir = check_args.quarantine;
    options.deep = check_args.deep;
    options.dry_run = check_args.dry_run;
    options.result = print_checked;
    options.arg = &state;
    if (globals.json) {
        doc_object(&state.doc, NULL);
        doc_array(&state.doc, "images");
    }
    rc = larder_image_check(store, argv[0], &options, &e);
    if (globals.json) {
        doc_end(&state.doc);
        doc_end(&state.doc);
    }
    if (rc < 0 && !(rc == -LARDER_CORRUPT && state.corrupt))
        return cli_fail(cli, &e);
    if (state.count == 0)
        say_nothing_found(cli, argv[0]);
    return cli_status(rc);
}

const struct command command_image_check = {
    .name = "image check",
    .group = COMMAND_GROUP_IMAGES,
    .summary = "judge a plain directory of images by its checksum files",
    .about =
        "Compares each image in DIR, which larder does not own, with the checksum files "
        "beside it (*.checksum, *.sha256, SHA256SUMS, CHECKSUM ...). Without an option it only "
        "reports. What has no checksum is unknown and is never touched. With --quiet only "
        "what is not valid is printed.",
    .usage = "DIR",
    .min_words = 1,
    .max_words = 1,
    .words = COMMAND_WORDS_DIR,
    .opts = OPT_SET(check_opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(5),
    .run = run_check,
};

/* ---- adopt ---- */

static struct {
    bool dry_run;
} adopt_args;

static const struct opt adopt_opts[] = {
    OPT_FLAG('n', "dry-run", &adopt_args.dry_run, "say what would be taken, take nothing"),
};

struct adopt_state {
    struct cli *cli;
    struct doc doc;
    size_t adopted, refused;
    int worst;
};

static void print_adopted(void *arg, const char *path, const char *name, int result,
                          const char *how_or_why)
{
    struct adopt_state *state = arg;

    progress_clear(&state->cli->progress);
    if (result < 0) {
        state->refused++;
        if (state->worst == 0 || result == -LARDER_CORRUPT)
            state->worst = result;
    } else {
        state->adopted++;
    }
    if (globals.json) {
        doc_object(&state->doc, NULL);
        doc_text(&state->doc, "path", path);
        doc_text(&state->doc, "name", name);
        doc_text(&state->doc, "error",
                 result < 0 ? larder_code_name((enum larder_code) - result) : NULL);
        doc_text(&state->doc, result < 0 ? "why" : "how", how_or_why);
        doc_end(&state->doc);
        return;
    }
    if (globals.quiet && result >= 0)
        return;
    put_text(stdout, path);
    if (result < 0) {
        fputs(": refused: ", stdout);
    } else {
        fputs(adopt_args.dry_run ? ": would become " : ": became ", stdout);
        put_text(stdout, name ? name : "?");
        fputs(how_or_why && *how_or_why ? ", " : "", stdout);
    }
    put_text(stdout, how_or_why ? how_or_why : "");
    putchar('\n');
}

static int run_adopt(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct adopt_state state = {.cli = cli};
    struct larder_store *store = NULL;
    int rc;

    (void)argc;
    if (cli_store(cli, LARDER_STORE_CREATE, &store, &e) < 0)
        return cli_fail(cli, &e);
    if (globals.json) {
        doc_object(&state.doc, NULL);
        doc_array(&state.doc, "images");
    }
    rc = larder_image_adopt(store, argv[0], adopt_args.dry_run, print_adopted, &state, &e);
    if (globals.json) {
        doc_end(&state.doc);
        doc_end(&state.doc);
    }
    /* Those that were refused have had their lines. */
    if (rc < 0 && (!state.refused || rc == -LARDER_CANCELED))
        return cli_fail(cli, &e);
    if (state.adopted + state.refused == 0)
        say_nothing_found(cli, argv[0]);
    else
        cli_say(cli, false, "%zu image%s %s, %zu refused", state.adopted,
                state.adopted == 1 ? "" : "s", adopt_args.dry_run ? "would be adopted" : "adopted",
                state.refused);
    return cli_status(state.worst);
}

const struct command command_image_adopt = {
    .name = "image adopt",
    .group = COMMAND_GROUP_IMAGES,
    .summary = "take a directory of images into the store",
    .about = "Makes an entry of each image in DIR, judged by the checksum files beside it; the "
             "bytes are reflinked, hard-linked where that is safe, or copied. The originals stay "
             "where they are; one that was hard-linked is read-only from then on, as it is the "
             "store's, too. Those that do not match their checksum are refused.",
    .usage = "DIR",
    .min_words = 1,
    .max_words = 1,
    .words = COMMAND_WORDS_DIR,
    .opts = OPT_SET(adopt_opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(5),
    .run = run_adopt,
};
