/* SPDX-License-Identifier: Apache-2.0 */
/* larder_update_round_run: what is in a round, what it tells, who is left alone. */
#include "update_registry.h"

#include "base/clock.h"

#define EVENTS 64

static struct bench b;
static struct registry_server other;

/* What was told, sorted by reference. */
struct told {
    char ref[BENCH_TEXT];
    bool is_failed, is_changed, is_deferred;
    enum larder_code code;
    enum larder_update_state before, state;
    char error[LARDER_ERROR_MSG_BYTES];
};
static struct told told[EVENTS];
static size_t n_told;
static int result; /* of the callback */

static int on_event(void *arg, const struct larder_update_event *event)
{
    assert_ptr_equal(arg, &b);
    assert_true(n_told < EVENTS);
    struct told *t = &told[n_told++];
    memset(t, 0, sizeof(*t));
    snprintf(t->ref, sizeof(t->ref), "%s", event->ref);
    t->is_failed = event->is_failed;
    t->is_changed = event->is_changed;
    t->is_deferred = event->is_deferred;
    assert_true(!event->is_deferred || event->registry);
    t->before = event->before;
    assert_int_equal(event->update == NULL, event->is_failed);
    assert_int_equal(event->error == NULL, !event->is_failed);
    if (event->update) {
        assert_string_equal(event->update->ref, event->ref);
        t->state = event->update->state;
    } else {
        t->code = event->error->code;
        snprintf(t->error, sizeof(t->error), "%s", event->error->msg);
    }
    return result;
}

static int compare_told(const void *a, const void *c)
{
    const struct told *x = a;
    const struct told *y = c;
    return strcmp(x->ref, y->ref);
}

/* refs: "a:1", NULL-ended, at the first server. */
static struct larder_update_round_options asked(const char *const *refs)
{
    static const char *list[EVENTS];
    struct larder_update_round_options o = LARDER_UPDATE_ROUND_OPTIONS_INIT;
    for (o.n_refs = 0; refs && refs[o.n_refs]; o.n_refs++) {
        static char text[EVENTS][BENCH_TEXT];
        snprintf(text[o.n_refs], BENCH_TEXT, "%s", bench_at(&b, refs[o.n_refs]));
        list[o.n_refs] = text[o.n_refs];
    }
    o.refs = list;
    o.fn = on_event;
    o.arg = &b;
    return o;
}

static struct larder_update_round run(const struct larder_update_round_options *o)
{
    struct larder_update_round sum = {.size = sizeof(sum)};
    n_told = 0;
    result = 0;
    bench_quiet(&b);
    if (larder_update_round_run(b.store, &b.options, o, &sum, &b.e) < 0)
        fail_msg("%s", b.e.msg);
    assert_int_equal(sum.size, sizeof(sum));
    assert_int_equal(sum.n_refs, n_told);
    qsort(told, n_told, sizeof(told[0]), compare_told);
    return sum;
}

static void test_states(void **state)
{
    static const char *const refs[] = {"a:1", "b:1", "c:1", "missing:1", NULL};
    (void)state;
    bench_reset(&b, "{}");
    bench_image(&b, "a", "1", 1, "");
    bench_image(&b, "b", "1", 1, "");
    bench_image(&b, "c", "1", 1, "");
    bench_copy(&b, "a:1");
    bench_copy(&b, "b:1");
    bench_image(&b, "b", "1", 2, "");
    const struct larder_update_round_options o = asked(refs);
    struct larder_update_round sum = run(&o);
    assert_int_equal(sum.n_refs, 4);
    assert_int_equal(sum.n_available, 2);
    assert_int_equal(sum.n_changed, 3);
    assert_int_equal(sum.n_failed, 1);
    assert_int_equal(sum.n_deferred, 0);
    assert_int_equal(sum.retry_after_ns, 0);
    assert_int_equal(told[0].state, LARDER_UPDATE_UNCHANGED);
    assert_int_equal(told[0].before, LARDER_UPDATE_UNKNOWN);
    assert_int_equal(told[1].state, LARDER_UPDATE_AVAILABLE);
    assert_true(told[3].is_failed && told[3].code == LARDER_NOENT);
    /* Nothing is new: a question each. */
    sum = run(&o);
    assert_int_equal(sum.n_changed, 0);
    assert_int_equal(sum.n_available, 2);
    assert_int_equal(told[1].before, LARDER_UPDATE_AVAILABLE);
    assert_int_equal(told[0].before, LARDER_UPDATE_UNCHANGED);
    assert_int_equal(bench_requests(&b), 4);
    /* Another update, one that is none any more, and a first one. */
    bench_image(&b, "b", "1", 3, "");
    bench_image(&b, "a", "1", 2, "");
    sum = run(&o);
    assert_int_equal(sum.n_changed, 2);
    assert_true(told[0].is_changed && told[1].is_changed && !told[2].is_changed);
    assert_int_equal(sum.n_available, 3);
    bench_image(&b, "a", "1", 1, "");
    sum = run(&o);
    assert_int_equal(sum.n_changed, 1);
    assert_int_equal(told[0].before, LARDER_UPDATE_AVAILABLE);
    assert_int_equal(told[0].state, LARDER_UPDATE_UNCHANGED);
}

