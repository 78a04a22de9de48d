/* SPDX-License-Identifier: Apache-2.0 */
#include "update/answer.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

static int copy_text(const char *text, char **ret, struct larder_error *e)
{
    *ret = text ? strdup(text) : NULL;
    return text && !*ret ? error_nomem(e) : 0;
}

static int tell_image(const struct larder_digest *digest, const struct image_view *view,
                      struct larder_update_image *ret, struct larder_error *e)
{
    ret->digest = *digest;
    ret->timestamp_ns = view->timestamp_ns;
    return copy_text(view->version, &ret->version, e);
}

/* A record's image, as far as it can be read: what it keeps is what others wrote, too. */
struct kept_image {
    struct image_view view;
    struct larder_error why; /* code OK: view is set */
};

/* NOMEM only. */
static int read_kept(const struct update_record *record, struct kept_image *ret,
                     struct larder_error *e)
{
    *ret = (struct kept_image){.view = {.manifest = NULL}};
    int r = image_view_read(buf_slice(&record->manifest), record->media_type,
                            buf_slice(&record->config), &ret->view, &ret->why);
    if (r == -LARDER_NOMEM)
        return error_nomem(e);
    if (r < 0)
        error_context(&ret->why, "record of %s", record->ref ? record->ref : "the update");
    return 0;
}

/* ---- holders ---- */

static int tell_holder_update(const struct update_record *record, const struct kept_image *kept,
                              struct larder_update_holder *ret, struct larder_error *e)
{
    ret->is_corrupt = kept->why.code != LARDER_OK;
    return ret->is_corrupt ? 0 : tell_image(&record->manifest_digest, &kept->view, &ret->update, e);
}

static bool is_same_commit(const struct base_holder *a, const struct base_holder *b)
{
    return a == b || (a->commit && b->commit && strcmp(a->commit, b->commit) == 0);
}

/* The record kept with a deployment; that of the base was read already. */
static int read_holder_record(struct base *base, const struct base_holder *holder,
                              struct update_record *ret, struct larder_update_holder *told,
                              struct larder_error *e)
{
    enum base_record_place place = BASE_RECORD_NONE;
    struct larder_error why = LARDER_ERROR_INIT;

    int r = base_record_get(base, holder, ret, &place, &why);
    if (r == -LARDER_NOENT)
        return 0;
    if (r == -LARDER_CORRUPT || r == -LARDER_UNSUPPORTED) {
        told->is_corrupt = true;
        return 0;
    }
    if (r < 0 && e)
        *e = why;
    return r < 0 ? r : 1;
}

/* That of a deployment that is not the base. */
static int tell_own_record(struct base *base, const struct base_holder *holder,
                           struct larder_update_holder *ret, struct larder_error *e)
{
    struct update_record own = {0};
    struct kept_image kept;

    int r = read_holder_record(base, holder, &own, ret, e);
    if (r > 0 && own.has_update && record_meaning(&own, holder) != RECORD_VOID) {
        r = read_kept(&own, &kept, e);
        if (r == 0)
            r = tell_holder_update(&own, &kept, ret, e);
        image_view_done(&kept.view);
    }
    record_done(&own);
    return r < 0 ? r : 0;
}

/* What is told about: the base's record, and the image that it keeps (NULL: none that counts). */
struct found {
    const struct update_record *record;
    const struct kept_image *kept;
};

static int tell_holder(struct base *base, const struct base_holders *holders, size_t i,
                       const struct found *found, struct larder_update_holder *ret,
                       struct larder_error *e)
{
    const struct base_holder *h = &holders->list[i];

    int r = copy_text(h->role, &ret->role, e);
    if (r == 0)
        r = copy_text(h->commit, &ret->commit, e);
    if (r == 0)
        r = tell_image(&h->digest, &h->view, &ret->image, e);
    if (r < 0)
        return r;
    if (!is_same_commit(h, &holders->list[0]))
        return tell_own_record(base, h, ret, e);
    return found->kept ? tell_holder_update(found->record, found->kept, ret, e) : 0;
}

