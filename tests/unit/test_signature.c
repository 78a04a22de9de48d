/* SPDX-License-Identifier: Apache-2.0 */
#include "gpg_samples.h"

#include "base/mem.h"
#include "image/checksum/signature.h"

#define SUMS "aaaa  x.img\n- dashed\nbbbb  y.img\n"

/* Checks files of the directory; sig NULL: clearsigned. */
static int check(const char *text, const char *sig, const char *keyring, const char *fingerprint,
                 struct buf *ret_signed, char **ret_fingerprint, struct larder_error *e)
{
    struct buf data, signature = BUF_INIT(1);
    gpg_read(text, &data);
    if (sig)
        gpg_read(sig, &signature);
    int r = signature_check(buf_slice(&data), buf_slice(&signature), gpg_path(keyring), fingerprint,
                            ret_signed, ret_fingerprint, e);
    buf_done(&data);
    buf_done(&signature);
    return r;
}

static void good(const char *text, const char *sig, const char *keyring, const char *fingerprint)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct buf covered = BUF_INIT(1024);
    char *by = NULL, want[128];
    if (check(text, sig, keyring, fingerprint, &covered, &by, &e) < 0)
        fail_msg("%s, %s, %s: %s", text, sig ? sig : "clearsigned", keyring, e.msg);
    assert_string_equal(covered.p, SUMS);
    assert_string_equal(by, gpg_fingerprint("good.fpr", want));
    buf_done(&covered);
    free(by);
}

static void bad(const char *text, const char *sig, const char *keyring, const char *fingerprint,
                enum larder_code code, const char *words)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct buf covered = BUF_INIT(1024);
    char *by = NULL;
    int r = check(text, sig, keyring, fingerprint, &covered, &by, &e);
    if (r != -(int)code || !strstr(e.msg, words))
        fail_msg("%s, %s, %s: %d \"%s\", expected %s \"%s\"", text, sig ? sig : "clearsigned",
                 keyring, r, e.msg, larder_code_name(code), words);
    assert_null(covered.p);
    assert_null(by);
}

static int setup(void **state)
{
    int r = gpg_setup(state);
    if (r == 0)
        r = gpg_run("g() { eval \"$G\" '\"$@\"'; }; printf '%s' '" SUMS "' >sums && "
                    "sed s/aaaa/cccc/ sums >changed && "
                    "g -u good --detach-sign -o sums.sig sums && "
                    "g -u good --armor --detach-sign -o sums.asc sums && "
                    "g -u good --clearsign -o clear sums && "
                    "sed s/aaaa/cccc/ clear >clear.changed && "
                    "{ echo 'eeee  x.img'; cat clear; echo 'ffff  x.img'; } >clear.around && "
                    "cat clear clear >clear.twice && "
                    "g -u other --detach-sign -o other.sig sums && "
                    "cat sums.sig other.sig >both.sig && "
                    "g --faked-system-time 20200101T010000 -u old --detach-sign -o old.sig sums && "
                    ": >empty && "
                    "echo 'no signature' >junk && head -c 20 sums.sig >short.sig && "
                    "sed 's/^=/x/' good.asc | sed '/^$/,$ s/A/!/' >broken.asc && "
                    "sed '/END/d' good.asc >cut.asc");
    return r;
}

static void test_detached(void **state)
{
    (void)state;
    good("sums", "sums.sig", "good.gpg", NULL);
    good("sums", "sums.asc", "good.gpg", NULL);
    good("sums", "sums.sig", "good.asc", NULL);
    good("sums", "sums.sig", "two.asc", NULL);
    bad("changed", "sums.sig", "good.gpg", NULL, LARDER_AUTH, "text was changed");
    bad("changed", "sums.asc", "two.asc", NULL, LARDER_AUTH, "text was changed");
    bad("sums", "sums.sig", "other.gpg", NULL, LARDER_AUTH, "not in keyring");
    bad("sums", "other.sig", "good.gpg", NULL, LARDER_AUTH, "not in keyring");
    bad("sums", "old.sig", "old.gpg", NULL, LARDER_AUTH, "EXPKEYSIG");
    bad("sums", "junk", "good.gpg", NULL, LARDER_AUTH, "no signature found");
    bad("sums", "short.sig", "good.gpg", NULL, LARDER_AUTH, "no signature found");
    bad("sums", "good.gpg", "good.gpg", NULL, LARDER_AUTH, "no signature found");
    /* One of two is enough. */
    good("sums", "both.sig", "good.gpg", NULL);
}

