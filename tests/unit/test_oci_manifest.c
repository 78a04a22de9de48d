/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "oci/manifest.h"

#define HEX16  "0123456789abcdef"
#define HEX64  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define SHA256 "sha256:" HEX64
#define EMPTY  "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

#define CONFIG "{\"mediaType\":\"" OCI_TYPE_CONFIG "\",\"digest\":\"" SHA256 "\",\"size\":3}"
#define LAYER  "{\"mediaType\":\"" OCI_TYPE_LAYER_GZIP "\",\"digest\":\"" SHA256 "\",\"size\":7}"
#define MEMBER                                                                       \
    "{\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"digest\":\"" SHA256 "\",\"size\":9," \
    "\"platform\":{\"architecture\":\"arm64\",\"os\":\"linux\",\"variant\":\"v8\"}}"
#define TYPE(t)       "\"mediaType\":\"" t "\","
#define IMAGE_MEMBERS "\"config\":" CONFIG ",\"layers\":[" LAYER "]"
#define IMAGE         "{\"schemaVersion\":2," TYPE(OCI_TYPE_MANIFEST) IMAGE_MEMBERS "}"
#define IMAGE_UNTYPED "{\"schemaVersion\":2," IMAGE_MEMBERS "}"
#define DOCKER        "{\"schemaVersion\":2," TYPE(DOCKER_TYPE_MANIFEST) IMAGE_MEMBERS "}"
#define INDEX_MEMBERS "\"manifests\":[" MEMBER "]"
#define INDEX         "{\"schemaVersion\":2," TYPE(OCI_TYPE_INDEX) INDEX_MEMBERS "}"
#define INDEX_UNTYPED "{\"schemaVersion\":2," INDEX_MEMBERS "}"
#define LIST          "{\"schemaVersion\":2," TYPE(DOCKER_TYPE_LIST) INDEX_MEMBERS "}"
#define IMAGE_WITH(m) "{\"schemaVersion\":2," IMAGE_MEMBERS "," m "}"
#define INDEX_OF(m)   "{\"schemaVersion\":2,\"manifests\":[" m "]}"
#define LAYER_WITH(m) "{\"mediaType\":\"a/b\",\"digest\":\"" SHA256 "\",\"size\":1," m "}"

static void kinds(void **state __attribute__((unused)))
{
    static const struct {
        const char *body, *claim;
        enum oci_kind kind;
        const char *type;
    } rows[] = {
        {IMAGE, NULL, OCI_KIND_IMAGE, OCI_TYPE_MANIFEST},
        {IMAGE, OCI_TYPE_MANIFEST, OCI_KIND_IMAGE, OCI_TYPE_MANIFEST},
        {IMAGE, OCI_TYPE_MANIFEST "; charset=utf-8", OCI_KIND_IMAGE, OCI_TYPE_MANIFEST},
        {IMAGE, "Application/vnd.oci.image.manifest.v1+JSON", OCI_KIND_IMAGE, OCI_TYPE_MANIFEST},
        {IMAGE, "text/plain", OCI_KIND_IMAGE, OCI_TYPE_MANIFEST},
        {IMAGE, "", OCI_KIND_IMAGE, OCI_TYPE_MANIFEST},
        {IMAGE_UNTYPED, NULL, OCI_KIND_IMAGE, OCI_TYPE_MANIFEST},
        {IMAGE_UNTYPED, "application/json", OCI_KIND_IMAGE, OCI_TYPE_MANIFEST},
        {DOCKER, DOCKER_TYPE_MANIFEST, OCI_KIND_IMAGE, DOCKER_TYPE_MANIFEST},
        {INDEX, NULL, OCI_KIND_INDEX, OCI_TYPE_INDEX},
        {INDEX_UNTYPED, OCI_TYPE_INDEX, OCI_KIND_INDEX, OCI_TYPE_INDEX},
        {INDEX_UNTYPED, NULL, OCI_KIND_INDEX, OCI_TYPE_INDEX},
        {LIST, DOCKER_TYPE_LIST, OCI_KIND_INDEX, DOCKER_TYPE_LIST},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(oci_manifest_freep) struct oci_manifest *m = NULL;
        struct larder_error e = LARDER_ERROR_INIT;

        if (oci_manifest_parse(slice_of(rows[i].body), rows[i].claim, &m, &e) < 0)
            fail_msg("row %zu: %s", i, e.msg);
        assert_int_equal(m->kind, rows[i].kind);
        assert_string_equal(m->media_type, rows[i].type);
        assert_int_equal(m->is_docker, strstr(rows[i].type, "docker") != NULL);
        assert_int_equal(m->n_layers, m->kind == OCI_KIND_IMAGE);
        assert_int_equal(m->n_manifests, m->kind == OCI_KIND_INDEX);
        if (m->kind == OCI_KIND_IMAGE) {
            assert_int_equal(m->config.size_bytes, 3);
            assert_string_equal(m->layers[0].media_type, OCI_TYPE_LAYER_GZIP);
            assert_false(m->layers[0].has_platform);
        } else {
            assert_int_equal(m->manifests[0].size_bytes, 9);
            assert_true(m->manifests[0].has_platform);
            assert_string_equal(m->manifests[0].platform.variant, "v8");
        }
    }
}

