/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each reference that has a record: of the store or the repository, and, where there is a state
 * directory, those that are kept there for it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "store/dir/ref.h"
#include "update/base/base.h"
#include "update/record/record_dir.h"

struct known {
    char *ref;
    char *platform; /* NULL: this machine's */
    char *name;     /* NULL */
};

/* A record that can't be read tells no reference. */
struct damaged {
    char *file; /* NULL: it was found out what it is of */
    struct larder_error why;
};

struct list {
    struct known *known;
    size_t n, cap;
    struct damaged *damaged;
    size_t n_damaged, cap_damaged;
    struct larder_store *store;
    const struct larder_update_options *options;
    struct record_dir *dir;
    const char *identity; /* NULL: all of dir are ours */
    struct larder_error *e;
};

static void list_done(struct list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->known[i].ref);
        free(l->known[i].platform);
        free(l->known[i].name);
    }
    free(l->known);
    for (size_t i = 0; i < l->n_damaged; i++)
        free(l->damaged[i].file);
    free(l->damaged);
}

static int add(struct list *l, const char *ref, const char *platform, const char *name)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 16;
        struct known *bigger = reallocarray(l->known, cap, sizeof(*bigger));
        if (!bigger)
            return error_nomem(l->e);
        l->known = bigger;
        l->cap = cap;
    }
    struct known *k = &l->known[l->n++];
    *k =
        (struct known){strdup(ref), platform ? strdup(platform) : NULL, name ? strdup(name) : NULL};
    if (!k->ref || (platform && !k->platform) || (name && !k->name))
        return error_nomem(l->e);
    return 0;
}

/* One damaged record hides no other. */
static void warn(const struct list *l, const char *dir, const char *file,
                 const struct larder_error *why)
{
    const struct larder_observer *o = l->options ? l->options->observer : NULL;
    struct buf text = BUF_INIT(2UL * LARDER_ERROR_MSG_BYTES);

    if (!o || !o->warning)
        return;
    buf_printf(&text, "%s/%s: %s", dir, file, why->msg);
    o->warning(o->arg, text.p ? text.p : why->msg);
    buf_done(&text);
}

static int add_damaged(struct list *l, const char *file, const struct larder_error *why)
{
    if (l->n_damaged == l->cap_damaged) {
        size_t cap = l->cap_damaged ? 2 * l->cap_damaged : 4;
        struct damaged *bigger = reallocarray(l->damaged, cap, sizeof(*bigger));
        if (!bigger)
            return error_nomem(l->e);
        l->damaged = bigger;
        l->cap_damaged = cap;
    }
    l->damaged[l->n_damaged] = (struct damaged){strdup(file), *why};
    return l->damaged[l->n_damaged].file ? (l->n_damaged++, 0) : error_nomem(l->e);
}

/* Whether the damaged record's name is that of a reference's. */
static int is_damaged(struct list *l, const struct update_ask *ask)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    struct larder_digest hash = {0};
    CLEANUP_FREE char *key = NULL;

    int r = record_key(ask->ref, ask->platform_text, l->identity, NULL, &key, l->e);
    if (r == 0)
        r = hash_of(LARDER_DIGEST_SHA256, key, strlen(key), &hash, l->e);
    if (r < 0)
        return r;
    larder_digest_hex(&hash, hex);
    for (size_t i = 0; i < l->n_damaged; i++) {
        if (l->damaged[i].file && strcmp(l->damaged[i].file, hex) == 0) {
            free(l->damaged[i].file);
            l->damaged[i].file = NULL;
            return 1;
        }
    }
    return 0;
}

/* An image that is called as a reference is the one that is watched, most probably. */
static int try_name(void *arg, const char *ref)
{
    struct list *l = arg;
    const struct larder_update_options none = LARDER_UPDATE_OPTIONS_INIT;
    struct larder_update_options options = l->options ? *l->options : none;
    struct update_ask ask = {0};

    if (update_ask_read(l->store, ref + strlen(REF_IMAGE_PREFIX), &options, &ask, NULL) < 0)
        return 0;
    int r = is_damaged(l, &ask);
    if (r > 0)
        r = add(l, ask.ref, ask.platform_text, NULL);
    update_ask_done(&ask);
    return r;
}

/* What damaged records are of; of those that nobody can tell a warning is given. */
static int name_damaged(struct list *l)
{
    int r = l->n_damaged > 0 && l->store
                ? larder_ref_each(l->store, REF_IMAGE_PREFIX, try_name, l, l->e)
                : 0;
    for (size_t i = 0; r == 0 && i < l->n_damaged; i++) {
        if (l->damaged[i].file)
            warn(l, record_dir_path(l->dir), l->damaged[i].file, &l->damaged[i].why);
        free(l->damaged[i].file);
    }
    if (r == 0)
        l->n_damaged = 0;
    return r;
}

