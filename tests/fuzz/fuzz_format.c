/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Input: a small file, probed and judged. Its first and last bytes may overlap, as in real ones.
 */
#include "fuzz.h"
#include "image/format/safety.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t head = size < FORMAT_HEAD_BYTES ? size : FORMAT_HEAD_BYTES;
    size_t tail = size < FORMAT_TAIL_BYTES ? size : FORMAT_TAIL_BYTES;
    const char *file = (const char *)data;
    struct format_probe p;
    struct larder_error e = LARDER_ERROR_INIT;
    unsigned warnings = 0;

    if (size == 0)
        file = "";
    if (format_probe((struct slice){file, head}, (struct slice){file + (size - tail), tail}, size,
                     &p, &e) < 0) {
        FUZZ_CHECK(e.code != LARDER_OK && e.msg[0] != '\0');
        return 0;
    }
    FUZZ_CHECK((unsigned)p.format < IMAGE_FORMAT_MAX);
    int r = safety_check(&p, 0, &warnings, &e);
    FUZZ_CHECK(r == 0 || (r == -LARDER_UNSAFE && e.msg[0] != '\0'));
    FUZZ_CHECK(r < 0 || !format_is_error_page(p.format));
    return 0;
}
