/* SPDX-License-Identifier: Apache-2.0 */
/*
 * larder_image_verify: every entry's verdict, and what follows from it. Deep verification hashes
 * the blobs of all entries in one hash_many, so that its lanes are filled; results are judged and
 * reported in the order of the names.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/hash_many.h"
#include "base/mem.h"
#include "base/process.h"
#include "image/judge.h"
#include "image/service.h"
#include "image/users.h"
#include "store/dir/blob.h"
#include "store/dir/ref.h"
#include "store/upkeep/condemn.h"
#include "store/upkeep/maintain.h"

/* A blob being hashed: the file as it was when hashing began. */
struct deep_job {
    struct larder_store *store;
    struct larder_digest digest;
    uint64_t expected_bytes;
    int64_t began_ns;
    struct stat st; /* of the file that was hashed */
    bool is_good;
};

/* One entry on its way to a verdict. */
struct candidate {
    struct image_entry entry;
    struct hash_job *hash; /* deep: the job of its blob; several entries may share one */
    enum larder_verdict verdict;
    struct buf why;
    struct larder_error error; /* why it could not be judged; code OK: it was */
};

struct verify_run {
    struct larder_store *store;
    unsigned flags;
    struct candidate *candidates;
    size_t count;
    struct hash_job *jobs;
    struct deep_job *deep;
    size_t job_count;
};

/* ---- deep ---- */

