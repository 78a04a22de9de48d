/* SPDX-License-Identifier: Apache-2.0 */
/* Which blobs an image has, which of them are here, and whether those are what they should be. */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "base/pool.h"
#include "store/dir/blob.h"
#include "store/upkeep/condemn.h"
#include "store/upkeep/rehash.h"
#include "update/fetch/fetch_run.h"

/* ---- the list ---- */

static void add(struct fetch_run *r, const struct oci_descriptor *what,
                const struct image_layer *layer, enum larder_update_presence presence)
{
    struct fetch_blob *b = &r->blobs[r->n_blobs++];

    *b = (struct fetch_blob){.is_layer = layer != NULL, .where = FETCH_MISSING};
    b->blob.digest = what->digest;
    b->blob.size_bytes = what->size_bytes;
    strncpy(b->blob.media_type, what->media_type, sizeof(b->blob.media_type) - 1);
    if (layer)
        b->diff_id = layer->diff_id;
    b->may_lack = presence == LARDER_UPDATE_HERE;
}

static int compare_blobs(const void *a, const void *b)
{
    const struct fetch_blob *x = *(const struct fetch_blob *const *)a;
    const struct fetch_blob *y = *(const struct fetch_blob *const *)b;
    const struct larder_digest *p = &x->blob.digest;
    const struct larder_digest *q = &y->blob.digest;
    int order = (p->alg > q->alg) - (p->alg < q->alg);

    if (order == 0)
        order = memcmp(p->bytes, q->bytes, sizeof(p->bytes));
    return order ? order : (x > y) - (x < y);
}

static bool is_dropped(const struct fetch_blob *b)
{
    return b->blob.digest.alg == LARDER_DIGEST_NONE;
}

/* Those that another one before says, too, become nothing. sorted by digest, then by place. */
static int mark_doubles(struct fetch_run *r, struct fetch_blob *const *sorted,
                        struct larder_error *e)
{
    const struct fetch_blob *first = NULL;
    char text[LARDER_DIGEST_TEXT_BYTES];

    for (size_t i = 0; i < r->n_blobs; i++) {
        struct store_descriptor *blob = &sorted[i]->blob;
        if (!first || !larder_digest_equal(&first->blob.digest, &blob->digest)) {
            first = sorted[i];
            continue;
        }
        if (first->blob.size_bytes != blob->size_bytes)
            return error_set(
                e, LARDER_MISMATCH, "blob %s of %s: %llu bytes in one place, %llu in another",
                larder_digest_format(&blob->digest, text), r->ask->ref,
                (unsigned long long)first->blob.size_bytes, (unsigned long long)blob->size_bytes);
        blob->digest.alg = LARDER_DIGEST_NONE;
    }
    return 0;
}

/* A digest that comes twice is one blob. Of the tens of thousands that a manifest may list, each
 * can't be compared with each. */
static int drop_doubles(struct fetch_run *r, struct larder_error *e)
{
    CLEANUP_FREE struct fetch_blob **sorted = calloc(r->n_blobs + 1, sizeof(*sorted));
    size_t kept = 0;
    int rc;

    if (!sorted)
        return error_nomem(e);
    for (size_t i = 0; i < r->n_blobs; i++)
        sorted[i] = &r->blobs[i];
    qsort(sorted, r->n_blobs, sizeof(*sorted), compare_blobs);
    rc = mark_doubles(r, sorted, e);
    for (size_t i = 0; rc == 0 && i < r->n_blobs; i++) {
        if (!is_dropped(&r->blobs[i]))
            r->blobs[kept++] = r->blobs[i];
    }
    r->n_blobs = rc == 0 ? kept : 0;
    return rc;
}

