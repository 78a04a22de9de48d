/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What changes from one image to another, by bootc's rules (larder/update.h). A layer's digest says
 * what it is; its place in the list does not matter.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "update/answer.h"

/* A layer and its place in its image. */
struct place {
    const struct image_layer *layer;
    size_t index;
};

static int by_digest(const void *a, const void *b)
{
    const struct place *x = a;
    const struct place *y = b;
    int c = digest_compare(&x->layer->digest, &y->layer->digest);
    return c != 0 ? c : (x->index > y->index) - (x->index < y->index);
}

static int by_index(const void *a, const void *b)
{
    const struct place *x = a;
    const struct place *y = b;
    return (x->index > y->index) - (x->index < y->index);
}

/* The layers of an image, each digest once (where it comes first), sorted by digest. */
static int sort_layers(const struct image_view *view, struct place **ret, size_t *ret_n,
                       struct larder_error *e)
{
    size_t n_layers = view ? view->n_layers : 0;
    struct place *list = calloc(n_layers + 1, sizeof(*list));
    size_t n = 0;

    if (!list) {
        error_nomem(e);
        return -LARDER_NOMEM;
    }
    for (size_t i = 0; i < n_layers; i++)
        list[i] = (struct place){&view->layers[i], i};
    qsort(list, n_layers, sizeof(*list), by_digest);
    for (size_t i = 0; i < n_layers; i++) {
        if (n == 0 || digest_compare(&list[n - 1].layer->digest, &list[i].layer->digest) != 0)
            list[n++] = list[i];
    }
    *ret = list;
    *ret_n = n;
    return 0;
}

static int find_digest(const void *key, const void *element)
{
    const struct place *place = element;
    return digest_compare(key, &place->layer->digest);
}

static bool has(const struct place *sorted, size_t n, const struct larder_digest *digest)
{
    return bsearch(digest, sorted, n, sizeof(*sorted), find_digest) != NULL;
}

/* Sizes are up to 2^63 - 1 each, as anybody may write them; JSON has no larger numbers for sums. */
static void add_bytes(struct larder_update_sum *sum, uint64_t bytes)
{
    sum->bytes = bytes > INT64_MAX - sum->bytes ? INT64_MAX : sum->bytes + bytes;
}

static void add_layer(struct larder_update_sum *sum, const struct larder_update_layer *layer)
{
    sum->layers++;
    add_bytes(sum, layer->size_bytes);
}

static struct larder_update_layer told(const struct image_layer *layer,
                                       enum larder_update_change change,
                                       enum larder_update_presence presence)
{
    return (struct larder_update_layer){change, presence, layer->digest, layer->diff_id,
                                        layer->size_bytes};
}

struct sides {
    struct place *from, *to;
    size_t n_from, n_to;
};

/* Behind the others; `to` is sorted by digest. */
static void tell_removed(const struct sides *s, struct larder_update_diff *diff)
{
    for (size_t i = 0; i < s->n_from; i++) {
        if (has(s->to, s->n_to, &s->from[i].layer->digest))
            continue;
        struct larder_update_layer *at = &diff->layers[s->n_to + diff->removed.layers];
        *at = told(s->from[i].layer, LARDER_UPDATE_REMOVED, LARDER_UPDATE_HERE);
        add_layer(&diff->removed, at);
    }
}

/* Sorts `to` by place. */
static void tell_others(const struct sides *s, const enum larder_update_presence *presence,
                        struct larder_update_diff *diff)
{
    qsort(s->to, s->n_to, sizeof(*s->to), by_index);
    for (size_t i = 0; i < s->n_to; i++) {
        const struct image_layer *layer = s->to[i].layer;
        bool is_kept = has(s->from, s->n_from, &layer->digest);
        struct larder_update_layer *at = &diff->layers[i];
        *at = told(layer, is_kept ? LARDER_UPDATE_KEPT : LARDER_UPDATE_ADDED,
                   presence[s->to[i].index]);
        if (!is_kept)
            add_layer(&diff->added, at);
        add_layer(at->presence == LARDER_UPDATE_NEEDED ? &diff->needed : &diff->here, at);
    }
}

static void compare(const struct sides *s, const struct image_view *to,
                    const enum larder_update_presence *presence, struct larder_update_diff *diff)
{
    tell_removed(s, diff);
    tell_others(s, presence, diff);
    diff->n_layers = s->n_to + (size_t)diff->removed.layers;
    diff->total.layers = s->n_to;
    for (size_t i = 0; i < to->n_layers; i++)
        add_bytes(&diff->total, to->layers[i].size_bytes);
}

int update_diff(const struct image_view *from, const struct image_view *to,
                const enum larder_update_presence *presence, struct larder_update_diff *ret,
                struct larder_error *e)
{
    struct sides s = {NULL, NULL, 0, 0};
    struct larder_update_diff diff = {.layers = NULL};

    int r = sort_layers(from, &s.from, &s.n_from, e);
    if (r == 0)
        r = sort_layers(to, &s.to, &s.n_to, e);
    if (r == 0) {
        diff.layers = calloc(s.n_from + s.n_to + 1, sizeof(*diff.layers));
        r = diff.layers ? 0 : error_nomem(e);
    }
    if (r == 0) {
        compare(&s, to, presence, &diff);
        *ret = diff;
    }
    free(s.from);
    free(s.to);
    return r;
}
