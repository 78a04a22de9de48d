/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Digests as values: an algorithm and its bytes. The text form is the one of the OCI image
 * specification ("sha256:<lower-case hex>", image-spec descriptor.md, section "Digests").
 *
 * Only sha256 and sha512 name blobs; the others are read from checksum files to detect damage and
 * are never an identity.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <larder/error.h>
#include <larder/visibility.h>

LARDER_BEGIN_DECLS

enum larder_digest_alg {
    LARDER_DIGEST_NONE = 0,
    LARDER_DIGEST_MD5,
    LARDER_DIGEST_SHA1,
    LARDER_DIGEST_SHA224,
    LARDER_DIGEST_SHA256,
    LARDER_DIGEST_SHA384,
    LARDER_DIGEST_SHA512,
    LARDER_DIGEST_BLAKE2B, /* BLAKE2b-512 */
    LARDER_DIGEST_ALG_MAX
};

#define LARDER_DIGEST_BYTES_MAX 64
/* "blake2b:" + 128 hex digits + NUL */
#define LARDER_DIGEST_TEXT_BYTES 144

struct larder_digest {
    enum larder_digest_alg alg;             /* LARDER_DIGEST_NONE: no digest */
    uint8_t bytes[LARDER_DIGEST_BYTES_MAX]; /* the first larder_digest_size(alg) count, rest zero */
};

/* Length of a digest of this algorithm in bytes; 0 for NONE or an unknown value. */
LARDER_API size_t larder_digest_size(enum larder_digest_alg alg);
/* "sha256"; "none" for NONE; never NULL. */
LARDER_API const char *larder_digest_alg_name(enum larder_digest_alg alg);
/* Inverse of the above, case-insensitive, also "SHA-256", "SHA2-256"; NONE when unknown. */
LARDER_API enum larder_digest_alg larder_digest_alg_parse(const char *name, size_t name_bytes);
/* Whether blobs may be named by this algorithm (sha256, sha512). */
LARDER_API bool larder_digest_is_identity(enum larder_digest_alg alg);

/*
 * Parses "alg:hex" (hex of any case, exact length). LARDER_INVAL on anything else.
 * text_bytes may be (size_t)-1 for a NUL-terminated string.
 */
LARDER_API LARDER_MUST_CHECK int larder_digest_parse(const char *text, size_t text_bytes,
                                                     struct larder_digest *ret,
                                                     struct larder_error *e);
/* Writes "alg:hex" and returns out; out holds LARDER_DIGEST_TEXT_BYTES. */
LARDER_API char *larder_digest_format(const struct larder_digest *digest, char *out);
/* Writes only the lower-case hex digits and returns out (LARDER_DIGEST_TEXT_BYTES). */
LARDER_API char *larder_digest_hex(const struct larder_digest *digest, char *out);
/* Equal algorithm and bytes; two NONE digests are not equal to anything, nor to each other. */
LARDER_API bool larder_digest_equal(const struct larder_digest *a, const struct larder_digest *b);

LARDER_END_DECLS
