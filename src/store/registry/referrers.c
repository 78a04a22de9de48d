/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who refers to a manifest (distribution-spec "Listing Referrers"): the API, in pages; where it is
 * not known, the index under the fallback tag. Filtered here when the registry does not.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "net/auth/challenge.h"
#include "net/http/url.h"
#include "oci/manifest.h"
#include "oci/write.h"
#include "store/blob_read.h"
#include "store/registry/location.h"
#include "store/registry/session.h"

#define PAGES_MAX     1000
#define ENTRIES_MAX   100000
#define LISTING_BYTES (16UL * 1024 * 1024) /* of all pages together */

/* The pages' documents stay until the entries, which borrow from them, are written. */
struct listing {
    struct oci_manifest **pages;
    size_t n_pages;
    struct oci_index_entry *entries;
    size_t n_entries, cap;
    bool is_filtered; /* by the registry */
};

static void listing_done(struct listing *l)
{
    for (size_t i = 0; i < l->n_pages; i++)
        oci_manifest_free(l->pages[i]);
    free(l->pages);
    free(l->entries);
}

/* "" and NULL are no type. */
static bool is_wanted(const struct listing *l, const struct oci_descriptor *d, const char *type)
{
    return !type || l->is_filtered || (d->artifact_type && strcmp(d->artifact_type, type) == 0);
}

static bool has_entry(const struct listing *l, const struct larder_digest *digest)
{
    for (size_t i = 0; i < l->n_entries; i++)
        if (larder_digest_equal(&l->entries[i].digest, digest))
            return true;
    return false;
}

static int add_entry(struct listing *l, const struct oci_descriptor *d, struct larder_error *e)
{
    if (l->n_entries == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 16;
        struct oci_index_entry *entries =
            cap > ENTRIES_MAX ? NULL : realloc(l->entries, cap * sizeof(*entries));
        if (cap > ENTRIES_MAX)
            return error_set(e, LARDER_LIMIT, "more than %d referrers", ENTRIES_MAX / 2);
        if (!entries)
            return error_nomem(e);
        l->entries = entries;
        l->cap = cap;
    }
    oci_index_entry_of(d, &l->entries[l->n_entries++]);
    return 0;
}

static int add_page(const struct registry *r, struct listing *l, struct slice bytes,
                    const char *type, struct larder_error *e)
{
    struct oci_manifest **pages = realloc(l->pages, (l->n_pages + 1) * sizeof(*pages));
    struct oci_manifest *page = NULL;
    if (!pages)
        return error_nomem(e);
    l->pages = pages;
    int rc = manifest_parse_from(&r->store, bytes, NULL, &page, e);
    if (rc < 0)
        return rc;
    l->pages[l->n_pages++] = page;
    if (page->kind != OCI_KIND_INDEX)
        return error_set(e, LARDER_PROTO, "an image where a list of referrers should be");
    for (size_t i = 0; rc == 0 && i < page->n_manifests; i++) {
        const struct oci_descriptor *d = &page->manifests[i];
        if (is_wanted(l, d, type) && !has_entry(l, &d->digest))
            rc = add_entry(l, d, e);
    }
    return rc;
}

/* ---- the API ---- */

static bool is_index_answer(const struct http_response *response)
{
    char type[OCI_MEDIA_TYPE_BYTES];
    return response->content_type && media_type_clean(slice_of(response->content_type), type) &&
           media_type_is_index(type);
}

static int next_page(struct registry *r, const struct call *c, char **ret, struct larder_error *e)
{
    CLEANUP_FREE char *target = NULL;
    char *url = NULL;
    int rc = 0;
    for (size_t i = 0; rc == 0 && !target; i++) {
        struct slice value = http_response_header(&c->response, "Link", i);
        if (!value.p)
            break;
        rc = link_next(value, &target, e);
    }
    if (rc == 0 && target)
        rc = call_resolve(r, c, slice_of(target), &url, e);
    if (rc == 0 && url && !url_same_origin(url, c->asked_url)) {
        free(url);
        return call_fail(r, c, LARDER_UNSAFE, e, "its list of referrers goes on at another host");
    }
    if (rc == 0)
        *ret = url;
    return rc;
}

