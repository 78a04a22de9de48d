/* SPDX-License-Identifier: Apache-2.0 */
#include "image/judge.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/hash_many.h"
#include "base/mem.h"
#include "image/source.h"

int image_judge_local(struct larder_store *store, const struct image_entry *entry, bool deep,
                      enum larder_verdict *ret, struct larder_digest *ret_actual, struct buf *why,
                      struct larder_error *e)
{
    enum blob_state state = BLOB_MISSING;
    struct stat st;
    if (entry->digest.alg == LARDER_DIGEST_NONE) {
        buf_puts(why, "nothing fetched yet");
        *ret = LARDER_VERDICT_UNKNOWN;
        return 0;
    }
    int r = blob_check(store, &entry->digest, &state, &st, NULL, e);
    if (r < 0)
        return r;
    if (state == BLOB_MISSING) {
        buf_puts(why, "its bytes are not in the store");
        *ret = LARDER_VERDICT_UNKNOWN;
        return 0;
    }
    if ((uint64_t)st.st_size != entry->size_bytes) {
        buf_printf(why, "size %" PRIu64 ", expected %" PRIu64, (uint64_t)st.st_size,
                   entry->size_bytes);
        *ret = LARDER_VERDICT_CORRUPT;
        return 0;
    }
    if (state == BLOB_MARKED) {
        buf_puts(why, "marked invalid, its path is still in use");
        *ret = LARDER_VERDICT_UNKNOWN;
        return 0;
    }
    if (state == BLOB_GOOD && !deep) {
        *ret = LARDER_VERDICT_VALID;
        return 0;
    }
    struct larder_digest actual = {0};
    r = blob_hash(store, &entry->digest, true, &actual, e);
    if (r == -LARDER_CORRUPT) {
        char text[LARDER_DIGEST_TEXT_BYTES];
        error_clear(e); /* it is a verdict, no failure to find one */
        if (actual.alg == LARDER_DIGEST_NONE)
            buf_puts(why, "not a regular file");
        else
            buf_printf(why, "bytes hash to %s", larder_digest_format(&actual, text));
        *ret_actual = actual;
        *ret = LARDER_VERDICT_CORRUPT;
        return 0;
    }
    if (r < 0)
        return r;
    *ret = LARDER_VERDICT_VALID;
    return 0;
}

/* Upstream published digests of algorithms we never computed: hash once, and remember. */
static int learn_common_digest(struct larder_store *store, struct image_entry *entry,
                               const struct digest_set *published, struct larder_error *e)
{
    const struct larder_digest *wanted = digest_set_strongest(published);
    if (!wanted || entry->transform)
        return 0; /* the source's bytes are gone: only a fetch can tell */
    CLEANUP_CLOSE int fd = -1;
    int r = larder_blob_open(store, &entry->digest, &fd, e);
    if (r == -LARDER_NOENT || r == -LARDER_CORRUPT) {
        error_clear(e); /* no good bytes to compare: the fetch that follows brings them */
        return 0;
    }
    if (r < 0)
        return r;
    struct hash_job job = {.fd = fd, .alg_bits = HASH_BIT(wanted->alg), .object = entry->name};
    struct hash_many_options options = {
        .keep_cache = true, .what = "verify", .observer = store_observer(store)};
    r = hash_many(&job, 1, &options, e);
    if (r == 0 && job.result < 0) {
        if (e)
            *e = job.error;
        r = job.result;
    }
    if (r == 0)
        entry->source_digests.by_alg[wanted->alg] = job.digests[wanted->alg];
    return r;
}

static void describe_difference(const struct image_entry *entry, const struct digest_set *published,
                                struct buf *why)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    const struct larder_digest *now = digest_set_strongest(published);
    buf_printf(why, "upstream publishes %s", now ? larder_digest_format(now, text) : "nothing");
    if (now && entry->source_digests.by_alg[now->alg].alg != LARDER_DIGEST_NONE)
        buf_printf(why, ", this is %s",
                   larder_digest_format(&entry->source_digests.by_alg[now->alg], text));
}

