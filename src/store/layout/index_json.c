/* SPDX-License-Identifier: Apache-2.0 */
#include "store/layout/index_json.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "oci/manifest.h"
#include "store/upkeep/roots.h"

#define REF_NAME        "org.opencontainers.image.ref.name"
#define CONTAINERD_NAME "io.containerd.image.name"
/* Names in a message that asks for one. */
#define NAMES_BYTES_MAX 300

int index_json_parse(struct slice text, const char *where, struct json **ret,
                     struct larder_error *e)
{
    CLEANUP(json_freep) struct json *index = NULL;
    int r = json_parse(text, INDEX_JSON_BYTES_MAX, &index, e);
    if (r == -LARDER_INVAL) {
        r = -LARDER_CORRUPT;
        if (e)
            e->code = LARDER_CORRUPT;
    }
    if (r < 0) {
        error_context(e, "%s: index.json", where);
        return r;
    }
    const struct json *manifests = json_get(index, "manifests");
    /* "manifests":null is what Go writes for none. */
    if (!json_node_is_object(index) ||
        (manifests && !json_node_is_array(manifests) &&
         (json_node_is_object(manifests) || json_node_is_string(manifests))))
        return error_set(e, LARDER_CORRUPT, "%s: index.json is no image index", where);
    *ret = TAKE_PTR(index);
    return 0;
}

int index_json_new(struct json **ret, struct larder_error *e)
{
    struct json *index = json_new_object();
    int r = json_set_i64(index, "schemaVersion", 2);
    r |= json_set_string(index, "mediaType", OCI_TYPE_INDEX);
    r |= json_set(index, "manifests", json_new_array());
    if (r != 0) {
        json_free(index);
        return error_nomem(e);
    }
    *ret = index;
    return 0;
}

static const struct json *entries_of(const struct json *index)
{
    const struct json *manifests = json_get(index, "manifests");
    return json_node_is_array(manifests) ? manifests : NULL;
}

static const char *annotation(const struct json *entry, const char *key)
{
    return json_get_string(json_get(entry, "annotations"), key);
}

/* NULL: the entry has no name. */
static const char *name_of(const struct json *entry)
{
    const char *name = annotation(entry, REF_NAME);
    return name && *name ? name : NULL;
}

static bool entry_read(const struct json *entry, struct store_descriptor *ret)
{
    struct store_descriptor found = {0};
    const char *digest = json_get_string(entry, "digest");
    const char *type = json_get_string(entry, "mediaType");
    int64_t size = json_get_i64(entry, "size", -1);
    if (!digest || size < 0 || oci_digest_parse(slice_of(digest), &found.digest, NULL) < 0)
        return false;
    found.size_bytes = (uint64_t)size;
    if (type && strlen(type) < sizeof(found.media_type))
        snprintf(found.media_type, sizeof(found.media_type), "%s", type);
    *ret = found;
    return true;
}

int index_json_entry(const struct json *entry, const char *where, struct store_descriptor *ret,
                     struct larder_error *e)
{
    const char *name = name_of(entry);
    if (entry_read(entry, ret))
        return 0;
    return error_set(e, LARDER_CORRUPT, "%s: index.json: entry %s is no descriptor", where,
                     name ? name : "without a name");
}

int index_json_each_ref(const struct json *index, int (*fn)(void *arg, const char *ref), void *arg)
{
    const struct json *entries = entries_of(index), *entry;
    for (size_t i = 0; (entry = json_at(entries, i)); i++) {
        const char *name = name_of(entry);
        int r = name ? fn(arg, name) : 0;
        if (r != 0)
            return r;
    }
    return 0;
}

bool index_json_find(const struct json *index, const struct larder_digest *digest,
                     struct store_descriptor *ret)
{
    const struct json *entries = entries_of(index), *entry;
    for (size_t i = 0; (entry = json_at(entries, i)); i++) {
        struct store_descriptor found;
        if (!entry_read(entry, &found) || !larder_digest_equal(&found.digest, digest))
            continue;
        if (ret)
            *ret = found;
        return true;
    }
    return false;
}

