/* SPDX-License-Identifier: Apache-2.0 */
/*
 * References and locations. What is accepted and how it is split was compared with skopeo 1.9.3
 * (`skopeo inspect docker://...`: a malformed name fails before any connection); where we are
 * stricter or wider a comment says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "oci/media_type.h"
#include "oci/reference.h"

#define HEX16  "0123456789abcdef"
#define HEX64  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define SHA256 "sha256:" HEX64
#define SHA512 "sha512:" HEX64 HEX64

static const struct {
    const char *text, *host, *name, *tag, *digest;
} good[] = {
    {"alpine", "docker.io", "library/alpine", NULL, NULL},
    {"alpine:3", "docker.io", "library/alpine", "3", NULL},
    {"a/b", "docker.io", "a/b", NULL, NULL},
    {"docker.io/alpine", "docker.io", "library/alpine", NULL, NULL},
    {"index.docker.io/alpine:x", "docker.io", "library/alpine", "x", NULL},
    {"docker.io/a/b/c", "docker.io", "a/b/c", NULL, NULL},
    /* without a '/' there is no host: a tag that looks like a port */
    {"alpine.example:5000", "docker.io", "library/alpine.example", "5000", NULL},
    {"localhost/x", "localhost", "x", NULL, NULL},
    {"localhost:5000/x:y", "localhost:5000", "x", "y", NULL},
    {"localhost", "docker.io", "library/localhost", NULL, NULL},
    {"example.org/x", "example.org", "x", NULL, NULL},
    {"Example.org/x", "Example.org", "x", NULL, NULL},
    {"example.org:5000/x/y_z/a__b/c-d/e---f.g:T_a.g-1", "example.org:5000",
     "x/y_z/a__b/c-d/e---f.g", "T_a.g-1", NULL},
    {"127.0.0.1:80/x", "127.0.0.1:80", "x", NULL, NULL},
    /* IPv6: newer skopeos than 1.9.3 */
    {"[::1]:5000/x:y", "[::1]:5000", "x", "y", NULL},
    {"[2001:db8::1]/x", "[2001:db8::1]", "x", NULL, NULL},
    {"x@" SHA256, "docker.io", "library/x", NULL, SHA256},
    /* tag and digest: skopeo refuses them together, docker and podman do not */
    {"example.org/x:t@" SHA256, "example.org", "x", "t", SHA256},
    {"example.org/x@" SHA512, "example.org", "x", NULL, SHA512},
    {"example.org/" HEX64, "example.org", HEX64, NULL, NULL},
    {"example.org/x:" HEX64 HEX64, "example.org", "x", HEX64 HEX64, NULL},
    {"x:_", "docker.io", "library/x", "_", NULL},
};

static void assert_same(const char *a, const char *b)
{
    assert_int_equal(a != NULL, b != NULL);
    if (a && b)
        assert_string_equal(a, b);
}

static void good_references(void **state __attribute__((unused)))
{
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct oci_reference r = {0};
        struct oci_reference again = {0};
        struct larder_error e = LARDER_ERROR_INIT;
        char digest[LARDER_DIGEST_TEXT_BYTES];
        char *whole = NULL;

        if (oci_reference_parse(good[i].text, &r, &e) < 0)
            fail_msg("%s: %s", good[i].text, e.msg);
        assert_string_equal(r.host, good[i].host);
        assert_string_equal(r.name, good[i].name);
        assert_same(r.tag, good[i].tag);
        assert_same(r.digest.alg ? larder_digest_format(&r.digest, digest) : NULL, good[i].digest);
        assert_int_equal(oci_reference_format(&r, &whole, NULL), 0);
        assert_int_equal(oci_reference_parse(whole, &again, NULL), 0);
        assert_string_equal(again.host, r.host);
        assert_string_equal(again.name, r.name);
        assert_same(again.tag, r.tag);
        free(whole);
        oci_reference_done(&again);
        oci_reference_done(&r);
        assert_null(r.name);
    }
}

