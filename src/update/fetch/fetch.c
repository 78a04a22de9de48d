/* SPDX-License-Identifier: Apache-2.0 */
/* larder_update_fetch: the image that was recorded, no other one. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "update/check.h"
#include "update/fetch/fetch_run.h"

struct fetch_call {
    struct update_ask ask;
    const struct larder_update_fetch_options *options;
    struct base *base;
    struct base_holders holders;
    struct update_record record;
    struct relay *relay;
    char *to_text;
    struct fetch_run run;
    bool is_done; /* an ostree repository has imported it already */
};

static void call_done(struct fetch_call *c)
{
    fetch_run_done(&c->run);
    relay_free(c->relay);
    record_done(&c->record);
    base_holders_done(&c->holders);
    base_close(c->base);
    update_ask_done(&c->ask);
    free(c->to_text);
}

/* ---- which image ---- */

static int copy_bytes(const struct buf *from, struct buf *to, struct larder_error *e)
{
    buf_append(to, from->p, from->n);
    return buf_failed(to, e);
}

static int take_image(struct fetch_call *c, const struct larder_digest *digest,
                      const char *media_type, bool is_rewritten, const struct buf *manifest,
                      const struct buf *config, struct larder_error *e)
{
    struct fetch_run *r = &c->run;
    int rc = copy_bytes(manifest, &r->manifest, e);

    r->root.digest = *digest;
    r->root.size_bytes = manifest->n;
    r->is_exact = !is_rewritten;
    if (media_type)
        strncpy(r->root.media_type, media_type, sizeof(r->root.media_type) - 1);
    return rc < 0 ? rc : copy_bytes(config, &r->config, e);
}

static int take_base(struct fetch_call *c, struct larder_error *e)
{
    const struct base_holder *b = &c->holders.list[0];

    /* Into a repository nothing is fetched here: what it has was imported. */
    c->is_done = c->ask.is_ostree && !c->options->to;
    return take_image(c, &b->digest, b->media_type, b->is_rewritten, &b->manifest, &b->config, e);
}

/* Staged already: the booted deployment's record names what the image's ref points to by now. */
static bool is_staged(struct fetch_call *c)
{
    bool is = false;

    for (size_t i = 1; !is && i < c->holders.n; i++) {
        struct update_record other = {0};
        enum base_record_place place;
        is = base_record_get(c->base, &c->holders.list[i], &other, &place, NULL) == 0 &&
             other.has_update &&
             larder_digest_equal(&other.manifest_digest, &c->holders.list[0].digest);
        record_done(&other);
    }
    return is;
}

static int none_recorded(const struct fetch_call *c, struct larder_error *e)
{
    error_set(e, LARDER_NOENT, "%s: no update is recorded for what is in use now", c->ask.ref);
    if (c->ask.is_ostree && c->holders.n == 0 && !c->ask.options->state_dir)
        return error_hint(e, "the repository has no image of it yet to keep a record with: check "
                             "and fetch with --state-dir DIR");
    return error_hint(e, "run `larder update check`");
}

/* Before the base and its record are read, so that nothing that comes after is missed. */
static int look_at_name(struct fetch_call *c, struct larder_error *e)
{
    CLEANUP(store_closep) struct store *store = NULL;
    struct larder_error why = LARDER_ERROR_INIT;
    struct store_descriptor found = {0};
    int rc = c->ask.is_ostree ? 0 : dir_store_open(c->ask.store, 0, &store, e);

    if (rc < 0 || !store)
        return rc;
    rc = store->ops->resolve(store, c->ask.name, &found, &why);
    c->run.base_was = found.digest;
    if (rc >= 0 || rc == -LARDER_NOENT)
        return 0;
    if (e)
        *e = why;
    return rc;
}

static int find_image(struct fetch_call *c, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    enum base_record_place place = BASE_RECORD_NONE;
    int rc = look_at_name(c, e);

    if (rc == 0)
        rc = c->base->ops->holders(c->base, &c->holders, e);
    if (rc < 0)
        return rc;
    const struct base_holder *base = c->holders.n ? &c->holders.list[0] : NULL;
    rc = base_record_get(c->base, base, &c->record, &place, &why);
    if (rc < 0 && rc != -LARDER_NOENT) {
        error_context(&why, "%s", c->ask.ref);
        if (rc == -LARDER_CORRUPT)
            error_hint(&why, "`larder update check` makes a new record, `larder update clear` "
                             "forgets this one");
        if (e)
            *e = why;
        return rc;
    }
    switch (record_meaning(rc == 0 ? &c->record : NULL, base)) {
    case RECORD_UPDATE:
        return take_image(c, &c->record.manifest_digest, c->record.media_type,
                          c->record.is_rewritten, &c->record.manifest, &c->record.config, e);
    case RECORD_UNCHANGED:
    case RECORD_CONSUMED:
        return base ? take_base(c, e) : none_recorded(c, e);
    case RECORD_VOID:
    default:
        return base && is_staged(c) ? take_base(c, e) : none_recorded(c, e);
    }
}

