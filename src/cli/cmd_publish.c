/* SPDX-License-Identifier: Apache-2.0 */
/* larder publish: one multi-arch image from several, under tags. */
#include <stdio.h>
#include <stdlib.h>

#include <larder/publish.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/publishing.h"
#include "cli/remote.h"

static struct {
    const char *repository;
    struct opt_list tags;
    bool append;
    bool v2s2;
    bool force;
    bool no_clobber;
    bool dry_run;
    const char *digest_file;
    int jobs;
    struct remote_args remote;
} args;

static const struct opt opts[] = {
    OPT_STRING('r', "repo", &args.repository, "REPOSITORY",
               "where to publish: HOST/NAME, or a layout as oci:DIR; required"),
    OPT_LIST('t', "tag", &args.tags, "TAG",
             "tag that is to point to the index; may be given again; required"),
    OPT_FLAG(0, "append", &args.append,
             "keep the members of other platforms that the tags have now: for runners that each "
             "publish one architecture"),
    OPT_FLAG(0, "v2s2", &args.v2s2, "make Docker schema 2 manifests and a manifest list of it"),
    OPT_FLAG('f', "force", &args.force, "put manifests and tags whatever is there"),
    OPT_FLAG(0, "no-clobber", &args.no_clobber,
             "fail when a tag exists and points to something else"),
    OPT_FLAG('n', "dry-run", &args.dry_run, "say what would be done and why, do nothing"),
    OPT_PATH(0, "write-digest-to-file", &args.digest_file, "FILE",
             "write the digest of the index into FILE, without a newline"),
    REMOTE_JOBS_OPT(&args.jobs),
    REMOTE_OPTS(&args.remote),
    REMOTE_RETRY_OPT(&args.remote),
};

static int publish(struct cli *cli, int argc, char **argv, struct larder_publish_result *ret,
                   struct larder_error *e)
{
    struct larder_publish_options options = LARDER_PUBLISH_OPTIONS_INIT;
    struct remote remote CLEANUP(remote_done) = REMOTE_INIT;
    struct larder_store *store = NULL;
    int rc = 0;

    for (int i = 0; rc == 0 && i < argc; i++)
        rc = remote_check_location(argv[i], e);
    if (rc == 0)
        rc = remote_fill(cli, "publish", NULL, &args.remote, &remote, e);
    if (rc == 0)
        rc = remote_store(cli, (const char *const *)argv, (size_t)argc, false, &store, e);
    if (rc < 0)
        return rc;
    options.repository = args.repository;
    options.tags = args.tags.items;
    options.n_tags = args.tags.count;
    options.images = (const char *const *)argv;
    options.n_images = (size_t)argc;
    options.append = args.append;
    options.v2s2 = args.v2s2;
    options.force = args.force;
    options.dry_run = args.dry_run;
    options.no_clobber = args.no_clobber;
    options.jobs = remote_jobs(cli, args.jobs);
    options.registry = &remote.options;
    options.observer = &cli->observer;
    return larder_publish(store, &options, ret, e);
}

static int finish(struct cli *cli, const struct larder_publish_result *result,
                  struct larder_error *e)
{
    char digest[LARDER_DIGEST_TEXT_BYTES];

    larder_digest_format(&result->digest, digest);
    if (args.digest_file && !args.dry_run && remote_write_file(args.digest_file, digest, e) < 0)
        return -(int)e->code;
    publishing_say(cli, args.repository, result, args.dry_run);
    if (globals.json)
        publishing_json(args.repository, result, args.dry_run);
    else
        puts(digest);
    return 0;
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_publish_result result = {.n_tags = 0};
    int rc;

    if (!args.repository || args.tags.count == 0)
        return cli_usage(cli, "publish", "found no --%s, expected --repo REPOSITORY --tag TAG",
                         args.repository ? "tag" : "repo");
    if (args.force && args.no_clobber)
        return cli_usage(cli, "publish", "found --force and --no-clobber, expected one of them");
    rc = publish(cli, argc, argv, &result, &e);
    if (rc == 0)
        rc = finish(cli, &result, &e);
    larder_publish_result_done(&result);
    return rc < 0 ? cli_fail(cli, &e) : 0;
}

const struct command command_publish = {
    .name = "publish",
    .group = COMMAND_GROUP_REGISTRIES,
    .summary = "publish a multi-arch image, again and again",
    .about = "Makes one index of the images and points the tags to it, and prints its digest. "
             "The same images make the same bytes, and only what differs is done, so that a job "
             "may be run again after a failure at any point. A tag never points to an index that "
             "is not complete.",
    .usage = "IMAGE...",
    .min_words = 1,
    .max_words = COMMAND_ANY_WORDS,
    .words = COMMAND_WORDS_LOCATION,
    .opts = OPT_SET(opts),
    .exits =
        COMMAND_EXIT(3) | COMMAND_EXIT(4) | COMMAND_EXIT(5) | COMMAND_EXIT(6) | COMMAND_EXIT(8),
    .run = run,
};
