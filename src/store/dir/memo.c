/* SPDX-License-Identifier: Apache-2.0 */
#include "store/dir/memo.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "base/process.h"
#include "store/dir/doc.h"

/* A path of PATH_MAX escaped as JSON fits. */
#define MEMO_BYTES_MAX (32 * 1024)
#define MEMO_VERSION   1
/* A file system stamps no finer than this (FAT apart, which has no links and can't be a store). */
#define RACY_NS (2 * NS_PER_S)
/* A stamp that is further in the future: the clock was set back. */
#define AHEAD_NS (20 * NS_PER_MS)
/*
 * The coarse clock moves on by a tick, 10 ms on the slowest kernels; but a virtual machine misses
 * ticks for as long as it is not given its CPU.
 */
#define SETTLE_NS      (10 * NS_PER_S)
#define SETTLE_STEP_NS (NS_PER_MS / 2)

static int64_t ns_of(struct timespec t)
{
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

void fingerprint_of(const struct stat *st, struct fingerprint *ret)
{
    *ret = (struct fingerprint){
        .device = st->st_dev,
        .inode = st->st_ino,
        .size_bytes = (uint64_t)st->st_size,
        .mtime_ns = ns_of(st->st_mtim),
        .ctime_ns = ns_of(st->st_ctim),
        .mode = st->st_mode,
        .uid = st->st_uid,
    };
}

enum memo_verdict fingerprint_compare(const struct memo *memo, const struct stat *now)
{
    struct fingerprint f;
    const struct fingerprint *m = &memo->fingerprint;

    fingerprint_of(now, &f);
    if (memo->is_invalid)
        return MEMO_INVALID;
    if (f.size_bytes != m->size_bytes || f.mtime_ns != m->mtime_ns || f.inode != m->inode)
        return MEMO_CHANGED;
    if (f.device != m->device) {
        /* Device numbers are dealt out anew at boot; within one boot it is another disk. */
        const char *boot = process_boot_id();
        if (!*boot || strcmp(boot, memo->boot_id) == 0)
            return MEMO_CHANGED;
        return MEMO_SUSPECT;
    }
    if (f.ctime_ns != m->ctime_ns || f.mode != m->mode || f.uid != m->uid)
        return MEMO_SUSPECT;
    return MEMO_MATCH;
}

bool fingerprint_is_settled(const struct stat *st, int64_t hash_began_ns)
{
    int64_t mtime = ns_of(st->st_mtim);
    int64_t ctime = ns_of(st->st_ctim);
    int64_t last = mtime > ctime ? mtime : ctime;
    return hash_began_ns - last > RACY_NS;
}

int memo_settle(int fd, struct stat *ret, struct larder_error *e)
{
    struct stat st;
    int64_t deadline = clock_monotonic_ns() + SETTLE_NS;

    if (fstat(fd, &st) < 0)
        return error_errno(e, errno, "fstat");
    /* A write from now on is stamped with a clock that has moved on: it can't hide behind this
     * ctime. (Kernels with multigrain stamps never let it; there the wait is at most a tick.) */
    while (clock_coarse_ns() <= ns_of(st.st_ctim)) {
        if (ns_of(st.st_ctim) - clock_realtime_ns() > AHEAD_NS || clock_monotonic_ns() > deadline)
            return error_set(e, LARDER_BUSY, "file changed in the future: the clock was set back");
        clock_sleep_ns(SETTLE_STEP_NS);
    }
    if (fstat(fd, ret) < 0)
        return error_errno(e, errno, "fstat");
    return 0;
}

void memo_fill(struct memo *memo, const struct stat *st)
{
    fingerprint_of(st, &memo->fingerprint);
    snprintf(memo->boot_id, sizeof memo->boot_id, "%s", process_boot_id());
    if (memo->added_ns == 0)
        memo->added_ns = clock_realtime_ns();
}

/* ---- documents ---- */

static int damaged(struct larder_error *e, const char *what)
{
    return error_set(e, LARDER_CORRUPT, "memo: %s", what);
}

static int parse_fingerprint(const struct json *doc, struct fingerprint *ret)
{
    uint64_t mode = 0, uid = 0;
    if (!doc_get_bits(doc, "device", &ret->device) || !doc_get_bits(doc, "inode", &ret->inode) ||
        !doc_get_bits(doc, "size", &ret->size_bytes) ||
        !doc_get_i64(doc, "mtime_ns", &ret->mtime_ns) ||
        !doc_get_i64(doc, "ctime_ns", &ret->ctime_ns) || !doc_get_bits(doc, "mode", &mode) ||
        !doc_get_bits(doc, "uid", &uid) || mode > UINT32_MAX || uid > UINT32_MAX)
        return -1;
    ret->mode = (uint32_t)mode;
    ret->uid = (uint32_t)uid;
    return 0;
}

int memo_parse(struct slice text, struct memo *ret, struct larder_digest *ret_digest,
               char **ret_path, struct larder_error *e)
{
    CLEANUP(json_freep) struct json *doc = NULL;
    struct larder_digest digest = {0};
    struct memo memo = {0};
    const char *boot = NULL, *s = NULL;
    int64_t version = 0;
    char *copy = NULL;

    int r = json_parse(text, MEMO_BYTES_MAX, &doc, e);
    if (r == -LARDER_NOMEM)
        return r;
    if (r < 0)
        return damaged(e, "not a JSON document");
    if (!doc_get_i64(doc, "version", &version) || version != MEMO_VERSION)
        return damaged(e, "version");
    if (parse_fingerprint(doc, &memo.fingerprint) < 0)
        return damaged(e, "fingerprint");
    if (!doc_get_i64(doc, "added_ns", &memo.added_ns) ||
        !doc_get_i64(doc, "verified_ns", &memo.verified_ns) ||
        !doc_get_string(doc, "boot_id", &boot) || strlen(boot) >= sizeof memo.boot_id)
        return damaged(e, "added_ns, verified_ns or boot_id");
    snprintf(memo.boot_id, sizeof memo.boot_id, "%s", boot);
    if (doc_get_string(doc, "invalid", &s)) {
        memo.is_invalid = true;
        snprintf(memo.invalid_reason, sizeof memo.invalid_reason, "%.*s",
                 (int)sizeof memo.invalid_reason - 1, s);
    } else if (json_get(doc, "invalid")) {
        return damaged(e, "invalid: not a text"); /* a mark must not get lost */
    }
    if (doc_get_string(doc, "digest", &s) && larder_digest_parse(s, (size_t)-1, &digest, NULL) < 0)
        return damaged(e, "digest");
    if (ret_path)
        copy = doc_get_path(doc);
    *ret = memo;
    if (ret_digest)
        *ret_digest = digest;
    if (ret_path)
        *ret_path = copy;
    return 0;
}

static int memo_format(const struct memo *memo, const struct larder_digest *digest,
                       const char *path, struct buf *out, struct larder_error *e)
{
    const struct fingerprint *f = &memo->fingerprint;
    char text[LARDER_DIGEST_TEXT_BYTES];
    CLEANUP(json_freep) struct json *doc = json_new_object();

    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"device", f->device}, {"inode", f->inode}, {"size", f->size_bytes},
        {"mode", f->mode},     {"uid", f->uid},
    };
    const struct {
        const char *key;
        int64_t value;
    } times[] = {
        {"version", MEMO_VERSION},    {"mtime_ns", f->mtime_ns},          {"ctime_ns", f->ctime_ns},
        {"added_ns", memo->added_ns}, {"verified_ns", memo->verified_ns},
    };
    int r = 0;
    for (size_t i = 0; i < ARRAY_LEN(times); i++)
        r |= json_set_i64(doc, times[i].key, times[i].value);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        r |= doc_set_bits(doc, numbers[i].key, numbers[i].value);
    r |= doc_set_text(doc, "boot_id", memo->boot_id);
    if (memo->is_invalid)
        r |= doc_set_text(doc, "invalid", memo->invalid_reason);
    if (digest)
        r |= json_set_string(doc, "digest", larder_digest_format(digest, text));
    if (path)
        r |= doc_set_path(doc, path);
    return r < 0 ? error_nomem(e) : json_dump(doc, out, e);
}

