/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * index.json of an OCI image layout (image-spec image-layout.md): the entries that give names to
 * what is below blobs/. Pure: documents in, documents out; layout.c and archive.c do the files.
 *
 * Other programs own members that we don't know: an edit makes a new document that has everything
 * of the old one, in its order, but the entry that is meant.
 *
 * A name is the annotation org.opencontainers.image.ref.name; when nothing is called so, the name
 * in io.containerd.image.name counts, too (docker save). "" stands for an entry without a name.
 */
#include "json/json.h"
#include "store/store.h"

/* About 200,000 entries; what is larger is no list of images any more. */
#define INDEX_JSON_BYTES_MAX (64UL * 1024 * 1024)

/* where: what messages call the layout, as "oci:dir". CORRUPT; LIMIT; NOMEM. */
int index_json_parse(struct slice text, const char *where, struct json **ret,
                     struct larder_error *e);
/* Without entries. */
int index_json_new(struct json **ret, struct larder_error *e);

/* One entry. CORRUPT when it is none. */
int index_json_entry(const struct json *entry, const char *where, struct store_descriptor *ret,
                     struct larder_error *e);
/* Each name in the document's order. */
int index_json_each_ref(const struct json *index, int (*fn)(void *arg, const char *ref), void *arg);

/* Reads a manifest, checked against its digest; NOENT. */
struct index_json_reader {
    int (*read)(void *arg, const struct store_descriptor *manifest, struct buf *out,
                struct larder_error *e);
    void *arg;
};
/*
 * What a name points to. ref NULL: the only image there is; entries without a name that are
 * members of another entry or have a subject don't count. NOENT; INVAL naming what there is.
 */
int index_json_resolve(const struct json *index, const char *where, const char *ref,
                       const struct index_json_reader *reader, struct store_descriptor *ret,
                       struct larder_error *e);
/* Whether an entry has this digest; ret may be NULL. */
bool index_json_find(const struct json *index, const struct larder_digest *digest,
                     struct store_descriptor *ret);

/*
 * Edits: *ret is the new document, NULL when nothing is to be changed.
 *
 * put: each name points to the manifest: its entry is replaced where it stands, a new one goes to
 * the end. drop_ref: NOENT. drop_digest: all entries of the digest; NOENT.
 */
int index_json_put(const struct json *index, const struct store_descriptor *manifest,
                   const char *const *refs, size_t n_refs, struct json **ret,
                   struct larder_error *e);
int index_json_drop_ref(const struct json *index, const char *where, const char *ref,
                        struct json **ret, struct larder_error *e);
int index_json_drop_digest(const struct json *index, const char *where,
                           const struct larder_digest *digest, struct json **ret,
                           struct larder_error *e);
