/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gc: what nothing refers to and nobody uses goes.
 *
 *   1 dead leases, temporaries of dead processes, old partials
 *   2 blobs marked invalid that became free
 *   3 blobs no ref keeps, unused for keep_for
 *   4 quarantine: what was invalidated while in use and is free now, then what is beyond the cap of
 *     its own, oldest first
 *   5 beyond max_size: the rest of the quarantine, then blobs, least recently used first, those
 *     of refs too (the refs stay: the next get fetches again)
 *
 * The index gives the list and the order; before a blob goes, refs, leases, last use and users are
 * asked again from the files, under locks/gc (gc_blob.c). A dry run makes the same decisions and
 * the same report.
 */
#include "store/upkeep/gc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/text.h"
#include "index/index.h"
#include "store/dir/blob.h"
#include "store/dir/dir.h"
#include "store/dir/lease.h"
#include "store/dir/quarantine.h"
#include "store/dir/ref.h"
#include "store/upkeep/index_sync.h"

/*
 * A path that was handed out may not be opened yet, and uses are recorded once a minute at most:
 * the cap spares what was used this shortly before, unless keep_for is shorter still.
 */
#define HANDOUT_NS (5 * 60 * NS_PER_S)

struct candidate {
    struct larder_digest digest;
    uint64_t bytes;
    int64_t used_ns;
    bool is_invalid;
    bool is_settled; /* removed, pinned or gone: not asked again */
};

struct gc {
    struct larder_store *store;
    const struct larder_gc_options *options;
    const struct users_probe *users;
    struct larder_gc_report report;
    struct roots roots;
    struct candidate *candidates; /* least recently used first */
    size_t count, cap;
    struct quarantine_item *evidence; /* oldest first; name "" once removed */
    size_t evidence_count, evidence_cap;
    uint64_t evidence_bytes;
    uint64_t blob_bytes; /* still used by blobs, also by those open and unlinked */
    int64_t now_ns;
    struct larder_error *e;
};

static void tell_removed(struct gc *gc, const char *what, const char *name, uint64_t bytes,
                         const char *why)
{
    if (gc->options->removed)
        gc->options->removed(gc->options->arg, what, name, bytes, why);
}

static void tell_kept(struct gc *gc, const char *name, uint64_t bytes, const char *why)
{
    if (gc->options->kept)
        gc->options->kept(gc->options->arg, name, bytes, why);
}

static int check_canceled(struct gc *gc)
{
    const struct larder_observer *observer = store_observer(gc->store);
    if (observer->is_canceled && observer->is_canceled(observer->arg))
        return error_set(gc->e, LARDER_CANCELED, "gc of %s: canceled",
                         larder_store_path(gc->store));
    return 0;
}

/* ---- leases, temporaries ---- */

static int tell_dead_lease(void *arg, const struct lease *lease)
{
    if (lease_check(lease) == PROCESS_DEAD)
        tell_removed(arg, "lease", lease->id, 0, "its owner is gone");
    return 0;
}

static int tell_temporary(void *arg, const char *name, bool is_partial, uint64_t bytes)
{
    tell_removed(arg, is_partial ? "partial" : "temporary", name, bytes,
                 is_partial ? "not gone on with" : "left by a dead process");
    return 0;
}

static int sweep(struct gc *gc)
{
    uint64_t files = 0, bytes = 0, leases = 0;
    int result = lease_each(gc->store, NULL, tell_dead_lease, gc, gc->e);
    if (result == -LARDER_CORRUPT) /* it may hold any blob */
        error_hint(gc->e, "run `larder fsck --repair`");
    if (result == 0)
        result = lease_sweep(gc->store, gc->options->dry_run, &leases, gc->e);
    if (result == 0)
        result = temp_sweep_each(gc->store, gc->options->keep_partial_ns, gc->options->dry_run,
                                 tell_temporary, gc, &files, &bytes, gc->e);
    if (result < 0)
        return result;
    gc->report.removed_leases = leases;
    gc->report.removed_temporaries = files;
    gc->report.removed_bytes += bytes;
    return 0;
}

/* ---- blobs ---- */

