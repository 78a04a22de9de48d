/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is written, against the bytes of the tools whose digests it must have. The goldens were made
 * with podman 4.3.1 and skopeo 1.9.3 from small images:
 *
 *   podman manifest create L; podman manifest add L oci:DIR   (amd64, arm64/v8, s390x, arm/v6,
 *       windows/amd64 with os.version and os.features)
 *   podman manifest push --all [-f v2s2] L dir:OUT; cat OUT/manifest.json
 * OUT/<digest>.manifest.json skopeo copy -f v2s2 oci:DIR dir:OUT; cat OUT/manifest.json oras 1.2.3:
 * oras push --oci-layout DIR:t --artifact-type ... FILE:text/plain   (without "created")
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "oci/write.h"

/* podman manifest push --all L dir:OUT */
static const char podman_index[] =
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\""
    ",\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
    "\"digest\":\"sha256:2d813c74818f36558deb7563ff2324fc1afc35768cad22c2cf9f5eed6d"
    "6ad626\",\"size\":418,\"platform\":{\"architecture\":\"amd64\",\"os\":\"linux"
    "\"}},{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":"
    "\"sha256:b8836d79fccf557c90a2f7dc9aa7d8fe2258473b17bce33ce67442f7700057ed\",\""
    "size\":417,\"platform\":{\"architecture\":\"arm64\",\"os\":\"linux\",\"variant"
    "\":\"v8\"}},{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"di"
    "gest\":\"sha256:ef992e0b52f3e2b2d0fefee52e4c782354ba48fe2698a32d72d19d8734ecbf"
    "4f\",\"size\":418,\"platform\":{\"architecture\":\"s390x\",\"os\":\"linux\"}},"
    "{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha"
    "256:34403f8147f0de9dfc4e191223c8c0f78d80404886852a4073f96af2f19dd8c8\",\"size"
    "\":447,\"platform\":{\"architecture\":\"arm\",\"os\":\"linux\",\"variant\":\"v"
    "6\"}},{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\""
    ":\"sha256:b6987b3f3dd55a6bfbe4b03ea9b0756a0655aefca151adf66bcd09778b9a1fdf\","
    "\"size\":418,\"platform\":{\"architecture\":\"amd64\",\"os\":\"windows\",\"os."
    "version\":\"10.0.17763.316\",\"os.features\":[\"win32k\"]}}]}";
/* podman manifest push --all -f v2s2 L dir:OUT */
static const char podman_list[] =
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manif"
    "est.list.v2+json\",\"manifests\":[{\"mediaType\":\"application/vnd.docker.dist"
    "ribution.manifest.v2+json\",\"size\":423,\"digest\":\"sha256:b4036371baa74e0e8"
    "e6574ad92e64790e40c448bf529ef13f077541550fce437\",\"platform\":{\"architecture"
    "\":\"amd64\",\"os\":\"linux\"}},{\"mediaType\":\"application/vnd.docker.distri"
    "bution.manifest.v2+json\",\"size\":422,\"digest\":\"sha256:a753d46e00f6928806e"
    "016a4c49636979897659d974ff496b3b4e8141d9198b2\",\"platform\":{\"architecture\""
    ":\"arm64\",\"os\":\"linux\",\"variant\":\"v8\"}},{\"mediaType\":\"application/"
    "vnd.docker.distribution.manifest.v2+json\",\"size\":423,\"digest\":\"sha256:3f"
    "9578ffaa959023f96696a1ab2b2331b2eef0ca703e03525ae4d343782b8b02\",\"platform\":"
    "{\"architecture\":\"s390x\",\"os\":\"linux\"}},{\"mediaType\":\"application/vn"
    "d.docker.distribution.manifest.v2+json\",\"size\":422,\"digest\":\"sha256:e7bf"
    "50292e63a35d0f8924856514f192bd0097541b6798a150ae8a3a97a90f8e\",\"platform\":{"
    "\"architecture\":\"arm\",\"os\":\"linux\",\"variant\":\"v6\"}},{\"mediaType\":"
    "\"application/vnd.docker.distribution.manifest.v2+json\",\"size\":423,\"digest"
    "\":\"sha256:447b64e2850803dd06bd5a4915fc72fd2602a46c2fb121f8f39e66a846fcd4be\""
    ",\"platform\":{\"architecture\":\"amd64\",\"os\":\"windows\",\"os.version\":\""
    "10.0.17763.316\",\"os.features\":[\"win32k\"]}}]}";
