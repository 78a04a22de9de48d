/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Updates of container images: found once, kept, shown without the network, fetched exactly.
 *
 * A reference (REF) is what is watched: "docker://HOST/NAME:TAG" (or the same without the
 * transport), "oci:DIR:REF" or "oci-archive:FILE:REF". What is in use of it now is its base: an
 * image of larder's store, or the commits of an ostree repository. larder_update_check() asks what
 * REF points to now, and keeps the manifest and configuration of an image that is not the base in a
 * record bound to the base: when the base changes, or is pruned, the record is void.
 *
 * The record is a cache that nobody signed: it decides nothing. larder_update_fetch() gets exactly
 * its digest and checks every byte again.
 *
 * `store` may be NULL where the base is in an ostree repository (layers that the store has are then
 * not counted as here), but not for fetch into the store. Objects returned own their strings; give
 * them back with larder_update_done(). Threads: as registry.h.
 *
 * A booted sysroot whose disk is mounted read-only is written by root in a mount namespace that the
 * calling thread gets for it, and keeps (unshare(2)), as ostree's own programs do.
 *
 * Without libostree (a build option) every call with an ostree repository is UNSUPPORTED.
 */
#include <larder/registry.h>

LARDER_BEGIN_DECLS

/* Where the base is, and where records are kept. */
struct larder_update_options {
    size_t size;
    const char *name;        /* the base's name in the store ("store:NAME"); NULL: as REF, without
                                transport and digest. Not with ostree */
    const char *platform;    /* "linux/arm64"; NULL: this machine's */
    const char *ostree_repo; /* path of an ostree repository whose images are the bases */
    const char *sysroot;     /* path of an ostree sysroot ("/"): its repository, and its deployments
                                as holders; one of the two at most */
    const char *state_dir;   /* where the record goes when the base's place can't be written */
    const struct larder_registry_options *registry; /* NULL: defaults */
    const struct larder_observer *observer;
    void *reserved[4];
};
#define LARDER_UPDATE_OPTIONS_INIT                                 \
    {                                                              \
        sizeof(struct larder_update_options), 0, 0, 0, 0, 0, 0, 0, \
        {                                                          \
            0, 0, 0, 0                                             \
        }                                                          \
    }

enum larder_update_state {
    LARDER_UPDATE_UNKNOWN,   /* nothing is recorded: never checked, cleared, or the base changed */
    LARDER_UPDATE_UNCHANGED, /* the last check found the base */
    LARDER_UPDATE_AVAILABLE, /* another image: `update` and `diff` are set */
    LARDER_UPDATE_STAGED,    /* AVAILABLE, and a staged or pending deployment has it already */
    LARDER_UPDATE_CORRUPT,   /* the record is damaged: `why` says how; the base is fine */
};
LARDER_API const char *larder_update_state_name(enum larder_update_state state);

struct larder_update_image {
    struct larder_digest digest; /* of the manifest for the platform; alg NONE: there is no image */
    char *version;               /* label org.opencontainers.image.version, else version; NULL */
    int64_t timestamp_ns;        /* label org.opencontainers.image.created, else created; 0: none */
};

struct larder_update_sum {
    uint64_t layers;
    uint64_t bytes; /* as in the manifest: compressed */
};
enum larder_update_change { LARDER_UPDATE_KEPT, LARDER_UPDATE_ADDED, LARDER_UPDATE_REMOVED };
enum larder_update_presence {
    LARDER_UPDATE_NEEDED,       /* is to be fetched */
    LARDER_UPDATE_HERE,         /* a layer of this digest is here */
    LARDER_UPDATE_HERE_DIFF_ID, /* one of the same content is here, and will do: an uncompressed
                                   layer of the store's is unpacked from it, and ostree keeps
                                   contents */
};
struct larder_update_layer {
    enum larder_update_change change;
    enum larder_update_presence presence; /* of a REMOVED one: HERE */
    struct larder_digest digest;
    struct larder_digest diff_id; /* alg NONE: the configuration has none for it */
    uint64_t size_bytes;
};
/* Layers are compared by digest. total counts each digest once but adds the bytes of all layers, as
 * bootc does; the others count each digest once. */
struct larder_update_diff {
    struct larder_update_sum total, added, removed, here, needed;
    /* Each digest once: the update's in its order, then the REMOVED by digest. */
    struct larder_update_layer *layers;
    size_t n_layers;
};

/* Who has an image of REF: "image" (what the name or ref points to), and of a sysroot "booted",
 * "staged", "pending", "rollback". */
struct larder_update_holder {
    char *role;
    char *commit; /* ostree's; NULL */
    struct larder_update_image image;
    struct larder_update_image update; /* what a record kept with this holder names; digest NONE */
    bool is_corrupt;                   /* the record kept with it is damaged */
};

