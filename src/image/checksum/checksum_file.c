/* SPDX-License-Identifier: Apache-2.0 */
#include "image/checksum/checksum_file.h"

#include "base/error.h"
#include "image/checksum/checksum_clearsign.h"
#include "image/checksum/checksum_file_internal.h"
#include "image/checksum/checksum_line.h"
#include "image/checksum/checksum_name.h"
#include "image/format/format.h"

void checksum_file_free(struct checksum_file *sums)
{
    if (!sums)
        return;
    for (size_t i = 0; i < sums->n_entries; i++)
        free(sums->entries[i].name);
    for (size_t i = 0; i < sums->n_sizes; i++)
        free(sums->sizes[i].name);
    free(sums->entries);
    free(sums->sizes);
    free(sums->file_name);
    buf_done(&sums->text);
    free(sums);
}

bool checksum_file_is_clearsigned(const struct checksum_file *sums)
{
    return sums->is_clearsigned;
}

struct slice checksum_file_text(const struct checksum_file *sums)
{
    return buf_slice(&sums->text);
}

size_t checksum_file_entries(const struct checksum_file *sums, const struct checksum_entry **ret)
{
    *ret = sums->entries;
    return sums->n_entries;
}

size_t checksum_file_malformed(const struct checksum_file *sums)
{
    return sums->n_malformed;
}

const char *checksum_file_label(const struct checksum_file *sums)
{
    return sums->file_name ? sums->file_name : "checksum file";
}

/* Refuses what cannot be a checksum file, and says what it is instead. */
static int check_text(struct slice text, struct larder_error *e)
{
    struct slice head = {text.p, text.n < FORMAT_HEAD_BYTES ? text.n : FORMAT_HEAD_BYTES};
    enum image_format format = format_detect(head, (struct slice){NULL, 0}, text.n);

    if (format == IMAGE_FORMAT_EMPTY)
        return error_set(e, LARDER_INVAL, "is empty, expected lines with digests");
    if (format == IMAGE_FORMAT_HTML)
        return error_set(e, LARDER_INVAL,
                         "is an HTML or XML page, not a checksum file (an error page?)");
    /* Names in an old 8-bit encoding look like raw data to the probe; NUL bytes decide below. */
    if (format != IMAGE_FORMAT_RAW && (format_is_image(format) || format_is_compressed(format)))
        return error_set(e, LARDER_INVAL, "is a file in %s format, not a checksum file",
                         format_name(format));
    if (slice_starts(text, SLICE_LIT("\xff\xfe")) || slice_starts(text, SLICE_LIT("\xfe\xff")))
        return error_set(e, LARDER_INVAL, "is UTF-16 text, expected ASCII or UTF-8");
    if (memchr(head.p, '\0', head.n))
        return error_set(e, LARDER_INVAL, "is binary data, not a checksum file");
    if (text.n > CHECKSUM_FILE_BYTES_MAX)
        return error_set(e, LARDER_LIMIT, "is %zu bytes long, a checksum file has at most %d",
                         text.n, CHECKSUM_FILE_BYTES_MAX);
    if (memchr(text.p, '\0', text.n))
        return error_set(e, LARDER_INVAL, "contains NUL bytes, expected lines of text");
    return 0;
}

/* Fills sums->text with what counts. */
static int open_text(struct checksum_file *sums, struct slice text, struct larder_error *e)
{
    static const struct slice bom = SLICE_INIT("\xef\xbb\xbf");
    int r = checksum_clearsign_open(text, &sums->text, e);

    if (r < 0)
        return r;
    sums->is_clearsigned = r > 0;
    if (r == 0) {
        if (slice_starts(text, bom))
            text = (struct slice){text.p + bom.n, text.n - bom.n};
        buf_append_slice(&sums->text, text);
    }
    return buf_failed(&sums->text, e);
}

/* Makes room for one more element of an array; NULL when out of memory. */
static void *grow(void *array, size_t n, size_t *cap, size_t element_bytes)
{
    if (n < *cap)
        return array;
    size_t wanted = *cap ? *cap * 2 : 16;
    void *grown = reallocarray(array, wanted, element_bytes);
    if (grown)
        *cap = wanted;
    return grown;
}

static int add_entry(struct checksum_file *sums, const struct checksum_line *parsed, size_t line,
                     struct larder_error *e)
{
    CLEANUP_FREE char *name = NULL;
    bool is_bad = false;

    if (!parsed->is_bare) {
        name = checksum_line_name(parsed, &is_bad);
        if (is_bad) {
            sums->n_malformed++;
            return 0;
        }
        if (!name)
            return error_nomem(e);
    }
    void *grown = grow(sums->entries, sums->n_entries, &sums->cap_entries, sizeof(*sums->entries));
    if (!grown)
        return error_nomem(e);
    sums->entries = grown;
    sums->entries[sums->n_entries++] = (struct checksum_entry){
        .name = TAKE_PTR(name),
        .digest = parsed->digest,
        .is_contradiction = parsed->kind == CHECKSUM_LINE_CONTRADICT,
        .line = line,
    };
    return 0;
}

