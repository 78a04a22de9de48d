/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <larder/digest.h>

#include "base/mem.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void round_trip(void **state __attribute__((unused)))
{
    static const char *const texts[] = {
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "sha256:" HEX64,
        "sha512:" HEX64 HEX64,
        "blake2b:" HEX64 HEX64,
    };

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        char out[LARDER_DIGEST_TEXT_BYTES];
        struct larder_digest d;

        assert_int_equal(larder_digest_parse(texts[i], (size_t)-1, &d, &e), 0);
        assert_string_equal(larder_digest_format(&d, out), texts[i]);
        assert_string_equal(larder_digest_hex(&d, out), strchr(texts[i], ':') + 1);
    }
}

static void refuses_what_is_no_digest(void **state __attribute__((unused)))
{
    static const char *const texts[] = {
        "",
        ":",
        "sha256",
        "sha256:",
        "sha256:" HEX64 "0",
        "sha256:" HEX64 "00",
        "sha256:g123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "sha257:" HEX64,
        "none:",
        "none:00",
        " sha256:" HEX64,
        "sha256: " HEX64,
        "sha512:" HEX64,
        "sha256:" HEX64 "\n",
        "SHA256:" HEX64,
        "\x1b[2Jsha256:" HEX64,
    };

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct larder_digest d = {LARDER_DIGEST_MD5, {7}};

        assert_int_equal(larder_digest_parse(texts[i], (size_t)-1, &d, &e), -LARDER_INVAL);
        assert_int_equal(d.alg, LARDER_DIGEST_MD5); /* untouched */
        assert_int_equal(d.bytes[0], 7);
        assert_null(strchr(e.msg, '\x1b'));
    }
}

static void length_is_obeyed_and_hex_may_be_of_any_case(void **state __attribute__((unused)))
{
    struct larder_digest a;
    struct larder_digest b;

    assert_int_equal(larder_digest_parse("sha256:" HEX64 "junk", 71, &a, NULL), 0);
    assert_int_equal(larder_digest_parse(
                         "sha256:0123456789ABCDEF0123456789abcdef0123456789ABCDEF0123456789abcdef",
                         (size_t)-1, &b, NULL),
                     0);
    assert_true(larder_digest_equal(&a, &b));
    b.bytes[31] ^= 1;
    assert_false(larder_digest_equal(&a, &b));
    b.bytes[31] ^= 1;
    b.alg = LARDER_DIGEST_SHA512;
    assert_false(larder_digest_equal(&a, &b));
    a.alg = b.alg = LARDER_DIGEST_NONE;
    assert_false(larder_digest_equal(&a, &b));
    assert_false(larder_digest_equal(&a, &a));
}

static void names_of_algorithms(void **state __attribute__((unused)))
{
    static const struct {
        const char *name;
        enum larder_digest_alg alg;
    } rows[] = {
        {"SHA256", LARDER_DIGEST_SHA256},   {"Sha-256", LARDER_DIGEST_SHA256},
        {"SHA2-512", LARDER_DIGEST_SHA512}, {"MD5", LARDER_DIGEST_MD5},
        {"BLAKE2b", LARDER_DIGEST_BLAKE2B}, {"sha-1", LARDER_DIGEST_SHA1},
        {"none", LARDER_DIGEST_NONE},       {"", LARDER_DIGEST_NONE},
        {"sha3-256", LARDER_DIGEST_NONE},   {"sha2567", LARDER_DIGEST_NONE},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(larder_digest_alg_parse(rows[i].name, strlen(rows[i].name)), rows[i].alg);
    for (unsigned i = LARDER_DIGEST_NONE + 1; i < LARDER_DIGEST_ALG_MAX; i++) {
        const char *name = larder_digest_alg_name((enum larder_digest_alg)i);

        assert_int_equal(larder_digest_alg_parse(name, strlen(name)), i);
        assert_true(larder_digest_size((enum larder_digest_alg)i) <= LARDER_DIGEST_BYTES_MAX);
        assert_int_equal(larder_digest_is_identity((enum larder_digest_alg)i),
                         i == LARDER_DIGEST_SHA256 || i == LARDER_DIGEST_SHA512);
    }
    assert_int_equal(larder_digest_size((enum larder_digest_alg)99), 0);
    assert_string_equal(larder_digest_alg_name((enum larder_digest_alg)99), "none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(refuses_what_is_no_digest),
        cmocka_unit_test(length_is_obeyed_and_hex_may_be_of_any_case),
        cmocka_unit_test(names_of_algorithms),
    };

    return cmocka_run_group_tests_name("digest", tests, NULL, NULL);
}
