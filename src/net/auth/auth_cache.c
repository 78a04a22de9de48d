/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks: `lock` guards everything in struct auth; it is never held during a request, a file's
 * reading or a helper's run. `find_lock` is held while credentials are looked for, so that a
 * helper is asked once; it is taken before `lock`.
 */
#include "net/auth/auth_cache.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"

/* A token with less life is not begun with: the server may take its time to look at it, and clocks
 * differ. (The shortest life is 60 s.) */
#define SOON_NS (10 * NS_PER_S)
/* What was refused this soon after it came won't be taken when fetched again. */
#define AUTH_AGAIN_NS (10 * NS_PER_S)
/* A copy of thousands of repositories makes a token for each; the oldest go first. */
#define TOKENS_MAX 512

/* Whom something is known about. */
struct whom {
    char *host;
    char *repository; /* NULL: any of the host */
    bool is_mirror;
};

struct identity {
    struct identity *next;
    struct whom whom;
    struct credentials credentials;
    int64_t found_ns;
};

struct wanted {
    struct wanted *next;
    struct whom whom;
    struct auth_host host;
};

struct token {
    struct token *next;
    struct whom whom;
    struct scope_set scopes;
    char *header;
    int64_t got_ns; /* monotonic, as ends_ns */
    int64_t ends_ns;
    unsigned given; /* how often it was handed out */
    bool is_dead;   /* it was refused; kept to know it again */
};

/* One fetch; those who want the same wait for it. */
struct flight {
    struct flight *next;
    const struct whom *whom;        /* the leader's */
    const struct scope_set *scopes; /* the leader's */
    unsigned waiters;
    bool is_done;
    int rc;
    struct larder_error error;
};

struct auth {
    struct auth_options options; /* strings are ours */
    pthread_mutex_t find_lock;
    pthread_mutex_t lock;
    pthread_cond_t landed;
    struct identity *identities;
    struct wanted *hosts;
    struct token *tokens; /* newest first */
    struct flight *flights;
};

const struct larder_observer *auth_observer(const struct auth *auth)
{
    return auth->options.observer;
}

/* ---- whom ---- */

static int whom_set(struct whom *to, const char *host, const char *repository, bool is_mirror,
                    struct larder_error *e)
{
    struct whom whom = {strdup(host), repository ? strdup(repository) : NULL, is_mirror};
    if (!whom.host || (repository && !whom.repository)) {
        free(whom.host);
        free(whom.repository);
        return error_nomem(e);
    }
    *to = whom;
    return 0;
}

static void whom_done(struct whom *whom)
{
    free(whom->host);
    free(whom->repository);
}

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool is_host(const struct whom *whom, const struct auth_scope *scope)
{
    return whom->is_mirror == scope->is_mirror && strcmp(whom->host, scope->host) == 0;
}

/* ---- lifetime ---- */

static int copy_text(const char *text, char const **ret, struct larder_error *e)
{
    *ret = text ? strdup(text) : NULL;
    return text && !*ret ? error_nomem(e) : 0;
}

static void free_text(const char *text)
{
    secret_free((char *)(uintptr_t)text);
}

int auth_cache_new(const struct auth_options *options, struct auth **ret, struct larder_error *e)
{
    struct auth *auth = calloc(1, sizeof(*auth));
    if (!auth)
        return error_nomem(e);
    pthread_mutex_init(&auth->find_lock, NULL);
    pthread_mutex_init(&auth->lock, NULL);
    pthread_cond_init(&auth->landed, NULL);
    auth->options = *options;
    struct auth_options *own = &auth->options;
    own->files.authfile = own->user = own->password = own->registry_token = NULL;
    int rc = copy_text(options->files.authfile, &own->files.authfile, e);
    if (rc == 0)
        rc = copy_text(options->user, &own->user, e);
    if (rc == 0)
        rc = copy_text(options->password, &own->password, e);
    if (rc == 0)
        rc = copy_text(options->registry_token, &own->registry_token, e);
    if (rc < 0) {
        auth_free(auth);
        return rc;
    }
    *ret = auth;
    return 0;
}

static void token_free(struct token *token)
{
    whom_done(&token->whom);
    scope_set_done(&token->scopes);
    secret_free(token->header);
    free(token);
}

