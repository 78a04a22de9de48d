/* SPDX-License-Identifier: Apache-2.0 */
#include "publish/meta_json.h"

#include <string.h>

#include "base/error.h"

#define KEY_IMAGE      "image"
#define KEY_DIGEST     "digest"
#define KEY_LIST       "manifest-list-digest"
#define KEY_TAGS       "tags"
#define KEY_ADDITIONAL "additional-images"

static bool is_text(const struct ordered *node, const char *text)
{
    const char *have = ordered_text(node);
    return have && strcmp(have, text) == 0;
}

static bool is_digest(const struct ordered *node, const struct larder_digest *digest)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    return is_text(node, larder_digest_format(digest, text));
}

static bool has_text(const struct ordered *array, const char *text)
{
    for (size_t i = 0; array && i < array->n_items; i++) {
        if (is_text(array->items[i], text))
            return true;
    }
    return false;
}

static bool is_array(const struct ordered *node)
{
    return node && node->kind == ORDERED_ARRAY;
}

static bool is_object(const struct ordered *node)
{
    return node && node->kind == ORDERED_OBJECT;
}

/* A value that Python takes for false: coreos-assembler treats the key as not there. */
static bool is_empty(const struct ordered *node)
{
    if (!node || (node->kind == ORDERED_OTHER && strcmp(node->spelled, "null") == 0))
        return true;
    return node->kind == ORDERED_OBJECT && node->n_items == 0;
}

/* The entry of a repository: the primary one, or the first of the additional ones. */
static struct ordered *entry_of(const struct ordered *primary, const char *repository,
                                const struct ordered *document, const char *key)
{
    if (!is_object(primary))
        return NULL;
    if (is_text(ordered_get(primary, KEY_IMAGE), repository))
        return ordered_get(document, key);
    const struct ordered *more = ordered_get(primary, KEY_ADDITIONAL);
    for (size_t i = 0; is_array(more) && i < more->n_items; i++) {
        if (is_text(ordered_get(more->items[i], KEY_IMAGE), repository))
            return more->items[i];
    }
    return NULL;
}

const char *meta_repository(const struct ordered *document, const char *key, size_t i)
{
    const struct ordered *entry = ordered_get(document, key);
    if (i > 0) {
        const struct ordered *more = ordered_get(entry, KEY_ADDITIONAL);
        entry = is_array(more) && i - 1 < more->n_items ? more->items[i - 1] : NULL;
    }
    if (!entry)
        return NULL;
    const char *repository = ordered_get_text(entry, KEY_IMAGE);
    return repository ? repository : "";
}

static bool has_all_tags(const struct ordered *entry, const struct meta_record *record)
{
    const struct ordered *tags = ordered_get(entry, KEY_TAGS);
    for (size_t i = 0; i < record->n_tags; i++) {
        if (!has_text(tags, record->tags[i]))
            return false;
    }
    return is_array(tags);
}

static bool is_recorded(const struct ordered *entry, const struct meta_record *record)
{
    return is_digest(ordered_get(entry, KEY_DIGEST), &record->digest) &&
           is_digest(ordered_get(entry, KEY_LIST), &record->list_digest) &&
           has_all_tags(entry, record);
}

/* Entries of the repository beside the one that counts. */
static bool has_duplicates(const struct ordered *primary, const struct ordered *entry,
                           const char *repository)
{
    const struct ordered *more = ordered_get(primary, KEY_ADDITIONAL);
    for (size_t i = 0; is_array(more) && i < more->n_items; i++) {
        if (more->items[i] != entry && is_text(ordered_get(more->items[i], KEY_IMAGE), repository))
            return true;
    }
    return false;
}

enum meta_state meta_state_of(const struct ordered *document, const char *key,
                              const struct meta_record *record)
{
    const struct ordered *primary = ordered_get(document, key);
    const struct ordered *entry = entry_of(primary, record->repository, document, key);
    if (!entry)
        return META_MISSING;
    return is_recorded(entry, record) && !has_duplicates(primary, entry, record->repository)
               ? META_EQUAL
               : META_DIFFERENT;
}

bool meta_has_tag(const struct ordered *document, const char *key, const char *repository,
                  const struct larder_digest *digest, const char *tag)
{
    const struct ordered *entry = entry_of(ordered_get(document, key), repository, document, key);
    return entry && is_digest(ordered_get(entry, KEY_DIGEST), digest) &&
           has_text(ordered_get(entry, KEY_TAGS), tag);
}

/* ---- changing ---- */

static int add_tag(struct ordered *tags, const char *tag)
{
    return has_text(tags, tag) ? 0 : ordered_append(tags, ordered_new_string(tag));
}

/* The new tags, then those that were there. */
static struct ordered *join_tags(const struct ordered *old, const char *const *tags, size_t n)
{
    CLEANUP(ordered_freep) struct ordered *joined = ordered_new(ORDERED_ARRAY);
    int r = joined ? 0 : -LARDER_NOMEM;
    for (size_t i = 0; r == 0 && i < n; i++)
        r = add_tag(joined, tags[i]);
    for (size_t i = 0; r == 0 && is_array(old) && i < old->n_items; i++) {
        const char *tag = ordered_text(old->items[i]);
        r = tag ? add_tag(joined, tag) : 0;
    }
    return r == 0 ? TAKE_PTR(joined) : NULL;
}

