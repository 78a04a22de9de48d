/* SPDX-License-Identifier: Apache-2.0 */
/* Forgetting what a check found. */
#include "update/base/base.h"

/* The first failure does not keep the others from being forgotten. */
static int forget_all(struct base *base, const struct base_holders *holders, bool *ret_had,
                      struct larder_error *e)
{
    int failed = 0;

    /* NULL: what was found before there was a base. */
    for (size_t i = 0; i <= holders->n; i++) {
        struct larder_error why = LARDER_ERROR_INIT;
        int rc = base_record_remove(base, i < holders->n ? &holders->list[i] : NULL, &why);
        *ret_had = *ret_had || rc > 0;
        if (rc < 0 && failed == 0) {
            failed = rc;
            if (e)
                *e = why;
        }
    }
    return failed;
}

int larder_update_clear(struct larder_store *store, const char *ref,
                        const struct larder_update_options *options, bool *ret_had,
                        struct larder_error *e)
{
    struct base *base = NULL;
    struct base_holders holders = {0};
    struct larder_error why = LARDER_ERROR_INIT;
    struct update_ask ask = {0};
    bool had = false;
    int rc = update_ask_read(store, ref, options, &ask, &why);

    if (rc == 0)
        rc = base_open(&ask, &base, &why);
    if (rc == 0)
        rc = base->ops->holders(base, &holders, &why);
    /* In the store a record is found by its name: the image may be as damaged as it likes. */
    if (rc == -LARDER_CORRUPT && base && !ask.is_ostree)
        rc = 0;
    if (rc >= 0)
        rc = forget_all(base, &holders, &had, &why);
    base_holders_done(&holders);
    base_close(base); /* before what it borrows */
    update_ask_done(&ask);
    if (rc < 0) {
        if (e)
            *e = why;
        return rc;
    }
    if (ret_had)
        *ret_had = had;
    return 0;
}
