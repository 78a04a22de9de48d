/* SPDX-License-Identifier: Apache-2.0 */
#include "publish/cosa_build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdio.h"
#include "publish/meta_json.h"

#define BUILDS_NAME      "builds/builds.json"
#define BUILDS_BYTES_MAX (32UL * 1024 * 1024)
#define ARCHES_MAX       64
/* coreos-assembler keeps the manifest of this artifact only. */
#define MANIFEST_OF  "ostree"
#define KEY_MANIFEST "oci-manifest"

void cosa_line(const struct cosa_query *query, const char *format, ...)
{
    struct buf text = BUF_INIT(64UL * 1024);
    va_list ap;
    va_start(ap, format);
    buf_vprintf(&text, format, ap);
    va_end(ap);
    if (query->line && text.p)
        query->line(query->line_arg, text.p);
    buf_done(&text);
}

static void arch_done(struct cosa_arch *arch)
{
    free(arch->name);
    free(arch->path);
    if (arch->directory >= 0)
        close(arch->directory);
    ordered_free(arch->meta);
    free(arch->file);
    free(arch->manifest_file);
}

void cosa_build_free(struct cosa_build *build)
{
    if (!build)
        return;
    for (size_t i = 0; i < build->n_arches; i++)
        arch_done(&build->arches[i]);
    free(build->arches);
    free(build->id);
    free(build);
}

/* Ids and architectures become parts of paths. */
static bool is_path_part(const char *text)
{
    return text && *text && !strchr(text, '/') && strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
}

static char *below(const struct cosa_query *query, const char *path)
{
    char *whole;
    if (!query->directory || !*query->directory)
        return strdup(path);
    return asprintf(&whole, "%s/%s", query->directory, path) < 0 ? NULL : whole;
}

/* ---- builds.json ---- */

static int read_builds(const struct cosa_query *query, struct ordered **ret, struct larder_error *e)
{
    CLEANUP_FREE char *path = below(query, BUILDS_NAME);
    struct buf text = BUF_INIT(BUILDS_BYTES_MAX);
    if (!path)
        return error_nomem(e);
    int r = file_read(AT_FDCWD, path, &text, e);
    if (r == 0) {
        r = ordered_parse(buf_slice(&text), ret, e);
        if (r < 0)
            error_context(e, "%s", path);
    }
    buf_done(&text);
    return r;
}

static int check_format(const struct ordered *document, struct larder_error *e)
{
    const char *version = ordered_get_text(document, "schema-version");
    if (version && version[0] == '1' && (version[1] == '.' || !version[1]))
        return 0;
    return error_set(e, LARDER_UNSUPPORTED, BUILDS_NAME ": unsupported build metadata version %s",
                     version ? version : "0.0.1");
}

static int find_build(const struct cosa_query *query, const struct ordered *document,
                      const struct ordered **ret, struct larder_error *e)
{
    const struct ordered *builds = ordered_get(document, "builds");
    bool is_latest = !query->build || strcmp(query->build, "latest") == 0;
    size_t n = builds && builds->kind == ORDERED_ARRAY ? builds->n_items : 0;
    for (size_t i = 0; i < n; i++) {
        const char *id = ordered_get_text(builds->items[i], "id");
        if (!is_latest && (!id || strcmp(id, query->build) != 0))
            continue;
        if (!is_path_part(id))
            return error_set(e, LARDER_INVAL, BUILDS_NAME ": build %zu: no usable id", i + 1);
        *ret = builds->items[i];
        return 0;
    }
    if (is_latest)
        return error_set(e, LARDER_NOENT, BUILDS_NAME ": no builds");
    return error_set(e, LARDER_NOENT, "build %s: not in " BUILDS_NAME, query->build);
}

static bool has_text(const struct ordered *array, const char *text)
{
    for (size_t i = 0; i < array->n_items; i++) {
        const char *have = ordered_text(array->items[i]);
        if (have && strcmp(have, text) == 0)
            return true;
    }
    return false;
}

static int check_arches(const struct cosa_query *query, const char *id,
                        const struct ordered *arches, struct larder_error *e)
{
    if (!arches || arches->kind != ORDERED_ARRAY || arches->n_items > ARCHES_MAX)
        return error_set(e, LARDER_INVAL, BUILDS_NAME ": build %s: no usable arches", id);
    for (size_t i = 0; i < arches->n_items; i++) {
        if (!is_path_part(ordered_text(arches->items[i])))
            return error_set(e, LARDER_INVAL, BUILDS_NAME ": build %s: no usable arches", id);
    }
    for (size_t i = 0; i < query->n_arches; i++) {
        if (has_text(arches, query->arches[i]))
            continue;
        cosa_line(query, "Requested architecture %s is not in %s", query->arches[i], id);
        return error_set(e, LARDER_NOENT, "build %s: no architecture %s", id, query->arches[i]);
    }
    return 0;
}

static bool is_asked(const struct cosa_query *query, const char *arch)
{
    for (size_t i = 0; i < query->n_arches; i++) {
        if (strcmp(query->arches[i], arch) == 0)
            return true;
    }
    return query->n_arches == 0;
}

/* ---- meta.json ---- */

static int read_sha256(const struct ordered *image, const char *what, struct larder_digest *ret,
                       struct larder_error *e)
{
    const char *hex = ordered_get_text(image, "sha256");
    char text[LARDER_DIGEST_TEXT_BYTES];
    if (!hex || strlen(hex) != 64)
        return error_set(e, LARDER_INVAL, "images.%s: no usable sha256", what);
    snprintf(text, sizeof(text), "sha256:%s", hex);
    int r = larder_digest_parse(text, (size_t)-1, ret, e);
    if (r < 0)
        error_context(e, "images.%s", what);
    return r;
}

