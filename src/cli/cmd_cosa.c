/* SPDX-License-Identifier: Apache-2.0 */
/* larder cosa: stand-ins for commands of coreos-assembler. Options, output and exit statuses of
 * push-container-manifest are those of the original, whose callers are scripts. */
#include <stdio.h>
#include <string.h>

#include <larder/publish.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/publishing.h"
#include "cli/remote.h"

const struct command command_cosa = {
    .name = "cosa",
    .group = COMMAND_GROUP_REGISTRIES,
    .summary = "take the place of coreos-assembler's commands",
    .about = "Commands with the options, the output and the exit statuses of those of "
             "coreos-assembler, without podman, root or a user namespace.",
    .usage = "",
};

static struct {
    const char *repository;
    struct opt_list tags;
    bool v2s2;
    bool force;
    const char *digest_file;
    struct opt_list images;
    const char *artifact;
    const char *build;
    struct opt_list arches;
    const char *meta_key;
    const char *directory;
    bool verify;
    bool no_clobber;
    bool dry_run;
    int jobs;
    struct remote_args remote;
} args;

/* The original's, which win when they are cut short. */
#define FOREIGN_OPTIONS 11

static const struct opt opts[] = {
    REMOTE_AUTHFILE_OPT(&args.remote),
    OPT_STRING(0, "repo", &args.repository, "REPO", "repository to push to; required"),
    OPT_LIST(0, "tag", &args.tags, "TAG",
             "tag of the manifest list, the first is the main one; may be given again; required"),
    OPT_FLAG(0, "v2s2", &args.v2s2, "push Docker schema 2 manifests and a manifest list"),
    OPT_FLAG(0, "force", &args.force, "push even when the registry matches already"),
    OPT_PATH(0, "write-digest-to-file", &args.digest_file, "FILE",
             "write the digest of the list into FILE, without a newline"),
    OPT_LIST(0, "image", &args.images, "IMAGE",
             "an image, as in oci-archive:FILE or docker://HOST/NAME@DIGEST; may be given again; "
             "not with --artifact"),
    OPT_STRING(0, "artifact", &args.artifact, "ARTIFACT",
               "which of meta.json's images is pushed: ostree, kubevirt ..."),
    OPT_STRING(0, "build", &args.build, "BUILD", "which build; default: latest"),
    OPT_LIST(0, "arch", &args.arches, "ARCH",
             "architecture of the build to be pushed; may be given again; default: all that have "
             "the artifact"),
    OPT_STRING(0, "metajsonname", &args.meta_key, "KEY",
               "key of meta.json that tells of the push; required with --artifact"),
    OPT_DIR('C', "directory", &args.directory, "DIR",
            "directory that has builds/; default: the current one"),
    OPT_FLAG(0, "verify", &args.verify, "hash the archives even when nothing is to be uploaded"),
    OPT_FLAG(0, "no-clobber", &args.no_clobber,
             "fail when a tag exists and points to something else"),
    OPT_FLAG('n', "dry-run", &args.dry_run, "say what would be done and why, do nothing"),
    REMOTE_JOBS_OPT(&args.jobs),
    REMOTE_TLS_OPTS(&args.remote),
    REMOTE_RETRY_OPT(&args.remote),
};

/* A line that the original prints; its place is taken by the document of --json. */
static void print_line(void *arg, const char *text)
{
    struct cli *cli = arg;

    if (globals.json) {
        cli_say(cli, false, "%s", text);
        return;
    }
    progress_clear(&cli->progress);
    put_text(stdout, text);
    putchar('\n');
    fflush(stdout);
}

static const char *usage_problem(void)
{
    if (!args.repository)
        return "found no --repo";
    if (args.tags.count == 0)
        return "found no --tag";
    if ((args.images.count > 0) == (args.artifact != NULL))
        return args.artifact ? "found --image and --artifact, expected one of them"
                             : "found neither --image nor --artifact, expected one of them";
    if (args.artifact && !args.meta_key)
        return "found --artifact without --metajsonname";
    if (args.force && args.no_clobber)
        return "found --force and --no-clobber, expected one of them";
    return NULL;
}

static int push(struct cli *cli, struct larder_publish_result *ret, struct larder_error *e)
{
    struct larder_cosa_options options = {.size = sizeof(options)};
    struct remote remote CLEANUP(remote_done) = REMOTE_INIT;
    struct larder_store *store = NULL;
    int rc = remote_fill(cli, "cosa push-container-manifest", NULL, &args.remote, &remote, e);

    for (size_t i = 0; rc == 0 && i < args.images.count; i++)
        rc = remote_check_location(args.images.items[i], e);
    if (rc == 0)
        rc = remote_store(cli, args.images.items, args.images.count, false, &store, e);
    if (rc < 0)
        return rc;
    options.directory = args.directory;
    options.repository = args.repository;
    options.tags = args.tags.items;
    options.n_tags = args.tags.count;
    options.artifact = args.artifact;
    options.meta_key = args.meta_key;
    options.build = args.build && strcmp(args.build, "latest") == 0 ? NULL : args.build;
    options.arches = args.arches.items;
    options.n_arches = args.arches.count;
    options.images = args.images.items;
    options.n_images = args.images.count;
    options.digest_file = args.digest_file;
    options.v2s2 = args.v2s2;
    options.force = args.force;
    options.dry_run = args.dry_run;
    options.no_clobber = args.no_clobber;
    options.verify = args.verify;
    options.jobs = remote_jobs(cli, args.jobs);
    options.registry = &remote.options;
    options.observer = &cli->observer;
    options.line = print_line;
    options.line_arg = cli;
    return larder_cosa_push(store, &options, ret, e);
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_publish_result result = {.n_tags = 0};
    const char *problem = usage_problem();
    int rc;

    (void)argc;
    (void)argv;
    if (problem)
        return cli_usage(cli, "cosa push-container-manifest", "%s", problem);
    rc = push(cli, &result, &e);
    if (rc == 0) {
        publishing_say(cli, args.repository, &result, args.dry_run);
        if (globals.json)
            publishing_json(args.repository, &result, args.dry_run);
    }
    larder_publish_result_done(&result);
    if (rc == 0)
        return 0;
    cli_fail(cli, &e);
    /* The original has 0, 1 and 2 only. */
    return rc == -LARDER_CANCELED ? cli_status(rc) : EXIT_FAILED;
}

const struct command command_cosa_push_container_manifest = {
    .name = "cosa push-container-manifest",
    .group = COMMAND_GROUP_REGISTRIES,
    .summary = "publish the containers of a build",
    .about = "Pushes a manifest list of the images of a coreos-assembler build, one for each "
             "architecture, and writes what was pushed into each meta.json. May be run again "
             "after a failure at any point; when the registry has everything, only what is "
             "missing in meta.json is written. Also runs under the name "
             "cmd-push-container-manifest.",
    .usage = "",
    .opts = OPT_SET(opts),
    .n_foreign = FOREIGN_OPTIONS,
    .run = run,
};
