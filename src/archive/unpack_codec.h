/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What a compression format is to unpack.c: three functions over its own state. Inside src/archive.
 *
 * A codec writes what it decoded to out (UNPACK_OUT_BYTES) and hands it on with unpack_emit(),
 * which holds the cap. It is never called again after one of its functions failed, except to be
 * freed.
 */
#include <stdint.h>

#include "archive/unpack.h"

/* Large enough that the sink's system calls and hash calls are rare, small enough for the L2. */
#define UNPACK_OUT_BYTES (256 * 1024)

struct unpack_codec {
    const char *name;
    int (*open)(void **ret_state, struct larder_error *e);
    /* Consumes all n bytes. */
    int (*push)(void *state, struct unpack *u, const uint8_t *data, size_t n,
                struct larder_error *e);
    /* End of input: emits what is left; CORRUPT unless the stream ended where input did. */
    int (*finish)(void *state, struct unpack *u, struct larder_error *e);
    void (*close)(void *state);
};

extern const struct unpack_codec unpack_codec_gzip;
extern const struct unpack_codec unpack_codec_xz;
extern const struct unpack_codec unpack_codec_zstd;
extern const struct unpack_codec unpack_codec_bzip2;
extern const struct unpack_codec unpack_codec_lz4;

/* The codec's output buffer. */
uint8_t *unpack_out(struct unpack *u);
/* Passes the first n bytes of the output buffer to the sink; LIMIT beyond the cap. */
int unpack_emit(struct unpack *u, size_t n, struct larder_error *e);

/* The same words for the same defect in every format. */
int unpack_truncated(const struct unpack_codec *codec, struct larder_error *e);
int unpack_damaged(const struct unpack_codec *codec, const char *how, struct larder_error *e);

/*
 * One deflate engine (isa-l where it was there at build time, else zlib) that decodes one gzip
 * member, header and trailer included and checked.
 */
struct gzip_engine;
enum gzip_state { GZIP_MORE, GZIP_MEMBER_END, GZIP_DAMAGED };

int gzip_engine_new(struct gzip_engine **ret, struct larder_error *e);
void gzip_engine_free(struct gzip_engine *engine);
/* Ready for the next member. */
void gzip_engine_reset(struct gzip_engine *engine);
/*
 * Decodes from *data (advanced, *n lessened) to out until the input or the output is used up or the
 * member ends; *ret_out_bytes: what was written. GZIP_DAMAGED sets *ret_why.
 */
enum gzip_state gzip_engine_run(struct gzip_engine *engine, const uint8_t **data, size_t *n,
                                uint8_t *out, size_t out_cap, size_t *ret_out_bytes,
                                const char **ret_why);
