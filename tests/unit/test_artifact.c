/* SPDX-License-Identifier: Apache-2.0 */
/* Which layer of a registry's artifact is the disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "image/registry/artifact.h"

#define DIGEST(c)                                                                                 \
    "sha256:" c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c \
        c c c c c c c c c c c c c c c c c c c c c c
#define EMPTY_CONFIG                                                                        \
    "\"config\":{\"mediaType\":\"application/vnd.oci.empty.v1+json\",\"digest\":\"" DIGEST( \
        "e") "\",\"size\":2}"
#define IMAGE_CONFIG                                                                               \
    "\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"" DIGEST( \
        "e") "\",\"size\":2}"
#define LAYER(type, digest, size, title)                \
    "{\"mediaType\":\"" type "\",\"digest\":\"" DIGEST( \
        digest) "\",\"size\":" size                     \
                ",\"annotations\":{\"org.opencontainers.image.title\":\"" title "\"}}"
#define PLAIN_LAYER(type, digest, size) \
    "{\"mediaType\":\"" type "\",\"digest\":\"" DIGEST(digest) "\",\"size\":" size "}"
#define MANIFEST(artifact_type, config, layers)         \
    "{\"schemaVersion\":2,\"mediaType\":\"application/" \
    "vnd.oci.image.manifest.v1+json\"" artifact_type "," config ",\"layers\":[" layers "]}"
#define NOSI "application/vnd.nosi.disk-image.layer.v1+gzip"

static struct oci_manifest *parse(const char *text)
{
    struct oci_manifest *manifest = NULL;
    struct larder_error e = LARDER_ERROR_INIT;
    int rc = oci_manifest_parse(slice_of(text), NULL, &manifest, &e);
    if (rc < 0)
        print_error("%s\n%s\n", e.msg, text);
    assert_int_equal(rc, 0);
    return manifest;
}

static void assert_digest(const struct larder_digest *digest, char c)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    assert_int_equal(larder_digest_hex(digest, hex)[0], c);
}

static void test_picks(void **state)
{
    (void)state;
    static const struct {
        const char *manifest;
        enum artifact_packing packing;
        const char *first_digits; /* of the blobs; NULL: NOENT */
        const char *title;
    } rows[] = {
        /* nosi: the image beside sums, a report and metadata */
        {MANIFEST(",\"artifactType\":\"application/vnd.nosi.disk-image.v1+gzip\"", EMPTY_CONFIG,
                  LAYER("application/vnd.nosi.build-report.v1+zip", "a", "900000",
                        "r.zip") "," LAYER(NOSI, "b", "5000",
                                           "debian.img.gz") "," LAYER("text/plain", "c", "90",
                                                                      "debian.img.gz.sha256")),
         ARTIFACT_FILE, "b", "debian.img.gz"},
        /* oras push of two files of one type: by title, then by size */
        {MANIFEST("", EMPTY_CONFIG,
                  LAYER("application/octet-stream", "a", "100", "x.qcow2") "," LAYER(
                      "application/octet-stream", "b", "200", "x.qcow2.sha256")),
         ARTIFACT_FILE, "a", "x.qcow2"},
        {MANIFEST("", EMPTY_CONFIG,
                  PLAIN_LAYER("application/octet-stream", "a",
                              "100") "," PLAIN_LAYER("application/octet-stream", "b", "200")),
         ARTIFACT_FILE, "b", NULL},
        /* containerDisk: an image; layers from the top */
        {MANIFEST("", IMAGE_CONFIG,
                  PLAIN_LAYER("application/vnd.oci.image.layer.v1.tar+gzip", "a",
                              "100") "," PLAIN_LAYER("application/vnd.oci.image.layer.v1.tar+gzip",
                                                     "b", "50")),
         ARTIFACT_TAR, "ba", NULL},
        /* tart: pieces in their order, nothing else */
        {MANIFEST(
             "", EMPTY_CONFIG,
             PLAIN_LAYER("application/vnd.cirruslabs.tart.config.v1", "a", "100") "," PLAIN_LAYER(
                 ARTIFACT_TART_DISK, "b",
                 "50") "," PLAIN_LAYER(ARTIFACT_TART_DISK, "c",
                                       "40") "," PLAIN_LAYER("application/"
                                                             "vnd.cirruslabs.tart.nvram.v1",
                                                             "d", "999")),
         ARTIFACT_PIECES, "bc", NULL},
        {MANIFEST("", EMPTY_CONFIG, LAYER("text/plain", "a", "1", "x")), ARTIFACT_FILE, NULL, NULL},
        {MANIFEST("", EMPTY_CONFIG, ""), ARTIFACT_FILE, NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct oci_manifest *manifest = parse(rows[i].manifest);
        struct image_artifact artifact = {0};
        struct larder_error e = LARDER_ERROR_INIT;
        int rc = image_artifact_pick(manifest, &artifact, &e);
        if (rows[i].first_digits) {
            assert_int_equal(rc, 0);
            assert_int_equal(artifact.packing, rows[i].packing);
            assert_int_equal(artifact.n_blobs, strlen(rows[i].first_digits));
            for (size_t k = 0; k < artifact.n_blobs; k++)
                assert_digest(&artifact.blobs[k].digest, rows[i].first_digits[k]);
            if (rows[i].title)
                assert_string_equal(artifact.title, rows[i].title);
            else
                assert_null(artifact.title);
        } else {
            assert_int_equal(rc, -LARDER_NOENT);
        }
        image_artifact_done(&artifact);
        oci_manifest_free(manifest);
    }
}

