/* SPDX-License-Identifier: Apache-2.0 */
/* Every format: whole, in pieces of any size, cut, damaged, concatenated, with garbage, too large.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <bzlib.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "archive/unpack.h"
#include "base/buf.h"

#define NO_CAP UINT64_MAX
#define TEXT   "larder keeps what was already fetched; larder keeps what was already built\n"

static const enum unpack_format all[] = {UNPACK_GZIP, UNPACK_XZ, UNPACK_ZSTD, UNPACK_BZIP2};

static struct buf pack_gzip(const void *data, size_t n)
{
    struct buf out = BUF_INIT(64 << 20);
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, 0), Z_OK);
    size_t bound = deflateBound(&z, n) + 64;
    char *to = buf_reserve(&out, bound);
    assert_non_null(to);
    Bytef *in = malloc(n + 1);
    assert_non_null(in);
    memcpy(in, data, n);
    z.next_in = in;
    z.avail_in = (uInt)n;
    z.next_out = (Bytef *)to;
    z.avail_out = (uInt)bound;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    out.n += z.total_out;
    deflateEnd(&z);
    free(in);
    return out;
}

static struct buf pack(enum unpack_format format, const void *data, size_t n)
{
    if (format == UNPACK_GZIP)
        return pack_gzip(data, n);
    struct buf out = BUF_INIT(64 << 20);
    size_t bound = n + n / 50 + 4096;
    char *to = buf_reserve(&out, bound);
    assert_non_null(to);
    size_t made = 0;
    if (format == UNPACK_XZ) {
        assert_int_equal(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, NULL, data, n, (uint8_t *)to,
                                                 &made, bound),
                         LZMA_OK);
    } else if (format == UNPACK_ZSTD) {
        ZSTD_CCtx *ctx = ZSTD_createCCtx();
        ZSTD_CCtx_setParameter(ctx, ZSTD_c_checksumFlag, 1);
        made = ZSTD_compress2(ctx, to, bound, data, n);
        assert_false(ZSTD_isError(made));
        ZSTD_freeCCtx(ctx);
    } else {
        char *in = malloc(n + 1);
        unsigned got = (unsigned)bound;
        assert_non_null(in);
        memcpy(in, data, n);
        assert_int_equal(BZ2_bzBuffToBuffCompress(to, &got, in, (unsigned)n, 9, 0, 0), BZ_OK);
        made = got;
        free(in);
    }
    out.n += made;
    return out;
}

static int collect(void *arg, const void *data, size_t n, struct larder_error *e)
{
    buf_append(arg, data, n);
    return buf_failed(arg, e);
}

/* Result of unpacking in pieces of `piece` bytes; out holds what came. */
static int unpack_all(enum unpack_format format, const void *data, size_t n, size_t piece,
                      uint64_t cap, struct buf *out, struct larder_error *e)
{
    struct unpack *u = NULL;
    buf_reset(out);
    assert_int_equal(unpack_new(format, cap, collect, out, &u, e), 0);
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < n; at += piece) {
        /* An exact copy: reading past the piece is a fault under ASan. */
        size_t take = n - at < piece ? n - at : piece;
        char *copy = malloc(take);
        assert_non_null(copy);
        memcpy(copy, (const char *)data + at, take);
        rc = unpack_push(u, copy, take, e);
        free(copy);
    }
    if (rc == 0)
        rc = unpack_finish(u, e);
    unpack_free(u);
    return rc;
}

static void fill(char *data, size_t n)
{
    uint32_t x = 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        data[i] = (i / 4096) % 3 ? (char)(x >> 24) : TEXT[i % (sizeof(TEXT) - 1)];
    }
}

