/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What upstream publishes about an image: finds the checksum file (given, or the siblings in the
 * usual order: <img>.sha256, SHA256SUMS, <img>.sha512 .checksum .CHECKSUM, CHECKSUM, SHA512SUMS,
 * <img>.SHA256SUM .sha256sum .sha512sum, <img>.md5 last), checks its signature when a keyring is
 * given, and looks the image up in it. The signature is verified before the sums are believed.
 */
#include <larder/error.h>

#include "base/buf.h"
#include "image/entry.h"
#include "net/http/http.h"

struct image_published {
    struct digest_set digests; /* empty: the source has no checksum anywhere */
    uint64_t size_bytes;       /* 0: not said */
    char *sums_url;            /* or path */
    char *inner_name;          /* only when it differs from the image's name */
    char *signed_by;           /* fingerprint; NULL: no keyring */
    struct buf text;           /* the sums file as it came */
    struct buf signature;      /* detached signature as it came; empty when clearsigned or none */
    char *etag, *last_modified;
    bool is_unchanged;  /* 304 to the validators of entry: digests are entry->published */
    bool is_lost;       /* unchanged because no sums are there any more, but were */
    char *weak_warning; /* md5/sha1 only, name differs...; NULL */
    char *base_url;     /* the image beside sums that a redirect led to; NULL: the source itself */
};
void image_published_done(struct image_published *published);
/* Copies what upstream published into entry's upstream part (nothing when unchanged or empty). */
void image_published_record(const struct image_published *published, struct image_entry *entry);

/* Whether --checksum is a digest itself: then nothing has to be asked. */
bool image_checksum_is_literal(const char *checksum);

/*
 * Asks. no_cache: past every cache on the way (torn publication). client may be NULL for local
 * sources. Errors: GONE (a given checksum file is not there), UNREACHABLE, AUTH (signature missing
 * or bad), INVAL (not a checksum file, conflicting lines, image not listed in a given file), LIMIT.
 * "No sibling at all" is not an error: digests stay empty (unless a keyring asks for a signature).
 * A sibling that answers neither success nor 404/403/410 is UNREACHABLE: "don't know" is not "no".
 */
int image_sums_ask(struct larder_store *store, struct http_client *client,
                   const struct image_entry *entry, bool no_cache, struct image_published *ret,
                   struct larder_error *e);
