/* SPDX-License-Identifier: Apache-2.0 */
/*
 * larder_image_get: the main job. The fast path reads the entry, compares the blob's stat with its
 * memo and returns; nothing is locked but locks/gc (shared), nothing is read but small files.
 * Everything else happens under the entry's lock, where what the fast path saw is looked at again:
 * of sixteen processes that miss at once, one fetches and fifteen find a hit here.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "base/text.h"
#include "image/entry.h"
#include "image/fetch.h"
#include "image/judge.h"
#include "image/service.h"
#include "image/users.h"
#include "store/dir/blob.h"
#include "store/dir/ref.h"
#include "store/upkeep/condemn.h"

struct get_run {
    struct larder_store *store;
    const struct larder_image_get_options *options;
    int64_t started_ns;
    struct image_entry entry;
    enum larder_verdict local;   /* L against R */
    enum larder_verdict fresh;   /* R against U; UNKNOWN: not asked */
    struct larder_error trouble; /* why upstream gave no usable answer; code OK: it did */
    enum larder_image_how how;
    struct larder_digest previous; /* what the entry pointed to before an update */
};

/* The negative cache: upstream contradicted itself a moment ago and is given time. */
static bool is_contradicted(const struct image_entry *entry, int64_t now_ns)
{
    return entry->failed_ns && entry->failed_code == LARDER_MISMATCH &&
           now_ns - entry->failed_ns < IMAGE_NEGATIVE_NS && now_ns >= entry->failed_ns;
}

bool image_entry_is_due(const struct image_entry *entry, int64_t now_ns)
{
    if (entry->refresh_ns == LARDER_REFRESH_NEVER || is_contradicted(entry, now_ns))
        return false;
    if (entry->changed_ns || !entry->checked_ns || entry->checked_ns > now_ns)
        return true;
    return now_ns - entry->checked_ns >= entry->refresh_ns;
}

static bool wants_upstream(const struct get_run *run)
{
    if (run->options->offline)
        return false;
    int64_t now_ns = clock_realtime_ns();
    /* Somebody else asked while we waited for the lock. (An answer from the future, before the
     * clock was set back, is none of these.) */
    if (run->entry.checked_ns >= run->started_ns && run->entry.checked_ns <= now_ns &&
        !run->entry.changed_ns)
        return false;
    return run->options->refresh || image_entry_is_due(&run->entry, now_ns);
}

static int fill_result(const struct get_run *run, struct larder_image_result *ret,
                       struct larder_error *e)
{
    struct larder_image_result result = {0};
    char path[4096];
    int r = larder_blob_path(run->store, &run->entry.digest, path, sizeof(path), e);
    if (r < 0)
        return r;
    result.digest = run->entry.digest;
    result.size_bytes = run->entry.size_bytes;
    result.how = run->how;
    result.verdict = run->fresh == LARDER_VERDICT_UNKNOWN && run->trouble.code != LARDER_OK
                         ? LARDER_VERDICT_UNKNOWN
                         : (run->fresh == LARDER_VERDICT_OUTDATED ? LARDER_VERDICT_OUTDATED
                                                                  : LARDER_VERDICT_VALID);
    result.name = strdup(run->entry.name);
    result.path = strdup(path);
    result.format = strdup(format_name(run->entry.found_format));
    bool is_complete = result.name && result.path && result.format;
    if (is_complete && run->how == LARDER_IMAGE_UPDATED &&
        run->previous.alg != LARDER_DIGEST_NONE) {
        r = larder_blob_path(run->store, &run->previous, path, sizeof(path), e);
        result.previous_path = r == 0 ? strdup(path) : NULL;
        is_complete = result.previous_path != NULL;
    }
    if (!is_complete) {
        larder_image_result_done(&result);
        return r < 0 ? r : error_nomem(e);
    }
    *ret = result;
    return 0;
}

/*
 * A usable copy by its memo: 1 when it is there (its use is recorded under locks/gc, so gc sees it
 * or has removed it before), 0 when more has to be done.
 */
static int try_hit(struct get_run *run, struct larder_error *e)
{
    if (run->entry.digest.alg == LARDER_DIGEST_NONE || run->entry.is_invalidated)
        return 0;
    CLEANUP_CLOSE int lock = -1;
    enum blob_state state = BLOB_MISSING;
    struct stat st;
    if (!store_is_read_only(run->store)) {
        int r = store_lock(run->store, "gc", false, true, &lock, e);
        if (r < 0)
            return r;
    }
    int r = blob_check(run->store, &run->entry.digest, &state, &st, NULL, e);
    if (r < 0)
        return r;
    if (state != BLOB_GOOD || (uint64_t)st.st_size != run->entry.size_bytes)
        return 0;
    memo_touch(run->store, &run->entry.digest);
    run->local = LARDER_VERDICT_VALID;
    return 1;
}

