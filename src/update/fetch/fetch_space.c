/* SPDX-License-Identifier: Apache-2.0 */
/* Whether an update fits on the destination's disk. (Quotas are seen when they are hit.) */
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/error.h"
#include "base/text.h"
#include "update/fetch/fetch_run.h"

/* The manifest, its ref, memos, directories that grow, an index that learns of them. */
#define MARGIN_BYTES (1024UL * 1024)

/* The nearest directory above that is there; a layout is not made before it is known to fit. */
static int stat_place(const char *path, struct statvfs *ret, struct larder_error *e)
{
    CLEANUP_FREE char *at = strdup(*path ? path : ".");

    if (!at)
        return error_nomem(e);
    while (statvfs(at, ret) < 0) {
        char *slash = strrchr(at, '/');
        if (errno != ENOENT || strcmp(at, ".") == 0 || strcmp(at, "/") == 0)
            return error_errno(e, errno, "%s: free space", path);
        if (slash)
            at[slash == at ? 1 : slash - at] = '\0';
        else
            memcpy(at, ".", sizeof("."));
    }
    return 0;
}

static uint64_t add(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* Each blob has blocks of its own, and one for its memo. */
static uint64_t needed_bytes(const struct fetch_run *r, uint64_t block)
{
    struct store *to = r->to.store;
    uint64_t sum = add(r->manifest.n, MARGIN_BYTES);

    for (size_t i = 0; i < r->n_blobs; i++) {
        const struct fetch_blob *b = &r->blobs[i];
        if (b->where == FETCH_HERE || b->where == FETCH_LEFT_OUT)
            continue;
        uint64_t kept = to && to->ops->blob_kept ? to->ops->blob_kept(to, &b->blob) : 0;
        sum = add(sum, add(b->blob.size_bytes - kept, 2 * block));
    }
    return sum;
}

int fetch_space(struct fetch_run *r, struct larder_error *e)
{
    const char *path = r->is_layout ? r->to.location.path : larder_store_path(r->ask->store);
    struct statvfs st = {0};
    char needed_text[32];
    char free_text[32];
    int rc = stat_place(path, &st, e);

    if (rc < 0)
        return rc;
    uint64_t block = st.f_frsize ? st.f_frsize : 4096;
    uint64_t free_bytes = (uint64_t)st.f_bavail * block;
    uint64_t needed = needed_bytes(r, block);
    if (needed <= free_bytes)
        return 0;
    error_set(e, LARDER_NOSPACE, "%s: the update needs %s (%llu bytes), %s (%llu bytes) are free",
              path, size_format(needed, needed_text), (unsigned long long)needed,
              size_format(free_bytes, free_text), (unsigned long long)free_bytes);
    return r->is_layout ? -LARDER_NOSPACE
                        : error_hint(e, "`larder gc` removes what nothing refers to");
}
