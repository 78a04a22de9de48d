/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One transfer of a test, from the scripted server or a descriptor, and what is told of it:
 *
 *     struct job j;
 *     job_init(&j);
 *     job_run(&j, "/a.img?x.reset_after=100000");
 *     assert_fetched(&j, image, IMAGE_BYTES);
 *     job_done(&j);
 */
#include "http_server.h"

#include <sys/stat.h>

#include "base/clock.h"
#include "base/hash.h"
#include "net/transfer/transfer.h"

#define IMAGE_BYTES (5 * 1024 * 1024 + 1234)
#define SHA256      LARDER_DIGEST_SHA256

static struct server server;
static char *image;  /* the content of /a.img */
static char *second; /* and what it changes into */
static char *packed; /* gzip of image */
static size_t packed_bytes;

struct job {
    struct transfer t;
    struct transfer_resume resume;     /* given */
    struct transfer_resume remembered; /* told */
    struct larder_error e;
    int rc;
    int peeks, result_peeks, sized, remembers, notes, progress;
    uint64_t sized_bytes, resumed_seen;
    bool has_finished;
    bool refuse_peek, refuse_result, refuse_size;
    int64_t cancel_at_ns;
    int64_t stall_ns; /* 0: longer than the test may take */
    struct larder_observer observer;
};

static inline int on_peek(void *arg, const void *head, size_t n, bool is_result,
                          struct larder_error *e)
{
    struct job *j = arg;
    j->peeks += !is_result;
    j->result_peeks += is_result;
    assert_true(n <= 65536);
    if (is_result)
        assert_memory_equal(head, image, n);
    if (is_result ? j->refuse_result : j->refuse_peek) {
        if (e)
            e->code = LARDER_UNSAFE;
        return -LARDER_UNSAFE;
    }
    return 0;
}

static inline int on_sized(void *arg, uint64_t total_bytes, bool is_unpacked,
                           struct larder_error *e)
{
    struct job *j = arg;
    j->sized++;
    j->sized_bytes = total_bytes;
    assert_int_equal(is_unpacked, j->t.unpack != TRANSFER_UNPACK_NEVER);
    if (j->refuse_size && e)
        e->code = LARDER_NOSPACE;
    return j->refuse_size ? -LARDER_NOSPACE : 0;
}

static inline int on_remember(void *arg, const struct transfer_resume *r, struct larder_error *e)
{
    struct job *j = arg;
    (void)e;
    j->remembers++;
    transfer_resume_done(&j->remembered);
    j->remembered = (struct transfer_resume){strdup(r->url), r->etag ? strdup(r->etag) : NULL,
                                             r->last_modified ? strdup(r->last_modified) : NULL,
                                             r->total_bytes};
    return 0;
}

static inline void on_note(void *arg, const char *msg)
{
    (void)msg;
    ((struct job *)arg)->notes++;
}

static inline void on_progress(void *arg, const struct larder_progress *p)
{
    struct job *j = arg;
    j->progress++;
    j->has_finished |= p->is_finished;
    j->resumed_seen = p->resumed_bytes;
}

static inline bool on_canceled(void *arg)
{
    const struct job *j = arg;
    return j->cancel_at_ns > 0 && clock_monotonic_ns() > j->cancel_at_ns;
}

static inline int temp_fd(void)
{
    char name[] = "/tmp/larder-test-XXXXXX";
    int fd = mkostemp(name, O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(name);
    return fd;
}

static inline void job_init(struct job *j)
{
    *j = (struct job){.t = {.source_fd = -1, .unpack_fd = -1}};
    j->t.partial_fd = temp_fd();
    j->t.source_alg_bits = HASH_BIT(SHA256);
    j->t.result_alg_bits = HASH_BIT(SHA256) | HASH_BIT(LARDER_DIGEST_SHA512);
    j->t.retries = 3;
    j->t.retry_wait_ns = NS_PER_MS;
    j->t.object = "a.img";
    j->t.peek = on_peek;
    j->t.sized = on_sized;
    j->t.remember = on_remember;
}

static inline void job_unpack(struct job *j, enum transfer_unpack how)
{
    j->t.unpack = how;
    j->t.unpack_fd = temp_fd();
}

static inline void job_run(struct job *j, const char *target)
{
    struct http_options options = {.no_netrc = true,
                                   .stall_timeout_ns = j->stall_ns ? j->stall_ns : 3600 * NS_PER_S,
                                   .observer = &j->observer};
    CLEANUP_FREE char *url = target ? strdup(server_url(&server, target)) : NULL;
    j->observer = (struct larder_observer){j, NULL, on_note, on_progress, on_canceled};
    j->t.observer = &j->observer;
    j->t.arg = j;
    j->t.url = url;
    if (j->resume.url || j->resume.etag || j->resume.last_modified) {
        free(j->resume.url);
        j->resume.url = url ? strdup(url) : NULL;
        j->t.resume = &j->resume;
    }
    assert_int_equal(http_client_new(&options, &j->t.client, NULL), 0);
    server_log_reset(&server);
    j->rc = transfer_run(&j->t, &j->e);
    http_client_free(j->t.client);
    http_response_done(&j->t.response);
}

static inline void job_done(struct job *j)
{
    transfer_resume_done(&j->resume);
    transfer_resume_done(&j->remembered);
    close(j->t.partial_fd);
    if (j->t.unpack_fd >= 0)
        close(j->t.unpack_fd);
}

static inline void assert_file(int fd, const char *data, size_t n)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, n);
    char *got = malloc(n + 1);
    assert_non_null(got);
    assert_int_equal(fd_pread_full(fd, got, n, 0), n);
    assert_memory_equal(got, data, n);
    free(got);
}

static inline void assert_digest(const struct larder_digest *all, enum larder_digest_alg alg,
                                 const char *data, size_t n)
{
    struct larder_digest want;
    assert_int_equal(hash_of(alg, data, n, &want, NULL), 0);
    assert_true(larder_digest_equal(&all[alg], &want));
}

/* Everything about a transfer of `data` that went well. */
static inline void assert_fetched(struct job *j, const char *data, size_t n)
{
    if (j->rc != 0)
        fail_msg("%d %s", j->rc, j->e.msg);
    assert_int_equal(j->t.source_bytes, n);
    assert_file(j->t.partial_fd, data, n);
    assert_digest(j->t.source_digests, SHA256, data, n);
    assert_int_equal(j->t.source_digests[LARDER_DIGEST_SHA512].alg, LARDER_DIGEST_NONE);
    assert_true(j->has_finished);
    if (j->t.unpacked == UNPACK_NONE) {
        assert_int_equal(j->t.result_bytes, n);
        assert_digest(j->t.result_digests, SHA256, data, n);
        assert_digest(j->t.result_digests, LARDER_DIGEST_SHA512, data, n);
    }
}

static inline void assert_unpacked(struct job *j)
{
    assert_int_equal(j->t.unpacked, UNPACK_GZIP);
    assert_int_equal(j->t.result_bytes, IMAGE_BYTES);
    assert_file(j->t.unpack_fd, image, IMAGE_BYTES);
    assert_digest(j->t.result_digests, SHA256, image, IMAGE_BYTES);
    assert_digest(j->t.result_digests, LARDER_DIGEST_SHA512, image, IMAGE_BYTES);
    assert_int_equal(j->result_peeks, 1);
}
