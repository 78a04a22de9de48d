/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <larder/image.h>
#include <larder/net.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/out.h"

#define MESSAGE_BYTES_MAX (64 * 1024)

struct cli_globals globals;

static const struct opt global_rows[] = {
    OPT_DIR(0, "store", &globals.store, "DIR", "use the store in DIR (also $LARDER_HOME)"),
    OPT_PATH(0, "config", &globals.config, "FILE",
             "read this configuration file only (also $LARDER_CONFIG)"),
    OPT_FLAG('q', "quiet", &globals.quiet, "print only what was asked for, and failures"),
    OPT_FLAG('v', "verbose", &globals.verbose, "say more of what is being done"),
    OPT_FLAG(0, "json", &globals.json, "print the result as JSON"),
    OPT_FLAG(0, "no-progress", &globals.no_progress, "show no progress"),
    OPT_FLAG('h', "help", &globals.help, "print the help of larder or of the command"),
    OPT_FLAG(0, "version", &globals.version, "print the version"),
};
const struct opt_set global_opts = OPT_SET(global_rows);

/* ---- signals ---- */

static volatile sig_atomic_t caught_signal;

static void remember_signal(int number)
{
    caught_signal = number;
}

int cli_caught_signal(void)
{
    return caught_signal;
}

/*
 * The first INT, TERM or HUP asks the running call to stop, which leaves resumable downloads in
 * order; the second kills (SA_RESETHAND). No SA_RESTART: waiting ends, too. What was ignored on
 * entry (nohup) stays so. SIGPIPE is ignored since a server may close a connection; out_finish()
 * takes care of our own output. SIGXFSZ is, so that a file that gets too large is an error (EFBIG).
 */
static void set_signals(struct cli *cli)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = remember_signal, .sa_flags = (int)SA_RESETHAND};
    struct sigaction old;

    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    }
    cli->is_pipe_ignored = sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_IGN;
    signal(SIGPIPE, SIG_IGN);
    cli->is_size_ignored = sigaction(SIGXFSZ, NULL, &old) == 0 && old.sa_handler == SIG_IGN;
    signal(SIGXFSZ, SIG_IGN);
}

/* ---- messages ---- */

static void print_message(struct cli *cli, const char *kind, const char *text)
{
    struct buf clean = BUF_INIT(MESSAGE_BYTES_MAX);

    progress_clear(&cli->progress);
    text_redact(text, &clean);
    /* Not the text as it is: what keeps secrets out of it could not run. */
    bool is_clean = buf_failed(&clean, NULL) == 0 && (clean.n > 0 || !text[0]);
    fprintf(stderr, "larder: %s%s\n", kind, !is_clean ? "out of memory" : clean.p ? clean.p : "");
    buf_done(&clean);
}

static void observe_warning(void *arg, const char *msg)
{
    print_message(arg, "warning: ", msg);
}

static void observe_note(void *arg, const char *msg)
{
    if (globals.verbose && !globals.quiet)
        print_message(arg, "", msg);
}

static void observe_progress(void *arg, const struct larder_progress *progress)
{
    struct cli *cli = arg;

    progress_update(&cli->progress, progress);
}

static bool observe_canceled(void *arg)
{
    (void)arg;
    return caught_signal != 0;
}

void cli_say(struct cli *cli, bool is_warning, const char *fmt, ...)
{
    struct buf text = BUF_INIT(MESSAGE_BYTES_MAX);
    va_list ap;

    if (globals.quiet && !is_warning)
        return;
    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    if (text.n)
        print_message(cli, is_warning ? "warning: " : "", text.p);
    buf_done(&text);
}

int cli_status(int rc)
{
    if (rc >= 0)
        return 0;
    if (rc == -LARDER_CANCELED && caught_signal)
        return 128 + caught_signal;
    return larder_exit_code((enum larder_code) - rc);
}

int cli_fail(struct cli *cli, const struct larder_error *e)
{
    struct doc doc = DOC_INIT;
    struct buf text = BUF_INIT(MESSAGE_BYTES_MAX);

    /* What fails without a word had none left: only running out of memory does that. */
    print_message(cli, "",
                  e->msg[0]              ? e->msg
                  : e->code == LARDER_OK ? "failed without saying why: out of memory?"
                                         : larder_code_name(e->code));
    if (e->hint[0])
        print_message(cli, "hint: ", e->hint);
    if (globals.json && !doc_was_begun()) {
        doc_object(&doc, NULL);
        doc_object(&doc, "error");
        doc_text(&doc, "code", larder_code_name(e->code));
        text_redact(e->msg, &text);
        doc_text(&doc, "message", text.p ? text.p : "");
        buf_done(&text);
        doc_text(&doc, "hint", e->hint[0] ? e->hint : NULL);
        doc_end(&doc);
        doc_end(&doc);
    }
    return e->code == LARDER_OK ? EXIT_FAILED : cli_status(-(int)e->code);
}

