/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is a blob still what its name says? A verdict acts: bad bytes go out of reach in the same call.
 */
#include <string.h>

#include "base/error.h"
#include "store/dir/blob.h"
#include "store/dir/quarantine.h"
#include "store/upkeep/maintain.h"

/* A link or a directory in a blob's place: not ours, so nobody was given it and needs the path. */
static int put_stranger_away(struct larder_store *store, const struct larder_digest *digest,
                             const char *reason, bool *ret_moved, struct larder_error *e)
{
    CLEANUP_CLOSE int lock = -1;
    int r = store_lock(store, "gc", true, true, &lock, e);
    if (r == 0)
        r = quarantine_blob(store, digest, NULL, reason, e);
    if (r == 0)
        *ret_moved = true;
    return r;
}

/*
 * The bytes of digest are not what its name says (or, actual NONE, can't be read as a file): out
 * of reach with them. *e tells of the corruption on entry, and where the bytes are after.
 */
static int condemn(struct larder_store *store, const struct larder_digest *digest,
                   const struct larder_digest *actual, struct larder_error *e)
{
    struct larder_error found = *e;
    struct larder_error why = LARDER_ERROR_INIT;
    bool moved = false;

    if (store_is_read_only(store))
        return -LARDER_CORRUPT;
    int r = actual->alg == LARDER_DIGEST_NONE
                ? put_stranger_away(store, digest, found.msg, &moved, &why)
                : store_condemn(store, digest, actual, found.msg, store_users(store), &moved, &why);
    /* NOENT: another process took it away meanwhile. */
    if (r < 0 && r != -LARDER_NOENT) {
        error_set(e, LARDER_CORRUPT, "%s; not moved away: %s", found.msg, why.msg);
        return -LARDER_CORRUPT;
    }
    return error_set(e, LARDER_CORRUPT, "%s; %s", found.msg,
                     moved || r < 0 ? "moved to quarantine"
                                    : "marked invalid, because it may be in use");
}

/* Hashes the blob and acts on what is found. */
static int prove(struct larder_store *store, const struct larder_digest *digest,
                 struct larder_error *e)
{
    struct larder_error found = LARDER_ERROR_INIT;
    struct larder_digest actual = {0};

    int r = blob_hash(store, digest, true, &actual, &found);
    if (r == -LARDER_CORRUPT)
        r = condemn(store, digest, &actual, &found);
    if (r < 0 && e)
        *e = found;
    return r;
}

static int marked(const struct larder_digest *digest, const struct memo *memo,
                  struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    return error_set(e, LARDER_CORRUPT, "blob %s: marked invalid: %s",
                     larder_digest_format(digest, text), memo->invalid_reason);
}

int larder_blob_verify(struct larder_store *store, const struct larder_digest *digest,
                       enum larder_verify_depth depth, struct larder_error *e)
{
    enum blob_state state = BLOB_MISSING;
    struct memo memo = {0};

    int r = blob_check(store, digest, &state, NULL, &memo, e);
    if (r < 0)
        return r;
    switch (state) {
    case BLOB_MISSING:
        return blob_none(digest, e);
    case BLOB_MARKED:
        return marked(digest, &memo, e);
    case BLOB_GOOD:
        return depth == LARDER_VERIFY_DEEP ? prove(store, digest, e) : 0;
    case BLOB_SUSPECT:
    case BLOB_UNSURE:
        break;
    }
    return prove(store, digest, e);
}

int larder_blob_open(struct larder_store *store, const struct larder_digest *digest, int *ret_fd,
                     struct larder_error *e)
{
    enum blob_state state = BLOB_MISSING;
    CLEANUP_CLOSE int fd = -1;
    struct stat checked, opened;

    int r = blob_check(store, digest, &state, &checked, NULL, e);
    if (r < 0)
        return r;
    if (state == BLOB_MISSING || state == BLOB_MARKED)
        return blob_none(digest, e);
    if (state == BLOB_UNSURE) {
        r = prove(store, digest, e);
        if (r < 0)
            return r;
    }
    r = blob_fd(store, digest, &fd, &opened, e);
    if (r < 0)
        return r;
    /* Replaced in between: by a publisher, who put verified bytes there. */
    if (state != BLOB_UNSURE && opened.st_ino == checked.st_ino &&
        opened.st_size != checked.st_size) {
        char text[LARDER_DIGEST_TEXT_BYTES];
        return error_set(e, LARDER_CORRUPT, "blob %s: changes while it is opened",
                         larder_digest_format(digest, text));
    }
    memo_touch(store, digest);
    *ret_fd = TAKE_FD(fd);
    return 0;
}