struct larder_update {
    size_t size;
    enum larder_update_state state;
    char *ref;      /* as it is kept: with transport, complete */
    char *platform; /* "linux/amd64" */
    char *place;    /* where the base is: "store:NAME", or the path of the ostree repository */
    struct larder_update_image current; /* the base; digest NONE: there is none yet */
    struct larder_update_image update;
    struct larder_update_diff diff;
    struct larder_digest listed; /* what REF itself pointed to (an index, or the manifest) */
    int64_t checked_at_ns;       /* realtime; 0: never */
    bool is_persisted;           /* the record is kept (check: also when it was there already) */
    char *record;                /* where: "store", "repository" or "state directory"; NULL */
    char *why;                   /* not persisted or corrupt: the reason; NULL */
    struct larder_update_holder *holders;
    size_t n_holders;
    uint64_t requests; /* HTTP requests made */
};
LARDER_API void larder_update_done(struct larder_update *update);

/* REF as it is kept: complete, as struct larder_update has it; malloc'd. ref NULL: as for
 * larder_update_check(). INVAL, NOENT, UNSUPPORTED. */
LARDER_API LARDER_MUST_CHECK int larder_update_ref(const char *ref,
                                                   const struct larder_update_options *options,
                                                   char **ret, struct larder_error *e);
/*
 * Asks what REF points to and keeps the answer. The cheapest question comes first: when the digest
 * is the one seen last, it is the only one. No layer is fetched. ref NULL: what the booted (else
 * the first) deployment of options->sysroot follows.
 *
 * An image whose configuration is the base's is not an update (it was only compressed again).
 * UNCHANGED removes a record that is there. A record that can't be written is no failure:
 * is_persisted is false, `why` says why, and one warning is given. A failure changes no record.
 *
 * Errors: those of larder_manifest_get(); NOENT (no such tag, no image for the platform), CORRUPT
 * (the base's own manifest is damaged).
 */
LARDER_API LARDER_MUST_CHECK int larder_update_check(struct larder_store *store, const char *ref,
                                                     const struct larder_update_options *options,
                                                     struct larder_update *ret,
                                                     struct larder_error *e);
/*
 * What is recorded, without network and without taking a lock; the store may be open READ_ONLY. The
 * differences are computed anew from the base and the record: as the check told them. A damaged
 * record is no error but state CORRUPT. NOENT: sysroot has no deployment of a container image (ref
 * NULL).
 */
LARDER_API LARDER_MUST_CHECK int larder_update_show(struct larder_store *store, const char *ref,
                                                    const struct larder_update_options *options,
                                                    struct larder_update *ret,
                                                    struct larder_error *e);
/* Forgets the record of REF, with all holders; nothing else that others keep there. *ret_had:
 * whether there was one; none is a success, also when REF is not known at all. */
LARDER_API LARDER_MUST_CHECK int larder_update_clear(struct larder_store *store, const char *ref,
                                                     const struct larder_update_options *options,
                                                     bool *ret_had, struct larder_error *e);
/* Each REF that has a record, sorted, as larder_update_show() gives it (only valid during the
 * call). One whose base is damaged has only ref, platform, state CORRUPT and why. options->name
 * must be NULL. A non-zero result of fn ends the walk and is returned. */
LARDER_API LARDER_MUST_CHECK int
larder_update_each(struct larder_store *store, const struct larder_update_options *options,
                   int (*fn)(void *arg, const struct larder_update *update), void *arg,
                   struct larder_error *e);

struct larder_update_fetch_options {
    size_t size;
    const char *to;  /* location: "store:NAME" or "oci:DIR[:REF]"; NULL: the base's name in the
                        store, with ostree that of REF */
    bool or_newer;   /* when the digest is gone: check again, and fetch what is there now */
    bool is_partial; /* with ostree and an "oci:" destination: leave out layers that the repository
                        has, which an import of ostree-ext does not ask for */
    bool dry_run;    /* say what would be fetched: asks whether it is there, writes nothing */
    unsigned jobs;   /* 0: default */
    void *reserved[4];
};
#define LARDER_UPDATE_FETCH_OPTIONS_INIT                                       \
    {                                                                          \
        sizeof(struct larder_update_fetch_options), 0, false, false, false, 0, \
        {                                                                      \
            0, 0, 0, 0                                                         \
        }                                                                      \
    }
