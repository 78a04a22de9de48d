/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The builds of coreos-assembler on disk: builds/builds.json (newest first) and, for each
 * architecture, builds/ID/ARCH/meta.json with what was made. Only read here, without a lock:
 * writers replace whole files, and a build may be on a read-only disk.
 */
#include <stdbool.h>

#include <larder/digest.h>
#include <larder/error.h>
#include <larder/observer.h>

#include "publish/ordered.h"

struct cosa_arch {
    char *name;                  /* "x86_64" */
    char *path;                  /* "builds/ID/ARCH", below the directory asked for */
    int directory;               /* of it, open */
    struct ordered *meta;        /* as it is now, delayed changes included */
    char *file;                  /* the artifact's, "builds/ID/ARCH/FILE" */
    struct larder_digest sha256; /* of that file */
    /* The raw manifest inside of it, when the build kept it (images."oci-manifest"). */
    struct larder_digest manifest; /* alg NONE: not known */
    char *manifest_file;           /* NULL: its name is not recorded */
};

struct cosa_build {
    char *id;
    struct cosa_arch *arches; /* that have the artifact, in the order of builds.json */
    size_t n_arches;
    bool is_subset; /* fewer architectures were asked for than the build has */
};

struct cosa_query {
    const char *directory; /* NULL: the current one */
    const char *build;     /* NULL, "latest": the first */
    const char *artifact;
    const char *key;           /* of meta.json */
    const char *const *arches; /* n 0: all, and those without the artifact are left out */
    size_t n_arches;
    const struct larder_observer *observer;    /* never NULL */
    void (*line)(void *arg, const char *text); /* as larder_cosa_options */
    void *line_arg;
};

/* NOENT (no such build, architecture or artifact), UNSUPPORTED (builds.json of a later format),
 * INVAL (malformed files). */
int cosa_build_open(const struct cosa_query *query, struct cosa_build **ret,
                    struct larder_error *e);
void cosa_build_free(struct cosa_build *build);
DEFINE_CLEANUP(struct cosa_build *, cosa_build_free)

/* Gives a formatted line to query->line. */
void cosa_line(const struct cosa_query *query, const char *format, ...) LARDER_PRINTF(2, 3);
