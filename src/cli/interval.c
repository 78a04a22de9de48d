/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/interval.h"

#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "cli/cli.h"

int64_t interval_jitter(int64_t ns)
{
    uint64_t random = 0;
    int64_t tenth = ns / 10;

    /* Nobody sees a tenth of centuries, and there is no time after them to add it. */
    if (tenth == 0 || ns > INT64_MAX / 2 ||
        getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
        return ns;
    return ns - tenth + (int64_t)(random % (uint64_t)(2 * tenth));
}

void interval_wait(int64_t ns)
{
    int64_t now = clock_monotonic_ns();
    int64_t end = ns > INT64_MAX - now ? INT64_MAX : now + ns;

    while (cli_caught_signal() == 0) {
        int64_t left = end - clock_monotonic_ns();
        struct timespec time = {left / NS_PER_S, left % NS_PER_S};

        if (left <= 0)
            return;
        /* A signal between the look above and this is noticed a second later. */
        if (left > NS_PER_S)
            time = (struct timespec){1, 0};
        nanosleep(&time, NULL); /* no SA_RESTART: a signal ends it */
    }
}
