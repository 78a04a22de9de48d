/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LZ4 as Apple's compression library frames it (what tart pushes), not lz4(1)'s own frames:
 *
 *   "bv41" u32 decoded bytes, u32 encoded bytes, an LZ4 block
 *   "bv4-" u32 bytes, the bytes as they are
 *   "bv4$" the end
 *
 * Numbers are little-endian. A block may refer to the 64 KiB decoded before it.
 */
#include <string.h>

#include <lz4.h>

#include "archive/unpack_codec.h"
#include "base/error.h"

#define HISTORY_BYTES (64UL * 1024)
/* Encoders cut blocks well below that; it bounds our memory. */
#define BLOCK_BYTES_MAX (16UL * 1024 * 1024)
#define MAGIC_BYTES     4

enum lz4_where { WHERE_MAGIC, WHERE_SIZES, WHERE_BLOCK, WHERE_PLAIN, WHERE_END };

struct lz4 {
    enum lz4_where where;
    bool is_plain; /* of the sizes being read */
    uint8_t head[8];
    size_t head_bytes;
    size_t decoded_bytes, encoded_bytes; /* of this block; plain: what is left of it */
    uint8_t *in;                         /* the encoded block, in_bytes of it so far */
    size_t in_bytes, in_cap;
    uint8_t *out; /* HISTORY_BYTES, of which the last history_bytes are there, then the block */
    size_t out_cap, history_bytes;
};

static int lz4_open(void **ret_state, struct larder_error *e)
{
    struct lz4 *l = calloc(1, sizeof(*l));
    if (!l)
        return error_nomem(e);
    l->out = malloc(HISTORY_BYTES);
    if (!l->out) {
        free(l);
        return error_nomem(e);
    }
    *ret_state = l;
    return 0;
}

static void lz4_close(void *state)
{
    struct lz4 *l = state;
    free(l->in);
    free(l->out);
    free(l);
}

