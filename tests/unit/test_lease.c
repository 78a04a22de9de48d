/* SPDX-License-Identifier: Apache-2.0 */
#include "store/dir/lease.h"

#include <signal.h>
#include <sys/utsname.h>

#include "base/clock.h"
#include "store/dir/blob.h"
#include "store_fixture.h"

static int keep(void *arg, const struct lease *lease)
{
    struct lease *out = arg;
    lease_done(out);
    *out = *lease;
    out->purpose = strdup(lease->purpose);
    out->host = strdup(lease->host);
    out->path = lease->path ? strdup(lease->path) : NULL;
    out->media_type = lease->media_type ? strdup(lease->media_type) : NULL;
    return 0;
}

static bool holds(struct fixture *f, const struct larder_digest *digest)
{
    bool ret = false;
    assert_int_equal(lease_holds(f->store, digest, &ret, &f->e), 0);
    return ret;
}

static uint64_t sweep(struct fixture *f)
{
    uint64_t n = 0;
    assert_int_equal(lease_sweep(f->store, false, &n, &f->e), 0);
    return n;
}

static void of_a_process(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc"), other = fixture_put(f, "def");
    struct lease lease = {0};
    struct buf text = BUF_INIT(1024);
    char id[LARDER_LEASE_ID_BYTES] = "";

    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    assert_int_equal(larder_lease_process(f->store, &digest, pid, "test \xff", id, &f->e), 0);
    assert_int_equal(strlen(id), 32);
    assert_true(holds(f, &digest));
    assert_false(holds(f, &other));
    assert_int_equal(sweep(f), 0);
    assert_int_equal(lease_each(f->store, &digest, keep, &lease, &f->e), 0);
    assert_int_equal(lease.kind, LEASE_PROCESS);
    assert_string_equal(lease.purpose, "test \\xff");
    assert_int_equal(lease_check(&lease), PROCESS_ALIVE);
    assert_int_equal(lease_describe(&lease, &text), 0);
    assert_non_null(strstr(text.p, "process "));
    buf_done(&text);

    /* Another start time: the pid was dealt out again. */
    lease.process.start_ticks++;
    assert_int_equal(lease_check(&lease), PROCESS_DEAD);
    lease.process.start_ticks--;
    /* Another host: who knows. The same kernel under another name can tell. */
    free(lease.host);
    lease.host = strdup("elsewhere");
    assert_int_equal(lease_check(&lease), PROCESS_ALIVE);
    snprintf(lease.process.boot_id, sizeof lease.process.boot_id, "another");
    assert_int_equal(lease_check(&lease), PROCESS_UNKNOWN);
    /* This host, before it was booted. */
    struct utsname self;
    uname(&self);
    free(lease.host);
    lease.host = strdup(self.nodename);
    assert_int_equal(lease_check(&lease), PROCESS_DEAD);
    lease_done(&lease);

    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_false(holds(f, &digest));
    uint64_t n = 0;
    assert_int_equal(lease_sweep(f->store, true, &n, &f->e), 0);
    assert_int_equal(n, 1);
    assert_int_equal(fixture_count(f, "leases"), 1);
    assert_int_equal(sweep(f), 1);
    assert_int_equal(fixture_count(f, "leases"), 0);
    assert_int_equal(larder_lease_process(f->store, &digest, pid, "late", id, &f->e),
                     -LARDER_NOENT);
}

static void of_a_file(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");
    struct lease lease = {0};
    char dir[256], path[300], other[300], id[LARDER_LEASE_ID_BYTES];

    snprintf(dir, sizeof dir, "%s/job", f->dir);
    snprintf(path, sizeof path, "%s/over\xfflay.qcow2", dir);
    snprintf(other, sizeof other, "%s/other", f->dir);
    assert_int_equal(mkdir(dir, 0755), 0);
    assert_int_equal(larder_lease_file(f->store, &digest, path, "overlay", id, &f->e),
                     -LARDER_NOENT);
    close(open(path, O_CREAT | O_WRONLY, 0644));
    assert_int_equal(larder_lease_file(f->store, &digest, path, "overlay", id, &f->e), 0);
    assert_true(holds(f, &digest));

    /* Replaced by another file, while the old inode still exists. */
    assert_int_equal(link(path, other), 0);
    assert_int_equal(unlink(path), 0);
    close(open(path, O_CREAT | O_WRONLY, 0644));
    assert_false(holds(f, &digest));
    assert_int_equal(rename(other, path), 0);
    assert_true(holds(f, &digest));

    /* Gone with its directory; but on an unknown file system nobody can tell. */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
    assert_false(holds(f, &digest));
    assert_int_equal(lease_each(f->store, NULL, keep, &lease, &f->e), 0);
    assert_string_equal(lease.path, path);
    lease.device++;
    assert_int_equal(lease_check(&lease), PROCESS_UNKNOWN);
    lease.device--;
    free(lease.host);
    lease.host = strdup("elsewhere");
    assert_int_equal(lease_check(&lease), PROCESS_UNKNOWN);
    lease_done(&lease);
}