static const struct json *find_name(const struct json *entries, const char *key, const char *ref)
{
    const struct json *entry;
    for (size_t i = 0; (entry = json_at(entries, i)); i++) {
        const char *name = annotation(entry, key);
        if (name && strcmp(name, ref) == 0)
            return entry;
    }
    return NULL;
}

/* "'a', 'b', and 3 more" for messages; malloc'd, NULL without memory. */
static char *names_text(const struct json *entries)
{
    struct buf text = BUF_INIT(64UL * 1024);
    const struct json *entry;
    size_t n_shown = 0, n = json_length(entries);
    for (size_t i = 0; (entry = json_at(entries, i)); i++) {
        const char *name = name_of(entry);
        const char *digest = json_get_string(entry, "digest");
        if (!name)
            name = digest ? digest : "?";
        if (text.n + strlen(name) > NAMES_BYTES_MAX)
            break;
        buf_printf(&text, "%s%s", i ? ", " : "", name);
        n_shown++;
    }
    if (n_shown < n)
        buf_printf(&text, "%s%zu more", n_shown ? " and " : "", n - n_shown);
    return buf_take(&text);
}

/* ---- the only image ---- */

static int read_document(const struct store_descriptor *manifest,
                         const struct index_json_reader *reader, struct json **ret)
{
    struct buf bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    int r = reader->read(reader->arg, manifest, &bytes, NULL);
    if (r == 0)
        r = json_parse(buf_slice(&bytes), OCI_MANIFEST_BYTES_MAX, ret, NULL);
    buf_done(&bytes);
    return r;
}

/* Members of all indexes that have an entry. */
static int collect_members(const struct json *entries, const struct index_json_reader *reader,
                           struct digest_set *members, struct larder_error *e)
{
    const struct json *entry, *member;
    int r = 0;
    for (size_t i = 0; r == 0 && (entry = json_at(entries, i)); i++) {
        struct store_descriptor manifest, found;
        CLEANUP(json_freep) struct json *index = NULL;
        if (!entry_read(entry, &manifest) || !media_type_is_index(manifest.media_type) ||
            read_document(&manifest, reader, &index) < 0)
            continue;
        for (size_t k = 0; r == 0 && (member = json_at(entries_of(index), k)); k++)
            r = entry_read(member, &found) ? digest_set_add(members, &found.digest, e) : 0;
    }
    digest_set_sort(members);
    return r;
}

static bool has_subject(const struct store_descriptor *manifest,
                        const struct index_json_reader *reader)
{
    CLEANUP(json_freep) struct json *document = NULL;
    return read_document(manifest, reader, &document) == 0 &&
           json_node_is_object(json_get(document, "subject"));
}

/* An entry that is there only because of another one: oras lists members and referrers, too. */
static bool is_secondary(const struct json *entry, const struct store_descriptor *manifest,
                         const struct digest_set *members, const struct index_json_reader *reader)
{
    return !name_of(entry) &&
           (digest_set_has(members, &manifest->digest) || has_subject(manifest, reader));
}

static int several(const struct json *entries, const char *where, struct larder_error *e)
{
    CLEANUP_FREE char *names = names_text(entries);
    error_set(e, LARDER_INVAL, "%s: several images, expected a name: %s", where,
              names ? names : "");
    error_hint(e, "write the name behind the path: %s:NAME", where);
    return -LARDER_INVAL;
}

