/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scrub: every byte is read again, those not read for longest first.
 *
 * Progress is kept in the memos: each good blob records when its hash began, as soon as it is done.
 * A scrub with an age (older_than) therefore goes on by itself after a kill. A scrub of everything
 * notes in state/scrub when its pass began, and the next run skips what was hashed since; the
 * note goes when the pass is complete, and counts for nothing after PASS_NS.
 *
 * What is lost by a kill is the blob being read: an image of 100 GB starts again.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/slice.h"
#include "index/index.h"
#include "store/dir/blob.h"
#include "store/dir/dir.h"
#include "store/upkeep/condemn.h"
#include "store/upkeep/index_sync.h"
#include "store/upkeep/maintain.h"
#include "store/upkeep/rehash.h"
#include "store/upkeep/roots.h"

#define PASS_FILE "scrub"
/* A pass that was left off this long ago is not gone on with: "all" must not mean "since spring" */
#define PASS_NS (7LL * 24 * 3600 * NS_PER_S)
/* "<decimal nanoseconds>\n" */
#define PASS_BYTES_MAX 64

struct scrub {
    struct larder_store *store;
    const struct larder_scrub_options *options;
    const struct users_probe *users;
    struct larder_scrub_report report;
    int64_t cutoff_ns;       /* hashed before: due */
    struct digest_set due;   /* in order, not sorted */
    int unreadable;          /* code of the first blob that could not be read */
    struct larder_error why; /* of the first finding */
    struct larder_error *e;
};

static int add_due(void *arg, const struct index_blob *blob, const char *refs)
{
    struct scrub *scrub = arg;
    (void)refs;
    if (blob->is_invalid) { /* judged already; it goes when it is free */
        scrub->report.skipped_blobs++;
        return 0;
    }
    if (blob->verified_ns >= scrub->cutoff_ns)
        return 0;
    return digest_set_add(&scrub->due, &blob->digest, scrub->e);
}

static int list_due(struct scrub *scrub)
{
    CLEANUP(index_closep) struct index *index = NULL;
    int result = store_index(scrub->store, &index, scrub->e);
    if (result == 0)
        result = index_blob_each(index, INDEX_BY_VERIFIED_OLDEST, false, add_due, scrub, scrub->e);
    return result;
}

/* When the pass that goes on began; now when none does. */
static int pass_begin(struct scrub *scrub, int64_t now_ns)
{
    struct buf text = BUF_INIT(PASS_BYTES_MAX);
    uint64_t began = 0;
    int dirfd = -1;
    int result = store_place(scrub->store, STORE_STATE, &dirfd, scrub->e);
    if (result < 0)
        return result;
    bool is_known = file_read(dirfd, PASS_FILE, &text, NULL) == 0 &&
                    slice_parse_u64(slice_trim(buf_slice(&text)), &began) &&
                    began <= (uint64_t)now_ns && (uint64_t)now_ns - began < PASS_NS;
    buf_reset(&text);
    scrub->cutoff_ns = is_known ? (int64_t)began : now_ns;
    if (!is_known) {
        buf_printf(&text, "%lld\n", (long long)now_ns);
        result = buf_failed(&text, scrub->e);
        if (result == 0)
            result = store_write_file(scrub->store, STORE_STATE, PASS_FILE, text.p, text.n, 0, 0,
                                      scrub->e);
    }
    buf_done(&text);
    return result;
}

static int pass_end(struct scrub *scrub)
{
    int dirfd = -1;
    int result = store_place(scrub->store, STORE_STATE, &dirfd, scrub->e);
    return result < 0 ? result : file_remove(dirfd, PASS_FILE, scrub->e);
}

static int condemn(struct scrub *scrub, struct rehash *item)
{
    enum condemn_result how = CONDEMN_GONE;
    int result = condemn_blob(scrub->store, &item->digest, &item->actual, item->error.msg,
                              scrub->users, &item->st, &how, scrub->e);
    if (result < 0)
        return result;
    if (how == CONDEMN_GONE) { /* replaced since: the new one has been checked by its maker */
        scrub->report.skipped_blobs++;
        return 0;
    }
    scrub->report.corrupt_blobs++;
    if (scrub->why.code != LARDER_CORRUPT)
        scrub->why = item->error;
    store_warn(scrub->store, "%s: %s", item->error.msg,
               how == CONDEMN_MOVED ? "moved to quarantine" : "still needed, marked invalid");
    return 0;
}

