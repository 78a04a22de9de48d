/* SPDX-License-Identifier: Apache-2.0 */
/* The part of text.h about quantities: sizes, durations, times. */
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

/* "1.234567T" is exact to the byte or so; more digits are a mistake. 10^6 * 2^40 fits 64 bits. */
#define FRACTION_DIGITS_MAX 6

/* Digits from *p on; false when there is none or the value overflows. */
static bool take_number(const char **p, uint64_t *ret)
{
    const char *start = *p;

    while (**p >= '0' && **p <= '9')
        (*p)++;
    return slice_parse_u64((struct slice){start, (size_t)(*p - start)}, ret);
}

/* Factor of "", "K", "KiB", "kB", ...; 0 for anything else. */
static uint64_t size_factor(const char *unit)
{
    static const char letters[] = "KMGT";
    uint64_t thousands = 1;
    uint64_t binary = 1;
    const char *letter;

    if (!*unit || strcmp(unit, "B") == 0)
        return 1;
    letter = memchr(letters, *unit >= 'a' ? *unit - 'a' + 'A' : *unit, sizeof(letters) - 1);
    if (!letter)
        return 0;
    for (const char *p = letters; p <= letter; p++) {
        thousands *= 1000;
        binary *= 1024;
    }
    if (!unit[1] || strcmp(unit + 1, "iB") == 0)
        return binary;
    return strcmp(unit + 1, "B") == 0 ? thousands : 0;
}

int size_parse(const char *text, uint64_t *ret_bytes, struct larder_error *e)
{
    const char *p = text;
    uint64_t fraction = 0;
    uint64_t scale = 1;
    uint64_t whole;
    uint64_t factor;

    if (!take_number(&p, &whole))
        goto out;
    if (*p == '.') {
        const char *start = ++p;

        if (!take_number(&p, &fraction) || p - start > FRACTION_DIGITS_MAX)
            goto out;
        for (const char *digit = start; digit < p; digit++)
            scale *= 10;
    }
    if (p[0] == ' ' && p[1])
        p++;
    factor = size_factor(p);
    if (factor == 0 || (factor == 1 && scale > 1) ||
        __builtin_mul_overflow(whole, factor, &whole) ||
        __builtin_add_overflow(whole, fraction * factor / scale, &whole))
        goto out;
    *ret_bytes = whole;
    return 0;
out:
    return error_set(e, LARDER_INVAL,
                     "size \"%.40s\": expected a number of bytes, or with K, M, G or T", text);
}

