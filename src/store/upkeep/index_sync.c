/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reconciling the index with the directories (see index_sync.h).
 *
 *   blobs/<alg>   fingerprint as recorded: the same names. Else read, and each file stat'ed.
 *   memo/<alg>    each blob's memo is stat'ed always: a use moves its mtime and no directory.
 *                 Re-read when (inode, size, birth) differ: memos are replaced, never rewritten.
 *   refs/         fingerprint as recorded: the same refs. Else read, each file stat'ed, and those
 *                 whose fingerprint differs parsed.
 *
 * A fingerprint younger than RACY_NS when it was taken is recorded as none, so that it is looked at
 * again next time. First everything is compared without a lock; only when something differs, all
 * of it is compared again, and written, under the index lock: then no two processes can mix what
 * they saw at different moments, and the second of them finds nothing to do.
 */
#include "store/upkeep/index_sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/text.h"
#include "store/dir/blob.h"
#include "store/dir/memo.h"
#include "store/dir/ref.h"

#define INDEX_NAME "index.sqlite"
#define RACY_NS    (2 * NS_PER_S)
/* Blobs and refs one store may have in the index: a bound on memory, not a goal. */
#define RECORDS_MAX 50000000u

struct known_ref {
    char *name;
    struct index_print print;
    bool is_seen;
};

struct sync {
    struct larder_store *store;
    struct index *index;
    bool apply;        /* else: only find out whether anything differs */
    bool index_failed; /* the failure came from the index, not from the store */
    struct index_blob *known;
    size_t known_count, known_cap;
    struct index_blob *found;
    size_t found_count, found_cap;
    struct known_ref *refs;
    size_t refs_count, refs_cap;
    enum larder_digest_alg alg; /* being done */
    int blob_dirfd, memo_dirfd, refs_dirfd;
    struct larder_error *e;
};

/* Result of a step that only looks: something differs, the rest need not be looked at. */
#define DIFFERS 1

int64_t stat_time_ns(const struct timespec *ts)
{
    return (int64_t)ts->tv_sec * NS_PER_S + ts->tv_nsec;
}

static int64_t statx_time_ns(const struct statx_timestamp *ts)
{
    return (int64_t)ts->tv_sec * NS_PER_S + ts->tv_nsec;
}

static int of_index(struct sync *s, int result)
{
    if (result < 0 && result != -LARDER_NOMEM)
        s->index_failed = true;
    return result;
}

static int grow(void **array, size_t count, size_t *cap, size_t each, struct larder_error *e)
{
    if (count < *cap)
        return 0;
    if (count >= RECORDS_MAX)
        return error_set(e, LARDER_LIMIT, "index: more than %u records", RECORDS_MAX);
    size_t wanted = *cap ? *cap * 2 : 256;
    void *bigger = reallocarray(*array, wanted, each);
    if (!bigger)
        return error_nomem(e);
    *array = bigger;
    *cap = wanted;
    return 0;
}

/* Fingerprint of a directory to trust next time; none while it may still change unseen. */
static int dir_print(struct sync *s, int dirfd, struct index_print *ret)
{
    struct stat st;
    int64_t now = clock_realtime_ns(); /* before the stat: later changes are younger */
    if (fstat(dirfd, &st) < 0)
        return error_errno(s->e, errno, "store %s", larder_store_path(s->store));
    int64_t mtime = stat_time_ns(&st.st_mtim), ctime = stat_time_ns(&st.st_ctim);
    bool is_settled = now - mtime > RACY_NS && now - ctime > RACY_NS;
    *ret = (struct index_print){0, 0, 0, 0};
    if (is_settled)
        *ret = (struct index_print){st.st_ino, 0, mtime, ctime};
    return 0;
}

