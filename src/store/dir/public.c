/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public functions that look blobs up and put them in (include/larder/store.h). Verification is
 * in verify.c; refs and leases have theirs in ref.c and lease.c.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "base/sparse.h"
#include "store/dir/blob.h"

#define PUT_BUFFER_BYTES (1024 * 1024)

int blob_none(const struct larder_digest *digest, struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    return error_set(e, LARDER_NOENT, "blob %s: not in the store",
                     larder_digest_format(digest, text));
}

int larder_blob_stat(struct larder_store *store, const struct larder_digest *digest,
                     struct larder_blob_info *ret, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    enum blob_state state = BLOB_MISSING;
    struct memo memo = {0};
    struct stat st;
    int64_t last_used = 0;

    int r = blob_check(store, digest, &state, &st, NULL, e);
    if (r < 0)
        return r;
    if (state == BLOB_MISSING || state == BLOB_MARKED)
        return blob_none(digest, e);
    r = memo_read(store, digest, &memo, &last_used, &why);
    int64_t written = st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec;
    *ret = (struct larder_blob_info){
        .digest = *digest,
        .size_bytes = (uint64_t)st.st_size,
        .allocated_bytes = (uint64_t)st.st_blocks * 512,
        .added_ns = r == 0 ? memo.added_ns : written,
        .last_used_ns = r == 0 ? last_used : written,
        /* A memo of other bytes says nothing about these. */
        .last_verified_ns = state == BLOB_UNSURE ? 0 : memo.verified_ns,
    };
    return 0;
}

int larder_blob_path(struct larder_store *store, const struct larder_digest *digest, char *ret,
                     size_t ret_bytes, struct larder_error *e)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];

    if (!larder_digest_is_identity(digest->alg))
        return error_set(e, LARDER_INVAL,
                         "digest algorithm %s: blobs are named by sha256 or sha512",
                         larder_digest_alg_name(digest->alg));
    const char *root = larder_store_path(store);
    const char *alg = larder_digest_alg_name(digest->alg);
    larder_digest_hex(digest, hex);
    size_t need = strlen(root) + strlen("/blobs/") + strlen(alg) + 1 + strlen(hex) + 1;
    if (need > ret_bytes)
        return error_set(e, LARDER_LIMIT, "path of blob %s: %zu bytes, expected at most %zu", hex,
                         need, ret_bytes);
    snprintf(ret, ret_bytes, "%s/blobs/%s/%s", root, alg, hex);
    return 0;
}

/* ---- put ---- */

struct put {
    struct larder_store *store;
    struct temp_file temp;
    struct sparse_writer out;
    struct hash *hash;
    enum larder_digest_alg alg;
};

static int put_begin(struct put *p, struct larder_store *store,
                     const struct larder_digest *expected, struct larder_error *e)
{
    *p = (struct put){.store = store, .temp = TEMP_FILE_INIT, .alg = LARDER_DIGEST_SHA256};
    if (expected && expected->alg != LARDER_DIGEST_NONE) {
        if (!larder_digest_is_identity(expected->alg))
            return error_set(e, LARDER_INVAL,
                             "digest algorithm %s: blobs are named by sha256 or sha512",
                             larder_digest_alg_name(expected->alg));
        p->alg = expected->alg;
    }
    int r = hash_new(HASH_BIT(p->alg), &p->hash, e);
    if (r == 0)
        r = temp_open(store, &p->temp, e);
    p->out.fd = p->temp.fd;
    return r;
}

static int put_data(struct put *p, const void *data, size_t n, struct larder_error *e)
{
    hash_update(p->hash, data, n);
    return sparse_write(&p->out, data, n, e);
}

static int put_end(struct put *p, const struct larder_digest *expected, struct larder_digest *ret,
                   struct larder_error *e)
{
    struct larder_digest digest;
    CLEANUP_CLOSE int lock = -1;
    bool existed = false;

    int r = sparse_finish(&p->out, e);
    if (r == 0)
        r = hash_final(p->hash, p->alg, &digest, e);
    if (r < 0)
        return r;
    if (expected && expected->alg != LARDER_DIGEST_NONE &&
        !larder_digest_equal(&digest, expected)) {
        char found[LARDER_DIGEST_TEXT_BYTES], wanted[LARDER_DIGEST_TEXT_BYTES];
        return error_set(e, LARDER_MISMATCH, "bytes hash to %s, expected %s",
                         larder_digest_format(&digest, found),
                         larder_digest_format(expected, wanted));
    }
    r = store_lock(p->store, "gc", false, true, &lock, e);
    if (r == 0)
        r = blob_publish(p->store, &p->temp, &digest, &existed, e);
    if (r < 0)
        return r;
    if (existed)
        memo_touch(p->store, &digest);
    *ret = digest;
    return 0;
}

static void put_done(struct put *p)
{
    hash_free(p->hash);
    temp_drop(&p->temp);
}

static int put_stream(struct put *p, int fd, char *buffer, struct larder_error *e)
{
    const struct larder_observer *o = store_observer(p->store);
    for (;;) {
        if (o->is_canceled && o->is_canceled(o->arg))
            return error_set(e, LARDER_CANCELED, "canceled");
        ssize_t n = fd_read_full(fd, buffer, PUT_BUFFER_BYTES);
        if (n < 0)
            return error_errno(e, errno, "read");
        if (n == 0)
            return 0;
        int r = put_data(p, buffer, (size_t)n, e);
        if (r < 0)
            return r;
    }
}

int larder_blob_put_fd(struct larder_store *store, int fd, const struct larder_digest *expected,
                       struct larder_digest *ret, struct larder_error *e)
{
    CLEANUP_FREE char *buffer = malloc(PUT_BUFFER_BYTES);
    struct put p;

    if (!buffer)
        return error_nomem(e);
    int r = put_begin(&p, store, expected, e);
    if (r == 0)
        r = put_stream(&p, fd, buffer, e);
    if (r == 0)
        r = put_end(&p, expected, ret, e);
    put_done(&p);
    return r < 0 ? error_context(e, "put into store %s", larder_store_path(store)) : 0;
}

int larder_blob_put(struct larder_store *store, const void *data, size_t data_bytes,
                    const struct larder_digest *expected, struct larder_digest *ret,
                    struct larder_error *e)
{
    struct put p;
    int r = put_begin(&p, store, expected, e);
    if (r == 0)
        r = put_data(&p, data, data_bytes, e);
    if (r == 0)
        r = put_end(&p, expected, ret, e);
    put_done(&p);
    return r < 0 ? error_context(e, "put into store %s", larder_store_path(store)) : 0;
}
