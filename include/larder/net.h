/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * How a store's handle talks to upstream servers. Set once after the store was opened; without it
 * the defaults of LARDER_NET_OPTIONS_INIT hold. Proxies come from the usual variables
 * (https_proxy, no_proxy), user names and passwords from netrc.
 */
#include <larder/store.h>

LARDER_BEGIN_DECLS

struct larder_net_options {
    size_t size;                /* sizeof(struct larder_net_options) */
    int64_t connect_timeout_ns; /* 0: 20 s */
    int64_t stall_timeout_ns;   /* no byte for so long, or fewer than 1 KiB of an answer
                                   that has begun, ends a transfer; 0: 30 s */
    unsigned retries;           /* of requests that failed in a way that may pass */
    const char *header_file;    /* request headers "Name: value" for entries that name no file of
                                   their own; sent to the source's origin only; NULL: none */
    const char *ca_file;        /* PEM of trusted authorities; NULL: the system's */
    const char *authfile;       /* credentials for images of registries; NULL: as
                                   larder_registry_options.authfile */
    void *reserved[3];
};
#define LARDER_NET_RETRIES 4
#define LARDER_NET_OPTIONS_INIT                                                        \
    {                                                                                  \
        sizeof(struct larder_net_options), 0, 0, LARDER_NET_RETRIES, NULL, NULL, NULL, \
        {                                                                              \
            NULL, NULL, NULL                                                           \
        }                                                                              \
    }

/* Keeps a copy of the options (strings too) in the handle. INVAL (a size of 0 or beyond ours with
 * unknown bytes set, a negative time), NOMEM; the old options stay then. Touches no file. */
LARDER_API LARDER_MUST_CHECK int larder_store_set_net(struct larder_store *store,
                                                      const struct larder_net_options *options,
                                                      struct larder_error *e);

LARDER_END_DECLS
