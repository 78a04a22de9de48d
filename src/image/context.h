/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the image room keeps with a store handle: guest directories and network options, both set
 * by the program that opened the store. Freed with the handle.
 */
#include <stdbool.h>
#include <stddef.h>

#include <larder/net.h>
#include <larder/store.h>

struct image_context {
    char **guest_dirs; /* absolute */
    size_t guest_dir_count;
    bool is_missing_told;          /* a guest directory that is not there was warned about */
    struct larder_net_options net; /* strings owned here */
};

/* The context of a handle, made at the first call. NULL only when out of memory. */
struct image_context *image_context_get(struct larder_store *store);
