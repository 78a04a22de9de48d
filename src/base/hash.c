/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/crypto_lib.h"
#include "base/error.h"
#include "base/hash_many.h"
#include "base/sha256_ni.h"

#define ZERO_BYTES 65536

static struct evp_md_st *mds[LARDER_DIGEST_ALG_MAX];
/*
 * Of our own, because EVP_MD_fetch crashes when memory runs out while it makes OpenSSL's default
 * one (3.0); this one says that it could not be made.
 */
static struct ossl_lib_ctx_st *context;

/*
 * An implicit fetch for each stream costs more than hashing a small file. Kept for the life of the
 * process. What a provider does not offer (MD5 under FIPS) stays NULL.
 */
static void fetch_all(void)
{
    static const char *const names[] = {
        [LARDER_DIGEST_MD5] = "MD5",
        [LARDER_DIGEST_SHA1] = "SHA1",
        [LARDER_DIGEST_SHA224] = "SHA2-224",
        [LARDER_DIGEST_SHA256] = "SHA2-256",
        [LARDER_DIGEST_SHA384] = "SHA2-384",
        [LARDER_DIGEST_SHA512] = "SHA2-512",
        [LARDER_DIGEST_BLAKE2B] = "BLAKE2B-512",
    };
    const struct crypto_lib *lib;

    if (crypto_lib_get(&lib, NULL) < 0)
        return;
    context = lib->OSSL_LIB_CTX_new();
    for (unsigned i = LARDER_DIGEST_NONE + 1; context && i < LARDER_DIGEST_ALG_MAX; i++)
        mds[i] = lib->EVP_MD_fetch(context, names[i], NULL);
}

static const struct evp_md_st *md_of(unsigned alg)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, fetch_all);
    return mds[alg];
}

/* SHA-256 by our own kernels: OpenSSL costs a command three megabytes before the first byte. */
struct sha256 {
    uint32_t state[SHA256_STATE_WORDS];
    uint64_t bytes;
    uint8_t rest[SHA256_BLOCK_BYTES]; /* bytes % SHA256_BLOCK_BYTES of them */
};

struct hash {
    const struct crypto_lib *lib;                     /* NULL: not needed */
    struct evp_md_ctx_st *ctx[LARDER_DIGEST_ALG_MAX]; /* NULL: not asked for, or ended, or ours */
    bool has_sha256;                                  /* asked for, not ended, and ours */
    bool failed;
    struct sha256 sha256;
    uint64_t bytes;
};

static void sha256_init(struct sha256 *s)
{
    sha256_ni_init(s->state);
    s->bytes = 0;
}

static void sha256_blocks(struct sha256 *s, const uint8_t *p, size_t blocks)
{
    if (blocks)
        sha256_ni_blocks(1, (uint32_t *const[]){s->state}, (const uint8_t *const[]){p}, NULL,
                         blocks);
}

static void sha256_update(struct sha256 *s, const uint8_t *p, size_t n)
{
    size_t had = s->bytes % SHA256_BLOCK_BYTES;

    s->bytes += n;
    if (had && n) {
        size_t piece = SHA256_BLOCK_BYTES - had < n ? SHA256_BLOCK_BYTES - had : n;
        memcpy(s->rest + had, p, piece);
        p += piece;
        n -= piece;
        if (had + piece < SHA256_BLOCK_BYTES)
            return;
        sha256_blocks(s, s->rest, 1);
    }
    sha256_blocks(s, p, n / SHA256_BLOCK_BYTES);
    if (n % SHA256_BLOCK_BYTES)
        memcpy(s->rest, p + n / SHA256_BLOCK_BYTES * SHA256_BLOCK_BYTES, n % SHA256_BLOCK_BYTES);
}

static void sha256_final(struct sha256 *s, struct larder_digest *ret)
{
    struct larder_digest d = {LARDER_DIGEST_SHA256, {0}};

    sha256_ni_final(s->state, s->rest, s->bytes % SHA256_BLOCK_BYTES, s->bytes, d.bytes);
    *ret = d;
}

static int ctx_new(struct hash *h, unsigned alg, struct larder_error *e)
{
    const struct evp_md_st *md;
    int rc = crypto_lib_get(&h->lib, e);

    if (rc < 0)
        return rc;
    md = md_of(alg);
    if (!md && !context)
        return error_nomem(e);
    if (!md)
        return error_set(e, LARDER_UNSUPPORTED,
                         "digest algorithm %s: not offered by the system's OpenSSL",
                         larder_digest_alg_name((enum larder_digest_alg)alg));
    h->ctx[alg] = h->lib->EVP_MD_CTX_new();
    if (!h->ctx[alg] || h->lib->EVP_DigestInit_ex2(h->ctx[alg], md, NULL) != 1)
        return error_nomem(e);
    return 0;
}

