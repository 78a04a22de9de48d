/* SPDX-License-Identifier: Apache-2.0 */
/* larder image verify, image invalidate. */
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/image/image.h"

/* ---- verify ---- */

static struct {
    bool all;
    bool deep;
    bool fresh;
} verify_args;

static const struct opt verify_opts[] = {
    OPT_FLAG('a', "all", &verify_args.all, "judge all entries"),
    OPT_FLAG(0, "deep", &verify_args.deep,
             "hash every byte, instead of comparing what the file system says"),
    OPT_FLAG(0, "fresh", &verify_args.fresh, "ask upstream now"),
};

struct verify_state {
    struct cli *cli;
    struct doc doc;
    size_t bad;
};

static void print_verdict(void *arg, const struct larder_image_verify_result *result)
{
    struct verify_state *state = arg;

    progress_clear(&state->cli->progress);
    state->bad += result->code != 0 || result->verdict != LARDER_VERDICT_VALID;
    if (globals.json) {
        doc_object(&state->doc, NULL);
        doc_text(&state->doc, "name", result->name);
        doc_text(&state->doc, "verdict", larder_verdict_name(result->verdict));
        doc_text(&state->doc, "reason", result->reason);
        doc_digest(&state->doc, "digest", &result->digest);
        doc_number(&state->doc, "size_bytes", result->size_bytes);
        doc_text(&state->doc, "error",
                 result->code ? larder_code_name((enum larder_code)abs(result->code)) : NULL);
        doc_end(&state->doc);
        return;
    }
    if (globals.quiet && result->code == 0 && result->verdict == LARDER_VERDICT_VALID)
        return;
    put_text(stdout, result->name);
    printf(": %s", larder_verdict_name(result->verdict));
    if (result->reason && *result->reason) {
        fputs(": ", stdout);
        put_text(stdout, result->reason);
    }
    putchar('\n');
}

static int run_verify(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct verify_state state = {.cli = cli};
    struct larder_store *store = NULL;
    unsigned flags = 0;
    int rc;

    if (verify_args.all && argc)
        return cli_usage(cli, "image verify", "found names beside --all");
    if (cli_store_to_read(cli, 0, &store, &e) < 0)
        return cli_fail(cli, &e);
    if (verify_args.deep)
        flags |= LARDER_IMAGE_VERIFY_DEEP;
    if (verify_args.fresh)
        flags |= LARDER_IMAGE_VERIFY_FRESH;
    if (globals.json) {
        doc_object(&state.doc, NULL);
        doc_array(&state.doc, "images");
    }
    rc = larder_image_verify(store, argc ? (const char *const *)argv : NULL, (size_t)argc, flags,
                             print_verdict, &state, &e);
    if (globals.json) {
        doc_end(&state.doc);
        doc_end(&state.doc);
    }
    /* A bad verdict was told in its line; anything else was not. */
    if (rc < 0 && (state.bad == 0 || rc == -LARDER_CANCELED))
        return cli_fail(cli, &e);
    return cli_status(rc);
}

