/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A base in an ostree repository: which commits have it, and which layers are there.
 */
#include "update/base/base_ostree.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "update/base/ostree_name.h"
#include "update/fetch/stored.h"

/* A ref: the prefix, and an escaped name (ostree_name.c bounds it). */
#define REF_BYTES_MAX (5 * 4096)

enum { IMAGE_DIGEST, IMAGE_MANIFEST, IMAGE_CONFIG, N_IMAGE };

static void name_image_keys(struct ostree_value values[N_IMAGE])
{
    values[IMAGE_DIGEST] = (struct ostree_value){.key = "ostree.manifest-digest"};
    values[IMAGE_MANIFEST] = (struct ostree_value){.key = "ostree.manifest"};
    values[IMAGE_CONFIG] = (struct ostree_value){.key = "ostree.container.image-config"};
}

/* ---- an image of a commit ---- */

struct image_reading {
    struct base_ostree *o;
    const char *commit;
    struct base_holder *holder;
    struct larder_error *e;
};

static int damaged(const struct image_reading *r, const char *what)
{
    return error_set(r->e, LARDER_CORRUPT, "ostree repository %s: commit %s: %s", r->o->base.place,
                     r->commit, what);
}

/* Fills from what was found: 0, or 1 where the commit is of no image. */
static int read_image(void *arg, const struct ostree_value *v)
{
    struct image_reading *r = arg;
    struct base_holder *h = r->holder;
    struct larder_digest found;

    if (v[IMAGE_DIGEST].type == OSTREE_VALUE_NONE)
        return 1;
    if (v[IMAGE_DIGEST].type != OSTREE_VALUE_STRING ||
        larder_digest_parse(v[IMAGE_DIGEST].text, (size_t)-1, &h->digest, NULL) < 0)
        return damaged(r, "its ostree.manifest-digest is no digest");
    if (v[IMAGE_MANIFEST].type != OSTREE_VALUE_STRING)
        return damaged(r, "has no manifest of its image");
    h->manifest = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    h->config = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    buf_puts(&h->manifest, v[IMAGE_MANIFEST].text);
    /* Importers of long ago wrote the word null where the configuration should be. */
    if (v[IMAGE_CONFIG].type == OSTREE_VALUE_STRING && strcmp(v[IMAGE_CONFIG].text, "null") != 0)
        buf_puts(&h->config, v[IMAGE_CONFIG].text);
    if (h->manifest.failed == LARDER_NOMEM || h->config.failed == LARDER_NOMEM)
        return error_nomem(r->e);
    int code = buf_failed(&h->manifest, r->e);
    if (code == 0)
        code = buf_failed(&h->config, r->e);
    if (code == 0)
        code =
            image_view_read(buf_slice(&h->manifest), NULL, buf_slice(&h->config), &h->view, r->e);
    if (code == -LARDER_NOMEM)
        return code;
    if (code < 0) {
        struct larder_error why = r->e ? *r->e : (struct larder_error)LARDER_ERROR_INIT;
        return error_set(r->e, LARDER_CORRUPT, "ostree repository %s: commit %s: its image: %s",
                         r->o->base.place, r->commit, why.msg);
    }
    h->media_type = strdup(h->view.manifest->media_type);
    if (!h->media_type)
        return error_nomem(r->e);
    code = hash_of(h->digest.alg, h->manifest.p, h->manifest.n, &found, r->e);
    h->is_rewritten = !larder_digest_equal(&found, &h->digest);
    return code;
}

/* Leaves role and commit. */
static void drop_image(struct base_holder *h)
{
    free(h->media_type);
    buf_done(&h->manifest);
    buf_done(&h->config);
    image_view_done(&h->view);
    *h = (struct base_holder){.role = h->role, .commit = h->commit};
}

/* 0; 1: the commit is of no image. */
static int read_commit(struct base_ostree *o, struct base_holder *h, struct larder_error *e)
{
    struct ostree_value values[N_IMAGE];
    struct image_reading r = {o, h->commit, h, e};

    name_image_keys(values);
    return ostree_access_metadata(o->repo, h->commit, false, values, N_IMAGE, read_image, &r, e);
}

/* ---- holders ---- */

/* In the order of the list; others ("" of a sysroot with more of them) hold nothing that is shown.
 */
static const char *const roles[] = {"booted", "staged", "pending", "rollback"};

struct gathering {
    struct base_ostree *o;
    const char *role;
    struct base_holders *made;
    struct larder_error *e;
};