static int compare_published(struct larder_store *store, struct image_entry *entry,
                             const struct digest_set *published, enum larder_verdict *ret,
                             struct buf *why, struct larder_error *e)
{
    int same = digest_set_compare(published, &entry->source_digests);
    if (same < 0) {
        int r = learn_common_digest(store, entry, published, e);
        if (r < 0)
            return r;
        same = digest_set_compare(published, &entry->source_digests);
    }
    if (same == 1) {
        *ret = LARDER_VERDICT_VALID;
    } else {
        describe_difference(entry, published, why);
        *ret = LARDER_VERDICT_OUTDATED;
    }
    return 0;
}

static bool text_equal(const char *a, const char *b)
{
    return a && b && !strcmp(a, b);
}

/* No digest anywhere: validators and size are all there is. */
static int compare_validators(struct larder_store *store, struct http_client *client,
                              const struct image_entry *entry, enum larder_verdict *ret,
                              struct buf *why, struct larder_error *e)
{
    struct source_state now = {0};
    int r = source_state_ask(store, client, entry, &now, e);
    if (r < 0)
        return r;
    bool is_same;
    if (now.etag && entry->etag)
        is_same = text_equal(now.etag, entry->etag);
    else if (now.last_modified && entry->last_modified)
        is_same = text_equal(now.last_modified, entry->last_modified);
    else
        is_same = !now.size_bytes || now.size_bytes == entry->source_bytes;
    if (!is_same)
        buf_printf(why, "upstream's %s changed",
                   now.etag && entry->etag                     ? "ETag"
                   : now.last_modified && entry->last_modified ? "Last-Modified"
                                                               : "size");
    *ret = is_same ? LARDER_VERDICT_VALID : LARDER_VERDICT_OUTDATED;
    source_state_done(&now);
    return 0;
}

/* The image itself may be gone with its sums; is it there, nothing tells whether it is the same. */
static int judge_without_lost_sums(struct larder_store *store, struct http_client *client,
                                   const struct image_entry *entry, enum larder_verdict *ret,
                                   struct buf *why, struct larder_error *e)
{
    struct source_state now = {0};
    int r = source_state_ask(store, client, entry, &now, e);
    source_state_done(&now);
    if (r < 0)
        return r;
    buf_printf(why, "checksum file %s is not there any more, nor another one",
               entry->sums_url ? entry->sums_url : "beside it");
    *ret = LARDER_VERDICT_UNKNOWN;
    return 0;
}

int image_judge_fresh(struct larder_store *store, struct http_client *client,
                      struct image_entry *entry, enum larder_verdict *ret,
                      struct image_published *ret_published, struct buf *why,
                      struct larder_error *e)
{
    bool has_local = entry->digest.alg != LARDER_DIGEST_NONE;
    struct image_published published = {0};
    enum larder_verdict verdict = LARDER_VERDICT_OUTDATED;
    int r = 0;
    /* An entry that was fetched without finding sums is judged by its validators alone; the
     * siblings are looked for again when there is something new to fetch. */
    bool ask_sums = entry->checksum || entry->sums_url || entry->keyring || !has_local ||
                    source_is_registry(entry->source, NULL);
    if (ask_sums)
        r = image_sums_ask(store, client, entry, false, &published, e);
    if (r < 0)
        return r;
    if (has_local && published.is_lost)
        r = judge_without_lost_sums(store, client, entry, &verdict, why, e);
    else if (has_local && ask_sums && published.is_unchanged)
        r = compare_published(store, entry, &entry->published, &verdict, why, e);
    else if (has_local && ask_sums && digest_set_strongest(&published.digests))
        r = compare_published(store, entry, &published.digests, &verdict, why, e);
    else if (has_local)
        r = compare_validators(store, client, entry, &verdict, why, e);
    else
        buf_puts(why, "nothing fetched yet");
    if (r == 0 && verdict == LARDER_VERDICT_OUTDATED && !ask_sums)
        r = image_sums_ask(store, client, entry, false, &published, e);
    if (r < 0) {
        image_published_done(&published);
        return r;
    }
    int64_t now_ns = clock_realtime_ns();
    if (has_local && verdict != LARDER_VERDICT_UNKNOWN) {
        entry->checked_ns = now_ns;
        entry->failed_ns = 0;
        entry->failed_code = LARDER_OK;
        free(entry->failed_why);
        entry->failed_why = NULL;
        if (verdict == LARDER_VERDICT_VALID)
            entry->changed_ns = 0;
        else if (!entry->changed_ns)
            entry->changed_ns = now_ns;
        image_published_record(&published, entry);
    }
    *ret = verdict;
    *ret_published = published;
    return 0;
}
