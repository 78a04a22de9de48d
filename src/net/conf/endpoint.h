/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Where a reference's registry is reached: registries.conf (containers-registries.conf(5), the v2
 * [[registry]] tables with mirrors), certs.d directories, plain HTTP for loopback.
 */
#include <stdbool.h>
#include <stddef.h>

#include <larder/error.h>

#include "base/mem.h"

/*
 * INSECURE: TLS without checking, or plain HTTP. For loopback plain HTTP is to be tried first:
 * what listens there rarely has TLS, and a probe costs more than the request.
 */
enum endpoint_tls { ENDPOINT_TLS, ENDPOINT_INSECURE, ENDPOINT_HTTP };

struct endpoint {
    char *base;       /* "host:port", no scheme, no path; docker.io is registry-1.docker.io */
    char *host;       /* whose credentials are used, as in references */
    char *repository; /* after rewriting; NULL when none was asked for */
    enum endpoint_tls tls;
    bool is_mirror;
    bool for_tags; /* a mirror that may be asked for tags, digests; true for the registry */
    bool for_digests;
    char *certs_dir;                /* with *.crt of authorities; NULL: none */
    char *client_cert, *client_key; /* NULL */
};

struct endpoint_options {
    const char *conf;  /* NULL: $CONTAINERS_REGISTRIES_CONF, ~/.config/containers/ or
                          /etc/containers/registries.conf; drop-ins as containers/image */
    const char *certs; /* directory given by --cert-dir; NULL: the usual ones */
    int tls_verify;    /* -1: by conf; else INSECURE for loopback; 0; 1 */
};

/*
 * Mirrors in order, then the registry itself, last. repository NULL: only the registry itself, not
 * rewritten (login). DENIED when the conf blocks it; INVAL for a conf that can't be read (with
 * line) or a certs.d directory that lacks a half. *ret is an array, freed with endpoints_free.
 */
int endpoints_find(const struct endpoint_options *options, const char *host, const char *repository,
                   struct endpoint **ret, size_t *ret_n, struct larder_error *e);
void endpoints_free(struct endpoint *endpoints, size_t n);
