/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One fetch of an image, and its steps that are the same wherever the bytes come from: fetch.c
 * (HTTP and local sources), fetch_registry.c. Inside src/image.
 */
#include <sys/stat.h>

#include "image/fetch.h"
#include "net/transfer/transfer.h"
#include "store/dir/blob.h"

struct fetch_run {
    struct larder_store *store;
    struct http_client *client;
    struct image_entry *entry;
    struct image_published *published;
    char *url;                 /* ours: published may be replaced meanwhile; NULL: local */
    char key[64];              /* partial's name */
    struct temp_file source;   /* the bytes as fetched */
    struct temp_file unpacked; /* when they are unpacked */
    const char *transform;     /* what was done besides unpacking; NULL */
    enum transfer_unpack policy;
    struct transfer transfer;
    struct stat local; /* of a local source, before its first byte was read */
};

/* Callback of a transfer: NOSPACE unless so many bytes fit beside what is there. */
int fetch_check_space(void *arg, uint64_t total_bytes, bool is_unpacked, struct larder_error *e);

/*
 * The published bytes may be here already: 1 when they were taken, with *ret_gc_lock held; 0 when
 * they are not here (or would have to be unpacked).
 */
int fetch_take_existing(struct fetch_run *run, int *ret_gc_lock, struct larder_error *e);

/* Format and safety checks of what run->transfer brought, then the blob and the entry's new parts.
 */
int fetch_publish(struct fetch_run *run, int *ret_gc_lock, struct larder_error *e);