static uint32_t u32_of(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int damaged(const char *how, struct larder_error *e)
{
    return unpack_damaged(&unpack_codec_lz4, how, e);
}

static int grow(uint8_t **p, size_t *cap, size_t keep, size_t n, struct larder_error *e)
{
    if (keep + n <= *cap)
        return 0;
    uint8_t *more = realloc(*p, keep + n);
    if (!more)
        return error_nomem(e);
    *p = more;
    *cap = keep + n;
    return 0;
}

static int begin_block(struct lz4 *l, struct larder_error *e)
{
    l->decoded_bytes = u32_of(l->head);
    l->encoded_bytes = l->is_plain ? 0 : u32_of(l->head + 4);
    l->head_bytes = 0;
    l->in_bytes = 0;
    if (l->is_plain) {
        l->where = l->decoded_bytes > 0 ? WHERE_PLAIN : WHERE_MAGIC;
        return 0;
    }
    if (l->encoded_bytes == 0 || l->encoded_bytes > BLOCK_BYTES_MAX ||
        l->decoded_bytes > BLOCK_BYTES_MAX)
        return damaged("a block without or with too many bytes", e);
    l->where = WHERE_BLOCK;
    return grow(&l->in, &l->in_cap, 0, l->encoded_bytes, e);
}

static int read_magic(struct lz4 *l, struct larder_error *e)
{
    bool is_end = memcmp(l->head, "bv4$", MAGIC_BYTES) == 0;
    l->is_plain = memcmp(l->head, "bv4-", MAGIC_BYTES) == 0;
    if (!is_end && !l->is_plain && memcmp(l->head, "bv41", MAGIC_BYTES) != 0)
        return damaged("bad block header", e);
    l->where = is_end ? WHERE_END : WHERE_SIZES;
    l->head_bytes = 0;
    return 0;
}

/* Magic and sizes, which may come in pieces. */
static int push_head(struct lz4 *l, const uint8_t **data, size_t *n, struct larder_error *e)
{
    size_t want = l->where == WHERE_MAGIC || l->is_plain ? 4 : 8;
    while (*n > 0 && l->head_bytes < want) {
        l->head[l->head_bytes++] = *(*data)++;
        (*n)--;
    }
    if (l->head_bytes < want)
        return 0;
    return l->where == WHERE_MAGIC ? read_magic(l, e) : begin_block(l, e);
}

/* Passes bytes on and keeps the last of them, which may not overlap the history. */
static int emit(struct lz4 *l, struct unpack *u, const uint8_t *data, size_t n,
                struct larder_error *e)
{
    for (size_t at = 0; at < n;) {
        size_t piece = n - at < UNPACK_OUT_BYTES ? n - at : UNPACK_OUT_BYTES;
        memcpy(unpack_out(u), data + at, piece);
        int rc = unpack_emit(u, piece, e);
        if (rc < 0)
            return rc;
        at += piece;
    }
    size_t keep = n < HISTORY_BYTES ? n : HISTORY_BYTES;
    size_t old = HISTORY_BYTES - keep < l->history_bytes ? HISTORY_BYTES - keep : l->history_bytes;
    memmove(l->out + HISTORY_BYTES - keep - old, l->out + HISTORY_BYTES - old, old);
    memmove(l->out + HISTORY_BYTES - keep, data + n - keep, keep);
    l->history_bytes = old + keep;
    return 0;
}

static int push_block(struct lz4 *l, struct unpack *u, const uint8_t **data, size_t *n,
                      struct larder_error *e)
{
    size_t piece = l->encoded_bytes - l->in_bytes < *n ? l->encoded_bytes - l->in_bytes : *n;
    memcpy(l->in + l->in_bytes, *data, piece);
    l->in_bytes += piece;
    *data += piece;
    *n -= piece;
    if (l->in_bytes < l->encoded_bytes)
        return 0;
    int rc = grow(&l->out, &l->out_cap, HISTORY_BYTES, l->decoded_bytes, e);
    if (rc < 0)
        return rc;
    uint8_t *block = l->out + HISTORY_BYTES;
    int got = LZ4_decompress_safe_usingDict(
        (const char *)l->in, (char *)block, (int)l->encoded_bytes, (int)l->decoded_bytes,
        (const char *)(block - l->history_bytes), (int)l->history_bytes);
    if (got < 0 || (size_t)got != l->decoded_bytes)
        return damaged("damaged data", e);
    l->where = WHERE_MAGIC;
    return emit(l, u, block, l->decoded_bytes, e);
}

static int push_plain(struct lz4 *l, struct unpack *u, const uint8_t **data, size_t *n,
                      struct larder_error *e)
{
    size_t piece = l->decoded_bytes < *n ? l->decoded_bytes : *n;
    int rc = emit(l, u, *data, piece, e);
    *data += piece;
    *n -= piece;
    l->decoded_bytes -= piece;
    if (l->decoded_bytes == 0)
        l->where = WHERE_MAGIC;
    return rc;
}

static int lz4_push(void *state, struct unpack *u, const uint8_t *data, size_t n,
                    struct larder_error *e)
{
    struct lz4 *l = state;
    int rc = 0;
    while (rc == 0 && n > 0) {
        switch (l->where) {
        case WHERE_MAGIC:
        case WHERE_SIZES:
            rc = push_head(l, &data, &n, e);
            break;
        case WHERE_BLOCK:
            rc = push_block(l, u, &data, &n, e);
            break;
        case WHERE_PLAIN:
            rc = push_plain(l, u, &data, &n, e);
            break;
        case WHERE_END:
            return damaged("trailing garbage", e);
        }
    }
    return rc;
}

static int lz4_finish(void *state, struct unpack *u, struct larder_error *e)
{
    const struct lz4 *l = state;
    (void)u;
    return l->where == WHERE_END ? 0 : unpack_truncated(&unpack_codec_lz4, e);
}

const struct unpack_codec unpack_codec_lz4 = {
    "lz4 (bv41)", lz4_open, lz4_push, lz4_finish, lz4_close,
};
