/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration of container tools: a document that is sound, or a line that is not. */
#include <string.h>

#include "fuzz.h"
#include "net/conf/toml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct json *doc = NULL;
    struct buf out = BUF_INIT(16 << 20);
    int rc = toml_parse((struct slice){(const char *)data, size}, "f", &doc, &e);

    FUZZ_CHECK((rc == 0) == (doc != NULL) && rc == -(int)e.code);
    FUZZ_CHECK(rc != -LARDER_INVAL || strncmp(e.msg, "f:", 2) == 0);
    FUZZ_CHECK(rc == 0 || rc == -LARDER_INVAL || rc == -LARDER_LIMIT);
    if (doc)
        FUZZ_CHECK(json_node_is_object(doc) && json_dump(doc, &out, NULL) == 0);
    buf_done(&out);
    json_free(doc);
    return 0;
}