static int add_candidate(void *arg, const struct index_blob *blob, const char *refs)
{
    struct gc *gc = arg;
    (void)refs;
    if (gc->count == gc->cap) {
        size_t wanted = gc->cap ? gc->cap * 2 : 256;
        struct candidate *bigger = reallocarray(gc->candidates, wanted, sizeof(*bigger));
        if (!bigger)
            return error_nomem(gc->e);
        gc->candidates = bigger;
        gc->cap = wanted;
    }
    gc->candidates[gc->count++] = (struct candidate){blob->digest, blob->allocated_bytes,
                                                     blob->used_ns, blob->is_invalid, false};
    gc->blob_bytes += blob->allocated_bytes;
    return 0;
}

static int list_blobs(struct gc *gc)
{
    CLEANUP(index_closep) struct index *index = NULL;
    int result = store_index(gc->store, &index, gc->e);
    if (result == 0)
        result = index_blob_each(index, INDEX_BY_USED_OLDEST, false, add_candidate, gc, gc->e);
    return result;
}

static int remove_candidate(struct gc *gc, struct candidate *candidate,
                            const struct removal_terms *terms, const char *why)
{
    char name[LARDER_DIGEST_TEXT_BYTES], why_kept[GC_WHY_BYTES];
    enum removal how = REMOVAL_KEPT;
    uint64_t bytes = 0;
    int result = check_canceled(gc);
    if (result == 0)
        result = gc_remove_blob(gc->store, &candidate->digest, terms, &gc->roots, &how, &bytes,
                                why_kept, gc->e);
    if (result < 0)
        return result;
    larder_digest_format(&candidate->digest, name);
    switch (how) {
    case REMOVAL_DONE:
        gc->report.removed_blobs++;
        gc->report.removed_bytes += bytes;
        gc->blob_bytes -= candidate->bytes < gc->blob_bytes ? candidate->bytes : gc->blob_bytes;
        tell_removed(gc, "blob", name, bytes, why);
        break;
    case REMOVAL_OPEN:
        gc->report.removed_blobs++;
        gc->report.pinned_blobs++;
        gc->report.pinned_bytes += bytes;
        tell_removed(gc, "blob", name, 0, why);
        break;
    case REMOVAL_PINNED:
        gc->report.pinned_blobs++;
        gc->report.pinned_bytes += candidate->bytes;
        tell_kept(gc, name, candidate->bytes, why_kept);
        break;
    case REMOVAL_KEPT:
        return 0; /* counted with what stays */
    case REMOVAL_GONE:
        gc->blob_bytes -= candidate->bytes < gc->blob_bytes ? candidate->bytes : gc->blob_bytes;
        break;
    }
    candidate->is_settled = true;
    return 0;
}

static int remove_due(struct gc *gc)
{
    int64_t cutoff = INT64_MAX;
    if (gc->options->keep_for_ns > 0)
        cutoff = gc->options->keep_for_ns < gc->now_ns ? gc->now_ns - gc->options->keep_for_ns : 0;
    const struct removal_terms marked = {.dry_run = gc->options->dry_run,
                                         .ignore_refs = true,
                                         .only_marked = true,
                                         .users = gc->users};
    const struct removal_terms unused = {
        .dry_run = gc->options->dry_run, .used_before_ns = cutoff, .users = gc->users};
    int result = 0;
    for (size_t i = 0; result == 0 && i < gc->count; i++) {
        struct candidate *candidate = &gc->candidates[i];
        if (candidate->is_invalid)
            result = remove_candidate(gc, candidate, &marked, "marked invalid and free");
        else if (candidate->used_ns < cutoff && !roots_have_ref(&gc->roots, &candidate->digest))
            result = remove_candidate(gc, candidate, &unused, "nothing refers to it");
    }
    return result;
}

/* ---- refs ---- */

