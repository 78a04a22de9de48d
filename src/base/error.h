/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Making and decorating a larder_error. Every function below returns the negative code, so that a
 * failing call reads `return error_set(e, LARDER_INVAL, "name %s: ...", name);`. `e` may be NULL.
 *
 * A message names the object, then what was found and what was expected: lower case, no full stop,
 * no function names: `blob sha256:ab12: size 4096, expected 8192`. A layer adds what it knows with
 * error_context() at most once. A message that does not fit loses its oldest (rightmost) text.
 */
#include <larder/error.h>

int error_set(struct larder_error *e, enum larder_code code, const char *fmt, ...)
    LARDER_PRINTF(3, 4);
/*
 * The same from an errno value; the code follows it (ENOENT NOENT, EACCES/EPERM/EROFS DENIED,
 * ENOSPC/EDQUOT NOSPACE, ENOMEM NOMEM, EEXIST EXIST, EAGAIN/EBUSY/ETXTBSY BUSY, ENAMETOOLONG INVAL,
 * else IO) and ": strerror" is appended.
 */
int error_errno(struct larder_error *e, int errnum, const char *fmt, ...) LARDER_PRINTF(3, 4);
/* Same with the code given by the caller. */
int error_errno_code(struct larder_error *e, enum larder_code code, int errnum, const char *fmt,
                     ...) LARDER_PRINTF(4, 5);
/* Puts "text: " before the message; returns -e->code. */
int error_context(struct larder_error *e, const char *fmt, ...) LARDER_PRINTF(2, 3);
/* Replaces the hint ("run `larder fsck --repair`"); returns -e->code. */
int error_hint(struct larder_error *e, const char *fmt, ...) LARDER_PRINTF(2, 3);
/* Resets to "no error". */
void error_clear(struct larder_error *e);
/* Out of memory, without formatting anything. */
int error_nomem(struct larder_error *e);
