/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What every command needs: the global options, the configuration, the open store, messages, and
 * the way a failure becomes an exit status. One of these lives for the life of the program.
 */
#include <signal.h>
#include <stdbool.h>

#include <larder/error.h>
#include <larder/observer.h>
#include <larder/store.h>

#include "cli/config.h"
#include "cli/progress.h"

/* Exit statuses that are no larder_code's (the rest: larder_exit_code). */
#define EXIT_FAILED    1
#define EXIT_USAGE     2
#define EXIT_UNCHANGED 77 /* as rpm-ostree's; only when asked for */

struct cli_globals {
    bool json;
    bool quiet;
    bool verbose;
    bool no_progress;
    bool help;
    bool version;
    const char *store;
    const char *config;
};
extern struct cli_globals globals;

struct cli {
    struct config config;
    bool has_config;
    bool is_pipe_ignored; /* SIGPIPE was, when we were started */
    bool is_size_ignored; /* SIGXFSZ was */
    struct larder_store *store;
    struct larder_observer observer;
    struct progress progress;
};

/* Sets up messages, progress and signals; nothing is opened or read yet. */
void cli_init(struct cli *cli);
void cli_done(struct cli *cli);

/* The configuration, read at the first call. Borrowed. */
int cli_config(struct cli *cli, const struct config **ret, struct larder_error *e);
/* The store, opened at the first call with enum larder_store_flags. Borrowed. */
int cli_store(struct cli *cli, unsigned flags, struct larder_store **ret, struct larder_error *e);
/* For commands that mostly read: the same, but read-only where it may not be written (DENIED). */
int cli_store_to_read(struct cli *cli, unsigned flags, struct larder_store **ret,
                      struct larder_error *e);
/* Closes it again, so that the next cli_store() sees a store that was replaced meanwhile. */
void cli_store_close(struct cli *cli);

/* The value of an option, else of the configuration (which must have been read). */
int64_t cli_ns(const struct cli *cli, int64_t given_ns, enum config_id id);
uint64_t cli_bytes(const struct cli *cli, uint64_t given_bytes, enum config_id id);

/* "larder: <msg>" and its hint on stderr (with --json an error object on stdout when nothing else
 * was begun there); returns the exit status. */
int cli_fail(struct cli *cli, const struct larder_error *e);
/* The same for a usage error of this program's own making. */
int cli_usage(struct cli *cli, const char *command, const char *fmt, ...) LARDER_PRINTF(3, 4);
/* "larder: <msg>" on stderr unless --quiet; with is_warning even then. */
void cli_say(struct cli *cli, bool is_warning, const char *fmt, ...) LARDER_PRINTF(3, 4);
/* The exit status of a call that returned rc and has told its story already. */
int cli_status(int rc);

/* The signal that asked to stop, or 0. */
int cli_caught_signal(void);