void auth_free(struct auth *auth)
{
    if (!auth)
        return;
    while (auth->identities) {
        struct identity *identity = auth->identities;
        auth->identities = identity->next;
        whom_done(&identity->whom);
        credentials_done(&identity->credentials);
        free(identity);
    }
    while (auth->hosts) {
        struct wanted *wanted = auth->hosts;
        auth->hosts = wanted->next;
        whom_done(&wanted->whom);
        auth_host_done(&wanted->host);
        free(wanted);
    }
    while (auth->tokens) {
        struct token *token = auth->tokens;
        auth->tokens = token->next;
        token_free(token);
    }
    free_text(auth->options.files.authfile);
    free_text(auth->options.user);
    free_text(auth->options.password);
    free_text(auth->options.registry_token);
    pthread_cond_destroy(&auth->landed);
    pthread_mutex_destroy(&auth->lock);
    pthread_mutex_destroy(&auth->find_lock);
    free(auth);
}

/* ---- identities ---- */

static bool same_secret(const struct credentials *a, const struct credentials *b)
{
    return same(a->user, b->user) && same(a->password, b->password) &&
           same(a->identity_token, b->identity_token) && same(a->registry_token, b->registry_token);
}

/* Whether the user told, so that no file is asked. */
static bool is_told(const struct auth *auth, const struct auth_scope *scope)
{
    const struct auth_options *o = &auth->options;
    return o->is_anonymous || (!scope->is_mirror && (o->user || o->registry_token));
}

static int find_told(const struct auth *auth, struct credentials *ret, struct larder_error *e)
{
    const struct auth_options *o = &auth->options;
    struct credentials told = {.source = (char *)(uintptr_t) "the options", .is_given = true};
    if (o->is_anonymous)
        return 0;
    if (o->registry_token) {
        told.registry_token = (char *)(uintptr_t)o->registry_token;
    } else {
        told.user = (char *)(uintptr_t)o->user;
        told.password = (char *)(uintptr_t)(o->password ? o->password : "");
    }
    return credentials_copy(&told, ret, e);
}

/* With `lock` held; NULL: not looked for yet. */
static struct identity *identity_of(const struct auth *auth, const struct auth_scope *scope)
{
    const char *repository = scope->repository ? scope->repository : "";
    for (struct identity *i = auth->identities; i; i = i->next) {
        if (is_host(&i->whom, scope) &&
            (!i->whom.repository || same(i->whom.repository, repository)))
            return i;
    }
    return NULL;
}

static void identity_free(struct identity *identity)
{
    whom_done(&identity->whom);
    credentials_done(&identity->credentials);
    free(identity);
}

/* With find_lock held: looks in files and helpers, and remembers in place of `old`. */
static int identity_find(struct auth *auth, const struct auth_scope *scope, struct identity *old,
                         struct larder_error *e)
{
    struct identity *identity = calloc(1, sizeof(*identity));
    if (!identity)
        return error_nomem(e);
    int rc = credentials_find(&auth->options.files, scope->host, scope->repository,
                              &identity->credentials, e);
    const char *repository = scope->repository ? scope->repository : "";
    if (identity->credentials.is_from_helper)
        repository = NULL; /* asked once a host */
    if (rc == 0)
        rc = whom_set(&identity->whom, scope->host, repository, scope->is_mirror, e);
    if (rc < 0) {
        identity_free(identity);
        return rc;
    }
    identity->found_ns = clock_monotonic_ns();
    pthread_mutex_lock(&auth->lock);
    for (struct identity **at = &auth->identities; old && *at; at = &(*at)->next) {
        if (*at == old) {
            *at = old->next;
            identity_free(old);
            break;
        }
    }
    identity->next = auth->identities;
    auth->identities = identity;
    pthread_mutex_unlock(&auth->lock);
    return 0;
}

/* False: not looked for yet. */
static bool identity_copy(struct auth *auth, const struct auth_scope *scope,
                          struct credentials *ret, int *rc, struct larder_error *e)
{
    pthread_mutex_lock(&auth->lock);
    const struct identity *identity = identity_of(auth, scope);
    if (identity)
        *rc = credentials_copy(&identity->credentials, ret, e);
    pthread_mutex_unlock(&auth->lock);
    return identity != NULL;
}

int auth_identity_get(struct auth *auth, const struct auth_scope *scope, struct credentials *ret,
                      struct larder_error *e)
{
    int rc = 0;
    if (is_told(auth, scope))
        return find_told(auth, ret, e);
    if (identity_copy(auth, scope, ret, &rc, e))
        return rc;
    pthread_mutex_lock(&auth->find_lock);
    if (!identity_copy(auth, scope, ret, &rc, e)) {
        rc = identity_find(auth, scope, NULL, e);
        if (rc == 0)
            identity_copy(auth, scope, ret, &rc, e);
    }
    pthread_mutex_unlock(&auth->find_lock);
    return rc;
}

