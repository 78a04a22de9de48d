/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/text.h"
#include "oci/refuse.h"

/* host/name:tag@digest at their longest */
#define REFERENCE_MAX_BYTES \
    (2 * OCI_NAME_MAX_BYTES + 1 + 1 + OCI_TAG_MAX_BYTES + 1 + LARDER_DIGEST_TEXT_BYTES)

static struct slice slice_from(struct slice s, size_t at)
{
    return (struct slice){s.p + at, s.n - at};
}

static bool has_any(struct slice s, const char *set)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] && strchr(set, s.p[i]))
            return true;
    }
    return false;
}

static bool has_upper(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] >= 'A' && s.p[i] <= 'Z')
            return true;
    }
    return false;
}

/* 64 hex digits are an image's id to docker and podman: never a name, or the two would be mixed
 * up. */
static bool is_image_id(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (hex_value(s.p[i]) < 0)
            return false;
    }
    return s.n == 64 && !has_upper(s);
}

/*
 * The host is what stands before the first '/' when it can't be a name: it has a dot or colon, or
 * is "localhost" (skopeo 1.9.3; newer ones take an upper-case word for a host, too, and would ask a
 * stranger for the image of who mistyped a name).
 */
static struct slice cut_host(struct slice *rest)
{
    const char *slash = rest->n ? memchr(rest->p, '/', rest->n) : NULL;
    struct slice host = {rest->p, slash ? (size_t)(slash - rest->p) : 0};
    if (!slash || (!has_any(host, ".:") && !slice_equal(host, SLICE_LIT("localhost"))))
        return SLICE_LIT("docker.io");
    *rest = slice_from(*rest, host.n + 1);
    if (slice_equal(host, SLICE_LIT("index.docker.io")))
        return SLICE_LIT("docker.io");
    return host;
}

struct parts {
    struct slice host;
    struct slice name;
    struct slice tag; /* p NULL: none */
    bool is_library;  /* docker.io's "library/" goes before the name */
    struct larder_digest digest;
};

static int cut_digest(struct slice *rest, struct larder_digest *ret, struct larder_error *e)
{
    const char *at = rest->n ? memchr(rest->p, '@', rest->n) : NULL;
    if (!at)
        return 0;
    struct slice digest = {at + 1, rest->n - (size_t)(at - rest->p) - 1};
    rest->n = (size_t)(at - rest->p);
    return oci_digest_parse(digest, ret, e);
}

static int check_name(struct slice all, const struct parts *p, struct larder_error *e)
{
    if (p->name.n == 0)
        return oci_refuse(e, LARDER_INVAL, "reference", all, "no name of a repository");
    if (has_upper(p->name))
        return oci_refuse(e, LARDER_INVAL, "reference", all,
                          "the name of a repository is lower case");
    size_t n = p->host.n + 1 + (p->is_library ? strlen("library/") : 0) + p->name.n;
    if (n > OCI_NAME_MAX_BYTES)
        return oci_refuse(e, LARDER_INVAL, "reference", all,
                          "host and name have more than 255 bytes");
    if (!oci_name_is_valid(p->name))
        return oci_refuse(e, LARDER_INVAL, "reference", all,
                          "the name of a repository is made of a-z, 0-9, and single separators "
                          "between them");
    return 0;
}

