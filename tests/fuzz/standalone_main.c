/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays files through a fuzz target where libFuzzer is not available: arguments are files, those
 * that begin with '-' (libFuzzer's options) are skipped.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fuzz.h"

#define INPUT_BYTES_MAX (4 * 1024 * 1024)

static int replay(const char *path, uint8_t *data)
{
    FILE *file = fopen(path, "rbe");

    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    size_t n = fread(data, 1, INPUT_BYTES_MAX, file);
    fclose(file);
    /* A copy of just this length, so that reading behind it is seen. */
    uint8_t *input = malloc(n > 0 ? n : 1);
    if (!input)
        return 1;
    memcpy(input, data, n);
    (void)LLVMFuzzerTestOneInput(input, n);
    free(input);
    return 0;
}

int main(int argc, char **argv)
{
    uint8_t *data = malloc(INPUT_BYTES_MAX);
    int failed = data ? 0 : 1;

    for (int i = 1; i < argc && data; i++) {
        if (argv[i][0] != '-')
            failed |= replay(argv[i], data);
    }
    free(data);
    return failed;
}
