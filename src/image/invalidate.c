/* SPDX-License-Identifier: Apache-2.0 */
/*
 * larder_image_invalidate: the manual trigger. The entry is marked first, so that from then on
 * every get fetches; then the bytes are moved out of reach, and deleted at once when nobody uses
 * them, else by a later gc. Running users keep what they have open.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "image/judge.h"
#include "image/service.h"
#include "image/users.h"
#include "store/dir/blob.h"
#include "store/dir/quarantine.h"
#include "store/dir/ref.h"
#include "store/upkeep/maintain.h"

struct invalidate_run {
    struct larder_store *store;
    const struct larder_image_invalidate_options *options;
    struct larder_digest digest; /* wanted by digest; NONE: by name or condition */
    int64_t now_ns;
    int count;
    struct larder_error first; /* of entries passed over */
    struct larder_error *e;
};

/* ---- the bytes ---- */

struct find_item {
    const struct larder_digest *digest;
    int64_t since_ns;
    char name[sizeof(((struct quarantine_item *)0)->name)];
};

static int find_quarantined(void *arg, const struct quarantine_item *item)
{
    struct find_item *find = arg;
    if (larder_digest_equal(&item->digest, find->digest) && item->since_ns >= find->since_ns) {
        find->since_ns = item->since_ns;
        memcpy(find->name, item->name, sizeof(find->name));
    }
    return 0;
}