int auth_identity_again(struct auth *auth, const struct auth_scope *scope,
                        const struct credentials *used, struct credentials *ret,
                        struct larder_error *e)
{
    struct credentials now = {0};
    int rc = 0;
    if (is_told(auth, scope) || !used->is_from_helper)
        return 0;
    pthread_mutex_lock(&auth->find_lock);
    /* Only this function removes one, and find_lock is ours. */
    pthread_mutex_lock(&auth->lock);
    struct identity *identity = identity_of(auth, scope);
    bool is_old = identity && same_secret(&identity->credentials, used) &&
                  clock_monotonic_ns() - identity->found_ns >= AUTH_AGAIN_NS;
    pthread_mutex_unlock(&auth->lock);
    if (is_old)
        rc = identity_find(auth, scope, identity, e);
    if (rc == 0)
        identity_copy(auth, scope, &now, &rc, e);
    pthread_mutex_unlock(&auth->find_lock);
    if (rc == 0 && !same_secret(&now, used)) {
        *ret = now;
        return 1;
    }
    credentials_done(&now);
    return rc;
}

/* An identity token that the server replaced: the old one may not be taken again. */
static void identity_rotate(struct auth *auth, const struct auth_scope *scope, const char *token)
{
    pthread_mutex_lock(&auth->lock);
    struct identity *identity = identity_of(auth, scope);
    char *copy = identity && identity->credentials.identity_token ? strdup(token) : NULL;
    if (copy) {
        secret_free(identity->credentials.identity_token);
        identity->credentials.identity_token = copy;
    }
    pthread_mutex_unlock(&auth->lock);
}

/* ---- hosts ---- */

void auth_host_done(struct auth_host *host)
{
    free(host->url);
    free(host->realm);
    free(host->service);
    *host = (struct auth_host){0};
}

static int host_copy(const struct auth_host *from, struct auth_host *ret, struct larder_error *e)
{
    struct auth_host copy = {.wants_secret = from->wants_secret,
                             .url = from->url ? strdup(from->url) : NULL,
                             .realm = from->realm ? strdup(from->realm) : NULL,
                             .service = from->service ? strdup(from->service) : NULL};
    if ((from->url && !copy.url) || (from->realm && !copy.realm) ||
        (from->service && !copy.service)) {
        auth_host_done(&copy);
        return error_nomem(e);
    }
    *ret = copy;
    return 0;
}

static struct wanted *wanted_of(const struct auth *auth, const struct auth_scope *scope)
{
    for (struct wanted *w = auth->hosts; w; w = w->next) {
        if (is_host(&w->whom, scope))
            return w;
    }
    return NULL;
}

int auth_host_get(struct auth *auth, const struct auth_scope *scope, struct auth_host *ret,
                  struct larder_error *e)
{
    struct auth_host host = {0};
    int rc = 0;
    pthread_mutex_lock(&auth->lock);
    const struct wanted *wanted = wanted_of(auth, scope);
    if (wanted)
        rc = host_copy(&wanted->host, &host, e);
    pthread_mutex_unlock(&auth->lock);
    if (rc < 0)
        return rc;
    host.has_ready_token =
        auth->options.registry_token && !auth->options.is_anonymous && !scope->is_mirror;
    *ret = host;
    return 0;
}

static int host_put(struct auth *auth, const struct auth_scope *scope, const struct auth_host *host,
                    struct larder_error *e)
{
    struct auth_host copy = {0};
    int rc = host_copy(host, &copy, e);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&auth->lock);
    struct wanted *wanted = wanted_of(auth, scope);
    if (!wanted) {
        wanted = calloc(1, sizeof(*wanted));
        rc = wanted ? whom_set(&wanted->whom, scope->host, NULL, scope->is_mirror, e)
                    : error_nomem(e);
        if (rc == 0) {
            wanted->next = auth->hosts;
            auth->hosts = wanted;
        } else {
            free(wanted);
        }
    }
    if (rc == 0) {
        auth_host_done(&wanted->host);
        wanted->host = copy;
    } else {
        auth_host_done(&copy);
    }
    pthread_mutex_unlock(&auth->lock);
    return rc;
}

int auth_host_secret(struct auth *auth, const struct auth_scope *scope, struct larder_error *e)
{
    struct auth_host host = {.wants_secret = true};
    return host_put(auth, scope, &host, e);
}