static int tell_holders(struct base *base, const struct base_holders *holders,
                        const struct found *found, struct larder_update *ret,
                        struct larder_error *e)
{
    ret->holders = calloc(holders->n + 1, sizeof(*ret->holders));
    if (!ret->holders)
        return error_nomem(e);
    for (size_t i = 0; i < holders->n; i++) {
        int r = tell_holder(base, holders, i, found, &ret->holders[ret->n_holders++], e);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- the update ---- */

/* Not finalized yet, or waiting for the next boot. */
static const struct base_holder *find_staged(const struct base_holders *holders,
                                             const struct larder_digest *digest)
{
    for (size_t i = 0; i < holders->n; i++) {
        const struct base_holder *h = &holders->list[i];
        if ((strcmp(h->role, "staged") == 0 || strcmp(h->role, "pending") == 0) &&
            (!digest || larder_digest_equal(&h->digest, digest)))
            return h;
    }
    return NULL;
}

static int tell_diff(struct base *base, const struct image_view *from, const struct image_view *to,
                     struct larder_update *ret, struct larder_error *e)
{
    CLEANUP_FREE enum larder_update_presence *presence =
        calloc(to->n_layers + 1, sizeof(*presence));
    if (!presence)
        return error_nomem(e);
    int r = base->ops->layers_here(base, to, presence, e);
    return r < 0 ? r : update_diff(from, to, presence, &ret->diff, e);
}

static int tell_update(struct base *base, const struct base_holders *holders,
                       const struct found *found, struct larder_update *ret, struct larder_error *e)
{
    const struct larder_digest *digest = &found->record->manifest_digest;
    const struct image_view *view = &found->kept->view;

    if (found->kept->why.code != LARDER_OK) {
        ret->state = LARDER_UPDATE_CORRUPT;
        return copy_text(found->kept->why.msg, &ret->why, e);
    }
    ret->state = find_staged(holders, digest) ? LARDER_UPDATE_STAGED : LARDER_UPDATE_AVAILABLE;
    int r = tell_image(digest, view, &ret->update, e);
    return r < 0 ? r : tell_diff(base, holders->n ? &holders->list[0].view : NULL, view, ret, e);
}

static int tell_record(const struct update_record *record, enum base_record_place place,
                       struct larder_update *ret, struct larder_error *e)
{
    ret->listed = record->listed;
    ret->checked_at_ns = record->checked_ns;
    ret->is_persisted = place != BASE_RECORD_NONE;
    return copy_text(ret->is_persisted ? base_record_place_name(place) : NULL, &ret->record, e);
}

/* ---- an update that was taken ---- */

static size_t find_role(const struct base_holders *holders, const char *role)
{
    size_t i = 0;
    while (i < holders->n && strcmp(holders->list[i].role, role) != 0)
        i++;
    return i;
}

/*
 * After an upgrade the image's ref is at the new commit, which has no record yet; the booted one
 * still says which update was found, and that is what waits for the next boot.
 */
static int tell_taken(struct base *base, const struct base_holders *holders,
                      struct larder_update *ret, struct larder_error *e)
{
    enum base_record_place place = BASE_RECORD_NONE;
    struct update_record record = {0};
    size_t at = find_role(holders, "booted");

    if (at == holders->n || ret->holders[at].update.digest.alg == LARDER_DIGEST_NONE ||
        larder_digest_equal(&ret->holders[at].update.digest, &holders->list[at].digest))
        return 0;
    const struct base_holder *booted = &holders->list[at];
    const struct base_holder *staged = find_staged(holders, &ret->holders[at].update.digest);
    int r = staged ? base_record_get(base, booted, &record, &place, e) : 0;
    if (r < 0 || !staged)
        return r;
    free(ret->current.version);
    ret->current = (struct larder_update_image){.version = NULL};
    ret->state = LARDER_UPDATE_STAGED;
    r = tell_image(&booted->digest, &booted->view, &ret->current, e);
    if (r == 0)
        r = tell_image(&staged->digest, &staged->view, &ret->update, e);
    if (r == 0)
        r = tell_diff(base, &booted->view, &staged->view, ret, e);
    if (r == 0)
        r = tell_record(&record, place, ret, e);
    record_done(&record);
    return r;
}

/* ---- all of it ---- */

static int tell(struct base *base, const struct base_holders *holders, const struct found *found,
                enum base_record_place place, enum record_meaning meaning,
                struct larder_update *ret, struct larder_error *e)
{
    int r = copy_text(base->ask->ref, &ret->ref, e);
    if (r == 0)
        r = copy_text(base->ask->platform_text, &ret->platform, e);
    if (r == 0)
        r = copy_text(base->place, &ret->place, e);
    if (r == 0 && holders->n > 0)
        r = tell_image(&holders->list[0].digest, &holders->list[0].view, &ret->current, e);
    if (r == 0)
        r = tell_holders(base, holders, found, ret, e);
    if (r < 0)
        return r;
    if (meaning == RECORD_VOID)
        return tell_taken(base, holders, ret, e);
    r = tell_record(found->record, place, ret, e);
    if (r < 0)
        return r;
    if (meaning == RECORD_UPDATE && found->kept)
        return tell_update(base, holders, found, ret, e);
    ret->state = LARDER_UPDATE_UNCHANGED;
    return 0;
}

int update_answer(struct base *base, const struct base_holders *holders,
                  const struct update_record *record, enum base_record_place place,
                  struct larder_update *ret, struct larder_error *e)
{
    enum record_meaning meaning = record_meaning(record, holders->n ? &holders->list[0] : NULL);
    struct kept_image kept = {.view = {.manifest = NULL}};
    struct found found = {record, NULL};
    int r = 0;

    ret->size = sizeof(*ret);
    ret->state = LARDER_UPDATE_UNKNOWN;
    if (meaning != RECORD_VOID && record->has_update) {
        r = read_kept(record, &kept, e);
        found.kept = &kept;
    }
    if (r == 0)
        r = tell(base, holders, &found, place, meaning, ret, e);
    image_view_done(&kept.view);
    return r;
}
