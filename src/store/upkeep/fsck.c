/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck: what is in the store that should not be, or not so. Blobs and memos here; the small files
 * in fsck_files.c.
 *
 * Without `repair` nothing is written (a damaged index apart, which is put aside by whoever opens
 * it). Files larder did not make are told and never touched. What a crash leaves behind
 * (temporaries, a memo without a blob, a blob without a memo, dead leases) is harmless.
 */
#include "store/upkeep/fsck.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fdio.h"
#include "store/dir/blob.h"
#include "store/dir/dir.h"
#include "store/dir/memo.h"
#include "store/upkeep/condemn.h"
#include "store/upkeep/gc.h"
#include "store/upkeep/reach.h"
#include "store/upkeep/rehash.h"

#define TEXT_BYTES   512
#define OBJECT_BYTES 400

void fsck_tell(struct fsck *fsck, enum larder_fsck_kind kind, bool is_harmless, bool is_repaired,
               const char *object, const char *fmt, ...)
{
    char text[TEXT_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    fsck->report.problems++;
    fsck->report.harmless += is_harmless;
    fsck->report.repaired += is_repaired;
    if (!is_harmless && !is_repaired && fsck->unresolved++ == 0)
        error_set(&fsck->first, LARDER_CORRUPT, "%s: %s", object, text);
    const struct larder_fsck_problem problem = {kind, object, text, is_repaired, is_harmless};
    if (fsck->options->problem)
        fsck->options->problem(fsck->options->arg, &problem);
}

void fsck_tell_foreign(struct fsck *fsck, const char *name, const char *expected)
{
    char object[OBJECT_BYTES];
    snprintf(object, sizeof(object), "%s%s%s", fsck->place, fsck->place[0] ? "/" : "", name);
    fsck_tell(fsck, LARDER_FSCK_FOREIGN, true, false, object, "not made by larder, expected %s",
              expected);
}

static const char *blob_object(const struct larder_digest *digest, char out[OBJECT_BYTES])
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    snprintf(out, OBJECT_BYTES, "blobs/%s/%s", larder_digest_alg_name(digest->alg),
             larder_digest_hex(digest, hex));
    return out;
}

/* ---- blobs ---- */

/* 1 when it was writable: anybody may have written to it, so it is read whatever the memo says. */
static int check_mode(struct fsck *fsck, const struct larder_digest *digest, const char *name,
                      const struct stat *st)
{
    char object[OBJECT_BYTES];
    bool is_repaired = false;
    if (!(st->st_mode & 0222))
        return 0;
    if (fsck->options->repair) {
        CLEANUP_CLOSE int fd =
            openat(fsck->dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0 || fchmod(fd, 0444) < 0)
            return error_errno(fsck->e, errno, "blob %s: chmod", name);
        is_repaired = true;
    }
    fsck_tell(fsck, LARDER_FSCK_BAD_MODE, false, is_repaired, blob_object(digest, object),
              "mode %04o, expected 0444", (unsigned)st->st_mode & 07777);
    int result = digest_set_add(&fsck->unread, digest, fsck->e);
    return result < 0 ? result : 1;
}

static int check_mark(struct fsck *fsck, const struct larder_digest *digest)
{
    char object[OBJECT_BYTES], why[GC_WHY_BYTES];
    const struct removal_terms terms = {.dry_run = !fsck->options->repair,
                                        .ignore_refs = true,
                                        .only_marked = true,
                                        .users = fsck->users};
    enum removal how = REMOVAL_PINNED;
    uint64_t bytes = 0;
    if (fsck->has_bad_lease)
        return 0;
    int result =
        gc_remove_blob(fsck->store, digest, &terms, &fsck->roots, &how, &bytes, why, fsck->e);
    if (result == 0 && (how == REMOVAL_DONE || how == REMOVAL_OPEN))
        fsck_tell(fsck, LARDER_FSCK_OVERDUE_MARK, true, fsck->options->repair,
                  blob_object(digest, object), "marked invalid, and nobody uses it any more");
    return result;
}

