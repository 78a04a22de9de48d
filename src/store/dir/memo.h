/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The memo of a blob: which stat fingerprint its bytes had when they were last hashed. Equal
 * fingerprint: trusted without reading. Facts: size and mtime move with content; rename, link,
 * chmod and chown move ctime only; utimes cannot hide a write from ctime.
 *
 * The racy rule: a file may be written within the granularity of its own timestamps. A memo is only
 * stored when hashing began more than 2 s after the last change; for a file we wrote ourselves and
 * nobody else had open, when the clock has moved past its ctime before the fingerprint is taken
 * (memo_settle).
 *
 * A memo file is small JSON, written atomically; its mtime is the blob's last use (no fsync: losing
 * it costs nothing but a hash and a slightly older last use; only an invalid mark is made durable).
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include <larder/store.h>

#include "base/slice.h"
#include "store/dir/dir.h"

struct fingerprint {
    uint64_t device;
    uint64_t inode;
    uint64_t size_bytes;
    int64_t mtime_ns;
    int64_t ctime_ns;
    uint32_t mode;
    uint32_t uid;
};

struct memo {
    struct fingerprint fingerprint;
    int64_t added_ns;
    int64_t verified_ns; /* when the full hash behind it began */
    char boot_id[40];    /* a device number is only good within one boot */
    bool is_invalid;     /* look-ups must miss: bad or invalidated, but the path is still in use */
    char invalid_reason[160];
};

enum memo_verdict {
    MEMO_MATCH,   /* all equal: trusted */
    MEMO_SUSPECT, /* size, mtime, inode equal; ctime, mode, owner or device (other boot) differ */
    MEMO_CHANGED, /* size, mtime or inode differ: hash before use */
    MEMO_NONE,    /* nothing recorded: hash before use */
    MEMO_INVALID, /* marked: never use */
};

void fingerprint_of(const struct stat *st, struct fingerprint *ret);
/* Fingerprint and boot id of now; added_ns when it is 0. The rest stays. */
void memo_fill(struct memo *memo, const struct stat *st);
enum memo_verdict fingerprint_compare(const struct memo *memo, const struct stat *now);
/* Whether a memo may be stored for a hash that began then (racy rule, 2 s). */
bool fingerprint_is_settled(const struct stat *st, int64_t hash_began_ns);

/*
 * Memo from its document; CORRUPT when it is damaged. ret_digest and ret_path (malloc'd, NULL when
 * there is none) are for memos by path; both may be NULL.
 */
int memo_parse(struct slice text, struct memo *ret, struct larder_digest *ret_digest,
               char **ret_path, struct larder_error *e);

/* NOENT when there is none (a damaged memo counts as none). ret_last_used_ns may be NULL. */
int memo_read(struct larder_store *store, const struct larder_digest *digest, struct memo *ret,
              int64_t *ret_last_used_ns, struct larder_error *e);
/* Keeps the last use that is recorded already; a new memo counts as used now. */
int memo_write(struct larder_store *store, const struct larder_digest *digest,
               const struct memo *memo, struct larder_error *e);
int memo_remove(struct larder_store *store, const struct larder_digest *digest,
                struct larder_error *e);
/*
 * Records a use now, unless one of the last MEMO_TOUCH_NS is recorded (so that a hit seldom
 * writes). Best effort: nothing happens on a read-only store or without a memo.
 */
#define MEMO_TOUCH_NS (60LL * 1000000000LL)
void memo_touch(struct larder_store *store, const struct larder_digest *digest);
/*
 * Waits (a tick, 10 ms at most on a machine that is given its time) until the coarse clock is past
 * the file's ctime, then fstats. BUSY when the ctime is in the future (the clock was set back): no
 * memo may be stored.
 */
int memo_settle(int fd, struct stat *ret, struct larder_error *e);

/* The same for files that are not ours (image check DIR), kept under state/, by absolute path. */
int memo_read_path(struct larder_store *store, const char *path, struct memo *ret,
                   struct larder_digest *ret_digest, struct larder_error *e);
int memo_write_path(struct larder_store *store, const char *path, const struct memo *memo,
                    const struct larder_digest *digest, struct larder_error *e);
