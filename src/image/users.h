/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Who uses an image: own leases, QEMU's OFD locks (bytes 100-103 and 200-203), any opener
 * (F_SETLEASE, for microseconds and only on a file nobody can newly open or under locks/gc), and
 * overlays at rest in the configured guest directories. Whatever cannot be told counts as in use.
 */
#include "base/buf.h"
#include "store/users.h"

/* Flags of what a probe found, for people and tests. */
enum image_use_flags {
    IMAGE_USE_LEASE = 1u << 0,
    IMAGE_USE_OFD_READER = 1u << 1,
    IMAGE_USE_OFD_WRITER = 1u << 2,
    IMAGE_USE_OPENED = 1u << 3,  /* somebody has it open (F_SETLEASE) */
    IMAGE_USE_OVERLAY = 1u << 4, /* a guest's overlay names it */
    IMAGE_USE_UNKNOWN = 1u << 5,
};

/* Only the file itself: locks and openers. fd was just opened read-only by the caller and must be
 * the caller's only descriptor of it. who may be NULL. */
int image_users_of_fd(int fd, unsigned *ret_flags, struct buf *who, struct larder_error *e);
/* Pids with the file open or mapped, from /proc: best effort, for messages only. */
int image_users_pids(uint64_t device, uint64_t inode, struct buf *who, struct larder_error *e);
/* Overlays in the guest directories whose backing file is path (or its digest). */
int image_users_overlays(struct larder_store *store, const char *path, unsigned *ret_count,
                         struct buf *who, struct larder_error *e);
/* The same in dir, configured or not. path NULL: every file there that may need a base. */
int image_users_overlays_in(struct larder_store *store, const char *dir, const char *path,
                            unsigned *ret_count, struct buf *who, struct larder_error *e);
/* All of the above for a blob of the store. */
int image_users_of_blob(struct larder_store *store, const struct larder_digest *digest,
                        unsigned *ret_flags, struct buf *who, struct larder_error *e);
/* Appends "; in use by A, B" to a message, nothing when nobody is found: best effort. */
void image_users_say(struct larder_store *store, const struct larder_digest *digest,
                     struct buf *message);

/* The probe that a store gets when it is opened. */
extern const struct users_probe image_users_probe;
