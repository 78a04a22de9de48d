/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Where an image comes from: a local path, an http(s) URL or a registry (oras://HOST/NAME:TAG,
 * oci://, docker://; registry_source.h), and what can be learned about it without fetching it.
 */
#include <stdbool.h>
#include <stdint.h>

#include "image/entry.h"
#include "net/http/http.h"

bool source_is_url(const char *source); /* http(s) */
/* Whether it names an image in a registry; *ret_reference (may be NULL): what follows "://". */
bool source_is_registry(const char *source, const char **ret_reference);
/* File name part, percent-decoded for URLs: what checksum files call it. malloc'd. */
int source_basename(const char *source, char **ret, struct larder_error *e);
/* Another file in the same directory (URL or path). malloc'd. */
int source_sibling(const char *source, const char *name, char **ret, struct larder_error *e);

/* Validators of the source right now. A local file's "etag" is made of inode, size, mtime and
 * ctime. */
struct source_state {
    char *etag;
    char *last_modified;
    char *final_url;
    uint64_t size_bytes; /* 0: unknown */
};
void source_state_done(struct source_state *state);
/* HEAD (or fstat). GONE, UNREACHABLE, AUTH...; a local source that is missing is GONE. */
int source_state_ask(struct larder_store *store, struct http_client *client,
                     const struct image_entry *entry, struct source_state *ret,
                     struct larder_error *e);
/* The validator string of an open local file, malloc'd; NULL when out of memory. */
struct stat;
char *source_local_etag(const struct stat *st);
