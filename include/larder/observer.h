/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What a long call tells its caller while it runs. The library never prints: warnings, notes and
 * progress go to these callbacks, all optional.
 *
 * Threads: callbacks are made from the thread that made the library call, never from a helper
 * thread. They must not call back into the same store handle. `progress` comes at most ten times
 * a second per operation, plus once at its end.
 */
#include <stdbool.h>
#include <stdint.h>

#include <larder/visibility.h>

LARDER_BEGIN_DECLS

struct larder_progress {
    const char *what;   /* "fetch", "unpack", "verify", "scrub", "wait", "copy" */
    const char *object; /* name, URL (no credentials) or digest; valid during the call */
    uint64_t done_bytes;
    uint64_t total_bytes;   /* 0: unknown */
    uint64_t resumed_bytes; /* of done_bytes, how many were there before this run */
    bool is_finished;       /* last report of this operation */
};

struct larder_observer {
    void *arg;
    void (*warning)(void *arg, const char *msg); /* something a person should know; still works */
    void (*note)(void *arg, const char *msg);    /* what is being done ("fetching ...") */
    void (*progress)(void *arg, const struct larder_progress *progress);
    bool (*is_canceled)(void *arg); /* true: the call ends with LARDER_CANCELED soon */
};

LARDER_END_DECLS
