/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/hash_team.h"
#include "base/pool.h"

#define BYTES_MAX ((size_t)300 * 1000)

static char bytes[BYTES_MAX];

static void fill(void)
{
    uint32_t x = 7;

    for (size_t i = 0; i < sizeof(bytes); i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (char)(x >> 24);
    }
}

struct job {
    struct hash_team *team;
    enum larder_digest_alg alg;
};

/* hash.h would be the same code once more. */
static int openssl_hash(enum larder_digest_alg alg, const void *data, size_t n,
                        struct larder_digest *ret, struct larder_error *e)
{
    const char *name = alg == LARDER_DIGEST_SHA512 ? "SHA512" : "SHA256";
    struct larder_digest d = {alg, {0}};
    size_t size = sizeof(d.bytes);

    if (EVP_Q_digest(NULL, name, NULL, data, n, d.bytes, &size) != 1)
        return error_nomem(e);
    *ret = d;
    return 0;
}

/* Length n from some place, put in buffers of different (whole-block) lengths. */
static int stream_one(const struct job *job, size_t i, size_t n, bool resets,
                      struct larder_error *e)
{
    CLEANUP(hash_stream_freep) struct hash_stream *s = NULL;
    struct larder_digest found = {0};
    struct larder_digest expected = {0};
    const char *from = bytes + i % 1000;
    int rc = hash_stream_new(job->team, job->alg, &s, e);

    for (unsigned round = 0; rc == 0 && round < (resets ? 2u : 1u); round++) {
        size_t done = 0;
        if (round > 0)
            rc = hash_stream_reset(s, e);
        while (done < n) {
            struct hash_buffer *b = hash_stream_room(s);
            size_t want = (i * 64 + done) % b->cap / 64 * 64 + 64;
            b->n = n - done < want ? n - done : want;
            if (b->n < n - done && (done + i) % 5 == 0) {
                hash_stream_drop(s, b);
                b = hash_stream_room(s);
                b->n = 64;
            }
            memcpy(b->data, from + done, b->n);
            done += b->n;
            hash_stream_put(s, b);
            if (round == 0 && resets && done > n / 2)
                break;
        }
    }
    if (rc == 0)
        rc = hash_stream_finish(s, &found, e);
    if (rc == 0)
        rc = openssl_hash(job->alg, from, n, &expected, e);
    if (rc == 0 && !larder_digest_equal(&found, &expected))
        rc = error_set(e, LARDER_CORRUPT, "stream %zu of %zu bytes", i, n);
    return rc;
}

static int stream_some(void *arg, size_t i, struct larder_error *e)
{
    static const size_t sizes[] = {0,    1,    55,   56,   63,    64,    65,     119,
                                   4096, 8192, 8191, 8193, 20000, 65536, 100000, BYTES_MAX - 1000};

    return stream_one(arg, i, sizes[i % ARRAY_LEN(sizes)], i % 3 == 0, e);
}

static void streams_get_their_digests(void **state)
{
    static const enum larder_digest_alg algs[] = {LARDER_DIGEST_SHA256, LARDER_DIGEST_SHA512};

    (void)state;
    for (size_t a = 0; a < ARRAY_LEN(algs); a++) {
        for (unsigned helpers = 0; helpers < 3; helpers++) {
            for (unsigned lanes = 1; lanes < 9; lanes += 3) {
                struct job job = {NULL, algs[a]};
                struct larder_error e = LARDER_ERROR_INIT;
                assert_int_equal(hash_team_new(helpers, lanes + 2, 8192, &job.team, NULL), 0);
                int rc = pool_each(lanes, 200, NULL, stream_some, &job, &e);
                if (rc < 0)
                    print_error("%s\n", e.msg);
                assert_int_equal(rc, 0);
                hash_team_free(job.team);
            }
        }
    }
}

static void a_stream_may_end_any_time(void **state)
{
    struct hash_team *team = NULL;

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        struct hash_stream *s = NULL;
        assert_int_equal(hash_team_new(1, 3, 4096 * 20, &team, NULL), 0);
        assert_int_equal(hash_stream_new(team, LARDER_DIGEST_SHA256, &s, NULL), 0);
        for (unsigned k = 0; k < i % 4; k++) {
            struct hash_buffer *b = hash_stream_room(s);
            b->n = b->cap;
            memset(b->data, 1, b->n);
            hash_stream_put(s, b);
        }
        hash_stream_free(s);
        hash_team_free(team);
    }
    hash_stream_free(NULL);
    hash_team_free(NULL);
}

