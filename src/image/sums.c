/* SPDX-License-Identifier: Apache-2.0 */
#include "image/sums.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fdio.h"
#include "image/checksum/checksum_file.h"
#include "image/checksum/signature.h"
#include "image/registry/registry_source.h"
#include "image/source.h"
#include "store/dir/dir.h"

/* A detached signature by a handful of keys; armored ones of releases are below 4 KiB. */
#define SIGNATURE_BYTES_MAX (64 * 1024)

/*
 * Siblings in the order of systemd-importd, then what else is in use; md5 last because it only
 * detects damage. "%s" stands for the image's file name.
 */
static const char *const sibling_patterns[] = {
    "%s.sha256",  "SHA256SUMS",   "%s.sha512",    "%s.checksum",  "%s.CHECKSUM", "CHECKSUM",
    "SHA512SUMS", "%s.SHA256SUM", "%s.sha256sum", "%s.sha512sum", "%s.md5",
};
static const char *const signature_suffixes[] = {".asc", ".gpg", ".sig", ".sign"};

struct sums_run {
    struct larder_store *store;
    struct http_client *client;
    const struct image_entry *entry;
    const char *image_name; /* what the sums call the image */
    bool no_cache;
    struct image_published published;
};

void image_published_done(struct image_published *published)
{
    free(published->sums_url);
    free(published->inner_name);
    free(published->signed_by);
    free(published->etag);
    free(published->last_modified);
    free(published->weak_warning);
    free(published->base_url);
    buf_done(&published->text);
    buf_done(&published->signature);
    memset(published, 0, sizeof(*published));
}

static char *dup_or_null(const char *text)
{
    return text ? strdup(text) : NULL;
}

static void replace(char **into, const char *text)
{
    char *copy = dup_or_null(text);
    free(*into);
    *into = copy;
}

void image_published_record(const struct image_published *published, struct image_entry *entry)
{
    if (published->is_unchanged || !digest_set_strongest(&published->digests))
        return;
    entry->published = published->digests;
    entry->published_bytes = published->size_bytes;
    replace(&entry->sums_url, published->sums_url);
    replace(&entry->sums_inner_name, published->inner_name);
    replace(&entry->signed_by, published->signed_by);
    replace(&entry->sums_etag, published->etag);
    replace(&entry->sums_last_modified, published->last_modified);
}

/* ---- reading one document, remote or local ---- */

enum got { GOT_NOTHING, GOT_TEXT, GOT_UNCHANGED };

static int read_local(const char *path, struct buf *out, enum got *ret, struct larder_error *e)
{
    int r = file_read(AT_FDCWD, path, out, e);
    if (r == -LARDER_NOENT || r == -LARDER_INVAL) { /* missing, or a directory */
        error_clear(e);
        *ret = GOT_NOTHING;
        return 0;
    }
    if (r == 0)
        *ret = GOT_TEXT;
    return r;
}

/*
 * 404, 403 (object stores say that for "missing") and 410 are "not there"; whatever else fails is
 * an error, because "don't know" is not "no". With conditional, the entry's validators are sent.
 */
static int read_remote(struct sums_run *run, const char *url, bool is_given, bool conditional,
                       struct buf *out, struct http_response *response, enum got *ret,
                       struct larder_error *e)
{
    CLEANUP_FREE char *busted = NULL;
    struct larder_error local = LARDER_ERROR_INIT;
    struct larder_error *err = e ? e : &local;
    struct http_request request = {.method = HTTP_GET, .url = url, .no_cache = true};
    if (run->no_cache) {
        int r = url_bust_cache(url, &busted, err);
        if (r < 0)
            return r;
        request.url = busted;
    }
    /* After a change these validators are those of sums that were only looked at: the whole text
     * is wanted, because it is kept with what is fetched now. */
    /* With a keyring the signature is checked each time: the keys may have changed since. */
    if (conditional && !run->no_cache && !run->entry->changed_ns && !run->entry->keyring) {
        request.if_none_match = run->entry->sums_etag;
        request.if_modified_since = run->entry->sums_etag ? NULL : run->entry->sums_last_modified;
    }
    int r = http_get_text(run->client, &request, out, response, err);
    if (r == 0) {
        *ret = response->status == 304 ? GOT_UNCHANGED : GOT_TEXT;
        return 0;
    }
    if (err->http_status == 404 || err->http_status == 410 ||
        (err->http_status == 403 && !is_given)) {
        error_clear(err);
        *ret = GOT_NOTHING;
        return 0;
    }
    return r;
}

