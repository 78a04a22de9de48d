/* SPDX-License-Identifier: Apache-2.0 */
#include "store/dir/quarantine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/text.h"
#include "store/dir/blob.h"
#include "store/dir/doc.h"

#define NOTE_VERSION 1
#define NOTE_SUFFIX  ".json"
/* Copies of one digest; nobody looks at more, and gc removes old ones. */
#define QUARANTINE_COPIES_MAX 100000

enum how { MOVE, LINK };

static int note_write(struct larder_store *store, const char *name,
                      const struct larder_digest *digest, const struct larder_digest *actual,
                      const char *reason, bool is_released, struct larder_error *e)
{
    char file[208];
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct buf out = BUF_INIT(QUARANTINE_NOTE_BYTES_MAX);
    CLEANUP(json_freep) struct json *doc = json_new_object();

    int r = json_set_i64(doc, "version", NOTE_VERSION);
    r |= json_set_string(doc, "digest", larder_digest_format(digest, text));
    if (actual && actual->alg != LARDER_DIGEST_NONE)
        r |= json_set_string(doc, "actual", larder_digest_format(actual, text));
    r |= doc_set_text(doc, "reason", reason);
    r |= json_set_i64(doc, "since_ns", clock_realtime_ns());
    if (is_released)
        r |= json_set_bool(doc, "released", true);
    r = r < 0 ? error_nomem(e) : json_dump(doc, &out, e);
    snprintf(file, sizeof file, "%.190s" NOTE_SUFFIX, name);
    if (r == 0)
        r = store_write_file(store, STORE_QUARANTINE, file, out.p, out.n, STORE_WRITE_DURABLE, 0,
                             e);
    buf_done(&out);
    return r;
}

/* Gives the blob a free name in quarantine. */
static int take_name(const struct larder_digest *digest, enum how how, int from, int to,
                     char name[192], struct larder_error *e)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    larder_digest_hex(digest, hex);
    for (int n = 0; n < QUARANTINE_COPIES_MAX; n++) {
        snprintf(name, 192, "%s-%s.%d", larder_digest_alg_name(digest->alg), hex, n);
        int r = how == LINK ? linkat(from, hex, to, name, 0)
                            : renameat2(from, hex, to, name, RENAME_NOREPLACE);
        if (r < 0 && how == MOVE && (errno == EINVAL || errno == ENOSYS)) {
            /* A file system without NOREPLACE: two steps, the new name first. */
            r = linkat(from, hex, to, name, 0);
            if (r == 0)
                r = unlinkat(from, hex, 0);
        }
        if (r == 0)
            return 0;
        if (errno != EEXIST)
            return error_errno(e, errno, "blob %s: quarantine", hex);
    }
    return error_set(e, LARDER_LIMIT, "blob %s: more than %d copies in quarantine", hex,
                     QUARANTINE_COPIES_MAX);
}

static int put_away(struct larder_store *store, const struct larder_digest *digest,
                    const struct larder_digest *actual, const char *reason, enum how how,
                    struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    char name[192];
    int from = -1, to = -1;

    int r = store_require_writable(store, e);
    if (r == 0)
        r = store_blob_dir(store, digest->alg, &from, e);
    if (r == 0)
        r = store_place(store, STORE_QUARANTINE, &to, e);
    if (r == 0)
        r = take_name(digest, how, from, to, name, e);
    if (r < 0)
        return r;
    /* The bytes are out of reach already; a full disk may keep us from saying why. */
    if (note_write(store, name, digest, actual, reason, false, &why) < 0)
        store_warn(store, "quarantine/%s: reason not recorded: %s", name, why.msg);
    if (how == MOVE)
        r = memo_remove(store, digest, e);
    if (r == 0)
        r = dir_sync(to, "quarantine", e);
    if (r == 0 && how == MOVE)
        r = dir_sync(from, "blobs", e);
    return r;
}

int quarantine_blob(struct larder_store *store, const struct larder_digest *digest,
                    const struct larder_digest *actual, const char *reason, struct larder_error *e)
{
    return put_away(store, digest, actual, reason, MOVE, e);
}

int quarantine_link(struct larder_store *store, const struct larder_digest *digest,
                    const char *reason, struct larder_error *e)
{
    return put_away(store, digest, NULL, reason, LINK, e);
}

/* "<alg>-<hex>.<n>" */
static bool name_parse(const char *name, struct larder_digest *ret)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    uint64_t n = 0;
    const char *dash = strchr(name, '-');
    const char *dot = strchr(name, '.');

    if (!dash || !dot || dot < dash || (size_t)(dot - dash) > sizeof hex ||
        !slice_parse_u64(slice_of(dot + 1), &n))
        return false;
    enum larder_digest_alg alg = larder_digest_alg_parse(name, (size_t)(dash - name));
    if (!larder_digest_is_identity(alg))
        return false;
    snprintf(hex, sizeof hex, "%.*s", (int)(dot - dash - 1), dash + 1);
    return blob_name_parse(alg, hex, ret);
}

