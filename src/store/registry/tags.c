/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tags: listing in pages, deleting.
 *
 * Pages come with a Link, or the next one is asked for by n and last. A list that leads back to a
 * page that was there, or a server that does not know "last", must not keep us forever.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "json/json.h"
#include "net/auth/challenge.h"
#include "net/http/url.h"
#include "oci/reference.h"
#include "store/registry/location.h"
#include "store/registry/session.h"

#define PAGE_TAGS 1000 /* some registries refuse more */
/* A page of so many without a Link may have been cut by a registry that has no Link. */
#define PAGE_TAGS_FULL 50
#define PAGE_BYTES_MAX (16UL * 1024 * 1024)
#define PAGES_MAX      100000
#define PATH_BYTES     (16 + LARDER_DIGEST_TEXT_BYTES + OCI_TAG_MAX_BYTES)

struct walk {
    struct registry *r;
    int (*fn)(void *arg, const char *ref);
    void *arg;
    bool was_ended;  /* by fn */
    char *next_url;  /* by Link; NULL: by n and last */
    char *last;      /* last tag of the page before; NULL: first page */
    char *first;     /* of all */
    bool without_n;  /* it was refused */
    bool has_obeyed; /* a page had as many as were asked for */
    uint64_t *seen;  /* of the Links so far */
    size_t n_seen, cap;
};

static void walk_done(struct walk *w)
{
    free(w->next_url);
    free(w->first);
    free(w->last);
    free(w->seen);
}

/* FNV-1a: a wrong match ends a list of many pages with an error once in 2^64. */
static uint64_t print_of(const char *text)
{
    uint64_t h = 14695981039346656037ULL;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 1099511628211ULL;
    return h;
}

/* 1: it was there already. */
static int see(struct walk *w, uint64_t print, struct larder_error *e)
{
    for (size_t i = 0; i < w->n_seen; i++)
        if (w->seen[i] == print)
            return 1;
    if (w->n_seen == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 16;
        uint64_t *seen = realloc(w->seen, cap * sizeof(*seen));
        if (!seen)
            return error_nomem(e);
        w->seen = seen;
        w->cap = cap;
    }
    w->seen[w->n_seen++] = print;
    return 0;
}

/* Whether a page that was to begin behind `last` does so: not all registries know the word. */
static bool is_further(const struct walk *w, const struct json *tags)
{
    for (size_t i = 0; i < json_length(tags); i++) {
        const char *tag = json_text(json_at(tags, i));
        if (tag && (strcmp(tag, w->last) == 0 || strcmp(tag, w->first) == 0))
            return false;
    }
    return true;
}

static int keep_ends(struct walk *w, const char *first, const char *last, struct larder_error *e)
{
    char *copy = strdup(last);
    if (!w->first)
        w->first = strdup(first);
    if (copy) {
        free(w->last);
        w->last = copy;
    }
    return copy && w->first ? 0 : error_nomem(e);
}

static int take_tags(struct walk *w, const struct json *tags, struct larder_error *e)
{
    const char *first = NULL;
    const char *last = NULL;
    for (size_t i = 0; i < json_length(tags); i++) {
        const char *tag = json_text(json_at(tags, i));
        if (!tag)
            continue;
        last = tag;
        first = first ? first : tag;
        if (!oci_tag_is_valid(slice_of(tag)))
            continue; /* nothing that could be asked for */
        int rc = w->fn(w->arg, tag);
        w->was_ended = rc != 0;
        if (rc != 0)
            return rc;
    }
    return last ? keep_ends(w, first, last, e) : 0;
}

/* Sets where the next page is; 1: there is one. */
static int find_next(struct walk *w, const struct call *c, size_t n_tags, struct larder_error *e)
{
    CLEANUP_FREE char *target = NULL;
    CLEANUP_FREE char *present = TAKE_PTR(w->next_url);
    for (size_t i = 0; !target; i++) {
        struct slice value = http_response_header(&c->response, "Link", i);
        if (!value.p)
            break;
        int rc = link_next(value, &target, e);
        if (rc < 0)
            return rc;
    }
    if (!target) {
        /* Who gave as many as were asked for gives fewer only at the end. */
        bool is_cut = n_tags >= (w->has_obeyed ? PAGE_TAGS : PAGE_TAGS_FULL);
        w->has_obeyed |= n_tags == PAGE_TAGS;
        return !present && !w->without_n && is_cut;
    }
    int rc = call_resolve(w->r, c, slice_of(target), &w->next_url, e);
    if (rc < 0)
        return rc;
    if (!url_same_origin(w->next_url, c->asked_url))
        return call_fail(w->r, c, LARDER_UNSAFE, e, "its list of tags goes on at another host");
    rc = see(w, print_of(w->next_url), e);
    if (rc > 0)
        return call_fail(w->r, c, LARDER_PROTO, e, "its list of tags goes round in circles");
    return rc < 0 ? rc : 1;
}

