/* SPDX-License-Identifier: Apache-2.0 */
/* Records of the index in and out of SQL. */
#include <string.h>

#include <sqlite3.h>

#include "base/error.h"
#include "index/handle.h"
#include "index/index.h"

#define DIGEST_KEY_BYTES (1 + LARDER_DIGEST_BYTES_MAX)

static const char *const SQL[STATEMENT_MAX] = {
    [STATEMENT_DIR_GET] = "SELECT inode, size, mtime, ctime FROM dir WHERE id = ?",
    [STATEMENT_DIR_SET] = "INSERT OR REPLACE INTO dir VALUES (?, ?, ?, ?, ?)",
    [STATEMENT_BLOB_PUT] = "INSERT OR REPLACE INTO blob VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
    [STATEMENT_BLOB_USED] = "UPDATE blob SET used = ?2 WHERE digest = ?1",
    [STATEMENT_BLOB_REMOVE] = "DELETE FROM blob WHERE digest = ?",
    [STATEMENT_REF_PUT] = "INSERT OR REPLACE INTO ref VALUES (?, ?, ?, ?, ?, ?)",
    [STATEMENT_REF_REMOVE] = "DELETE FROM ref WHERE name = ?",
    [STATEMENT_REF_EACH] = "SELECT name, bad, inode, size, mtime, ctime FROM ref ORDER BY name",
    [STATEMENT_KEEP_PUT] = "INSERT OR IGNORE INTO keep VALUES (?, ?)",
    [STATEMENT_KEEP_REMOVE] = "DELETE FROM keep WHERE name = ?",
};

bool index_print_equal(const struct index_print *a, const struct index_print *b)
{
    return a->inode == b->inode && a->size_bytes == b->size_bytes && a->mtime_ns == b->mtime_ns &&
           a->ctime_ns == b->ctime_ns;
}

bool index_print_is_none(const struct index_print *print)
{
    return print->inode == 0 && print->size_bytes == 0 && print->mtime_ns == 0 &&
           print->ctime_ns == 0;
}

static int prepared(struct index *index, enum index_statement which, sqlite3_stmt **ret,
                    struct larder_error *e)
{
    if (!index->db)
        return error_set(e, LARDER_DENIED, "index: not open");
    if (!index->statements[which] &&
        sqlite3_prepare_v3(index->db, SQL[which], -1, SQLITE_PREPARE_PERSISTENT,
                           &index->statements[which], NULL) != SQLITE_OK)
        return index_fail(index, "prepare", e);
    *ret = index->statements[which];
    return 0;
}

/* A numbered parameter; a failed binding is found by the step (its value is NULL: NOT NULL). */
static void bind_u64(sqlite3_stmt *statement, int at, uint64_t value)
{
    (void)sqlite3_bind_int64(statement, at, (sqlite3_int64)value);
}

static void bind_text(sqlite3_stmt *statement, int at, const char *text)
{
    (void)sqlite3_bind_text(statement, at, text, -1, SQLITE_STATIC);
}

static void bind_print(sqlite3_stmt *statement, int at, const struct index_print *print)
{
    bind_u64(statement, at, print->inode);
    bind_u64(statement, at + 1, print->size_bytes);
    (void)sqlite3_bind_int64(statement, at + 2, print->mtime_ns);
    (void)sqlite3_bind_int64(statement, at + 3, print->ctime_ns);
}

/* key is borrowed by the statement until it is reset. */
static void bind_digest(sqlite3_stmt *statement, int at, const struct larder_digest *digest,
                        uint8_t key[DIGEST_KEY_BYTES])
{
    size_t n = larder_digest_size(digest->alg);
    key[0] = (uint8_t)digest->alg;
    memcpy(key + 1, digest->bytes, n);
    (void)sqlite3_bind_blob(statement, at, key, (int)(1 + n), SQLITE_STATIC);
}

static bool column_digest(sqlite3_stmt *statement, int at, struct larder_digest *ret)
{
    const uint8_t *key = sqlite3_column_blob(statement, at);
    int n = sqlite3_column_bytes(statement, at);
    memset(ret, 0, sizeof(*ret));
    if (!key || n < 1 || key[0] >= LARDER_DIGEST_ALG_MAX)
        return false;
    ret->alg = (enum larder_digest_alg)key[0];
    if (!larder_digest_is_identity(ret->alg) || (size_t)n != 1 + larder_digest_size(ret->alg))
        return false;
    memcpy(ret->bytes, key + 1, (size_t)n - 1);
    return true;
}

static void column_print(sqlite3_stmt *statement, int at, struct index_print *ret)
{
    ret->inode = (uint64_t)sqlite3_column_int64(statement, at);
    ret->size_bytes = (uint64_t)sqlite3_column_int64(statement, at + 1);
    ret->mtime_ns = sqlite3_column_int64(statement, at + 2);
    ret->ctime_ns = sqlite3_column_int64(statement, at + 3);
}

