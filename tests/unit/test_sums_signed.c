/* SPDX-License-Identifier: Apache-2.0 */
/* Which checksum file is believed when a keyring is given. */
#include "gpg_samples.h"
#include "image_host.h"

#include "image/entry.h"
#include "image/sums.h"

/* Copies a file of the host into the directory of keys, signs it there, and copies back. */
static void sign(struct host *h, const char *key, const char *how, const char *name,
                 const char *into)
{
    char command[1024];
    snprintf(command, sizeof(command),
             "cp %s data && eval \"$G\" -u %s %s -o data.out data && cp data.out %s",
             host_path(h, name), key, how, host_path(h, into));
    if (gpg_run(command) != 0)
        fail_msg("%s", command);
}

static int ask(struct host *h, const char *checksum, const char *fingerprint,
               struct image_published *ret)
{
    struct larder_image_spec spec = LARDER_IMAGE_SPEC_INIT;
    CLEANUP_ENTRY struct image_entry entry;
    spec.name = "x";
    spec.source = host_path(h, "x.qcow2");
    spec.checksum = checksum;
    spec.keyring = gpg_path("good.gpg");
    spec.fingerprint = fingerprint;
    image_entry_init(&entry);
    memset(&h->e, 0, sizeof(h->e));
    int r = image_entry_from_spec(&spec, &entry, &h->e);
    return r < 0 ? r : image_sums_ask(h->store, NULL, &entry, false, ret, &h->e);
}

static void believed(struct host *h, const char *checksum, enum larder_digest_alg alg,
                     bool is_detached)
{
    struct image_published p = {0};
    char want[128], hex[LARDER_DIGEST_TEXT_BYTES];
    expect_ok(h, ask(h, checksum, gpg_fingerprint("good.fpr", want), &p));
    assert_non_null(digest_set_strongest(&p.digests));
    assert_int_equal(digest_set_strongest(&p.digests)->alg, alg);
    assert_string_equal(larder_digest_hex(digest_set_strongest(&p.digests), hex),
                        host_hex(host_path(h, "x.qcow2"), alg));
    assert_string_equal(p.signed_by, want);
    assert_int_equal(p.signature.n > 0, is_detached);
    image_published_done(&p);
}

static void refused(struct host *h, const char *checksum, const char *words)
{
    struct image_published p = {0};
    expect_code(h, ask(h, checksum, NULL, &p), LARDER_AUTH);
    expect_message(h, words);
    assert_null(p.text.p);
    assert_null(p.signature.p);
    assert_null(p.signed_by);
}

static void test_nothing_signed(void **state)
{
    struct host *h = *state;
    host_image(h, "x.qcow2", 1);
    refused(h, NULL, "no signed checksum file");
    host_sums(h, "x.qcow2.sha256", "x.qcow2", LARDER_DIGEST_SHA256);
    refused(h, NULL, "no signed checksum file");
    refused(h, host_path(h, "x.qcow2.sha256"), "no signature inside and none beside it");
}

/* An unsigned sidecar does not hide the signed list behind it. */
static void test_signed_list(void **state)
{
    static const char *const detached[][2] = {{"--armor --detach-sign", "SHA512SUMS.asc"},
                                              {"--detach-sign", "SHA512SUMS.gpg"},
                                              {"--detach-sign", "SHA512SUMS.sig"},
                                              {"--armor --detach-sign", "SHA512SUMS.sign"}};
    struct host *h = *state;
    host_image(h, "x.qcow2", 1);
    host_image(h, "y.qcow2", 2);
    host_sums(h, "x.qcow2.sha256", "x.qcow2", LARDER_DIGEST_SHA256);
    host_sums(h, "SHA512SUMS", "x.qcow2", LARDER_DIGEST_SHA512);
    for (size_t i = 0; i < ARRAY_LEN(detached); i++) {
        sign(h, "good", detached[i][0], "SHA512SUMS", detached[i][1]);
        believed(h, NULL, LARDER_DIGEST_SHA512, true);
        believed(h, host_path(h, "SHA512SUMS"), LARDER_DIGEST_SHA512, true);
        unlink(host_path(h, detached[i][1]));
    }
    /* A signed list before it that is about other images. */
    host_sums(h, "SHA256SUMS", "y.qcow2", LARDER_DIGEST_SHA256);
    sign(h, "good", "--detach-sign", "SHA256SUMS", "SHA256SUMS.gpg");
    sign(h, "good", "--clearsign", "SHA512SUMS", "SHA512SUMS");
    believed(h, NULL, LARDER_DIGEST_SHA512, false);
}

