/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of entries, and which entry a user's word means.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/text.h"
#include "image/service.h"
#include "image/source.h"
#include "store/dir/dir.h"

/* Escaped, with the prefix, it must stay a file name (filename_escape: 200 bytes). */
#define NAME_BYTES_MAX 128

bool image_text_is_storable(const char *text)
{
    struct buf clean = BUF_INIT(256 * 1024);
    text_sanitize(slice_of(text), &clean);
    int failed = buf_failed(&clean, NULL);
    /* Without memory it can't be told here; the document's string is checked once more. */
    bool is_same =
        failed == -LARDER_NOMEM || (failed == 0 && slice_equal(buf_slice(&clean), slice_of(text)));
    buf_done(&clean);
    return is_same;
}

int image_name_check(const char *name, struct larder_error *e)
{
    size_t n = name ? strlen(name) : 0;
    if (n == 0 || n > NAME_BYTES_MAX)
        return error_set(e, LARDER_INVAL, "image name: %zu bytes, expected 1 to %d", n,
                         NAME_BYTES_MAX);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return error_set(e, LARDER_INVAL, "image name: has a control byte at %zu", i);
    if (name[0] == '-' || name[0] == '/' || name[n - 1] == '/' || strstr(name, "//") ||
        strstr(name, ".."))
        return error_set(e, LARDER_INVAL,
                         "image name %s: may not begin with - or /, end with /, or have // or ..",
                         name);
    if (!image_text_is_storable(name))
        return error_set(e, LARDER_INVAL, "image name %s: not valid UTF-8", name);
    return 0;
}

int image_name_from_source(const char *source, char **ret_name, struct larder_error *e)
{
    CLEANUP_FREE char *base = NULL;
    struct larder_digest digest;
    char hex[LARDER_DIGEST_TEXT_BYTES];
    int r = source_basename(source, &base, e);
    if (r == 0)
        r = hash_of(LARDER_DIGEST_SHA256, source, strlen(source), &digest, e);
    if (r < 0)
        return r;
    larder_digest_hex(&digest, hex);
    for (char *c = base; *c; c++)
        if ((unsigned char)*c < 0x21 || (unsigned char)*c >= 0x7f || *c == '/')
            *c = '_'; /* plain, so that the cut below cannot fall into a character */
    while (strstr(base, ".."))
        *strstr(base, "..") = '_';
    char *name = NULL;
    if (asprintf(&name, "%.64s@%.12s", base[0] && base[0] != '-' ? base : "image", hex) < 0)
        return error_nomem(e);
    *ret_name = name;
    return 0;
}

static bool looks_like_source(const char *text)
{
    return source_is_url(text) || strstr(text, "://") || text[0] == '/' ||
           !strncmp(text, "./", 2) || !strncmp(text, "../", 3);
}

/* The source as the entry will have it: local paths absolute. */
static int normal_source(const char *source, char **ret, struct larder_error *e)
{
    if (!source_is_url(source) && !source_is_registry(source, NULL))
        return path_absolute(source, ret, e);
    char *copy = strdup(source);
    if (!copy)
        return error_nomem(e);
    *ret = copy;
    return 0;
}

static int entry_exists(struct larder_store *store, const char *name, bool *ret,
                        struct larder_error *e)
{
    struct image_entry entry;
    int r = image_entry_read(store, name, &entry, e);
    *ret = r == 0;
    if (r == 0)
        image_entry_done(&entry);
    else if (r == -LARDER_NOENT)
        error_clear(e);
    return r == -LARDER_NOENT ? 0 : r;
}

static int make_entry(struct larder_store *store, const char *source, const char *name,
                      const struct larder_image_spec *spec, struct larder_error *e)
{
    struct larder_image_spec made = LARDER_IMAGE_SPEC_INIT;
    if (spec)
        memcpy(&made, spec, spec->size < sizeof(made) ? spec->size : sizeof(made));
    made.size = sizeof(made);
    made.name = name;
    made.source = source;
    made.replace = false;
    int r = larder_image_add(store, &made, e);
    if (r == -LARDER_EXIST) { /* another process was faster */
        error_clear(e);
        return 0;
    }
    return r;
}

/* The name that a word means, and whether an entry of that name exists. */
static int find_entry(struct larder_store *store, const char *name_or_source, char **ret_name,
                      char **ret_source, bool *ret_exists, struct larder_error *e)
{
    CLEANUP_FREE char *source = NULL;
    CLEANUP_FREE char *name = NULL;
    int r = 0;
    if (looks_like_source(name_or_source)) {
        r = normal_source(name_or_source, &source, e);
        if (r == 0)
            r = image_name_from_source(source, &name, e);
    } else {
        r = image_name_check(name_or_source, e);
        if (r == 0 && !(name = strdup(name_or_source)))
            r = error_nomem(e);
    }
    if (r == 0)
        r = entry_exists(store, name, ret_exists, e);
    if (r < 0)
        return r;
    *ret_name = TAKE_PTR(name);
    *ret_source = TAKE_PTR(source);
    return 0;
}

static int no_such_entry(const char *word, struct larder_error *e)
{
    error_set(e, LARDER_NOENT, "image %s: no such entry", word);
    error_hint(e, "add it: larder image add %.40s SOURCE (a source has a / or is a URL)", word);
    return -LARDER_NOENT;
}

int image_resolve_existing(struct larder_store *store, const char *name_or_source, char **ret_name,
                           struct larder_error *e)
{
    CLEANUP_FREE char *source = NULL;
    CLEANUP_FREE char *name = NULL;
    bool exists = false;
    int r = find_entry(store, name_or_source, &name, &source, &exists, e);
    if (r < 0)
        return r;
    if (!exists)
        return no_such_entry(name_or_source, e);
    *ret_name = TAKE_PTR(name);
    return 0;
}

int image_resolve(struct larder_store *store, const char *name_or_source,
                  const struct larder_image_spec *spec, char **ret_name, struct larder_error *e)
{
    CLEANUP_FREE char *source = NULL;
    CLEANUP_FREE char *name = NULL;
    bool exists = false;
    int r = find_entry(store, name_or_source, &name, &source, &exists, e);
    if (r == 0 && !exists && !source)
        return no_such_entry(name_or_source, e);
    if (r == 0 && !exists)
        r = make_entry(store, source, name, spec, e);
    if (r < 0)
        return r;
    *ret_name = TAKE_PTR(name);
    return 0;
}
