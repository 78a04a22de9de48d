/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that writes a lone large blob: its order, its failures, and what is left of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/resource.h>

#include "fake_images.h"
#include "scratch.h"

#include "layout_fixture.h"
#include "store/blob_write.h"
#include "store/copy/blob_pull.h"
#include "store/write_behind.h"

#define BLOB_BYTES (((size_t)9 << 20) + 5000)
#define HALF_BYTES ((size_t)5 << 20)

static char bytes[BLOB_BYTES];

/* ---- the thread alone ---- */

#define BUFFER_BYTES ((size_t)4096)
#define BUFFERS      40U

struct target {
    char data[BUFFERS * BUFFER_BYTES];
    uint64_t end; /* of what was written */
    unsigned calls;
    unsigned fail_at;
    bool is_wrong; /* a gap, or too many at once */
};

static int write_target(void *arg, struct hash_buffer *const *b, unsigned n, uint64_t at)
{
    struct target *t = arg;

    t->is_wrong |= n == 0 || n > WRITE_BEHIND_BUFFERS || at != t->end;
    if (++t->calls == t->fail_at)
        return ENOSPC;
    for (unsigned i = 0; i < n && !t->is_wrong; i++) {
        memcpy(t->data + t->end, b[i]->data, b[i]->n);
        t->end += b[i]->n;
    }
    return 0;
}

/* Of four buffers: it only ends when all of them come back. What the last one was told. */
static int give(struct hash_stream *s, struct write_behind *w, unsigned n)
{
    int failed = 0;

    for (unsigned i = 0; i < n; i++) {
        struct hash_buffer *b = hash_stream_room(s);
        b->n = b->cap;
        memcpy(b->data, bytes + i * BUFFER_BYTES, b->n);
        hash_stream_share(s, b);
        failed = write_behind_put(w, b, i * BUFFER_BYTES);
    }
    return failed;
}

