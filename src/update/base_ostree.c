/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "update/base.h"

static int refuse(struct larder_error *e)
{
    return error_set(e, LARDER_UNSUPPORTED, "ostree: larder was built without it");
}

int base_ostree_open(const struct update_ask *ask, struct base **ret, struct larder_error *e)
{
    (void)ask;
    (void)ret;
    return refuse(e);
}

int base_ostree_each(struct larder_store *store, const struct larder_update_options *options,
                     int (*fn)(void *arg, const char *ref, const char *platform), void *arg,
                     struct larder_error *e)
{
    (void)store;
    (void)options;
    (void)fn;
    (void)arg;
    return refuse(e);
}

int base_ostree_follows(const char *sysroot, char **ret, struct larder_error *e)
{
    (void)sysroot;
    (void)ret;
    return refuse(e);
}
