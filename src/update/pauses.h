/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Registries that asked to be left alone, from one round of checks to the next.
 *
 * Times are of the monotonic clock: no clock that is set makes a pause longer or shorter. Threads:
 * one at a time.
 */
#include <larder/update.h>

/* For so long from now, a day at most; replaces what was said before, 0 or less changes nothing. */
int pauses_add(struct larder_update_pauses *pauses, const char *host, int64_t for_ns,
               struct larder_error *e);
/* How long host's pause lasts beyond at_ns; 0: it is over, or there is none. pauses may be NULL. */
int64_t pauses_left(const struct larder_update_pauses *pauses, const char *host, int64_t at_ns);
