/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checksum files: every form that sha256sum takes or refuses, and every publisher's habits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "base/error.h"
#include "base/text.h"
#include "image/checksum/checksum_file.h"
#include "image/checksum/checksum_name.h"

#define H16     "0123456789abcdef"
#define G16     "fedcba9876543210"
#define A256    H16 H16 H16 H16
#define B256    G16 G16 G16 G16
#define A512    A256 A256
#define B512    B256 B256
#define A384    A256 H16 H16
#define A224    H16 H16 H16 "01234567"
#define A160    H16 H16 "01234567"
#define A128    H16 H16
#define U256    "0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF"
#define A256_64 "ASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4mrze8="
#define A512_64 \
    "ASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4mrze8BI0VniavN7w=="
#define BEGIN_SIGNED "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n"
#define SIGNATURE    "-----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCAAdFiEE\n-----END PGP SIGNATURE-----\n"

#define WEAK      CHECKSUM_WARN_WEAK
#define NAME      CHECKSUM_WARN_NAME
#define MALFORMED CHECKSUM_WARN_MALFORMED
#define FOREIGN   CHECKSUM_WARN_FOREIGN

struct row {
    const char *what;
    const char *text;
    const char *file_name;
    const char *image;
    const char *expect;    /* "alg:hex", several with spaces; NULL: an error */
    enum larder_code code; /* of the error */
    unsigned warnings;
    const char *inner_name;
    unsigned flags;
};

