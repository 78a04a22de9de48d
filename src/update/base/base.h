/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The base of a reference: where it is in use, and where its record is kept.
 *
 *   base_store.c    an image of larder's store ("oci/NAME"); records in updates/ of the store
 *   base_ostree.c   the commits of an ostree repository; records in their detached metadata
 *
 * In both, when the place can't be written and a state directory is given, the record is there;
 * reading asks both, and takes the newer one that is for this base. A record counts only while the
 * base it was made for is the current one (record_meaning below).
 *
 *     base_open(&ask, &base, e);
 *     base->ops->holders(base, &holders, e); // holders.list[0] is the base itself, if there is one
 *     base_record_get(base, &holders.list[0], &record, &place, e);
 *     base_record_put(base, &holders.list[0], &record, &place, e);
 *     base_close(base);
 *
 * Threads: one at a time. Reading takes no lock and writes nothing.
 */
#include <larder/update.h>

#include "oci/platform.h"
#include "update/image_view.h"
#include "update/record/record.h"

/* REF and options as they were given, read. */
struct update_ask {
    struct larder_store *store;                  /* NULL */
    const struct larder_update_options *options; /* never NULL */
    char *ref; /* complete: "docker://docker.io/library/debian:latest", "oci:/absolute/dir:1"; with
                  ostree it stays as written (also without a tag) but for a "docker://" in front,
                  for it is part of the ref's name there */
    char *platform_text;   /* normalized, "linux/amd64" */
    char *platform_memory; /* what platform borrows from */
    struct oci_platform platform;
    bool is_ostree;
    char *name; /* in the store: options->name (without "store:"), else REF without transport and
                   digest; NULL with ostree */
};
/* options may be NULL. ref NULL: by the sysroot. INVAL, UNSUPPORTED, NOENT. */
int update_ask_read(struct larder_store *store, const char *ref,
                    const struct larder_update_options *options, struct update_ask *ret,
                    struct larder_error *e);
void update_ask_done(struct update_ask *ask);

struct base_holder {
    const char *role;            /* "image", "booted", "staged", "pending", "rollback" */
    char *commit;                /* ostree; NULL */
    struct larder_digest root;   /* the index that it was chosen from, or digest; NONE: not known */
    struct larder_digest digest; /* of the platform's manifest; alg NONE: a deployment that was
                                    changed on this machine says no image */
    bool is_rewritten;           /* manifest below is not what digest names, byte by byte */
    char *media_type;
    struct buf manifest;
    struct buf config;
    struct image_view view;
};
struct base_holders {
    struct base_holder *list; /* [0]: the base: "image", or with ostree, where its ref is gone, a
                                 deployment; nothing: there is none (yet) */
    size_t n;
};
void base_holders_done(struct base_holders *holders);

enum base_record_place {
    BASE_RECORD_NONE,
    BASE_RECORD_STORE,
    BASE_RECORD_REPOSITORY,
    BASE_RECORD_STATE_DIR,
};

struct base;
struct base_ops {
    /* Fills the list; none is no error. CORRUPT when the image itself is damaged. */
    int (*holders)(struct base *b, struct base_holders *ret, struct larder_error *e);
    /*
     * The record kept with holder (NULL: that of a reference without a base), whatever it is about.
     * NOENT; CORRUPT.
     */
    int (*record_get)(struct base *b, const struct base_holder *holder, struct update_record *ret,
                      struct larder_error *e);
    /* Replaces it. DENIED where it can't be written. */
    int (*record_put)(struct base *b, const struct base_holder *holder,
                      const struct update_record *record, struct larder_error *e);
    /* The record there was found again. A place that keeps no such time may do nothing. */
    int (*record_touch)(struct base *b, const struct base_holder *holder, int64_t checked_ns,
                        struct larder_error *e);
    /* 1 removed, 0 there was none. */
    int (*record_remove)(struct base *b, const struct base_holder *holder, struct larder_error *e);
    /* Whether layers are here: sets presence[i] of each layer. */
    int (*layers_here)(struct base *b, const struct image_view *view,
                       enum larder_update_presence *presence, struct larder_error *e);
    /* Frees b and what the kind keeps; the members below are base_close()'s. */
    void (*close)(struct base *b);
};
struct base {
    const struct base_ops *ops;
    const struct update_ask *ask; /* borrowed */
    struct record_dir *state_dir; /* NULL: none was given */
    char *place;                  /* for people: "store:NAME", path of the repository */
    char *identity;               /* of the place, for keys in the state directory */
};
int base_open(const struct update_ask *ask, struct base **ret, struct larder_error *e);
void base_close(struct base *b); /* NULL is fine */
DEFINE_CLEANUP(struct base *, base_close)
/* The two kinds; base_open chooses. */
int base_store_open(const struct update_ask *ask, struct base **ret, struct larder_error *e);
int base_ostree_open(const struct update_ask *ask, struct base **ret, struct larder_error *e);
/* Each image of the repository or sysroot of options that has a record kept with it, or with a
 * deployment of it: then it may come more than once. platform: the record's, NULL where it tells
 * none. */
int base_ostree_each(struct larder_store *store, const struct larder_update_options *options,
                     int (*fn)(void *arg, const char *ref, const char *platform), void *arg,
                     struct larder_error *e);
/* REF of the booted, else the first deployment of a container image; malloc'd. NOENT. */
int base_ostree_follows(const char *sysroot, char **ret, struct larder_error *e);

/* What the store, or the repository of options, is called in keys of state directories;
 * malloc'd. */
int base_store_identity(struct larder_store *store, char **ret, struct larder_error *e);
int base_ostree_identity(const struct larder_update_options *options, char **ret,
                         struct larder_error *e);

/*
 * The rules of place and state directory, over the ops (base.c). get: the place's, or the state
 * directory's when that is for this base and newer, or the place's is damaged or for another; NOENT
 * and CORRUPT are those of the place, else of the other. put: *ret_place where it is now; DENIED
 * when neither takes it (e says what both said). Whoever puts one in the place removes the other.
 * touch: of the one that get gives. remove: both; 1 there was one, 0 there was none; DENIED only
 * where one is left.
 */
int base_record_get(struct base *b, const struct base_holder *holder, struct update_record *ret,
                    enum base_record_place *ret_place, struct larder_error *e);
int base_record_put(struct base *b, const struct base_holder *holder,
                    const struct update_record *record, enum base_record_place *ret_place,
                    struct larder_error *e);
int base_record_touch(struct base *b, const struct base_holder *holder, int64_t checked_ns,
                      struct larder_error *e);
int base_record_remove(struct base *b, const struct base_holder *holder, struct larder_error *e);
const char *base_record_place_name(enum base_record_place place); /* "store", "repository",
                                                                     "state directory" */

/* What a record means for a base (either may be NULL). */
enum record_meaning {
    RECORD_VOID,      /* none, or made for another base */
    RECORD_UNCHANGED, /* the base was found */
    RECORD_UPDATE,    /* another image was found */
    RECORD_CONSUMED,  /* the image it names is the base by now */
};
enum record_meaning record_meaning(const struct update_record *record,
                                   const struct base_holder *base);

/* Each reference that has a record, in order, as an ask. */
int base_each_ref(struct larder_store *store, const struct larder_update_options *options,
                  int (*fn)(void *arg, const struct update_ask *ask), void *arg,
                  struct larder_error *e);
