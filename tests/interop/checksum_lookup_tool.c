/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For checksum_vs_coreutils.py: reads requests from standard input, one a line, "FILE\tIMAGE" in
 * hex, parses the checksum FILE and prints the digests of IMAGE ("sha256:..."), or "error N".
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "image/checksum/checksum_file.h"

#define TEXT_BYTES_MAX 65536

static bool unhex(const char *hex, char *out, size_t out_bytes)
{
    size_t n = strlen(hex) / 2;

    if (n >= out_bytes || !hex_decode(slice_of(hex), (uint8_t *)out, n))
        return false;
    out[n] = '\0';
    return true;
}

static int answer(const char *path, const char *image)
{
    static char text[TEXT_BYTES_MAX];
    CLEANUP(checksum_file_freep) struct checksum_file *sums = NULL;
    struct checksum_match match;
    char digest[LARDER_DIGEST_TEXT_BYTES];
    struct larder_error e = LARDER_ERROR_INIT;
    FILE *file = fopen(path, "rbe");

    if (!file)
        return -LARDER_IO;
    size_t n = fread(text, 1, sizeof(text), file);
    fclose(file);
    int r = checksum_file_parse((struct slice){text, n}, "S", &sums, &e);
    if (r >= 0)
        r = checksum_file_lookup(sums, image, 0, &match, &e);
    if (r < 0)
        return r;
    for (size_t i = 0; i < match.n_digests; i++)
        printf("%s%s", i > 0 ? " " : "", larder_digest_format(&match.digests[i], digest));
    printf("\n");
    return 0;
}

int main(void)
{
    static char line[TEXT_BYTES_MAX], path[TEXT_BYTES_MAX], image[TEXT_BYTES_MAX];

    while (fgets(line, sizeof(line), stdin)) {
        char *rest = line;
        const char *path_hex = strsep(&rest, "\t\n");
        const char *image_hex = strsep(&rest, "\t\n");
        if (!image_hex || !unhex(path_hex, path, sizeof(path)) ||
            !unhex(image_hex, image, sizeof(image)))
            return 2;
        int r = answer(path, image);
        if (r < 0)
            printf("error %d\n", -r);
        fflush(stdout);
    }
    return 0;
}
