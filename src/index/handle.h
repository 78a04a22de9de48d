/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* What the two files of this room share: the handle and its prepared statements. */
#include "index/index.h"

struct sqlite3;
struct sqlite3_stmt;

enum index_statement {
    STATEMENT_DIR_GET,
    STATEMENT_DIR_SET,
    STATEMENT_BLOB_PUT,
    STATEMENT_BLOB_USED,
    STATEMENT_BLOB_REMOVE,
    STATEMENT_REF_PUT,
    STATEMENT_REF_REMOVE,
    STATEMENT_REF_EACH,
    STATEMENT_KEEP_PUT,
    STATEMENT_KEEP_REMOVE,
    STATEMENT_MAX
};

struct index {
    struct sqlite3 *db;
    struct sqlite3_stmt *statements[STATEMENT_MAX]; /* prepared on first use */
    char *path, *name;                              /* NULL in memory */
    int dirfd;                                      /* borrowed */
    int (*lock)(void *arg, bool exclusive, bool wait, int *ret_fd, struct larder_error *e);
    void *lock_arg;
    int lock_fd;            /* held during a write transaction, else -1 */
    uint64_t device, inode; /* of the database file that db has open */
    uint64_t wal_bytes;     /* length of the log after our last commit */
    bool has_written;
};

/* Sets e from the handle's last failure; returns its negative code. */
int index_fail(struct index *index, const char *what, struct larder_error *e);
int index_exec(struct index *index, const char *sql, struct larder_error *e);