/* 1: there is an API and the page is in; 0: there is none. *url becomes the next one's. */
static int ask_page(struct registry *r, struct listing *l, const char *path, char **url,
                    const char *digest, const char *type, struct larder_error *e)
{
    struct buf page = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    const struct http_header accept = {"Accept", OCI_TYPE_INDEX};
    struct call c = {
        .peer = registry_primary(r),
        .path = path,
        .url = *url,
        .actions = registry_read_actions(r),
        .digest = digest,
        .out = &page,
        .request = {.headers = &accept, .n_headers = 1},
    };
    char *next = NULL;
    int rc = call_run(r, &c, e);
    int status = c.response.status;
    bool is_list = rc == 0 && status == 200 && is_index_answer(&c.response);
    if (is_list) {
        struct slice filters = http_response_header(&c.response, "OCI-Filters-Applied", 0);
        l->is_filtered = type && slice_equal_nocase(filters, SLICE_LIT("artifactType"));
        rc = call_check_encoding(r, &c, e);
        if (rc == 0)
            rc = add_page(r, l, buf_slice(&page), type, e);
        if (rc == 0)
            rc = next_page(r, &c, &next, e);
        if (rc == 0)
            rc = 1;
    } else if (rc == 0 && status != 404 && status != 405 && status != 200 && status != 400 &&
               status != 501) {
        rc = call_refused(r, &c, e);
    }
    free(*url);
    *url = next;
    call_done(&c);
    buf_done(&page);
    return rc;
}

static int ask_api(struct registry *r, struct listing *l, const char *digest, const char *type,
                   struct larder_error *e)
{
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE char *escaped = type ? location_escape(type) : NULL;
    char *url = NULL;
    int rc = 0;
    if (type && !escaped)
        return error_nomem(e);
    if (asprintf(&path, "referrers/%s%s%s", digest, type ? "?artifactType=" : "",
                 type ? escaped : "") < 0) {
        path = NULL;
        return error_nomem(e);
    }
    do
        rc = ask_page(r, l, path, &url, digest, type, e);
    while (rc == 1 && url && l->n_pages < PAGES_MAX);
    if (rc == 1 && url)
        rc = error_set(e, LARDER_LIMIT, "%s: more than %d pages of referrers", r->store.name,
                       PAGES_MAX);
    free(url);
    return rc;
}

/* ---- the tag ---- */

static int ask_tag(struct registry *r, struct listing *l, const struct larder_digest *subject,
                   const char *type, struct larder_error *e)
{
    struct buf bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    int rc = referrers_tag_read(r, subject, &bytes, e);
    if (rc == 1)
        rc = add_page(r, l, buf_slice(&bytes), type, e);
    buf_done(&bytes);
    return rc;
}

int registry_referrers(struct store *s, const struct larder_digest *subject,
                       const char *artifact_type, struct buf *out, struct larder_error *e)
{
    struct registry *r = registry_of(s);
    struct listing l = {0};
    char digest[LARDER_DIGEST_TEXT_BYTES];
    int rc = 0;
    larder_digest_format(subject, digest);
    if (atomic_load(&r->has_referrers) != KNOWN_NO) {
        rc = ask_api(r, &l, digest, artifact_type, e);
        if (rc >= 0)
            atomic_store(&r->has_referrers, rc ? KNOWN_YES : KNOWN_NO);
    }
    if (rc == 0)
        rc = ask_tag(r, &l, subject, artifact_type, e);
    if (rc >= 0)
        rc = oci_index_write(l.entries, l.n_entries, false, NULL, out, e);
    listing_done(&l);
    return rc;
}
