/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Disk images: named entries with a source, kept verified and current.
 *
 * Two questions are kept apart. Integrity: do the local bytes hash to what was recorded when they
 * came (L = R)? Freshness: does upstream still publish that digest (R = U)?
 *
 *   L = R, R = U            valid
 *   L = R, R != U           outdated: the new image is fetched beside the old one
 *   L != R                  corrupt: quarantined, fetched again in the same run
 *   L = R, U unreachable    valid, freshness unknown: used with a warning
 *
 * Objects returned (`ret`) own their strings; give them back with the matching _done.
 * Threads: as in store.h. Long calls report to the store's observer.
 */
#include <larder/maintain.h>
#include <larder/registry.h>
#include <larder/store.h>

LARDER_BEGIN_DECLS

enum larder_verdict {
    LARDER_VERDICT_UNKNOWN = 0, /* can't tell now, or nothing fetched yet */
    LARDER_VERDICT_VALID,
    LARDER_VERDICT_OUTDATED,
    LARDER_VERDICT_CORRUPT,
};
LARDER_API const char *larder_verdict_name(enum larder_verdict verdict);

#define LARDER_REFRESH_NEVER  INT64_MAX
#define LARDER_REFRESH_ALWAYS 0

/* What is known before anything is fetched. */
struct larder_image_spec {
    size_t size;          /* sizeof */
    const char *name;     /* NULL: made from the source */
    const char *source;   /* local path (made absolute) or http(s) URL */
    const char *checksum; /* digest "sha256:...", URL or path of a checksum file; NULL: siblings are
                             tried */
    const char *keyring;  /* gpgv keyring file: a good signature over the sums is then required */
    const char
        *fingerprint; /* with keyring: the key (or primary key) that must have signed; NULL: any */
    int64_t refresh_ns; /* ask upstream when the last answer is older; ALWAYS, NEVER */
    const char *format; /* "qcow2", "raw"...; NULL: by content */
    const char *unpack; /* "auto" (default), "always", "never" */
    bool allow_backing; /* accept a qcow2 with a backing file */
    const char
        *header_file; /* request headers for the source's origin; never on the command line */
    bool replace;     /* an entry of that name is changed instead of EXIST */
    void *reserved[4];
};
#define LARDER_IMAGE_SPEC_INIT                                                                  \
    {                                                                                           \
        sizeof(struct larder_image_spec), 0, 0, 0, 0, 0, 3600LL * 1000000000LL, 0, 0, false, 0, \
            false,                                                                              \
        {                                                                                       \
            0, 0, 0, 0                                                                          \
        }                                                                                       \
    }

/* Records the entry; fetches nothing. INVAL, EXIST, NOENT (local source or files missing). */
LARDER_API LARDER_MUST_CHECK int larder_image_add(struct larder_store *store,
                                                  const struct larder_image_spec *spec,
                                                  struct larder_error *e);
/* Forgets the entry; its blob stays until gc. */
LARDER_API LARDER_MUST_CHECK int larder_image_remove(struct larder_store *store, const char *name,
                                                     struct larder_error *e);

enum larder_image_how {
    LARDER_IMAGE_HIT,       /* was there, valid */
    LARDER_IMAGE_FETCHED,   /* was missing */
    LARDER_IMAGE_UPDATED,   /* upstream had a new one */
    LARDER_IMAGE_REFETCHED, /* was corrupt or invalidated */
    LARDER_IMAGE_STALE_OK,  /* valid by itself, upstream could not be asked */
};
LARDER_API const char *larder_image_how_name(enum larder_image_how how);

struct larder_image_get_options {
    size_t size;
    bool require_fresh;                   /* UNREACHABLE instead of a copy of unknown freshness */
    bool offline;                         /* never touch the network */
    bool refresh;                         /* ask upstream now whatever the age of the last answer */
    const struct larder_image_spec *spec; /* for a source that is no known entry; may be NULL */
    void *reserved[4];
};
#define LARDER_IMAGE_GET_OPTIONS_INIT                                    \
    {                                                                    \
        sizeof(struct larder_image_get_options), false, false, false, 0, \
        {                                                                \
            0, 0, 0, 0                                                   \
        }                                                                \
    }

struct larder_image_result {
    char *name;
    char *path; /* absolute; of the blob, content-addressed, read-only */
    struct larder_digest digest;
    uint64_t size_bytes;
    char *format;
    enum larder_image_how how;
    enum larder_verdict verdict;
    char *previous_path; /* UPDATED: where the old image still is; else NULL */
};
LARDER_API void larder_image_result_done(struct larder_image_result *result);

/*
 * The image, verified and current: what a job runs at its start. name_or_source is an entry's name,
 * else a source (an entry is made for it). Errors: NOENT (no such entry, local source missing),
 * GONE, UNREACHABLE (nothing usable here), MISMATCH (upstream inconsistent; an old valid image
 * stays usable: it is returned with a warning unless require_fresh), UNSAFE, AUTH, NOSPACE...
 */
