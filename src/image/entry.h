/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * An image's entry: the ref "image/<name>" with its provenance. What was asked for (source,
 * checksum, policy) is never changed by a fetch; what was learned (upstream, local) is replaced as
 * a whole when new bytes are published, in one atomic write of the ref file.
 *
 *   R  local.digest            what the blob hashed to when it came; names the blob (sha256)
 *   S  upstream.source_digests what the bytes as fetched hashed to (differs from R when unpacked)
 *   U  upstream.published      what upstream's sums file said when last asked
 */
#include <stdbool.h>
#include <stdint.h>

#include <larder/image.h>

#include "base/mem.h"
#include "image/format/format.h"
#include "json/json.h"

#define IMAGE_REF_PREFIX "image/"
/* An upstream that contradicts itself or fails is not asked again for so long. */
#define IMAGE_NEGATIVE_NS (2LL * 60 * 1000000000LL)

/* Digests of one object by algorithm; alg NONE where not known. */
struct digest_set {
    struct larder_digest by_alg[LARDER_DIGEST_ALG_MAX];
};
const struct larder_digest *digest_set_strongest(const struct digest_set *set); /* NULL: empty */
/*
 * 1: some algorithm is in both and all common ones agree; 0: some common one differs; -1: none in
 * common.
 */
int digest_set_compare(const struct digest_set *a, const struct digest_set *b);

struct image_entry {
    char *name; /* without the prefix */

    /* as configured */
    char *source;
    char *checksum; /* NULL: siblings */
    char *keyring;
    char *fingerprint;
    int64_t refresh_ns;
    char *format; /* NULL: by content */
    char *unpack; /* "auto" "always" "never" */
    bool allow_backing;
    char *header_file;
    int64_t added_ns;

    /* local: what we have */
    struct larder_digest digest; /* R; NONE: nothing fetched */
    uint64_t size_bytes;
    enum image_format found_format;
    uint64_t virtual_bytes;
    int64_t fetched_ns;
    bool is_invalidated; /* manual trigger: the next get fetches again */
    char *invalidated_why;

    /* upstream: where it came from, and what it says */
    struct digest_set source_digests; /* S */
    uint64_t source_bytes;
    char *transform;             /* "gunzip", "unxz", "unzstd", "bunzip2"; NULL */
    struct digest_set published; /* U at the last answer; empty: no sums known */
    uint64_t published_bytes;    /* 0: unknown */
    char *sums_url;              /* where U came from; NULL */
    char *sums_inner_name;       /* name inside the sums file when it differs */
    struct larder_digest sums_blob, signature_blob; /* kept verbatim in the store; NONE */
    uint64_t sums_bytes, signature_bytes;
    char *signed_by; /* fingerprint; NULL */
    char *sums_etag, *sums_last_modified;
    char *etag, *last_modified, *final_url; /* of the image itself */
    int64_t checked_ns;                     /* upstream last answered */
    int64_t changed_ns; /* upstream first seen to differ from what we have; 0: it doesn't */
    int64_t failed_ns;  /* last failed question or fetch; 0: none since the last success */
    enum larder_code failed_code;
    char *failed_why;
};

void image_entry_init(struct image_entry *entry);
void image_entry_done(struct image_entry *entry);
#define CLEANUP_ENTRY CLEANUP(image_entry_done)

/* "image/<name>", malloc'd; NULL when out of memory. */
char *image_ref_name(const char *name);

/* NOENT without "image/" in the message; CORRUPT when the document is damaged. */
int image_entry_read(struct larder_store *store, const char *name, struct image_entry *ret,
                     struct larder_error *e);
int image_entry_write(struct larder_store *store, const struct image_entry *entry,
                      struct larder_error *e);
/* Pure parts, for tests and fuzzing. */
int image_entry_from_json(const struct json *document, struct image_entry *ret,
                          struct larder_error *e);
int image_entry_to_json(const struct image_entry *entry, struct json **ret, struct larder_error *e);
/* From a public spec: source made absolute, values checked. */
int image_entry_from_spec(const struct larder_image_spec *spec, struct image_entry *ret,
                          struct larder_error *e);
