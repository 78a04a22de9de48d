/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Names of hosts: which ones mean this machine. Pure.
 */
#include <stdbool.h>

#include "base/slice.h"

/* "host:port", "[::1]:5000" or "host" without port and brackets. */
struct slice hostname_of(struct slice authority);
/* Host and port of a URL that url_check() took, without userinfo. */
struct slice hostname_authority(const char *url);
/* localhost, *.localhost, 127.0.0.0/8, ::1, in every spelling that a resolver takes. */
bool hostname_is_loopback(struct slice host);
/* Loopback, 0.0.0.0/8 and ::, or link-local, where clouds answer with their machines' secrets. */
bool hostname_is_local(struct slice host);
