/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/ring.h"

#define ROUNDS 20000u

static void *produce(void *arg)
{
    struct ring *r = arg;

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct ring_buffer *b = ring_get_free(r);

        if (!b)
            return NULL;
        memcpy(b->data, &i, sizeof(i));
        b->n = sizeof(i);
        ring_put_full(r, b);
    }
    ring_finish(r);
    return r;
}

static void everything_arrives_in_order(void **state __attribute__((unused)))
{
    struct ring_buffer *b;
    struct ring *r = NULL;
    pthread_t thread;
    unsigned expected = 0;
    void *result = NULL;

    assert_int_equal(ring_new(3, 100, &r, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, produce, r), 0);
    while ((b = ring_get_full(r))) {
        unsigned got;

        assert_int_equal(b->n, sizeof(got));
        assert_int_equal(b->cap, 100);
        memcpy(&got, b->data, sizeof(got));
        assert_int_equal(got, expected);
        expected++;
        ring_put_free(r, b);
    }
    assert_int_equal(expected, ROUNDS);
    assert_false(ring_is_aborted(r));
    pthread_join(thread, &result);
    assert_ptr_equal(result, r);
    ring_free(r);
}

static void consumer_stops_a_waiting_producer(void **state __attribute__((unused)))
{
    struct ring *r = NULL;
    pthread_t thread;
    void *result = &r;

    assert_int_equal(ring_new(2, 64, &r, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, produce, r), 0);
    assert_non_null(ring_get_full(r));
    clock_sleep_ns(20 * NS_PER_MS); /* let it fill the ring and wait */
    ring_abort(r);
    pthread_join(thread, &result);
    assert_null(result);
    assert_null(ring_get_full(r));
    assert_null(ring_get_free(r));
    assert_true(ring_is_aborted(r));
    ring_free(r);
}

static void *abort_later(void *arg)
{
    clock_sleep_ns(20 * NS_PER_MS);
    ring_abort(arg);
    return NULL;
}

static void producer_stops_a_waiting_consumer(void **state __attribute__((unused)))
{
    struct ring *r = NULL;
    pthread_t thread;

    assert_int_equal(ring_new(2, 64, &r, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, abort_later, r), 0);
    assert_null(ring_get_full(r));
    pthread_join(thread, NULL);
    ring_free(r);
}

static void what_was_put_before_the_end_is_still_given(void **state __attribute__((unused)))
{
    struct ring *r = NULL;
    struct ring_buffer *a;
    struct ring_buffer *b;

    assert_int_equal(ring_new(2, 1, &r, NULL), 0);
    a = ring_get_free(r);
    b = ring_get_free(r);
    assert_true(a && b && a->data != b->data);
    a->data[0] = 'a';
    b->data[0] = 'b';
    a->n = 1;
    ring_put_full(r, b);
    ring_put_full(r, a);
    ring_finish(r);
    assert_ptr_equal(ring_get_full(r), b);
    assert_ptr_equal(ring_get_full(r), a);
    assert_null(ring_get_full(r));
    ring_put_free(r, a);
    assert_int_equal(ring_get_free(r)->n, 0); /* comes back empty */
    ring_free(r);
    ring_free(NULL);
}

static void impossible_rings(void **state __attribute__((unused)))
{
    struct ring *r = NULL;

    assert_int_equal(ring_new(0, 1, &r, NULL), -LARDER_INVAL);
    assert_int_equal(ring_new(1, 0, &r, NULL), -LARDER_INVAL);
    assert_int_equal(ring_new(1, SIZE_MAX, &r, NULL), -LARDER_INVAL);
    assert_int_equal(ring_new(SIZE_MAX / 2, 8192, &r, NULL), -LARDER_NOMEM);
    assert_null(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_arrives_in_order),
        cmocka_unit_test(consumer_stops_a_waiting_producer),
        cmocka_unit_test(producer_stops_a_waiting_consumer),
        cmocka_unit_test(what_was_put_before_the_end_is_still_given),
        cmocka_unit_test(impossible_rings),
    };

    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