/* podman manifest add --features f1 --features f2 --os-version 1.2 --variant v2 L oci:amd64; push
 */
static const char podman_list_features[] =
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manif"
    "est.list.v2+json\",\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.m"
    "anifest.v1+json\",\"size\":418,\"digest\":\"sha256:2d813c74818f36558deb7563ff2"
    "324fc1afc35768cad22c2cf9f5eed6d6ad626\",\"platform\":{\"architecture\":\"amd64"
    "\",\"os\":\"linux\",\"os.version\":\"1.2\",\"variant\":\"v2\",\"features\":[\""
    "f1\",\"f2\"]}}]}";
/* podman manifest add --annotation zz=1 --annotation 'a.b=<x>&...' --annotation Z=... L oci:amd64,
 * without what can't be read back: \u0008 and \u000c of an old Go, \ufffd for a bad byte */
static const char podman_index_annotations[] =
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\""
    ",\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
    "\"digest\":\"sha256:2d813c74818f36558deb7563ff2324fc1afc35768cad22c2cf9f5eed6d"
    "6ad626\",\"size\":418,\"annotations\":{\"Z\":\"Ω\",\"a.b\":\"\\u003cx"
    "\\u003e\\u0026é/\\u2028\\u0001\\t\",\"zz\":\"1\"},\"platform\":{\""
    "architecture\":\"amd64\",\"os\":\"linux\"}}]}";
/* podman manifest push --all L dir:OUT with nothing in it */
static const char podman_list_empty[] =
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manif"
    "est.list.v2+json\",\"manifests\":[]}";
static const char podman_index_empty[] =
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\""
    ",\"manifests\":[]}";
/* skopeo copy -f v2s2 oci:amd64 dir:OUT, and the image it was given */
static const char skopeo_docker[] =
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manif"
    "est.v2+json\",\"config\":{\"mediaType\":\"application/vnd.docker.container.ima"
    "ge.v1+json\",\"size\":173,\"digest\":\"sha256:f88b440fb7e63bbf0635b394ce9570f9"
    "3cdcb98a90b0b0fa93e226c01f7ec247\"},\"layers\":[{\"mediaType\":\"application/v"
    "nd.docker.image.rootfs.diff.tar.gzip\",\"size\":100,\"digest\":\"sha256:54b3b1"
    "4bf4cd2231e4586b56b7e62202bff6104161dd68dc565bf76c95d9bcb0\"}]}";
static const char skopeo_docker_source[] =
    "{\"schemaVersion\": 2, \"mediaType\": \"application/vnd.oci.image.manifest.v1+"
    "json\", \"config\": {\"mediaType\": \"application/vnd.oci.image.config.v1+json"
    "\", \"digest\": \"sha256:f88b440fb7e63bbf0635b394ce9570f93cdcb98a90b0b0fa93e22"
    "6c01f7ec247\", \"size\": 173}, \"layers\": [{\"mediaType\": \"application/vnd."
    "oci.image.layer.v1.tar+gzip\", \"digest\": \"sha256:54b3b14bf4cd2231e4586b56b7"
    "e62202bff6104161dd68dc565bf76c95d9bcb0\", \"size\": 100}]}";
/* The same of an image with a nondistributable layer with URLs and annotations. */
static const char skopeo_docker_foreign[] =
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manif"
    "est.v2+json\",\"config\":{\"mediaType\":\"application/vnd.docker.container.ima"
    "ge.v1+json\",\"size\":173,\"digest\":\"sha256:f88b440fb7e63bbf0635b394ce9570f9"
    "3cdcb98a90b0b0fa93e226c01f7ec247\"},\"layers\":[{\"mediaType\":\"application/v"
    "nd.docker.image.rootfs.diff.tar.gzip\",\"size\":100,\"digest\":\"sha256:54b3b1"
    "4bf4cd2231e4586b56b7e62202bff6104161dd68dc565bf76c95d9bcb0\"},{\"mediaType\":"
    "\"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip\",\"size\":100,\"d"
    "igest\":\"sha256:54b3b14bf4cd2231e4586b56b7e62202bff6104161dd68dc565bf76c95d9b"
    "cb0\",\"urls\":[\"https://example.org/a?b=\\u003c\\u0026\\u003e\",\"https://ex"
    "ample.org/\\u2028\"]}]}";
