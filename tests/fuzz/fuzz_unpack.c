/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes through every decompressor, in pieces of any size: no fault, bounded output, and for
 * gzip the same verdict and bytes as zlib.
 *
 * First byte: format and piece size; the rest: the stream.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "archive/unpack.h"

#define OUT_MAX (1U << 20)

struct sink {
    uint8_t data[OUT_MAX];
    size_t n;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int take(void *arg, const void *data, size_t n, struct larder_error *e)
{
    struct sink *s = arg;
    (void)e;
    if (n > OUT_MAX - s->n)
        abort(); /* the cap did not hold */
    memcpy(s->data + s->n, data, n);
    s->n += n;
    return 0;
}

static int unpack_in_pieces(enum unpack_format format, const uint8_t *data, size_t size,
                            size_t piece, struct sink *out)
{
    struct unpack *u = NULL;
    int rc = unpack_new(format, OUT_MAX, take, out, &u, NULL);
    for (size_t at = 0; rc == 0 && at < size; at += piece)
        rc = unpack_push(u, data + at, size - at < piece ? size - at : piece, NULL);
    if (rc == 0)
        rc = unpack_finish(u, NULL);
    unpack_free(u);
    return rc;
}

/* 0: whole; 1: zlib refuses it; 2: too large to say */
static int oracle(const uint8_t *data, size_t size, struct sink *out)
{
    z_stream z = {0};
    Bytef *copy = malloc(size + 1);
    int verdict = 1;
    if (!copy || inflateInit2(&z, 15 + 16) != Z_OK)
        abort();
    if (size > 0)
        memcpy(copy, data, size);
    z.next_in = copy;
    z.avail_in = (uInt)size;
    for (;;) {
        z.next_out = out->data + out->n;
        z.avail_out = (uInt)(OUT_MAX - out->n);
        uInt before = z.avail_out;
        int rc = inflate(&z, Z_NO_FLUSH);
        out->n += before - z.avail_out;
        if (rc == Z_OK && out->n == OUT_MAX) {
            verdict = 2;
            break;
        }
        if (rc != Z_OK && rc != Z_STREAM_END)
            break;
        if (rc != Z_STREAM_END) {
            if (z.avail_in == 0)
                break; /* cut */
            continue;
        }
        size_t zeros = 0;
        while (zeros < z.avail_in && z.next_in[zeros] == 0)
            zeros++;
        if (zeros == z.avail_in) {
            verdict = 0;
            break;
        }
        if (zeros > 0 || inflateReset(&z) != Z_OK)
            break;
    }
    inflateEnd(&z);
    free(copy);
    return verdict;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sink whole;
    static struct sink pieces;
    static struct sink expected;
    if (size < 1 || size > 65536)
        return 0;
    enum unpack_format format = (enum unpack_format)(UNPACK_GZIP + data[0] % 5);
    size_t piece = 1 + (size_t)(data[0] / 5) * 3;
    data++;
    size--;
    whole.n = pieces.n = expected.n = 0;
    int rc = unpack_in_pieces(format, data, size, size + 1, &whole);
    int rc_pieces = unpack_in_pieces(format, data, size, piece, &pieces);
    if ((rc == 0) != (rc_pieces == 0))
        abort();
    if (rc == 0 && (whole.n != pieces.n || memcmp(whole.data, pieces.data, whole.n) != 0))
        abort();
    if (format != UNPACK_GZIP)
        return 0;
    int verdict = oracle(data, size, &expected);
    if (verdict == 2)
        return 0;
    if ((verdict == 0) != (rc == 0)) {
        fprintf(stderr, "zlib says %d, we say %d\n", verdict, rc);
        abort();
    }
    if (rc == 0 && (whole.n != expected.n || memcmp(whole.data, expected.data, whole.n) != 0))
        abort();
    return 0;
}
