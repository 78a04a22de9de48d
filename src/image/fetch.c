/* SPDX-License-Identifier: Apache-2.0 */
#include "image/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "base/process.h"
#include "base/text.h"
#include "image/format/probe.h"
#include "image/registry/fetch_registry.h"
#include "image/service.h"
#include "image/source.h"
#include "json/json.h"
#include "net/transfer/transfer.h"
#include "store/dir/blob.h"

/* Left free beside the image: refs, memos, the index, and other people's small files. */
#define SPACE_MARGIN_BYTES (64ULL * 1024 * 1024)

/* ---- callbacks of the transfer ---- */

int fetch_check_space(void *arg, uint64_t total_bytes, bool is_unpacked, struct larder_error *e)
{
    struct fetch_run *run = arg;
    uint64_t free_bytes = 0;
    struct stat st = {0};
    int fd = run->source.fd >= 0 ? run->source.fd : run->unpacked.fd;
    if (fd < 0 || total_bytes == 0)
        return 0;
    int r = disk_free(fd, &free_bytes, e);
    if (r < 0)
        return r;
    uint64_t here = 0;
    if (run->source.fd >= 0 && fstat(run->source.fd, &st) == 0)
        here = (uint64_t)st.st_blocks * 512;
    uint64_t need = total_bytes > here ? total_bytes - here : 0;
    if (is_unpacked)
        need += total_bytes; /* at least as much again; how much more only unpacking tells */
    if (need + SPACE_MARGIN_BYTES <= free_bytes)
        return 0;
    char a[32], b[32];
    error_set(e, LARDER_NOSPACE, "needs %s and %d MiB to spare, %s free", size_format(need, a),
              (int)(SPACE_MARGIN_BYTES >> 20), size_format(free_bytes, b));
    error_hint(e, "run `larder gc`, or put the store on a larger disk");
    return -LARDER_NOSPACE;
}

/* What cannot be an image is refused with its first bytes, not after 8 GiB of them. */
static int check_head(void *arg, const void *head, size_t n, bool is_result, struct larder_error *e)
{
    struct fetch_run *run = arg;
    if (!is_result && unpack_detect(head, n) != UNPACK_NONE &&
        run->transfer.unpack != TRANSFER_UNPACK_NEVER)
        return image_probe_head_compressed(head, n, run->entry->source, e);
    return image_probe_head(head, n, run->entry->format, run->entry->source, e);
}

static int remember_validators(void *arg, const struct transfer_resume *resume,
                               struct larder_error *e)
{
    struct fetch_run *run = arg;
    CLEANUP(json_freep) struct json *document = json_new_object();
    struct buf text = BUF_INIT(64 * 1024);
    int r = json_set_string(document, "url", resume->url);
    r |= json_set_string(document, "etag", resume->etag);
    r |= json_set_string(document, "lastModified", resume->last_modified);
    r |= json_set_u64(document, "size", resume->total_bytes);
    r |= json_set_string(document, "boot", process_boot_id());
    r = r < 0 ? error_nomem(e) : json_dump(document, &text, e);
    if (r == 0)
        r = partial_write_meta(run->store, run->key, text.p, e);
    buf_done(&text);
    return r;
}

static char *dup_member(const struct json *document, const char *key)
{
    const char *text = json_get_string(document, key);
    return text ? strdup(text) : NULL;
}

/*
 * Partials are not synced: after a power loss there may be zeros in them. With a published digest
 * that is found out; without, only what this boot wrote is gone on with.
 */
static bool is_trusted(const struct fetch_run *run, const struct json *document)
{
    const char *boot = json_get_string(document, "boot");
    return digest_set_strongest(&run->published->digests) ||
           (boot && *boot && !strcmp(boot, process_boot_id()));
}