int auth_host_bearer(struct auth *auth, const struct auth_scope *scope, const struct token_ask *ask,
                     struct larder_error *e)
{
    struct auth_host host = {.url = (char *)(uintptr_t)ask->url,
                             .realm = (char *)(uintptr_t)ask->realm,
                             .service = (char *)(uintptr_t)ask->service};
    return host_put(auth, scope, &host, e);
}

/* ---- tokens ---- */

/* A token is asked for with the credentials of the repository it is for first; one that also covers
 * another (a mount's source) is no answer for that one. An empty scope is covered by any. */
static bool is_token_for(const struct token *token, const struct auth_scope *scope,
                         const struct scope_set *scopes)
{
    return is_host(&token->whom, scope) &&
           (scopes->n == 0 || same(token->whom.repository, scope->repository)) &&
           scope_set_has(&token->scopes, scopes);
}

/* With `lock` held. The narrowest is the surest: a server may have left out what it did not want
 * to give. Not `sent`. */
static struct token *token_of(const struct auth *auth, const struct auth_scope *scope,
                              const struct scope_set *scopes, const char *sent)
{
    struct token *best = NULL;
    int64_t now_ns = clock_monotonic_ns();
    for (struct token *t = auth->tokens; t; t = t->next) {
        if (!t->is_dead && t->ends_ns - SOON_NS > now_ns && is_token_for(t, scope, scopes) &&
            strcmp(t->header, sent) != 0 && (!best || t->scopes.n < best->scopes.n))
            best = t;
    }
    return best;
}

/*
 * With `lock` held: whether `sent` is a new token for exactly what is wanted, so that one more
 * would be refused, too. One that was used before was good then: it has ended early, or was
 * revoked.
 */
static bool is_hopeless(const struct auth *auth, const struct auth_scope *scope,
                        const struct token_ask *ask, const char *sent)
{
    for (const struct token *t = auth->tokens; t; t = t->next) {
        if (strcmp(t->header, sent) == 0 && is_token_for(t, scope, ask->scopes) &&
            scope_set_equal(&t->scopes, ask->scopes))
            return (t->given <= 1 || ask->is_scope_refused) &&
                   clock_monotonic_ns() - t->got_ns < AUTH_AGAIN_NS;
    }
    return false;
}

/* With `lock` held. One with too few rights may still do for what it was meant for. */
static void bury(struct auth *auth, const struct token_ask *ask, const char *sent)
{
    for (struct token *t = auth->tokens; t; t = t->next) {
        if (strcmp(t->header, sent) == 0 &&
            (!ask->is_scope_refused || scope_set_equal(&t->scopes, ask->scopes)))
            t->is_dead = true;
    }
}

/* With `lock` held: makes room, and drops what is over. */
static void tokens_trim(struct auth *auth)
{
    int64_t now_ns = clock_monotonic_ns();
    size_t n = 0;
    struct token **at = &auth->tokens;
    while (*at) {
        struct token *token = *at;
        if (token->ends_ns > now_ns && ++n <= TOKENS_MAX) {
            at = &token->next;
            continue;
        }
        *at = token->next;
        token_free(token);
    }
}

static int token_put(struct auth *auth, const struct auth_scope *scope,
                     const struct scope_set *scopes, const struct token_reply *reply,
                     struct larder_error *e)
{
    struct token *token = calloc(1, sizeof(*token));
    if (!token)
        return error_nomem(e);
    int rc = whom_set(&token->whom, scope->host, scope->repository, scope->is_mirror, e);
    if (rc == 0)
        rc = scope_set_copy(scopes, &token->scopes, e);
    if (rc == 0 && asprintf(&token->header, "Bearer %s", reply->token) < 0) {
        token->header = NULL;
        rc = error_nomem(e);
    }
    if (rc < 0) {
        token_free(token);
        return rc;
    }
    token->got_ns = clock_monotonic_ns();
    token->ends_ns = token->got_ns + reply->lives_ns;
    pthread_mutex_lock(&auth->lock);
    token->next = auth->tokens;
    auth->tokens = token;
    tokens_trim(auth);
    pthread_mutex_unlock(&auth->lock);
    return 0;
}

/* With `lock` held. */
static int give(struct token *token, char **ret, struct larder_error *e)
{
    char *copy = strdup(token->header);
    if (!copy)
        return error_nomem(e);
    token->given++;
    *ret = copy;
    return 0;
}