/* Given, recorded, and in the store under a registry's name: each once. */
static void test_all(void **state)
{
    static const char *const refs[] = {"a:1", "a:1", NULL};
    (void)state;
    char text[BENCH_TEXT];
    bench_reset(&b, "{}");
    for (char repo[] = "a"; repo[0] <= 'd'; repo[0]++) {
        bench_image(&b, repo, "1", 1, ", \"platforms\": [\"linux/amd64\", \"linux/arm64\"]");
        snprintf(text, sizeof(text), "%s:1", repo);
        if (repo[0] != 'd')
            bench_copy(&b, text);
    }
    /* Recorded for another platform, and under another name. */
    b.options.platform = "linux/arm64";
    struct larder_update u = bench_check(&b, "b:1");
    larder_update_done(&u);
    b.options.name = "mine";
    u = bench_check(&b, "d:1");
    larder_update_done(&u);
    b.options.name = NULL;
    b.options.platform = "linux/amd64";
    struct larder_copy_options copy = LARDER_COPY_OPTIONS_INIT;
    struct larder_copy_result copied = {.size = sizeof(copied)};
    static const char *const names[] = {"store:mine", "store:library/debian:13"};
    copy.source = bench_at(&b, "a:1");
    copy.destinations = names;
    copy.n_destinations = 2;
    copy.source_options = &b.registry;
    assert_int_equal(larder_copy(b.store, &copy, &copied, &b.e), 0);

    struct larder_update_round_options o = asked(refs);
    o.is_all = true;
    struct larder_update_round sum = run(&o);
    assert_int_equal(sum.n_refs, 4);
    assert_int_equal(sum.n_failed, 0);
    static const char *const rests[] = {"a:1", "b:1", "c:1", "d:1"};
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(told[i].ref, bench_at(&b, rests[i]));
    assert_int_equal(told[1].before, LARDER_UPDATE_UNCHANGED); /* arm64's record */
    assert_int_equal(told[0].before, LARDER_UPDATE_UNKNOWN);
    assert_int_equal(told[3].state, LARDER_UPDATE_UNCHANGED); /* "mine" is that image */
    sum = run(&o);
    assert_int_equal(sum.n_refs, 4);
    assert_int_equal(sum.n_changed, 0);
    o.is_all = false;
    o.n_refs = 0;
    sum = run(&o);
    assert_int_equal(sum.n_refs, 0);
}

static size_t count_busy(void)
{
    size_t n = 0;
    for (size_t i = 0; i < n_told; i++)
        n += told[i].is_failed && told[i].is_deferred && told[i].code == LARDER_BUSY;
    return n;
}

