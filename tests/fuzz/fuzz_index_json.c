/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.json of a layout that somebody else wrote: an edit changes the entry that is meant and
 * nothing else, what was put is found under its name, and what was dropped is not.
 */
#include <string.h>

#include "fuzz.h"
#include "store/layout/index_json.h"

#define WRITTEN_BYTES_MAX (64UL * 1024 * 1024)
#define NAME              "fuzz"

static const struct store_descriptor added = {
    .media_type = "application/vnd.oci.image.manifest.v1+json",
    .digest = {LARDER_DIGEST_SHA256, {0xf0, 0x0d}},
    .size_bytes = 7,
};

static int no_manifest(void *arg, const struct store_descriptor *manifest, struct buf *out,
                       struct larder_error *e)
{
    (void)arg;
    (void)manifest;
    (void)out;
    if (e)
        e->code = LARDER_NOENT;
    return -LARDER_NOENT;
}

static const struct index_json_reader reader = {no_manifest, NULL};

static int count(void *arg, const char *ref)
{
    FUZZ_CHECK(*ref);
    ++*(size_t *)arg;
    return 0;
}

static size_t names_of(const struct json *index)
{
    size_t n = 0;
    FUZZ_CHECK(index_json_each_ref(index, count, &n) == 0);
    return n;
}

static int count_ours(void *arg, const char *ref)
{
    *(size_t *)arg += strcmp(ref, NAME) == 0;
    return 0;
}

static size_t ours_of(const struct json *index)
{
    size_t n = 0;
    FUZZ_CHECK(index_json_each_ref(index, count_ours, &n) == 0);
    return n;
}

/* What is written is an index again; NULL when it is too large for one. */
static struct json *read_back(const struct json *index)
{
    struct buf text = BUF_INIT(WRITTEN_BYTES_MAX);
    struct json *again = NULL;
    if (json_dump_ordered(index, &text, NULL) == 0)
        FUZZ_CHECK(index_json_parse(buf_slice(&text), "fuzz", &again, NULL) == 0);
    buf_done(&text);
    return again;
}

static void check_drop(const struct json *index, size_t n_names)
{
    struct json *dropped = NULL, *nothing = NULL;
    struct store_descriptor found;
    FUZZ_CHECK(index_json_drop_ref(index, "fuzz", NAME, &dropped, NULL) >= 0 && dropped);
    FUZZ_CHECK(names_of(dropped) < n_names);
    FUZZ_CHECK(index_json_drop_digest(index, "fuzz", &added.digest, &nothing, NULL) >= 0);
    FUZZ_CHECK(nothing && !index_json_find(nothing, &added.digest, &found));
    json_free(nothing);
    json_free(dropped);
}

static void check_put(const struct json *index)
{
    static const char *const refs[] = {NAME};
    struct store_descriptor found = {0};
    struct json *changed = NULL, *same = NULL;
    size_t n = names_of(index);
    int r = index_json_put(index, &added, refs, 1, &changed, NULL);
    if (r < 0 || !changed)
        return;
    struct json *again = read_back(changed);
    /* Ours is there once, however often it was; all others stay. */
    FUZZ_CHECK(names_of(changed) == n - ours_of(index) + 1 && ours_of(changed) == 1);
    FUZZ_CHECK(index_json_find(changed, &added.digest, NULL));
    FUZZ_CHECK(index_json_resolve(changed, "fuzz", NAME, &reader, &found, NULL) >= 0);
    FUZZ_CHECK(larder_digest_equal(&found.digest, &added.digest) && found.size_bytes == 7);
    FUZZ_CHECK(index_json_put(changed, &added, refs, 1, &same, NULL) >= 0 && !same);
    check_drop(changed, names_of(changed));
    if (again) {
        FUZZ_CHECK(names_of(again) == names_of(changed));
        FUZZ_CHECK(index_json_find(again, &added.digest, NULL));
    }
    json_free(again);
    json_free(changed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store_descriptor found;
    struct json *index = NULL;
    int r = index_json_parse((struct slice){(const char *)data, size}, "fuzz", &index, &e);
    FUZZ_CHECK((r == 0) == (index != NULL) && (int)e.code == -r);
    if (r < 0)
        return 0;
    r = index_json_resolve(index, "fuzz", NULL, &reader, &found, &e);
    FUZZ_CHECK(r >= 0 || (int)e.code == -r);
    check_put(index);
    json_free(index);
    return 0;
}
