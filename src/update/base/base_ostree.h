/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A base in an ostree repository: the inside of base_ostree*.c.
 *
 * The image is what the metadata of a commit says (ostree-ext's keys "ostree.manifest-digest",
 * "ostree.manifest", "ostree.container.image-config"); who has it is told by the ref
 * ostree/container/image/REF and by the origins of deployments. The record is in the detached
 * metadata of the base's commit, so that it is pruned with it:
 *
 *   ostree-ext.cached.manifest-digest, .manifest, .config     as ostree-ext has them, strings: what
 *       bootc and rpm-ostree show; only there for an update
 *   larder.update.state            "update", "unchanged"
 *   larder.update.ref, .platform   what was asked
 *   larder.update.base             digest of the base's manifest
 *   larder.update.listed           what REF itself pointed to
 *   larder.update.manifest-digest  the platform's manifest behind it
 *   larder.update.documents        "exact": ostree-ext's two are the registry's bytes; "rewritten":
 *                                  they were made readable for it (ostree_readable.h)
 *   larder.update.checked-at       a number, ns since 1970
 *
 * ostree-ext drops all other keys when it writes, and others may write its keys and leave ours: so
 * ours count only while larder.update.base is the commit's image, and, for an update, while
 * larder.update.manifest-digest is ostree-ext's, and for "unchanged", while there is no update.
 *
 * A commit has one record. Where two references lead to one commit, the last check wins; the other
 * has none.
 */
#include "update/base/base.h"
#include "update/base/ostree_access.h"

struct base_ostree {
    struct base base; /* first: a struct base is cast to it */
    struct ostree_access *repo;
};
static inline struct base_ostree *base_ostree_of(struct base *b)
{
    return (struct base_ostree *)(void *)b;
}

/* The ops of records (base.h). */
int base_ostree_record_get(struct base *b, const struct base_holder *holder,
                           struct update_record *ret, struct larder_error *e);
int base_ostree_record_put(struct base *b, const struct base_holder *holder,
                           const struct update_record *record, struct larder_error *e);
int base_ostree_record_touch(struct base *b, const struct base_holder *holder, int64_t checked_ns,
                             struct larder_error *e);
int base_ostree_record_remove(struct base *b, const struct base_holder *holder,
                              struct larder_error *e);
/* Whether a commit has a record, also a damaged one, that is not of another reference: 1, 0. 1 sets
 * *ret_platform where the record says one (malloc'd), else NULL. */
int base_ostree_record_peek(struct ostree_access *repo, const char *commit, const char *ref,
                            char **ret_platform, struct larder_error *e);
