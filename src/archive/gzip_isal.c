/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gzip engine over isa-l: about twice zlib's speed. Its traps: without crc_flag = ISAL_GZIP
 * neither header nor trailer is looked at, and a next member needs isal_inflate_reset().
 */
#include <limits.h>

#include <isa-l/igzip_lib.h>

#include "archive/unpack_codec.h"
#include "base/error.h"

struct gzip_engine {
    struct inflate_state s;
};

int gzip_engine_new(struct gzip_engine **ret, struct larder_error *e)
{
    struct gzip_engine *engine = calloc(1, sizeof(*engine));
    if (!engine)
        return error_nomem(e);
    isal_inflate_init(&engine->s);
    engine->s.crc_flag = ISAL_GZIP;
    *ret = engine;
    return 0;
}

void gzip_engine_free(struct gzip_engine *engine)
{
    free(engine);
}

void gzip_engine_reset(struct gzip_engine *engine)
{
    isal_inflate_reset(&engine->s);
    engine->s.crc_flag = ISAL_GZIP;
}

static const char *reason(int rc)
{
    switch (rc) {
    case ISAL_INCORRECT_CHECKSUM:
        return "wrong checksum or length";
    case ISAL_INVALID_WRAPPER:
    case ISAL_UNSUPPORTED_METHOD:
        return "bad member header";
    default:
        return "damaged data";
    }
}

enum gzip_state gzip_engine_run(struct gzip_engine *engine, const uint8_t **data, size_t *n,
                                uint8_t *out, size_t out_cap, size_t *ret_out_bytes,
                                const char **ret_why)
{
    struct inflate_state *s = &engine->s;
    uint32_t give = *n > UINT_MAX ? UINT_MAX : (uint32_t)*n;
    /* isa-l's type is not const; it only reads. */
    union {
        const uint8_t *in;
        uint8_t *out;
    } next = {*data};
    s->next_in = next.out;
    s->avail_in = give;
    s->next_out = out;
    s->avail_out = (uint32_t)out_cap;
    int rc = isal_inflate(s);
    if (rc < 0) {
        *ret_why = reason(rc);
        return GZIP_DAMAGED;
    }
    uint32_t used = give - s->avail_in;
    *data += used;
    *n -= used;
    *ret_out_bytes = out_cap - s->avail_out;
    return s->block_state == ISAL_BLOCK_FINISH ? GZIP_MEMBER_END : GZIP_MORE;
}