static void refused(void **state __attribute__((unused)))
{
    static const struct {
        const char *body, *claim;
        enum larder_code code;
        const char *says;
    } rows[] = {
        {"", NULL, LARDER_INVAL, "manifest"},
        {"[]", NULL, LARDER_INVAL, "object"},
        {"null", NULL, LARDER_INVAL, ""},
        {IMAGE "x", NULL, LARDER_INVAL, ""},
        {"{}", NULL, LARDER_UNSUPPORTED, "neither"},
        {"{\"schemaVersion\":2}", "application/json", LARDER_UNSUPPORTED, "neither"},
        {"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.example+json\"}", NULL,
         LARDER_UNSUPPORTED, "vnd.example"},
        {IMAGE_UNTYPED, "text/html", LARDER_UNSUPPORTED, "text/html"},
        {IMAGE, "a b", LARDER_INVAL, "media type"},
        {"{\"schemaVersion\":2,\"mediaType\":5," IMAGE_MEMBERS "}", NULL, LARDER_INVAL,
         "mediaType"},
        /* one says this, the other that */
        {IMAGE, OCI_TYPE_INDEX, LARDER_MISMATCH, OCI_TYPE_INDEX},
        {IMAGE, DOCKER_TYPE_MANIFEST, LARDER_MISMATCH, DOCKER_TYPE_MANIFEST},
        {INDEX, OCI_TYPE_MANIFEST, LARDER_MISMATCH, OCI_TYPE_MANIFEST},
        {IMAGE, "text/html", LARDER_MISMATCH, "text/html"},
        {IMAGE, DOCKER_TYPE_SCHEMA1, LARDER_MISMATCH, "v1+json"},
        {IMAGE_UNTYPED, OCI_TYPE_INDEX, LARDER_INVAL, "manifests"},
        {INDEX_UNTYPED, OCI_TYPE_MANIFEST, LARDER_INVAL, "config"},
        {IMAGE_UNTYPED, DOCKER_TYPE_MANIFEST, LARDER_INVAL, "mediaType"},
        {INDEX_UNTYPED, DOCKER_TYPE_LIST, LARDER_INVAL, "mediaType"},
        /* two in one */
        {IMAGE_WITH(INDEX_MEMBERS), NULL, LARDER_INVAL, "both"},
        {"{\"schemaVersion\":2," TYPE(OCI_TYPE_INDEX) INDEX_MEMBERS ",\"layers\":[]}", NULL,
         LARDER_INVAL, "both"},
        {"{\"schemaVersion\":2," TYPE(OCI_TYPE_INDEX) INDEX_MEMBERS ",\"config\":{}}", NULL,
         LARDER_INVAL, "both"},
        {IMAGE_WITH("\"fsLayers\":[]"), NULL, LARDER_INVAL, "schema 1"},
        {IMAGE_WITH("\"layers\":[]"), NULL, LARDER_INVAL, "duplicate"},
        {IMAGE_WITH("\"x\":{\"a\":1,\"a\":1}"), NULL, LARDER_INVAL, "duplicate"},
        /* schema 1 */
        {"{\"schemaVersion\":1,\"name\":\"x\",\"fsLayers\":[]}", NULL, LARDER_UNSUPPORTED,
         "schema 1"},
        {"{\"schemaVersion\":1,\"fsLayers\":[]}", DOCKER_TYPE_SCHEMA1_SIGNED, LARDER_UNSUPPORTED,
         "schema 1"},
        {"{\"schemaVersion\":2}", DOCKER_TYPE_SCHEMA1, LARDER_UNSUPPORTED, "schema 1"},
        /* required members */
        {"{" IMAGE_MEMBERS "}", NULL, LARDER_INVAL, "schemaVersion"},
        {"{\"schemaVersion\":\"2\"," IMAGE_MEMBERS "}", NULL, LARDER_INVAL, "schemaVersion"},
        {"{\"schemaVersion\":3," IMAGE_MEMBERS "}", NULL, LARDER_INVAL, "schemaVersion"},
        {"{\"schemaVersion\":2," TYPE(OCI_TYPE_MANIFEST) "\"layers\":[]}", NULL, LARDER_INVAL,
         "config"},
        {"{\"schemaVersion\":2,\"config\":" CONFIG "}", NULL, LARDER_INVAL, "layers"},
        {"{\"schemaVersion\":2,\"config\":" CONFIG ",\"layers\":{}}", NULL, LARDER_INVAL, "layers"},
        {"{\"schemaVersion\":2,\"config\":[],\"layers\":[]}", NULL, LARDER_INVAL, "config"},
        {"{\"schemaVersion\":2," TYPE(OCI_TYPE_INDEX) "\"x\":1}", NULL, LARDER_INVAL, "manifests"},
        {"{\"schemaVersion\":2,\"manifests\":1}", NULL, LARDER_INVAL, "manifests"},
        {INDEX_OF("1"), NULL, LARDER_INVAL, "member 0"},
        {INDEX_OF("null"), NULL, LARDER_INVAL, "member 0"},
        {INDEX_OF(MEMBER ",{}"), NULL, LARDER_INVAL, "member 1"},
        {INDEX_OF("{\"digest\":\"" SHA256 "\",\"size\":1}"), NULL, LARDER_INVAL, "mediaType"},
        {INDEX_OF("{\"mediaType\":\"\",\"digest\":\"" SHA256 "\",\"size\":1}"), NULL, LARDER_INVAL,
         "mediaType"},
        {INDEX_OF("{\"mediaType\":\"a\\r\\nb: c\",\"digest\":\"" SHA256 "\",\"size\":1}"), NULL,
         LARDER_INVAL, "mediaType"},
        {INDEX_OF("{\"mediaType\":\"a/" HEX64 HEX64 HEX64 HEX64 "\",\"digest\":\"" SHA256
                  "\",\"size\":1}"),
         NULL, LARDER_INVAL, "mediaType"},
        {INDEX_OF("{\"mediaType\":\"a/b\",\"size\":1}"), NULL, LARDER_INVAL, "digest"},
        {INDEX_OF("{\"mediaType\":\"a/b\",\"digest\":\"sha256:../../x\",\"size\":1}"), NULL,
         LARDER_INVAL, "member 0: digest"},
        {INDEX_OF("{\"mediaType\":\"a/b\",\"digest\":\"sha256:" HEX16 "\",\"size\":1}"), NULL,
         LARDER_INVAL, "64 hex"},
        {INDEX_OF("{\"mediaType\":\"a/b\",\"digest\":\"" SHA256 "\\u0000\",\"size\":1}"), NULL,
         LARDER_INVAL, ""},
        {INDEX_OF("{\"mediaType\":\"a/b\",\"digest\":\"blake3:" HEX64 "\",\"size\":1}"), NULL,
         LARDER_UNSUPPORTED, "blake3"},
        {INDEX_OF("{\"mediaType\":\"a/b\",\"digest\":\"" SHA256 "\"}"), NULL, LARDER_INVAL, "size"},
        {INDEX_OF("{\"mediaType\":\"a/b\",\"digest\":\"" SHA256 "\",\"size\":-1}"), NULL,
         LARDER_INVAL, "size"},
        {INDEX_OF("{\"mediaType\":\"a/b\",\"digest\":\"" SHA256 "\",\"size\":1.5}"), NULL,
         LARDER_INVAL, "size"},
        {INDEX_OF("{\"mediaType\":\"a/b\",\"digest\":\"" SHA256 "\",\"size\":\"1\"}"), NULL,
         LARDER_INVAL, "size"},
        {INDEX_OF("{\"mediaType\":\"a/b\",\"digest\":\"" SHA256 "\",\"size\":9223372036854775808}"),
         NULL, LARDER_INVAL, ""},
        /* optional ones of another type */
        {INDEX_OF(LAYER_WITH("\"annotations\":[]")), NULL, LARDER_INVAL, "annotations"},
        {INDEX_OF(LAYER_WITH("\"annotations\":{\"a\":1}")), NULL, LARDER_INVAL, "annotations"},
        {INDEX_OF(LAYER_WITH("\"urls\":[1]")), NULL, LARDER_INVAL, "urls"},
        {INDEX_OF(LAYER_WITH("\"urls\":\"a\"")), NULL, LARDER_INVAL, "urls"},
        {INDEX_OF(LAYER_WITH("\"platform\":\"a\"")), NULL, LARDER_INVAL, "platform"},
        {INDEX_OF(LAYER_WITH("\"data\":1")), NULL, LARDER_INVAL, "data"},
        {INDEX_OF(LAYER_WITH("\"artifactType\":1")), NULL, LARDER_INVAL, "artifactType"},
        {IMAGE_WITH("\"annotations\":{\"a\":null}"), NULL, LARDER_INVAL, "annotations"},
        {IMAGE_WITH("\"artifactType\":{}"), NULL, LARDER_INVAL, "artifactType"},
        {IMAGE_WITH("\"subject\":[]"), NULL, LARDER_INVAL, "subject"},
        {IMAGE_WITH("\"subject\":{}"), NULL, LARDER_INVAL, "subject"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct oci_manifest *m = NULL;
        struct larder_error e = LARDER_ERROR_INIT;
        int r = oci_manifest_parse(slice_of(rows[i].body), rows[i].claim, &m, &e);

        if (r != -(int)rows[i].code || (int)e.code != -r || !strstr(e.msg, rows[i].says))
            fail_msg("row %zu: %d: %s", i, r, e.msg);
        assert_null(m);
        assert_int_equal(oci_manifest_parse(slice_of(rows[i].body), rows[i].claim, &m, NULL), r);
    }
}

/* What later versions and other tools write. */
static void tolerated(void **state __attribute__((unused)))
{
    static const char *const rows[] = {
        IMAGE_WITH("\"new\":{\"x\":[1,2.5,null,true]}"),
        IMAGE_WITH(
            "\"annotations\":null,\"subject\":null,\"artifactType\":\"\",\"manifests\":null"),
        "{\"schemaVersion\":2,\"config\":" CONFIG ",\"layers\":null}",
        "{\"schemaVersion\":2,\"config\":" CONFIG ",\"layers\":[]}",
        "{\"schemaVersion\":2,\"mediaType\":null," IMAGE_MEMBERS "}",
        "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":null}",
        "{\"schemaVersion\":2,\"manifests\":[]}",
        INDEX_OF(LAYER_WITH("\"platform\":null,\"urls\":null,\"annotations\":null,\"data\":null")),
        INDEX_OF(LAYER_WITH("\"platform\":{},\"urls\":[],\"annotations\":{},\"data\":\"\"")),
        INDEX_OF(LAYER_WITH("\"platform\":{\"os\":\"new\",\"gpu\":\"x\"},\"new\":1")),
        INDEX_OF("{\"mediaType\":\"text/plain; charset=utf-8\",\"digest\":\"" SHA256
                 "\",\"size\":0}"),
        INDEX_OF("{\"mediaType\":\"odd\",\"digest\":\"" SHA256 "\",\"size\":9223372036854775807}"),
        " \n{ \"schemaVersion\" : 2, \"manifests\" : [ ] }\n ",
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(oci_manifest_freep) struct oci_manifest *m = NULL;
        struct larder_error e = LARDER_ERROR_INIT;

        if (oci_manifest_parse(slice_of(rows[i]), NULL, &m, &e) < 0)
            fail_msg("row %zu: %s", i, e.msg);
        assert_false(m->has_subject);
        assert_null(m->artifact_type);
    }
}

