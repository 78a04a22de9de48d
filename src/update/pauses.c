/* SPDX-License-Identifier: Apache-2.0 */
#include "update/pauses.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"

/* A server whose clock or configuration is wrong names another year; it is asked once a day. */
#define PAUSE_MAX_NS (24 * 3600 * NS_PER_S)

/* One entry a registry, which is as many as anybody watches: they are kept when they are over. */
struct pause {
    struct pause *next;
    char *host;
    int64_t until_ns; /* monotonic */
};
struct larder_update_pauses {
    struct pause *first;
};

int larder_update_pauses_new(struct larder_update_pauses **ret, struct larder_error *e)
{
    struct larder_update_pauses *made = calloc(1, sizeof(*made));
    if (!made)
        return error_nomem(e);
    *ret = made;
    return 0;
}

void larder_update_pauses_free(struct larder_update_pauses *pauses)
{
    while (pauses && pauses->first) {
        struct pause *gone = pauses->first;
        pauses->first = gone->next;
        free(gone->host);
        free(gone);
    }
    free(pauses);
}

static struct pause *find(const struct larder_update_pauses *pauses, const char *host)
{
    struct pause *p = pauses->first;
    while (p && strcmp(p->host, host) != 0)
        p = p->next;
    return p;
}

int pauses_add(struct larder_update_pauses *pauses, const char *host, int64_t for_ns,
               struct larder_error *e)
{
    struct pause *p = find(pauses, host);

    if (for_ns <= 0)
        return 0;
    if (!p) {
        p = calloc(1, sizeof(*p));
        char *copy = p ? strdup(host) : NULL;
        if (!copy) {
            free(p);
            return error_nomem(e);
        }
        *p = (struct pause){.next = pauses->first, .host = copy};
        pauses->first = p;
    }
    p->until_ns = clock_monotonic_ns() + (for_ns < PAUSE_MAX_NS ? for_ns : PAUSE_MAX_NS);
    return 0;
}

int64_t pauses_left(const struct larder_update_pauses *pauses, const char *host, int64_t at_ns)
{
    const struct pause *p = pauses ? find(pauses, host) : NULL;
    return p && p->until_ns > at_ns ? p->until_ns - at_ns : 0;
}
