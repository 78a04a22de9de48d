/* SPDX-License-Identifier: Apache-2.0 */
#include "image/checksum/checksum_name.h"

#include "base/mem.h"

/* The order matters only for prefixes: none of these words begins another one. */
static const struct {
    struct slice word;
    enum larder_digest_alg alg;
} words[] = {
    {SLICE_INIT("md5"), LARDER_DIGEST_MD5},       {SLICE_INIT("sha1"), LARDER_DIGEST_SHA1},
    {SLICE_INIT("sha224"), LARDER_DIGEST_SHA224}, {SLICE_INIT("sha256"), LARDER_DIGEST_SHA256},
    {SLICE_INIT("sha384"), LARDER_DIGEST_SHA384}, {SLICE_INIT("sha512"), LARDER_DIGEST_SHA512},
    {SLICE_INIT("b2"), LARDER_DIGEST_BLAKE2B},    {SLICE_INIT("blake2b"), LARDER_DIGEST_BLAKE2B},
};

static bool starts_nocase(struct slice s, struct slice prefix)
{
    return s.n >= prefix.n && slice_equal_nocase((struct slice){s.p, prefix.n}, prefix);
}

static struct slice skip(struct slice s, size_t n)
{
    return (struct slice){s.p + n, s.n - n};
}

/* Splits "a.b" into "a" and "b" at the last dot; false when there is no dot. */
static bool split_extension(struct slice name, struct slice *ret_stem, struct slice *ret_ext)
{
    for (size_t i = name.n; i > 0; i--) {
        if (name.p[i - 1] == '.') {
            *ret_stem = (struct slice){name.p, i - 1};
            *ret_ext = skip(name, i);
            return true;
        }
    }
    return false;
}

/* Extensions that say how the text is stored or signed, not what is in it. */
static struct slice strip_wrapper(struct slice name)
{
    static const struct slice wrappers[] = {SLICE_INIT("txt"), SLICE_INIT("asc"),
                                            SLICE_INIT("gpg")};
    struct slice stem, ext;

    if (split_extension(name, &stem, &ext)) {
        for (size_t i = 0; i < ARRAY_LEN(wrappers); i++) {
            if (slice_equal_nocase(ext, wrappers[i]))
                return stem;
        }
    }
    return name;
}

/* "sha256", "SHA256SUM", "sha256sums" as a whole word; *ret_sums when it ends with "sum(s)". */
static enum larder_digest_alg alg_word(struct slice word, bool *ret_sums)
{
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (!starts_nocase(word, words[i].word))
            continue;
        struct slice rest = skip(word, words[i].word.n);
        *ret_sums = slice_equal_nocase(rest, SLICE_LIT("sum")) ||
                    slice_equal_nocase(rest, SLICE_LIT("sums"));
        if (rest.n == 0 || *ret_sums)
            return words[i].alg;
    }
    return LARDER_DIGEST_NONE;
}

/* The part of "debian-12-SHA256SUMS" after the last '-' or '_'. */
static struct slice last_word(struct slice s)
{
    for (size_t i = s.n; i > 0; i--) {
        if (s.p[i - 1] == '-' || s.p[i - 1] == '_')
            return skip(s, i);
    }
    return s;
}

static bool is_generic_word(struct slice word)
{
    static const struct slice generic[] = {
        SLICE_INIT("checksum"), SLICE_INIT("checksums"), SLICE_INIT("digest"),
        SLICE_INIT("digests"),  SLICE_INIT("hash"),      SLICE_INIT("hashes"),
        SLICE_INIT("sum"),      SLICE_INIT("sums"),      SLICE_INIT("shasums"),
        SLICE_INIT("allsums"),
    };

    for (size_t i = 0; i < ARRAY_LEN(generic); i++) {
        if (slice_equal_nocase(word, generic[i]))
            return true;
    }
    return false;
}

enum larder_digest_alg checksum_name_alg(struct slice file_name)
{
    static const struct slice freebsd = SLICE_INIT("CHECKSUM.");
    struct slice base = strip_wrapper(slice_basename(file_name));
    struct slice stem, ext;
    bool sums = false;

    /* FreeBSD: the algorithm is followed by the release, "CHECKSUM.SHA256-FreeBSD-14.0-..." */
    if (starts_nocase(base, freebsd)) {
        struct slice word = skip(base, freebsd.n);
        size_t n = 0;
        while (n < word.n && word.p[n] != '-' && word.p[n] != '.')
            n++;
        return alg_word((struct slice){word.p, n}, &sums);
    }
    if (!split_extension(base, &stem, &ext))
        ext = base;
    enum larder_digest_alg alg = alg_word(ext, &sums);
    if (alg != LARDER_DIGEST_NONE)
        return alg;
    /* "x-sha256" is a name like any other, "x-SHA256SUMS" is not. */
    alg = alg_word(last_word(ext), &sums);
    return sums ? alg : LARDER_DIGEST_NONE;
}

bool checksum_name_is_sidecar(struct slice file_name, struct slice *ret_image)
{
    struct slice base = strip_wrapper(slice_basename(file_name));
    struct slice stem, ext;
    bool sums;

    if (!split_extension(base, &stem, &ext) || stem.n == 0)
        return false;
    if (alg_word(ext, &sums) == LARDER_DIGEST_NONE && !is_generic_word(ext))
        return false;
    if (ret_image)
        *ret_image = stem;
    return true;
}

bool checksum_name_is_list(struct slice file_name)
{
    struct slice base = strip_wrapper(slice_basename(file_name));
    struct slice stem, ext;
    bool sums = false;

    if (starts_nocase(base, SLICE_LIT("CHECKSUM.")))
        return true;
    if (split_extension(base, &stem, &ext))
        return false;
    struct slice word = last_word(base);
    if (is_generic_word(word))
        return true;
    return alg_word(word, &sums) != LARDER_DIGEST_NONE && (sums || word.n == base.n);
}

bool checksum_name_covers(struct slice file_name, struct slice image_name)
{
    struct slice image;

    return checksum_name_is_sidecar(file_name, &image) &&
           slice_equal(image, slice_basename(image_name));
}
