/* SPDX-License-Identifier: Apache-2.0 */
/* larder update fetch: exactly what was found. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/update/update.h"

/* A command with two paths in it. */
#define COMMAND_BYTES_MAX (64 * 1024)

static struct {
    const char *to;
    bool or_newer;
    bool partial;
    bool dry_run;
    int jobs;
    struct update_args update;
    struct remote_args remote;
} args;

static const struct opt opts[] = {
    OPT_STRING(0, "to", &args.to, "LOCATION",
               "where the image goes: store:NAME or oci:DIR[:REF]; default: the base's name in "
               "the store, with ostree that of REF"),
    OPT_FLAG(0, "or-newer", &args.or_newer,
             "when the image that was found is gone: check again, and fetch what is there now"),
    OPT_FLAG(0, "partial", &args.partial,
             "with ostree and an oci: location: leave out the layers that the repository has, "
             "which its import does not ask for"),
    OPT_FLAG('n', "dry-run", &args.dry_run,
             "ask whether it is there and say what would be fetched; writes nothing"),
    REMOTE_JOBS_OPT(&args.jobs),
    UPDATE_OPTS(&args.update),
    REMOTE_OPTS(&args.remote),
    REMOTE_RETRY_OPT(&args.remote),
};

/* The commands that take over a layout: ostree's, and bootc's on a machine of it. */
struct imports {
    struct buf ostree;
    struct buf bootc;
};
#define IMPORTS_INIT                                             \
    {                                                            \
        BUF_INIT(COMMAND_BYTES_MAX), BUF_INIT(COMMAND_BYTES_MAX) \
    }

static void imports_done(struct imports *imports)
{
    buf_done(&imports->ostree);
    buf_done(&imports->bootc);
}

/* A word of a shell command, quoted where it has to be. */
static void add_word(struct buf *out, const char *word)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-:@%+=,";

    buf_putc(out, ' ');
    if (*word && word[strspn(word, plain)] == 0) {
        buf_puts(out, word);
        return;
    }
    buf_putc(out, '\'');
    for (; *word; word++) {
        if (*word == '\'')
            buf_puts(out, "'\\''");
        else
            buf_putc(out, *word);
    }
    buf_putc(out, '\'');
}

/* Where the repository is, whatever directory the command is run in later. */
static int add_repository(struct buf *out, const struct larder_update_options *options,
                          struct larder_error *e)
{
    char *path CLEANUP_FREE = NULL;
    char *real CLEANUP_FREE = NULL;

    if (asprintf(&path, "%s%s", options->ostree_repo ? options->ostree_repo : options->sysroot,
                 options->ostree_repo ? "" : "/ostree/repo") < 0) {
        path = NULL;
        return error_nomem(e);
    }
    real = realpath(path, NULL);
    add_word(out, real ? real : path);
    return 0;
}

/* "DIR:REF" of a layout, whole. */
static int add_layout(struct buf *out, const char *location, struct larder_error *e)
{
    char *here CLEANUP_FREE = NULL;
    const char *layout = location + strlen("oci:");

    if (layout[0] != '/') {
        here = get_current_dir_name();
        if (!here)
            return error_errno(e, errno, "current directory");
        buf_printf(out, "%s/", here);
    }
    buf_puts(out, layout);
    return buf_failed(out, e);
}

/* Readers of layouts expect OCI's types, and the image's own are not changed. */
static bool is_docker(const char *location)
{
    struct larder_manifest manifest = {.media_type = NULL};
    bool is_docker = false;

    if (larder_manifest_get(NULL, location, NULL, NULL, &manifest, NULL) == 0) {
        is_docker = strstr(manifest.media_type, "vnd.docker.") != NULL;
        larder_manifest_done(&manifest);
    }
    return is_docker;
}

/* Nothing for an image that neither program reads: one in the store, or with Docker's types. */
static int imports_fill(const struct larder_update_options *options, const char *location,
                        struct imports *ret, struct larder_error *e)
{
    struct buf layout = BUF_INIT(COMMAND_BYTES_MAX);
    struct buf image = BUF_INIT(COMMAND_BYTES_MAX);
    int rc;