static int add_holder(struct gathering *g, const char *commit)
{
    struct base_holder *grown = reallocarray(g->made->list, g->made->n + 1, sizeof(*g->made->list));
    if (!grown)
        return error_nomem(g->e);
    g->made->list = grown;
    grown[g->made->n] = (struct base_holder){.role = g->role, .commit = strdup(commit)};
    return grown[g->made->n++].commit ? 0 : error_nomem(g->e);
}

static int gather_deployment(void *arg, const struct ostree_deployment_info *info)
{
    struct gathering *g = arg;
    CLEANUP_FREE char *image = NULL;

    if (strcmp(info->role, g->role) != 0 || !info->image)
        return 0;
    /* Of a scheme that is unknown here: it follows something else. */
    int r = ostree_name_image(info->image, &image, NULL);
    if (r == -LARDER_NOMEM)
        return error_nomem(g->e);
    if (r < 0 || strcmp(image, g->o->base.ask->ref) != 0)
        return 0;
    r = add_holder(g, info->commit);
    if (r != 0)
        return r;
    struct base_holder *h = &g->made->list[g->made->n - 1];
    r = read_commit(g->o, h, NULL);
    if (r == -LARDER_NOMEM)
        return error_nomem(g->e);
    /* Packages that were layered here made another commit, which no longer says its image. And of
     * a damaged one at least the role is known: the base decides, not its holders. */
    if (r != 0)
        drop_image(h);
    return 0;
}

static int gather_ref(struct gathering *g)
{
    struct base_ostree *o = g->o;
    struct buf ref = BUF_INIT(REF_BYTES_MAX);
    char commit[65];

    buf_puts(&ref, OSTREE_IMAGE_PREFIX);
    int r = ostree_name_escape(slice_of(o->base.ask->ref), &ref, g->e);
    if (r == 0)
        r = ostree_access_resolve(o->repo, ref.p, commit, g->e);
    buf_done(&ref);
    if (r == -LARDER_NOENT) {
        error_clear(g->e);
        return 0;
    }
    if (r == 0)
        r = add_holder(g, commit);
    if (r != 0)
        return r;
    r = read_commit(o, g->made->list, g->e);
    if (r == 1)
        return error_set(g->e, LARDER_CORRUPT,
                         "ostree repository %s: commit %s of %s: is of no "
                         "image",
                         o->base.place, commit, o->base.ask->ref);
    if (r == -LARDER_NOENT)
        return error_set(g->e, LARDER_CORRUPT, "ostree repository %s: commit %s of %s: is missing",
                         o->base.place, commit, o->base.ask->ref);
    return r;
}

/* Without a ref (an image that was deployed and then removed) the base is what is deployed. */
static void put_base_first(struct base_holders *made)
{
    size_t at = 0;

    while (at < made->n && made->list[at].digest.alg == LARDER_DIGEST_NONE)
        at++;
    if (at == made->n) {
        base_holders_done(made);
    } else if (at > 0) {
        struct base_holder base = made->list[at];
        memmove(made->list + 1, made->list, at * sizeof(base));
        made->list[0] = base;
    }
}

static int ostree_holders(struct base *b, struct base_holders *ret, struct larder_error *e)
{
    struct base_ostree *o = base_ostree_of(b);
    struct base_holders made = {NULL, 0};
    struct gathering g = {o, "image", &made, e};

    int r = gather_ref(&g);
    for (size_t i = 0; i < ARRAY_LEN(roles) && r == 0; i++) {
        g.role = roles[i];
        r = ostree_access_each_deployment(o->repo, gather_deployment, &g, e);
    }
    if (r < 0) {
        base_holders_done(&made);
        return r;
    }
    put_base_first(&made);
    *ret = made;
    return 0;
}

/* ---- layers ---- */

static int layer_is_here(struct base_ostree *o, const struct larder_digest *digest,
                         struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES], commit[65];
    struct buf ref = BUF_INIT(REF_BYTES_MAX);

    buf_puts(&ref, OSTREE_BLOB_PREFIX);
    int r = ostree_name_escape(slice_of(larder_digest_format(digest, text)), &ref, e);
    if (r == 0)
        r = ostree_access_resolve(o->repo, ref.p, commit, e);
    buf_done(&ref);
    if (r == -LARDER_NOENT) {
        error_clear(e);
        return 0;
    }
    return r < 0 ? r : 1;
}

/* Layers that are still to be fetched, by diff id: manifests may have thousands. */
struct twin_search {
    struct base_ostree *o;
    const struct image_layer **needed;
    size_t n;
    const struct image_view *view;
    enum larder_update_presence *presence;
    struct larder_error *e;
};