static const struct row rows[] = {
    /* what sha256sum -c takes */
    {"text", A256 "  f\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"binary", A256 " *f\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"one space", A256 " f\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"tab", A256 "\tf\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"tab and space", A256 "\t f\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"upper case", U256 "  f\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"CRLF", A256 "  f\r\n" B256 "  g\r\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"no final newline", A256 "  f", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"leading blanks", " \t" A256 "  f\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"BSD", "SHA256 (f) = " A256 "\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"OpenSSL", "SHA256(f)= " A256 "\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"no blank after =", "SHA256 (f) =" A256 "\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"comment", "# x\n" A256 "  f\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"./", A256 "  ./f\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"./ asked", A256 "  f\n", "S", "./f", "sha256:" A256, 0, 0, NULL, 0},
    {"needless backslash", "\\" A256 "  f\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"clearsigned BSD", BEGIN_SIGNED "SHA256 (f) = " A256 "\n" SIGNATURE, "S", "f", "sha256:" A256,
     0, 0, NULL, 0},
    /* what it refuses and people publish all the same */
    {"BOM", "\xef\xbb\xbf" A256 "  f\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"bare", A256 "\n", "f.sha256", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"bare without newline", A256, "f.sha256sum", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"bare with blanks", " " A256 " \r\n", "f.sha256", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"bare, a file of unknown name", A256 "\n", NULL, "f", "sha256:" A256, 0, 0, NULL, 0},
    {"bare of another", A256 "\n", "g.sha256", "f", NULL, LARDER_NOENT, 0, NULL, 0},
    {"bare of another, dedicated", A256 "\n", "g.sha256", "f", "sha256:" A256, 0, 0, NULL,
     CHECKSUM_LOOKUP_DEDICATED},
    {"bare of a longer name", A256 "\n", "f.gz.sha256", "f", NULL, LARDER_NOENT, 0, NULL, 0},
    {"OpenSSL 3 tag", "SHA2-256(f)= " A256 "\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"lower-case tag", "sha256 (f) = " A256 "\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"alg:hex name", "sha256:" A256 "  f\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"alg:hex", "sha256:" A256, "f.digest", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"alg:base64", "sha512:" A512_64, "f.digest", "f", "sha512:" A512, 0, 0, NULL, 0},
    {"UTF-16",
     "\xff\xfe"
     "0\n",
     "S", "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"trailing blank is the name's", A256 "  f \n" B256 "  g\n", "S", "f", NULL, LARDER_NOENT, 0,
     NULL, 0},
    {"trailing blank found", A256 "  f \n", "S", "f ", "sha256:" A256, 0, 0, NULL, 0},
    {".\\f is not f", A256 "  .\\f\n" B256 "  g\n", "S", "f", NULL, LARDER_NOENT, 0, NULL, 0},
    {"shasum's ?f", A256 " ?f\n" B256 " ?g\n", "S", "f", NULL, LARDER_NOENT, 0, NULL, 0},
    {"one space, then two", A256 " g\n" B256 "  f\n", "S", "f", NULL, LARDER_NOENT, 0, NULL, 0},
    {"two, then one", A256 "  g\n" B256 " f\n", "S", "f", NULL, LARDER_NOENT, 0, NULL, 0},
    {"two, then one: the first counts", A256 "  f\n" B256 " g\n", "S", "f", "sha256:" A256, 0,
     MALFORMED, NULL, 0},
    {"tagged beside either", A256 " g\nSHA256 (f) = " B256 "\n", "S", "f", "sha256:" B256, 0, 0,
     NULL, 0},
    {"conflict", A256 "  f\n" B256 "  f\n", "S", "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"conflict with ./", A256 "  f\n" B256 "  ./f\n", "S", "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"conflict of another", A256 "  f\n" A256 "  g\n" B256 "  g\n", "S", "f", "sha256:" A256, 0, 0,
     NULL, 0},
    {"equal twice", A256 "  f\n" U256 " *f\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"conflict of bare", A256 "\n" B256 "\n", "f.sha256", "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"CR only", A256 "  f\r" B256 "  g\r", "S", "g", "sha256:" B256, 0, 0, NULL, 0},
    {"CR in a name", A256 "  f\rg\n", "S", "f\rg", "sha256:" A256, 0, 0, NULL, 0},
    {"indented #", " # x\n" A256 "  f\n", "S", "f", "sha256:" A256, 0, MALFORMED, NULL, 0},
    /* names */
    {"name with spaces", A256 "  my  f (1)\n", "S", "my  f (1)", "sha256:" A256, 0, 0, NULL, 0},
    {"part of that name", A256 "  my f\n" B256 "  g\n", "S", "f", NULL, LARDER_NOENT, 0, NULL, 0},
    {"tagged with parentheses", "SHA256 (a) = (b) = " A256, "S", "a) = (b", "sha256:" A256, 0, 0,
     NULL, 0},
    {"escapes", "\\" A256 "  a\\\\b\\nc\\rd\n", "S", "a\\b\nc\rd", "sha256:" A256, 0, 0, NULL, 0},
    {"escaped tagged", "\\SHA256 (a\\nb) = " A256 "\n", "S", "a\nb", "sha256:" A256, 0, 0, NULL, 0},
    {"unknown escape", "\\" A256 "  a\\tb\n" B256 "  f\n", "S", "f", "sha256:" B256, 0, MALFORMED,
     NULL, 0},
    {"lone backslash at the end", "\\" A256 "  f\\\n" B256 "  g\n", "S", "f", NULL, LARDER_NOENT, 0,
     NULL, 0},
    {"backslash without escape", A256 "  a\\nb\n", "S", "a\\nb", "sha256:" A256, 0, 0, NULL, 0},
    {"absolute path", A256 "  /var/lib/x/f\n", "f.sha256", "f", "sha256:" A256, 0, 0,
     "/var/lib/x/f", 0},
    {"relative path", A256 "  a/f\n" B256 "  b/f\n", "S", "b/f", "sha256:" B256, 0, 0, NULL, 0},
    {"two directories, same", A256 "  a/f\n" A256 "  b/f\n", "S", "f", "sha256:" A256, 0, 0, "a/f",
     0},
    {"two directories, different", A256 "  a/f\n" B256 "  b/f\n", "S", "f", NULL, LARDER_INVAL, 0,
     NULL, 0},
    {"two directories, not comparable", "SHA256 (a/f) = " A256 "\nSHA512 (b/f) = " B512 "\n", "S",
     "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"sidecar of an alias", A256 "  f-Build1.2\n", "f.sha256", "f", "sha256:" A256, 0, NAME,
     "f-Build1.2", 0},
    {"list with one other name", A256 "  g\n", "SHA256SUMS", "f", NULL, LARDER_NOENT, 0, NULL, 0},
    {"list with one other name, dedicated", A256 "  g\n", "SHA256SUMS", "f", "sha256:" A256, 0,
     NAME, "g", CHECKSUM_LOOKUP_DEDICATED},
    {"sidecar with two names", A256 "  g\n" B256 "  h\n", "f.sha256", "f", NULL, LARDER_NOENT, 0,
     NULL, 0},
    {"longer name", A256 "  f.qcow2.xz\n" B256 "  x-f.qcow2\n", "S", "f.qcow2", NULL, LARDER_NOENT,
     0, NULL, 0},
    {"bare digest among names", B256 "\n" A256 "  f\n", "f.sha256", "f", "sha256:" A256, 0,
     MALFORMED, NULL, 0},
    {"no name asked", A256 "  f\n", "S", "a/", NULL, LARDER_INVAL, 0, NULL, 0},
    /* algorithms */
    {"md5 by length", A128 "  f\n", "S", "f", "md5:" A128, 0, WEAK, NULL, 0},
    {"sha1 by length", A160 "  f\n", "S", "f", "sha1:" A160, 0, WEAK, NULL, 0},
    {"sha224 by length", A224 "  f\n", "S", "f", "sha224:" A224, 0, 0, NULL, 0},
    {"sha384 by length", A384 "  f\n", "S", "f", "sha384:" A384, 0, 0, NULL, 0},
    {"128 digits", A512 "  f\n", "S", "f", "sha512:" A512, 0, 0, NULL, 0},
    {"128 digits in B2SUMS", A512 "  f\n", "B2SUMS", "f", "blake2b:" A512, 0, 0, NULL, 0},
    {"BLAKE2b tag", "BLAKE2b (f) = " A512 "\n", "S", "f", "blake2b:" A512, 0, 0, NULL, 0},
    {"BLAKE2b-512 tag", "BLAKE2b-512 (f) = " A512 "\n", "S", "f", "blake2b:" A512, 0, 0, NULL, 0},
    {"BLAKE2b-256 is foreign", "BLAKE2b-256 (f) = " A256 "\nSHA256 (f) = " B256 "\n", "S", "f",
     "sha256:" B256, 0, FOREIGN, NULL, 0},
    {"SHA3 is not SHA2", "SHA3-256 (f) = " A256 "\n", "S", "f", NULL, LARDER_UNSUPPORTED, 0, NULL,
     0},
    {"foreign prefix", "sha3-256:" A256 "  f\n", "S", "f", NULL, LARDER_UNSUPPORTED, 0, NULL, 0},
    {"base64 by length", A256_64 "  f\n", "S", "f", "sha256:" A256, 0, 0, NULL, 0},
    {"base64 with tag", "SHA512 (f) = " A512_64 "\n", "S", "f", "sha512:" A512, 0, 0, NULL, 0},
    {"base64 md5 with tag", "MD5 (f) = ASNFZ4mrze8BI0VniavN7w==\n", "S", "f", "md5:" A128, 0, WEAK,
     NULL, 0},
    {"several, strongest first",
     "MD5 (f) = " A128 "\nSHA256 (f) = " A256 "\nSHA512 (f) = " A512 "\n", "S", "f",
     "sha512:" A512 " sha256:" A256 " md5:" A128, 0, 0, NULL, 0},
    {"tag against length", "SHA256 (f) = " A512 "\n", "S", "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"prefix against length", "sha512:" A256 "  f\n", "S", "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"file name against length", A256 "  f\n", "SHA512SUMS", "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"contradiction for another", A512 "  g\n" A256 "  f\n", "SHA256SUMS", "f", "sha256:" A256, 0,
     0, NULL, 0},
    {"contradiction beside a good one", A512 "  f\n" A256 "  f\n", "SHA256SUMS", "f", NULL,
     LARDER_INVAL, 0, NULL, 0},
    {"tag before file name", "SHA256 (f) = " A256 "\n", "f.sha512", "f", "sha256:" A256, 0, 0, NULL,
     0},
    /* publishers */
    {"Ubuntu", A256 " *g.img\n" B256 " *f.img\n", "SHA256SUMS", "f.img", "sha256:" B256, 0, 0, NULL,
     0},
    {"Debian", A512 "  f.qcow2\n" B512 "  f.tar.xz\n", "SHA512SUMS", "f.qcow2", "sha512:" A512, 0,
     0, NULL, 0},
    {"Fedora",
     BEGIN_SIGNED "# F-40.qcow2: 397475840 bytes\nSHA256 (F-40.qcow2) = " A256 "\n" SIGNATURE,
     "F-40-x86_64-CHECKSUM", "F-40.qcow2", "sha256:" A256, 0, 0, NULL, 0},
    {"Fedora 11", BEGIN_SIGNED A256 " *f.iso\n" SIGNATURE, "F-CHECKSUM", "f.iso", "sha256:" A256, 0,
     0, NULL, 0},
    {"AlmaLinux", A256 "  f-9.4.qcow2\n" A256 "  f-latest.qcow2\n", "CHECKSUM", "f-latest.qcow2",
     "sha256:" A256, 0, 0, NULL, 0},
    {"openSUSE Leap", A256 " f.qcow2\n", "f.qcow2.sha256", "f.qcow2", "sha256:" A256, 0, 0, NULL,
     0},
    {"Alpine", A512 "\n", "f.qcow2.sha512", "f.qcow2", "sha512:" A512, 0, 0, NULL, 0},
    {"FreeBSD", "SHA512 (f.qcow2.xz) = " A512 "\n", "CHECKSUM.SHA512-FreeBSD-14.0-RELEASE-amd64",
     "f.qcow2.xz", "sha512:" A512, 0, 0, NULL, 0},
    {"FreeBSD, unpacked name", "SHA512 (f.qcow2.xz) = " A512 "\n", "CHECKSUM.SHA512-FreeBSD-14.0",
     "f.qcow2", NULL, LARDER_NOENT, 0, NULL, 0},
    {"Gentoo", BEGIN_SIGNED "# BLAKE2B HASH\n" B512 "  f\n# SHA512 HASH\n" A512 "  f\n" SIGNATURE,
     "f.DIGESTS", "f", "sha512:" A512 " blake2b:" B512, 0, 0, NULL, 0},
    {"Gentoo, older",
     "# MD5 HASH\n" A128 "  f\n# WHIRLPOOL HASH\n" B512 "  f\n# SHA512 HASH\n" A512 "  f\n",
     "f.DIGESTS", "f", "sha512:" A512 " md5:" A128, 0, FOREIGN, NULL, 0},
    {"quickget", A128 "  f\n", "md5.txt", "f", "md5:" A128, 0, WEAK, NULL, 0},
    {"pasted line", A256 "  package.box", NULL, "package.box", "sha256:" A256, 0, 0, NULL, 0},
    {"distinfo", "SHA256 (f) = " A256 "\nSIZE (f) = 17\n", "distinfo", "f", "sha256:" A256, 0, 0,
     NULL, 0},
    {"names in latin-1", A256 "  caf\xe9\n" B256 "  f\n", "S", "f", "sha256:" B256, 0, 0, NULL, 0},
    /* envelopes */
    {"text around the envelope is ignored",
     B256 "  f\n" BEGIN_SIGNED A256 "  f\n" SIGNATURE B256 "  f\n", "S", "f", "sha256:" A256, 0, 0,
     NULL, 0},
    {"only outside the envelope", B256 "  f\n" BEGIN_SIGNED A256 "  g\n" SIGNATURE B256 "  f\n",
     "S", "f", NULL, LARDER_NOENT, 0, NULL, 0},
    {"dash escape", BEGIN_SIGNED "- " A256 "  -f\n- - x\n" SIGNATURE, "S", "-f", "sha256:" A256, 0,
     MALFORMED, NULL, 0},
    {"blanks at the end are not signed", BEGIN_SIGNED A256 "  f \t\r\n" SIGNATURE, "S", "f",
     "sha256:" A256, 0, 0, NULL, 0},
    {"no signature", BEGIN_SIGNED A256 "  f\n", "S", "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"cut signature", BEGIN_SIGNED A256 "  f\n-----BEGIN PGP SIGNATURE-----\n\niQIz\n", "S", "f",
     NULL, LARDER_INVAL, 0, NULL, 0},
    {"text among the headers",
     "-----BEGIN PGP SIGNED MESSAGE-----\n" B256 "  f\n\n" A256 "  f\n" SIGNATURE, "S", "f", NULL,
     LARDER_INVAL, 0, NULL, 0},
    {"two envelopes", BEGIN_SIGNED A256 "  f\n" SIGNATURE BEGIN_SIGNED B256 "  f\n" SIGNATURE, "S",
     "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"nested envelopes", BEGIN_SIGNED BEGIN_SIGNED A256 "  f\n" SIGNATURE, "S", "f", NULL,
     LARDER_INVAL, 0, NULL, 0},
    {"another block before", "-----BEGIN PGP MESSAGE-----\n\n" BEGIN_SIGNED A256 "  f\n" SIGNATURE,
     "S", "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"binary packets before", "\x90\n" BEGIN_SIGNED A256 "  f\n" SIGNATURE, "S", "f", NULL,
     LARDER_INVAL, 0, NULL, 0},
    {"a CR does not end the envelope",
     BEGIN_SIGNED A256 "  f\r-----BEGIN PGP SIGNATURE-----\rx\n" B256 "  g\n" SIGNATURE, "S", "g",
     "sha256:" B256, 0, 0, NULL, 0},
    /* other things */
    {"empty", "", "S", "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"HTML", "<!DOCTYPE html><pre>\n" A256 "  f\n", "S", "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"XML", "<?xml version=\"1.0\"?><Error/>", "S", "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"JSON", "{\"error\": \"not found\"}", "S", "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"prose", "404 page not found\n", "S", "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"comments only", "# nothing\n\n", "S", "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"63 digits", "123456789abcdef" H16 H16 H16 "  f\n", "S", "f", NULL, LARDER_INVAL, 0, NULL, 0},
    {"digest and name without a blank", A256 "f\n", "S", "f", NULL, LARDER_INVAL, 0, NULL, 0},
};

static int look_up(const struct row *row, struct checksum_file **sums, struct checksum_match *match,
                   struct larder_error *e)
{
    int r = checksum_file_parse(slice_of(row->text), row->file_name, sums, e);

    return r < 0 ? r : checksum_file_lookup(*sums, row->image, row->flags, match, e);
}

static void format_digests(const struct checksum_match *match, struct buf *out)
{
    char text[LARDER_DIGEST_TEXT_BYTES];

    for (size_t i = 0; i < match->n_digests; i++)
        buf_printf(out, "%s%s", i > 0 ? " " : "", larder_digest_format(&match->digests[i], text));
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *row = &rows[i];
        struct checksum_file *sums = NULL;
        struct checksum_match match = {.n_digests = 0};
        struct larder_error e = LARDER_ERROR_INIT;
        int r = look_up(row, &sums, &match, &e);

        if (r != (row->expect ? 0 : -(int)row->code))
            fail_msg("%s: returned %d (%s)", row->what, r, e.msg);
        if (row->expect) {
            struct buf got = BUF_INIT(4096);
            format_digests(&match, &got);
            if (strcmp(got.p, row->expect) != 0)
                fail_msg("%s: got %s, expected %s", row->what, got.p, row->expect);
            buf_done(&got);
            if (match.warnings != row->warnings)
                fail_msg("%s: warnings %#x, expected %#x", row->what, match.warnings,
                         row->warnings);
            if ((match.inner_name != NULL) != (row->inner_name != NULL) ||
                (row->inner_name && strcmp(match.inner_name, row->inner_name) != 0))
                fail_msg("%s: inner name %s", row->what,
                         match.inner_name ? match.inner_name : "none");
        } else if (e.msg[0] == '\0' || match.n_digests != 0) {
            fail_msg("%s: failed without a message, or changed the output", row->what);
        }
        checksum_file_free(sums);
    }
}

static void test_messages(void **state)
{
    static const struct {
        const char *text;
        const char *expect;
    } cases[] = {
        {A256 "  f\n\n" B256 "  f\n", "lines 1 and 3 give different sha256 for f"},
        {"<html>", "S: is an HTML or XML page, not a checksum file"},
        {"QFI\xfb", "S: is a file in qcow2 format, not a checksum file"},
        {"\x1f\x8b\x08", "S: is a file in gzip format, not a checksum file"},
        {"hello\n", "S: is not a checksum file: no line has a digest"},
        {A256 "  g\n" A256 "  h\n", "S: does not list f (it has 2 entries)"},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct row row = {.text = cases[i].text, .file_name = "S", .image = "f"};
        struct checksum_file *sums = NULL;
        struct checksum_match match;
        struct larder_error e = LARDER_ERROR_INIT;
        assert_true(look_up(&row, &sums, &match, &e) < 0);
        if (!strstr(e.msg, cases[i].expect))
            fail_msg("\"%s\" does not say \"%s\"", e.msg, cases[i].expect);
        checksum_file_free(sums);
    }
}

static void test_sizes(void **state)
{
    static const struct {
        const char *comment;
        int r;
        bool has_size;
        uint64_t min, max;
    } cases[] = {
        {"# f: 657317376 bytes\n", 0, true, 657317376, 657317376},
        {"# ./f: 10 bytes\n", 0, true, 10, 10},
        {"# g: 10 bytes\n", 0, false, 0, 0},
        {"# f: 448968K\n", 0, true, 448968 * 1024 - 4096, 448968 * 1024 + 4096},
        {"# f: 448968K\n# f: 459743232 bytes\n", 0, true, 459743232, 459743232},
        {"# f: 1 bytes\n# f: 2 bytes\n", -LARDER_INVAL, false, 0, 0},
        {"# f: 18446744073709551616 bytes\n", 0, false, 0, 0},
        {"# f: 18014398509481984K\n", 0, false, 0, 0},
        {"# f: bytes\n", 0, false, 0, 0},
        {"# : 1 bytes\n", 0, false, 0, 0},
        {"SIZE (f) = 17\n", 0, true, 17, 17},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[256];
        struct row row = {.text = text, .file_name = "CHECKSUM", .image = "f"};
        struct checksum_file *sums = NULL;
        struct checksum_match match = {.n_digests = 0};
        snprintf(text, sizeof(text), "%sSHA256 (f) = " A256 "\n", cases[i].comment);
        int r = look_up(&row, &sums, &match, NULL);
        if (r != cases[i].r || match.has_size != cases[i].has_size ||
            match.size_min_bytes != cases[i].min || match.size_max_bytes != cases[i].max)
            fail_msg("%s: %d, %d, %llu to %llu", cases[i].comment, r, match.has_size,
                     (unsigned long long)match.size_min_bytes,
                     (unsigned long long)match.size_max_bytes);
        checksum_file_free(sums);
    }
}

static void test_limits(void **state)
{
    static const char line[] = A256 "  f\n";
    size_t n = CHECKSUM_FILE_BYTES_MAX + 1;
    char *text = malloc(n);
    struct checksum_file *sums = NULL;
    (void)state;

    assert_non_null(text);
    memset(text, '\n', n);
    memcpy(text, line, sizeof(line) - 1);
    assert_int_equal(checksum_file_parse((struct slice){text, n}, "S", &sums, NULL), -LARDER_LIMIT);
    assert_null(sums);
    assert_int_equal(checksum_file_parse((struct slice){text, n - 1}, "S", &sums, NULL), 0);
    checksum_file_free(sums);
    sums = NULL;
    text[n / 2] = '\0';
    assert_int_equal(checksum_file_parse((struct slice){text, n - 1}, "S", &sums, NULL),
                     -LARDER_INVAL);
    assert_null(sums);
    free(text);
}

static void test_signed_text(void **state)
{
    struct checksum_file *sums = NULL;
    const struct checksum_entry *entries;
    (void)state;

    assert_int_equal(checksum_file_parse(
                         SLICE_LIT("x\r\n" BEGIN_SIGNED "- --a\r\n" A256 "  f  \n" SIGNATURE "y\n"),
                         "S", &sums, NULL),
                     0);
    assert_true(checksum_file_is_clearsigned(sums));
    struct slice text = checksum_file_text(sums);
    assert_int_equal(text.n, strlen("--a\n" A256 "  f\n"));
    assert_memory_equal(text.p, "--a\n" A256 "  f\n", text.n);
    assert_int_equal(checksum_file_entries(sums, &entries), 1);
    assert_string_equal(entries[0].name, "f");
    assert_int_equal(entries[0].line, 2);
    assert_int_equal(checksum_file_malformed(sums), 1);
    checksum_file_free(sums);

    assert_int_equal(checksum_file_parse(SLICE_LIT(A256 "  f\n"), "S", &sums, NULL), 0);
    assert_false(checksum_file_is_clearsigned(sums));
    checksum_file_free(sums);
    checksum_file_free(NULL);
}

static void test_warning_texts(void **state)
{
    struct row row = {.text = A128 "  g\nx\nSM3 (f) = " A256 "\n", .image = "f"};
    struct checksum_file *sums = NULL;
    struct checksum_match match = {.n_digests = 0};
    struct buf out = BUF_INIT(1024);
    (void)state;

    assert_int_equal(look_up(&row, &sums, &match, NULL), 0);
    assert_int_equal(match.warnings, WEAK | NAME | MALFORMED | FOREIGN);
    checksum_match_describe(&match, CHECKSUM_WARN_WEAK, &out);
    assert_non_null(strstr(out.p, "only md5"));
    checksum_match_describe(&match, CHECKSUM_WARN_NAME, &out);
    assert_non_null(strstr(out.p, "names another file, g"));
    checksum_match_describe(&match, CHECKSUM_WARN_MALFORMED, &out);
    assert_non_null(strstr(out.p, "1 line"));
    checksum_match_describe(&match, CHECKSUM_WARN_FOREIGN, &out);
    assert_non_null(strstr(out.p, "not supported"));
    buf_done(&out);
    checksum_file_free(sums);
}

static void test_file_names(void **state)
{
    static const struct {
        const char *name;
        const char *image; /* NULL: no sidecar */
        enum larder_digest_alg alg;
        bool is_list;
    } cases[] = {
        {"f.qcow2.sha256", "f.qcow2", LARDER_DIGEST_SHA256, false},
        {"a/b/f.SHA512", "f", LARDER_DIGEST_SHA512, false},
        {"f.qcow2.sha256sum", "f.qcow2", LARDER_DIGEST_SHA256, false},
        {"f.SHA256SUMS", "f", LARDER_DIGEST_SHA256, false},
        {"f.sha256.txt", "f", LARDER_DIGEST_SHA256, false},
        {"f.sha256.asc", "f", LARDER_DIGEST_SHA256, false},
        {"f.checksum", "f", LARDER_DIGEST_NONE, false},
        {"f.CHECKSUM", "f", LARDER_DIGEST_NONE, false},
        {"f.digest", "f", LARDER_DIGEST_NONE, false},
        {"f.md5", "f", LARDER_DIGEST_MD5, false},
        {"f.b2", "f", LARDER_DIGEST_BLAKE2B, false},
        {"f.gz", NULL, LARDER_DIGEST_NONE, false},
        {"f.sha2567", NULL, LARDER_DIGEST_NONE, false},
        {".sha256", NULL, LARDER_DIGEST_SHA256, false},
        {"SHA256SUMS", NULL, LARDER_DIGEST_SHA256, true},
        {"sha512sums.txt", NULL, LARDER_DIGEST_SHA512, true},
        {"SHA256SUM", NULL, LARDER_DIGEST_SHA256, true},
        {"md5.txt", NULL, LARDER_DIGEST_MD5, true},
        {"SHASUMS.txt", NULL, LARDER_DIGEST_NONE, true},
        {"CHECKSUM", NULL, LARDER_DIGEST_NONE, true},
        {"Fedora-Cloud-40-CHECKSUM", NULL, LARDER_DIGEST_NONE, true},
        {"x-SHA256SUMS", NULL, LARDER_DIGEST_SHA256, true},
        {"CHECKSUM.SHA256-FreeBSD-14.0", NULL, LARDER_DIGEST_SHA256, true},
        {"CHECKSUM.SHA512-FreeBSD", NULL, LARDER_DIGEST_SHA512, true},
        {"x-sha256", NULL, LARDER_DIGEST_NONE, false},
        {"x-md5.qcow2", NULL, LARDER_DIGEST_NONE, false},
        {"", NULL, LARDER_DIGEST_NONE, false},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slice name = slice_of(cases[i].name), image = {NULL, 0};
        bool is_sidecar = checksum_name_is_sidecar(name, &image);
        if (checksum_name_alg(name) != cases[i].alg || is_sidecar != (cases[i].image != NULL) ||
            checksum_name_is_list(name) != cases[i].is_list)
            fail_msg("\"%s\": %s, sidecar %d, list %d", cases[i].name,
                     larder_digest_alg_name(checksum_name_alg(name)), is_sidecar,
                     checksum_name_is_list(name));
        if (is_sidecar) {
            assert_true(slice_equal(image, slice_of(cases[i].image)));
            assert_true(checksum_name_covers(name, image));
            assert_false(checksum_name_covers(name, SLICE_LIT("other")));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_sizes),       cmocka_unit_test(test_limits),
        cmocka_unit_test(test_signed_text), cmocka_unit_test(test_warning_texts),
        cmocka_unit_test(test_file_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
