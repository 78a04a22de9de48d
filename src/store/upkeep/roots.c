/* SPDX-License-Identifier: Apache-2.0 */
/* Digests that refs and leases keep (see roots.h). */
#include "store/upkeep/roots.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "store/dir/dir.h"
#include "store/dir/lease.h"
#include "store/dir/ref.h"
#include "store/upkeep/index_sync.h"
#include "store/upkeep/reach.h"

/*
 * A directory that changed this shortly before it was read may change again under the same
 * timestamp (kernels before 6.13 stamp once a tick, 10 ms at most); then it is read again.
 */
#define TICK_NS (50 * NS_PER_MS)

static int compare(const void *a, const void *b)
{
    return digest_compare(a, b);
}

int digest_set_add(struct digest_set *set, const struct larder_digest *digest,
                   struct larder_error *e)
{
    if (set->count == set->cap) {
        size_t wanted = set->cap ? set->cap * 2 : 64;
        struct larder_digest *bigger = reallocarray(set->digests, wanted, sizeof(*bigger));
        if (!bigger)
            return error_nomem(e);
        set->digests = bigger;
        set->cap = wanted;
    }
    set->digests[set->count++] = *digest;
    return 0;
}

void digest_set_sort(struct digest_set *set)
{
    if (set->count < 2)
        return;
    qsort(set->digests, set->count, sizeof(*set->digests), compare);
    size_t kept = 1;
    for (size_t i = 1; i < set->count; i++) {
        if (compare(&set->digests[i], &set->digests[kept - 1]) != 0)
            set->digests[kept++] = set->digests[i];
    }
    set->count = kept;
}

bool digest_set_has(const struct digest_set *set, const struct larder_digest *digest)
{
    return set->count > 0 &&
           bsearch(digest, set->digests, set->count, sizeof(*set->digests), compare) != NULL;
}

void digest_set_done(struct digest_set *set)
{
    free(set->digests);
    *set = (struct digest_set){NULL, 0, 0};
}

void roots_done(struct roots *roots)
{
    digest_set_done(&roots->refs);
    digest_set_done(&roots->leases);
    free(roots->bad_ref);
    roots->bad_ref = NULL;
    reach_free(roots->reach);
    reach_free(roots->held);
    roots->reach = roots->held = NULL;
}

/* ---- refs ---- */

/* A ref that counts only if its subject is kept. */
struct referrer {
    struct larder_digest subject;
    struct json *document; /* NULL once it was added */
    char *name;
};

struct filling {
    struct larder_store *store;
    struct roots *roots;
    struct referrer *referrers;
    size_t n_referrers, cap;
    struct larder_error *e;
};

bool roots_referrer_subject(const char *name, struct larder_digest *ret)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    size_t n_prefix = strlen(ROOTS_REFERRER_PREFIX);
    if (strncmp(name, ROOTS_REFERRER_PREFIX, n_prefix) != 0)
        return false;
    size_t n = strcspn(name + n_prefix, "/");
    if (n >= sizeof(text))
        return false;
    memcpy(text, name + n_prefix, n);
    text[n] = '\0';
    char *dash = strchr(text, '-');
    if (!dash)
        return false;
    *dash = ':';
    return larder_digest_parse(text, n, ret, NULL) == 0;
}

static int note_bad_ref(struct filling *filling, const char *name)
{
    if (filling->roots->bad_ref)
        return 0;
    filling->roots->bad_ref = strdup(name);
    return filling->roots->bad_ref ? 0 : error_nomem(filling->e);
}

static int add_kept(void *arg, const struct larder_digest *digest)
{
    struct filling *filling = arg;
    bool is_known = true;
    return reach_add(filling->roots->reach, digest, NULL, &is_known, filling->e);
}

/* The blobs it names (checked before), and what is below the one that it points to. */
static int add_document(struct filling *filling, const char *name, const struct json *document)
{
    const struct json *descriptor = json_get(document, "descriptor");
    const char *digest_text = json_get_string(descriptor, "digest");
    struct larder_digest digest;
    bool is_known = true;
    int result = ref_each_digest(document, add_kept, filling, filling->e);
    if (result == 0 && digest_text &&
        larder_digest_parse(digest_text, (size_t)-1, &digest, NULL) == 0)
        result = reach_add(filling->roots->reach, &digest, json_get_string(descriptor, "mediaType"),
                           &is_known, filling->e);
    if (result == 0 && !is_known)
        result = note_bad_ref(filling, name);
    return result;
}

static int put_off(struct filling *filling, const char *name, const struct larder_digest *subject,
                   struct json **document)
{
    if (filling->n_referrers == filling->cap) {
        size_t wanted = filling->cap ? filling->cap * 2 : 16;
        struct referrer *bigger = reallocarray(filling->referrers, wanted, sizeof(*bigger));
        if (!bigger)
            return error_nomem(filling->e);
        filling->referrers = bigger;
        filling->cap = wanted;
    }
    char *copy = strdup(name);
    if (!copy)
        return error_nomem(filling->e);
    filling->referrers[filling->n_referrers++] =
        (struct referrer){*subject, TAKE_PTR(*document), copy};
    return 0;
}

/* Referrers of what is kept, and of those: as long as one more is found. */
static int add_referrers(struct filling *filling)
{
    bool is_more = true;
    int result = 0;
    while (result == 0 && is_more) {
        is_more = false;
        for (size_t i = 0; result == 0 && i < filling->n_referrers; i++) {
            struct referrer *referrer = &filling->referrers[i];
            if (!referrer->document || !reach_has(filling->roots->reach, &referrer->subject))
                continue;
            result = add_document(filling, referrer->name, referrer->document);
            json_free(referrer->document);
            referrer->document = NULL;
            is_more = true;
        }
    }
    return result;
}

