/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http/http_pool.h"

#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "net/http/exchange.h"

struct http_pool {
    struct http_options options;
    char *strings[6]; /* what options points to */
    pthread_mutex_t lock;
    struct http_client *idle; /* given back last first; under lock */
};

static int keep(struct http_pool *pool, const char **text, size_t at, struct larder_error *e)
{
    if (!*text)
        return 0;
    pool->strings[at] = strdup(*text);
    *text = pool->strings[at];
    return *text ? 0 : error_nomem(e);
}

int http_pool_new(const struct http_options *options, struct http_pool **ret,
                  struct larder_error *e)
{
    CLEANUP(http_pool_freep) struct http_pool *pool = calloc(1, sizeof(*pool));
    if (!pool)
        return error_nomem(e);
    pthread_mutex_init(&pool->lock, NULL); /* can't fail without attributes */
    pool->options = *options;
    const char **texts[] = {
        &pool->options.header_file, &pool->options.header_origin, &pool->options.ca_file,
        &pool->options.ca_dir,      &pool->options.client_cert,   &pool->options.client_key,
    };
    _Static_assert(ARRAY_LEN(texts) == ARRAY_LEN(pool->strings), "one string each");
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(texts); i++)
        rc = keep(pool, texts[i], i, e);
    /* The first client now: what is wrong with the options is said here, once. */
    struct http_client *first = NULL;
    if (rc == 0)
        rc = http_client_make(&pool->options, false, &first, e);
    if (rc < 0)
        return rc;
    http_pool_put(pool, first);
    *ret = TAKE_PTR(pool);
    return 0;
}

void http_pool_free(struct http_pool *pool)
{
    if (!pool)
        return;
    while (pool->idle) {
        struct http_client *client = pool->idle;
        pool->idle = client->next_idle;
        http_client_free(client);
    }
    for (size_t i = 0; i < ARRAY_LEN(pool->strings); i++)
        free(pool->strings[i]);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

int http_pool_get(struct http_pool *pool, struct http_client **ret, struct larder_error *e)
{
    pthread_mutex_lock(&pool->lock);
    struct http_client *client = pool->idle;
    if (client)
        pool->idle = client->next_idle;
    pthread_mutex_unlock(&pool->lock);
    if (!client)
        return http_client_make(&pool->options, true, ret, e);
    client->next_idle = NULL;
    *ret = client;
    return 0;
}

void http_pool_put(struct http_pool *pool, struct http_client *client)
{
    if (!client)
        return;
    pthread_mutex_lock(&pool->lock);
    client->next_idle = pool->idle;
    pool->idle = client;
    pthread_mutex_unlock(&pool->lock);
}
