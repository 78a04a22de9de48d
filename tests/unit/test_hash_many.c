/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/hash_many.h"
#include "base/hash_pace.h"
#include "base/hash_read.h"
#include "base/mem.h"
#include "base/sha256_ni.h"

#define BUFFER ((size_t)256 * 1024) /* hash_many's own: its edges are tested */
#define SHA256 HASH_BIT(LARDER_DIGEST_SHA256)
#define MIB    ((uint64_t)1024 * 1024)

/* Files without names; an unlinked temporary, not a memfd, because memory files keep no cache. */
static int file_new(void)
{
    char path[] = "test_hash_many.XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    return fd;
}

static uint64_t random_next(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void file_put(int fd, uint64_t offset, size_t n, uint64_t seed)
{
    uint64_t s = seed * 2654435761u + 1;
    CLEANUP_FREE uint8_t *data = malloc(n ? n : 1);
    assert_non_null(data);
    for (size_t i = 0; i < n; i++)
        data[i] = (uint8_t)random_next(&s);
    assert_int_equal(pwrite(fd, data, n, (off_t)offset), (ssize_t)n);
}

/* The judge: plain reads, EVP. */
static struct larder_digest judge(int fd, enum larder_digest_alg alg)
{
    struct larder_digest d;
    struct hash *h = NULL;
    CLEANUP_FREE char *data = malloc(BUFFER);
    off_t offset = 0;
    ssize_t n;

    assert_non_null(data);
    assert_int_equal(hash_new(HASH_BIT(alg), &h, NULL), 0);
    while ((n = pread(fd, data, BUFFER, offset)) > 0) {
        hash_update(h, data, (size_t)n);
        offset += n;
    }
    assert_int_equal(n, 0);
    assert_int_equal(hash_final(h, alg, &d, NULL), 0);
    hash_free(h);
    return d;
}

static void expect(const struct hash_job *job, int fd)
{
    if (job->result != 0)
        fail_msg("%s: %s", job->object, job->error.msg);
    for (unsigned alg = 1; alg < LARDER_DIGEST_ALG_MAX; alg++) {
        if (!(job->alg_bits & HASH_BIT(alg))) {
            assert_int_equal(job->digests[alg].alg, LARDER_DIGEST_NONE);
            continue;
        }
        struct larder_digest d = judge(fd, (enum larder_digest_alg)alg);
        if (!larder_digest_equal(&d, &job->digests[alg]))
            fail_msg("%s: wrong %s at %llu bytes", job->object,
                     larder_digest_alg_name((enum larder_digest_alg)alg),
                     (unsigned long long)job->size_bytes);
    }
}

static void test_known_vectors(void **state)
{
    static const struct {
        const char *text;
        const char *hex;
    } vectors[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"
         "ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    (void)state;
    for (int evp = 0; evp < 2; evp++) {
        struct hash_job jobs[ARRAY_LEN(vectors)] = {0};
        struct hash_many_options o = {.force_evp = evp == 1};
        for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
            jobs[i] = (struct hash_job){.fd = file_new(), .alg_bits = SHA256, .object = "vector"};
            size_t n = strlen(vectors[i].text);
            assert_int_equal(write(jobs[i].fd, vectors[i].text, n), (ssize_t)n);
        }
        assert_int_equal(hash_many(jobs, ARRAY_LEN(jobs), &o, NULL), 0);
        for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
            char hex[LARDER_DIGEST_TEXT_BYTES];
            assert_int_equal(jobs[i].result, 0);
            assert_int_equal(jobs[i].size_bytes, strlen(vectors[i].text));
            assert_string_equal(larder_digest_hex(&jobs[i].digests[LARDER_DIGEST_SHA256], hex),
                                vectors[i].hex);
            close(jobs[i].fd);
        }
    }
}