static int read_page(struct walk *w, const struct call *c, const struct buf *page,
                     struct larder_error *e)
{
    CLEANUP(json_freep) struct json *doc = NULL;
    struct larder_error why = LARDER_ERROR_INIT;
    int rc = call_check_encoding(w->r, c, e);
    if (rc < 0)
        return rc;
    if (json_parse(buf_slice(page), PAGE_BYTES_MAX, &doc, &why) < 0)
        return call_fail(w->r, c, why.code == LARDER_NOMEM ? LARDER_NOMEM : LARDER_PROTO, e,
                         "its list of tags is none: %s", why.msg);
    const struct json *tags = json_get(doc, "tags");
    if (!w->next_url && w->last && !is_further(w, tags))
        return 0;
    rc = take_tags(w, tags, e);
    return rc != 0 ? rc : find_next(w, c, json_length(tags), e);
}

static int page_path(const struct walk *w, char **ret, struct larder_error *e)
{
    CLEANUP_FREE char *last = w->last ? location_escape(w->last) : NULL;
    char *path = NULL;
    int n;
    if (w->last && !last)
        return error_nomem(e);
    if (w->without_n)
        n = asprintf(&path, "tags/list");
    else
        n = asprintf(&path, "tags/list?n=%d%s%s", PAGE_TAGS, last ? "&last=" : "",
                     last ? last : "");
    if (n < 0)
        return error_nomem(e);
    *ret = path;
    return 0;
}

/* 1: there is a further page. */
static int walk_page(struct walk *w, struct larder_error *e)
{
    CLEANUP_FREE char *path = NULL;
    struct buf page = BUF_INIT(PAGE_BYTES_MAX);
    int rc = page_path(w, &path, e);
    if (rc < 0)
        return rc;
    struct call c = {
        .peer = registry_primary(w->r),
        .path = path,
        .url = w->next_url,
        .actions = registry_read_actions(w->r),
        .out = &page,
    };
    rc = call_run(w->r, &c, e);
    int status = c.response.status;
    if (rc == 0 && status == 200) {
        rc = read_page(w, &c, &page, e);
    } else if (rc == 0 && status == 400 && !w->last && !w->without_n) {
        w->without_n = true; /* n is too large for this one: as many as it likes */
        rc = 1;
    } else if (rc == 0) {
        rc = call_refused(w->r, &c, e);
    }
    call_done(&c);
    buf_done(&page);
    return rc;
}

int registry_each_ref(struct store *s, int (*fn)(void *arg, const char *ref), void *arg,
                      struct larder_error *e)
{
    struct walk w = {.r = registry_of(s), .fn = fn, .arg = arg};
    int rc = 1;
    for (unsigned page = 0; rc == 1 && page < PAGES_MAX && !w.was_ended; page++)
        rc = walk_page(&w, e);
    bool was_ended = w.was_ended;
    walk_done(&w);
    if (rc == 1 && !was_ended)
        return error_set(e, LARDER_LIMIT, "%s: more than %d pages of tags", s->name, PAGES_MAX);
    return rc;
}

int registry_is_fresh(struct store *s, struct larder_error *e)
{
    struct registry *r = registry_of(s);
    struct call c = {
        .peer = registry_primary(r),
        .path = "tags/list?n=1",
        .actions = "pull,push", /* the token that the push needs anyway */
    };
    int rc = call_run(r, &c, e);
    if (rc == 0)
        rc = c.response.status == 404 && call_has_code(&c, "NAME_UNKNOWN");
    call_done(&c);
    return rc;
}

/*
 * Registries that delete by digest only say 400, 405, or even 404; the last is told from "no such
 * tag" by asking.
 */
int registry_remove_ref(struct store *s, const char *ref, struct larder_error *e)
{
    struct registry *r = registry_of(s);
    char path[PATH_BYTES];
    struct call c = {
        .peer = registry_primary(r),
        .path = path,
        .actions = "delete",
        .tag = ref,
        .request = {.method = HTTP_DELETE},
    };
    snprintf(path, sizeof(path), "manifests/%s", ref);
    int rc = call_run(r, &c, e);
    int status = c.response.status;
    bool is_unsupported = status == 400 || status == 405 || status == 501;
    if (rc == 0 && status == 404) {
        struct store_descriptor found;
        is_unsupported = registry_resolve(s, ref, &found, NULL) == 0;
    }
    if (rc == 0 && is_unsupported)
        rc = call_fail(r, &c, LARDER_UNSUPPORTED, e,
                       "the registry does not delete tags (status %d)", status);
    else if (rc == 0 && status >= 300)
        rc = call_refused(r, &c, e);
    call_done(&c);
    return rc;
}
