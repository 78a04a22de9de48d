/* SPDX-License-Identifier: Apache-2.0 */
/* zstd: frames one after the other, skippable ones included (RFC 8878 section 3). */
#include <zstd.h>
#include <zstd_errors.h>

#include "archive/unpack_codec.h"
#include "base/error.h"

/* 128 MiB: what `zstd -d` accepts unasked, and all that --long=27 makes. */
#define ZSTD_WINDOW_LOG_MAX_ACCEPTED 27

/* Longest frame header (RFC 8878 section 3.1.1.1); the constant is not in the stable API. */
#define FRAME_HEAD_MAX_BYTES 18

struct zstd {
    ZSTD_DCtx *ctx;
    bool is_between;                    /* at the end of a frame */
    uint8_t head[FRAME_HEAD_MAX_BYTES]; /* of this frame */
    size_t head_bytes;
    uint64_t frame_bytes; /* that came out of this frame */
};

static int zstd_open(void **ret_state, struct larder_error *e)
{
    CLEANUP_FREE struct zstd *z = calloc(1, sizeof(*z));
    if (!z || !(z->ctx = ZSTD_createDCtx()))
        return error_nomem(e);
    size_t rc = ZSTD_DCtx_setParameter(z->ctx, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX_ACCEPTED);
    if (ZSTD_isError(rc)) {
        ZSTD_freeDCtx(z->ctx);
        return error_set(e, LARDER_UNSUPPORTED, "zstd: %s", ZSTD_getErrorName(rc));
    }
    *ret_state = TAKE_PTR(z);
    return 0;
}

static void zstd_close(void *state)
{
    struct zstd *z = state;
    ZSTD_freeDCtx(z->ctx);
    free(z);
}

static int zstd_error(size_t rc, struct larder_error *e)
{
    switch ((int)ZSTD_getErrorCode(rc)) {
    case ZSTD_error_memory_allocation:
        return error_nomem(e);
    case ZSTD_error_frameParameter_windowTooLarge:
        return error_set(e, LARDER_LIMIT, "zstd stream: window larger than %u MiB",
                         (1u << ZSTD_WINDOW_LOG_MAX_ACCEPTED) >> 20);
    case ZSTD_error_dictionary_wrong:
        return error_set(e, LARDER_UNSUPPORTED, "zstd stream: needs a dictionary");
    case ZSTD_error_prefix_unknown:
        return unpack_damaged(&unpack_codec_zstd, "bad header or trailing garbage", e);
    case ZSTD_error_checksum_wrong:
        return unpack_damaged(&unpack_codec_zstd, "wrong checksum", e);
    default:
        return unpack_damaged(&unpack_codec_zstd, "damaged data", e);
    }
}

/* Whether a frame's byte number `at` (of the first four) can be that: zstd's magic, or one of the
 * 16 of skippable frames. */
static bool is_magic_byte(size_t at, uint8_t byte, uint8_t first)
{
    static const uint8_t zstd_magic[] = {0x28, 0xb5, 0x2f, 0xfd};
    static const uint8_t skip_magic[] = {0x50, 0x2a, 0x4d, 0x18};
    if (at == 0)
        return byte == zstd_magic[0] || (byte & 0xf0) == skip_magic[0];
    return byte == (first == zstd_magic[0] ? zstd_magic[at] : skip_magic[at]);
}

/* Debian's libzstd also takes the formats from before 1.0, which have no checks. */
static bool is_magic_good(const struct zstd *z, const uint8_t *data, size_t n)
{
    uint8_t first = z->head_bytes > 0 ? z->head[0] : n > 0 ? data[0] : 0;
    for (size_t i = 0; i < n && z->head_bytes + i < 4; i++)
        if (!is_magic_byte(z->head_bytes + i, data[i], first))
            return false;
    return true;
}

/*
 * The content size that the header promises. libzstd checks it only where it decodes a frame in one
 * go: fed in pieces it takes a short frame that ends with an empty block.
 */
static int check_frame(struct zstd *z, struct larder_error *e)
{
    unsigned long long promised = ZSTD_getFrameContentSize(z->head, z->head_bytes);
    bool is_known = promised != ZSTD_CONTENTSIZE_UNKNOWN && promised != ZSTD_CONTENTSIZE_ERROR;
    if (is_known && promised != z->frame_bytes)
        return unpack_damaged(&unpack_codec_zstd, "frame has not the size that it promises", e);
    z->head_bytes = 0;
    z->frame_bytes = 0;
    return 0;
}

static int zstd_push(void *state, struct unpack *u, const uint8_t *data, size_t n,
                     struct larder_error *e)
{
    struct zstd *z = state;
    ZSTD_inBuffer in = {data, n, 0};
    ZSTD_outBuffer out;
    do {
        out = (ZSTD_outBuffer){unpack_out(u), UNPACK_OUT_BYTES, 0};
        size_t before = in.pos;
        if (!is_magic_good(z, data + in.pos, n - in.pos))
            return unpack_damaged(&unpack_codec_zstd, "bad header or trailing garbage", e);
        /* The first byte by itself: libzstd decodes a frame that it is given whole by other code,
         * which judges damaged ones differently. What is accepted must not depend on the pieces. */
        in.size = z->head_bytes == 0 && before < n ? before + 1 : n;
        size_t rc = ZSTD_decompressStream(z->ctx, &out, &in);
        if (ZSTD_isError(rc))
            return zstd_error(rc, e);
        for (size_t i = before; i < in.pos && z->head_bytes < FRAME_HEAD_MAX_BYTES; i++)
            z->head[z->head_bytes++] = data[i];
        z->frame_bytes += out.pos;
        z->is_between = rc == 0;
        int sunk = unpack_emit(u, out.pos, e);
        if (sunk == 0 && z->is_between)
            sunk = check_frame(z, e);
        if (sunk < 0)
            return sunk;
        /* A full output buffer may hide more output of the same input. */
    } while (in.pos < n || (out.pos == out.size && !z->is_between));
    return 0;
}

static int zstd_finish(void *state, struct unpack *u, struct larder_error *e)
{
    const struct zstd *z = state;
    (void)u;
    return z->is_between ? 0 : unpack_truncated(&unpack_codec_zstd, e);
}

const struct unpack_codec unpack_codec_zstd = {
    "zstd", zstd_open, zstd_push, zstd_finish, zstd_close,
};
