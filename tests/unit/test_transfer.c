/* SPDX-License-Identifier: Apache-2.0 */
/* Transfers against the scripted server, and from local files and pipes. */
#include "transfer_job.h"

#include <errno.h>
#include <pthread.h>
#include <zlib.h>

/* ---- whole transfers ---- */

static void test_fetch(void **state)
{
    (void)state;
    struct job j;
    job_init(&j);
    j.t.expected_bytes = IMAGE_BYTES;
    job_run(&j, "/a.img");
    assert_fetched(&j, image, IMAGE_BYTES);
    assert_int_equal(j.peeks, 1);
    assert_int_equal(j.sized, 1);
    assert_int_equal(j.sized_bytes, IMAGE_BYTES);
    assert_int_equal(j.remembers, 1);
    assert_int_equal(j.remembered.total_bytes, IMAGE_BYTES);
    assert_int_equal(j.remembered.etag[0], '"');
    assert_non_null(j.remembered.last_modified);
    struct stat st;
    fstat(j.t.partial_fd, &st);
    /* The image has 1 MiB of zeros: a hole. */
    assert_true(st.st_blocks * 512 < IMAGE_BYTES - 900 * 1024);
    job_done(&j);
}

static void test_small_and_empty(void **state)
{
    (void)state;
    struct job j;
    job_init(&j);
    job_run(&j, "/small");
    assert_fetched(&j, "hello", 5);
    assert_int_equal(j.peeks, 1);
    job_done(&j);
    job_init(&j);
    job_run(&j, "/empty");
    assert_fetched(&j, "", 0);
    job_done(&j);
    job_init(&j);
    job_run(&j, "/a.img?x.chunked=true");
    assert_fetched(&j, image, IMAGE_BYTES);
    assert_int_equal(j.sized, 0);
    job_done(&j);
}