static void test_tart_annotations(void **state)
{
    (void)state;
    static const char text[] = MANIFEST(
        "", EMPTY_CONFIG,
        "{\"mediaType\":\"" ARTIFACT_TART_DISK "\",\"digest\":\"" DIGEST(
            "a") "\",\"size\":7,\"annotations\":{\"org.cirruslabs.tart.uncompressed-size\":"
                 "\"536870912\",\"org.cirruslabs.tart.uncompressed-content-digest\":\"" DIGEST(
                     "b") "\"}}");
    struct oci_manifest *manifest = parse(text);
    struct image_artifact artifact = {0};
    assert_int_equal(image_artifact_pick(manifest, &artifact, NULL), 0);
    assert_int_equal(artifact.blobs[0].unpacked_bytes, 536870912);
    assert_digest(&artifact.blobs[0].unpacked_digest, 'b');
    image_artifact_done(&artifact);
    oci_manifest_free(manifest);
}

/* podman machine: uname's architectures and a disktype each. */
static void test_members(void **state)
{
    (void)state;
    struct oci_platform host;
    oci_platform_host(&host);
    struct buf text = BUF_INIT(65536);
    static const struct {
        const char *disktype, *first_digit;
    } disks[] = {{"applehv", "a"}, {"hyperv", "b"}, {"qemu", "c"}};
    buf_puts(&text, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":[");
    for (size_t i = 0; i < ARRAY_LEN(disks); i++) {
        buf_printf(&text, "%s{\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"digest\":\"sha256:",
                   i > 0 ? "," : "");
        for (int k = 0; k < 64; k++)
            buf_puts(&text, disks[i].first_digit);
        buf_printf(&text,
                   "\",\"size\":9,\"platform\":{\"os\":\"linux\",\"architecture\":\"%s\"},"
                   "\"annotations\":{\"disktype\":\"%s\"}}",
                   platform_arch_to_uname(host.architecture), disks[i].disktype);
    }
    buf_puts(&text, "]}");
    struct oci_manifest *index = parse(text.p);
    static const struct {
        const char *format;
        char first_digit;
    } rows[] = {{NULL, 'c'}, {"qcow2", 'c'}, {"raw", 'a'}, {"vhdx", 'b'}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct oci_descriptor *member = NULL;
        assert_int_equal(image_artifact_member(index, rows[i].format, &member, NULL), 0);
        assert_digest(&member->digest, rows[i].first_digit);
    }
    oci_manifest_free(index);
    buf_done(&text);
}

static void test_no_member_for_us(void **state)
{
    (void)state;
    struct oci_manifest *index =
        parse("{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX
              "\",\"manifests\":[{\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"digest\":\"" DIGEST(
                  "a") "\",\"size\":9,\"platform\":{\"os\":\"linux\",\"architecture\":\"pdp11\"},"
                       "\"annotations\":{\"disktype\":\"qemu\"}}]}");
    const struct oci_descriptor *member = NULL;
    struct larder_error e = LARDER_ERROR_INIT;
    assert_int_equal(image_artifact_member(index, NULL, &member, &e), -LARDER_NOENT);
    assert_non_null(strstr(e.msg, "linux/pdp11 (qemu)"));
    oci_manifest_free(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_picks),
        cmocka_unit_test(test_tart_annotations),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_no_member_for_us),
    };
    return cmocka_run_group_tests_name("artifact", tests, NULL, NULL);
}