int cli_usage(struct cli *cli, const char *command, const char *fmt, ...)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct buf text = BUF_INIT(MESSAGE_BYTES_MAX);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    error_set(&e, LARDER_INVAL, "%s: %s", command, text.n ? text.p : "wrong usage");
    error_hint(&e, "`larder help %s` says how it is used", command);
    buf_done(&text);
    return cli_fail(cli, &e);
}

/* ---- life ---- */

void cli_init(struct cli *cli)
{
    memset(cli, 0, sizeof(*cli));
    set_signals(cli);
    progress_init(&cli->progress, globals.quiet || globals.no_progress, globals.verbose);
    cli->observer = (struct larder_observer){
        .arg = cli,
        .warning = observe_warning,
        .note = observe_note,
        .progress = observe_progress,
        .is_canceled = observe_canceled,
    };
}

void cli_done(struct cli *cli)
{
    progress_clear(&cli->progress);
    cli_store_close(cli);
    if (cli->has_config)
        config_done(&cli->config);
    cli->has_config = false;
}

int cli_config(struct cli *cli, const struct config **ret, struct larder_error *e)
{
    int rc = 0;

    if (!cli->has_config) {
        rc = config_init(&cli->config, e);
        if (rc == 0)
            rc = config_load(&cli->config, globals.config, e);
        if (rc < 0) {
            config_done(&cli->config);
            return rc;
        }
        cli->has_config = true;
    }
    if (ret)
        *ret = &cli->config;
    return 0;
}

/* Tells the library about image.guest_dirs. */
static int set_guest_dirs(struct cli *cli, struct larder_error *e)
{
    const char *list = config_text(&cli->config, CONFIG_image_guest_dirs);
    char *copy CLEANUP_FREE = NULL;
    const char **dirs CLEANUP_FREE = NULL;
    size_t count = 0;
    char *rest;

    if (!list)
        return 0;
    copy = strdup(list);
    dirs = calloc(strlen(list) + 1, sizeof(*dirs));
    if (!copy || !dirs)
        return error_nomem(e);
    for (char *dir = strtok_r(copy, ":", &rest); dir; dir = strtok_r(NULL, ":", &rest))
        dirs[count++] = dir;
    return larder_store_set_guest_dirs(cli->store, dirs, count, e);
}

static int set_net(struct cli *cli, struct larder_error *e)
{
    struct larder_net_options net = LARDER_NET_OPTIONS_INIT;
    const struct config *config = &cli->config;

    net.connect_timeout_ns = config_ns(config, CONFIG_net_connect_timeout);
    net.stall_timeout_ns = config_ns(config, CONFIG_net_stall_timeout);
    net.retries = (unsigned)config_number(config, CONFIG_net_retries);
    net.header_file = config_text(config, CONFIG_net_header_file);
    net.ca_file = config_text(config, CONFIG_net_ca_file);
    net.authfile = config_text(config, CONFIG_registry_authfile);
    return larder_store_set_net(cli->store, &net, e);
}

int cli_store(struct cli *cli, unsigned flags, struct larder_store **ret, struct larder_error *e)
{
    struct larder_store_options options = LARDER_STORE_OPTIONS_INIT;
    const char *path;
    int rc;

    rc = cli_config(cli, NULL, e);
    if (rc == 0 && !cli->store) {
        path = globals.store ? globals.store : config_text(&cli->config, CONFIG_store_path);
        options.flags = flags;
        options.observer = &cli->observer;
        rc = larder_store_open(path, &options, &cli->store, e);
        if (rc == 0)
            rc = set_guest_dirs(cli, e);
        if (rc == 0)
            rc = set_net(cli, e);
    }
    if (rc == 0)
        *ret = cli->store;
    return rc;
}

int cli_store_to_read(struct cli *cli, unsigned flags, struct larder_store **ret,
                      struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    int rc = cli_store(cli, flags, ret, &why);

    if (rc == -LARDER_DENIED && cli_store(cli, LARDER_STORE_READ_ONLY, ret, e) == 0) {
        cli_say(cli, false, "store %s: cannot be written, upstream is not asked",
                larder_store_path(*ret));
        return 0;
    }
    if (rc < 0)
        *e = why;
    return rc;
}

void cli_store_close(struct cli *cli)
{
    larder_store_close(cli->store);
    cli->store = NULL;
}

int64_t cli_ns(const struct cli *cli, int64_t given_ns, enum config_id id)
{
    return given_ns == OPT_NS_UNSET ? config_ns(&cli->config, id) : given_ns;
}

uint64_t cli_bytes(const struct cli *cli, uint64_t given_bytes, enum config_id id)
{
    return given_bytes == OPT_BYTES_UNSET ? config_number(&cli->config, id) : given_bytes;
}