/* Whether what the index knows of the directory still holds; *ret_print is what to record. */
static int dir_is_known(struct sync *s, int dir, int dirfd, bool *ret,
                        struct index_print *ret_print)
{
    struct index_print recorded;
    int result = dir_print(s, dirfd, ret_print);
    if (result == 0)
        result = of_index(s, index_dir_get(s->index, dir, &recorded, s->e));
    if (result < 0)
        return result;
    *ret = !index_print_is_none(&recorded) && index_print_equal(&recorded, ret_print);
    if (!*ret && !s->apply && !index_print_equal(&recorded, ret_print))
        return DIFFERS;
    return 0;
}

/* ---- blobs ---- */

static int keep_known(void *arg, const struct index_blob *blob, const char *refs)
{
    struct sync *s = arg;
    (void)refs;
    if (blob->digest.alg != s->alg)
        return 0;
    int result = grow((void **)&s->known, s->known_count, &s->known_cap, sizeof(*s->known), s->e);
    if (result == 0)
        s->known[s->known_count++] = *blob;
    return result;
}

static int find_blob(void *arg, const char *name, unsigned char d_type)
{
    struct sync *s = arg;
    struct index_blob blob;
    struct stat st;
    (void)d_type;
    memset(&blob, 0, sizeof(blob));
    if (!blob_name_parse(s->alg, name, &blob.digest) ||
        fstatat(s->blob_dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return 0; /* fsck tells about what is not ours; what went meanwhile is not there */
    blob.size_bytes = (uint64_t)st.st_size;
    blob.allocated_bytes = (uint64_t)st.st_blocks * 512;
    blob.inode = st.st_ino;
    blob.added_ns = stat_time_ns(&st.st_mtim);
    blob.used_ns = stat_time_ns(&st.st_ctim);
    int result = grow((void **)&s->found, s->found_count, &s->found_cap, sizeof(*s->found), s->e);
    if (result == 0)
        s->found[s->found_count++] = blob;
    return result;
}

static int by_digest(const void *a, const void *b)
{
    const struct index_blob *x = a, *y = b;
    return memcmp(x->digest.bytes, y->digest.bytes, sizeof(x->digest.bytes));
}

/* Fills in what the memo says, from `old` when its file is the same. Returns 0 or an error. */
static int look_at_memo(struct sync *s, struct index_blob *blob, const struct index_blob *old)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    struct statx stx;
    struct memo memo;
    int64_t now = clock_realtime_ns();
    int rc = statx(s->memo_dirfd, larder_digest_hex(&blob->digest, hex), AT_SYMLINK_NOFOLLOW,
                   STATX_BASIC_STATS | STATX_BTIME, &stx);
    if (rc < 0 && errno != ENOENT)
        return error_errno(s->e, errno, "memo of %s", hex);
    blob->verified_ns = 0;
    blob->is_invalid = false;
    blob->memo = (struct index_print){0, 0, 0, 0};
    if (rc < 0)
        return 0;
    /* Without a birth time: ctime, which a use moves too, so the memo is read again after it. */
    int64_t born = statx_time_ns(stx.stx_mask & STATX_BTIME ? &stx.stx_btime : &stx.stx_ctime);
    struct index_print print = {stx.stx_ino, stx.stx_size, born, 0};
    if (old && !index_print_is_none(&old->memo) && index_print_equal(&old->memo, &print)) {
        blob->added_ns = old->added_ns;
        blob->verified_ns = old->verified_ns;
        blob->is_invalid = old->is_invalid;
        blob->memo = print;
    } else {
        int result = memo_read(s->store, &blob->digest, &memo, NULL, s->e);
        if (result == -LARDER_NOENT)
            return 0; /* damaged counts as none */
        if (result < 0)
            return result;
        blob->added_ns = memo.added_ns;
        blob->verified_ns = memo.verified_ns;
        blob->is_invalid = memo.is_invalid;
        if (now - born > RACY_NS)
            blob->memo = print;
    }
    blob->used_ns = statx_time_ns(&stx.stx_mtime);
    return 0;
}

static bool is_same_record(const struct index_blob *a, const struct index_blob *b)
{
    return a->size_bytes == b->size_bytes && a->allocated_bytes == b->allocated_bytes &&
           a->added_ns == b->added_ns && a->verified_ns == b->verified_ns &&
           a->is_invalid == b->is_invalid && a->inode == b->inode &&
           index_print_equal(&a->memo, &b->memo);
}

/* One blob that is there. found: from the directory; NULL when that is unchanged. */
static int sync_blob(struct sync *s, const struct index_blob *found, const struct index_blob *old)
{
    struct index_blob blob = found ? *found : *old;
    int result = look_at_memo(s, &blob, old);
    if (result < 0)
        return result;
    bool is_same = old && is_same_record(&blob, old);
    if (is_same && blob.used_ns == old->used_ns)
        return 0;
    if (!s->apply)
        return DIFFERS;
    if (is_same)
        return of_index(s, index_blob_set_used(s->index, &blob.digest, blob.used_ns, s->e));
    return of_index(s, index_blob_put(s->index, &blob, s->e));
}

/* Walks what is known and what was found, both by digest, side by side. */
static int merge_blobs(struct sync *s)
{
    size_t k = 0, f = 0;
    int result = 0;
    while (result == 0 && (k < s->known_count || f < s->found_count)) {
        int order = k >= s->known_count   ? 1
                    : f >= s->found_count ? -1
                                          : by_digest(&s->known[k], &s->found[f]);
        if (order < 0) {
            result = s->apply ? of_index(s, index_blob_remove(s->index, &s->known[k].digest, s->e))
                              : DIFFERS;
            k++;
        } else {
            result = sync_blob(s, &s->found[f], order == 0 ? &s->known[k] : NULL);
            f++;
            k += order == 0;
        }
    }
    return result;
}

static int sync_blobs(struct sync *s, enum larder_digest_alg alg)
{
    struct index_print print;
    bool is_known = false;
    int dir = alg == LARDER_DIGEST_SHA512 ? STORE_BLOBS_SHA512 : STORE_BLOBS_SHA256;
    s->alg = alg;
    s->known_count = s->found_count = 0;
    int result = store_blob_dir(s->store, alg, &s->blob_dirfd, s->e);
    if (result == 0)
        result = store_memo_dir(s->store, alg, &s->memo_dirfd, s->e);
    if (result == -LARDER_NOENT && store_is_read_only(s->store))
        return 0; /* nobody can make it: a store without such blobs, in an index in memory */
    if (result == 0)
        result = dir_is_known(s, dir, s->blob_dirfd, &is_known, &print);
    if (result == 0)
        result =
            of_index(s, index_blob_each(s->index, INDEX_BY_DIGEST, false, keep_known, s, s->e));
    if (result != 0)
        return result;
    if (is_known) {
        for (size_t i = 0; result == 0 && i < s->known_count; i++)
            result = sync_blob(s, NULL, &s->known[i]);
        return result;
    }
    result = dir_each(s->blob_dirfd, find_blob, s, s->e);
    if (result == 0 && s->found_count)
        qsort(s->found, s->found_count, sizeof(*s->found), by_digest);
    if (result == 0)
        result = merge_blobs(s);
    if (result == 0 && s->apply)
        result = of_index(s, index_dir_set(s->index, dir, &print, s->e));
    return result;
}

/* ---- refs ---- */

static int keep_known_ref(void *arg, const char *name, const struct index_print *print, bool is_bad)
{
    struct sync *s = arg;
    (void)is_bad;
    int result = grow((void **)&s->refs, s->refs_count, &s->refs_cap, sizeof(*s->refs), s->e);
    if (result < 0)
        return result;
    struct known_ref *ref = &s->refs[s->refs_count];
    *ref = (struct known_ref){strdup(name), *print, false};
    if (!ref->name)
        return error_nomem(s->e);
    s->refs_count++;
    return 0;
}

struct digest_list {
    struct larder_digest *digests;
    size_t count, cap;
    struct larder_error *e;
};

static int add_digest(void *arg, const struct larder_digest *digest)
{
    struct digest_list *list = arg;
    int result =
        grow((void **)&list->digests, list->count, &list->cap, sizeof(*list->digests), list->e);
    if (result == 0)
        list->digests[list->count++] = *digest;
    return result;
}

static int read_ref(struct sync *s, const char *name, const struct index_print *print)
{
    struct json *document = NULL;
    struct digest_list list = {NULL, 0, 0, s->e};
    struct larder_error why = LARDER_ERROR_INIT;
    int result = ref_read(s->store, name, &document, &why);
    bool is_bad = result == -LARDER_CORRUPT || result == -LARDER_UNSUPPORTED ||
                  result == -LARDER_INVAL || result == -LARDER_LIMIT;
    if (result == -LARDER_NOENT)
        return 0; /* went meanwhile: the directory's fingerprint says so next time */
    if (result < 0 && !is_bad) {
        if (s->e)
            *s->e = why;
        return result;
    }
    result = is_bad ? 0 : ref_each_digest(document, add_digest, &list, s->e);
    if (result == -LARDER_CORRUPT || result == -LARDER_INVAL) {
        is_bad = true;
        list.count = 0;
        result = 0;
    }
    json_free(document);
    if (result == 0)
        result = of_index(
            s, index_ref_put(s->index, name, print, is_bad, list.digests, list.count, s->e));
    free(list.digests);
    return result;
}

static struct known_ref *find_known_ref(struct sync *s, const char *name)
{
    size_t low = 0, high = s->refs_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, s->refs[middle].name);
        if (order == 0)
            return &s->refs[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static int sync_ref(void *arg, const char *file, unsigned char d_type)
{
    struct sync *s = arg;
    struct buf name = BUF_INIT(4096);
    struct stat st;
    int result = 0;
    (void)d_type;
    int64_t now = clock_realtime_ns();
    if (file[0] == '.' || !filename_unescape(file, &name) || buf_failed(&name, NULL) < 0 ||
        fstatat(s->refs_dirfd, file, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        goto out;
    struct index_print print = {st.st_ino, (uint64_t)st.st_size, stat_time_ns(&st.st_mtim),
                                stat_time_ns(&st.st_ctim)};
    struct known_ref *known = find_known_ref(s, name.p);
    if (known) {
        known->is_seen = true;
        if (index_print_equal(&known->print, &print))
            goto out;
    }
    if (now - print.ctime_ns <= RACY_NS)
        print = (struct index_print){0, 0, 0, 0};
    result = s->apply ? read_ref(s, name.p, &print) : DIFFERS;
out:
    buf_done(&name);
    return result;
}

static int sync_refs(struct sync *s)
{
    struct index_print print;
    bool is_known = false;
    int result = store_place(s->store, STORE_REFS, &s->refs_dirfd, s->e);
    if (result == -LARDER_NOENT && store_is_read_only(s->store))
        return 0;
    if (result == 0)
        result = dir_is_known(s, STORE_REFS, s->refs_dirfd, &is_known, &print);
    if (result != 0 || is_known)
        return result;
    result = of_index(s, index_ref_each(s->index, keep_known_ref, s, s->e));
    if (result == 0)
        result = dir_each(s->refs_dirfd, sync_ref, s, s->e);
    for (size_t i = 0; result == 0 && i < s->refs_count; i++) {
        if (s->refs[i].is_seen)
            continue;
        result =
            s->apply ? of_index(s, index_ref_remove(s->index, s->refs[i].name, s->e)) : DIFFERS;
    }
    if (result == 0 && s->apply)
        result = of_index(s, index_dir_set(s->index, STORE_REFS, &print, s->e));
    return result;
}

/* ---- all ---- */

static int compare_all(struct sync *s)
{
    int result = sync_blobs(s, LARDER_DIGEST_SHA256);
    if (result == 0)
        result = sync_blobs(s, LARDER_DIGEST_SHA512);
    if (result == 0)
        result = sync_refs(s);
    for (size_t i = 0; i < s->refs_count; i++)
        free(s->refs[i].name);
    s->refs_count = 0;
    return result;
}

static int sync_once(struct sync *s)
{
    int result = DIFFERS;
    if (!index_is_memory(s->index)) {
        s->apply = false;
        result = of_index(s, index_read_begin(s->index, s->e));
        if (result == 0) {
            result = compare_all(s);
            index_read_end(s->index);
        }
    }
    if (result != DIFFERS)
        return result;
    s->apply = true;
    result = of_index(s, index_begin(s->index, s->e));
    if (result < 0)
        return result;
    result = compare_all(s);
    if (result == 0)
        return of_index(s, index_commit(s->index, s->e));
    index_rollback(s->index);
    return result;
}

static int sync_run(struct larder_store *store, struct index *index, bool *ret_index_failed,
                    struct larder_error *e)
{
    struct sync s;
    memset(&s, 0, sizeof(s));
    s.store = store;
    s.index = index;
    s.e = e;
    int result = sync_once(&s);
    free(s.known);
    free(s.found);
    free(s.refs);
    *ret_index_failed = s.index_failed;
    return result;
}

int store_index_sync(struct larder_store *store, struct index *index, struct larder_error *e)
{
    bool index_failed = false;
    return sync_run(store, index, &index_failed, e);
}

static int take_index_lock(void *arg, bool exclusive, bool wait, int *ret_fd,
                           struct larder_error *e)
{
    return store_lock(arg, "index", exclusive, wait, ret_fd, e);
}

int store_index_open(struct larder_store *store, struct index **ret, struct larder_error *e)
{
    CLEANUP_FREE char *path = NULL;
    struct index_options options = {-1, NULL, INDEX_NAME, take_index_lock, store};
    int result = store_require_writable(store, e);
    if (result == 0)
        result = store_place(store, STORE_ROOT, &options.dirfd, e);
    if (result < 0)
        return result;
    if (asprintf(&path, "%s/%s", larder_store_path(store), INDEX_NAME) < 0) {
        path = NULL;
        return error_nomem(e);
    }
    options.path = path;
    return index_open(&options, ret, e);
}

/* The index on disk, up to date. *ret_go_on: it failed us, an index in memory may do. */
static int disk_index(struct larder_store *store, struct index **ret, bool *ret_go_on,
                      struct larder_error *e)
{
    CLEANUP(index_closep) struct index *index = NULL;
    bool index_failed = false;
    int result = store_index_open(store, &index, e);
    if (result < 0) {
        *ret_go_on = result != -LARDER_NOMEM && result != -LARDER_CANCELED;
        return result;
    }
    result = sync_run(store, index, &index_failed, e);
    if (index_failed && (result == -LARDER_CORRUPT || result == -LARDER_IO)) {
        store_note(store, "index of %s is damaged, making a new one", larder_store_path(store));
        result = index_remake(index, e);
        *ret_go_on = result < 0;
        if (result == 0)
            result = sync_run(store, index, &index_failed, e);
    }
    if (result < 0) {
        *ret_go_on = *ret_go_on || (index_failed && result != -LARDER_CANCELED);
        return result;
    }
    *ret = TAKE_PTR(index);
    return 0;
}

int store_index(struct larder_store *store, struct index **ret, struct larder_error *e)
{
    bool go_on = false;
    struct larder_error why = LARDER_ERROR_INIT;
    int result = store_is_read_only(store) ? -LARDER_DENIED : disk_index(store, ret, &go_on, &why);
    if (result == 0)
        return 0;
    if (!go_on && !store_is_read_only(store)) {
        if (e)
            *e = why;
        return result;
    }
    if (why.code != LARDER_OK && why.code != LARDER_DENIED)
        store_note(store, "%s; going on without it", why.msg);
    CLEANUP(index_closep) struct index *index = NULL;
    result = index_open_memory(&index, e);
    if (result == 0)
        result = store_index_sync(store, index, e);
    if (result < 0)
        return result;
    *ret = TAKE_PTR(index);
    return 0;
}