/* ---- where to ---- */

/* REF without its transport: as a store's image is called. */
static const char *ref_name(const char *ref)
{
    const char *colon = strchr(ref, ':');
    const char *name = colon ? colon + 1 : ref;

    return strncmp(name, "//", 2) == 0 ? name + 2 : name;
}

static int choose_place(const struct update_ask *ask, const char *to, char **ret,
                        struct larder_error *e)
{
    const char *name = ask->name ? ask->name : ref_name(ask->ref);
    int n = to ? asprintf(ret, "%s", to) : asprintf(ret, "store:%s", name);

    if (n >= 0)
        return 0;
    *ret = NULL;
    return error_nomem(e);
}

/* ---- after it ---- */

/* Whether the base is now what was fetched: it went into the name that is watched. */
static bool is_base_moved(const struct fetch_call *c)
{
    return !c->ask.is_ostree && !c->run.is_layout && c->run.to.ref &&
           strcmp(c->run.to.ref, c->ask.name) == 0;
}

/*
 * In the place of the record that was fetched, and of no other: somebody may have checked or
 * cleared meanwhile. What such a check found is no older than ours, and as it knew the base that
 * was then, it is an update of the one that is now.
 */
static int replace_record(struct fetch_call *c, const struct base_holder *base,
                          struct larder_error *e)
{
    const struct larder_digest *fetched = &c->run.root.digest;
    enum base_record_place place = BASE_RECORD_NONE;
    struct update_record found = {0};
    int rc = 0;

    if (base_record_get(c->base, base, &found, &place, NULL) < 0)
        return 0;
    bool is_ours = found.has_update && larder_digest_equal(&found.manifest_digest, fetched);
    if (is_ours) {
        rc = base_record_put(c->base, base, &c->record, &place, e);
    } else if (found.has_update && found.checked_ns > c->record.checked_ns &&
               !larder_digest_equal(&found.base, fetched)) {
        found.base = *fetched;
        rc = base_record_put(c->base, base, &found, &place, e);
    }
    record_done(&found);
    return rc;
}

/*
 * The record is consumed: in its place comes that this image was found, so that the next check,
 * which finds REF as it was, is one question. It is a memory only, and fetched is fetched: what
 * goes wrong here is a warning at most.
 */
static void renew_record(struct fetch_call *c)
{
    struct base_holders now = {0};
    struct larder_error why = LARDER_ERROR_INIT;
    const struct larder_observer *o = relay_observer(c->relay);
    int rc;

    if (!c->record.ref || !c->record.has_update)
        return;
    c->record.has_update = false;
    buf_done(&c->record.manifest);
    buf_done(&c->record.config);
    free(c->record.media_type);
    c->record.media_type = NULL;
    c->record.base = c->run.root.digest;
    rc = c->base->ops->holders(c->base, &now, &why);
    if (rc == 0 && now.n > 0 && larder_digest_equal(&now.list[0].digest, &c->run.root.digest))
        rc = replace_record(c, &now.list[0], &why);
    if (rc < 0 && o->warning)
        o->warning(o->arg, why.msg);
    base_holders_done(&now);
}

static int give_location(const struct fetch_call *c, char **ret, struct larder_error *e)
{
    const struct place *to = &c->run.to;
    const char *at = c->run.is_layout ? to->location.path : to->ref;
    int n;

    if (c->is_done)
        n = asprintf(ret, "%s", c->base->place);
    else if (c->run.is_layout && to->ref)
        n = asprintf(ret, "oci:%s:%s", at, to->ref);
    else
        n = asprintf(ret, "%s:%s", c->run.is_layout ? "oci" : "store", at);
    return n < 0 ? error_nomem(e) : 0;
}

static int give(struct fetch_call *c, struct larder_update_fetched *ret, struct larder_error *e)
{
    struct larder_update_fetched made = {.size = sizeof(made)};
    int rc = give_location(c, &made.location, e);

    if (rc < 0)
        return rc;
    fetch_run_sums(&c->run, &made);
    *ret = made;
    return 0;
}

/* ---- the whole ---- */