LARDER_API LARDER_MUST_CHECK int larder_image_get(struct larder_store *store,
                                                  const char *name_or_source,
                                                  const struct larder_image_get_options *options,
                                                  struct larder_image_result *ret,
                                                  struct larder_error *e);

/* Everything known about an entry. */
struct larder_image_info {
    char *name;
    char *source, *checksum, *keyring, *refresh; /* as configured; NULL: default */
    enum larder_verdict verdict; /* by memo and the last upstream answer; reads no content */
    char *verdict_reason;
    struct larder_digest digest; /* of the local blob; NONE: nothing fetched yet */
    uint64_t size_bytes, allocated_bytes, virtual_bytes;
    char *path;
    char *format;
    struct larder_digest upstream_digest; /* as published when last asked */
    struct larder_digest source_digest;   /* of the bytes as fetched, when unpacked */
    char *transform;                      /* "gunzip"...; NULL */
    char *sums_url, *signed_by, *etag, *last_modified, *final_url;
    int64_t added_ns, fetched_ns, checked_ns, last_used_ns, last_verified_ns; /* 0: never */
    char *last_error; /* of the last upstream question; NULL */
    bool is_invalidated;
    char **holders; /* lines "who", NULL-terminated; NULL array when none */
};
LARDER_API void larder_image_info_done(struct larder_image_info *info);
/* holders are looked for only with want_holders (it probes locks and overlays). */
LARDER_API LARDER_MUST_CHECK int larder_image_show(struct larder_store *store, const char *name,
                                                   bool want_holders, struct larder_image_info *ret,
                                                   struct larder_error *e);
/* Names of all entries, sorted. */
LARDER_API LARDER_MUST_CHECK int larder_image_each(struct larder_store *store,
                                                   int (*fn)(void *arg, const char *name),
                                                   void *arg, struct larder_error *e);

/* ---- verify, invalidate ---- */
enum larder_image_verify_flags {
    LARDER_IMAGE_VERIFY_DEEP = 1u << 0,  /* hash */
    LARDER_IMAGE_VERIFY_FRESH = 1u << 1, /* ask upstream */
};
struct larder_image_verify_result {
    const char *name;
    enum larder_verdict verdict;
    const char *reason; /* "" when valid */
    struct larder_digest digest;
    uint64_t size_bytes;
    int code; /* 0, or the larder_code of a failure to find out */
};
/*
 * Judges entries (names NULL: all). Corrupt ones are quarantined (a later get refetches). fn is
 * called for each, in the order given; returns the worst: CORRUPT > OUTDATED > UNREACHABLE > 0,
 * with NOENT for names that don't exist.
 */
LARDER_API LARDER_MUST_CHECK int
larder_image_verify(struct larder_store *store, const char *const *names, size_t count,
                    unsigned flags,
                    void (*fn)(void *arg, const struct larder_image_verify_result *result),
                    void *arg, struct larder_error *e);

struct larder_image_invalidate_options {
    size_t size;
    const char *name_or_digest; /* or NULL with one of the next */
    bool mismatched;       /* every entry that is corrupt, or outdated by upstream's word now */
    int64_t older_than_ns; /* every entry fetched longer ago; 0: not used */
    bool dry_run;
    bool force; /* also move bytes away whose path an overlay needs */
    void (*invalidated)(void *arg, const char *name, const struct larder_digest *digest,
                        const char *why, bool is_deferred); /* deferred: in use, deleted later */
    void *arg;
    void *reserved[4];
};
#define LARDER_IMAGE_INVALIDATE_OPTIONS_INIT                                             \
    {                                                                                    \
        sizeof(struct larder_image_invalidate_options), 0, false, 0, false, false, 0, 0, \
        {                                                                                \
            0, 0, 0, 0                                                                   \
        }                                                                                \
    }
/* Returns the number invalidated. NOENT when a named one does not exist. Running users keep theirs.
 */
LARDER_API LARDER_MUST_CHECK int
larder_image_invalidate(struct larder_store *store,
                        const struct larder_image_invalidate_options *options,
                        struct larder_error *e);

/* ---- plain directories ---- */
enum larder_image_check_action {
    LARDER_CHECK_REPORT,
    LARDER_CHECK_REMOVE,
    LARDER_CHECK_QUARANTINE
};
struct larder_image_check_result {
    const char *path;
    enum larder_verdict verdict; /* UNKNOWN: no checksum for it, or it cannot be told */
    const char *reason;
    const char *sidecar; /* which checksum file judged it; NULL */
    bool is_in_use;
    bool is_acted_on; /* removed or moved; with dry_run: would be */
};
struct larder_image_check_options {
    size_t size;
    enum larder_image_check_action action;
    const char *quarantine_dir; /* with QUARANTINE; made when missing */
    bool deep;                  /* hash though the memo says unchanged */
    bool dry_run;
    void (*result)(void *arg, const struct larder_image_check_result *result);
    void *arg;
    void *reserved[4];
};
#define LARDER_IMAGE_CHECK_OPTIONS_INIT                                                        \
    {                                                                                          \
        sizeof(struct larder_image_check_options), LARDER_CHECK_REPORT, 0, false, false, 0, 0, \
        {                                                                                      \
            0, 0, 0, 0                                                                         \
        }                                                                                      \
    }
