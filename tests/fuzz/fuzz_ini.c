/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/ini.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every string must be readable to its end; line numbers never go back. */
static int handler(void *arg, const struct ini_item *item, struct larder_error *e)
{
    unsigned *last = arg;

    (void)e;
    if (item->line <= *last || !strlen(item->key) || strlen(item->section) > (1u << 20) ||
        strlen(item->section_name) > (1u << 20) || strlen(item->value) > (1u << 20))
        abort();
    *last = item->line;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct larder_error e = LARDER_ERROR_INIT;
    unsigned last = 0;
    int rc = ini_parse((struct slice){(const char *)data, size}, "fuzz", handler, &last, &e);

    if (rc > 0 || (rc < 0) != (e.code != LARDER_OK) || (rc < 0 && !e.msg[0]))
        abort();
    return 0;
}
