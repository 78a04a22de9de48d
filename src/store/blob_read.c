/* SPDX-License-Identifier: Apache-2.0 */
#include "store/blob_read.h"

#include <errno.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "base/mem.h"

static int read_write(void *arg, const void *data, size_t n, struct larder_error *e)
{
    struct buf *out = arg;

    buf_append(out, data, n);
    return buf_failed(out, e);
}

static int read_restart(void *arg, struct larder_error *e)
{
    (void)e;
    buf_reset(arg);
    return 0;
}

static int read_extent(struct store *from, const struct store_descriptor *blob, struct buf *out,
                       struct larder_error *e)
{
    struct store_extent extent = {.fd = -1};
    int rc = from->ops->blob_extent(from, blob, &extent, e);

    if (rc < 0)
        return rc;
    CLEANUP_CLOSE int fd = extent.fd;
    char *to = buf_reserve(out, (size_t)extent.n_bytes);
    if (!to)
        return buf_failed(out, e);
    ssize_t n = fd_pread_full(fd, to, (size_t)extent.n_bytes, extent.offset);
    if (n < 0)
        return error_errno(e, errno, "%s: reading a blob", from->name);
    to[n] = '\0';
    out->n += (size_t)n;
    return 0;
}

int blob_read(struct store *from, const struct store_descriptor *blob, struct buf *out,
              struct larder_error *e)
{
    const struct blob_sink sink = {NULL, read_write, read_restart, NULL, out};
    enum larder_code wrong = from->ops->is_remote ? LARDER_MISMATCH : LARDER_CORRUPT;
    struct larder_digest found = {0};
    char text[LARDER_DIGEST_TEXT_BYTES];
    char other[LARDER_DIGEST_TEXT_BYTES];
    int rc;

    larder_digest_format(&blob->digest, text);
    if (blob->size_bytes > out->max_bytes)
        return error_set(e, LARDER_LIMIT, "blob %s: %llu bytes, at most %zu are read", text,
                         (unsigned long long)blob->size_bytes, out->max_bytes);
    rc = from->ops->is_remote ? from->ops->blob_get(from, blob, 0, &sink, e)
                              : read_extent(from, blob, out, e);
    if (rc < 0)
        return rc;
    if (out->n != blob->size_bytes)
        return error_set(e, wrong, "blob %s in %s: %zu bytes, expected %llu", text, from->name,
                         out->n, (unsigned long long)blob->size_bytes);
    rc = hash_of(blob->digest.alg, out->p, out->n, &found, e);
    if (rc < 0)
        return rc;
    if (!larder_digest_equal(&found, &blob->digest))
        return error_set(e, wrong, "blob %s in %s: its bytes are %s", text, from->name,
                         larder_digest_format(&found, other));
    return 0;
}

int document_blame(const struct store *from, int rc, struct larder_error *e)
{
    enum larder_code code = from->ops->is_remote ? LARDER_PROTO : LARDER_CORRUPT;

    if (rc != -LARDER_INVAL)
        return rc;
    if (e)
        e->code = code;
    return -(int)code;
}

int manifest_parse_from(const struct store *from, struct slice bytes, const char *media_type,
                        struct oci_manifest **ret, struct larder_error *e)
{
    return document_blame(from, oci_manifest_parse(bytes, media_type, ret, e), e);
}