const struct command command_image_verify = {
    .name = "image verify",
    .group = COMMAND_GROUP_IMAGES,
    .summary = "judge entries: valid, outdated, corrupt or unknown",
    .about = "Judges the named entries, or all. Without an option an image that the file system "
             "says was not touched since it was hashed is valid; nothing is read. Corrupt bytes "
             "are put into quarantine, and the next get fetches them again. With --quiet only "
             "what is not valid is printed.",
    .usage = "[NAME...]",
    .max_words = COMMAND_ANY_WORDS,
    .words = COMMAND_WORDS_ENTRY,
    .opts = OPT_SET(verify_opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(4) | COMMAND_EXIT(5) | COMMAND_EXIT(8),
    .run = run_verify,
};

/* ---- invalidate ---- */

static struct {
    bool mismatched;
    int64_t older_than_ns;
    bool dry_run;
    bool force;
} invalidate_args;

static const struct opt invalidate_opts[] = {
    OPT_FLAG(0, "mismatched", &invalidate_args.mismatched,
             "every entry that is corrupt, or outdated by what upstream says now"),
    OPT_DURATION(0, "older-than", &invalidate_args.older_than_ns, "AGE",
                 "every entry fetched longer ago, as in 30d"),
    OPT_FLAG('n', "dry-run", &invalidate_args.dry_run, "say what would be done, do nothing"),
    OPT_FLAG(0, "force", &invalidate_args.force,
             "also move bytes away whose path an overlay needs"),
};

struct invalidate_state {
    struct cli *cli;
    struct doc doc;
};

static void print_invalidated(void *arg, const char *name, const struct larder_digest *digest,
                              const char *why, bool is_deferred)
{
    struct invalidate_state *state = arg;
    char text[LARDER_DIGEST_TEXT_BYTES];

    progress_clear(&state->cli->progress);
    if (globals.json) {
        doc_object(&state->doc, NULL);
        doc_text(&state->doc, "name", name);
        doc_digest(&state->doc, "digest", digest);
        doc_text(&state->doc, "why", why);
        doc_bool(&state->doc, "is_deferred", is_deferred);
        doc_end(&state->doc);
        return;
    }
    if (globals.quiet)
        return;
    if (name)
        put_text(stdout, name);
    if (digest->alg != LARDER_DIGEST_NONE)
        printf("%s%s", name ? " " : "", larder_digest_format(digest, text));
    fputs(invalidate_args.dry_run ? ": would be: " : ": ", stdout);
    put_text(stdout, why && *why ? why : "invalidated");
    puts(is_deferred ? " (in use: its bytes go when nobody uses them)" : "");
}

static int run_invalidate(struct cli *cli, int argc, char **argv)
{
    struct larder_image_invalidate_options options = LARDER_IMAGE_INVALIDATE_OPTIONS_INIT;
    struct larder_error e = LARDER_ERROR_INIT;
    struct invalidate_state state = {.cli = cli};
    struct larder_store *store = NULL;
    bool by_age = invalidate_args.older_than_ns != OPT_NS_UNSET;
    int status = 0;

    if ((argc > 0) + invalidate_args.mismatched + by_age != 1)
        return cli_usage(cli, "image invalidate",
                         "expected either names or digests, or --mismatched, or --older-than");
    if (by_age && invalidate_args.older_than_ns <= 0)
        return cli_usage(cli, "image invalidate",
                         "option --older-than: found 0, expected an age as 30d");
    if (cli_store(cli, 0, &store, &e) < 0)
        return cli_fail(cli, &e);
    options.mismatched = invalidate_args.mismatched;
    options.older_than_ns = by_age ? invalidate_args.older_than_ns : 0;
    options.dry_run = invalidate_args.dry_run;
    options.force = invalidate_args.force;
    options.invalidated = print_invalidated;
    options.arg = &state;
    if (globals.json) {
        doc_object(&state.doc, NULL);
        doc_array(&state.doc, "invalidated");
    }
    for (int i = 0; i < (argc ? argc : 1); i++) {
        options.name_or_digest = argc ? argv[i] : NULL;
        int rc = larder_image_invalidate(store, &options, &e);

        if (rc < 0)
            status = cli_fail(cli, &e);
        else if (rc == 0) /* silence would leave open whether it was heard */
            cli_say(cli, false, "%s%snothing to invalidate", argc ? argv[i] : "", argc ? ": " : "");
    }
    if (globals.json) {
        doc_end(&state.doc);
        doc_end(&state.doc);
    }
    return status;
}

const struct command command_image_invalidate = {
    .name = "image invalidate",
    .group = COMMAND_GROUP_IMAGES,
    .summary = "make the next get fetch again",
    .about = "The manual trigger: what is invalidated is never handed out again, and the next get "
             "fetches it anew. Who uses the old bytes keeps them; they are deleted afterwards.",
    .usage = "[NAME|DIGEST...]",
    .max_words = COMMAND_ANY_WORDS,
    .words = COMMAND_WORDS_ENTRY,
    .opts = OPT_SET(invalidate_opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(7) | COMMAND_EXIT(8),
    .run = run_invalidate,
};
