/* SPDX-License-Identifier: Apache-2.0 */
#include "image/context.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <larder/image.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "image/service.h"
#include "image/source.h"
#include "store/dir/dir.h"

static void free_dirs(char **dirs, size_t count)
{
    for (size_t i = 0; dirs && i < count; i++)
        free(dirs[i]);
    free(dirs);
}

static void free_net(struct larder_net_options *net)
{
    free((void *)(uintptr_t)net->header_file);
    free((void *)(uintptr_t)net->ca_file);
    free((void *)(uintptr_t)net->authfile);
}

static void context_free(void *arg)
{
    struct image_context *context = arg;
    free_dirs(context->guest_dirs, context->guest_dir_count);
    free_net(&context->net);
    free(context);
}

struct image_context *image_context_get(struct larder_store *store)
{
    struct image_context *context = store_context(store);
    if (context)
        return context;
    context = calloc(1, sizeof(*context));
    if (!context)
        return NULL;
    context->net = (struct larder_net_options)LARDER_NET_OPTIONS_INIT;
    store_set_context(store, context, context_free);
    return context;
}

int larder_store_set_guest_dirs(struct larder_store *store, const char *const *dirs, size_t count,
                                struct larder_error *e)
{
    struct image_context *context = image_context_get(store);
    char **copies = calloc(count ? count : 1, sizeof(*copies));
    int r = context && copies ? 0 : error_nomem(e);
    for (size_t i = 0; r == 0 && i < count; i++) {
        r = path_absolute(dirs[i], &copies[i], e);
        /* What it is on may not be mounted; it is warned about when users are looked for. */
        if (r == -LARDER_NOENT && dirs[i][0] == '/') {
            error_clear(e);
            copies[i] = strdup(dirs[i]);
            r = copies[i] ? 0 : error_nomem(e);
        }
    }
    if (r < 0) {
        free_dirs(copies, count);
        return r;
    }
    free_dirs(context->guest_dirs, context->guest_dir_count);
    context->guest_dirs = copies;
    context->guest_dir_count = count;
    context->is_missing_told = false;
    return 0;
}

int larder_store_set_net(struct larder_store *store, const struct larder_net_options *options,
                         struct larder_error *e)
{
    struct image_context *context = image_context_get(store);
    struct larder_net_options net = LARDER_NET_OPTIONS_INIT;
    if (!context)
        return error_nomem(e);
    if (options->size == 0)
        return error_set(e, LARDER_INVAL, "network options: size is 0");
    memcpy(&net, options, options->size < sizeof(net) ? options->size : sizeof(net));
    if (net.connect_timeout_ns < 0 || net.stall_timeout_ns < 0)
        return error_set(e, LARDER_INVAL, "network options: a timeout may not be negative");
    net.header_file = net.header_file ? strdup(net.header_file) : NULL;
    net.ca_file = net.ca_file ? strdup(net.ca_file) : NULL;
    const char *authfile = net.authfile;
    net.authfile = authfile ? strdup(authfile) : NULL;
    if ((options->header_file && !net.header_file) || (options->ca_file && !net.ca_file) ||
        (authfile && !net.authfile)) {
        free_net(&net);
        return error_nomem(e);
    }
    free_net(&context->net);
    context->net = net;
    return 0;
}

unsigned image_http_retries(struct larder_store *store)
{
    const struct image_context *context = image_context_get(store);
    return context ? context->net.retries : LARDER_NET_RETRIES;
}

int image_http_client(struct larder_store *store, const struct image_entry *entry,
                      struct http_client **ret, struct larder_error *e)
{
    const struct image_context *context = image_context_get(store);
    /* Sums elsewhere, or the mirror that they lead to, are no place for the source's secrets. */
    const char *origin = source_is_url(entry->source)                        ? entry->source
                         : entry->checksum && source_is_url(entry->checksum) ? entry->checksum
                                                                             : NULL;
    if (!context)
        return error_nomem(e);
    *ret = NULL;
    if (!origin)
        return 0;
    const struct http_options options = {
        .connect_timeout_ns = context->net.connect_timeout_ns,
        .stall_timeout_ns = context->net.stall_timeout_ns,
        .retries = context->net.retries,
        .header_file = entry->header_file ? entry->header_file : context->net.header_file,
        .header_origin = origin,
        .ca_file = context->net.ca_file,
        .observer = store_observer(store),
    };
    return http_client_new(&options, ret, e);
}
