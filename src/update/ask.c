/* SPDX-License-Identifier: Apache-2.0 */
/*
 * REF and options, read: what is watched, for which platform, and what its base is called.
 *
 * A record is found again by REF's text, so with a store each image has one: host, "library/", tag
 * and absolute path are always there. With an ostree repository the text is part of a ref's name
 * (ostree_name.h), and stays what it was when the image was put there.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/text.h"
#include "oci/reference.h"
#include "oci/refuse.h"
#include "store/dir/ref.h"
#include "update/base/base.h"

#define DOCKER_PREFIX  "docker://"
#define STORE_PREFIX   "store:"
#define PLATFORM_BYTES 256U
/* A reference at its longest, or a path. */
#define TEXT_BYTES_MAX 8192U

static const struct slice transports[] = {
    SLICE_INIT("docker:"),        SLICE_INIT("oci:"),
    SLICE_INIT("oci-archive:"),   SLICE_INIT("store:"),
    SLICE_INIT("dir:"),           SLICE_INIT("docker-archive:"),
    SLICE_INIT("docker-daemon:"), SLICE_INIT("containers-storage:"),
    SLICE_INIT("ostree:"),        SLICE_INIT("sif:"),
    SLICE_INIT("tarball:"),
};

/* "docker:27" is docker.io's image of that name, as long as no "//" follows. */
static bool has_transport(struct slice text)
{
    for (size_t i = 0; i < ARRAY_LEN(transports); i++) {
        if (slice_starts(text, transports[i]))
            return i > 0 || slice_starts(text, SLICE_LIT("docker:/"));
    }
    return false;
}

static int take(struct buf *out, char **ret, struct larder_error *e)
{
    int r = buf_failed(out, e);
    char *text = r < 0 ? NULL : buf_take(out);
    buf_done(out);
    if (r < 0)
        return r;
    if (!text)
        return error_nomem(e);
    *ret = text;
    return 0;
}

/* ---- options ---- */

static int read_options(struct update_ask *made, struct larder_error *e)
{
    static const struct larder_update_options none = LARDER_UPDATE_OPTIONS_INIT;
    const struct larder_update_options *o = made->options ? made->options : &none;

    made->options = o;
    if (o->size != sizeof(*o))
        return error_set(e, LARDER_INVAL, "update options: size %zu, expected %zu", o->size,
                         sizeof(*o));
    if (o->ostree_repo && o->sysroot)
        return error_set(e, LARDER_INVAL,
                         "update: an ostree repository and a sysroot, expected one of the two");
    made->is_ostree = o->ostree_repo || o->sysroot;
    if (made->is_ostree && o->name)
        return error_set(e, LARDER_INVAL,
                         "update: store:%s and an ostree repository, expected one of the two",
                         o->name);
    return 0;
}

static int read_platform(struct update_ask *made, struct larder_error *e)
{
    struct buf text = BUF_INIT(PLATFORM_BYTES);

    if (made->options->platform) {
        int r =
            oci_platform_parse(made->options->platform, &made->platform, &made->platform_memory, e);
        if (r < 0)
            return r;
    } else {
        oci_platform_host(&made->platform);
    }
    oci_platform_format(&made->platform, &text);
    return take(&text, &made->platform_text, e);
}

/* ---- REF ---- */

/* Host and name complete, "latest" where neither tag nor digest is written. */
static int complete_reference(const struct oci_reference *reference, char **ret_ref,
                              char **ret_name, struct larder_error *e)
{
    bool is_pinned = reference->digest.alg != LARDER_DIGEST_NONE;
    const char *tag = reference->tag ? reference->tag : is_pinned ? NULL : "latest";
    char digest[LARDER_DIGEST_TEXT_BYTES];
    struct buf ref = BUF_INIT(TEXT_BYTES_MAX);
    struct buf name = BUF_INIT(TEXT_BYTES_MAX);

    buf_printf(&name, "%s/%s%s%s", reference->host, reference->name, tag ? ":" : "",
               tag ? tag : "");
    buf_printf(&ref, DOCKER_PREFIX "%s%s%s", name.p ? name.p : "", is_pinned ? "@" : "",
               is_pinned ? larder_digest_format(&reference->digest, digest) : "");
    int r = take(&name, ret_name, e);
    int r2 = take(&ref, ret_ref, r < 0 ? NULL : e);
    return r < 0 ? r : r2;
}

