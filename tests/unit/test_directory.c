/* SPDX-License-Identifier: Apache-2.0 */
/* image check and adopt over a directory that is not larder's. */
#include <sys/mount.h>

#include "image_host.h"

#include "image/entry.h"

struct seen {
    char text[2048]; /* "a.qcow2=valid b.qcow2=corrupt! ": ! acted on, + in use */
    char reason[512];
};

static void see(void *arg, const struct larder_image_check_result *result)
{
    struct seen *seen = arg;
    size_t n = strlen(seen->text);
    snprintf(seen->text + n, sizeof(seen->text) - n, "%s=%s%s%s ", strrchr(result->path, '/') + 1,
             larder_verdict_name(result->verdict), result->is_in_use ? "+" : "",
             result->is_acted_on ? "!" : "");
    snprintf(seen->reason, sizeof(seen->reason), "%s", result->reason);
    assert_int_equal(result->verdict == LARDER_VERDICT_VALID, result->reason[0] == '\0');
}

static const struct larder_image_check_options plain = LARDER_IMAGE_CHECK_OPTIONS_INIT;

static void checks(struct host *h, struct larder_image_check_options options, enum larder_code code,
                   const char *text)
{
    struct seen seen = {"", ""};
    options.result = see;
    options.arg = &seen;
    expect_code(h, larder_image_check(h->store, h->source_dir, &options, &h->e), code);
    assert_string_equal(seen.text, text);
}

static bool is_there(struct host *h, const char *name)
{
    return access(host_path(h, name), F_OK) == 0;
}

/* Old enough for the memo of their hash to be kept. */
static void settle(void)
{
    usleep(2100000);
}

static void test_sidecars(void **state)
{
    static const char *const sidecars[] = {
        "sha256sum x.qcow2 >x.qcow2.sha256",
        "sha512sum x.qcow2 >x.qcow2.sha512",
        "sha256sum x.qcow2 >x.qcow2.sha256sum",
        "sha256sum x.qcow2 >x.qcow2.checksum",
        "sha256sum --tag x.qcow2 >x.qcow2.CHECKSUM",
        "sha256sum \"$PWD/x.qcow2\" >x.qcow2.sha256",
        "sha256sum /../$PWD/x.qcow2 | sed 's|/.*/|/srv/system_imaging/disk/|' >x.qcow2.sha256",
        "sha256sum x.qcow2 | cut -c1-64 | tr -d '\\n' >x.qcow2.sha256sum",
        "md5sum x.qcow2 >x.qcow2.md5",
        "sha256sum x.qcow2 >SHA256SUMS",
        "sha512sum x.qcow2 >SHA512SUMS",
        "sha256sum x.qcow2 >CHECKSUM",
        "{ printf '\\357\\273\\277'; sha256sum x.qcow2 | sed 's/$/\\r/'; } >x.qcow2.sha256",
    };
    struct host *h = *state;
    for (size_t i = 0; i < ARRAY_LEN(sidecars); i++) {
        host_image(h, "x.qcow2", 1);
        host_shell(h, sidecars[i]);
        checks(h, plain, LARDER_OK, "x.qcow2=valid ");
        host_image(h, "x.qcow2", 2);
        checks(h, plain, LARDER_CORRUPT, "x.qcow2=corrupt ");
        host_shell(h, "rm *");
    }
}

static void test_what_is_told(void **state)
{
    struct host *h = *state;
    char stamp[128];
    host_image(h, "a.qcow2", 1);
    host_sums(h, "a.qcow2.sha256", "a.qcow2", LARDER_DIGEST_SHA256);
    host_image(h, "b.qcow2", 2); /* nothing is known about it */
    host_image(h, "c.qcow2", 3); /* only a stamp of what it was made from */
    snprintf(stamp, sizeof(stamp), "sha256:%s",
             host_hex(host_path(h, "a.qcow2"), LARDER_DIGEST_SHA256));
    host_text(h, "c.qcow2.digest", stamp);
    host_text(h, "notes.txt", "hello\n");
    host_text(h, ".hidden.qcow2", "x");
    host_text(h, "a.qcow2.sha256.asc", "-----BEGIN PGP SIGNATURE-----\n");
    assert_int_equal(symlink("a.qcow2", host_path(h, "l.qcow2")), 0);
    assert_int_equal(mkdir(host_path(h, "d.qcow2"), 0755), 0);
    assert_int_equal(mkfifo(host_path(h, "f.qcow2"), 0644), 0);
    checks(h, plain, LARDER_OK, "a.qcow2=valid b.qcow2=unknown c.qcow2=unknown ");
    /* Contradicting lines judge nobody. */
    host_shell(h, "{ sha256sum b.qcow2; sha256sum a.qcow2 | sed s/a.q/b.q/; } >SHA256SUMS");
    checks(h, plain, LARDER_OK, "a.qcow2=valid b.qcow2=unknown c.qcow2=unknown ");
    expect_code(h, larder_image_check(h->store, host_path(h, "none"), &plain, &h->e), LARDER_NOENT);
}