/* What passes by itself: the right bytes in the end, in so many requests. */
static void test_recovers(void **state)
{
    (void)state;
    static const struct {
        const char *control;
        int requests;
        int ranges;
    } rows[] = {
        {"{\"/a.img\": {\"times\": 2, \"reset_after\": 1500000}}", 3, 2},
        {"{\"/a.img\": {\"times\": 1, \"close_after\": 3000000}}", 2, 1},
        {"{\"/a.img\": {\"times\": 2, \"status\": 503}}", 3, 0},
        {"{\"/a.img\": {\"times\": 1, \"length\": \"+100\"}}", 3, 1},
        {"{\"/a.img\": {\"times\": 4, \"reset_after\": 1100000}}", 5, 4},
        {"{\"/a.img\": {\"range_max\": 2000000, \"reset_after\": 1500000}}", 4, 3},
        /* no way to go on: all again */
        {"{\"/a.img\": {\"times\": 1, \"reset_after\": 3000000, \"weak\": true}}", 2, 0},
        {"{\"/a.img\": {\"times\": 1, \"reset_after\": 3000000, \"etag\": null,"
         " \"last_modified\": null}}",
         2, 0},
        {"{\"/a.img\": {\"times\": 1, \"reset_after\": 3000000, \"etag\": null}}", 2, 1},
        {"{\"/a.img\": {\"no_range\": true, \"times\": 1, \"reset_after\": 3000000}}", 2, 1},
        /* answers that don't fit */
        {"{\"/a.img\": {\"times\": 1, \"range_shift\": 5, \"reset_after\": 3000000}}", 2, 1},
        {"{\"/a.img\": {\"change_after\": 3000000, \"file2\": \"b.img\", \"times\": 1}}", 2, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct job j;
        job_init(&j);
        server_control(&server, rows[i].control);
        job_run(&j, "/a.img");
        int requests = server_log_count(&server, "\"path\"");
        int ranges = server_log_count(&server, "\"range\"");
        if (j.rc != 0 || requests != rows[i].requests || ranges != rows[i].ranges)
            fail_msg("row %zu: %d %s (%d requests, %d ranges)", i, j.rc, j.e.msg, requests, ranges);
        assert_fetched(&j, image, IMAGE_BYTES);
        job_done(&j);
    }
    server_control(&server, "{}");
}

/* A server that is slow seems to stall at other places, too: it is given more time. */
static void test_recovers_from_a_stall(void **state)
{
    (void)state;
    int requests = 0, ranges = 0;
    for (int64_t s = 1; (requests != 2 || ranges != 1) && s < 100; s *= 4) {
        struct job j;
        job_init(&j);
        j.stall_ns = s * NS_PER_S / 2;
        server_control(&server, "{\"/a.img\": {\"times\": 1, \"stall_after\": 3000000}}");
        job_run(&j, "/a.img");
        requests = server_log_count(&server, "\"path\"");
        ranges = server_log_count(&server, "\"range\"");
        if (requests == 2 && ranges == 1)
            assert_fetched(&j, image, IMAGE_BYTES);
        job_done(&j);
    }
    assert_true(requests == 2 && ranges == 1);
    server_control(&server, "{}");
}

static void test_changed_midway_is_fetched_from_its_start(void **state)
{
    (void)state;
    struct job j;
    job_init(&j);
    server_control(&server, "{\"/c.img\": {\"file\": \"a.img\", \"file2\": \"b.img\","
                            " \"change_after\": 3000000}}");
    /* The second content is shorter than where the first one is cut: it ends whole. */
    job_run(&j, "/c.img");
    assert_fetched(&j, second, 2000000);
    assert_int_equal(server_log_count(&server, "\"path\""), 2);
    assert_int_equal(j.remembers, 2);
    job_done(&j);
}

static void test_wrong_ranges_start_over(void **state)
{
    (void)state;
    static const char *const lies[] = {
        "\"range_shift\": 7",
        "\"range_lie\": 7",
        "\"range_lie\": -7",
        "\"range_total\": 9999999",
    };
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        char control[256];
        struct job j;
        job_init(&j);
        snprintf(control, sizeof(control), "{\"/l.img\": {\"only_range\": true, %s}}", lies[i]);
        server_control(&server, control);
        server_file(&server, "l.img", image, IMAGE_BYTES);
        j.resume = (struct transfer_resume){.url = strdup(""), .total_bytes = IMAGE_BYTES};
        j.resume.last_modified = strdup("Tue, 14 Nov 2023 22:13:20 GMT");
        assert_int_equal(fd_pwrite_full(j.t.partial_fd, image, 1000000, 0), 0);
        job_run(&j, "/l.img");
        if (j.rc != 0)
            fail_msg("%s: %d %s", lies[i], j.rc, j.e.msg);
        assert_fetched(&j, image, IMAGE_BYTES);
        assert_int_equal(j.t.resumed_bytes, 0);
        assert_int_equal(server_log_count(&server, "\"range\""), 1);
        assert_int_equal(server_log_count(&server, "\"path\""), 2);
        job_done(&j);
    }
}

/* ---- failures ---- */

