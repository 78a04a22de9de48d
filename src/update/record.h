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
 *     "update": { "media_type": "...", "manifest": "...", "config": "..." } }  left out: unchanged
 *
 * Manifest and configuration are the registry's bytes as strings (JSON is UTF-8, so they fit). A
 * record is believed only when the manifest hashes to manifest_digest and the configuration to the
 * manifest's: a document that was torn or edited is CORRUPT. A check that finds `listed` again
 * needs no second question.
 */
#include <larder/digest.h>
#include <larder/error.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/slice.h"

#define RECORD_VERSION 1
/* Both documents at their largest, each byte escaped as \u00XX at worst. */
#define RECORD_BYTES_MAX (64UL * 1024 * 1024)

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
    char *media_type;
    struct buf manifest;
    struct buf config;
};
void record_done(struct update_record *record); /* leaves it zero; fine on zero */
/* manifest hashes to manifest_digest, config to the manifest's; the manifest is an image's.
 * CORRUPT. With is_rewritten only that both can be parsed. */
int record_check(const struct update_record *record, struct larder_error *e);
/* The document, appended to out. INVAL when a text is no UTF-8. */
int record_format(const struct update_record *record, struct buf *out, struct larder_error *e);
/* CORRUPT (with what is wrong; checked by record_check), UNSUPPORTED (newer). */
int record_parse(struct slice text, struct update_record *ret, struct larder_error *e);
