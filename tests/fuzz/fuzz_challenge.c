/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headers of a registry. The first byte says how the rest is read: WWW-Authenticate (each line is
 * one), Link, Warning, Range of an upload.
 */
#include <string.h>

#include "base/buf.h"
#include "base/slice.h"
#include "fuzz.h"
#include "net/auth/challenge.h"

/* What is handed out goes into URLs, headers and messages. */
static void is_text(const char *text)
{
    for (size_t i = 0; text && text[i]; i++)
        FUZZ_CHECK((unsigned char)text[i] >= 0x20 && text[i] != 0x7f);
}

static void challenges(struct slice text)
{
    struct challenge c[CHALLENGES_MAX];
    struct slice line;
    size_t n = 0;

    while (slice_next_line(&text, &line)) {
        struct larder_error e = LARDER_ERROR_INIT;
        size_t before = n;
        int rc = challenge_parse(line, c, &n, &e);
        FUZZ_CHECK(n <= CHALLENGES_MAX && n >= before);
        FUZZ_CHECK(rc == 0 || (rc == -(int)e.code && n == before));
    }
    for (size_t i = 0; i < n; i++) {
        is_text(c[i].realm);
        is_text(c[i].service);
        is_text(c[i].scope);
        is_text(c[i].error);
    }
    challenges_done(c, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct slice text = {(const char *)data + 1, size - 1};
    struct buf out = BUF_INIT(1 << 20);
    uint64_t last = 0;
    char *next = NULL;

    switch (data[0]) {
    case 'L':
        FUZZ_CHECK(link_next(text, &next, NULL) == 0 || !next);
        FUZZ_CHECK(!next || (*next && !strpbrk(next, " \r\n>")));
        free(next);
        break;
    case 'W':
        FUZZ_CHECK(warning_parse(text, &out) || out.n == 0);
        is_text(out.p);
        break;
    case 'R':
        (void)upload_range_parse(text, &last);
        break;
    default:
        challenges(text);
        break;
    }
    buf_done(&out);
    return 0;
}