static void buffers_are_written_in_their_order(void **state)
{
    static const unsigned counts[] = {0, 1, 2, 3, 4, 7, BUFFERS};
    static struct target t;

    (void)state;
    assert_int_equal(write_behind_end(NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        struct hash_team *team = NULL;
        struct hash_stream *s = NULL;
        struct larder_digest found = {0};
        struct larder_digest expected = {0};
        size_t n = counts[i] * BUFFER_BYTES;

        t = (struct target){.fail_at = 0};
        assert_int_equal(hash_team_new(1, 4, BUFFER_BYTES, &team, NULL), 0);
        assert_int_equal(hash_stream_new(team, LARDER_DIGEST_SHA256, &s, NULL), 0);
        struct write_behind *w = write_behind_new(s, write_target, &t);
        assert_non_null(w);
        assert_int_equal(give(s, w, counts[i]), 0);
        assert_int_equal(hash_stream_finish(s, &found, NULL), 0);
        assert_int_equal(write_behind_end(w), 0);
        assert_false(t.is_wrong);
        assert_int_equal(t.end, n);
        assert_memory_equal(t.data, bytes, n);
        assert_int_equal(hash_of(LARDER_DIGEST_SHA256, bytes, n, &expected, NULL), 0);
        assert_true(larder_digest_equal(&found, &expected));
        hash_stream_free(s);
        hash_team_free(team);
    }
}

static void nothing_is_written_after_a_failure(void **state)
{
    static struct target t;

    (void)state;
    for (unsigned fail_at = 1; fail_at < 4; fail_at++) {
        struct hash_team *team = NULL;
        struct hash_stream *s = NULL;

        t = (struct target){.fail_at = fail_at};
        assert_int_equal(hash_team_new(1, 4, BUFFER_BYTES, &team, NULL), 0);
        assert_int_equal(hash_stream_new(team, LARDER_DIGEST_SHA256, &s, NULL), 0);
        struct write_behind *w = write_behind_new(s, write_target, &t);
        assert_non_null(w);
        assert_int_equal(give(s, w, BUFFERS), ENOSPC);
        assert_int_equal(write_behind_end(w), ENOSPC);
        assert_int_equal(t.calls, fail_at);
        assert_false(t.is_wrong);
        assert_memory_equal(t.data, bytes, t.end);
        hash_stream_free(s);
        hash_team_free(team);
    }
}

/* ---- a blob ---- */

struct written {
    struct fake_store to;
    struct store_descriptor blob;
    struct hash_team *team;
    struct blob_write w;
};

static void written_begin(struct written *t)
{
    bool exists = true;

    t->w = (struct blob_write){
        .to = &t->to.store, .from_name = "there", .blob = &t->blob, .team = t->team};
    assert_int_equal(blob_write_begin(&t->w, &exists, NULL), 0);
    assert_false(exists);
    assert_int_equal(blob_write_resume(&t->w, NULL), 0);
}

static void written_init(struct written *t)
{
    fake_init(&t->to, "oci:to", false);
    t->blob = descriptor_of("", bytes, BLOB_BYTES);
    assert_int_equal(blob_pull_team(2, &t->team, NULL), 0);
    written_begin(t);
}

static void written_done(struct written *t)
{
    assert_non_null(fake_find_whole(&t->to, &t->blob.digest, false));
    hash_team_free(t->team);
    fake_done(&t->to);
}

/* From where it is, up to there. */
static int written_put(struct written *t, size_t until, struct larder_error *e)
{
    int rc = 0;

    while (rc == 0 && blob_write_bytes(&t->w) < until) {
        size_t at = (size_t)blob_write_bytes(&t->w);
        size_t n = until - at < 100000 ? until - at : 100000;
        rc = blob_write_put(&t->w, bytes + at, n, e);
    }
    return rc;
}

static void limit_files(rlim_t n)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = n;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Whatever a test that failed has left. */
static int unlimit_files(void **state)
{
    (void)state;
    limit_files(RLIM_INFINITY);
    return 0;
}

static void finish_and_commit(struct written *t)
{
    struct larder_error e = LARDER_ERROR_INIT;

    assert_ok(written_put(t, BLOB_BYTES, &e), e);
    assert_ok(blob_write_finish(&t->w, &e), e);
    assert_ok(blob_write_commit(&t->w, &e), e);
}

/* Before anything is committed: at the latest when the last byte could not be written. */
static void a_failed_write_is_told(void **state)
{
    static const size_t limits[] = {0, 1 << 20, HALF_BYTES + 77, BLOB_BYTES - 5000, BLOB_BYTES - 1};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        char text[LARDER_DIGEST_TEXT_BYTES];
        struct written t;

        written_init(&t);
        limit_files(FAKE_START + limits[i]);
        int rc = written_put(&t, BLOB_BYTES, &e);
        assert_non_null(t.w.behind);
        if (rc == 0)
            rc = blob_write_finish(&t.w, &e);
        assert_true(rc < 0);
        assert_int_equal(e.code, -rc);
        assert_non_null(strstr(e.msg, larder_digest_format(&t.blob.digest, text)));
        assert_non_null(strstr(e.msg, strerror(EFBIG)));
        blob_write_abort(&t.w, rc);
        limit_files(RLIM_INFINITY);
        /* What is there is gone on with. */
        written_begin(&t);
        assert_true(t.w.resumed_bytes > 0 || limits[i] == 0);
        finish_and_commit(&t);
        written_done(&t);
    }
}

static void a_source_that_begins_again_is_followed(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct written t;

    (void)state;
    written_init(&t);
    for (unsigned i = 0; i < 3; i++) {
        assert_ok(written_put(&t, HALF_BYTES + i, &e), e);
        assert_non_null(t.w.behind);
        /* Others than before. */
        assert_ok(blob_write_restart(&t.w, &e), e);
        assert_int_equal(blob_write_bytes(&t.w), 0);
        assert_ok(blob_write_put(&t.w, bytes + 1, HALF_BYTES, &e), e);
        assert_ok(blob_write_restart(&t.w, &e), e);
    }
    finish_and_commit(&t);
    written_done(&t);
}

static void a_restart_tells_a_failed_write(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct written t;

    (void)state;
    written_init(&t);
    limit_files(HALF_BYTES);
    (void)written_put(&t, BLOB_BYTES, &e);
    assert_true(blob_write_restart(&t.w, &e) < 0);
    assert_non_null(strstr(e.msg, strerror(EFBIG)));
    limit_files(RLIM_INFINITY);
    assert_ok(blob_write_restart(&t.w, &e), e);
    finish_and_commit(&t);
    written_done(&t);
}