/* Of three buffers one is shared: it comes again as the third, and only after both are done. */
static void a_shared_buffer_has_two_users(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        bool is_hashed_first = i & 1u;
        struct hash_team *team = NULL;
        struct hash_stream *s = NULL;
        struct hash_buffer *others[2];
        struct larder_digest found = {0};
        struct larder_digest expected = {0};

        assert_int_equal(hash_team_new(i / 2, 3, 8192, &team, NULL), 0);
        assert_int_equal(hash_stream_new(team, LARDER_DIGEST_SHA256, &s, NULL), 0);
        assert_true(hash_stream_is_alone(s));
        struct hash_buffer *b = hash_stream_room(s);
        b->n = b->cap;
        memcpy(b->data, bytes, b->n);
        hash_stream_share(s, b);
        if (is_hashed_first)
            assert_int_equal(hash_stream_finish(s, &found, NULL), 0);
        else
            hash_stream_release(s, b);
        for (size_t k = 0; k < ARRAY_LEN(others); k++) {
            others[k] = hash_stream_room(s);
            assert_true(others[k] != b || !is_hashed_first);
        }
        if (is_hashed_first)
            hash_stream_release(s, b);
        struct hash_buffer *third = hash_stream_room(s);
        assert_true(third == b || !is_hashed_first);
        hash_stream_drop(s, third);
        for (size_t k = 0; k < ARRAY_LEN(others); k++)
            hash_stream_drop(s, others[k]);
        if (!is_hashed_first)
            assert_int_equal(hash_stream_finish(s, &found, NULL), 0);
        assert_int_equal(openssl_hash(LARDER_DIGEST_SHA256, bytes, 8192, &expected, NULL), 0);
        assert_true(larder_digest_equal(&found, &expected));
        struct hash_stream *second = NULL;
        assert_int_equal(hash_stream_new(team, LARDER_DIGEST_SHA256, &second, NULL), 0);
        assert_false(hash_stream_is_alone(s));
        hash_stream_free(second);
        hash_stream_free(s);
        hash_team_free(team);
    }
}

static void one_call_agrees_with_openssl(void **state)
{
    (void)state;
    for (size_t n = 0; n < 700; n++) {
        struct larder_digest a = {0};
        struct larder_digest b = {0};
        assert_int_equal(hash_of(LARDER_DIGEST_SHA256, bytes + n, n, &a, NULL), 0);
        assert_int_equal(openssl_hash(LARDER_DIGEST_SHA256, bytes + n, n, &b, NULL), 0);
        assert_true(larder_digest_equal(&a, &b));
    }
}

/* Every length of a piece at every place in a block. */
static void pieces_agree_with_openssl(void **state)
{
    (void)state;
    for (size_t piece = 1; piece < 200; piece++) {
        struct larder_digest a = {0};
        struct larder_digest b = {0};
        struct hash *h = NULL;
        size_t total = 5000 + piece;
        assert_int_equal(hash_new(HASH_BIT(LARDER_DIGEST_SHA256), &h, NULL), 0);
        for (size_t at = 0; at < total; at += piece)
            hash_update(h, bytes + at, total - at < piece ? total - at : piece);
        assert_int_equal(hash_bytes(h), total);
        assert_int_equal(hash_final(h, LARDER_DIGEST_SHA256, &a, NULL), 0);
        hash_free(h);
        assert_int_equal(openssl_hash(LARDER_DIGEST_SHA256, bytes, total, &b, NULL), 0);
        assert_true(larder_digest_equal(&a, &b));
    }
}

static void impossible_teams(void **state)
{
    struct hash_team *team = NULL;
    struct hash_stream *s = NULL;

    (void)state;
    assert_int_equal(hash_team_new(1, 0, 4096, &team, NULL), -LARDER_INVAL);
    assert_int_equal(hash_team_new(1, 1, 0, &team, NULL), -LARDER_INVAL);
    assert_int_equal(hash_team_new(1, 1, 100, &team, NULL), -LARDER_INVAL);
    assert_int_equal(hash_team_new(1, SIZE_MAX / 4096, 8192, &team, NULL), -LARDER_INVAL);
    assert_null(team);
    assert_int_equal(hash_team_new(0, 1, 4096, &team, NULL), 0);
    assert_int_equal(hash_stream_new(team, LARDER_DIGEST_NONE, &s, NULL), -LARDER_INVAL);
    assert_null(s);
    hash_team_free(team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_get_their_digests),
        cmocka_unit_test(a_stream_may_end_any_time),
        cmocka_unit_test(a_shared_buffer_has_two_users),
        cmocka_unit_test(one_call_agrees_with_openssl),
        cmocka_unit_test(pieces_agree_with_openssl),
        cmocka_unit_test(impossible_teams),
    };

    fill();
    return cmocka_run_group_tests_name("hash_team", tests, NULL, NULL);
}