static int read_document(struct sums_run *run, const char *where, bool is_given, bool conditional,
                         struct buf *out, struct http_response *response, enum got *ret,
                         struct larder_error *e)
{
    int r = source_is_url(where)
                ? read_remote(run, where, is_given, conditional, out, response, ret, e)
                : read_local(where, out, ret, e);
    return r < 0 ? error_context(e, "checksum file") : 0;
}

/* ---- signature ---- */

static int find_detached(struct sums_run *run, const char *sums_url, struct buf *out,
                         struct larder_error *e)
{
    for (size_t i = 0; i < ARRAY_LEN(signature_suffixes); i++) {
        CLEANUP_FREE char *where = NULL;
        CLEANUP(http_response_done) struct http_response response = {0};
        enum got got = GOT_NOTHING;
        if (asprintf(&where, "%s%s", sums_url, signature_suffixes[i]) < 0) {
            where = NULL;
            return error_nomem(e);
        }
        buf_reset(out);
        int r = read_document(run, where, false, false, out, &response, &got, e);
        if (r < 0)
            return r;
        if (got == GOT_TEXT && out->n > 0)
            return 0;
    }
    return error_set(e, LARDER_NOENT,
                     "%s: no signature inside and none beside it (.asc .gpg .sig .sign)", sums_url);
}

/* Replaces *sums by what the signature covers. NOENT: it is not signed at all. */
static int check_signature(struct sums_run *run, const char *sums_url, struct checksum_file **sums,
                           struct larder_error *e)
{
    struct image_published *published = &run->published;
    struct buf covered = BUF_INIT(CHECKSUM_FILE_BYTES_MAX);
    struct checksum_file *again = NULL;
    int r = 0;
    if (!checksum_file_is_clearsigned(*sums))
        r = find_detached(run, sums_url, &published->signature, e);
    if (r == 0)
        r = signature_check(buf_slice(&published->text), buf_slice(&published->signature),
                            run->entry->keyring, run->entry->fingerprint, &covered,
                            &published->signed_by, e);
    if (r == 0)
        r = checksum_file_parse(buf_slice(&covered), sums_url, &again, e);
    buf_done(&covered);
    if (r < 0)
        return error_context(e, "signature of %s", sums_url);
    checksum_file_free(*sums);
    *sums = again;
    return 0;
}

/* ---- one candidate ---- */

static int take_match(struct sums_run *run, const struct checksum_match *match,
                      const char *sums_url, const struct http_response *response,
                      struct larder_error *e)
{
    struct image_published *published = &run->published;
    for (size_t i = 0; i < match->n_digests; i++)
        published->digests.by_alg[match->digests[i].alg] = match->digests[i];
    if (match->has_size && match->size_min_bytes == match->size_max_bytes)
        published->size_bytes = match->size_min_bytes;
    published->weak_warning = checksum_match_caution(match);
    published->sums_url = strdup(sums_url);
    published->inner_name = dup_or_null(match->inner_name);
    published->etag = dup_or_null(response->etag);
    published->last_modified = dup_or_null(response->last_modified);
    if (!published->sums_url || (match->inner_name && !published->inner_name))
        return error_nomem(e);
    /* A redirect to a mirror: take the image from the same place, mirrors are not in step. */
    if (response->final_url && strcmp(response->final_url, sums_url) && !run->no_cache &&
        !run->entry->checksum) {
        CLEANUP_FREE char *asked = NULL;
        CLEANUP_FREE char *got = NULL;
        int r = url_basename(sums_url, &asked, e);
        if (r == 0)
            r = url_basename(response->final_url, &got, e);
        if (r == 0 && !strcmp(asked, got))
            r = url_sibling(response->final_url, run->image_name, &published->base_url, e);
        return r;
    }
    return 0;
}