/*
 * Bytes that are wrong go away before anything else: nobody may be handed them meanwhile. found is
 * the file that was judged: another entry of the same blob may have brought good bytes since, then
 * *ret_how is CONDEMN_GONE and nothing was done.
 */
static int condemn_local(struct get_run *run, const struct larder_digest *actual,
                         const struct stat *found, const char *why, enum condemn_result *ret_how,
                         struct larder_error *e)
{
    char want[LARDER_DIGEST_TEXT_BYTES];
    struct buf users = BUF_INIT(8192);
    image_users_say(run->store, &run->entry.digest, &users); /* by its name, while it has it */
    int r = condemn_blob(run->store, &run->entry.digest, actual, why, store_users(run->store),
                         found, ret_how, e);
    if (r < 0)
        error_context(e, "image %s: quarantine", run->entry.name);
    else if (*ret_how != CONDEMN_GONE)
        store_warn(run->store, "image %s: corrupt: %s, expected %s; %s%s", run->entry.name, why,
                   larder_digest_format(&run->entry.digest, want),
                   *ret_how == CONDEMN_MOVED
                       ? "moved to quarantine"
                       : "marked, and left where it is: an overlay needs its path",
                   users.p ? users.p : "");
    buf_done(&users);
    return r;
}

/* L against R, and what follows from corrupt bytes. */
static int judge_bytes(struct get_run *run, struct buf *why, struct larder_error *e)
{
    enum condemn_result how = CONDEMN_GONE;
    for (int attempt = 0; attempt < 3 && how == CONDEMN_GONE; attempt++) {
        struct larder_digest actual = {0};
        enum blob_state state;
        struct stat found = {0};
        int r = 0;
        buf_reset(why);
        if (run->entry.digest.alg != LARDER_DIGEST_NONE)
            r = blob_check(run->store, &run->entry.digest, &state, &found, NULL, e);
        if (r == 0)
            r = image_judge_local(run->store, &run->entry, false, &run->local, &actual, why, e);
        if (r < 0 || run->local != LARDER_VERDICT_CORRUPT)
            return r;
        r = condemn_local(run, &actual, &found, why->p ? why->p : "wrong bytes", &how, e);
        if (r < 0)
            return r;
    }
    return 0;
}

static int judge(struct get_run *run, struct http_client *client, struct image_published *published,
                 struct larder_error *e)
{
    struct buf why = BUF_INIT(1024);
    int r = judge_bytes(run, &why, e);
    if (r < 0)
        goto out;
    bool is_usable = run->local == LARDER_VERDICT_VALID && !run->entry.is_invalidated;
    if (is_usable && !wants_upstream(run))
        goto out;
    if (run->options->offline) {
        error_set(&run->trouble, LARDER_UNREACHABLE,
                  "image %s: no usable copy here, and offline was asked for", run->entry.name);
        goto out;
    }
    buf_reset(&why);
    if (image_judge_fresh(run->store, client, &run->entry, &run->fresh, published, &why,
                          &run->trouble) < 0) {
        run->fresh = LARDER_VERDICT_UNKNOWN;
        goto out;
    }
    error_clear(&run->trouble);
    if (run->fresh == LARDER_VERDICT_UNKNOWN && is_usable) {
        error_set(&run->trouble, LARDER_GONE, "image %s: %s", run->entry.name, why.p ? why.p : "");
        error_hint(&run->trouble, "if it is gone for good, remove the entry and add it again");
    }
    if (run->fresh == LARDER_VERDICT_OUTDATED && run->entry.digest.alg != LARDER_DIGEST_NONE &&
        why.n > 0)
        store_note(run->store, "image %s: outdated: %s", run->entry.name, why.p);
out:
    buf_done(&why);
    return r;
}

/* Records a failed question or fetch; the entry's bytes and what they came from stay as they are.
 */
static void remember_trouble(struct get_run *run)
{
    struct image_entry *entry = &run->entry;
    entry->failed_ns = clock_realtime_ns();
    entry->failed_code = run->trouble.code;
    free(entry->failed_why);
    entry->failed_why = strdup(run->trouble.msg);
    struct larder_error ignored;
    if (image_entry_write(run->store, entry, &ignored) < 0)
        store_warn(run->store, "image %s: could not record the failure: %s", entry->name,
                   ignored.msg);
}