int quarantine_note_parse(struct slice text, struct quarantine_item *ret, struct larder_error *e)
{
    struct larder_digest digest = {0}, actual = {0};
    CLEANUP(json_freep) struct json *doc = NULL;
    const char *s = NULL;
    const char *reason = NULL;
    int64_t since = 0, version = 0;

    if (json_parse(text, QUARANTINE_NOTE_BYTES_MAX, &doc, NULL) < 0)
        return error_set(e, LARDER_CORRUPT, "damaged note");
    if (!doc_get_i64(doc, "version", &version) || version != NOTE_VERSION ||
        !doc_get_string(doc, "digest", &s) ||
        larder_digest_parse(s, (size_t)-1, &digest, NULL) < 0 ||
        !doc_get_string(doc, "reason", &reason) || !doc_get_i64(doc, "since_ns", &since))
        return error_set(e, LARDER_CORRUPT, "damaged note");
    if (doc_get_string(doc, "actual", &s) && larder_digest_parse(s, (size_t)-1, &actual, NULL) < 0)
        return error_set(e, LARDER_CORRUPT, "damaged note: actual");
    char *copy = strdup(reason);
    if (!copy)
        return error_nomem(e);
    ret->digest = digest;
    ret->actual = actual;
    ret->since_ns = since;
    ret->is_released = json_get_bool(doc, "released", false);
    ret->reason = copy;
    return 0;
}

struct walk {
    int dirfd;
    int (*fn)(void *arg, const struct quarantine_item *item);
    void *arg;
    struct larder_error *e;
};

static int walk_name(void *arg, const char *name, unsigned char type)
{
    const struct walk *w = arg;
    struct quarantine_item item = {0};
    struct larder_digest digest;
    struct stat st;
    char file[208];
    (void)type;

    if (!name_parse(name, &digest) || strlen(name) >= sizeof item.name)
        return 0;
    if (fstatat(w->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : error_errno(w->e, errno, "quarantine/%s", name);
    struct buf text = BUF_INIT(QUARANTINE_NOTE_BYTES_MAX + 1);
    snprintf(file, sizeof file, "%.190s" NOTE_SUFFIX, name);
    int r = store_read_file(w->dirfd, file, QUARANTINE_NOTE_BYTES_MAX, &text, NULL, NULL);
    if (r == 0)
        r = quarantine_note_parse(buf_slice(&text), &item, NULL);
    buf_done(&text);
    /* The note is for people; without it the name and the inode tell what gc needs. */
    if (r < 0)
        item.since_ns = st.st_ctim.tv_sec * NS_PER_S + st.st_ctim.tv_nsec;
    item.digest = digest;
    snprintf(item.name, sizeof item.name, "%s", name);
    item.allocated_bytes = (uint64_t)st.st_blocks * 512;
    r = w->fn(w->arg, &item);
    free(item.reason);
    return r;
}

int quarantine_each(struct larder_store *store,
                    int (*fn)(void *arg, const struct quarantine_item *item), void *arg,
                    struct larder_error *e)
{
    struct walk w = {-1, fn, arg, e};
    int r = store_place(store, STORE_QUARANTINE, &w.dirfd, e);
    return r < 0 ? r : dir_each(w.dirfd, walk_name, &w, e);
}

int quarantine_remove(struct larder_store *store, const char *name, struct larder_error *e)
{
    struct larder_digest digest;
    char file[208];
    int dirfd = -1;

    if (!name_parse(name, &digest))
        return error_set(e, LARDER_INVAL, "quarantine/%.160s: not a name in quarantine", name);
    int r = store_require_writable(store, e);
    if (r == 0)
        r = store_place(store, STORE_QUARANTINE, &dirfd, e);
    if (r == 0)
        r = file_remove(dirfd, name, e);
    snprintf(file, sizeof file, "%.190s" NOTE_SUFFIX, name);
    return r < 0 ? r : file_remove(dirfd, file, e);
}

int quarantine_release(struct larder_store *store, const char *name, struct larder_error *e)
{
    struct quarantine_item item = {0};
    struct larder_digest digest;
    struct stat st;
    char file[208];
    int dirfd = -1;

    if (!name_parse(name, &digest))
        return error_set(e, LARDER_INVAL, "quarantine/%.160s: not a name in quarantine", name);
    int r = store_require_writable(store, e);
    if (r == 0)
        r = store_place(store, STORE_QUARANTINE, &dirfd, e);
    if (r < 0)
        return r;
    struct buf text = BUF_INIT(QUARANTINE_NOTE_BYTES_MAX + 1);
    snprintf(file, sizeof file, "%.190s" NOTE_SUFFIX, name);
    if (store_read_file(dirfd, file, QUARANTINE_NOTE_BYTES_MAX, &text, NULL, NULL) == 0)
        (void)quarantine_note_parse(buf_slice(&text), &item, NULL); /* lost: written anew */
    buf_done(&text);
    r = note_write(store, name, &digest, &item.actual, item.reason ? item.reason : "released", true,
                   e);
    free(item.reason);
    /* A gc may have removed the file meanwhile: no note stays without one. */
    if (r == 0 && fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
        r = file_remove(dirfd, file, e);
    return r;
}