static void formatting(void **state __attribute__((unused)))
{
    struct oci_reference r = {0};
    char *whole = NULL;

    assert_int_equal(oci_reference_parse("a:t@" SHA256, &r, NULL), 0);
    assert_int_equal(oci_reference_format(&r, &whole, NULL), 0);
    assert_string_equal(whole, "docker.io/library/a:t@" SHA256);
    free(whole);
    oci_reference_done(&r);
}

static void refuse_all(const char *const *bad, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct oci_reference r = {0};
        struct larder_error e = LARDER_ERROR_INIT;

        if (oci_reference_parse(bad[i], &r, &e) != -LARDER_INVAL)
            fail_msg("%s: taken", bad[i]);
        assert_null(r.host);
        assert_null(r.name);
        assert_true(e.code == LARDER_INVAL && e.msg[0]);
        assert_null(strchr(e.msg, '\n'));
    }
}

static void bad_references(void **state __attribute__((unused)))
{
    static const char *const bad[] = {
        "",
        " ",
        "/",
        ":",
        "@",
        ":y",
        "/x",
        "x/",
        "x//y",
        "-x",
        "x-",
        ".x",
        "x.",
        "_x",
        "x_",
        "a..b",
        "a___b",
        "a_.b",
        "a.-b",
        "x:",
        "x@",
        "a:.x",
        "a:-x",
        "a:x y",
        "a b",
        "x:y:z",
        "x:y/z",
        "Foo",
        "a/Foo",
        "Host/x",
        "x?y",
        "x#y",
        "x%2fy",
        "x\ny",
        "x\xc3\xa9",
        "http://x/y",
        "docker://x",
        "../x",
        "a/../b",
        "a/./b",
        "./x",
        /* hosts */
        "example.org:/x",
        "example.org:0/x",
        "example.org:65536/x",
        "example.org:123456/x",
        "example.org:5o/x",
        "example.org:+5/x",
        "exa_mple.org/x",
        "-h.org/x",
        "h-.org/x",
        "h..org/x",
        ".org/x",
        "h.org./x",
        "[::1/x",
        "[]/x",
        "[::1]x/x",
        "[::g]/x",
        "[1.2.3.4]/x",
        "[..::1]/x",
        "[1:2:3]/x",
        "[::1%eth0]/x",
        "[::1]:/x",
        "user@example.org/x",
        "user:pw@example.org/x",
        "example.org\\x/y",
    };
    static const char *const bad_ends[] = {
        "x@sha256:0123",
        "x@sha256:../../x",
        "x@sha256:" HEX64 "0",
        "x@sha256",
        "x@" HEX64,
        "x@sha256:" HEX16 HEX16 HEX16 "0123456789ABCDEF",
        "x@SHA256:" HEX64,
        "x@sha512:" HEX64,
        "x@" SHA256 "@" SHA256,
        "x@" SHA256 ":t",
        "x@" SHA256 "/y",
        "x@sha256:" HEX64 "\n",
        /* an image's id */
        HEX64,
        /* 129 bytes of tag, and a NUL can't be written here */
        "x:" HEX64 HEX64 "0",
    };

    refuse_all(bad, ARRAY_LEN(bad));
    refuse_all(bad_ends, ARRAY_LEN(bad_ends));
}

/* The last name that fits, and one byte more, with and without "library/". */
static void long_names(void **state __attribute__((unused)))
{
    static const char *const hosts[] = {"example.org/", "docker.io/", "docker.io/a/", ""};

    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        bool is_library = strlen(hosts[i]) == 0 || strcmp(hosts[i], "docker.io/") == 0;
        size_t fixed = is_library ? strlen("docker.io/library/") : strlen(hosts[i]);

        for (size_t extra = 0; extra < 2; extra++) {
            struct oci_reference r = {0};
            char text[2 * OCI_NAME_MAX_BYTES] = "";
            size_t n = OCI_NAME_MAX_BYTES - fixed + extra;

            memcpy(text, hosts[i], strlen(hosts[i]));
            memset(text + strlen(hosts[i]), 'a', n);
            assert_int_equal(oci_reference_parse(text, &r, NULL), extra ? -LARDER_INVAL : 0);
            oci_reference_done(&r);
        }
    }
    static char huge[1 << 20];
    struct oci_reference r = {0};
    struct larder_error e = LARDER_ERROR_INIT;
    memset(huge, 'a', sizeof(huge) - 1);
    assert_int_equal(oci_reference_parse(huge, &r, &e), -LARDER_INVAL);
}

