/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Input: one byte ('c': a commit, else a dictionary), then its bytes. What is in normal form is
 * read, and all that is found lies in it.
 */
#include <string.h>

#include "fuzz.h"
#include "update/reader/gvariant.h"

static void check_inside(struct slice part, struct slice whole)
{
    FUZZ_CHECK(part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n));
}

static void look_up_all(struct slice dict)
{
    struct ostree_value values[] = {
        {.key = "a"}, {.key = "version"}, {.key = "target"}, {.key = ""}};
    struct slice type, value;

    gvariant_values(dict, values, 4);
    for (size_t i = 0; i < 4; i++) {
        if (values[i].type == OSTREE_VALUE_STRING)
            check_inside((struct slice){values[i].text, strlen(values[i].text) + 1}, dict);
        if (gvariant_look_up(dict, values[i].key, &type, &value)) {
            FUZZ_CHECK(values[i].type != OSTREE_VALUE_NONE);
            check_inside(type, dict);
            check_inside(value, dict);
            /* A dictionary in a dictionary, as a staged deployment is. */
            if (slice_equal(type, SLICE_LIT(GVARIANT_DICT))) {
                FUZZ_CHECK(gvariant_is_normal(GVARIANT_DICT, value));
                look_up_all(value);
            }
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    bool is_commit = data[0] == 'c';
    struct slice bytes = {(const char *)data + 1, size - 1};

    if (!gvariant_is_normal(is_commit ? GVARIANT_COMMIT : GVARIANT_DICT, bytes))
        return 0;
    struct slice dict = is_commit ? gvariant_commit_dict(bytes) : bytes;
    check_inside(dict, bytes);
    look_up_all(dict);
    return 0;
}