/* Also of what is not there at the moment: its record is. */
static int whole_path(const char *path, char **ret, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;

    int r = path_absolute(path, ret, &why);
    if (r == -LARDER_NOENT && path[0] == '/') {
        *ret = strdup(path);
        return *ret ? 0 : error_nomem(e);
    }
    if (r < 0 && e)
        *e = why;
    return r;
}

/*
 * With the whole path: two layouts that are called alike are two images. It begins with '/', so
 * that it is never taken for the name of a registry's image.
 */
static int complete_path(const struct oci_location *location, char **ret_ref, char **ret_name,
                         struct larder_error *e)
{
    const char *transport = location->transport == OCI_TRANSPORT_LAYOUT ? "oci:" : "oci-archive:";
    bool is_pinned = location->digest.alg != LARDER_DIGEST_NONE;
    CLEANUP_FREE char *path = NULL;
    char digest[LARDER_DIGEST_TEXT_BYTES];
    struct buf ref = BUF_INIT(TEXT_BYTES_MAX);
    struct buf name = BUF_INIT(TEXT_BYTES_MAX);

    int r = whole_path(location->path, &path, e);
    if (r < 0)
        return r;
    if (strchr(path, ':'))
        return oci_refuse(e, LARDER_INVAL, "path", slice_of(path), "a path can't have colons");
    buf_printf(&name, "%s%s%s", path, location->ref ? ":" : "", location->ref ? location->ref : "");
    buf_printf(&ref, "%s%s%s%s", transport, name.p ? name.p : "", is_pinned ? "@" : "",
               is_pinned ? larder_digest_format(&location->digest, digest) : "");
    r = take(&name, ret_name, e);
    int r2 = take(&ref, ret_ref, r < 0 ? NULL : e);
    return r < 0 ? r : r2;
}

static int as_written(const char *text, char **ret_ref, struct larder_error *e)
{
    struct buf ref = BUF_INIT(TEXT_BYTES_MAX);
    if (!has_transport(slice_of(text)))
        buf_puts(&ref, DOCKER_PREFIX);
    buf_puts(&ref, text);
    return take(&ref, ret_ref, e);
}

static int parse_ref(const char *text, struct oci_location *ret, struct larder_error *e)
{
    struct oci_location made = {.transport = OCI_TRANSPORT_DOCKER};

    if (has_transport(slice_of(text))) {
        int r = oci_location_parse(text, &made, e);
        if (r < 0)
            return r;
    } else if (strstr(text, "://")) {
        return oci_refuse(e, LARDER_INVAL, "reference", slice_of(text),
                          "expected docker://, oci: or oci-archive: before the name, or nothing");
    } else {
        int r = oci_reference_parse(text, &made.reference, e);
        if (r < 0)
            return r;
    }
    if (made.transport == OCI_TRANSPORT_STORE) {
        oci_location_done(&made);
        return oci_refuse(e, LARDER_INVAL, "reference", slice_of(text),
                          "updates come from elsewhere: docker://, oci: or oci-archive:");
    }
    *ret = made;
    return 0;
}

static int read_ref(const char *text, struct update_ask *made, struct larder_error *e)
{
    struct oci_location location = {.path = NULL};
    char *name = NULL;

    int r = parse_ref(text, &location, e);
    if (r < 0)
        return r;
    if (made->is_ostree)
        r = as_written(text, &made->ref, e);
    else if (location.transport == OCI_TRANSPORT_DOCKER)
        r = complete_reference(&location.reference, &made->ref, &name, e);
    else
        r = complete_path(&location, &made->ref, &name, e);
    oci_location_done(&location);
    made->name = name;
    return r;
}

/* ---- the name in the store ---- */

