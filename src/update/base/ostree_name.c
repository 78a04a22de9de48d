/* SPDX-License-Identifier: Apache-2.0 */
#include "update/base/ostree_name.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/mem.h"
#include "oci/refuse.h"

/* A ref is a path below refs/heads: what is longer than this can't be one. */
#define NAME_BYTES_MAX 4096
/* "_10FFFF_" for a character of four bytes, "_XX_" for one of a single byte. */
#define ESCAPED_BYTES_MAX (4 * NAME_BYTES_MAX)

static bool is_alnum(uint32_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static int refuse(struct larder_error *e, struct slice text, const char *why)
{
    return oci_refuse(e, LARDER_INVAL, "image name", text, why);
}

/* The next character of UTF-8 (RFC 3629, section 4: no long forms, no surrogates); its length, 0
 * when there is none that is well formed. */
static size_t next_character(struct slice s, uint32_t *ret)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)s.p[0];
    size_t n = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;

    if (n == 0 || n > s.n || first > 0xf4)
        return 0;
    uint32_t c = n == 1 ? first : first & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        unsigned char next = (unsigned char)s.p[i];
        if ((next & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (next & 0x3f);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *ret = c;
    return n;
}

static void append_character(struct buf *out, uint32_t c)
{
    if (c < 0x80) {
        buf_putc(out, (char)c);
    } else if (c < 0x800) {
        buf_putc(out, (char)(0xc0 | c >> 6));
        buf_putc(out, (char)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        buf_putc(out, (char)(0xe0 | c >> 12));
        buf_putc(out, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_putc(out, (char)(0x80 | (c & 0x3f)));
    } else {
        buf_putc(out, (char)(0xf0 | c >> 18));
        buf_putc(out, (char)(0x80 | (c >> 12 & 0x3f)));
        buf_putc(out, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_putc(out, (char)(0x80 | (c & 0x3f)));
    }
}

/* Why text has no escaped form; NULL: it has, in out. */
static const char *escape(struct slice text, struct buf *out)
{
    bool was_alnum = false;

    if (text.n == 0)
        return "is empty";
    if (text.n > NAME_BYTES_MAX)
        return "is too long for a ref";
    for (size_t i = 0; i < text.n;) {
        uint32_t c = 0;
        size_t n = next_character((struct slice){text.p + i, text.n - i}, &c);
        if (n == 0)
            return "is no UTF-8";
        if (c == 0)
            return "has a NUL byte";
        i += n;
        if (is_alnum(c) || c == '-' || (c == '/' && was_alnum && i < text.n))
            buf_putc(out, (char)c);
        else if (c == '_')
            buf_puts(out, "__");
        else
            buf_printf(out, "_%02X_", (unsigned)c);
        was_alnum = is_alnum(c);
    }
    return NULL;
}

int ostree_name_escape(struct slice text, struct buf *out, struct larder_error *e)
{
    size_t before = out->n;
    const char *why = escape(text, out);

    if (why) {
        if (out->p)
            out->p[out->n = before] = '\0';
        return refuse(e, text, why);
    }
    return buf_failed(out, e);
}

/* "2F_" of "_2F_": the length of it all, 0 when it is none. */
static size_t read_code(struct slice s, uint32_t *ret)
{
    uint32_t c = 0;
    size_t i = 0;

    for (; i < s.n && i < 6 && s.p[i] != '_'; i++) {
        char digit = s.p[i];
        bool is_digit = digit >= '0' && digit <= '9';
        if (!is_digit && !(digit >= 'A' && digit <= 'F'))
            return 0;
        c = c << 4 | (uint32_t)(is_digit ? digit - '0' : digit - 'A' + 10);
    }
    if (i == 0 || i == s.n || s.p[i] != '_' || c > 0x10ffff)
        return 0;
    *ret = c;
    return i + 1;
}

int ostree_name_unescape(struct slice name, struct buf *out, struct larder_error *e)
{
    struct buf text = BUF_INIT(NAME_BYTES_MAX);
    struct buf again = BUF_INIT(ESCAPED_BYTES_MAX);
    bool is_good = name.n <= ESCAPED_BYTES_MAX;

    for (size_t i = 0; is_good && i < name.n;) {
        struct slice rest = {name.p + i + 1, name.n - i - 1};
        uint32_t c = (unsigned char)name.p[i++];
        if (c == '_' && rest.n > 0 && rest.p[0] == '_') {
            i++;
        } else if (c == '_') {
            size_t n = read_code(rest, &c);
            is_good = n > 0;
            i += n;
        }
        append_character(&text, c);
    }
    /* The rest of the grammar is that the text gives this name and no other. */
    is_good = is_good && text.failed == LARDER_OK && !escape(buf_slice(&text), &again) &&
              slice_equal(buf_slice(&again), name);
    if (is_good)
        buf_append_slice(out, buf_slice(&text));
    enum larder_code failed = text.failed == LARDER_NOMEM ? text.failed : again.failed;
    buf_done(&text);
    buf_done(&again);
    if (failed == LARDER_NOMEM)
        return error_nomem(e);
    return is_good ? buf_failed(out, e) : refuse(e, name, "is none that escaping gives");
}

/* Cuts what is before the first ':'; false when there is none. */
static bool cut_word(struct slice *rest, struct slice *ret)
{
    const char *colon = rest->n ? memchr(rest->p, ':', rest->n) : NULL;

    if (!colon)
        return false;
    *ret = (struct slice){rest->p, (size_t)(colon - rest->p)};
    rest->p = colon + 1;
    rest->n -= ret->n + 1;
    return true;
}

/* Whether "T:X" names an image; then text has it as "docker://X" or "T:X". */
static bool append_image(struct slice image, struct buf *text)
{
    static const struct slice others[] = {
        SLICE_INIT("oci"), SLICE_INIT("oci-archive"),        SLICE_INIT("docker-archive"),
        SLICE_INIT("dir"), SLICE_INIT("containers-storage"),
    };
    struct slice transport;

    if (!cut_word(&image, &transport))
        return false;
    bool is_registry = slice_equal(transport, SLICE_LIT("registry"));
    if (slice_equal(transport, SLICE_LIT("docker"))) {
        if (!slice_starts(image, SLICE_LIT("//")))
            return false;
        image.p += 2;
        image.n -= 2;
        is_registry = true;
    }
    bool is_known = is_registry;
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        is_known = is_known || slice_equal(transport, others[i]);
    if (!is_known || image.n == 0)
        return false;
    buf_append_slice(text, is_registry ? SLICE_LIT("docker") : transport);
    buf_puts(text, is_registry ? "://" : ":");
    buf_append_slice(text, image);
    return true;
}

int ostree_name_image(const char *origin, char **ret, struct larder_error *e)
{
    static const struct {
        struct slice scheme;
        bool has_remote;
        bool is_registry; /* only the name follows, no transport */
    } schemes[] = {
        {SLICE_INIT("ostree-image-signed"), false, false},
        {SLICE_INIT("ostree-unverified-image"), false, false},
        {SLICE_INIT("ostree-unverified-registry"), false, true},
        {SLICE_INIT("ostree-remote-image"), true, false},
        {SLICE_INIT("ostree-remote-registry"), true, true},
    };
    struct slice rest = slice_of(origin), scheme, remote;
    struct buf text = BUF_INIT(NAME_BYTES_MAX);
    bool is_good = false;

    if (!cut_word(&rest, &scheme))
        return oci_refuse(e, LARDER_INVAL, "origin", slice_of(origin),
                          "is no ostree image reference");
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        if (!slice_equal(scheme, schemes[i].scheme))
            continue;
        if (schemes[i].has_remote && (!cut_word(&rest, &remote) || remote.n == 0))
            break;
        if (schemes[i].is_registry) {
            buf_puts(&text, "docker://");
            buf_append_slice(&text, rest);
            is_good = rest.n > 0;
        } else {
            is_good = append_image(rest, &text);
        }
    }
    if (!is_good || text.failed == LARDER_LIMIT) {
        buf_done(&text);
        return oci_refuse(e, LARDER_INVAL, "origin", slice_of(origin),
                          "is no ostree image reference");
    }
    char *image = buf_take(&text);
    if (!image)
        return error_nomem(e);
    *ret = image;
    return 0;
}
