/* SPDX-License-Identifier: Apache-2.0 */
#include "image/checksum/checksum_line.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"

/* Longer words before '(' are digests of a reversed line, not names of algorithms. */
#define TAG_BYTES_MAX 24
/* Shortest value that makes a line of an unknown algorithm a checksum line (CRC-32). */
#define FOREIGN_VALUE_BYTES_MIN 8

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct slice skip(struct slice s, size_t n)
{
    return (struct slice){s.p + n, s.n - n};
}

static struct slice skip_blanks(struct slice s)
{
    while (s.n > 0 && is_blank(s.p[0]))
        s = skip(s, 1);
    return s;
}

static bool is_hex(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
            return false;
    }
    return s.n > 0;
}

static bool is_value_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' ||
           c == '/' || c == '=';
}

static bool is_foreign_value(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (!is_value_char(s.p[i]))
            return false;
    }
    return s.n >= FOREIGN_VALUE_BYTES_MIN;
}

/* "SHA256", "SHA2-256", "BLAKE2b", "BLAKE2b-512", "blake2": as written by cksum, BSD, OpenSSL. */
static enum larder_digest_alg parse_tag(struct slice tag)
{
    if (slice_equal_nocase(tag, SLICE_LIT("blake2b-512")) ||
        slice_equal_nocase(tag, SLICE_LIT("blake2b512")))
        return LARDER_DIGEST_BLAKE2B;
    return larder_digest_alg_parse(tag.p, tag.n);
}

static bool decode(struct slice text, enum larder_digest_alg alg, struct larder_digest *ret)
{
    size_t n = larder_digest_size(alg);

    memset(ret, 0, sizeof(*ret));
    if (n == 0)
        return false;
    ret->alg = alg;
    if (is_hex(text) && text.n == 2 * n)
        return hex_decode(text, ret->bytes, n);
    /* Only these lengths: a decoder that skips padding must not see "====". */
    return (text.n == (n * 4 + 2) / 3 || text.n == (n + 2) / 3 * 4) &&
           base64_decode_exact(text, ret->bytes, n);
}

/* By length alone; 128 hex digits could be BLAKE2b too, which nobody writes without a tag. */
static bool decode_by_length(struct slice text, struct larder_digest *ret)
{
    static const enum larder_digest_alg hex_algs[] = {
        LARDER_DIGEST_MD5,    LARDER_DIGEST_SHA1,   LARDER_DIGEST_SHA224,
        LARDER_DIGEST_SHA256, LARDER_DIGEST_SHA384, LARDER_DIGEST_SHA512,
    };

    if (is_hex(text)) {
        for (size_t i = 0; i < ARRAY_LEN(hex_algs); i++) {
            if (text.n == 2 * larder_digest_size(hex_algs[i]))
                return decode(text, hex_algs[i], ret);
        }
    }
    /* The base64 of shorter digests is too much like ordinary words. */
    return decode(text, LARDER_DIGEST_SHA256, ret) || decode(text, LARDER_DIGEST_SHA512, ret);
}

/* The value of a line whose algorithm is known (alg) or not (NONE). */
static enum checksum_line_kind resolve(struct slice text, enum larder_digest_alg alg,
                                       struct larder_digest *ret)
{
    struct larder_digest digest;

    if (alg == LARDER_DIGEST_NONE) {
        if (!decode_by_length(text, &digest))
            return CHECKSUM_LINE_MALFORMED;
    } else if (!decode(text, alg, &digest)) {
        return decode_by_length(text, &digest) ? CHECKSUM_LINE_CONTRADICT : CHECKSUM_LINE_MALFORMED;
    }
    *ret = digest;
    return CHECKSUM_LINE_DIGEST;
}

/* "# SHA512 HASH" */
static bool parse_section(struct slice comment, struct checksum_state *state)
{
    static const struct slice suffix = SLICE_INIT(" HASH");

    if (comment.n <= suffix.n || !slice_ends(comment, suffix))
        return false;
    struct slice word = slice_trim((struct slice){comment.p, comment.n - suffix.n});
    for (size_t i = 0; i < word.n; i++) {
        if (is_blank(word.p[i]))
            return false;
    }
    state->section_alg = parse_tag(word);
    state->is_foreign_section = state->section_alg == LARDER_DIGEST_NONE;
    return true;
}

/* "# name: 123 bytes", "# name: 123K" */
static bool parse_size(struct slice comment, struct checksum_line *ret)
{
    static const struct slice bytes = SLICE_INIT(" bytes");
    struct slice number = comment;
    bool is_rounded = false;
    uint64_t n;
    size_t colon = comment.n;

    if (slice_ends(comment, bytes)) {
        number.n -= bytes.n;
    } else if (slice_ends(comment, SLICE_LIT("K"))) {
        number.n -= 1;
        is_rounded = true;
    } else {
        return false;
    }
    while (colon > 0 && comment.p[colon - 1] != ':')
        colon--;
    if (colon < 2 || colon > number.n)
        return false;
    if (!slice_parse_u64(slice_trim(skip(number, colon)), &n))
        return false;
    if (is_rounded && n > UINT64_MAX / 2048)
        return false;
    ret->kind = CHECKSUM_LINE_SIZE;
    ret->name = (struct slice){comment.p, colon - 1};
    ret->is_rounded = is_rounded;
    ret->size_bytes = is_rounded ? n * 1024 : n;
    return true;
}