/* A referrer whose subject is not kept kept nothing; when its manifest is gone, so is its sense. */
static int drop_referrer(void *arg, const char *name)
{
    struct gc *gc = arg;
    CLEANUP(json_freep) struct json *document = NULL;
    CLEANUP_CLOSE int lock = -1;
    struct larder_digest digest;
    enum blob_state state = BLOB_GOOD;
    if (ref_read(gc->store, name, &document, NULL) < 0)
        return 0; /* fsck tells of it */
    const char *text = json_get_string(json_get(document, "descriptor"), "digest");
    if (!text || larder_digest_parse(text, (size_t)-1, &digest, NULL) < 0 ||
        roots_have_ref(&gc->roots, &digest))
        return 0;
    int result = store_lock(gc->store, "gc", true, true, &lock, gc->e);
    if (result == 0)
        result = roots_refresh(gc->store, &gc->roots, gc->e);
    if (result == 0)
        result = blob_check(gc->store, &digest, &state, NULL, NULL, gc->e);
    if (result < 0 || state != BLOB_MISSING || roots_have_ref(&gc->roots, &digest))
        return result;
    result = ref_remove(gc->store, name, gc->e);
    if (result == 0)
        tell_removed(gc, "ref", name, 0, "what it refers to is gone");
    return result == -LARDER_NOENT ? 0 : result;
}

static int drop_referrers(struct gc *gc)
{
    return gc->options->dry_run
               ? 0
               : ref_each(gc->store, ROOTS_REFERRER_PREFIX, drop_referrer, gc, gc->e);
}

/* ---- quarantine ---- */

static int add_evidence(void *arg, const struct quarantine_item *item)
{
    struct gc *gc = arg;
    if (gc->evidence_count == gc->evidence_cap) {
        size_t wanted = gc->evidence_cap ? gc->evidence_cap * 2 : 16;
        struct quarantine_item *bigger = reallocarray(gc->evidence, wanted, sizeof(*bigger));
        if (!bigger)
            return error_nomem(gc->e);
        gc->evidence = bigger;
        gc->evidence_cap = wanted;
    }
    gc->evidence[gc->evidence_count] = *item;
    gc->evidence[gc->evidence_count].reason = NULL; /* lives for the call only */
    gc->evidence_count++;
    gc->evidence_bytes += item->allocated_bytes;
    return 0;
}

