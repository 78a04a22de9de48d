/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Input: first line the name of the file, second the name of the image, then the text. Besides not
 * crashing, a match must rest on an entry of the file and never on a part of a name.
 */
#include "base/buf.h"
#include "fuzz.h"
#include "image/checksum/checksum_file.h"
#include "image/checksum/checksum_name.h"

#define NAME_BYTES_MAX 256

/* Cuts the first line off as a C string. */
static void take_name(struct slice *rest, char name[NAME_BYTES_MAX])
{
    const char *lf = rest->n > 0 ? memchr(rest->p, '\n', rest->n) : NULL;
    size_t n = lf ? (size_t)(lf - rest->p) : rest->n;
    size_t used = lf ? n + 1 : n;
    size_t kept = n < NAME_BYTES_MAX - 1 ? n : NAME_BYTES_MAX - 1;

    if (kept > 0)
        memcpy(name, rest->p, kept);
    name[kept] = '\0';
    if (rest->n > 0)
        *rest = (struct slice){rest->p + used, rest->n - used};
}

static bool is_in_file(const struct checksum_file *sums, const struct larder_digest *digest,
                       struct slice basename, bool any_name)
{
    const struct checksum_entry *entries;
    size_t n = checksum_file_entries(sums, &entries);

    for (size_t i = 0; i < n; i++) {
        bool is_name =
            entries[i].name && slice_equal(slice_basename(slice_of(entries[i].name)), basename);
        if ((any_name || is_name) && larder_digest_equal(&entries[i].digest, digest))
            return true;
    }
    return false;
}

static void check_match(const struct checksum_file *sums, const char *image,
                        const struct checksum_match *match)
{
    const struct checksum_entry *entries;
    bool is_bare = checksum_file_entries(sums, &entries) > 0 && !entries[0].name;
    struct buf out = BUF_INIT(1 << 20);

    FUZZ_CHECK(match->n_digests > 0 && match->n_digests < LARDER_DIGEST_ALG_MAX);
    FUZZ_CHECK(match->size_min_bytes <= match->size_max_bytes);
    for (size_t i = 0; i < match->n_digests; i++)
        FUZZ_CHECK(is_in_file(sums, &match->digests[i], slice_basename(slice_of(image)),
                              is_bare || (match->warnings & CHECKSUM_WARN_NAME)));
    for (unsigned bit = 1; bit <= CHECKSUM_WARN_FOREIGN; bit <<= 1) {
        if (match->warnings & bit)
            checksum_match_describe(match, (enum checksum_warning)bit, &out);
    }
    buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = {(const char *)data, size};
    char file_name[NAME_BYTES_MAX], image[NAME_BYTES_MAX];
    struct checksum_file *sums = NULL;
    struct checksum_match match;
    struct larder_error e = LARDER_ERROR_INIT;

    take_name(&rest, file_name);
    take_name(&rest, image);
    (void)checksum_name_is_list(slice_of(file_name));
    int r = checksum_file_parse(rest, *file_name ? file_name : NULL, &sums, &e);
    FUZZ_CHECK((r < 0) == (e.code != LARDER_OK) && (r < 0) == (sums == NULL));
    for (unsigned flags = 0; r >= 0 && flags <= CHECKSUM_LOOKUP_DEDICATED; flags++) {
        if (checksum_file_lookup(sums, image, flags, &match, &e) >= 0)
            check_match(sums, image, &match);
    }
    checksum_file_free(sums);
    return 0;
}