/* A registry that limits us is asked once; others are still asked. */
static void test_limits(void **state)
{
    static const char *const refs[] = {"a:1", "b:1", "c:1", "d:1", NULL};
    static const struct {
        const char *settings;
        int64_t after_s;
        int requests;
    } cases[] = {
        {"{\"rules\": [{\"match\": \"^HEAD\", \"status\": 429, \"retry_after\": \"90\"}]}", 90, 1},
        {"{\"rules\": [{\"match\": \"^HEAD\", \"status\": 429}]}", 0, 1},
        {"{\"rules\": [{\"match\": \"^HEAD\", \"status\": 503, \"retry_after\": \"7\"}]}", 7, 1},
        {"{\"rules\": [{\"match\": \"^GET\", \"status\": 429, \"retry_after\": \"3600\"}]}", 3600,
         2},
    };
    (void)state;
    char text[BENCH_TEXT];
    bench_reset(&b, "{}");
    b.net.retries = 4;
    registry_server_image(&other, "{\"repo\": \"x\", \"tag\": \"1\"}");
    snprintf(text, sizeof(text), "docker://127.0.0.1:%d/x:1", other.port);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct larder_update_round_options o = asked(refs);
        const char *list[EVENTS];
        memcpy(list, o.refs, o.n_refs * sizeof(list[0]));
        list[o.n_refs++] = text;
        o.refs = list;
        for (char repo[] = "a"; repo[0] <= 'd'; repo[0]++)
            bench_image(&b, repo, "1", 1, "");
        bench_set(&b, cases[i].settings);
        struct larder_update_round sum = run(&o);
        assert_int_equal(bench_requests(&b), cases[i].requests);
        assert_int_equal(sum.n_deferred, 4);
        assert_int_equal(count_busy(), 4);
        assert_int_equal(sum.n_failed, 0);
        assert_int_equal(sum.n_available, 1);
        assert_int_equal(sum.retry_after_ns, cases[i].after_s * NS_PER_S);
    }
    /* One that only fails is asked for each. */
    bench_set(&b, "{\"rules\": [{\"match\": \"^HEAD\", \"status\": 404}]}");
    struct larder_update_round_options o = asked(refs);
    struct larder_update_round sum = run(&o);
    assert_int_equal(sum.n_failed, 4);
    assert_int_equal(bench_requests(&b), 4);
}

/* A pause outlasts the round that it was asked for in, for that registry alone. */
static void test_pauses(void **state)
{
    static const char *const refs[] = {"a:1", "b:1", NULL};
    struct larder_update_pauses *pauses = NULL;
    (void)state;
    char text[BENCH_TEXT];
    const char *list[EVENTS];
    bench_reset(&b, "{}");
    bench_image(&b, "a", "1", 1, "");
    bench_image(&b, "b", "1", 1, "");
    registry_server_image(&other, "{\"repo\": \"x\", \"tag\": \"1\"}");
    snprintf(text, sizeof(text), "docker://127.0.0.1:%d/x:1", other.port);
    struct larder_update_round_options o = asked(refs);
    memcpy(list, o.refs, o.n_refs * sizeof(list[0]));
    list[o.n_refs++] = text;
    o.refs = list;
    assert_int_equal(larder_update_pauses_new(&pauses, &b.e), 0);
    o.pauses = pauses;
    bench_set(&b, "{\"rules\": [{\"match\": \"^HEAD\", \"status\": 429, "
                  "\"retry_after\": \"3600\", \"times\": 1}]}");
    struct larder_update_round sum = run(&o);
    assert_int_equal(sum.n_deferred, 2);
    assert_int_equal(sum.retry_after_ns, 3600 * NS_PER_S);
    assert_int_equal(bench_requests(&b), 1);
    for (int i = 0; i < 3; i++) {
        sum = run(&o);
        assert_int_equal(sum.n_deferred, 2);
        assert_int_equal(count_busy(), 2);
        assert_int_equal(sum.n_available, 1);
        assert_true(sum.retry_after_ns > 3590 * NS_PER_S && sum.retry_after_ns < 3600 * NS_PER_S);
        assert_int_equal(bench_requests(&b), 0);
    }
    /* Who keeps nothing asks. */
    o.pauses = NULL;
    sum = run(&o);
    assert_int_equal(sum.n_deferred, 0);
    assert_int_equal(bench_requests(&b), 6); /* each: what, its manifest, its configuration */
    larder_update_pauses_free(pauses);
    /* A moment is over soon; one without a time was for that round. */
    static const char *const waits[] = {", \"retry_after\": \"1\"", ""};
    for (size_t i = 0; i < ARRAY_LEN(waits); i++) {
        char rules[BENCH_TEXT];
        assert_int_equal(larder_update_pauses_new(&pauses, &b.e), 0);
        o.pauses = pauses;
        snprintf(rules, sizeof(rules),
                 "{\"rules\": [{\"match\": \"^HEAD\", \"status\": 429, \"times\": 1%s}]}",
                 waits[i]);
        bench_set(&b, rules);
        sum = run(&o);
        assert_int_equal(sum.n_deferred, 2);
        if (i == 0)
            clock_sleep_ns(1100 * NS_PER_MS);
        sum = run(&o);
        assert_int_equal(sum.n_deferred, 0);
        assert_int_equal(sum.n_available, 3);
        larder_update_pauses_free(pauses);
    }
    larder_update_pauses_free(NULL);
}