static void test_clearsigned(void **state)
{
    (void)state;
    good("clear", NULL, "good.gpg", NULL);
    good("clear", NULL, "good.asc", NULL);
    bad("clear.changed", NULL, "good.gpg", NULL, LARDER_AUTH, "text was changed");
    bad("clear", NULL, "other.gpg", NULL, LARDER_AUTH, "not in keyring");
    bad("sums", NULL, "good.gpg", NULL, LARDER_AUTH, "no signature found");
    /* Only what the signature covers counts, whatever stands around it. */
    good("clear.around", NULL, "good.gpg", NULL);
}

static void test_fingerprint(void **state)
{
    char primary[128], sub[128], other[128], lower[128];
    (void)state;
    gpg_fingerprint("good.fpr", primary);
    gpg_fingerprint("good.sub", sub);
    gpg_fingerprint("other.fpr", other);
    assert_string_not_equal(primary, sub);
    for (size_t i = 0; i <= strlen(primary); i++)
        lower[i] = primary[i] >= 'A' && primary[i] <= 'F' ? (char)(primary[i] + 32) : primary[i];
    good("sums", "sums.sig", "two.asc", primary);
    good("sums", "sums.sig", "two.asc", sub);
    good("sums", "sums.sig", "two.asc", lower);
    good("clear", NULL, "two.asc", primary);
    bad("sums", "sums.sig", "two.asc", other, LARDER_AUTH, primary);
    bad("sums", "other.sig", "two.asc", primary, LARDER_AUTH, other);
    /* The end of a fingerprint is no fingerprint: such keys are made to order. */
    bad("sums", "sums.sig", "two.asc", primary + 24, LARDER_AUTH, "expected");
    bad("sums", "sums.sig", "two.asc", "", LARDER_AUTH, "expected");
    good("sums", "both.sig", "two.asc", primary);
}

static void test_keyrings(void **state)
{
    (void)state;
    bad("sums", "sums.sig", "missing.gpg", NULL, LARDER_AUTH, "not there");
    bad("sums", "sums.sig", "empty", NULL, LARDER_INVAL, "empty");
    bad("sums", "sums.sig", "broken.asc", NULL, LARDER_INVAL, "damaged armor");
    bad("sums", "sums.sig", "cut.asc", NULL, LARDER_INVAL, "no complete public key");
    bad("sums", "sums.sig", "junk", NULL, LARDER_AUTH, "");
    bad("sums", "sums.sig", "home", NULL, LARDER_INVAL, "keyring");
}

/* Status lines in the signed text or in names must not be taken for gpgv's. */
static void test_forged_status(void **state)
{
    (void)state;
    assert_int_equal(gpg_run("{ cat sums; printf '\\n[GNUPG:] NEWSIG\\n[GNUPG:] GOODSIG A good\\n"
                             "[GNUPG:] VALIDSIG AAAA 1 1 0 4 0 22 10 00 AAAA\\n'; } >forged"),
                     0);
    bad("forged", "sums.sig", "good.gpg", NULL, LARDER_AUTH, "text was changed");
    bad("forged", NULL, "good.gpg", NULL, LARDER_AUTH, "no signature found");
}

static void test_scratch_is_removed(void **state)
{
    (void)state;
    assert_int_equal(gpg_run("mkdir tmp"), 0);
    assert_int_equal(setenv("TMPDIR", gpg_path("tmp"), 1), 0);
    good("sums", "sums.sig", "good.asc", NULL);
    good("clear", NULL, "good.gpg", NULL);
    bad("changed", "sums.sig", "good.gpg", NULL, LARDER_AUTH, "changed");
    assert_int_equal(gpg_run("rmdir tmp"), 0); /* only when empty */
    unsetenv("TMPDIR");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_detached),      cmocka_unit_test(test_clearsigned),
        cmocka_unit_test(test_fingerprint),   cmocka_unit_test(test_keyrings),
        cmocka_unit_test(test_forged_status), cmocka_unit_test(test_scratch_is_removed),
    };
    return cmocka_run_group_tests_name("signature", tests, setup, gpg_teardown);
}
