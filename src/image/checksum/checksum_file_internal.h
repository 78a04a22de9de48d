/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What parsing (checksum_file.c) leaves for looking up (checksum_lookup.c).
 */
#include "image/checksum/checksum_file.h"

struct checksum_size {
    char *name;
    uint64_t bytes;
    bool is_rounded;
    size_t line;
};

struct checksum_file {
    char *file_name; /* NULL: unknown */
    struct buf text; /* what was parsed */
    bool is_clearsigned;
    /* Either all entries have a name or none has. */
    struct checksum_entry *entries;
    size_t n_entries, cap_entries;
    struct checksum_size *sizes;
    size_t n_sizes, cap_sizes;
    size_t n_malformed, n_foreign;
};

/* For messages: the file's name, or "checksum file". */
const char *checksum_file_label(const struct checksum_file *sums);