/* Deletes the newest quarantined bytes of digest: now, or by the gc that finds them free. */
static int delete_if_free(struct invalidate_run *run, const struct larder_digest *digest,
                          bool *ret_is_deferred)
{
    struct find_item find = {.digest = digest, .name = ""};
    unsigned flags = 0;
    int dirfd = -1;
    int r = quarantine_each(run->store, find_quarantined, &find, run->e);
    if (r == 0)
        r = store_place(run->store, STORE_QUARANTINE, &dirfd, run->e);
    if (r < 0 || !find.name[0])
        return r;
    CLEANUP_CLOSE int fd = openat(dirfd, find.name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? 0 : error_errno(run->e, errno, "quarantine %s", find.name);
    r = image_users_of_fd(fd, &flags, NULL, run->e);
    if (r < 0)
        return r;
    *ret_is_deferred = flags != 0;
    return flags ? quarantine_release(run->store, find.name, run->e)
                 : quarantine_remove(run->store, find.name, run->e);
}

/* Whoever needs the path: its bytes go. */
static int force_away(struct invalidate_run *run, const struct larder_digest *digest,
                      const struct larder_digest *actual, const char *why)
{
    CLEANUP_CLOSE int lock = -1;
    int r = store_lock(run->store, "gc", true, true, &lock, run->e);
    return r < 0 ? r : quarantine_blob(run->store, digest, actual, why, run->e);
}

static int condemn_bytes(struct invalidate_run *run, const struct larder_digest *digest,
                         const char *why, bool is_evidence, bool *ret_is_deferred)
{
    struct larder_digest unknown = {0};
    bool was_moved = run->options->force;
    int r = run->options->force ? force_away(run, digest, &unknown, why)
                                : store_condemn(run->store, digest, &unknown, why,
                                                store_users(run->store), &was_moved, run->e);
    if (r == -LARDER_NOENT) {
        error_clear(run->e);
        return 0;
    }
    if (r < 0)
        return r;
    *ret_is_deferred = !was_moved;
    return was_moved && !is_evidence ? delete_if_free(run, digest, ret_is_deferred) : 0;
}

/* ---- one entry ---- */

/* Why this entry is to be invalidated, NULL when it is not. */
static int decide(struct invalidate_run *run, struct image_entry *entry, struct buf *why,
                  bool *ret_is_due, bool *ret_is_corrupt)
{
    const struct larder_image_invalidate_options *options = run->options;
    enum larder_verdict verdict = LARDER_VERDICT_UNKNOWN;
    struct larder_digest actual = {0};
    *ret_is_due = *ret_is_corrupt = false;
    if (entry->digest.alg == LARDER_DIGEST_NONE)
        return 0;
    if (run->digest.alg != LARDER_DIGEST_NONE) {
        *ret_is_due = larder_digest_equal(&entry->digest, &run->digest);
        buf_puts(why, "invalidated by digest");
        return 0;
    }
    if (options->name_or_digest) {
        *ret_is_due = true;
        buf_puts(why, "invalidated by name");
        return 0;
    }
    if (entry->is_invalidated) /* an earlier run did it */
        return 0;
    if (options->older_than_ns > 0 && entry->fetched_ns < run->now_ns - options->older_than_ns) {
        *ret_is_due = true;
        buf_puts(why, "older than asked for");
        return 0;
    }
    if (!options->mismatched)
        return 0;
    int r = image_judge_local(run->store, entry, false, &verdict, &actual, why, run->e);
    if (r == 0 && verdict == LARDER_VERDICT_CORRUPT) {
        *ret_is_due = *ret_is_corrupt = true;
        return 0;
    }
    if (r < 0 || verdict != LARDER_VERDICT_VALID)
        return r;
    CLEANUP(http_client_freep) struct http_client *client = NULL;
    struct image_published published = {0};
    struct larder_error trouble = LARDER_ERROR_INIT;
    r = image_http_client(run->store, entry, &client, run->e);
    if (r == 0 &&
        image_judge_fresh(run->store, client, entry, &verdict, &published, why, &trouble) < 0) {
        store_warn(run->store, "image %s: freshness unknown, kept: %s", entry->name, trouble.msg);
        verdict = LARDER_VERDICT_VALID;
    }
    image_published_done(&published);
    *ret_is_due = verdict == LARDER_VERDICT_OUTDATED;
    return r;
}

static int invalidate_entry(struct invalidate_run *run, const char *name)
{
    CLEANUP_ENTRY struct image_entry entry;
    CLEANUP_CLOSE int lock = -1;
    struct buf why = BUF_INIT(2048);
    char lock_name[64];
    bool is_due = false, is_corrupt = false, is_deferred = false;
    image_entry_init(&entry);
    store_lock_name("entry", name, lock_name);
    int r =
        run->options->dry_run ? 0 : store_lock(run->store, lock_name, true, true, &lock, run->e);
    if (r == 0)
        r = image_entry_read(run->store, name, &entry, run->e);
    if (r == 0)
        r = decide(run, &entry, &why, &is_due, &is_corrupt);
    if (r < 0 || !is_due)
        goto out;
    if (!run->options->dry_run) {
        entry.is_invalidated = true;
        free(entry.invalidated_why);
        entry.invalidated_why = strdup(why.p ? why.p : "");
        r = image_entry_write(run->store, &entry, run->e);
        if (r == 0)
            r = condemn_bytes(run, &entry.digest, why.p ? why.p : "invalidated", is_corrupt,
                              &is_deferred);
        if (r < 0)
            goto out;
    }
    run->count++;
    if (run->options->invalidated)
        run->options->invalidated(run->options->arg, name, &entry.digest, why.p ? why.p : "",
                                  is_deferred);
out:
    buf_done(&why);
    return r;
}

/* One damaged or vanished entry does not keep the others: the first failure is told at the end. */
static int each_entry(void *arg, const char *name)
{
    struct invalidate_run *run = arg;
    int r = invalidate_entry(run, name);
    if (r == 0 || r == -LARDER_CANCELED || r == -LARDER_NOMEM)
        return r;
    if (r != -LARDER_NOENT && run->first.code == LARDER_OK)
        run->first = *run->e;
    error_clear(run->e);
    return 0;
}

/* A digest that no entry names: the blob itself. */
static int invalidate_bare_blob(struct invalidate_run *run)
{
    enum blob_state state = BLOB_MISSING;
    bool is_deferred = false;
    char text[LARDER_DIGEST_TEXT_BYTES];
    larder_digest_format(&run->digest, text);
    int r = blob_check(run->store, &run->digest, &state, NULL, NULL, run->e);
    if (r < 0)
        return r;
    if (state == BLOB_MISSING)
        return error_set(run->e, LARDER_NOENT, "blob %s: not in the store", text);
    if (!run->options->dry_run)
        r = condemn_bytes(run, &run->digest, "invalidated by digest", false, &is_deferred);
    if (r < 0)
        return r;
    run->count++;
    if (run->options->invalidated)
        run->options->invalidated(run->options->arg, text, &run->digest, "invalidated by digest",
                                  is_deferred);
    return 0;
}

int larder_image_invalidate(struct larder_store *store,
                            const struct larder_image_invalidate_options *options,
                            struct larder_error *e)
{
    struct larder_error local = LARDER_ERROR_INIT;
    struct invalidate_run run = {
        .store = store, .options = options, .now_ns = clock_realtime_ns(), .e = e ? e : &local};
    int r = options->dry_run ? 0 : store_require_writable(store, run.e);
    if (r < 0)
        return r;
    const char *wanted = options->name_or_digest;
    if (!wanted && !options->mismatched && options->older_than_ns <= 0)
        return error_set(e, LARDER_INVAL,
                         "invalidate: nothing named: a name, a digest, mismatched or an age");
    bool is_digest = wanted && strchr(wanted, ':') &&
                     larder_digest_parse(wanted, (size_t)-1, &run.digest, NULL) == 0;
    if (wanted && !is_digest) {
        CLEANUP_FREE char *name = NULL;
        r = image_resolve_existing(store, wanted, &name, run.e);
        if (r == 0)
            r = invalidate_entry(&run, name);
    } else {
        r = larder_image_each(store, each_entry, &run, run.e);
        if (r == 0 && is_digest && run.count == 0)
            r = invalidate_bare_blob(&run);
        if (r == 0 && run.first.code != LARDER_OK) {
            *run.e = run.first;
            r = -(int)run.first.code;
        }
    }
    return r < 0 ? r : run.count;
}
