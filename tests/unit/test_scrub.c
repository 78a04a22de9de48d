/* SPDX-License-Identifier: Apache-2.0 */
/* scrub and what becomes of bad bytes. */
#include "upkeep.h"

#include "base/error.h"
#include "store/upkeep/condemn.h"
#include "store/dir/blob.h"
#include "store/dir/memo.h"
#include "store/dir/quarantine.h"
#include "store/upkeep/rehash.h"

struct told {
    unsigned good, bad, other;
    struct larder_digest first;
};

static void told_result(void *arg, const struct larder_digest *digest, int result,
                        const struct larder_error *e)
{
    struct told *told = arg;
    assert_true((result < 0) == (e != NULL));
    if (told->good + told->bad + told->other == 0)
        told->first = *digest;
    if (result == 0)
        told->good++;
    else if (result == -LARDER_CORRUPT)
        told->bad++;
    else
        told->other++;
}

static int scrub(struct bed *bed, struct larder_scrub_options options,
                 struct larder_scrub_report *report, struct told *told)
{
    memset(told, 0, sizeof(*told));
    options.foreground = true;
    options.result = told_result;
    options.arg = told;
    return larder_scrub(bed->store, &options, report, NULL);
}

static const struct larder_scrub_options all = LARDER_SCRUB_OPTIONS_INIT;

/* The racy rule records nothing about files younger than 2 s. */
static void settle(void)
{
    clock_sleep_ns(2100 * NS_PER_MS);
}

static int64_t verified_ns(struct bed *bed, const struct larder_digest *digest)
{
    struct larder_blob_info info;
    OK(larder_blob_stat(bed->store, digest, &info, e));
    return info.last_verified_ns;
}

static void a_flipped_bit_is_found(void **state)
{
    struct bed *bed = *state;
    struct larder_scrub_report report;
    struct told told;
    struct larder_usage usage;
    struct larder_digest digests[100];
    char path[256], text[64] = "";
    bed_fill(bed, 100, digests);
    bed_age(bed, &digests[1], DAY_NS);
    settle();
    bed_rot(bed, &digests[70]);
    int fd = open(bed_file(bed, "blobs", &digests[70], path), O_RDONLY | O_CLOEXEC);
    int64_t before = clock_realtime_ns();
    assert_int_equal(scrub(bed, all, &report, &told), -LARDER_CORRUPT);
    assert_true(report.checked_blobs == 100 && report.corrupt_blobs == 1 && report.is_complete);
    assert_true(report.checked_bytes == 1390 && report.skipped_blobs == 0);
    assert_true(told.good == 99 && told.bad == 1);
    assert_false(bed_has(bed, &digests[70]));
    OK(larder_usage_get(bed->store, &usage, e));
    assert_true(usage.quarantined == 1 && usage.blobs == 99);
    assert_true(read(fd, text, 3) == 3); /* whoever had it open still has */
    close(fd);
    assert_true(verified_ns(bed, &digests[1]) >= before);
    /* To be read is not to be used. */
    struct larder_blob_info info;
    OK(larder_blob_stat(bed->store, &digests[1], &info, e));
    assert_true(before - info.last_used_ns > DAY_NS / 2);
    assert_int_equal(scrub(bed, all, &report, &told), 0);
    assert_true(report.checked_blobs == 99);
}

static void only_what_is_due(void **state)
{
    struct bed *bed = *state;
    struct larder_scrub_options options = all;
    struct larder_scrub_report report;
    struct told told;
    bed_fill(bed, 3, NULL);
    options.older_than_ns = DAY_NS;
    assert_int_equal(scrub(bed, options, &report, &told), 0);
    assert_true(report.checked_blobs == 0 && report.is_complete);
    clock_sleep_ns(5 * NS_PER_MS);
    options.older_than_ns = NS_PER_MS;
    assert_int_equal(scrub(bed, options, &report, &told), 0);
    assert_true(report.checked_blobs == 3);
}

static bool cancel_after(void *arg)
{
    unsigned *left = arg;
    return *left == 0;
}

static void count_down(void *arg, const struct larder_progress *progress)
{
    (void)arg;
    (void)progress;
}

static unsigned cancel_left;
static void stop_soon(void *arg, const struct larder_digest *digest, int result,
                      const struct larder_error *e)
{
    (void)arg;
    (void)digest;
    (void)result;
    (void)e;
    if (cancel_left)
        cancel_left--;
}

