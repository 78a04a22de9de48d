/* SPDX-License-Identifier: Apache-2.0 */
#include "update/fetch/fetch_run.h"

#include <string.h>

#include "base/error.h"
#include "store/copy/copy.h"

/* ---- what is there ---- */

/* The manifest as it is, where it is here: then nobody has to be asked for it. */
static int take_manifest(struct fetch_run *r, struct store *from, struct larder_error *e)
{
    struct buf bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    struct store_descriptor found = {0};
    bool was_exact = r->is_exact;

    if (from->ops->manifest_get(from, NULL, &r->root.digest, &bytes, &found, NULL) < 0) {
        buf_done(&bytes);
        return 0;
    }
    buf_done(&r->manifest);
    r->manifest = bytes;
    r->root.size_bytes = found.size_bytes;
    if (found.media_type[0])
        memcpy(r->root.media_type, found.media_type, sizeof(found.media_type));
    r->is_exact = r->is_manifest_here = true;
    return was_exact ? 0 : fetch_blobs_read(r, e);
}

/* Whether the destination's name points to it, with all that it needs. */
static bool is_done(const struct fetch_run *r)
{
    struct store *to = r->to.store;
    struct store_descriptor found = {0};

    return to && r->is_manifest_here && fetch_is_complete(r) &&
           to->ops->resolve(to, fetch_to_ref(r), &found, NULL) >= 0 &&
           larder_digest_equal(&found.digest, &r->root.digest);
}

static bool is_base_name(const struct fetch_run *r)
{
    return !r->ask->is_ostree && !r->is_layout && strcmp(r->to.ref, r->ask->name) == 0;
}

/* What the name points to before anything is moved. The base's was asked for when the record had
 * not been read: what the record is for can't have been another. */
static int look_at_ref(struct fetch_run *r, struct larder_error *e)
{
    struct store_descriptor found = {0};
    struct larder_error why = LARDER_ERROR_INIT;
    struct store *to = r->to.store;
    int rc = to && !is_base_name(r) ? to->ops->resolve(to, fetch_to_ref(r), &found, &why) : 0;

    r->ref_was = is_base_name(r) ? r->base_was : found.digest;
    r->is_ref_damaged = rc == -LARDER_CORRUPT;
    if (rc >= 0 || rc == -LARDER_NOENT || r->is_ref_damaged)
        return 0;
    if (e)
        *e = why;
    return rc;
}

static int look_first(struct fetch_run *r, struct larder_error *e)
{
    int rc = fetch_places_read(r, e);

    if (rc == 0)
        rc = fetch_blobs_read(r, e);
    if (rc == 0 && r->is_layout && r->ask->store)
        rc = dir_store_open(r->ask->store, 0, &r->near, e);
    if (rc == 0)
        rc = fetch_to_look(r, e);
    if (rc == 0)
        rc = look_at_ref(r, e);
    if (rc == 0 && r->to.store)
        rc = take_manifest(r, r->to.store, e);
    if (rc == 0)
        rc = fetch_look(r, e);
    if (rc == 0)
        r->was_there = is_done(r);
    /* A layout's manifest may come from the store as layers do, but it is not there yet. */
    if (rc == 0 && r->near && !r->is_manifest_here) {
        rc = take_manifest(r, r->near, e);
        if (rc == 0)
            rc = fetch_look(r, e);
    }
    return rc;
}

/* ---- fetching ---- */

static int ask_if_needed(struct fetch_run *r, struct larder_error *e)
{
    bool is_needed = !r->is_manifest_here || fetch_has(r, FETCH_MISSING);

    return is_needed && !r->source.store ? fetch_source_ask(r, e) : 0;
}

static int copy_from(struct fetch_run *r, enum fetch_where where, struct store *from,
                     struct larder_error *e)
{
    const struct copy_options options = {.jobs = r->options->jobs,
                                         .observer = relay_observer(r->relay)};
    CLEANUP_FREE struct copy_blob *list = calloc(r->n_blobs + 1, sizeof(*list));
    struct copy_result result = {0};
    size_t n = 0;
    int rc;

