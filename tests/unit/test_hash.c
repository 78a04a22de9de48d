/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"

/* Published digests of "abc" (RFC 1321, FIPS 180, RFC 7693). */
static const struct {
    enum larder_digest_alg alg;
    const char *text;
} abc[] = {
    {LARDER_DIGEST_MD5, "md5:900150983cd24fb0d6963f7d28e17f72"},
    {LARDER_DIGEST_SHA1, "sha1:a9993e364706816aba3e25717850c26c9cd0d89d"},
    {LARDER_DIGEST_SHA224, "sha224:23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"},
    {LARDER_DIGEST_SHA256,
     "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {LARDER_DIGEST_SHA384, "sha384:cb00753f45a35e8bb5a03d699ac65007272c32ab0eded163"
                           "1a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"},
    {LARDER_DIGEST_SHA512, "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                           "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
    {LARDER_DIGEST_BLAKE2B,
     "blake2b:ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
     "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"},
};

static void known_answers(void **state __attribute__((unused)))
{
    for (size_t i = 0; i < ARRAY_LEN(abc); i++) {
        char text[LARDER_DIGEST_TEXT_BYTES];
        struct larder_digest d;

        assert_int_equal(hash_of(abc[i].alg, "abc", 3, &d, NULL), 0);
        assert_string_equal(larder_digest_format(&d, text), abc[i].text);
    }
}

static void several_at_once_and_in_pieces(void **state __attribute__((unused)))
{
    struct hash *h = NULL;
    struct larder_digest d;
    unsigned bits = 0;

    for (size_t i = 0; i < ARRAY_LEN(abc); i++)
        bits |= HASH_BIT(abc[i].alg);
    assert_int_equal(hash_new(bits, &h, NULL), 0);
    hash_update(h, "a", 1);
    hash_update(h, NULL, 0);
    hash_update(h, "bc", 2);
    assert_int_equal(hash_bytes(h), 3);
    for (size_t i = 0; i < ARRAY_LEN(abc); i++) {
        char text[LARDER_DIGEST_TEXT_BYTES];

        assert_int_equal(hash_final(h, abc[i].alg, &d, NULL), 0);
        assert_string_equal(larder_digest_format(&d, text), abc[i].text);
        assert_int_equal(hash_final(h, abc[i].alg, &d, NULL), -LARDER_INVAL);
    }
    hash_free(h);
    hash_free(NULL);
}

static void zeros_without_having_them(void **state __attribute__((unused)))
{
    static char zeros[200001];
    struct larder_digest expected;
    struct larder_digest d;
    struct hash *h = NULL;

    assert_int_equal(hash_of(LARDER_DIGEST_SHA256, zeros, sizeof(zeros), &expected, NULL), 0);
    assert_int_equal(hash_new(HASH_BIT(LARDER_DIGEST_SHA256), &h, NULL), 0);
    hash_update_zeros(h, 0);
    hash_update_zeros(h, 65536);
    hash_update_zeros(h, sizeof(zeros) - 65536);
    assert_int_equal(hash_bytes(h), sizeof(zeros));
    assert_int_equal(hash_final(h, LARDER_DIGEST_SHA256, &d, NULL), 0);
    assert_true(larder_digest_equal(&d, &expected));
    hash_free(h);
}

static void refuses_unknown_algorithms(void **state __attribute__((unused)))
{
    static const unsigned bad[] = {0, 1, 1u << LARDER_DIGEST_ALG_MAX, 0xffffffffu};
    struct larder_digest d = {LARDER_DIGEST_NONE, {0}};
    struct hash *h = NULL;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(hash_new(bad[i], &h, NULL), -LARDER_INVAL);
    assert_null(h);
    assert_int_equal(hash_of((enum larder_digest_alg)40, "", 0, &d, NULL), -LARDER_INVAL);
    assert_int_equal(hash_of(LARDER_DIGEST_NONE, "", 0, &d, NULL), -LARDER_INVAL);
    assert_int_equal(hash_new(HASH_BIT(LARDER_DIGEST_MD5), &h, NULL), 0);
    assert_int_equal(hash_final(h, LARDER_DIGEST_SHA1, &d, NULL), -LARDER_INVAL);
    assert_int_equal(hash_final(h, (enum larder_digest_alg)40, &d, NULL), -LARDER_INVAL);
    hash_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(several_at_once_and_in_pieces),
        cmocka_unit_test(zeros_without_having_them),
        cmocka_unit_test(refuses_unknown_algorithms),
    };

    return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
