/* SPDX-License-Identifier: Apache-2.0 */
#include "store/dir/blob.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "base/hash_many.h"
#include "base/text.h"

int blob_check(struct larder_store *store, const struct larder_digest *digest, enum blob_state *ret,
               struct stat *ret_st, struct memo *ret_memo, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    char hex[LARDER_DIGEST_TEXT_BYTES];
    struct memo memo = {0};
    struct stat st;
    enum memo_verdict verdict = MEMO_NONE;
    int dirfd = -1;

    int r = store_blob_dir(store, digest->alg, &dirfd, e);
    if (r < 0)
        return r;
    if (fstatat(dirfd, larder_digest_hex(digest, hex), &st, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno != ENOENT)
            return error_errno(e, errno, "blob %s", larder_digest_format(digest, hex));
        *ret = BLOB_MISSING;
        return 0;
    }
    r = memo_read(store, digest, &memo, NULL, &why);
    if (r < 0 && r != -LARDER_NOENT) {
        if (e)
            *e = why;
        return r;
    }
    if (r == 0)
        verdict = fingerprint_compare(&memo, &st);
    enum blob_state state = BLOB_UNSURE;
    switch (verdict) {
    case MEMO_MATCH:
        state = BLOB_GOOD;
        break;
    case MEMO_SUSPECT:
        state = BLOB_SUSPECT;
        break;
    case MEMO_CHANGED:
    case MEMO_NONE:
        break;
    case MEMO_INVALID:
        state = BLOB_MARKED;
        break;
    }
    /* What is not a regular file can't be a blob, whatever its memo says. */
    if (!S_ISREG(st.st_mode) && state != BLOB_MARKED)
        state = BLOB_UNSURE;
    *ret = state;
    if (ret_st)
        *ret_st = st;
    if (ret_memo)
        *ret_memo = memo;
    return 0;
}

int blob_fd(struct larder_store *store, const struct larder_digest *digest, int *ret_fd,
            struct stat *ret_st, struct larder_error *e)
{
    char hex[LARDER_DIGEST_TEXT_BYTES], text[LARDER_DIGEST_TEXT_BYTES];
    int dirfd = -1;