/* 1: an earlier run left something to go on from. */
static int recall_validators(struct fetch_run *run, struct transfer_resume *ret,
                             struct larder_error *e)
{
    CLEANUP_FREE char *text = NULL;
    CLEANUP(json_freep) struct json *document = NULL;
    int r = partial_read_meta(run->store, run->key, &text, e);
    if (r == 0)
        r = json_parse(slice_of(text), 64 * 1024, &document, e);
    if (r == -LARDER_NOMEM)
        return r;
    if (r < 0) {
        error_clear(e); /* missing or damaged: start from 0 */
        return 0;
    }
    if (!is_trusted(run, document))
        return 0;
    ret->url = dup_member(document, "url");
    ret->etag = dup_member(document, "etag");
    ret->last_modified = dup_member(document, "lastModified");
    ret->total_bytes = json_get_u64(document, "size", 0);
    if (ret->url && !strcmp(ret->url, run->url) && (ret->etag || ret->last_modified))
        return 1;
    transfer_resume_done(ret);
    return 0;
}

/* ---- one transfer ---- */

static unsigned wanted_algs(const struct digest_set *published)
{
    unsigned bits = HASH_BIT(LARDER_DIGEST_SHA256);
    for (unsigned alg = 1; alg < LARDER_DIGEST_ALG_MAX; alg++)
        if (published->by_alg[alg].alg != LARDER_DIGEST_NONE)
            bits |= HASH_BIT(alg);
    return bits;
}

static enum transfer_unpack unpack_policy(const struct image_entry *entry)
{
    if (!entry->unpack || !strcmp(entry->unpack, "auto"))
        return TRANSFER_UNPACK_AUTO;
    return !strcmp(entry->unpack, "always") ? TRANSFER_UNPACK_ALWAYS : TRANSFER_UNPACK_NEVER;
}

static bool may_unpack(const struct image_entry *entry)
{
    enum transfer_unpack policy = unpack_policy(entry);
    return policy == TRANSFER_UNPACK_ALWAYS ||
           (policy == TRANSFER_UNPACK_AUTO && unpack_from_name(entry->source) != UNPACK_NONE);
}

/*
 * A local source is at hand: whether it is unpacked is known before, so that exactly one file is
 * written. What is only named like something compressed is taken as it is.
 */