static const char skopeo_docker_foreign_source[] =
    "{\"schemaVersion\": 2, \"mediaType\": \"application/vnd.oci.image.manifest.v1+"
    "json\", \"config\": {\"mediaType\": \"application/vnd.oci.image.config.v1+json"
    "\", \"digest\": \"sha256:f88b440fb7e63bbf0635b394ce9570f93cdcb98a90b0b0fa93e22"
    "6c01f7ec247\", \"size\": 173, \"annotations\": {\"k\": \"v\"}}, \"layers\": [{"
    "\"mediaType\": \"application/vnd.oci.image.layer.v1.tar+gzip\", \"digest\": \""
    "sha256:54b3b14bf4cd2231e4586b56b7e62202bff6104161dd68dc565bf76c95d9bcb0\", \"s"
    "ize\": 100}, {\"mediaType\": \"application/vnd.oci.image.layer.nondistributabl"
    "e.v1.tar+gzip\", \"digest\": \"sha256:54b3b14bf4cd2231e4586b56b7e62202bff61041"
    "61dd68dc565bf76c95d9bcb0\", \"size\": 100, \"urls\": [\"https://example.org/a?"
    "b=<&>\", \"https://example.org/\\u2028\"], \"annotations\": {\"x\": \"y\"}}]}";

static struct json *json_of(const char *text)
{
    struct json *doc = NULL;

    if (text)
        assert_int_equal(json_parse(slice_of(text), 10000, &doc, NULL), 0);
    return doc;
}

/* Reads a golden and writes it again from what was read. */
static void rewrite_index(const char *golden, bool as_docker)
{
    CLEANUP(oci_manifest_freep) struct oci_manifest *m = NULL;
    struct oci_index_entry entries[8];
    struct buf out = BUF_INIT(100000);
    struct larder_error e = LARDER_ERROR_INIT;

    if (oci_manifest_parse(slice_of(golden), NULL, &m, &e) < 0)
        fail_msg("%s", e.msg);
    assert_in_range(m->n_manifests, 0, ARRAY_LEN(entries));
    for (size_t i = 0; i < m->n_manifests; i++)
        oci_index_entry_of(&m->manifests[i], &entries[i]);
    assert_int_equal(oci_index_write(entries, m->n_manifests, as_docker, NULL, &out, NULL), 0);
    assert_string_equal(out.p, golden);
    buf_done(&out);
}

static void indexes(void **state __attribute__((unused)))
{
    rewrite_index(podman_index, false);
    rewrite_index(podman_index_annotations, false);
    rewrite_index(podman_index_empty, false);
    rewrite_index(podman_list, true);
    rewrite_index(podman_list_features, true);
    rewrite_index(podman_list_empty, true);
}

/* Members no podman of ours writes; the order is that of image-spec's Go structs. */
static void index_members(void **state __attribute__((unused)))
{
    CLEANUP(json_freep) struct json *annotations = json_of("{\"z\":\"1\",\"a\":\"2\",\"B\":\"3\"}");
    CLEANUP(json_freep) struct json *empty = json_of("{}");
    struct oci_index_entry entry = {.media_type = "a/b", .size_bytes = INT64_MAX};
    struct buf out = BUF_INIT(10000);

    assert_int_equal(
        larder_digest_parse("sha256:" OCI_EMPTY_DIGEST_HEX, (size_t)-1, &entry.digest, NULL), 0);
    entry.artifact_type = "c/d";
    entry.annotations = annotations;
    assert_int_equal(oci_index_write(&entry, 1, false, annotations, &out, NULL), 0);
    assert_string_equal(
        out.p, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":["
               "{\"mediaType\":\"a/b\",\"digest\":\"sha256:" OCI_EMPTY_DIGEST_HEX "\","
               "\"size\":9223372036854775807,\"annotations\":{\"B\":\"3\",\"a\":\"2\",\"z\":\"1\"},"
               "\"artifactType\":\"c/d\"}],\"annotations\":{\"B\":\"3\",\"a\":\"2\",\"z\":\"1\"}}");
    /* Docker's has no place for these, and nothing is written. */
    buf_reset(&out);
    assert_int_equal(oci_index_write(&entry, 1, true, NULL, &out, NULL), -LARDER_INVAL);
    entry.annotations = NULL;
    assert_int_equal(oci_index_write(&entry, 1, true, NULL, &out, NULL), -LARDER_INVAL);
    entry.artifact_type = NULL;
    assert_int_equal(oci_index_write(&entry, 1, true, annotations, &out, NULL), -LARDER_INVAL);
    assert_int_equal(out.n, 0);
    /* Empty is left out; a platform is not, in Docker's. */
    entry.annotations = empty;
    assert_int_equal(oci_index_write(&entry, 1, true, empty, &out, NULL), 0);
    assert_non_null(strstr(out.p, ",\"platform\":{\"architecture\":\"\",\"os\":\"\"}}]}"));
    buf_done(&out);

    struct buf tiny = BUF_INIT(10);
    assert_int_equal(oci_index_write(&entry, 1, false, NULL, &tiny, NULL), -LARDER_LIMIT);
    buf_done(&tiny);
}

