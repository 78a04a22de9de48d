/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash_many.h"
#include "base/sha256_ni.h"

#define ZERO_BYTES 65536

static EVP_MD *mds[LARDER_DIGEST_ALG_MAX];
/*
 * Of our own, because EVP_MD_fetch crashes when memory runs out while it makes OpenSSL's default
 * one (3.0); this one says that it could not be made.
 */
static OSSL_LIB_CTX *context;

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

    context = OSSL_LIB_CTX_new();
    for (unsigned i = LARDER_DIGEST_NONE + 1; context && i < LARDER_DIGEST_ALG_MAX; i++)
        mds[i] = EVP_MD_fetch(context, names[i], NULL);
}

static const EVP_MD *md_of(unsigned alg)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, fetch_all);
    return mds[alg];
}

struct hash {
    EVP_MD_CTX *ctx[LARDER_DIGEST_ALG_MAX]; /* NULL: not asked for, or taken by hash_final */
    uint64_t bytes;
    bool failed;
};

int hash_new(unsigned alg_bits, struct hash **ret, struct larder_error *e)
{
    CLEANUP(hash_freep) struct hash *h = NULL;

    if (alg_bits == 0 || (alg_bits & HASH_BIT(LARDER_DIGEST_NONE)) ||
        alg_bits >= HASH_BIT(LARDER_DIGEST_ALG_MAX))
        return error_set(e, LARDER_INVAL, "digest algorithms 0x%x: unknown", alg_bits);
    h = calloc(1, sizeof(*h));
    if (!h)
        return error_nomem(e);
    for (unsigned i = LARDER_DIGEST_NONE + 1; i < LARDER_DIGEST_ALG_MAX; i++) {
        const EVP_MD *md;

        if (!(alg_bits & HASH_BIT(i)))
            continue;
        md = md_of(i);
        if (!md && !context)
            return error_nomem(e);
        if (!md)
            return error_set(e, LARDER_UNSUPPORTED,
                             "digest algorithm %s: not offered by the system's OpenSSL",
                             larder_digest_alg_name((enum larder_digest_alg)i));
        h->ctx[i] = EVP_MD_CTX_new();
        if (!h->ctx[i] || EVP_DigestInit_ex2(h->ctx[i], md, NULL) != 1)
            return error_nomem(e);
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
            EVP_MD_CTX_free(h->ctx[i]);
    }
    free(h);
}

void hash_update(struct hash *h, const void *data, size_t n)
{
    for (unsigned i = 0; i < LARDER_DIGEST_ALG_MAX; i++) {
        if (h->ctx[i] && EVP_DigestUpdate(h->ctx[i], data, n) != 1)
            h->failed = true;
    }
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

    if ((unsigned)alg >= LARDER_DIGEST_ALG_MAX || !h->ctx[alg])
        return error_set(e, LARDER_INVAL, "digest algorithm %s: not computed here",
                         larder_digest_alg_name(alg));
    ok = EVP_DigestFinal_ex(h->ctx[alg], d.bytes, &n);
    EVP_MD_CTX_free(h->ctx[alg]);
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

/* Without waking OpenSSL, which costs a command that only reads a manifest a third of its memory.
 */
static void sha256_at_once(const void *data, size_t n, struct larder_digest *ret)
{
    uint32_t state[SHA256_STATE_WORDS];
    const uint8_t *p = data;
    size_t blocks = n / SHA256_BLOCK_BYTES;
    struct larder_digest d = {.alg = LARDER_DIGEST_SHA256};

    sha256_ni_init(state);
    if (blocks)
        sha256_ni_blocks(1, (uint32_t *const[]){state}, (const uint8_t *const[]){p}, NULL, blocks);
    sha256_ni_final(state, n ? p + blocks * SHA256_BLOCK_BYTES : NULL, n % SHA256_BLOCK_BYTES, n,
                    d.bytes);
    *ret = d;
}

int hash_of(enum larder_digest_alg alg, const void *data, size_t n, struct larder_digest *ret,
            struct larder_error *e)
{
    CLEANUP(hash_freep) struct hash *h = NULL;
    int rc;

    if ((unsigned)alg >= LARDER_DIGEST_ALG_MAX)
        return error_set(e, LARDER_INVAL, "digest algorithm %u: unknown", (unsigned)alg);
    if (alg == LARDER_DIGEST_SHA256 && hash_has_fast_sha256()) {
        sha256_at_once(data, n, ret);
        return 0;
    }
    rc = hash_new(HASH_BIT(alg), &h, e);
    if (!h)
        return rc;
    hash_update(h, data, n);
    return hash_final(h, alg, ret, e);
}
