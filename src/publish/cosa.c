/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `cosa push-container-manifest`: images of a coreos-assembler build become a manifest list, and
 * meta.json of each architecture tells where it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <larder/publish.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "base/hash_many.h"
#include "publish/cosa_build.h"
#include "publish/meta_json.h"
#include "publish/plan.h"

/* What the original says; scripts look for it. */
#define LINE_SAME "Remote already matches desired state; skipping push. Use --force to override."

struct cosa {
    const struct larder_cosa_options *options;
    struct cosa_query query;
    struct cosa_build *build; /* NULL with images */
    char **locations;         /* "oci-archive:FILE", one for each architecture */
    struct plan plan;
    const char *repository; /* as it is recorded */
    size_t bad_arch;        /* whose archive has another checksum; n_arches: none */
};

static void cosa_done(struct cosa *cosa)
{
    plan_done(&cosa->plan);
    for (size_t i = 0; cosa->locations && i < cosa->build->n_arches; i++)
        free(cosa->locations[i]);
    free(cosa->locations);
    cosa_build_free(cosa->build);
}

/* ---- checksums of whole archives ---- */

static int open_archive(struct hash_job *job, struct larder_error *e)
{
    const struct cosa_arch *arch = job->arg;
    job->fd = open(arch->file, O_RDONLY | O_CLOEXEC);
    return job->fd < 0 ? error_errno(e, errno, "%s", arch->file) : 0;
}

static void close_archive(struct hash_job *job)
{
    close(job->fd);
}

static bool is_needed(const struct cosa *cosa, size_t i)
{
    return cosa->options->verify || cosa->options->force || !cosa->plan.images[i].is_there;
}

/* Runs beside the uploads, in a thread of its own: changes nothing but bad_arch. */
static int check_archives(void *arg, struct larder_error *e)
{
    struct cosa *cosa = arg;
    const struct hash_many_options options = {.threads = 1,
                                              .keep_cache = true,
                                              .observer = relay_observer(cosa->plan.relay),
                                              .what = "verify"};
    CLEANUP_FREE struct hash_job *jobs = calloc(cosa->build->n_arches + 1, sizeof(*jobs));
    size_t n = 0;
    if (!jobs)
        return error_nomem(e);
    for (size_t i = 0; i < cosa->build->n_arches; i++) {
        struct cosa_arch *arch = &cosa->build->arches[i];
        if (is_needed(cosa, i))
            jobs[n++] = (struct hash_job){.fd = -1,
                                          .open = open_archive,
                                          .close = close_archive,
                                          .alg_bits = HASH_BIT(LARDER_DIGEST_SHA256),
                                          .object = arch->file,
                                          .arg = arch};
    }
    int r = hash_many(jobs, n, &options, e);
    for (size_t i = 0; r == 0 && i < n; i++) {
        const struct cosa_arch *arch = jobs[i].arg;
        char has[LARDER_DIGEST_TEXT_BYTES], wanted[LARDER_DIGEST_TEXT_BYTES];
        if (jobs[i].result < 0) {
            if (e)
                *e = jobs[i].error;
            return jobs[i].result;
        }
        if (larder_digest_equal(&jobs[i].digests[LARDER_DIGEST_SHA256], &arch->sha256))
            continue;
        cosa->bad_arch = (size_t)(arch - cosa->build->arches);
        r = error_set(e, LARDER_CORRUPT, "%s: checksum %s, expected %s", arch->file,
                      larder_digest_hex(&jobs[i].digests[LARDER_DIGEST_SHA256], has),
                      larder_digest_hex(&arch->sha256, wanted));
    }
    return r;
}

/* ---- what is recorded ---- */

static struct meta_place place_of(const struct cosa *cosa, const struct cosa_arch *arch)
{
    return (struct meta_place){arch->directory, arch->path, cosa->options->meta_key,
                               cosa->query.observer};
}

