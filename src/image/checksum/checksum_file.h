/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Checksum files as publishers write them: GNU and BSD lines, bare digests, sizes, sections,
 * clearsigned envelopes, any line end (the grammar is in checksum_line.h). Pure, no I/O; the paths
 * inside are compared, never opened.
 *
 *     checksum_file_parse(text, "SHA256SUMS", &sums, e);
 *     checksum_file_lookup(sums, "debian-12.qcow2", 0, &match, e);
 *     ... match.digests[0] is the strongest ...
 *     checksum_file_free(sums);
 *
 * Threads: a parsed file is never changed and may be read by several threads.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <larder/digest.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/slice.h"

/* Larger texts are refused: people paste the address of the image itself by mistake. */
#define CHECKSUM_FILE_BYTES_MAX (1024 * 1024)

struct checksum_file;

struct checksum_entry {
    char *name; /* as in the file, escapes undone; NULL: a bare digest */
    struct larder_digest digest;
    bool is_contradiction; /* digest and algorithm disagree: no digest, the entry only spoils */
    size_t line;           /* from 1, in the signed text when clearsigned */
};

/* Bits of checksum_match.warnings. */
enum checksum_warning {
    CHECKSUM_WARN_WEAK = 1u << 0,      /* only md5 or sha1: detects damage, proves nothing */
    CHECKSUM_WARN_NAME = 1u << 1,      /* the file names another image than the one asked for */
    CHECKSUM_WARN_MALFORMED = 1u << 2, /* some lines could not be read */
    CHECKSUM_WARN_FOREIGN = 1u << 3,   /* some lines are of algorithms larder does not know */
};

enum checksum_lookup_flags {
    /* The caller knows that the file is about this image (its user said so): a bare digest or a
     * single entry applies whatever the file is called. */
    CHECKSUM_LOOKUP_DEDICATED = 1u << 0,
};

struct checksum_match {
    struct larder_digest digests[LARDER_DIGEST_ALG_MAX]; /* strongest first */
    size_t n_digests;                                    /* at least 1 */
    bool has_size;
    uint64_t size_min_bytes, size_max_bytes; /* equal when the file gives an exact size */
    const char *inner_name; /* the name in the file when it differs; owned by the file; NULL */
    size_t line;            /* of the first matching line */
    unsigned warnings;
    size_t n_malformed;
};

/*
 * Parses text; file_name (may be NULL) is the file's own name or path: it promises an algorithm,
 * tells which image a sidecar belongs to, and stands in messages. LIMIT when the text is too
 * large; INVAL when it is not a checksum file (an HTML page, an image, no line with a digest...),
 * or its clearsigned envelope is damaged; NOMEM. Lines that cannot be read are only counted.
 */
int checksum_file_parse(struct slice text, const char *file_name, struct checksum_file **ret,
                        struct larder_error *e);
void checksum_file_free(struct checksum_file *sums);
DEFINE_CLEANUP(struct checksum_file *, checksum_file_free)

bool checksum_file_is_clearsigned(const struct checksum_file *sums);
/*
 * The text that was parsed: inside the envelope with the escapes undone, without byte-order mark.
 * Owned by the file. When a signature is required, parse what the verifier gives out instead.
 */
struct slice checksum_file_text(const struct checksum_file *sums);
size_t checksum_file_entries(const struct checksum_file *sums, const struct checksum_entry **ret);
size_t checksum_file_malformed(const struct checksum_file *sums);

/*
 * Finds image_name (a file name, or a path relative to the checksum file). In this order: the same
 * path ("./" does not count); the only path with that basename; the only name of a file, or bare
 * digests, when the file is the image's sidecar (X.sha256 for X) or DEDICATED. Never by substring.
 * NOENT when the image is not listed; INVAL when lines about it contradict each other or
 * themselves, or several paths with its basename differ.
 */
int checksum_file_lookup(const struct checksum_file *sums, const char *image_name, unsigned flags,
                         struct checksum_match *ret, struct larder_error *e);
/* A sentence for people about one of the bits of match->warnings. */
void checksum_match_describe(const struct checksum_match *match, enum checksum_warning warning,
                             struct buf *out);
/* What whoever believes the match has to hear (weak digest, other name); malloc'd, NULL: nothing.
 */
char *checksum_match_caution(const struct checksum_match *match);