static int add_all(struct fetch_run *r, const struct image_view *view,
                   const enum larder_update_presence *presence, struct larder_error *e)
{
    const struct oci_manifest *m = view->manifest;

    add(r, &m->config, NULL, LARDER_UPDATE_NEEDED);
    for (size_t i = 0; i < m->n_layers; i++) {
        /* Those are fetched from where their urls say, by who runs the image. */
        if (!media_type_is_foreign(m->layers[i].media_type))
            add(r, &m->layers[i], &view->layers[i], presence[i]);
    }
    return drop_doubles(r, e);
}

/*
 * What the ostree repository has. Alone, for layers of the store are not there for who imports; and
 * by digest, as the importer looks for them.
 */
static int ask_repository(const struct fetch_run *r, const struct image_view *view,
                          enum larder_update_presence *presence, struct larder_error *e)
{
    CLEANUP(base_closep) struct base *alone = NULL;
    struct update_ask ask = *r->ask;
    int rc;

    ask.store = NULL;
    rc = base_open(&ask, &alone, e);
    return rc < 0 ? rc : alone->ops->layers_here(alone, view, presence, e);
}

static int list_blobs(struct fetch_run *r, const struct image_view *view, struct larder_error *e)
{
    CLEANUP_FREE enum larder_update_presence *presence =
        calloc(view->n_layers + 1, sizeof(*presence));                     /* NEEDED */
    struct fetch_blob *blobs = calloc(view->n_layers + 1, sizeof(*blobs)); /* and the config */
    int rc = 0;

    if (!presence || !blobs) {
        free(blobs);
        return error_nomem(e);
    }
    free(r->blobs);
    r->blobs = blobs;
    r->n_blobs = 0;
    if (r->options->is_partial)
        rc = ask_repository(r, view, presence, e);
    return rc < 0 ? rc : add_all(r, view, presence, e);
}

int fetch_blobs_read(struct fetch_run *r, struct larder_error *e)
{
    struct image_view view = {0};
    int rc = image_view_read(buf_slice(&r->manifest), r->root.media_type, buf_slice(&r->config),
                             &view, e);

    if (rc == 0)
        rc = list_blobs(r, &view, e);
    image_view_done(&view);
    return rc;
}

/* ---- where they are ---- */

static int look_for(const struct fetch_run *r, struct fetch_blob *b, struct larder_error *e)
{
    struct store *to = r->to.store;
    int rc = to ? to->ops->blob_has(to, &b->blob, e) : 0;

    /* Of the wrong size in a layout: it is replaced. */
    if (rc == -LARDER_CORRUPT && r->is_layout) {
        error_clear(e);
        rc = 0;
    }
    if (rc < 0)
        return rc;
    b->where = rc == 1                                                           ? FETCH_HERE
               : b->may_lack                                                     ? FETCH_LEFT_OUT
               : r->near && r->near->ops->blob_has(r->near, &b->blob, NULL) == 1 ? FETCH_NEAR
                                                                                 : FETCH_MISSING;
    return 0;
}

int fetch_look(struct fetch_run *r, struct larder_error *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < r->n_blobs; i++)
        rc = look_for(r, &r->blobs[i], e);
    return rc;
}

bool fetch_has(const struct fetch_run *r, enum fetch_where where)
{
    for (size_t i = 0; i < r->n_blobs; i++) {
        if (r->blobs[i].where == where)
            return true;
    }
    return false;
}

bool fetch_is_complete(const struct fetch_run *r)
{
    return !fetch_has(r, FETCH_MISSING) && !fetch_has(r, FETCH_NEAR);
}

/* ---- whether they are good: in the store ---- */

/* Only for what is here, and was hashed just now. */
static struct fetch_blob *find(const struct fetch_run *r, const struct larder_digest *digest)
{
    for (size_t i = 0; i < r->n_blobs; i++) {
        if (larder_digest_equal(&r->blobs[i].blob.digest, digest))
            return &r->blobs[i];
    }
    return NULL;
}

