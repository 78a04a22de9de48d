/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A record: what the last check of a reference found, as one value and as one JSON document.
 *
 *   { "version": 1, "ref": "docker://example.org/os:stable", "platform": "linux/amd64",
 *     "name": "example.org/os:stable",       the base's name in the store; not with ostree
 *     "base": "sha256:...", "commit": "...",  what was in use then; both left out: nothing was
 *     "listed": "sha256:...",                 what REF itself pointed to: an index, or the manifest
 *     "manifest_digest": "sha256:...",        the platform's manifest behind it
 *     "checked": 1700000000000000000,         ns since 1970
 *     "update": { "media_type": "...", "manifest": "...", "config": "..." },  left out: unchanged
 *     "sum": "sha256:..." }                   of all the above but manifest and config
 *
 * Manifest and configuration are the registry's bytes as strings (JSON is UTF-8, so they fit). A
 * record is believed only when the manifest hashes to manifest_digest, the configuration to the
 * manifest's, and the rest to sum: a document that was torn or edited is CORRUPT. The sum is no
 * signature: whoever can write a record can write a sound one. A check that finds `listed` again
 * needs no second question.
 *
 * sum is the SHA-256 of one "KEY=VALUE" after the other, each ended by a NUL, in the order above
 * and then "media_type"; a member that is left out is left out there, too, and "update" alone
 * ("update=") stands for there being one.
 */
#include <larder/digest.h>
#include <larder/error.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/slice.h"
#include "oci/manifest.h"

#define RECORD_VERSION 1
/* As much as a check takes from a registry. */
#define RECORD_MANIFEST_BYTES_MAX OCI_MANIFEST_BYTES_MAX
#define RECORD_CONFIG_BYTES_MAX   OCI_MANIFEST_BYTES_MAX
/* A manifest is JSON, which escaping doubles at worst; an artifact's configuration may be any text,
 * and a control character takes six bytes. */
#define RECORD_BYTES_MAX (2 * RECORD_MANIFEST_BYTES_MAX + 6 * RECORD_CONFIG_BYTES_MAX + 1024 * 1024)

struct update_record {
    char *ref;
    char *platform;
    char *name;                /* NULL */
    struct larder_digest base; /* alg NONE: there was none */
    char *commit;              /* NULL */
    struct larder_digest listed;
    struct larder_digest manifest_digest;
    int64_t checked_ns;
    bool has_update; /* else the three below are empty */
    /* manifest_digest is what others claim for bytes they wrote anew (ostree-ext): it can't be
     * compared with them. Never in a document. */
    bool is_rewritten;
    char *media_type; /* NULL: none was said */
    struct buf manifest;
    struct buf config;
};
void record_done(struct update_record *record); /* leaves it zero; fine on zero */
/* manifest hashes to manifest_digest, config to the manifest's; the manifest is an image's.
 * CORRUPT. With is_rewritten only that both can be parsed. */
int record_check(const struct update_record *record, struct larder_error *e);
/* The document, appended to out. INVAL when a text is no UTF-8 or has a NUL, when a member that
 * must be there is missing, and for one that is_rewritten. Nothing is hashed but the sum. */
int record_format(const struct update_record *record, struct buf *out, struct larder_error *e);
/* CORRUPT (with what is wrong; checked by record_check), UNSUPPORTED (newer). */
int record_parse(struct slice text, struct update_record *ret, struct larder_error *e);
