/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Files. Everything is relative to a directory descriptor where possible, O_CLOEXEC, and retried on
 * EINTR. Sizes and offsets are uint64_t. Functions that take `what` use it to name the object in
 * messages.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <larder/error.h>

#include "base/buf.h"

/* Reads until n bytes or end of file; returns the bytes read or -1 with errno. */
ssize_t fd_read_full(int fd, void *data, size_t n);
ssize_t fd_pread_full(int fd, void *data, size_t n, uint64_t offset);
/* Writes all or returns -1 with errno. */
int fd_write_full(int fd, const void *data, size_t n);
int fd_pwrite_full(int fd, const void *data, size_t n, uint64_t offset);

/* Whole file into out (its max_bytes is the limit: LIMIT beyond). Refuses what is not a regular
 * file (INVAL), but for /dev/null, which is empty. NOENT as a code when missing. */
int file_read(int dirfd, const char *path, struct buf *out, struct larder_error *e);
/*
 * Replaces a small file so that a reader or a crash sees the old or the new content, whole: temp
 * file beside it, write, fsync, rename, fsync of the directory. mode is set exactly.
 */
int file_write_atomic(int dirfd, const char *name, const void *data, size_t n, mode_t mode,
                      struct larder_error *e);
/* The same but EXIST when name is there (link instead of rename). */
int file_create_atomic(int dirfd, const char *name, const void *data, size_t n, mode_t mode,
                       struct larder_error *e);
/* fsync of a directory given by descriptor (which may be O_PATH-less only). */
int dir_sync(int dirfd, const char *what, struct larder_error *e);
/* mkdir if missing; DENIED etc. *ret_fd (may be NULL) is opened O_DIRECTORY|O_NOFOLLOW. */
int dir_make(int dirfd, const char *name, mode_t mode, int *ret_fd, struct larder_error *e);
/* unlinkat that treats "not there" as done. */
int file_remove(int dirfd, const char *name, struct larder_error *e);

/* Calls fn for each name but "." and ".." (unsorted); a non-zero result ends the walk and is
 * returned. fn may remove the named file. */
int dir_each(int dirfd, int (*fn)(void *arg, const char *name, unsigned char d_type), void *arg,
             struct larder_error *e);

/*
 * A lock file: opened (made 0666 & ~umask when missing and writable) and flock'ed. Locks end with
 * the descriptor. exclusive=false takes LOCK_SH. With wait=false: BUSY. Returns the descriptor in
 * *ret_fd. On a read-only file system a shared lock on an existing file works.
 */
int lock_take(int dirfd, const char *name, bool exclusive, bool wait, int *ret_fd,
              struct larder_error *e);

/* Free bytes for us on the file system of fd. */
int disk_free(int fd, uint64_t *ret_bytes, struct larder_error *e);
/* mkdir -p of an absolute or relative path. */
int path_make(const char *path, mode_t mode, struct larder_error *e);
/* Absolute path with . and .. and symlinks resolved in the directory part only (last component
 * kept). malloc'd. */
int path_absolute(const char *path, char **ret, struct larder_error *e);
