/* SPDX-License-Identifier: Apache-2.0 */
/* verify, invalidate, show and remove, and what is refused or unpacked on its way in. */
#include "image_host.h"

#include "image/entry.h"
#include "store/dir/blob.h"
#include "store/dir/quarantine.h"

static void add(struct host *h, const char *name, const char *source)
{
    struct larder_image_spec spec = LARDER_IMAGE_SPEC_INIT;
    spec.name = name;
    spec.source = host_path(h, source);
    expect_ok(h, larder_image_add(h->store, &spec, &h->e));
}

/* Path of the image; valid until the fourth next call. */
static const char *get(struct host *h, const char *name, enum larder_image_how how)
{
    static char paths[4][512];
    static unsigned next;
    struct larder_image_result result = {0};
    char *path = paths[next++ % 4];
    expect_ok(h, larder_image_get(h->store, name, NULL, &result, &h->e));
    if (result.how != how)
        fail_msg("%s, expected %s", larder_image_how_name(result.how), larder_image_how_name(how));
    snprintf(path, sizeof(paths[0]), "%s", result.path);
    larder_image_result_done(&result);
    return path;
}

static void spoil(struct host *h, const char *path)
{
    char command[2048];
    snprintf(command, sizeof(command),
             "chmod u+w %s && printf x | dd of=%s bs=1 seek=150000 conv=notrunc && chmod u-w %s",
             path, path, path);
    host_shell(h, command);
}

/* Names and verdicts as they are told: "a=valid b=corrupt ". */
struct told {
    char text[512];
    char reason[512];
};

static void tell(void *arg, const struct larder_image_verify_result *result)
{
    struct told *told = arg;
    size_t n = strlen(told->text);
    snprintf(told->text + n, sizeof(told->text) - n, "%s=%s ", result->name,
             result->code && result->code != LARDER_UNREACHABLE
                 ? larder_code_name((enum larder_code)result->code)
                 : larder_verdict_name(result->verdict));
    snprintf(told->reason, sizeof(told->reason), "%s", result->reason);
}

static void verifies(struct host *h, unsigned flags, enum larder_code code, const char *text)
{
    struct told told = {0};
    expect_code(h, larder_image_verify(h->store, NULL, 0, flags, tell, &told, &h->e), code);
    assert_string_equal(told.text, text);
}

static void test_verify(void **state)
{
    struct host *h = *state;
    struct told told = {0};
    host_image(h, "x.qcow2", 1);
    host_image(h, "y.qcow2", 2);
    verifies(h, 0, LARDER_OK, "");
    add(h, "a", "x.qcow2");
    verifies(h, 0, LARDER_UNREACHABLE, "a=unknown ");
    get(h, "a", LARDER_IMAGE_FETCHED);
    add(h, "b", "y.qcow2");
    const char *path = get(h, "b", LARDER_IMAGE_FETCHED);
    verifies(h, 0, LARDER_OK, "a=valid b=valid ");
    verifies(h, LARDER_IMAGE_VERIFY_DEEP, LARDER_OK, "a=valid b=valid ");
    verifies(h, LARDER_IMAGE_VERIFY_FRESH, LARDER_OK, "a=valid b=valid ");
    spoil(h, path);
    static const char *const names[] = {"b", "none", "a"};
    expect_code(h, larder_image_verify(h->store, names, 3, 0, tell, &told, &h->e), LARDER_CORRUPT);
    assert_string_equal(told.text, "b=corrupt none=not-found a=valid ");
    assert_int_equal(access(path, F_OK), -1);
    verifies(h, 0, LARDER_UNREACHABLE, "a=valid b=unknown ");
    get(h, "b", LARDER_IMAGE_FETCHED);
    verifies(h, 0, LARDER_OK, "a=valid b=valid ");
}