static int check_blob(void *arg, const char *name, unsigned char d_type)
{
    struct fsck *fsck = arg;
    struct larder_digest digest;
    enum blob_state state = BLOB_MISSING;
    struct stat st;
    (void)d_type;
    if (!blob_name_parse(fsck->alg, name, &digest)) {
        fsck_tell_foreign(fsck, name, "a digest");
        return 0;
    }
    int result = blob_check(fsck->store, &digest, &state, &st, NULL, fsck->e);
    if (result < 0 || state == BLOB_MISSING)
        return result;
    if (!S_ISREG(st.st_mode)) {
        fsck_tell_foreign(fsck, name, "a regular file");
        return 0;
    }
    fsck->report.blobs++;
    if (state == BLOB_MARKED)
        return check_mark(fsck, &digest);
    result = check_mode(fsck, &digest, name, &st);
    if (result != 0)
        return result < 0 ? result : 0;
    /* SUSPECT alone comes with every reboot that deals out device numbers anew: no finding. */
    if (state == BLOB_UNSURE || (state == BLOB_SUSPECT && fsck->options->repair)) {
        result = digest_set_add(&fsck->unsure, &digest, fsck->e);
        if (result == 0)
            result = digest_set_add(&fsck->unread, &digest, fsck->e);
    } else if (fsck->options->deep) {
        result = digest_set_add(&fsck->unread, &digest, fsck->e);
    }
    return result;
}

static int take_good(struct fsck *fsck, const struct rehash *item)
{
    char object[OBJECT_BYTES];
    int result = 0;
    if (fsck->options->repair)
        result =
            blob_record_verified(fsck->store, &item->digest, item->fd, item->began_ns, fsck->e);
    if (result == 0 && digest_set_has(&fsck->unsure, &item->digest))
        fsck_tell(fsck, LARDER_FSCK_UNSURE_BLOB, true, fsck->options->repair,
                  blob_object(&item->digest, object),
                  "its fingerprint is not the one recorded; its bytes are good");
    return result;
}

static int take_corrupt(struct fsck *fsck, const struct rehash *item)
{
    char object[OBJECT_BYTES], actual[LARDER_DIGEST_TEXT_BYTES];
    enum condemn_result how = CONDEMN_GONE;
    int result = 0;
    if (fsck->options->repair) {
        result = condemn_blob(fsck->store, &item->digest, &item->actual, item->error.msg,
                              fsck->users, &item->st, &how, fsck->e);
        if (result < 0 || how == CONDEMN_GONE)
            return result;
    }
    fsck_tell(fsck, LARDER_FSCK_CORRUPT_BLOB, false, fsck->options->repair,
              blob_object(&item->digest, object), "its bytes hash to %s%s",
              larder_digest_format(&item->actual, actual),
              !fsck->options->repair ? ""
              : how == CONDEMN_MOVED ? "; moved to quarantine"
                                     : "; still needed, marked invalid");
    return 0;
}

static int take_result(void *arg, struct rehash *item, struct larder_error *e)
{
    struct fsck *fsck = arg;
    char object[OBJECT_BYTES];
    fsck->e = e;
    if (item->result == 0)
        return take_good(fsck, item);
    if (item->actual.alg != LARDER_DIGEST_NONE)
        return take_corrupt(fsck, item);
    if (item->result == -LARDER_NOENT || item->result == -LARDER_BUSY)
        return 0;
    fsck_tell(fsck, LARDER_FSCK_CORRUPT_BLOB, false, false, blob_object(&item->digest, object),
              "%s", item->error.msg);
    return 0;
}

static int read_blobs(struct fsck *fsck)
{
    struct larder_error *e = fsck->e;
    bool is_complete = false;
    const struct rehash_options options = {.what = "verify", .done = take_result, .arg = fsck};
    digest_set_sort(&fsck->unsure);
    int result = rehash_run(fsck->store, fsck->unread.digests, fsck->unread.count, &options,
                            &is_complete, e);
    fsck->e = e;
    return result;
}

/* ---- memos ---- */

/* A blob is linked before its memo is written, and both under locks/gc. */
static int remove_orphan(struct fsck *fsck, const struct larder_digest *digest, bool *ret_is_orphan)
{
    CLEANUP_CLOSE int lock = -1;
    enum blob_state state = BLOB_MISSING;
    int result = store_lock(fsck->store, "gc", true, true, &lock, fsck->e);
    if (result == 0)
        result = blob_check(fsck->store, digest, &state, NULL, NULL, fsck->e);
    *ret_is_orphan = state == BLOB_MISSING;
    if (result == 0 && *ret_is_orphan)
        result = memo_remove(fsck->store, digest, fsck->e);
    return result;
}