static int split(struct slice all, struct parts *ret, struct larder_error *e)
{
    struct parts p = {.digest = {LARDER_DIGEST_NONE, {0}}};
    struct slice rest = all;
    if (all.n == 0)
        return error_set(e, LARDER_INVAL, "reference \"\": empty");
    if (all.n > REFERENCE_MAX_BYTES)
        return oci_refuse(e, LARDER_INVAL, "reference", all, "too long for any reference");
    if (is_image_id(all))
        return oci_refuse(e, LARDER_INVAL, "reference", all,
                          "64 hex digits are an image's id, not a name");
    int r = cut_digest(&rest, &p.digest, e);
    if (r < 0)
        return r;
    p.host = cut_host(&rest);
    if (!oci_host_is_valid(p.host))
        return oci_refuse(e, LARDER_INVAL, "reference", all, "the host is malformed");
    const char *colon = rest.n ? memchr(rest.p, ':', rest.n) : NULL;
    p.name = rest;
    if (colon) {
        p.name.n = (size_t)(colon - rest.p);
        p.tag = slice_from(rest, p.name.n + 1);
        if (!oci_tag_is_valid(p.tag))
            return oci_refuse(e, LARDER_INVAL, "reference", all,
                              "a tag has 1 to 128 of A-Z, a-z, 0-9, \"_\", \".\" and \"-\", the "
                              "last two not first");
    }
    p.is_library = slice_equal(p.host, SLICE_LIT("docker.io")) && !has_any(p.name, "/");
    r = check_name(all, &p, e);
    if (r < 0)
        return r;
    *ret = p;
    return 0;
}

static int make(const struct parts *p, struct oci_reference *ret, struct larder_error *e)
{
    struct oci_reference made = {.digest = p->digest};
    struct buf name = BUF_INIT(OCI_NAME_MAX_BYTES);
    if (p->is_library)
        buf_puts(&name, "library/");
    buf_append_slice(&name, p->name);
    made.name = buf_take(&name);
    buf_done(&name);
    made.host = slice_dup(p->host);
    made.tag = p->tag.p ? slice_dup(p->tag) : NULL;
    if (!made.name || !made.host || (p->tag.p && !made.tag)) {
        oci_reference_done(&made);
        return error_nomem(e);
    }
    *ret = made;
    return 0;
}

int oci_reference_parse(const char *text, struct oci_reference *ret, struct larder_error *e)
{
    struct parts p = {.digest = {LARDER_DIGEST_NONE, {0}}};
    int r = split(slice_of(text), &p, e);
    return r < 0 ? r : make(&p, ret, e);
}

int oci_repository_parse(const char *text, struct oci_reference *ret, struct larder_error *e)
{
    struct parts p = {.digest = {LARDER_DIGEST_NONE, {0}}};
    int r = split(slice_of(text), &p, e);
    if (r < 0)
        return r;
    if (p.tag.p || p.digest.alg != LARDER_DIGEST_NONE)
        return oci_refuse(e, LARDER_INVAL, "repository", slice_of(text),
                          p.tag.p ? "has a tag, expected a name alone"
                                  : "has a digest, expected a name alone");
    return make(&p, ret, e);
}

int oci_reference_format(const struct oci_reference *reference, char **ret, struct larder_error *e)
{
    struct buf out = BUF_INIT(REFERENCE_MAX_BYTES);
    char digest[LARDER_DIGEST_TEXT_BYTES];
    buf_printf(&out, "%s/%s", reference->host, reference->name);
    if (reference->tag)
        buf_printf(&out, ":%s", reference->tag);
    if (reference->digest.alg != LARDER_DIGEST_NONE)
        buf_printf(&out, "@%s", larder_digest_format(&reference->digest, digest));
    int r = buf_failed(&out, e);
    char *text = r < 0 ? NULL : buf_take(&out);
    buf_done(&out);
    if (r < 0)
        return r;
    if (!text)
        return error_nomem(e);
    *ret = text;
    return 0;
}

void oci_reference_done(struct oci_reference *reference)
{
    free(reference->host);
    free(reference->name);
    free(reference->tag);
    *reference = (struct oci_reference){.digest = {LARDER_DIGEST_NONE, {0}}};
}

char *oci_referrers_tag(const struct larder_digest *subject, char out[128])
{
    /* "<algorithm>-<encoded>", of which at most 32 and 64 bytes: sha512 is cut in half. */
    char hex[LARDER_DIGEST_TEXT_BYTES];
    larder_digest_hex(subject, hex);
    snprintf(out, 128, "%.32s-%.64s", larder_digest_alg_name(subject->alg), hex);
    return out;
}
