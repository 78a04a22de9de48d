/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of a token server: a reply, or an error. */
#include <string.h>

#include "base/buf.h"
#include "fuzz.h"
#include "net/auth/challenge.h"

static void is_header_text(const char *text)
{
    for (size_t i = 0; text[i]; i++)
        FUZZ_CHECK(text[i] > 0x20 && text[i] < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice body = {(const char *)data, size};
    struct larder_error e = LARDER_ERROR_INIT;
    struct token_reply reply = {0};
    struct buf out = BUF_INIT(4096);

    int rc = token_reply_parse(body, &reply, &e);
    FUZZ_CHECK((rc == 0) == (reply.token != NULL) && rc == -(int)e.code);
    if (rc == 0) {
        FUZZ_CHECK(*reply.token && reply.lives_ns >= 60 * 1000000000LL);
        is_header_text(reply.token);
        if (reply.refresh_token)
            is_header_text(reply.refresh_token);
    }
    token_reply_done(&reply);

    registry_error_text(body, &out);
    FUZZ_CHECK(out.failed == LARDER_OK);
    for (size_t i = 0; i < out.n; i++)
        FUZZ_CHECK((unsigned char)out.p[i] >= 0x20 && out.p[i] != 0x7f);
    buf_done(&out);
    return 0;
}