/* Who comes second writes by itself, and neither waits for the other's buffers. */
static void another_blob_may_come(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store_descriptor blob = descriptor_of("", bytes + 1, BLOB_BYTES - 1);
    struct written t;
    bool exists;

    (void)state;
    written_init(&t);
    assert_ok(written_put(&t, 1 << 20, &e), e);
    struct blob_write w = {.to = &t.to.store, .from_name = "there", .blob = &blob, .team = t.team};
    assert_ok(blob_write_begin(&w, &exists, &e), e);
    for (size_t at = 1 << 20; at < BLOB_BYTES; at += 50000) {
        size_t n = BLOB_BYTES - at < 50000 ? BLOB_BYTES - at : 50000;
        assert_ok(written_put(&t, at + n, &e), e);
        assert_ok(blob_write_put(&w, bytes + 1 + (at - (1 << 20)), n, &e), e);
    }
    assert_non_null(t.w.behind);
    assert_null(w.behind);
    finish_and_commit(&t);
    size_t at = (size_t)blob_write_bytes(&w);
    assert_ok(blob_write_put(&w, bytes + 1 + at, BLOB_BYTES - 1 - at, &e), e);
    assert_ok(blob_write_finish(&w, &e), e);
    assert_ok(blob_write_commit(&w, &e), e);
    assert_non_null(fake_find_whole(&t.to, &blob.digest, false));
    written_done(&t);
}

/* ---- into a layout ---- */

struct pulled {
    struct fake_store from;
    struct store *to;
    struct store_descriptor blob;
    char path[80];
    bool cancels;
    bool removes;
    uint64_t resumed_bytes;
};

static int at_half(void *arg, uint64_t done_bytes, struct larder_error *e)
{
    struct pulled *p = arg;
    char command[128];

    if (done_bytes < HALF_BYTES)
        return 0;
    if (p->removes) {
        p->removes = false;
        snprintf(command, sizeof(command), "rm -rf -- '%s'", p->path);
        if (system(command) != 0)
            return error_set(e, LARDER_IO, "rm");
    }
    return p->cancels ? error_set(e, LARDER_CANCELED, "canceled") : 0;
}

/* As a copy does it. */
static int pull(struct pulled *p, struct larder_error *e)
{
    enum blob_how how = BLOB_EXISTED;
    struct blob_pull job = {.from = &p->from.store,
                            .blob = &p->blob,
                            .progress = at_half,
                            .arg = p,
                            .ret_resumed = &p->resumed_bytes};

    assert_ok(layout_open(p->path, STORE_OPEN_WRITE, NULL, &p->to, e), *e);
    job.to = p->to;
    int rc = blob_pull_run(&job, &how, e);
    if (rc == 0)
        rc = p->to->ops->flush(p->to, e);
    if (rc == 0)
        assert_int_equal(how, BLOB_COPIED);
    return rc;
}

static void assert_pulled(struct pulled *p)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store_extent extent;
    static char found[BLOB_BYTES];

    assert_ok(pull(p, &e), e);
    assert_ok(p->to->ops->blob_extent(p->to, &p->blob, &extent, &e), e);
    assert_int_equal(fd_pread_full(extent.fd, found, BLOB_BYTES, extent.offset), BLOB_BYTES);
    assert_memory_equal(found, bytes, BLOB_BYTES);
    close(extent.fd);
    store_close(p->to);
    fake_done(&p->from);
}

static void pulled_init(struct pulled *p, const struct scratch *s)
{
    *p = (struct pulled){.to = NULL};
    fake_init(&p->from, "docker://from", true);
    p->blob = fake_add(&p->from, bytes, BLOB_BYTES, "");
    snprintf(p->path, sizeof(p->path), "%s/layout", s->path);
}

static void a_destination_that_goes_away_is_an_error(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct pulled p;

    pulled_init(&p, *state);
    p.removes = true;
    assert_true(pull(&p, &e) < 0);
    assert_int_not_equal(e.msg[0], '\0');
    store_close(p.to);
    assert_pulled(&p);
}

static void a_cancel_keeps_what_came(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct pulled p;

    pulled_init(&p, *state);
    p.cancels = true;
    assert_int_equal(pull(&p, &e), -LARDER_CANCELED);
    store_close(p.to);
    p.cancels = false;
    assert_pulled(&p);
    assert_true(p.resumed_bytes >= HALF_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffers_are_written_in_their_order),
        cmocka_unit_test(nothing_is_written_after_a_failure),
        cmocka_unit_test_teardown(a_failed_write_is_told, unlimit_files),
        cmocka_unit_test(a_source_that_begins_again_is_followed),
        cmocka_unit_test_teardown(a_restart_tells_a_failed_write, unlimit_files),
        cmocka_unit_test(another_blob_may_come),
        cmocka_unit_test_setup_teardown(a_destination_that_goes_away_is_an_error, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(a_cancel_keeps_what_came, scratch_setup, scratch_teardown),
    };

    random_bytes(bytes, sizeof(bytes), 5);
    /* As the program does: a file that gets too large is an error. */
    signal(SIGXFSZ, SIG_IGN);
    return cmocka_run_group_tests_name("write_behind", tests, NULL, NULL);
}
