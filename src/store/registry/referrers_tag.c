/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of referrers under a tag named after the subject's digest, which clients keep where the
 * registry has no API for it (distribution-spec "Referrers Tag Schema").
 *
 * There is no compare-and-swap: after writing, the tag is looked at again, and when somebody else's
 * list won, the change is made to that one.
 */
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "oci/manifest.h"
#include "oci/write.h"
#include "store/blob_read.h"
#include "store/registry/session.h"

#define TAG_BYTES   128
#define WRITES_MAX  5 /* against somebody who keeps writing, too */
#define ENTRIES_MAX 50000

static bool is_no_index(const struct oci_manifest *list)
{
    return list->kind != OCI_KIND_INDEX || list->is_docker;
}

/* *ret_digest: NONE when there is none. */
static int read_list(struct registry *r, const struct larder_digest *subject, struct buf *out,
                     struct larder_digest *ret_digest, struct larder_error *e)
{
    struct larder_error own = LARDER_ERROR_INIT;
    struct store_descriptor found;
    char tag[TAG_BYTES];
    *ret_digest = (struct larder_digest){0};
    oci_referrers_tag(subject, tag);
    int rc = registry_manifest_get(&r->store, tag, NULL, out, &found, &own);
    if (rc == -LARDER_NOENT)
        return 0;
    if (rc == 0)
        *ret_digest = found.digest;
    else if (e)
        *e = own;
    return rc < 0 ? rc : 1;
}

int referrers_tag_read(struct registry *r, const struct larder_digest *subject, struct buf *out,
                       struct larder_error *e)
{
    struct larder_digest digest;
    return read_list(r, subject, out, &digest, e);
}

/* What becomes of the list: `add` is put in, `drop` taken out. */
struct change {
    const struct larder_digest *subject;
    const struct oci_index_entry *add; /* NULL */
    const struct larder_digest *drop;  /* NULL */
};

/* 1: *out is the new list; 0: the old one is as wanted. */
static int change_list(const struct change *change, const struct oci_manifest *list,
                       struct buf *out, struct larder_error *e)
{
    const struct larder_digest *what = change->add ? &change->add->digest : change->drop;
    size_t n_old = list ? list->n_manifests : 0;
    size_t n = 0;
    bool has = false;
    if (n_old > ENTRIES_MAX)
        return error_set(e, LARDER_LIMIT, "more than %d referrers", ENTRIES_MAX);
    CLEANUP_FREE struct oci_index_entry *entries = calloc(n_old + 1, sizeof(*entries));
    if (!entries)
        return error_nomem(e);
    for (size_t i = 0; i < n_old; i++) {
        const struct oci_descriptor *d = &list->manifests[i];
        bool is_it = larder_digest_equal(&d->digest, what);
        has |= is_it;
        if (!is_it || change->add)
            oci_index_entry_of(d, &entries[n++]);
    }
    if (has == (change->add != NULL))
        return 0;
    if (change->add)
        entries[n++] = *change->add;
    int rc = oci_index_write(entries, n, false, list ? list->annotations : NULL, out, e);
    return rc < 0 ? rc : 1;
}

/* One round of read, change, write. 1: *ret_old became *ret_new; 0: nothing to do. */
static int change_once(struct registry *r, const struct change *change, const char *tag,
                       struct larder_digest *ret_old, struct larder_digest *ret_new,
                       struct larder_error *e)
{
    CLEANUP(oci_manifest_freep) struct oci_manifest *list = NULL;
    struct buf old = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    struct buf new = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    struct store_descriptor d = {.media_type = OCI_TYPE_INDEX};
    bool is_kept_by_registry = false;
    int rc = read_list(r, change->subject, &old, ret_old, e);
    if (rc == 1)
        rc = manifest_parse_from(&r->store, buf_slice(&old), NULL, &list, e);
    if (rc == 0 && list && is_no_index(list))
        rc = error_set(e, LARDER_UNSUPPORTED,
                       "%s:%s: not a list of referrers, though it has such a list's name",
                       r->store.name, tag);
    if (rc == 0)
        rc = change_list(change, list, &new, e);
    if (rc == 1) {
        d.size_bytes = new.n;
        rc = hash_of(LARDER_DIGEST_SHA256, new.p, new.n, &d.digest, e);
        if (rc == 0)
            rc = manifest_put_one(r, tag, true, &d, buf_slice(&new), &is_kept_by_registry, e);
        if (rc == 0)
            rc = 1;
        *ret_new = d.digest;
    }
    buf_done(&old);
    buf_done(&new);
    return rc;
}

/*
 * Whether another list than the one we wrote is there. The old one is no other: some registries
 * show what a tag was for a while.
 */
static int is_overwritten(struct registry *r, const char *tag, const struct larder_digest *old,
                          const struct larder_digest *new, struct larder_error *e)
{
    struct larder_error own = LARDER_ERROR_INIT;
    struct store_descriptor now;
    int rc = registry_resolve(&r->store, tag, &now, &own);
    if (rc == 0)
        return !larder_digest_equal(&now.digest, new) && !larder_digest_equal(&now.digest, old);
    if (rc == -LARDER_NOENT && old->alg == LARDER_DIGEST_NONE)
        return 0;
    if (e)
        *e = own;
    return rc;
}

static int change_tag(struct registry *r, const struct change *change, struct larder_error *e)
{
    char tag[TAG_BYTES];
    int rc = 1;
    oci_referrers_tag(change->subject, tag);
    pthread_mutex_lock(&r->fallback_lock);
    for (unsigned i = 0; rc == 1 && i < WRITES_MAX; i++) {
        struct larder_digest old;
        struct larder_digest new;
        rc = change_once(r, change, tag, &old, &new, e);
        if (rc != 1)
            break;
        rc = is_overwritten(r, tag, &old, &new, e);
    }
    pthread_mutex_unlock(&r->fallback_lock);
    if (rc == 1)
        return error_set(e, LARDER_BUSY, "%s:%s: somebody else changes it all the time",
                         r->store.name, tag);
    return rc;
}

int referrers_tag_add(struct registry *r, const struct oci_manifest *manifest,
                      const struct store_descriptor *descriptor, struct larder_error *e)
{
    const char *type = manifest->artifact_type;
    if (!type && manifest->kind == OCI_KIND_IMAGE)
        type = manifest->config.media_type;
    const struct oci_index_entry entry = {
        .media_type = descriptor->media_type,
        .digest = descriptor->digest,
        .size_bytes = descriptor->size_bytes,
        .artifact_type = type,
        .annotations = manifest->annotations,
    };
    const struct change change = {.subject = &manifest->subject.digest, .add = &entry};
    return change_tag(r, &change, e);
}

int referrers_tag_drop(struct registry *r, const struct larder_digest *subject,
                       const struct larder_digest *referrer, struct larder_error *e)
{
    const struct change change = {.subject = subject, .drop = referrer};
    return change_tag(r, &change, e);
}