static void repositories(void **state __attribute__((unused)))
{
    struct oci_reference r = {0};
    struct larder_error e = LARDER_ERROR_INIT;

    assert_int_equal(oci_repository_parse("example.org:1/a/b", &r, &e), 0);
    assert_string_equal(r.host, "example.org:1");
    oci_reference_done(&r);
    assert_int_equal(oci_repository_parse("example.org/a:t", &r, &e), -LARDER_INVAL);
    assert_non_null(strstr(e.msg, "tag"));
    assert_int_equal(oci_repository_parse("example.org/a@" SHA256, &r, &e), -LARDER_INVAL);
    assert_non_null(strstr(e.msg, "digest"));
    assert_null(r.host);
}

static void digests(void **state __attribute__((unused)))
{
    static const struct {
        const char *text;
        enum larder_code code;
    } rows[] = {
        {SHA256, LARDER_OK},
        {SHA512, LARDER_OK},
        {"blake3:" HEX64, LARDER_UNSUPPORTED},
        {"multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8", LARDER_UNSUPPORTED},
        {"sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564", LARDER_UNSUPPORTED},
        {"md5:0123456789abcdef0123456789abcdef", LARDER_UNSUPPORTED},
        {"", LARDER_INVAL},
        {":", LARDER_INVAL},
        {"sha256:", LARDER_INVAL},
        {":" HEX64, LARDER_INVAL},
        {"sha256:" HEX64 "a", LARDER_INVAL},
        {"sha256:" HEX16, LARDER_INVAL},
        {"sha256:../../x", LARDER_INVAL},
        {"sha256:..", LARDER_INVAL},
        {"../x:" HEX64, LARDER_INVAL},
        {"Sha256:" HEX64, LARDER_INVAL},
        {"sha256:" HEX16 HEX16 HEX16 "0123456789abcdeF", LARDER_INVAL},
        {"sha256:" HEX16 HEX16 HEX16 "0123456789abcdeg", LARDER_INVAL},
        {"sha256 :" HEX64, LARDER_INVAL},
        {"+sha256:" HEX64, LARDER_INVAL},
        {"sha256+:" HEX64, LARDER_INVAL},
        {"sha256:" HEX64 ":", LARDER_INVAL},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_digest d = {LARDER_DIGEST_NONE, {0}};
        int r = oci_digest_parse(slice_of(rows[i].text), &d, NULL);

        if (r != -(int)rows[i].code)
            fail_msg("%s: %d", rows[i].text, r);
        assert_int_equal(d.alg != LARDER_DIGEST_NONE, r == 0);
    }
    struct larder_digest d;
    assert_int_equal(oci_digest_parse((struct slice){NULL, 0}, &d, NULL), -LARDER_INVAL);
    assert_int_equal(oci_digest_parse((struct slice){"sha256:a\0b", 10}, &d, NULL), -LARDER_INVAL);
}