static void artifacts(void **state __attribute__((unused)))
{
    static const char text[] = "{\"schemaVersion\":2," TYPE(
        OCI_TYPE_MANIFEST) "\"artifactType\":\"application/"
                           "example\",\"config\":{\"mediaType\":\"" OCI_TYPE_EMPTY
                           "\",\"digest\":\"" EMPTY "\",\"size\":2,\"data\":\"e30=\"},"
                           "\"layers\":[" LAYER_WITH(
                               "\"annotations\":{\"org.opencontainers.image.title\":\"a."
                               "txt\"},"
                               "\"urls\":[\"ftp://example.org/a\"],\"artifactType\":\"b/"
                               "c\"") "],"
                                      "\"subject\":{\"mediaType\":\"" OCI_TYPE_INDEX
                                      "\",\"digest\":\"" SHA256 "\",\"size\":5},"
                                      "\"annotations\":{\"k\":\"v\"}}";
    CLEANUP(oci_manifest_freep) struct oci_manifest *m = NULL;
    char *data = NULL;

    assert_int_equal(oci_manifest_parse(slice_of(text), OCI_TYPE_MANIFEST, &m, NULL), 0);
    assert_string_equal(m->artifact_type, "application/example");
    assert_true(m->has_subject);
    assert_int_equal(m->subject.size_bytes, 5);
    assert_string_equal(oci_annotation(m->annotations, "k"), "v");
    assert_null(oci_annotation(m->annotations, "x"));
    assert_null(oci_annotation(NULL, "x"));
    assert_string_equal(oci_annotation(m->layers[0].annotations, "org.opencontainers.image.title"),
                        "a.txt");
    assert_string_equal(m->layers[0].artifact_type, "b/c");
    assert_int_equal(json_length(m->layers[0].urls), 1);
    assert_int_equal(oci_descriptor_data(&m->config, &data, NULL), 0);
    assert_string_equal(data, "{}");
    free(data);
    data = NULL;
    assert_int_equal(oci_descriptor_data(&m->layers[0], &data, NULL), -LARDER_NOENT);
    assert_null(data);
}

