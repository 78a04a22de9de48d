/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * OpenPGP signatures over checksum files, checked by gpgv(1) with the keyring the user gave.
 * Accepted only on a VALIDSIG status line; with a fingerprint only when it is the signing key's or
 * its primary key's. The exit code alone is not believed.
 */
#include <larder/error.h>

#include "base/buf.h"
#include "base/slice.h"

/*
 * signature empty: text must be clearsigned, and *ret_signed is the signed part as gpgv gave it
 * (--output), the only text that counts. Otherwise detached: *ret_signed is text. *ret_fingerprint
 * is malloc'd (primary key's). AUTH when missing, bad, expired, revoked or by another key;
 * UNSUPPORTED without gpgv.
 */
int signature_check(struct slice text, struct slice signature, const char *keyring,
                    const char *fingerprint, struct buf *ret_signed, char **ret_fingerprint,
                    struct larder_error *e);
