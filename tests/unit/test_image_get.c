/* SPDX-License-Identifier: Apache-2.0 */
/* larder_image_get with local sources: every row of the verdict table. */

#include "image_host.h"

#include "image/entry.h"
#include "store/dir/quarantine.h"

static void add(struct host *h, const char *name, int64_t refresh_ns)
{
    struct larder_image_spec spec = LARDER_IMAGE_SPEC_INIT;
    spec.name = name;
    spec.source = host_path(h, "x.qcow2");
    spec.refresh_ns = refresh_ns;
    expect_ok(h, larder_image_add(h->store, &spec, &h->e));
}

/* Gets and checks that what is handed out is what the source has. *path may be NULL. */
static void gets(struct host *h, const char *name, enum larder_image_how how, const char *like,
                 char path[512])
{
    struct larder_image_result result = {0};
    char hex[LARDER_DIGEST_TEXT_BYTES];
    struct stat st;
    expect_ok(h, larder_image_get(h->store, name, NULL, &result, &h->e));
    if (result.how != how)
        fail_msg("%s, expected %s", larder_image_how_name(result.how), larder_image_how_name(how));
    const char *want = host_hex(host_path(h, like), LARDER_DIGEST_SHA256);
    assert_string_equal(larder_digest_hex(&result.digest, hex), want);
    assert_string_equal(host_hex(result.path, LARDER_DIGEST_SHA256), want);
    assert_int_equal(stat(result.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0444);
    assert_int_equal(result.size_bytes, st.st_size);
    assert_string_equal(result.name, name);
    assert_int_equal(result.previous_path != NULL, how == LARDER_IMAGE_UPDATED);
    if (path)
        snprintf(path, 512, "%s", result.path);
    larder_image_result_done(&result);
}

static void flip_bit(const char *path, off_t at)
{
    struct stat st;
    unsigned char byte;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(chmod(path, 0644), 0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(futimens(fd, times), 0);
    assert_int_equal(fchmod(fd, 0444), 0);
    close(fd);
}

static int count_item(void *arg, const struct quarantine_item *item)
{
    assert_non_null(item->reason);
    ++*(unsigned *)arg;
    return 0;
}

static unsigned quarantined(struct host *h)
{
    unsigned count = 0;
    expect_ok(h, quarantine_each(h->store, count_item, &count, &h->e));
    return count;
}

static void test_miss_and_hit(void **state)
{
    struct host *h = *state;
    struct larder_image_result result = {0};
    char path[512], again[512];
    host_image(h, "x.qcow2", 1);
    add(h, "x", 3600LL * 1000000000);
    expect_code(h, larder_image_get(h->store, "y", NULL, &result, &h->e), LARDER_NOENT);
    gets(h, "x", LARDER_IMAGE_FETCHED, "x.qcow2", path);
    assert_int_equal(h->fetches, 1);
    gets(h, "x", LARDER_IMAGE_HIT, "x.qcow2", again);
    assert_string_equal(path, again);
    assert_int_equal(h->fetches, 1);
    assert_int_equal(h->warnings, 0);
}

/* The bytes of a hit are not read: no more is read than small files, whatever the image's size. */
static void test_hit_reads_nothing(void **state)
{
    struct host *h = *state;
    struct larder_image_result result = {0};
    struct buf io = BUF_INIT(4096);
    unsigned long long before = 0, after = 0;
    host_image(h, "x.qcow2", 1);
    host_shell(h, "truncate -s 64M x.qcow2 && dd if=/dev/urandom of=x.qcow2 bs=1M seek=1 count=8 "
                  "conv=notrunc");
    add(h, "x", LARDER_REFRESH_NEVER);
    gets(h, "x", LARDER_IMAGE_FETCHED, "x.qcow2", NULL);
    for (int i = 0; i < 2; i++) {
        unsigned long long *into = i ? &after : &before;
        if (i)
            expect_ok(h, larder_image_get(h->store, "x", NULL, &result, &h->e));
        buf_reset(&io);
        int fd = open("/proc/self/io", O_RDONLY | O_CLOEXEC);
        char text[512] = "";
        assert_true(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
        close(fd);
        assert_int_equal(sscanf(text, "rchar: %llu", into), 1);
    }
    assert_int_equal(result.how, LARDER_IMAGE_HIT);
    assert_true(after - before < 16384);
    larder_image_result_done(&result);
    buf_done(&io);
}

static void test_updated(void **state)
{
    struct host *h = *state;
    struct larder_image_result result = {0};
    char first[512];
    host_image(h, "x.qcow2", 1);
    host_image(h, "old", 1);
    host_sums(h, "x.qcow2.sha256", "x.qcow2", LARDER_DIGEST_SHA256);
    add(h, "x", LARDER_REFRESH_ALWAYS);
    gets(h, "x", LARDER_IMAGE_FETCHED, "x.qcow2", first);
    gets(h, "x", LARDER_IMAGE_HIT, "x.qcow2", NULL);
    host_image(h, "x.qcow2", 2);
    host_sums(h, "x.qcow2.sha256", "x.qcow2", LARDER_DIGEST_SHA256);
    expect_ok(h, larder_image_get(h->store, "x", NULL, &result, &h->e));
    assert_int_equal(result.how, LARDER_IMAGE_UPDATED);
    assert_string_equal(result.previous_path, first);
    /* The old one is still there, for who has it. */
    assert_string_equal(host_hex(first, LARDER_DIGEST_SHA256),
                        host_hex(host_path(h, "old"), LARDER_DIGEST_SHA256));
    larder_image_result_done(&result);
    gets(h, "x", LARDER_IMAGE_HIT, "x.qcow2", NULL);
    /* And back again: the bytes are here already. */
    host_image(h, "x.qcow2", 1);
    host_sums(h, "x.qcow2.sha256", "x.qcow2", LARDER_DIGEST_SHA256);
    unsigned fetches = h->fetches;
    gets(h, "x", LARDER_IMAGE_UPDATED, "x.qcow2", NULL);
    assert_int_equal(h->fetches, fetches);
}

/* Without any checksum file the validators of the source decide. */
static void test_updated_without_sums(void **state)
{
    struct host *h = *state;
    char path[512];
    host_image(h, "x.qcow2", 1);
    add(h, "x", LARDER_REFRESH_ALWAYS);
    gets(h, "x", LARDER_IMAGE_FETCHED, "x.qcow2", NULL);
    gets(h, "x", LARDER_IMAGE_HIT, "x.qcow2", NULL);
    assert_int_equal(h->fetches, 1);
    host_image(h, "x.qcow2", 2);
    gets(h, "x", LARDER_IMAGE_UPDATED, "x.qcow2", NULL);
    /* The same bytes with other times: fetched to know, and a hit. */
    host_shell(h, "touch -d '2020-01-01' x.qcow2");
    gets(h, "x", LARDER_IMAGE_HIT, "x.qcow2", NULL);
    assert_int_equal(h->fetches, 3);
    gets(h, "x", LARDER_IMAGE_HIT, "x.qcow2", NULL);
    assert_int_equal(h->fetches, 3);
    /* Sums that appear, and go again: from then on nothing unverified takes the place. */
    host_image(h, "x.qcow2", 3);
    host_sums(h, "SHA256SUMS", "x.qcow2", LARDER_DIGEST_SHA256);
    gets(h, "x", LARDER_IMAGE_UPDATED, "x.qcow2", NULL);
    assert_int_equal(h->warnings, 0);
    unlink(host_path(h, "SHA256SUMS"));
    gets(h, "x", LARDER_IMAGE_STALE_OK, "x.qcow2", path);
    host_shell(h, "mv x.qcow2 kept.qcow2");
    host_image(h, "x.qcow2", 4);
    gets(h, "x", LARDER_IMAGE_STALE_OK, "kept.qcow2", NULL);
    assert_int_equal(h->warnings, 2);
    /* A corrupt copy is mended by what the sums named, and by nothing else. */
    flip_bit(path, 200000);
    struct larder_image_result result = {0};
    expect_code(h, larder_image_get(h->store, "x", NULL, &result, &h->e), LARDER_MISMATCH);
    host_shell(h, "mv kept.qcow2 x.qcow2");
    gets(h, "x", LARDER_IMAGE_FETCHED, "x.qcow2", NULL);
}

/* How the cached file is spoilt, and that the same call mends it. */
static void test_corrupt(void **state)
{
    struct host *h = *state;
    char path[512];
    host_image(h, "x.qcow2", 1);
    add(h, "x", LARDER_REFRESH_NEVER);
    gets(h, "x", LARDER_IMAGE_FETCHED, "x.qcow2", path);
    for (int how = 0; how < 4; how++) {
        char command[2048];
        static const char *const spoil[] = {NULL, "truncate -s 100000", "truncate -s 300000",
                                            "dd if=/dev/zero bs=1 count=1 conv=notrunc seek=3 of="};
        h->warnings = 0;
        if (!spoil[how]) {
            flip_bit(path, 200000); /* and mtime set back: only ctime tells */
        } else {
            snprintf(command, sizeof(command), "chmod u+w %s && %s%s%s && chmod u-w %s", path,
                     spoil[how], how == 3 ? "" : " ", path, path);
            host_shell(h, command);
        }
        gets(h, "x", LARDER_IMAGE_REFETCHED, "x.qcow2", NULL);
        assert_int_equal(quarantined(h), how + 1);
        assert_int_equal(h->warnings, 1);
        assert_non_null(strstr(h->last_warning, "corrupt"));
        gets(h, "x", LARDER_IMAGE_HIT, "x.qcow2", NULL);
    }
    unlink(path);
    gets(h, "x", LARDER_IMAGE_FETCHED, "x.qcow2", NULL);
}

static void test_suspect(void **state)
{
    struct host *h = *state;
    char path[512];
    host_image(h, "x.qcow2", 1);
    add(h, "x", LARDER_REFRESH_NEVER);
    gets(h, "x", LARDER_IMAGE_FETCHED, "x.qcow2", path);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(chmod(path, 0444), 0);
    gets(h, "x", LARDER_IMAGE_HIT, "x.qcow2", NULL); /* hashed, and good */
    assert_int_equal(h->fetches, 1);
    assert_int_equal(quarantined(h), 0);
    assert_int_equal(h->warnings, 0);
}

static void test_unreachable(void **state)
{
    struct host *h = *state;
    struct larder_image_get_options options = LARDER_IMAGE_GET_OPTIONS_INIT;
    struct larder_image_result result = {0};
    char path[512];
    host_image(h, "x.qcow2", 1);
    host_image(h, "copy", 1);
    add(h, "x", LARDER_REFRESH_ALWAYS);
    options.offline = true;
    expect_code(h, larder_image_get(h->store, "x", &options, &result, &h->e), LARDER_UNREACHABLE);
    gets(h, "x", LARDER_IMAGE_FETCHED, "x.qcow2", path);
    unlink(host_path(h, "x.qcow2"));
    gets(h, "x", LARDER_IMAGE_STALE_OK, "copy", NULL);
    assert_int_equal(h->warnings, 1);
    expect_ok(h, larder_image_get(h->store, "x", NULL, &result, &h->e));
    assert_int_equal(result.verdict, LARDER_VERDICT_UNKNOWN);
    larder_image_result_done(&result);
    /* Offline nobody is asked, so nothing is unknown that was to be known. */
    h->warnings = 0;
    expect_ok(h, larder_image_get(h->store, "x", &options, &result, &h->e));
    assert_int_equal(result.how, LARDER_IMAGE_HIT);
    larder_image_result_done(&result);
    assert_int_equal(h->warnings, 0);
    options.offline = false;
    options.require_fresh = true;
    expect_code(h, larder_image_get(h->store, "x", &options, &result, &h->e), LARDER_GONE);
    assert_non_null(strstr(h->e.hint, "require-fresh"));
    /* Corrupt and not to be had: never handed out. */
    flip_bit(path, 70000);
    expect_code(h, larder_image_get(h->store, "x", NULL, &result, &h->e), LARDER_GONE);
    assert_int_equal(quarantined(h), 1);
    assert_int_equal(access(path, F_OK), -1);
    host_image(h, "x.qcow2", 1);
    gets(h, "x", LARDER_IMAGE_FETCHED, "x.qcow2", NULL);
}

/* Upstream contradicts itself: the old one stays, and upstream is left alone for a while. */
static void test_torn(void **state)
{
    struct host *h = *state;
    struct larder_image_get_options options = LARDER_IMAGE_GET_OPTIONS_INIT;
    struct larder_image_result result = {0};
    host_image(h, "x.qcow2", 2);
    host_sums(h, "x.qcow2.sha256", "x.qcow2", LARDER_DIGEST_SHA256);
    host_image(h, "x.qcow2", 1); /* the sums came first */
    add(h, "x", LARDER_REFRESH_ALWAYS);
    expect_code(h, larder_image_get(h->store, "x", NULL, &result, &h->e), LARDER_MISMATCH);
    expect_message(h, "upstream inconsistent");
    assert_int_equal(h->fetches, 2);
    host_sums(h, "x.qcow2.sha256", "x.qcow2", LARDER_DIGEST_SHA256);
    gets(h, "x", LARDER_IMAGE_FETCHED, "x.qcow2", NULL);
    host_image(h, "old", 1);
    host_image(h, "x.qcow2", 2); /* the image came first */
    host_sums(h, "x.qcow2.sha256", "old", LARDER_DIGEST_SHA512);
    host_shell(h, "sed -i s/old/x.qcow2/ x.qcow2.sha256 && sha256sum old x.qcow2 >SHA256SUMS");
    host_image(h, "y", 3);
    host_sums(h, "x.qcow2.sha256", "y", LARDER_DIGEST_SHA256);
    host_shell(h, "sed -i 's/ y/ x.qcow2/' x.qcow2.sha256");
    h->warnings = 0;
    gets(h, "x", LARDER_IMAGE_STALE_OK, "old", NULL);
    assert_int_equal(h->warnings, 1);
    unsigned fetches = h->fetches;
    gets(h, "x", LARDER_IMAGE_STALE_OK, "old", NULL);
    assert_int_equal(h->fetches, fetches);
    options.refresh = options.require_fresh = true;
    expect_code(h, larder_image_get(h->store, "x", &options, &result, &h->e), LARDER_MISMATCH);
    host_sums(h, "x.qcow2.sha256", "x.qcow2", LARDER_DIGEST_SHA256);
    expect_ok(h, larder_image_get(h->store, "x", &options, &result, &h->e));
    assert_int_equal(result.how, LARDER_IMAGE_UPDATED);
    larder_image_result_done(&result);
}

/* Two entries of the same bytes have one blob, and the second one need not fetch it. */
static void test_shared(void **state)
{
    struct host *h = *state;
    char a[512], b[512];
    host_image(h, "x.qcow2", 1);
    host_sums(h, "SHA256SUMS", "x.qcow2", LARDER_DIGEST_SHA256);
    add(h, "a", LARDER_REFRESH_NEVER);
    add(h, "b", LARDER_REFRESH_NEVER);
    gets(h, "a", LARDER_IMAGE_FETCHED, "x.qcow2", a);
    gets(h, "b", LARDER_IMAGE_FETCHED, "x.qcow2", b);
    assert_string_equal(a, b);
    assert_int_equal(h->fetches, 1);
    unlink(host_path(h, "SHA256SUMS"));
    add(h, "c", LARDER_REFRESH_NEVER);
    gets(h, "c", LARDER_IMAGE_FETCHED, "x.qcow2", b);
    assert_string_equal(a, b);
    assert_int_equal(h->fetches, 2);
    /* Corrupt for both: the first get mends it, the second one finds it mended. */
    flip_bit(a, 200000);
    gets(h, "a", LARDER_IMAGE_REFETCHED, "x.qcow2", NULL);
    gets(h, "b", LARDER_IMAGE_HIT, "x.qcow2", NULL);
    assert_int_equal(quarantined(h), 1);
}

/* A source instead of a name makes its entry. */
static void test_source(void **state)
{
    struct host *h = *state;
    struct larder_image_result result = {0}, again = {0};
    struct larder_image_get_options options = LARDER_IMAGE_GET_OPTIONS_INIT;
    struct larder_image_spec spec = LARDER_IMAGE_SPEC_INIT;
    host_image(h, "x.qcow2", 1);
    spec.format = "raw";
    options.spec = &spec;
    expect_code(h, larder_image_get(h->store, host_path(h, "x.qcow2"), &options, &result, &h->e),
                LARDER_PROTO);
    expect_message(h, "is qcow2, expected raw");
    host_image(h, "z.qcow2", 1);
    expect_ok(h, larder_image_get(h->store, host_path(h, "z.qcow2"), NULL, &result, &h->e));
    expect_ok(h, larder_image_get(h->store, host_path(h, "../src/z.qcow2"), NULL, &again, &h->e));
    assert_int_equal(result.how, LARDER_IMAGE_FETCHED);
    assert_int_equal(again.how, LARDER_IMAGE_HIT);
    assert_string_equal(result.name, again.name);
    assert_string_equal(result.format, "qcow2");
    larder_image_result_done(&result);
    larder_image_result_done(&again);
    expect_code(h, larder_image_get(h->store, host_path(h, "none"), NULL, &result, &h->e),
                LARDER_NOENT);
    assert_int_equal(larder_image_get(h->store, "none", NULL, &result, NULL), -LARDER_NOENT);
}

static void test_read_only(void **state)
{
    struct host *h = *state;
    struct larder_image_result result = {0};
    struct larder_image_get_options options = LARDER_IMAGE_GET_OPTIONS_INIT;
    char path[512];
    host_image(h, "x.qcow2", 1);
    add(h, "x", LARDER_REFRESH_ALWAYS);
    gets(h, "x", LARDER_IMAGE_FETCHED, "x.qcow2", path);
    larder_store_close(h->store);
    host_open(h, LARDER_STORE_READ_ONLY);
    gets(h, "x", LARDER_IMAGE_HIT, "x.qcow2", NULL);
    options.require_fresh = true;
    expect_code(h, larder_image_get(h->store, "x", &options, &result, &h->e), LARDER_UNREACHABLE);
    /* Its memo does not hold any more (a restored store): the bytes are hashed, and are good. */
    assert_int_equal(utimensat(AT_FDCWD, path, NULL, 0), 0);
    gets(h, "x", LARDER_IMAGE_HIT, "x.qcow2", NULL);
    flip_bit(path, 200000);
    expect_code(h, larder_image_get(h->store, "x", NULL, &result, &h->e), LARDER_CORRUPT);
    assert_int_equal(access(path, F_OK), 0); /* nothing is moved in it */
    unlink(path);
    expect_code(h, larder_image_get(h->store, "x", NULL, &result, &h->e), LARDER_DENIED);
}

#define PROCESSES 16

/* One byte a fetch, one line of how each. */
static int child(const struct host *h, int out)
{
    struct host mine = {.scratch = h->scratch};
    struct larder_image_result result = {0};
    memcpy(mine.store_dir, h->store_dir, sizeof(mine.store_dir));
    mine.observer = (struct larder_observer){.arg = &mine, .note = host_note};
    host_open(&mine, 0);
    if (larder_image_get(mine.store, "x", NULL, &result, &mine.e) < 0)
        return 1;
    char bytes[2] = {(char)mine.fetches, (char)result.how};
    bool is_told = write(out, bytes, 2) == 2;
    larder_image_result_done(&result);
    larder_store_close(mine.store);
    return !is_told;
}

static void test_many_processes(void **state)
{
    struct host *h = *state;
    int pipes[2], fetches = 0, fetched = 0;
    host_image(h, "x.qcow2", 1);
    host_shell(h,
               "truncate -s 8M x.qcow2 && dd if=/dev/urandom of=x.qcow2 bs=1M seek=1 conv=notrunc "
               "count=6");
    add(h, "x", LARDER_REFRESH_ALWAYS);
    assert_int_equal(pipe(pipes), 0);
    for (int i = 0; i < PROCESSES; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            _exit(child(h, pipes[1]));
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        char bytes[2];
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
        assert_int_equal(read(pipes[0], bytes, 2), 2);
        fetches += bytes[0];
        fetched += bytes[1] == LARDER_IMAGE_FETCHED;
    }
    assert_int_equal(fetches, 1);
    assert_int_equal(fetched, 1);
    close(pipes[0]);
    close(pipes[1]);
    gets(h, "x", LARDER_IMAGE_HIT, "x.qcow2", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_HOST(test_miss_and_hit), ON_HOST(test_hit_reads_nothing),
        ON_HOST(test_updated),      ON_HOST(test_updated_without_sums),
        ON_HOST(test_corrupt),      ON_HOST(test_suspect),
        ON_HOST(test_unreachable),  ON_HOST(test_torn),
        ON_HOST(test_shared),       ON_HOST(test_source),
        ON_HOST(test_read_only),    ON_HOST(test_many_processes),
    };
    return cmocka_run_group_tests_name("image_get", tests, NULL, NULL);
}
