/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

void store_close(struct store *s)
{
    if (s)
        s->ops->close(s);
}

uint64_t store_kept_bytes(const struct stat *st, uint64_t size_bytes)
{
    uint64_t kept = (uint64_t)st->st_blocks * 512;

    /* Fewer where the file system compresses, or has not allocated them yet. */
    if (kept < (uint64_t)st->st_size)
        kept = (uint64_t)st->st_size;
    return kept < size_bytes ? kept : size_bytes;
}

/* A registry store is called docker://HOST/REPOSITORY. */
bool store_is_same_registry(const struct store *a, const struct store *b)
{
    static const char scheme[] = "docker://";
    const char *end;

    if (!a->ops->is_remote || !b->ops->is_remote ||
        strncmp(a->name, scheme, sizeof(scheme) - 1) != 0)
        return false;
    end = strchr(a->name + sizeof(scheme) - 1, '/');
    return end && strncmp(a->name, b->name, (size_t)(end - a->name) + 1) == 0;
}
