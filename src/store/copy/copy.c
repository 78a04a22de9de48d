/* SPDX-License-Identifier: Apache-2.0 */
#include "store/copy/copy.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/pool.h"
#include "store/copy/copy_walk.h"
#include "store/copy/platform_choice.h"

/* A manifest so large that its reading takes the registry longer than all else of a question. */
#define LARGE_MANIFEST_BYTES (64UL * 1024)

/* One call of copy_image. */
struct image_copy {
    struct store *from;
    const char *ref;
    const struct larder_digest *digest; /* NULL with a ref */
    struct store *to;
    const char *const *refs;
    size_t n_refs;
    const struct copy_options *options;
    /* what was found out */
    bool is_in_turn; /* source and refs are asked one after the other, not at once */
    bool has_source; /* source is what ref resolves to */
    struct store_descriptor source;
    struct store_descriptor *there; /* what each of refs points to; digest NONE: nothing */
    struct store_descriptor root;   /* to be copied */
    struct buf bytes;               /* its */
    bool is_root_there;             /* at a registry, so with all it names */
    bool is_fresh;
};

/* --- comparing --- */

/*
 * With what is known by now: the source asks for what the first ref has, the refs for what the
 * source is. "Not modified" does not say that the manifest is still there. Of a source that does
 * not matter, we have it; a destination that lost it (a registry's garbage collection that met a
 * push) shall be mended by the next copy, unless reading it costs more than all the rest. By force
 * it is asked for itself in any case.
 */
static const struct store_descriptor *supposed(const struct image_copy *c, bool is_source)
{
    const struct store_descriptor *d = is_source ? c->there : &c->source;

    if (!c->is_in_turn || c->options->force || (!is_source && !c->has_source))
        return NULL;
    if (!is_source && d->size_bytes < LARGE_MANIFEST_BYTES)
        return NULL;
    return d->media_type[0] ? d : NULL;
}

static int ask_ref(void *arg, size_t i, struct larder_error *e)
{
    struct image_copy *c = arg;
    struct store_descriptor d;
    int rc;

    if (i == c->n_refs) {
        rc = store_resolve(c->from, c->ref, supposed(c, true), &c->source, e);
        c->has_source = rc >= 0;
        return rc < 0 ? rc : 0;
    }
    rc = store_resolve(c->to, c->refs[i], supposed(c, false), &d, e);
    if (rc >= 0)
        c->there[i] = d;
    return rc == -LARDER_NOENT || rc == -LARDER_GONE ? 0 : rc < 0 ? rc : 0;
}

static bool all_refs_there(const struct image_copy *c)
{
    for (size_t i = 0; i < c->n_refs; i++) {
        if (c->there[i].digest.alg == LARDER_DIGEST_NONE)
            return false;
    }
    return c->n_refs > 0;
}

/*
 * What the refs point to, and the source's, by one question each. The source need not be asked
 * when its manifest is going to be read anyway: with a platform, or when the destination costs
 * nothing to ask and lacks a ref.
 */
static int ask_all(struct image_copy *c, struct larder_error *e)
{
    const struct copy_options *o = c->options;
    bool ask_source = c->ref && !c->digest && o->n_platforms == 0;
    bool is_local = !c->to->ops->is_remote;
    int rc;

    c->there = calloc(c->n_refs + 1, sizeof(*c->there));
    if (!c->there)
        return error_nomem(e);
    c->is_in_turn = ask_source && (is_local || !c->from->ops->is_remote);
    if (!c->is_in_turn)
        return pool_each(o->jobs, c->n_refs + (ask_source ? 1 : 0), o->observer, ask_ref, c, e);
    if (!is_local) {
        rc = ask_ref(c, c->n_refs, e);
        return rc < 0 ? rc : pool_each(o->jobs, c->n_refs, o->observer, ask_ref, c, e);
    }
    rc = pool_each(o->jobs, c->n_refs, o->observer, ask_ref, c, e);
    return rc == 0 && all_refs_there(c) && !o->force ? ask_ref(c, c->n_refs, e) : rc;
}

static bool is_equal(const struct image_copy *c, size_t i, const struct larder_digest *digest)
{
    return larder_digest_equal(&c->there[i].digest, digest);
}

static bool all_refs_equal(const struct image_copy *c, const struct larder_digest *digest)
{
    for (size_t i = 0; i < c->n_refs; i++) {
        if (!is_equal(c, i, digest))
            return false;
    }
    return c->n_refs > 0;
}

/* The digest without reading anything, where it is known. */
static const struct larder_digest *known_digest(const struct image_copy *c)
{
    if (c->options->n_platforms)
        return NULL;
    if (c->digest)
        return c->digest;
    return c->has_source ? &c->source.digest : NULL;
}

static bool may_skip(const struct copy_options *o)
{
    return !o->force && !o->has_referrers;
}

/* --- what is to be copied --- */

static int read_root(struct image_copy *c, struct larder_error *e)
{
    const struct larder_digest *digest = c->digest       ? c->digest
                                         : c->has_source ? &c->source.digest
                                                         : NULL;
    int rc =
        c->from->ops->manifest_get(c->from, digest ? NULL : c->ref, digest, &c->bytes, &c->root, e);

    if (rc < 0)
        return rc;
    return platform_choose(c->from, c->options->platforms, c->options->n_platforms, &c->root,
                           &c->bytes, e);
}

