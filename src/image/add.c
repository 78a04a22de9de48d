/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adding and removing entries. Nothing is fetched here: what can be checked without the network is
 * checked now, so that a typing error does not wait for the first test run.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "image/service.h"
#include "image/source.h"
#include "image/sums.h"
#include "store/dir/dir.h"
#include "store/dir/ref.h"

static int check_local_file(const char *path, const char *what, struct larder_error *e)
{
    if (access(path, R_OK) == 0)
        return 0;
    return error_errno(e, errno, "%s %s", what, path);
}

static int check_reachable_parts(const struct image_entry *entry, struct larder_error *e)
{
    int r = 0;
    if (!source_is_url(entry->source) && !source_is_registry(entry->source, NULL))
        r = check_local_file(entry->source, "source", e);
    if (r == 0 && entry->checksum && !image_checksum_is_literal(entry->checksum) &&
        !source_is_url(entry->checksum))
        r = check_local_file(entry->checksum, "checksum file", e);
    if (r == 0 && entry->keyring)
        r = check_local_file(entry->keyring, "keyring", e);
    if (r == 0 && entry->header_file)
        r = check_local_file(entry->header_file, "header file", e);
    return r;
}

/* What was learned of a source stays when only the policy around it changes. */
static bool asks_for_the_same_bytes(const struct image_entry *a, const struct image_entry *b)
{
    const char *const pairs[][2] = {{a->source, b->source},   {a->checksum, b->checksum},
                                    {a->keyring, b->keyring}, {a->fingerprint, b->fingerprint},
                                    {a->format, b->format},   {a->unpack, b->unpack}};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        const char *x = pairs[i][0], *y = pairs[i][1];
        if (!x != !y || (x && strcmp(x, y)))
            return false;
    }
    return a->allow_backing == b->allow_backing || b->allow_backing;
}

static void change_policy(struct image_entry *entry, struct image_entry *wanted)
{
    entry->refresh_ns = wanted->refresh_ns;
    entry->allow_backing = wanted->allow_backing;
    free(entry->header_file);
    entry->header_file = TAKE_PTR(wanted->header_file);
}

static int add_locked(struct larder_store *store, struct image_entry *wanted, bool may_replace,
                      struct larder_error *e)
{
    CLEANUP_ENTRY struct image_entry old;
    image_entry_init(&old);
    int r = image_entry_read(store, wanted->name, &old, e);
    if (r == -LARDER_NOENT || (r == -LARDER_CORRUPT && may_replace)) {
        error_clear(e);
        return image_entry_write(store, wanted, e);
    }
    if (r < 0)
        return r;
    if (!may_replace) {
        error_set(e, LARDER_EXIST, "image %s: exists already, source %s", wanted->name, old.source);
        error_hint(e, "change it with --replace");
        return -LARDER_EXIST;
    }
    if (!asks_for_the_same_bytes(&old, wanted))
        return image_entry_write(store, wanted, e);
    change_policy(&old, wanted);
    return image_entry_write(store, &old, e);
}

int larder_image_add(struct larder_store *store, const struct larder_image_spec *spec,
                     struct larder_error *e)
{
    CLEANUP_ENTRY struct image_entry entry;
    CLEANUP_CLOSE int lock = -1;
    char lock_name[64];
    image_entry_init(&entry);
    int r = store_require_writable(store, e);
    if (r == 0)
        r = image_entry_from_spec(spec, &entry, e);
    if (r == 0)
        r = image_name_check(entry.name, e);
    if (r == 0)
        r = check_reachable_parts(&entry, e);
    if (r < 0)
        return r;
    store_lock_name("entry", entry.name, lock_name);
    r = store_lock(store, lock_name, true, true, &lock, e);
    if (r < 0)
        return r;
    return add_locked(store, &entry, spec->replace, e);
}

int larder_image_remove(struct larder_store *store, const char *name, struct larder_error *e)
{
    CLEANUP_CLOSE int lock = -1;
    CLEANUP_FREE char *ref = NULL;
    char lock_name[64];
    int r = store_require_writable(store, e);
    if (r == 0)
        r = image_name_check(name, e);
    if (r < 0)
        return r;
    store_lock_name("entry", name, lock_name);
    r = store_lock(store, lock_name, true, true, &lock, e);
    if (r < 0)
        return r;
    ref = image_ref_name(name);
    if (!ref)
        return error_nomem(e);
    r = ref_remove(store, ref, e);
    if (r == -LARDER_NOENT)
        return error_set(e, LARDER_NOENT, "image %s: no such entry", name);
    return r;
}
