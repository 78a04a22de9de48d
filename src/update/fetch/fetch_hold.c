/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeping gc away while an image is on its way.
 *
 * Into the store: its manifest goes there first (without a name nobody sees it), and one lease on
 * it holds all that it names (dir/lease.h), what is here and what arrives later alike. A lease for
 * each blob would be a file for each of 70 layers (4 to 38 ms on ext4, one is 0.05 ms), and taken
 * only when the blob is there: between its publication and its lease a gc could take it.
 *
 * Into a layout, which no gc visits: the few layers that are copied from the store are leased one
 * by one. That saves bytes, not correctness: one that goes all the same is fetched. So a store that
 * can't be written is used without.
 */
#include <unistd.h>

#include "base/error.h"
#include "store/dir/lease.h"
#include "update/fetch/fetch_run.h"

#define PURPOSE "update fetch"
/* A gc may take the manifest before it is leased. More often than a few times is no accident. */
#define TRIES_MAX 16

static int room(struct fetch_run *r, size_t n, struct larder_error *e)
{
    r->leases = calloc(n, sizeof(*r->leases));
    return r->leases ? 0 : error_nomem(e);
}

static int hold_image(struct fetch_run *r, struct larder_error *e)
{
    struct store *to = r->to.store;
    int rc = room(r, 1, e);

    for (unsigned i = 0; rc == 0 && i < TRIES_MAX; i++) {
        rc = to->ops->manifest_put(to, &r->root, buf_slice(&r->manifest), NULL, 0, e);
        if (rc >= 0)
            rc = to->ops->flush(to, e);
        if (rc < 0)
            return rc;
        rc = lease_image(r->ask->store, &r->root.digest, r->root.media_type, PURPOSE, r->leases[0],
                         e);
        if (rc == 0)
            r->n_leases = 1;
        if (rc != -LARDER_NOENT)
            return rc;
        error_clear(e);
        rc = 0;
    }
    return rc < 0
               ? rc
               : error_set(e, LARDER_BUSY, "%s: gc takes the manifest again and again", to->name);
}

static int hold_near(struct fetch_run *r, struct larder_error *e)
{
    int rc = fetch_has(r, FETCH_NEAR) ? room(r, r->n_blobs, e) : 0;

    if (rc < 0 || !r->leases)
        return rc;
    for (size_t i = 0; i < r->n_blobs; i++) {
        if (r->blobs[i].where == FETCH_NEAR &&
            larder_lease_process(r->ask->store, &r->blobs[i].blob.digest, getpid(), PURPOSE,
                                 r->leases[r->n_leases], NULL) == 0)
            r->n_leases++;
    }
    return 0;
}

int fetch_hold(struct fetch_run *r, struct larder_error *e)
{
    return r->is_layout ? hold_near(r, e) : hold_image(r, e);
}

void fetch_hold_end(struct fetch_run *r)
{
    /* One that can't be given back ends with the process. */
    for (size_t i = 0; i < r->n_leases; i++)
        (void)!larder_lease_release(r->ask->store, r->leases[i], NULL);
    free(r->leases);
    r->leases = NULL;
    r->n_leases = 0;
}
