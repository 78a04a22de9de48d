/* SPDX-License-Identifier: Apache-2.0 */
#include <larder/digest.h>

#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/slice.h"
#include "base/text.h"

/* Longest text quoted in a message; what is longer is no digest and need not be shown whole. */
#define SHOWN_BYTES 80

static const struct {
    const char *name;
    size_t bytes;
} algs[] = {
    [LARDER_DIGEST_NONE] = {"none", 0},      [LARDER_DIGEST_MD5] = {"md5", 16},
    [LARDER_DIGEST_SHA1] = {"sha1", 20},     [LARDER_DIGEST_SHA224] = {"sha224", 28},
    [LARDER_DIGEST_SHA256] = {"sha256", 32}, [LARDER_DIGEST_SHA384] = {"sha384", 48},
    [LARDER_DIGEST_SHA512] = {"sha512", 64}, [LARDER_DIGEST_BLAKE2B] = {"blake2b", 64},
};
_Static_assert(ARRAY_LEN(algs) == LARDER_DIGEST_ALG_MAX, "a row each");

/* Other spellings found in checksum files and in OpenSSL's and NIST's texts. */
static const struct {
    const char *name;
    enum larder_digest_alg alg;
} aliases[] = {
    {"sha-1", LARDER_DIGEST_SHA1},      {"sha-224", LARDER_DIGEST_SHA224},
    {"sha-256", LARDER_DIGEST_SHA256},  {"sha-384", LARDER_DIGEST_SHA384},
    {"sha-512", LARDER_DIGEST_SHA512},  {"sha2-224", LARDER_DIGEST_SHA224},
    {"sha2-256", LARDER_DIGEST_SHA256}, {"sha2-384", LARDER_DIGEST_SHA384},
    {"sha2-512", LARDER_DIGEST_SHA512}, {"blake2b-512", LARDER_DIGEST_BLAKE2B},
};

size_t larder_digest_size(enum larder_digest_alg alg)
{
    return (unsigned)alg < LARDER_DIGEST_ALG_MAX ? algs[alg].bytes : 0;
}

const char *larder_digest_alg_name(enum larder_digest_alg alg)
{
    return (unsigned)alg < LARDER_DIGEST_ALG_MAX ? algs[alg].name : algs[0].name;
}

enum larder_digest_alg larder_digest_alg_parse(const char *name, size_t name_bytes)
{
    struct slice s = {name, name_bytes};

    for (unsigned i = LARDER_DIGEST_NONE + 1; i < LARDER_DIGEST_ALG_MAX; i++) {
        if (slice_equal_nocase(s, slice_of(algs[i].name)))
            return (enum larder_digest_alg)i;
    }
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++) {
        if (slice_equal_nocase(s, slice_of(aliases[i].name)))
            return aliases[i].alg;
    }
    return LARDER_DIGEST_NONE;
}

bool larder_digest_is_identity(enum larder_digest_alg alg)
{
    return alg == LARDER_DIGEST_SHA256 || alg == LARDER_DIGEST_SHA512;
}

static int bad_digest(struct slice text, const char *why, struct larder_error *e)
{
    struct buf shown = BUF_INIT(4 * SHOWN_BYTES + 4);
    int rc;

    text_sanitize((struct slice){text.p, text.n < SHOWN_BYTES ? text.n : SHOWN_BYTES}, &shown);
    if (text.n > SHOWN_BYTES)
        buf_puts(&shown, "...");
    rc = error_set(e, LARDER_INVAL, "digest \"%s\": %s", shown.p ? shown.p : "", why);
    buf_done(&shown);
    return rc;
}

int larder_digest_parse(const char *text, size_t text_bytes, struct larder_digest *ret,
                        struct larder_error *e)
{
    struct slice s = {text, text_bytes == (size_t)-1 ? strlen(text) : text_bytes};
    const char *colon = s.n ? memchr(s.p, ':', s.n) : NULL;
    struct larder_digest d = {LARDER_DIGEST_NONE, {0}};
    struct slice hex;
    size_t name_bytes;

    if (!colon)
        return bad_digest(s, "expected algorithm:hex", e);
    name_bytes = (size_t)(colon - s.p);
    /* The exact name only: two spellings would be two names of one blob. */
    d.alg = larder_digest_alg_parse(s.p, name_bytes);
    if (d.alg == LARDER_DIGEST_NONE ||
        !slice_equal((struct slice){s.p, name_bytes}, slice_of(algs[d.alg].name)))
        return bad_digest(s, "unknown algorithm, expected sha256 or sha512", e);
    hex = (struct slice){colon + 1, s.n - name_bytes - 1};
    if (!hex_decode(hex, d.bytes, algs[d.alg].bytes))
        return bad_digest(s, "expected hex digits, as many as the algorithm has", e);
    *ret = d;
    return 0;
}

char *larder_digest_hex(const struct larder_digest *digest, char *out)
{
    hex_encode(digest->bytes, larder_digest_size(digest->alg), out);
    return out;
}

char *larder_digest_format(const struct larder_digest *digest, char *out)
{
    const char *name = larder_digest_alg_name(digest->alg);
    size_t n = strlen(name);

    memcpy(out, name, n);
    out[n] = ':';
    larder_digest_hex(digest, out + n + 1);
    return out;
}

bool larder_digest_equal(const struct larder_digest *a, const struct larder_digest *b)
{
    size_t n = larder_digest_size(a->alg);

    return n > 0 && a->alg == b->alg && memcmp(a->bytes, b->bytes, n) == 0;
}

int digest_compare(const struct larder_digest *a, const struct larder_digest *b)
{
    if (a->alg != b->alg)
        return a->alg < b->alg ? -1 : 1;
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

static uint64_t spread_seed;

static void make_seed(void)
{
    if (getrandom(&spread_seed, sizeof(spread_seed), GRND_NONBLOCK) != (ssize_t)sizeof(spread_seed))
        spread_seed = (uint64_t)clock_realtime_ns();
}

uint64_t digest_spread(const struct larder_digest *digest)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    size_t n = larder_digest_size(digest->alg);
    uint64_t sum, word;

    pthread_once(&once, make_seed);
    sum = spread_seed;
    for (size_t i = 0; i + sizeof(word) <= n; i += sizeof(word)) {
        memcpy(&word, digest->bytes + i, sizeof(word));
        /* The multiplier and the shift are those of splitmix64. */
        sum = (sum ^ word) * 0xbf58476d1ce4e5b9ULL;
        sum ^= sum >> 31;
    }
    return sum;
}