static int resolve_only(const struct json *entries, const char *where,
                        const struct index_json_reader *reader, struct store_descriptor *ret,
                        struct larder_error *e)
{
    struct store_descriptor found = {0};
    struct digest_set members = {NULL, 0, 0};
    const struct json *entry;
    size_t n = json_length(entries);
    int r = n > 1 ? collect_members(entries, reader, &members, e) : 0;
    for (size_t i = 0; r == 0 && (entry = json_at(entries, i)); i++) {
        struct store_descriptor one;
        r = index_json_entry(entry, where, &one, e);
        if (r < 0 || larder_digest_equal(&found.digest, &one.digest) ||
            (n > 1 && is_secondary(entry, &one, &members, reader)))
            continue;
        if (found.digest.alg != LARDER_DIGEST_NONE)
            r = several(entries, where, e);
        found = one;
    }
    digest_set_done(&members);
    if (r == 0 && found.digest.alg == LARDER_DIGEST_NONE)
        return error_set(e, LARDER_NOENT, "%s: no image in it", where);
    if (r == 0)
        *ret = found;
    return r;
}

int index_json_resolve(const struct json *index, const char *where, const char *ref,
                       const struct index_json_reader *reader, struct store_descriptor *ret,
                       struct larder_error *e)
{
    const struct json *entries = entries_of(index);
    if (!ref || !*ref)
        return resolve_only(entries, where, reader, ret, e);
    const struct json *entry = find_name(entries, REF_NAME, ref);
    if (!entry)
        entry = find_name(entries, CONTAINERD_NAME, ref);
    if (entry)
        return index_json_entry(entry, where, ret, e);
    if (json_length(entries) == 0)
        return error_set(e, LARDER_NOENT, "%s:%s: no such name, nothing is in it", where, ref);
    CLEANUP_FREE char *names = names_text(entries);
    return error_set(e, LARDER_NOENT, "%s:%s: no such name, there is %s", where, ref,
                     names ? names : "another");
}

/* ---- edits ---- */

static struct json *entry_new(const struct store_descriptor *manifest, const char *name)
{
    struct json *entry = json_new_object();
    char digest[LARDER_DIGEST_TEXT_BYTES];
    int r = json_set_string(entry, "mediaType", manifest->media_type);
    r |= json_set_string(entry, "digest", larder_digest_format(&manifest->digest, digest));
    r |= json_set_u64(entry, "size", manifest->size_bytes);
    if (*name) {
        struct json *annotations = json_new_object();
        r |= json_set_string(annotations, REF_NAME, name);
        r |= json_set(entry, "annotations", annotations);
    }
    if (r == 0)
        return entry;
    json_free(entry);
    return NULL;
}

struct copying {
    struct json *to;
    struct json *entries; /* taken over by `to` */
    int failed;
};

static int copy_member(void *arg, const char *key, const struct json *value)
{
    struct copying *copying = arg;
    if (strcmp(key, "manifests") == 0)
        copying->failed |= json_set(copying->to, key, TAKE_PTR(copying->entries));
    else
        copying->failed |= json_set(copying->to, key, json_share(value));
    return copying->failed;
}

/* The document with other entries, which are taken over. */
static int with_entries(const struct json *index, struct json *entries, struct json **ret,
                        struct larder_error *e)
{
    struct copying copying = {json_new_object(), entries, 0};
    json_each(index, copy_member, &copying);
    if (!copying.failed && copying.entries)
        copying.failed |= json_set(copying.to, "manifests", TAKE_PTR(copying.entries));
    json_free(copying.entries);
    if (copying.failed) {
        json_free(copying.to);
        return error_nomem(e);
    }
    *ret = copying.to;
    return 0;
}

static bool is_same(const struct json *entry, const struct store_descriptor *manifest)
{
    struct store_descriptor found;
    return entry_read(entry, &found) && larder_digest_equal(&found.digest, &manifest->digest) &&
           found.size_bytes == manifest->size_bytes &&
           strcmp(found.media_type, manifest->media_type) == 0;
}

/* Index of a name in refs, n_refs when it is not there. */
static size_t which_ref(const struct json *entry, const char *const *refs, size_t n_refs)
{
    const char *name = name_of(entry);
    size_t i = 0;
    while (i < n_refs && (!name || strcmp(name, refs[i]) != 0))
        i++;
    return i;
}

