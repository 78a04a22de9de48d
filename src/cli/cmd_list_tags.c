/* SPDX-License-Identifier: Apache-2.0 */
/* larder list-tags. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/remote.h"
#include "json/json.h"

static struct {
    struct remote_args remote;
} args;

static const struct opt opts[] = {
    REMOTE_OPTS(&args.remote),
    REMOTE_RETRY_OPT(&args.remote),
};

static int print_tag(void *arg, const char *tag)
{
    (void)arg;
    put_text(stdout, tag);
    putchar('\n');
    return 0;
}

static int add_tag(void *arg, const char *tag)
{
    return json_append(arg, json_new_string(tag));
}

/* As skopeo prints it. */
static int print_json(struct larder_store *store, const char *location,
                      const struct larder_registry_options *options, struct larder_error *e)
{
    struct json *root CLEANUP(json_freep) = json_new_object();
    struct json *tags = json_new_array();
    int rc = 0;

    rc |= json_set_string(root, "Repository",
                          location + (remote_is_registry(location) ? strlen("docker://") : 0));
    rc |= json_set(root, "Tags", tags);
    if (rc < 0)
        return error_nomem(e);
    rc = larder_tags_each(store, location, options, add_tag, tags, e);
    if (rc < 0)
        return rc == -LARDER_NOMEM ? error_nomem(e) : rc;
    return out_json(root) < 0 ? error_nomem(e) : 0;
}

/* All tags instead of the one that was asked for would be a wrong answer, not a long one. */
static int check_repository(const char *location, struct larder_error *e)
{
    const char *name = strrchr(location, '/');

    if (!remote_is_registry(location) || !name || !strpbrk(name, ":@"))
        return 0;
    return error_set(e, LARDER_INVAL, "%s: expected a repository, without tag and digest",
                     location);
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct remote remote CLEANUP(remote_done) = REMOTE_INIT;
    struct larder_store *store = NULL;
    char *location CLEANUP_FREE = NULL;
    int rc;

    (void)argc;
    if (remote_repository(argv[0], &location, &e) < 0 || check_repository(location, &e) < 0 ||
        remote_fill(cli, "list-tags", NULL, &args.remote, &remote, &e) < 0 ||
        remote_store(cli, (const char *const *)&location, 1, false, &store, &e) < 0)
        return cli_fail(cli, &e);
    if (globals.json)
        rc = print_json(store, location, &remote.options, &e);
    else
        rc = larder_tags_each(store, location, &remote.options, print_tag, NULL, &e);
    return rc < 0 ? cli_fail(cli, &e) : 0;
}

const struct command command_list_tags = {
    .name = "list-tags",
    .group = COMMAND_GROUP_REGISTRIES,
    .summary = "list the tags of a repository",
    .about = "Prints each tag on a line, in the order of the registry; with --json the document "
             "that skopeo prints. Of an image layout the names in it. docker:// may be left out.",
    .usage = "REPOSITORY",
    .min_words = 1,
    .max_words = 1,
    .words = COMMAND_WORDS_LOCATION,
    .opts = OPT_SET(opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(6) | COMMAND_EXIT(8),
    .run = run,
};
