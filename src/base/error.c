/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* U+2026, shown where a text was cut. */
#define ELLIPSIS       "\xe2\x80\xa6"
#define ELLIPSIS_BYTES 3

static const char *const code_names[] = {
    [LARDER_OK] = "ok",
    [LARDER_INVAL] = "invalid",
    [LARDER_NOENT] = "not-found",
    [LARDER_EXIST] = "exists",
    [LARDER_OUTDATED] = "outdated",
    [LARDER_CORRUPT] = "corrupt",
    [LARDER_MISMATCH] = "mismatch",
    [LARDER_GONE] = "gone",
    [LARDER_BUSY] = "busy",
    [LARDER_UNREACHABLE] = "unreachable",
    [LARDER_AUTH] = "auth",
    [LARDER_DENIED] = "denied",
    [LARDER_NOSPACE] = "no-space",
    [LARDER_IO] = "io",
    [LARDER_PROTO] = "protocol",
    [LARDER_LIMIT] = "limit",
    [LARDER_UNSAFE] = "unsafe",
    [LARDER_UNSUPPORTED] = "unsupported",
    [LARDER_CANCELED] = "canceled",
    [LARDER_NOMEM] = "no-memory",
};
_Static_assert(sizeof(code_names) / sizeof(code_names[0]) == LARDER_CODE_MAX, "a name each");

const char *larder_code_name(enum larder_code code)
{
    if ((unsigned)code >= LARDER_CODE_MAX)
        return "unknown";
    return code_names[code];
}

int larder_exit_code(enum larder_code code)
{
    switch (code) {
    case LARDER_OK:
        return 0;
    case LARDER_INVAL:
        return 2;
    case LARDER_NOENT:
        return 3;
    case LARDER_OUTDATED:
        return 4;
    case LARDER_CORRUPT:
    case LARDER_MISMATCH:
        return 5;
    case LARDER_GONE:
        return 6;
    case LARDER_BUSY:
        return 7;
    case LARDER_UNREACHABLE:
        return 8;
    case LARDER_EXIST:
    case LARDER_AUTH:
    case LARDER_DENIED:
    case LARDER_NOSPACE:
    case LARDER_IO:
    case LARDER_PROTO:
    case LARDER_LIMIT:
    case LARDER_UNSAFE:
    case LARDER_UNSUPPORTED:
    case LARDER_CANCELED:
    case LARDER_NOMEM:
    case LARDER_CODE_MAX:
        break;
    }
    return 1;
}

/*
 * Ends a text of which only the first bytes fit into out[cap]. The cut is moved back to where a
 * character begins, so that a message never ends in half of one.
 */
static void mark_cut(char *out, size_t cap)
{
    size_t at = cap - 1 - ELLIPSIS_BYTES;

    while (at > 0 && ((unsigned char)out[at] & 0xc0) == 0x80)
        at--;
    memcpy(out + at, ELLIPSIS, ELLIPSIS_BYTES + 1);
}

/* Appends to out, which holds used bytes; returns the new used, cap when it was cut. */
static size_t append(char *out, size_t cap, size_t used, const char *text)
{
    size_t n = strlen(text);

    if (used >= cap)
        return cap;
    if (n < cap - used) {
        memcpy(out + used, text, n + 1);
        return used + n;
    }
    memcpy(out + used, text, cap - used - 1);
    out[cap - 1] = 0;
    mark_cut(out, cap);
    return cap;
}

LARDER_PRINTF(3, 0)
static size_t format(char *out, size_t cap, const char *fmt, va_list ap)
{
    int n = vsnprintf(out, cap, fmt, ap);

    if (n < 0) {
        out[0] = 0; /* an encoding error: the code must do */
        return 0;
    }
    if ((size_t)n >= cap) {
        mark_cut(out, cap);
        return cap;
    }
    return (size_t)n;
}

/* Formats beside e first: the arguments may point into e->msg. */
LARDER_PRINTF(4, 0)
static int set(struct larder_error *e, enum larder_code code, int errnum, const char *fmt,
               va_list ap)
{
    char text[LARDER_ERROR_MSG_BYTES];
    char reason[128];
    size_t used;

    if (!e)
        return -(int)code;
    used = format(text, sizeof(text), fmt, ap);
    if (errnum) {
        used = append(text, sizeof(text), used, ": ");
        append(text, sizeof(text), used, strerror_r(errnum, reason, sizeof(reason)));
    }
    e->code = code;
    e->sys_errno = errnum;
    e->http_status = 0;
    memcpy(e->msg, text, sizeof(text));
    e->hint[0] = 0;
    return -(int)code;
}

static enum larder_code code_of_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
        return LARDER_NOENT;
    case EACCES:
    case EPERM:
    case EROFS:
        return LARDER_DENIED;
    case ENOSPC:
    case EDQUOT:
        return LARDER_NOSPACE;
    case ENOMEM:
        return LARDER_NOMEM;
    case EEXIST:
        return LARDER_EXIST;
    case EAGAIN:
    case EBUSY:
    case ETXTBSY:
        return LARDER_BUSY;
    case ENAMETOOLONG:
        return LARDER_INVAL;
    default:
        return LARDER_IO;
    }
}

int error_set(struct larder_error *e, enum larder_code code, const char *fmt, ...)
{
    va_list ap;
    int rc;

    va_start(ap, fmt);
    rc = set(e, code, 0, fmt, ap);
    va_end(ap);
    return rc;
}

int error_errno(struct larder_error *e, int errnum, const char *fmt, ...)
{
    va_list ap;
    int rc;

    va_start(ap, fmt);
    rc = set(e, code_of_errno(errnum), errnum, fmt, ap);
    va_end(ap);
    return rc;
}

int error_errno_code(struct larder_error *e, enum larder_code code, int errnum, const char *fmt,
                     ...)
{
    va_list ap;
    int rc;

    va_start(ap, fmt);
    rc = set(e, code, errnum, fmt, ap);
    va_end(ap);
    return rc;
}

int error_context(struct larder_error *e, const char *fmt, ...)
{
    char text[LARDER_ERROR_MSG_BYTES];
    size_t used;
    va_list ap;

    if (!e)
        return -LARDER_IO;
    va_start(ap, fmt);
    used = format(text, sizeof(text), fmt, ap);
    va_end(ap);
    used = append(text, sizeof(text), used, ": ");
    append(text, sizeof(text), used, e->msg);
    memcpy(e->msg, text, sizeof(text));
    return -(int)e->code;
}

int error_hint(struct larder_error *e, const char *fmt, ...)
{
    char text[LARDER_ERROR_HINT_BYTES];
    va_list ap;

    if (!e)
        return -LARDER_IO;
    va_start(ap, fmt);
    format(text, sizeof(text), fmt, ap);
    va_end(ap);
    memcpy(e->hint, text, sizeof(text));
    return -(int)e->code;
}

void error_clear(struct larder_error *e)
{
    if (!e)
        return;
    e->code = LARDER_OK;
    e->sys_errno = 0;
    e->http_status = 0;
    e->msg[0] = 0;
    e->hint[0] = 0;
}

int error_nomem(struct larder_error *e)
{
    static const char text[] = "out of memory";

    if (!e)
        return -LARDER_NOMEM;
    error_clear(e);
    e->code = LARDER_NOMEM;
    e->sys_errno = ENOMEM;
    memcpy(e->msg, text, sizeof(text));
    return -LARDER_NOMEM;
}
