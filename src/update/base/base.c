/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which base an ask has, and the rules of its place and the state directory.
 */
#include "update/base/base.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "update/record/record_dir.h"

int base_open(const struct update_ask *ask, struct base **ret, struct larder_error *e)
{
    CLEANUP(base_closep) struct base *b = NULL;

    int r = ask->is_ostree ? base_ostree_open(ask, &b, e) : base_store_open(ask, &b, e);
    if (r == 0 && ask->options->state_dir)
        r = record_dir_open(ask->options->state_dir, true, &b->state_dir, e);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(b);
    return 0;
}

void base_close(struct base *b)
{
    if (!b)
        return;
    record_dir_close(b->state_dir);
    free(b->place);
    free(b->identity);
    b->ops->close(b);
}

void base_holders_done(struct base_holders *holders)
{
    for (size_t i = 0; i < holders->n; i++) {
        struct base_holder *h = &holders->list[i];
        free(h->commit);
        free(h->media_type);
        buf_done(&h->manifest);
        buf_done(&h->config);
        image_view_done(&h->view);
    }
    free(holders->list);
    *holders = (struct base_holders){NULL, 0};
}

const char *base_record_place_name(enum base_record_place place)
{
    switch (place) {
    case BASE_RECORD_STORE:
        return "store";
    case BASE_RECORD_REPOSITORY:
        return "repository";
    case BASE_RECORD_STATE_DIR:
        return "state directory";
    case BASE_RECORD_NONE:
        break;
    }
    return "none";
}

static enum base_record_place own_place(const struct base *b)
{
    return b->ask->is_ostree ? BASE_RECORD_REPOSITORY : BASE_RECORD_STORE;
}

/* ---- what a record means ---- */

enum record_meaning record_meaning(const struct update_record *record,
                                   const struct base_holder *base)
{
    bool is_bound = record && record->base.alg != LARDER_DIGEST_NONE;

    if (!record)
        return RECORD_VOID;
    if (!base) /* whatever it was bound to is gone */
        return !is_bound && record->has_update ? RECORD_UPDATE : RECORD_VOID;
    /* Both before and after the name or ref was moved to it. */
    if (record->has_update && larder_digest_equal(&record->manifest_digest, &base->digest))
        return RECORD_CONSUMED;
    if (!is_bound || !larder_digest_equal(&record->base, &base->digest))
        return RECORD_VOID;
    if (record->commit && base->commit && strcmp(record->commit, base->commit) != 0)
        return RECORD_VOID;
    return record->has_update ? RECORD_UPDATE : RECORD_UNCHANGED;
}

/* ---- place and state directory ---- */

static int state_key(const struct base *b, const struct base_holder *holder, char **ret,
                     struct larder_error *e)
{
    return record_key(b->ask->ref, b->ask->platform_text, b->identity,
                      holder ? holder->commit : NULL, ret, e);
}

/* NOENT without a state directory. */
static int state_get(struct base *b, const struct base_holder *holder, struct update_record *ret,
                     struct larder_error *e)
{
    CLEANUP_FREE char *key = NULL;

    if (!b->state_dir)
        return -LARDER_NOENT;
    int r = state_key(b, holder, &key, e);
    return r < 0 ? r : record_dir_get(b->state_dir, key, ret, e);
}

/*
 * Whoever writes to the place removes the state directory's, so that one that is there was written
 * while the place could not be: it is newer than a record of ours in the place. Others may have
 * written there since, so the times decide; where they tell none, ours does.
 */
static bool is_state_better(const struct base_holder *holder, int place_result,
                            const struct update_record *place, const struct update_record *state)
{
    if (record_meaning(state, holder) == RECORD_VOID)
        return false;
    return place_result < 0 || record_meaning(place, holder) == RECORD_VOID ||
           state->checked_ns > place->checked_ns;
}

int base_record_get(struct base *b, const struct base_holder *holder, struct update_record *ret,
                    enum base_record_place *ret_place, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct update_record in_place = {0};
    struct update_record in_state = {0};

    int r = b->ops->record_get(b, holder, &in_place, &why);
    int r2 = state_get(b, holder, &in_state, NULL);
    if (r2 == 0 && is_state_better(holder, r, &in_place, &in_state)) {
        record_done(&in_place);
        *ret = in_state;
        *ret_place = BASE_RECORD_STATE_DIR;
        return 0;
    }
    record_done(&in_state);
    if (r == 0) {
        *ret = in_place;
        *ret_place = own_place(b);
        return 0;
    }
    /* A damaged one is told of only where there is no other to be told of. */
    if (r == -LARDER_NOENT && r2 < 0 && r2 != -LARDER_NOENT)
        return state_get(b, holder, ret, e);
    if (e)
        *e = why;
    return r;
}

static int state_remove(struct base *b, const struct base_holder *holder, struct larder_error *e)
{
    CLEANUP_FREE char *key = NULL;

    if (!b->state_dir)
        return 0;
    int r = state_key(b, holder, &key, e);
    return r < 0 ? r : record_dir_remove(b->state_dir, key, e);
}

static int state_put(struct base *b, const struct base_holder *holder,
                     const struct update_record *record, struct larder_error *e)
{
    CLEANUP_FREE char *key = NULL;
    int r = state_key(b, holder, &key, e);
    return r < 0 ? r : record_dir_put(b->state_dir, key, record, e);
}

int base_record_put(struct base *b, const struct base_holder *holder,
                    const struct update_record *record, enum base_record_place *ret_place,
                    struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct larder_error other = LARDER_ERROR_INIT;

    int r = b->ops->record_put(b, holder, record, &why);
    if (r >= 0) {
        /* Should that fail, the older time gives it away. */
        (void)!state_remove(b, holder, NULL);
        *ret_place = own_place(b);
        return 0;
    }
    if (r == -LARDER_DENIED && b->state_dir) {
        r = state_put(b, holder, record, &other);
        if (r >= 0) {
            *ret_place = BASE_RECORD_STATE_DIR;
            return 0;
        }
        return error_set(e, r == -LARDER_DENIED ? LARDER_DENIED : other.code, "%s; %s", why.msg,
                         other.msg);
    }
    if (e)
        *e = why;
    return r;
}

int base_record_touch(struct base *b, const struct base_holder *holder, int64_t checked_ns,
                      struct larder_error *e)
{
    enum base_record_place place = BASE_RECORD_NONE;
    struct update_record record = {0};
    CLEANUP_FREE char *key = NULL;

    if (!b->state_dir)
        return b->ops->record_touch(b, holder, checked_ns, e);
    /* The one that counts: the other would be taken for the newer. */
    int r = base_record_get(b, holder, &record, &place, e);
    record_done(&record);
    if (r < 0)
        return r;
    if (place != BASE_RECORD_STATE_DIR)
        return b->ops->record_touch(b, holder, checked_ns, e);
    r = state_key(b, holder, &key, e);
    return r < 0 ? r : record_dir_touch(b->state_dir, key, checked_ns, e);
}

int base_record_remove(struct base *b, const struct base_holder *holder, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;

    int r = state_remove(b, holder, &why);
    int r2 = b->ops->record_remove(b, holder, r < 0 ? NULL : &why);
    if (r >= 0 && r2 >= 0)
        return r || r2;
    if (e)
        *e = why;
    return r < 0 ? r : r2;
}
