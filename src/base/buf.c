/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define BUF_FIRST_BYTES 64

void buf_done(struct buf *b)
{
    free(b->p);
    *b = BUF_INIT(b->max_bytes);
}

void buf_reset(struct buf *b)
{
    b->n = 0;
    b->failed = LARDER_OK;
    if (b->p)
        b->p[0] = 0;
}

char *buf_reserve(struct buf *b, size_t n)
{
    size_t need;
    size_t cap;
    char *p;

    if (b->failed)
        return NULL;
    if (b->n > b->max_bytes || n > b->max_bytes - b->n || b->n + n >= SIZE_MAX / 2) {
        b->failed = LARDER_LIMIT;
        return NULL;
    }
    need = b->n + n + 1;
    if (b->p && need <= b->cap)
        return b->p + b->n;
    cap = b->cap < BUF_FIRST_BYTES ? BUF_FIRST_BYTES : b->cap;
    while (cap < need)
        cap *= 2;
    /* Doubling past the maximum would only waste: content never gets there. */
    if (b->max_bytes < SIZE_MAX && cap > b->max_bytes + 1)
        cap = b->max_bytes + 1;
    p = realloc(b->p, cap);
    if (!p) {
        b->failed = LARDER_NOMEM;
        return NULL;
    }
    if (!b->p)
        p[0] = 0;
    b->p = p;
    b->cap = cap;
    return p + b->n;
}

void buf_append(struct buf *b, const void *data, size_t n)
{
    char *to = buf_reserve(b, n);

    if (!to)
        return;
    if (n)
        memcpy(to, data, n);
    to[n] = 0;
    b->n += n;
}

void buf_append_slice(struct buf *b, struct slice s)
{
    buf_append(b, s.p, s.n);
}

void buf_puts(struct buf *b, const char *text)
{
    buf_append(b, text, strlen(text));
}

void buf_putc(struct buf *b, char c)
{
    buf_append(b, &c, 1);
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    char *to;
    int n;

    if (b->failed)
        return;
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0) {
        b->failed = LARDER_NOMEM; /* what glibc runs out of here, besides INT_MAX */
        return;
    }
    to = buf_reserve(b, (size_t)n);
    if (!to)
        return;
    vsnprintf(to, (size_t)n + 1, fmt, ap);
    b->n += (size_t)n;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

int buf_failed(const struct buf *b, struct larder_error *e)
{
    if (!b->failed)
        return 0;
    if (b->failed == LARDER_NOMEM)
        return error_nomem(e);
    return error_set(e, b->failed, "text is longer than the limit of %zu bytes", b->max_bytes);
}

char *buf_take(struct buf *b)
{
    char *p;

    if (b->failed || !buf_reserve(b, 0))
        return NULL;
    p = b->p;
    *b = BUF_INIT(b->max_bytes);
    return p;
}

struct slice buf_slice(const struct buf *b)
{
    return (struct slice){b->p, b->n};
}