static const size_t lengths[] = {
    0,
    1,
    55,
    56,
    63,
    64,
    65,
    119,
    120,
    121,
    122,
    123,
    124,
    125,
    126,
    127,
    128,
    129,
    4095,
    4096,
    4097,
    BUFFER - 1,
    BUFFER,
    BUFFER + 1,
    BUFFER + 63,
    BUFFER + 64,
    2 * BUFFER - 1,
    2 * BUFFER,
    2 * BUFFER + 1,
    5 * BUFFER + 77,
};

/* All lengths, alone and together, fast and by EVP, with one to five threads. */
static void test_lengths(void **state)
{
    struct hash_job jobs[ARRAY_LEN(lengths)];
    (void)state;
    for (unsigned threads = 1; threads <= 5; threads += 2) {
        for (int evp = 0; evp < 2; evp++) {
            struct hash_many_options o = {.threads = threads, .force_evp = evp == 1};
            for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
                jobs[i] =
                    (struct hash_job){.fd = file_new(), .alg_bits = SHA256, .object = "length"};
                file_put(jobs[i].fd, 0, lengths[i], i);
            }
            assert_int_equal(hash_many(jobs, ARRAY_LEN(jobs), &o, NULL), 0);
            for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
                expect(&jobs[i], jobs[i].fd);
                assert_int_equal(jobs[i].size_bytes, lengths[i]);
                assert_int_equal(jobs[i].read_bytes, lengths[i]);
                assert_int_equal(hash_many(&jobs[i], 1, &o, NULL), 0);
                expect(&jobs[i], jobs[i].fd);
                close(jobs[i].fd);
            }
        }
    }
}

static void test_many_mixed(void **state)
{
    enum { COUNT = 150 };
    static struct hash_job jobs[COUNT];
    uint64_t s = 42;
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        jobs[i] = (struct hash_job){.fd = file_new(), .alg_bits = SHA256, .object = "mixed"};
        if (i % 5 == 0)
            jobs[i].alg_bits = HASH_BIT(LARDER_DIGEST_SHA512) | HASH_BIT(LARDER_DIGEST_MD5);
        if (i % 7 == 0)
            jobs[i].alg_bits |= SHA256 | HASH_BIT(LARDER_DIGEST_SHA1);
        size_t n = (size_t)(random_next(&s) >> (random_next(&s) % 20 + 44));
        file_put(jobs[i].fd, 0, n, (uint64_t)i);
    }
    struct hash_many_options o = {.threads = 3};
    assert_int_equal(hash_many(jobs, COUNT, &o, NULL), 0);
    for (int i = 0; i < COUNT; i++) {
        expect(&jobs[i], jobs[i].fd);
        close(jobs[i].fd);
    }
}

/* Data and holes at edges that are and are no whole blocks; the end in a hole. */
static const struct {
    uint64_t size;
    struct {
        uint64_t at;
        size_t n;
    } data[3];
} sparse_files[] = {
    {16 * MIB, {{0, 0}}},
    {16 * MIB + 13, {{0, 100}}},
    {16 * MIB + 64, {{8 * MIB, 4096}}},
    {16 * MIB - 1, {{4096, 8192}, {8 * MIB + 7, 5}}},
    {9 * MIB, {{0, 4096}, {5 * MIB, 300000}, {9 * MIB - 1, 1}}},
    {77, {{0, 0}}},
    {4096 * 3, {{4096, 4096}}},
};