static int compare_diff_ids(const void *a, const void *b)
{
    const struct image_layer *const *one = a;
    const struct image_layer *const *two = b;
    return digest_compare(&(*one)->diff_id, &(*two)->diff_id);
}

/* All layers of this content; the same may be needed twice. */
static void mark_twins(struct twin_search *t, const struct larder_digest *diff_id)
{
    struct image_layer key = {.diff_id = *diff_id};
    const struct image_layer *sought = &key;
    size_t low = 0, high = t->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_diff_ids(&t->needed[middle], &sought) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < t->n && compare_diff_ids(&t->needed[low], &sought) == 0; low++)
        t->presence[t->needed[low] - t->view->layers] = LARDER_UPDATE_HERE_DIFF_ID;
}

static bool is_needed(const struct twin_search *t, const struct larder_digest *diff_id)
{
    struct image_layer key = {.diff_id = *diff_id};
    const struct image_layer *sought = &key;
    const struct image_layer *const *found =
        bsearch(&sought, t->needed, t->n, sizeof(*t->needed), compare_diff_ids);

    return found && t->presence[*found - t->view->layers] == LARDER_UPDATE_NEEDED;
}

static int search_image(void *arg, const char *ref, const char *commit)
{
    struct twin_search *t = arg;
    CLEANUP_FREE char *name = strdup(commit);
    struct base_holder image = {.commit = name};
    int r = name ? read_commit(t->o, &image, NULL) : -LARDER_NOMEM;

    (void)ref;
    if (r == -LARDER_NOMEM)
        return error_nomem(t->e);
    /* Damaged, gone by now, or of no image: it has nothing that could be used. */
    for (size_t i = 0; r == 0 && i < image.view.n_layers; i++) {
        const struct image_layer *layer = &image.view.layers[i];
        if (layer->diff_id.alg == LARDER_DIGEST_NONE || !is_needed(t, &layer->diff_id))
            continue;
        int is_here = layer_is_here(t->o, &layer->digest, t->e);
        if (is_here < 0) {
            drop_image(&image);
            return is_here;
        }
        if (is_here)
            mark_twins(t, &layer->diff_id);
    }
    drop_image(&image);
    return 0;
}

static int find_twins(struct base_ostree *o, const struct image_view *view,
                      enum larder_update_presence *presence, struct larder_error *e)
{
    struct twin_search t = {.o = o, .view = view, .e = e};

    t.presence = presence;
    t.needed = calloc(view->n_layers + 1, sizeof(*t.needed));
    if (!t.needed)
        return error_nomem(e);
    for (size_t i = 0; i < view->n_layers; i++) {
        if (presence[i] == LARDER_UPDATE_NEEDED &&
            view->layers[i].diff_id.alg != LARDER_DIGEST_NONE)
            t.needed[t.n++] = &view->layers[i];
    }
    qsort(t.needed, t.n, sizeof(*t.needed), compare_diff_ids);
    int r = 0;
    if (t.n > 0)
        r = ostree_access_each_ref(o->repo, OSTREE_IMAGE_DIR, search_image, &t, e);
    free(t.needed);
    return r;
}

static int ostree_layers_here(struct base *b, const struct image_view *view,
                              enum larder_update_presence *presence, struct larder_error *e)
{
    struct base_ostree *o = base_ostree_of(b);

    for (size_t i = 0; i < view->n_layers; i++) {
        int is_here = layer_is_here(o, &view->layers[i].digest, e);
        if (is_here < 0)
            return is_here;
        presence[i] = is_here ? LARDER_UPDATE_HERE : LARDER_UPDATE_NEEDED;
    }
    int r = find_twins(o, view, presence, e);
    /* What larder has need not be fetched either: the import may take it from there. */
    if (r == 0 && b->ask->store)
        r = stored_layers_here(b->ask->store, NULL, view, presence, e);
    return r;
}

/* ---- opening ---- */

static void ostree_close(struct base *b)
{
    struct base_ostree *o = base_ostree_of(b);
    if (o->repo)
        ostree_access_close(o->repo);
    free(o);
}

static const struct base_ops ostree_ops = {
    .holders = ostree_holders,
    .record_get = base_ostree_record_get,
    .record_put = base_ostree_record_put,
    .record_touch = base_ostree_record_touch,
    .record_remove = base_ostree_record_remove,
    .layers_here = ostree_layers_here,
    .close = ostree_close,
};

static int open_repo(const struct larder_update_options *options, struct ostree_access **ret,
                     struct larder_error *e)
{
    bool is_sysroot = options->sysroot != NULL;
    return ostree_access_open(is_sysroot ? options->sysroot : options->ostree_repo, is_sysroot, ret,
                              e);
}