/* ---- files ---- */

static int read_document(int dirfd, const char *name, struct memo *ret,
                         struct larder_digest *ret_digest, char **ret_path, struct stat *ret_st,
                         struct larder_error *e)
{
    struct buf text = BUF_INIT(MEMO_BYTES_MAX + 1);
    int r = store_read_file(dirfd, name, MEMO_BYTES_MAX, &text, ret_st, e);
    if (r == 0)
        r = memo_parse(buf_slice(&text), ret, ret_digest, ret_path, e);
    buf_done(&text);
    /* Damaged, a link, far too long: nothing that can be trusted is recorded. */
    if (r == -LARDER_CORRUPT || r == -LARDER_LIMIT)
        return error_set(e, LARDER_NOENT, "memo %s: damaged", name);
    return r;
}

int memo_read(struct larder_store *store, const struct larder_digest *digest, struct memo *ret,
              int64_t *ret_last_used_ns, struct larder_error *e)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    struct stat st;
    int dirfd = -1;

    int r = store_memo_dir(store, digest->alg, &dirfd, e);
    if (r == 0)
        r = read_document(dirfd, larder_digest_hex(digest, hex), ret, NULL, NULL, &st, e);
    if (r == 0 && ret_last_used_ns)
        *ret_last_used_ns = ns_of(st.st_mtim);
    return r;
}