    int r = store_blob_dir(store, digest->alg, &dirfd, e);
    if (r < 0)
        return r;
    larder_digest_format(digest, text);
    CLEANUP_CLOSE int fd = openat(dirfd, larder_digest_hex(digest, hex),
                                  O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno == ELOOP)
        return error_set(e, LARDER_CORRUPT, "blob %s: a symbolic link, expected a file", text);
    if (fd < 0)
        return error_errno(e, errno, "blob %s", text);
    if (fstat(fd, ret_st) < 0)
        return error_errno(e, errno, "blob %s", text);
    if (!S_ISREG(ret_st->st_mode))
        return error_set(e, LARDER_CORRUPT, "blob %s: not a regular file", text);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int hash_fd(struct larder_store *store, int fd, enum larder_digest_alg alg, bool keep_cache,
                   const char *object, struct larder_digest *ret, struct larder_error *e)
{
    struct hash_job job = {.fd = fd, .alg_bits = HASH_BIT(alg), .object = object};
    struct hash_many_options options = {
        .keep_cache = keep_cache, .observer = store_observer(store), .what = "verify"};

    int r = hash_many(&job, 1, &options, e);
    if (r < 0)
        return r;
    if (job.result < 0) {
        if (e)
            *e = job.error;
        return job.result;
    }
    *ret = job.digests[alg];
    return 0;
}

static bool same_content_stamps(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

int blob_hash(struct larder_store *store, const struct larder_digest *digest, bool keep_cache,
              struct larder_digest *ret_actual, struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES], found[LARDER_DIGEST_TEXT_BYTES];
    struct larder_digest actual = {0};
    struct stat before = {0};
    struct stat after = {0};
    CLEANUP_CLOSE int fd = -1;

    int r = blob_fd(store, digest, &fd, &before, e);
    if (r < 0)
        return r;
    larder_digest_format(digest, text);
    int64_t began = clock_realtime_ns();
    r = hash_fd(store, fd, digest->alg, keep_cache, text, &actual, e);
    if (r < 0)
        return r;
    if (fstat(fd, &after) < 0)
        return error_errno(e, errno, "blob %s", text);
    /* Somebody writes to it right now: what was read is no state of the file. */
    if (!same_content_stamps(&before, &after))
        return error_set(e, LARDER_BUSY, "blob %s: changed while it was read", text);
    if (!larder_digest_equal(&actual, digest)) {
        *ret_actual = actual;
        return error_set(e, LARDER_CORRUPT, "blob %s: its bytes hash to %s", text,
                         larder_digest_format(&actual, found));
    }
    if (!store_is_read_only(store)) {
        r = blob_record_verified(store, digest, fd, began, e);
        if (r < 0)
            return r;
    }
    *ret_actual = actual;
    return 0;
}

int blob_record_verified(struct larder_store *store, const struct larder_digest *digest, int fd,
                         int64_t hash_began_ns, struct larder_error *e)
{
    struct memo memo = {0};
    struct larder_error why = LARDER_ERROR_INIT;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return error_errno(e, errno, "blob");
    if (!fingerprint_is_settled(&st, hash_began_ns))
        return 0;
    int r = memo_read(store, digest, &memo, NULL, &why);
    if (r < 0 && r != -LARDER_NOENT) {
        if (e)
            *e = why;
        return r;
    }
    memo_fill(&memo, &st);
    memo.verified_ns = hash_began_ns;
    return memo_write(store, digest, &memo, e);
}

int blob_mark_invalid(struct larder_store *store, const struct larder_digest *digest,
                      const char *reason, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    char hex[LARDER_DIGEST_TEXT_BYTES];
    struct memo memo = {0};
    struct stat st;
    int dirfd = -1;

    int r = store_require_writable(store, e);
    if (r == 0)
        r = store_blob_dir(store, digest->alg, &dirfd, e);
    if (r < 0)
        return r;
    if (fstatat(dirfd, larder_digest_hex(digest, hex), &st, AT_SYMLINK_NOFOLLOW) < 0)
        return error_errno(e, errno, "blob %s", larder_digest_format(digest, hex));
    r = memo_read(store, digest, &memo, NULL, &why);
    if (r < 0 && r != -LARDER_NOENT) {
        if (e)
            *e = why;
        return r;
    }
    bool has_memo = r == 0;
    if (!reason) {
        if (!has_memo || !memo.is_invalid)
            return 0;
        /* A memo that only carries the mark vouches for nothing. */
        if (memo.verified_ns == 0)
            return memo_remove(store, digest, e);
        memo.is_invalid = false;
        memo.invalid_reason[0] = '\0';
        return memo_write(store, digest, &memo, e);
    }
    if (!has_memo)
        memo_fill(&memo, &st);
    memo.is_invalid = true;
    snprintf(memo.invalid_reason, sizeof memo.invalid_reason, "%s", reason);
    return memo_write(store, digest, &memo, e);
}

int blob_remove(struct larder_store *store, const struct larder_digest *digest,
                struct larder_error *e)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    int dirfd = -1;

    int r = store_require_writable(store, e);
    if (r == 0)
        r = store_blob_dir(store, digest->alg, &dirfd, e);
    /* A memo without a blob is harmless; a blob without a memo would have to be hashed. */
    if (r == 0)
        r = file_remove(dirfd, larder_digest_hex(digest, hex), e);
    return r < 0 ? r : memo_remove(store, digest, e);
}

struct walk {
    enum larder_digest_alg alg;
    int (*fn)(void *arg, const struct larder_digest *digest);
    void *arg;
};

bool blob_name_parse(enum larder_digest_alg alg, const char *name, struct larder_digest *ret)
{
    struct larder_digest d = {.alg = alg};
    char again[LARDER_DIGEST_TEXT_BYTES];
    if (!hex_decode(slice_of(name), d.bytes, larder_digest_size(alg)))
        return false;
    /* Upper-case digits would be a second name for the same blob. */
    if (strcmp(larder_digest_hex(&d, again), name) != 0)
        return false;
    *ret = d;
    return true;
}

static int walk_name(void *arg, const char *name, unsigned char type)
{
    const struct walk *w = arg;
    struct larder_digest digest;
    (void)type;
    return blob_name_parse(w->alg, name, &digest) ? w->fn(w->arg, &digest) : 0;
}

int blob_each(struct larder_store *store, int (*fn)(void *arg, const struct larder_digest *digest),
              void *arg, struct larder_error *e)
{
    static const enum larder_digest_alg algs[] = {LARDER_DIGEST_SHA256, LARDER_DIGEST_SHA512};
    for (size_t i = 0; i < ARRAY_LEN(algs); i++) {
        struct walk w = {algs[i], fn, arg};
        int dirfd = -1;
        int r = store_blob_dir(store, algs[i], &dirfd, e);
        if (r == 0)
            r = dir_each(dirfd, walk_name, &w, e);
        if (r != 0)
            return r;
    }
    return 0;
}