static int to_docker(const char *source, struct buf *out, struct larder_error *e)
{
    CLEANUP(oci_manifest_freep) struct oci_manifest *m = NULL;
    int r = oci_manifest_parse(slice_of(source), NULL, &m, e);

    if (r < 0)
        fail_msg("%s", e->msg);
    return oci_manifest_to_docker(m, out, e);
}

static void conversion(void **state __attribute__((unused)))
{
    static const struct {
        const char *source, *result;
    } rows[] = {
        {skopeo_docker_source, skopeo_docker},
        {skopeo_docker_foreign_source, skopeo_docker_foreign},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = BUF_INIT(10000);
        struct larder_error e = LARDER_ERROR_INIT;

        assert_int_equal(to_docker(rows[i].source, &out, &e), 0);
        assert_string_equal(out.p, rows[i].result);
        buf_done(&out);
    }
}

/* skopeo refuses each of these, too. */
static void conversion_refused(void **state __attribute__((unused)))
{
    static const char *const layers[] = {
        OCI_TYPE_LAYER_ZSTD,
        OCI_TYPE_LAYER_FOREIGN_ZSTD,
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        DOCKER_TYPE_LAYER_GZIP,
        "text/plain",
    };
    struct buf out = BUF_INIT(10000);
    struct larder_error e = LARDER_ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(layers); i++) {
        struct buf text = BUF_INIT(10000);

        buf_printf(&text,
                   "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" OCI_TYPE_CONFIG
                   "\",\"digest\":\"sha256:" OCI_EMPTY_DIGEST_HEX
                   "\",\"size\":2},\"layers\":[{\"mediaType\":\"%s\",\"digest\":\"sha256:"
                   "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\","
                   "\"size\":2}]}",
                   layers[i]);
        assert_int_equal(to_docker(text.p, &out, &e), -LARDER_INVAL);
        assert_non_null(strstr(e.msg, layers[i]));
        assert_non_null(strstr(e.msg, "sha256:0123"));
        buf_done(&text);
    }
    assert_int_equal(to_docker(skopeo_docker, &out, &e), -LARDER_INVAL);
    assert_int_equal(to_docker(podman_index, &out, &e), -LARDER_INVAL);
    assert_int_equal(to_docker("{\"schemaVersion\":2,\"config\":" OCI_EMPTY_DESCRIPTOR
                               ",\"layers\":[]}",
                               &out, &e),
                     -LARDER_INVAL);
    assert_non_null(strstr(e.msg, "config"));
    assert_int_equal(out.n, 0);
    buf_done(&out);
}