/* The new entry could not be recorded: whoever falls back falls back on the recorded one. */
static void entry_reread(struct get_run *run)
{
    struct image_entry recorded;
    if (image_entry_read(run->store, run->entry.name, &recorded, NULL) < 0)
        return;
    image_entry_done(&run->entry);
    run->entry = recorded;
}

static int fetch(struct get_run *run, struct http_client *client, struct image_published *published,
                 struct larder_error *e)
{
    enum larder_image_how how = LARDER_IMAGE_REFETCHED;
    if (run->entry.digest.alg == LARDER_DIGEST_NONE)
        how = LARDER_IMAGE_FETCHED;
    else if (run->local == LARDER_VERDICT_VALID && !run->entry.is_invalidated)
        how = LARDER_IMAGE_UPDATED;
    else if (run->local == LARDER_VERDICT_UNKNOWN && !run->entry.is_invalidated)
        how = LARDER_IMAGE_FETCHED; /* gc took it, or another hand */
    struct larder_digest previous = run->entry.digest;
    CLEANUP_CLOSE int gc_lock = -1;
    int r = image_fetch(run->store, client, &run->entry, published, &gc_lock, e);
    if (r < 0)
        return r;
    r = image_entry_write(run->store, &run->entry, e);
    if (r < 0) {
        entry_reread(run);
        return r;
    }
    run->previous = previous;
    run->how = larder_digest_equal(&previous, &run->entry.digest) && how == LARDER_IMAGE_UPDATED
                   ? LARDER_IMAGE_HIT
                   : how;
    run->local = run->fresh = LARDER_VERDICT_VALID;
    return 0;
}

/*
 * Upstream gave no usable answer. With a good copy at hand that is a warning (a checksum host that
 * is down must not stop a test run), unless the caller insists on a fresh one.
 */
static int settle_trouble(struct get_run *run, struct larder_error *e)
{
    bool is_usable = run->local == LARDER_VERDICT_VALID && !run->entry.is_invalidated;
    if (run->trouble.code == LARDER_CANCELED || run->trouble.code == LARDER_NOMEM || !is_usable ||
        run->options->require_fresh) {
        if (e) {
            *e = run->trouble;
            if (is_usable && run->options->require_fresh && run->trouble.code != LARDER_CANCELED)
                error_hint(e, "a copy of unknown freshness is here; get it without "
                              "--require-fresh");
        }
        return -(int)run->trouble.code;
    }
    /* The reason mostly names the image, too. */
    const char *why = run->trouble.msg;
    size_t n = strlen(run->entry.name);
    if (!strncmp(why, "image ", 6) && !strncmp(why + 6, run->entry.name, n) &&
        !strncmp(why + 6 + n, ": ", 2))
        why += 6 + n + 2;
    store_warn(run->store, "image %s: using the copy that is here: %s", run->entry.name, why);
    run->how = LARDER_IMAGE_STALE_OK;
    return 0;
}

/* Under the entry's lock. */
static int get_slow(struct get_run *run, struct larder_error *e)
{
    CLEANUP(http_client_freep) struct http_client *client = NULL;
    struct image_published published = {0};
    int r = image_http_client(run->store, &run->entry, &client, e);
    if (r == 0)
        r = judge(run, client, &published, e);
    if (r < 0)
        goto out;
    bool is_usable = run->local == LARDER_VERDICT_VALID && !run->entry.is_invalidated;
    bool must_fetch = !is_usable || run->fresh == LARDER_VERDICT_OUTDATED;
    if (run->trouble.code == LARDER_OK && must_fetch) {
        if (fetch(run, client, &published, &run->trouble) == 0)
            error_clear(&run->trouble); /* of a first try that was mended */
    } else if (run->trouble.code == LARDER_OK && run->fresh == LARDER_VERDICT_VALID) {
        r = image_entry_write(run->store, &run->entry, e); /* checked_ns, validators */
    }
    if (run->trouble.code != LARDER_OK) {
        if (!run->options->offline && run->trouble.code != LARDER_CANCELED)
            remember_trouble(run);
        r = settle_trouble(run, e);
    }
    if (r == 0)
        memo_touch(run->store, &run->entry.digest);
out:
    image_published_done(&published);
    return r;
}

/*
 * What is known already, as try_hit. While upstream is given time to end its contradiction, its
 * answer of a moment ago stands: the copy is used with the warning, or refused to who wants a
 * fresh one.
 */
