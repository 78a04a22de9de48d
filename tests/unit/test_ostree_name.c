/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "update/base/ostree_name.h"

/* Pairs that ostree-ext's own tests have, and what its rules give at their edges. */
static void escaped_and_back(void **state __attribute__((unused)))
{
    static const char *const rows[][2] = {
        {"docker://quay.io/fedora/fedora-coreos:stable",
         "docker_3A__2F__2F_quay_2E_io/fedora/fedora-coreos_3A_stable"},
        {"sha256:0f1e", "sha256_3A_0f1e"},
        {"oci:/var/lib/x:latest", "oci_3A__2F_var/lib/x_3A_latest"},
        {"a", "a"},
        {"-", "-"},
        {"_", "__"},
        {"__", "____"},
        {"_2F_", "__2F__"},
        {"/", "_2F_"},
        {"a/", "a_2F_"},
        {"a//b", "a/_2F_b"},
        {"a-/b", "a-_2F_b"},
        {"a_/b", "a___2F_b"},
        {"/a/b", "_2F_a/b"},
        {".", "_2E_"},
        {"../..", "_2E__2E__2F__2E__2E_"},
        {"a\nb", "a_0A_b"},
        {"\x7f", "_7F_"},
        {"h\xc3\xa9", "h_E9_"},
        {"\xe2\x82\xac/x", "_20AC__2F_x"},
        {"\xf0\x9f\x9a\x80", "_1F680_"},
        {"\xf4\x8f\xbf\xbf", "_10FFFF_"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct buf out = BUF_INIT(200);
        buf_puts(&out, "x:");
        assert_int_equal(ostree_name_escape(slice_of(rows[i][0]), &out, &e), 0);
        assert_string_equal(out.p + 2, rows[i][1]);
        buf_reset(&out);
        buf_puts(&out, "x:");
        assert_int_equal(ostree_name_unescape(slice_of(rows[i][1]), &out, &e), 0);
        assert_string_equal(out.p + 2, rows[i][0]);
        buf_done(&out);
    }
}

static void not_to_be_escaped(void **state __attribute__((unused)))
{
    static const struct slice rows[] = {
        SLICE_INIT(""),
        SLICE_INIT("a\0b"),
        SLICE_INIT("\xff"),
        SLICE_INIT("\xc3"),
        SLICE_INIT("a\xc3/"),
        SLICE_INIT("\xc0\xaf"),
        SLICE_INIT("\xe0\x9f\xbf"),
        SLICE_INIT("\xed\xa0\x80"),
        SLICE_INIT("\xf4\x90\x80\x80"),
        SLICE_INIT("\x80"),
        SLICE_INIT("\xf8\x88\x80\x80\x80"),
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct buf out = BUF_INIT(200);
        buf_puts(&out, "before");
        assert_int_equal(ostree_name_escape(rows[i], &out, &e), -LARDER_INVAL);
        assert_string_equal(out.p, "before");
        buf_done(&out);
    }
    static char longer[5000];
    struct larder_error e = LARDER_ERROR_INIT;
    struct buf out = BUF_INIT(100000);
    memset(longer, 'a', sizeof(longer));
    assert_int_equal(ostree_name_escape((struct slice){longer, sizeof(longer)}, &out, &e),
                     -LARDER_INVAL);
    assert_int_equal(ostree_name_unescape((struct slice){longer, sizeof(longer)}, &out, &e),
                     -LARDER_INVAL);
    assert_null(strchr(e.msg, '\n'));
    buf_done(&out);
    out = BUF_INIT(3);
    assert_int_equal(ostree_name_escape(SLICE_LIT("abcd"), &out, &e), -LARDER_LIMIT);
    buf_done(&out);
}

static void not_escaped(void **state __attribute__((unused)))
{
    static const char *const rows[] = {
        "",       "a.b",      ":",    "_",   "a_",     "_2F",    "_2f_",
        "_2G_",   "_02F_",    "_61_", "a/",  "/a",     "-/a",    "a//b",
        "_D800_", "_0_",      "_00_", "_A_", "h\xe9",  "a_2F_b", "_110000_",
        "_5F_",   "_00002F_", "_",    "a b", "_2F_/_", "_-1_",   "_1000000000002F_",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct buf out = BUF_INIT(200);
        assert_int_equal(ostree_name_unescape(slice_of(rows[i]), &out, &e), -LARDER_INVAL);
        assert_int_equal(out.n, 0);
        buf_done(&out);
    }
}

static void origins(void **state __attribute__((unused)))
{
    static const char *const good[][2] = {
        {"ostree-unverified-registry:example.org/os:stable", "docker://example.org/os:stable"},
        {"ostree-unverified-registry:example.org:5000/os", "docker://example.org:5000/os"},
        {"ostree-image-signed:docker://example.org/os:stable", "docker://example.org/os:stable"},
        {"ostree-image-signed:registry:example.org/os", "docker://example.org/os"},
        {"ostree-unverified-image:docker://example.org/os@sha256:00",
         "docker://example.org/os@sha256:00"},
        {"ostree-unverified-image:oci:/srv/os:latest", "oci:/srv/os:latest"},
        {"ostree-unverified-image:oci-archive:/srv/os.tar", "oci-archive:/srv/os.tar"},
        {"ostree-unverified-image:containers-storage:example.org/os",
         "containers-storage:example.org/os"},
        {"ostree-remote-registry:fedora:example.org/os:stable", "docker://example.org/os:stable"},
        {"ostree-remote-image:fedora:docker://example.org/os", "docker://example.org/os"},
        {"ostree-remote-image:fedora:registry:example.org/os", "docker://example.org/os"},
    };
    static const char *const bad[] = {
        "",
        "ostree-image-signed",
        "ostree-image-signed:",
        "ostree-image-signed:docker:",
        "ostree-image-signed:docker://",
        "ostree-image-signed:docker:example.org/os",
        "ostree-image-signed:registry:",
        "ostree-image-signed:ftp:example.org/os",
        "ostree-unverified-registry:",
        "ostree-remote-registry:fedora",
        "ostree-remote-registry:fedora:",
        "ostree-remote-registry::example.org/os",
        "ostree-remote-image:fedora:example.org/os",
        "docker://example.org/os:stable",
        "fedora:fedora/x86_64/coreos/stable",
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        CLEANUP_FREE char *image = NULL;
        assert_int_equal(ostree_name_image(good[i][0], &image, &e), 0);
        assert_string_equal(image, good[i][1]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        char *image = NULL;
        assert_int_equal(ostree_name_image(bad[i], &image, &e), -LARDER_INVAL);
        assert_null(image);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escaped_and_back),
        cmocka_unit_test(not_to_be_escaped),
        cmocka_unit_test(not_escaped),
        cmocka_unit_test(origins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
