/* SPDX-License-Identifier: Apache-2.0 */
/* The gzip engine over zlib, where isa-l was not there at build time. */
#include <limits.h>

#define ZLIB_CONST
#include <zlib.h>

#include "archive/unpack_codec.h"
#include "base/error.h"

#define WINDOW_GZIP_ONLY (15 + 16)

struct gzip_engine {
    z_stream z;
};

int gzip_engine_new(struct gzip_engine **ret, struct larder_error *e)
{
    CLEANUP_FREE struct gzip_engine *engine = calloc(1, sizeof(*engine));
    if (!engine || inflateInit2(&engine->z, WINDOW_GZIP_ONLY) != Z_OK)
        return error_nomem(e);
    *ret = TAKE_PTR(engine);
    return 0;
}

void gzip_engine_free(struct gzip_engine *engine)
{
    if (engine)
        inflateEnd(&engine->z);
    free(engine);
}

void gzip_engine_reset(struct gzip_engine *engine)
{
    inflateReset(&engine->z);
}

enum gzip_state gzip_engine_run(struct gzip_engine *engine, const uint8_t **data, size_t *n,
                                uint8_t *out, size_t out_cap, size_t *ret_out_bytes,
                                const char **ret_why)
{
    z_stream *z = &engine->z;
    uInt give = *n > UINT_MAX ? UINT_MAX : (uInt)*n;
    z->next_in = *data;
    z->avail_in = give;
    z->next_out = out;
    z->avail_out = (uInt)out_cap;
    int rc = inflate(z, Z_NO_FLUSH);
    if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR) {
        *ret_why = z->msg ? z->msg : rc == Z_MEM_ERROR ? "out of memory" : "damaged data";
        return GZIP_DAMAGED;
    }
    *data += give - z->avail_in;
    *n -= give - z->avail_in;
    *ret_out_bytes = out_cap - z->avail_out;
    return rc == Z_STREAM_END ? GZIP_MEMBER_END : GZIP_MORE;
}
