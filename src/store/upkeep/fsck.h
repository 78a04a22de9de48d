/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* What the two files of fsck share: fsck.c judges blobs and memos, fsck_files.c everything else. */
#include "store/upkeep/maintain.h"
#include "store/upkeep/roots.h"

struct fsck {
    struct larder_store *store;
    const struct larder_fsck_options *options;
    const struct users_probe *users;
    struct larder_fsck_report report;
    uint64_t unresolved; /* neither harmless nor repaired */
    struct roots roots;
    struct reach *reach;        /* of one ref after the other */
    struct digest_set unread;   /* to be hashed, in order */
    struct digest_set unsure;   /* those of them whose fingerprint differs; sorted */
    enum larder_digest_alg alg; /* being walked */
    int dirfd;                  /* being walked */
    const char *place;          /* its name, for messages */
    bool has_bad_lease;         /* one that stays: what it holds is not known */
    uint64_t inode;             /* of the small file being judged */
    struct larder_error first;  /* first problem that stays */
    struct larder_error *e;
};

/* Counts and tells one finding. object: path in the store, or ref name. */
void fsck_tell(struct fsck *fsck, enum larder_fsck_kind kind, bool is_harmless, bool is_repaired,
               const char *object, const char *fmt, ...) LARDER_PRINTF(6, 7);
/* "<place>/<name>" is none of ours. */
void fsck_tell_foreign(struct fsck *fsck, const char *name, const char *expected);

int fsck_leases(struct fsck *fsck);
int fsck_files(struct fsck *fsck); /* root, temporaries, refs, quarantine, updates */
int fsck_index(struct fsck *fsck);
