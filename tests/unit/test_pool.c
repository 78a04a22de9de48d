/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes, and the observer that brings what they tell to the caller's thread. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/pool.h"
#include "base/relay.h"
#include "json/json.h"

#define N 1000U

struct work {
    atomic_uint done[N];
    pthread_t caller;
    atomic_bool was_in_caller;
};

static int do_one(void *arg, size_t i, struct larder_error *e)
{
    struct work *w = arg;

    (void)e;
    if (pthread_equal(pthread_self(), w->caller))
        atomic_store(&w->was_in_caller, true);
    atomic_fetch_add(&w->done[i], 1);
    return 0;
}

static void each_is_done_once(void **state)
{
    static const unsigned lanes[] = {0, 1, 3, 64, 1000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lanes); i++) {
        struct work *w = calloc(1, sizeof(*w));
        assert_non_null(w);
        w->caller = pthread_self();
        assert_int_equal(pool_each(lanes[i], N, NULL, do_one, w, NULL), 0);
        for (unsigned k = 0; k < N; k++)
            assert_int_equal(w->done[k], 1);
        assert_int_equal(w->was_in_caller, lanes[i] == 1);
        free(w);
    }
    assert_int_equal(pool_each(4, 0, NULL, do_one, NULL, NULL), 0);
}

#define FAIL_AT 7U

static int fail_one(void *arg, size_t i, struct larder_error *e)
{
    atomic_uint *before = arg;

    if (i < FAIL_AT)
        atomic_fetch_add(before, 1);
    return i == FAIL_AT ? error_set(e, LARDER_PROTO, "number %zu", i) : 0;
}

static void the_first_error_ends_it(void **state)
{
    (void)state;
    for (unsigned lanes = 1; lanes < 5; lanes++) {
        atomic_uint before = 0;
        struct larder_error e = LARDER_ERROR_INIT;
        /* More than any machine gets through: whoever is late to stop, it ends by the error. */
        assert_int_equal(pool_each(lanes, SIZE_MAX / 2, NULL, fail_one, &before, &e),
                         -LARDER_PROTO);
        assert_string_equal(e.msg, "number 7");
        assert_int_equal(before, FAIL_AT);
        assert_int_equal(pool_each(lanes, SIZE_MAX / 2, NULL, fail_one, &before, NULL),
                         -LARDER_PROTO);
    }
}

/* ---- relay ---- */

struct told {
    pthread_t owner;
    unsigned warnings, notes, progress, elsewhere;
    uint64_t last_bytes;
    char last[64];
    bool cancel;
    unsigned asked;
};

static void told_text(struct told *t, unsigned *count, const char *text)
{
    t->elsewhere += !pthread_equal(t->owner, pthread_self());
    (*count)++;
    snprintf(t->last, sizeof(t->last), "%s", text);
}

static void told_warning(void *arg, const char *text)
{
    struct told *t = arg;
    told_text(t, &t->warnings, text);
}

static void told_note(void *arg, const char *text)
{
    struct told *t = arg;
    told_text(t, &t->notes, text);
}

static void told_progress(void *arg, const struct larder_progress *p)
{
    struct told *t = arg;
    told_text(t, &t->progress, p->object);
    t->last_bytes = p->done_bytes;
}

static bool told_is_canceled(void *arg)
{
    struct told *t = arg;
    t->asked++;
    t->elsewhere += !pthread_equal(t->owner, pthread_self());
    return t->cancel;
}

static int talk(void *arg, size_t i, struct larder_error *e)
{
    const struct larder_observer *o = arg;
    char text[32];
    const struct larder_progress p = {.what = "copy", .object = text, .done_bytes = i};

    (void)e;
    snprintf(text, sizeof(text), "n%zu", i);
    o->warning(o->arg, text);
    o->note(o->arg, text);
    o->progress(o->arg, &p);
    (void)o->is_canceled(o->arg);
    return 0;
}

