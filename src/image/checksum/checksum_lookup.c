/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "base/text.h"
#include "image/checksum/checksum_file.h"
#include "image/checksum/checksum_file_internal.h"
#include "image/checksum/checksum_name.h"

/* File systems count in blocks of 4 KiB, and tools round to either side. */
#define ROUNDED_SIZE_SLACK_BYTES 4096

/* Which entries are about the image: the ones whose name is, or ends with, this; all when NULL. */
enum match_kind { MATCH_PATH, MATCH_BASENAME, MATCH_ALL };

struct lookup {
    const struct checksum_file *sums;
    struct slice image; /* without "./" */
    enum match_kind kind;
};

static struct slice strip_dot_slash(struct slice path)
{
    while (slice_starts(path, SLICE_LIT("./"))) {
        path = (struct slice){path.p + 2, path.n - 2};
        while (slice_starts(path, SLICE_LIT("/")))
            path = (struct slice){path.p + 1, path.n - 1};
    }
    return path;
}

static bool is_match(const struct lookup *l, const char *name)
{
    struct slice path = strip_dot_slash(slice_of(name));

    switch (l->kind) {
    case MATCH_PATH:
        return name && slice_equal(path, l->image);
    case MATCH_BASENAME:
        return name && slice_equal(slice_basename(path), slice_basename(l->image));
    case MATCH_ALL:
        return true;
    }
    return false;
}

static const struct checksum_entry *next_match(const struct lookup *l, size_t *pos)
{
    while (*pos < l->sums->n_entries) {
        const struct checksum_entry *entry = &l->sums->entries[(*pos)++];
        if (is_match(l, entry->name))
            return entry;
    }
    return NULL;
}

static bool same_name(const struct checksum_entry *a, const struct checksum_entry *b)
{
    return slice_equal(strip_dot_slash(slice_of(a->name)), strip_dot_slash(slice_of(b->name)));
}

/* All entries have one name, or none has any. */
static bool is_single(const struct checksum_file *sums)
{
    for (size_t i = 1; i < sums->n_entries; i++) {
        if (!same_name(&sums->entries[0], &sums->entries[i]))
            return false;
    }
    return true;
}

static int choose_kind(struct lookup *l, unsigned flags, struct larder_error *e)
{
    const struct checksum_file *sums = l->sums;
    bool is_bare = sums->n_entries > 0 && !sums->entries[0].name;

    for (l->kind = MATCH_PATH; l->kind < MATCH_ALL; l->kind++) {
        size_t pos = 0;
        if (next_match(l, &pos))
            return 0;
    }
    if (is_single(sums) && ((flags & CHECKSUM_LOOKUP_DEDICATED) || !sums->file_name ||
                            checksum_name_covers(slice_of(sums->file_name), l->image)))
        return 0;
    if (is_bare)
        return error_set(e, LARDER_NOENT,
                         "%s: a digest without a name, and the file is not named after %.*s",
                         checksum_file_label(sums), (int)l->image.n, l->image.p);
    return error_set(e, LARDER_NOENT, "%s: does not list %.*s (it has %zu entries)",
                     checksum_file_label(sums), (int)l->image.n, l->image.p, sums->n_entries);
}

/* Several directories may have a file of that name: fine only when they are the same file. */
static int check_ambiguity(const struct lookup *l, struct larder_error *e)
{
    size_t pos = 0;
    const struct checksum_entry *first = next_match(l, &pos), *other;

    if (l->kind != MATCH_BASENAME || !first)
        return 0;
    while ((other = next_match(l, &pos))) {
        if (same_name(first, other) || larder_digest_equal(&first->digest, &other->digest))
            continue;
        return error_set(e, LARDER_INVAL, "%s: lines %zu and %zu list different files named %.*s",
                         checksum_file_label(l->sums), first->line, other->line,
                         (int)slice_basename(l->image).n, slice_basename(l->image).p);
    }
    return 0;
}

struct collected {
    const struct checksum_entry *by_alg[LARDER_DIGEST_ALG_MAX];
    const struct checksum_entry *first;
};

static int collect(const struct lookup *l, struct collected *ret, struct larder_error *e)
{
    const struct checksum_entry *entry;

    for (size_t pos = 0; (entry = next_match(l, &pos));) {
        if (entry->is_contradiction)
            return error_set(e, LARDER_INVAL,
                             "%s: line %zu: the length of the digest of %.*s contradicts its "
                             "algorithm",
                             checksum_file_label(l->sums), entry->line, (int)l->image.n,
                             l->image.p);
        const struct checksum_entry **slot = &ret->by_alg[entry->digest.alg];
        if (*slot && !larder_digest_equal(&(*slot)->digest, &entry->digest))
            return error_set(e, LARDER_INVAL, "%s: lines %zu and %zu give different %s for %.*s",
                             checksum_file_label(l->sums), (*slot)->line, entry->line,
                             larder_digest_alg_name(entry->digest.alg), (int)l->image.n,
                             l->image.p);
        if (!*slot)
            *slot = entry;
        if (!ret->first)
            ret->first = entry;
    }
    if (!ret->first)
        return error_set(e, LARDER_NOENT, "%s: has no entry", checksum_file_label(l->sums));
    return 0;
}