int hash_new(unsigned alg_bits, struct hash **ret, struct larder_error *e)
{
    CLEANUP(hash_freep) struct hash *h = NULL;

    if (alg_bits == 0 || (alg_bits & HASH_BIT(LARDER_DIGEST_NONE)) ||
        alg_bits >= HASH_BIT(LARDER_DIGEST_ALG_MAX))
        return error_set(e, LARDER_INVAL, "digest algorithms 0x%x: unknown", alg_bits);
    h = calloc(1, sizeof(*h));
    if (!h)
        return error_nomem(e);
    if ((alg_bits & HASH_BIT(LARDER_DIGEST_SHA256)) && hash_has_fast_sha256()) {
        h->has_sha256 = true;
        sha256_init(&h->sha256);
        alg_bits &= ~HASH_BIT(LARDER_DIGEST_SHA256);
    }
    for (unsigned i = LARDER_DIGEST_NONE + 1; i < LARDER_DIGEST_ALG_MAX; i++) {
        int rc = alg_bits & HASH_BIT(i) ? ctx_new(h, i, e) : 0;
        if (rc < 0)
            return rc;
    }
    *ret = TAKE_PTR(h);
    return 0;
}

void hash_free(struct hash *h)
{
    if (!h)
        return;
    for (unsigned i = 0; i < LARDER_DIGEST_ALG_MAX; i++) {
        if (h->ctx[i])
            h->lib->EVP_MD_CTX_free(h->ctx[i]);
    }
    free(h);
}

void hash_update(struct hash *h, const void *data, size_t n)
{
    for (unsigned i = 0; h->lib && i < LARDER_DIGEST_ALG_MAX; i++) {
        if (h->ctx[i] && h->lib->EVP_DigestUpdate(h->ctx[i], data, n) != 1)
            h->failed = true;
    }
    if (h->has_sha256)
        sha256_update(&h->sha256, data, n);
    h->bytes += n;
}

void hash_update_zeros(struct hash *h, uint64_t n)
{
    static const char zeros[ZERO_BYTES];

    while (n) {
        size_t piece = n < sizeof(zeros) ? (size_t)n : sizeof(zeros);

        hash_update(h, zeros, piece);
        n -= piece;
    }
}

int hash_final(struct hash *h, enum larder_digest_alg alg, struct larder_digest *ret,
               struct larder_error *e)
{
    struct larder_digest d = {alg, {0}};
    unsigned n = 0;
    int ok;

    if (alg == LARDER_DIGEST_SHA256 && h->has_sha256) {
        sha256_final(&h->sha256, ret);
        h->has_sha256 = false;
        return 0;
    }
    if ((unsigned)alg >= LARDER_DIGEST_ALG_MAX || !h->ctx[alg])
        return error_set(e, LARDER_INVAL, "digest algorithm %s: not computed here",
                         larder_digest_alg_name(alg));
    ok = h->lib->EVP_DigestFinal_ex(h->ctx[alg], d.bytes, &n);
    h->lib->EVP_MD_CTX_free(h->ctx[alg]);
    h->ctx[alg] = NULL;
    if (h->failed || ok != 1 || n != larder_digest_size(alg))
        return error_set(e, LARDER_IO, "digest algorithm %s: failed in OpenSSL",
                         larder_digest_alg_name(alg));
    *ret = d;
    return 0;
}

uint64_t hash_bytes(const struct hash *h)
{
    return h->bytes;
}

int hash_of(enum larder_digest_alg alg, const void *data, size_t n, struct larder_digest *ret,
            struct larder_error *e)
{
    CLEANUP(hash_freep) struct hash *h = NULL;
    int rc;

    if ((unsigned)alg >= LARDER_DIGEST_ALG_MAX)
        return error_set(e, LARDER_INVAL, "digest algorithm %u: unknown", (unsigned)alg);
    if (alg == LARDER_DIGEST_SHA256 && hash_has_fast_sha256()) {
        /* No allocation: manifests and small blobs come by the thousands. */
        struct sha256 s;
        sha256_init(&s);
        sha256_update(&s, data, n);
        sha256_final(&s, ret);
        return 0;
    }
    rc = hash_new(HASH_BIT(alg), &h, e);
    if (!h)
        return rc;
    hash_update(h, data, n);
    return hash_final(h, alg, ret, e);
}
