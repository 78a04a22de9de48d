/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the files of the registry store share: the handle, and one question to the registry with
 * everything that belongs to it: where it is reached, who we are there, trying again, what an
 * answer means in words.
 *
 *     struct call c = {.peer = registry_primary(r), .actions = "pull", .path = "tags/list"};
 *     rc = call_run(r, &c, e);                 any status that trying again would not change
 *     if (rc == 0 && c.response.status != 200)
 *         rc = call_refused(r, &c, e);
 *     call_done(&c);
 */
#include <pthread.h>
#include <stdatomic.h>

#include "net/auth/auth.h"
#include "net/conf/endpoint.h"
#include "net/http/http.h"
#include "net/http/http_pool.h"
#include "net/http/retry.h"
#include "store/registry/registry.h"

/* Error bodies hold a sentence; a proxy's page is cut. */
#define CALL_ERROR_BODY_BYTES (16UL * 1024)
#define WARNINGS_MAX          32 /* different ones told in one run */
#define SUBJECT_LOCKS         16 /* twice the lanes that most copies have */

enum scheme { SCHEME_UNDECIDED, SCHEME_HTTPS, SCHEME_HTTP };

/* A place where the repository is reached. */
struct peer {
    const struct endpoint *endpoint;
    struct http_pool *pool;
    struct shared_pool *shared; /* whose the pool is; NULL: ours */
    _Atomic int scheme;         /* enum scheme: found out by the first answer, then kept */
    _Atomic bool is_dead;       /* a mirror that could not be reached: not asked again */
};

/* Whether something works here; learned on the way, never asked for its own sake. */
enum known { KNOWN_NOT_YET, KNOWN_YES, KNOWN_NO };

/* How a blob's bytes are sent, in the order in which they are tried. */
enum upload_way { UPLOAD_WHOLE, UPLOAD_STREAM, UPLOAD_CHUNKS, UPLOAD_WAYS };

struct registry {
    struct store store; /* first: the handle */
    struct larder_observer observer;
    char *host; /* as in references */
    char *repository;
    bool is_writable; /* mirrors are not asked then: what they say may be old */
    unsigned retries;
    int64_t retry_wait_ns;      /* 0: default */
    struct remote_limit *limit; /* NULL: nobody wants to know, and limits are waited for */
    struct auth *auth;
    bool owns_auth;
    struct endpoint *endpoints;
    struct peer *peers; /* mirrors, then the registry itself */
    size_t n_peers;
    _Atomic uint64_t requests;
    _Atomic int64_t hold_until_ns; /* monotonic; all lanes wait when one was told to */

    /* learned */
    _Atomic int has_referrers;        /* enum known */
    _Atomic int has_single_post;      /* enum known */
    _Atomic int upload_way;           /* first one worth trying */
    _Atomic uint64_t whole_bytes_max; /* a PUT of more was refused as too large */
    _Atomic uint64_t chunk_bytes_max; /* a PATCH of more was refused as too large */
    pthread_mutex_t lock;             /* of what follows */
    char *warnings[WARNINGS_MAX];     /* told already */
    size_t n_warnings;
    char *mount_refused;           /* repository that can't be mounted from */
    pthread_mutex_t fallback_lock; /* read-change-write of a referrers tag: one lane at a time */
    /* By subject: held while something that refers to it is put. */
    pthread_mutex_t subject_locks[SUBJECT_LOCKS];
};

static inline struct registry *registry_of(struct store *s)
{
    return (struct registry *)(void *)s;
}

static inline struct peer *registry_primary(struct registry *r)
{
    return &r->peers[r->n_peers - 1];
}

/* A handle that will push asks for the right to do so at once: one token instead of two. */
static inline const char *registry_read_actions(const struct registry *r)
{
    return r->is_writable ? "pull,push" : "pull";
}

/* ---- what handles share (shared.c) ---- */

struct shared_pool {
    struct shared_pool *next;
    char *key; /* the options that differ from endpoint to endpoint */
    struct http_pool *pool;
    int scheme; /* as a handle found out; enum scheme */
};
struct auth *remote_shared_auth(const struct remote_shared *shared);
/* The pool for an endpoint; the options' observer is the shared one's. */
int remote_shared_pool(struct remote_shared *shared, const char *base,
                       const struct http_options *options, struct shared_pool **ret,
                       struct larder_error *e);
int remote_auth_new(const struct larder_registry_options *options,
                    const struct larder_observer *observer, struct auth **ret,
                    struct larder_error *e);

/* ---- one question ---- */

struct call {
    /* in */
    struct peer *peer;
    const char *path;    /* "manifests/latest": below /v2/<repository>/ */
    const char *url;     /* instead of path: absolute, from a Location or Link */
    const char *actions; /* "pull", "pull,push", "delete" */
    const char *from;    /* further repository to be read (mount); NULL */
    const char *tag;     /* for messages; NULL */
    const char *blob;    /* for messages: digest of a blob; NULL */
    const char *digest;  /* for messages: digest of a manifest; NULL */
    struct buf *out;     /* gets the body of a 2xx; NULL: dropped */
    bool no_challenge;   /* a 401 is not worth a token */
    bool is_200_stray;   /* 200 is no answer to this (without a digest): try again */
    /* The body from its start once more; NULL: as it stands in request.upload. */
    int (*rewind)(void *arg, struct larder_error *e);
    void *rewind_arg;
    /* method, headers, upload, ranges, callbacks; url, authorization and error_body are filled in,
     * and, where there are no callbacks, those for `out`. */
    struct http_request request;
    /* out */
    struct http_response response;
    struct buf error_body;
    bool is_elsewhere; /* the answer came from another origin than the question went to */
    char *asked_url;
};

