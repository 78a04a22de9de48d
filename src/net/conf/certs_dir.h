/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * certs.d directories (containers-certs.d(5)): authorities in *.crt, client certificates in *.cert
 * with their *.key. Inside src/net.
 */
#include <larder/error.h>

struct certs {
    char *dir;         /* NULL: no authorities there */
    char *client_cert; /* NULL */
    char *client_key;
};

/*
 * given NULL: the first that exists of certs.d/AUTHORITY in ~/.config/containers, /etc/containers,
 * /etc/docker; else that directory. INVAL for a certificate without its key or a key without its
 * certificate; NOENT for a given one that is not there.
 */
int certs_find(const char *given, const char *authority, struct certs *ret, struct larder_error *e);
void certs_done(struct certs *certs);
