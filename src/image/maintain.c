/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One round of upkeep, for a timer: refresh what is due, scrub what is due, fetch again what the
 * scrub found corrupt, gc. A failure of one step or one image is reported and does not stop the
 * rest; the worst is the result.
 */
#include <stdio.h>
#include <string.h>

#include <larder/maintain.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "image/service.h"
#include "store/dir/blob.h"
#include "store/dir/dir.h"

struct maintain_run {
    struct larder_store *store;
    const struct larder_maintain_options *options;
    struct larder_error worst;
    bool is_after_scrub;
    struct larder_digest *corrupt; /* what this round's scrub condemned */
    size_t corrupt_count;
};

static void say(struct maintain_run *run, const char *what, const char *object, const char *text)
{
    if (run->options->event)
        run->options->event(run->options->arg, what, object, text);
}

static void note_failure(struct maintain_run *run, const char *what, const char *object,
                         const struct larder_error *e)
{
    say(run, what, object, e->msg);
    if (run->worst.code == LARDER_OK || e->code == LARDER_CORRUPT)
        run->worst = *e;
}

/* ---- refresh ---- */

/*
 * Bytes that gc took for lack of room are not brought back here, or the two would take turns: the
 * next get does that.
 */
static bool wants_get(struct maintain_run *run, const struct image_entry *entry)
{
    enum blob_state state = BLOB_MISSING;
    if (entry->digest.alg == LARDER_DIGEST_NONE)
        return false; /* never asked for by anybody */
    for (size_t i = 0; i < run->corrupt_count; i++)
        if (larder_digest_equal(&run->corrupt[i], &entry->digest))
            return !entry->is_invalidated;
    if (run->is_after_scrub || !image_entry_is_due(entry, clock_realtime_ns()))
        return false;
    return blob_check(run->store, &entry->digest, &state, NULL, NULL, NULL) == 0 &&
           state != BLOB_MISSING && state != BLOB_MARKED;
}

static int refresh_one(void *arg, const char *name)
{
    struct maintain_run *run = arg;
    CLEANUP_ENTRY struct image_entry entry;
    struct larder_error one = LARDER_ERROR_INIT;
    struct larder_image_get_options options = LARDER_IMAGE_GET_OPTIONS_INIT;
    struct larder_image_result result = {0};
    image_entry_init(&entry);
    int r = image_entry_read(run->store, name, &entry, &one);
    if (r == -LARDER_NOENT)
        return 0; /* removed meanwhile */
    if (r < 0) {
        note_failure(run, "refresh", name, &one);
        return 0;
    }
    if (!wants_get(run, &entry))
        return 0;
    if (run->options->dry_run) {
        say(run, run->is_after_scrub ? "refetch" : "refresh", name, "due");
        return 0;
    }
    if (larder_image_get(run->store, name, &options, &result, &one) < 0) {
        note_failure(run, "refresh", name, &one);
        return one.code == LARDER_CANCELED ? -LARDER_CANCELED : 0;
    }
    say(run, run->is_after_scrub ? "refetch" : "refresh", name, larder_image_how_name(result.how));
    larder_image_result_done(&result);
    return 0;
}

/* ---- scrub ---- */

static void scrubbed(void *arg, const struct larder_digest *digest, int result,
                     const struct larder_error *e)
{
    struct maintain_run *run = arg;
    char text[LARDER_DIGEST_TEXT_BYTES];
    larder_digest_format(digest, text);
    say(run, "scrub", text, result < 0 && e ? e->msg : "good");
    if (result != -LARDER_CORRUPT)
        return;
    struct larder_digest *grown =
        reallocarray(run->corrupt, run->corrupt_count + 1, sizeof(*grown));
    if (!grown)
        return; /* the next get fetches it */
    run->corrupt = grown;
    run->corrupt[run->corrupt_count++] = *digest;
}

static void scrub(struct maintain_run *run)
{
    struct larder_scrub_options options = LARDER_SCRUB_OPTIONS_INIT;
    struct larder_scrub_report report = {0};
    struct larder_error one = LARDER_ERROR_INIT;
    options.older_than_ns = run->options->scrub_older_than_ns;
    options.stop_after_ns = run->options->scrub_stop_after_ns;
    options.max_bytes_per_s = run->options->scrub_bytes_per_s;
    options.result = scrubbed;
    options.arg = run;
    if (run->options->dry_run)
        return;
    if (larder_scrub(run->store, &options, &report, &one) < 0)
        note_failure(run, "scrub", larder_store_path(run->store), &one);
}

/* ---- gc ---- */

static void removed(void *arg, const char *what, const char *name, uint64_t bytes, const char *why)
{
    struct maintain_run *run = arg;
    struct buf text = BUF_INIT(1024);
    buf_printf(&text, "%s %s, %llu bytes: %s", run->options->dry_run ? "would remove" : "removed",
               what, (unsigned long long)bytes, why);
    say(run, "gc", name, text.p ? text.p : why);
    buf_done(&text);
}

static void collect_garbage(struct maintain_run *run)
{
    struct larder_gc_options options = LARDER_GC_OPTIONS_INIT;
    struct larder_gc_report report = {0};
    struct larder_error one = LARDER_ERROR_INIT;
    options.keep_for_ns = run->options->keep_for_ns;
    options.max_size_bytes = run->options->max_size_bytes;
    options.keep_partial_ns = run->options->keep_partial_ns;
    options.max_quarantine_bytes = run->options->max_quarantine_bytes;
    options.dry_run = run->options->dry_run;
    options.removed = removed;
    options.arg = run;
    if (larder_gc(run->store, &options, &report, &one) < 0)
        note_failure(run, "gc", larder_store_path(run->store), &one);
}

int larder_maintain(struct larder_store *store, const struct larder_maintain_options *options,
                    struct larder_error *e)
{
    struct larder_maintain_options opts = LARDER_MAINTAIN_OPTIONS_INIT;
    if (options)
        memcpy(&opts, options, options->size < sizeof(opts) ? options->size : sizeof(opts));
    struct maintain_run run = {.store = store, .options = &opts};
    struct larder_error one = LARDER_ERROR_INIT;
    int r = opts.dry_run ? 0 : store_require_writable(store, e);
    if (r < 0)
        return r;
    r = larder_image_each(store, refresh_one, &run, &one);
    if (r == 0) {
        scrub(&run);
        run.is_after_scrub = true;
        r = larder_image_each(store, refresh_one, &run, &one);
    }
    if (r == 0)
        collect_garbage(&run);
    if (r < 0)
        note_failure(&run, "maintain", larder_store_path(store), &one);
    free(run.corrupt);
    if (run.worst.code != LARDER_OK && e)
        *e = run.worst;
    return -(int)run.worst.code;
}
