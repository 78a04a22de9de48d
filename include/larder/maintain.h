/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Upkeep of a store. All of these may run while other processes use it; what is in use, leased or
 * not known to be free is never removed. Threads: as in store.h.
 */
#include <larder/store.h>

LARDER_BEGIN_DECLS

/* ---- gc ---- */
struct larder_gc_options {
    size_t size; /* sizeof */
    bool dry_run;
    int64_t keep_for_ns; /* blobs nothing refers to stay this long after their last use */
    uint64_t
        max_size_bytes; /* 0: no cap. Beyond it, entries' blobs go too, least recently used first */
    int64_t keep_partial_ns;       /* unfinished downloads stay this long */
    uint64_t max_quarantine_bytes; /* evidence kept up to this total, newest first */
    /* Called for each thing removed (or that would be); may be NULL. what: "blob", "quarantine",
     * "partial", "temporary", "lease". */
    void (*removed)(void *arg, const char *what, const char *name, uint64_t bytes, const char *why);
    /* Called for each blob that was kept though it was due. */
    void (*kept)(void *arg, const char *name, uint64_t bytes, const char *why);
    void *arg;
    void *reserved[4];
};
#define LARDER_GC_KEEP_FOR_NS      (7LL * 24 * 3600 * 1000000000LL)
#define LARDER_GC_KEEP_PARTIAL_NS  (2LL * 24 * 3600 * 1000000000LL)
#define LARDER_GC_QUARANTINE_BYTES (10ULL << 30)
#define LARDER_GC_OPTIONS_INIT                                              \
    {                                                                       \
        sizeof(struct larder_gc_options), false, LARDER_GC_KEEP_FOR_NS, 0,  \
            LARDER_GC_KEEP_PARTIAL_NS, LARDER_GC_QUARANTINE_BYTES, 0, 0, 0, \
        {                                                                   \
            0, 0, 0, 0                                                      \
        }                                                                   \
    }
struct larder_gc_report {
    uint64_t removed_blobs, removed_bytes; /* bytes that are really free now */
    uint64_t pinned_blobs, pinned_bytes;   /* due, but in use (also open and unlinked) */
    uint64_t kept_blobs, kept_bytes;
    uint64_t removed_temporaries, removed_leases, removed_quarantined;
};
LARDER_API LARDER_MUST_CHECK int larder_gc(struct larder_store *store,
                                           const struct larder_gc_options *options,
                                           struct larder_gc_report *ret, struct larder_error *e);

/* ---- scrub ---- */
struct larder_scrub_options {
    size_t size;
    int64_t older_than_ns;    /* only blobs not fully hashed for so long; 0: all */
    uint64_t max_bytes_per_s; /* 0: as fast as idle priority allows */
    int64_t stop_after_ns; /* end after so long, with one blob read at least (those done are done);
                              0: never */
    bool foreground;       /* normal priority */
    void (*result)(void *arg, const struct larder_digest *digest, int result,
                   const struct larder_error *e); /* each blob as it is done; may be NULL */
    void *arg;
    void *reserved[4];
};
#define LARDER_SCRUB_OPTIONS_INIT                                  \
    {                                                              \
        sizeof(struct larder_scrub_options), 0, 0, 0, false, 0, 0, \
        {                                                          \
            0, 0, 0, 0                                             \
        }                                                          \
    }
struct larder_scrub_report {
    uint64_t checked_blobs, checked_bytes, read_bytes;
    uint64_t corrupt_blobs, skipped_blobs;
    bool is_complete; /* false: stopped early, the next run goes on from there */
};
/* CORRUPT when anything was; it is in quarantine then (report is filled). */
LARDER_API LARDER_MUST_CHECK int larder_scrub(struct larder_store *store,
                                              const struct larder_scrub_options *options,
                                              struct larder_scrub_report *ret,
                                              struct larder_error *e);

/* ---- fsck ---- */
enum larder_fsck_kind {
    LARDER_FSCK_TEMPORARY,   /* left by a dead process: removable */
    LARDER_FSCK_DEAD_LEASE,  /* removable */
    LARDER_FSCK_ORPHAN_MEMO, /* memo without a blob: removable */
    LARDER_FSCK_BAD_MODE,    /* a blob is writable: repairable */
    LARDER_FSCK_FOREIGN,     /* a file larder did not make: reported, never touched */
    LARDER_FSCK_CORRUPT_BLOB,
    LARDER_FSCK_UNSURE_BLOB,  /* fingerprint differs; hash says it is good: repairable */
    LARDER_FSCK_DANGLING_REF, /* names a blob that is not there (a get refetches it) */
    LARDER_FSCK_BAD_REF,
    LARDER_FSCK_BAD_LEASE,
    LARDER_FSCK_BAD_INDEX,
    LARDER_FSCK_OVERDUE_MARK,   /* invalid mark on a blob nobody uses any more */
    LARDER_FSCK_INCOMPLETE_REF, /* an image some of whose parts are not there */
    LARDER_FSCK_BAD_RECORD,     /* of an update that was found: the next check writes it anew */
};
struct larder_fsck_problem {
    enum larder_fsck_kind kind;
    const char *object; /* path in the store, or ref name */
    const char *text;   /* found and expected */
    bool is_repaired;
    bool is_harmless; /* temporaries and the like: a crash leaves them, nothing is lost */
};
struct larder_fsck_options {
    size_t size;
    bool repair;
    bool rebuild_index;
    bool deep; /* hash every blob */
    void (*problem)(void *arg, const struct larder_fsck_problem *problem);
    void *arg;
    void *reserved[4];
};
#define LARDER_FSCK_OPTIONS_INIT                                       \
    {                                                                  \
        sizeof(struct larder_fsck_options), false, false, false, 0, 0, \
        {                                                              \
            0, 0, 0, 0                                                 \
        }                                                              \
    }
struct larder_fsck_report {
    uint64_t blobs, refs, leases;
    uint64_t problems, repaired, harmless;
};
/* 0: clean, or only harmless findings. CORRUPT: problems remain (report is filled). */
LARDER_API LARDER_MUST_CHECK int larder_fsck(struct larder_store *store,
                                             const struct larder_fsck_options *options,
                                             struct larder_fsck_report *ret,
                                             struct larder_error *e);

/* ---- du, status ---- */
struct larder_usage {
    uint64_t blobs, blob_bytes, blob_allocated_bytes;
    uint64_t referred_blobs, referred_allocated_bytes; /* kept by a ref */
    uint64_t leased_blobs; /* held by a lease: by its digest, or below an image that it holds */
    uint64_t leased_only_blobs, leased_only_allocated_bytes; /* and kept by no ref */
    uint64_t records, record_allocated_bytes; /* of updates: files that hold no blob */
    uint64_t quarantined, quarantine_allocated_bytes;
    uint64_t partials, partial_allocated_bytes;
    uint64_t refs, leases;
    uint64_t free_bytes;        /* of the file system */
    int64_t oldest_verified_ns; /* of all blobs; 0: one was never hashed after its fetch */
};
LARDER_API LARDER_MUST_CHECK int larder_usage_get(struct larder_store *store,
                                                  struct larder_usage *ret, struct larder_error *e);
/* Each blob by last use, newest first, with the names that refer to it ("" when none). */
LARDER_API LARDER_MUST_CHECK int
larder_usage_each(struct larder_store *store,
                  int (*fn)(void *arg, const struct larder_blob_info *info, const char *refs),
                  void *arg, struct larder_error *e);

LARDER_END_DECLS
