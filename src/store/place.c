/* SPDX-License-Identifier: Apache-2.0 */
#include "store/place.h"

#include <string.h>

#include "base/error.h"

int place_parse(const char *text, struct place *ret, struct larder_error *e)
{
    struct place p = PLACE_INIT;
    int rc = oci_location_parse(text, &p.location, e);

    if (rc < 0)
        return rc;
    *ret = p;
    if (p.location.transport == OCI_TRANSPORT_DOCKER) {
        const struct oci_reference *reference = &ret->location.reference;
        if (reference->digest.alg != LARDER_DIGEST_NONE)
            ret->digest = &reference->digest;
        ret->ref = reference->tag || ret->digest ? reference->tag : "latest";
    } else {
        if (p.location.digest.alg != LARDER_DIGEST_NONE)
            ret->digest = &ret->location.digest;
        ret->ref = p.location.ref;
    }
    return 0;
}

int place_open(struct place *place, struct larder_store *handle,
               const struct larder_registry_options *options,
               const struct larder_observer *observer, unsigned flags, struct larder_error *e)
{
    place->remote = (struct remote_options){
        .options = options,
        .observer = observer  ? observer
                    : options ? options->observer
                              : NULL,
    };
    return store_open_location(&place->location, handle, &place->remote, flags, &place->store, e);
}

void place_done(struct place *place)
{
    store_close(place->store);
    oci_location_done(&place->location);
    *place = PLACE_INIT;
}

bool place_is_same(const struct place *a, const struct place *b)
{
    const struct oci_location *x = &a->location;
    const struct oci_location *y = &b->location;

    if (x->transport != y->transport)
        return false;
    switch (x->transport) {
    case OCI_TRANSPORT_DOCKER:
        return strcmp(x->reference.host, y->reference.host) == 0 &&
               strcmp(x->reference.name, y->reference.name) == 0;
    case OCI_TRANSPORT_LAYOUT:
    case OCI_TRANSPORT_ARCHIVE:
        return strcmp(x->path, y->path) == 0;
    case OCI_TRANSPORT_STORE:
    default:
        return true;
    }
}
