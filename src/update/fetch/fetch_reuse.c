/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers that need not be fetched, for another image has the same content, packed otherwise.
 *
 * Only an uncompressed layer can be made so: its digest is the diff id, and unpacking gives the
 * same bytes whoever packed them. A compressed one depends on every setting of the compressor that
 * made it, which nobody records, so it can't be packed again bit by bit; it is fetched.
 */
#include <errno.h>

#include "archive/unpack.h"
#include "base/error.h"
#include "base/fdio.h"
#include "store/blob_write.h"
#include "store/copy/blob_pull.h"
#include "update/fetch/fetch_run.h"
#include "update/fetch/stored.h"

#define PIECE_BYTES (256UL * 1024)

struct reuse {
    struct fetch_run *run;
    struct store *from; /* the machine's */
    struct hash_team *team;
};

static bool is_wanted(const struct fetch_blob *b)
{
    const struct image_layer layer = {.digest = b->blob.digest,
                                      .diff_id = b->diff_id,
                                      .size_bytes = b->blob.size_bytes,
                                      .media_type = b->blob.media_type};

    return b->where == FETCH_MISSING && b->is_layer && image_layer_is_plain(&layer);
}

static bool has_wanted(const struct fetch_run *r)
{
    for (size_t i = 0; i < r->n_blobs; i++) {
        if (is_wanted(&r->blobs[i]))
            return true;
    }
    return false;
}

/* ---- one layer ---- */

static int write_piece(void *arg, const void *data, size_t n, struct larder_error *e)
{
    return blob_write_put(arg, data, n, e);
}

static int unpack_bytes(const struct store_extent *extent, struct blob_write *w,
                        struct larder_error *e)
{
    CLEANUP(unpack_freep) struct unpack *u = NULL;
    CLEANUP_FREE char *piece = malloc(PIECE_BYTES);
    uint64_t done = 0;
    int rc = piece ? 0 : error_nomem(e);

    while (rc == 0 && done < extent->n_bytes) {
        uint64_t left = extent->n_bytes - done;
        ssize_t n =
            fd_pread_full(extent->fd, piece, left < PIECE_BYTES ? (size_t)left : PIECE_BYTES,
                          extent->offset + done);
        if (n <= 0)
            return n < 0 ? error_errno(e, errno, "%s", w->from_name)
                         : error_set(e, LARDER_CORRUPT, "%s: a blob ends early", w->from_name);
        if (!u)
            rc = unpack_new(unpack_detect(piece, (size_t)n), w->blob->size_bytes, write_piece, w,
                            &u, e);
        if (rc == 0)
            rc = unpack_push(u, piece, (size_t)n, e);
        done += (uint64_t)n;
    }
    if (rc == 0)
        rc = u ? unpack_finish(u, e) : error_set(e, LARDER_CORRUPT, "%s: empty", w->from_name);
    return rc;
}

/* Committed only when the bytes hash to the digest, as if they came from a registry. */
static int unpack_layer(const struct reuse *u, const struct store_extent *packed,
                        struct fetch_blob *wanted, struct larder_error *e)
{
    struct blob_write w = {
        .to = u->run->to.store, .from_name = u->from->name, .blob = &wanted->blob, .team = u->team};
    bool exists = false;
    int rc = blob_write_begin(&w, &exists, e);

    if (rc < 0)
        return rc;
    if (exists) {
        wanted->where = FETCH_HERE;
        return 0;
    }
    rc = unpack_bytes(packed, &w, e);
    if (rc == 0)
        rc = blob_write_finish(&w, e);
    if (rc < 0) {
        /* Whatever it was, these bytes are no beginning of a download. */
        blob_write_abort(&w, -LARDER_MISMATCH);
        return rc;
    }
    rc = blob_write_commit(&w, e);
    if (rc == 0)
        wanted->where = FETCH_UNPACKED;
    return rc;
}

/* Failures that fetching the layer would not make good. */
static bool is_fatal(int rc)
{
    return rc == -LARDER_NOMEM || rc == -LARDER_NOSPACE || rc == -LARDER_CANCELED ||
           rc == -LARDER_DENIED;
}

static int try_layer(const struct reuse *u, const struct layer_twin *twin,
                     struct fetch_blob *wanted, struct larder_error *e)
{
    const struct store_descriptor packed = {.digest = twin->digest, .size_bytes = twin->size_bytes};
    struct larder_error why = LARDER_ERROR_INIT;
    struct store_extent extent = {.fd = -1};
    int rc = u->from->ops->blob_extent(u->from, &packed, &extent, &why);

    if (rc == 0 && u->run->options->dry_run)
        wanted->where = FETCH_UNPACKED;
    else if (rc == 0)
        rc = unpack_layer(u, &extent, wanted, &why);
    fd_closep(&extent.fd);
    if (rc == 0 || !is_fatal(rc))
        return 0;
    if (e)
        *e = why;
    return rc;
}

/* ---- the whole ---- */

/* The blob of a layer, which is the next one: blobs are in the order of layers, each once. *at
 * begins behind the configuration. */
static struct fetch_blob *next_wanted(const struct fetch_run *r, const struct larder_digest *digest,
                                      size_t *at)
{
    if (*at >= r->n_blobs || !larder_digest_equal(&r->blobs[*at].blob.digest, digest))
        return NULL;
    struct fetch_blob *b = &r->blobs[(*at)++];
    return is_wanted(b) ? b : NULL;
}

static int try_twins(const struct reuse *u, const struct image_view *view, struct larder_error *e)
{
    CLEANUP_FREE enum larder_update_presence *presence =
        calloc(view->n_layers + 1, sizeof(*presence));
    CLEANUP_FREE struct layer_twin *twins = calloc(view->n_layers + 1, sizeof(*twins));
    size_t at = 1;
    int rc;

    if (!presence || !twins)
        return error_nomem(e);
    for (size_t i = 0; i < view->n_layers; i++)
        presence[i] = next_wanted(u->run, &view->layers[i].digest, &at) ? LARDER_UPDATE_NEEDED
                                                                        : LARDER_UPDATE_HERE;
    rc = layer_twins_find(u->run->ask->store, u->run->ask->name, view, presence, twins, e);
    at = 1;
    for (size_t i = 0; rc >= 0 && i < view->n_layers; i++) {
        struct fetch_blob *wanted = next_wanted(u->run, &view->layers[i].digest, &at);
        if (wanted && twins[i].digest.alg != LARDER_DIGEST_NONE)
            rc = try_layer(u, &twins[i], wanted, e);
    }
    return rc < 0 ? rc : 0;
}

int fetch_reuse(struct fetch_run *r, struct larder_error *e)
{
    struct reuse u = {.run = r, .from = r->is_layout ? r->near : r->to.store};
    struct image_view view = {0};
    int rc;

    if (!u.from || !has_wanted(r))
        return 0;
    rc = image_view_read(buf_slice(&r->manifest), r->root.media_type, buf_slice(&r->config), &view,
                         e);
    if (rc < 0)
        return rc;
    if (!r->options->dry_run)
        rc = blob_pull_team(1, &u.team, e);
    if (rc == 0)
        rc = try_twins(&u, &view, e);
    hash_team_free(u.team);
    image_view_done(&view);
    return rc;
}
