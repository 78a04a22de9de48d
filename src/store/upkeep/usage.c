/* SPDX-License-Identifier: Apache-2.0 */
/* du and status: sums and lists over the index, leases, quarantine and partials. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include <larder/maintain.h>

#include "base/error.h"
#include "base/fdio.h"
#include "index/index.h"
#include "store/dir/dir.h"
#include "store/dir/lease.h"
#include "store/dir/quarantine.h"
#include "store/upkeep/index_sync.h"
#include "store/upkeep/reach.h"
#include "store/upkeep/roots.h"

struct counting {
    struct larder_usage usage;
    struct digest_set leased;
    struct roots roots; /* a ref to a manifest keeps all below it, which the index does not know */
    int dirfd;
    struct larder_error *e;
};

static int count_blob(void *arg, const struct index_blob *blob, const char *refs)
{
    struct counting *c = arg;
    struct larder_usage *u = &c->usage;
    if (u->blobs == 0 || blob->verified_ns < u->oldest_verified_ns)
        u->oldest_verified_ns = blob->verified_ns;
    u->blobs++;
    u->blob_bytes += blob->size_bytes;
    u->blob_allocated_bytes += blob->allocated_bytes;
    bool is_referred = refs[0] || roots_have_ref(&c->roots, &blob->digest);
    bool is_leased = digest_set_has(&c->leased, &blob->digest) ||
                     (c->roots.held && reach_has(c->roots.held, &blob->digest));
    if (is_referred) {
        u->referred_blobs++;
        u->referred_allocated_bytes += blob->allocated_bytes;
    }
    u->leased_blobs += is_leased;
    if (is_leased && !is_referred) {
        u->leased_only_blobs++;
        u->leased_only_allocated_bytes += blob->allocated_bytes;
    }
    return 0;
}

static int count_ref(void *arg, const char *name, const struct index_print *print, bool is_bad)
{
    struct counting *c = arg;
    (void)name;
    (void)print;
    (void)is_bad;
    c->usage.refs++;
    return 0;
}

static int count_lease(void *arg, const struct lease *lease)
{
    struct counting *c = arg;
    if (lease_check(lease) == PROCESS_DEAD)
        return 0;
    c->usage.leases++;
    return digest_set_add(&c->leased, &lease->digest, c->e);
}

static int count_quarantined(void *arg, const struct quarantine_item *item)
{
    struct counting *c = arg;
    c->usage.quarantined++;
    c->usage.quarantine_allocated_bytes += item->allocated_bytes;
    return 0;
}

