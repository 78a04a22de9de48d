/* SPDX-License-Identifier: Apache-2.0 */
/* Records as documents: what is written is read back to the byte, and nothing else is believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "record_samples.h"

static struct buf format(const struct update_record *record)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    if (record_format(record, &text, &e) < 0)
        fail_msg("format: %s", e.msg);
    return text;
}

static int parse(const char *text, size_t n, struct larder_error *e)
{
    /* A copy of exactly this length: a sanitizer sees each byte read behind it. */
    char *copy = malloc(n ? n : 1);
    struct update_record record, untouched;
    assert_non_null(copy);
    memcpy(copy, text, n);
    memset(&record, 0x5a, sizeof(record));
    memset(&untouched, 0x5a, sizeof(untouched));
    *e = (struct larder_error)LARDER_ERROR_INIT;
    int r = record_parse((struct slice){copy, n}, &record, e);
    free(copy);
    if (r == 0)
        record_done(&record);
    else
        assert_memory_equal(&record, &untouched, sizeof(record));
    assert_int_equal((int)e->code, -r);
    return r;
}

static void expect_same(const struct update_record *record)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct update_record again;
    struct buf text = format(record), second;
    if (record_parse(buf_slice(&text), &again, &e) < 0)
        fail_msg("parse: %s", e.msg);
    assert_true(sample_equal(record, &again));
    second = format(&again);
    assert_int_equal(second.n, text.n);
    assert_memory_equal(second.p, text.p, text.n);
    record_done(&again);
    record_done(&again); /* zero by now */
    buf_done(&second);
    buf_done(&text);
}

static void round_trip(void **state)
{
    (void)state;
    static const size_t layers[] = {0, 1, 70, 30000}; /* 0.2 and 11 KiB, 4.4 MiB */
    for (size_t i = 0; i < ARRAY_LEN(layers); i++) {
        struct update_record record = sample_record("3.1", layers[i]);
        if (layers[i] > 10000)
            assert_true(record.manifest.n > 4UL << 20);
        expect_same(&record);
        record_done(&record);
    }
    /* Nothing was in use; ostree's has no name but a commit; no type was said; sha512. */
    struct update_record record = sample_record("3.1", 2);
    free(record.name);
    free(record.media_type);
    record.name = record.media_type = NULL;
    record.base = (struct larder_digest){0};
    expect_same(&record);
    record.commit = strdup("5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
    assert_int_equal(hash_of(LARDER_DIGEST_SHA512, record.manifest.p, record.manifest.n,
                             &record.manifest_digest, NULL),
                     0);
    expect_same(&record);
    record_done(&record);
}

/* An artifact's configuration may be empty, or no JSON; all of it control characters at worst. */
static void odd_configurations(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 8UL << 20};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct update_record record = sample_record("x", 1);
        char text[LARDER_DIGEST_TEXT_BYTES];
        buf_reset(&record.config);
        char *to = buf_reserve(&record.config, sizes[i]);
        assert_non_null(to);
        memset(to, 0x01, sizes[i]);
        record.config.n = sizes[i];
        to[sizes[i]] = '\0';
        struct larder_digest digest = sample_digest(to, sizes[i]);
        buf_reset(&record.manifest);
        buf_printf(&record.manifest,
                   "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"a/b\",\"digest\":\"%s\","
                   "\"size\":%zu},\"layers\":[]}",
                   larder_digest_format(&digest, text), sizes[i]);
        record.manifest_digest = sample_digest(record.manifest.p, record.manifest.n);
        expect_same(&record);
        record_done(&record);
    }
}

static void no_cut_is_believed(void **state)
{
    (void)state;
    for (size_t layers = 0; layers < 3; layers++) {
        struct larder_error e;
        struct update_record record = sample_record("3.1", layers);
        struct buf text = format(&record);
        assert_int_equal(text.p[text.n - 1], '\n'); /* without it the document is whole, too */
        for (size_t n = 0; n + 1 < text.n; n++) {
            if (parse(text.p, n, &e) != -LARDER_CORRUPT)
                fail_msg("cut to %zu of %zu bytes: %s", n, text.n, e.msg);
            assert_non_null(strstr(e.hint, "larder update check"));
        }
        /* As a disk leaves it that had the size, but not yet the bytes. */
        for (size_t n = 0; n + 1 < text.n; n += 7) {
            char *copy = malloc(text.n);
            assert_non_null(copy);
            memcpy(copy, text.p, text.n);
            memset(copy + n, 0, text.n - n);
            assert_int_equal(parse(copy, text.n, &e), -LARDER_CORRUPT);
            free(copy);
        }
        buf_done(&text);
        record_done(&record);
    }
}