static void parse_comment(struct slice line, struct checksum_state *state,
                          struct checksum_line *ret)
{
    struct slice comment = slice_trim(skip(line, 1));

    ret->kind = CHECKSUM_LINE_IGNORED;
    if (!parse_section(comment, state))
        (void)parse_size(comment, ret);
}

/* Cuts "TAG (name) = value" up; false when the line does not have this shape. */
static bool split_tagged(struct slice line, struct slice *ret_tag, struct slice *ret_name,
                         struct slice *ret_value)
{
    size_t open = 0, close = line.n;

    while (open < line.n && line.p[open] != '(' && line.p[open] != ' ')
        open++;
    *ret_tag = (struct slice){line.p, open};
    if (open < line.n && line.p[open] == ' ')
        open++;
    if (open >= line.n || line.p[open] != '(' || ret_tag->n == 0 || ret_tag->n > TAG_BYTES_MAX)
        return false;
    /* The last one: names may have parentheses, values never do. */
    while (close > open && line.p[close - 1] != ')')
        close--;
    if (close <= open + 2)
        return false;
    *ret_name = (struct slice){line.p + open + 1, close - open - 2};
    struct slice rest = skip_blanks(skip(line, close));
    if (rest.n == 0 || rest.p[0] != '=')
        return false;
    *ret_value = slice_trim(skip(rest, 1));
    return ret_value->n > 0;
}

static bool parse_tagged(struct slice line, struct checksum_line *ret)
{
    struct slice tag, name, value;

    if (!split_tagged(line, &tag, &name, &value))
        return false;
    ret->name = name;
    /* BSD's distinfo lists sizes like digests. */
    if (slice_equal(tag, SLICE_LIT("SIZE"))) {
        ret->kind =
            slice_parse_u64(value, &ret->size_bytes) ? CHECKSUM_LINE_SIZE : CHECKSUM_LINE_MALFORMED;
        return true;
    }
    enum larder_digest_alg alg = parse_tag(tag);
    if (alg != LARDER_DIGEST_NONE)
        ret->kind = resolve(value, alg, &ret->digest);
    else
        ret->kind = is_foreign_value(value) ? CHECKSUM_LINE_FOREIGN : CHECKSUM_LINE_MALFORMED;
    return true;
}

/* "HEX", "sha256:HEX", base64; fills kind and digest. */
static void parse_digest(struct slice token, const struct checksum_state *state,
                         struct checksum_line *ret)
{
    const char *colon = memchr(token.p, ':', token.n);
    enum larder_digest_alg alg = state->section_alg;
    bool is_foreign = state->is_foreign_section;

    if (colon) {
        size_t n = (size_t)(colon - token.p);
        alg = parse_tag((struct slice){token.p, n});
        is_foreign = alg == LARDER_DIGEST_NONE;
        token = skip(token, n + 1);
    } else if (alg == LARDER_DIGEST_NONE) {
        alg = state->file_alg;
    }
    if (is_foreign)
        ret->kind = is_foreign_value(token) ? CHECKSUM_LINE_FOREIGN : CHECKSUM_LINE_MALFORMED;
    else
        ret->kind = resolve(token, alg, &ret->digest);
}

static void parse_untagged(struct slice line, struct checksum_state *state,
                           struct checksum_line *ret)
{
    size_t n = 0;

    while (n < line.n && !is_blank(line.p[n]))
        n++;
    parse_digest((struct slice){line.p, n}, state, ret);
    if (ret->kind == CHECKSUM_LINE_MALFORMED)
        return;
    struct slice rest = skip(line, n);
    if (skip_blanks(rest).n == 0) {
        ret->is_bare = true;
        if (ret->is_escaped)
            ret->kind = CHECKSUM_LINE_MALFORMED;
        return;
    }
    bool is_gnu = rest.n > 2 && (rest.p[1] == ' ' || rest.p[1] == '*');
    /*
     * Mixing both would let a file named " x" be taken for "x", so the first such line fixes the
     * style (as coreutils does).
     */
    if (is_gnu ? state->is_reversed : state->is_gnu) {
        ret->kind = CHECKSUM_LINE_MALFORMED;
        return;
    }
    state->is_gnu = is_gnu;
    state->is_reversed = !is_gnu;
    ret->name = skip(rest, is_gnu ? 2 : 1);
}

void checksum_line_parse(struct slice line, struct checksum_state *state, struct checksum_line *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (line.n > 0 && line.p[0] == '#') {
        parse_comment(line, state, ret);
        return;
    }
    line = skip_blanks(line);
    if (line.n == 0) {
        ret->kind = CHECKSUM_LINE_IGNORED;
        return;
    }
    if (line.p[0] == '\\') {
        ret->is_escaped = true;
        line = skip(line, 1);
    }
    if (!parse_tagged(line, ret))
        parse_untagged(line, state, ret);
}

char *checksum_line_name(const struct checksum_line *line, bool *ret_bad)
{
    struct slice s = line->name;
    CLEANUP_FREE char *name = malloc(s.n + 1);
    size_t n = 0;

    *ret_bad = false;
    if (!name)
        return NULL;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (line->is_escaped && c == '\\') {
            c = ++i < s.n ? s.p[i] : '\0';
            if (c == 'n')
                c = '\n';
            else if (c == 'r')
                c = '\r';
            else if (c != '\\')
                c = '\0';
        }
        if (c == '\0') {
            *ret_bad = true;
            return NULL;
        }
        name[n++] = c;
    }
    name[n] = '\0';
    return TAKE_PTR(name);
}