static void test_sparse(void **state)
{
    struct hash_job jobs[ARRAY_LEN(sparse_files)];
    (void)state;
    for (int evp = 0; evp < 2; evp++) {
        struct hash_many_options o = {.force_evp = evp == 1, .threads = 2};
        for (size_t i = 0; i < ARRAY_LEN(sparse_files); i++) {
            uint64_t data_bytes = 0;
            jobs[i] = (struct hash_job){.fd = file_new(), .alg_bits = SHA256, .object = "sparse"};
            assert_int_equal(ftruncate(jobs[i].fd, (off_t)sparse_files[i].size), 0);
            for (size_t k = 0; k < 3; k++) {
                file_put(jobs[i].fd, sparse_files[i].data[k].at, sparse_files[i].data[k].n, i + k);
                data_bytes += sparse_files[i].data[k].n;
            }
            /* Whether there are holes at all is the file system's business. */
            jobs[i].expected_bytes = data_bytes + 3 * 8192;
        }
        assert_int_equal(hash_many(jobs, ARRAY_LEN(jobs), &o, NULL), 0);
        for (size_t i = 0; i < ARRAY_LEN(sparse_files); i++) {
            bool holes = lseek(jobs[i].fd, 0, SEEK_HOLE) < (off_t)sparse_files[i].size;
            assert_int_equal(jobs[i].size_bytes, sparse_files[i].size);
            if (holes)
                assert_true(jobs[i].read_bytes <= jobs[i].expected_bytes);
            expect(&jobs[i], jobs[i].fd);
            close(jobs[i].fd);
        }
    }
}

/* Each way to leave the page cache alone gives the same bytes. */
static void test_read_modes(void **state)
{
    static uint8_t buffer[BUFFER];
    static const enum hash_read_cache modes[] = {HASH_READ_AUTO, HASH_READ_DONTCACHE,
                                                 HASH_READ_CACHESTAT, HASH_READ_MINCORE,
                                                 HASH_READ_KEEP};
    CLEANUP_CLOSE int fd = file_new();
    (void)state;
    file_put(fd, 0, 9 * MIB + 5, 1);
    assert_int_equal(ftruncate(fd, (off_t)(12 * MIB + 9)), 0);
    struct larder_digest expected = judge(fd, LARDER_DIGEST_SHA256);
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        struct hash_read r;
        struct hash_span span;
        struct hash *h = NULL;
        struct larder_digest got;
        assert_int_equal(hash_new(SHA256, &h, NULL), 0);
        hash_read_init(&r, fd, modes[i]);
        bool short_span = false;
        for (;;) {
            assert_int_equal(hash_read_next(&r, buffer, BUFFER, &span), 0);
            if (!span.n)
                break;
            assert_false(short_span);
            short_span = span.n % HASH_READ_ALIGN != 0;
            hash_update(h, span.p, span.n);
        }
        hash_read_done(&r);
        assert_int_equal(hash_final(h, LARDER_DIGEST_SHA256, &got, NULL), 0);
        hash_free(h);
        assert_true(larder_digest_equal(&expected, &got));
    }
}

/* What is ahead is the bytes that the next read gives, only where all are cached, and looking
 * brings nothing in. */