/* In a state directory, whether the record is that of our place: its name says so. */
static int is_ours(const struct list *l, const struct update_record *record)
{
    struct update_record found = {0};
    CLEANUP_FREE char *key = NULL;

    if (!l->identity)
        return 1;
    int r = record_key(record->ref, record->platform, l->identity, record->commit, &key, l->e);
    if (r < 0)
        return r;
    r = record_dir_get(l->dir, key, &found, NULL);
    record_done(&found);
    return r == 0;
}

static int add_record(void *arg, const char *file, const struct update_record *record,
                      const struct larder_error *error)
{
    struct list *l = arg;

    if (!record)
        return add_damaged(l, file, error);
    int r = is_ours(l, record);
    return r <= 0 ? r : add(l, record->ref, record->platform, record->name);
}

static int add_records(struct list *l, struct record_dir *dir, const char *identity)
{
    l->dir = dir;
    l->identity = identity;
    int r = record_dir_each(dir, add_record, l, l->e);
    return r == 0 ? name_damaged(l) : r;
}

static int collect_stored(struct list *l)
{
    CLEANUP(record_dir_closep) struct record_dir *places = NULL;
    CLEANUP(record_dir_closep) struct record_dir *state = NULL;
    CLEANUP_FREE char *identity = NULL;
    const char *state_dir = l->options ? l->options->state_dir : NULL;

    if (!l->store)
        return error_set(l->e, LARDER_INVAL, "update: neither a store nor an ostree repository");
    int r = record_dir_open_store(l->store, &places, l->e);
    if (r == 0)
        r = add_records(l, places, NULL);
    if (r < 0 || !state_dir)
        return r;
    r = base_store_identity(l->store, &identity, l->e);
    if (r == 0)
        r = record_dir_open(state_dir, false, &state, l->e);
    return r < 0 ? r : add_records(l, state, identity);
}

static int add_image(void *arg, const char *ref, const char *platform)
{
    const struct list *l = arg;
    const struct larder_update_options none = LARDER_UPDATE_OPTIONS_INIT;
    struct update_ask ask = {0};

    if (platform)
        return add(arg, ref, platform, NULL);
    /* Another record of the same may tell its platform; it is to be given once. */
    int r = update_ask_read(l->store, ref, l->options ? l->options : &none, &ask, NULL);
    r = add(arg, ref, r == 0 ? ask.platform_text : NULL, NULL);
    update_ask_done(&ask);
    return r;
}

static int collect_ostree(struct list *l)
{
    CLEANUP(record_dir_closep) struct record_dir *state = NULL;
    CLEANUP_FREE char *identity = NULL;

    int r = base_ostree_each(l->store, l->options, add_image, l, l->e);
    if (r != 0 || !l->options->state_dir)
        return r;
    r = base_ostree_identity(l->options, &identity, l->e);
    if (r == 0)
        r = record_dir_open(l->options->state_dir, false, &state, l->e);
    return r < 0 ? r : add_records(l, state, identity);
}

static int compare_texts(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "");
}

static int by_ref(const void *a, const void *b)
{
    const struct known *x = a;
    const struct known *y = b;
    int c = strcmp(x->ref, y->ref);
    return c ? c : compare_texts(x->platform, y->platform);
}

static int give(const struct list *l, const struct known *known,
                int (*fn)(void *arg, const struct update_ask *ask), void *arg)
{
    struct larder_update_options options = LARDER_UPDATE_OPTIONS_INIT;
    struct larder_error why = LARDER_ERROR_INIT;
    struct update_ask ask = {0};

    if (l->options)
        options = *l->options;
    options.platform = known->platform ? known->platform : options.platform;
    options.name = known->name;
    int r = update_ask_read(l->store, known->ref, &options, &ask, &why);
    if (r == -LARDER_INVAL || r == -LARDER_UNSUPPORTED) {
        warn(l, "record", known->ref, &why); /* nobody's check wrote that */
        return 0;
    }
    if (r < 0 && l->e)
        *l->e = why;
    if (r == 0)
        r = fn(arg, &ask);
    update_ask_done(&ask);
    return r;
}

int base_each_ref(struct larder_store *store, const struct larder_update_options *options,
                  int (*fn)(void *arg, const struct update_ask *ask), void *arg,
                  struct larder_error *e)
{
    struct list l = {.store = store, .options = options, .e = e};
    bool is_ostree = options && (options->ostree_repo || options->sysroot);

    int r = is_ostree ? collect_ostree(&l) : collect_stored(&l);
    if (r == 0 && l.n > 0)
        qsort(l.known, l.n, sizeof(*l.known), by_ref);
    for (size_t i = 0; r == 0 && i < l.n; i++) {
        if (i == 0 || by_ref(&l.known[i - 1], &l.known[i]) != 0)
            r = give(&l, &l.known[i], fn, arg);
    }
    list_done(&l);
    return r;
}
