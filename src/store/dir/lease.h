/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Leases: promises that a blob is in use, each with an owner whose life can be checked: a process
 * (pid, start time, boot id), a file (an overlay: path, device, inode) or a time.
 * "Can't tell" counts as alive.
 */
#include <larder/store.h>

#include "base/buf.h"
#include "base/process.h"
#include "base/slice.h"
#include "store/dir/dir.h"

enum lease_kind { LEASE_PROCESS, LEASE_FILE, LEASE_UNTIL };

struct lease {
    char id[LARDER_LEASE_ID_BYTES];
    enum lease_kind kind;
    struct larder_digest digest;
    char *media_type; /* of a manifest: what it names is held with it; NULL: the digest alone */
    char *purpose;
    char *host; /* who made it: a store on a shared disk has leases of other hosts */
    int64_t created_ns;
    struct process_id process; /* PROCESS */
    char *path;                /* FILE: absolute */
    uint64_t device, inode;    /* FILE */
    int64_t until_ns;          /* UNTIL */
};

void lease_done(struct lease *lease);
/* A lease from its document (lease_done it); CORRUPT when damaged, UNSUPPORTED when newer. */
int lease_parse(struct slice text, struct lease *ret, struct larder_error *e);
/*
 * larder_lease_file for a file that has no name yet (O_TMPFILE) and is about to get path: so it is
 * never seen without its lease. Until it has its name the lease counts as dead, and a sweep may
 * take it: lease_is_there tells.
 */
int lease_unnamed_file(struct larder_store *store, const struct larder_digest *digest, int fd,
                       const char *path, const char *purpose, char ret_id[LARDER_LEASE_ID_BYTES],
                       struct larder_error *e);
bool lease_is_there(struct larder_store *store, const char *id);
/*
 * Holds a manifest that is in the store and all that it names, for this process: what is here, and
 * what is on its way from the moment that it arrives. One file and no fsync, however many layers.
 * gc reads the manifest itself (roots.h). NOENT: it is not in the store.
 */
int lease_image(struct larder_store *store, const struct larder_digest *digest,
                const char *media_type, const char *purpose, char ret_id[LARDER_LEASE_ID_BYTES],
                struct larder_error *e);
/* Alive, dead (may be removed) or unknown (counts as alive). */
enum process_state lease_check(const struct lease *lease);
/* One line for people: "process 123 (qemu-system-x86) since 2 min: image use". */
int lease_describe(const struct lease *lease, struct buf *out);
/*
 * Each lease; with digest only those of it. The lease lives for the call. A damaged one ends the
 * walk with CORRUPT: whose life it told of is unknown, so nothing may be removed for it.
 */
int lease_each(struct larder_store *store, const struct larder_digest *digest,
               int (*fn)(void *arg, const struct lease *lease), void *arg, struct larder_error *e);
/* Removes dead ones; counts them. */
int lease_sweep(struct larder_store *store, bool dry_run, uint64_t *ret_removed,
                struct larder_error *e);
/* Whether any live or unknown lease holds digest by its own name (not by a manifest's). */
int lease_holds(struct larder_store *store, const struct larder_digest *digest, bool *ret,
                struct larder_error *e);
