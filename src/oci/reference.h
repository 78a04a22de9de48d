/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Names of images in registries and of places that hold images. Pure; distribution-spec "Pulling
 * manifests" for the grammar of names and tags, image-spec descriptor.md for digests.
 *
 *   reference   [HOST[:PORT]/]NAME[:TAG][@DIGEST]
 *   location    docker://REFERENCE   oci:DIR[:REF][@DIGEST]   oci-archive:FILE[:REF][@DIGEST]
 *               store:NAME[@DIGEST]
 *
 * Everything is checked here, before it becomes part of a URL or a path.
 */
#include <stdbool.h>

#include <larder/digest.h>
#include <larder/error.h>

#include "base/mem.h"
#include "base/slice.h"

#define OCI_NAME_MAX_BYTES 255 /* host and name together, as most clients cap it */
#define OCI_TAG_MAX_BYTES  128

bool oci_name_is_valid(struct slice name); /* a repository: "library/alpine" */
bool oci_tag_is_valid(struct slice tag);
bool oci_host_is_valid(struct slice host); /* "example.org", "[::1]:5000" */
/* As larder_digest_parse, but lower-case hex only and an identity algorithm (sha256, sha512):
 * UNSUPPORTED for another one in the grammar of the image-spec, INVAL for the rest. */
int oci_digest_parse(struct slice text, struct larder_digest *ret, struct larder_error *e);

struct oci_reference {
    char *host; /* "docker.io" when none was written; "index.docker.io" becomes that, too */
    char *name; /* "library/alpine" for docker.io's short names */
    char *tag;  /* NULL: none was written (callers default to "latest" where that fits) */
    struct larder_digest digest; /* alg NONE: none */
};
/* Without "docker://". INVAL naming the part that is wrong. */
int oci_reference_parse(const char *text, struct oci_reference *ret, struct larder_error *e);
/* Just HOST[:PORT]/NAME, as for a repository (INVAL with a tag or digest). */
int oci_repository_parse(const char *text, struct oci_reference *ret, struct larder_error *e);
/* malloc'd "host/name:tag@digest" */
int oci_reference_format(const struct oci_reference *reference, char **ret, struct larder_error *e);
void oci_reference_done(struct oci_reference *reference);

enum oci_transport {
    OCI_TRANSPORT_DOCKER,
    OCI_TRANSPORT_LAYOUT,
    OCI_TRANSPORT_ARCHIVE,
    OCI_TRANSPORT_STORE,
};
struct oci_location {
    enum oci_transport transport;
    struct oci_reference reference; /* DOCKER */
    char *path;                     /* LAYOUT, ARCHIVE; up to the first ':', as skopeo cuts it */
    char *ref;                      /* LAYOUT, ARCHIVE: REF; STORE: NAME; NULL: none was written */
    struct larder_digest digest;    /* not DOCKER */
};
/* INVAL; UNSUPPORTED for the other transports of skopeo. */
int oci_location_parse(const char *text, struct oci_location *ret, struct larder_error *e);
void oci_location_done(struct oci_location *location);

/* Tag of the referrers fallback (distribution-spec "Referrers Tag Schema"); out 128 bytes. */
char *oci_referrers_tag(const struct larder_digest *subject, char out[128]);
