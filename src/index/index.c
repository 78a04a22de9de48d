/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening, locking, transactions and checkpoints of the index: the protocol that works around the
 * WAL-reset bug stands here and nowhere else.
 */
#include "index/index.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <sqlite3.h>

#include "base/error.h"
#include "index/handle.h"

/* Readers meet SQLITE_BUSY only while another connection recovers the log after a crash. */
#define BUSY_TIMEOUT_MS 2000
/* Below this a log is not worth the two fsyncs of folding it back when the handle is closed. */
#define IDLE_WAL_BYTES (256u * 1024)

static const char SCHEMA[] =
    "CREATE TABLE dir (id INTEGER PRIMARY KEY, inode INTEGER NOT NULL, size INTEGER NOT NULL,"
    "  mtime INTEGER NOT NULL, ctime INTEGER NOT NULL);"
    /* digest: one byte of algorithm, then its bytes */
    "CREATE TABLE blob (digest BLOB PRIMARY KEY CHECK (length(digest) IN (33, 65)),"
    "  size INTEGER NOT NULL, allocated INTEGER NOT NULL, added INTEGER NOT NULL,"
    "  used INTEGER NOT NULL, verified INTEGER NOT NULL, invalid INTEGER NOT NULL,"
    "  inode INTEGER NOT NULL, memo_inode INTEGER NOT NULL, memo_size INTEGER NOT NULL,"
    "  memo_mtime INTEGER NOT NULL, memo_ctime INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE ref (name TEXT PRIMARY KEY, bad INTEGER NOT NULL, inode INTEGER NOT NULL,"
    "  size INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE keep (digest BLOB NOT NULL, name TEXT NOT NULL,"
    "  PRIMARY KEY (digest, name)) WITHOUT ROWID;"
    "CREATE INDEX keep_name ON keep (name);";

static enum larder_code code_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return LARDER_NOSPACE;
    case SQLITE_NOMEM:
        return LARDER_NOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return LARDER_BUSY;
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
        return LARDER_DENIED;
    case SQLITE_IOERR:
        return LARDER_IO;
    default: /* CORRUPT, NOTADB; ERROR: "no such table", so another schema under our number */
        return LARDER_CORRUPT;
    }
}

int index_fail(struct index *index, const char *what, struct larder_error *e)
{
    int rc = index->db ? sqlite3_extended_errcode(index->db) : SQLITE_NOMEM;
    if (code_of(rc) == LARDER_NOMEM)
        return error_nomem(e);
    return error_set(e, code_of(rc), "index %s: %s: %s", index->path ? index->path : "in memory",
                     what, sqlite3_errmsg(index->db));
}

int index_exec(struct index *index, const char *sql, struct larder_error *e)
{
    if (sqlite3_exec(index->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return index_fail(index, "write", e);
    return 0;
}

/* First column of the first row as a number, or as whether it is the text expected. */
static int query_int(struct index *index, const char *sql, int64_t *ret, struct larder_error *e)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(index->db, sql, -1, &statement, NULL) != SQLITE_OK)
        return index_fail(index, "read", e);
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int64(statement, 0);
    int result = rc == SQLITE_ROW ? 0 : index_fail(index, "read", e);
    sqlite3_finalize(statement);
    return result;
}

static int query_is(struct index *index, const char *sql, const char *expected, bool *ret,
                    struct larder_error *e)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(index->db, sql, -1, &statement, NULL) != SQLITE_OK)
        return index_fail(index, "read", e);
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(statement, 0);
        *ret = text && strcmp(text, expected) == 0;
    }
    int result = rc == SQLITE_ROW ? 0 : index_fail(index, "read", e);
    sqlite3_finalize(statement);
    return result;
}

static void handle_close(struct index *index)
{
    for (size_t i = 0; i < STATEMENT_MAX; i++) {
        sqlite3_finalize(index->statements[i]);
        index->statements[i] = NULL;
    }
    sqlite3_close(index->db);
    index->db = NULL;
}

static int remember_log(void *arg, sqlite3 *db, const char *name, int pages)
{
    struct index *index = arg;
    (void)db;
    (void)name;
    index->wal_bytes = (uint64_t)pages * 4096;
    return SQLITE_OK;
}