static int by_age(const void *a, const void *b)
{
    const struct quarantine_item *x = a, *y = b;
    if (x->since_ns != y->since_ns)
        return x->since_ns < y->since_ns ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int remove_evidence(struct gc *gc, struct quarantine_item *item, const char *why)
{
    int dirfd = -1;
    enum use_state state = USE_FREE;
    bool needs_path = false;
    int result = check_canceled(gc);
    if (result == 0)
        result = store_place(gc->store, STORE_QUARANTINE, &dirfd, gc->e);
    if (result < 0)
        return result;
    CLEANUP_CLOSE int fd =
        openat(dirfd, item->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno != ENOENT)
        return error_errno(gc->e, errno, "quarantine/%s", item->name);
    if (fd >= 0)
        result = users_ask(gc->users, gc->store, &item->digest, fd, NULL, &state, &needs_path, NULL,
                           gc->e);
    fd_closep(&fd);
    if (result < 0)
        return result;
    if (state != USE_FREE) {
        gc->report.pinned_bytes += item->allocated_bytes;
        tell_kept(gc, item->name, item->allocated_bytes, use_state_text(state));
        item->name[0] = '\0'; /* counted once; its bytes stay used */
        return 0;
    }
    if (!gc->options->dry_run)
        result = quarantine_remove(gc->store, item->name, gc->e);
    if (result < 0)
        return result;
    gc->report.removed_quarantined++;
    gc->report.removed_bytes += item->allocated_bytes;
    gc->evidence_bytes -= item->allocated_bytes;
    tell_removed(gc, "quarantine", item->name, item->allocated_bytes, why);
    item->name[0] = '\0';
    return 0;
}

/* What is no evidence, and was only open when it was invalidated. */
static int remove_released(struct gc *gc)
{
    int result = 0;
    for (size_t i = 0; result == 0 && i < gc->evidence_count; i++)
        if (gc->evidence[i].is_released)
            result = remove_evidence(gc, &gc->evidence[i], "invalidated and free");
    return result;
}

/* Removes the oldest while more than that many bytes are in quarantine. */
static int trim_quarantine(struct gc *gc, uint64_t max_bytes, const char *why)
{
    int result = 0;
    for (size_t i = 0; result == 0 && i < gc->evidence_count && gc->evidence_bytes > max_bytes; i++)
        if (gc->evidence[i].name[0])
            result = remove_evidence(gc, &gc->evidence[i], why);
    return result;
}

/* ---- the cap ---- */

static int apply_cap(struct gc *gc)
{
    uint64_t max = gc->options->max_size_bytes;
    int64_t grace = gc->options->keep_for_ns < HANDOUT_NS ? gc->options->keep_for_ns : HANDOUT_NS;
    int64_t handed_out_ns = grace > 0 ? gc->now_ns - grace : INT64_MAX;
    int result = 0;
    if (max == 0)
        return 0;
    /* Evidence is worth less than a good image. */
    if (gc->blob_bytes + gc->evidence_bytes > max)
        result = trim_quarantine(gc, max > gc->blob_bytes ? max - gc->blob_bytes : 0,
                                 "the store is over its size");
    for (size_t i = 0; result == 0 && i < gc->count; i++) {
        struct candidate *candidate = &gc->candidates[i];
        if (gc->blob_bytes + gc->evidence_bytes <= max)
            break;
        if (candidate->is_settled)
            continue;
        if (candidate->used_ns >= handed_out_ns) {
            char name[LARDER_DIGEST_TEXT_BYTES];
            tell_kept(gc, larder_digest_format(&candidate->digest, name), candidate->bytes,
                      "used just now");
            gc->report.pinned_blobs++;
            gc->report.pinned_bytes += candidate->bytes;
            candidate->is_settled = true;
            continue;
        }
        /* Used since the list was made: another one is older now, the next run will see. */
        const struct removal_terms terms = {.dry_run = gc->options->dry_run,
                                            .ignore_refs = true,
                                            .used_before_ns = candidate->used_ns + 1,
                                            .users = gc->users};
        result = remove_candidate(gc, candidate, &terms, "the store is over its size");
    }
    return result;
}

static int run(struct gc *gc)
{
    int result = sweep(gc);
    if (result == 0)
        result = list_blobs(gc);
    if (result == 0)
        result = roots_load(gc->store, &gc->roots, gc->e);
    if (result == 0)
        result = remove_due(gc);
    if (result == 0)
        result = drop_referrers(gc);
    if (result == 0)
        result = quarantine_each(gc->store, add_evidence, gc, gc->e);
    if (result < 0)
        return result;
    if (gc->evidence_count)
        qsort(gc->evidence, gc->evidence_count, sizeof(*gc->evidence), by_age);
    result = remove_released(gc);
    if (result == 0)
        result =
            trim_quarantine(gc, gc->options->max_quarantine_bytes, "more evidence than is kept");
    if (result == 0)
        result = apply_cap(gc);
    for (size_t i = 0; i < gc->count; i++) {
        gc->report.kept_blobs += !gc->candidates[i].is_settled;
        gc->report.kept_bytes += gc->candidates[i].is_settled ? 0 : gc->candidates[i].bytes;
    }
    return result;
}

int store_gc(struct larder_store *store, const struct larder_gc_options *options,
             const struct users_probe *users, struct larder_gc_report *ret, struct larder_error *e)
{
    static const struct larder_gc_options defaults = LARDER_GC_OPTIONS_INIT;
    struct gc gc;
    CLEANUP_CLOSE int lock = -1;
    if (options && options->size != sizeof(*options))
        return error_set(e, LARDER_INVAL, "gc options: size %zu, expected %zu", options->size,
                         sizeof(*options));
    memset(&gc, 0, sizeof(gc));
    gc.store = store;
    gc.options = options ? options : &defaults;
    gc.users = users;
    gc.now_ns = clock_realtime_ns();
    gc.e = e;
    if (!gc.options->dry_run) {
        int result = store_require_writable(store, e);
        /* Two at once would see each other's probes as users. Taken first, so above all locks. */
        if (result == 0)
            result = store_lock(store, "entry-gc-run", true, true, &lock, e);
        if (result < 0)
            return result;
    }
    int result = run(&gc);
    roots_done(&gc.roots);
    free(gc.candidates);
    free(gc.evidence);
    if (result == 0 && ret)
        *ret = gc.report;
    return result;
}

int larder_gc(struct larder_store *store, const struct larder_gc_options *options,
              struct larder_gc_report *ret, struct larder_error *e)
{
    return store_gc(store, options, store_users(store), ret, e);
}
