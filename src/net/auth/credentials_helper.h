/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * docker-credential-NAME programs (docker-credential-helpers' protocol): the action is the only
 * argument, the rest is on stdin and stdout. Inside src/net.
 */
#include "json/json.h"
#include "net/auth/credentials.h"

/* *ret_found false: it knows none. UNREACHABLE when it is missing, failed, hung or talks nonsense;
 * its output is not quoted unless it failed. */
int credential_helper_get(const struct credential_options *options, const char *name,
                          const char *host, struct credentials *ret, bool *ret_found,
                          struct larder_error *e);
int credential_helper_store(const struct credential_options *options, const char *name,
                            const char *host, const char *user, const char *password,
                            struct larder_error *e);
int credential_helper_erase(const struct credential_options *options, const char *name,
                            const char *host, struct larder_error *e);
/* Erases all that `list` names; *ret_n: how many. */
int credential_helper_erase_all(const struct credential_options *options, const char *name,
                                size_t *ret_n, struct larder_error *e);
