/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Where corrupt bytes wait, out of reach: renamed away, so that new users miss while running
 * ones keep their descriptor (locks follow the inode). Kept for diagnosis up to a total size, and
 * while anybody has them open.
 */
#include <larder/store.h>

#include "base/slice.h"
#include "store/dir/dir.h"

struct quarantine_item {
    char name[192];              /* file name in quarantine/ */
    struct larder_digest digest; /* what it was called */
    struct larder_digest actual; /* what it hashed to; NONE: unknown */
    uint64_t allocated_bytes;
    int64_t since_ns;
    char *reason;     /* NULL: its note is lost */
    bool is_released; /* no evidence of anything: goes when nobody has it open */
};
#define QUARANTINE_NOTE_BYTES_MAX (16 * 1024)

/*
 * The note beside a quarantined file; CORRUPT when text is damaged. Sets digest, actual, since_ns,
 * is_released and reason (malloc'd) of *ret only.
 */
int quarantine_note_parse(struct slice text, struct quarantine_item *ret, struct larder_error *e);

/*
 * Moves the blob away (RENAME_NOREPLACE), writes the reason beside it, removes the memo, fsyncs.
 * Caller holds locks/gc exclusively. NOENT when it is not there.
 */
int quarantine_blob(struct larder_store *store, const struct larder_digest *digest,
                    const struct larder_digest *actual, const char *reason, struct larder_error *e);
/*
 * The same for a blob that is about to be replaced in one rename: gives it a second name in
 * quarantine, its first one stays. Durable before it returns. NOENT when it is not there.
 */
int quarantine_link(struct larder_store *store, const struct larder_digest *digest,
                    const char *reason, struct larder_error *e);
/*
 * Notes that these bytes are there only because somebody has them open: the next gc that finds them
 * free removes them, whatever room there is for evidence. Gone already is success.
 */
int quarantine_release(struct larder_store *store, const char *name, struct larder_error *e);
int quarantine_each(struct larder_store *store,
                    int (*fn)(void *arg, const struct quarantine_item *item), void *arg,
                    struct larder_error *e);
int quarantine_remove(struct larder_store *store, const char *name, struct larder_error *e);