static void test_verify_fresh(void **state)
{
    struct host *h = *state;
    host_image(h, "x.qcow2", 1);
    host_sums(h, "SHA256SUMS", "x.qcow2", LARDER_DIGEST_SHA256);
    add(h, "a", "x.qcow2");
    add(h, "b", "x.qcow2");
    get(h, "a", LARDER_IMAGE_FETCHED);
    get(h, "b", LARDER_IMAGE_FETCHED);
    host_image(h, "x.qcow2", 2);
    host_sums(h, "SHA256SUMS", "x.qcow2", LARDER_DIGEST_SHA256);
    verifies(h, 0, LARDER_OK, "a=valid b=valid ");
    verifies(h, LARDER_IMAGE_VERIFY_FRESH, LARDER_OUTDATED, "a=outdated b=outdated ");
    verifies(h, 0, LARDER_OUTDATED, "a=outdated b=outdated "); /* it is remembered */
    get(h, "a", LARDER_IMAGE_UPDATED);
    verifies(h, LARDER_IMAGE_VERIFY_DEEP, LARDER_OUTDATED, "a=valid b=outdated ");
    unlink(host_path(h, "x.qcow2"));
    unlink(host_path(h, "SHA256SUMS"));
    verifies(h, LARDER_IMAGE_VERIFY_FRESH, LARDER_GONE, "a=gone b=gone ");
}

/* sha512 alone is published: the recorded sha256 still names the blob, and both are compared. */
static void test_other_algorithms(void **state)
{
    struct host *h = *state;
    struct larder_image_info info = {0};
    host_image(h, "x.qcow2", 1);
    host_sums(h, "SHA512SUMS", "x.qcow2", LARDER_DIGEST_SHA512);
    add(h, "a", "x.qcow2");
    get(h, "a", LARDER_IMAGE_FETCHED);
    expect_ok(h, larder_image_show(h->store, "a", false, &info, &h->e));
    assert_int_equal(info.digest.alg, LARDER_DIGEST_SHA256);
    assert_int_equal(info.upstream_digest.alg, LARDER_DIGEST_SHA512);
    larder_image_info_done(&info);
    verifies(h, LARDER_IMAGE_VERIFY_FRESH, LARDER_OK, "a=valid ");
    /* Another algorithm than any that was computed: hashed once, not fetched again. */
    unlink(host_path(h, "SHA512SUMS"));
    host_sums(h, "x.qcow2.sha256", "x.qcow2", LARDER_DIGEST_SHA384);
    host_shell(h, "mv x.qcow2.sha256 CHECKSUM");
    verifies(h, LARDER_IMAGE_VERIFY_FRESH, LARDER_OK, "a=valid ");
    assert_int_equal(h->fetches, 1);
    host_image(h, "y.qcow2", 2);
    host_shell(h, "sha384sum y.qcow2 | sed s/y.qcow2/x.qcow2/ >CHECKSUM");
    verifies(h, LARDER_IMAGE_VERIFY_FRESH, LARDER_OUTDATED, "a=outdated ");
}

/* ---- unpacking ---- */

static void test_unpack(void **state)
{
    static const struct {
        const char *suffix, *tool, *transform;
    } cases[] = {{"gz", "gzip", "gunzip"},
                 {"xz", "xz", "unxz"},
                 {"zst", "zstd -q --rm", "unzstd"},
                 {"bz2", "bzip2", "bunzip2"}};
    struct host *h = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct larder_image_info info = {0};
        char name[64], command[256], hex[LARDER_DIGEST_TEXT_BYTES];
        snprintf(name, sizeof(name), "x.img.%s", cases[i].suffix);
        host_image(h, "x.img", (unsigned)i);
        snprintf(command, sizeof(command), "cp x.img plain && %s x.img && sha256sum %s >%s.sha256",
                 cases[i].tool, name, name);
        host_shell(h, command);
        add(h, name, name);
        const char *path = get(h, name, LARDER_IMAGE_FETCHED);
        const char *plain = host_hex(host_path(h, "plain"), LARDER_DIGEST_SHA256);
        assert_string_equal(host_hex(path, LARDER_DIGEST_SHA256), plain);
        expect_ok(h, larder_image_show(h->store, name, false, &info, &h->e));
        assert_string_equal(info.transform, cases[i].transform);
        assert_string_equal(larder_digest_hex(&info.digest, hex), plain);
        assert_string_equal(larder_digest_hex(&info.source_digest, hex),
                            host_hex(host_path(h, name), LARDER_DIGEST_SHA256));
        assert_string_equal(info.format, "qcow2");
        larder_image_info_done(&info);
        /* Judged by its own digest here, by the source's upstream. */
        static const char *names[1];
        struct told told = {0};
        names[0] = name;
        expect_ok(h, larder_image_verify(h->store, names, 1,
                                         LARDER_IMAGE_VERIFY_DEEP | LARDER_IMAGE_VERIFY_FRESH, tell,
                                         &told, &h->e));
        spoil(h, path);
        get(h, name, LARDER_IMAGE_REFETCHED);
    }
}

