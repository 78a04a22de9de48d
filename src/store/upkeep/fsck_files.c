/* SPDX-License-Identifier: Apache-2.0 */
/* fsck of everything that is not a blob: names in the root, temporaries, leases, refs, index. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/text.h"
#include "index/index.h"
#include "store/dir/blob.h"
#include "store/dir/dir.h"
#include "store/dir/lease.h"
#include "store/dir/quarantine.h"
#include "store/dir/ref.h"
#include "store/updates.h"
#include "store/upkeep/fsck.h"
#include "store/upkeep/index_sync.h"
#include "store/upkeep/reach.h"

#define OBJECT_BYTES 400
/* Damaged refs (leases) of one name that are kept aside. */
#define ASIDE_MAX 1000
/* Larger than any lease we write (a path of PATH_MAX, escaped). */
#define LEASE_TEXT_BYTES (64 * 1024)

/* ---- names ---- */

static bool is_one_of(const char *name, const char *const names[])
{
    for (; *names; names++)
        if (strcmp(name, *names) == 0)
            return true;
    return false;
}

static int check_root_name(void *arg, const char *name, unsigned char d_type)
{
    static const char *const ours[] = {"format",
                                       "blobs",
                                       "memo",
                                       "refs",
                                       "leases",
                                       "quarantine",
                                       "partial",
                                       "tmp",
                                       "locks",
                                       "state",
                                       "updates",
                                       "index.sqlite",
                                       "index.sqlite-wal",
                                       "index.sqlite-shm",
                                       "index.sqlite-journal", /* until it is in WAL mode */
                                       "index.sqlite.bad",
                                       NULL};
    (void)d_type;
    /* .tmp-*: judged with the temporaries */
    if (!is_one_of(name, ours) && strncmp(name, ".tmp-", 5) != 0)
        fsck_tell_foreign(arg, name, "a name of larder-store(5)");
    return 0;
}

static int check_alg_name(void *arg, const char *name, unsigned char d_type)
{
    static const char *const ours[] = {"sha256", "sha512", NULL};
    (void)d_type;
    if (!is_one_of(name, ours))
        fsck_tell_foreign(arg, name, "sha256 or sha512");
    return 0;
}

static int check_tmp_name(void *arg, const char *name, unsigned char d_type)
{
    (void)d_type;
    if (strncmp(name, ".tmp-", 5) != 0)
        fsck_tell_foreign(arg, name, ".tmp-*");
    return 0;
}

/* "<alg>-<hex>.<n>" [".json"] */
static bool is_quarantine_name(const char *name)
{
    static const enum larder_digest_alg algs[] = {LARDER_DIGEST_SHA256, LARDER_DIGEST_SHA512};
    for (size_t i = 0; i < ARRAY_LEN(algs); i++) {
        const char *alg = larder_digest_alg_name(algs[i]);
        size_t n = strlen(alg), hex_bytes = 2 * larder_digest_size(algs[i]);
        char hex[2 * LARDER_DIGEST_BYTES_MAX + 1];
        struct larder_digest digest;
        if (strncmp(name, alg, n) != 0 || name[n] != '-' || strlen(name) < n + 1 + hex_bytes + 2)
            continue;
        memcpy(hex, name + n + 1, hex_bytes);
        hex[hex_bytes] = '\0';
        const char *rest = name + n + 1 + hex_bytes;
        size_t digits = strspn(rest + 1, "0123456789");
        if (*rest == '.' && digits > 0 && blob_name_parse(algs[i], hex, &digest) &&
            (rest[1 + digits] == '\0' || strcmp(rest + 1 + digits, ".json") == 0))
            return true;
    }
    return false;
}

static int check_quarantine_name(void *arg, const char *name, unsigned char d_type)
{
    (void)d_type;
    if (!is_quarantine_name(name))
        fsck_tell_foreign(arg, name, "<alg>-<hex>.<n>");
    return 0;
}

