/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the files of the reader share.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "base/slice.h"
#include "update/reader/reader.h"

#define COMMIT_DIGITS 64

struct deployment {
    char *os_name;
    char commit[COMMIT_DIGITS + 1];
    unsigned serial;
    char *image;   /* NULL */
    char *version; /* of its boot loader entry: the order; NULL of the staged one */
    bool is_staged, is_booted;
};

struct reader {
    int fd; /* the repository */
    char *path;
    struct reader *parent; /* NULL */
    struct deployment *deployments;
    size_t n_deployments;
};

/* ---- files.c ---- */

/* What "found it, there is none" is beside 0 and NOT_MINE. */
#define ABSENT 1

/* Opens what is below dirfd, by no symlink. 0, ABSENT, NOT_MINE. */
int below_open(int dirfd, const char *path, int flags, int *ret_fd);
/* Reads a regular file up to the limit of the buffer, which is reset. 0, ABSENT, NOT_MINE, CORRUPT
 * for what nobody should read: a FIFO, a device. */
int below_read(int dirfd, const char *path, struct buf *out, struct larder_error *e);
/* A symlink's target of less than PATH_MAX bytes; malloc'd. 0, ABSENT, NOT_MINE. */
int below_link(int dirfd, const char *name, char **ret);

/* Each key of a GKeyFile of the plainest form: no blanks around lines, no escapes, ASCII. 0, fn's
 * result where it is not 0, NOT_MINE. */
int keyfile_each(struct slice text,
                 int (*fn)(void *arg, struct slice group, struct slice key, struct slice value),
                 void *arg);

bool is_commit(struct slice text); /* 64 lower-case hex digits */
/* Of letters, digits and "_.-", not beginning with '.' or '-': what may be a part of a path. */
bool is_plain_name(struct slice name);
/* Decimal digits only, without leading zeros, below 10^9. */
bool read_number(struct slice text, unsigned *ret);
/* Cuts what is before the first such byte, else all; false when nothing is left. */
bool cut_at(struct slice *rest, char byte, struct slice *ret);

/* ---- repo.c ---- */

/* Opens the repository "name" below dirfd (with AT_FDCWD: as it stands, by symlinks, too). 0,
 * NOT_MINE, CORRUPT. */
int repo_reader_open(int dirfd, const char *name, unsigned depth, struct reader **ret,
                     struct larder_error *e);

/* ---- sysroot.c ---- */

/* Fills r->deployments. 0, NOT_MINE, CORRUPT. */
int sysroot_load(struct reader *r, int root, int ostree, const char *path, struct larder_error *e);
/* The directory "ostree" of a sysroot. 0, NOT_MINE. */
int sysroot_open_ostree(int root, int *ret_fd);