static enum store_place memo_place(enum larder_digest_alg alg)
{
    return alg == LARDER_DIGEST_SHA512 ? STORE_MEMO_SHA512 : STORE_MEMO_SHA256;
}

int memo_write(struct larder_store *store, const struct larder_digest *digest,
               const struct memo *memo, struct larder_error *e)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    struct buf text = BUF_INIT(MEMO_BYTES_MAX);
    struct stat old;
    int64_t last_used = 0;
    int dirfd = -1;

    int r = store_memo_dir(store, digest->alg, &dirfd, e);
    if (r < 0)
        return r;
    larder_digest_hex(digest, hex);
    if (fstatat(dirfd, hex, &old, AT_SYMLINK_NOFOLLOW) == 0)
        last_used = ns_of(old.st_mtim);
    r = memo_format(memo, NULL, NULL, &text, e);
    if (r == 0)
        r = store_write_file(store, memo_place(digest->alg), hex, text.p, text.n,
                             memo->is_invalid ? STORE_WRITE_DURABLE : 0, last_used, e);
    buf_done(&text);
    return r;
}

int memo_remove(struct larder_store *store, const struct larder_digest *digest,
                struct larder_error *e)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    int dirfd = -1;
    int r = store_memo_dir(store, digest->alg, &dirfd, e);
    return r < 0 ? r : file_remove(dirfd, larder_digest_hex(digest, hex), e);
}

void memo_touch(struct larder_store *store, const struct larder_digest *digest)
{
    static const struct timespec now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
    char hex[LARDER_DIGEST_TEXT_BYTES];
    struct stat st;
    int dirfd = -1;

    if (store_is_read_only(store) || store_memo_dir(store, digest->alg, &dirfd, NULL) < 0)
        return;
    larder_digest_hex(digest, hex);
    if (fstatat(dirfd, hex, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    int64_t age = clock_realtime_ns() - ns_of(st.st_mtim);
    /* A use in the future (the clock was set back) must not keep the blob for years. */
    if (age >= 0 && age < MEMO_TOUCH_NS)
        return;
    (void)utimensat(dirfd, hex, now, AT_SYMLINK_NOFOLLOW);
}

/* ---- files that are not ours ---- */

static int path_name(const char *path, char out[LARDER_DIGEST_TEXT_BYTES + 8],
                     struct larder_error *e)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    struct larder_digest digest;
    int r = hash_of(LARDER_DIGEST_SHA256, path, strlen(path), &digest, e);
    if (r == 0)
        snprintf(out, LARDER_DIGEST_TEXT_BYTES + 8, "path-%s", larder_digest_hex(&digest, hex));
    return r;
}

int memo_read_path(struct larder_store *store, const char *path, struct memo *ret,
                   struct larder_digest *ret_digest, struct larder_error *e)
{
    char name[LARDER_DIGEST_TEXT_BYTES + 8];
    CLEANUP_FREE char *written = NULL;
    struct larder_digest digest = {0};
    struct memo memo;
    int dirfd = -1;

    int r = store_place(store, STORE_STATE, &dirfd, e);
    if (r == 0)
        r = path_name(path, name, e);
    if (r == 0)
        r = read_document(dirfd, name, &memo, &digest, &written, NULL, e);
    if (r < 0)
        return r;
    if (!written || strcmp(written, path) != 0 || digest.alg == LARDER_DIGEST_NONE)
        return error_set(e, LARDER_NOENT, "memo of %s: damaged", path);
    *ret = memo;
    *ret_digest = digest;
    return 0;
}

int memo_write_path(struct larder_store *store, const char *path, const struct memo *memo,
                    const struct larder_digest *digest, struct larder_error *e)
{
    char name[LARDER_DIGEST_TEXT_BYTES + 8];
    struct buf text = BUF_INIT(MEMO_BYTES_MAX);

    int r = path_name(path, name, e);
    if (r == 0)
        r = memo_format(memo, digest, path, &text, e);
    if (r == 0)
        r = store_write_file(store, STORE_STATE, name, text.p, text.n, 0, 0, e);
    buf_done(&text);
    return r;
}