static void good_locations(void **state __attribute__((unused)))
{
    static const struct {
        const char *text;
        enum oci_transport transport;
        const char *path, *ref, *name;
        bool has_digest;
    } rows[] = {
        {"docker://a/b:c", OCI_TRANSPORT_DOCKER, NULL, NULL, "a/b", false},
        {"docker://localhost:1/b@" SHA256, OCI_TRANSPORT_DOCKER, NULL, NULL, "b", false},
        {"oci:dir", OCI_TRANSPORT_LAYOUT, "dir", NULL, NULL, false},
        {"oci:/a/d:t", OCI_TRANSPORT_LAYOUT, "/a/d", "t", NULL, false},
        {"oci:d:", OCI_TRANSPORT_LAYOUT, "d", NULL, NULL, false},
        /* skopeo cuts at the first colon */
        {"oci:d:example.org:5000/x:t", OCI_TRANSPORT_LAYOUT, "d", "example.org:5000/x:t", NULL,
         false},
        {"oci:d:a--b_c@d+e", OCI_TRANSPORT_LAYOUT, "d", "a--b_c@d+e", NULL, false},
        {"oci:d@e:t", OCI_TRANSPORT_LAYOUT, "d@e", "t", NULL, false},
        {"oci:d@" SHA256, OCI_TRANSPORT_LAYOUT, "d", NULL, NULL, true},
        {"oci:d:t@" SHA512, OCI_TRANSPORT_LAYOUT, "d", "t", NULL, true},
        {"oci-archive:f.tar:t", OCI_TRANSPORT_ARCHIVE, "f.tar", "t", NULL, false},
        {"oci-archive:f.tar@" SHA256, OCI_TRANSPORT_ARCHIVE, "f.tar", NULL, NULL, true},
        {"store:image/debian 13", OCI_TRANSPORT_STORE, NULL, "image/debian 13", NULL, false},
        {"store:a:b@" SHA256, OCI_TRANSPORT_STORE, NULL, "a:b", NULL, true},
        {"store:@" SHA256, OCI_TRANSPORT_STORE, NULL, NULL, NULL, true},
        {"store:a@b", OCI_TRANSPORT_STORE, NULL, "a@b", NULL, false},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct oci_location l = {.path = NULL};
        struct larder_error e = LARDER_ERROR_INIT;

        if (oci_location_parse(rows[i].text, &l, &e) < 0)
            fail_msg("%s: %s", rows[i].text, e.msg);
        assert_int_equal(l.transport, rows[i].transport);
        assert_same(l.path, rows[i].path);
        assert_same(l.ref, rows[i].ref);
        assert_same(l.reference.name, rows[i].name);
        assert_int_equal(l.digest.alg != LARDER_DIGEST_NONE, rows[i].has_digest);
        oci_location_done(&l);
        assert_null(l.path);
    }
}

static void bad_locations(void **state __attribute__((unused)))
{
    static const struct {
        const char *text;
        enum larder_code code;
    } rows[] = {
        {"", LARDER_INVAL},
        {"alpine", LARDER_INVAL},
        {"docker:alpine", LARDER_INVAL},
        {"docker:", LARDER_INVAL},
        {"docker://", LARDER_INVAL},
        {"docker://A", LARDER_INVAL},
        {"DOCKER://a", LARDER_INVAL},
        {"oci:", LARDER_INVAL},
        {"oci::t", LARDER_INVAL},
        {"oci:@" SHA256, LARDER_INVAL},
        {"oci:d:.t", LARDER_INVAL},
        {"oci:d:t-", LARDER_INVAL},
        {"oci:d:t---u", LARDER_INVAL},
        {"oci:d:a//b", LARDER_INVAL},
        {"oci:d:a b", LARDER_INVAL},
        {"oci:d:a\xc3\xa9", LARDER_INVAL},
        {"oci:d@sha256:0123", LARDER_INVAL},
        {"oci:d:t@sha256:../../x", LARDER_INVAL},
        {"oci-archive:", LARDER_INVAL},
        {"store:", LARDER_INVAL},
        {"store:x@sha256:ABC", LARDER_INVAL},
        {"dir:/x", LARDER_UNSUPPORTED},
        {"docker-daemon:x:y", LARDER_UNSUPPORTED},
        {"containers-storage:x", LARDER_UNSUPPORTED},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct oci_location l = {.path = NULL};
        struct larder_error e = LARDER_ERROR_INIT;
        int r = oci_location_parse(rows[i].text, &l, &e);

        if (r != -(int)rows[i].code)
            fail_msg("%s: %d", rows[i].text, r);
        assert_null(l.path);
        assert_null(l.ref);
        assert_true(e.msg[0]);
    }
}