static int try_known(struct get_run *run, struct larder_error *e)
{
    const struct image_entry *entry = &run->entry;
    int r = wants_upstream(run) ? 0 : try_hit(run, e);
    if (r <= 0)
        return r;
    run->how = LARDER_IMAGE_HIT;
    if (run->options->offline || entry->refresh_ns == LARDER_REFRESH_NEVER ||
        !is_contradicted(entry, clock_realtime_ns()))
        return 1;
    error_set(&run->trouble, LARDER_MISMATCH, "%s",
              entry->failed_why ? entry->failed_why : "upstream inconsistent");
    r = settle_trouble(run, e);
    return r < 0 ? r : 1;
}

/*
 * A store that cannot be written: what its memos do not vouch for (it was copied or restored, say)
 * is hashed each time, since the answer cannot be kept.
 */
static int get_read_only(struct get_run *run, struct larder_error *e)
{
    struct image_entry *entry = &run->entry;
    struct larder_digest actual = {0};
    struct buf why = BUF_INIT(1024);
    int r = 0;
    if (wants_upstream(run)) {
        r = error_set(e, LARDER_UNREACHABLE,
                      "image %s: upstream is not asked: store %s cannot be written", entry->name,
                      larder_store_path(run->store));
        goto out;
    }
    if (entry->is_invalidated)
        buf_puts(&why, "invalidated");
    else
        r = image_judge_local(run->store, entry, false, &run->local, &actual, &why, e);
    if (r == 0 && run->local != LARDER_VERDICT_VALID)
        r = error_set(e, run->local == LARDER_VERDICT_CORRUPT ? LARDER_CORRUPT : LARDER_DENIED,
                      "image %s: %s%s, and store %s cannot be written, so nothing is fetched",
                      entry->name, run->local == LARDER_VERDICT_CORRUPT ? "corrupt: " : "",
                      why.p ? why.p : "not here", larder_store_path(run->store));
out:
    buf_done(&why);
    return r;
}

/* Re-reads the entry and gives it its lock, so that one process at a time decides and fetches. */
static int get_locked(struct get_run *run, struct larder_error *e)
{
    char name[64];
    CLEANUP_CLOSE int lock = -1;
    store_lock_name("entry", run->entry.name, name);
    int r = store_lock(run->store, name, true, true, &lock, e);
    if (r < 0)
        return error_context(e, "image %s", run->entry.name);
    struct image_entry again;
    r = image_entry_read(run->store, run->entry.name, &again, e);
    if (r < 0)
        return r;
    image_entry_done(&run->entry);
    run->entry = again;
    r = try_known(run, e);
    if (r != 0)
        return r < 0 ? r : 0;
    return get_slow(run, e);
}

static int get(struct get_run *run, const char *name, struct larder_image_result *ret,
               struct larder_error *e)
{
    int r = image_entry_read(run->store, name, &run->entry, e);
    if (r < 0)
        return r;
    r = try_known(run, e);
    if (r < 0)
        return r;
    if (r == 0) {
        r = store_is_read_only(run->store) ? get_read_only(run, e) : get_locked(run, e);
        if (r < 0)
            return r;
    }
    return fill_result(run, ret, e);
}

/* A read-only store cannot refresh: what is there is used when it is good, with a warning. */
static bool must_stay_offline(struct larder_store *store,
                              const struct larder_image_get_options *options)
{
    return store_is_read_only(store) && !options->require_fresh;
}

int larder_image_get(struct larder_store *store, const char *name_or_source,
                     const struct larder_image_get_options *options,
                     struct larder_image_result *ret, struct larder_error *e)
{
    struct larder_image_get_options opts = LARDER_IMAGE_GET_OPTIONS_INIT;
    if (options)
        memcpy(&opts, options, options->size < sizeof(opts) ? options->size : sizeof(opts));
    if (must_stay_offline(store, &opts))
        opts.offline = true;
    CLEANUP_FREE char *name = NULL;
    int r = image_resolve(store, name_or_source, opts.spec, &name, e);
    if (r < 0)
        return r;
    struct get_run run = {.store = store, .options = &opts, .started_ns = clock_realtime_ns()};
    image_entry_init(&run.entry);
    r = get(&run, name, ret, e);
    image_entry_done(&run.entry);
    return r;
}

void larder_image_result_done(struct larder_image_result *result)
{
    if (!result)
        return;
    free(result->name);
    free(result->path);
    free(result->format);
    free(result->previous_path);
    memset(result, 0, sizeof(*result));
}

const char *larder_image_how_name(enum larder_image_how how)
{
    switch (how) {
    case LARDER_IMAGE_HIT:
        return "hit";
    case LARDER_IMAGE_FETCHED:
        return "fetched";
    case LARDER_IMAGE_UPDATED:
        return "updated";
    case LARDER_IMAGE_REFETCHED:
        return "refetched";
    case LARDER_IMAGE_STALE_OK:
        return "stale-ok";
    }
    return "unknown";
}