static int check_memo(void *arg, const char *name, unsigned char d_type)
{
    struct fsck *fsck = arg;
    struct larder_digest digest;
    enum blob_state state = BLOB_MISSING;
    char object[OBJECT_BYTES];
    bool is_orphan = true;
    (void)d_type;
    if (!blob_name_parse(fsck->alg, name, &digest)) {
        fsck_tell_foreign(fsck, name, "a digest");
        return 0;
    }
    int result = blob_check(fsck->store, &digest, &state, NULL, NULL, fsck->e);
    if (result < 0 || state != BLOB_MISSING)
        return result;
    if (fsck->options->repair)
        result = remove_orphan(fsck, &digest, &is_orphan);
    if (result < 0 || !is_orphan)
        return result;
    snprintf(object, sizeof(object), "%s/%s", fsck->place, name);
    fsck_tell(fsck, LARDER_FSCK_ORPHAN_MEMO, true, fsck->options->repair, object,
              "its blob is not there");
    return 0;
}

static int check_alg(struct fsck *fsck, enum larder_digest_alg alg)
{
    fsck->alg = alg;
    fsck->place =
        store_place_name(alg == LARDER_DIGEST_SHA256 ? STORE_BLOBS_SHA256 : STORE_BLOBS_SHA512);
    int result = store_blob_dir(fsck->store, alg, &fsck->dirfd, fsck->e);
    if (result == 0)
        result = dir_each(fsck->dirfd, check_blob, fsck, fsck->e);
    if (result == 0)
        result = store_memo_dir(fsck->store, alg, &fsck->dirfd, fsck->e);
    fsck->place =
        store_place_name(alg == LARDER_DIGEST_SHA256 ? STORE_MEMO_SHA256 : STORE_MEMO_SHA512);
    if (result == 0)
        result = dir_each(fsck->dirfd, check_memo, fsck, fsck->e);
    if (result == -LARDER_NOENT && store_is_read_only(fsck->store)) {
        error_clear(fsck->e);
        return 0;
    }
    return result;
}

static int run(struct fsck *fsck)
{
    int result = 0;
    if (fsck->options->repair || fsck->options->rebuild_index)
        result = store_require_writable(fsck->store, fsck->e);
    /* First: a damaged lease that stays forbids to remove anything. */
    if (result == 0)
        result = fsck_leases(fsck);
    if (result == 0 && !fsck->has_bad_lease)
        result = roots_load(fsck->store, &fsck->roots, fsck->e);
    if (result == 0)
        result = check_alg(fsck, LARDER_DIGEST_SHA256);
    if (result == 0)
        result = check_alg(fsck, LARDER_DIGEST_SHA512);
    if (result == 0)
        result = read_blobs(fsck);
    /* After the blobs: a ref whose blob was condemned just now dangles. */
    if (result == 0)
        result = fsck_files(fsck);
    if (result == 0 && !store_is_read_only(fsck->store))
        result = fsck_index(fsck);
    return result;
}

int store_fsck(struct larder_store *store, const struct larder_fsck_options *options,
               const struct users_probe *users, struct larder_fsck_report *ret,
               struct larder_error *e)
{
    static const struct larder_fsck_options defaults = LARDER_FSCK_OPTIONS_INIT;
    struct fsck fsck;
    if (options && options->size != sizeof(*options))
        return error_set(e, LARDER_INVAL, "fsck options: size %zu, expected %zu", options->size,
                         sizeof(*options));
    memset(&fsck, 0, sizeof(fsck));
    fsck.store = store;
    fsck.options = options ? options : &defaults;
    fsck.users = users;
    fsck.dirfd = -1;
    fsck.e = e;
    int result = run(&fsck);
    roots_done(&fsck.roots);
    reach_free(fsck.reach);
    digest_set_done(&fsck.unread);
    digest_set_done(&fsck.unsure);
    if (result < 0)
        return result;
    if (ret)
        *ret = fsck.report;
    if (fsck.unresolved == 0)
        return 0;
    if (e)
        *e = fsck.first;
    return -LARDER_CORRUPT;
}

int larder_fsck(struct larder_store *store, const struct larder_fsck_options *options,
                struct larder_fsck_report *ret, struct larder_error *e)
{
    return store_fsck(store, options, store_users(store), ret, e);
}
