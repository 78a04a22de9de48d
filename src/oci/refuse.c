/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/refuse.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/text.h"

/* Enough to recognise a name by; leaves room in the message for what is wrong with it. */
#define SHOWN_BYTES 100

int oci_refuse(struct larder_error *e, enum larder_code code, const char *what, struct slice text,
               const char *why)
{
    struct buf shown = BUF_INIT(4 * SHOWN_BYTES + 4);
    struct slice start = {text.p, text.n < SHOWN_BYTES ? text.n : SHOWN_BYTES};
    text_sanitize(start, &shown);
    if (text.n > SHOWN_BYTES)
        buf_puts(&shown, "...");
    int r = error_set(e, code, "%s \"%s\": %s", what, shown.p ? shown.p : "", why);
    buf_done(&shown);
    return r;
}
