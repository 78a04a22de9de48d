/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A base in larder's store: the image of "store:NAME" for the platform. Its record is a file of the
 * store's updates/, by reference and platform.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "update/base/base.h"
#include "update/fetch/stored.h"
#include "update/record/record_dir.h"

struct base_store {
    struct base base; /* first: a struct base is cast to it */
    struct record_dir *records;
    char *key;
};

static struct base_store *store_of(struct base *b)
{
    return (struct base_store *)(void *)b;
}

/* NOENT: there is none, or none for this platform. */
static int read_holder(const struct update_ask *ask, struct base_holder *ret,
                       struct larder_error *e)
{
    struct stored_image image = STORED_IMAGE_INIT;

    int r = stored_image_read(ask->store, ask->name, &ask->platform, &image, e);
    if (r < 0)
        return r;
    char *media_type = strdup(image.view.manifest->media_type);
    if (!media_type) {
        stored_image_done(&image);
        return error_nomem(e);
    }
    *ret = (struct base_holder){.role = "image",
                                .root = image.root,
                                .digest = image.digest,
                                .media_type = media_type,
                                .manifest = image.manifest,
                                .config = image.config,
                                .view = image.view};
    return 0;
}

static int store_holders(struct base *b, struct base_holders *ret, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct base_holder *list = calloc(1, sizeof(*list));

    if (!list)
        return error_nomem(e);
    int r = read_holder(b->ask, list, &why);
    if (r == 0) {
        *ret = (struct base_holders){list, 1};
        return 0;
    }
    free(list);
    if (r == -LARDER_NOENT) {
        *ret = (struct base_holders){NULL, 0};
        return 0;
    }
    if (e)
        *e = why;
    return r;
}

static int store_record_get(struct base *b, const struct base_holder *holder,
                            struct update_record *ret, struct larder_error *e)
{
    struct base_store *s = store_of(b);
    (void)holder;
    return record_dir_get(s->records, s->key, ret, e);
}

static int store_record_put(struct base *b, const struct base_holder *holder,
                            const struct update_record *record, struct larder_error *e)
{
    struct base_store *s = store_of(b);
    (void)holder;
    return record_dir_put(s->records, s->key, record, e);
}

static int store_record_touch(struct base *b, const struct base_holder *holder, int64_t checked_ns,
                              struct larder_error *e)
{
    struct base_store *s = store_of(b);
    (void)holder;
    return record_dir_touch(s->records, s->key, checked_ns, e);
}

static int store_record_remove(struct base *b, const struct base_holder *holder,
                               struct larder_error *e)
{
    struct base_store *s = store_of(b);
    (void)holder;
    return record_dir_remove(s->records, s->key, e);
}

static int store_layers_here(struct base *b, const struct image_view *view,
                             enum larder_update_presence *presence, struct larder_error *e)
{
    for (size_t i = 0; i < view->n_layers; i++)
        presence[i] = LARDER_UPDATE_NEEDED;
    return stored_layers_here(b->ask->store, b->ask->name, view, presence, e);
}

static void store_close_base(struct base *b)
{
    struct base_store *s = store_of(b);
    record_dir_close(s->records);
    free(s->key);
    free(s);
}

static const struct base_ops store_ops = {
    .holders = store_holders,
    .record_get = store_record_get,
    .record_put = store_record_put,
    .record_touch = store_record_touch,
    .record_remove = store_record_remove,
    .layers_here = store_layers_here,
    .close = store_close_base,
};

int base_store_identity(struct larder_store *store, char **ret, struct larder_error *e)
{
    /* Whatever path it was opened by. */
    char *real = realpath(larder_store_path(store), NULL);
    if (!real)
        return error_errno(e, errno, "store %s", larder_store_path(store));
    *ret = real;
    return 0;
}

int base_store_open(const struct update_ask *ask, struct base **ret, struct larder_error *e)
{
    struct base_store *s = calloc(1, sizeof(*s));
    if (!s)
        return error_nomem(e);
    s->base = (struct base){.ops = &store_ops, .ask = ask};
    int r = record_key(ask->ref, ask->platform_text, NULL, NULL, &s->key, e);
    if (r == 0)
        r = record_dir_open_store(ask->store, &s->records, e);
    if (r == 0 && asprintf(&s->base.place, "store:%s", ask->name) < 0) {
        s->base.place = NULL;
        r = error_nomem(e);
    }
    if (r == 0 && ask->options->state_dir)
        r = base_store_identity(ask->store, &s->base.identity, e);
    if (r < 0) {
        base_close(&s->base);
        return r;
    }
    *ret = &s->base;
    return 0;
}
