/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gzip framing, RFC 1952: members one after the other, then perhaps zero padding (tapes, and tools
 * that round up to a block). What gzip(1) calls "trailing garbage ignored" is an error here: bytes
 * that nothing checks don't belong to an image.
 *
 *   state     input byte       next
 *   start     1f 8b 08 flags   member (a wrong byte: damaged)
 *   member    ...              until the engine saw the trailer -> between
 *   between   1f               start of the next member
 *             00               padding
 *             other            damaged: trailing garbage
 *   padding   00               padding; anything else is damaged
 */
#include <string.h>

#include "archive/unpack_codec.h"
#include "base/error.h"

#define HEAD_BYTES     4
#define FLAGS_RESERVED 0xe0 /* RFC 1952 2.3.1.2: "must be zero"; isa-l does not look */

enum gzip_where { WHERE_START, WHERE_MEMBER, WHERE_BETWEEN, WHERE_PADDING };

struct gzip {
    struct gzip_engine *engine;
    enum gzip_where where;
    size_t head_bytes; /* of this member's fixed header, seen while WHERE_START */
};

static int gzip_open(void **ret_state, struct larder_error *e)
{
    CLEANUP_FREE struct gzip *g = calloc(1, sizeof(*g));
    if (!g)
        return error_nomem(e);
    int rc = gzip_engine_new(&g->engine, e);
    if (rc < 0)
        return rc;
    *ret_state = TAKE_PTR(g);
    return 0;
}

static void gzip_close(void *state)
{
    struct gzip *g = state;
    gzip_engine_free(g->engine);
    free(g);
}

/* Looks at the fixed header before the engine gets it; the engine reads these bytes again. */
static bool head_is_good(struct gzip *g, const uint8_t *data, size_t n)
{
    static const uint8_t magic[] = {0x1f, 0x8b, 0x08};
    for (size_t i = 0; i < n && g->head_bytes < HEAD_BYTES; i++, g->head_bytes++) {
        if (g->head_bytes < sizeof(magic) ? data[i] != magic[g->head_bytes]
                                          : (data[i] & FLAGS_RESERVED) != 0)
            return false;
    }
    return true;
}

/* One run of the engine over what there is; sets where to BETWEEN at the member's end. */
static int member_push(struct gzip *g, struct unpack *u, const uint8_t **data, size_t *n,
                       struct larder_error *e)
{
    for (;;) {
        const char *why = NULL;
        size_t before = *n;
        size_t out = 0;
        enum gzip_state state =
            gzip_engine_run(g->engine, data, n, unpack_out(u), UNPACK_OUT_BYTES, &out, &why);
        if (state == GZIP_DAMAGED)
            return unpack_damaged(&unpack_codec_gzip, why, e);
        int rc = unpack_emit(u, out, e);
        if (rc < 0)
            return rc;
        if (state == GZIP_MEMBER_END) {
            g->where = WHERE_BETWEEN;
            return 0;
        }
        if (out < UNPACK_OUT_BYTES && *n == 0)
            return 0;
        if (out == 0 && *n == before)
            return unpack_damaged(&unpack_codec_gzip, "makes no progress", e);
    }
}

static int gzip_push(void *state, struct unpack *u, const uint8_t *data, size_t n,
                     struct larder_error *e)
{
    struct gzip *g = state;
    while (n > 0) {
        switch (g->where) {
        case WHERE_BETWEEN:
            if (*data != 0x1f && *data != 0)
                return unpack_damaged(&unpack_codec_gzip, "trailing garbage after a member", e);
            if (*data == 0x1f)
                gzip_engine_reset(g->engine);
            g->where = *data == 0 ? WHERE_PADDING : WHERE_START;
            g->head_bytes = 0;
            break;
        case WHERE_PADDING:
            for (; n > 0; data++, n--)
                if (*data != 0)
                    return unpack_damaged(&unpack_codec_gzip, "garbage in the padding", e);
            break;
        case WHERE_START:
        case WHERE_MEMBER: {
            if (g->where == WHERE_START && !head_is_good(g, data, n))
                return unpack_damaged(&unpack_codec_gzip, "bad member header", e);
            if (g->head_bytes == HEAD_BYTES)
                g->where = WHERE_MEMBER;
            int rc = member_push(g, u, &data, &n, e);
            if (rc < 0)
                return rc;
            break;
        }
        }
    }
    return 0;
}

static int gzip_finish(void *state, struct unpack *u, struct larder_error *e)
{
    const struct gzip *g = state;
    (void)u;
    if (g->where != WHERE_BETWEEN && g->where != WHERE_PADDING)
        return unpack_truncated(&unpack_codec_gzip, e);
    return 0;
}

const struct unpack_codec unpack_codec_gzip = {
    "gzip", gzip_open, gzip_push, gzip_finish, gzip_close,
};