/* A file of the build: what is pushed must not come from anywhere else. */
static bool is_file_name(const char *name)
{
    if (!name || !*name || *name == '/')
        return false;
    for (const char *p = name; p; p = strchr(p, '/')) {
        p += *p == '/';
        if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || !p[2]))
            return false;
    }
    return true;
}

/* Of an image's file, "builds/ID/ARCH/FILE"; NULL without memory or a usable name. */
static char *file_of(const struct cosa_arch *arch, const struct ordered *image)
{
    const char *name = ordered_get_text(image, "path");
    char *path;
    if (!is_file_name(name) || asprintf(&path, "%s/%s", arch->path, name) < 0)
        return NULL;
    return path;
}

/* Returns 1 when the architecture has the artifact, 0 when not. */
static int read_artifact(const struct cosa_query *query, struct cosa_arch *arch,
                         struct larder_error *e)
{
    const struct ordered *images = ordered_get(arch->meta, "images");
    const struct ordered *image = ordered_get(images, query->artifact);
    const struct ordered *manifest = ordered_get(images, KEY_MANIFEST);
    if (!image || image->kind != ORDERED_OBJECT || image->n_items == 0)
        return 0;
    const char *name = ordered_get_text(image, "path");
    if (!is_file_name(name))
        return error_set(e, LARDER_INVAL, "images.%s: no usable path", query->artifact);
    arch->file = file_of(arch, image);
    if (!arch->file)
        return error_nomem(e);
    int r = read_sha256(image, query->artifact, &arch->sha256, e);
    if (r < 0)
        return r;
    /* A hint that is not understood is none. */
    if (strcmp(query->artifact, MANIFEST_OF) == 0 && manifest &&
        read_sha256(manifest, KEY_MANIFEST, &arch->manifest, NULL) == 0)
        arch->manifest_file = file_of(arch, manifest);
    return 1;
}

/* Fills a cosa_arch; 1 when it has the artifact, 0 when not. */
static int open_arch(const struct cosa_query *query, const char *id, const char *name,
                     struct cosa_arch *arch, struct larder_error *e)
{
    CLEANUP_FREE char *path = NULL;
    if (asprintf(&path, "builds/%s/%s", id, name) < 0) {
        path = NULL;
        return error_nomem(e);
    }
    arch->name = strdup(name);
    arch->path = below(query, path);
    if (!arch->name || !arch->path)
        return error_nomem(e);
    arch->directory = open(arch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (arch->directory < 0)
        return error_errno(e, errno, "%s", arch->path);
    struct meta_place place = {arch->directory, arch->path, query->key, query->observer};
    int r = meta_json_read(&place, &arch->meta, e);
    if (r == 0) {
        r = read_artifact(query, arch, e);
        if (r < 0)
            error_context(e, "%s/meta.json", arch->path);
    }
    return r;
}

static int open_arches(const struct cosa_query *query, const struct ordered *arches,
                       struct cosa_build *build, struct larder_error *e)
{
    build->arches = calloc(arches->n_items + 1, sizeof(struct cosa_arch));
    if (!build->arches)
        return error_nomem(e);
    for (size_t i = 0; i < arches->n_items; i++) {
        const char *name = ordered_text(arches->items[i]);
        if (!is_asked(query, name)) {
            build->is_subset = true;
            continue;
        }
        struct cosa_arch *arch = &build->arches[build->n_arches];
        arch->directory = -1;
        int r = open_arch(query, build->id, name, arch, e);
        if (r > 0) {
            build->n_arches++;
            continue;
        }
        arch_done(arch);
        *arch = (struct cosa_arch){0};
        if (r < 0)
            return r;
        cosa_line(query, "No artifact %s in %s/%s", query->artifact, build->id, name);
        if (query->n_arches > 0)
            return error_set(e, LARDER_NOENT, "build %s: %s has no artifact %s", build->id, name,
                             query->artifact);
    }
    if (build->n_arches == 0)
        return error_set(e, LARDER_NOENT, "build %s: no architecture has the artifact %s",
                         build->id, query->artifact);
    return 0;
}

int cosa_build_open(const struct cosa_query *query, struct cosa_build **ret, struct larder_error *e)
{
    CLEANUP(ordered_freep) struct ordered *document = NULL;
    CLEANUP(cosa_build_freep) struct cosa_build *build = calloc(1, sizeof(*build));
    const struct ordered *found = NULL;
    if (!build)
        return error_nomem(e);
    int r = read_builds(query, &document, e);
    if (r == 0)
        r = check_format(document, e);
    if (r < 0)
        return r;
    r = find_build(query, document, &found, e);
    /* The original names what it was asked for before it finds that there is no such build. */
    if (r < 0 && query->build && strcmp(query->build, "latest") != 0)
        cosa_line(query, "Targeting build: %s", query->build);
    if (r < 0)
        return r;
    build->id = strdup(ordered_get_text(found, "id"));
    if (!build->id)
        return error_nomem(e);
    cosa_line(query, "Targeting build: %s", build->id);
    const struct ordered *arches = ordered_get(found, "arches");
    r = check_arches(query, build->id, arches, e);
    if (r == 0)
        r = open_arches(query, arches, build, e);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(build);
    return 0;
}
