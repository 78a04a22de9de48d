/* SPDX-License-Identifier: Apache-2.0 */
/* larder copy: images between registries, layouts, archives and the store. */
#include <stdio.h>
#include <string.h>

#include <larder/copy.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/remote.h"

static struct {
    struct opt_list platforms;
    bool all;
    bool preserve_digests;
    bool remove_signatures;
    bool referrers;
    const char *digest_file;
    int jobs;
    bool force;
    bool dry_run;
    struct remote_args both, source, destination;
} args;

static const struct opt opts[] = {
    OPT_LIST(0, "platform", &args.platforms, "OS/ARCH",
             "copy this member of an index only (linux/arm64); with several a smaller index is "
             "made; default: everything, unchanged"),
    OPT_FLAG('a', "all", &args.all, "no effect: whole indexes are copied anyway"),
    OPT_FLAG(0, "preserve-digests", &args.preserve_digests,
             "no effect: manifests are never changed"),
    OPT_FLAG(0, "remove-signatures", &args.remove_signatures,
             "no effect: signatures are copied with --referrers only"),
    OPT_FLAG(0, "referrers", &args.referrers,
             "copy what refers to the image, too: signatures, SBOMs, attestations"),
    OPT_PATH(0, "digestfile", &args.digest_file, "FILE",
             "write the digest into FILE, without a newline"),
    REMOTE_JOBS_OPT(&args.jobs),
    OPT_FLAG('f', "force", &args.force, "put the manifests even where nothing changed"),
    OPT_FLAG('n', "dry-run", &args.dry_run, "say what would be copied, copy nothing"),
    REMOTE_OPTS(&args.both),
    REMOTE_RETRY_OPT(&args.both),
    REMOTE_SIDE_OPTS("src-", &args.source, "source"),
    REMOTE_SIDE_OPTS("dest-", &args.destination, "destinations"),
};

static void print_json(const struct larder_copy_result *result, int argc, char **argv)
{
    struct doc doc = DOC_INIT;

    doc_object(&doc, NULL);
    doc_text(&doc, "source", argv[0]);
    doc_array(&doc, "destinations");
    for (int i = 1; i < argc; i++)
        doc_text(&doc, NULL, argv[i]);
    doc_end(&doc);
    doc_digest(&doc, "digest", &result->digest);
    doc_text(&doc, "media_type", result->media_type);
    doc_bool(&doc, "was_there", result->was_there);
    doc_bool(&doc, "dry_run", args.dry_run);
    doc_number(&doc, "blobs_copied", result->blobs_copied);
    doc_number(&doc, "blobs_existed", result->blobs_existed);
    doc_number(&doc, "blobs_mounted", result->blobs_mounted);
    doc_number(&doc, "manifests_put", result->manifests_put);
    doc_number(&doc, "bytes_copied", result->bytes_copied);
    doc_number(&doc, "requests", result->requests);
    doc_end(&doc);
}

static void say(struct cli *cli, const struct larder_copy_result *result, const char *source)
{
    char size[32];

    if (result->was_there) {
        cli_say(cli, false, "%s: is there already, nothing %s sent", source,
                args.dry_run ? "would be" : "was");
        return;
    }
    cli_say(cli, false, "%s: %s %llu blob%s (%s), %llu existed, %llu mounted; %llu manifest%s put",
            source, args.dry_run ? "would copy" : "copied",
            (unsigned long long)result->blobs_copied, result->blobs_copied == 1 ? "" : "s",
            size_format(result->bytes_copied, size), (unsigned long long)result->blobs_existed,
            (unsigned long long)result->blobs_mounted, (unsigned long long)result->manifests_put,
            result->manifests_put == 1 ? "" : "s");
}

/* It is what was asked for, digests and all; but who reads it next may not be larder. */
static void warn_of_docker(struct cli *cli, const char *media_type, int argc, char **argv)
{
    static const char docker[] = "application/vnd.docker.";

    if (strncmp(media_type, docker, strlen(docker)) != 0)
        return;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "oci:", 4) == 0 || strncmp(argv[i], "oci-archive:", 12) == 0)
            cli_say(cli, true,
                    "%s: Docker's schema 2, which skopeo, podman and umoci do not look for in a "
                    "layout",
                    argv[i]);
    }
}

static int copy(struct cli *cli, int argc, char **argv, struct larder_copy_result *ret,
                struct larder_error *e)
{
    struct larder_copy_options options = LARDER_COPY_OPTIONS_INIT;
    struct remote source CLEANUP(remote_done) = REMOTE_INIT;
    struct remote destination CLEANUP(remote_done) = REMOTE_INIT;
    struct larder_store *store = NULL;
    int rc = 0;

    for (int i = 0; rc == 0 && i < argc; i++)
        rc = remote_check_location(argv[i], e);
    if (rc == 0)
        rc = remote_fill(cli, "copy", &args.source, &args.both, &source, e);
    if (rc == 0)
        rc = remote_fill(cli, "copy", &args.destination, &args.both, &destination, e);
    if (rc == 0)
        rc = remote_store(cli, (const char *const *)argv, (size_t)argc, !args.dry_run, &store, e);
    if (rc < 0)
        return rc;
    options.source = argv[0];
    options.destinations = (const char *const *)argv + 1;
    options.n_destinations = (size_t)argc - 1;
    options.platforms = args.platforms.items;
    options.n_platforms = args.platforms.count;
    options.has_referrers = args.referrers;
    options.force = args.force;
    options.dry_run = args.dry_run;
    options.jobs = remote_jobs(cli, args.jobs);
    options.source_options = &source.options;
    options.destination_options = &destination.options;
    options.observer = &cli->observer;
    return larder_copy(store, &options, ret, e);
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_copy_result result = {.size = sizeof(result)};
    char digest[LARDER_DIGEST_TEXT_BYTES];

    if (copy(cli, argc, argv, &result, &e) < 0)
        return cli_fail(cli, &e);
    larder_digest_format(&result.digest, digest);
    if (args.digest_file && !args.dry_run && remote_write_file(args.digest_file, digest, &e) < 0)
        return cli_fail(cli, &e);
    say(cli, &result, argv[0]);
    warn_of_docker(cli, result.media_type, argc, argv);
    if (globals.json)
        print_json(&result, argc, argv);
    else
        puts(digest);
    return 0;
}

const struct command command_copy = {
    .name = "copy",
    .group = COMMAND_GROUP_REGISTRIES,
    .summary = "copy images between registries, layouts and the store",
    .about = "Copies an image or a whole index, unchanged, to every destination and prints its "
             "digest. Every blob is checked on its way; what a destination has is not sent, what "
             "another repository of its registry has is mounted, and tags come last. Where all "
             "destinations have it already, one question each is all that is asked. Places are "
             "written docker://HOST/NAME:TAG, oci:DIR:REF, oci-archive:FILE:REF and store:NAME.",
    .usage = "SOURCE DESTINATION...",
    .min_words = 2,
    .max_words = COMMAND_ANY_WORDS,
    .words = COMMAND_WORDS_LOCATION,
    .opts = OPT_SET(opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(5) | COMMAND_EXIT(6) | COMMAND_EXIT(8),
    .run = run,
};
