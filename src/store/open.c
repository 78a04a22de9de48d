/* SPDX-License-Identifier: Apache-2.0 */
/* Which kind of store is at a location. The only file that knows all kinds. */
#include <string.h>

#include "base/error.h"
#include "store/registry/registry.h"
#include "store/store.h"

int store_open_location(const struct oci_location *location, struct larder_store *handle,
                        const struct remote_options *options, unsigned flags, struct store **ret,
                        struct larder_error *e)
{
    const struct larder_observer *observer = options ? options->observer : NULL;

    switch (location->transport) {
    case OCI_TRANSPORT_DOCKER:
        return registry_open(&location->reference, options, flags, ret, e);
    case OCI_TRANSPORT_LAYOUT:
        return layout_open(location->path, flags, observer, ret, e);
    case OCI_TRANSPORT_ARCHIVE:
        return archive_open(location->path, flags, observer, ret, e);
    case OCI_TRANSPORT_STORE:
    default:
        if (!handle)
            return error_set(e, LARDER_INVAL, "store:%s: no store is open",
                             location->ref ? location->ref : "");
        return dir_store_open(handle, flags, ret, e);
    }
}