static int walk(struct fsck *fsck, enum store_place place, const char *name,
                int (*fn)(void *arg, const char *name, unsigned char d_type))
{
    fsck->place = name;
    int result = store_place(fsck->store, place, &fsck->dirfd, fsck->e);
    if (result == -LARDER_NOENT && store_is_read_only(fsck->store)) {
        error_clear(fsck->e);
        return 0;
    }
    return result < 0 ? result : dir_each(fsck->dirfd, fn, fsck, fsck->e);
}

static int walk_parent(struct fsck *fsck, const char *name)
{
    int root = -1;
    int result = store_place(fsck->store, STORE_ROOT, &root, fsck->e);
    if (result < 0)
        return result;
    CLEANUP_CLOSE int fd = openat(root, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : error_errno(fsck->e, errno, "%s", name);
    fsck->place = name;
    return dir_each(fd, check_alg_name, fsck, fsck->e);
}

/* ---- temporaries, leases ---- */

static int tell_temporary(void *arg, const char *name, bool is_partial, uint64_t bytes)
{
    struct fsck *fsck = arg;
    char object[OBJECT_BYTES];
    (void)bytes;
    snprintf(object, sizeof(object), "%s/%s", is_partial ? "partial" : "tmp", name);
    fsck_tell(fsck, LARDER_FSCK_TEMPORARY, true, fsck->options->repair, object,
              is_partial ? "a download nobody went on with" : "left by a process that is gone");
    return 0;
}

/*
 * Out of the way, into state/: its text may still tell somebody what it was. Under the lock no
 * ref or lease is written; one that was replaced since it was judged stays.
 */
static int put_aside(struct fsck *fsck, const char *kind, const char *file)
{
    char aside[300];
    struct stat st;
    CLEANUP_CLOSE int lock = -1;
    int to = -1;
    int result = store_place(fsck->store, STORE_STATE, &to, fsck->e);
    if (result == 0)
        result = store_lock(fsck->store, "gc", true, true, &lock, fsck->e);
    if (result == 0 &&
        (fstatat(fsck->dirfd, file, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino != fsck->inode))
        return 0;
    for (unsigned n = 0; result == 0 && n < ASIDE_MAX; n++) {
        snprintf(aside, sizeof(aside), "bad-%s.%s.%u", kind, file, n);
        if (renameat2(fsck->dirfd, file, to, aside, RENAME_NOREPLACE) == 0)
            return 0;
        if (errno != EEXIST)
            result = error_errno(fsck->e, errno, "%s/%s: put aside", fsck->place, file);
    }
    return result < 0 ? result
                      : error_set(fsck->e, LARDER_LIMIT, "%s/%s: %u damaged ones kept already",
                                  fsck->place, file, ASIDE_MAX);
}

static bool is_damage(int result)
{
    return result == -LARDER_CORRUPT || result == -LARDER_INVAL || result == -LARDER_LIMIT ||
           result == -LARDER_UNSUPPORTED;
}

static int judge_lease(struct fsck *fsck, const char *name, struct slice text)
{
    struct lease lease;
    struct larder_error why = LARDER_ERROR_INIT;
    char object[OBJECT_BYTES];
    memset(&lease, 0, sizeof(lease));
    snprintf(object, sizeof(object), "leases/%s", name);
    int result = lease_parse(text, &lease, &why);
    if (result == 0 && strcmp(lease.id, name) != 0) {
        lease_done(&lease);
        result = error_set(&why, LARDER_CORRUPT, "its id is not its name");
    }
    if (result == 0) {
        if (lease_check(&lease) == PROCESS_DEAD)
            fsck_tell(fsck, LARDER_FSCK_DEAD_LEASE, true, fsck->options->repair, object,
                      "its owner is gone");
        lease_done(&lease);
        return 0;
    }
    if (!is_damage(result)) {
        if (fsck->e)
            *fsck->e = why;
        return result;
    }
    /* One of a newer larder is not ours to repair. */
    bool repair = fsck->options->repair && result != -LARDER_UNSUPPORTED;
    result = repair ? put_aside(fsck, "lease", name) : 0;
    if (result == 0)
        fsck_tell(fsck, LARDER_FSCK_BAD_LEASE, false, repair, object, "%s%s", why.msg,
                  repair ? "; put aside in state" : "");
    fsck->has_bad_lease = fsck->has_bad_lease || !repair;
    return result;
}

static int check_lease(void *arg, const char *name, unsigned char d_type)
{
    struct fsck *fsck = arg;
    struct larder_error why = LARDER_ERROR_INIT;
    struct buf text = BUF_INIT(LEASE_TEXT_BYTES);
    struct stat st = {.st_ino = 0};
    (void)d_type;
    if (name[strspn(name, "0123456789abcdefABCDEF")] != '\0') {
        fsck_tell_foreign(fsck, name, "a lease's id");
        buf_done(&text);
        return 0;
    }
    (void)fstatat(fsck->dirfd, name, &st, AT_SYMLINK_NOFOLLOW);
    fsck->inode = st.st_ino;
    int result = store_read_file(fsck->dirfd, name, LEASE_TEXT_BYTES, &text, NULL, &why);
    if (result == -LARDER_NOENT) {
        buf_done(&text);
        return 0;
    }
    fsck->report.leases++;
    /* A FIFO or a link under a lease's name stops gc as a damaged lease does: out of the way, too.
     */
    if (result == 0 || result == -LARDER_LIMIT || result == -LARDER_CORRUPT) {
        result = judge_lease(fsck, name, result == 0 ? buf_slice(&text) : SLICE_LIT(""));
    } else if (fsck->e) {
        *fsck->e = why;
    }
    buf_done(&text);
    return result;
}

int fsck_leases(struct fsck *fsck)
{
    uint64_t removed = 0;
    int result = walk(fsck, STORE_LEASES, "leases", check_lease);
    if (result == 0 && fsck->options->repair && !fsck->has_bad_lease)
        result = lease_sweep(fsck->store, false, &removed, fsck->e);
    return result;
}

/* ---- refs ---- */

static int check_kept(void *arg, const struct larder_digest *digest)
{
    struct fsck *fsck = arg;
    char text[LARDER_DIGEST_TEXT_BYTES];
    enum blob_state state = BLOB_MISSING;
    int result = blob_check(fsck->store, digest, &state, NULL, NULL, fsck->e);
    if (result == 0 && (state == BLOB_MISSING || state == BLOB_MARKED))
        fsck_tell(fsck, LARDER_FSCK_DANGLING_REF, true, false, fsck->place,
                  "blob %s is %s; the next get fetches it", larder_digest_format(digest, text),
                  state == BLOB_MISSING ? "not there" : "marked invalid");
    return result;
}

struct counting {
    struct fsck *fsck;
    uint64_t n, n_missing;
};

static int count_one(void *arg, const struct larder_digest *digest)
{
    struct counting *counting = arg;
    enum blob_state state = BLOB_MISSING;
    int result = blob_check(counting->fsck->store, digest, &state, NULL, NULL, counting->fsck->e);
    counting->n++;
    counting->n_missing += state == BLOB_MISSING || state == BLOB_MARKED;
    return result;
}

/* What is below the manifest a ref points to. */
static int check_parts(struct fsck *fsck, const char *name, const struct json *descriptor)
{
    const char *text = json_get_string(descriptor, "digest");
    struct counting counting = {fsck, 0, 0};
    struct larder_digest digest;
    bool is_known = true;
    if (!text || larder_digest_parse(text, (size_t)-1, &digest, NULL) < 0)
        return 0;
    int result = fsck->reach ? 0 : reach_new(fsck->store, &fsck->reach, fsck->e);
    if (result < 0)
        return result;
    reach_reset(fsck->reach);
    result = reach_add(fsck->reach, &digest, json_get_string(descriptor, "mediaType"), &is_known,
                       fsck->e);
    if (result == 0)
        result = reach_each(fsck->reach, count_one, &counting);
    if (result == 0 && !is_known)
        fsck_tell(fsck, LARDER_FSCK_INCOMPLETE_REF, true, false, name,
                  "a manifest of it can't be read: gc removes nothing for lack of a ref");
    else if (result == 0 && counting.n_missing > 0 && counting.n > 1)
        fsck_tell(fsck, LARDER_FSCK_INCOMPLETE_REF, true, false, name,
                  "%llu of its %llu parts are not there; copying it again fetches them",
                  (unsigned long long)counting.n_missing, (unsigned long long)counting.n);
    return result;
}

static int tell_bad_ref(struct fsck *fsck, const char *file, const char *name, int code,
                        const struct larder_error *why)
{
    bool repair = fsck->options->repair && code != -LARDER_UNSUPPORTED;
    int result = repair ? put_aside(fsck, "ref", file) : 0;
    if (result == 0)
        fsck_tell(fsck, LARDER_FSCK_BAD_REF, false, repair, name, "%s%s", why->msg,
                  repair ? "; put aside in state" : "");
    return result;
}

static int check_ref_name(struct fsck *fsck, const char *file, const char *name)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct json *document = NULL;
    const char *place = fsck->place;
    int result = ref_read(fsck->store, name, &document, &why);
    if (result == -LARDER_NOENT)
        return 0;
    fsck->report.refs++;
    if (result == 0) {
        struct larder_error *e = fsck->e;
        fsck->place = name;
        fsck->e = &why;
        result = ref_each_digest(document, check_kept, fsck, &why);
        if (result == 0)
            result = check_parts(fsck, name, json_get(document, "descriptor"));
        fsck->place = place;
        fsck->e = e;
    }
    json_free(document);
    if (is_damage(result))
        return tell_bad_ref(fsck, file, name, result, &why);
    if (result < 0 && fsck->e)
        *fsck->e = why;
    return result;
}

static int check_ref(void *arg, const char *file, unsigned char d_type)
{
    struct fsck *fsck = arg;
    struct buf name = BUF_INIT(4096), again = BUF_INIT(4096);
    struct stat st;
    int result = 0;
    (void)d_type;
    bool is_ours = filename_unescape(file, &name) && buf_failed(&name, NULL) == 0 && name.n > 0 &&
                   filename_escape(name.p, &again, NULL) == 0 && strcmp(again.p, file) == 0 &&
                   fstatat(fsck->dirfd, file, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
    fsck->inode = is_ours ? st.st_ino : 0;
    if (is_ours)
        result = check_ref_name(fsck, file, name.p);
    else
        fsck_tell_foreign(fsck, file, "a regular file with an escaped name");
    buf_done(&name);
    buf_done(&again);
    return result;
}

/* ---- records of updates ---- */

static int tell_record(struct fsck *fsck, const char *file, enum update_file what,
                       const struct larder_error *why)
{
    char object[OBJECT_BYTES];
    bool is_temporary = what == UPDATE_FILE_TEMPORARY;
    bool is_repaired = false;
    snprintf(object, sizeof(object), "%s/%s", fsck->place, file);
    if (fsck->options->repair && what != UPDATE_FILE_UNKNOWN) {
        int result = store_updates_probe->remove(fsck->dirfd, file, fsck->e);
        if (result < 0)
            return error_context(fsck->e, "%s", object);
        if (result == 0)
            return 0;
        is_repaired = true;
    }
    fsck_tell(
        fsck, is_temporary ? LARDER_FSCK_TEMPORARY : LARDER_FSCK_BAD_RECORD, is_temporary,
        is_repaired, object, "%s%s", is_temporary ? "left by a process that is gone" : why->msg,
        is_repaired && !is_temporary ? "; removed, the next check finds the update again" : "");
    return 0;
}

static int check_record(void *arg, const char *file, unsigned char d_type)
{
    struct fsck *fsck = arg;
    struct larder_error why = LARDER_ERROR_INIT;
    (void)d_type;
    enum update_file what = store_updates_probe->judge(fsck->dirfd, file, &why);
    if (what == UPDATE_FILE_GOOD)
        return 0;
    if (what == UPDATE_FILE_FOREIGN) {
        fsck_tell_foreign(fsck, file, "a record, named by 64 hex digits");
        return 0;
    }
    if (why.code != LARDER_NOMEM)
        return tell_record(fsck, file, what, &why);
    if (fsck->e)
        *fsck->e = why;
    return -LARDER_NOMEM;
}

static int fsck_updates(struct fsck *fsck)
{
    struct stat st;
    int root = -1;
    int result = store_place(fsck->store, STORE_ROOT, &root, fsck->e);
    if (result < 0)
        return result;
    /* Stores made by an older larder have none, and looking makes none. */
    if (fstatat(root, store_place_name(STORE_UPDATES), &st, AT_SYMLINK_NOFOLLOW) < 0 &&
        errno == ENOENT)
        return 0;
    return walk(fsck, STORE_UPDATES, store_place_name(STORE_UPDATES), check_record);
}

/* ---- index ---- */

static int remake_index(struct fsck *fsck, struct index *index)
{
    int result = index_remake(index, fsck->e);
    return result < 0 ? result : store_index_sync(fsck->store, index, fsck->e);
}

int fsck_index(struct fsck *fsck)
{
    CLEANUP(index_closep) struct index *index = NULL;
    struct larder_error why = LARDER_ERROR_INIT;
    struct stat before, after;
    int root = -1;
    int result = store_place(fsck->store, STORE_ROOT, &root, fsck->e);
    if (result < 0)
        return result;
    bool was_there = fstatat(root, "index.sqlite", &before, AT_SYMLINK_NOFOLLOW) == 0;
    result = store_index_open(fsck->store, &index, &why);
    if (result < 0) {
        fsck_tell(fsck, LARDER_FSCK_BAD_INDEX, true, false, "index.sqlite", "%s", why.msg);
        if (result != -LARDER_NOMEM && result != -LARDER_CANCELED)
            return 0;
        if (fsck->e)
            *fsck->e = why;
        return result;
    }
    if (was_there && fstatat(root, "index.sqlite", &after, AT_SYMLINK_NOFOLLOW) == 0 &&
        before.st_ino != after.st_ino)
        fsck_tell(fsck, LARDER_FSCK_BAD_INDEX, true, true, "index.sqlite",
                  "damaged or of another schema; made anew");
    else if (index_check(index, &why) < 0) {
        fsck_tell(fsck, LARDER_FSCK_BAD_INDEX, true, fsck->options->repair, "index.sqlite", "%s",
                  why.msg);
        if (fsck->options->repair)
            return remake_index(fsck, index);
    }
    return fsck->options->rebuild_index ? remake_index(fsck, index) : 0;
}

int fsck_files(struct fsck *fsck)
{
    uint64_t files = 0, bytes = 0;
    int result = walk(fsck, STORE_ROOT, "", check_root_name);
    if (result == 0)
        result = walk_parent(fsck, "blobs");
    if (result == 0)
        result = walk_parent(fsck, "memo");
    if (result == 0)
        result = walk(fsck, STORE_TMP, "tmp", check_tmp_name);
    if (result == 0)
        result = walk(fsck, STORE_QUARANTINE, "quarantine", check_quarantine_name);
    if (result == 0)
        result = temp_sweep_each(fsck->store, LARDER_GC_KEEP_PARTIAL_NS, !fsck->options->repair,
                                 tell_temporary, fsck, &files, &bytes, fsck->e);
    if (result == 0)
        result = walk(fsck, STORE_REFS, "refs", check_ref);
    if (result == 0)
        result = fsck_updates(fsck);
    return result;
}