/* The old entries with those of refs renewed. *is_done[i] is set for each name that was there. */
static int renew(const struct json *entries, const struct store_descriptor *manifest,
                 const char *const *refs, size_t n_refs, bool *is_done, struct json *to,
                 bool *ret_is_changed)
{
    const struct json *entry;
    int r = 0;
    for (size_t i = 0; r == 0 && (entry = json_at(entries, i)); i++) {
        size_t at = which_ref(entry, refs, n_refs);
        if (at == n_refs) {
            r = json_append(to, json_share(entry));
        } else if (is_done[at]) {
            *ret_is_changed = true; /* the same name twice: the first one counts */
        } else if (is_same(entry, manifest)) {
            is_done[at] = true;
            r = json_append(to, json_share(entry));
        } else {
            is_done[at] = *ret_is_changed = true;
            r = json_append(to, entry_new(manifest, refs[at]));
        }
    }
    return r;
}

int index_json_put(const struct json *index, const struct store_descriptor *manifest,
                   const char *const *refs, size_t n_refs, struct json **ret,
                   struct larder_error *e)
{
    CLEANUP(json_freep) struct json *entries = json_new_array();
    CLEANUP_FREE bool *is_done = calloc(n_refs ? n_refs : 1, sizeof(*is_done));
    bool is_changed = false;
    if (!entries || !is_done)
        return error_nomem(e);
    int r = renew(entries_of(index), manifest, refs, n_refs, is_done, entries, &is_changed);
    for (size_t i = 0; r == 0 && i < n_refs; i++) {
        /* A name given twice, or no name for what has an entry. */
        size_t first = 0;
        while (strcmp(refs[first], refs[i]) != 0)
            first++;
        if (is_done[first] || (!*refs[i] && index_json_find(index, &manifest->digest, NULL)))
            continue;
        is_done[first] = is_changed = true;
        r = json_append(entries, entry_new(manifest, refs[i]));
    }
    if (r < 0)
        return error_nomem(e);
    *ret = NULL;
    return is_changed ? with_entries(index, TAKE_PTR(entries), ret, e) : 0;
}

/* The entries but those that go; their number. */
static int without(const struct json *index, bool (*goes)(const struct json *, const void *),
                   const void *arg, struct json **ret, struct larder_error *e)
{
    CLEANUP(json_freep) struct json *left = json_new_array();
    const struct json *entries = entries_of(index), *entry;
    int n_gone = 0;
    if (!left)
        return error_nomem(e);
    for (size_t i = 0; (entry = json_at(entries, i)); i++) {
        if (goes(entry, arg))
            n_gone++;
        else if (json_append(left, json_share(entry)) < 0)
            return error_nomem(e);
    }
    if (n_gone == 0)
        return 0;
    int r = with_entries(index, TAKE_PTR(left), ret, e);
    return r < 0 ? r : n_gone;
}

static bool has_name(const struct json *entry, const void *ref)
{
    const char *name = name_of(entry);
    return name && strcmp(name, ref) == 0;
}

static bool has_digest(const struct json *entry, const void *digest)
{
    struct store_descriptor found;
    return entry_read(entry, &found) && larder_digest_equal(&found.digest, digest);
}

int index_json_drop_ref(const struct json *index, const char *where, const char *ref,
                        struct json **ret, struct larder_error *e)
{
    int n = without(index, has_name, ref, ret, e);
    if (n == 0)
        return error_set(e, LARDER_NOENT, "%s:%s: no such name", where, ref);
    return n < 0 ? n : 0;
}

int index_json_drop_digest(const struct json *index, const char *where,
                           const struct larder_digest *digest, struct json **ret,
                           struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    int n = without(index, has_digest, digest, ret, e);
    if (n == 0)
        return error_set(e, LARDER_NOENT, "%s@%s: no such entry", where,
                         larder_digest_format(digest, text));
    return n < 0 ? n : 0;
}