void call_done(struct call *c);
/*
 * Asks once; a 401 is met with a token and asked again. 0: an answer came, whatever its status.
 * Errors name the object.
 */
int call_once(struct registry *r, struct call *c, struct larder_error *e);
/* Asks until an answer comes that is worth believing. */
int call_run(struct registry *r, struct call *c, struct larder_error *e);
/* UNREACHABLE: a 200 that is not the registry's. */
int call_stray(const struct registry *r, const struct call *c, struct larder_error *e);
/* Whether a status says "not now". */
bool call_is_transient(int status);
/* After the failure: waits if that may help (0), or returns the failure's code. */
int call_wait(struct registry *r, struct retry *retry, const struct call *c,
              const struct larder_error *failure, struct larder_error *e);

/* ---- answers in words (answer.c) ---- */

/* "docker://host/name:tag" of what the question is about. */
void call_name(const struct registry *r, const struct call *c, struct buf *out);
/* An error with that name in front. */
int call_fail(const struct registry *r, const struct call *c, enum larder_code code,
              struct larder_error *e, const char *fmt, ...) LARDER_PRINTF(5, 6);
/* The status, and what the registry says about it, as an error: 404 NOENT; 401, 403 AUTH; 405
 * UNSUPPORTED; 413 LIMIT; 408, 429, 499, 5xx UNREACHABLE; others PROTO. */
int call_refused(const struct registry *r, const struct call *c, struct larder_error *e);
/* Whether the error body's first code is this one. */
bool call_has_code(const struct call *c, const char *code);
/* Whether the error body has the word, in any case. */
bool call_says(const struct call *c, const char *word);
/* Hints for what went wrong below HTTP. */
void call_hint(const struct call *c, struct larder_error *e);
/* Tells new "Warning" headers. */
void call_warnings(struct registry *r, const struct http_response *response);

/* ---- reads: mirrors, then the registry ---- */

enum peer_kind { PEER_FOR_TAG, PEER_FOR_DIGEST };
/*
 * Asks fn at each place in turn until one has an answer; the registry's own answer, or failure, is
 * the last word. A mirror's "not there" is none.
 */
int registry_ask(struct registry *r, enum peer_kind kind,
                 int (*fn)(struct registry *r, struct peer *peer, void *arg,
                           struct larder_error *e),
                 void *arg, struct larder_error *e);

/* Docker-Content-Digest: 0 with *ret (NONE when there is no such header); PROTO. */
int call_digest(const struct registry *r, const struct call *c, struct larder_digest *ret,
                struct larder_error *e);
/* PROTO when the body is encoded. */
int call_check_encoding(const struct registry *r, const struct call *c, struct larder_error *e);
/* Follows Location or Link: absolute, and safe to ask (location.h). */
int call_resolve(const struct registry *r, const struct call *c, struct slice target, char **ret,
                 struct larder_error *e);

/* ---- the operations, by file ---- */

/* manifest.c */
int registry_resolve(struct store *s, const char *ref, struct store_descriptor *ret,
                     struct larder_error *e);
int registry_resolve_supposed(struct store *s, const char *ref,
                              const struct store_descriptor *supposed, struct store_descriptor *ret,
                              struct larder_error *e);
int registry_manifest_get(struct store *s, const char *ref, const struct larder_digest *digest,
                          struct buf *out, struct store_descriptor *ret, struct larder_error *e);
int registry_manifest_has(struct store *s, const struct store_descriptor *manifest,
                          struct larder_error *e);
/* manifest_put.c */
int registry_manifest_put(struct store *s, const struct store_descriptor *manifest,
                          struct slice bytes, const char *const *refs, size_t n_refs,
                          struct larder_error *e);
int registry_manifest_remove(struct store *s, const struct larder_digest *digest,
                             struct larder_error *e);
/* One PUT; *ret_has_subject: the registry keeps the list of referrers itself. */
int manifest_put_one(struct registry *r, const char *reference, bool is_tag,
                     const struct store_descriptor *manifest, struct slice bytes,
                     bool *ret_has_subject, struct larder_error *e);
/* tags.c */
int registry_each_ref(struct store *s, int (*fn)(void *arg, const char *ref), void *arg,
                      struct larder_error *e);
int registry_remove_ref(struct store *s, const char *ref, struct larder_error *e);
int registry_is_fresh(struct store *s, struct larder_error *e);
/* referrers.c */
int registry_referrers(struct store *s, const struct larder_digest *subject,
                       const char *artifact_type, struct buf *out, struct larder_error *e);
/* referrers_tag.c: the list under the fallback tag */
struct oci_manifest;
int referrers_tag_read(struct registry *r, const struct larder_digest *subject, struct buf *out,
                       struct larder_error *e); /* 1; 0: there is none */
int referrers_tag_add(struct registry *r, const struct oci_manifest *manifest,
                      const struct store_descriptor *descriptor, struct larder_error *e);
int referrers_tag_drop(struct registry *r, const struct larder_digest *subject,
                       const struct larder_digest *referrer, struct larder_error *e);
/* blob.c */
int registry_blob_has(struct store *s, const struct store_descriptor *blob, struct larder_error *e);
int registry_blob_remove(struct store *s, const struct larder_digest *digest,
                         struct larder_error *e);
/* blob_get.c */
int registry_blob_get(struct store *s, const struct store_descriptor *blob, uint64_t offset,
                      const struct blob_sink *sink, struct larder_error *e);
/* blob_put.c */
int registry_blob_put(struct store *s, const struct store_descriptor *blob,
                      struct blob_source *source, const char *from, bool is_missing,
                      enum blob_how *ret, struct larder_error *e);