static int add_ref(void *arg, const char *name)
{
    struct filling *filling = arg;
    CLEANUP(json_freep) struct json *document = NULL;
    struct larder_error why = LARDER_ERROR_INIT;
    struct larder_digest subject;
    int result = ref_read(filling->store, name, &document, &why);
    if (result == -LARDER_NOENT)
        return 0;
    if (result == -LARDER_CORRUPT || result == -LARDER_UNSUPPORTED || result == -LARDER_INVAL ||
        result == -LARDER_LIMIT)
        return note_bad_ref(filling, name);
    if (result == 0 && roots_referrer_subject(name, &subject))
        return put_off(filling, name, &subject, &document);
    if (result == 0)
        return add_document(filling, name, document);
    if (result < 0 && filling->e)
        *filling->e = why;
    return result;
}

static int add_lease(void *arg, const struct lease *lease)
{
    struct filling *filling = arg;
    struct roots *roots = filling->roots;
    bool is_known = true;
    int result = 0;
    if (lease_check(lease) == PROCESS_DEAD)
        return 0;
    if (lease->media_type && !roots->held)
        result = reach_new(filling->store, &roots->held, filling->e);
    if (result == 0 && lease->media_type && roots->held)
        result = reach_add(roots->held, &lease->digest, lease->media_type, &is_known, filling->e);
    if (result < 0)
        return result;
    roots->is_held_unknown |= !is_known;
    return digest_set_add(&roots->leases, &lease->digest, filling->e);
}

/* now: taken before, so that what changes after it is younger. */
static int print_place(struct larder_store *store, enum store_place place, bool *ret_is_settled,
                       struct index_print *ret, struct larder_error *e)
{
    int dirfd = -1;
    struct stat st;
    int64_t now = clock_coarse_ns();
    int result = store_place(store, place, &dirfd, e);
    if (result == -LARDER_NOENT) {
        *ret = (struct index_print){0, 0, 0, 0};
        *ret_is_settled = false;
        error_clear(e);
        return 0;
    }
    if (result < 0)
        return result;
    if (fstat(dirfd, &st) < 0)
        return error_errno(e, errno, "store %s", larder_store_path(store));
    *ret = (struct index_print){st.st_ino, 0, stat_time_ns(&st.st_mtim), stat_time_ns(&st.st_ctim)};
    *ret_is_settled = now - ret->mtime_ns > TICK_NS && now - ret->ctime_ns > TICK_NS;
    return 0;
}

static int collect(void *arg, const struct larder_digest *digest)
{
    struct filling *filling = arg;
    return digest_set_add(&filling->roots->refs, digest, filling->e);
}

static int load_refs(struct larder_store *store, struct roots *roots,
                     const struct index_print *print, bool is_settled, struct larder_error *e)
{
    struct filling filling = {.store = store, .roots = roots, .e = e};
    int result = roots->reach ? 0 : reach_new(store, &roots->reach, e);
    if (result < 0)
        return result;
    reach_reset(roots->reach);
    roots->refs.count = 0;
    free(roots->bad_ref);
    roots->bad_ref = NULL;
    roots->refs_print = is_settled ? *print : (struct index_print){0, 0, 0, 0};
    result = ref_each(store, "", add_ref, &filling, e);
    if (result == 0)
        result = add_referrers(&filling);
    if (result == 0)
        result = reach_each(roots->reach, collect, &filling);
    digest_set_sort(&roots->refs);
    for (size_t i = 0; i < filling.n_referrers; i++) {
        json_free(filling.referrers[i].document);
        free(filling.referrers[i].name);
    }
    free(filling.referrers);
    return result;
}

static int load_leases(struct larder_store *store, struct roots *roots,
                       const struct index_print *print, bool is_settled, struct larder_error *e)
{
    struct filling filling = {.store = store, .roots = roots, .e = e};
    roots->leases.count = 0;
    roots->is_held_unknown = false;
    if (roots->held)
        reach_reset(roots->held);
    roots->leases_print = is_settled ? *print : (struct index_print){0, 0, 0, 0};
    int result = lease_each(store, NULL, add_lease, &filling, e);
    digest_set_sort(&roots->leases);
    return result;
}

static bool is_still(const struct index_print *recorded, const struct index_print *now)
{
    return !index_print_is_none(recorded) && index_print_equal(recorded, now);
}

int roots_refresh(struct larder_store *store, struct roots *roots, struct larder_error *e)
{
    struct index_print refs, leases;
    bool refs_settled = false, leases_settled = false;
    int result = print_place(store, STORE_REFS, &refs_settled, &refs, e);
    if (result == 0 && !is_still(&roots->refs_print, &refs))
        result = load_refs(store, roots, &refs, refs_settled, e);
    if (result == 0)
        result = print_place(store, STORE_LEASES, &leases_settled, &leases, e);
    if (result == 0 && !is_still(&roots->leases_print, &leases))
        result = load_leases(store, roots, &leases, leases_settled, e);
    return result;
}

int roots_load(struct larder_store *store, struct roots *roots, struct larder_error *e)
{
    roots->refs_print = (struct index_print){0, 0, 0, 0};
    roots->leases_print = (struct index_print){0, 0, 0, 0};
    return roots_refresh(store, roots, e);
}

bool roots_have_ref(const struct roots *roots, const struct larder_digest *digest)
{
    return digest_set_has(&roots->refs, digest);
}

int roots_have_lease(struct larder_store *store, const struct roots *roots,
                     const struct larder_digest *digest, bool *ret, struct larder_error *e)
{
    *ret = roots->is_held_unknown || (roots->held && reach_has(roots->held, digest));
    if (*ret || !digest_set_has(&roots->leases, digest))
        return 0;
    return lease_holds(store, digest, ret, e);
}