static void test_names_and_magics(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum unpack_format format;
    } names[] = {
        {"a.img.gz", UNPACK_GZIP},    {"a.IMG.GZ", UNPACK_GZIP},     {"a.raw.xz", UNPACK_XZ},
        {"b.zst", UNPACK_ZSTD},       {"b.qcow2.bz2", UNPACK_BZIP2}, {"a.img", UNPACK_NONE},
        {"gz", UNPACK_NONE},          {".gz", UNPACK_NONE},          {"", UNPACK_NONE},
        {"a.gz.sha256", UNPACK_NONE},
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_int_equal(unpack_from_name(names[i].name), names[i].format);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct buf packed = pack(all[i], "x", 1);
        assert_int_equal(unpack_detect(packed.p, packed.n), all[i]);
        assert_int_equal(unpack_detect(packed.p, 2), UNPACK_NONE);
        buf_done(&packed);
    }
    assert_int_equal(unpack_detect("QFI\xfb", 4), UNPACK_NONE);
    assert_int_equal(unpack_detect("", 0), UNPACK_NONE);
    assert_string_equal(unpack_name(UNPACK_ZSTD), "zstd");
    assert_string_equal(unpack_name(UNPACK_NONE), "none");
}

static void test_round_trip_in_any_pieces(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 4095, 262144, 1500000};
    static const size_t pieces[] = {1, 7, 4096, 1 << 20};
    char *data = malloc(1500000);
    assert_non_null(data);
    fill(data, 1500000);
    struct buf out = BUF_INIT(64 << 20);
    for (size_t f = 0; f < ARRAY_LEN(all); f++) {
        for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
            struct buf packed = pack(all[f], data, sizes[s]);
            for (size_t p = 0; p < ARRAY_LEN(pieces); p++) {
                struct larder_error e = LARDER_ERROR_INIT;
                int rc = unpack_all(all[f], packed.p, packed.n, pieces[p], NO_CAP, &out, &e);
                assert_string_equal(e.msg, "");
                assert_int_equal(rc, 0);
                assert_int_equal(out.n, sizes[s]);
                if (out.n > 0)
                    assert_memory_equal(out.p, data, out.n);
            }
            buf_done(&packed);
        }
    }
    buf_done(&out);
    free(data);
}

static void test_cut_anywhere_is_corrupt(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(1 << 20);
    for (size_t f = 0; f < ARRAY_LEN(all); f++) {
        struct buf packed = pack(all[f], TEXT, sizeof(TEXT));
        for (size_t n = 0; n < packed.n; n++) {
            struct larder_error e = LARDER_ERROR_INIT;
            int rc = unpack_all(all[f], packed.p, n, 1 + n % 5, NO_CAP, &out, &e);
            assert_int_equal(rc, -LARDER_CORRUPT);
            assert_non_null(strstr(e.msg, unpack_name(all[f])));
        }
        buf_done(&packed);
    }
    buf_done(&out);
}

/* A flipped bit is noticed, or hits something that carries no data (a time stamp): then the output
 * is still right. */
static void test_flipped_bits_never_change_the_output(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(1 << 20);
    for (size_t f = 0; f < ARRAY_LEN(all); f++) {
        struct buf packed = pack(all[f], TEXT, sizeof(TEXT));
        size_t noticed = 0;
        for (size_t bit = 0; bit < packed.n * 8; bit++) {
            struct larder_error e = LARDER_ERROR_INIT;
            packed.p[bit / 8] ^= (char)(1 << bit % 8);
            int rc = unpack_all(all[f], packed.p, packed.n, 16, 1 << 20, &out, &e);
            packed.p[bit / 8] ^= (char)(1 << bit % 8);
            noticed += rc < 0;
            if (rc == 0) {
                assert_int_equal(out.n, sizeof(TEXT));
                assert_memory_equal(out.p, TEXT, out.n);
            }
        }
        assert_true(noticed > packed.n * 8 * 2 / 3);
        buf_done(&packed);
    }
    buf_done(&out);
}

