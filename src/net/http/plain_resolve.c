/* SPDX-License-Identifier: Apache-2.0 */
/*
 * getaddrinfo() can't be interrupted and may take a minute, so a thread does it; whoever gives up
 * first leaves the result to the other one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "net/http/plain.h"

#define HOST_MAX_BYTES 255U /* RFC 1035 */
/* What nss modules need of a stack is not written anywhere; musl's own threads have 128 KiB. */
#define STACK_BYTES (256UL * 1024)

struct lookup {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under lock */
    unsigned users; /* 2: both; the last one frees */
    bool is_done;
    int failed; /* EAI_* */
    union plain_address addresses[PLAIN_ADDRESSES];
    size_t n;
    /* before the thread starts */
    char host[HOST_MAX_BYTES + 1];
};

static void lookup_leave(struct lookup *l)
{
    pthread_mutex_lock(&l->lock);
    bool is_last = --l->users == 0;
    pthread_mutex_unlock(&l->lock);
    if (!is_last)
        return;
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static size_t copy_addresses(const struct addrinfo *list, union plain_address *to)
{
    size_t n = 0;
    for (; list && n < PLAIN_ADDRESSES; list = list->ai_next) {
        bool is_v4 = list->ai_family == AF_INET && list->ai_addrlen == sizeof(to->v4);
        bool is_v6 = list->ai_family == AF_INET6 && list->ai_addrlen == sizeof(to->v6);
        if (is_v4 || is_v6)
            memcpy(&to[n++], list->ai_addr, list->ai_addrlen);
    }
    return n;
}

static void *lookup_main(void *arg)
{
    struct lookup *l = arg;
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    union plain_address addresses[PLAIN_ADDRESSES];
    int failed = getaddrinfo(l->host, NULL, &hints, &list);
    size_t n = failed ? 0 : copy_addresses(list, addresses);
    if (!failed)
        freeaddrinfo(list);
    pthread_mutex_lock(&l->lock);
    memcpy(l->addresses, addresses, n * sizeof(*addresses));
    l->n = n;
    l->failed = failed;
    l->is_done = true;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
    lookup_leave(l);
    return NULL;
}

static int start_thread(struct lookup *l)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all;
    sigset_t before;
    if (pthread_attr_init(&attr) != 0)
        return ENOMEM;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, &attr, lookup_main, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return failed;
}

static int lookup_new(struct slice host, struct lookup **ret, struct larder_error *e)
{
    pthread_condattr_t attr;
    struct lookup *l = calloc(1, sizeof(*l));
    if (!l || pthread_condattr_init(&attr) != 0) {
        free(l);
        return error_nomem(e);
    }
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->changed, &attr); /* these can't fail on Linux */
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&l->lock, NULL);
    memcpy(l->host, host.p, host.n);
    l->users = 2;
    *ret = l;
    return 0;
}

static bool wait_done(struct lookup *l)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + TICK_NS;
    until.tv_sec += ns / NS_PER_S;
    until.tv_nsec = (long)(ns % NS_PER_S);
    pthread_mutex_lock(&l->lock);
    if (!l->is_done)
        pthread_cond_timedwait(&l->changed, &l->lock, &until);
    bool is_done = l->is_done;
    pthread_mutex_unlock(&l->lock);
    return is_done;
}

static int look_up(struct exchange *x, struct slice host, int64_t deadline_ns,
                   union plain_address *ret, size_t *ret_n, struct larder_error *e)
{
    struct lookup *l = NULL;
    int rc = lookup_new(host, &l, e);
    if (!l)
        return rc;
    int failed = start_thread(l);
    if (failed) {
        l->users = 1;
        lookup_leave(l);
        return error_errno_code(e, LARDER_NOMEM, failed, "name lookup: cannot start a thread");
    }
    while (rc == 0 && !wait_done(l)) {
        int64_t now = clock_monotonic_ns();
        rc = exchange_tick(x, now, e);
        if (rc == 0 && now >= deadline_ns)
            rc = error_errno_code(e, LARDER_UNREACHABLE, ETIMEDOUT, "name lookup of %.*s",
                                  (int)host.n, host.p);
    }
    if (rc == 0 && (l->failed || l->n == 0)) {
        rc = error_set(e, LARDER_UNREACHABLE, "could not resolve host %.*s: %s", (int)host.n,
                       host.p, l->failed ? gai_strerror(l->failed) : "no address");
        if (e)
            e->sys_errno = ENXIO;
    }
    if (rc == 0) {
        memcpy(ret, l->addresses, l->n * sizeof(*ret));
        *ret_n = l->n;
    }
    lookup_leave(l);
    return rc;
}

/* Numbers, and the one name that must never be asked of anybody (RFC 6761 section 6.3). */
static size_t known_addresses(const char *host, union plain_address *ret)
{
    memset(ret, 0, 2 * sizeof(*ret));
    if (inet_pton(AF_INET, host, &ret->v4.sin_addr) == 1) {
        ret->v4.sin_family = AF_INET;
        return 1;
    }
    if (inet_pton(AF_INET6, host, &ret->v6.sin6_addr) == 1) {
        ret->v6.sin6_family = AF_INET6;
        return 1;
    }
    if (strcasecmp(host, "localhost") != 0)
        return 0;
    ret[0].v6.sin6_family = AF_INET6;
    ret[0].v6.sin6_addr = in6addr_loopback;
    ret[1].v4.sin_family = AF_INET;
    ret[1].v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return 2;
}

int plain_resolve(struct exchange *x, struct slice host, uint16_t port, int64_t deadline_ns,
                  union plain_address *ret, size_t *ret_n, struct larder_error *e)
{
    char name[HOST_MAX_BYTES + 1];
    if (host.n == 0 || host.n > HOST_MAX_BYTES)
        return error_set(e, LARDER_INVAL, "url: host name of %zu bytes", host.n);
    memcpy(name, host.p, host.n);
    name[host.n] = '\0';
    size_t n = known_addresses(name, ret);
    if (n == 0) {
        int rc = look_up(x, host, deadline_ns, ret, &n, e);
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < n; i++)
        if (ret[i].any.sa_family == AF_INET)
            ret[i].v4.sin_port = htons(port);
        else
            ret[i].v6.sin6_port = htons(port);
    *ret_n = n;
    return 0;
}