static void test_fails(void **state)
{
    (void)state;
    static const struct {
        const char *target;
        enum larder_code code;
        int requests; /* 0: not looked at */
        uint64_t expected_bytes;
    } rows[] = {
        {"/none", LARDER_GONE, 1, 0},
        {"/a.img?x.status=410", LARDER_GONE, 1, 0},
        {"/a.img?x.status=403", LARDER_AUTH, 1, 0},
        {"/a.img?x.status=400", LARDER_PROTO, 1, 0},
        {"/a.img?x.status=503", LARDER_UNREACHABLE, 4, 0},
        {"/a.img?x.status=503&x.retry_after=9999", LARDER_UNREACHABLE, 1, 0},
        {"/a.img?x.reset_after=1000", LARDER_UNREACHABLE, 4, 0},
        {"/a.img?x.length=%22-100%22", LARDER_MISMATCH, 1, IMAGE_BYTES},
        {"/a.img", LARDER_MISMATCH, 1, IMAGE_BYTES + 1},
        {"/a.img?x.chunked=true", LARDER_MISMATCH, 1, IMAGE_BYTES - 1},
        {"/a.img?x.chunked=true", LARDER_MISMATCH, 1, IMAGE_BYTES + 1},
        {"/a.img?x.encoding=gzip", LARDER_PROTO, 1, 0},
        {"/a.img?x.raw=HTTP/1.1+206+X%0d%0aContent-Range:+bytes+0-3/4%0d%0a%0d%0aabcd",
         LARDER_PROTO, 1, 0},
        {"/a.img?x.redirect=http://127.0.0.1:1/", LARDER_UNREACHABLE, 1, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct job j;
        job_init(&j);
        j.t.expected_bytes = rows[i].expected_bytes;
        job_run(&j, rows[i].target);
        int requests = server_log_count(&server, "\"path\"");
        if (j.rc != -(int)rows[i].code || (int)j.e.code != -j.rc || requests != rows[i].requests)
            fail_msg("%s: %d %s (%d requests)", rows[i].target, j.rc, j.e.msg, requests);
        assert_false(j.has_finished);
        job_done(&j);
    }
}

static void test_content_that_never_rests(void **state)
{
    (void)state;
    struct job j;
    job_init(&j);
    j.t.retries = 100;
    /* A new ETag each time, and never the whole. */
    server_control(&server, "{\"/a.img\": {\"reset_after\": 2000000, \"no_range\": true}}");
    job_run(&j, "/a.img");
    assert_int_equal(j.rc, -LARDER_MISMATCH);
    assert_true(server_log_count(&server, "\"path\"") <= 5);
    job_done(&j);
    server_control(&server, "{}");
}

static void test_callbacks_stop_it(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct job j;
        job_init(&j);
        job_unpack(&j, TRANSFER_UNPACK_AUTO);
        j.refuse_peek = i == 0;
        j.refuse_size = i == 1;
        j.refuse_result = i == 2;
        job_run(&j, "/a.img.gz");
        assert_int_equal(j.rc, i == 1 ? -LARDER_NOSPACE : -LARDER_UNSAFE);
        assert_int_equal(server_log_count(&server, "\"path\""), 1);
        if (i < 2)
            assert_file(j.t.partial_fd, "", 0);
        job_done(&j);
    }
}

static void test_cancel(void **state)
{
    (void)state;
    static const char *const targets[] = {"/a.img?x.stall_after=3000000", "/a.img?x.delay=3600",
                                          "/a.img?x.drip=[10000,1]"};
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        struct job j;
        int64_t start = clock_monotonic_ns();
        job_init(&j);
        j.cancel_at_ns = start + 200 * NS_PER_MS;
        job_run(&j, targets[i]);
        assert_int_equal(j.rc, -LARDER_CANCELED);
        /* Ten times a second, and in the beginning and the end. */
        assert_true(j.progress <= (clock_monotonic_ns() - start) / (100 * NS_PER_MS) + 3);
        job_done(&j);
    }
}

static void test_disk_errors(void **state)
{
    (void)state;
    /* A descriptor that can't be written: the transfer ends early, on either side. */
    struct job j;
    job_init(&j);
    int bad = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(j.t.partial_fd);
    j.t.partial_fd = bad;
    job_run(&j, "/a.img");
    assert_true(j.rc < 0);
    job_done(&j);
}

/* ---- resuming ---- */

