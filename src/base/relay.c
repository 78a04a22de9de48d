/* SPDX-License-Identifier: Apache-2.0 */
#include "base/relay.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* What waits is for people: nobody reads more, and a loop of warnings must not fill the memory. */
#define RELAY_MESSAGES_MAX 256

struct relay_message {
    struct relay_message *next;
    bool is_warning;
    char text[];
};

struct kept_progress {
    char *what;
    char *object;
    struct larder_progress numbers;
};

struct relay {
    struct larder_observer observer; /* given out */
    struct larder_observer to;
    pthread_t owner;
    atomic_bool is_canceled;
    pthread_mutex_t lock; /* of all below */
    struct relay_message *first;
    struct relay_message **end;
    unsigned n_messages;
    unsigned n_lost;
    bool has_progress;
    struct kept_progress progress;
};

static bool is_owner(const struct relay *r)
{
    return pthread_equal(r->owner, pthread_self());
}

static void relay_message_add(struct relay *r, const char *text, bool is_warning)
{
    size_t n = strlen(text) + 1;
    struct relay_message *m = malloc(sizeof(*m) + n);

    if (m) {
        m->next = NULL;
        m->is_warning = is_warning;
        memcpy(m->text, text, n);
    }
    pthread_mutex_lock(&r->lock);
    if (m && r->n_messages < RELAY_MESSAGES_MAX) {
        *r->end = m;
        r->end = &m->next;
        r->n_messages++;
        m = NULL;
    } else {
        r->n_lost++;
    }
    pthread_mutex_unlock(&r->lock);
    free(m);
}

static void relay_warning(void *arg, const char *text)
{
    struct relay *r = arg;

    if (!is_owner(r))
        relay_message_add(r, text, true);
    else if (r->to.warning)
        r->to.warning(r->to.arg, text);
}

static void relay_note(void *arg, const char *text)
{
    struct relay *r = arg;

    if (!is_owner(r))
        relay_message_add(r, text, false);
    else if (r->to.note)
        r->to.note(r->to.arg, text);
}

static void progress_done(struct kept_progress *p)
{
    free(p->what);
    free(p->object);
    memset(p, 0, sizeof(*p));
}

static void relay_progress(void *arg, const struct larder_progress *progress)
{
    struct relay *r = arg;
    struct kept_progress copy = {.numbers = *progress};

    if (is_owner(r)) {
        if (r->to.progress)
            r->to.progress(r->to.arg, progress);
        return;
    }
    copy.what = strdup(progress->what ? progress->what : "");
    copy.object = strdup(progress->object ? progress->object : "");
    if (!copy.what || !copy.object) {
        progress_done(&copy);
        return;
    }
    pthread_mutex_lock(&r->lock);
    struct kept_progress old = r->progress;
    r->progress = copy;
    r->has_progress = true;
    pthread_mutex_unlock(&r->lock);
    progress_done(&old);
}

static bool relay_is_canceled(void *arg)
{
    struct relay *r = arg;

    if (is_owner(r) && r->to.is_canceled && r->to.is_canceled(r->to.arg))
        atomic_store(&r->is_canceled, true);
    return atomic_load(&r->is_canceled);
}

int relay_new(const struct larder_observer *to, struct relay **ret, struct larder_error *e)
{
    struct relay *r = calloc(1, sizeof(*r));

    if (!r)
        return error_nomem(e);
    if (pthread_mutex_init(&r->lock, NULL) != 0) {
        free(r);
        return error_nomem(e);
    }
    if (to)
        r->to = *to;
    r->owner = pthread_self();
    r->end = &r->first;
    atomic_init(&r->is_canceled, false);
    r->observer =
        (struct larder_observer){r, relay_warning, relay_note, relay_progress, relay_is_canceled};
    *ret = r;
    return 0;
}

const struct larder_observer *relay_observer(struct relay *relay)
{
    return &relay->observer;
}

static void relay_deliver(struct relay *r)
{
    struct relay_message *m;
    struct kept_progress progress;
    bool has_progress;
    unsigned n_lost;

    pthread_mutex_lock(&r->lock);
    m = r->first;
    r->first = NULL;
    r->end = &r->first;
    r->n_messages = 0;
    n_lost = r->n_lost;
    r->n_lost = 0;
    progress = r->progress;
    has_progress = r->has_progress;
    memset(&r->progress, 0, sizeof(r->progress));
    r->has_progress = false;
    pthread_mutex_unlock(&r->lock);

    while (m) {
        struct relay_message *next = m->next;
        void (*tell)(void *arg, const char *text) = m->is_warning ? r->to.warning : r->to.note;
        if (tell)
            tell(r->to.arg, m->text);
        free(m);
        m = next;
    }
    if (n_lost && r->to.warning)
        r->to.warning(r->to.arg, "further messages were left out");
    if (has_progress && r->to.progress) {
        progress.numbers.what = progress.what;
        progress.numbers.object = progress.object;
        r->to.progress(r->to.arg, &progress.numbers);
    }
    progress_done(&progress);
}

void relay_free(struct relay *relay)
{
    if (!relay)
        return;
    relay_deliver(relay);
    pthread_mutex_destroy(&relay->lock);
    free(relay);
}

bool observer_pump(const struct larder_observer *observer)
{
    if (!observer)
        return false;
    if (observer->is_canceled == relay_is_canceled)
        relay_deliver(observer->arg);
    return observer->is_canceled && observer->is_canceled(observer->arg);
}