enum tried { TRIED_NOT_HERE, TRIED_FOUND, TRIED_UNCHANGED };

/* What the last candidate left is no evidence for the next one. */
static void forget_candidate(struct image_published *published)
{
    buf_done(&published->text);
    buf_done(&published->signature);
    published->text = BUF_INIT(CHECKSUM_FILE_BYTES_MAX);
    published->signature = BUF_INIT(SIGNATURE_BYTES_MAX);
    free(published->signed_by);
    published->signed_by = NULL;
}

static void pass_over(struct sums_run *run, struct larder_error *e)
{
    if (e)
        store_note(run->store, "image %s: passed over: %s", run->entry->name, e->msg);
    error_clear(e);
}

/*
 * Reads one checksum file and looks the image up. is_given: the user named it, so whatever is
 * wrong with it is an error; a sibling that is no checksum file or does not list the image is
 * passed over.
 */
static int try_one(struct sums_run *run, const char *where, bool is_given, bool conditional,
                   enum tried *ret, struct larder_error *e)
{
    CLEANUP(http_response_done) struct http_response response = {0};
    CLEANUP(checksum_file_freep) struct checksum_file *sums = NULL;
    struct checksum_match match;
    enum got got = GOT_NOTHING;
    *ret = TRIED_NOT_HERE;
    forget_candidate(&run->published);
    int r =
        read_document(run, where, is_given, conditional, &run->published.text, &response, &got, e);
    if (r == -LARDER_LIMIT && !is_given) {
        pass_over(run, e);
        return 0;
    }
    if (r < 0)
        return r;
    if (got == GOT_UNCHANGED) {
        *ret = TRIED_UNCHANGED;
        return 0;
    }
    if (got == GOT_NOTHING)
        return is_given ? error_set(e, LARDER_GONE, "checksum file %s: not there", where) : 0;
    r = checksum_file_parse(buf_slice(&run->published.text), where, &sums, e);
    if (r == -LARDER_INVAL && !is_given) {
        pass_over(run, e); /* an HTML page for everything that is missing, say */
        return 0;
    }
    if (r == 0 && run->entry->keyring)
        r = check_signature(run, where, &sums, e);
    if (r == -LARDER_NOENT && !is_given) {
        error_clear(e); /* a signed list may follow an unsigned sidecar */
        return 0;
    }
    if (r == -LARDER_NOENT && e)
        e->code = LARDER_AUTH;
    if (r < 0)
        return r == -LARDER_NOENT ? -LARDER_AUTH : r;
    r = checksum_file_lookup(sums, run->image_name, is_given ? CHECKSUM_LOOKUP_DEDICATED : 0,
                             &match, e);
    if (r == -LARDER_NOENT && !is_given) {
        error_clear(e);
        return 0;
    }
    if (r == -LARDER_NOENT)
        return error_set(e, LARDER_INVAL, "checksum file %s: does not list %s", where,
                         run->image_name);
    if (r == 0)
        r = take_match(run, &match, where, &response, e);
    if (r == 0)
        *ret = TRIED_FOUND;
    return r;
}

static int try_candidate(struct sums_run *run, const char *where, bool is_given, bool conditional,
                         enum tried *ret, struct larder_error *e)
{
    int r = try_one(run, where, is_given, conditional, ret, e);
    if (r == 0 && *ret != TRIED_FOUND)
        forget_candidate(&run->published);
    return r;
}

/* ---- which candidates ---- */