    if (!list)
        return error_nomem(e);
    for (size_t i = 0; i < r->n_blobs; i++) {
        if (r->blobs[i].where == where)
            list[n++] = (struct copy_blob){.from = from, .blob = r->blobs[i].blob};
    }
    if (n == 0)
        return 0;
    rc = copy_blobs(list, n, r->to.store, &options, &result, e);
    if (rc == 0)
        r->resumed_bytes += result.bytes_resumed;
    return rc;
}

/* What the store could not give is fetched: gc was faster, or it is damaged. */
static int copy_near(struct fetch_run *r, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    int rc = copy_from(r, FETCH_NEAR, r->near, &why);

    if (rc != -LARDER_NOENT && rc != -LARDER_CORRUPT) {
        if (rc < 0 && e)
            *e = why;
        return rc;
    }
    for (size_t i = 0; i < r->n_blobs; i++) {
        struct fetch_blob *b = &r->blobs[i];
        if (b->where == FETCH_NEAR && r->to.store->ops->blob_has(r->to.store, &b->blob, NULL) != 1)
            b->where = FETCH_MISSING;
    }
    return ask_if_needed(r, e);
}

static int copy_missing(struct fetch_run *r, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    int rc = fetch_has(r, FETCH_MISSING) ? copy_from(r, FETCH_MISSING, r->source.store, &why) : 0;

    /* What came until then stays, for a run that finds the blob back; the record, too. */
    if (rc == -LARDER_NOENT || rc == -LARDER_GONE)
        rc = fetch_gone(r, &why);
    if (rc < 0 && e)
        *e = why;
    return rc;
}

/* From here on nothing that is here can go. */
static int hold(struct fetch_run *r, struct larder_error *e)
{
    int rc = fetch_to_write(r, e);

    if (rc == 0)
        rc = fetch_hold(r, e);
    if (rc == 0)
        rc = fetch_look(r, e);
    if (rc == 0)
        rc = fetch_verify(r, e);
    if (rc == 0)
        rc = ask_if_needed(r, e);
    /* Damage and gc may have made it more than it was. */
    return rc < 0 ? rc : fetch_space(r, e);
}

/* A layout has no way to look and move at once; what remains is the time of one small write. */
static int check_layout_ref(const struct fetch_run *r, struct larder_error *e)
{
    struct store *to = r->to.store;
    struct store_descriptor now = {0};
    char text[LARDER_DIGEST_TEXT_BYTES];

    if (to->ops->resolve(to, fetch_to_ref(r), &now, NULL) < 0 ||
        larder_digest_equal(&now.digest, &r->ref_was) ||
        larder_digest_equal(&now.digest, &r->root.digest))
        return 0;
    return error_set(e, LARDER_BUSY, "%s: was moved by somebody, and points to %s now", r->to_text,
                     larder_digest_format(&now.digest, text));
}

static int put_name(struct fetch_run *r, struct larder_error *e)
{
    struct store *to = r->to.store;
    const char *ref = fetch_to_ref(r);
    int rc = 0;

    if (!r->is_layout)
        dir_store_expect(to, r->is_ref_damaged ? NULL : &r->ref_was);
    else if (!r->is_ref_damaged)
        rc = check_layout_ref(r, e);
    if (rc == 0)
        rc = to->ops->manifest_put(to, &r->root, buf_slice(&r->manifest), &ref, 1, e);
    if (rc == -LARDER_BUSY && e && !e->hint[0])
        error_hint(e,
                   "what was fetched stays for a while; `larder update check` compares with what "
                   "is there now");
    if (rc >= 0 && to->ops->flush)
        rc = to->ops->flush(to, e);
    return rc < 0 ? rc : 0;
}