static int set_digest(struct ordered *entry, const char *key, const struct larder_digest *digest)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    if (is_digest(ordered_get(entry, key), digest))
        return 0;
    return ordered_set(entry, key, ordered_new_string(larder_digest_format(digest, text)));
}

static int fill_entry(struct ordered *entry, const struct meta_record *record)
{
    int r = 0;
    if (!ordered_get(entry, KEY_IMAGE))
        r = ordered_set(entry, KEY_IMAGE, ordered_new_string(record->repository));
    if (r == 0)
        r = set_digest(entry, KEY_DIGEST, &record->digest);
    if (r == 0)
        r = set_digest(entry, KEY_LIST, &record->list_digest);
    if (r == 0 && !has_all_tags(entry, record))
        r = ordered_set(entry, KEY_TAGS,
                        join_tags(ordered_get(entry, KEY_TAGS), record->tags, record->n_tags));
    return r;
}

/* An entry at its place in the document; 0 with *ret borrowed. */
static int make_entry(struct ordered *document, const char *key, struct ordered **ret)
{
    struct ordered *primary = ordered_get(document, key);
    if (is_empty(primary)) {
        int r = ordered_set(document, key, ordered_new(ORDERED_OBJECT));
        *ret = ordered_get(document, key);
        return r < 0 || !*ret ? -LARDER_NOMEM : 0;
    }
    struct ordered *more = ordered_get(primary, KEY_ADDITIONAL);
    if (!is_array(more)) {
        if (ordered_set(primary, KEY_ADDITIONAL, ordered_new(ORDERED_ARRAY)) < 0)
            return -LARDER_NOMEM;
        more = ordered_get(primary, KEY_ADDITIONAL);
    }
    if (!more || ordered_append(more, ordered_new(ORDERED_OBJECT)) < 0)
        return -LARDER_NOMEM;
    *ret = more->items[more->n_items - 1];
    return 0;
}

/* Whoever pushed twice with other tools has several entries: their tags were pushed all. */
static int merge_duplicates(struct ordered *primary, struct ordered *entry, const char *repository)
{
    struct ordered *more = ordered_get(primary, KEY_ADDITIONAL);
    for (size_t i = 0; is_array(more) && i < more->n_items;) {
        struct ordered *other = more->items[i];
        struct ordered *tags = ordered_get(entry, KEY_TAGS);
        const struct ordered *theirs = ordered_get(other, KEY_TAGS);
        if (other == entry || !is_text(ordered_get(other, KEY_IMAGE), repository)) {
            i++;
            continue;
        }
        for (size_t t = 0; is_array(theirs) && t < theirs->n_items; t++) {
            const char *tag = ordered_text(theirs->items[t]);
            if (tag && add_tag(tags, tag) < 0)
                return -LARDER_NOMEM;
        }
        ordered_remove(more, i);
    }
    return 0;
}

int meta_record(struct ordered *document, const char *key, const struct meta_record *record,
                struct larder_error *e)
{
    if (!is_object(document))
        return error_set(e, LARDER_INVAL, "meta.json: not an object");
    if (meta_state_of(document, key, record) == META_EQUAL)
        return 0;
    const struct ordered *primary = ordered_get(document, key);
    if (!is_empty(primary) && (!is_object(primary) || !ordered_get_text(primary, KEY_IMAGE)))
        return error_set(e, LARDER_INVAL, "meta.json: \"%s\" is no record of a pushed image", key);
    struct ordered *entry = entry_of(primary, record->repository, document, key);
    int r = entry ? 0 : make_entry(document, key, &entry);
    if (r == 0)
        r = fill_entry(entry, record);
    if (r == 0)
        r = merge_duplicates(ordered_get(document, key), entry, record->repository);
    return r < 0 ? error_nomem(e) : 1;
}

/* ---- which build it is ---- */

static bool is_true(const struct ordered *node)
{
    if (is_empty(node))
        return false;
    return node->kind == ORDERED_OTHER
               ? strcmp(node->spelled, "false") != 0 && strcmp(node->spelled, "0") != 0
               : node->kind != ORDERED_STRING || strcmp(node->spelled, "\"\"") != 0;
}

static int check_member(const struct ordered *now, const struct ordered *before, const char *key,
                        struct larder_error *e)
{
    const struct ordered *a = ordered_get(now, key), *b = ordered_get(before, key);
    if (!is_true(a) || ordered_equal(a, b))
        return 0;
    return error_set(
        e, LARDER_MISMATCH, "meta.json: %s is %s now, %s when the push began: another build", key,
        a->spelled ? a->spelled : "something else", b && b->spelled ? b->spelled : "none");
}

int meta_check_same(const struct ordered *now, const struct ordered *before, struct larder_error *e)
{
    static const char *const keys[] = {"ostree-commit", "ostree-content-checksum",
                                       "coreos-assembler.image-config-checksum"};
    static const char git[] = "coreos-assembler.container-config-git";
    int r = 0;
    for (size_t i = 0; i < ARRAY_LEN(keys) && r == 0; i++)
        r = check_member(now, before, keys[i], e);
    if (r == 0)
        r = check_member(ordered_get(now, git), ordered_get(before, git), "commit", e);
    return r;
}

bool meta_is_delayed(const struct ordered *document)
{
    return is_true(ordered_get(document, "coreos-assembler.delayed-meta-merge"));
}
