/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Threads for one job: lanes that run until there is nothing left, while the caller's thread waits,
 * tells the observer and watches for a cancel. The first error ends the other lanes.
 *
 * Lanes take no signals (handlers run in the caller's thread). Their stacks are small, and large
 * enough for the deepest JSON that is parsed.
 */
#include <pthread.h>
#include <stddef.h>

#include <larder/error.h>
#include <larder/observer.h>

#define POOL_LANES_MAX 64U
/* Lanes wait for the network: this many keep a server busy over a latency of some ms, and more
 * would be taken for an attack by public registries. */
#define POOL_LANES_DEFAULT 6U

struct pool_job {
    unsigned lanes;                         /* 0: the default; at most POOL_LANES_MAX */
    const struct larder_observer *observer; /* pumped (relay.h) ten times a second; NULL */
    /* In each lane once; returns when there is no more work. */
    int (*lane)(void *arg, unsigned number, struct larder_error *e);
    /* After a lane failed, or a cancel: the lanes shall return soon. From any thread, perhaps more
     * than once. */
    void (*stop)(void *arg);
    /* From the caller's thread, ten times a second; NULL. */
    void (*tick)(void *arg);
    void *arg;
};
/* The first error of a lane; CANCELED. When it returns no lane runs. */
int pool_run(const struct pool_job *job, struct larder_error *e);

/*
 * Calls fn for 0 .. n - 1, each in some lane, until one fails. Alone, or with one lane, it is
 * called in the caller's thread.
 */
int pool_each(unsigned lanes, size_t n, const struct larder_observer *observer,
              int (*fn)(void *arg, size_t i, struct larder_error *e), void *arg,
              struct larder_error *e);

/* One more thread as the lanes are: for the second half of a pipe. 0 or an errno value. */
int pool_thread(pthread_t *ret, void *(*fn)(void *arg), void *arg);
