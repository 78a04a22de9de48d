/* SPDX-License-Identifier: Apache-2.0 */
/* larder update watch: many references, again and again, a line a change. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/interval.h"
#include "cli/update/update.h"
#include "cli/update/update_print.h"

/* The checks of a round are spread over this part of the interval, and no longer than that. */
#define SPREAD_PART   20
#define SPREAD_MAX_NS (600 * NS_PER_S)
/* Of one line about a change; versions are as long as a registry likes. */
#define LINE_BYTES_MAX (1024 * 1024)

static struct {
    int64_t every_ns;
    bool once;
    bool all;
    struct update_args update;
    struct remote_args remote;
} args;

static const struct opt opts[] = {
    OPT_DURATION(0, "every", &args.every_ns, "TIME",
                 "a round every so often, give or take a tenth, until a signal ends it; default: "
                 "update.every of the configuration (6h)"),
    OPT_FLAG(0, "once", &args.once, "one round; the exit status is that of its worst check"),
    OPT_FLAG('a', "all", &args.all,
             "all of update.refs of the configuration, all that have a record, and all images of "
             "the store whose name is that of a registry's"),
    UPDATE_PLATFORM_OPT(&args.update),
    UPDATE_PLACE_OPTS(&args.update),
    REMOTE_OPTS(&args.remote),
    REMOTE_RETRY_OPT(&args.remote),
};

/* A reference whose last check failed, or that worked again: told once, not in every round. Of a
 * registry that limits us people are told once, programs of each reference there. */
enum trouble_kind { TROUBLE_REF, TROUBLE_REGISTRY, TROUBLE_DEFERRED };
struct trouble {
    enum trouble_kind kind;
    char *ref; /* REGISTRY: its name; "" is the round itself */
    enum larder_code code;
};

struct watch {
    struct cli *cli;
    const char **refs; /* those of the store, or of the repository that was given */
    size_t n_refs;
    char *booted;       /* what the deployment that runs follows, when it is watched; NULL */
    const char **words; /* memory of refs that came from the configuration */
    struct trouble *troubles;
    size_t n_troubles;
    struct larder_update_pauses *pauses; /* what registries asked for, over all rounds */
    int worst;                           /* exit status of the round */
};

static void watch_done(struct watch *watch)
{
    for (size_t i = 0; i < watch->n_troubles; i++)
        free(watch->troubles[i].ref);
    free(watch->troubles);
    free(watch->refs);
    free(watch->words);
    free(watch->booted);
    larder_update_pauses_free(watch->pauses);
}

/* ---- what is told ---- */

/* Notes the outcome; whether it is another than the last time. Without memory for it: yes. */
static bool is_news(struct watch *watch, enum trouble_kind kind, const char *ref,
                    enum larder_code code)
{
    struct trouble *troubles;
    enum larder_code before;

    for (size_t i = 0; i < watch->n_troubles; i++) {
        if (watch->troubles[i].kind != kind || strcmp(watch->troubles[i].ref, ref) != 0)
            continue;
        before = watch->troubles[i].code;
        watch->troubles[i].code = code;
        return before != code;
    }
    if (code == LARDER_OK)
        return false;
    troubles = reallocarray(watch->troubles, watch->n_troubles + 1, sizeof(*troubles));
    if (!troubles)
        return true;
    watch->troubles = troubles;
    troubles[watch->n_troubles] = (struct trouble){kind, strdup(ref), code};
    if (troubles[watch->n_troubles].ref)
        watch->n_troubles++;
    return true;
}

/* From what passes by itself to what somebody has to look at. */
static int badness(int status)
{
    static const int order[] = {0, 7, 8, 6, 3, 5};

    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        if (order[i] == status)
            return (int)i;
    }
    return (int)ARRAY_LEN(order);
}

static void note_status(struct watch *watch, enum larder_code code)
{
    int status = cli_status(-(int)code);

    if (badness(status) > badness(watch->worst))
        watch->worst = status;
}

static void say_failure(struct watch *watch, const char *ref, const struct larder_error *error)
{
    bool is_about_ref = strstr(error->msg, ref) != NULL;

    cli_say(watch->cli, true, "%s%s%s", is_about_ref ? "" : ref, is_about_ref ? "" : ": ",
            error->msg);
}

static void print_failure(const char *ref, const struct larder_error *error)
{
    struct buf text = BUF_INIT(LINE_BYTES_MAX);
    struct doc doc = DOC_INIT;

    doc.is_line = true;
    text_redact(error->msg, &text);
    doc_object(&doc, NULL);
    doc_text(&doc, "ref", ref);
    doc_object(&doc, "error");
    doc_text(&doc, "code", larder_code_name(error->code));
    doc_text(&doc, "message", text.p ? text.p : "");
    doc_end(&doc);
    doc_end(&doc);
    buf_done(&text);
}

