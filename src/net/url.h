/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * URL helpers that only the HTTP client needs; those for others are in http.h. Pure.
 */
#include <stdbool.h>

#include <larder/error.h>

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
