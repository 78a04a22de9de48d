/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One publication, in steps that only go forward; nothing is written before plan_push:
 *
 *     plan_open      the target and the images are found
 *     plan_identify  each image's digest, by the cheapest question; the list, if that suffices
 *     plan_look      what each tag points to
 *     plan_judge     desired against found (decide.h); again after plan_load
 *     plan_load      manifests and configs of all images; the list for certain
 *     plan_push      blobs, manifests, list, tags, in this order
 *     plan_verify    the tags, and the images, as a reader finds them
 *
 * larder_publish and larder_cosa_push differ in where images and hints come from, and in what is
 * written down at the end.
 */
#include <stdbool.h>

#include <larder/publish.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/relay.h"
#include "oci/manifest.h"
#include "oci/write.h"
#include "publish/decide.h"
#include "store/store.h"

/* An image that is to be a member of the list. */
struct plan_image {
    const char *where; /* location as the caller wrote it; borrowed */
    struct oci_location location;
    struct store *from; /* NULL until it is asked */
    bool is_at_target;  /* it is in the target repository already */
    bool is_there;      /* its manifest is, so its blobs are, too */
    /* Repository of the target's registry that may have its blobs; NULL: as `from` suggests. */
    char *mount_from;
    /* The stored manifest; in steps. */
    struct store_descriptor source;
    struct buf source_bytes;
    struct oci_manifest *manifest; /* of source_bytes */
    struct buf converted;          /* what is pushed instead, for Docker's schema 2 */
    /* What is pushed. */
    struct larder_digest digest;
    struct oci_index_entry entry; /* of the list, once has_entry */
    bool has_entry;
    bool is_loaded; /* manifest and config were read, not guessed */
    struct json *config;
    char *guessed_arch; /* what entry.platform points to when it was guessed */
    /* From coreos-assembler: the manifest's digest (alg NONE: none), the file of its bytes (NULL),
     * and the architecture it is for. */
    struct larder_digest hint;
    const char *hint_file;
    const char *hint_arch;
};

struct plan_tag {
    const char *name; /* borrowed */
    bool is_build;    /* names the build */
    bool is_recorded;
    /* Found. */
    struct store_descriptor now; /* digest NONE: absent */
    struct larder_digest found;  /* what it pointed to before anything was done */
    bool is_read;                /* bytes are here */
    struct buf bytes;
    struct oci_manifest *list; /* NULL: no list, or not read */
    /* Judged. */
    enum tag_state state;
    bool has_others;
    enum tag_verdict verdict;
};

struct plan {
    struct larder_store *handle;
    const struct larder_registry_options *registry; /* NULL: defaults */
    const char *repository;                         /* as the caller wrote it */
    bool v2s2;
    unsigned jobs;
    struct decide_options rules;
    struct relay *relay;
    struct store *target;
    struct oci_location target_location;
    struct plan_image *images;
    size_t n_images;
    struct plan_tag *tags;
    size_t n_tags;
    /* The list as computed; has_list: from guesses perhaps, is_certain: from loaded images. */
    struct buf list;
    struct store_descriptor list_descriptor;
    bool has_list, is_certain;
    /* The list that all tags shall point to: the computed one, or one of the same images that a
     * tag has already (then adopted is that tag). */
    struct store_descriptor goal;
    const struct plan_tag *adopted;
    /* Runs beside the copying of blobs and must succeed before any tag changes; NULL. */
    int (*check)(void *arg, struct larder_error *e);
    void *check_arg;
    uint64_t blobs_copied, blobs_existed, blobs_mounted, bytes_copied;
};

/* Fields above relay are the caller's. Images and tags: n of each, zeroed, `where` and `name` set;
 * INVAL for what is no repository, no tag, no location. */
int plan_open(struct plan *plan, const struct larder_observer *observer, struct larder_error *e);
void plan_done(struct plan *plan);

/* ---- desired.c ---- */
int plan_identify(struct plan *plan, struct larder_error *e);
int plan_load(struct plan *plan, struct larder_error *e);
/* INVAL when two images are for one platform. Sets list, list_descriptor, has_list. */
int plan_write_list(struct plan *plan, struct larder_error *e);
/* Longer ones than there are were refused by who read them. */
void plan_set_type(struct store_descriptor *descriptor, const char *type);
/* The bytes that are pushed for an image. */
struct slice plan_image_bytes(const struct plan_image *image);

/* ---- remote.c ---- */
int plan_look(struct plan *plan, struct larder_error *e);
/* Reads what one tag points to now, whole; absent is no error. */
int plan_read_tag(struct plan *plan, struct plan_tag *tag, struct larder_error *e);
/* Sets goal, and state and verdict of each tag. */
int plan_judge(struct plan *plan, struct larder_error *e);
/* The error of the first tag that was refused; 0 without. */
int plan_refusal(const struct plan *plan, struct larder_error *e);
bool plan_has_puts(const struct plan *plan);

/* ---- act.c ---- */
/* Blobs and manifests of the images; not the list. */
int plan_push_images(struct plan *plan, struct larder_error *e);
int plan_push(struct plan *plan, struct larder_error *e);
/* OUTDATED: somebody else moved a tag meanwhile. */
int plan_verify(struct plan *plan, struct larder_error *e);

/* ---- append.c ---- */
/* Makes each tag's list hold the images beside those it has, also while others do the same. Sets
 * state and verdict of each tag, and goal to what the first one points to in the end. */
int plan_append(struct plan *plan, bool dry_run, struct larder_error *e);

/* ---- publish.c ---- */
/* Fills everything but the action. */
int plan_result(const struct plan *plan, struct larder_publish_result *ret, struct larder_error *e);
uint64_t plan_requests(const struct plan *plan);
/* identify, look, judge; load where the list could not be known without and is needed. */
int plan_compare(struct plan *plan, struct larder_error *e);