static int add_size(struct checksum_file *sums, const struct checksum_line *parsed, size_t line,
                    struct larder_error *e)
{
    bool is_bad;
    CLEANUP_FREE char *name = checksum_line_name(parsed, &is_bad);

    if (!name)
        return is_bad ? 0 : error_nomem(e);
    void *grown = grow(sums->sizes, sums->n_sizes, &sums->cap_sizes, sizeof(*sums->sizes));
    if (!grown)
        return error_nomem(e);
    sums->sizes = grown;
    sums->sizes[sums->n_sizes++] = (struct checksum_size){
        .name = TAKE_PTR(name),
        .bytes = parsed->size_bytes,
        .is_rounded = parsed->is_rounded,
        .line = line,
    };
    return 0;
}

/*
 * A lone CR ends lines only in a file without any LF: names may contain CR, and a verifier of
 * signatures sees LF only. One CR before the LF belongs to the line end.
 */
static bool next_line(struct slice *rest, char line_end, struct slice *ret)
{
    if (rest->n == 0)
        return false;
    const char *end = memchr(rest->p, line_end, rest->n);
    size_t n = end ? (size_t)(end - rest->p) : rest->n;
    size_t used = end ? n + 1 : n;

    *ret = (struct slice){rest->p, n};
    if (n > 0 && ret->p[n - 1] == '\r')
        ret->n--;
    *rest = (struct slice){rest->p + used, rest->n - used};
    return true;
}

static int parse_lines(struct checksum_file *sums, struct larder_error *e)
{
    struct slice rest = buf_slice(&sums->text), text;
    struct checksum_state state = {.file_alg = LARDER_DIGEST_NONE};
    struct checksum_line parsed;
    char line_end = rest.n > 0 && memchr(rest.p, '\n', rest.n) ? '\n' : '\r';
    int r = 0;

    if (sums->file_name)
        state.file_alg = checksum_name_alg(slice_of(sums->file_name));
    for (size_t line = 1; r >= 0 && next_line(&rest, line_end, &text); line++) {
        checksum_line_parse(text, &state, &parsed);
        switch (parsed.kind) {
        case CHECKSUM_LINE_DIGEST:
        case CHECKSUM_LINE_CONTRADICT:
            r = add_entry(sums, &parsed, line, e);
            break;
        case CHECKSUM_LINE_SIZE:
            r = add_size(sums, &parsed, line, e);
            break;
        case CHECKSUM_LINE_FOREIGN:
            sums->n_foreign++;
            break;
        case CHECKSUM_LINE_MALFORMED:
            sums->n_malformed++;
            break;
        case CHECKSUM_LINE_IGNORED:
            break;
        }
    }
    return r < 0 ? r : 0;
}

/* Beside lines with names a lone digest is of nobody knows what: it counts as malformed. */
static void drop_bare_among_named(struct checksum_file *sums)
{
    size_t n_named = 0, kept = 0;

    for (size_t i = 0; i < sums->n_entries; i++)
        n_named += sums->entries[i].name != NULL;
    if (n_named == 0)
        return;
    for (size_t i = 0; i < sums->n_entries; i++) {
        if (sums->entries[i].name)
            sums->entries[kept++] = sums->entries[i];
    }
    sums->n_malformed += sums->n_entries - kept;
    sums->n_entries = kept;
}

static int check_result(const struct checksum_file *sums, struct larder_error *e)
{
    for (size_t i = 0; i < sums->n_entries; i++) {
        if (!sums->entries[i].is_contradiction)
            return 0;
    }
    if (sums->n_entries > 0)
        return error_set(e, LARDER_INVAL,
                         "line %zu: the length of the digest contradicts its algorithm",
                         sums->entries[0].line);
    if (sums->n_foreign > 0)
        return error_set(e, LARDER_UNSUPPORTED,
                         "has digests only of algorithms that are not supported");
    return error_set(e, LARDER_INVAL, "is not a checksum file: no line has a digest");
}

static int parse(struct checksum_file *sums, struct slice text, struct larder_error *e)
{
    int r = check_text(text, e);

    if (r >= 0)
        r = open_text(sums, text, e);
    if (r >= 0)
        r = parse_lines(sums, e);
    if (r < 0)
        return r;
    drop_bare_among_named(sums);
    return check_result(sums, e);
}

int checksum_file_parse(struct slice text, const char *file_name, struct checksum_file **ret,
                        struct larder_error *e)
{
    CLEANUP(checksum_file_freep) struct checksum_file *sums = calloc(1, sizeof(*sums));

    if (!sums)
        return error_nomem(e);
    sums->text = BUF_INIT(CHECKSUM_FILE_BYTES_MAX + 1);
    if (file_name) {
        sums->file_name = slice_dup(slice_of(file_name));
        if (!sums->file_name)
            return error_nomem(e);
    }
    int r = parse(sums, text, e);
    if (r == -LARDER_NOMEM)
        return r;
    if (r < 0) {
        error_context(e, "%s", checksum_file_label(sums));
        return r;
    }
    *ret = TAKE_PTR(sums);
    return 0;
}
