/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many references, each checked once.
 *
 * A fleet runs this at the same hours: order and times are random, connections and tokens are
 * shared, and a registry that limits us is left alone for the round, and in those after it for as
 * long as it said (pauses.h). Its references are not lost but deferred, and told as such. One that
 * can't be reached is not tried for each reference.
 */
#include <larder/update.h>

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "net/http/http.h"
#include "oci/reference.h"
#include "store/dir/ref.h"
#include "update/check.h"
#include "update/pauses.h"

#define POLL_NS (50 * NS_PER_MS) /* how soon a cancel is noticed */
/* Questions that a registry counts and one change costs: an index and a manifest. */
#define LEFT_MIN 2

/* What is checked: REF, what its base is called, and the platform; NULL: as update_ask_read() has
 * them for the REF as it is. */
struct item {
    char *ref;
    char *name;
    char *platform;
    bool is_of_store; /* found by its name: a record's words for the same come first */
    int64_t at_ns;    /* after the begin */
};

/* A registry that is not asked again in this round: it limits us, or can't be reached. */
struct avoided {
    struct avoided *next;
    char *host;
    bool is_away;
    int64_t retry_after_ns; /* 0: it didn't say */
};

struct round {
    struct larder_store *store;
    struct larder_update_options options;
    const struct larder_update_round_options *asked;
    const struct larder_observer *observer; /* NULL */
    struct remote_shared *shared;
    struct item *items;
    size_t n, room;
    struct avoided *avoided;
    struct larder_update_round sum;
};

static void item_done(struct item *item)
{
    free(item->ref);
    free(item->name);
    free(item->platform);
}

static void round_done(struct round *r)
{
    for (size_t i = 0; i < r->n; i++)
        item_done(&r->items[i]);
    free(r->items);
    while (r->avoided) {
        struct avoided *gone = r->avoided;
        r->avoided = gone->next;
        free(gone->host);
        free(gone);
    }
    remote_shared_free(r->shared);
}

/* ---- what is to be checked ---- */

static int add(struct round *r, const char *ref, const char *name, const char *platform,
               bool is_of_store, struct larder_error *e)
{
    if (r->n == r->room) {
        size_t room = r->room ? r->room * 2 : 16;
        struct item *grown = reallocarray(r->items, room, sizeof(*grown));
        if (!grown)
            return error_nomem(e);
        r->items = grown;
        r->room = room;
    }
    struct item made = {.is_of_store = is_of_store};
    int rc = text_copy(ref, &made.ref, e);
    if (rc == 0)
        rc = text_copy(name, &made.name, e);
    if (rc == 0)
        rc = text_copy(platform, &made.platform, e);
    if (rc < 0) {
        item_done(&made);
        return rc;
    }
    r->items[r->n++] = made;
    return 0;
}

/* One that can't be read fails when its turn comes, as any other. */
static int add_given(struct round *r, const char *ref, struct larder_error *e)
{
    struct update_ask ask = {0};
    int rc;

    if (!ref)
        return error_set(e, LARDER_INVAL, "update round: a reference is missing");
    if (update_ask_read(r->store, ref, &r->options, &ask, NULL) < 0)
        rc = add(r, ref, NULL, NULL, false, e);
    else
        rc = add(r, ask.ref, ask.name, ask.platform_text, false, e);
    update_ask_done(&ask);
    return rc;
}

struct adding {
    struct round *round;
    struct larder_error *e;
};

static int add_recorded(void *arg, const struct update_ask *ask)
{
    const struct adding *a = arg;
    return add(a->round, ask->ref, ask->name, ask->platform_text, false, a->e);
}

/* "HOST/NAME:TAG" with a host that can't be part of a name: what a copy from there is called. */
static bool is_of_registry(const char *name)
{
    struct oci_reference reference = {0};
    const char *slash = strchr(name, '/');

    if (!slash)
        return false;
    struct slice host = {name, (size_t)(slash - name)};
    if (!memchr(host.p, '.', host.n) && !memchr(host.p, ':', host.n) &&
        !slice_equal(host, SLICE_LIT("localhost")))
        return false;
    bool is_one = oci_reference_parse(name, &reference, NULL) == 0 && reference.tag &&
                  reference.digest.alg == LARDER_DIGEST_NONE;
    oci_reference_done(&reference);
    return is_one;
}