static void test_clearsigned(void **state)
{
    struct host *h = *state;
    host_image(h, "x.qcow2", 1);
    host_image(h, "y.qcow2", 2);
    host_sums(h, "sums", "x.qcow2", LARDER_DIGEST_SHA256);
    sign(h, "good", "--clearsign", "sums", "CHECKSUM");
    believed(h, NULL, LARDER_DIGEST_SHA256, false);
    /* Lines around the envelope are nobody's. */
    host_shell(h, "{ sha256sum y.qcow2 | sed s/y.qcow2/x.qcow2/; cat CHECKSUM; } >C && "
                  "mv C CHECKSUM");
    believed(h, NULL, LARDER_DIGEST_SHA256, false);
    host_shell(h, "sed '/^Hash/,/BEGIN PGP SIG/ s/^[0-9a-f]/0/' CHECKSUM >C && mv C CHECKSUM");
    refused(h, NULL, "");
}

/* A bad signature is no missing one: nothing behind it is asked. */
static void test_bad_signature(void **state)
{
    struct host *h = *state;
    host_image(h, "x.qcow2", 1);
    host_sums(h, "x.qcow2.sha256", "x.qcow2", LARDER_DIGEST_SHA256);
    sign(h, "other", "--detach-sign", "x.qcow2.sha256", "x.qcow2.sha256.asc");
    host_sums(h, "SHA512SUMS", "x.qcow2", LARDER_DIGEST_SHA512);
    sign(h, "good", "--detach-sign", "SHA512SUMS", "SHA512SUMS.gpg");
    refused(h, NULL, "not in keyring");
    sign(h, "good", "--detach-sign", "SHA512SUMS", "x.qcow2.sha256.asc");
    refused(h, NULL, "text was changed");
    unlink(host_path(h, "x.qcow2.sha256.asc"));
    believed(h, NULL, LARDER_DIGEST_SHA512, true);
}

/* The whole way: a signed image comes in with its evidence, a forged one does not. */
static void test_get(void **state)
{
    struct host *h = *state;
    struct larder_image_spec spec = LARDER_IMAGE_SPEC_INIT;
    struct larder_image_result result = {0};
    struct larder_image_info info = {0};
    char fpr[128];
    CLEANUP_ENTRY struct image_entry entry;
    image_entry_init(&entry);
    host_image(h, "x.qcow2", 1);
    host_sums(h, "SHA256SUMS", "x.qcow2", LARDER_DIGEST_SHA256);
    spec.name = "x";
    spec.source = host_path(h, "x.qcow2");
    spec.keyring = gpg_path("good.asc");
    spec.refresh_ns = LARDER_REFRESH_ALWAYS;
    expect_ok(h, larder_image_add(h->store, &spec, &h->e));
    expect_code(h, larder_image_get(h->store, "x", NULL, &result, &h->e), LARDER_AUTH);
    sign(h, "good", "--detach-sign", "SHA256SUMS", "SHA256SUMS.gpg");
    expect_ok(h, larder_image_get(h->store, "x", NULL, &result, &h->e));
    larder_image_result_done(&result);
    expect_ok(h, larder_image_show(h->store, "x", false, &info, &h->e));
    assert_string_equal(info.signed_by, gpg_fingerprint("good.fpr", fpr));
    larder_image_info_done(&info);
    expect_ok(h, image_entry_read(h->store, "x", &entry, &h->e));
    assert_int_not_equal(entry.sums_blob.alg, LARDER_DIGEST_NONE);
    assert_int_not_equal(entry.signature_blob.alg, LARDER_DIGEST_NONE);
    struct larder_blob_info blob;
    expect_ok(h, larder_blob_stat(h->store, &entry.signature_blob, &blob, &h->e));

    /* Somebody who can write there, but not sign: the good one stays. */
    host_image(h, "x.qcow2", 666);
    host_sums(h, "SHA256SUMS", "x.qcow2", LARDER_DIGEST_SHA256);
    expect_ok(h, larder_image_get(h->store, "x", NULL, &result, &h->e));
    assert_int_equal(result.how, LARDER_IMAGE_STALE_OK);
    assert_true(larder_digest_equal(&result.digest, &entry.digest));
    assert_non_null(strstr(h->last_warning, "text was changed"));
    larder_image_result_done(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_HOST(test_nothing_signed), ON_HOST(test_signed_list), ON_HOST(test_clearsigned),
        ON_HOST(test_bad_signature),  ON_HOST(test_get),
    };
    return cmocka_run_group_tests_name("sums_signed", tests, gpg_setup, gpg_teardown);
}