static void of_a_time(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");
    char a[LARDER_LEASE_ID_BYTES], b[LARDER_LEASE_ID_BYTES];
    int64_t now = clock_realtime_ns();

    assert_int_equal(larder_lease_until(f->store, &digest, now - 1, "p", a, &f->e), 0);
    assert_false(holds(f, &digest));
    assert_int_equal(larder_lease_until(f->store, &digest, now + NS_PER_S * 60, "p", b, &f->e), 0);
    assert_string_not_equal(a, b);
    assert_true(holds(f, &digest));
    assert_int_equal(sweep(f), 1);
    assert_int_equal(larder_lease_release(f->store, b, &f->e), 0);
    assert_int_equal(larder_lease_release(f->store, b, &f->e), 0);
    assert_false(holds(f, &digest));
    assert_int_equal(larder_lease_release(f->store, "../format", &f->e), -LARDER_INVAL);
}

static void only_of_blobs_that_are_there(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc"), none = {.alg = LARDER_DIGEST_SHA256};
    char id[LARDER_LEASE_ID_BYTES] = "unchanged";

    assert_int_equal(larder_lease_until(f->store, &none, INT64_MAX, "p", id, &f->e), -LARDER_NOENT);
    assert_int_equal(blob_mark_invalid(f->store, &digest, "why", &f->e), 0);
    assert_int_equal(larder_lease_until(f->store, &digest, INT64_MAX, "p", id, &f->e),
                     -LARDER_NOENT);
    assert_string_equal(id, "unchanged");
    assert_int_equal(fixture_count(f, "leases"), 0);
}

static void damage_is_not_death(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");
    bool ret = false;
    fixture_write(f, "leases/00112233445566778899aabbccddeeff", "{\"version\":1");
    assert_int_equal(lease_holds(f->store, &digest, &ret, &f->e), -LARDER_CORRUPT);
    assert_non_null(strstr(f->e.msg, "leases/0011"));
    assert_non_null(strstr(f->e.hint, "fsck"));
}

static int take_and_give(struct fixture *f, int i)
{
    struct larder_digest digest;
    char id[LARDER_LEASE_ID_BYTES];
    uint64_t n = 0;
    bool held = false;
    if (fixture_open(f, 0) < 0 || larder_blob_put(f->store, "abc", 3, NULL, &digest, &f->e) < 0)
        return -1;
    for (int k = 0; k < 10; k++) {
        if (larder_lease_process(f->store, &digest, getpid(), "p", id, &f->e) < 0 ||
            lease_sweep(f->store, false, &n, &f->e) < 0 ||
            lease_holds(f->store, &digest, &held, &f->e) < 0 || !held)
            return -1;
        /* Half of them die without giving theirs back. */
        if (i % 2 && larder_lease_release(f->store, id, &f->e) < 0)
            return -1;
    }
    return 0;
}

static void many_at_once(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(fixture_race(8, take_and_give, f), 0);
    sweep(f);
    assert_int_equal(fixture_count(f, "leases"), 0);
}

static void of_an_image(void **state)
{
    struct fixture *f = *state;
    static const char type[] = "application/vnd.oci.image.manifest.v1+json";
    struct larder_digest digest = fixture_put(f, "{}"), none = {.alg = LARDER_DIGEST_SHA256};
    char id[LARDER_LEASE_ID_BYTES];
    struct lease lease = {0};
    struct slice text = slice_of(
        "{\"version\":1,\"id\":\"00112233445566778899aabbccddeeff\",\"kind\":\"until\","
        "\"digest\":\"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\","
        "\"purpose\":\"p\",\"host\":\"h\",\"created_ns\":1,\"until_ns\":2,\"media_type\":3}");

    assert_int_equal(lease_image(f->store, &none, type, "p", id, &f->e), -LARDER_NOENT);
    assert_int_equal(lease_image(f->store, &digest, type, "p", id, &f->e), 0);
    assert_true(holds(f, &digest));
    assert_int_equal(lease_each(f->store, &digest, keep, &lease, &f->e), 0);
    assert_int_equal(lease.kind, LEASE_PROCESS);
    assert_int_equal(lease.process.pid, getpid());
    assert_string_equal(lease.media_type, type);
    lease_done(&lease);
    assert_int_equal(larder_lease_release(f->store, id, &f->e), 0);
    assert_int_equal(lease_parse(text, &lease, &f->e), -LARDER_CORRUPT);
}

int main(void)
{
#define STORE(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        STORE(of_a_process),        STORE(of_a_file),
        STORE(of_a_time),           STORE(only_of_blobs_that_are_there),
        STORE(damage_is_not_death), STORE(many_at_once),
        STORE(of_an_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