static int take_result(void *arg, struct rehash *item, struct larder_error *e)
{
    struct scrub *scrub = arg;
    int result = 0;
    scrub->e = e; /* rehash_run hands its own on to our caller */
    scrub->report.read_bytes += item->read_bytes;
    switch (-item->result) {
    case LARDER_OK:
        scrub->report.checked_blobs++;
        scrub->report.checked_bytes += item->size_bytes;
        result = blob_record_verified(scrub->store, &item->digest, item->fd, item->began_ns, e);
        break;
    case LARDER_CORRUPT:
        scrub->report.checked_blobs++;
        scrub->report.checked_bytes += item->size_bytes;
        /* Only a readable file's bytes can be wrong; a link or FIFO is for fsck. */
        if (item->actual.alg != LARDER_DIGEST_NONE)
            result = condemn(scrub, item);
        break;
    case LARDER_BUSY:
    case LARDER_NOENT:
        scrub->report.skipped_blobs++;
        break;
    default:
        scrub->report.skipped_blobs++;
        store_warn(scrub->store, "blob could not be read: %s", item->error.msg);
        if (scrub->unreadable == 0) {
            scrub->unreadable = item->result;
            if (scrub->why.code == LARDER_OK)
                scrub->why = item->error;
        }
        break;
    }
    if (result == 0 && scrub->options->result)
        scrub->options->result(scrub->options->arg, &item->digest, item->result,
                               item->result < 0 ? &item->error : NULL);
    return result;
}

static int run(struct scrub *scrub)
{
    int64_t now_ns = clock_realtime_ns();
    bool is_pass = scrub->options->older_than_ns <= 0;
    int result = 0;
    if (is_pass)
        result = pass_begin(scrub, now_ns);
    else
        scrub->cutoff_ns = now_ns - scrub->options->older_than_ns;
    if (result == 0)
        result = list_due(scrub);
    if (result < 0)
        return result;
    struct rehash_options options = {.what = "scrub",
                                     .background = !scrub->options->foreground,
                                     .max_bytes_per_s = scrub->options->max_bytes_per_s,
                                     .done = take_result,
                                     .arg = scrub};
    if (scrub->options->stop_after_ns > 0)
        options.deadline_ns = clock_monotonic_ns() + scrub->options->stop_after_ns;
    struct larder_error *e = scrub->e;
    result = rehash_run(scrub->store, scrub->due.digests, scrub->due.count, &options,
                        &scrub->report.is_complete, e);
    scrub->e = e;
    if (result == 0 && is_pass && scrub->report.is_complete)
        result = pass_end(scrub);
    return result;
}

int store_scrub(struct larder_store *store, const struct larder_scrub_options *options,
                const struct users_probe *users, struct larder_scrub_report *ret,
                struct larder_error *e)
{
    static const struct larder_scrub_options defaults = LARDER_SCRUB_OPTIONS_INIT;
    struct scrub scrub;
    if (options && options->size != sizeof(*options))
        return error_set(e, LARDER_INVAL, "scrub options: size %zu, expected %zu", options->size,
                         sizeof(*options));
    int result = store_require_writable(store, e);
    if (result < 0)
        return result;
    memset(&scrub, 0, sizeof(scrub));
    scrub.store = store;
    scrub.options = options ? options : &defaults;
    scrub.users = users;
    scrub.e = e;
    result = run(&scrub);
    digest_set_done(&scrub.due);
    /* What was done stands, also when a cancel or an error ended it. */
    if (ret)
        *ret = scrub.report;
    if (result == 0 && (scrub.report.corrupt_blobs || scrub.unreadable)) {
        if (e)
            *e = scrub.why;
        result = scrub.report.corrupt_blobs ? -LARDER_CORRUPT : scrub.unreadable;
    }
    return result;
}

int larder_scrub(struct larder_store *store, const struct larder_scrub_options *options,
                 struct larder_scrub_report *ret, struct larder_error *e)
{
    return store_scrub(store, options, store_users(store), ret, e);
}