static void referrers_tags(void **state __attribute__((unused)))
{
    struct larder_digest d;
    char tag[128];

    assert_int_equal(oci_digest_parse(SLICE_LIT(SHA256), &d, NULL), 0);
    assert_string_equal(oci_referrers_tag(&d, tag), "sha256-" HEX64);
    assert_int_equal(oci_digest_parse(SLICE_LIT(SHA512), &d, NULL), 0);
    assert_string_equal(oci_referrers_tag(&d, tag), "sha512-" HEX64);
}

static void media_types(void **state __attribute__((unused)))
{
    static const struct {
        const char *text, *clean; /* NULL: none */
    } rows[] = {
        {OCI_TYPE_INDEX, OCI_TYPE_INDEX},
        {OCI_TYPE_INDEX "; charset=utf-8", OCI_TYPE_INDEX},
        {" " OCI_TYPE_INDEX " ;x=\"a/b\"", OCI_TYPE_INDEX},
        {"a/B", "a/B"},
        {"", NULL},
        {";", NULL},
        {"a", NULL},
        {"a/", NULL},
        {"/b", NULL},
        {"a/b/c", NULL},
        {"a /b", NULL},
        {"a/b\r\nx: y", NULL},
        {"a/\xc3\xa9", NULL},
        {"a/b, c/d", NULL},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char out[OCI_MEDIA_TYPE_BYTES] = "untouched";
        bool is_type = media_type_clean(slice_of(rows[i].text), out);

        assert_int_equal(is_type, rows[i].clean != NULL);
        assert_string_equal(out, is_type ? rows[i].clean : "untouched");
    }
    char text[OCI_MEDIA_TYPE_BYTES + 1] = "a/";
    char out[OCI_MEDIA_TYPE_BYTES];
    memset(text + 2, 'b', OCI_MEDIA_TYPE_BYTES - 2);
    assert_false(media_type_clean(slice_of(text), out));
    text[OCI_MEDIA_TYPE_BYTES - 1] = '\0';
    assert_true(media_type_clean(slice_of(text), out));
    assert_false(media_type_clean((struct slice){"a/b\0c", 5}, out));

    assert_true(media_type_is_index(DOCKER_TYPE_LIST) && media_type_is_index(OCI_TYPE_INDEX));
    assert_false(media_type_is_index(OCI_TYPE_MANIFEST) || media_type_is_index(NULL));
    assert_true(media_type_is_manifest(DOCKER_TYPE_MANIFEST));
    assert_false(media_type_is_manifest(DOCKER_TYPE_SCHEMA1) || media_type_is_manifest(""));
    assert_true(media_type_is_schema1(DOCKER_TYPE_SCHEMA1_SIGNED));
    assert_true(media_type_is_config(OCI_TYPE_CONFIG) && media_type_is_config(DOCKER_TYPE_CONFIG));
    assert_false(media_type_is_config(OCI_TYPE_EMPTY) || media_type_is_config(NULL));
    assert_true(media_type_is_foreign(DOCKER_TYPE_LAYER_FOREIGN_GZIP));
    assert_false(media_type_is_foreign(DOCKER_TYPE_LAYER_GZIP));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_references), cmocka_unit_test(formatting),
        cmocka_unit_test(bad_references),  cmocka_unit_test(long_names),
        cmocka_unit_test(repositories),    cmocka_unit_test(digests),
        cmocka_unit_test(good_locations),  cmocka_unit_test(bad_locations),
        cmocka_unit_test(referrers_tags),  cmocka_unit_test(media_types),
    };

    return cmocka_run_group_tests_name("oci_reference", tests, NULL, NULL);
}