static void artifacts(void **state __attribute__((unused)))
{
    CLEANUP(json_freep)
    struct json *title = json_of("{\"org.opencontainers.image.title\":\"h.txt\"}");
    CLEANUP(json_freep) struct json *annotations = json_of("{\"a\":\"<1>\"}");
    struct oci_artifact_layer layer = {.media_type = "text/plain", .size_bytes = 5};
    struct oci_descriptor subject = {.media_type = OCI_TYPE_MANIFEST, .size_bytes = 565};
    struct buf out = BUF_INIT(10000);

    layer.annotations = title;
    assert_int_equal(larder_digest_parse(
                         "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
                         (size_t)-1, &layer.digest, NULL),
                     0);
    subject.digest = layer.digest;
    assert_int_equal(
        oci_artifact_write("application/vnd.example.x", &layer, 1, NULL, annotations, &out, NULL),
        0);
    /* oras push */
    assert_string_equal(
        out.p,
        "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
        "\"artifactType\":\"application/vnd.example.x\",\"config\":{\"mediaType\":"
        "\"application/vnd.oci.empty.v1+json\",\"digest\":"
        "\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2,"
        "\"data\":\"e30=\"},\"layers\":[{\"mediaType\":\"text/plain\",\"digest\":"
        "\"sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\",\"size\":5,"
        "\"annotations\":{\"org.opencontainers.image.title\":\"h.txt\"}}],"
        "\"annotations\":{\"a\":\"\\u003c1\\u003e\"}}");
    buf_reset(&out);
    assert_int_equal(oci_artifact_write("a/b", NULL, 0, &subject, NULL, &out, NULL), 0);
    assert_string_equal(out.p,
                        "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST
                        "\",\"artifactType\":\"a/b\",\"config\":" OCI_EMPTY_DESCRIPTOR
                        ",\"layers\":[" OCI_EMPTY_DESCRIPTOR
                        "],\"subject\":{\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"digest\":"
                        "\"sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
                        "\",\"size\":565}}");
    buf_reset(&out);
    assert_int_equal(oci_artifact_write("", NULL, 0, NULL, NULL, &out, NULL), -LARDER_INVAL);
    assert_int_equal(oci_artifact_write(NULL, NULL, 0, NULL, NULL, &out, NULL), -LARDER_INVAL);
    buf_done(&out);
}

/* Results of json.Marshal, Go 1.26; 200,000 random strings of such bytes were compared, too. */
static void strings(void **state __attribute__((unused)))
{
    static const struct {
        const char *text, *json;
    } rows[] = {
        {"", "\"\""},
        {"a/b'c`\x7f", "\"a/b'c`\x7f\""},
        {"\"\\", "\"\\\"\\\\\""},
        {"\b\f\n\r\t\x01\x1f\x0b", "\"\\b\\f\\n\\r\\t\\u0001\\u001f\\u000b\""},
        {"<a href>&</a>", "\"\\u003ca href\\u003e\\u0026\\u003c/a\\u003e\""},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"\xe2\x80\xa7\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa",
         "\"\xe2\x80\xa7\\u2028\\u2029\xe2\x80\xaa\""},
        {"\xff", "\"\\ufffd\""},
        {"a\x80z", "\"a\\ufffdz\""},
        {"\xc3", "\"\\ufffd\""},
        {"\xe2\x82", "\"\\ufffd\\ufffd\""},
        {"\xe2\x82z", "\"\\ufffd\\ufffdz\""},
        {"\xc0\x80", "\"\\ufffd\\ufffd\""},                       /* overlong */
        {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""},            /* a surrogate */
        {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""}, /* above U+10FFFF */
        {"\xef\xbf\xbd", "\"\xef\xbf\xbd\""},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = BUF_INIT(1000);

        go_json_string(&out, rows[i].text);
        assert_string_equal(out.p, rows[i].json);
        buf_done(&out);
    }
}

static void nodes(void **state __attribute__((unused)))
{
    static const char text[] = "{ \"b\" : [ 1, -2, true, false, null, \"<\", {} , [] ],"
                               " \"a\":{\"y\":9223372036854775807,\"x\":\"\xc3\xa9\"}, \"B\":\"\"}";
    CLEANUP(json_freep) struct json *doc = json_of(text);
    struct buf out = BUF_INIT(1000);

    go_json_node(&out, doc);
    assert_string_equal(out.p, "{\"B\":\"\",\"a\":{\"x\":\"\xc3\xa9\",\"y\":9223372036854775807},"
                               "\"b\":[1,-2,true,false,null,\"\\u003c\",{},[]]}");
    buf_reset(&out);
    go_json_node(&out, NULL);
    assert_string_equal(out.p, "null");
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(indexes),    cmocka_unit_test(index_members),
        cmocka_unit_test(conversion), cmocka_unit_test(conversion_refused),
        cmocka_unit_test(artifacts),  cmocka_unit_test(strings),
        cmocka_unit_test(nodes),
    };

    return cmocka_run_group_tests_name("oci_write", tests, NULL, NULL);
}
