/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Progress on standard error: one line that is redrawn on a terminal, now and then a line of text
 * elsewhere when asked for.
 *
 *     debian-13  [=========>          ] 212 MiB/620 MiB  34%  88 MiB/s  0:05
 */
#include <stdbool.h>
#include <stdint.h>

#include <larder/observer.h>

#include "base/buf.h"

struct progress {
    bool is_bar;          /* redraw one line */
    bool is_lines;        /* a plain line every PROGRESS_LINE_NS */
    bool is_shown;        /* the bar is on the screen now */
    char what[16];        /* of the running operation */
    uint64_t first_bytes; /* done when this run began to count */
    uint64_t last_bytes;
    int64_t begin_ns; /* monotonic */
    int64_t last_ns;
    int64_t drawn_ns;
    double rate; /* smoothed, bytes a second; 0: not known yet */
};

/* Nothing is shown when is_off, or when standard error is no terminal and !is_verbose. */
void progress_init(struct progress *p, bool is_off, bool is_verbose);
void progress_update(struct progress *p, const struct larder_progress *now);
/* Takes the line off the screen: before anything else is printed, and at the end. */
void progress_clear(struct progress *p);

/* The text of one line in at most width columns (pure). rate 0: unknown. */
void progress_format(const struct larder_progress *now, double rate, unsigned width,
                     struct buf *out);
