/* SPDX-License-Identifier: Apache-2.0 */
#include "image/checksum/checksum_clearsign.h"

#include "base/error.h"

static const struct slice begin_message = SLICE_INIT("-----BEGIN PGP SIGNED MESSAGE-----");
static const struct slice begin_signature = SLICE_INIT("-----BEGIN PGP SIGNATURE-----");
static const struct slice end_signature = SLICE_INIT("-----END PGP SIGNATURE-----");
static const struct slice begin_any = SLICE_INIT("-----BEGIN PGP ");

/*
 * Only LF ends a line here, as for gpg: a lone CR must not make us see a line (say, the end of the
 * signed text) where the verifier sees none. Trailing blanks are not part of what is signed.
 */
static bool next_line(struct slice *rest, struct slice *ret)
{
    if (rest->n == 0)
        return false;
    const char *lf = memchr(rest->p, '\n', rest->n);
    size_t n = lf ? (size_t)(lf - rest->p) : rest->n;
    size_t used = lf ? n + 1 : n;

    *ret = (struct slice){rest->p, n};
    while (ret->n > 0 && strchr(" \t\r", ret->p[ret->n - 1]))
        ret->n--;
    *rest = (struct slice){rest->p + used, rest->n - used};
    return true;
}

/* Moves *rest behind the first line; 1 found, 0 not, INVAL for what may not stand before it. */
static int find_begin(struct slice *rest, struct larder_error *e)
{
    struct slice text = *rest, line;
    bool has_high_bytes = false;

    while (next_line(rest, &line)) {
        if (slice_equal(line, begin_message)) {
            /*
             * gpg takes a file that begins with a high bit for binary packets and may then verify
             * a message hidden there instead of this one.
             */
            if (has_high_bytes)
                return error_set(e, LARDER_INVAL,
                                 "bytes that are not ASCII before the clearsigned text");
            return 1;
        }
        if (slice_starts(line, begin_any))
            break;
        for (size_t i = 0; i < line.n; i++)
            has_high_bytes = has_high_bytes || ((unsigned char)line.p[i] & 0x80);
    }
    /* No envelope, unless one follows the block of another kind. */
    while (next_line(rest, &line)) {
        if (slice_equal(line, begin_message))
            return error_set(e, LARDER_INVAL, "more than one OpenPGP block in the file");
    }
    *rest = text;
    return 0;
}

static int skip_headers(struct slice *rest, struct larder_error *e)
{
    struct slice line;

    while (next_line(rest, &line)) {
        if (line.n == 0)
            return 0;
        /* Anything else here would be shown as text by some readers and not be signed. */
        if (!slice_starts(line, SLICE_LIT("Hash: ")))
            return error_set(e, LARDER_INVAL, "clearsigned text has a header other than Hash");
    }
    return error_set(e, LARDER_INVAL, "clearsigned text is cut off in its headers");
}

static int check_end(struct slice rest, struct larder_error *e)
{
    struct slice line;
    bool ended = false;

    while (next_line(&rest, &line)) {
        if (slice_starts(line, begin_any))
            return error_set(e, LARDER_INVAL, "more than one OpenPGP block in the file");
        ended = ended || slice_equal(line, end_signature);
    }
    if (!ended)
        return error_set(e, LARDER_INVAL, "clearsigned text is cut off in its signature");
    return 0;
}

int checksum_clearsign_open(struct slice text, struct buf *out, struct larder_error *e)
{
    static const struct slice escape = SLICE_INIT("- ");
    struct slice rest = text, line;
    int r = find_begin(&rest, e);

    if (r <= 0)
        return r;
    r = skip_headers(&rest, e);
    if (r < 0)
        return r;
    while (next_line(&rest, &line)) {
        if (slice_equal(line, begin_signature)) {
            r = check_end(rest, e);
            if (r >= 0)
                r = buf_failed(out, e);
            return r < 0 ? r : 1;
        }
        if (slice_starts(line, begin_any))
            return error_set(e, LARDER_INVAL, "more than one OpenPGP block in the file");
        if (slice_starts(line, escape))
            line = (struct slice){line.p + escape.n, line.n - escape.n};
        buf_append_slice(out, line);
        buf_putc(out, '\n');
    }
    return error_set(e, LARDER_INVAL, "clearsigned text is cut off before its signature");
}
