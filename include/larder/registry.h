/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Container registries, and other places that hold images.
 *
 * Locations are written as skopeo writes them:
 *
 *   docker://[HOST[:PORT]/]NAME[:TAG|@DIGEST]   a registry (OCI distribution-spec v1.1)
 *   oci:DIR[:REF]                               an OCI image layout
 *   oci-archive:FILE[:REF]                      the same in a tar file
 *   store:NAME                                  larder's own store
 *
 * `store` may be NULL in every call here unless a location begins with "store:". Objects returned
 * own their strings; give them back with the matching _done. Threads: a call may use threads of
 * its own; observer callbacks come from the caller's thread.
 */
#include <larder/net.h>
#include <larder/store.h>

LARDER_BEGIN_DECLS

/* How a registry is reached and who we are there. */
struct larder_registry_options {
    size_t size;
    const char *authfile; /* docker's or podman's file; NULL: $REGISTRY_AUTH_FILE, then theirs */
    const char *user;     /* given: no file is asked */
    const char *password;
    const char *registry_token;  /* a ready bearer token */
    bool is_anonymous;           /* use no credentials */
    int tls_verify;              /* -1: by registries.conf, and plain HTTP for loopback; 0; 1 */
    const char *cert_dir;        /* *.crt, *.cert, *.key; NULL: certs.d of containers and docker */
    const char *registries_conf; /* NULL: the usual places */
    const struct larder_net_options *net;   /* NULL: defaults */
    const struct larder_observer *observer; /* NULL: silent */
    void *reserved[4];
};
#define LARDER_REGISTRY_OPTIONS_INIT                                               \
    {                                                                              \
        sizeof(struct larder_registry_options), 0, 0, 0, 0, false, -1, 0, 0, 0, 0, \
        {                                                                          \
            0, 0, 0, 0                                                             \
        }                                                                          \
    }

/* What is at a location. */
struct larder_manifest {
    char *media_type;
    struct larder_digest digest;
    void *bytes; /* exactly as stored; NUL-terminated beyond n_bytes */
    size_t n_bytes;
};
LARDER_API void larder_manifest_done(struct larder_manifest *manifest);

/*
 * The manifest at a location (an index as it is, unless platform names a member: then the
 * member's). GONE/NOENT, AUTH, UNREACHABLE, CORRUPT, INVAL, UNSUPPORTED (schema 1).
 */
LARDER_API LARDER_MUST_CHECK int larder_manifest_get(struct larder_store *store,
                                                     const char *location, const char *platform,
                                                     const struct larder_registry_options *options,
                                                     struct larder_manifest *ret,
                                                     struct larder_error *e);
/* A small blob of the image at a location (its config), checked; up to 8 MiB. */
LARDER_API LARDER_MUST_CHECK int
larder_manifest_blob(struct larder_store *store, const char *location,
                     const struct larder_digest *digest, uint64_t size_bytes,
                     const struct larder_registry_options *options, struct larder_manifest *ret,
                     struct larder_error *e);
/* Each tag or ref name there, in the place's order; a non-zero result of fn ends the walk and is
 * returned. */
LARDER_API LARDER_MUST_CHECK int larder_tags_each(struct larder_store *store, const char *location,
                                                  const struct larder_registry_options *options,
                                                  int (*fn)(void *arg, const char *tag), void *arg,
                                                  struct larder_error *e);

enum larder_deleted { LARDER_DELETED_TAG, LARDER_DELETED_MANIFEST };
/*
 * Deletes what the location names: with a digest the manifest; with a tag the tag alone where the
 * place can do that, else the manifest it points to (as skopeo does; then other tags of it go,
 * too); with neither the only image of a layout. UNSUPPORTED where the registry does not allow it.
 * tag_only: never the manifest.
 */
LARDER_API LARDER_MUST_CHECK int larder_image_delete(struct larder_store *store,
                                                     const char *location, bool tag_only,
                                                     const struct larder_registry_options *options,
                                                     enum larder_deleted *ret,
                                                     struct larder_error *e);

/* Checks user and password at the registry, then keeps them where docker and podman look. key:
 * HOST or HOST/NAMESPACE. *ret_where (free()): the file or helper. */
LARDER_API LARDER_MUST_CHECK int larder_login(const char *key,
                                              const struct larder_registry_options *options,
                                              char **ret_where, struct larder_error *e);
/* NOENT when there was nothing. key NULL: all. */
LARDER_API LARDER_MUST_CHECK int larder_logout(const char *key,
                                               const struct larder_registry_options *options,
                                               char **ret_where, struct larder_error *e);
/* Who is logged in there: *ret_user (free()); NOENT. */
LARDER_API LARDER_MUST_CHECK int larder_login_get(const char *key,
                                                  const struct larder_registry_options *options,
                                                  char **ret_user, struct larder_error *e);

LARDER_END_DECLS
