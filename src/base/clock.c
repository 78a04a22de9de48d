/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <errno.h>
#include <time.h>

/* These clocks exist on every kernel we run on; a failure would be a wrong constant here. */
static int64_t now_ns(clockid_t id)
{
    struct timespec ts = {0, 0};

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

int64_t clock_realtime_ns(void)
{
    return now_ns(CLOCK_REALTIME);
}

int64_t clock_monotonic_ns(void)
{
    return now_ns(CLOCK_MONOTONIC);
}

int64_t clock_coarse_ns(void)
{
    return now_ns(CLOCK_REALTIME_COARSE);
}

void clock_sleep_ns(int64_t ns)
{
    struct timespec until;
    int64_t end;

    if (ns <= 0)
        return;
    if (__builtin_add_overflow(clock_monotonic_ns(), ns, &end))
        end = INT64_MAX;
    until.tv_sec = (time_t)(end / NS_PER_S);
    until.tv_nsec = (long)(end % NS_PER_S);
    /* To a point in time, so that a stream of signals does not make it longer. */
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}
