/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Time: always int64_t nanoseconds. Wall-clock for files and people, monotonic for waiting.
 */
#include <stdint.h>

#define NS_PER_MS 1000000LL
#define NS_PER_S  1000000000LL

int64_t clock_realtime_ns(void);
int64_t clock_monotonic_ns(void);
/* The kernel's coarse wall clock: what older kernels stamp files with. */
int64_t clock_coarse_ns(void);
void clock_sleep_ns(int64_t ns);
