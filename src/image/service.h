/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the image commands share: names from sources, the entry's HTTP client, when upstream is due.
 */
#include "image/entry.h"
#include "net/http/http.h"

/* Whether upstream should be asked by the entry's own policy (refresh age, known change,
 * negative cache of a contradiction). */
bool image_entry_is_due(const struct image_entry *entry, int64_t now_ns);

/*
 * The entry name that name_or_source means: an existing entry's name, else a source (URL or path),
 * for which an entry is made, with a name derived from it. *ret_name is malloc'd.
 */
int image_resolve(struct larder_store *store, const char *name_or_source,
                  const struct larder_image_spec *spec, char **ret_name, struct larder_error *e);
/* The same without making one: NOENT when there is no such entry. */
int image_resolve_existing(struct larder_store *store, const char *name_or_source, char **ret_name,
                           struct larder_error *e);
/* "<basename>@<12 hex digits of the source's hash>", malloc'd. */
int image_name_from_source(const char *source, char **ret_name, struct larder_error *e);
/* Names: 1 to 128 bytes, no control bytes, not beginning with '-' or '/', no "//" or "..". */
int image_name_check(const char *name, struct larder_error *e);
/* Whether an entry's document can hold text: UTF-8 without control bytes. */
bool image_text_is_storable(const char *text);

/* A client with the store's network options and the entry's header file; NULL in *ret for a local
 * source without remote sums. libcurl is not loaded before the first request. */
int image_http_client(struct larder_store *store, const struct image_entry *entry,
                      struct http_client **ret, struct larder_error *e);
/* How often a transfer that makes no progress is tried again (net.retries). */
unsigned image_http_retries(struct larder_store *store);