static void print_change(const struct larder_update_event *event)
{
    const struct larder_update *update = event->update;
    struct buf text = BUF_INIT(LINE_BYTES_MAX);
    struct doc doc = DOC_INIT;

    if (globals.json) {
        doc.is_line = true;
        doc_object(&doc, NULL);
        update_json(&doc, update);
        doc_text(&doc, "before", larder_update_state_name(event->before));
        doc_end(&doc);
        return;
    }
    put_text(stdout, update->ref);
    if (update_has(update)) {
        update_image_text(&update->update, &text);
        printf(": update available: %s%s\n", text.p ? text.p : "",
               update->state == LARDER_UPDATE_STAGED ? " (staged already)" : "");
    } else if (event->before == LARDER_UPDATE_AVAILABLE || event->before == LARDER_UPDATE_STAGED) {
        puts(": no update any more");
    } else {
        puts(": no update");
    }
    buf_done(&text);
}

static void on_failure(struct watch *watch, const struct larder_update_event *event)
{
    bool is_deferred = event->is_deferred && event->registry;
    enum larder_code code = event->error->code;
    bool is_new = is_news(watch, is_deferred ? TROUBLE_DEFERRED : TROUBLE_REF, event->ref, code);
    bool is_new_to_people =
        is_deferred ? is_news(watch, TROUBLE_REGISTRY, event->registry, code) : is_new;

    note_status(watch, code);
    if (is_new_to_people)
        say_failure(watch, event->ref, event->error);
    if (globals.json && is_new)
        print_failure(event->ref, event->error);
}

static void on_answer(struct watch *watch, const struct larder_update_event *event)
{
    (void)is_news(watch, TROUBLE_DEFERRED, event->ref, LARDER_OK);
    if (event->registry && is_news(watch, TROUBLE_REGISTRY, event->registry, LARDER_OK))
        cli_say(watch->cli, false, "%s: can be asked again", event->registry);
    if (is_news(watch, TROUBLE_REF, event->ref, LARDER_OK))
        cli_say(watch->cli, false, "%s: can be checked again", event->ref);
    if (event->is_changed)
        print_change(event);
}

static int on_event(void *arg, const struct larder_update_event *event)
{
    struct watch *watch = arg;

    progress_clear(&watch->cli->progress);
    if (event->is_failed && event->error->code == LARDER_CANCELED)
        return 0; /* the round ends by itself */
    if (event->is_failed)
        on_failure(watch, event);
    else
        on_answer(watch, event);
    fflush(stdout); /* the journal, or whoever reads, is to have it when it happens */
    return 0;
}

/* ---- a round ---- */

/* One place: the store, a repository, or a sysroot. */
static int check_place(struct watch *watch, struct update_call *call, const char *const *refs,
                       size_t n_refs, bool is_all, int64_t spread_ns, struct larder_error *e)
{
    struct larder_update_round_options options = LARDER_UPDATE_ROUND_OPTIONS_INIT;
    struct larder_update_round result = {.size = sizeof(result)};

    options.refs = refs;
    options.n_refs = n_refs;
    options.is_all = is_all;
    options.spread_ns = spread_ns;
    options.fn = on_event;
    options.arg = watch;
    options.pauses = watch->pauses;
    return larder_update_round_run(call->store, &call->options, &options, &result, e);
}

static int check_booted(struct watch *watch, struct update_call *call, int64_t spread_ns,
                        struct larder_error *e)
{
    const struct larder_update_options options = call->options;
    const char *ref = watch->booted;
    int rc;

    /* The store is only looked into for layers here. */
    rc = update_store_open(watch->cli, UPDATE_STORE_KEEP, true, &call->store, e);
    call->options.sysroot = UPDATE_BOOTED_ROOT;
    if (rc == 0)
        rc = check_place(watch, call, &ref, 1, false, spread_ns, e);
    call->options = options;
    /* What comes now may have to write to it. */
    cli_store_close(watch->cli);
    call->store = NULL;
    return rc;
}

static int check_all(struct watch *watch, int64_t spread_ns, struct larder_error *e)
{
    struct update_call call CLEANUP(update_call_done) = UPDATE_CALL_INIT;
    int rc = update_place_fill(watch->cli, "update watch", &args.update, &args.remote, &call, e);

    if (rc == 0 && watch->booted)
        rc = check_booted(watch, &call, spread_ns, e);
    if (rc < 0 || (watch->booted && !watch->n_refs && !args.all))
        return rc;
    rc = update_store_open(watch->cli, UPDATE_STORE_KEEP, update_is_ostree(&call.options),
                           &call.store, e);
    if (rc == 0)
        rc = check_place(watch, &call, watch->refs, watch->n_refs, args.all, spread_ns, e);
    return rc;
}

