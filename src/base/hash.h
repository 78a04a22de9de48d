/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Hashing one stream with one or several algorithms at once: SHA-256 by our own kernels where the
 * CPU has the SHA extensions, all else by OpenSSL, which is opened only then (crypto_lib.h).
 *
 *     struct hash *h = NULL;
 *     hash_new(HASH_BIT(LARDER_DIGEST_SHA256) | HASH_BIT(LARDER_DIGEST_SHA512), &h, e);
 *     hash_update(h, data, n); ...
 *     hash_final(h, LARDER_DIGEST_SHA256, &digest);
 *     hash_free(h);
 *
 * Threads: one stream, one thread at a time.
 */
#include <stddef.h>
#include <stdint.h>

#include <larder/digest.h>
#include <larder/error.h>

#include "base/mem.h"

#define HASH_BIT(alg) (1u << (unsigned)(alg))

struct hash;

int hash_new(unsigned alg_bits, struct hash **ret, struct larder_error *e);
void hash_free(struct hash *h);
DEFINE_CLEANUP(struct hash *, hash_free)
/* Sticky: a failure inside is reported by hash_final. */
void hash_update(struct hash *h, const void *data, size_t n);
/* n zero bytes, without the caller having them. */
void hash_update_zeros(struct hash *h, uint64_t n);
/* May be called once per algorithm; the stream is then over. INVAL if alg was not asked for. */
int hash_final(struct hash *h, enum larder_digest_alg alg, struct larder_digest *ret,
               struct larder_error *e);
uint64_t hash_bytes(const struct hash *h); /* fed so far */

int hash_of(enum larder_digest_alg alg, const void *data, size_t n, struct larder_digest *ret,
            struct larder_error *e);

/*
 * Where a digest goes in a hash table, other in each process. Digests are not random to who looks
 * something up: manifests name what they like, and could fill one bucket.
 */
uint64_t digest_spread(const struct larder_digest *digest);
/* An order for sorting and searching: negative, 0, positive. */
int digest_compare(const struct larder_digest *a, const struct larder_digest *b);
