/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"

#define CHUNK_BYTES 4096
#define KNOWN_COUNT 64 /* a power of two */

struct chunk {
    struct chunk *next;
    size_t used;
    size_t cap;
    char data[];
};

struct oci_pool {
    struct chunk *chunks; /* the newest first */
    const char *known[KNOWN_COUNT];
    struct json **trees;
    size_t n_trees;
    size_t cap_trees;
    size_t n_values;
};

int oci_pool_new(struct oci_pool **ret, struct larder_error *e)
{
    struct oci_pool *pool = calloc(1, sizeof(*pool));
    if (!pool)
        return error_nomem(e);
    *ret = pool;
    return 0;
}

void oci_pool_free(struct oci_pool *pool)
{
    if (!pool)
        return;
    for (struct chunk *c = pool->chunks; c;) {
        struct chunk *next = c->next;
        free(c);
        c = next;
    }
    for (size_t i = 0; i < pool->n_trees; i++)
        json_free(pool->trees[i]);
    free(pool->trees);
    free(pool);
}

/* Room for n bytes, of which some may be given back by lowering `used`. */
static char *reserve(struct oci_pool *pool, size_t n)
{
    struct chunk *c = pool->chunks;
    if (!c || c->cap - c->used < n) {
        size_t cap = n > CHUNK_BYTES ? n : CHUNK_BYTES;
        c = malloc(sizeof(*c) + cap);
        if (!c)
            return NULL;
        c->next = pool->chunks;
        c->used = 0;
        c->cap = cap;
        pool->chunks = c;
    }
    return c->data + c->used;
}

static size_t slot_of(const char *p, size_t n)
{
    size_t hash = n;
    for (size_t i = 0; i < n; i++)
        hash = hash * 31 + (unsigned char)p[i];
    return hash & (KNOWN_COUNT - 1);
}

const char *oci_pool_text(struct oci_pool *pool, struct json_span string)
{
    /* An escape only makes a string that is known look like a new one. */
    const char *inner = string.p + 1;
    size_t n = string.n - 2;
    const char **known = &pool->known[slot_of(inner, n)];
    if (*known && strncmp(*known, inner, n) == 0 && !(*known)[n] && !memchr(inner, '\\', n))
        return *known;
    char *text = reserve(pool, string.n);
    if (!text)
        return NULL;
    n = json_span_decode(string, text);
    text[n] = '\0';
    pool->chunks->used += n + 1;
    *known = text;
    return text;
}

static int check_strings(struct oci_pool *pool, struct json_span container, const char *what,
                         struct larder_error *e)
{
    const char *at = NULL;
    struct json_span one;
    size_t n = 0;
    while (json_span_next(container, &at, &one)) {
        n++;
        if (!json_span_is_string(one))
            return error_set(e, LARDER_INVAL, "%s: a value is no string", what);
    }
    if (n > OCI_POOL_VALUES_MAX - pool->n_values)
        return error_set(e, LARDER_LIMIT,
                         "%s: more than %d annotations, URLs and features in one document", what,
                         OCI_POOL_VALUES_MAX);
    pool->n_values += n;
    return 0;
}

/* A string's text in a buffer that is used again; NULL without memory. */
static const char *decode(struct json_span string, struct buf *out)
{
    buf_reset(out);
    char *text = buf_reserve(out, string.n);
    if (text)
        text[json_span_decode(string, text)] = '\0';
    return text;
}

static struct json *build(struct json_span container)
{
    struct buf key = BUF_INIT(container.n);
    struct buf value = BUF_INIT(container.n);
    const char *at = NULL;
    struct json_span name;
    struct json_span one;
    bool is_object = json_span_is_object(container);
    CLEANUP(json_freep) struct json *tree = is_object ? json_new_object() : json_new_array();
    bool is_whole = tree != NULL;
    while (is_whole && is_object && json_span_next_member(container, &at, &name, &one))
        is_whole =
            decode(name, &key) && decode(one, &value) && json_set_string(tree, key.p, value.p) == 0;
    while (is_whole && !is_object && json_span_next(container, &at, &one))
        is_whole = decode(one, &value) && json_append(tree, json_new_string(value.p)) == 0;
    buf_done(&key);
    buf_done(&value);
    return is_whole ? TAKE_PTR(tree) : NULL;
}

static int keep(struct oci_pool *pool, struct json *tree, struct larder_error *e)
{
    if (pool->n_trees == pool->cap_trees) {
        size_t cap = pool->cap_trees ? 2 * pool->cap_trees : 8;
        struct json **trees = reallocarray(pool->trees, cap, sizeof(struct json *));
        if (!trees)
            return error_nomem(e);
        pool->trees = trees;
        pool->cap_trees = cap;
    }
    pool->trees[pool->n_trees++] = tree;
    return 0;
}

int oci_pool_strings(struct oci_pool *pool, struct json_span container, const char *what,
                     const struct json **ret, struct larder_error *e)
{
    int r = check_strings(pool, container, what, e);
    if (r < 0)
        return r;
    CLEANUP(json_freep) struct json *tree = build(container);
    if (!tree)
        return error_nomem(e);
    r = keep(pool, tree, e);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(tree);
    return 0;
}