static int try_siblings(struct sums_run *run, enum tried *ret, struct larder_error *e)
{
    *ret = TRIED_NOT_HERE;
    for (size_t i = 0; i < ARRAY_LEN(sibling_patterns) && *ret == TRIED_NOT_HERE; i++) {
        CLEANUP_FREE char *name = NULL;
        CLEANUP_FREE char *where = NULL;
        bool has_name = strstr(sibling_patterns[i], "%s") != NULL;
        const char *suffix = has_name ? sibling_patterns[i] + 2 : sibling_patterns[i];
        if (asprintf(&name, "%s%s", has_name ? run->image_name : "", suffix) < 0) {
            name = NULL;
            return error_nomem(e);
        }
        int r = source_sibling(run->entry->source, name, &where, e);
        if (r == 0)
            r = try_candidate(run, where, false, false, ret, e);
        if (r < 0)
            return r;
    }
    if (*ret == TRIED_NOT_HERE && run->entry->keyring)
        return error_set(e, LARDER_AUTH,
                         "%s: no signed checksum file beside it, and a keyring "
                         "asks for one",
                         run->entry->source);
    return 0;
}

static int take_literal(struct sums_run *run, struct larder_error *e)
{
    struct larder_digest digest;
    int r = larder_digest_parse(run->entry->checksum, (size_t)-1, &digest, e);
    if (r == 0)
        run->published.digests.by_alg[digest.alg] = digest;
    return r;
}

bool image_checksum_is_literal(const char *checksum)
{
    struct larder_digest digest;
    return checksum && larder_digest_parse(checksum, (size_t)-1, &digest, NULL) == 0;
}

static int ask(struct sums_run *run, struct larder_error *e)
{
    const struct image_entry *entry = run->entry;
    enum tried tried = TRIED_NOT_HERE;
    int r;
    if (image_checksum_is_literal(entry->checksum))
        return take_literal(run, e);
    if (entry->checksum) {
        r = try_candidate(run, entry->checksum, true, entry->digest.alg != LARDER_DIGEST_NONE,
                          &tried, e);
    } else {
        /* Where they were last time first; a sibling that moved is looked for again. */
        r = entry->sums_url ? try_candidate(run, entry->sums_url, false, true, &tried, e) : 0;
        if (r == 0 && tried == TRIED_NOT_HERE)
            r = try_siblings(run, &tried, e);
        /* Half a publication, or a server that hides them for an hour, is no reason to go on
         * unverified: what they said last still holds. */
        if (r == 0 && tried == TRIED_NOT_HERE && digest_set_strongest(&entry->published)) {
            run->published.is_lost = true;
            tried = TRIED_UNCHANGED;
        }
    }
    if (r == 0 && tried == TRIED_UNCHANGED) {
        run->published.is_unchanged = true;
        run->published.digests = entry->published;
        run->published.size_bytes = entry->published_bytes;
    }
    return r;
}

/* A registry's digests are its checksums. */
static int ask_registry(struct larder_store *store, const struct image_entry *entry, bool no_cache,
                        struct image_published *ret, struct larder_error *e)
{
    struct image_published published = {0};
    int r = registry_source_ask(store, entry, no_cache, &published, NULL, NULL, e);
    if (r < 0)
        return error_context(e, "image %s", entry->name);
    image_published_done(ret);
    *ret = published;
    return 0;
}

int image_sums_ask(struct larder_store *store, struct http_client *client,
                   const struct image_entry *entry, bool no_cache, struct image_published *ret,
                   struct larder_error *e)
{
    CLEANUP_FREE char *image_name = NULL;
    if (source_is_registry(entry->source, NULL))
        return ask_registry(store, entry, no_cache, ret, e);
    int r = source_basename(entry->source, &image_name, e);
    if (r < 0)
        return r;
    struct sums_run run = {.store = store,
                           .client = client,
                           .entry = entry,
                           .image_name = image_name,
                           .no_cache = no_cache};
    r = ask(&run, e);
    if (r < 0) {
        image_published_done(&run.published);
        return error_context(e, "image %s", entry->name);
    }
    if (run.published.weak_warning)
        store_warn(store, "image %s: %s", entry->name, run.published.weak_warning);
    image_published_done(ret);
    *ret = run.published;
    return 0;
}