static void test_resume(void **state)
{
    (void)state;
    static const struct {
        size_t have;
        bool is_damaged; /* the partial's bytes are not the image's: the digest tells */
        const char *etag;
        const char *last_modified;
        uint64_t total;
        uint64_t resumed;
    } rows[] = {
        {3000001, false, "real", NULL, IMAGE_BYTES, 3000001},
        {3000001, false, NULL, "Tue, 14 Nov 2023 22:13:20 GMT", 0, 3000001},
        {IMAGE_BYTES, false, "real", NULL, IMAGE_BYTES, IMAGE_BYTES - 1},
        {IMAGE_BYTES, false, "real", NULL, 0, 0},     /* 416 */
        {IMAGE_BYTES + 9, false, "real", NULL, 0, 0}, /* 416 */
        {1, false, "real", NULL, IMAGE_BYTES, 1},
        {0, false, "real", NULL, IMAGE_BYTES, 0},
        {3000001, true, "\"old\"", NULL, IMAGE_BYTES, 0},
        {3000001, true, NULL, "Tue, 14 Nov 2023 22:13:19 GMT", IMAGE_BYTES, 0},
        {3000001, true, "W/\"weak\"", NULL, IMAGE_BYTES, 0},
        {3000001, true, NULL, NULL, IMAGE_BYTES, 0},
        {3000001, true, "real", NULL, IMAGE_BYTES - 1, 0}, /* grew */
        {IMAGE_BYTES, true, "real", NULL, 1000, 0},
    };
    struct job first;
    job_init(&first);
    job_run(&first, "/a.img");
    assert_int_equal(first.rc, 0);
    CLEANUP_FREE char *bytes = malloc(IMAGE_BYTES + 9);
    assert_non_null(bytes);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct job j;
        job_init(&j);
        memset(bytes, 'x', IMAGE_BYTES + 9);
        if (!rows[i].is_damaged)
            memcpy(bytes, image, IMAGE_BYTES);
        assert_int_equal(fd_pwrite_full(j.t.partial_fd, bytes, rows[i].have, 0), 0);
        const char *etag = rows[i].etag;
        if (etag && strcmp(etag, "real") == 0)
            etag = first.remembered.etag;
        j.resume = (struct transfer_resume){
            strdup(""), etag ? strdup(etag) : NULL,
            rows[i].last_modified ? strdup(rows[i].last_modified) : NULL, rows[i].total};
        job_run(&j, "/a.img");
        if (j.rc != 0 || j.t.resumed_bytes != rows[i].resumed)
            fail_msg("row %zu: %d %s, resumed %llu", i, j.rc, j.e.msg,
                     (unsigned long long)j.t.resumed_bytes);
        assert_fetched(&j, image, IMAGE_BYTES);
        assert_int_equal(j.resumed_seen, rows[i].resumed);
        job_done(&j);
    }
    job_done(&first);
}

static void test_failure_leaves_what_can_be_resumed(void **state)
{
    (void)state;
    struct job j;
    job_init(&j);
    j.t.retries = 0;
    server_control(&server, "{\"/a.img\": {\"times\": 1, \"close_after\": 4000000}}");
    job_run(&j, "/a.img");
    assert_int_equal(j.rc, -LARDER_UNREACHABLE);
    struct stat st;
    fstat(j.t.partial_fd, &st);
    /* Closed properly: nothing that was sent is lost (a reset may discard what was not read). */
    assert_int_equal(st.st_size, 4000000);

    struct job next;
    job_init(&next);
    close(next.t.partial_fd);
    next.t.partial_fd = dup(j.t.partial_fd);
    next.resume = j.remembered;
    j.remembered = (struct transfer_resume){0};
    job_run(&next, "/a.img");
    assert_fetched(&next, image, IMAGE_BYTES);
    assert_int_equal(next.t.resumed_bytes, st.st_size);
    job_done(&next);
    job_done(&j);
}

/* ---- unpacking ---- */

static void test_unpack(void **state)
{
    (void)state;
    struct job j;
    job_init(&j);
    job_unpack(&j, TRANSFER_UNPACK_AUTO);
    server_control(&server, "{\"/a.img.gz\": {\"times\": 1, \"reset_after\": 2000000,"
                            " \"encoding\": \"x-gzip\"}}");
    job_run(&j, "/a.img.gz");
    assert_fetched(&j, packed, packed_bytes);
    assert_unpacked(&j);
    struct stat st;
    fstat(j.t.unpack_fd, &st);
    assert_true(st.st_blocks * 512 < IMAGE_BYTES - 900 * 1024);
    job_done(&j);

    /* Resumed: the prefix is unpacked again, from the partial. */
    job_init(&j);
    job_unpack(&j, TRANSFER_UNPACK_ALWAYS);
    assert_int_equal(fd_pwrite_full(j.t.partial_fd, packed, 1234567, 0), 0);
    j.resume = (struct transfer_resume){.url = strdup(""), .total_bytes = packed_bytes};
    j.resume.last_modified = strdup("Tue, 14 Nov 2023 22:13:20 GMT");
    job_run(&j, "/a.img.gz");
    assert_fetched(&j, packed, packed_bytes);
    assert_unpacked(&j);
    assert_int_equal(j.t.resumed_bytes, 1234567);
    job_done(&j);
}