static void test_concatenated(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(1 << 20);
    for (size_t f = 0; f < ARRAY_LEN(all); f++) {
        struct buf one = pack(all[f], TEXT, sizeof(TEXT));
        struct buf empty = pack(all[f], "", 0);
        struct buf both = BUF_INIT(1 << 20);
        buf_append(&both, one.p, one.n);
        buf_append(&both, empty.p, empty.n);
        buf_append(&both, one.p, one.n);
        for (size_t piece = 1; piece <= both.n; piece++) {
            struct larder_error e = LARDER_ERROR_INIT;
            assert_int_equal(unpack_all(all[f], both.p, both.n, piece, NO_CAP, &out, &e), 0);
            assert_int_equal(out.n, 2 * sizeof(TEXT));
            assert_memory_equal(out.p + sizeof(TEXT), TEXT, sizeof(TEXT));
        }
        /* The second one damaged or cut is seen too. */
        struct larder_error e = LARDER_ERROR_INIT;
        assert_int_equal(unpack_all(all[f], both.p, both.n - 1, 32, NO_CAP, &out, &e),
                         -LARDER_CORRUPT);
        both.p[both.n - 2] ^= 0x10;
        assert_int_equal(unpack_all(all[f], both.p, both.n, 32, NO_CAP, &out, &e), -LARDER_CORRUPT);
        buf_done(&one);
        buf_done(&empty);
        buf_done(&both);
    }
    buf_done(&out);
}

static void test_what_may_follow(void **state)
{
    (void)state;
    static const struct {
        enum unpack_format format;
        const char *tail;
        size_t n;
        int rc;
    } rows[] = {
        {UNPACK_GZIP, "garbage", 7, -LARDER_CORRUPT},
        {UNPACK_GZIP, "\0\0\0", 3, 0},
        {UNPACK_GZIP, "\0\0x", 3, -LARDER_CORRUPT},
        {UNPACK_GZIP, "\0\x1f\x8b\x08", 4, -LARDER_CORRUPT},
        {UNPACK_GZIP, "\x1f", 1, -LARDER_CORRUPT},
        {UNPACK_GZIP, "\x1f\x8b\x08\xe0", 4, -LARDER_CORRUPT},
        {UNPACK_XZ, "garbage!", 8, -LARDER_CORRUPT},
        {UNPACK_XZ, "\0\0\0\0", 4, 0}, /* stream padding, xz-file-format 2.2 */
        {UNPACK_XZ, "\0\0\0", 3, -LARDER_CORRUPT},
        {UNPACK_ZSTD, "garbage", 7, -LARDER_CORRUPT},
        {UNPACK_ZSTD, "\0\0\0\0", 4, -LARDER_CORRUPT},
        {UNPACK_ZSTD, "\x50\x2a\x4d\x18\x01\0\0\0x", 9, 0}, /* skippable frame */
        {UNPACK_ZSTD, "\x27\xb5\x2f\xfd\x36\0\0\0\0\0\0", 11, -LARDER_CORRUPT}, /* v0.7 */
        {UNPACK_BZIP2, "garbage", 7, -LARDER_CORRUPT},
        {UNPACK_BZIP2, "BZ", 2, -LARDER_CORRUPT},
    };
    struct buf out = BUF_INIT(1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf packed = pack(rows[i].format, TEXT, sizeof(TEXT));
        buf_append(&packed, rows[i].tail, rows[i].n);
        for (size_t piece = 1; piece <= packed.n; piece += 3) {
            struct larder_error e = LARDER_ERROR_INIT;
            int rc = unpack_all(rows[i].format, packed.p, packed.n, piece, NO_CAP, &out, &e);
            assert_int_equal(rc, rows[i].rc);
        }
        buf_done(&packed);
    }
    buf_done(&out);
}

static void test_expansion_is_capped(void **state)
{
    (void)state;
    size_t n = 8 << 20;
    char *zeros = calloc(1, n);
    assert_non_null(zeros);
    struct buf out = BUF_INIT(16 << 20);
    for (size_t f = 0; f < ARRAY_LEN(all); f++) {
        struct buf packed = pack(all[f], zeros, n);
        struct larder_error e = LARDER_ERROR_INIT;
        assert_int_equal(unpack_all(all[f], packed.p, packed.n, 4096, n - 1, &out, &e),
                         -LARDER_LIMIT);
        assert_true(out.n < n);
        assert_int_equal(unpack_all(all[f], packed.p, packed.n, 4096, n, &out, &e), 0);
        assert_int_equal(out.n, n);
        buf_done(&packed);
    }
    buf_done(&out);
    free(zeros);
}

