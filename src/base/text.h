/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Text forms of values: hex, base64, sizes, durations, times, names as file names.
 */
#include <stdbool.h>
#include <stdint.h>

#include <larder/digest.h>
#include <larder/error.h>

#include "base/buf.h"
#include "base/slice.h"

/* 0 to 15 of a hex digit of any case; -1 for anything else. */
int hex_value(char c);
/* Hex of any case; false unless exactly 2 * n digits. */
bool hex_decode(struct slice hex, uint8_t *ret, size_t n);
/* Lower case; out holds 2 * n + 1. */
void hex_encode(const uint8_t *data, size_t n, char *out);
/* RFC 4648 standard alphabet, padding optional; false unless it decodes to exactly n bytes. */
bool base64_decode_exact(struct slice text, uint8_t *ret, size_t n);
/* Appends the padded text. */
void base64_encode(const void *data, size_t n, struct buf *out);

/* "200G", "1.5T", "4096": powers of 1024 for K M G T (also KiB..., kB as 1000s). INVAL. */
int size_parse(const char *text, uint64_t *ret_bytes, struct larder_error *e);
/* "1.5 GiB"; returns out (32 bytes). */
char *size_format(uint64_t bytes, char out[32]);
/* "1 byte", "999 bytes", "1.0 kB", "684.5 MB": powers of 1000, as GLib's g_format_size() but with a
 * plain blank; for lines that others print, too. Returns out. */
char *size_format_si(uint64_t bytes, char out[32]);
/* "7d", "1h", "90s", "1w", "250ms", "1h30m", "0"; "always" is 0, "never" is INT64_MAX. INVAL. */
int duration_parse(const char *text, int64_t *ret_ns, struct larder_error *e);
/* "7d", "1h30m": the two largest units; "never" for INT64_MAX; returns out (32 bytes). */
char *duration_format(int64_t ns, char out[32]);
/* Exact inverse of duration_parse (for files): "604800s". */
char *duration_format_exact(int64_t ns, char out[32]);

/* RFC 3339 in UTC, with nanoseconds when there are any; out 40 bytes. */
char *time_format(int64_t realtime_ns, char out[40]);
bool time_parse(const char *text, int64_t *ret_realtime_ns);
/* RFC 9110 date ("Sun, 06 Nov 1994 08:49:37 GMT"), as in Last-Modified. */
bool http_date_parse(const char *text, int64_t *ret_realtime_ns);

/*
 * A name as one file name: bytes outside [A-Za-z0-9._@+-] become %XX, a leading '.' too, so that
 * every name has exactly one file and no file leaves its directory. INVAL when the result is
 * longer than 200 bytes or the name is empty.
 */
int filename_escape(const char *name, struct buf *out, struct larder_error *e);
bool filename_unescape(const char *file, struct buf *out);

/* Text for a terminal or a log: control bytes, escape sequences and bad UTF-8 become \xHH. */
void text_sanitize(struct slice s, struct buf *out);
/* strdup() into *ret; NULL gives NULL. NOMEM, and then *ret is NULL. */
int text_copy(const char *text, char **ret, struct larder_error *e);
/* URL without user:password, and without query values that look like credentials. */
void url_redact(const char *url, struct buf *out);
/* Text for people, with every http(s) URL in it as url_redact() has it; the rest sanitized. */
void text_redact(const char *text, struct buf *out);