static void test_unpack_only_what_name_and_magic_say(void **state)
{
    (void)state;
    struct job j;
    job_init(&j);
    j.t.sized = NULL;
    job_unpack(&j, TRANSFER_UNPACK_AUTO);
    job_run(&j, "/packed.img"); /* no such name */
    assert_fetched(&j, packed, packed_bytes);
    assert_int_equal(j.t.unpacked, UNPACK_NONE);
    job_done(&j);

    job_init(&j);
    j.t.sized = NULL;
    job_unpack(&j, TRANSFER_UNPACK_AUTO);
    job_run(&j, "/plain.gz"); /* no such magic */
    assert_fetched(&j, "hello", 5);
    assert_int_equal(j.t.unpacked, UNPACK_NONE);
    job_done(&j);

    job_init(&j);
    job_unpack(&j, TRANSFER_UNPACK_ALWAYS);
    job_run(&j, "/plain.gz");
    assert_int_equal(j.rc, -LARDER_CORRUPT);
    job_done(&j);

    job_init(&j);
    j.t.unpack = TRANSFER_UNPACK_ALWAYS;
    job_run(&j, "/packed.img");
    assert_int_equal(j.rc, -LARDER_INVAL);
    job_done(&j);
}

static void test_damaged_stream_ends_the_download(void **state)
{
    (void)state;
    struct job j;
    job_init(&j);
    job_unpack(&j, TRANSFER_UNPACK_AUTO);
    struct stat st;
    job_run(&j, "/bad.img.gz?x.drip=[65536,0.02]");
    assert_int_equal(j.rc, -LARDER_CORRUPT);
    assert_int_equal(server_log_count(&server, "\"/bad.img.gz\""), 1);
    /* It was not waited for the whole. */
    assert_int_equal(fstat(j.t.partial_fd, &st), 0);
    assert_true(st.st_size < 4 * (off_t)packed_bytes);
    job_done(&j);

    job_init(&j);
    job_unpack(&j, TRANSFER_UNPACK_AUTO);
    job_run(&j, "/cut.img.gz");
    assert_int_equal(j.rc, -LARDER_CORRUPT);
    job_done(&j);
}

/* ---- local sources ---- */

static void test_local_file(void **state)
{
    (void)state;
    struct job j;
    job_init(&j);
    j.t.source_fd = open(server_path(&server, "a.img"), O_RDONLY | O_CLOEXEC);
    job_run(&j, NULL);
    assert_fetched(&j, image, IMAGE_BYTES);
    assert_int_equal(j.sized_bytes, IMAGE_BYTES);
    close(j.t.source_fd);
    job_done(&j);

    /* A sparse one, with a hole at its end. */
    job_init(&j);
    j.t.source_fd = temp_fd();
    char *sparse = calloc(1, 3 << 20);
    assert_non_null(sparse);
    memcpy(sparse + (1 << 20), "data", 4);
    assert_int_equal(fd_pwrite_full(j.t.source_fd, "data", 4, 1 << 20), 0);
    assert_int_equal(ftruncate(j.t.source_fd, 3 << 20), 0);
    job_run(&j, NULL);
    assert_fetched(&j, sparse, 3 << 20);
    struct stat st;
    fstat(j.t.partial_fd, &st);
    assert_true(st.st_blocks * 512 <= 65536);
    free(sparse);
    close(j.t.source_fd);
    job_done(&j);

    job_init(&j);
    j.t.source_fd = open(server_path(&server, "a.img"), O_RDONLY | O_CLOEXEC);
    j.t.expected_bytes = 7;
    job_run(&j, NULL);
    assert_int_equal(j.rc, -LARDER_MISMATCH);
    close(j.t.source_fd);
    j.t.source_fd = open("/tmp", O_RDONLY | O_CLOEXEC);
    job_run(&j, NULL);
    assert_int_equal(j.rc, -LARDER_INVAL);
    close(j.t.source_fd);
    job_done(&j);
}

static void test_local_unpacked_keeps_no_partial(void **state)
{
    (void)state;
    struct job j;
    job_init(&j);
    close(j.t.partial_fd);
    j.t.partial_fd = -1;
    job_unpack(&j, TRANSFER_UNPACK_AUTO);
    j.t.object = "some/a.img.gz";
    j.t.source_fd = open(server_path(&server, "a.img.gz"), O_RDONLY | O_CLOEXEC);
    job_run(&j, NULL);
    assert_int_equal(j.rc, 0);
    assert_unpacked(&j);
    assert_digest(j.t.source_digests, SHA256, packed, packed_bytes);
    close(j.t.source_fd);
    close(j.t.unpack_fd);
}