struct larder_update_fetched {
    size_t size;
    struct larder_digest digest;
    char *location;                         /* of the image now: "store:NAME", "oci:DIR[:REF]"; path
                                               of the ostree repository that has it already */
    bool was_there;                         /* nothing had to be asked or fetched */
    bool is_newer;                          /* or_newer: not what was recorded */
    bool is_partial;                        /* layers were left out */
    uint64_t layers_fetched, bytes_fetched; /* without what an earlier run had of them */
    uint64_t layers_here, bytes_here;       /* by digest */
    uint64_t layers_unpacked;               /* made from one of the same diff id */
    uint64_t bytes_resumed;                 /* were here from an earlier run */
    uint64_t requests;
};
LARDER_API void larder_update_fetched_done(struct larder_update_fetched *fetched);
/*
 * Fetches the recorded update: by its digest, never by its tag, and checks all of it. The space it
 * needs is looked for first (NOSPACE names both numbers). Layers here are not fetched again but
 * hashed, and held against gc until the image is complete; what was fetched before a failure is
 * found by the next run. At the end the destination's name points to the image; where somebody
 * moved it since the fetch began, it stays as it is (BUSY).
 *
 * What is complete there already is a success without network, also when the update has become the
 * base (or, with a sysroot, is staged) since it was recorded.
 *
 * A layout with is_partial is for an import soon: what the repository drops meanwhile is missing.
 *
 * Errors: NOENT (nothing is recorded), GONE ("prepared digest gone": the registry has the manifest
 * or a layer no more; the record stays, nothing is fetched instead), MISMATCH (it has other bytes
 * there), CORRUPT (the record, or a blob in the layout), those of larder_copy().
 */
LARDER_API LARDER_MUST_CHECK int
larder_update_fetch(struct larder_store *store, const char *ref,
                    const struct larder_update_options *options,
                    const struct larder_update_fetch_options *fetch,
                    struct larder_update_fetched *ret, struct larder_error *e);

/* ---- many at once ---- */

struct larder_update_event {
    const char *ref;
    const char *registry;               /* "HOST[:PORT]"; NULL: ref is in none */
    bool is_failed;                     /* then error is set, and update is NULL */
    bool is_deferred;                   /* is_failed since the registry limits us: code BUSY */
    bool is_changed;                    /* another state or digest than before this check */
    enum larder_update_state before;    /* what was recorded before */
    const struct larder_update *update; /* borrowed during the call */
    const struct larder_error *error;
};

/* The registries that asked to be left alone, and until when: what a caller of many rounds keeps
 * from one to the next. In memory only; a new one knows of none. One thread at a time. */
struct larder_update_pauses;
LARDER_API LARDER_MUST_CHECK int larder_update_pauses_new(struct larder_update_pauses **ret,
                                                          struct larder_error *e);
LARDER_API void larder_update_pauses_free(struct larder_update_pauses *pauses); /* NULL is fine */

struct larder_update_round_options {
    size_t size;
    const char *const *refs;
    size_t n_refs;
    bool is_all; /* also every REF with a record, and every image of the store whose name is that
                    of a registry's ("HOST/NAME:TAG") */
    int64_t spread_ns; /* the checks are spread over this time, at random; 0: one after the other */
    int (*fn)(void *arg, const struct larder_update_event *event); /* in the caller's thread; a
                                                                      negative result ends it */
    void *arg;
    struct larder_update_pauses *pauses; /* NULL: what earlier rounds were told counts no more */
    void *reserved[3];
};
#define LARDER_UPDATE_ROUND_OPTIONS_INIT                                     \
    {                                                                        \
        sizeof(struct larder_update_round_options), 0, 0, false, 0, 0, 0, 0, \
        {                                                                    \
            0, 0, 0                                                          \
        }                                                                    \
    }
struct larder_update_round {
    size_t size;
    size_t n_refs, n_available, n_changed, n_failed, n_deferred;
    int64_t retry_after_ns; /* the longest that a registry still wants to be left alone; 0: none */
};
/*
 * Checks many references once, in random order, so that a fleet does not come in step; connections
 * and tokens are shared. A registry that limits us is not asked again in this round: its references
 * are deferred (event with code BUSY). Nor is one that can't be reached: its references fail. One
 * failed check does not end the round.
 *
 * Who runs rounds at an interval (a daemon, `larder update watch`) keeps one larder_update_pauses
 * over all of them, whatever store or repository they are for: until the time that a registry named
 * is over (but a day at most) its references are deferred in each round without a question, and
 * those of other registries are checked as ever. No round has to wait for it.
 */
LARDER_API LARDER_MUST_CHECK int
larder_update_round_run(struct larder_store *store, const struct larder_update_options *options,
                        const struct larder_update_round_options *round,
                        struct larder_update_round *ret, struct larder_error *e);

LARDER_END_DECLS