/* A ref of the store can have it, and "store:NAME" means it. */
static int check_name(const char *name, struct larder_error *e)
{
    struct oci_location location = {.path = NULL};
    struct buf text = BUF_INIT(TEXT_BYTES_MAX);
    struct buf clean = BUF_INIT(4UL * TEXT_BYTES_MAX);
    struct buf file = BUF_INIT(4UL * TEXT_BYTES_MAX);

    buf_printf(&text, STORE_PREFIX "%s", name);
    int r = buf_failed(&text, e);
    if (r == 0)
        r = oci_location_parse(text.p, &location, e);
    if (r == 0 && (!location.ref || strcmp(location.ref, name) != 0))
        r = oci_refuse(e, LARDER_INVAL, "store:NAME", slice_of(name), "a name can't have a digest");
    if (r == 0) {
        text_sanitize(slice_of(name), &clean);
        r = buf_failed(&clean, e);
    }
    if (r == 0 && strcmp(clean.p ? clean.p : "", name) != 0)
        r = oci_refuse(e, LARDER_INVAL, "store:NAME", slice_of(name),
                       "has control bytes or bad UTF-8");
    if (r == 0) {
        buf_reset(&text);
        buf_printf(&text, REF_IMAGE_PREFIX "%s", name);
        r = filename_escape(text.p ? text.p : "", &file, e);
        if (r < 0)
            error_context(e, "store:%s", name);
    }
    oci_location_done(&location);
    buf_done(&text);
    buf_done(&clean);
    buf_done(&file);
    return r;
}

static int read_name(struct update_ask *made, struct larder_error *e)
{
    const char *given = made->options->name;

    if (made->is_ostree)
        return 0;
    if (given) {
        if (strncmp(given, STORE_PREFIX, strlen(STORE_PREFIX)) == 0)
            given += strlen(STORE_PREFIX);
        free(made->name);
        made->name = strdup(given);
        if (!made->name)
            return error_nomem(e);
    }
    int r = check_name(made->name ? made->name : "", e);
    if (r < 0 && !given && e && e->code == LARDER_INVAL)
        error_hint(e, "name its image in the store otherwise");
    return r;
}

/* *ret_followed stays NULL where ref is given. */
static int find_ref(const char *ref, const struct update_ask *ask, char **ret_followed,
                    struct larder_error *e)
{
    if (ref)
        return 0;
    if (!ask->options->sysroot)
        return error_set(e, LARDER_INVAL, "update: no reference given");
    return base_ostree_follows(ask->options->sysroot, ret_followed, e);
}

int update_ask_read(struct larder_store *store, const char *ref,
                    const struct larder_update_options *options, struct update_ask *ret,
                    struct larder_error *e)
{
    struct update_ask made = {.store = store, .options = options};
    CLEANUP_FREE char *followed = NULL;

    int r = read_options(&made, e);
    if (r == 0 && !made.is_ostree && !made.store)
        r = error_set(e, LARDER_INVAL, "update: neither a store nor an ostree repository");
    if (r == 0)
        r = read_platform(&made, e);
    if (r == 0)
        r = find_ref(ref, &made, &followed, e);
    if (r == 0)
        r = read_ref(followed ? followed : ref, &made, e);
    if (r == 0)
        r = read_name(&made, e);
    if (r < 0) {
        update_ask_done(&made);
        return r;
    }
    *ret = made;
    return 0;
}

int larder_update_ref(const char *ref, const struct larder_update_options *options, char **ret,
                      struct larder_error *e)
{
    struct update_ask made = {.options = options};
    CLEANUP_FREE char *followed = NULL;

    int r = read_options(&made, e);
    if (r == 0)
        r = find_ref(ref, &made, &followed, e);
    if (r == 0)
        r = read_ref(followed ? followed : ref, &made, e);
    if (r == 0)
        *ret = TAKE_PTR(made.ref);
    update_ask_done(&made);
    return r;
}

void update_ask_done(struct update_ask *ask)
{
    free(ask->ref);
    free(ask->platform_text);
    free(ask->platform_memory);
    free(ask->name);
    *ask = (struct update_ask){.store = NULL};
}
