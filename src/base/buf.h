/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A growable byte buffer with a mandatory maximum and a sticky error: append as often as you like,
 * check once at the end.
 *
 *     struct buf b = BUF_INIT(64 * 1024);
 *     buf_printf(&b, "%s=%d\n", key, n);
 *     if (buf_failed(&b, e) < 0) ...      // LIMIT or NOMEM
 *     char *text = buf_take(&b);          // or use b.p / b.n, then buf_done(&b)
 *
 * The content is always NUL-terminated (the NUL is not counted in n); p is NULL while empty and
 * never grown. After a failure appends do nothing.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <larder/error.h>

#include "base/slice.h"

struct buf {
    char *p;
    size_t n;
    size_t cap;
    size_t max_bytes; /* of content, without the NUL */
    enum larder_code failed;
};

#define BUF_INIT(max) ((struct buf){NULL, 0, 0, (max), LARDER_OK})

void buf_done(struct buf *b);  /* frees; usable again */
void buf_reset(struct buf *b); /* empties, keeps the memory, clears the error */
void buf_append(struct buf *b, const void *data, size_t n);
void buf_append_slice(struct buf *b, struct slice s);
void buf_puts(struct buf *b, const char *text);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) LARDER_PRINTF(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) LARDER_PRINTF(2, 0);
/* Makes room for n more bytes and returns where they go (then add to b->n); NULL on failure. */
char *buf_reserve(struct buf *b, size_t n);
/* 0, or sets e (LIMIT, NOMEM) and returns its negative code. */
int buf_failed(const struct buf *b, struct larder_error *e);
/* Transfers the memory to the caller (free()); "" is allocated when empty; NULL after a failure. */
char *buf_take(struct buf *b);
struct slice buf_slice(const struct buf *b);
