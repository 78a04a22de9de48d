/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sha256_ni.h"

#include <string.h>

#if defined(__x86_64__) || defined(__i386__)

#include <cpuid.h>
#include <immintrin.h>

/* Only these functions use the extensions: the rest of the program runs on any x86. */
#define TARGET_NI     __attribute__((target("sha,sse4.1,ssse3")))
#define INLINE_NI     static inline __attribute__((always_inline, target("sha,sse4.1,ssse3")))
#define CPUID1_SSSE3  (1u << 9)
#define CPUID1_SSE41  (1u << 19)
#define CPUID7_SHA_NI (1u << 29)

/* FIPS 180-4 section 4.2.2 */
static const uint32_t round_constants[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* One stream's registers: the halves the instructions want, and the last 16 schedule words. */
struct lane_regs {
    __m128i abef, cdgh;
    __m128i w[4];
};

/*
 * Rounds 4 * i to 4 * i + 3. i is a constant after inlining, so all branches and indices fold.
 * Words for the rounds to come are made as soon as their inputs exist.
 */
INLINE_NI void four_rounds(struct lane_regs *r, const uint8_t *data, unsigned i)
{
    const __m128i to_big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i *now = &r->w[i % 4];
    __m128i *before = &r->w[(i + 3) % 4];
    __m128i *next = &r->w[(i + 1) % 4];

    if (i < 4)
        *now = _mm_shuffle_epi8(
            _mm_loadu_si128((const __m128i *)(const void *)(data + (size_t)i * 16)), to_big_endian);
    __m128i wk = _mm_add_epi32(
        *now, _mm_load_si128((const __m128i *)(const void *)&round_constants[(size_t)i * 4]));

    r->cdgh = _mm_sha256rnds2_epu32(r->cdgh, r->abef, wk);
    if (i >= 3 && i < 15) {
        *next = _mm_add_epi32(*next, _mm_alignr_epi8(*now, *before, 4));
        *next = _mm_sha256msg2_epu32(*next, *now);
    }
    r->abef = _mm_sha256rnds2_epu32(r->abef, r->cdgh, _mm_shuffle_epi32(wk, 0x0e));
    if (i >= 1 && i < 13)
        *before = _mm_sha256msg1_epu32(*before, *now);
}

/* {a b c d} {e f g h} to {f e b a} {h g d c}, lowest word first, and back. */
INLINE_NI void load_state(struct lane_regs *r, const uint32_t *state)
{
    __m128i dcba = _mm_loadu_si128((const __m128i *)(const void *)state);
    __m128i hgfe = _mm_loadu_si128((const __m128i *)(const void *)(state + 4));
    __m128i cdab = _mm_shuffle_epi32(dcba, 0xb1);
    __m128i efgh = _mm_shuffle_epi32(hgfe, 0x1b);
    r->abef = _mm_alignr_epi8(cdab, efgh, 8);
    r->cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
}

INLINE_NI void store_state(const struct lane_regs *r, uint32_t *state)
{
    __m128i feba = _mm_shuffle_epi32(r->abef, 0x1b);
    __m128i dchg = _mm_shuffle_epi32(r->cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

/* n is a constant in each caller; written out because -O2 does not unroll such loops. */
#define EACH_LANE(n, ...)   \
    do {                    \
        {                   \
            enum { L = 0 }; \
            __VA_ARGS__;    \
        }                   \
        if ((n) > 1) {      \
            enum { L = 1 }; \
            __VA_ARGS__;    \
        }                   \
        if ((n) > 2) {      \
            enum { L = 2 }; \
            __VA_ARGS__;    \
        }                   \
        if ((n) > 3) {      \
            enum { L = 3 }; \
            __VA_ARGS__;    \
        }                   \
    } while (0)

#define ROUNDS(n, i) EACH_LANE(n, four_rounds(&r[L], p[L], i))

INLINE_NI void compress(unsigned n, uint32_t *const state[], const uint8_t *const data[],
                        const uint8_t *const ahead[], size_t blocks)
{
    struct lane_regs r[SHA256_NI_STREAMS];
    const uint8_t *p[SHA256_NI_STREAMS];
    uintptr_t distance[SHA256_NI_STREAMS]; /* 0: what is being hashed, which costs nothing */

    EACH_LANE(n, load_state(&r[L], state[L]); p[L] = data[L];
              distance[L] = ahead ? (uintptr_t)ahead[L] - (uintptr_t)data[L] : 0);
    for (; blocks; blocks--) {
        EACH_LANE(n, _mm_prefetch((const char *)((uintptr_t)p[L] + distance[L]), _MM_HINT_T1));
        __m128i abef[SHA256_NI_STREAMS], cdgh[SHA256_NI_STREAMS];
        EACH_LANE(n, abef[L] = r[L].abef; cdgh[L] = r[L].cdgh);
        ROUNDS(n, 0);
        ROUNDS(n, 1);
        ROUNDS(n, 2);
        ROUNDS(n, 3);
        ROUNDS(n, 4);
        ROUNDS(n, 5);
        ROUNDS(n, 6);
        ROUNDS(n, 7);
        ROUNDS(n, 8);
        ROUNDS(n, 9);
        ROUNDS(n, 10);
        ROUNDS(n, 11);
        ROUNDS(n, 12);
        ROUNDS(n, 13);
        ROUNDS(n, 14);
        ROUNDS(n, 15);
        EACH_LANE(n, r[L].abef = _mm_add_epi32(r[L].abef, abef[L]);
                  r[L].cdgh = _mm_add_epi32(r[L].cdgh, cdgh[L]); p[L] += SHA256_BLOCK_BYTES);
    }
    EACH_LANE(n, store_state(&r[L], state[L]));
}

TARGET_NI static void compress_x1(uint32_t *const state[], const uint8_t *const data[],
                                  const uint8_t *const ahead[], size_t blocks)
{
    compress(1, state, data, ahead, blocks);
}

TARGET_NI static void compress_x2(uint32_t *const state[], const uint8_t *const data[],
                                  const uint8_t *const ahead[], size_t blocks)
{
    compress(2, state, data, ahead, blocks);
}

TARGET_NI static void compress_x3(uint32_t *const state[], const uint8_t *const data[],
                                  const uint8_t *const ahead[], size_t blocks)
{
    compress(3, state, data, ahead, blocks);
}

TARGET_NI static void compress_x4(uint32_t *const state[], const uint8_t *const data[],
                                  const uint8_t *const ahead[], size_t blocks)
{
    compress(4, state, data, ahead, blocks);
}

bool sha256_ni_is_there(void)
{
    unsigned a, b, c, d;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & CPUID1_SSSE3) || !(c & CPUID1_SSE41))
        return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & CPUID7_SHA_NI);
}