static int count_partial(void *arg, const char *name, unsigned char d_type)
{
    struct counting *c = arg;
    struct stat st;
    size_t n = strlen(name);
    (void)d_type;
    if (fstatat(c->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return 0;
    c->usage.partial_allocated_bytes += (uint64_t)st.st_blocks * 512;
    if (n < 5 || strcmp(name + n - 5, ".json") != 0)
        c->usage.partials++;
    return 0;
}

/* The directory has no other files but a writer's temporary, which takes its space, too. */
static int count_record(void *arg, const char *name, unsigned char d_type)
{
    struct counting *c = arg;
    struct stat st;
    (void)d_type;
    if (fstatat(c->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return 0;
    c->usage.record_allocated_bytes += (uint64_t)st.st_blocks * 512;
    c->usage.records += name[0] != '.';
    return 0;
}

/* Not made by asking for it: most stores have none. */
static int count_records(struct larder_store *store, struct counting *c)
{
    struct stat st;
    int root = -1;
    int result = store_place(store, STORE_ROOT, &root, c->e);
    if (result < 0 || fstatat(root, store_place_name(STORE_UPDATES), &st, AT_SYMLINK_NOFOLLOW) < 0)
        return result;
    result = store_place(store, STORE_UPDATES, &c->dirfd, c->e);
    return result < 0 ? result : dir_each(c->dirfd, count_record, c, c->e);
}

/* A place that a read-only store lacks holds nothing. */
static int unless_missing(struct larder_store *store, int result, struct larder_error *e)
{
    if (result != -LARDER_NOENT || !store_is_read_only(store))
        return result;
    error_clear(e);
    return 0;
}

/* What is below the refs. Refs are read before leases, whose damage was told already. */
static int count_roots(struct larder_store *store, struct counting *c)
{
    int result = unless_missing(store, roots_load(store, &c->roots, c->e), c->e);
    if (result == -LARDER_CORRUPT || result == -LARDER_UNSUPPORTED) {
        error_clear(c->e);
        result = 0;
    }
    if (result == 0 && c->roots.bad_ref)
        store_warn(store, "not all that names refer to is counted: ref %s can't be followed",
                   c->roots.bad_ref);
    if (result == 0 && c->roots.is_held_unknown)
        store_warn(store, "not all that leases hold is counted: a leased image can't be read");
    return result;
}

static int count_places(struct larder_store *store, struct counting *c)
{
    int root = -1;
    struct larder_error why = LARDER_ERROR_INIT;
    int result = unless_missing(store, lease_each(store, NULL, count_lease, c, &why), &why);
    if (result == -LARDER_CORRUPT || result == -LARDER_UNSUPPORTED) {
        store_warn(store, "not all leases are counted: %s", why.msg);
        result = 0;
    }
    if (result < 0 && c->e)
        *c->e = why;
    digest_set_sort(&c->leased);
    if (result == 0)
        result = unless_missing(store, quarantine_each(store, count_quarantined, c, c->e), c->e);
    if (result == 0) {
        result = store_place(store, STORE_PARTIAL, &c->dirfd, c->e);
        if (result == 0)
            result = dir_each(c->dirfd, count_partial, c, c->e);
        result = unless_missing(store, result, c->e);
    }
    if (result == 0)
        result = count_records(store, c);
    if (result == 0)
        result = count_roots(store, c);
    if (result == 0)
        result = store_place(store, STORE_ROOT, &root, c->e);
    if (result == 0)
        result = disk_free(root, &c->usage.free_bytes, c->e);
    return result;
}

int larder_usage_get(struct larder_store *store, struct larder_usage *ret, struct larder_error *e)
{
    CLEANUP(index_closep) struct index *index = NULL;
    struct counting c;
    memset(&c, 0, sizeof(c));
    c.e = e;
    int result = count_places(store, &c);
    if (result == 0)
        result = store_index(store, &index, e);
    if (result == 0)
        result = index_blob_each(index, INDEX_BY_DIGEST, true, count_blob, &c, e);
    if (result == 0)
        result = index_ref_each(index, count_ref, &c, e);
    digest_set_done(&c.leased);
    roots_done(&c.roots);
    if (result == 0)
        *ret = c.usage;
    return result;
}

struct row {
    struct larder_blob_info info;
    char *refs;
};

struct rows {
    struct row *rows;
    size_t count, cap;
    struct larder_error *e;
};

static int add_row(void *arg, const struct index_blob *blob, const char *refs)
{
    struct rows *rows = arg;
    if (rows->count == rows->cap) {
        size_t wanted = rows->cap ? rows->cap * 2 : 256;
        struct row *bigger = reallocarray(rows->rows, wanted, sizeof(*bigger));
        if (!bigger)
            return error_nomem(rows->e);
        rows->rows = bigger;
        rows->cap = wanted;
    }
    struct row *row = &rows->rows[rows->count];
    row->info = (struct larder_blob_info){.digest = blob->digest,
                                          .size_bytes = blob->size_bytes,
                                          .allocated_bytes = blob->allocated_bytes,
                                          .added_ns = blob->added_ns,
                                          .last_used_ns = blob->used_ns,
                                          .last_verified_ns = blob->verified_ns};
    row->refs = strdup(refs);
    if (!row->refs)
        return error_nomem(rows->e);
    rows->count++;
    return 0;
}

int larder_usage_each(struct larder_store *store,
                      int (*fn)(void *arg, const struct larder_blob_info *info, const char *refs),
                      void *arg, struct larder_error *e)
{
    CLEANUP(index_closep) struct index *index = NULL;
    struct rows rows = {NULL, 0, 0, e};
    int result = store_index(store, &index, e);
    /* All first: fn may print into a pipe nobody reads, and an open snapshot stops checkpoints. */
    if (result == 0)
        result = index_blob_each(index, INDEX_BY_USED_NEWEST, true, add_row, &rows, e);
    index_close(TAKE_PTR(index));
    for (size_t i = 0; result == 0 && i < rows.count; i++)
        result = fn(arg, &rows.rows[i].info, rows.rows[i].refs);
    for (size_t i = 0; i < rows.count; i++)
        free(rows.rows[i].refs);
    free(rows.rows);
    return result;
}