static struct meta_record record_of(const struct cosa *cosa, size_t i)
{
    return (struct meta_record){.repository = cosa->repository,
                                .digest = cosa->plan.images[i].digest,
                                .list_digest = cosa->plan.goal.digest,
                                .tags = cosa->options->tags,
                                .n_tags = cosa->options->n_tags};
}

static bool is_recorded(const struct cosa *cosa)
{
    for (size_t i = 0; i < cosa->build->n_arches; i++) {
        const struct meta_record record = record_of(cosa, i);
        if (meta_state_of(cosa->build->arches[i].meta, cosa->options->meta_key, &record) !=
            META_EQUAL)
            return false;
    }
    return true;
}

/* Which tags this build was pushed to before: one that has moved since is not moved back. */
static void find_recorded(struct cosa *cosa)
{
    for (size_t t = 0; t < cosa->plan.n_tags; t++) {
        struct plan_tag *tag = &cosa->plan.tags[t];
        tag->is_build = strstr(tag->name, cosa->build->id) != NULL;
        tag->is_recorded = true;
        for (size_t i = 0; i < cosa->build->n_arches; i++)
            tag->is_recorded =
                tag->is_recorded &&
                meta_has_tag(cosa->build->arches[i].meta, cosa->options->meta_key, cosa->repository,
                             &cosa->plan.images[i].digest, tag->name);
    }
}

