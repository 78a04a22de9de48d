/* SPDX-License-Identifier: Apache-2.0 */
/* bzip2: streams one after the other, as pbzip2 writes them. */
#include <limits.h>

#include <bzlib.h>

#include "archive/unpack_codec.h"
#include "base/error.h"

struct bzip2 {
    bz_stream s;
    bool is_open;
    bool is_between; /* at the end of a stream */
};

static int stream_open(struct bzip2 *b, struct larder_error *e)
{
    b->s = (bz_stream){0};
    if (BZ2_bzDecompressInit(&b->s, 0, 0) != BZ_OK)
        return error_nomem(e);
    b->is_open = true;
    b->is_between = false;
    return 0;
}

static void stream_close(struct bzip2 *b)
{
    if (b->is_open)
        BZ2_bzDecompressEnd(&b->s);
    b->is_open = false;
}

static int bzip2_open(void **ret_state, struct larder_error *e)
{
    CLEANUP_FREE struct bzip2 *b = calloc(1, sizeof(*b));
    if (!b)
        return error_nomem(e);
    int rc = stream_open(b, e);
    if (rc < 0)
        return rc;
    *ret_state = TAKE_PTR(b);
    return 0;
}

static void bzip2_close(void *state)
{
    stream_close(state);
    free(state);
}

static int bzip2_error(int rc, struct larder_error *e)
{
    switch (rc) {
    case BZ_MEM_ERROR:
        return error_nomem(e);
    case BZ_DATA_ERROR_MAGIC:
        return unpack_damaged(&unpack_codec_bzip2, "bad header or trailing garbage", e);
    default:
        return unpack_damaged(&unpack_codec_bzip2, "damaged data", e);
    }
}

static int bzip2_push(void *state, struct unpack *u, const uint8_t *data, size_t n,
                      struct larder_error *e)
{
    struct bzip2 *b = state;
    bool is_out_full = false;
    while (n > 0 || (is_out_full && !b->is_between)) {
        if (b->is_between) {
            stream_close(b);
            int rc = stream_open(b, e);
            if (rc < 0)
                return rc;
        }
        unsigned give = n > UINT_MAX ? UINT_MAX : (unsigned)n;
        /* libbz2's type is not const; it only reads. */
        union {
            const uint8_t *in;
            char *out;
        } next = {data};
        b->s.next_in = next.out;
        b->s.avail_in = give;
        b->s.next_out = (char *)unpack_out(u);
        b->s.avail_out = UNPACK_OUT_BYTES;
        int rc = BZ2_bzDecompress(&b->s);
        if (rc != BZ_OK && rc != BZ_STREAM_END)
            return bzip2_error(rc, e);
        data += give - b->s.avail_in;
        n -= give - b->s.avail_in;
        b->is_between = rc == BZ_STREAM_END;
        is_out_full = b->s.avail_out == 0;
        rc = unpack_emit(u, UNPACK_OUT_BYTES - b->s.avail_out, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int bzip2_finish(void *state, struct unpack *u, struct larder_error *e)
{
    const struct bzip2 *b = state;
    (void)u;
    return b->is_between ? 0 : unpack_truncated(&unpack_codec_bzip2, e);
}

const struct unpack_codec unpack_codec_bzip2 = {
    "bzip2", bzip2_open, bzip2_push, bzip2_finish, bzip2_close,
};
