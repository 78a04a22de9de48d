/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One file of a directory of records, by its name: what record_dir.c and fsck share.
 */
#include <sys/stat.h>

#include "update/record/record.h"

/* Hex digits of the key's SHA-256, and NUL. */
#define RECORD_FILE_BYTES 65
/* Of the one writer who has the lock. */
#define RECORD_TEMP ".tmp-record"

/* The file of a key. */
int record_file_name(const char *key, char out[RECORD_FILE_BYTES], struct larder_error *e);
bool record_file_is_name(const char *name);
/* Reads and checks it. NOENT, CORRUPT, UNSUPPORTED; others say nothing of it. */
int record_file_read(int dirfd, const char *file, struct update_record *ret,
                     struct larder_error *e);
/* The lock of the directory: a temporary in it is nobody's then. BUSY after half a minute (wait),
 * or at once. */
int record_file_lock(int dirfd, bool wait, int *ret_lock, struct larder_error *e);
