/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known about an entry, for people and programs. Reads no image content and asks nobody.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/slice.h"
#include "base/text.h"
#include "image/service.h"
#include "image/users.h"
#include "store/dir/blob.h"
#include "store/dir/ref.h"

const char *larder_verdict_name(enum larder_verdict verdict)
{
    switch (verdict) {
    case LARDER_VERDICT_UNKNOWN:
        break;
    case LARDER_VERDICT_VALID:
        return "valid";
    case LARDER_VERDICT_OUTDATED:
        return "outdated";
    case LARDER_VERDICT_CORRUPT:
        return "corrupt";
    }
    return "unknown";
}

/* A copy that remembers that it failed, so that one check at the end is enough. */
static char *copy(const char *text, bool *failed)
{
    if (!text)
        return NULL;
    char *made = strdup(text);
    if (!made)
        *failed = true;
    return made;
}

/* The same of a text that may hold URLs, whose secrets are nobody's to see. */
static char *copy_redacted(const char *text, bool *failed)
{
    struct buf clean = BUF_INIT(64 * 1024);
    if (!text)
        return NULL;
    text_redact(text, &clean);
    char *made = clean.n > 0 ? buf_take(&clean) : strdup("");
    buf_done(&clean);
    if (!made)
        *failed = true;
    return made;
}

/* By memo and the last upstream answer; a fingerprint that differs is said, not hashed. */
static int judge_shown(struct larder_store *store, const struct image_entry *entry,
                       struct larder_image_info *info, const char **ret_reason,
                       struct larder_error *e)
{
    enum blob_state state = BLOB_MISSING;
    struct stat st = {0};
    struct memo memo = {0};
    int64_t last_used_ns = 0;
    info->verdict = LARDER_VERDICT_UNKNOWN;
    *ret_reason = "nothing fetched yet";
    if (entry->digest.alg == LARDER_DIGEST_NONE)
        return 0;
    int r = blob_check(store, &entry->digest, &state, &st, &memo, e);
    if (r < 0)
        return r;
    if (state != BLOB_MISSING)
        info->allocated_bytes = (uint64_t)st.st_blocks * 512;
    if (memo_read(store, &entry->digest, &memo, &last_used_ns, NULL) == 0) {
        info->last_used_ns = last_used_ns;
        info->last_verified_ns = memo.verified_ns;
    }
    switch (state) {
    case BLOB_MISSING:
        *ret_reason = "its bytes are not in the store";
        return 0;
    case BLOB_MARKED:
        *ret_reason = "marked invalid, its path is still in use";
        return 0;
    case BLOB_UNSURE:
    case BLOB_SUSPECT:
        *ret_reason = "the file was touched since it was verified: verify it";
        return 0;
    case BLOB_GOOD:
        break;
    }
    if ((uint64_t)st.st_size != entry->size_bytes) {
        info->verdict = LARDER_VERDICT_CORRUPT;
        *ret_reason = "size differs from the recorded one";
    } else if (entry->is_invalidated) {
        *ret_reason = entry->invalidated_why ? entry->invalidated_why : "invalidated";
    } else if (entry->changed_ns) {
        info->verdict = LARDER_VERDICT_OUTDATED;
        *ret_reason = "upstream had other bytes when last asked";
    } else {
        info->verdict = LARDER_VERDICT_VALID;
        *ret_reason = "";
    }
    return 0;
}

static int find_holders(struct larder_store *store, const struct image_entry *entry,
                        struct larder_image_info *info, struct larder_error *e)
{
    struct buf who = BUF_INIT(64 * 1024);
    struct larder_error why = LARDER_ERROR_INIT;
    unsigned flags = 0;
    size_t count = 0;
    int r = image_users_of_blob(store, &entry->digest, &flags, &who, &why);
    if (r == -LARDER_CORRUPT || r == -LARDER_UNSUPPORTED) {
        /* A lease that can't be read may be anybody's; all else is still worth showing. */
        buf_printf(&who, "unknown: %s\n", why.msg);
        r = buf_failed(&who, e);
    } else if (r == -LARDER_NOENT) {
        r = 0;
    } else if (r < 0 && e) {
        *e = why;
    }
    struct slice rest = buf_slice(&who), line;
    if (r == 0 && who.n > 0) {
        for (struct slice scan = rest; slice_next_line(&scan, &line);)
            count++;
        info->holders = calloc(count + 1, sizeof(*info->holders));
        if (!info->holders)
            r = error_nomem(e);
        for (size_t i = 0; r == 0 && slice_next_line(&rest, &line); i++) {
            info->holders[i] = slice_dup(line);
            if (!info->holders[i])
                r = error_nomem(e);
        }
    }
    buf_done(&who);
    return r;
}