/* One good, one bad, one bad and held open, one that nothing is said about. */
static void fill(struct host *h)
{
    host_shell(h, "rm -f *");
    host_image(h, "bad.qcow2", 1);
    host_image(h, "good.qcow2", 2);
    host_image(h, "held.qcow2", 3);
    host_image(h, "other.qcow2", 4);
    host_shell(h, "sha256sum bad.qcow2 good.qcow2 held.qcow2 >SHA256SUMS && "
                  "truncate -s 100000 bad.qcow2 && printf x >>held.qcow2");
}

static void test_remove(void **state)
{
    struct host *h = *state;
    struct larder_image_check_options options = plain;
    fill(h);
    CLEANUP_CLOSE int held = open(host_path(h, "held.qcow2"), O_RDONLY | O_CLOEXEC);
    options.action = LARDER_CHECK_REMOVE;
    options.dry_run = true;
    checks(h, options, LARDER_CORRUPT,
           "bad.qcow2=corrupt! good.qcow2=valid held.qcow2=corrupt+ other.qcow2=unknown ");
    assert_true(is_there(h, "bad.qcow2"));
    options.dry_run = false;
    checks(h, options, LARDER_CORRUPT,
           "bad.qcow2=corrupt! good.qcow2=valid held.qcow2=corrupt+ other.qcow2=unknown ");
    assert_false(is_there(h, "bad.qcow2"));
    assert_true(is_there(h, "good.qcow2") && is_there(h, "held.qcow2"));
    assert_true(is_there(h, "other.qcow2") && is_there(h, "SHA256SUMS"));
    fd_closep(&held);
    checks(h, options, LARDER_CORRUPT, "good.qcow2=valid held.qcow2=corrupt! other.qcow2=unknown ");
    checks(h, options, LARDER_OK, "good.qcow2=valid other.qcow2=unknown ");
}

static void test_quarantine(void **state)
{
    struct host *h = *state;
    struct larder_image_check_options options = plain;
    char away[512];
    snprintf(away, sizeof(away), "%s/../away/from/here", h->source_dir);
    options.action = LARDER_CHECK_QUARANTINE;
    fill(h);
    expect_code(h, larder_image_check(h->store, h->source_dir, &options, &h->e), LARDER_INVAL);
    options.quarantine_dir = away;
    for (int i = 0; i < 2; i++) {
        fill(h);
        checks(h, options, LARDER_CORRUPT,
               "bad.qcow2=corrupt! good.qcow2=valid held.qcow2=corrupt! other.qcow2=unknown ");
    }
    host_shell(h, "cd ../away/from/here && ls | tr '\\n' ' ' >../ls && "
                  "test \"$(cat ../ls)\" = 'bad.qcow2 bad.qcow2.1 held.qcow2 held.qcow2.1 '");
    assert_false(is_there(h, "bad.qcow2"));
}

/* Another file system: the bytes are copied before the name goes. */
static void test_quarantine_elsewhere(void **state)
{
    struct host *h = *state;
    struct larder_image_check_options options = plain;
    char away[512];
    snprintf(away, sizeof(away), "%s/away", h->scratch.path);
    assert_int_equal(mkdir(away, 0755), 0);
    if (mount("none", away, "tmpfs", 0, "size=8m") < 0)
        return; /* not root: rename was tested above */
    options.action = LARDER_CHECK_QUARANTINE;
    options.quarantine_dir = away;
    for (int i = 0; i < 2; i++) {
        fill(h);
        checks(h, options, LARDER_CORRUPT,
               "bad.qcow2=corrupt! good.qcow2=valid held.qcow2=corrupt! other.qcow2=unknown ");
    }
    char command[1024];
    snprintf(command, sizeof(command),
             "test $(stat -c %%s %.400s/bad.qcow2.1) = 100000 -a "
             "$(ls %.400s | wc -l) = 4",
             away, away);
    int rc = system(command);
    assert_int_equal(umount(away), 0);
    assert_int_equal(rc, 0);
}