static int run(struct fetch_call *c, struct larder_update_fetched *ret, struct larder_error *e)
{
    int rc = choose_place(&c->ask, c->options->to, &c->to_text, e);

    c->run.ask = &c->ask;
    c->run.base = c->base;
    c->run.options = c->options;
    c->run.to_text = c->to_text;
    if (rc == 0)
        rc = relay_new(c->ask.options->observer, &c->relay, e);
    c->run.relay = c->relay;
    if (c->is_done)
        c->run.was_there = true;
    else if (rc == 0)
        rc = fetch_run(&c->run, e);
    if (rc == 0 && !c->is_done && !c->options->dry_run && is_base_moved(c))
        renew_record(c);
    return rc < 0 ? rc : give(c, ret, e);
}

/* *ret_wanted: what the record names, also when it is gone. */
static int fetch_once(struct larder_store *store, const char *ref,
                      const struct larder_update_options *options,
                      const struct larder_update_fetch_options *fetch,
                      struct larder_digest *ret_wanted, struct larder_update_fetched *ret,
                      struct larder_error *e)
{
    struct fetch_call c = {.options = fetch,
                           .run = {.manifest = BUF_INIT(OCI_MANIFEST_BYTES_MAX),
                                   .config = BUF_INIT(RECORD_BYTES_MAX)}};
    int rc = update_ask_read(store, ref, options, &c.ask, e);

    if (rc < 0)
        return rc;
    rc = base_open(&c.ask, &c.base, e);
    if (rc == 0)
        rc = find_image(&c, e);
    if (rc == 0) {
        *ret_wanted = c.run.root.digest;
        rc = run(&c, ret, e);
    }
    call_done(&c);
    return rc;
}

/* The recorded one is gone, and another one will do. */
static int check_again(struct larder_store *store, const char *ref,
                       const struct larder_update_options *options, uint64_t *ret_requests,
                       struct larder_error *e)
{
    struct larder_update found = {.size = sizeof(found)};
    int rc = larder_update_check(store, ref, options, &found, e);

    if (rc == 0)
        *ret_requests = found.requests;
    larder_update_done(&found);
    return rc;
}

/* The same without keeping it, which a dry run is not to do: what a check tells of it. */
static int foresee_newer(struct larder_store *store, const char *ref,
                         const struct larder_update_options *options, const char *to,
                         struct larder_update_fetched *ret, struct larder_error *e)
{
    const struct check_context context = {.is_dry = true};
    struct larder_update found = {.size = sizeof(found)};
    struct larder_update_fetched made = {.size = sizeof(made), .is_newer = true};
    struct update_ask ask = {0};
    int rc = update_ask_read(store, ref, options, &ask, e);

    if (rc == 0)
        rc = check_run(&ask, &context, &found, NULL, e);
    if (rc == 0)
        rc = choose_place(&ask, to, &made.location, e);
    if (rc == 0) {
        made.was_there = found.state != LARDER_UPDATE_AVAILABLE;
        made.digest = made.was_there ? found.current.digest : found.update.digest;
        made.layers_fetched = found.diff.needed.layers;
        made.bytes_fetched = found.diff.needed.bytes;
        made.layers_here = found.diff.here.layers;
        made.bytes_here = found.diff.here.bytes;
        made.requests = found.requests;
        *ret = made;
    }
    larder_update_done(&found);
    update_ask_done(&ask);
    return rc;
}

void larder_update_fetched_done(struct larder_update_fetched *fetched)
{
    free(fetched->location);
    memset(fetched, 0, sizeof(*fetched));
}

int larder_update_fetch(struct larder_store *store, const char *ref,
                        const struct larder_update_options *options,
                        const struct larder_update_fetch_options *fetch,
                        struct larder_update_fetched *ret, struct larder_error *e)
{
    static const struct larder_update_fetch_options defaults = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    struct larder_error gone = LARDER_ERROR_INIT;
    struct larder_digest wanted = {0};
    struct larder_digest newer = {0};
    uint64_t requests = 0;
    int rc;

    if (fetch && fetch->size != sizeof(*fetch))
        return error_set(e, LARDER_INVAL, "fetch options: size %zu, expected %zu", fetch->size,
                         sizeof(*fetch));
    fetch = fetch ? fetch : &defaults;
    rc = fetch_once(store, ref, options, fetch, &wanted, ret, &gone);
    if (rc == -LARDER_GONE && fetch->or_newer && fetch->dry_run)
        return foresee_newer(store, ref, options, fetch->to, ret, e);
    if (rc == -LARDER_GONE && fetch->or_newer) {
        rc = check_again(store, ref, options, &requests, e);
        if (rc == 0)
            rc = fetch_once(store, ref, options, fetch, &newer, ret, e);
        if (rc == 0) {
            ret->is_newer = !larder_digest_equal(&wanted, &newer);
            ret->requests += requests;
        }
        return rc;
    }
    if (rc < 0 && e)
        *e = gone;
    return rc;
}
