/* SPDX-License-Identifier: Apache-2.0 */
/* larder login: checks and keeps who we are at a registry. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/remote.h"
#include "cli/secret.h"

static struct {
    const char *user;
    const char *password;
    bool password_stdin;
    bool get_login;
    struct remote_args remote;
} args;

static const struct opt opts[] = {
    OPT_STRING('u', "username", &args.user, "USER", "who to log in as; default: it is asked for"),
    OPT_STRING('p', "password", &args.password, "PASSWORD",
               "use this one; others may see it in the list of processes"),
    OPT_FLAG(0, "password-stdin", &args.password_stdin,
             "read the password from standard input; default: it is asked for, unseen"),
    OPT_FLAG(0, "get-login", &args.get_login, "print who is logged in there, and do no more"),
    REMOTE_AUTHFILE_OPT(&args.remote),
    REMOTE_TLS_OPTS(&args.remote),
    REMOTE_RETRY_OPT(&args.remote),
};

static void print_login(const char *registry, const char *user, const char *where)
{
    struct doc doc = DOC_INIT;

    if (!globals.json)
        return;
    doc_object(&doc, NULL);
    doc_text(&doc, "registry", registry);
    doc_text(&doc, "user", user);
    doc_text(&doc, "file", where);
    doc_end(&doc);
}

static int get_login(struct cli *cli, const char *registry, const struct remote *remote)
{
    struct larder_error e = LARDER_ERROR_INIT;
    char *user CLEANUP_FREE = NULL;

    if (larder_login_get(registry, &remote->options, &user, &e) < 0)
        return cli_fail(cli, &e);
    print_login(registry, user, NULL);
    if (!globals.json) {
        put_text(stdout, user);
        putchar('\n');
    }
    return 0;
}

static int ask(struct remote *remote, char **ret_user, char **ret_password, struct larder_error *e)
{
    int rc = 0;

    if (!args.user)
        rc = secret_ask("Username", false, ret_user, e);
    if (rc == 0 && args.password)
        rc = (*ret_password = strdup(args.password)) ? 0 : error_nomem(e);
    else if (rc == 0 && args.password_stdin)
        rc = secret_read_stdin(ret_password, e);
    else if (rc == 0)
        rc = secret_ask("Password", true, ret_password, e);
    if (rc < 0) {
        if (rc == -LARDER_INVAL && !e->hint[0])
            error_hint(e, "in a script: larder login --username USER --password-stdin");
        return rc;
    }
    remote->options.user = args.user ? args.user : *ret_user;
    remote->options.password = *ret_password;
    return 0;
}

static int login(struct cli *cli, const char *registry, struct remote *remote)
{
    struct larder_error e = LARDER_ERROR_INIT;
    char *user = NULL;
    char *password = NULL;
    char *where CLEANUP_FREE = NULL;
    int rc = ask(remote, &user, &password, &e);

    if (rc == 0)
        rc = larder_login(registry, &remote->options, &where, &e);
    if (rc == 0) {
        cli_say(cli, false, "logged in to %s as %s; kept in %s", registry, remote->options.user,
                where);
        print_login(registry, remote->options.user, where);
    }
    free(user);
    secret_free(password);
    return rc < 0 ? cli_fail(cli, &e) : 0;
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct remote remote CLEANUP(remote_done) = REMOTE_INIT;

    (void)argc;
    if (remote_fill(cli, "login", NULL, &args.remote, &remote, &e) < 0)
        return cli_fail(cli, &e);
    if (args.password && args.password_stdin) {
        error_set(&e, LARDER_INVAL,
                  "login: found --password and --password-stdin, expected one of them");
        return cli_fail(cli, &e);
    }
    if (args.get_login)
        return get_login(cli, argv[0], &remote);
    return login(cli, argv[0], &remote);
}

const struct command command_login = {
    .name = "login",
    .group = COMMAND_GROUP_REGISTRIES,
    .summary = "check and keep credentials of a registry",
    .about = "Asks the registry whether user and password are right, then keeps them where docker "
             "and podman keep theirs: in the file of --authfile, $REGISTRY_AUTH_FILE or the usual "
             "place, or in the credential helper that is configured there.",
    .usage = "HOST[/NAMESPACE]",
    .min_words = 1,
    .max_words = 1,
    .opts = OPT_SET(opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(8),
    .run = run,
};