static void test_ahead(void **state)
{
    enum { SIZE = 3 * MIB + 77 };
    static uint8_t buffer[BUFFER];
    CLEANUP_CLOSE int fd = file_new();
    struct hash_span span;
    size_t seen = 0, bytes = 0;
    (void)state;
    file_put(fd, 0, SIZE, 5);
    for (int cold = 0; cold < 2; cold++) {
        struct hash_read r;
        hash_read_init(&r, fd, HASH_READ_AUTO);
        seen = bytes = 0;
        for (;;) {
            const uint8_t *ahead = hash_read_ahead(&r);
            assert_int_equal(hash_read_next(&r, buffer, BUFFER, &span), 0);
            if (!span.n)
                break;
            if (ahead) {
                assert_memory_equal(ahead, span.p, span.n < 4096 ? span.n : 4096);
                seen++;
            }
            bytes += span.n;
        }
        assert_null(hash_read_ahead(&r));
        hash_read_done(&r);
        assert_int_equal(bytes, SIZE);
        if (!cold) /* the second time depends on the file system */
            assert_true(seen > 0);
        assert_int_equal(fdatasync(fd), 0);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    /* The end is cut off under the map. */
    struct hash_read r;
    hash_read_init(&r, fd, HASH_READ_KEEP);
    assert_int_equal(hash_read_next(&r, buffer, BUFFER, &span), 0);
    (void)hash_read_ahead(&r);
    assert_int_equal(ftruncate(fd, 100), 0);
    assert_int_equal(hash_read_next(&r, buffer, BUFFER, &span), 0);
    (void)hash_read_ahead(&r);
    hash_read_done(&r);
    assert_null(r.map);
}

static int open_fails(struct hash_job *job, struct larder_error *e)
{
    return error_set(e, LARDER_NOENT, "%s: not there", job->object);
}

static atomic_int closed;

static void count_close(struct hash_job *job)
{
    close(job->fd);
    job->fd = -1;
    atomic_fetch_add(&closed, 1);
}

static void test_failures_stay_alone(void **state)
{
    char path[] = "test_hash_many.XXXXXX";
    struct hash_job jobs[6] = {0};
    (void)state;
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    file_put(fd, 0, 1000000, 3);
    for (int i = 0; i < 6; i++)
        jobs[i] = (struct hash_job){
            .fd = open(path, O_RDONLY | O_CLOEXEC), .alg_bits = SHA256, .object = "good"};
    close(jobs[1].fd);
    jobs[1].fd = open(path, O_WRONLY | O_CLOEXEC);
    jobs[1].object = "unreadable";
    close(jobs[2].fd);
    jobs[2] = (struct hash_job){
        .fd = -1, .open = open_fails, .close = count_close, .alg_bits = SHA256, .object = "lazy"};
    close(jobs[3].fd);
    jobs[3].fd = open(".", O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    jobs[3].object = "directory";
    jobs[3].close = count_close;
    unlink(path);
    atomic_store(&closed, 0);
    assert_int_equal(hash_many(jobs, 6, NULL, NULL), 0);
    assert_int_equal(jobs[1].result, -LARDER_IO);
    assert_int_equal(jobs[1].error.sys_errno, EBADF);
    assert_non_null(strstr(jobs[1].error.msg, "unreadable"));
    assert_int_equal(jobs[2].result, -LARDER_NOENT);
    assert_string_equal(jobs[2].error.msg, "lazy: not there");
    assert_int_equal(jobs[3].result, -LARDER_IO);
    assert_int_equal(atomic_load(&closed), 1);
    for (int i = 0; i < 6; i++) {
        if (i < 1 || i > 3) {
            expect(&jobs[i], fd);
            assert_int_equal(jobs[i].size_bytes, 1000000);
        }
        if (jobs[i].fd >= 0)
            close(jobs[i].fd);
    }
    close(fd);
}

struct watch {
    int64_t cancel_at; /* progress calls before cancel, -1 never */
    atomic_int calls;
    struct larder_progress last;
};

static void on_progress(void *arg, const struct larder_progress *p)
{
    struct watch *w = arg;
    atomic_fetch_add(&w->calls, 1);
    w->last = *p;
}

static bool on_cancel(void *arg)
{
    struct watch *w = arg;
    return w->cancel_at >= 0 && atomic_load(&w->calls) >= w->cancel_at;
}

static void test_cancel_and_rate(void **state)
{
    enum { COUNT = 20 };
    struct hash_job jobs[COUNT];
    struct watch w = {.cancel_at = 1};
    struct larder_observer observer = {
        .arg = &w, .progress = on_progress, .is_canceled = on_cancel};
    struct hash_many_options o = {/* an hour for all of them */
                                  .max_bytes_per_s = 4000,
                                  .observer = &observer,
                                  .what = "scrub",
                                  .threads = 2};
    struct larder_error e = LARDER_ERROR_INIT;
    (void)state;
    atomic_store(&closed, 0);
    for (int i = 0; i < COUNT; i++) {
        jobs[i] = (struct hash_job){
            .fd = file_new(), .close = count_close, .alg_bits = SHA256, .object = "slow"};
        file_put(jobs[i].fd, 0, 3 * BUFFER, (uint64_t)i);
    }
    assert_int_equal(hash_many(jobs, COUNT, &o, &e), -LARDER_CANCELED);
    assert_int_equal(e.code, LARDER_CANCELED);
    assert_true(w.last.is_finished);
    assert_string_equal(w.last.what, "scrub");
    assert_true(w.last.done_bytes < COUNT * 3 * BUFFER);
    assert_int_equal(w.last.total_bytes, COUNT * 3 * BUFFER);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(jobs[i].result, -LARDER_CANCELED);
    assert_int_equal(atomic_load(&closed), COUNT);
}

static void test_background_and_progress(void **state)
{
    struct hash_job jobs[3];
    struct watch w = {.cancel_at = -1};
    struct larder_observer observer = {
        .arg = &w, .progress = on_progress, .is_canceled = on_cancel};
    struct hash_many_options o = {.background = true, .observer = &observer, .keep_cache = true};
    (void)state;
    for (int i = 0; i < 3; i++) {
        jobs[i] = (struct hash_job){.fd = file_new(), .alg_bits = SHA256, .object = "background"};
        file_put(jobs[i].fd, 0, BUFFER + 5, (uint64_t)i);
    }
    assert_int_equal(hash_many(jobs, 3, &o, NULL), 0);
    for (int i = 0; i < 3; i++) {
        expect(&jobs[i], jobs[i].fd);
        close(jobs[i].fd);
    }
    assert_true(w.last.is_finished);
    assert_int_equal(w.last.done_bytes, 3 * (BUFFER + 5));
    assert_int_equal(w.last.total_bytes, 3 * (BUFFER + 5));
    assert_int_equal(hash_many(NULL, 0, &o, NULL), 0);
}

static void test_kernels_agree(void **state)
{
    enum { BLOCKS = 7 };
    static uint8_t data[SHA256_NI_STREAMS][BLOCKS * SHA256_BLOCK_BYTES];
    uint64_t s = 7;
    (void)state;
    assert_int_equal(hash_has_fast_sha256(), sha256_ni_is_there());
    if (!sha256_ni_is_there())
        return;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i / sizeof(data[0])][i % sizeof(data[0])] = (uint8_t)random_next(&s);
    for (unsigned n = 1; n <= SHA256_NI_STREAMS; n++) {
        uint32_t all[SHA256_NI_STREAMS][SHA256_STATE_WORDS] = {{0}};
        uint32_t *states[SHA256_NI_STREAMS];
        const uint8_t *p[SHA256_NI_STREAMS];
        for (unsigned i = 0; i < SHA256_NI_STREAMS; i++) {
            states[i] = all[i];
            p[i] = data[i];
        }
        sha256_ni_blocks(n, states, p, NULL, BLOCKS);
        for (unsigned i = 0; i < SHA256_NI_STREAMS; i++) {
            uint32_t one[SHA256_STATE_WORDS] = {0};
            uint32_t *one_state = one;
            const uint8_t *one_data = data[i];
            if (i < n)
                sha256_ni_blocks(1, &one_state, &one_data, NULL, BLOCKS);
            assert_memory_equal(one, all[i], sizeof(one));
        }
    }
}

static void test_pressure_text(void **state)
{
    (void)state;
    double d = hash_pace_parse_pressure("some avg10=25.97 avg60=0.37 avg300=0.18 total=46\n");
    assert_true(d > 25.85 && d < 25.95);
    assert_true(hash_pace_parse_pressure("some avg10=0.00 avg60=0.37") < 0.01);
    assert_true(hash_pace_parse_pressure("full avg10=9.00") < 0);
    assert_true(hash_pace_parse_pressure("") < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_vectors),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_many_mixed),
        cmocka_unit_test(test_sparse),
        cmocka_unit_test(test_ahead),
        cmocka_unit_test(test_read_modes),
        cmocka_unit_test(test_failures_stay_alone),
        cmocka_unit_test(test_cancel_and_rate),
        cmocka_unit_test(test_background_and_progress),
        cmocka_unit_test(test_kernels_agree),
        cmocka_unit_test(test_pressure_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