static void test_unpack_policy(void **state)
{
    struct host *h = *state;
    struct larder_image_spec spec = LARDER_IMAGE_SPEC_INIT;
    struct larder_image_result result = {0};
    host_image(h, "x.img", 1);
    host_shell(h, "gzip -c x.img >x.img.gz && cp x.img.gz packed && head -c 500 x.img.gz >cut.gz");
    spec.source = host_path(h, "x.img.gz");
    spec.name = "never";
    spec.unpack = "never";
    expect_ok(h, larder_image_add(h->store, &spec, &h->e));
    expect_ok(h, larder_image_get(h->store, "never", NULL, &result, &h->e));
    assert_string_equal(result.format, "gzip");
    larder_image_result_done(&result);
    spec.name = "always";
    spec.unpack = "always";
    spec.source = host_path(h, "packed");
    expect_ok(h, larder_image_add(h->store, &spec, &h->e));
    expect_ok(h, larder_image_get(h->store, "always", NULL, &result, &h->e));
    assert_string_equal(result.format, "qcow2");
    larder_image_result_done(&result);
    spec.name = "plain";
    spec.source = host_path(h, "x.img");
    expect_ok(h, larder_image_add(h->store, &spec, &h->e));
    assert_true(larder_image_get(h->store, "plain", NULL, &result, &h->e) < 0);
    add(h, "cut", "cut.gz");
    expect_code(h, larder_image_get(h->store, "cut", NULL, &result, &h->e), LARDER_CORRUPT);
    /* Named like one, and none: taken as it is. */
    host_shell(h, "mv x.img y.img.gz");
    add(h, "misnamed", "y.img.gz");
    expect_ok(h, larder_image_get(h->store, "misnamed", NULL, &result, &h->e));
    assert_string_equal(result.format, "qcow2");
    larder_image_result_done(&result);
}

/* ---- what is refused ---- */

static void test_refused(void **state)
{
    struct host *h = *state;
    struct larder_image_result result = {0};
    static unsigned char bytes[SAMPLE_QCOW2_FILE_BYTES];
    host_text(h, "page.qcow2", "<!DOCTYPE html>\n<title>Sign in</title>\n");
    host_sums(h, "page.qcow2.sha256", "page.qcow2", LARDER_DIGEST_SHA256); /* even then */
    add(h, "page", "page.qcow2");
    expect_code(h, larder_image_get(h->store, "page", NULL, &result, &h->e), LARDER_PROTO);
    expect_message(h, "HTML");
    sample_qcow2(bytes);
    sample_backing(bytes, "/etc/shadow");
    host_write(h, "backed.qcow2", bytes, sizeof(bytes));
    add(h, "backed", "backed.qcow2");
    expect_code(h, larder_image_get(h->store, "backed", NULL, &result, &h->e), LARDER_UNSAFE);
    expect_message(h, "/etc/shadow");
    sample_qcow2(bytes);
    host_write(h, "short.qcow2", bytes, 70000);
    add(h, "short", "short.qcow2");
    expect_code(h, larder_image_get(h->store, "short", NULL, &result, &h->e), LARDER_CORRUPT);
    host_text(h, "empty.qcow2", "");
    add(h, "empty", "empty.qcow2");
    assert_true(larder_image_get(h->store, "empty", NULL, &result, &h->e) < 0);
    assert_int_equal(mkdir(host_path(h, "dir"), 0755), 0);
    add(h, "dir", "dir");
    expect_code(h, larder_image_get(h->store, "dir", NULL, &result, &h->e), LARDER_INVAL);
    /* Nothing of all that stays. */
    struct told told = {0};
    expect_code(h, larder_image_verify(h->store, NULL, 0, 0, tell, &told, &h->e),
                LARDER_UNREACHABLE);
    char command[512];
    snprintf(command, sizeof(command),
             "test -z \"$(find %s/tmp %s/partial %s/quarantine -type f)\"", h->store_dir,
             h->store_dir, h->store_dir);
    host_shell(h, command);
}