/* Whether the walk can be spared: a registry that has the root has everything. */
static int look_for_root(struct image_copy *c, struct larder_error *e)
{
    bool is_any_there = false;
    int rc = 0;

    if (!c->to->ops->is_remote)
        return 0;
    for (size_t i = 0; i < c->n_refs; i++) {
        is_any_there |= c->there[i].digest.alg != LARDER_DIGEST_NONE;
        c->is_root_there |= !c->options->force && is_equal(c, i, &c->root.digest);
    }
    if (c->is_root_there || c->options->force)
        return 0;
    if (!is_any_there && c->to->ops->is_fresh)
        rc = c->to->ops->is_fresh(c->to, e);
    if (rc < 0)
        return rc;
    c->is_fresh = rc == 1;
    if (c->is_fresh)
        return 0;
    rc = c->to->ops->manifest_has(c->to, &c->root, e);
    c->is_root_there = rc == 1;
    return rc < 0 ? rc : 0;
}

/* --- copying --- */

/* The repository to mount from; NULL. A registry store's name is docker://HOST/REPOSITORY. */
static const char *mount_from(const struct store *from, const struct store *to,
                              const struct copy_options *options)
{
    const char *name = NULL;

    if (from->ops->is_remote && to->ops->is_remote && store_is_same_registry(from, to)) {
        name = strstr(from->name, "://");
        name = name ? strchr(name + 3, '/') : NULL;
    }
    return name ? name + 1 : options->mount_from;
}

static int walk_root(struct image_copy *c, struct copy_result *result, struct larder_error *e)
{
    struct copy_walk walk;
    int rc = copy_walk_init(&walk, c->to, c->options, e);

    if (rc < 0)
        return rc;
    walk.result = result;
    walk.is_fresh = c->is_fresh;
    walk.root_bytes = buf_slice(&c->bytes);
    rc = copy_plan_add(&walk.plan, &c->root, false, c->from, mount_from(c->from, c->to, c->options),
                       NULL, &walk.root, e);
    if (rc == 0) {
        walk.root->is_there = c->is_root_there;
        rc = copy_walk_run(&walk, e);
        c->is_root_there = walk.root->is_there && !c->options->force;
    }
    copy_walk_done(&walk);
    return rc;
}

static int put_root(struct image_copy *c, struct copy_result *result, struct larder_error *e)
{
    CLEANUP_FREE const char **refs = calloc(c->n_refs + 1, sizeof(*refs));
    size_t n = 0;
    int rc = 0;

    if (!refs)
        return error_nomem(e);
    for (size_t i = 0; i < c->n_refs; i++) {
        if (c->options->force || !is_equal(c, i, &c->root.digest))
            refs[n++] = c->refs[i];
    }
    if (n == 0 && (c->n_refs > 0 || c->is_root_there || c->options->has_referrers))
        return 0;
    if (!c->options->dry_run)
        rc = c->to->ops->manifest_put(c->to, &c->root, buf_slice(&c->bytes), refs, n, e);
    if (rc >= 0)
        result->manifests_put++;
    return rc < 0 ? rc : 0;
}

static int copy_root(struct image_copy *c, struct copy_result *result, struct larder_error *e)
{
    int rc = read_root(c, e);

    if (rc < 0)
        return rc;
    result->root = c->root;
    if (all_refs_equal(c, &c->root.digest) && may_skip(c->options))
        return 0;
    rc = look_for_root(c, e);
    if (rc == 0 && !(c->is_root_there && may_skip(c->options)))
        rc = walk_root(c, result, e);
    if (rc == 0)
        rc = put_root(c, result, e);
    if (rc == 0 && c->to->ops->flush && !c->options->dry_run)
        rc = c->to->ops->flush(c->to, e);
    return rc < 0 ? rc : 0;
}

int copy_image(struct store *from, const char *ref, const struct larder_digest *digest,
               struct store *to, const char *const *refs, size_t n_refs,
               const struct copy_options *options, struct copy_result *ret, struct larder_error *e)
{
    static const struct copy_options defaults = {0};
    struct image_copy c = {.from = from,
                           .ref = ref,
                           .digest = digest,
                           .to = to,
                           .refs = refs,
                           .n_refs = n_refs,
                           .options = options ? options : &defaults,
                           .bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX)};
    struct copy_result result = {0};
    int rc = ask_all(&c, e);

    if (rc == 0) {
        const struct larder_digest *known = known_digest(&c);
        if (known && all_refs_equal(&c, known) && may_skip(c.options))
            result.root = c.there[0];
        else
            rc = copy_root(&c, &result, e);
    }
    free(c.there);
    buf_done(&c.bytes);
    if (rc < 0)
        return rc;
    result.was_there =
        result.manifests_put == 0 && result.blobs_copied == 0 && result.blobs_mounted == 0;
    if (ret)
        *ret = result;
    return 0;
}

int copy_blobs(const struct copy_blob *blobs, size_t n, struct store *to,
               const struct copy_options *options, struct copy_result *ret, struct larder_error *e)
{
    static const struct copy_options defaults = {0};
    struct copy_result result = {0};
    struct copy_walk walk;
    int rc = copy_walk_init(&walk, to, options ? options : &defaults, e);

    if (rc < 0)
        return rc;
    walk.result = &result;
    walk.is_fresh = walk.options->is_fresh;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const char *mount = blobs[i].mount_from;
        if (!mount)
            mount = mount_from(blobs[i].from, to, walk.options);
        rc = copy_plan_add(&walk.plan, &blobs[i].blob, true, blobs[i].from, mount, NULL, NULL, e);
    }
    if (rc == 0)
        rc = copy_walk_run(&walk, e);
    copy_walk_done(&walk);
    if (rc == 0 && ret)
        *ret = result;
    return rc;
}