static int fill_texts(const struct image_entry *entry, const char *reason, const char *path,
                      struct larder_image_info *info, struct larder_error *e)
{
    char refresh[32];
    bool failed = false;
    info->name = copy(entry->name, &failed);
    info->source = copy_redacted(entry->source, &failed);
    info->checksum = copy_redacted(entry->checksum, &failed);
    info->keyring = copy(entry->keyring, &failed);
    info->refresh = copy(
        entry->refresh_ns == 0 ? "always" : duration_format(entry->refresh_ns, refresh), &failed);
    info->verdict_reason = copy_redacted(reason, &failed);
    info->path = copy(path, &failed);
    info->format = copy(entry->digest.alg != LARDER_DIGEST_NONE ? format_name(entry->found_format)
                                                                : entry->format,
                        &failed);
    info->transform = copy(entry->transform, &failed);
    info->sums_url = copy_redacted(entry->sums_url, &failed);
    info->signed_by = copy(entry->signed_by, &failed);
    info->etag = copy(entry->etag, &failed);
    info->last_modified = copy(entry->last_modified, &failed);
    info->final_url = copy_redacted(entry->final_url, &failed);
    info->last_error = copy_redacted(entry->failed_ns ? entry->failed_why : NULL, &failed);
    return failed ? error_nomem(e) : 0;
}

int larder_image_show(struct larder_store *store, const char *name, bool want_holders,
                      struct larder_image_info *ret, struct larder_error *e)
{
    CLEANUP_ENTRY struct image_entry entry;
    struct larder_image_info info = {0};
    const char *reason = "";
    char path[4096] = "";
    image_entry_init(&entry);
    int r = image_entry_read(store, name, &entry, e);
    if (r < 0)
        return r;
    bool has_local = entry.digest.alg != LARDER_DIGEST_NONE;
    r = judge_shown(store, &entry, &info, &reason, e);
    if (r == 0 && has_local)
        r = larder_blob_path(store, &entry.digest, path, sizeof(path), e);
    if (r == 0)
        r = fill_texts(&entry, reason, has_local ? path : NULL, &info, e);
    if (r == 0 && want_holders && has_local)
        r = find_holders(store, &entry, &info, e);
    if (r < 0) {
        larder_image_info_done(&info);
        return r;
    }
    const struct larder_digest *published = digest_set_strongest(&entry.published);
    const struct larder_digest *source = digest_set_strongest(&entry.source_digests);
    info.digest = entry.digest;
    info.size_bytes = entry.size_bytes;
    info.virtual_bytes = entry.virtual_bytes;
    if (published)
        info.upstream_digest = *published;
    if (source && entry.transform)
        info.source_digest = *source;
    info.added_ns = entry.added_ns;
    info.fetched_ns = entry.fetched_ns;
    info.checked_ns = entry.checked_ns;
    info.is_invalidated = entry.is_invalidated;
    *ret = info;
    return 0;
}

void larder_image_info_done(struct larder_image_info *info)
{
    if (!info)
        return;
    char *const owned[] = {info->name,           info->source,    info->checksum,  info->keyring,
                           info->refresh,        info->path,      info->format,    info->transform,
                           info->verdict_reason, info->sums_url,  info->signed_by, info->etag,
                           info->last_modified,  info->final_url, info->last_error};
    for (size_t i = 0; i < ARRAY_LEN(owned); i++)
        free(owned[i]);
    for (char **holder = info->holders; holder && *holder; holder++)
        free(*holder);
    free(info->holders);
    memset(info, 0, sizeof(*info));
}

struct each_arg {
    int (*fn)(void *arg, const char *name);
    void *arg;
};

static int each_ref(void *arg, const char *name)
{
    struct each_arg *each = arg;
    return each->fn(each->arg, name + strlen(IMAGE_REF_PREFIX));
}

int larder_image_each(struct larder_store *store, int (*fn)(void *arg, const char *name), void *arg,
                      struct larder_error *e)
{
    struct each_arg each = {fn, arg};
    return ref_each(store, IMAGE_REF_PREFIX, each_ref, &each, e);
}