static void test_allow_backing(void **state)
{
    struct host *h = *state;
    struct larder_image_spec spec = LARDER_IMAGE_SPEC_INIT;
    static unsigned char bytes[SAMPLE_QCOW2_FILE_BYTES];
    sample_qcow2(bytes);
    sample_backing(bytes, "base.qcow2");
    host_write(h, "backed.qcow2", bytes, sizeof(bytes));
    spec.name = "b";
    spec.source = host_path(h, "backed.qcow2");
    spec.allow_backing = true;
    expect_ok(h, larder_image_add(h->store, &spec, &h->e));
    get(h, "b", LARDER_IMAGE_FETCHED);
    spec.replace = true;
    spec.allow_backing = false;
    expect_ok(h, larder_image_add(h->store, &spec, &h->e));
    struct larder_image_result result = {0};
    expect_code(h, larder_image_get(h->store, "b", NULL, &result, &h->e), LARDER_UNSAFE);
}

/* ---- invalidate ---- */

struct invalidated {
    char text[512];
};

static void note(void *arg, const char *name, const struct larder_digest *digest, const char *why,
                 bool is_deferred)
{
    struct invalidated *list = arg;
    size_t n = strlen(list->text);
    assert_true(digest->alg == LARDER_DIGEST_SHA256 && why[0]);
    snprintf(list->text + n, sizeof(list->text) - n, "%.8s%s ", name, is_deferred ? "+" : "");
}

static void invalidates(struct host *h, struct larder_image_invalidate_options options,
                        const char *text)
{
    struct invalidated list = {""};
    options.invalidated = note;
    options.arg = &list;
    expect_ok(h, larder_image_invalidate(h->store, &options, &h->e));
    assert_string_equal(list.text, text);
}

static const struct larder_image_invalidate_options plain = LARDER_IMAGE_INVALIDATE_OPTIONS_INIT;