/* Each bit, and each byte by another of its kind: refused, or the same record (blanks, escapes). */
static void no_edit_is_believed(void **state)
{
    (void)state;
    for (size_t layers = 0; layers < 2; layers++) {
        struct update_record record = sample_record("3.1", layers);
        struct buf text = format(&record);
        size_t same = 0;
        for (size_t at = 0; at < text.n; at++) {
            char saved = text.p[at];
            for (int bit = 0; bit < 9; bit++) {
                struct larder_error e = LARDER_ERROR_INIT;
                struct update_record found;
                text.p[at] = saved == '1' ? '2' : '1';
                if (bit < 8)
                    text.p[at] = (char)(saved ^ (1 << bit));
                int r = record_parse(buf_slice(&text), &found, &e);
                if (r == 0) {
                    if (!sample_equal(&record, &found))
                        fail_msg("byte %zu as 0x%02x is believed", at, (unsigned char)text.p[at]);
                    record_done(&found);
                    same++;
                } else if (r != -LARDER_CORRUPT && r != -LARDER_UNSUPPORTED) {
                    fail_msg("byte %zu as 0x%02x: %s", at, (unsigned char)text.p[at], e.msg);
                }
            }
            text.p[at] = saved;
        }
        assert_true(same < 200); /* mostly digits and hex in another case, and blanks */
        buf_done(&text);
        record_done(&record);
    }
}

/* The document with one text replaced by another; NULL when it has none such. */
static char *with(const struct buf *text, const char *from, const char *to)
{
    const char *at = strstr(text->p, from);
    char *edited = NULL;
    if (!at)
        return NULL;
    assert_true(asprintf(&edited, "%.*s%s%s", (int)(at - text->p), text->p, to, at + strlen(from)) >
                0);
    return edited;
}

static void edits(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
        int code;
    } cases[] = {
        {"\"version\": 1", "\"version\": 2", LARDER_UNSUPPORTED},
        {"\"version\": 1", "\"version\": 900000000000", LARDER_UNSUPPORTED},
        {"\"version\": 1", "\"version\": 0", LARDER_CORRUPT},
        {"\"version\": 1", "\"version\": -1", LARDER_CORRUPT},
        {"\"version\": 1", "\"version\": \"1\"", LARDER_CORRUPT},
        {"\"version\": 1,", "", LARDER_CORRUPT},
        {"\"version\": 1", "\"version\": 1, \"version\": 1", LARDER_CORRUPT},
        {"\"version\": 1", "\"version\": 1, \"later\": [{}]", LARDER_OK},
        {"os:stable\",\n  \"platform", "os:other\",\n  \"platform", LARDER_CORRUPT},
        {"linux/amd64", "linux/arm64", LARDER_CORRUPT},
        {"\"name\"", "\"nome\"", LARDER_CORRUPT},
        {"\"base\": \"sha256:", "\"base\": \"sha512:", LARDER_CORRUPT},
        {"\"base\": \"sha256:", "\"base\": \"md5:", LARDER_CORRUPT},
        {"\"base\"", "\"commit\"", LARDER_CORRUPT},
        {"\"listed\"", "\"commit\"", LARDER_CORRUPT},
        {"\"update\"", "\"updates\"", LARDER_CORRUPT},
        {"\"update\": {", "\"update\": [{", LARDER_CORRUPT},
        {"\"media_type\": \"" SAMPLE_TYPE "\"", "\"media_type\": \"a/b\"", LARDER_CORRUPT},
        {"\"manifest\":", "\"manifests\":", LARDER_CORRUPT},
        {"\"config\":", "\"configs\":", LARDER_CORRUPT},
        {"schemaVersion", "schemaVerzion", LARDER_CORRUPT},
        {"rootfs", "bootfs", LARDER_CORRUPT},
        {"\"checked\": 17", "\"checked\": 18", LARDER_CORRUPT},
        {"\"checked\": 17", "\"checked\": -17", LARDER_CORRUPT},
        {"\"checked\": 17", "\"checked\": 17.", LARDER_CORRUPT},
        {"\"sum\"", "\"some\"", LARDER_CORRUPT},
        {"\"sum\": \"", "\"sum\": \"x", LARDER_CORRUPT},
        {"gr\xc3\xbc", "gr\xc3", LARDER_CORRUPT},
        {"gr\xc3\xbc", "gr\xed\xa0\x80", LARDER_CORRUPT},
        {"{\n", "[\n", LARDER_CORRUPT},
    };
    struct update_record record = sample_record("3.1", 2);
    struct buf text = format(&record);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct larder_error e;
        char *edited = with(&text, cases[i].from, cases[i].to);
        if (!edited)
            fail_msg("there is no %s", cases[i].from);
        int r = parse(edited, strlen(edited), &e);
        if (r != -cases[i].code)
            fail_msg("%s -> %s: %d (%s)", cases[i].from, cases[i].to, r, e.msg);
        free(edited);
    }
    buf_done(&text);
    record_done(&record);
}

