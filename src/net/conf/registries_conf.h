/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * registries.conf (containers-registries.conf(5), version 2) with its drop-ins: only the
 * [[registry]] tables. Short names are not looked up: a name without a host is docker.io's.
 * Inside src/net.
 */
#include <stdbool.h>
#include <stddef.h>

#include <larder/error.h>

struct conf_mirror {
    char *location; /* host[/path] */
    bool insecure;
    bool for_tags;
    bool for_digests;
};

struct conf_registry {
    char *prefix;   /* "host[/path]" or "*.domain" */
    char *location; /* "": the reference as it is */
    char *where;    /* "FILE:LINE" */
    bool has_insecure;
    bool insecure;
    bool blocked;
    bool mirrors_by_digest_only;
    struct conf_mirror *mirrors;
    size_t n_mirrors;
};

struct registries_conf {
    struct conf_registry *list;
    size_t n;
};

/* path NULL: the usual places. INVAL ("FILE:LINE: ..."), NOENT for a path that was given. */
int registries_conf_read(const char *path, struct registries_conf *ret, struct larder_error *e);
void registries_conf_done(struct registries_conf *conf);
/* The table with the longest prefix of "host/repository" ("host"); NULL: none. *ret_bytes: how much
 * of the name the prefix stands for. Borrowed. */
const struct conf_registry *registries_conf_find(const struct registries_conf *conf,
                                                 const char *name, size_t *ret_bytes);