static unsigned long long bytes_read(void)
{
    unsigned long long n = 0;
    char text[512] = "";
    int fd = open("/proc/self/io", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
    close(fd);
    assert_int_equal(sscanf(text, "rchar: %llu", &n), 1);
    return n;
}

/* The second run reads no image; what it says is the same. */
static void test_memo(void **state)
{
    struct host *h = *state;
    struct larder_image_check_options options = plain;
    static const char text[] =
        "bad.qcow2=corrupt good.qcow2=valid held.qcow2=corrupt other.qcow2=unknown ";
    fill(h);
    host_shell(h, "truncate -s 20M good.qcow2 && head -c 1M /dev/urandom >>good.qcow2 && "
                  "sha256sum good.qcow2 >good.qcow2.sha256");
    settle();
    checks(h, options, LARDER_CORRUPT, text);
    unsigned long long before = bytes_read();
    checks(h, options, LARDER_CORRUPT, text);
    /* Heads of files: to know what is an image, and what is an overlay. */
    assert_true(bytes_read() - before < 1000000);
    options.deep = true;
    before = bytes_read();
    checks(h, options, LARDER_CORRUPT, text);
    assert_true(bytes_read() - before > 1 << 20);
    options.deep = false;
    host_shell(h, "touch -r good.qcow2 ref && printf x | dd of=good.qcow2 bs=1 seek=500000 "
                  "conv=notrunc && touch -r ref good.qcow2 && rm ref");
    checks(h, options, LARDER_CORRUPT,
           "bad.qcow2=corrupt good.qcow2=corrupt held.qcow2=corrupt other.qcow2=unknown ");
}

/* ---- adopt ---- */

static void adopted(void *arg, const char *path, const char *name, int result, const char *how)
{
    struct seen *seen = arg;
    size_t n = strlen(seen->text);
    assert_string_equal(strrchr(path, '/') + 1, name);
    snprintf(seen->text + n, sizeof(seen->text) - n, "%s=%s ", name,
             result < 0 ? larder_code_name((enum larder_code) - result) : how);
}

static void adopts(struct host *h, bool dry_run, int result, const char *text)
{
    struct seen seen = {"", ""};
    memset(&h->e, 0, sizeof(h->e));
    int r = larder_image_adopt(h->store, h->source_dir, dry_run, adopted, &seen, &h->e);
    if (r != result)
        fail_msg("%d (%s), expected %d", r, h->e.msg, result);
    if (strcmp(seen.text, text) && !strstr(seen.text, "=reflinked ")) /* some disks can */
        fail_msg("\"%s\", expected \"%s\"", seen.text, text);
}

static void test_adopt(void **state)
{
    struct host *h = *state;
    struct larder_image_result result = {0};
    struct stat original, blob;
    fill(h);
    adopts(h, true, -LARDER_CORRUPT,
           "bad.qcow2=corrupt good.qcow2=would be adopted held.qcow2=corrupt "
           "other.qcow2=would be adopted ");
    expect_code(h, larder_image_get(h->store, "good.qcow2", NULL, &result, &h->e), LARDER_NOENT);
    CLEANUP_CLOSE int held = open(host_path(h, "other.qcow2"), O_RDONLY | O_CLOEXEC);
    assert_true(held >= 0);
    adopts(h, false, -LARDER_CORRUPT,
           "bad.qcow2=corrupt good.qcow2=linked held.qcow2=corrupt other.qcow2=copied ");
    assert_true(is_there(h, "bad.qcow2") && is_there(h, "good.qcow2"));
    expect_ok(h, larder_image_get(h->store, "good.qcow2", NULL, &result, &h->e));
    assert_int_equal(result.how, LARDER_IMAGE_HIT);
    assert_int_equal(stat(host_path(h, "good.qcow2"), &original), 0);
    assert_int_equal(stat(result.path, &blob), 0);
    assert_int_equal(blob.st_mode & 07777, 0444);
    assert_string_equal(host_hex(result.path, LARDER_DIGEST_SHA256),
                        host_hex(host_path(h, "good.qcow2"), LARDER_DIGEST_SHA256));
    larder_image_result_done(&result);
    unlink(host_path(h, "bad.qcow2"));
    unlink(host_path(h, "held.qcow2"));
    adopts(h, false, 2, "good.qcow2=there already other.qcow2=there already ");
    /* An entry of that name for another file is not touched. */
    host_image(h, "good.qcow2", 9);
    host_sums(h, "SHA256SUMS", "good.qcow2", LARDER_DIGEST_SHA256);
    adopts(h, false, -LARDER_EXIST, "good.qcow2=exists other.qcow2=there already ");
}

/* What the sidecars say is upstream's word from then on. */
static void test_adopt_then_get(void **state)
{
    struct host *h = *state;
    struct larder_image_result result = {0};
    struct larder_image_get_options options = LARDER_IMAGE_GET_OPTIONS_INIT;
    options.refresh = true;
    host_image(h, "x.qcow2", 1);
    host_sums(h, "x.qcow2.sha512", "x.qcow2", LARDER_DIGEST_SHA512);
    struct seen seen = {"", ""};
    expect_ok(h, larder_image_adopt(h->store, h->source_dir, false, adopted, &seen, &h->e));
    expect_ok(h, larder_image_get(h->store, "x.qcow2", &options, &result, &h->e));
    assert_int_equal(result.how, LARDER_IMAGE_HIT);
    larder_image_result_done(&result);
    host_image(h, "x.qcow2", 2);
    host_sums(h, "x.qcow2.sha512", "x.qcow2", LARDER_DIGEST_SHA512);
    expect_ok(h, larder_image_get(h->store, "x.qcow2", &options, &result, &h->e));
    assert_int_equal(result.how, LARDER_IMAGE_UPDATED);
    assert_int_equal(access(result.previous_path, F_OK), 0);
    larder_image_result_done(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_HOST(test_sidecars),   ON_HOST(test_what_is_told),   ON_HOST(test_remove),
        ON_HOST(test_quarantine), ON_HOST(test_memo),           ON_HOST(test_quarantine_elsewhere),
        ON_HOST(test_adopt),      ON_HOST(test_adopt_then_get),
    };
    return cmocka_run_group_tests_name("directory", tests, NULL, NULL);
}
