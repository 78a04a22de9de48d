/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash_pace.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

/* Percent of the last 10 s in which some task waited for I/O. Our own waiting counts too, so on an
 * otherwise idle slow disk this is the share of time we take. */
#define PRESSURE_MAX_PERCENT 25.0
/* The kernel updates the average every 2 s. */
#define PRESSURE_POLL_NS (1 * NS_PER_S)
/* Under pressure each read waits so long: slow, but a scrub still ends on a machine that is always
 * busy. */
#define PRESSURE_WAIT_NS (2 * NS_PER_S)
/* How soon a wait notices that it is to stop. */
#define WAIT_SLICE_NS (50 * NS_PER_MS)

/* From <linux/ioprio.h>; glibc has no wrapper. */
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_IDLE        (3 << 13)

void hash_pace_init(struct hash_pace *p, uint64_t max_bytes_per_s, bool background,
                    const atomic_bool *stop)
{
    *p = (struct hash_pace){
        .max_bytes_per_s = max_bytes_per_s, .background = background, .stop = stop};
    pthread_mutex_init(&p->lock, NULL);
}

void hash_pace_done(struct hash_pace *p)
{
    pthread_mutex_destroy(&p->lock);
}

void hash_pace_background_thread(void)
{
    struct sched_param param = {0};

    /* Both act on the calling thread only (0), not on the process. */
    (void)sched_setscheduler(0, SCHED_IDLE, &param);
    (void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE);
}

double hash_pace_parse_pressure(const char *text)
{
    const char *some = strstr(text, "some avg10=");
    if (!some)
        return -1;

    /* Not strtod: the decimal point is the kernel's, not the locale's. */
    char *end = NULL;
    double percent = (double)strtoul(some + strlen("some avg10="), &end, 10);
    if (*end == '.' && end[1] >= '0' && end[1] <= '9')
        percent += (end[1] - '0') / 10.0;
    return percent;
}

static bool pressure_is_high(void)
{
    char text[256];
    CLEANUP_CLOSE int fd = open("/proc/pressure/io", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;

    ssize_t n = read(fd, text, sizeof(text) - 1);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return hash_pace_parse_pressure(text) > PRESSURE_MAX_PERCENT;
}

static void wait_until(const struct hash_pace *p, int64_t until_ns)
{
    while (!atomic_load_explicit(p->stop, memory_order_relaxed)) {
        int64_t left = until_ns - clock_monotonic_ns();
        if (left <= 0)
            return;
        clock_sleep_ns(left < WAIT_SLICE_NS ? left : WAIT_SLICE_NS);
    }
}

void hash_pace_wait(struct hash_pace *p, size_t n)
{
    if (!p->max_bytes_per_s && !p->background)
        return;

    int64_t now = clock_monotonic_ns();
    int64_t until = now;
    pthread_mutex_lock(&p->lock);
    if (p->max_bytes_per_s) {
        /* Idle time is not saved up: a bucket of one read. */
        if (p->rate_free_ns < now)
            p->rate_free_ns = now;
        until = p->rate_free_ns;
        double cost_s = (double)n / (double)p->max_bytes_per_s;
        p->rate_free_ns += (int64_t)(cost_s * (double)NS_PER_S);
    }
    if (p->background) {
        if (now >= p->pressure_next_ns) {
            p->pressure_next_ns = now + PRESSURE_POLL_NS;
            p->pressure_high = pressure_is_high();
        }
        if (p->pressure_high && until < now + PRESSURE_WAIT_NS)
            until = now + PRESSURE_WAIT_NS;
    }
    pthread_mutex_unlock(&p->lock);
    if (until > now)
        wait_until(p, until);
}
