/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What does REF point to now?
 *
 *   1. base and record are read            no request
 *   2. what REF points to: HEAD            one; none for REF@DIGEST
 *      it is the base, or what the record was made from: that is the answer
 *   3. the manifest, by that digest        an index costs two, or one when the base is listed in it
 *      it is the base, or has the base's configuration: unchanged
 *   4. its configuration                   one
 *
 * Then the record is replaced, whole, or only stamped with the time. What can be had without the
 * network is decided by digests alone: which manifest is behind an index never changes, so a record
 * made for another base still tells that.
 */
#include "update/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "oci/manifest.h"
#include "store/blob_read.h"
#include "store/copy/platform_choice.h"
#include "store/place.h"
#include "update/answer.h"

/* Configurations are a few KiB; labels of some builds are the largest part of them. */
#define CONFIG_BYTES_MAX (8UL * 1024 * 1024)
/* Many artifacts have "{}" as their configuration: it says nothing about what they are. */
#define CONFIG_BYTES_MIN 3

struct check {
    const struct update_ask *ask;
    const struct larder_observer *observer; /* NULL */
    struct base *base;
    struct base_holders holders;
    const struct base_holder *holder; /* the base; NULL: there is none */
    struct update_record old;
    bool has_old;
    bool is_old_damaged;
    enum record_meaning old_means;
    enum base_record_place old_place;
    struct place place;        /* REF */
    struct store_descriptor d; /* what it points to, then the manifest for the platform */
    struct buf manifest;
    struct update_record found; /* the answer */
    bool is_same;               /* found is what was recorded */
    enum base_record_place kept_at;
    char *why; /* not kept */
};

static void check_done(struct check *c)
{
    place_done(&c->place);
    buf_done(&c->manifest);
    record_done(&c->found);
    record_done(&c->old);
    base_holders_done(&c->holders);
    base_close(c->base);
    free(c->why);
}

static bool is_base(const struct check *c, const struct larder_digest *digest)
{
    return c->holder && larder_digest_equal(digest, &c->holder->digest);
}

/* REF points to the base, or to the very index that the base is in. */
static bool is_base_or_index(const struct check *c, const struct larder_digest *listed)
{
    return is_base(c, listed) || (c->holder && larder_digest_equal(listed, &c->holder->root));
}

/* ---- 1: base and record ---- */

/* Any record may be replaced; that one can't be read is no reason not to ask. */
static int read_record(struct check *c, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    int rc = base_record_get(c->base, c->holder, &c->old, &c->old_place, &why);

    if (rc == -LARDER_NOMEM || rc == -LARDER_CANCELED) {
        if (e)
            *e = why;
        return rc;
    }
    c->has_old = rc >= 0;
    /* A directory that is not to be read has none that counts. */
    c->is_old_damaged =
        rc < 0 && rc != -LARDER_NOENT && rc != -LARDER_UNSAFE && rc != -LARDER_DENIED;
    c->old_means = record_meaning(c->has_old ? &c->old : NULL, c->holder);
    return 0;
}

static int read_base(struct check *c, struct larder_error *e)
{
    int rc = base_open(c->ask, &c->base, e);

    if (rc == 0)
        rc = c->base->ops->holders(c->base, &c->holders, e);
    if (rc < 0)
        return rc;
    c->holder = c->holders.n ? &c->holders.list[0] : NULL;
    return read_record(c, e);
}

static void tell_before(const struct check *c, struct check_before *ret)
{
    *ret = (struct check_before){.state = LARDER_UPDATE_UNKNOWN};
    if (c->is_old_damaged)
        ret->state = LARDER_UPDATE_CORRUPT;
    else if (c->old_means == RECORD_UPDATE)
        *ret = (struct check_before){LARDER_UPDATE_AVAILABLE, c->old.manifest_digest};
    else if (c->old_means == RECORD_UNCHANGED || c->old_means == RECORD_CONSUMED)
        ret->state = LARDER_UPDATE_UNCHANGED;
}

/* ---- the answer ---- */

/* A record for the base as it is, without an update: listed is c->found's. */
static int begin_record(struct check *c, const struct larder_digest *manifest_digest,
                        struct larder_error *e)
{
    struct update_record *r = &c->found;
    int rc = text_copy(c->ask->ref, &r->ref, e);