void sha256_ni_blocks(unsigned streams, uint32_t *const state[], const uint8_t *const data[],
                      const uint8_t *const ahead[], size_t blocks)
{
    switch (streams) {
    case 1:
        compress_x1(state, data, ahead, blocks);
        break;
    case 2:
        compress_x2(state, data, ahead, blocks);
        break;
    case 3:
        compress_x3(state, data, ahead, blocks);
        break;
    case 4:
        compress_x4(state, data, ahead, blocks);
        break;
    default:
        break;
    }
}

#else /* no SHA extensions to use: EVP does it */

bool sha256_ni_is_there(void)
{
    return false;
}

void sha256_ni_blocks(unsigned streams, uint32_t *const state[], const uint8_t *const data[],
                      const uint8_t *const ahead[], size_t blocks)
{
    (void)streams;
    (void)state;
    (void)data;
    (void)ahead;
    (void)blocks;
}

#endif

/* FIPS 180-4 section 5.3.3 */
static const uint32_t initial_state[SHA256_STATE_WORDS] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

void sha256_ni_init(uint32_t state[SHA256_STATE_WORDS])
{
    memcpy(state, initial_state, sizeof(initial_state));
}

static void put_be32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

void sha256_ni_final(uint32_t state[SHA256_STATE_WORDS], const uint8_t *rest, size_t n,
                     uint64_t total_bytes, uint8_t *out)
{
    /* The 0x80 byte, and the length in bits (FIPS 180-4, 5.1.1). */
    uint8_t tail[2 * SHA256_BLOCK_BYTES] = {0};
    size_t blocks = n + 1 + 8 <= SHA256_BLOCK_BYTES ? 1 : 2;
    uint64_t bits = total_bytes * 8;
    uint8_t *length = tail + blocks * SHA256_BLOCK_BYTES - 8;

    if (n)
        memcpy(tail, rest, n);
    tail[n] = 0x80;
    put_be32(length, (uint32_t)(bits >> 32));
    put_be32(length + 4, (uint32_t)bits);
    sha256_ni_blocks(1, (uint32_t *const[]){state}, (const uint8_t *const[]){tail}, NULL, blocks);
    for (size_t i = 0; i < SHA256_STATE_WORDS; i++)
        put_be32(out + 4 * i, state[i]);
}