    if (!update_is_ostree(options) || strncmp(location, "oci:", 4) != 0 || is_docker(location))
        return 0;
    rc = add_layout(&layout, location, e);
    buf_printf(&image, "ostree-unverified-image:oci:%s", layout.p ? layout.p : "");
    if (rc == 0)
        rc = buf_failed(&image, e);
    buf_puts(&ret->ostree, "ostree container image pull");
    if (rc == 0)
        rc = add_repository(&ret->ostree, options, e);
    if (rc == 0)
        add_word(&ret->ostree, image.p ? image.p : "");
    if (rc == 0 && options->sysroot) {
        buf_puts(&ret->bootc, "bootc switch --transport oci");
        add_word(&ret->bootc, layout.p ? layout.p : "");
    }
    buf_done(&image);
    buf_done(&layout);
    if (rc == 0)
        rc = buf_failed(&ret->ostree, e);
    return rc < 0 ? rc : buf_failed(&ret->bootc, e);
}

/* What to do next where no command of ostree or bootc takes it as it is; nothing where it is in the
 * repository already. */
static void advise(struct cli *cli, const char *location)
{
    if (strncmp(location, "store:", 6) == 0)
        cli_say(cli, false,
                "ostree and bootc import layouts: `larder copy %s oci:DIR:REF` makes one",
                location);
    else if (strncmp(location, "oci:", 4) == 0)
        cli_say(cli, false,
                "ostree and bootc read no layout of an image with Docker's types: have them pull "
                "NAME@DIGEST from the registry");
}

static void print_json(const char *ref, const struct larder_update_fetched *fetched,
                       const struct imports *imports)
{
    struct doc doc = DOC_INIT;

    doc_object(&doc, NULL);
    doc_text(&doc, "ref", ref);
    doc_digest(&doc, "digest", &fetched->digest);
    doc_text(&doc, "location", fetched->location);
    doc_bool(&doc, "was_there", fetched->was_there);
    doc_bool(&doc, "is_newer", fetched->is_newer);
    doc_bool(&doc, "is_partial", fetched->is_partial);
    doc_bool(&doc, "dry_run", args.dry_run);
    doc_number(&doc, "layers_fetched", fetched->layers_fetched);
    doc_number(&doc, "bytes_fetched", fetched->bytes_fetched);
    doc_number(&doc, "layers_here", fetched->layers_here);
    doc_number(&doc, "bytes_here", fetched->bytes_here);
    doc_number(&doc, "layers_unpacked", fetched->layers_unpacked);
    doc_number(&doc, "bytes_resumed", fetched->bytes_resumed);
    doc_number(&doc, "requests", fetched->requests);
    doc_array(&doc, "imports");
    if (imports->ostree.n)
        doc_text(&doc, NULL, imports->ostree.p);
    if (imports->bootc.n)
        doc_text(&doc, NULL, imports->bootc.p);
    doc_end(&doc);
    doc_end(&doc);
}

static void put_line(const char *title, const char *text)
{
    fputs(title, stdout);
    put_text(stdout, text);
    putchar('\n');
}

static void print_text(const struct larder_update_fetched *fetched, const struct imports *imports)
{
    char digest[LARDER_DIGEST_TEXT_BYTES];

    put_line("Image: ", fetched->location);
    put_line("Digest: ", larder_digest_format(&fetched->digest, digest));
    if (imports->ostree.n)
        put_line("Import: ", imports->ostree.p);
    if (imports->bootc.n)
        put_line("Switch: ", imports->bootc.p);
}

static void say(struct cli *cli, const struct larder_update_fetched *fetched)
{
    char size[32];
    char here[32];
    char resumed[64] = "";
    char unpacked[64] = "";

    if (fetched->is_newer)
        cli_say(cli, false, "what was found is gone, this is a newer one");
    if (fetched->was_there) {
        cli_say(cli, false, "is there already, nothing %s fetched",
                args.dry_run ? "would be" : "was");
        return;
    }
    if (fetched->bytes_resumed)
        snprintf(resumed, sizeof(resumed), ", %s of them earlier",
                 size_format_si(fetched->bytes_resumed, size));
    if (fetched->layers_unpacked)
        snprintf(unpacked, sizeof(unpacked), ", %llu made from others of the same diff id",
                 (unsigned long long)fetched->layers_unpacked);
    cli_say(cli, false, "%s %llu layer%s (%s%s), %llu (%s) were here%s%s",
            args.dry_run ? "would fetch" : "fetched", (unsigned long long)fetched->layers_fetched,
            fetched->layers_fetched == 1 ? "" : "s", size_format_si(fetched->bytes_fetched, size),
            resumed, (unsigned long long)fetched->layers_here,
            size_format_si(fetched->bytes_here, here), unpacked,
            fetched->is_partial ? "; layers of the repository were left out" : "");
}