static int add_named(void *arg, const char *ref_name)
{
    const struct adding *a = arg;
    struct round *r = a->round;
    const char *name = ref_name + strlen(REF_IMAGE_PREFIX);
    struct update_ask ask = {0};
    int rc = 0;

    if (!is_of_registry(name))
        return 0;
    struct larder_update_options own = r->options;
    own.name = name;
    if (update_ask_read(r->store, name, &own, &ask, NULL) == 0)
        rc = add(r, ask.ref, ask.name, ask.platform_text, true, a->e);
    update_ask_done(&ask);
    return rc;
}

static int compare_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "");
}

static int compare_items(const void *a, const void *b)
{
    const struct item *x = a;
    const struct item *y = b;
    int order = compare_text(x->ref, y->ref);

    if (order == 0)
        order = compare_text(x->name, y->name);
    if (order == 0)
        order = x->is_of_store - y->is_of_store;
    return order ? order : compare_text(x->platform, y->platform);
}

static bool is_same(const struct item *kept, const struct item *item)
{
    return compare_text(kept->ref, item->ref) == 0 && compare_text(kept->name, item->name) == 0 &&
           (item->is_of_store || compare_text(kept->platform, item->platform) == 0);
}

static void drop_doubles(struct round *r)
{
    size_t kept = 0;

    if (r->n == 0)
        return;
    qsort(r->items, r->n, sizeof(*r->items), compare_items);
    for (size_t i = 1; i < r->n; i++) {
        if (is_same(&r->items[kept], &r->items[i]))
            item_done(&r->items[i]);
        else
            r->items[++kept] = r->items[i];
    }
    r->n = kept + 1;
}

static int gather(struct round *r, struct larder_error *e)
{
    struct adding adding = {r, e};
    bool is_ostree = r->options.ostree_repo || r->options.sysroot;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < r->asked->n_refs; i++)
        rc = add_given(r, r->asked->refs[i], e);
    if (rc == 0 && r->asked->is_all)
        rc = base_each_ref(r->store, &r->options, add_recorded, &adding, e);
    if (rc == 0 && r->asked->is_all && !is_ostree)
        rc = larder_ref_each(r->store, REF_IMAGE_PREFIX, add_named, &adding, e);
    if (rc == 0)
        drop_doubles(r);
    return rc;
}

/* ---- chance ---- */

static uint64_t random_below(uint64_t limit)
{
    uint64_t number = 0;
    if (limit == 0)
        return 0;
    if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != (ssize_t)sizeof(number))
        number = (uint64_t)clock_monotonic_ns() * 0x9e3779b97f4a7c15U;
    return number % limit;
}

