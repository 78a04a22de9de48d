/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests and configurations as an update check reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "update/image_view.h"

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define D "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"

#define MANIFEST_OF(type, config_type)                                                         \
    "{\"schemaVersion\":2,\"mediaType\":\"" type "\",\"config\":{\"mediaType\":\"" config_type \
    "\",\"digest\":\"" C "\",\"size\":7},\"layers\":["                                         \
    "{\"mediaType\":\"" OCI_TYPE_LAYER_GZIP "\",\"digest\":\"" A "\",\"size\":10},"            \
    "{\"mediaType\":\"" OCI_TYPE_LAYER_ZSTD "\",\"digest\":\"" B "\",\"size\":20}]}"
#define MANIFEST  MANIFEST_OF(OCI_TYPE_MANIFEST, OCI_TYPE_CONFIG)
#define ARTIFACT  MANIFEST_OF(OCI_TYPE_MANIFEST, "application/x-own")
#define INDEX     "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":[]}"
#define LABELS(l) "{\"config\":{\"Labels\":{" l "}}}"
#define IDS(l)    "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":" l "}}"
#define NEW_YEAR  1704067200LL * 1000000000LL /* 2024-01-01T00:00:00Z */

static int view_of(const char *manifest, const char *config, struct image_view *ret)
{
    struct larder_error e = LARDER_ERROR_INIT;
    int r = image_view_read(slice_of(manifest), NULL, slice_of(config), ret, &e);
    assert_int_equal(-r, e.code);
    assert_true((r < 0) == (e.msg[0] != '\0'));
    return r;
}

static void reads_versions_and_times(void **state __attribute__((unused)))
{
    static const struct {
        const char *config, *version;
        int64_t ns;
    } rows[] = {
        {"{}", NULL, 0},
        {LABELS(""), NULL, 0},
        {"{\"config\":null,\"created\":null}", NULL, 0},
        {"{\"config\":{\"Labels\":null}}", NULL, 0},
        {"{\"config\":[],\"created\":7}", NULL, 0},
        {"{\"config\":{\"Labels\":[\"version\"]}}", NULL, 0},
        {LABELS("\"version\":\"1\""), "1", 0},
        {LABELS("\"version\":\"1\",\"org.opencontainers.image.version\":\"2\""), "2", 0},
        {LABELS("\"org.opencontainers.image.version\":\"\",\"version\":\"1\""), "1", 0},
        {LABELS("\"org.opencontainers.image.version\":7,\"version\":\"1\""), "1", 0},
        {LABELS("\"version\":\"Grün \\u20ac \\\"q\\\"\""), "Grün € \"q\"", 0},
        {"{\"version\":\"no label\"}", NULL, 0},
        {"{\"created\":\"2024-01-01T00:00:00Z\"}", NULL, NEW_YEAR},
        {"{\"created\":\"2023-01-01T00:00:00Z\",\"config\":{\"Labels\":{"
         "\"org.opencontainers.image.created\":\"2024-01-01T00:00:00Z\"}}}",
         NULL, NEW_YEAR},
        {"{\"created\":\"2024-01-01T00:00:00Z\",\"config\":{\"Labels\":{"
         "\"org.opencontainers.image.created\":\"yesterday\"}}}",
         NULL, NEW_YEAR},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct image_view view;
        assert_int_equal(view_of(MANIFEST, rows[i].config, &view), 0);
        if (rows[i].version)
            assert_string_equal(view.version, rows[i].version);
        else
            assert_null(view.version);
        assert_int_equal(view.timestamp_ns, rows[i].ns);
        image_view_done(&view);
    }
}

static void reads_layers(void **state __attribute__((unused)))
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct image_view view;
    assert_int_equal(view_of(MANIFEST, IDS("[\"" C "\",\"" D "\"]"), &view), 0);
    assert_int_equal(view.n_layers, 2);
    assert_string_equal(larder_digest_format(&view.config_digest, text), C);
    assert_string_equal(larder_digest_format(&view.layers[0].digest, text), A);
    assert_string_equal(larder_digest_format(&view.layers[0].diff_id, text), C);
    assert_string_equal(larder_digest_format(&view.layers[1].diff_id, text), D);
    assert_string_equal(view.layers[1].media_type, OCI_TYPE_LAYER_ZSTD);
    assert_int_equal(view.layers[1].size_bytes, 20);
    image_view_done(&view);
    assert_null(view.layers);
    image_view_done(&view);
}

