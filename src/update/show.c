/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept of updates, told without asking anybody. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "update/answer.h"

const char *larder_update_state_name(enum larder_update_state state)
{
    switch (state) {
    case LARDER_UPDATE_UNKNOWN:
        return "unknown";
    case LARDER_UPDATE_UNCHANGED:
        return "unchanged";
    case LARDER_UPDATE_AVAILABLE:
        return "available";
    case LARDER_UPDATE_STAGED:
        return "staged";
    case LARDER_UPDATE_CORRUPT:
        return "corrupt";
    }
    return "?";
}

void larder_update_done(struct larder_update *update)
{
    if (!update)
        return;
    free(update->ref);
    free(update->platform);
    free(update->place);
    free(update->current.version);
    free(update->update.version);
    free(update->diff.layers);
    free(update->record);
    free(update->why);
    for (size_t i = 0; i < update->n_holders; i++) {
        free(update->holders[i].role);
        free(update->holders[i].commit);
        free(update->holders[i].image.version);
        free(update->holders[i].update.version);
    }
    free(update->holders);
    *update = (struct larder_update){.size = update->size};
}

/* The base is fine, and is told of; the record can't be. */
static int tell_corrupt(struct larder_update *made, const struct larder_error *why,
                        struct larder_error *e)
{
    made->state = LARDER_UPDATE_CORRUPT;
    if (made->n_holders > 0)
        made->holders[0].is_corrupt = true;
    free(made->why);
    made->why = strdup(why->msg);
    return made->why ? 0 : error_nomem(e);
}

static int show_base(struct base *base, struct larder_update *made, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    enum base_record_place place = BASE_RECORD_NONE;
    struct base_holders holders = {NULL, 0};
    struct update_record record = {0};

    int r = base->ops->holders(base, &holders, e);
    if (r < 0)
        return r;
    int found = base_record_get(base, holders.n ? &holders.list[0] : NULL, &record, &place, &why);
    if (found < 0 && found != -LARDER_NOENT && found != -LARDER_CORRUPT) {
        r = found;
        if (e)
            *e = why;
    }
    if (r == 0)
        r = update_answer(base, &holders, found == 0 ? &record : NULL, place, made, e);
    if (r == 0 && found == -LARDER_CORRUPT)
        r = tell_corrupt(made, &why, e);
    record_done(&record);
    base_holders_done(&holders);
    return r;
}

static int show(const struct update_ask *ask, struct larder_update *ret, struct larder_error *e)
{
    CLEANUP(base_closep) struct base *base = NULL;
    struct larder_update made = {0};

    int r = base_open(ask, &base, e);
    if (r == 0)
        r = show_base(base, &made, e);
    if (r < 0) {
        larder_update_done(&made);
        return r;
    }
    made.size = ret->size;
    *ret = made;
    return 0;
}

int larder_update_show(struct larder_store *store, const char *ref,
                       const struct larder_update_options *options, struct larder_update *ret,
                       struct larder_error *e)
{
    struct update_ask ask = {0};

    int r = update_ask_read(store, ref, options, &ask, e);
    if (r == 0)
        r = show(&ask, ret, e);
    update_ask_done(&ask);
    return r;
}

struct each {
    int (*fn)(void *arg, const struct larder_update *update);
    void *arg;
    struct larder_error *e;
};

/* One base that is damaged hides no other. */
static int tell_damaged_base(const struct update_ask *ask, const struct larder_error *why,
                             struct larder_update *ret, struct larder_error *e)
{
    ret->state = LARDER_UPDATE_CORRUPT;
    ret->ref = strdup(ask->ref);
    ret->platform = strdup(ask->platform_text);
    ret->why = strdup(why->msg);
    return ret->ref && ret->platform && ret->why ? 0 : error_nomem(e);
}

static int show_each(void *arg, const struct update_ask *ask)
{
    struct each *each = arg;
    struct larder_update update = {.size = sizeof(update)};
    struct larder_error why = LARDER_ERROR_INIT;

    int r = show(ask, &update, &why);
    if (r == -LARDER_CORRUPT) {
        r = tell_damaged_base(ask, &why, &update, each->e);
    } else if (r < 0 && each->e) {
        *each->e = why;
    }
    if (r < 0) {
        larder_update_done(&update);
        return r;
    }
    r = each->fn(each->arg, &update);
    larder_update_done(&update);
    return r;
}

int larder_update_each(struct larder_store *store, const struct larder_update_options *options,
                       int (*fn)(void *arg, const struct larder_update *update), void *arg,
                       struct larder_error *e)
{
    struct each each = {fn, arg, e};

    if (options && options->name)
        return error_set(e, LARDER_INVAL, "store:%s: each update has its own name", options->name);
    return base_each_ref(store, options, show_each, &each, e);
}