static int bring(struct fetch_run *r, struct larder_error *e)
{
    int rc = ask_if_needed(r, e);

    if (rc == 0)
        rc = fetch_look(r, e);
    if (rc == 0)
        rc = fetch_space(r, e);
    if (rc == 0)
        rc = hold(r, e);
    if (rc == 0)
        rc = fetch_reuse(r, e);
    if (rc == 0)
        rc = copy_near(r, e);
    if (rc == 0)
        rc = copy_missing(r, e);
    if (rc == 0)
        rc = put_name(r, e);
    fetch_hold_end(r);
    if (rc == 0)
        r->was_there = !r->source.store && !fetch_has(r, FETCH_NEAR);
    return rc;
}

/* A no is one; whoever answers otherwise (storage that takes no HEAD) may have it all the same. */
static int ask_for_blobs(struct fetch_run *r, struct larder_error *e)
{
    struct store *from = r->source.store;
    struct larder_error why = LARDER_ERROR_INIT;
    char text[LARDER_DIGEST_TEXT_BYTES];
    int rc = 1;

    for (size_t i = 0; from && i < r->n_blobs; i++) {
        const struct store_descriptor *blob = &r->blobs[i].blob;
        if (r->blobs[i].where == FETCH_MISSING)
            rc = from->ops->blob_has(from, blob, &why);
        if (rc == -LARDER_CANCELED || rc == -LARDER_NOMEM) {
            if (e)
                *e = why;
            return rc;
        }
        if (rc != 0)
            continue;
        error_set(e, LARDER_NOENT, "%s: no such blob", larder_digest_format(&blob->digest, text));
        return fetch_gone(r, e);
    }
    return 0;
}

/* What bring() would come to, without writing anything. */
static int foresee(struct fetch_run *r, struct larder_error *e)
{
    int rc = ask_if_needed(r, e);

    if (rc == 0)
        rc = fetch_look(r, e);
    if (rc == 0)
        rc = fetch_reuse(r, e);
    return rc < 0 ? rc : ask_for_blobs(r, e);
}

int fetch_run(struct fetch_run *r, struct larder_error *e)
{
    int rc = look_first(r, e);

    if (rc < 0 || r->was_there)
        return rc;
    return r->options->dry_run ? foresee(r, e) : bring(r, e);
}

void fetch_run_done(struct fetch_run *r)
{
    fetch_hold_end(r);
    free(r->blobs);
    store_close(r->near);
    place_done(&r->source);
    place_done(&r->to);
    buf_done(&r->manifest);
    buf_done(&r->config);
}

/* A dry run tells of sizes that no disk has; JSON has no larger numbers for them. */
static void add_bytes(uint64_t *sum, uint64_t bytes)
{
    *sum = bytes > INT64_MAX - *sum ? INT64_MAX : *sum + bytes;
}

void fetch_run_sums(const struct fetch_run *r, struct larder_update_fetched *ret)
{
    struct store *to = r->to.store;

    for (size_t i = 0; i < r->n_blobs; i++) {
        const struct fetch_blob *b = &r->blobs[i];
        uint64_t size = b->is_layer ? b->blob.size_bytes : 0;
        bool is_fetched = b->where == FETCH_MISSING;
        bool is_unpacked = b->where == FETCH_UNPACKED;
        ret->is_partial |= b->where == FETCH_LEFT_OUT;
        ret->layers_fetched += b->is_layer && is_fetched;
        add_bytes(&ret->bytes_fetched, is_fetched ? size : 0);
        ret->layers_unpacked += is_unpacked;
        ret->layers_here += b->is_layer && !is_fetched && !is_unpacked;
        add_bytes(&ret->bytes_here, is_fetched || is_unpacked ? 0 : size);
        if (r->options->dry_run && is_fetched && to && to->ops->blob_kept)
            ret->bytes_resumed += to->ops->blob_kept(to, &b->blob);
    }
    ret->bytes_resumed += r->resumed_bytes;
    ret->bytes_fetched -=
        ret->bytes_resumed < ret->bytes_fetched ? ret->bytes_resumed : ret->bytes_fetched;
    ret->digest = r->root.digest;
    ret->was_there = r->was_there;
    if (r->source.store && r->source.store->ops->requests)
        ret->requests += r->source.store->ops->requests(r->source.store);
}
