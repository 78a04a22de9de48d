/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls about one location: what is there, what is it called, delete it. */
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"
#include "oci/manifest.h"
#include "oci/platform.h"
#include "store/blob_read.h"
#include "store/copy/platform_choice.h"
#include "store/place.h"

#define BLOB_BYTES_MAX (8UL * 1024 * 1024) /* as registry.h promises */

void larder_manifest_done(struct larder_manifest *manifest)
{
    free(manifest->media_type);
    free(manifest->bytes);
    memset(manifest, 0, sizeof(*manifest));
}

/* Takes the bytes over. */
static int give(struct buf *bytes, const struct store_descriptor *what, struct larder_manifest *ret,
                struct larder_error *e)
{
    struct larder_manifest made = {.digest = what->digest, .n_bytes = bytes->n};
    int rc = buf_failed(bytes, e);

    if (rc < 0)
        return rc;
    made.media_type = strdup(what->media_type);
    made.bytes = buf_take(bytes);
    if (!made.media_type || !made.bytes) {
        larder_manifest_done(&made);
        return error_nomem(e);
    }
    *ret = made;
    return 0;
}

static int get_manifest(struct place *place, const char *platform, struct buf *bytes,
                        struct larder_manifest *ret, struct larder_error *e)
{
    CLEANUP_FREE char *text = NULL;
    struct oci_platform wanted;
    struct store_descriptor found;
    int rc = platform ? oci_platform_parse(platform, &wanted, &text, e) : 0;

    if (rc == 0)
        rc = place->store->ops->manifest_get(place->store, place->digest ? NULL : place->ref,
                                             place->digest, bytes, &found, e);
    if (rc >= 0 && platform)
        rc = platform_choose(place->store, &wanted, 1, &found, bytes, e);
    return rc < 0 ? rc : give(bytes, &found, ret, e);
}

int larder_manifest_get(struct larder_store *store, const char *location, const char *platform,
                        const struct larder_registry_options *options, struct larder_manifest *ret,
                        struct larder_error *e)
{
    struct place place = PLACE_INIT;
    struct buf bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    int rc = place_parse(location, &place, e);

    if (rc == 0)
        rc = place_open(&place, store, options, NULL, 0, e);
    if (rc == 0)
        rc = get_manifest(&place, platform, &bytes, ret, e);
    buf_done(&bytes);
    place_done(&place);
    return rc;
}

int larder_manifest_blob(struct larder_store *store, const char *location,
                         const struct larder_digest *digest, uint64_t size_bytes,
                         const struct larder_registry_options *options, struct larder_manifest *ret,
                         struct larder_error *e)
{
    const struct store_descriptor blob = {.digest = *digest, .size_bytes = size_bytes};
    struct place place = PLACE_INIT;
    struct buf bytes = BUF_INIT(BLOB_BYTES_MAX);
    int rc = place_parse(location, &place, e);

    if (rc == 0)
        rc = place_open(&place, store, options, NULL, 0, e);
    if (rc == 0)
        rc = blob_read(place.store, &blob, &bytes, e);
    if (rc == 0)
        rc = give(&bytes, &blob, ret, e);
    buf_done(&bytes);
    place_done(&place);
    return rc;
}

int larder_tags_each(struct larder_store *store, const char *location,
                     const struct larder_registry_options *options,
                     int (*fn)(void *arg, const char *tag), void *arg, struct larder_error *e)
{
    struct place place = PLACE_INIT;
    int rc = place_parse(location, &place, e);

    if (rc == 0)
        rc = place_open(&place, store, options, NULL, 0, e);
    if (rc == 0)
        rc = place.store->ops->each_ref(place.store, fn, arg, e);
    place_done(&place);
    return rc;
}

static int delete_tag(struct place *place, bool tag_only, enum larder_deleted *ret,
                      struct larder_error *e)
{
    const struct store_ops *ops = place->store->ops;
    struct larder_error own = LARDER_ERROR_INIT;
    struct store_descriptor found;
    int rc = ops->remove_ref(place->store, place->ref, &own);

    *ret = LARDER_DELETED_TAG;
    if (rc == -LARDER_UNSUPPORTED && !tag_only) {
        /* As skopeo does: the manifest, and with it every tag it has. */
        *ret = LARDER_DELETED_MANIFEST;
        error_clear(&own);
        rc = ops->resolve(place->store, place->ref, &found, &own);
        if (rc >= 0)
            rc = ops->manifest_remove(place->store, &found.digest, &own);
    }
    if (rc < 0 && e)
        *e = own;
    return rc < 0 ? rc : 0;
}

/* A layout's only image, which needs no name. */
static int delete_only(struct place *place, struct larder_error *e)
{
    const struct store_ops *ops = place->store->ops;
    struct store_descriptor found;
    int rc = ops->resolve(place->store, NULL, &found, e);

    return rc < 0 ? rc : ops->manifest_remove(place->store, &found.digest, e);
}

static int delete_there(struct place *place, bool tag_only, enum larder_deleted *ret,
                        struct larder_error *e)
{
    const struct store_ops *ops = place->store->ops;
    enum larder_deleted deleted = LARDER_DELETED_MANIFEST;
    int rc;

    if (!place->digest && place->ref)
        rc = delete_tag(place, tag_only, &deleted, e);
    else if (place->ref || tag_only)
        rc = error_set(e, LARDER_INVAL, "%s: either a tag or a digest can be deleted",
                       place->store->name);
    else if (place->digest)
        rc = ops->manifest_remove(place->store, place->digest, e);
    else
        rc = delete_only(place, e);
    if (rc >= 0 && ops->flush)
        rc = ops->flush(place->store, e);
    if (rc < 0)
        return rc;
    if (ret)
        *ret = deleted;
    return 0;
}

/* For writing, but a layout that is not there is not made. */
static int open_to_change(struct place *place, struct larder_store *store,
                          const struct larder_registry_options *options, struct larder_error *e)
{
    int rc;

    if (place->location.transport == OCI_TRANSPORT_ARCHIVE)
        return error_set(e, LARDER_UNSUPPORTED, "oci-archive:%s: nothing is deleted from archives",
                         place->location.path);
    if (place->location.transport == OCI_TRANSPORT_LAYOUT) {
        rc = place_open(place, store, options, NULL, 0, e);
        if (rc < 0)
            return rc;
        store_close(TAKE_PTR(place->store));
    }
    return place_open(place, store, options, NULL, STORE_OPEN_WRITE, e);
}

int larder_image_delete(struct larder_store *store, const char *location, bool tag_only,
                        const struct larder_registry_options *options, enum larder_deleted *ret,
                        struct larder_error *e)
{
    struct place place = PLACE_INIT;
    int rc = place_parse(location, &place, e);

    if (rc == 0)
        rc = open_to_change(&place, store, options, e);
    if (rc == 0)
        rc = delete_there(&place, tag_only, ret, e);
    place_done(&place);
    return rc;
}