/* Runs a statement that gives no rows, and makes it ready for the next time. */
static int run(struct index *index, sqlite3_stmt *statement, struct larder_error *e)
{
    int result = 0;
    if (sqlite3_step(statement) != SQLITE_DONE)
        result = index_fail(index, "write", e);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return result;
}

int index_dir_get(struct index *index, int dir, struct index_print *ret, struct larder_error *e)
{
    sqlite3_stmt *statement = NULL;
    int result = prepared(index, STATEMENT_DIR_GET, &statement, e);
    if (result < 0)
        return result;
    (void)sqlite3_bind_int(statement, 1, dir);
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW)
        column_print(statement, 0, ret);
    else if (rc == SQLITE_DONE)
        *ret = (struct index_print){0, 0, 0, 0};
    else
        result = index_fail(index, "read", e);
    sqlite3_reset(statement);
    return result;
}

int index_dir_set(struct index *index, int dir, const struct index_print *print,
                  struct larder_error *e)
{
    sqlite3_stmt *statement = NULL;
    int result = prepared(index, STATEMENT_DIR_SET, &statement, e);
    if (result < 0)
        return result;
    (void)sqlite3_bind_int(statement, 1, dir);
    bind_print(statement, 2, print);
    return run(index, statement, e);
}

int index_blob_put(struct index *index, const struct index_blob *blob, struct larder_error *e)
{
    sqlite3_stmt *statement = NULL;
    uint8_t key[DIGEST_KEY_BYTES];
    int result = prepared(index, STATEMENT_BLOB_PUT, &statement, e);
    if (result < 0)
        return result;
    bind_digest(statement, 1, &blob->digest, key);
    bind_u64(statement, 2, blob->size_bytes);
    bind_u64(statement, 3, blob->allocated_bytes);
    (void)sqlite3_bind_int64(statement, 4, blob->added_ns);
    (void)sqlite3_bind_int64(statement, 5, blob->used_ns);
    (void)sqlite3_bind_int64(statement, 6, blob->verified_ns);
    (void)sqlite3_bind_int(statement, 7, blob->is_invalid);
    bind_u64(statement, 8, blob->inode);
    bind_print(statement, 9, &blob->memo);
    return run(index, statement, e);
}

int index_blob_set_used(struct index *index, const struct larder_digest *digest, int64_t used_ns,
                        struct larder_error *e)
{
    sqlite3_stmt *statement = NULL;
    uint8_t key[DIGEST_KEY_BYTES];
    int result = prepared(index, STATEMENT_BLOB_USED, &statement, e);
    if (result < 0)
        return result;
    bind_digest(statement, 1, digest, key);
    (void)sqlite3_bind_int64(statement, 2, used_ns);
    return run(index, statement, e);
}

int index_blob_remove(struct index *index, const struct larder_digest *digest,
                      struct larder_error *e)
{
    sqlite3_stmt *statement = NULL;
    uint8_t key[DIGEST_KEY_BYTES];
    int result = prepared(index, STATEMENT_BLOB_REMOVE, &statement, e);
    if (result < 0)
        return result;
    bind_digest(statement, 1, digest, key);
    return run(index, statement, e);
}

static const char *each_sql(enum index_order order, bool with_refs)
{
#define EACH_SQL(refs, order)                                                            \
    "SELECT digest, size, allocated, added, used, verified, invalid, inode, memo_inode," \
    " memo_size, memo_mtime, memo_ctime, " refs " FROM blob ORDER BY " order
#define EACH_REFS "(SELECT group_concat(name, ', ') FROM keep WHERE keep.digest = blob.digest)"
    switch (order) {
    case INDEX_BY_USED_NEWEST:
        return with_refs ? EACH_SQL(EACH_REFS, "used DESC, digest")
                         : EACH_SQL("NULL", "used DESC, digest");
    case INDEX_BY_USED_OLDEST:
        return with_refs ? EACH_SQL(EACH_REFS, "used, digest") : EACH_SQL("NULL", "used, digest");
    case INDEX_BY_VERIFIED_OLDEST:
        return with_refs ? EACH_SQL(EACH_REFS, "verified, digest")
                         : EACH_SQL("NULL", "verified, digest");
    case INDEX_BY_DIGEST:
    default:
        return with_refs ? EACH_SQL(EACH_REFS, "digest") : EACH_SQL("NULL", "digest");
    }
}

