/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Waiting before a request is tried again: doubled each time, with jitter so that a fleet that
 * lost its server together does not come back together, and never sooner than the server asked.
 */
#include <stdbool.h>
#include <stdint.h>

#include <larder/error.h>
#include <larder/observer.h>

#define RETRY_WAIT_DEFAULT_NS (500LL * 1000 * 1000)

struct retry {
    unsigned left;
    unsigned allowed;
    int64_t first_wait_ns;
    int64_t wait_ns; /* before the next try, without jitter */
    const struct larder_observer *observer;
};

/* first_wait_ns 0: the default */
void retry_init(struct retry *r, unsigned retries, int64_t first_wait_ns,
                const struct larder_observer *observer);
/* Something was achieved since the last failure: all tries are there again. */
void retry_refill(struct retry *r);
/*
 * After the failure *e: true when it may pass, a try is left, and the server did not ask for more
 * patience than we have.
 */
bool retry_may(const struct retry *r, const struct larder_error *e, int64_t retry_after_ns);
/* Uses up one try and sleeps. CANCELED. */
int retry_wait(struct retry *r, int64_t retry_after_ns, struct larder_error *e);
