/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"

#define PROGRESS_DRAW_NS (100 * NS_PER_MS)
#define PROGRESS_LINE_NS (10 * NS_PER_S)
/* Nothing is shown of what is over sooner: a hit has no bar. */
#define PROGRESS_QUIET_NS (300 * NS_PER_MS)
/* The rate forgets with this time constant. */
#define PROGRESS_RATE_S 3.0

#define BAR_COLUMNS_MIN  8
#define BAR_COLUMNS_MAX  40
#define NAME_COLUMNS_MIN 8
#define WIDTH_DEFAULT    80
#define LINE_BYTES_MAX   4096

void progress_init(struct progress *p, bool is_off, bool is_verbose)
{
    const char *term = getenv("TERM");
    bool is_terminal = isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);

    memset(p, 0, sizeof(*p));
    p->is_bar = !is_off && is_terminal;
    p->is_lines = !is_off && !is_terminal && is_verbose;
}

static unsigned terminal_width(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return WIDTH_DEFAULT;
}

static void format_eta(double seconds, struct buf *out)
{
    unsigned long s;

    if (seconds > 360000) { /* a hundred hours: as good as not known */
        buf_puts(out, "--:--");
        return;
    }
    s = (unsigned long)(seconds + 0.5);
    if (s >= 3600)
        buf_printf(out, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
    else
        buf_printf(out, "%lu:%02lu", s / 60, s % 60);
}

static unsigned percent(const struct larder_progress *now)
{
    return (unsigned)((double)now->done_bytes * 100 / (double)now->total_bytes);
}

/* The numbers, most wanted first, so that a narrow terminal loses the least. level 2 is all. */
static void format_numbers(const struct larder_progress *now, double rate, int level,
                           struct buf *out)
{
    char text[32];

    if (now->done_bytes == 0 && now->total_bytes == 0)
        return; /* waiting for somebody else: nothing to count */
    if (now->total_bytes && level < 1) {
        buf_printf(out, "%3u%%", percent(now));
    } else {
        buf_puts(out, size_format(now->done_bytes, text));
        if (now->total_bytes) {
            buf_printf(out, "/%s", size_format(now->total_bytes, text));
            buf_printf(out, " %3u%%", percent(now));
        }
    }
    if (level >= 2 && rate > 0)
        buf_printf(out, "  %s/s", size_format((uint64_t)rate, text));
    if (rate > 0 && now->total_bytes > now->done_bytes) {
        buf_puts(out, "  ");
        format_eta((double)(now->total_bytes - now->done_bytes) / rate, out);
    }
    if (level >= 2 && now->resumed_bytes)
        buf_printf(out, "  resumed at %s", size_format(now->resumed_bytes, text));
}

/* [####====>    ]: # was there before this run, = is new. */
static void format_bar(const struct larder_progress *now, unsigned columns, struct buf *out)
{
    unsigned full = (unsigned)((double)now->done_bytes / (double)now->total_bytes * columns);
    unsigned resumed = (unsigned)((double)now->resumed_bytes / (double)now->total_bytes * columns);

    buf_puts(out, "  [");
    for (unsigned i = 0; i < columns; i++)
        buf_putc(out, i < resumed && i < full ? '#' : i < full ? '=' : i == full ? '>' : ' ');
    buf_puts(out, "] ");
}

/* The end of a name tells more than its beginning (a URL's file, a digest's digits differ either
 * way). Cuts between characters. */
static void format_name(const char *name, size_t columns, struct buf *out)
{
    struct buf clean = BUF_INIT(LINE_BYTES_MAX);
    size_t width = 0;
    const char *p;

    text_sanitize(slice_of(name), &clean);
    for (p = clean.p; p && *p; p++)
        width += ((unsigned char)*p & 0xc0) != 0x80;
    p = clean.p;
    if (p && width > columns) {
        for (size_t skip = width - columns + 2; skip && *p; skip--) {
            do {
                p++;
            } while (((unsigned char)*p & 0xc0) == 0x80);
        }
        buf_puts(out, "..");
    }
    if (p)
        buf_puts(out, p);
    buf_done(&clean);
}

void progress_format(const struct larder_progress *now, double rate, unsigned width,
                     struct buf *out)
{
    struct buf numbers = BUF_INIT(LINE_BYTES_MAX);
    size_t name_columns = strlen(now->object ? now->object : now->what);
    size_t rest;

    for (int level = 2; level >= 0; level--) {
        buf_reset(&numbers);
        format_numbers(now, rate, level, &numbers);
        if (numbers.n + 2 + strlen(now->what) + 1 + NAME_COLUMNS_MIN <= width)
            break;
    }
    rest = width > numbers.n + 2 + strlen(now->what) + 1
               ? width - numbers.n - 2 - strlen(now->what) - 1
               : 0;
    if (rest >= NAME_COLUMNS_MIN) {
        buf_printf(out, "%s ", now->what);
        if (name_columns > rest)
            name_columns = rest;
        /* A long name gives room to the bar, down to half of what there is. */
        if (now->total_bytes && rest > 2 * (BAR_COLUMNS_MIN + 5) && name_columns > rest / 2)
            name_columns = rest / 2;
        format_name(now->object ? now->object : "", name_columns, out);
        rest -= name_columns;
        if (now->total_bytes && rest >= BAR_COLUMNS_MIN + 3)
            format_bar(now, rest - 3 < BAR_COLUMNS_MAX ? (unsigned)rest - 3 : BAR_COLUMNS_MAX, out);
        else
            buf_puts(out, "  ");
    }
    if (numbers.n <= width)
        buf_append_slice(out, buf_slice(&numbers));
    buf_done(&numbers);
}

static void measure(struct progress *p, const struct larder_progress *now, int64_t at_ns)
{
    double seconds = (double)(at_ns - p->last_ns) / (double)NS_PER_S;
    double weight;
    double rate;

    if (seconds < 0.05 || now->done_bytes < p->last_bytes)
        return;
    rate = (double)(now->done_bytes - p->last_bytes) / seconds;
    weight = seconds / (seconds + PROGRESS_RATE_S);
    p->rate = p->rate > 0 ? p->rate + (rate - p->rate) * weight : rate;
    p->last_ns = at_ns;
    p->last_bytes = now->done_bytes;
}

static void begin(struct progress *p, const struct larder_progress *now, int64_t at_ns)
{
    snprintf(p->what, sizeof(p->what), "%s", now->what);
    p->first_bytes = p->last_bytes = now->done_bytes;
    p->begin_ns = p->last_ns = at_ns;
    p->drawn_ns = at_ns;
    p->rate = 0;
}

static void draw(struct progress *p, const struct larder_progress *now)
{
    struct buf line = BUF_INIT(LINE_BYTES_MAX);

    /* The last column stays free: writing it makes some terminals wrap. */
    progress_format(now, p->rate, terminal_width() - 1, &line);
    if (line.n) {
        fprintf(stderr, "\r%s\033[K", line.p);
        p->is_shown = true;
    }
    buf_done(&line);
}

void progress_update(struct progress *p, const struct larder_progress *now)
{
    int64_t at_ns;

    if (!p->is_bar && !p->is_lines)
        return;
    at_ns = clock_monotonic_ns();
    if (strncmp(p->what, now->what, sizeof(p->what) - 1) != 0)
        begin(p, now, at_ns);
    measure(p, now, at_ns);
    if (now->is_finished) {
        progress_clear(p);
        p->what[0] = 0;
        return;
    }
    if (at_ns - p->begin_ns < PROGRESS_QUIET_NS)
        return;
    if (at_ns - p->drawn_ns < (p->is_bar ? PROGRESS_DRAW_NS : PROGRESS_LINE_NS))
        return;
    p->drawn_ns = at_ns;
    if (p->is_bar) {
        draw(p, now);
    } else {
        struct buf line = BUF_INIT(LINE_BYTES_MAX);

        buf_printf(&line, "%s %s: ", now->what, now->object ? now->object : "");
        format_numbers(now, p->rate, 2, &line);
        if (line.n)
            fprintf(stderr, "larder: %s\n", line.p);
        buf_done(&line);
    }
}

void progress_clear(struct progress *p)
{
    if (!p->is_shown)
        return;
    fputs("\r\033[K", stderr);
    p->is_shown = false;
}