static void test_invalidate(void **state)
{
    struct host *h = *state;
    struct larder_image_invalidate_options options = plain;
    char digest[LARDER_DIGEST_TEXT_BYTES], first[16];
    expect_code(h, larder_image_invalidate(h->store, &options, &h->e), LARDER_INVAL);
    host_image(h, "x.qcow2", 1);
    host_image(h, "y.qcow2", 2);
    add(h, "a", "x.qcow2");
    add(h, "b", "x.qcow2");
    add(h, "c", "y.qcow2");
    options.name_or_digest = "a";
    invalidates(h, options, ""); /* nothing here that could be */
    const char *x = get(h, "a", LARDER_IMAGE_FETCHED);
    get(h, "b", LARDER_IMAGE_FETCHED);
    const char *y = get(h, "c", LARDER_IMAGE_FETCHED);
    options.dry_run = true;
    invalidates(h, options, "a ");
    get(h, "a", LARDER_IMAGE_HIT);
    options.dry_run = false;
    invalidates(h, options, "a ");
    assert_int_equal(access(x, F_OK), -1);
    get(h, "a", LARDER_IMAGE_REFETCHED);
    get(h, "b", LARDER_IMAGE_HIT);
    snprintf(digest, sizeof(digest), "sha256:%s", strrchr(x, '/') + 1);
    options.name_or_digest = digest;
    invalidates(h, options, "a b ");
    get(h, "b", LARDER_IMAGE_REFETCHED);
    get(h, "a", LARDER_IMAGE_REFETCHED);
    assert_int_equal(access(y, F_OK), 0);
    expect_ok(h, larder_image_remove(h->store, "a", &h->e));
    expect_ok(h, larder_image_remove(h->store, "b", &h->e));
    assert_int_equal(access(x, F_OK), 0); /* gc's work */
    snprintf(first, sizeof(first), "%.8s ", digest);
    invalidates(h, options, first); /* a blob that no entry names */
    assert_int_equal(access(x, F_OK), -1);
    expect_code(h, larder_image_invalidate(h->store, &options, &h->e), LARDER_NOENT);
    options.name_or_digest = "none";
    expect_code(h, larder_image_invalidate(h->store, &options, &h->e), LARDER_NOENT);
}

static void test_invalidate_conditions(void **state)
{
    struct host *h = *state;
    struct larder_image_invalidate_options options = plain;
    host_image(h, "x.qcow2", 1);
    host_image(h, "y.qcow2", 2);
    host_image(h, "z.qcow2", 3);
    add(h, "a", "x.qcow2");
    add(h, "b", "y.qcow2");
    add(h, "c", "z.qcow2");
    get(h, "a", LARDER_IMAGE_FETCHED);
    const char *b = get(h, "b", LARDER_IMAGE_FETCHED);
    get(h, "c", LARDER_IMAGE_FETCHED);
    options.mismatched = true;
    invalidates(h, options, "");
    spoil(h, b);
    host_image(h, "z.qcow2", 4);
    options.dry_run = true;
    invalidates(h, options, "b c ");
    assert_int_equal(access(b, F_OK), 0);
    options.dry_run = false;
    invalidates(h, options, "b c ");
    assert_int_equal(access(b, F_OK), -1);
    invalidates(h, options, "");
    get(h, "a", LARDER_IMAGE_HIT);
    get(h, "b", LARDER_IMAGE_REFETCHED);
    get(h, "c", LARDER_IMAGE_REFETCHED);
    /* An upstream that is gone is no reason. */
    unlink(host_path(h, "x.qcow2"));
    h->warnings = 0;
    invalidates(h, options, "");
    assert_int_equal(h->warnings, 1);
    options.mismatched = false;
    options.older_than_ns = 3600LL * 1000000000;
    invalidates(h, options, "");
    options.older_than_ns = 1;
    invalidates(h, options, "a b c ");
    invalidates(h, options, "");
}

static void test_invalidate_in_use(void **state)
{
    struct host *h = *state;
    struct larder_image_invalidate_options options = plain;
    char id[LARDER_LEASE_ID_BYTES];
    struct larder_image_result result = {0};
    host_image(h, "x.qcow2", 1);
    add(h, "a", "x.qcow2");
    options.name_or_digest = "a";
    /* Open: moved at once, deleted later; who has it reads on. */
    const char *path = get(h, "a", LARDER_IMAGE_FETCHED);
    CLEANUP_CLOSE int held = open(path, O_RDONLY | O_CLOEXEC);
    invalidates(h, options, "a+ ");
    assert_int_equal(access(path, F_OK), -1);
    char byte;
    assert_int_equal(pread(held, &byte, 1, 5), 1);
    get(h, "a", LARDER_IMAGE_REFETCHED);
    /* An overlay needs the path: marked, and a get replaces it in place. */
    expect_ok(h, larder_image_get(h->store, "a", NULL, &result, &h->e));
    host_text(h, "overlay", "x");
    expect_ok(
        h, larder_lease_file(h->store, &result.digest, host_path(h, "overlay"), "test", id, &h->e));
    invalidates(h, options, "a+ ");
    assert_int_equal(access(path, F_OK), 0);
    get(h, "a", LARDER_IMAGE_REFETCHED);
    invalidates(h, options, "a+ ");
    options.force = true;
    invalidates(h, options, "a ");
    assert_int_equal(access(path, F_OK), -1);
    larder_image_result_done(&result);
}