/* "# name: N bytes" uses the name of the digest's line; in a bare file only the image's own. */
static bool size_is_about(const struct lookup *l, const struct checksum_entry *entry,
                          const struct checksum_size *size)
{
    struct slice name = entry->name ? slice_of(entry->name) : l->image;

    return slice_equal(strip_dot_slash(slice_of(size->name)), strip_dot_slash(name));
}

static int collect_size(const struct lookup *l, const struct checksum_entry *entry,
                        struct checksum_match *match, struct larder_error *e)
{
    const struct checksum_size *chosen = NULL;

    for (size_t i = 0; i < l->sums->n_sizes; i++) {
        const struct checksum_size *size = &l->sums->sizes[i];
        if (!size_is_about(l, entry, size))
            continue;
        if (chosen && chosen->is_rounded == size->is_rounded && chosen->bytes != size->bytes)
            return error_set(e, LARDER_INVAL, "%s: lines %zu and %zu give different sizes for %.*s",
                             checksum_file_label(l->sums), chosen->line, size->line,
                             (int)l->image.n, l->image.p);
        if (!chosen || chosen->is_rounded)
            chosen = size;
    }
    if (!chosen)
        return 0;
    uint64_t slack = chosen->is_rounded ? ROUNDED_SIZE_SLACK_BYTES : 0;
    match->has_size = true;
    match->size_min_bytes = chosen->bytes > slack ? chosen->bytes - slack : 0;
    match->size_max_bytes = chosen->bytes + slack;
    return 0;
}

static void fill(const struct lookup *l, const struct collected *found,
                 struct checksum_match *match)
{
    static const enum larder_digest_alg strongest_first[] = {
        LARDER_DIGEST_SHA512, LARDER_DIGEST_BLAKE2B, LARDER_DIGEST_SHA384, LARDER_DIGEST_SHA256,
        LARDER_DIGEST_SHA224, LARDER_DIGEST_SHA1,    LARDER_DIGEST_MD5,
    };
    const char *name = found->first->name;

    for (size_t i = 0; i < ARRAY_LEN(strongest_first); i++) {
        const struct checksum_entry *entry = found->by_alg[strongest_first[i]];
        if (entry)
            match->digests[match->n_digests++] = entry->digest;
    }
    match->line = found->first->line;
    match->n_malformed = l->sums->n_malformed;
    if (name && l->kind != MATCH_PATH)
        match->inner_name = name;
    if (name && l->kind == MATCH_ALL)
        match->warnings |= CHECKSUM_WARN_NAME;
    if (match->digests[0].alg == LARDER_DIGEST_MD5 || match->digests[0].alg == LARDER_DIGEST_SHA1)
        match->warnings |= CHECKSUM_WARN_WEAK;
    if (l->sums->n_malformed > 0)
        match->warnings |= CHECKSUM_WARN_MALFORMED;
    if (l->sums->n_foreign > 0)
        match->warnings |= CHECKSUM_WARN_FOREIGN;
}

int checksum_file_lookup(const struct checksum_file *sums, const char *image_name, unsigned flags,
                         struct checksum_match *ret, struct larder_error *e)
{
    struct lookup l = {.sums = sums, .image = strip_dot_slash(slice_of(image_name))};
    struct collected found = {.first = NULL};
    struct checksum_match match = {.n_digests = 0};

    if (slice_basename(l.image).n == 0)
        return error_set(e, LARDER_INVAL, "image name \"%s\": has no file name", image_name);
    int r = choose_kind(&l, flags, e);
    if (r >= 0)
        r = check_ambiguity(&l, e);
    if (r >= 0)
        r = collect(&l, &found, e);
    if (r >= 0)
        r = collect_size(&l, found.first, &match, e);
    if (r < 0)
        return r;
    fill(&l, &found, &match);
    *ret = match;
    return 0;
}

char *checksum_match_caution(const struct checksum_match *match)
{
    static const enum checksum_warning told[] = {CHECKSUM_WARN_WEAK, CHECKSUM_WARN_NAME};
    struct buf text = BUF_INIT(1024);
    for (size_t i = 0; i < ARRAY_LEN(told); i++) {
        if (!(match->warnings & told[i]))
            continue;
        if (text.n > 0)
            buf_puts(&text, "; ");
        checksum_match_describe(match, told[i], &text);
    }
    char *caution = text.n > 0 ? buf_take(&text) : NULL;
    buf_done(&text);
    return caution;
}

void checksum_match_describe(const struct checksum_match *match, enum checksum_warning warning,
                             struct buf *out)
{
    switch (warning) {
    case CHECKSUM_WARN_WEAK:
        buf_printf(out, "only %s, which detects damage but proves nothing",
                   larder_digest_alg_name(match->digests[0].alg));
        break;
    case CHECKSUM_WARN_NAME:
        buf_puts(out, "the checksum file names another file, ");
        text_sanitize(slice_of(match->inner_name), out);
        break;
    case CHECKSUM_WARN_MALFORMED:
        buf_printf(out, "%zu lines of the checksum file cannot be read", match->n_malformed);
        break;
    case CHECKSUM_WARN_FOREIGN:
        buf_puts(out, "some lines are of algorithms that are not supported");
        break;
    }
}