static int compare_times(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int shuffle(struct round *r, struct larder_error *e)
{
    CLEANUP_FREE int64_t *times = calloc(r->n + 1, sizeof(*times));

    if (!times)
        return error_nomem(e);
    for (size_t i = r->n; i > 1; i--) {
        size_t k = (size_t)random_below(i);
        struct item taken = r->items[k];
        r->items[k] = r->items[i - 1];
        r->items[i - 1] = taken;
    }
    if (r->asked->spread_ns <= 0)
        return 0;
    for (size_t i = 0; i < r->n; i++)
        times[i] = (int64_t)random_below((uint64_t)r->asked->spread_ns);
    qsort(times, r->n, sizeof(*times), compare_times);
    for (size_t i = 0; i < r->n; i++)
        r->items[i].at_ns = times[i];
    return 0;
}

static int wait_until(const struct round *r, int64_t until_ns, struct larder_error *e)
{
    const struct larder_observer *o = r->observer;

    for (;;) {
        if (o && o->is_canceled && o->is_canceled(o->arg))
            return error_set(e, LARDER_CANCELED, "canceled");
        int64_t left = until_ns - clock_monotonic_ns();
        if (left <= 0)
            return 0;
        clock_sleep_ns(left < POLL_NS ? left : POLL_NS);
    }
}

/* ---- registries that are left alone ---- */

/* The registry of a reference; NULL: there is none. malloc'd */
static char *host_of(const char *ref)
{
    struct oci_location location = {.path = NULL};
    char *host = NULL;

    if (oci_location_parse(ref, &location, NULL) == 0 && location.transport == OCI_TRANSPORT_DOCKER)
        host = TAKE_PTR(location.reference.host);
    oci_location_done(&location);
    return host;
}

static const struct avoided *find_avoided(const struct round *r, const char *host)
{
    const struct avoided *a = r->avoided;
    while (a && strcmp(a->host, host) != 0)
        a = a->next;
    return a;
}

static void note_wait(struct round *r, int64_t wait_ns)
{
    if (r->sum.retry_after_ns < wait_ns)
        r->sum.retry_after_ns = wait_ns;
}

static int avoid(struct round *r, const char *host, const struct remote_limit *limit, bool is_away,
                 struct larder_error *e)
{
    struct avoided *made = calloc(1, sizeof(*made));
    char *copy = strdup(host);

    if (!made || !copy) {
        free(made);
        free(copy);
        return error_nomem(e);
    }
    *made = (struct avoided){r->avoided, copy, is_away, limit->retry_after_ns};
    r->avoided = made;
    note_wait(r, limit->retry_after_ns);
    return r->asked->pauses ? pauses_add(r->asked->pauses, host, limit->retry_after_ns, e) : 0;
}

/* Nobody there: each further question would wait as long for the same. */
static bool is_away(const struct larder_error *why)
{
    return why->code == LARDER_UNREACHABLE && why->http_status == 0 && !http_is_transient(why);
}

/* ---- the round ---- */

static int tell(const struct round *r, const struct larder_update_event *event)
{
    int rc = r->asked->fn ? r->asked->fn(r->asked->arg, event) : 0;
    return rc < 0 ? rc : 0;
}

static int pass_over(struct round *r, const struct item *item, const struct avoided *avoided)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct larder_update_event event = {.ref = item->ref,
                                        .registry = avoided->host,
                                        .is_failed = true,
                                        .is_deferred = !avoided->is_away,
                                        .error = &why};
    char wait[32];

    if (avoided->is_away)
        error_set(&why, LARDER_UNREACHABLE, "%s: not asked: %s could not be reached", item->ref,
                  avoided->host);
    else if (avoided->retry_after_ns > 0)
        error_set(&why, LARDER_BUSY, "%s: not asked: %s wants to be left alone for %s", item->ref,
                  avoided->host, duration_format(avoided->retry_after_ns, wait));
    else
        error_set(&why, LARDER_BUSY, "%s: not asked: %s limits how much it is asked", item->ref,
                  avoided->host);
    r->sum.n_failed += avoided->is_away;
    r->sum.n_deferred += !avoided->is_away;
    return tell(r, &event);
}

static bool is_available(enum larder_update_state state)
{
    return state == LARDER_UPDATE_AVAILABLE || state == LARDER_UPDATE_STAGED;
}

static int tell_found(struct round *r, const struct item *item, const char *host,
                      const struct check_before *before, const struct larder_update *update)
{
    struct larder_update_event event = {
        .ref = item->ref, .registry = host, .before = before->state, .update = update};
    bool is_update = is_available(update->state);

    if (before->state == LARDER_UPDATE_AVAILABLE && is_update)
        event.is_changed = !larder_digest_equal(&before->digest, &update->update.digest);
    else
        event.is_changed = before->state != update->state;
    r->sum.n_available += is_update;
    r->sum.n_changed += event.is_changed;
    return tell(r, &event);
}

static int tell_failed(struct round *r, const struct item *item, const char *host,
                       const struct check_before *before, struct larder_error *why, bool is_limited)
{
    struct larder_update_event event = {.ref = item->ref,
                                        .registry = host,
                                        .is_failed = true,
                                        .is_deferred = is_limited,
                                        .before = before->state,
                                        .error = why};

    if (is_limited)
        why->code = LARDER_BUSY;
    r->sum.n_deferred += is_limited;
    r->sum.n_failed += !is_limited;
    return tell(r, &event);
}

static int check_item(struct round *r, const struct item *item, struct remote_limit *limit,
                      struct check_before *before, struct larder_update *ret,
                      struct larder_error *e)
{
    const struct check_context context = {.shared = r->shared, .limit = limit};
    struct larder_update_options own = r->options;
    struct update_ask ask = {0};

    own.name = item->name;
    if (item->platform)
        own.platform = item->platform;
    int rc = update_ask_read(r->store, item->ref, &own, &ask, e);
    if (rc == 0)
        rc = check_run(&ask, &context, ret, before, e);
    update_ask_done(&ask);
    return rc;
}