    if (rc == 0)
        rc = text_copy(c->ask->platform_text, &r->platform, e);
    if (rc == 0)
        rc = text_copy(c->ask->name, &r->name, e);
    if (rc == 0 && c->holder)
        rc = text_copy(c->holder->commit, &r->commit, e);
    if (c->holder)
        r->base = c->holder->digest;
    r->manifest_digest = *manifest_digest;
    r->checked_ns = clock_realtime_ns();
    return rc;
}

static int set_update(struct check *c, const char *media_type, struct larder_error *e)
{
    c->found.has_update = true;
    return text_copy(media_type, &c->found.media_type, e);
}

/* The same image in another wrapping is no update. */
static bool is_base_config(const struct check *c, const struct oci_manifest *image)
{
    return c->holder && image->config.size_bytes >= CONFIG_BYTES_MIN &&
           larder_digest_equal(&image->config.digest, &c->holder->view.config_digest);
}

/* ---- 2: what is known already ---- */

static int ask_digest(struct check *c, const struct check_context *context, struct larder_error *e)
{
    const struct larder_update_options *o = c->ask->options;
    int rc = place_parse(c->ask->ref, &c->place, e);

    if (rc < 0)
        return rc;
    c->place.remote = (struct remote_options){
        .options = o ? o->registry : NULL,
        .shared = context ? context->shared : NULL,
        .limit = context ? context->limit : NULL,
        .observer = c->observer,
    };
    rc = store_open_location(&c->place.location, c->ask->store, &c->place.remote, 0,
                             &c->place.store, e);
    if (rc < 0)
        return rc;
    if (c->place.digest)
        c->d.digest = *c->place.digest;
    else
        rc = c->place.store->ops->resolve(c->place.store, c->place.ref, &c->d, e);
    c->found.listed = c->d.digest;
    return rc < 0 ? rc : 0;
}

static bool is_same_text(const char *a, const char *b)
{
    return a && b && strcmp(a, b) == 0;
}

/* Whoever writes records without a platform means this machine's, as we do unless told. */
static bool is_for_us(const struct check *c, const struct update_record *record)
{
    return !record->platform || is_same_text(record->platform, c->ask->platform_text);
}

/* The record as it is: only the time is new. */
static int keep_old(struct check *c)
{
    c->found = c->old;
    c->old = (struct update_record){0};
    c->found.checked_ns = clock_realtime_ns();
    c->is_same = true;
    return 1;
}

/* The record's image, for another base than it was found for (or another way to it). */
static int rebind(struct check *c, struct larder_error *e)
{
    CLEANUP(oci_manifest_freep) struct oci_manifest *image = NULL;
    struct slice bytes = buf_slice(&c->old.manifest);
    int rc = oci_manifest_parse(bytes, c->old.media_type, &image, e);

    if (rc == 0)
        rc = begin_record(c, &c->old.manifest_digest, e);
    if (rc < 0 || is_base_config(c, image))
        return rc < 0 ? rc : 1;
    rc = set_update(c, c->old.media_type, e);
    if (rc < 0)
        return rc;
    c->found.manifest = c->old.manifest;
    c->found.config = c->old.config;
    c->old.manifest = c->old.config = BUF_INIT(0);
    return 1;
}

/* 1: found; 0: more must be asked. */
static int look_known(struct check *c, struct larder_error *e)
{
    const struct larder_digest *listed = &c->found.listed;
    const struct update_record *old = &c->old;
    bool is_listed = c->has_old && larder_digest_equal(listed, &old->listed);
    bool is_known = c->has_old && is_for_us(c, old) &&
                    (is_listed || larder_digest_equal(listed, &old->manifest_digest));
    bool is_ours = old->is_rewritten || (is_listed && is_same_text(old->ref, c->ask->ref));
    bool is_unchanged =
        is_base_or_index(c, listed) || (is_known && is_base(c, &old->manifest_digest));

    if (is_known && is_ours &&
        (c->old_means == RECORD_UNCHANGED || (c->old_means == RECORD_UPDATE && !is_unchanged)))
        return keep_old(c);
    if (is_unchanged) {
        int rc = begin_record(c, &c->holder->digest, e);
        return rc < 0 ? rc : 1;
    }
    if (is_known && old->has_update && !old->is_rewritten)
        return rebind(c, e);
    return 0;
}

/* ---- 3: the manifest ---- */

static int parse(const struct check *c, struct oci_manifest **ret, struct larder_error *e)
{
    int rc = manifest_parse_from(c->place.store, buf_slice(&c->manifest), c->d.media_type, ret, e);

    if (rc < 0 && rc != -LARDER_NOMEM && e)
        error_context(e, "%s", c->ask->ref);
    return rc;
}