/* Judges a directory that larder does not own by its sidecars. CORRUPT when any image mismatches.
 */
LARDER_API LARDER_MUST_CHECK int
larder_image_check(struct larder_store *store, const char *dir,
                   const struct larder_image_check_options *options, struct larder_error *e);
/* Takes the images of such a directory into the store (reflink, else hard link when it is safe,
 * else copy); originals stay. Mismatching ones are refused. Returns how many. */
LARDER_API LARDER_MUST_CHECK int larder_image_adopt(
    struct larder_store *store, const char *dir, bool dry_run,
    void (*fn)(void *arg, const char *path, const char *name, int result, const char *how_or_why),
    void *arg, struct larder_error *e);

/* ---- handing out ---- */
/* qcow2 overlay `file` on the entry's digest path, with a lease on file's existence. EXIST. */
LARDER_API LARDER_MUST_CHECK int larder_image_overlay(struct larder_store *store,
                                                      const struct larder_image_result *image,
                                                      const char *file, uint64_t virtual_bytes,
                                                      struct larder_error *e);
/* Writable copy: reflink where the file system can, else sparse. *ret_reflinked may be NULL. */
LARDER_API LARDER_MUST_CHECK int larder_image_copy(struct larder_store *store,
                                                   const struct larder_image_result *image,
                                                   const char *file, bool replace,
                                                   bool *ret_reflinked, struct larder_error *e);

/* ---- maintain ---- */
struct larder_maintain_options {
    size_t size;
    int64_t scrub_older_than_ns; /* default 30 d */
    int64_t scrub_stop_after_ns; /* at most so long a round; 0: no limit */
    uint64_t scrub_bytes_per_s;  /* 0: idle speed */
    int64_t keep_for_ns;
    uint64_t max_size_bytes;
    int64_t keep_partial_ns;
    uint64_t max_quarantine_bytes;
    bool dry_run;
    void (*event)(void *arg, const char *what, const char *object, const char *text);
    void *arg;
    void *reserved[4];
};
#define LARDER_MAINTAIN_OPTIONS_INIT                                                         \
    {                                                                                        \
        sizeof(struct larder_maintain_options), 30LL * 24 * 3600 * 1000000000LL, 0, 0,       \
            LARDER_GC_KEEP_FOR_NS, 0, LARDER_GC_KEEP_PARTIAL_NS, LARDER_GC_QUARANTINE_BYTES, \
            false, 0, 0,                                                                     \
        {                                                                                    \
            0, 0, 0, 0                                                                       \
        }                                                                                    \
    }
/* One round: refresh what is due, scrub what is due (corrupt: refetched), gc. Returns the worst
 * code. */
LARDER_API LARDER_MUST_CHECK int larder_maintain(struct larder_store *store,
                                                 const struct larder_maintain_options *options,
                                                 struct larder_error *e);

/* Directories whose qcow2 files may have store paths as backing files; they count as users.
 * Strings are copied. */
LARDER_API LARDER_MUST_CHECK int larder_store_set_guest_dirs(struct larder_store *store,
                                                             const char *const *dirs, size_t count,
                                                             struct larder_error *e);

/* ---- to registries ---- */

struct larder_image_push_options {
    size_t size;
    const struct larder_registry_options *registry; /* NULL: defaults */
    bool force;                                     /* push even what is there */
    bool dry_run;
    void *reserved[4];
};
#define LARDER_IMAGE_PUSH_OPTIONS_INIT                             \
    {                                                              \
        sizeof(struct larder_image_push_options), 0, false, false, \
        {                                                          \
            0, 0, 0, 0                                             \
        }                                                          \
    }

struct larder_image_push_result {
    struct larder_digest digest; /* of the artifact's manifest */
    bool was_there;              /* the tag pointed to it already: nothing was sent */
    uint64_t bytes_sent;
};

/*
 * Writes an image as an OCI artifact that `oras pull` unpacks into files: the disk, a checksum file
 * for it, and what upstream published about it, verbatim; where it came from as annotations. The
 * same image gives the same manifest, so pushing twice sends nothing. location: docker://, oci: or
 * store:, with a tag or ref. Errors: as larder_image_get() with what is here, and as larder_copy().
 */
LARDER_API LARDER_MUST_CHECK int
larder_image_push(struct larder_store *store, const struct larder_image_result *image,
                  const char *location, const struct larder_image_push_options *options,
                  struct larder_image_push_result *ret, struct larder_error *e);

LARDER_END_DECLS
