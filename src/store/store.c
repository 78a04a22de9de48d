/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

void store_close(struct store *s)
{
    if (s)
        s->ops->close(s);
}

int store_resolve(struct store *s, const char *ref, const struct store_descriptor *supposed,
                  struct store_descriptor *ret, struct larder_error *e)
{
    if (s->ops->resolve_supposed && supposed && supposed->digest.alg != LARDER_DIGEST_NONE)
        return s->ops->resolve_supposed(s, ref, supposed, ret, e);
    return s->ops->resolve(s, ref, ret, e);
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
