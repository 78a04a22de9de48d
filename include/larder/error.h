/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * How liblarder reports failure.
 *
 * Calling sequence:
 *
 *     struct larder_error e = LARDER_ERROR_INIT;
 *     if (larder_store_open(path, NULL, &store, &e) < 0) {
 *         fprintf(stderr, "%s\n", e.msg);
 *         return larder_exit_code(e.code);
 *     }
 *
 * The error is a value owned by the caller, always the last parameter, and may be NULL. It needs no
 * allocation, so "out of memory" can be reported too. Functions return 0 (or a count) or the
 * negative of a larder_code. On failure no output parameter is changed. The library never prints
 * and never exits.
 *
 * Threads: a larder_error belongs to one call at a time.
 */
#include <larder/visibility.h>

LARDER_BEGIN_DECLS

/* What a caller can act on; finer detail is in the message and in sys_errno / http_status. */
enum larder_code {
    LARDER_OK = 0,
    LARDER_INVAL,       /* an argument, a name, a config value or a file's syntax is wrong */
    LARDER_NOENT,       /* the named object does not exist (and this is known, not guessed) */
    LARDER_EXIST,       /* it exists already and was not to be replaced */
    LARDER_OUTDATED,    /* upstream has other bytes now */
    LARDER_CORRUPT,     /* bytes differ from their recorded digest, size or format */
    LARDER_MISMATCH,    /* upstream contradicts itself: bytes and published digest differ */
    LARDER_GONE,        /* upstream says it is not (no longer) there */
    LARDER_BUSY,        /* in use, or locked by another process */
    LARDER_UNREACHABLE, /* network or server failure: nothing is known about the object */
    LARDER_AUTH,        /* credentials or a signature were missing or refused */
    LARDER_DENIED,      /* the local system forbids it (permission, read-only, foreign owner) */
    LARDER_NOSPACE,     /* disk or quota full, or would be */
    LARDER_IO,          /* any other failure of the local system */
    LARDER_PROTO,       /* a peer broke the protocol */
    LARDER_LIMIT,       /* a documented limit was exceeded by the input */
    LARDER_UNSAFE,      /* refused because using it could harm (backing file, signature...) */
    LARDER_UNSUPPORTED, /* known but not built in, or a newer format */
    LARDER_CANCELED,    /* the caller asked to stop */
    LARDER_NOMEM,       /* out of memory */
    LARDER_CODE_MAX
};

#define LARDER_ERROR_MSG_BYTES  512
#define LARDER_ERROR_HINT_BYTES 192

struct larder_error {
    enum larder_code code;
    int sys_errno;                      /* errno behind it, or 0 */
    int http_status;                    /* HTTP status behind it, or 0 */
    char msg[LARDER_ERROR_MSG_BYTES];   /* "object: found, expected": lower case, no full stop */
    char hint[LARDER_ERROR_HINT_BYTES]; /* what to do next, or "" */
};

#define LARDER_ERROR_INIT       \
    {                           \
        LARDER_OK, 0, 0, "", "" \
    }

/* Stable lower-case name of a code ("corrupt"), never NULL. */
LARDER_API const char *larder_code_name(enum larder_code code);

/*
 * Exit status of a command that ended with this code: 0 done, 1 failed, 2 usage, 3 not found,
 * 4 outdated, 5 corrupt, 6 gone upstream, 7 busy, 8 unknown/offline (table in larder(1)).
 */
LARDER_API int larder_exit_code(enum larder_code code);

LARDER_END_DECLS