/* By digest: the tag may have moved since. Where the digest is gone for that reason, by the tag. */
static int get_manifest(struct check *c, struct larder_error *e)
{
    const struct store_ops *ops = c->place.store->ops;
    struct larder_error why = LARDER_ERROR_INIT;
    int rc = ops->manifest_get(c->place.store, NULL, &c->found.listed, &c->manifest, &c->d, &why);

    if ((rc == -LARDER_NOENT || rc == -LARDER_GONE) && !c->place.digest) {
        error_clear(&why);
        buf_reset(&c->manifest);
        rc = ops->manifest_get(c->place.store, c->place.ref, NULL, &c->manifest, &c->d, &why);
        if (rc >= 0)
            c->found.listed = c->d.digest;
    }
    if (rc < 0 && e)
        *e = why;
    return rc < 0 ? rc : 0;
}

/* Whether the index lists the base for exactly this platform: then nothing is better, and its
 * manifest need not be fetched to know it. */
static bool is_base_listed(const struct check *c, const struct oci_manifest *index)
{
    for (size_t i = 0; i < index->n_manifests; i++) {
        const struct oci_descriptor *member = &index->manifests[i];
        if (member->has_platform &&
            oci_platform_distance(&member->platform, &c->ask->platform) == 0)
            return is_base(c, &member->digest);
    }
    return false;
}

/* Follows an index to the image. 1: it is the base. *ret_is_single: there was no index. */
static int choose(struct check *c, struct oci_manifest **ret, bool *ret_is_single,
                  struct larder_error *e)
{
    CLEANUP(oci_manifest_freep) struct oci_manifest *m = NULL;
    int rc = is_base(c, &c->d.digest) ? 1 : parse(c, &m, e);

    if (rc != 0)
        return rc;
    *ret_is_single = m->kind == OCI_KIND_IMAGE;
    if (*ret_is_single) {
        *ret = TAKE_PTR(m);
        return 0;
    }
    if (is_base_listed(c, m)) {
        c->d.digest = c->holder->digest;
        return 1;
    }
    rc = platform_choose(c->place.store, &c->ask->platform, 1, &c->d, &c->manifest, e);
    if (rc >= 0 && is_base(c, &c->d.digest))
        return 1;
    return rc < 0 ? rc : parse(c, ret, e);
}

/* ---- 4: the configuration ---- */

static int get_config(struct check *c, const struct oci_manifest *image, bool is_single,
                      struct larder_error *e)
{
    const struct store_descriptor config = {.digest = image->config.digest,
                                            .size_bytes = image->config.size_bytes};
    int rc;

    if (config.size_bytes > CONFIG_BYTES_MAX)
        return error_set(e, LARDER_LIMIT,
                         "%s: its configuration has %llu bytes, expected at most %lu", c->ask->ref,
                         (unsigned long long)config.size_bytes, CONFIG_BYTES_MAX);
    rc = blob_read(c->place.store, &config, &c->found.config, e);
    if (rc == 0 && is_single && media_type_is_config(image->config.media_type))
        rc = platform_check(c->ask->ref, buf_slice(&c->found.config), &c->ask->platform, e);
    return rc;
}

/* Only the index is another: what the record has of the image is right. */
static bool take_old_config(struct check *c)
{
    if (!c->has_old || !c->old.has_update || c->old.is_rewritten ||
        !larder_digest_equal(&c->old.manifest_digest, &c->d.digest))
        return false;
    c->found.config = c->old.config;
    c->old.config = BUF_INIT(0);
    return true;
}

static int ask_more(struct check *c, struct larder_error *e)
{
    CLEANUP(oci_manifest_freep) struct oci_manifest *image = NULL;
    bool is_single = false;
    int rc = get_manifest(c, e);

    if (rc == 0)
        rc = choose(c, &image, &is_single, e);
    if (rc < 0)
        return rc;
    bool is_changed = rc == 0 && !is_base_config(c, image);
    rc = begin_record(c, &c->d.digest, e);
    if (rc < 0 || !is_changed)
        return rc;
    c->found.config = BUF_INIT(CONFIG_BYTES_MAX);
    if (is_single || !take_old_config(c))
        rc = get_config(c, image, is_single, e);
    if (rc == 0)
        rc = set_update(c, image->media_type, e);
    c->found.manifest = c->manifest;
    c->manifest = BUF_INIT(0);
    if (rc == 0)
        rc = record_check(&c->found, e);
    return document_blame(c->place.store, rc, e);
}

