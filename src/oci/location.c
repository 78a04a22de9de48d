/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places that hold images, spelled as skopeo spells them (containers-transports(5)).
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "oci/reference.h"
#include "oci/refuse.h"

/* Names in index.json's annotations; no grammar bounds them, but a command line should. */
#define REF_MAX_BYTES 512
/* PATH_MAX and the rest. */
#define LOCATION_MAX_BYTES 8192

static const struct {
    struct slice prefix;
    enum oci_transport transport;
} transports[] = {
    {SLICE_INIT("docker:"), OCI_TRANSPORT_DOCKER},
    {SLICE_INIT("oci:"), OCI_TRANSPORT_LAYOUT},
    {SLICE_INIT("oci-archive:"), OCI_TRANSPORT_ARCHIVE},
    {SLICE_INIT("store:"), OCI_TRANSPORT_STORE},
};

/* skopeo's others: better named than called malformed. */
static const struct slice foreign[] = {
    SLICE_INIT("dir:"),     SLICE_INIT("docker-archive:"),     SLICE_INIT("docker-daemon:"),
    SLICE_INIT("sif:"),     SLICE_INIT("containers-storage:"), SLICE_INIT("ostree:"),
    SLICE_INIT("tarball:"),
};

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/*
 * image-spec annotations.md, "org.opencontainers.image.ref.name": runs of letters and digits with
 * one of - . _ : @ + / or "--" between them.
 */
static bool is_ref_name(struct slice s)
{
    size_t i = 0;
    if (s.n > REF_MAX_BYTES)
        return false;
    for (;;) {
        size_t start = i;
        while (i < s.n && is_alnum(s.p[i]))
            i++;
        if (i == start)
            return false;
        if (i == s.n)
            return true;
        if (!s.p[i] || !strchr("-._:@+/", s.p[i]))
            return false;
        i += s.p[i] == '-' && i + 1 < s.n && s.p[i + 1] == '-' ? 2 : 1;
    }
}

/*
 * Takes "@sha256:..." from the end. What begins like one of ours and is none is refused, or a
 * typing error would become part of a name.
 */
static int cut_digest(struct slice all, struct slice *rest, struct larder_digest *ret,
                      struct larder_error *e)
{
    const char *at = rest->p && rest->n ? memrchr(rest->p, '@', rest->n) : NULL;
    if (!at)
        return 0;
    struct slice text = {at + 1, rest->n - (size_t)(at - rest->p) - 1};
    if (!slice_starts(text, SLICE_LIT("sha256:")) && !slice_starts(text, SLICE_LIT("sha512:")))
        return 0;
    int r = oci_digest_parse(text, ret, e);
    if (r < 0)
        return oci_refuse(e, LARDER_INVAL, "location", all, "the digest is malformed");
    rest->n = (size_t)(at - rest->p);
    return 0;
}

/* PATH[:REF]: the first colon ends the path, as for skopeo; more of them are part of REF. */
static int parse_path(struct slice all, struct slice rest, struct oci_location *made,
                      struct larder_error *e)
{
    const char *colon = rest.p && rest.n ? memchr(rest.p, ':', rest.n) : NULL;
    struct slice path = {rest.p, colon ? (size_t)(colon - rest.p) : rest.n};
    struct slice ref = {rest.p + path.n, rest.n - path.n};
    if (path.n == 0)
        return oci_refuse(e, LARDER_INVAL, "location", all, "no path");
    if (ref.n > 1) {
        ref = (struct slice){ref.p + 1, ref.n - 1};
        if (!is_ref_name(ref))
            return oci_refuse(e, LARDER_INVAL, "location", all,
                              "what follows the path's colon is no name of an image "
                              "(a path can't have colons)");
        made->ref = slice_dup(ref);
        if (!made->ref)
            return error_nomem(e);
    }
    made->path = slice_dup(path);
    return made->path ? 0 : error_nomem(e);
}

static int parse_store(struct slice all, struct slice rest, struct oci_location *made,
                       struct larder_error *e)
{
    if (rest.n == 0 && made->digest.alg == LARDER_DIGEST_NONE)
        return oci_refuse(e, LARDER_INVAL, "location", all, "no name");
    if (rest.n == 0)
        return 0;
    made->ref = slice_dup(rest);
    return made->ref ? 0 : error_nomem(e);
}

static int parse_rest(struct slice all, struct slice rest, struct oci_location *made,
                      struct larder_error *e)
{
    if (made->transport == OCI_TRANSPORT_DOCKER) {
        if (!slice_starts(rest, SLICE_LIT("//")))
            return oci_refuse(e, LARDER_INVAL, "location", all, "expected docker://NAME");
        return oci_reference_parse(rest.p + 2, &made->reference, e);
    }
    int r = cut_digest(all, &rest, &made->digest, e);
    if (r < 0)
        return r;
    if (made->transport == OCI_TRANSPORT_STORE)
        return parse_store(all, rest, made, e);
    return parse_path(all, rest, made, e);
}

int oci_location_parse(const char *text, struct oci_location *ret, struct larder_error *e)
{
    struct slice all = slice_of(text);
    if (all.n > LOCATION_MAX_BYTES)
        return oci_refuse(e, LARDER_INVAL, "location", all, "too long");
    for (size_t i = 0; i < ARRAY_LEN(transports); i++) {
        struct slice prefix = transports[i].prefix;
        struct oci_location made = {.transport = transports[i].transport};
        if (!slice_starts(all, prefix))
            continue;
        struct slice rest = {all.p + prefix.n, all.n - prefix.n};
        int r = parse_rest(all, rest, &made, e);
        if (r < 0) {
            oci_location_done(&made);
            return r;
        }
        *ret = made;
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        if (slice_starts(all, foreign[i]))
            return oci_refuse(e, LARDER_UNSUPPORTED, "location", all,
                              "expected docker://, oci:, oci-archive: or store:");
    }
    return oci_refuse(e, LARDER_INVAL, "location", all,
                      "expected docker://, oci:, oci-archive: or store: before the name");
}

void oci_location_done(struct oci_location *location)
{
    oci_reference_done(&location->reference);
    free(location->path);
    free(location->ref);
    *location = (struct oci_location){.path = NULL};
}
