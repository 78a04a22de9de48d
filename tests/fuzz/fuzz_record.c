/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of updates. The first byte chooses: '0', a document somebody else wrote; what is accepted
 * is written and read back as the same. Else a record made of the bytes; what is written is read
 * back as the same, and with one byte changed it is the same or none.
 */
#include <string.h>

#include "base/hash.h"
#include "fuzz.h"
#include "update/record/record.h"

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_digest(const struct larder_digest *a, const struct larder_digest *b)
{
    return a->alg == b->alg && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static bool same_bytes(const struct buf *a, const struct buf *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->p, b->p, a->n) == 0);
}

static bool same(const struct update_record *a, const struct update_record *b)
{
    return same_text(a->ref, b->ref) && same_text(a->platform, b->platform) &&
           same_text(a->name, b->name) && same_text(a->commit, b->commit) &&
           same_text(a->media_type, b->media_type) && same_digest(&a->base, &b->base) &&
           same_digest(&a->listed, &b->listed) &&
           same_digest(&a->manifest_digest, &b->manifest_digest) &&
           a->checked_ns == b->checked_ns && a->has_update == b->has_update &&
           !a->is_rewritten == !b->is_rewritten && same_bytes(&a->manifest, &b->manifest) &&
           same_bytes(&a->config, &b->config);
}

static void check_again(const struct update_record *record, const struct buf *text)
{
    struct buf second = BUF_INIT(RECORD_BYTES_MAX);
    struct update_record again;
    FUZZ_CHECK(record_parse(buf_slice(text), &again, NULL) == 0);
    FUZZ_CHECK(same(record, &again) && record_check(&again, NULL) == 0);
    FUZZ_CHECK(record_format(&again, &second, NULL) == 0 && same_bytes(text, &second));
    record_done(&again);
    buf_done(&second);
}

static void fuzz_text(struct slice text)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct update_record record;
    int r = record_parse(text, &record, &e);
    FUZZ_CHECK((int)e.code == -r);
    FUZZ_CHECK(r == 0 || r == -LARDER_CORRUPT || r == -LARDER_UNSUPPORTED);
    if (r < 0)
        return;
    FUZZ_CHECK(record.ref[0] && record.platform[0] && record.checked_ns >= 0);
    FUZZ_CHECK(!record.is_rewritten && record.has_update == (record.manifest.n > 0));
    struct buf again = BUF_INIT(RECORD_BYTES_MAX);
    FUZZ_CHECK(record_format(&record, &again, &e) == 0);
    check_again(&record, &again);
    buf_done(&again);
    record_done(&record);
}

/* Up to the next line end. */
static char *take_text(struct slice *rest)
{
    struct slice line;
    if (!slice_next_line(rest, &line))
        line = SLICE_LIT("x");
    char *text = slice_dup(line);
    FUZZ_CHECK(text);
    return text;
}

static void set_image(struct update_record *record, struct slice config)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct larder_digest digest;
    record->has_update = true;
    record->manifest = BUF_INIT(RECORD_MANIFEST_BYTES_MAX);
    record->config = BUF_INIT(RECORD_CONFIG_BYTES_MAX);
    buf_append_slice(&record->config, config);
    FUZZ_CHECK(hash_of(LARDER_DIGEST_SHA256, config.p, config.n, &digest, NULL) == 0);
    buf_printf(&record->manifest,
               "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"a/b\",\"digest\":\"%s\","
               "\"size\":%zu},\"layers\":[]}",
               larder_digest_format(&digest, text), config.n);
    FUZZ_CHECK(buf_failed(&record->manifest, NULL) == 0);
    FUZZ_CHECK(hash_of(LARDER_DIGEST_SHA256, record->manifest.p, record->manifest.n,
                       &record->manifest_digest, NULL) == 0);
}

static void check_edited(const struct update_record *record, struct buf *text, unsigned at,
                         char value)
{
    struct update_record found;
    text->p[at % text->n] = value;
    if (record_parse(buf_slice(text), &found, NULL) < 0)
        return;
    FUZZ_CHECK(same(record, &found));
    record_done(&found);
}

static void fuzz_record(struct slice rest)
{
    struct update_record record = {.base = {LARDER_DIGEST_SHA256, {1}},
                                   .listed = {LARDER_DIGEST_SHA512, {2}},
                                   .manifest_digest = {LARDER_DIGEST_SHA256, {1}}};
    struct larder_error e = LARDER_ERROR_INIT;
    struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    if (rest.n < 4)
        return;
    unsigned char how[4];
    memcpy(how, rest.p, sizeof(how));
    rest = (struct slice){rest.p + 4, rest.n - 4};
    record.ref = take_text(&rest);
    record.platform = take_text(&rest);
    record.name = how[0] & 1 ? take_text(&rest) : NULL;
    record.commit = how[0] & 2 ? take_text(&rest) : NULL;
    if (how[0] & 4)
        record.base.alg = LARDER_DIGEST_NONE, record.base.bytes[0] = 0;
    record.checked_ns = how[1];
    if (how[0] & 8)
        set_image(&record, rest);
    int r = record_format(&record, &text, &e);
    FUZZ_CHECK((int)e.code == -r && (r == 0 || r == -LARDER_INVAL));
    if (r == 0) {
        check_again(&record, &text);
        check_edited(&record, &text, how[1] * 256u + how[2], (char)how[3]);
    }
    buf_done(&text);
    record_done(&record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct slice rest = {(const char *)data + 1, size - 1};
    if (data[0] == '0')
        fuzz_text(rest);
    else
        fuzz_record(rest);
    return 0;
}