int base_ostree_open(const struct update_ask *ask, struct base **ret, struct larder_error *e)
{
    struct base_ostree *o = calloc(1, sizeof(*o));
    if (!o)
        return error_nomem(e);
    o->base = (struct base){.ops = &ostree_ops, .ask = ask};
    int r = open_repo(ask->options, &o->repo, e);
    if (r == 0) {
        o->base.place = strdup(ostree_access_path(o->repo));
        o->base.identity = strdup(ostree_access_path(o->repo));
        if (!o->base.place || !o->base.identity)
            r = error_nomem(e);
    }
    if (r < 0) {
        base_close(&o->base);
        return r;
    }
    *ret = &o->base;
    return 0;
}

int base_ostree_identity(const struct larder_update_options *options, char **ret,
                         struct larder_error *e)
{
    struct ostree_access *repo = NULL;

    int r = open_repo(options, &repo, e);
    if (r < 0)
        return r;
    *ret = strdup(ostree_access_path(repo));
    ostree_access_close(repo);
    return *ret ? 0 : error_nomem(e);
}

struct each {
    struct ostree_access *repo;
    int (*fn)(void *arg, const char *ref, const char *platform);
    void *arg;
    struct larder_error *e;
};

static int give_image(struct each *each, const char *name, const char *commit)
{
    CLEANUP_FREE char *platform = NULL;
    int has = base_ostree_record_peek(each->repo, commit, name, &platform, each->e);

    if (has == -LARDER_NOENT) {
        error_clear(each->e);
        return 0;
    }
    return has > 0 ? each->fn(each->arg, name, platform) : has;
}

static int each_image(void *arg, const char *ref, const char *commit)
{
    struct each *each = arg;
    struct buf name = BUF_INIT(REF_BYTES_MAX);

    int r = ostree_name_unescape(slice_of(ref + strlen(OSTREE_IMAGE_PREFIX)), &name, each->e);
    if (r == 0)
        r = give_image(each, name.p, commit);
    else if (r == -LARDER_INVAL) { /* what escaping never gives is of somebody else */
        error_clear(each->e);
        r = 0;
    }
    buf_done(&name);
    return r;
}

/* Once the next image is staged, the record is with the booted deployment alone. */
static int each_deployed(void *arg, const struct ostree_deployment_info *info)
{
    struct each *each = arg;
    CLEANUP_FREE char *name = NULL;

    int r = info->image ? ostree_name_image(info->image, &name, NULL) : -LARDER_INVAL;
    if (r == -LARDER_NOMEM)
        return error_nomem(each->e);
    return r < 0 ? 0 : give_image(each, name, info->commit);
}

int base_ostree_each(struct larder_store *store, const struct larder_update_options *options,
                     int (*fn)(void *arg, const char *ref, const char *platform), void *arg,
                     struct larder_error *e)
{
    struct each each = {.fn = fn, .arg = arg, .e = e};

    (void)store;
    int r = open_repo(options, &each.repo, e);
    if (r < 0)
        return r;
    r = ostree_access_each_ref(each.repo, OSTREE_IMAGE_DIR, each_image, &each, e);
    if (r == 0)
        r = ostree_access_each_deployment(each.repo, each_deployed, &each, e);
    ostree_access_close(each.repo);
    return r;
}

struct following {
    char *image; /* of the first, until one is booted */
    struct larder_error *e;
};

static int find_followed(void *arg, const struct ostree_deployment_info *info)
{
    struct following *f = arg;
    char *image = NULL;
    bool is_booted = strcmp(info->role, "booted") == 0;

    if (!info->image || (f->image && !is_booted))
        return 0;
    int r = ostree_name_image(info->image, &image, NULL);
    if (r == -LARDER_NOMEM)
        return error_nomem(f->e);
    if (r < 0)
        return 0;
    free(f->image);
    f->image = image;
    return is_booted ? 1 : 0;
}

int base_ostree_follows(const char *sysroot, char **ret, struct larder_error *e)
{
    const struct larder_update_options options = {.sysroot = sysroot};
    struct ostree_access *repo = NULL;
    struct following f = {.e = e};

    int r = open_repo(&options, &repo, e);
    if (r < 0)
        return r;
    r = ostree_access_each_deployment(repo, find_followed, &f, e);
    ostree_access_close(repo);
    if (r < 0) {
        free(f.image);
        return r;
    }
    if (!f.image)
        return error_set(e, LARDER_NOENT,
                         "ostree sysroot %s: no deployment follows a container "
                         "image",
                         sysroot);
    *ret = f.image;
    return 0;
}