static int configure(struct index *index, struct larder_error *e)
{
    sqlite3_extended_result_codes(index->db, 1);
    sqlite3_busy_timeout(index->db, BUSY_TIMEOUT_MS);
    sqlite3_db_config(index->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
    sqlite3_db_config(index->db, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
    sqlite3_wal_hook(index->db, remember_log, index); /* also: no automatic checkpoint */
    return index_exec(index,
                      "PRAGMA mmap_size=0; PRAGMA synchronous=NORMAL; PRAGMA temp_store=MEMORY;"
                      "PRAGMA cell_size_check=ON; PRAGMA trusted_schema=OFF;",
                      e);
}

static int make_schema(struct index *index, struct larder_error *e)
{
    char sql[64];
    snprintf(sql, sizeof(sql), "PRAGMA user_version=%d", INDEX_SCHEMA_VERSION);
    int result = index_exec(index, "BEGIN IMMEDIATE", e);
    if (result == 0)
        result = index_exec(index, SCHEMA, e);
    if (result == 0)
        result = index_exec(index, sql, e);
    if (result == 0)
        result = index_exec(index, "COMMIT", e);
    return result;
}

static int check_schema(struct index *index, struct larder_error *e)
{
    if (sqlite3_db_readonly(index->db, "main") == 1)
        return error_set(e, LARDER_DENIED, "index %s: cannot be written", index->path);
    int64_t version = 0, rows = 0;
    bool is_wal = false;
    int result = query_int(index, "PRAGMA user_version", &version, e);
    if (result == 0)
        result = query_is(index, "PRAGMA journal_mode", "wal", &is_wal, e);
    if (result < 0)
        return result;
    if (version != INDEX_SCHEMA_VERSION || !is_wal)
        return error_set(e, LARDER_CORRUPT, "index %s: schema %lld, expected %d in WAL mode",
                         index->path, (long long)version, INDEX_SCHEMA_VERSION);
    return query_int(index, "SELECT count(*) FROM dir", &rows, e);
}

/* The caller has the lock (shared is enough unless is_new). NOENT when there is no file. */
static int handle_open(struct index *index, bool is_new, struct larder_error *e)
{
    struct stat st = {.st_ino = 0};
    if (!is_new) {
        if (fstatat(index->dirfd, index->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return error_errno(e, errno, "index %s", index->path);
        if (!S_ISREG(st.st_mode))
            return error_set(e, LARDER_DENIED, "index %s: not a regular file", index->path);
    }
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    int result = 0;
    if (sqlite3_open_v2(index->path, &index->db, flags | (is_new ? SQLITE_OPEN_CREATE : 0), NULL) !=
        SQLITE_OK)
        result = index_fail(index, "open", e);
    if (result == 0)
        result = configure(index, e);
    if (result == 0 && is_new) {
        result = index_exec(index, "PRAGMA journal_mode=WAL", e);
        if (result == 0)
            result = make_schema(index, e);
    }
    if (result == 0)
        result = check_schema(index, e);
    if (result == 0 && fstatat(index->dirfd, index->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        result = error_errno(e, errno, "index %s", index->path);
    if (result < 0) {
        handle_close(index);
        return result;
    }
    index->device = st.st_dev;
    index->inode = st.st_ino;
    return 0;
}

/*
 * The caller has the lock exclusively. The log goes first: a log that outlives its database would
 * be replayed into the next one of that name.
 */
static int put_aside(struct index *index, struct larder_error *e)
{
    static const char *const companions[] = {"-wal", "-shm", "-journal"};
    char name[NAME_MAX + 1];
    for (size_t i = 0; i < ARRAY_LEN(companions); i++) {
        snprintf(name, sizeof(name), "%s%s", index->name, companions[i]);
        if (unlinkat(index->dirfd, name, 0) < 0 && errno != ENOENT)
            return error_errno(e, errno, "index %s%s: remove", index->path, companions[i]);
    }
    snprintf(name, sizeof(name), "%s.bad", index->name);
    if (renameat(index->dirfd, index->name, index->dirfd, name) < 0 && errno != ENOENT)
        return error_errno(e, errno, "index %s: put aside", index->path);
    return 0;
}

static bool is_damage(int result)
{
    return result == -LARDER_CORRUPT || result == -LARDER_IO;
}

/* The caller has the lock exclusively. */
static int open_or_make(struct index *index, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    int result = handle_open(index, false, &why);
    if (result == 0)
        return 0;
    if (result != -LARDER_NOENT && !is_damage(result)) {
        if (e)
            *e = why;
        return result;
    }
    result = put_aside(index, e);
    return result < 0 ? result : handle_open(index, true, e);
}

int index_open(const struct index_options *options, struct index **ret, struct larder_error *e)
{
    CLEANUP(index_closep) struct index *index = calloc(1, sizeof(*index));
    if (!index)
        return error_nomem(e);
    index->lock_fd = -1;
    index->dirfd = options->dirfd;
    index->lock = options->lock;
    index->lock_arg = options->lock_arg;
    index->path = strdup(options->path);
    index->name = strdup(options->name);
    if (!index->path || !index->name)
        return error_nomem(e);
    if (strlen(index->name) > NAME_MAX - 16)
        return error_set(e, LARDER_INVAL, "index %s: name too long", index->path);

    CLEANUP_CLOSE int shared = -1;
    int result = index->lock(index->lock_arg, false, true, &shared, e);
    if (result < 0)
        return result;
    struct larder_error why = LARDER_ERROR_INIT;
    result = handle_open(index, false, &why);
    fd_closep(&shared);
    if (result < 0 && result != -LARDER_NOENT && !is_damage(result)) {
        if (e)
            *e = why;
        return result;
    }
    if (result < 0) {
        CLEANUP_CLOSE int exclusive = -1;
        result = index->lock(index->lock_arg, true, true, &exclusive, e);
        if (result == 0)
            result = open_or_make(index, e);
        if (result < 0)
            return result;
    }
    *ret = TAKE_PTR(index);
    return 0;
}

int index_open_memory(struct index **ret, struct larder_error *e)
{
    CLEANUP(index_closep) struct index *index = calloc(1, sizeof(*index));
    if (!index)
        return error_nomem(e);
    index->lock_fd = -1;
    index->dirfd = -1;
    if (sqlite3_open_v2(":memory:", &index->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        return index_fail(index, "open", e);
    int result = configure(index, e);
    if (result == 0)
        result = make_schema(index, e);
    if (result < 0)
        return result;
    *ret = TAKE_PTR(index);
    return 0;
}

/* The caller has the lock exclusively; best effort. */
static void checkpoint(struct index *index, int mode)
{
    /* Whoever is in the way stays there: the next one folds the log back. */
    sqlite3_busy_timeout(index->db, 0);
    if (sqlite3_wal_checkpoint_v2(index->db, NULL, mode, NULL, NULL) == SQLITE_OK &&
        mode == SQLITE_CHECKPOINT_TRUNCATE)
        index->wal_bytes = 0;
    sqlite3_busy_timeout(index->db, BUSY_TIMEOUT_MS);
}

static bool is_same_file(const struct index *index)
{
    struct stat st;
    return fstatat(index->dirfd, index->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           st.st_dev == index->device && st.st_ino == index->inode;
}

void index_idle(struct index *index)
{
    if (!index || !index->path || !index->db || index->lock_fd >= 0)
        return;
    CLEANUP_CLOSE int fd = -1;
    if (index->lock(index->lock_arg, true, false, &fd, NULL) == 0 && is_same_file(index))
        checkpoint(index, SQLITE_CHECKPOINT_TRUNCATE);
}

void index_close(struct index *index)
{
    if (!index)
        return;
    if (index->lock_fd >= 0)
        index_rollback(index);
    if (index->has_written && index->wal_bytes > IDLE_WAL_BYTES)
        index_idle(index);
    handle_close(index);
    free(index->path);
    free(index->name);
    free(index);
}

bool index_is_memory(const struct index *index)
{
    return index->path == NULL;
}

int index_remake(struct index *index, struct larder_error *e)
{
    if (!index->path)
        return error_set(e, LARDER_INVAL, "index in memory: cannot be remade");
    CLEANUP_CLOSE int fd = -1;
    int result = index->lock(index->lock_arg, true, true, &fd, e);
    if (result < 0)
        return result;
    bool is_ours = is_same_file(index);
    handle_close(index);
    if (!is_ours)
        return open_or_make(index, e);
    result = put_aside(index, e);
    return result < 0 ? result : handle_open(index, true, e);
}

int index_check(struct index *index, struct larder_error *e)
{
    bool is_ok = false;
    int result = query_is(index, "PRAGMA quick_check(1)", "ok", &is_ok, e);
    if (result < 0)
        return result;
    if (!is_ok)
        return error_set(e, LARDER_CORRUPT, "index %s: damaged",
                         index->path ? index->path : "in memory");
    return 0;
}

static int require_open(const struct index *index, struct larder_error *e)
{
    if (!index->db) /* an index_remake failed half-way */
        return error_set(e, LARDER_DENIED, "index %s: not open", index->path ? index->path : "");
    return 0;
}

int index_read_begin(struct index *index, struct larder_error *e)
{
    int result = require_open(index, e);
    return result < 0 ? result : index_exec(index, "BEGIN", e);
}

void index_read_end(struct index *index)
{
    (void)index_exec(index, "ROLLBACK", NULL);
}

int index_begin(struct index *index, struct larder_error *e)
{
    CLEANUP_CLOSE int fd = -1;
    int result = require_open(index, e);
    if (result == 0 && index->path)
        result = index->lock(index->lock_arg, true, true, &fd, e);
    if (result < 0)
        return result;
    if (index->path && !is_same_file(index)) {
        handle_close(index);
        result = open_or_make(index, e);
    }
    if (result == 0)
        result = index_exec(index, "BEGIN IMMEDIATE", e);
    if (result == 0)
        index->lock_fd = TAKE_FD(fd);
    return result;
}

void index_rollback(struct index *index)
{
    if (index->db && !sqlite3_get_autocommit(index->db))
        (void)index_exec(index, "ROLLBACK", NULL);
    fd_closep(&index->lock_fd);
}

int index_commit(struct index *index, struct larder_error *e)
{
    int result = index_exec(index, "COMMIT", e);
    if (result < 0) {
        index_rollback(index);
        return result;
    }
    index->has_written = true;
    if (index->path && index->wal_bytes > INDEX_WAL_BYTES_MAX)
        checkpoint(index, SQLITE_CHECKPOINT_PASSIVE);
    fd_closep(&index->lock_fd);
    return 0;
}