/* ---- show, add, remove ---- */

static void test_show(void **state)
{
    struct host *h = *state;
    struct larder_image_info info = {0};
    struct larder_image_spec spec = LARDER_IMAGE_SPEC_INIT;
    expect_code(h, larder_image_show(h->store, "a", false, &info, &h->e), LARDER_NOENT);
    host_image(h, "x.qcow2", 1);
    add(h, "a", "x.qcow2");
    expect_ok(h, larder_image_show(h->store, "a", true, &info, &h->e));
    assert_int_equal(info.verdict, LARDER_VERDICT_UNKNOWN);
    assert_string_equal(info.refresh, "1h");
    assert_null(info.path);
    larder_image_info_done(&info);
    const char *path = get(h, "a", LARDER_IMAGE_FETCHED);
    CLEANUP_CLOSE int held = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(held >= 0);
    expect_ok(h, larder_image_show(h->store, "a", true, &info, &h->e));
    assert_int_equal(info.verdict, LARDER_VERDICT_VALID);
    assert_string_equal(info.verdict_reason, "");
    assert_string_equal(info.path, path);
    assert_int_equal(info.virtual_bytes, 1 << 30);
    assert_true(info.last_used_ns > 0 && info.last_verified_ns > 0 && info.fetched_ns > 0);
    assert_non_null(info.holders);
    assert_non_null(info.holders[0]);
    larder_image_info_done(&info);
    spoil(h, path);
    expect_ok(h, larder_image_show(h->store, "a", false, &info, &h->e));
    assert_int_equal(info.verdict, LARDER_VERDICT_UNKNOWN);
    assert_non_null(strstr(info.verdict_reason, "touched"));
    larder_image_info_done(&info);

    spec.name = "a";
    spec.source = host_path(h, "x.qcow2");
    spec.refresh_ns = LARDER_REFRESH_NEVER;
    expect_code(h, larder_image_add(h->store, &spec, &h->e), LARDER_EXIST);
    spec.replace = true; /* only policy: what is known stays */
    expect_ok(h, larder_image_add(h->store, &spec, &h->e));
    expect_ok(h, larder_image_show(h->store, "a", false, &info, &h->e));
    assert_string_equal(info.refresh, "never");
    assert_true(info.fetched_ns > 0);
    larder_image_info_done(&info);
    host_image(h, "y.qcow2", 2);
    spec.source = host_path(h, "y.qcow2");
    expect_ok(h, larder_image_add(h->store, &spec, &h->e));
    expect_ok(h, larder_image_show(h->store, "a", false, &info, &h->e));
    assert_int_equal(info.digest.alg, LARDER_DIGEST_NONE);
    larder_image_info_done(&info);
    expect_ok(h, larder_image_remove(h->store, "a", &h->e));
    expect_code(h, larder_image_remove(h->store, "a", &h->e), LARDER_NOENT);
    spec.source = host_path(h, "none");
    expect_code(h, larder_image_add(h->store, &spec, &h->e), LARDER_NOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_HOST(test_verify),
        ON_HOST(test_verify_fresh),
        ON_HOST(test_other_algorithms),
        ON_HOST(test_unpack),
        ON_HOST(test_unpack_policy),
        ON_HOST(test_refused),
        ON_HOST(test_allow_backing),
        ON_HOST(test_invalidate),
        ON_HOST(test_invalidate_conditions),
        ON_HOST(test_invalidate_in_use),
        ON_HOST(test_show),
    };
    return cmocka_run_group_tests_name("image_verify", tests, NULL, NULL);
}
