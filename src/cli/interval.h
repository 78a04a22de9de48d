/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * For commands that do something again and again until a signal ends them.
 */
#include <stdint.h>

/* Shorter rounds would only load the servers. */
#define INTERVAL_MIN_NS 1000000000LL

/* The time, give or take a tenth: many hosts that were started together are not to ask together. */
int64_t interval_jitter(int64_t ns);
/* Ends early when a signal came (cli_caught_signal). */
void interval_wait(int64_t ns);