static void test_memory_is_capped(void **state)
{
    (void)state;
    /* A zstd frame header that asks for a window of 2 GiB (RFC 8878 3.1.1.1.2). */
    static const char frame[] = "\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00";
    struct buf out = BUF_INIT(1 << 20);
    struct larder_error e = LARDER_ERROR_INIT;
    assert_int_equal(unpack_all(UNPACK_ZSTD, frame, sizeof(frame) - 1, 64, NO_CAP, &out, &e),
                     -LARDER_LIMIT);
    buf_done(&out);
}

static void test_zstd_frame_size_is_checked_in_pieces_too(void **state)
{
    (void)state;
    /* Promises 65 bytes, holds none: one empty block, and the right checksum. */
    static const char frame[] = "\x28\xb5\x2f\xfd\x24\x41\x01\x00\x00\x99\xe9\xd8\x51";
    struct buf out = BUF_INIT(1 << 20);
    for (size_t piece = 1; piece < sizeof(frame); piece++) {
        struct larder_error e = LARDER_ERROR_INIT;
        assert_int_equal(unpack_all(UNPACK_ZSTD, frame, sizeof(frame) - 1, piece, NO_CAP, &out, &e),
                         -LARDER_CORRUPT);
    }
    buf_done(&out);
}

static int refuse(void *arg, const void *data, size_t n, struct larder_error *e)
{
    (void)arg;
    (void)data;
    (void)n;
    if (e)
        e->code = LARDER_NOSPACE;
    return -LARDER_NOSPACE;
}

static void test_sink_error_is_returned_and_final(void **state)
{
    (void)state;
    for (size_t f = 0; f < ARRAY_LEN(all); f++) {
        struct buf packed = pack(all[f], TEXT, sizeof(TEXT));
        struct larder_error e = LARDER_ERROR_INIT;
        struct unpack *u = NULL;
        assert_int_equal(unpack_new(all[f], NO_CAP, refuse, NULL, &u, &e), 0);
        int rc = unpack_push(u, packed.p, packed.n, &e);
        if (rc == 0)
            rc = unpack_finish(u, &e);
        assert_int_equal(rc, -LARDER_NOSPACE);
        assert_int_equal(unpack_push(u, "x", 1, &e), -LARDER_INVAL);
        assert_int_equal(unpack_finish(u, &e), -LARDER_INVAL);
        unpack_free(u);
        buf_done(&packed);
    }
    struct unpack *u = NULL;
    assert_int_equal(unpack_new(UNPACK_NONE, 1, refuse, NULL, &u, NULL), -LARDER_INVAL);
    assert_null(u);
    unpack_free(NULL);
}

/* Every part a member's header may have (RFC 1952 2.3), with its CRC right and wrong, in pieces of
 * any size: the verdict depends on the bytes alone. */
static void test_gzip_header_parts(void **state)
{
    (void)state;
    uint8_t member[64] = {0x1f, 0x8b, 8,   2 | 4 | 8 | 16,
                          0,    0,    0,   0,
                          0,    3, /* fixed */
                          3,    0,    'x', 'y',
                          'z', /* extra */
                          'n',  0,    'c', 'c',
                          0}; /* name, comment */
    size_t n = 20;
    uint16_t crc = (uint16_t)(crc32(0, member, (uInt)n) & 0xffff);
    for (unsigned wrong = 0; wrong <= 1; wrong++) {
        size_t at = n;
        member[at++] = (uint8_t)((crc ^ wrong) & 0xff);
        member[at++] = (uint8_t)(crc >> 8);
        member[at++] = 3; /* an empty final block */
        memset(member + at, 0, 9);
        at += 9;
        for (size_t piece = 1; piece <= at; piece++) {
            struct buf out = BUF_INIT(1024);
            struct larder_error e = LARDER_ERROR_INIT;
            int rc = unpack_all(UNPACK_GZIP, member, at, piece, NO_CAP, &out, &e);
            assert_int_equal(rc, wrong ? -LARDER_CORRUPT : 0);
            assert_int_equal(out.n, 0);
            buf_done(&out);
        }
    }
}

static void put_u32(struct buf *out, size_t n)
{
    for (unsigned shift = 0; shift < 32; shift += 8)
        buf_putc(out, (char)(n >> shift & 0xff));
}