/* One that nobody answers for is tried once; its references fail, the others don't. */
static void test_away(void **state)
{
    static const char *const refs[] = {"a:1", NULL};
    (void)state;
    char text[4][BENCH_TEXT];
    const char *list[5];
    bench_reset(&b, "{}");
    bench_image(&b, "a", "1", 1, "");
    struct larder_update_round_options o = asked(refs);
    list[0] = o.refs[0];
    for (int i = 0; i < 4; i++) {
        /* A port that is never given to servers. */
        snprintf(text[i], sizeof(text[i]), "docker://127.0.0.1:1/x:%d", i);
        list[i + 1] = text[i];
    }
    o.refs = list;
    o.n_refs = 5;
    struct larder_update_round sum = run(&o);
    assert_int_equal(sum.n_failed, 4);
    assert_int_equal(sum.n_available, 1);
    assert_int_equal(sum.n_deferred, 0);
    int passed_over = 0;
    for (size_t i = 0; i < n_told; i++) {
        assert_true(!told[i].is_failed || told[i].code == LARDER_UNREACHABLE);
        passed_over += strstr(told[i].error, "not asked") != NULL;
    }
    assert_int_equal(passed_over, 3);
}

/* The last counted questions are not spent. */
static void test_rate_left(void **state)
{
    static const char *const refs[] = {"a:1", "b:1", "c:1", NULL};
    (void)state;
    bench_reset(&b, "{}");
    for (char repo[] = "a"; repo[0] <= 'c'; repo[0]++)
        bench_image(&b, repo, "1", 1, "");
    bench_set(&b, "{\"rules\": [{\"match\": \"^HEAD\", \"headers\": {\"ratelimit-remaining\": "
                  "\"1;w=21600\"}}]}");
    struct larder_update_round_options o = asked(refs);
    struct larder_update_round sum = run(&o);
    assert_int_equal(sum.n_available, 1);
    assert_int_equal(sum.n_deferred, 2);
    assert_int_equal(count_busy(), 2);
    assert_int_equal(sum.retry_after_ns, 0);
    bench_set(&b, "{\"rules\": [{\"match\": \"^HEAD\", \"headers\": {\"ratelimit-remaining\": "
                  "\"90;w=21600\"}}]}");
    sum = run(&o);
    assert_int_equal(sum.n_deferred, 0);
}

/* One connection, one challenge. */
static void test_shared(void **state)
{
    static const char *const refs[] = {"a:1", "b:1", "c:1", "a:2", NULL};
    (void)state;
    bench_reset(&b, "{}");
    for (char repo[] = "a"; repo[0] <= 'c'; repo[0]++)
        bench_image(&b, repo, "1", 1, "");
    bench_image(&b, "a", "2", 2, "");
    bench_set(&b, "{\"auth\": \"bearer\"}");
    b.registry.is_anonymous = false;
    b.registry.user = "user";
    b.registry.password = "secret";
    struct larder_update_round_options o = asked(refs);
    struct larder_update_round sum = run(&o);
    assert_int_equal(sum.n_available, 4);
    assert_int_equal(registry_server_count(&b.server, " 401 "), 1);
    assert_int_equal(registry_server_count(&b.server, "/token"), 3);
    struct buf log = registry_server_log(&b.server);
    int first = 0;
    for (char *line = strtok(log.p, "\n"); line; line = strtok(NULL, "\n")) {
        int at = 0;
        assert_int_equal(sscanf(line, "%*s %*s %*s %*s %*s %*s %d", &at), 1);
        first = first ? first : at;
        assert_int_equal(at, first);
    }
    buf_done(&log);
}

