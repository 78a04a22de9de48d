/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What is to be done with a tag, from what it points to and what is wanted. Pure: no I/O, no
 * clock; the rules are a table in decide.c, and the tests go through every row.
 */
#include <stdbool.h>
#include <stddef.h>

#include <larder/digest.h>

#include "base/buf.h"
#include "oci/manifest.h"

/* What a tag points to now. */
enum tag_state {
    TAG_ABSENT,
    TAG_EQUAL, /* the very list that is wanted */
    TAG_SAME,  /* a list of exactly the wanted images, in other bytes */
    TAG_MORE,  /* a list of the wanted images and further ones */
    TAG_OTHER, /* a list without some of the wanted images */
    TAG_IMAGE, /* no list */
    TAG_STATE_MAX
};

struct decide_tag {
    enum tag_state state;
    bool has_others;  /* the list has platforms that aren't wanted */
    bool is_recorded; /* these images were pushed to this tag before, somebody wrote down */
    bool is_build;    /* the tag names the build: nobody moves it on purpose */
};

struct decide_options {
    bool force;
    bool no_clobber;
    bool is_subset; /* not all of the build's architectures were asked for, on purpose */
};

enum tag_verdict {
    TAG_KEEP,
    TAG_PUT,
    TAG_CLOBBER,   /* no_clobber forbids it */
    TAG_DROPS,     /* would take away architectures that nobody named */
    TAG_MOVED,     /* another push moved it since: moving it back would undo that */
    TAG_IMMUTABLE, /* the same, though it names this very build */
    TAG_VERDICT_MAX
};
enum tag_verdict decide_tag(const struct decide_tag *tag, const struct decide_options *options);
bool tag_verdict_is_refusal(enum tag_verdict verdict);

/* One wanted image. */
struct decide_image {
    struct larder_digest digest;
    const struct oci_platform *platform; /* NULL: not known (then any will do) */
};
/*
 * SAME, MORE or OTHER. Members that are no images of a platform are not looked at: artifacts (disk
 * images beside the containers), those without a platform, and those of another system than Linux
 * that aren't wanted.
 */
enum tag_state decide_compare(const struct oci_manifest *list, const struct decide_image *wanted,
                              size_t n, bool *ret_has_others);

/* For people: "absent", "as desired", "points to sha256:...". digest: what the tag points to. */
void decide_why(enum tag_state state, const struct larder_digest *digest, struct buf *out);