static int open_blob(struct hash_job *job, struct larder_error *e)
{
    struct deep_job *deep = job->arg;
    char hex[LARDER_DIGEST_TEXT_BYTES];
    int dirfd;
    int r = store_blob_dir(deep->store, deep->digest.alg, &dirfd, e);
    if (r < 0)
        return r;
    deep->began_ns = clock_realtime_ns();
    job->fd = openat(dirfd, larder_digest_hex(&deep->digest, hex),
                     O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (job->fd < 0 || fstat(job->fd, &deep->st) < 0)
        return error_errno(e, errno, "blob %s:%.12s", larder_digest_alg_name(deep->digest.alg),
                           hex);
    return 0;
}

/* From a worker thread: only touches its own job and the memo of its own blob. */
static void close_blob(struct hash_job *job)
{
    struct deep_job *deep = job->arg;
    if (job->fd < 0)
        return;
    deep->is_good = job->result == 0 && job->size_bytes == deep->expected_bytes &&
                    larder_digest_equal(&job->digests[deep->digest.alg], &deep->digest);
    if (deep->is_good && !store_is_read_only(deep->store))
        blob_record_verified(deep->store, &deep->digest, job->fd, deep->began_ns, NULL);
    close(job->fd);
    job->fd = -1;
}

static struct hash_job *job_for(struct verify_run *run, const struct image_entry *entry)
{
    for (size_t i = 0; i < run->job_count; i++)
        if (larder_digest_equal(&run->deep[i].digest, &entry->digest))
            return &run->jobs[i];
    struct deep_job *deep = &run->deep[run->job_count];
    struct hash_job *job = &run->jobs[run->job_count++];
    *deep = (struct deep_job){
        .store = run->store, .digest = entry->digest, .expected_bytes = entry->size_bytes};
    *job = (struct hash_job){.fd = -1,
                             .open = open_blob,
                             .close = close_blob,
                             .alg_bits = HASH_BIT(entry->digest.alg),
                             .object = entry->name,
                             .expected_bytes = entry->size_bytes,
                             .arg = deep};
    return job;
}

/* The workers share the handle: what it opens at first use is opened before they start. */
static int open_places(struct verify_run *run, struct larder_error *e)
{
    int unused;
    for (size_t i = 0; i < run->job_count; i++) {
        enum larder_digest_alg alg = run->deep[i].digest.alg;
        int r = store_blob_dir(run->store, alg, &unused, e);
        if (r == 0 && !store_is_read_only(run->store))
            r = store_memo_dir(run->store, alg, &unused, e);
        if (r == 0 && !store_is_read_only(run->store))
            r = store_place(run->store, STORE_TMP, &unused, e);
        if (r < 0)
            return r;
    }
    (void)process_boot_id();
    return 0;
}

static int hash_all(struct verify_run *run, struct larder_error *e)
{
    run->jobs = calloc(run->count ? run->count : 1, sizeof(*run->jobs));
    run->deep = calloc(run->count ? run->count : 1, sizeof(*run->deep));
    if (!run->jobs || !run->deep)
        return error_nomem(e);
    for (size_t i = 0; i < run->count; i++) {
        struct candidate *c = &run->candidates[i];
        if (c->error.code == LARDER_OK && c->entry.digest.alg != LARDER_DIGEST_NONE)
            c->hash = job_for(run, &c->entry);
    }
    struct hash_many_options options = {.observer = store_observer(run->store), .what = "verify"};
    int r = open_places(run, e);
    if (r < 0)
        return r;
    return hash_many(run->jobs, run->job_count, &options, e);
}

/* ---- verdicts ---- */

static void judge_hashed(struct verify_run *run, struct candidate *c, struct larder_digest *actual)
{
    const struct hash_job *job = c->hash;
    const struct deep_job *deep = job->arg;
    char text[LARDER_DIGEST_TEXT_BYTES];
    if (job->result == -LARDER_NOENT) {
        c->verdict = LARDER_VERDICT_UNKNOWN;
        buf_puts(&c->why, "its bytes are not in the store");
    } else if (job->result < 0) {
        c->error = job->error;
    } else if (deep->is_good) {
        /* A mark stays whatever the bytes are: it is about use. */
        enum blob_state state = BLOB_GOOD;
        if (blob_check(run->store, &c->entry.digest, &state, NULL, NULL, &c->error) < 0)
            return;
        c->verdict = state == BLOB_MARKED ? LARDER_VERDICT_UNKNOWN : LARDER_VERDICT_VALID;
        if (state == BLOB_MARKED)
            buf_puts(&c->why, "marked invalid, its path is still in use");
    } else {
        c->verdict = LARDER_VERDICT_CORRUPT;
        *actual = job->digests[c->entry.digest.alg];
        buf_printf(&c->why, "bytes hash to %s", larder_digest_format(actual, text));
    }
}

static void condemn(struct verify_run *run, struct candidate *c, const struct larder_digest *actual)
{
    enum condemn_result how = CONDEMN_GONE;
    enum blob_state state = BLOB_MISSING;
    struct stat st;
    if (store_is_read_only(run->store) ||
        blob_check(run->store, &c->entry.digest, &state, &st, NULL, NULL) < 0 ||
        state == BLOB_MISSING || state == BLOB_MARKED)
        return; /* another entry of the same blob has done it */
    /* Exactly the file that was read: a good one may have its name by now. */
    if (c->hash)
        st = ((const struct deep_job *)c->hash->arg)->st;
    struct buf users = BUF_INIT(8192);
    image_users_say(run->store, &c->entry.digest, &users); /* by its name, while it has it */
    if (condemn_blob(run->store, &c->entry.digest, actual, "image verify: digest differs",
                     store_users(run->store), &st, &how, &c->error) == 0 &&
        how != CONDEMN_GONE) {
        buf_puts(&c->why, how == CONDEMN_MOVED ? "; quarantined" : "; marked, its path is in use");
        buf_append_slice(&c->why, buf_slice(&users));
    }
    buf_done(&users);
}

/* Somebody may have fetched or changed the entry since it was judged. */
static int read_again(struct verify_run *run, struct candidate *c)
{
    struct image_entry again;
    struct larder_digest actual = {0};
    int r = image_entry_read(run->store, c->entry.name, &again, &c->error);
    if (r < 0)
        return r;
    bool is_same = larder_digest_equal(&again.digest, &c->entry.digest);
    image_entry_done(&c->entry);
    c->entry = again;
    if (is_same || again.digest.alg == LARDER_DIGEST_NONE)
        return 0;
    buf_reset(&c->why);
    return image_judge_local(run->store, &c->entry, false, &c->verdict, &actual, &c->why,
                             &c->error);
}

static void ask_upstream(struct verify_run *run, struct candidate *c)
{
    CLEANUP(http_client_freep) struct http_client *client = NULL;
    CLEANUP_CLOSE int lock = -1;
    struct image_published published = {0};
    enum larder_verdict fresh = LARDER_VERDICT_UNKNOWN;
    char lock_name[64];
    int r = 0;
    if (!store_is_read_only(run->store)) {
        store_lock_name("entry", c->entry.name, lock_name);
        r = store_lock(run->store, lock_name, true, true, &lock, &c->error);
    }
    if (r == 0)
        r = read_again(run, c);
    if (r == 0)
        r = image_http_client(run->store, &c->entry, &client, &c->error);
    if (r == 0)
        r = image_judge_fresh(run->store, client, &c->entry, &fresh, &published, &c->why,
                              &c->error);
    if (r == 0 && lock >= 0)
        r = image_entry_write(run->store, &c->entry, &c->error);
    image_published_done(&published);
    if (r < 0)
        return;
    error_clear(&c->error);
    if (c->verdict == LARDER_VERDICT_VALID)
        c->verdict = fresh;
}

static void judge_one(struct verify_run *run, struct candidate *c)
{
    struct larder_digest actual = {0};
    if (c->error.code != LARDER_OK)
        return;
    if (c->hash)
        judge_hashed(run, c, &actual);
    else if (image_judge_local(run->store, &c->entry, false, &c->verdict, &actual, &c->why,
                               &c->error) < 0)
        return;
    if (c->error.code != LARDER_OK)
        return;
    if (c->verdict == LARDER_VERDICT_CORRUPT) {
        condemn(run, c, &actual);
        return;
    }
    if (c->verdict == LARDER_VERDICT_VALID && c->entry.is_invalidated) {
        c->verdict = LARDER_VERDICT_UNKNOWN;
        buf_printf(&c->why, "invalidated: %s",
                   c->entry.invalidated_why ? c->entry.invalidated_why : "by hand");
    }
    if (run->flags & LARDER_IMAGE_VERIFY_FRESH) {
        ask_upstream(run, c);
    } else if (c->verdict == LARDER_VERDICT_VALID && c->entry.changed_ns) {
        c->verdict = LARDER_VERDICT_OUTDATED;
        buf_puts(&c->why, "upstream had other bytes when last asked");
    }
}

/* ---- the run ---- */

struct name_list {
    char **names;
    size_t count, cap;
};

static int collect_name(void *arg, const char *name)
{
    struct name_list *list = arg;
    if (list->count == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        char **grown = reallocarray(list->names, cap, sizeof(*grown));
        if (!grown)
            return -LARDER_NOMEM;
        list->names = grown;
        list->cap = cap;
    }
    list->names[list->count] = strdup(name);
    return list->names[list->count++] ? 0 : -LARDER_NOMEM;
}

static void name_list_done(struct name_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->names[i]);
    free(list->names);
}