static void test_order(void **state)
{
    static const char *const refs[] = {"a:1", "b:1", "c:1", "d:1", "e:1", "f:1", NULL};
    (void)state;
    bool is_other = false;
    bench_reset(&b, "{}");
    const struct larder_update_round_options o = asked(refs);
    for (int i = 0; i < 20 && !is_other; i++) {
        struct larder_update_round sum = {.size = sizeof(sum)};
        n_told = 0;
        assert_int_equal(larder_update_round_run(b.store, &b.options, &o, &sum, &b.e), 0);
        for (size_t k = 0; k < n_told; k++)
            is_other = is_other || strcmp(told[k].ref, o.refs[k]) != 0;
    }
    assert_true(is_other);
}

static void test_spread(void **state)
{
    static const char *const refs[] = {"a:1", "b:1", "c:1", "d:1", "e:1", "f:1", NULL};
    (void)state;
    bench_reset(&b, "{}");
    struct larder_update_round_options o = asked(refs);
    o.spread_ns = 2 * NS_PER_S;
    int64_t start = clock_monotonic_ns();
    run(&o);
    int64_t took = clock_monotonic_ns() - start;
    /* All six in the first tenth: once in a million. */
    assert_true(took > NS_PER_S / 5);
    /* Canceled while it waits. */
    o.spread_ns = 3600 * NS_PER_S;
    struct larder_update_round sum = {.size = sizeof(sum), .n_refs = 77};
    b.is_canceled = true;
    assert_int_equal(larder_update_round_run(b.store, &b.options, &o, &sum, &b.e),
                     -LARDER_CANCELED);
    assert_int_equal(sum.n_refs, 77);
}

static void test_ends(void **state)
{
    static const char *const refs[] = {"a:1", "b:1", "c:1", NULL};
    (void)state;
    struct larder_update_round sum = {.size = sizeof(sum)};
    bench_reset(&b, "{}");
    struct larder_update_round_options o = asked(refs);
    n_told = 0;
    result = -99;
    assert_int_equal(larder_update_round_run(b.store, &b.options, &o, &sum, &b.e), -99);
    assert_int_equal(n_told, 1);
    /* A reference that is none fails alone. */
    const char *list[] = {o.refs[0], "store:x", "docker://UPPER/x"};
    o.refs = list;
    sum = run(&o);
    assert_int_equal(sum.n_refs, 3);
    assert_int_equal(sum.n_failed, 3);
    /* Options that fit nothing. */
    o.size = 1;
    assert_int_equal(larder_update_round_run(b.store, &b.options, &o, &sum, &b.e), -LARDER_INVAL);
    o.size = sizeof(o);
    b.options.name = "x";
    assert_int_equal(larder_update_round_run(b.store, &b.options, &o, &sum, &b.e), -LARDER_INVAL);
    assert_int_equal(larder_update_round_run(b.store, &b.options, NULL, &sum, &b.e), -LARDER_INVAL);
    b.options.name = NULL;
    o.is_all = true;
    assert_int_equal(larder_update_round_run(NULL, &b.options, &o, &sum, &b.e), -LARDER_INVAL);
}

static int setup(void **state)
{
    (void)state;
    bench_start(&b);
    registry_server_start(&other, false);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    registry_server_stop(&other);
    bench_stop(&b);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states), cmocka_unit_test(test_all),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_pauses),
        cmocka_unit_test(test_away),   cmocka_unit_test(test_rate_left),
        cmocka_unit_test(test_shared), cmocka_unit_test(test_order),
        cmocka_unit_test(test_spread), cmocka_unit_test(test_ends),
    };
    if (!registry_server_is_possible())
        return 0;
    return cmocka_run_group_tests(tests, setup, teardown);
}
