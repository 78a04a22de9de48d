/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Logins of a .netrc file. Read here and not by libcurl, so that both engines send the same.
 * Inside src/net.
 */
#include <larder/error.h>

struct netrc_login {
    char *user; /* NULL: none */
    char *password;
};
/* Overwrites and frees. */
void netrc_login_done(struct netrc_login *login);

/*
 * The first entry of the URL's host (else "default"), of that user only when user is not NULL. A
 * file that is not there, can't be read or has none leaves ret empty, as other programs do. NOMEM.
 */
int netrc_find(const char *file, const char *url, const char *user, struct netrc_login *ret,
               struct larder_error *e);