static int load_candidates(struct verify_run *run, const char *const *names, size_t count,
                           struct larder_error *e)
{
    run->candidates = calloc(count ? count : 1, sizeof(*run->candidates));
    if (!run->candidates)
        return error_nomem(e);
    run->count = count;
    for (size_t i = 0; i < count; i++) {
        struct candidate *c = &run->candidates[i];
        image_entry_init(&c->entry);
        c->why = BUF_INIT(16 * 1024);
        int r = image_entry_read(run->store, names[i], &c->entry, &c->error);
        if (r == -LARDER_NOMEM)
            return error_nomem(e);
        if (r < 0 && !c->entry.name)
            c->entry.name = strdup(names[i]);
    }
    return 0;
}

static enum larder_code code_of(const struct candidate *c)
{
    if (c->error.code != LARDER_OK)
        return c->error.code;
    switch (c->verdict) {
    case LARDER_VERDICT_VALID:
        return LARDER_OK;
    case LARDER_VERDICT_OUTDATED:
        return LARDER_OUTDATED;
    case LARDER_VERDICT_CORRUPT:
        return LARDER_CORRUPT;
    case LARDER_VERDICT_UNKNOWN:
        return LARDER_UNREACHABLE;
    }
    return LARDER_IO;
}

/* Which of two results the caller should hear of first. */
static int badness(enum larder_code code)
{
    static const enum larder_code order[] = {LARDER_OK,   LARDER_UNREACHABLE, LARDER_OUTDATED,
                                             LARDER_GONE, LARDER_NOENT,       LARDER_CORRUPT};
    for (size_t i = 0; i < ARRAY_LEN(order); i++)
        if (order[i] == code)
            return (int)i;
    return (int)ARRAY_LEN(order) - 1; /* other failures rank just below corrupt */
}

static int report(struct verify_run *run,
                  void (*fn)(void *arg, const struct larder_image_verify_result *result), void *arg,
                  struct larder_error *e)
{
    enum larder_code worst = LARDER_OK;
    size_t bad = 0;
    for (size_t i = 0; i < run->count; i++) {
        struct candidate *c = &run->candidates[i];
        enum larder_code code = code_of(c);
        struct larder_image_verify_result result = {.name = c->entry.name ? c->entry.name : "?",
                                                    .verdict = c->verdict,
                                                    .reason = c->error.code != LARDER_OK
                                                                  ? c->error.msg
                                                              : c->why.n ? c->why.p
                                                                         : "",
                                                    .digest = c->entry.digest,
                                                    .size_bytes = c->entry.size_bytes,
                                                    .code = (int)c->error.code};
        if (fn)
            fn(arg, &result);
        bad += code != LARDER_OK;
        if (badness(code) > badness(worst))
            worst = code;
    }
    if (worst == LARDER_OK)
        return 0;
    return error_set(e, worst, "%zu of %zu images not valid", bad, run->count);
}

static void verify_run_done(struct verify_run *run)
{
    for (size_t i = 0; run->candidates && i < run->count; i++) {
        image_entry_done(&run->candidates[i].entry);
        buf_done(&run->candidates[i].why);
    }
    free(run->candidates);
    free(run->jobs);
    free(run->deep);
}

int larder_image_verify(struct larder_store *store, const char *const *names, size_t count,
                        unsigned flags,
                        void (*fn)(void *arg, const struct larder_image_verify_result *result),
                        void *arg, struct larder_error *e)
{
    struct verify_run run = {.store = store, .flags = flags};
    struct name_list all = {0};
    int r = 0;
    if (!names) {
        r = larder_image_each(store, collect_name, &all, e);
        count = all.count;
    }
    if (r == 0)
        r = load_candidates(&run, names ? names : (const char *const *)all.names, count, e);
    if (r == 0 && (flags & LARDER_IMAGE_VERIFY_DEEP))
        r = hash_all(&run, e);
    for (size_t i = 0; r == 0 && i < run.count; i++)
        judge_one(&run, &run.candidates[i]);
    if (r == 0)
        r = report(&run, fn, arg, e);
    verify_run_done(&run);
    name_list_done(&all);
    return r;
}