/* Apple's frames: blocks that refer to the ones before, and one that is stored. */
static struct buf pack_lz4(const char *data, size_t n, size_t block)
{
    struct buf out = BUF_INIT(64 << 20);
    LZ4_stream_t *stream = LZ4_createStream();
    assert_non_null(stream);
    for (size_t at = 0; at < n; at += block) {
        size_t piece = n - at < block ? n - at : block;
        size_t bound = (size_t)LZ4_compressBound((int)piece);
        char *to = malloc(bound);
        assert_non_null(to);
        int got = LZ4_compress_fast_continue(stream, data + at, to, (int)piece, (int)bound, 1);
        assert_true(got > 0);
        buf_puts(&out, "bv41");
        put_u32(&out, piece);
        put_u32(&out, (size_t)got);
        buf_append(&out, to, (size_t)got);
        free(to);
    }
    LZ4_freeStream(stream);
    buf_puts(&out, "bv4-");
    put_u32(&out, 3);
    buf_puts(&out, "endbv4$");
    return out;
}

static void test_lz4_blocks(void **state)
{
    (void)state;
    enum { N = 300000 };
    char *data = malloc(N + 3);
    assert_non_null(data);
    fill(data, N);
    memcpy(data + N, "end", 3);
    static const size_t blocks[] = {1000, 65536, 100000, N};
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
        struct buf packed = pack_lz4(data, N, blocks[i]);
        static const size_t pieces[] = {7, 4096, 1 << 20};
        for (size_t k = 0; k < ARRAY_LEN(pieces); k++) {
            struct buf out = BUF_INIT(1 << 20);
            struct larder_error e = LARDER_ERROR_INIT;
            assert_int_equal(
                unpack_all(UNPACK_LZ4, packed.p, packed.n, pieces[k], NO_CAP, &out, &e), 0);
            assert_int_equal(out.n, N + 3);
            assert_memory_equal(out.p, data, N + 3);
            buf_done(&out);
        }
        buf_done(&packed);
    }
    free(data);
}

static void test_lz4_damage(void **state)
{
    (void)state;
    struct buf packed = pack_lz4(TEXT TEXT TEXT, sizeof(TEXT TEXT TEXT), 50);
    struct buf out = BUF_INIT(1 << 20);
    for (size_t n = 0; n < packed.n; n++) {
        struct larder_error e = LARDER_ERROR_INIT;
        assert_int_equal(unpack_all(UNPACK_LZ4, packed.p, n, 5, NO_CAP, &out, &e), -LARDER_CORRUPT);
    }
    static const struct {
        const char *bytes;
        size_t n;
    } bad[] = {
        {"bv42", 4},
        {"bv41\1\0\0\0\0\0\0\0", 12},         /* an empty block */
        {"bv41\xff\xff\xff\xff\1\0\0\0", 12}, /* beyond the limit */
        {"bv41\1\0\0\0\xff\xff\xff\xff", 12},
        {"bv41\5\0\0\0\2\0\0\0\x10"
         "abv4$",
         18}, /* fewer bytes than it says */
        {"bv41\10\0\0\0\4\0\0\0\x14"
         "a\x09\0bv4$",
         20}, /* before the beginning */
        {"bv4$x", 5},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        assert_int_equal(unpack_all(UNPACK_LZ4, bad[i].bytes, bad[i].n, 64, NO_CAP, &out, &e),
                         -LARDER_CORRUPT);
    }
    buf_done(&out);
    buf_done(&packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_magics),
        cmocka_unit_test(test_round_trip_in_any_pieces),
        cmocka_unit_test(test_cut_anywhere_is_corrupt),
        cmocka_unit_test(test_flipped_bits_never_change_the_output),
        cmocka_unit_test(test_gzip_header_parts),
        cmocka_unit_test(test_lz4_blocks),
        cmocka_unit_test(test_lz4_damage),
        cmocka_unit_test(test_concatenated),
        cmocka_unit_test(test_what_may_follow),
        cmocka_unit_test(test_expansion_is_capped),
        cmocka_unit_test(test_memory_is_capped),
        cmocka_unit_test(test_zstd_frame_size_is_checked_in_pieces_too),
        cmocka_unit_test(test_sink_error_is_returned_and_final),
    };
    return cmocka_run_group_tests_name("unpack", tests, NULL, NULL);
}
