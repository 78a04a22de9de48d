/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A plain directory of images with checksum files beside them, which larder does not own: which
 * file is judged by which sidecar, and what the judgement is. Not recursive, like sha256sum -c;
 * symbolic links, hidden files and what is no regular file are left alone.
 */
#include <stdbool.h>
#include <sys/stat.h>

#include <larder/image.h>

#include "image/entry.h"

struct directory_image {
    char *name;    /* in the directory */
    char *path;    /* absolute */
    char *sidecar; /* path of the checksum file that lists it; NULL */
    char *caution; /* what is weak about what that says; NULL: nothing */
    struct digest_set published;
    const struct larder_digest *wanted; /* the strongest of published; NULL: none */
    struct larder_digest actual;        /* NONE: could not be told */
    struct stat st;                     /* when it was judged */
    enum larder_verdict verdict;
    char *reason; /* "" when valid */
};

struct directory {
    char *path;
    int fd;
    struct directory_image *images; /* sorted by name */
    size_t count;
};

void directory_done(struct directory *dir);
/* Lists images and what is published about them; hashes nothing. */
int directory_open(const char *path, struct directory *ret, struct larder_error *e);
/*
 * Fills actual, verdict and reason: by the memo of an earlier run when the file is unchanged
 * (unless deep), else by hashing, all files together.
 */
int directory_judge(struct larder_store *store, struct directory *dir, bool deep,
                    struct larder_error *e);
