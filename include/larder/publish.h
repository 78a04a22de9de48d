/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Publishing multi-arch images so that it can be done twice: the desired state is computed first
 * (same inputs, same bytes), compared with what the registry has, and only what is missing is done.
 * A tag never points to an incomplete index; after a crash at any step a second run ends right.
 */
#include <larder/registry.h>

LARDER_BEGIN_DECLS

enum larder_publish_action {
    LARDER_PUBLISH_NOTHING, /* every tag is as desired */
    LARDER_PUBLISH_RECORD,  /* pushed already, only the record (meta.json) is missing */
    LARDER_PUBLISH_PUSH,
};
LARDER_API const char *larder_publish_action_name(enum larder_publish_action action);

struct larder_publish_options {
    size_t size;
    const char *repository; /* HOST/NAME, with or without "docker://"; or a layout "oci:DIR" */
    const char *const *tags;
    size_t n_tags;
    const char *const *images; /* locations, one image each (INVAL for an index: name a digest) */
    size_t n_images;
    /* Add the images to the list that each tag has now, sorted by platform; an image of the same
     * platform is replaced. Several hosts may do this at once: who lost a race merges again, so
     * that a push takes a quarter of a second longer. */
    bool append;
    bool v2s2;  /* Docker schema 2 manifests and manifest list */
    bool force; /* put manifests and tags whatever is there; not with no_clobber */
    bool dry_run;
    bool no_clobber; /* a tag that points to something else is an error (EXIST); with append: a
                        platform that has another image */
    unsigned jobs;
    const struct larder_registry_options *registry;
    const struct larder_observer *observer;
    void *reserved[4];
};
#define LARDER_PUBLISH_OPTIONS_INIT                                                              \
    {                                                                                            \
        sizeof(struct larder_publish_options), 0, 0, 0, 0, 0, false, false, false, false, false, \
            0, 0, 0,                                                                             \
        {                                                                                        \
            0, 0, 0, 0                                                                           \
        }                                                                                        \
    }

struct larder_publish_tag {
    char *tag;
    char *why;       /* what was there: "absent", "points to sha256:...", "as desired" */
    bool is_changed; /* by dry_run: would be */
};
struct larder_publish_image {
    char *platform;              /* "linux/amd64"; "" when nobody had to ask */
    struct larder_digest digest; /* of the manifest as it is in the repository */
};
struct larder_publish_result {
    enum larder_publish_action action;
    struct larder_digest digest; /* of the index */
    struct larder_publish_tag *tags;
    size_t n_tags;
    struct larder_publish_image *images;
    size_t n_images;
    uint64_t blobs_copied, blobs_existed, blobs_mounted;
    uint64_t bytes_copied;
    uint64_t requests;
};
/*
 * Makes every tag point to an index of the images, in their order. What is there already is found
 * by one request a tag; blobs and manifests are never sent twice. A tag whose list has exactly
 * these images in other bytes (another tool's, another order) is as desired: it stays, and tags
 * that differ get that list. Members that are no images (artifacts, no platform) are not compared.
 * At the end each tag and image is read as others read it; a registry that shows tags late is
 * waited for.
 *
 * Errors: those of registry.h; EXIST (no_clobber), INVAL (two images of one platform, an image that
 * is an index, force with no_clobber), OUTDATED (somebody else moved a tag meanwhile), GONE (what
 * was pushed is not there), BUSY (append: others always won).
 */
LARDER_API LARDER_MUST_CHECK int larder_publish(struct larder_store *store,
                                                const struct larder_publish_options *options,
                                                struct larder_publish_result *ret,
                                                struct larder_error *e);
LARDER_API void larder_publish_result_done(struct larder_publish_result *result);

/* ---- coreos-assembler builds ---- */

struct larder_cosa_options {
    size_t size;
    const char *directory; /* that has builds/; NULL: the current one */
    const char *repository;
    const char *const *tags; /* the first is the main one */
    size_t n_tags;
    const char *artifact;      /* of meta.json's images; or images below */
    const char *meta_key;      /* meta.json's top-level key (--metajsonname) */
    const char *build;         /* NULL: latest */
    const char *const *arches; /* n 0: all of the build */
    size_t n_arches;
    const char *const *images; /* --image mode: containers-transports references */
    size_t n_images;
    const char *digest_file; /* receives the list's digest, no newline; also when nothing is done */
    bool v2s2;
    bool force;
    bool dry_run;
    bool no_clobber;
    bool verify; /* hash the archives even when nothing is to be uploaded */
    unsigned jobs;
    const struct larder_registry_options *registry;
    const struct larder_observer *observer;
    /* A line of the original command's standard output ("Targeting build: ..."); NULL: dropped. */
    void (*line)(void *arg, const char *text);
    void *line_arg;
    void *reserved[4];
};
/*
 * As `cosa push-container-manifest`: the images of a build (or n_images of any place) as
 * larder_publish does, then in the meta.json of each architecture where they are: under meta_key,
 * an entry for each repository, replaced in place. Where the build kept the manifest of its archive
 * (images."oci-manifest") archives aren't opened unless something is to be uploaded; then the whole
 * file must have the checksum of meta.json before any tag changes.
 *
 * result as of larder_publish, and RECORD when only meta.json was written. Further errors: NOENT
 * (no such build, architecture or artifact), CORRUPT (checksum; the manifest is not the archive's),
 * OUTDATED (a tag that this build was pushed to has other images now), EXIST (a list with
 * architectures that were not asked for would lose them), MISMATCH (meta.json is another build's
 * now). With force tags are set in spite of OUTDATED and EXIST.
 */
LARDER_API LARDER_MUST_CHECK int larder_cosa_push(struct larder_store *store,
                                                  const struct larder_cosa_options *options,
                                                  struct larder_publish_result *ret,
                                                  struct larder_error *e);

LARDER_END_DECLS
