/* SPDX-License-Identifier: Apache-2.0 */
/* larder delete: tags and manifests. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/remote.h"

static struct {
    bool tag_only;
    bool dry_run;
    struct remote_args remote;
} args;

static const struct opt opts[] = {
    OPT_FLAG(0, "tag-only", &args.tag_only,
             "fail where the registry cannot delete a tag and leave its manifest"),
    OPT_FLAG('n', "dry-run", &args.dry_run, "say what would be deleted, delete nothing"),
    REMOTE_OPTS(&args.remote),
    REMOTE_RETRY_OPT(&args.remote),
};

static void print(struct cli *cli, const char *location, const char *what,
                  const struct larder_digest *digest)
{
    struct doc doc = DOC_INIT;

    cli_say(cli, false, "%s: %s %s", location, args.dry_run ? "would delete the" : "deleted the",
            what);
    if (!globals.json)
        return;
    doc_object(&doc, NULL);
    doc_text(&doc, "location", location);
    doc_text(&doc, "deleted", what);
    doc_digest(&doc, "digest", digest);
    doc_bool(&doc, "dry_run", args.dry_run);
    doc_end(&doc);
}

/* Without a name it is a registry's "latest", and of a layout the only manifest. */
static bool names_tag(const char *location)
{
    const char *colon = strchr(location, ':');

    return !strchr(location, '@') &&
           (remote_is_registry(location) || (colon && strchr(colon + 1, ':')));
}

/* Only asks whether it is there. */
static int rehearse(struct cli *cli, struct larder_store *store, const char *location,
                    const struct larder_registry_options *options, struct larder_error *e)
{
    struct larder_manifest manifest = {0};
    int rc = larder_manifest_get(store, location, NULL, options, &manifest, e);

    if (rc == 0)
        print(cli, location, names_tag(location) ? "tag" : "manifest", &manifest.digest);
    larder_manifest_done(&manifest);
    return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
    static const struct larder_digest none = {LARDER_DIGEST_NONE, {0}};
    struct larder_error e = LARDER_ERROR_INIT;
    struct remote remote CLEANUP(remote_done) = REMOTE_INIT;
    struct larder_store *store = NULL;
    enum larder_deleted deleted = LARDER_DELETED_TAG;
    int rc;

    (void)argc;
    if (remote_check_location(argv[0], &e) < 0 ||
        remote_fill(cli, "delete", NULL, &args.remote, &remote, &e) < 0 ||
        remote_store(cli, (const char *const *)argv, 1, false, &store, &e) < 0)
        return cli_fail(cli, &e);
    if (args.dry_run)
        rc = rehearse(cli, store, argv[0], &remote.options, &e);
    else
        rc = larder_image_delete(store, argv[0], args.tag_only, &remote.options, &deleted, &e);
    if (rc < 0)
        return cli_fail(cli, &e);
    if (!args.dry_run)
        print(cli, argv[0], deleted == LARDER_DELETED_TAG ? "tag" : "manifest", &none);
    return 0;
}

const struct command command_delete = {
    .name = "delete",
    .group = COMMAND_GROUP_REGISTRIES,
    .summary = "delete a tag or a manifest",
    .about = "Deletes what the location names: with a digest the manifest, with a tag the tag "
             "alone. Registries that cannot delete a tag alone are asked to delete the manifest "
             "it points to, as skopeo does; every other tag of it goes then, too.",
    .usage = "LOCATION",
    .min_words = 1,
    .max_words = 1,
    .words = COMMAND_WORDS_LOCATION,
    .opts = OPT_SET(opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(6) | COMMAND_EXIT(8),
    .run = run,
};