/* Whether it is to be left alone at the time of the item: since this round, or since an earlier. */
static bool is_avoided(struct round *r, char *host, int64_t at_ns, struct avoided *ret)
{
    const struct avoided *found = find_avoided(r, host);
    int64_t now_ns = clock_monotonic_ns();
    int64_t left_ns;

    if (found) {
        *ret = *found;
        return true;
    }
    if (pauses_left(r->asked->pauses, host, at_ns > now_ns ? at_ns : now_ns) == 0)
        return false;
    left_ns = pauses_left(r->asked->pauses, host, now_ns);
    note_wait(r, left_ns);
    *ret = (struct avoided){.host = host, .retry_after_ns = left_ns};
    return true;
}

static int run_item(struct round *r, const struct item *item, int64_t begin_ns,
                    struct larder_error *e)
{
    CLEANUP_FREE char *host = host_of(item->ref);
    struct avoided avoided = {.host = NULL};
    struct check_before before = {.state = LARDER_UPDATE_UNKNOWN};
    struct larder_update update = {.size = sizeof(update)};
    struct larder_error why = LARDER_ERROR_INIT;
    struct remote_limit limit = {0};

    if (host && is_avoided(r, host, begin_ns + item->at_ns, &avoided))
        return pass_over(r, item, &avoided);
    int rc = wait_until(r, begin_ns + item->at_ns, e);
    if (rc < 0)
        return rc;
    rc = check_item(r, item, &limit, &before, &update, &why);
    if (rc == -LARDER_CANCELED || rc == -LARDER_NOMEM) {
        if (e)
            *e = why;
        return rc;
    }
    bool is_limited = limit.is_reached || (limit.has_left && limit.left < LEFT_MIN);
    bool is_gone = !is_limited && rc < 0 && is_away(&why);
    int added = host && (is_limited || is_gone) ? avoid(r, host, &limit, is_gone, e) : 0;
    if (added == 0 && rc == 0)
        added = tell_found(r, item, host, &before, &update);
    else if (added == 0)
        added = tell_failed(r, item, host, &before, &why, limit.is_reached);
    larder_update_done(&update);
    return added;
}

static int check_options(const struct larder_store *store,
                         const struct larder_update_options *options,
                         const struct larder_update_round_options *round, struct larder_error *e)
{
    bool is_ostree = options && (options->ostree_repo || options->sysroot);

    if (!round || round->size != sizeof(*round) || (round->n_refs > 0 && !round->refs))
        return error_set(e, LARDER_INVAL, "update round options: malformed");
    if (options && options->size != sizeof(*options))
        return error_set(e, LARDER_INVAL, "update options: size %zu, expected %zu", options->size,
                         sizeof(*options));
    if (!store && !is_ostree)
        return error_set(e, LARDER_INVAL, "update round: neither a store nor an ostree repository");
    if (options && options->name && (round->is_all || round->n_refs != 1))
        return error_set(e, LARDER_INVAL, "update round: store:%s is one image, expected one REF",
                         options->name);
    return 0;
}

int larder_update_round_run(struct larder_store *store, const struct larder_update_options *options,
                            const struct larder_update_round_options *round,
                            struct larder_update_round *ret, struct larder_error *e)
{
    static const struct larder_update_options none = LARDER_UPDATE_OPTIONS_INIT;
    int rc = check_options(store, options, round, e);

    if (rc < 0)
        return rc;
    struct round r = {.store = store, .options = options ? *options : none, .asked = round};
    const struct larder_registry_options *registry = r.options.registry;
    r.observer = r.options.observer ? r.options.observer : registry ? registry->observer : NULL;
    rc = remote_shared_new(registry, r.observer, &r.shared, e);
    if (rc == 0)
        rc = gather(&r, e);
    if (rc == 0)
        rc = shuffle(&r, e);
    int64_t begin_ns = clock_monotonic_ns();
    for (size_t i = 0; rc == 0 && i < r.n; i++)
        rc = run_item(&r, &r.items[i], begin_ns, e);
    r.sum.size = ret->size;
    r.sum.n_refs = r.n;
    if (rc == 0)
        *ret = r.sum;
    round_done(&r);
    return rc;
}
