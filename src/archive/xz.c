/* SPDX-License-Identifier: Apache-2.0 */
/* xz: streams one after the other with padding between them, as the .xz format 1.1.0 has it. */
#include <lzma.h>

#include "archive/unpack_codec.h"
#include "base/error.h"

/* xz -9 needs 65 MiB; --memlimit-decompress of packagers is seldom above this. */
#define XZ_MEMORY_MAX_BYTES (256ULL * 1024 * 1024)

static int xz_open(void **ret_state, struct larder_error *e)
{
    CLEANUP_FREE lzma_stream *s = malloc(sizeof(*s));
    if (!s)
        return error_nomem(e);
    *s = (lzma_stream)LZMA_STREAM_INIT;
    /* A check that liblzma can't compute would go unchecked: say so instead. */
    lzma_ret ret = lzma_stream_decoder(s, XZ_MEMORY_MAX_BYTES,
                                       LZMA_CONCATENATED | LZMA_TELL_UNSUPPORTED_CHECK);
    if (ret != LZMA_OK)
        return error_nomem(e);
    *ret_state = TAKE_PTR(s);
    return 0;
}

static void xz_close(void *state)
{
    lzma_end(state);
    free(state);
}

static int xz_error(lzma_ret ret, struct larder_error *e)
{
    switch ((int)ret) {
    case LZMA_MEM_ERROR:
        return error_nomem(e);
    case LZMA_MEMLIMIT_ERROR:
        return error_set(e, LARDER_LIMIT, "xz stream: needs more than %llu MiB of memory",
                         XZ_MEMORY_MAX_BYTES >> 20);
    case LZMA_UNSUPPORTED_CHECK:
    case LZMA_OPTIONS_ERROR:
        return error_set(e, LARDER_UNSUPPORTED, "xz stream: check or filter not supported");
    case LZMA_FORMAT_ERROR:
        return unpack_damaged(&unpack_codec_xz, "bad header or trailing garbage", e);
    case LZMA_BUF_ERROR:
        return unpack_truncated(&unpack_codec_xz, e);
    default:
        return unpack_damaged(&unpack_codec_xz, "damaged data", e);
    }
}

static int run(lzma_stream *s, struct unpack *u, lzma_action action, struct larder_error *e)
{
    for (;;) {
        s->next_out = unpack_out(u);
        s->avail_out = UNPACK_OUT_BYTES;
        lzma_ret ret = lzma_code(s, action);
        /* BUF_ERROR while there may be more input only says that nothing could be done now. */
        if (ret == LZMA_BUF_ERROR && action == LZMA_RUN)
            ret = LZMA_OK;
        if (ret != LZMA_OK && ret != LZMA_STREAM_END)
            return xz_error(ret, e);
        int rc = unpack_emit(u, UNPACK_OUT_BYTES - s->avail_out, e);
        if (rc < 0 || ret == LZMA_STREAM_END)
            return rc;
        if (action == LZMA_RUN && s->avail_in == 0 && s->avail_out > 0)
            return 0;
    }
}

static int xz_push(void *state, struct unpack *u, const uint8_t *data, size_t n,
                   struct larder_error *e)
{
    lzma_stream *s = state;
    s->next_in = data;
    s->avail_in = n;
    return run(s, u, LZMA_RUN, e);
}

static int xz_finish(void *state, struct unpack *u, struct larder_error *e)
{
    lzma_stream *s = state;
    s->next_in = NULL;
    s->avail_in = 0;
    return run(s, u, LZMA_FINISH, e);
}

const struct unpack_codec unpack_codec_xz = {"xz", xz_open, xz_push, xz_finish, xz_close};