static int write_records(struct cosa *cosa, struct larder_error *e)
{
    for (size_t i = 0; i < cosa->build->n_arches; i++) {
        const struct cosa_arch *arch = &cosa->build->arches[i];
        const struct meta_place place = place_of(cosa, arch);
        const struct meta_record record = record_of(cosa, i);
        int r = meta_json_save(&place, arch->meta, &record, e);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Without a newline: it is pasted behind "NAME@". */
static int write_digest_file(const char *path, const struct larder_digest *digest,
                             struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct stat st;
    larder_digest_format(digest, text);
    if (stat(path, &st) != 0 || S_ISREG(st.st_mode))
        return file_write_atomic(AT_FDCWD, path, text, strlen(text), 0644, e);
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0 || fd_write_full(fd, text, strlen(text)) < 0)
        return error_errno(e, errno, "%s", path);
    return 0;
}

/* ---- setting up ---- */

static int fill_tags(struct plan *plan, const struct larder_cosa_options *options,
                     struct larder_error *e)
{
    plan->tags = calloc(options->n_tags + 1, sizeof(*plan->tags));
    if (!plan->tags)
        return error_nomem(e);
    for (size_t i = 0; i < options->n_tags; i++)
        plan->tags[plan->n_tags++].name = options->tags[i];
    return 0;
}

static int fill_images(struct plan *plan, const struct larder_cosa_options *options,
                       struct larder_error *e)
{
    plan->images = calloc(options->n_images + 1, sizeof(*plan->images));
    if (!plan->images)
        return error_nomem(e);
    for (size_t i = 0; i < options->n_images; i++)
        plan->images[plan->n_images++].where = options->images[i];
    return 0;
}

static int fill_arches(struct cosa *cosa, struct larder_error *e)
{
    size_t n = cosa->build->n_arches;
    struct plan *plan = &cosa->plan;
    plan->images = calloc(n + 1, sizeof(*plan->images));
    cosa->locations = calloc(n + 1, sizeof(char *));
    if (!plan->images || !cosa->locations)
        return error_nomem(e);
    for (size_t i = 0; i < n; i++) {
        const struct cosa_arch *arch = &cosa->build->arches[i];
        if (asprintf(&cosa->locations[i], "oci-archive:%s", arch->file) < 0) {
            cosa->locations[i] = NULL;
            return error_nomem(e);
        }
        struct plan_image *image = &plan->images[plan->n_images++];
        image->where = cosa->locations[i];
        image->hint = arch->manifest;
        image->hint_file = arch->manifest_file;
        image->hint_arch = arch->name;
    }
    return 0;
}

static int check_options(const struct larder_cosa_options *options, struct larder_error *e)
{
    if (options->size < sizeof(*options) || !options->repository || options->n_tags == 0)
        return error_set(e, LARDER_INVAL, "cosa options: repository and tag are needed");
    if ((options->n_images > 0) == (options->artifact != NULL))
        return error_set(e, LARDER_INVAL, "cosa options: either images or an artifact");
    if (options->artifact && (!options->meta_key || !*options->meta_key))
        return error_set(e, LARDER_INVAL, "cosa options: an artifact needs the key of meta.json");
    if (options->force && options->no_clobber)
        return error_set(e, LARDER_INVAL, "cosa options: force and no_clobber exclude each other");
    return 0;
}

static int set_up(struct cosa *cosa, struct larder_error *e)
{
    const struct larder_cosa_options *options = cosa->options;
    int r = fill_tags(&cosa->plan, options, e);
    if (r < 0)
        return r;
    if (!options->artifact)
        return fill_images(&cosa->plan, options, e);
    r = cosa_build_open(&cosa->query, &cosa->build, e);
    if (r < 0)
        return r;
    cosa->bad_arch = cosa->build->n_arches;
    cosa->plan.rules.is_subset = cosa->build->is_subset;
    cosa->plan.check = check_archives;
    cosa->plan.check_arg = cosa;
    return fill_arches(cosa, e);
}

/*
 * What this build was pushed to before, on the same registry: a second repository gets its blobs
 * from there, where the registry allows that, not once more from here.
 */
static int find_sibling(const struct cosa *cosa, size_t i, struct larder_error *e)
{
    const struct oci_reference *target = &cosa->plan.target_location.reference;
    const char *text;
    for (size_t n = 0;
         (text = meta_repository(cosa->build->arches[i].meta, cosa->options->meta_key, n)) != NULL;
         n++) {
        struct oci_reference other = {0};
        int r = oci_reference_parse(text, &other, NULL);
        if (r == -LARDER_NOMEM)
            return error_nomem(e);
        bool is_sibling = r == 0 && strcmp(other.host, target->host) == 0 &&
                          strcmp(other.name, target->name) != 0;
        if (is_sibling)
            cosa->plan.images[i].mount_from = TAKE_PTR(other.name);
        oci_reference_done(&other);
        if (is_sibling)
            return 0;
    }
    return 0;
}

static int find_siblings(const struct cosa *cosa, struct larder_error *e)
{
    int r = 0;
    if (!cosa->build || cosa->plan.target_location.transport != OCI_TRANSPORT_DOCKER)
        return 0;
    for (size_t i = 0; r == 0 && i < cosa->build->n_arches; i++)
        r = find_sibling(cosa, i, e);
    return r;
}

/* ---- running ---- */

/* The original's words for what is wrong with files. */
static void tell_files(const struct cosa *cosa)
{
    for (size_t i = 0; cosa->build && i < cosa->build->n_arches; i++) {
        const char *file = cosa->build->arches[i].file;
        if (i == cosa->bad_arch)
            cosa_line(&cosa->query, "The file on disk %s has an incorrect checksum", file);
        else if (i < cosa->plan.n_images && !cosa->plan.images[i].from && access(file, F_OK) < 0 &&
                 errno == ENOENT)
            cosa_line(&cosa->query, "The file does not exist on disk: %s", file);
    }
}

static int push(struct cosa *cosa, struct larder_error *e)
{
    int r = plan_push(&cosa->plan, e);
    if (r < 0)
        return r;
    r = plan_verify(&cosa->plan, e);
    if (r == -LARDER_GONE)
        cosa_line(&cosa->query, "Can't inspect %s:%s even though we just pushed it?",
                  cosa->repository, cosa->options->tags[0]);
    return r;
}

/* A run that was killed right behind its last write is over, but for its lock. */
static void sweep(const struct cosa *cosa)
{
    for (size_t i = 0; i < cosa->build->n_arches; i++) {
        const struct meta_place place = place_of(cosa, &cosa->build->arches[i]);
        meta_json_sweep(&place);
    }
}

/* The digests are in meta.json only when somebody may pull by them. */
static int record(struct cosa *cosa, struct larder_publish_result *result, struct larder_error *e)
{
    if (!cosa->build)
        return 0;
    if (is_recorded(cosa)) {
        if (!cosa->options->dry_run)
            sweep(cosa);
        return 0;
    }
    if (result->action == LARDER_PUBLISH_NOTHING)
        result->action = LARDER_PUBLISH_RECORD;
    if (cosa->options->dry_run)
        return 0;
    int r = plan_has_puts(&cosa->plan) ? 0 : plan_verify(&cosa->plan, e);
    return r == 0 ? write_records(cosa, e) : r;
}

static int compare(struct cosa *cosa, struct larder_error *e)
{
    struct plan *plan = &cosa->plan;
    int r = 0;
    if (cosa->options->verify && cosa->build) {
        r = check_archives(cosa, e);
        plan->check = NULL;
    }
    if (r == 0)
        r = plan_compare(plan, e);
    if (r == 0 && cosa->build) {
        find_recorded(cosa);
        r = plan_judge(plan, e);
    }
    return r == 0 ? plan_refusal(plan, e) : r;
}

static int run(struct cosa *cosa, struct larder_publish_result *ret, struct larder_error *e)
{
    const struct larder_cosa_options *options = cosa->options;
    struct larder_publish_result result = {0};
    int r = compare(cosa, e);
    if (r < 0)
        return r;
    bool has_puts = plan_has_puts(&cosa->plan);
    if (!has_puts)
        cosa_line(&cosa->query, "%s", LINE_SAME);
    if (has_puts && !options->dry_run)
        r = push(cosa, e);
    if (r == 0)
        r = plan_result(&cosa->plan, &result, e);
    if (r == 0)
        r = record(cosa, &result, e);
    if (r == 0 && options->digest_file && !options->dry_run)
        r = write_digest_file(options->digest_file, &result.digest, e);
    if (r < 0) {
        larder_publish_result_done(&result);
        return r;
    }
    result.requests = plan_requests(&cosa->plan);
    *ret = result;
    return 0;
}

static const char *without_scheme(const char *repository)
{
    static const char scheme[] = "docker://";
    bool has = strncmp(repository, scheme, strlen(scheme)) == 0;
    return has ? repository + strlen(scheme) : repository;
}

int larder_cosa_push(struct larder_store *store, const struct larder_cosa_options *options,
                     struct larder_publish_result *ret, struct larder_error *e)
{
    static const struct larder_observer silent;
    int r = check_options(options, e);
    if (r < 0)
        return r;
    struct cosa cosa = {
        .options = options,
        .query = {.directory = options->directory,
                  .build = options->build,
                  .artifact = options->artifact,
                  .key = options->meta_key,
                  .arches = options->arches,
                  .n_arches = options->n_arches,
                  .observer = options->observer ? options->observer : &silent,
                  .line = options->line,
                  .line_arg = options->line_arg},
        .plan = {.handle = store,
                 .registry = options->registry,
                 .repository = options->repository,
                 .v2s2 = options->v2s2,
                 .jobs = options->jobs,
                 .rules = {.force = options->force, .no_clobber = options->no_clobber}},
        .repository = without_scheme(options->repository),
    };
    r = set_up(&cosa, e);
    if (r == 0)
        r = plan_open(&cosa.plan, options->observer, e);
    if (r == 0)
        r = find_siblings(&cosa, e);
    if (r == 0)
        r = run(&cosa, ret, e);
    if (r < 0)
        tell_files(&cosa);
    cosa_done(&cosa);
    return r;
}
