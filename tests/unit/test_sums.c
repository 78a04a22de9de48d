/* SPDX-License-Identifier: Apache-2.0 */
/* What upstream publishes, with local directories as upstream. */
#include "image_host.h"

#include "image/entry.h"
#include "image/sums.h"

static int ask(struct host *h, const char *checksum, struct image_published *ret)
{
    struct larder_image_spec spec = LARDER_IMAGE_SPEC_INIT;
    CLEANUP_ENTRY struct image_entry entry;
    spec.name = "x";
    spec.source = host_path(h, "x.qcow2");
    spec.checksum = checksum;
    image_entry_init(&entry);
    memset(&h->e, 0, sizeof(h->e));
    int r = image_entry_from_spec(&spec, &entry, &h->e);
    return r < 0 ? r : image_sums_ask(h->store, NULL, &entry, false, ret, &h->e);
}

/* Expects the digest of this algorithm from this file. */
static void published(struct host *h, const char *checksum, enum larder_digest_alg alg,
                      const char *from)
{
    struct image_published p = {0};
    char hex[LARDER_DIGEST_TEXT_BYTES];
    expect_ok(h, ask(h, checksum, &p));
    const struct larder_digest *digest = digest_set_strongest(&p.digests);
    if (!digest)
        fail_msg("nothing, expected %s", from);
    else if (digest->alg != alg || strcmp(p.sums_url, host_path(h, from)))
        fail_msg("%s by %s, expected %s by %s", larder_digest_alg_name(digest->alg), p.sums_url,
                 larder_digest_alg_name(alg), from);
    else
        assert_string_equal(larder_digest_hex(digest, hex), host_hex(host_path(h, "x.qcow2"), alg));
    assert_true(p.text.n > 0);
    image_published_done(&p);
}

static void nothing(struct host *h)
{
    struct image_published p = {0};
    expect_ok(h, ask(h, NULL, &p));
    assert_null(digest_set_strongest(&p.digests));
    assert_null(p.sums_url);
    assert_int_equal(p.text.n, 0); /* no evidence of nothing */
    image_published_done(&p);
}

static void refused(struct host *h, const char *checksum, enum larder_code code, const char *words)
{
    struct image_published p = {0};
    expect_code(h, ask(h, checksum, &p), code);
    expect_message(h, words);
    assert_null(p.text.p);
}

/* Each is there alone, then together with all that come after it in the order. */
static void test_siblings(void **state)
{
    static const struct {
        const char *name;
        enum larder_digest_alg alg;
    } order[] = {
        {"x.qcow2.sha256", LARDER_DIGEST_SHA256},    {"SHA256SUMS", LARDER_DIGEST_SHA256},
        {"x.qcow2.sha512", LARDER_DIGEST_SHA512},    {"x.qcow2.checksum", LARDER_DIGEST_SHA256},
        {"x.qcow2.CHECKSUM", LARDER_DIGEST_SHA256},  {"CHECKSUM", LARDER_DIGEST_SHA256},
        {"SHA512SUMS", LARDER_DIGEST_SHA512},        {"x.qcow2.SHA256SUM", LARDER_DIGEST_SHA256},
        {"x.qcow2.sha256sum", LARDER_DIGEST_SHA256}, {"x.qcow2.sha512sum", LARDER_DIGEST_SHA512},
        {"x.qcow2.md5", LARDER_DIGEST_MD5},
    };
    struct host *h = *state;
    host_image(h, "x.qcow2", 1);
    nothing(h);
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        host_sums(h, order[i].name, "x.qcow2", order[i].alg);
        published(h, NULL, order[i].alg, order[i].name);
        unlink(host_path(h, order[i].name));
    }
    for (size_t i = ARRAY_LEN(order); i-- > 0;) {
        host_sums(h, order[i].name, "x.qcow2", order[i].alg);
        published(h, NULL, order[i].alg, order[i].name);
    }
}

static void test_passed_over(void **state)
{
    struct host *h = *state;
    host_image(h, "x.qcow2", 1);
    host_image(h, "y.qcow2", 2);
    host_text(h, "x.qcow2.sha256", "<!DOCTYPE html><title>404</title>\n");
    host_sums(h, "SHA256SUMS", "y.qcow2", LARDER_DIGEST_SHA256); /* another image only */
    assert_int_equal(mkdir(host_path(h, "CHECKSUM"), 0755), 0);
    host_text(h, "x.qcow2.md5", "<!DOCTYPE html><title>404</title>\n"); /* the last one asked */
    nothing(h);
    host_sums(h, "SHA512SUMS", "x.qcow2", LARDER_DIGEST_SHA512);
    published(h, NULL, LARDER_DIGEST_SHA512, "SHA512SUMS");
}