/* ---- keeping it ---- */

/* What can't be told of replaces no record that can. */
static int check_readable(const struct check *c, struct larder_error *e)
{
    const struct update_record *r = &c->found;
    struct image_view view = {.manifest = NULL};
    int rc;

    if (!r->has_update || c->is_same)
        return 0;
    rc = image_view_read(buf_slice(&r->manifest), r->media_type, buf_slice(&r->config), &view, e);
    image_view_done(&view);
    if (rc < 0 && rc != -LARDER_NOMEM && e)
        error_context(e, "%s", c->ask->ref);
    return document_blame(c->place.store, rc, e);
}

/* That the base was found again need not be kept where nothing says otherwise. */
static void tell_not_kept(const struct check *c, const struct larder_error *why)
{
    bool may_be_elsewhere = why->code == LARDER_DENIED && !c->ask->options->state_dir;
    char text[LARDER_ERROR_MSG_BYTES + 128];

    if (!c->observer || !c->observer->warning ||
        (!c->found.has_update && c->old_means != RECORD_UPDATE && !c->is_old_damaged))
        return;
    snprintf(text, sizeof(text), "what was found is not kept: %s%s", why->msg,
             may_be_elsewhere ? "; a state directory (--state-dir, update.state_dir) would keep it"
                              : "");
    c->observer->warning(c->observer->arg, text);
}

static int keep(struct check *c, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    int rc;

    if (c->is_same) {
        rc = base_record_touch(c->base, c->holder, c->found.checked_ns, &why);
        c->kept_at = c->old_place;
        /* It is there whether or not the time can be kept, unless somebody took it away. */
        if (rc != -LARDER_NOENT)
            return 0;
    }
    error_clear(&why);
    rc = base_record_put(c->base, c->holder, &c->found, &c->kept_at, &why);
    if (rc >= 0)
        return 0;
    c->kept_at = BASE_RECORD_NONE;
    if (rc == -LARDER_NOMEM) {
        if (e)
            *e = why;
        return rc;
    }
    tell_not_kept(c, &why);
    return text_copy(why.msg, &c->why, e);
}

static int answer(struct check *c, struct larder_update *ret, struct larder_error *e)
{
    struct larder_update made = {0};
    struct store *store = c->place.store;
    int rc = update_answer(c->base, &c->holders, &c->found, c->kept_at, &made, e);

    if (rc < 0) {
        larder_update_done(&made);
        return rc;
    }
    made.size = ret->size;
    made.is_persisted = c->kept_at != BASE_RECORD_NONE;
    made.checked_at_ns = c->found.checked_ns;
    if (c->why) {
        free(made.why);
        made.why = TAKE_PTR(c->why);
    }
    if (store && store->ops->requests)
        made.requests = store->ops->requests(store);
    *ret = made;
    return 0;
}

int check_run(const struct update_ask *ask, const struct check_context *context,
              struct larder_update *ret, struct check_before *ret_before, struct larder_error *e)
{
    const struct larder_update_options *o = ask->options;
    struct check c = {
        .ask = ask,
        .observer = o && o->observer   ? o->observer
                    : o && o->registry ? o->registry->observer
                                       : NULL,
        .place = PLACE_INIT,
        .manifest = BUF_INIT(OCI_MANIFEST_BYTES_MAX),
    };
    int rc = read_base(&c, e);

    if (rc == 0 && ret_before)
        tell_before(&c, ret_before);
    if (rc == 0)
        rc = ask_digest(&c, context, e);
    if (rc == 0)
        rc = look_known(&c, e);
    if (rc == 0)
        rc = ask_more(&c, e);
    if (rc >= 0)
        rc = check_readable(&c, e);
    if (rc >= 0)
        rc = context && context->is_dry ? 0 : keep(&c, e);
    if (rc == 0)
        rc = answer(&c, ret, e);
    check_done(&c);
    return rc;
}

int larder_update_check(struct larder_store *store, const char *ref,
                        const struct larder_update_options *options, struct larder_update *ret,
                        struct larder_error *e)
{
    struct update_ask ask = {0};
    int rc = update_ask_read(store, ref, options, &ask, e);

    if (rc == 0)
        rc = check_run(&ask, NULL, ret, NULL, e);
    update_ask_done(&ask);
    return rc;
}