/* A pass that was stopped goes on where it was, and each blob is read once in a pass. */
static void a_stopped_pass_goes_on(void **state)
{
    struct bed *bed = *state;
    struct larder_store_options options = LARDER_STORE_OPTIONS_INIT;
    struct larder_scrub_options first = all;
    const struct larder_observer observer = {&cancel_left, NULL, NULL, count_down, cancel_after};
    struct larder_scrub_report report, rest;
    struct told told;
    bed_fill(bed, 200, NULL);
    settle();
    larder_store_close(bed->store);
    options.observer = &observer;
    OK(larder_store_open(bed->path, &options, &bed->store, e));
    cancel_left = 64; /* the first batch */
    first.foreground = true;
    first.result = stop_soon;
    assert_int_equal(larder_scrub(bed->store, &first, &report, NULL), -LARDER_CANCELED);
    assert_true(report.checked_blobs >= 64 && report.checked_blobs < 200 && !report.is_complete);
    assert_true(bed_exists(bed, "state/scrub"));
    cancel_left = 1;
    assert_int_equal(scrub(bed, all, &rest, &told), 0);
    assert_true(report.checked_blobs + rest.checked_blobs == 200 && rest.is_complete);
    assert_false(bed_exists(bed, "state/scrub"));
    assert_int_equal(scrub(bed, all, &rest, &told), 0);
    assert_true(rest.checked_blobs == 200);
}

static void an_old_pass_is_not_gone_on_with(void **state)
{
    static const char *const notes[] = {"1000\n", "garbage", "", "99999999999999999999999",
                                        "9000000000000000000\n"};
    struct bed *bed = *state;
    struct larder_scrub_report report;
    struct told told;
    bed_fill(bed, 2, NULL);
    for (size_t i = 0; i < ARRAY_LEN(notes); i++) {
        bed_write(bed, "state/scrub", notes[i]);
        assert_int_equal(scrub(bed, all, &report, &told), 0);
        assert_true(report.checked_blobs == 2);
    }
}

/* kill -9 in the middle: what was done is not done again. */
static void a_killed_pass_goes_on(void **state)
{
    struct bed *bed = *state;
    struct larder_scrub_report report;
    struct told told;
    bed_fill(bed, 300, NULL);
    settle();
    pid_t pid = bed_fork();
    if (pid == 0) {
        struct larder_store *store = NULL;
        struct larder_scrub_options options = LARDER_SCRUB_OPTIONS_INIT;
        options.foreground = true;
        options.max_bytes_per_s = 10000; /* all of it would take half a second */
        if (larder_store_open(bed->path, NULL, &store, NULL) < 0)
            _exit(2);
        (void)!larder_scrub(store, &options, &report, NULL);
        _exit(0);
    }
    clock_sleep_ns(250 * NS_PER_MS);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(scrub(bed, all, &report, &told), 0);
    assert_true(report.is_complete && report.checked_blobs > 0);
    if (report.checked_blobs >= 300)
        print_message("# nothing was done before the kill\n");
}

static void time_ends_it_politely(void **state)
{
    struct bed *bed = *state;
    struct larder_scrub_options options = all;
    struct larder_scrub_report report;
    struct told told;
    bed_fill(bed, 3, NULL);
    clock_sleep_ns(2100 * NS_PER_MS); /* the racy rule: else nothing is recorded */
    /* No run has the time for even one of them: each ends one, or none would ever be ended. */
    options.stop_after_ns = 1;
    for (unsigned run = 0; run < 3; run++) {
        assert_int_equal(scrub(bed, options, &report, &told), 0);
        assert_int_equal(report.checked_blobs, 1);
        assert_int_equal(report.is_complete, run == 2);
    }
}

/* Growing, shrinking, vanishing. */
static void changed_files(void **state)
{
    struct bed *bed = *state;
    struct larder_scrub_report report;
    struct told told;
    char path[256];
    struct larder_digest digests[3];
    bed_fill(bed, 3, digests);
    assert_int_equal(chmod(bed_file(bed, "blobs", &digests[0], path), 0644), 0);
    assert_int_equal(truncate(path, 5), 0);
    assert_int_equal(chmod(bed_file(bed, "blobs", &digests[1], path), 0644), 0);
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_true(write(fd, "more", 4) == 4);
    close(fd);
    assert_int_equal(scrub(bed, all, &report, &told), -LARDER_CORRUPT);
    assert_true(report.corrupt_blobs == 2 && told.good == 1);
    assert_true(!bed_has(bed, &digests[0]) && !bed_has(bed, &digests[1]) &&
                bed_has(bed, &digests[2]));
}

/* A file somebody writes to while it is read is no finding. */
static int grow_and_count(void *arg, struct rehash *item, struct larder_error *e)
{
    int *results = arg;
    (void)e;
    *results = item->result;
    return 0;
}

