/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Where a Location or a Link leads (RFC 3986 section 5.2). Pure.
 *
 * What registries behind proxies really send: absolute, host-relative, path-relative, with only a
 * query, without a scheme, with "http:" though they are reached by https. What a hostile one could
 * send: a way into a private network, or down to plain text.
 */
#include <larder/error.h>

#include "base/slice.h"

/*
 * base: the URL that was answered. *ret: absolute, malloc'd. An https base never gives http: the
 * same host stays at base's origin, another is UNSAFE, as is a private address when base's host is
 * none. PROTO for what is no URL.
 */
int location_resolve(const char *base, struct slice target, char **ret, struct larder_error *e);
/* "?digest=" or "&digest=" and the digest; malloc'd */
int location_add(const char *url, const char *key, const char *value, char **ret,
                 struct larder_error *e);
/* Percent-encoded for a query value. malloc'd; NULL: out of memory */
char *location_escape(const char *text);