/* "1": known, "0": not; of the two layers. */
static void aligns_diff_ids(void **state __attribute__((unused)))
{
    static const struct {
        const char *config;
        bool first, second;
    } rows[] = {
        {IDS("[\"" C "\",\"" D "\"]"), true, true},
        {IDS("[\"" C "\"]"), false, false},
        {IDS("[\"" C "\",\"" D "\",\"" D "\"]"), false, false},
        {IDS("[]"), false, false},
        {IDS("null"), false, false},
        {IDS("{\"a\":\"" C "\",\"b\":\"" D "\"}"), false, false},
        {"{\"rootfs\":\"layers\"}", false, false},
        {IDS("[\"" C "\",\"sha256:dd\"]"), true, false},
        {IDS("[7,\"" D "\"]"), false, true},
        {IDS("[\"" C C C C C C "\",\"" D "\"]"), false, true},
        /* Steps without a layer are in the history only. */
        {"{\"history\":[{\"empty_layer\":true},{},{}],\"rootfs\":{\"diff_ids\":[\"" C "\",\"" D
         "\"]}}",
         true, true},
        {"", false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct image_view view;
        assert_int_equal(view_of(MANIFEST, rows[i].config, &view), 0);
        assert_int_equal(view.layers[0].diff_id.alg != LARDER_DIGEST_NONE, rows[i].first);
        assert_int_equal(view.layers[1].diff_id.alg != LARDER_DIGEST_NONE, rows[i].second);
        image_view_done(&view);
    }
}

static void refuses(void **state __attribute__((unused)))
{
    static const struct {
        const char *manifest, *config;
        int code;
    } rows[] = {
        {INDEX, "{}", LARDER_UNSUPPORTED},
        {"", "{}", LARDER_INVAL},
        {"{\"schemaVersion\":1,\"fsLayers\":[]}", "{}", LARDER_UNSUPPORTED},
        {MANIFEST, "{", LARDER_INVAL},
        {MANIFEST, "[]", LARDER_INVAL},
        {MANIFEST, "{\"created\":1,\"created\":2}", LARDER_INVAL},
        {MANIFEST, "{\"created\":\"\xff\"}", LARDER_INVAL},
        {MANIFEST_OF(DOCKER_TYPE_MANIFEST, DOCKER_TYPE_CONFIG), "nothing", LARDER_INVAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct image_view view = {.n_layers = 77};
        assert_int_equal(view_of(rows[i].manifest, rows[i].config, &view), -rows[i].code);
        assert_int_equal(view.n_layers, 77);
    }
}

static void takes_artifacts(void **state __attribute__((unused)))
{
    static const char *const configs[] = {"{}", "", "[]", "\177ELF", "{\"config\":"};
    for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
        struct image_view view;
        assert_int_equal(view_of(ARTIFACT, configs[i], &view), 0);
        assert_int_equal(view.n_layers, 2);
        assert_null(view.version);
        image_view_done(&view);
    }
}

static void reads_timestamps(void **state __attribute__((unused)))
{
    static const struct {
        const char *text;
        int64_t ns;
    } rows[] = {
        {"2024-01-01T00:00:00Z", NEW_YEAR},
        {"2024-01-01t00:00:00z", NEW_YEAR},
        {"2024-01-01 00:00:00Z", NEW_YEAR},
        {"2024-01-01T02:00:00+02:00", NEW_YEAR},
        {"2023-12-31T22:30:00-01:30", NEW_YEAR},
        {"2024-01-01T00:00:00.5Z", NEW_YEAR + 500000000},
        {"2024-01-01T00:00:00.000000001Z", NEW_YEAR + 1},
        {"2024-01-01T00:00:00.0000000019Z", NEW_YEAR + 1},
        {"1969-12-31T23:59:59Z", -1000000000},
        {"0001-01-01T00:00:00Z", 0}, /* Go's zero time */
        {"2024-01-01T00:00:00", 0},
        {"2024-01-01", 0},
        {"2024-02-30T00:00:00Z", 0},
        {"2024-01-01T24:00:00Z", 0},
        {"2024-01-01T00:00:00Z ", 0},
        {"1704067200", 0},
        {"z", 0},
        {"", 0},
        {"2024-01-01T00:00:00.00000000000000000000000000000000000000000000000000000000Z", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(image_timestamp(rows[i].text), rows[i].ns);
    assert_int_equal(image_timestamp(NULL), 0);
}

/* ---- Docker to OCI ---- */

#define DOCKER_LAYER(type, rest) \
    "{\"mediaType\":\"" type "\",\"size\":10,\"digest\":\"" A "\"" rest "}"
#define OCI_LAYER(type, rest) \
    "{\"mediaType\":\"" type "\",\"digest\":\"" A "\",\"size\":10" rest "}"
#define DOCKER(layers)                                                                         \
    "{\n  \"schemaVersion\": 2, \"mediaType\":\"" DOCKER_TYPE_MANIFEST "\",\n"                 \
    "  \"config\":{\"mediaType\":\"" DOCKER_TYPE_CONFIG "\",\"size\":7,\"digest\":\"" C "\"}," \
    "\"layers\":[" layers "]}"
#define OCI(layers)                                                                       \
    "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\","                       \
    "\"config\":{\"mediaType\":\"" OCI_TYPE_CONFIG "\",\"digest\":\"" C "\",\"size\":7}," \
    "\"layers\":[" layers "]}"

static void converts(void **state __attribute__((unused)))
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {DOCKER(""), OCI("")},
        {DOCKER(DOCKER_LAYER(DOCKER_TYPE_LAYER_GZIP, "")), OCI(OCI_LAYER(OCI_TYPE_LAYER_GZIP, ""))},
        {DOCKER(DOCKER_LAYER(DOCKER_TYPE_LAYER, "") "," DOCKER_LAYER(DOCKER_TYPE_LAYER_GZIP, "")),
         OCI(OCI_LAYER(OCI_TYPE_LAYER, "") "," OCI_LAYER(OCI_TYPE_LAYER_GZIP, ""))},
        {DOCKER(DOCKER_LAYER(DOCKER_TYPE_LAYER_FOREIGN_GZIP,
                             ",\"urls\":[\"https://example.org/a?b&c\"]")),
         OCI(OCI_LAYER(OCI_TYPE_LAYER_FOREIGN_GZIP,
                       ",\"urls\":[\"https://example.org/a?b\\u0026c\"]"))},
        {DOCKER(
             DOCKER_LAYER(DOCKER_TYPE_LAYER_FOREIGN, ",\"annotations\":{\"z\":\"1\",\"a\":\"Ω\"}")),
         OCI(OCI_LAYER(OCI_TYPE_LAYER_FOREIGN, ",\"annotations\":{\"a\":\"Ω\",\"z\":\"1\"}"))},
        {DOCKER(DOCKER_LAYER("application/x-own", "")), OCI(OCI_LAYER("application/x-own", ""))},
        {DOCKER(DOCKER_LAYER(OCI_TYPE_LAYER_ZSTD, "")), OCI(OCI_LAYER(OCI_TYPE_LAYER_ZSTD, ""))},
        /* OCI's stay as they are, byte by byte. */
        {MANIFEST, MANIFEST},
        {" \n" MANIFEST "\n", " \n" MANIFEST "\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct image_view view;
        struct buf out = BUF_INIT(64UL * 1024);
        assert_int_equal(image_manifest_to_oci(slice_of(rows[i].in), NULL, &out, &e), 0);
        assert_string_equal(out.p, rows[i].out);
        assert_int_equal(view_of(out.p, "", &view), 0);
        assert_false(view.manifest->is_docker);
        image_view_done(&view);
        buf_done(&out);
    }
}

static void refuses_to_convert(void **state __attribute__((unused)))
{
    static const struct {
        const char *in;
        int code;
    } rows[] = {
        {INDEX, LARDER_UNSUPPORTED},
        {"{\"schemaVersion\":2,\"mediaType\":\"" DOCKER_TYPE_LIST "\",\"manifests\":[]}",
         LARDER_UNSUPPORTED},
        {"{}", LARDER_UNSUPPORTED},
        {"x", LARDER_INVAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct buf out = BUF_INIT(64UL * 1024);
        assert_int_equal(image_manifest_to_oci(slice_of(rows[i].in), NULL, &out, &e),
                         -rows[i].code);
        assert_int_equal(out.n, 0);
        buf_done(&out);
    }
    struct buf small = BUF_INIT(16);
    assert_int_equal(image_manifest_to_oci(slice_of(MANIFEST), NULL, &small, NULL), -LARDER_LIMIT);
    buf_done(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_versions_and_times),
        cmocka_unit_test(reads_layers),
        cmocka_unit_test(aligns_diff_ids),
        cmocka_unit_test(refuses),
        cmocka_unit_test(takes_artifacts),
        cmocka_unit_test(reads_timestamps),
        cmocka_unit_test(converts),
        cmocka_unit_test(refuses_to_convert),
    };
    return cmocka_run_group_tests_name("update_view", tests, NULL, NULL);
}
