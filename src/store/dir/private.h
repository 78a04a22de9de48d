/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The handle of a dir store, seen by dir.c, create.c and lock.c only; everybody else goes through
 * dir.h.
 */
#include "store/dir/dir.h"

struct larder_store {
    char *path; /* absolute */
    struct larder_observer observer;
    const struct users_probe *users; /* borrowed */
    void *context;                   /* of a room above */
    void (*context_free)(void *context);
    int places[STORE_PLACE_MAX]; /* -1: not opened yet */
    uid_t owner;                 /* of the root directory */
    bool is_read_only;
    bool is_shared;   /* root directory is group-writable: several users on purpose */
    mode_t dir_mode;  /* what new directories and files get; */
    mode_t file_mode; /* the group's write bit follows the root directory */
};

/* Makes one place (and its parent directory) below root. *ret_fd may be NULL. */
int store_place_make(struct larder_store *store, enum store_place place, int *ret_fd,
                     struct larder_error *e);
/* First path component of every place ("blobs"); false when name is none of ours. */
bool store_name_is_ours(const char *name);
/* Opens (and with CREATE makes) the root, reads format, judges the owner. Fills store. */
int store_open_root(struct larder_store *store, unsigned flags, struct larder_error *e);