static int open_local(struct fetch_run *run, int *ret_fd, struct larder_error *e)
{
    const char *source = run->entry->source;
    char head[16];
    CLEANUP_CLOSE int fd = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_errno_code(e, errno == ENOENT ? LARDER_GONE : LARDER_DENIED, errno,
                                "source %s", source);
    if (fstat(fd, &run->local) < 0)
        return error_errno(e, errno, "source %s", source);
    if (!S_ISREG(run->local.st_mode))
        return error_set(e, LARDER_INVAL, "source %s: not a regular file", source);
    ssize_t n = fd_pread_full(fd, head, sizeof(head), 0);
    if (n < 0)
        return error_errno(e, errno, "source %s", source);
    run->policy = unpack_policy(run->entry);
    if (run->policy == TRANSFER_UNPACK_AUTO) {
        enum unpack_format named = unpack_from_name(source);
        bool is_one = named != UNPACK_NONE && unpack_detect(head, (size_t)n) == named;
        run->policy = is_one ? TRANSFER_UNPACK_ALWAYS : TRANSFER_UNPACK_NEVER;
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int open_files(struct fetch_run *run, int *ret_local_fd, struct larder_error *e)
{
    int r = 0;
    temp_drop(&run->unpacked);
    if (run->url) {
        run->policy = may_unpack(run->entry) ? unpack_policy(run->entry) : TRANSFER_UNPACK_NEVER;
        if (run->source.fd < 0)
            r = partial_open(run->store, run->key, &run->source, e);
    } else {
        temp_drop(&run->source);
        r = open_local(run, ret_local_fd, e);
        if (r == 0 && run->policy == TRANSFER_UNPACK_NEVER)
            r = temp_open(run->store, &run->source, e);
    }
    if (r == 0 && run->policy != TRANSFER_UNPACK_NEVER)
        r = temp_open(run->store, &run->unpacked, e);
    return r;
}

static int transfer_once(struct fetch_run *run, bool from_zero, struct larder_error *e)
{
    CLEANUP_CLOSE int local_fd = -1;
    struct transfer_resume resume = {0};
    int r = open_files(run, &local_fd, e);
    if (r < 0)
        return r;
    if (run->url && !from_zero) {
        r = recall_validators(run, &resume, e);
        if (r < 0)
            return r;
    }
    const struct larder_observer *observer = store_observer(run->store);
    http_response_done(&run->transfer.response);
    run->transfer = (struct transfer){
        .client = run->client,
        .url = run->url,
        .source_fd = local_fd,
        .partial_fd = run->source.fd,
        .resume = r == 1 ? &resume : NULL,
        .unpack = run->policy,
        .unpack_fd = run->unpacked.fd,
        .source_alg_bits = wanted_algs(&run->published->digests),
        .result_alg_bits = HASH_BIT(LARDER_DIGEST_SHA256),
        .expected_bytes = run->published->size_bytes,
        .no_cache = from_zero,
        .sized = fetch_check_space,
        .peek = check_head,
        .remember = run->url ? remember_validators : NULL,
        .arg = run,
        .retries = image_http_retries(run->store),
        .observer = observer,
        .object = run->entry->name,
    };
    store_note(run->store, "image %s: fetching %s%s", run->entry->name, run->entry->source,
               run->transfer.resume ? " (resuming)" : "");
    r = transfer_run(&run->transfer, e);
    transfer_resume_done(&resume);
    /* The body itself filled the disk: kept, it would keep the disk full until it is too old. */
    if (run->url && r == -LARDER_NOSPACE && e && e->sys_errno)
        (void)partial_forget(run->store, run->key, &run->source, NULL);
    /* What the local system refuses is told without a name down there: "write: ...". */
    if (r == -LARDER_IO || r == -LARDER_NOSPACE || r == -LARDER_DENIED)
        return error_context(e, "image %s", run->entry->name);
    return r == -LARDER_CORRUPT ? error_context(e, "source %s", run->entry->source) : r;
}

/* ---- published against fetched ---- */

static bool matches(const struct fetch_run *run)
{
    struct digest_set got = {0};
    memcpy(got.by_alg, run->transfer.source_digests, sizeof(got.by_alg));
    return !digest_set_strongest(&run->published->digests) ||
           digest_set_compare(&run->published->digests, &got) == 1;
}

static int inconsistent(const struct fetch_run *run, struct larder_error *e)
{
    char want[LARDER_DIGEST_TEXT_BYTES], have[LARDER_DIGEST_TEXT_BYTES];
    const struct larder_digest *published = digest_set_strongest(&run->published->digests);
    if (!published) /* matches() would have been true */
        return error_set(e, LARDER_MISMATCH, "image %s: upstream inconsistent", run->entry->name);
    larder_digest_format(published, want);
    larder_digest_format(&run->transfer.source_digests[published->alg], have);
    error_set(e, LARDER_MISMATCH, "image %s: upstream inconsistent: %s hashes to %s, %s says %s",
              run->entry->name, run->entry->source, have,
              run->published->sums_url ? run->published->sums_url : "the given checksum", want);
    error_hint(e, "upstream may be publishing right now: try again in some minutes");
    return -LARDER_MISMATCH;
}

/*
 * Sums that contradicted the bytes a moment ago and are gone now (a server that answers 403 or 404
 * to a query it does not know) must not make the bytes good.
 */
static int ask_again(struct fetch_run *run, const struct image_entry *afresh,
                     struct larder_error *e)
{
    struct image_published again = {0};
    int r = image_sums_ask(run->store, run->client, afresh, true, &again, e);
    if (r < 0)
        return r;
    if (!digest_set_strongest(&again.digests)) {
        image_published_done(&again);
        return 0;
    }
    image_published_done(run->published);
    *run->published = again;
    return 0;
}

/*
 * The torn-publication protocol: sums and image are separate objects that upstream replaces one
 * after the other, with caches in between.
 */
static int transfer_consistent(struct fetch_run *run, struct larder_error *e)
{
    int r = transfer_once(run, false, e);
    /* The length differs from the sums', or an archive is cut or damaged: by a publication that
     * goes on, or by a partial file that did not keep what was written to it. */
    bool is_short = r == -LARDER_MISMATCH || (r == -LARDER_CORRUPT && run->url);
    if (r < 0 && !is_short)
        return r;
    error_clear(e);
    if (!is_short && matches(run))
        return 0;
    store_note(run->store, "image %s: bytes and published digest differ, asking upstream again",
               run->entry->name);
    if (!image_checksum_is_literal(run->entry->checksum)) {
        struct image_entry afresh = *run->entry; /* borrowed: without validators, so no 304 */
        afresh.sums_etag = afresh.sums_last_modified = NULL;
        r = ask_again(run, &afresh, e);
        if (r < 0)
            return r;
        if (!is_short && matches(run))
            return 0;
    }
    r = transfer_once(run, true, e);
    if (r == 0 && matches(run))
        return 0;
    bool is_wrong = r == 0 || r == -LARDER_CORRUPT || r == -LARDER_MISMATCH;
    if (run->url && is_wrong) /* what is there is wrong: nothing may resume from it */
        partial_forget(run->store, run->key, &run->source, NULL);
    return r < 0 ? r : inconsistent(run, e);
}

/* ---- publication ---- */

static void replace_text(char **into, char *text)
{
    free(*into);
    *into = text;
}

static const char *transform_name(enum unpack_format format)
{
    switch (format) {
    case UNPACK_GZIP:
        return "gunzip";
    case UNPACK_XZ:
        return "unxz";
    case UNPACK_ZSTD:
        return "unzstd";
    case UNPACK_BZIP2:
        return "bunzip2";
    case UNPACK_LZ4:
        return "unlz4";
    case UNPACK_NONE:
        break;
    }
    return NULL;
}

/* The sums and their signature, verbatim: what the verdict rests on can be looked at later. */
static int keep_evidence(struct fetch_run *run, struct larder_error *e)
{
    struct image_entry *entry = run->entry;
    const struct image_published *published = run->published;
    if (published->text.n > 0 && !published->is_unchanged) {
        int r = larder_blob_put(run->store, published->text.p, published->text.n, NULL,
                                &entry->sums_blob, e);
        if (r < 0)
            return error_context(e, "checksum file");
        entry->sums_bytes = published->text.n;
        entry->signature_blob = (struct larder_digest){0};
        entry->signature_bytes = 0;
    }
    if (published->signature.n > 0 && !published->is_unchanged) {
        int r = larder_blob_put(run->store, published->signature.p, published->signature.n, NULL,
                                &entry->signature_blob, e);
        if (r < 0)
            return error_context(e, "signature");
        entry->signature_bytes = published->signature.n;
    }
    return 0;
}

static void clear_trouble(struct image_entry *entry)
{
    entry->is_invalidated = false;
    replace_text(&entry->invalidated_why, NULL);
    entry->changed_ns = 0;
    entry->failed_ns = 0;
    entry->failed_code = LARDER_OK;
    replace_text(&entry->failed_why, NULL);
    entry->fetched_ns = entry->checked_ns = clock_realtime_ns();
}

/* Sums that were there once and are not any more say nothing about these bytes. */
static void forget_published(struct image_entry *entry)
{
    entry->published = (struct digest_set){0};
    entry->published_bytes = 0;
    entry->sums_blob = entry->signature_blob = (struct larder_digest){0};
    entry->sums_bytes = entry->signature_bytes = 0;
    replace_text(&entry->sums_url, NULL);
    replace_text(&entry->sums_inner_name, NULL);
    replace_text(&entry->signed_by, NULL);
    replace_text(&entry->sums_etag, NULL);
    replace_text(&entry->sums_last_modified, NULL);
}

static void record_source(struct fetch_run *run)
{
    struct image_entry *entry = run->entry;
    struct transfer *t = &run->transfer;
    const char *transform = run->transform ? run->transform : transform_name(t->unpacked);
    memcpy(entry->source_digests.by_alg, t->source_digests, sizeof(t->source_digests));
    entry->source_bytes = t->source_bytes;
    replace_text(&entry->transform, transform ? strdup(transform) : NULL);
    if (run->url) {
        replace_text(&entry->etag, TAKE_PTR(t->response.etag));
        replace_text(&entry->last_modified, TAKE_PTR(t->response.last_modified));
        /* For people only; the query of a redirect is often a signature that others could use. */
        if (t->response.final_url)
            t->response.final_url[strcspn(t->response.final_url, "?#")] = '\0';
        replace_text(&entry->final_url, TAKE_PTR(t->response.final_url));
    } else if (!source_is_registry(entry->source, NULL)) {
        replace_text(&entry->etag, source_local_etag(&run->local));
    }
    if (!digest_set_strongest(&run->published->digests)) {
        forget_published(entry);
        if (run->url) /* a file of this host is its owner's word */
            store_warn(run->store,
                       "image %s: no checksum file vouches for it, it is taken unverified",
                       entry->name);
    }
}

/* Nothing else would tell the first half of an image from the whole. */
static int check_whole(const struct fetch_run *run, struct larder_error *e)
{
    if (!run->url || !run->transfer.response.is_until_close ||
        run->transfer.unpacked != UNPACK_NONE || digest_set_strongest(&run->published->digests) ||
        run->published->size_bytes > 0)
        return 0;
    error_set(e, LARDER_PROTO,
              "image %s: the server tells no length, and there is no checksum: whether it came "
              "whole can't be told",
              run->entry->name);
    return error_hint(e, "give a checksum with --checksum");
}

int fetch_publish(struct fetch_run *run, int *ret_gc_lock, struct larder_error *e)
{
    struct image_entry *entry = run->entry;
    struct transfer *t = &run->transfer;
    bool is_source = t->unpacked == UNPACK_NONE && run->source.fd >= 0;
    struct temp_file *result = is_source ? &run->source : &run->unpacked;
    struct image_probe probe = {0};
    CLEANUP_CLOSE int lock = -1;
    bool existed = false;
    int r = check_whole(run, e);
    if (r < 0)
        return r;
    r = image_probe_fd(result->fd, t->result_bytes, entry->format, entry->allow_backing,
                       entry->source, &probe, e);
    if (r < 0)
        return error_context(e, "image %s", entry->name);
    r = keep_evidence(run, e);
    if (r == 0)
        r = store_lock(run->store, "gc", false, true, &lock, e);
    if (r == 0)
        r = blob_publish(run->store, result, &t->result_digests[LARDER_DIGEST_SHA256], &existed, e);
    if (r < 0)
        return error_context(e, "image %s", entry->name);
    entry->digest = t->result_digests[LARDER_DIGEST_SHA256];
    entry->size_bytes = t->result_bytes;
    entry->found_format = probe.format;
    entry->virtual_bytes = probe.virtual_bytes;
    record_source(run);
    image_published_record(run->published, entry);
    clear_trouble(entry);
    if (run->url)
        partial_forget(run->store, run->key, &run->source, NULL);
    *ret_gc_lock = TAKE_FD(lock);
    return 0;
}

/* 1: the blob is here and good, as *ret_st has it. One whose file says nothing (its writer was
 * killed before it could record what it wrote, or it is seconds old) is read: that is less than to
 * fetch it. */
static int is_here(struct larder_store *store, const struct larder_digest *digest,
                   struct stat *ret_st, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct larder_digest actual = {0};
    enum blob_state state = BLOB_MISSING;
    int r = blob_check(store, digest, &state, ret_st, NULL, e);
    if (r < 0 || state != BLOB_UNSURE)
        return r < 0 ? r : state == BLOB_GOOD;
    r = blob_hash(store, digest, true, &actual, &why);
    if (r == -LARDER_NOMEM || r == -LARDER_CANCELED) {
        if (e)
            *e = why;
        return r;
    }
    return r == 0;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/*
 * The published bytes may be here already (another entry, an adopted file): then nothing is
 * fetched. Only when they are not to be unpacked, since sums name the source's bytes.
 */
int fetch_take_existing(struct fetch_run *run, int *ret_gc_lock, struct larder_error *e)
{
    const struct larder_digest *digest = &run->published->digests.by_alg[LARDER_DIGEST_SHA256];
    struct image_entry *entry = run->entry;
    struct image_probe probe = {0};
    enum blob_state state = BLOB_MISSING;
    struct stat seen, st;
    CLEANUP_CLOSE int fd = -1;
    CLEANUP_CLOSE int lock = -1;
    if (digest->alg == LARDER_DIGEST_NONE || may_unpack(entry))
        return 0;
    int r = is_here(run->store, digest, &seen, e);
    if (r != 1)
        return r;
    r = keep_evidence(run, e);
    if (r == 0)
        r = store_lock(run->store, "gc", false, true, &lock, e);
    if (r == 0)
        r = blob_check(run->store, digest, &state, &st, NULL, e);
    bool is_good = state == BLOB_GOOD || (state == BLOB_UNSURE && is_same_file(&seen, &st));
    if (r < 0 || !is_good) /* gone or touched a moment ago: fetch */
        return r;
    /* Not larder_blob_open: should the file change right now, that would wait for locks/gc, which
     * is ours already. */
    r = blob_fd(run->store, digest, &fd, &st, e);
    if (r == 0)
        r = image_probe_fd(fd, (uint64_t)st.st_size, entry->format, entry->allow_backing,
                           entry->source, &probe, e);
    if (r < 0)
        return r;
    entry->digest = *digest;
    entry->size_bytes = entry->source_bytes = (uint64_t)st.st_size;
    entry->found_format = probe.format;
    entry->virtual_bytes = probe.virtual_bytes;
    entry->source_digests = run->published->digests;
    replace_text(&entry->transform, NULL);
    replace_text(&entry->etag, NULL);
    replace_text(&entry->last_modified, NULL);
    replace_text(&entry->final_url, NULL);
    image_published_record(run->published, entry);
    clear_trouble(entry);
    memo_touch(run->store, digest);
    store_note(run->store, "image %s: the published bytes are here already", entry->name);
    *ret_gc_lock = TAKE_FD(lock);
    return 1;
}

int image_fetch(struct larder_store *store, struct http_client *client, struct image_entry *entry,
                struct image_published *published, int *ret_gc_lock, struct larder_error *e)
{
    CLEANUP_CLOSE int url_lock = -1;
    char lock_name[64];
    struct fetch_run run = {.store = store,
                            .client = client,
                            .entry = entry,
                            .published = published,
                            .source = TEMP_FILE_INIT,
                            .unpacked = TEMP_FILE_INIT};
    if (source_is_url(entry->source)) {
        run.url = strdup(published->base_url ? published->base_url : entry->source);
        if (!run.url)
            return error_nomem(e);
    }
    /* Two entries of one source share its partial: the second waits, then finds the bytes. */
    store_lock_name("url", entry->source, lock_name);
    int r = store_lock(store, lock_name, true, true, &url_lock, e);
    if (r < 0) {
        free(run.url);
        return r;
    }
    snprintf(run.key, sizeof(run.key), "%s", lock_name);
    if (source_is_registry(entry->source, NULL)) {
        r = image_fetch_registry(&run, ret_gc_lock, e);
    } else if ((r = fetch_take_existing(&run, ret_gc_lock, e)) == 0) {
        r = transfer_consistent(&run, e);
        if (r == 0)
            r = fetch_publish(&run, ret_gc_lock, e);
    }
    temp_drop(&run.unpacked);
    if (run.url)
        temp_keep(&run.source); /* what came stays for the next try */
    else
        temp_drop(&run.source);
    http_response_done(&run.transfer.response);
    free(run.url);
    return r < 0 ? r : 0;
}