static void embedded_data(void **state __attribute__((unused)))
{
    static const struct {
        const char *data;
        uint64_t size;
    } bad[] = {
        {"e30=", 3},  {"e30=", 1}, {"e30=", INT64_MAX}, {"e30=", 0}, {"e31=", 2},
        {"e30==", 2}, {"!!!=", 2}, {"e3 0=", 2},        {"W10=", 2}, /* "[]" */ {"e30=\n", 2},
    };
    struct oci_descriptor d = {.media_type = "a/b"};
    char *data = NULL;

    assert_int_equal(larder_digest_parse(EMPTY, (size_t)-1, &d.digest, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct larder_error e = LARDER_ERROR_INIT;

        d.data = bad[i].data;
        d.size_bytes = bad[i].size;
        if (oci_descriptor_data(&d, &data, &e) != -LARDER_CORRUPT)
            fail_msg("row %zu: taken", i);
        assert_non_null(strstr(e.msg, EMPTY));
        assert_null(data);
    }
}

static void configs(void **state __attribute__((unused)))
{
    CLEANUP(json_freep) struct json *doc = NULL;
    struct oci_platform p = {.os = NULL};

    assert_int_equal(oci_config_platform(SLICE_LIT("{}"), &doc, &p, NULL), -LARDER_NOENT);
    assert_int_equal(oci_config_platform(SLICE_LIT("x"), &doc, &p, NULL), -LARDER_INVAL);
    assert_int_equal(oci_config_platform(SLICE_LIT("[]"), &doc, &p, NULL), -LARDER_NOENT);
    assert_null(doc);
    assert_int_equal(
        oci_config_platform(SLICE_LIT("{\"architecture\":\"s390x\",\"os\":\"linux\",\"x\":1}"),
                            &doc, &p, NULL),
        0);
    assert_string_equal(p.architecture, "s390x");
    assert_null(p.variant);
}

/* An index of n members of the usual form. */
static void index_of(size_t n, struct buf *out)
{
    buf_puts(out, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":[");
    for (size_t i = 0; i < n; i++)
        buf_printf(out,
                   "%s{\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"digest\":\"sha256:%064zx\","
                   "\"size\":%zu,\"platform\":{\"architecture\":\"amd64\",\"os\":\"linux\"}}",
                   i ? "," : "", i, i);
    buf_puts(out, "]}");
}

static void many_members(void **state __attribute__((unused)))
{
    struct buf text = BUF_INIT(64UL * 1024 * 1024);
    CLEANUP(oci_manifest_freep) struct oci_manifest *m = NULL;

    index_of(20000, &text);
    assert_int_equal(oci_manifest_parse(buf_slice(&text), NULL, &m, NULL), 0);
    assert_int_equal(m->n_manifests, 20000);
    assert_int_equal(m->manifests[19999].size_bytes, 19999);
    assert_int_equal(m->manifests[19999].digest.bytes[31], 19999 & 255);
    assert_string_equal(m->manifests[19999].platform.architecture, "amd64");
    buf_done(&text);
}

static void too_large(void **state __attribute__((unused)))
{
    struct buf text = BUF_INIT(64UL * 1024 * 1024);
    struct oci_manifest *m = NULL;

    index_of(80000, &text);
    assert_true(text.n > OCI_MANIFEST_BYTES_MAX);
    assert_int_equal(oci_manifest_parse(buf_slice(&text), NULL, &m, NULL), -LARDER_LIMIT);
    buf_reset(&text);
    buf_puts(&text, "{\"schemaVersion\":2,\"manifests\":[0");
    for (size_t i = 0; i < OCI_MEMBERS_MAX; i++)
        buf_puts(&text, ",0");
    buf_puts(&text, "]}");
    assert_int_equal(oci_manifest_parse(buf_slice(&text), NULL, &m, NULL), -LARDER_LIMIT);
    /* Nesting without end. */
    buf_reset(&text);
    for (size_t i = 0; i < 1000000; i++)
        buf_puts(&text, "{\"a\":");
    assert_int_equal(oci_manifest_parse(buf_slice(&text), NULL, &m, NULL), -LARDER_INVAL);
    assert_null(m);
    buf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),         cmocka_unit_test(refused),
        cmocka_unit_test(tolerated),     cmocka_unit_test(artifacts),
        cmocka_unit_test(embedded_data), cmocka_unit_test(configs),
        cmocka_unit_test(many_members),  cmocka_unit_test(too_large),
    };

    return cmocka_run_group_tests_name("oci_manifest", tests, NULL, NULL);
}
