/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http/retry.h"

#include <sys/random.h>

#include "base/clock.h"
#include "base/error.h"
#include "net/http/http.h"

#define WAIT_MAX_NS (30 * NS_PER_S)
/* Somebody waits for the answer: a server that asks for more is not asked again in this run. */
#define RETRY_AFTER_MAX_NS (120 * NS_PER_S)
#define POLL_NS            (50 * NS_PER_MS) /* how soon a cancel is noticed */

void retry_init(struct retry *r, unsigned retries, int64_t first_wait_ns,
                const struct larder_observer *observer)
{
    int64_t wait = first_wait_ns > 0 ? first_wait_ns : RETRY_WAIT_DEFAULT_NS;
    *r = (struct retry){retries, retries, wait, wait, observer};
}

void retry_refill(struct retry *r)
{
    r->left = r->allowed;
    r->wait_ns = r->first_wait_ns;
}

bool retry_may(const struct retry *r, const struct larder_error *e, int64_t retry_after_ns)
{
    return r->left > 0 && retry_after_ns <= RETRY_AFTER_MAX_NS && http_is_transient(e);
}

/* Between a half and the whole of ns. */
static int64_t with_jitter(int64_t ns)
{
    uint32_t random = 0;
    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
        random = (uint32_t)clock_monotonic_ns();
    int64_t half = ns / 2;
    return half + (int64_t)((double)half * ((double)random / (double)UINT32_MAX));
}

int retry_wait(struct retry *r, int64_t retry_after_ns, struct larder_error *e)
{
    int64_t wait = with_jitter(r->wait_ns);
    if (wait < retry_after_ns)
        wait = retry_after_ns;
    r->left -= r->left > 0;
    r->wait_ns = r->wait_ns < WAIT_MAX_NS / 2 ? r->wait_ns * 2 : WAIT_MAX_NS;

    int64_t until = clock_monotonic_ns() + wait;
    for (;;) {
        const struct larder_observer *o = r->observer;
        if (o && o->is_canceled && o->is_canceled(o->arg))
            return error_set(e, LARDER_CANCELED, "canceled while waiting to try again");
        int64_t left = until - clock_monotonic_ns();
        if (left <= 0)
            return 0;
        clock_sleep_ns(left < POLL_NS ? left : POLL_NS);
    }
}
