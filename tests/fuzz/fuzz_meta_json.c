/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A meta.json: what json.h reads is read here, too; what is written is read back as the same; a
 * push is recorded once, however often it is told, and no other member changes.
 */
#include <string.h>

#include "fuzz.h"
#include "json/json.h"
#include "publish/meta_json.h"

#define WRITTEN_BYTES_MAX (64UL * 1024 * 1024)

static void check_round_trip(const struct ordered *document)
{
    struct buf first = BUF_INIT(WRITTEN_BYTES_MAX), second = BUF_INIT(WRITTEN_BYTES_MAX);
    struct ordered *again = NULL;
    if (ordered_write(document, &first, NULL) == 0) {
        FUZZ_CHECK(ordered_parse(buf_slice(&first), &again, NULL) == 0);
        FUZZ_CHECK(ordered_equal(document, again));
        FUZZ_CHECK(ordered_write(again, &second, NULL) == 0);
        FUZZ_CHECK(slice_equal(buf_slice(&first), buf_slice(&second)));
    }
    ordered_free(again);
    buf_done(&first);
    buf_done(&second);
}

static void check_others(const struct ordered *before, const struct ordered *after)
{
    FUZZ_CHECK(after->n_items >= before->n_items && after->n_items <= before->n_items + 1);
    for (size_t i = 0; i < before->n_items; i++) {
        const struct ordered *a = before->items[i], *b = after->items[i];
        FUZZ_CHECK(strcmp(a->key, b->key) == 0);
        FUZZ_CHECK(strcmp(a->key, "\"k\"") == 0 || ordered_equal(a, b));
    }
}

static void check_record(struct slice text, struct ordered *document)
{
    static const char *const tags[] = {"stable", "1.2"};
    struct meta_record record = {.repository = "r",
                                 .digest = {LARDER_DIGEST_SHA256, {1}},
                                 .list_digest = {LARDER_DIGEST_SHA256, {2}},
                                 .tags = tags,
                                 .n_tags = 2};
    struct ordered *before = NULL;
    struct larder_error e = LARDER_ERROR_INIT;
    enum meta_state state = meta_state_of(document, "k", &record);
    int r = meta_record(document, "k", &record, &e);
    FUZZ_CHECK((r < 0) == (e.code != LARDER_OK));
    FUZZ_CHECK((r == 0) == (state == META_EQUAL));
    FUZZ_CHECK(ordered_parse(text, &before, NULL) == 0);
    if (r < 0)
        FUZZ_CHECK(ordered_equal(before, document));
    if (r > 0) {
        check_others(before, document);
        FUZZ_CHECK(meta_state_of(document, "k", &record) == META_EQUAL);
        FUZZ_CHECK(meta_record(document, "k", &record, NULL) == 0);
        FUZZ_CHECK(meta_check_same(document, before, NULL) == 0);
        check_round_trip(document);
    }
    ordered_free(before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = {(const char *)data, size};
    struct larder_error e = LARDER_ERROR_INIT;
    struct ordered *document = NULL;
    struct json *other = NULL;
    int r = ordered_parse(text, &document, &e);

    FUZZ_CHECK(r <= 0 && (r == 0) == (document != NULL) && (int)e.code == -r);
    if (json_parse(text, size, &other, NULL) == 0)
        FUZZ_CHECK(r == 0 || r == -LARDER_LIMIT);
    if (r == 0) {
        check_round_trip(document);
        check_record(text, document);
    }
    json_free(other);
    ordered_free(document);
    return 0;
}
