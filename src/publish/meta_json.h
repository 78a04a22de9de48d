/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * coreos-assembler's meta.json: what was pushed is recorded under a key of the caller's choice
 * (`--metajsonname`), so that what signs, prunes and announces images finds them:
 *
 *     "KEY": {"image": REPO, "digest": of the image, "manifest-list-digest", "tags": [...],
 *             "additional-images": [the same for further repositories]}
 *
 * The pure part works on documents; meta_json_save does what coreos-assembler's own writers do:
 * under the lock ".meta.json.lock" the file is read anew, changed and replaced, so that several
 * commands may record different keys at once.
 */
#include <stdbool.h>
#include <stdint.h>

#include <larder/digest.h>
#include <larder/error.h>
#include <larder/observer.h>

#include "publish/ordered.h"

#define META_STAMP_KEY "coreos-assembler.meta-stamp"

struct meta_record {
    const char *repository;
    struct larder_digest digest; /* of this architecture's manifest */
    struct larder_digest list_digest;
    const char *const *tags;
    size_t n_tags;
};

/* How far the document records a push already. */
enum meta_state {
    META_MISSING,   /* nothing of this repository */
    META_DIFFERENT, /* another digest, or tags are missing */
    META_EQUAL,
};
enum meta_state meta_state_of(const struct ordered *document, const char *key,
                              const struct meta_record *record);
/* Whether the document says that this image was pushed to that tag of the repository, in whatever
 * list. */
bool meta_has_tag(const struct ordered *document, const char *key, const char *repository,
                  const struct larder_digest *digest, const char *tag);

/* The repositories that the key tells of, by number, primary first: NULL behind the last, "" for
 * what is no entry. */
const char *meta_repository(const struct ordered *document, const char *key, size_t i);

/*
 * Makes the document record a push: the primary entry when the key is new or of this repository,
 * else the one of additional-images; never a second one, and what others left of second ones is
 * merged. Tags are joined, the new ones first. Other members, and all order, stay. Returns 1 when
 * something changed, 0, or negative: INVAL when the key holds something else than an entry.
 */
int meta_record(struct ordered *document, const char *key, const struct meta_record *record,
                struct larder_error *e);
/* MISMATCH when the file now is of another build than what was read before (coreos-assembler's
 * own rule for merging). */
int meta_check_same(const struct ordered *now, const struct ordered *before,
                    struct larder_error *e);
/* Whether changes go into files of their own ("meta.KEY.json"), to be merged later. */
bool meta_is_delayed(const struct ordered *document);

/* ---- files ---- */

/* directory: of one architecture of a build; path: its name for messages and claims. */
struct meta_place {
    int directory;
    const char *path;
    const char *key;
    const struct larder_observer *observer; /* never NULL */
};
/* meta.json, or "meta.KEY.json" where merging is delayed and it exists. NOENT, INVAL. */
int meta_json_read(const struct meta_place *place, struct ordered **ret, struct larder_error *e);
/* Removes what killed runs left beside the file; where that can't be it stays. */
void meta_json_sweep(const struct meta_place *place);
/* Returns 1 when the file was written, 0 when it says so already (it is not touched then). before:
 * the document the push was made from. */
int meta_json_save(const struct meta_place *place, const struct ordered *before,
                   const struct meta_record *record, struct larder_error *e);