static int partial_refused(struct larder_error *e)
{
    return error_set(e, LARDER_INVAL,
                     "update fetch: found --partial, which is for an ostree repository with --to "
                     "oci:DIR");
}

static int fetch(struct cli *cli, const char *ref, struct update_call *call,
                 struct larder_update_fetched *ret, struct larder_error *e)
{
    struct larder_update_fetch_options fetch = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    bool is_layout = args.to && strncmp(args.to, "oci:", 4) == 0;
    int rc;

    if (args.to && !is_layout && strncmp(args.to, "store:", 6) != 0) {
        error_set(e, LARDER_INVAL,
                  "update fetch: option --to: found '%s', expected store:NAME or "
                  "oci:DIR[:REF]",
                  args.to);
        return error_hint(e, "`larder help update fetch` says how it is used");
    }
    if (args.partial && !is_layout)
        return partial_refused(e);
    rc = update_call_fill(cli, "update fetch", ref, &args.update, &args.remote,
                          args.dry_run ? UPDATE_STORE_READ
                          : is_layout  ? UPDATE_STORE_HOLD
                                       : UPDATE_STORE_FILL,
                          call, e);
    if (rc == 0 && args.partial && !update_is_ostree(&call->options))
        rc = partial_refused(e);
    if (rc < 0)
        return rc;
    fetch.to = args.to;
    fetch.or_newer = args.or_newer;
    fetch.is_partial = args.partial;
    fetch.dry_run = args.dry_run;
    fetch.jobs = remote_jobs(cli, args.jobs);
    return larder_update_fetch(call->store, call->ref, &call->options, &fetch, ret, e);
}

static int run_fetch(struct cli *cli, int argc, char **argv)
{
    struct update_call call CLEANUP(update_call_done) = UPDATE_CALL_INIT;
    struct imports imports CLEANUP(imports_done) = IMPORTS_INIT;
    struct larder_update_fetched fetched = {.size = sizeof(fetched)};
    struct larder_error e = LARDER_ERROR_INIT;
    char *ref CLEANUP_FREE = NULL;
    int rc = fetch(cli, argc ? argv[0] : NULL, &call, &fetched, &e);

    if (rc < 0)
        return cli_fail(cli, &e);
    rc = larder_update_ref(call.ref, &call.options, &ref, &e);
    if (rc == 0)
        rc = imports_fill(&call.options, fetched.location, &imports, &e);
    if (rc == 0) {
        say(cli, &fetched);
        if (update_is_ostree(&call.options) && !imports.ostree.n)
            advise(cli, fetched.location);
        if (globals.json)
            print_json(ref, &fetched, &imports);
        else
            print_text(&fetched, &imports);
    }
    larder_update_fetched_done(&fetched);
    return rc < 0 ? cli_fail(cli, &e) : 0;
}

const struct command command_update_fetch = {
    .name = "update fetch",
    .group = COMMAND_GROUP_UPDATES,
    .summary = "fetch exactly the update that was found",
    .about = "Fetches the recorded image by its digest, never by its tag, checks all of it, and "
             "prints where it is, its digest and, with ostree, the command that imports it. "
             "Layers that the destination or the store has are not fetched again, and an "
             "uncompressed one is unpacked from a compressed one of the same content; an "
             "interrupted fetch is taken up where it ended. When the registry has the image no "
             "more, that is status 6, and nothing else is fetched instead; when somebody moved "
             "the destination's name meanwhile, it stays, which is status 7.",
    .usage = "[REF]",
    .max_words = 1,
    .words = COMMAND_WORDS_LOCATION,
    .opts = OPT_SET(opts),
    .exits =
        COMMAND_EXIT(3) | COMMAND_EXIT(5) | COMMAND_EXIT(6) | COMMAND_EXIT(7) | COMMAND_EXIT(8),
    .run = run_fetch,
};