int auth_token_find(struct auth *auth, const struct auth_scope *scope,
                    const struct scope_set *scopes, char **ret, struct larder_error *e)
{
    int rc = 0;
    pthread_mutex_lock(&auth->lock);
    struct token *token = token_of(auth, scope, scopes, "");
    if (token)
        rc = give(token, ret, e);
    pthread_mutex_unlock(&auth->lock);
    return rc;
}

/* With `lock` held. */
static struct flight *flight_of(const struct auth *auth, const struct auth_scope *scope,
                                const struct scope_set *scopes)
{
    for (struct flight *f = auth->flights; f; f = f->next) {
        if (is_host(f->whom, scope) && same(f->whom->repository, scope->repository) &&
            scope_set_equal(f->scopes, scopes))
            return f;
    }
    return NULL;
}

/* With `lock` held, which is given up meanwhile. The leader's result. */
static int flight_wait(struct auth *auth, struct flight *flight, struct larder_error *e)
{
    flight->waiters++;
    while (!flight->is_done)
        pthread_cond_wait(&auth->landed, &auth->lock);
    int rc = flight->rc;
    if (rc < 0 && e)
        *e = flight->error;
    if (--flight->waiters == 0)
        free(flight);
    return rc;
}

/* With `lock` held: from now on nobody finds it; the last waiter frees it. */
static void flight_land(struct auth *auth, struct flight *flight, int rc,
                        const struct larder_error *e)
{
    struct flight **at = &auth->flights;
    while (*at != flight)
        at = &(*at)->next;
    *at = flight->next;
    flight->rc = rc;
    flight->error = *e;
    flight->is_done = true;
    if (flight->waiters == 0)
        free(flight);
    else
        pthread_cond_broadcast(&auth->landed);
}

static int fetch(struct auth *auth, struct http_client *client, const struct auth_scope *scope,
                 const struct token_ask *ask, struct larder_error *e)
{
    struct token_reply reply = {0};
    int rc = token_fetch(client, ask, &reply, e);
    if (rc < 0)
        return rc;
    rc = token_put(auth, scope, ask->scopes, &reply, e);
    if (rc == 0 && reply.refresh_token)
        identity_rotate(auth, scope, reply.refresh_token);
    token_reply_done(&reply);
    return rc;
}

/* With `lock` held, which is given up meanwhile: fetches for all who want the same. */
static int lead(struct auth *auth, struct http_client *client, const struct auth_scope *scope,
                const struct token_ask *ask, struct larder_error *e)
{
    struct flight *flight = calloc(1, sizeof(*flight));
    struct larder_error failure = LARDER_ERROR_INIT;
    struct whom whom = {(char *)(uintptr_t)scope->host, (char *)(uintptr_t)scope->repository,
                        scope->is_mirror};
    if (!flight)
        return error_nomem(e);
    flight->whom = &whom;
    flight->scopes = ask->scopes;
    flight->next = auth->flights;
    auth->flights = flight;
    pthread_mutex_unlock(&auth->lock);
    int rc = fetch(auth, client, scope, ask, &failure);
    pthread_mutex_lock(&auth->lock);
    flight_land(auth, flight, rc, &failure);
    if (rc < 0 && e)
        *e = failure;
    return rc;
}

int auth_token_get(struct auth *auth, struct http_client *client, const struct auth_scope *scope,
                   const struct token_ask *ask, const char *sent, char **ret,
                   struct larder_error *e)
{
    struct token *token = NULL;
    int rc = 0;
    pthread_mutex_lock(&auth->lock);
    bury(auth, ask, sent);
    while (rc == 0 && !(token = token_of(auth, scope, ask->scopes, sent))) {
        struct flight *flight = flight_of(auth, scope, ask->scopes);
        if (flight) {
            rc = flight_wait(auth, flight, e);
        } else if (is_hopeless(auth, scope, ask, sent)) {
            rc = error_set(e, LARDER_AUTH, "registry %s: it refused the token it asked for%s%s",
                           scope->host, scope->repository ? ", repository " : "",
                           scope->repository ? scope->repository : "");
            if (ask->credentials->is_given)
                error_hint(e, "the credentials given may lack this right");
            else if (ask->credentials->source)
                error_hint(e, "the credentials of %s may lack this right",
                           ask->credentials->source);
            else
                error_hint(e, "run `larder login %s`", scope->host);
        } else {
            rc = lead(auth, client, scope, ask, e);
        }
    }
    if (rc == 0)
        rc = give(token, ret, e);
    pthread_mutex_unlock(&auth->lock);
    return rc;
}