static bool grow(void *arg)
{
    const char *path = arg;
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "x", 1);
        close(fd);
    }
    return false;
}

static void a_growing_file_is_skipped(void **state)
{
    struct bed *bed = *state;
    struct larder_store_options options = LARDER_STORE_OPTIONS_INIT;
    struct larder_digest digest;
    char path[256];
    int result = 1;
    bool is_complete = false;
    size_t n = 64 << 20;
    char *big = calloc(1, n);
    assert_non_null(big);
    memset(big, 'x', n);
    OK(larder_blob_put(bed->store, big, n, NULL, &digest, e));
    free(big);
    assert_int_equal(chmod(bed_file(bed, "blobs", &digest, path), 0644), 0);
    const struct larder_observer observer = {path, NULL, NULL, NULL, grow};
    larder_store_close(bed->store);
    options.observer = &observer;
    OK(larder_store_open(bed->path, &options, &bed->store, e));
    const struct rehash_options rehash = {
        .what = "verify", .max_bytes_per_s = 200 << 20, .done = grow_and_count, .arg = &result};
    OK(rehash_run(bed->store, &digest, 1, &rehash, &is_complete, e));
    assert_true(is_complete);
    assert_int_equal(result, -LARDER_BUSY);
}

/* ---- condemn ---- */

struct fake {
    enum use_state state;
    bool needs_path;
};

static int fake_probe(void *arg, struct larder_store *store, const struct larder_digest *digest,
                      int fd, const char *path, enum use_state *ret, bool *ret_needs_path,
                      struct buf *who, struct larder_error *e)
{
    const struct fake *fake = arg;
    (void)store;
    (void)digest;
    (void)who;
    (void)e;
    assert_true(fd >= 0 && path);
    *ret = fake->state;
    *ret_needs_path = fake->needs_path;
    return 0;
}

static void bad_bytes_move_unless_their_path_is_needed(void **state)
{
    static const struct {
        struct fake fake;
        bool overlay;
        bool moves;
    } cases[] = {
        {{USE_FREE, false}, false, true},   {{USE_IN_USE, false}, false, true},
        {{USE_IN_USE, true}, false, false}, {{USE_UNKNOWN, false}, false, false},
        {{USE_FREE, false}, true, false},
    };
    struct bed *bed = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char content[16], overlay[256], id[LARDER_LEASE_ID_BYTES];
        struct fake fake = cases[i].fake;
        const struct users_probe probe = {&fake, fake_probe};
        struct memo memo;
        bool moved = !cases[i].moves;
        snprintf(content, sizeof(content), "case %zu", i);
        struct larder_digest digest = bed_put(bed, content);
        if (cases[i].overlay) {
            bed_write(bed, "state/overlay", "an overlay");
            snprintf(overlay, sizeof(overlay), "%s/state/overlay", bed->path);
            OK(larder_lease_file(bed->store, &digest, overlay, "test", id, e));
        }
        OK(store_condemn(bed->store, &digest, NULL, "test", &probe, &moved, e));
        assert_int_equal(moved, cases[i].moves);
        assert_int_equal(bed_has(bed, &digest), !cases[i].moves);
        if (!moved) {
            OK(memo_read(bed->store, &digest, &memo, NULL, e));
            assert_true(memo.is_invalid);
            assert_string_equal(memo.invalid_reason, "test");
        }
        /* Again: nothing more to do. */
        OK(store_condemn(bed->store, &digest, NULL, "test", &probe, &moved, e));
    }
}

static void only_the_file_found_bad_is_condemned(void **state)
{
    struct bed *bed = *state;
    struct larder_digest digest = bed_put(bed, "good again");
    enum condemn_result how = CONDEMN_MOVED;
    struct stat st;
    char path[256];
    assert_int_equal(stat(bed_file(bed, "blobs", &digest, path), &st), 0);
    st.st_ino++;
    OK(condemn_blob(bed->store, &digest, NULL, "test", NULL, &st, &how, e));
    assert_true(how == CONDEMN_GONE && bed_has(bed, &digest));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, bed_setup, bed_teardown)
        T(a_flipped_bit_is_found),
        T(only_what_is_due),
        T(a_stopped_pass_goes_on),
        T(an_old_pass_is_not_gone_on_with),
        T(a_killed_pass_goes_on),
        T(time_ends_it_politely),
        T(changed_files),
        T(a_growing_file_is_skipped),
        T(bad_bytes_move_unless_their_path_is_needed),
        T(only_the_file_found_bad_is_condemned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
