/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that come from a command line or a server. The first byte chooses the reader; what one
 * accepts is safe in a URL and a path, and reads the same when written again.
 */
#include <string.h>

#include "fuzz.h"
#include "oci/media_type.h"
#include "oci/platform.h"
#include "oci/reference.h"

static bool equal(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* No way out of a directory, no byte that ends or splits a request. */
static bool is_tame(const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p <= ' ' || *p > '~' || strchr("?#%\\\"<>", *p))
            return false;
    }
    return text[0] && !strstr(text, "..") && !strstr(text, "//") && text[0] != '/';
}

static void check_reference(const struct oci_reference *r)
{
    struct oci_reference again = {0};
    char *text = NULL;
    FUZZ_CHECK(r->host && r->name);
    FUZZ_CHECK(is_tame(r->host) && is_tame(r->name));
    FUZZ_CHECK(!r->tag || oci_tag_is_valid(slice_of(r->tag)));
    FUZZ_CHECK(strlen(r->host) + 1 + strlen(r->name) <= OCI_NAME_MAX_BYTES);
    FUZZ_CHECK(r->digest.alg == LARDER_DIGEST_NONE || larder_digest_is_identity(r->digest.alg));
    FUZZ_CHECK(oci_reference_format(r, &text, NULL) == 0);
    FUZZ_CHECK(oci_reference_parse(text, &again, NULL) == 0);
    FUZZ_CHECK(equal(r->host, again.host) && equal(r->name, again.name) &&
               equal(r->tag, again.tag) && r->digest.alg == again.digest.alg &&
               memcmp(r->digest.bytes, again.digest.bytes, sizeof(r->digest.bytes)) == 0);
    oci_reference_done(&again);
    free(text);
}

static int read_reference(const char *text, struct larder_error *e)
{
    struct oci_reference r = {0};
    int result = oci_reference_parse(text, &r, e);
    FUZZ_CHECK((result == 0) == (r.host != NULL));
    if (result == 0)
        check_reference(&r);
    oci_reference_done(&r);
    return result;
}

static int read_repository(const char *text, struct larder_error *e)
{
    struct oci_reference r = {0};
    int result = oci_repository_parse(text, &r, e);
    if (result == 0) {
        FUZZ_CHECK(!r.tag && r.digest.alg == LARDER_DIGEST_NONE);
        check_reference(&r);
    }
    oci_reference_done(&r);
    return result;
}

static int read_location(const char *text, struct larder_error *e)
{
    struct oci_location l = {.path = NULL};
    int result = oci_location_parse(text, &l, e);
    if (result < 0) {
        FUZZ_CHECK(!l.path && !l.ref && !l.reference.host);
        return result;
    }
    switch (l.transport) {
    case OCI_TRANSPORT_DOCKER:
        check_reference(&l.reference);
        FUZZ_CHECK(!l.path && !l.ref);
        break;
    case OCI_TRANSPORT_LAYOUT:
    case OCI_TRANSPORT_ARCHIVE:
        FUZZ_CHECK(l.path && *l.path && !strchr(l.path, ':') && !l.reference.host);
        FUZZ_CHECK(!l.ref || *l.ref);
        break;
    case OCI_TRANSPORT_STORE:
        FUZZ_CHECK(!l.path && (l.ref ? *l.ref != 0 : l.digest.alg != LARDER_DIGEST_NONE));
        break;
    }
    oci_location_done(&l);
    return 0;
}

static int read_platform(const char *text, struct larder_error *e)
{
    struct oci_platform p;
    struct oci_platform again;
    struct buf out = BUF_INIT(1000);
    char *strings = NULL;
    char *strings_again = NULL;
    int result = oci_platform_parse(text, &p, &strings, e);
    if (result < 0)
        return result;
    oci_platform_format(&p, &out);
    FUZZ_CHECK(oci_platform_parse(out.p, &again, &strings_again, NULL) == 0);
    FUZZ_CHECK(oci_platform_compare(&p, &again) == 0);
    FUZZ_CHECK(oci_platform_distance(&p, &again) == 0);
    free(strings);
    free(strings_again);
    buf_done(&out);
    return 0;
}

static int read_digest(const char *text, struct larder_error *e)
{
    struct larder_digest digest;
    char again[LARDER_DIGEST_TEXT_BYTES];
    char tag[128];
    int result = oci_digest_parse(slice_of(text), &digest, e);
    if (result < 0)
        return result;
    FUZZ_CHECK(strcmp(larder_digest_format(&digest, again), text) == 0);
    FUZZ_CHECK(oci_tag_is_valid(slice_of(oci_referrers_tag(&digest, tag))));
    return 0;
}

static int read_media_type(const char *text, struct larder_error *e)
{
    char type[OCI_MEDIA_TYPE_BYTES];
    char again[OCI_MEDIA_TYPE_BYTES];
    (void)e;
    if (media_type_clean(slice_of(text), type)) {
        for (const char *p = type; *p; p++)
            FUZZ_CHECK(*p > ' ' && *p <= '~' && !strchr(",;:\"\\()<>@[]?={}", *p));
        FUZZ_CHECK(media_type_clean(slice_of(type), again) && strcmp(type, again) == 0);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int (*const readers[])(const char *text, struct larder_error *e) = {
        read_reference, read_repository, read_location, read_platform, read_digest, read_media_type,
    };
    struct larder_error e = LARDER_ERROR_INIT;

    if (size == 0)
        return 0;
    char *text = slice_dup((struct slice){(const char *)data + 1, size - 1});
    FUZZ_CHECK(text);
    int r = readers[data[0] % ARRAY_LEN(readers)](text, &e);
    free(text);
    FUZZ_CHECK(r <= 0);
    FUZZ_CHECK((r < 0) == (e.code != LARDER_OK));
    FUZZ_CHECK(r == 0 || ((int)e.code == -r && e.msg[0]));
    for (const char *p = e.msg; *p; p++)
        FUZZ_CHECK((unsigned char)*p >= ' ' && *p != 0x7f);
    return 0;
}
