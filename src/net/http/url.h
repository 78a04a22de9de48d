/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * URL helpers that only the HTTP client needs; those for others are in http.h. Pure.
 */
#include <stdbool.h>

#include <larder/error.h>

#include "base/buf.h"
#include "base/slice.h"

/* INVAL, LIMIT unless it is an http(s) URL that every reader understands in the same way. The
 * functions below want a checked one. */
int url_check(const char *url, struct larder_error *e);
/*
 * Takes "user:password@" (percent-decoded into *ret_user, *ret_password; NULL without) and the
 * fragment out of a URL. All malloc'd.
 */
int url_split_userinfo(const char *url, char **ret_url, char **ret_user, char **ret_password,
                       struct larder_error *e);
bool url_is_https(const char *url);
/* Same scheme, host and port (RFC 6454 section 5). */
bool url_same_origin(const char *a, const char *b);

/* Host (without brackets) and port of a URL; default port filled in. Borrowed from url. */
struct slice url_host(const char *url);
struct slice url_port(const char *url);
/* Path and query as a request line wants them, "." and ".." taken out. */
int url_target(const char *url, struct buf *out, struct larder_error *e);
/*
 * A Location against the URL it came from (RFC 3986 section 5.2), without its fragment unless it
 * is absolute. Blanks and bytes beyond ASCII are percent-encoded: servers send them. malloc'd, not
 * checked.
 */
int url_resolve(const char *base, const char *location, char **ret, struct larder_error *e);