char *size_format(uint64_t bytes, char out[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    uint64_t one = 1;
    uint64_t tenths;
    size_t unit = 0;

    if (bytes < 1024) {
        snprintf(out, 32, "%u B", (unsigned)bytes);
        return out;
    }
    do {
        one *= 1024;
        unit++;
        tenths = bytes / one * 10 + (bytes % one * 10 + one / 2) / one;
        /* 1023.96 KiB would be shown as 1024.0 KiB */
    } while (tenths >= 10240 && unit + 1 < ARRAY_LEN(units));
    snprintf(out, 32, "%u.%u %s", (unsigned)(tenths / 10), (unsigned)(tenths % 10), units[unit]);
    return out;
}

char *size_format_si(uint64_t bytes, char out[32])
{
    static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    uint64_t one = 1000;
    size_t unit = 0;

    if (bytes < 1000) {
        snprintf(out, 32, "%u byte%s", (unsigned)bytes, bytes == 1 ? "" : "s");
        return out;
    }
    while (unit + 1 < ARRAY_LEN(units) && bytes / one >= 1000) {
        one *= 1000;
        unit++;
    }
    /* In double, and 999999 as "1000.0 kB": GLib's numbers to the digit are what is wanted. */
    snprintf(out, 32, "%.1f %s", (double)bytes / (double)one, units[unit]);
    return out;
}

/* From large to small; the first is only read, nobody counts in weeks. */
static const struct {
    const char *name;
    int64_t ns;
} duration_units[] = {
    {"w", 7 * 86400 * NS_PER_S},
    {"d", 86400 * NS_PER_S},
    {"h", 3600 * NS_PER_S},
    {"m", 60 * NS_PER_S},
    {"s", NS_PER_S},
    {"ms", NS_PER_MS},
    {"us", 1000},
    {"ns", 1},
};

/* Index of the unit at *p, at or after `from`; -1 when there is none. */
static int take_duration_unit(const char **p, size_t from)
{
    size_t n = 0;

    while ((*p)[n] >= 'a' && (*p)[n] <= 'z')
        n++;
    for (size_t i = from; i < ARRAY_LEN(duration_units); i++) {
        if (slice_equal((struct slice){*p, n}, slice_of(duration_units[i].name))) {
            *p += n;
            return (int)i;
        }
    }
    return -1;
}

int duration_parse(const char *text, int64_t *ret_ns, struct larder_error *e)
{
    const char *p = text;
    int64_t total = 0;
    size_t from = 0;

    if (strcmp(text, "0") == 0 || strcmp(text, "always") == 0) {
        *ret_ns = 0;
        return 0;
    }
    if (strcmp(text, "never") == 0) {
        *ret_ns = INT64_MAX;
        return 0;
    }
    do {
        uint64_t number;
        int64_t part;
        int unit;

        if (!take_number(&p, &number))
            goto out;
        unit = take_duration_unit(&p, from);
        if (unit < 0)
            goto out;
        /* INT64_MAX itself means "never" and is not a length. */
        if (__builtin_mul_overflow(number, duration_units[unit].ns, &part) ||
            __builtin_add_overflow(total, part, &total) || total == INT64_MAX)
            goto out;
        from = (size_t)unit + 1;
    } while (*p);
    *ret_ns = total;
    return 0;
out:
    return error_set(e, LARDER_INVAL,
                     "duration \"%.40s\": expected a number with w, d, h, m, s or ms (like 1h30m),"
                     " always or never",
                     text);
}

char *duration_format(int64_t ns, char out[32])
{
    size_t i = 1;
    int64_t first;
    int64_t second;

    if (ns == INT64_MAX) {
        memcpy(out, "never", sizeof "never");
        return out;
    }
    if (ns <= 0) {
        memcpy(out, "0s", sizeof "0s");
        return out;
    }
    while (ns < duration_units[i].ns)
        i++;
    first = ns / duration_units[i].ns;
    second = i + 1 < ARRAY_LEN(duration_units)
                 ? ns % duration_units[i].ns / duration_units[i + 1].ns
                 : 0;
    if (second)
        snprintf(out, 32, "%u%s%u%s", (unsigned)first, duration_units[i].name, (unsigned)second,
                 duration_units[i + 1].name);
    else
        snprintf(out, 32, "%u%s", (unsigned)first, duration_units[i].name);
    return out;
}

char *duration_format_exact(int64_t ns, char out[32])
{
    size_t i = 4;

    if (ns == INT64_MAX || ns <= 0)
        return duration_format(ns, out);
    while (ns % duration_units[i].ns)
        i++;
    snprintf(out, 32, "%lld%s", (long long)(ns / duration_units[i].ns), duration_units[i].name);
    return out;
}

char *time_format(int64_t realtime_ns, char out[40])
{
    int64_t ns = realtime_ns % NS_PER_S;
    time_t s = (time_t)(realtime_ns / NS_PER_S);
    struct tm tm;
    size_t n;

    if (ns < 0) {
        ns += NS_PER_S;
        s--;
    }
    gmtime_r(&s, &tm);
    n = strftime(out, 40, "%Y-%m-%dT%H:%M:%S", &tm);
    if (ns)
        snprintf(out + n, 40 - n, ".%09uZ", (unsigned)ns);
    else
        snprintf(out + n, 40 - n, "Z");
    return out;
}

/* Exactly n digits at *p. */
static bool take_digits(const char **p, int n, int *ret)
{
    int value = 0;

    for (int i = 0; i < n; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        value = value * 10 + (**p - '0');
    }
    *ret = value;
    return true;
}

static bool take_text(const char **p, const char *text)
{
    size_t n = strlen(text);

    if (strncmp(*p, text, n) != 0)
        return false;
    *p += n;
    return true;
}

static bool take_clock(const char **p, struct tm *tm)
{
    return take_digits(p, 2, &tm->tm_hour) && take_text(p, ":") && take_digits(p, 2, &tm->tm_min) &&
           take_text(p, ":") && take_digits(p, 2, &tm->tm_sec);
}

/* Year as in the calendar, month from 1; refuses days and times that do not exist. */
static bool to_realtime(struct tm tm, int64_t fraction_ns, int offset_s, int64_t *ret)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = (tm.tm_year % 4 == 0 && tm.tm_year % 100 != 0) || tm.tm_year % 400 == 0;
    int64_t ns;

    if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 ||
        tm.tm_mday > days[tm.tm_mon - 1] + (is_leap && tm.tm_mon == 2 ? 1 : 0))
        return false;
    /* RFC 3339 section 5.7: a leap second is written :60 */
    if (tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    if (__builtin_mul_overflow((int64_t)timegm(&tm) - offset_s, NS_PER_S, &ns) ||
        __builtin_add_overflow(ns, fraction_ns, &ns))
        return false;
    *ret = ns;
    return true;
}