static int give_blob(struct index *index, sqlite3_stmt *statement,
                     int (*fn)(void *arg, const struct index_blob *blob, const char *refs),
                     void *arg, struct larder_error *e)
{
    struct index_blob blob;
    memset(&blob, 0, sizeof(blob));
    if (!column_digest(statement, 0, &blob.digest))
        return error_set(e, LARDER_CORRUPT, "index %s: a digest of %d bytes",
                         index->path ? index->path : "in memory",
                         sqlite3_column_bytes(statement, 0));
    blob.size_bytes = (uint64_t)sqlite3_column_int64(statement, 1);
    blob.allocated_bytes = (uint64_t)sqlite3_column_int64(statement, 2);
    blob.added_ns = sqlite3_column_int64(statement, 3);
    blob.used_ns = sqlite3_column_int64(statement, 4);
    blob.verified_ns = sqlite3_column_int64(statement, 5);
    blob.is_invalid = sqlite3_column_int(statement, 6) != 0;
    blob.inode = (uint64_t)sqlite3_column_int64(statement, 7);
    column_print(statement, 8, &blob.memo);
    const char *refs = (const char *)sqlite3_column_text(statement, 12);
    return fn(arg, &blob, refs ? refs : "");
}

int index_blob_each(struct index *index, enum index_order order, bool with_refs,
                    int (*fn)(void *arg, const struct index_blob *blob, const char *refs),
                    void *arg, struct larder_error *e)
{
    sqlite3_stmt *statement = NULL;
    if (!index->db)
        return error_set(e, LARDER_DENIED, "index: not open");
    if (sqlite3_prepare_v2(index->db, each_sql(order, with_refs), -1, &statement, NULL) !=
        SQLITE_OK)
        return index_fail(index, "prepare", e);
    int result = 0, rc = SQLITE_ROW;
    while (result == 0 && (rc = sqlite3_step(statement)) == SQLITE_ROW)
        result = give_blob(index, statement, fn, arg, e);
    if (result == 0 && rc != SQLITE_DONE)
        result = index_fail(index, "read", e);
    sqlite3_finalize(statement);
    return result;
}

static int remove_by_name(struct index *index, enum index_statement which, const char *name,
                          struct larder_error *e)
{
    sqlite3_stmt *statement = NULL;
    int result = prepared(index, which, &statement, e);
    if (result < 0)
        return result;
    bind_text(statement, 1, name);
    return run(index, statement, e);
}

static int put_keep(struct index *index, const char *name, const struct larder_digest *digest,
                    struct larder_error *e)
{
    sqlite3_stmt *statement = NULL;
    uint8_t key[DIGEST_KEY_BYTES];
    int result = prepared(index, STATEMENT_KEEP_PUT, &statement, e);
    if (result < 0)
        return result;
    bind_digest(statement, 1, digest, key);
    bind_text(statement, 2, name);
    return run(index, statement, e);
}

int index_ref_put(struct index *index, const char *name, const struct index_print *print,
                  bool is_bad, const struct larder_digest *digests, size_t count,
                  struct larder_error *e)
{
    sqlite3_stmt *statement = NULL;
    int result = remove_by_name(index, STATEMENT_KEEP_REMOVE, name, e);
    for (size_t i = 0; result == 0 && i < count; i++)
        result = put_keep(index, name, &digests[i], e);
    if (result == 0)
        result = prepared(index, STATEMENT_REF_PUT, &statement, e);
    if (result < 0)
        return result;
    bind_text(statement, 1, name);
    (void)sqlite3_bind_int(statement, 2, is_bad);
    bind_print(statement, 3, print);
    return run(index, statement, e);
}

int index_ref_remove(struct index *index, const char *name, struct larder_error *e)
{
    int result = remove_by_name(index, STATEMENT_KEEP_REMOVE, name, e);
    return result < 0 ? result : remove_by_name(index, STATEMENT_REF_REMOVE, name, e);
}

int index_ref_each(struct index *index,
                   int (*fn)(void *arg, const char *name, const struct index_print *print,
                             bool is_bad),
                   void *arg, struct larder_error *e)
{
    sqlite3_stmt *statement = NULL;
    int result = prepared(index, STATEMENT_REF_EACH, &statement, e);
    if (result < 0)
        return result;
    int rc = SQLITE_ROW;
    while (result == 0 && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
        struct index_print print;
        const char *name = (const char *)sqlite3_column_text(statement, 0);
        column_print(statement, 2, &print);
        result = fn(arg, name ? name : "", &print, sqlite3_column_int(statement, 1) != 0);
    }
    if (result == 0 && rc != SQLITE_DONE)
        result = index_fail(index, "read", e);
    sqlite3_reset(statement);
    return result;
}

int index_clear(struct index *index, struct larder_error *e)
{
    return index_exec(index, "DELETE FROM dir; DELETE FROM blob; DELETE FROM ref; DELETE FROM keep",
                      e);
}