static void *write_slowly(void *arg)
{
    int fd = *(int *)arg;
    for (size_t at = 0; at < IMAGE_BYTES;) {
        size_t n = IMAGE_BYTES - at < 1000000 ? IMAGE_BYTES - at : 1000000;
        if (fd_write_full(fd, image + at, n) != 0)
            break;
        at += n;
        clock_sleep_ns(20 * NS_PER_MS);
    }
    close(fd);
    return NULL;
}

static void test_local_pipe(void **state)
{
    (void)state;
    struct job j;
    int ends[2];
    pthread_t writer;
    job_init(&j);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    j.t.source_fd = ends[0];
    assert_int_equal(pthread_create(&writer, NULL, write_slowly, &ends[1]), 0);
    job_run(&j, NULL);
    pthread_join(writer, NULL);
    assert_fetched(&j, image, IMAGE_BYTES);
    close(ends[0]);
    job_done(&j);

    job_init(&j);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    j.t.source_fd = ends[0];
    j.cancel_at_ns = clock_monotonic_ns() + 100 * NS_PER_MS;
    job_run(&j, NULL);
    assert_int_equal(j.rc, -LARDER_CANCELED);
    close(ends[0]);
    close(ends[1]);
    job_done(&j);
}

static void make_content(void)
{
    image = malloc(IMAGE_BYTES);
    second = malloc(2000000);
    packed = malloc(IMAGE_BYTES + 65536);
    assert_true(image && second && packed);
    uint32_t x = 7;
    for (size_t i = 0; i < IMAGE_BYTES; i++) {
        x = x * 1664525u + 1013904223u;
        image[i] = i >= (1 << 20) && i < (2 << 20) ? '\0' : (char)(x >> 24);
    }
    memset(second, 's', 2000000);
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, 0), Z_OK);
    z.next_in = (Bytef *)image;
    z.avail_in = IMAGE_BYTES;
    z.next_out = (Bytef *)packed;
    z.avail_out = IMAGE_BYTES + 65536;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    packed_bytes = z.total_out;
    deflateEnd(&z);
}

static int setup(void **state)
{
    (void)state;
    make_content();
    server_start(&server, false);
    server_file(&server, "a.img", image, IMAGE_BYTES);
    server_file(&server, "b.img", second, 2000000);
    server_file(&server, "small", "hello", 5);
    server_file(&server, "plain.gz", "hello", 5);
    server_file(&server, "empty", "", 0);
    server_file(&server, "a.img.gz", packed, packed_bytes);
    server_file(&server, "packed.img", packed, packed_bytes);
    server_file(&server, "cut.img.gz", packed, packed_bytes - 10);
    char *bad = malloc(packed_bytes * 4);
    assert_non_null(bad);
    memset(bad, 'x', packed_bytes * 4);
    memcpy(bad, packed, 100000);
    server_file(&server, "bad.img.gz", bad, packed_bytes * 4);
    free(bad);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    server_stop(&server);
    free(image);
    free(second);
    free(packed);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fetch),
        cmocka_unit_test(test_small_and_empty),
        cmocka_unit_test(test_recovers),
        cmocka_unit_test(test_recovers_from_a_stall),
        cmocka_unit_test(test_changed_midway_is_fetched_from_its_start),
        cmocka_unit_test(test_wrong_ranges_start_over),
        cmocka_unit_test(test_fails),
        cmocka_unit_test(test_content_that_never_rests),
        cmocka_unit_test(test_callbacks_stop_it),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_disk_errors),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_failure_leaves_what_can_be_resumed),
        cmocka_unit_test(test_unpack),
        cmocka_unit_test(test_unpack_only_what_name_and_magic_say),
        cmocka_unit_test(test_damaged_stream_ends_the_download),
        cmocka_unit_test(test_local_file),
        cmocka_unit_test(test_local_unpacked_keeps_no_partial),
        cmocka_unit_test(test_local_pipe),
    };
    if (!server_is_possible())
        return 0;
    return cmocka_run_group_tests_name("transfer", tests, setup, teardown);
}