static int take_result(void *arg, struct rehash *item, struct larder_error *e)
{
    struct fetch_run *r = arg;
    struct fetch_blob *b = find(r, &item->digest);
    enum condemn_result how;
    int rc = 0;

    if (item->result == 0)
        return blob_record_verified(r->ask->store, &item->digest, item->fd, item->began_ns, e);
    if (item->result == -LARDER_CORRUPT && item->actual.alg != LARDER_DIGEST_NONE) {
        rc = condemn_blob(r->ask->store, &item->digest, &item->actual, item->error.msg,
                          store_users(r->ask->store), &item->st, &how, e);
        store_warn(r->ask->store, "%s: fetched again", item->error.msg);
    } else if (item->result != -LARDER_NOENT && item->result != -LARDER_BUSY) {
        /* A disk that can't read it could not read what is fetched instead. */
        if (e)
            *e = item->error;
        rc = item->result;
    }
    if (rc == 0 && b)
        b->where = FETCH_MISSING;
    return rc;
}

static int verify_store(struct fetch_run *r, struct larder_error *e)
{
    const struct rehash_options options = {.what = "verify", .done = take_result, .arg = r};
    CLEANUP_FREE struct larder_digest *digests = calloc(r->n_blobs + 1, sizeof(*digests));
    bool is_complete = false;
    size_t n = 0;

    if (!digests)
        return error_nomem(e);
    for (size_t i = 0; i < r->n_blobs; i++) {
        if (r->blobs[i].where == FETCH_HERE)
            digests[n++] = r->blobs[i].blob.digest;
    }
    return n == 0 ? 0 : rehash_run(r->ask->store, digests, n, &options, &is_complete, e);
}

/* ---- in a layout ---- */

#define PIECE_BYTES (256UL * 1024)

static int hash_extent(const struct fetch_run *r, int fd, const struct store_extent *extent,
                       struct hash *hash, struct larder_error *e)
{
    CLEANUP_FREE char *piece = malloc(PIECE_BYTES);
    uint64_t done = 0;

    if (!piece)
        return error_nomem(e);
    while (done < extent->n_bytes) {
        uint64_t left = extent->n_bytes - done;
        ssize_t n = fd_pread_full(fd, piece, left < PIECE_BYTES ? (size_t)left : PIECE_BYTES,
                                  extent->offset + done);
        if (n <= 0)
            return n < 0 ? error_errno(e, errno, "%s", r->to.store->name)
                         : error_set(e, LARDER_CORRUPT, "%s: a blob ends early", r->to.store->name);
        hash_update(hash, piece, (size_t)n);
        done += (uint64_t)n;
    }
    return 0;
}

static int verify_one(void *arg, size_t i, struct larder_error *e)
{
    const struct fetch_run *r = arg;
    const struct store_descriptor *blob = &r->blobs[i].blob;
    CLEANUP(hash_freep) struct hash *hash = NULL;
    struct store_extent extent = {.fd = -1};
    struct larder_digest found = {0};
    char text[LARDER_DIGEST_TEXT_BYTES];
    int rc = 0;

    if (r->blobs[i].where != FETCH_HERE)
        return 0;
    rc = r->to.store->ops->blob_extent(r->to.store, blob, &extent, e);
    if (rc < 0)
        return rc;
    CLEANUP_CLOSE int fd = extent.fd;
    rc = hash_new(HASH_BIT(blob->digest.alg), &hash, e);
    if (rc == 0)
        rc = hash_extent(r, fd, &extent, hash, e);
    if (rc == 0)
        rc = hash_final(hash, blob->digest.alg, &found, e);
    if (rc < 0 || larder_digest_equal(&found, &blob->digest))
        return rc;
    error_set(e, LARDER_CORRUPT, "%s: blob %s: its bytes are others", r->to.store->name,
              larder_digest_format(&blob->digest, text));
    return error_hint(e, "remove that file, or the layout, and fetch again");
}

int fetch_verify(struct fetch_run *r, struct larder_error *e)
{
    if (!r->is_layout)
        return verify_store(r, e);
    return pool_each(r->options->jobs, r->n_blobs, relay_observer(r->relay), verify_one, r, e);
}