/* "Don't know" is not "no": what is there and can't be used is an error. */
static void test_contradictions(void **state)
{
    struct host *h = *state;
    char text[512];
    host_image(h, "x.qcow2", 1);
    host_image(h, "y.qcow2", 2);
    snprintf(text, sizeof(text), "%s  x.qcow2\n%s  x.qcow2\n",
             host_hex(host_path(h, "x.qcow2"), LARDER_DIGEST_SHA256),
             host_hex(host_path(h, "y.qcow2"), LARDER_DIGEST_SHA256));
    host_text(h, "SHA256SUMS", text);
    refused(h, NULL, LARDER_INVAL, "x.qcow2");
    /* The same line twice is no contradiction. */
    snprintf(text, sizeof(text), "%s  x.qcow2\n%s *x.qcow2\n",
             host_hex(host_path(h, "x.qcow2"), LARDER_DIGEST_SHA256),
             host_hex(host_path(h, "x.qcow2"), LARDER_DIGEST_SHA256));
    host_text(h, "SHA256SUMS", text);
    published(h, NULL, LARDER_DIGEST_SHA256, "SHA256SUMS");
}

static void test_given(void **state)
{
    struct host *h = *state;
    struct image_published p = {0};
    char literal[LARDER_DIGEST_TEXT_BYTES], given[512];
    host_image(h, "x.qcow2", 1);
    host_sums(h, "x.qcow2.sha256", "x.qcow2", LARDER_DIGEST_SHA256); /* not asked for */
    snprintf(given, sizeof(given), "%s", host_path(h, "my.txt"));
    refused(h, given, LARDER_GONE, "my.txt");
    host_sums(h, "my.txt", "x.qcow2", LARDER_DIGEST_SHA384);
    published(h, given, LARDER_DIGEST_SHA384, "my.txt");
    host_text(h, "my.txt", "this is no checksum file\n");
    refused(h, given, LARDER_INVAL, "my.txt");
    host_text(h, "my.txt", "");
    refused(h, given, LARDER_INVAL, "my.txt");
    /* A bare digest is about the image that it was given for. */
    host_text(h, "my.txt", host_hex(host_path(h, "x.qcow2"), LARDER_DIGEST_SHA256));
    published(h, given, LARDER_DIGEST_SHA256, "my.txt");
    host_image(h, "y.qcow2", 2);
    host_image(h, "z.qcow2", 3);
    host_shell(h, "sha256sum y.qcow2 z.qcow2 >my.txt");
    refused(h, given, LARDER_INVAL, "does not list x.qcow2");

    snprintf(literal, sizeof(literal), "sha512:%s",
             host_hex(host_path(h, "x.qcow2"), LARDER_DIGEST_SHA512));
    expect_ok(h, ask(h, literal, &p));
    assert_int_equal(digest_set_strongest(&p.digests)->alg, LARDER_DIGEST_SHA512);
    assert_null(p.sums_url);
    image_published_done(&p);
}

static void test_sizes_and_names(void **state)
{
    struct host *h = *state;
    struct image_published p = {0};
    char text[512];
    host_image(h, "x.qcow2", 1);
    snprintf(text, sizeof(text), "# x.qcow2: %llu bytes\nSHA256 (x.qcow2) = %s\n",
             SAMPLE_QCOW2_FILE_BYTES, host_hex(host_path(h, "x.qcow2"), LARDER_DIGEST_SHA256));
    host_text(h, "CHECKSUM", text);
    expect_ok(h, ask(h, NULL, &p));
    assert_int_equal(p.size_bytes, SAMPLE_QCOW2_FILE_BYTES);
    image_published_done(&p);
    assert_int_equal(h->warnings, 0);

    /* An absolute path inside, as `sha256sum /build/x.qcow2` leaves it. */
    snprintf(text, sizeof(text), "%s  /build/disk/x.qcow2\n",
             host_hex(host_path(h, "x.qcow2"), LARDER_DIGEST_SHA256));
    host_text(h, "x.qcow2.sha256", text);
    published(h, NULL, LARDER_DIGEST_SHA256, "x.qcow2.sha256");
}

static void test_weak(void **state)
{
    struct host *h = *state;
    host_image(h, "x.qcow2", 1);
    host_sums(h, "x.qcow2.md5", "x.qcow2", LARDER_DIGEST_MD5);
    published(h, NULL, LARDER_DIGEST_MD5, "x.qcow2.md5");
    assert_int_equal(h->warnings, 1);
    assert_non_null(strstr(h->last_warning, "md5"));
}

static void test_record(void **state)
{
    struct host *h = *state;
    struct image_published p = {0};
    CLEANUP_ENTRY struct image_entry entry;
    image_entry_init(&entry);
    host_image(h, "x.qcow2", 1);
    host_sums(h, "x.qcow2.sha256", "x.qcow2", LARDER_DIGEST_SHA256);
    expect_ok(h, ask(h, NULL, &p));
    image_published_record(&p, &entry);
    assert_int_equal(digest_set_compare(&p.digests, &entry.published), 1);
    assert_string_equal(entry.sums_url, host_path(h, "x.qcow2.sha256"));
    image_published_done(&p);
    /* Nothing published takes nothing back. */
    image_published_record(&p, &entry);
    assert_non_null(entry.sums_url);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_HOST(test_siblings), ON_HOST(test_passed_over),     ON_HOST(test_contradictions),
        ON_HOST(test_given),    ON_HOST(test_sizes_and_names), ON_HOST(test_weak),
        ON_HOST(test_record),
    };
    return cmocka_run_group_tests_name("sums", tests, NULL, NULL);
}
