/* SPDX-License-Identifier: Apache-2.0 */
/* larder_copy: one source, any number of destinations. */
#include <larder/copy.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/relay.h"
#include "oci/platform.h"
#include "store/copy/copy.h"
#include "store/place.h"

struct copy_call {
    const struct larder_copy_options *options;
    struct larder_store *handle;
    struct relay *relay;
    struct place source;
    struct place *places; /* of the destinations; of each repository only the first is opened */
    size_t n_places;
    char **platform_texts;
    struct oci_platform *platforms;
    struct copy_options copy;
    struct copy_result total;
    bool was_there;
};

/* --- arguments --- */

static int read_platforms(struct copy_call *c, struct larder_error *e)
{
    size_t n = c->options->n_platforms;

    c->platforms = calloc(n + 1, sizeof(*c->platforms));
    c->platform_texts = calloc(n + 1, sizeof(*c->platform_texts));
    if (!c->platforms || !c->platform_texts)
        return error_nomem(e);
    for (size_t i = 0; i < n; i++) {
        int rc = oci_platform_parse(c->options->platforms[i], &c->platforms[i],
                                    &c->platform_texts[i], e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int read_places(struct copy_call *c, struct larder_error *e)
{
    size_t n = c->options->n_destinations;
    int rc = place_parse(c->options->source, &c->source, e);

    if (rc < 0)
        return rc;
    if (n == 0)
        return error_set(e, LARDER_INVAL, "%s: nowhere to copy it to", c->options->source);
    c->places = calloc(n, sizeof(*c->places));
    if (!c->places)
        return error_nomem(e);
    for (; rc == 0 && c->n_places < n; c->n_places++) {
        struct place *p = &c->places[c->n_places];
        rc = place_parse(c->options->destinations[c->n_places], p, e);
        if (rc < 0)
            return rc;
        if (p->digest && p->ref)
            rc = error_set(e, LARDER_INVAL, "%s: a destination has a tag or a digest, not both",
                           c->options->destinations[c->n_places]);
    }
    return rc;
}

static int open_source(struct copy_call *c, struct larder_error *e)
{
    return place_open(&c->source, c->handle, c->options->source_options, relay_observer(c->relay),
                      0, e);
}

/* --- for dry runs: a store that is not there yet --- */

static int nothing_resolve(struct store *s, const char *ref, struct store_descriptor *ret,
                           struct larder_error *e)
{
    (void)ret;
    return error_set(e, LARDER_NOENT, "%s:%s: not there", s->name, ref);
}

static int nothing_has(struct store *s, const struct store_descriptor *what, struct larder_error *e)
{
    (void)s;
    (void)what;
    (void)e;
    return 0;
}

static void nothing_close(struct store *s)
{
    free(s->name);
    free(s);
}

static int nothing_open(const char *name, struct store **ret, struct larder_error *e)
{
    static const struct larder_observer silent = {0};
    static const struct store_ops ops = {
        .transport = "nothing",
        .resolve = nothing_resolve,
        .manifest_has = nothing_has,
        .blob_has = nothing_has,
        .close = nothing_close,
    };
    struct store *s = calloc(1, sizeof(*s));
    char *copy = strdup(name);

    if (!s || !copy) {
        free(s);
        free(copy);
        return error_nomem(e);
    }
    *s = (struct store){&ops, &silent, copy};
    *ret = s;
    return 0;
}

/* A dry run makes nothing, not even the directory. */
static int open_destination(struct copy_call *c, size_t i, struct larder_error *e)
{
    struct place *p = &c->places[i];
    struct larder_error own = LARDER_ERROR_INIT;
    bool is_dry = c->options->dry_run;
    int rc = place_open(p, c->handle, c->options->destination_options, relay_observer(c->relay),
                        is_dry ? 0 : STORE_OPEN_WRITE, &own);

    if (is_dry && rc == -LARDER_NOENT &&
        (p->location.transport == OCI_TRANSPORT_LAYOUT ||
         p->location.transport == OCI_TRANSPORT_ARCHIVE))
        return nothing_open(c->options->destinations[i], &p->store, e);
    if (rc < 0 && e)
        *e = own;
    return rc;
}

/*
 * A new layout is only made for a source that is there: one question more, and no empty directory
 * is left behind by a slip of the pen.
 */
static int ask_before_making(struct copy_call *c, const struct place *to, struct larder_error *e)
{
    struct store_descriptor found;
    int rc;

    if (to->location.transport != OCI_TRANSPORT_LAYOUT || access(to->location.path, F_OK) == 0 ||
        !c->source.ref || c->options->dry_run)
        return 0;
    rc = c->source.store->ops->resolve(c->source.store, c->source.ref, &found, e);
    return rc < 0 ? rc : 0;
}

/* --- one repository --- */

/* Where its bytes come from: the source, or what is nearer than a registry by now. */
static struct store *pick_source(const struct copy_call *c, size_t first)
{
    if (c->source.store->ops->is_remote && !c->options->dry_run) {
        for (size_t i = 0; i < first; i++) {
            const struct place *p = &c->places[i];
            bool is_readable = p->location.transport == OCI_TRANSPORT_LAYOUT ||
                               p->location.transport == OCI_TRANSPORT_STORE;
            if (p->store && is_readable)
                return p->store;
        }
    }
    return c->source.store;
}

/* An earlier destination of the same registry, which has all blobs now. */
static const char *pick_mount(const struct copy_call *c, size_t first)
{
    for (size_t i = 0; i < first; i++) {
        const struct place *p = &c->places[i];
        if (p->store && store_is_same_registry(p->store, c->places[first].store))
            return p->location.reference.name;
    }
    return NULL;
}

/*
 * A destination with a digest is only that: the digest it has to be. It is looked at before
 * anything is copied.
 */
static int check_digests(const struct copy_call *c, size_t first, const struct larder_digest *is,
                         struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];

    for (size_t i = first; i < c->n_places; i++) {
        const struct place *p = &c->places[i];
        if (p->digest && place_is_same(p, &c->places[first]) && !larder_digest_equal(p->digest, is))
            return error_set(e, LARDER_MISMATCH, "%s: the image is %s", c->options->destinations[i],
                             larder_digest_format(is, text));
    }
    return 0;
}

static int resolve_for_check(const struct copy_call *c, size_t first, struct larder_error *e)
{
    struct store_descriptor found;
    bool has_digest = false;
    int rc;

    for (size_t i = first; i < c->n_places; i++)
        has_digest |= c->places[i].digest && place_is_same(&c->places[i], &c->places[first]);
    if (!has_digest)
        return 0;
    if (c->copy.n_platforms)
        return error_set(e, LARDER_UNSUPPORTED,
                         "%s: a destination's digest can't be checked when platforms are chosen",
                         c->options->destinations[first]);
    if (c->source.digest)
        return check_digests(c, first, c->source.digest, e);
    rc = c->source.store->ops->resolve(c->source.store, c->source.ref, &found, e);
    return rc < 0 ? rc : check_digests(c, first, &found.digest, e);
}

static size_t collect_refs(const struct copy_call *c, size_t first, const char **refs)
{
    size_t n = 0;

    for (size_t i = first; i < c->n_places; i++) {
        const struct place *p = &c->places[i];
        if (p->digest || !place_is_same(p, &c->places[first]))
            continue;
        /* "": an entry without a name, which layouts have. */
        refs[n++] = p->ref ? p->ref : "";
    }
    return n;
}

static bool is_done_already(const struct copy_call *c, size_t i)
{
    for (size_t k = 0; k < i; k++) {
        if (place_is_same(&c->places[k], &c->places[i]))
            return true;
    }
    return false;
}

static void add_result(struct copy_call *c, const struct copy_result *result)
{
    c->was_there &= result->was_there;
    c->total.root = result->root;
    c->total.blobs_copied += result->blobs_copied;
    c->total.blobs_existed += result->blobs_existed;
    c->total.blobs_mounted += result->blobs_mounted;
    c->total.manifests_put += result->manifests_put;
    c->total.bytes_copied += result->bytes_copied;
}

static int copy_to(struct copy_call *c, size_t first, struct larder_error *e)
{
    CLEANUP_FREE const char **refs = calloc(c->n_places + 1, sizeof(*refs));
    struct copy_options options = c->copy;
    struct copy_result result = {0};
    struct place *to = &c->places[first];
    struct store *from;
    int rc;

    if (!refs)
        return error_nomem(e);
    rc = ask_before_making(c, to, e);
    if (rc == 0)
        rc = open_destination(c, first, e);
    if (rc == 0)
        rc = resolve_for_check(c, first, e);
    if (rc < 0)
        return rc;
    size_t n = collect_refs(c, first, refs);
    options.mount_from = pick_mount(c, first);
    from = pick_source(c, first);
    if (from == c->source.store) {
        rc = copy_image(c->source.store, c->source.ref, c->source.digest, to->store, refs, n,
                        &options, &result, e);
    } else {
        options.platforms = NULL; /* chosen already */
        options.n_platforms = 0;
        rc =
            copy_image(from, NULL, &c->total.root.digest, to->store, refs, n, &options, &result, e);
    }
    if (rc == 0)
        add_result(c, &result);
    return rc;
}

/* --- the whole --- */

static int copy_all(struct copy_call *c, struct larder_error *e)
{
    int rc = read_platforms(c, e);

    if (rc == 0)
        rc = read_places(c, e);
    if (rc == 0)
        rc = relay_new(c->options->observer, &c->relay, e);
    if (rc == 0)
        rc = open_source(c, e);
    if (rc < 0)
        return rc;
    c->copy = (struct copy_options){
        .jobs = c->options->jobs,
        .platforms = c->platforms,
        .n_platforms = c->options->n_platforms,
        .has_referrers = c->options->has_referrers,
        .force = c->options->force,
        .dry_run = c->options->dry_run,
        .observer = relay_observer(c->relay),
    };
    c->was_there = true;
    for (size_t i = 0; rc == 0 && i < c->n_places; i++) {
        if (!is_done_already(c, i))
            rc = copy_to(c, i, e);
    }
    return rc;
}

static uint64_t count_requests(const struct copy_call *c)
{
    const struct store *s = c->source.store;
    uint64_t n = s && s->ops->requests ? s->ops->requests(c->source.store) : 0;

    for (size_t i = 0; i < c->n_places; i++) {
        s = c->places[i].store;
        n += s && s->ops->requests ? s->ops->requests(c->places[i].store) : 0;
    }
    return n;
}

static void give_result(const struct copy_call *c, struct larder_copy_result *ret)
{
    struct larder_copy_result result = {
        .size = ret->size,
        .digest = c->total.root.digest,
        .was_there = c->was_there,
        .blobs_copied = c->total.blobs_copied,
        .blobs_existed = c->total.blobs_existed,
        .blobs_mounted = c->total.blobs_mounted,
        .manifests_put = c->total.manifests_put,
        .bytes_copied = c->total.bytes_copied,
        .requests = count_requests(c),
    };

    memcpy(result.media_type, c->total.root.media_type, sizeof(result.media_type));
    memcpy(ret, &result, ret->size < sizeof(result) ? ret->size : sizeof(result));
}

static void call_done(struct copy_call *c)
{
    for (size_t i = 0; i < c->n_places; i++)
        place_done(&c->places[i]);
    free(c->places);
    place_done(&c->source);
    /* After the stores, which may have something to tell at their end. */
    relay_free(c->relay);
    for (size_t i = 0; c->platform_texts && i < c->options->n_platforms; i++)
        free(c->platform_texts[i]);
    free(c->platform_texts);
    free(c->platforms);
}

int larder_copy(struct larder_store *store, const struct larder_copy_options *options,
                struct larder_copy_result *ret, struct larder_error *e)
{
    struct larder_copy_options known = LARDER_COPY_OPTIONS_INIT;
    struct copy_call c = {.handle = store};
    int rc;

    /* An older caller's options are shorter. */
    memcpy(&known, options, options->size < sizeof(known) ? options->size : sizeof(known));
    if (!known.source)
        return error_set(e, LARDER_INVAL, "nothing to copy");
    c.options = &known;
    rc = copy_all(&c, e);
    if (rc == 0 && ret)
        give_result(&c, ret);
    call_done(&c);
    return rc;
}
