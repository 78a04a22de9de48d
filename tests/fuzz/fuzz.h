/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The entry point that libFuzzer (or standalone_main.c) calls, and a check that stays on whatever
 * the build says.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition) \
    do {                      \
        if (!(condition))     \
            abort();          \
    } while (0)