static void what_is_no_record_is_not_written(void **state)
{
    (void)state;
    struct larder_error e = LARDER_ERROR_INIT;
    struct buf out = BUF_INIT(RECORD_BYTES_MAX);
    for (int i = 0; i < 9; i++) {
        struct update_record record = sample_record("3.1", 1);
        switch (i) {
        case 0:
            record.config.p[20] = '\xff';
            break;
        case 1:
            record.manifest.p[20] = '\0';
            break;
        case 2:
            record.ref[3] = '\xc3';
            break;
        case 3:
            record.is_rewritten = true;
            break;
        case 4:
            record.listed.alg = LARDER_DIGEST_NONE;
            break;
        case 5:
            record.manifest_digest.alg = LARDER_DIGEST_MD5;
            break;
        case 6:
            record.platform[0] = '\0';
            break;
        case 7:
            record.checked_ns = -1;
            break;
        default:
            free(record.ref);
            record.ref = NULL;
        }
        if (record_format(&record, &out, &e) != -LARDER_INVAL)
            fail_msg("case %d: %s", i, e.msg);
        assert_int_equal(out.n, 0);
        record_done(&record);
    }
    buf_done(&out);
}

static void checks(void **state)
{
    (void)state;
    struct larder_error e = LARDER_ERROR_INIT;
    struct update_record record = sample_record("3.1", 1);
    assert_int_equal(record_check(&record, &e), 0);

    /* Of another image, each sound by itself. */
    struct update_record other = sample_record("3.2", 1);
    struct buf saved = record.config;
    record.config = other.config;
    assert_int_equal(record_check(&record, &e), -LARDER_CORRUPT);
    assert_non_null(strstr(e.msg, "configuration"));
    record.config = saved;
    saved = record.manifest;
    record.manifest = other.manifest;
    assert_int_equal(record_check(&record, &e), -LARDER_CORRUPT);
    assert_non_null(strstr(e.msg, "manifest"));

    /* Rewritten by somebody, and claimed to be that digest: only that it can be read. */
    record.is_rewritten = true;
    assert_int_equal(record_check(&record, &e), 0);
    record.config.p[1] = '}';
    assert_int_equal(record_check(&record, &e), -LARDER_CORRUPT);
    record.config.p[1] = '"';
    record.manifest.p[0] = '[';
    assert_int_equal(record_check(&record, &e), -LARDER_CORRUPT);
    record.manifest.p[0] = '{';
    record.manifest = saved;

    /* An index hashes to its digest, and is no image. */
    static const char index[] = "{\"schemaVersion\":2,\"mediaType\":"
                                "\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}";
    record.is_rewritten = false;
    free(record.media_type);
    record.media_type = NULL;
    buf_reset(&record.manifest);
    buf_puts(&record.manifest, index);
    record.manifest_digest = sample_digest(index, sizeof(index) - 1);
    assert_int_equal(record_check(&record, &e), -LARDER_CORRUPT);
    assert_non_null(strstr(e.msg, "index"));

    /* Nothing was found: nothing to check. */
    record.has_update = false;
    assert_int_equal(record_check(&record, &e), 0);
    record_done(&record);
    record_done(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(odd_configurations),
        cmocka_unit_test(no_cut_is_believed),
        cmocka_unit_test(no_edit_is_believed),
        cmocka_unit_test(edits),
        cmocka_unit_test(what_is_no_record_is_not_written),
        cmocka_unit_test(checks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