/* Returns the exit status. */
static int run_round(struct watch *watch, int64_t spread_ns)
{
    struct larder_error e = LARDER_ERROR_INIT;
    int rc;

    watch->worst = 0;
    rc = check_all(watch, spread_ns, &e);
    if (rc == -LARDER_CANCELED)
        return cli_status(rc);
    if (is_news(watch, TROUBLE_REF, "", (enum larder_code) - rc) && rc < 0)
        return cli_fail(watch->cli, &e);
    if (rc < 0)
        note_status(watch, e.code);
    return watch->worst;
}

/* Rounds until a signal comes, which is how this ends well. */
static int run_rounds(struct watch *watch, int64_t every_ns)
{
    int64_t spread_ns = every_ns / SPREAD_PART;
    bool is_first = true;

    if (spread_ns > SPREAD_MAX_NS)
        spread_ns = SPREAD_MAX_NS;
    do {
        int64_t wait_ns = interval_jitter(every_ns);

        /* Whoever starts it by hand wants to see the first round. */
        run_round(watch, is_first ? 0 : spread_ns);
        is_first = false;
        /* Kept open, a store that is unmounted or replaced meanwhile would not be noticed. */
        cli_store_close(watch->cli);
        interval_wait(wait_ns);
    } while (cli_caught_signal() == 0);
    return 0;
}

/* ---- what is watched ---- */

/* The words, else those of the configuration; on an ostree machine what is the booted deployment's
 * is taken out of them. */
static int read_refs(struct watch *watch, int argc, char **argv, struct larder_error *e)
{
    const char *const *from = (const char *const *)argv;
    size_t n = (size_t)argc;
    int rc;

    if (argc == 0) {
        rc = config_words(&watch->cli->config, CONFIG_update_refs, &watch->words, e);
        if (rc < 0)
            return rc;
        from = watch->words;
        n = (size_t)rc;
    }
    watch->refs = calloc(n + 1, sizeof(*watch->refs));
    if (!watch->refs)
        return error_nomem(e);
    if (update_is_booted(&args.update)) {
        rc = update_booted_ref(&watch->booted, e);
        if (rc < 0)
            return rc;
    }
    bool is_booted_wanted = args.all || n == 0;

    for (size_t i = 0; i < n; i++) {
        if (watch->booted && update_is_ref(from[i], watch->booted))
            is_booted_wanted = true;
        else
            watch->refs[watch->n_refs++] = from[i];
    }
    if (!is_booted_wanted) {
        free(watch->booted);
        watch->booted = NULL;
    }
    return 0;
}

static int watch_fill(struct watch *watch, int argc, char **argv, struct larder_error *e)
{
    int rc = cli_config(watch->cli, NULL, e);

    if (rc == 0)
        rc = larder_update_pauses_new(&watch->pauses, e);
    if (rc == 0)
        rc = read_refs(watch, argc, argv, e);
    if (rc == 0 && watch->n_refs == 0 && !watch->booted && !args.all) {
        error_set(e, LARDER_INVAL,
                  "update watch: found no REF, expected some, --all, or update.refs in the "
                  "configuration");
        return error_hint(e, "`larder help update watch` says how it is used");
    }
    return rc;
}

static int run_watch(struct cli *cli, int argc, char **argv)
{
    struct watch watch CLEANUP(watch_done) = {.cli = cli};
    struct larder_error e = LARDER_ERROR_INIT;
    int64_t every_ns;

    if (args.once && args.every_ns != OPT_NS_UNSET)
        return cli_usage(cli, "update watch", "found --once and --every, expected one");
    if (args.all && argc)
        return cli_usage(cli, "update watch", "found --all and a REF, expected one");
    if (watch_fill(&watch, argc, argv, &e) < 0)
        return cli_fail(cli, &e);
    every_ns = cli_ns(cli, args.every_ns, CONFIG_update_every);
    if (args.once || every_ns == INT64_MAX)
        return run_round(&watch, 0);
    if (every_ns < INTERVAL_MIN_NS)
        return cli_usage(cli, "update watch", "interval: found less than a second, expected more");
    return run_rounds(&watch, every_ns);
}

const struct command command_update_watch = {
    .name = "update watch",
    .group = COMMAND_GROUP_UPDATES,
    .summary = "check many references, again and again",
    .about = "Checks each REF, at once and then at an interval, and prints a line when there is an "
             "update, another one, or none any more. Without REF: update.refs of the "
             "configuration, else what the booted deployment follows. A check that fails is warned "
             "about when it begins to fail, and does not end the round. A registry that limits us "
             "is left alone for as long as it says, but a day at most, while the others are asked "
             "as ever. SIGTERM and SIGINT end it with status 0.",
    .usage = "[REF...]",
    .max_words = COMMAND_ANY_WORDS,
    .words = COMMAND_WORDS_LOCATION,
    .opts = OPT_SET(opts),
    .exits =
        COMMAND_EXIT(3) | COMMAND_EXIT(5) | COMMAND_EXIT(6) | COMMAND_EXIT(7) | COMMAND_EXIT(8),
    .run = run_watch,
};