static void what_lanes_tell_comes_to_the_caller(void **state)
{
    struct told t = {.owner = pthread_self()};
    const struct larder_observer to = {&t, told_warning, told_note, told_progress,
                                       told_is_canceled};
    struct relay *relay = NULL;

    (void)state;
    assert_int_equal(relay_new(&to, &relay, NULL), 0);
    const struct larder_observer *o = relay_observer(relay);
    const struct larder_progress p = {.what = "copy", .object = "own", .done_bytes = 3};
    o->progress(o->arg, &p); /* straight through */
    assert_int_equal(t.progress, 1);
    union {
        const struct larder_observer *c;
        void *p;
    } arg = {.c = o};
    assert_int_equal(pool_each(4, 100, o, talk, arg.p, NULL), 0);
    assert_int_equal(t.warnings, 100);
    assert_int_equal(t.notes, 100);
    assert_true(t.progress >= 2);
    assert_int_equal(t.elsewhere, 0);
    /* more than anybody reads */
    assert_int_equal(pool_each(4, 10000, NULL, talk, arg.p, NULL), 0);
    assert_int_equal(t.warnings, 100);
    relay_free(relay);
    assert_true(t.warnings > 100 && t.warnings < 500);
    assert_non_null(strstr(t.last, "n")); /* the progress, last of all */

    assert_int_equal(relay_new(NULL, &relay, NULL), 0);
    o = relay_observer(relay);
    arg.c = o;
    assert_int_equal(pool_each(4, 100, o, talk, arg.p, NULL), 0);
    relay_free(relay);
    relay_free(NULL);
    assert_false(observer_pump(NULL));
    t.cancel = true;
    assert_true(observer_pump(&to));
}

struct sleepers {
    atomic_bool stop;
    atomic_uint ticks;
};

static int sleep_lane(void *arg, unsigned number, struct larder_error *e)
{
    struct sleepers *s = arg;

    (void)number;
    while (!atomic_load(&s->stop))
        clock_sleep_ns(1000000);
    return error_set(e, LARDER_CANCELED, "stopped");
}

static void sleep_stop(void *arg)
{
    struct sleepers *s = arg;
    atomic_store(&s->stop, true);
}

static void sleep_tick(void *arg)
{
    struct sleepers *s = arg;
    atomic_fetch_add(&s->ticks, 1);
}

static void a_cancel_ends_the_lanes(void **state)
{
    struct told t = {.owner = pthread_self(), .cancel = true};
    const struct larder_observer to = {.arg = &t, .is_canceled = told_is_canceled};
    struct sleepers s = {.stop = false};
    const struct pool_job job = {.lanes = 3,
                                 .observer = &to,
                                 .lane = sleep_lane,
                                 .stop = sleep_stop,
                                 .tick = sleep_tick,
                                 .arg = &s};
    struct larder_error e = LARDER_ERROR_INIT;

    (void)state;
    assert_int_equal(pool_run(&job, &e), -LARDER_CANCELED);
    assert_string_equal(e.msg, "canceled");
    assert_true(s.ticks >= 1); /* once more for each tenth of a second the lanes come late */
    assert_int_equal(t.elsewhere, 0);
}

/* ---- stacks ---- */

static int parse_deep(void *arg, size_t i, struct larder_error *e)
{
    const struct slice *text = arg;
    struct json *document = NULL;

    (void)i;
    (void)e;
    /* whether it is taken or refused, the stack must hold */
    if (json_parse(*text, text->n, &document, NULL) == 0)
        json_free(document);
    return 0;
}

static void lanes_parse_the_deepest_json(void **state)
{
    static const unsigned depths[] = {100, 2000, 2047, 2048, 5000};

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(depths); k++) {
        size_t depth = depths[k];
        char *text = malloc(depth * 7 + 3);
        assert_non_null(text);
        size_t n = 0;
        for (size_t i = 0; i < depth; i++)
            n += (size_t)sprintf(text + n, "%s", i % 2 ? "{\"a\":" : "[");
        text[n++] = '1';
        for (size_t i = depth; i-- > 0;)
            text[n++] = i % 2 ? '}' : ']';
        struct slice s = {text, n};
        assert_int_equal(pool_each(2, 4, NULL, parse_deep, &s, NULL), 0);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_done_once),
        cmocka_unit_test(the_first_error_ends_it),
        cmocka_unit_test(what_lanes_tell_comes_to_the_caller),
        cmocka_unit_test(a_cancel_ends_the_lanes),
        cmocka_unit_test(lanes_parse_the_deepest_json),
    };

    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