/* ".5" to nanoseconds; digits beyond the ninth are dropped. */
static bool take_fraction(const char **p, int64_t *ret_ns)
{
    int64_t unit = NS_PER_S / 10;
    int64_t ns = 0;
    int digit;

    do {
        if (!take_digits(p, 1, &digit))
            return false;
        ns += digit * unit;
        unit /= 10;
    } while (**p >= '0' && **p <= '9');
    *ret_ns = ns;
    return true;
}

/* "Z" or "+01:30" */
static bool take_offset(const char **p, int *ret_s)
{
    bool is_west = **p == '-';
    int hours;
    int minutes;

    if (take_text(p, "Z")) {
        *ret_s = 0;
        return true;
    }
    if (!take_text(p, "+") && !take_text(p, "-"))
        return false;
    if (!take_digits(p, 2, &hours) || !take_text(p, ":") || !take_digits(p, 2, &minutes) ||
        hours > 23 || minutes > 59)
        return false;
    *ret_s = (hours * 60 + minutes) * (is_west ? -60 : 60);
    return true;
}

bool time_parse(const char *text, int64_t *ret_realtime_ns)
{
    const char *p = text;
    int64_t fraction_ns = 0;
    struct tm tm = {0};
    int offset_s;

    if (!take_digits(&p, 4, &tm.tm_year) || !take_text(&p, "-") ||
        !take_digits(&p, 2, &tm.tm_mon) || !take_text(&p, "-") ||
        !take_digits(&p, 2, &tm.tm_mday) || !take_text(&p, "T") || !take_clock(&p, &tm))
        return false;
    if (take_text(&p, ".") && !take_fraction(&p, &fraction_ns))
        return false;
    if (!take_offset(&p, &offset_s) || *p)
        return false;
    return to_realtime(tm, fraction_ns, offset_s, ret_realtime_ns);
}

static bool take_month(const char **p, int *ret)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (int i = 0; i < 12; i++) {
        if (strncmp(*p, names + (ptrdiff_t)3 * i, 3) == 0) {
            *p += 3;
            *ret = i + 1;
            return true;
        }
    }
    return false;
}

/* "06 Nov 1994 08:49:37 GMT": IMF-fixdate after the comma */
static bool take_imf_date(const char *p, struct tm *tm)
{
    return take_digits(&p, 2, &tm->tm_mday) && take_text(&p, " ") && take_month(&p, &tm->tm_mon) &&
           take_text(&p, " ") && take_digits(&p, 4, &tm->tm_year) && take_text(&p, " ") &&
           take_clock(&p, tm) && take_text(&p, " GMT") && !*p;
}

/* "06-Nov-94 08:49:37 GMT": RFC 850 after the comma. Only dates up to 2069 are read this way. */
static bool take_rfc850_date(const char *p, struct tm *tm)
{
    if (!take_digits(&p, 2, &tm->tm_mday) || !take_text(&p, "-") || !take_month(&p, &tm->tm_mon) ||
        !take_text(&p, "-") || !take_digits(&p, 2, &tm->tm_year) || !take_text(&p, " ") ||
        !take_clock(&p, tm) || !take_text(&p, " GMT") || *p)
        return false;
    tm->tm_year += tm->tm_year < 70 ? 2000 : 1900;
    return true;
}

/* "Nov  6 08:49:37 1994": asctime after the day's name */
static bool take_asctime_date(const char *p, struct tm *tm)
{
    if (!take_month(&p, &tm->tm_mon) || !take_text(&p, " "))
        return false;
    if (!take_digits(&p, take_text(&p, " ") ? 1 : 2, &tm->tm_mday))
        return false;
    return take_text(&p, " ") && take_clock(&p, tm) && take_text(&p, " ") &&
           take_digits(&p, 4, &tm->tm_year) && !*p;
}

/* RFC 9110 section 5.6.7: all three forms must be understood. The day's name is not judged. */
bool http_date_parse(const char *text, int64_t *ret_realtime_ns)
{
    const char *p = text;
    struct tm tm = {0};

    while ((*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z'))
        p++;
    if (p == text)
        return false;
    if (take_text(&p, ", ")) {
        if (!take_imf_date(p, &tm) && !take_rfc850_date(p, &tm))
            return false;
    } else if (!take_text(&p, " ") || !take_asctime_date(p, &tm)) {
        return false;
    }
    return to_realtime(tm, 0, 0, ret_realtime_ns);
}
