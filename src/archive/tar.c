/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/tar.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fdio.h"

/* Names that anything could open. */
#define NAME_BYTES_MAX 4096
/* Extended headers hold names and numbers, and now and then a file's attributes. */
#define EXTENDED_BYTES_MAX (1024UL * 1024)
/* Extended headers before one member. */
#define EXTENDED_MAX 16
/* Sizes from here on do not fit 11 octal digits. */
#define OCTAL_MAX (1ULL << 33)

/* Offsets of a header's fields (POSIX.1-1988, "tar Archive"). */
enum {
    NAME = 0,
    MODE = 100,
    UID = 108,
    GID = 116,
    SIZE = 124,
    MTIME = 136,
    CHECKSUM = 148,
    TYPE = 156,
    MAGIC = 257,
    UNAME = 265,
    GNAME = 297,
    MAJOR = 329,
    MINOR = 337,
    PREFIX = 345,
};

int tar_reader_init(struct tar_reader *reader, int fd, struct larder_error *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_errno(e, errno, "tar file");
    *reader = (struct tar_reader){fd, (uint64_t)st.st_size, 0, BUF_INIT(NAME_BYTES_MAX)};
    return 0;
}

void tar_reader_done(struct tar_reader *reader)
{
    buf_done(&reader->name);
}

/* ---- numbers ---- */

/* Octal digits with blanks around; GNU's base 256 when the first bit is set. */
static bool number(const char *field, size_t n, uint64_t *ret)
{
    uint64_t value = 0;
    size_t i = 0;
    if ((unsigned char)field[0] & 0x80) {
        if ((unsigned char)field[0] != 0x80) /* negative, or beyond any file */
            return false;
        for (i = 1; i < n; i++) {
            if (value >> 55)
                return false;
            value = value << 8 | (unsigned char)field[i];
        }
        *ret = value;
        return true;
    }
    while (i < n && field[i] == ' ')
        i++;
    for (; i < n && field[i] >= '0' && field[i] <= '7'; i++)
        value = value << 3 | (uint64_t)(field[i] - '0');
    for (; i < n; i++) {
        if (field[i] != ' ' && field[i] != '\0')
            return false;
    }
    *ret = value;
    return true;
}

/* The sum of all bytes with blanks in the place of the sum; old programs added signed ones. */
static bool checksum_is_good(const char *header)
{
    uint64_t recorded = 0;
    unsigned sum = 0;
    int signed_sum = 0;
    for (size_t i = 0; i < TAR_BLOCK; i++) {
        char c = i >= CHECKSUM && i < CHECKSUM + 8 ? ' ' : header[i];
        sum += (unsigned char)c;
        signed_sum += (signed char)c;
    }
    return number(header + CHECKSUM, 8, &recorded) &&
           (recorded == sum || (signed_sum >= 0 && recorded == (uint64_t)signed_sum));
}

static bool is_zero(const char *block)
{
    return block[0] == '\0' && memcmp(block, block + 1, TAR_BLOCK - 1) == 0;
}

/* ---- reading ---- */

/* What extended headers said about the next member. */
struct extended {
    bool has_name;
    bool has_size;
    bool is_sparse;
    uint64_t n_bytes;
};

static int corrupt(const struct tar_reader *reader, const char *what, struct larder_error *e)
{
    return error_set(e, LARDER_CORRUPT, "tar file: header at %llu: %s",
                     (unsigned long long)reader->at, what);
}

static int take_name(struct tar_reader *reader, struct slice name, struct larder_error *e)
{
    if (name.n == 0 || memchr(name.p, '\0', name.n))
        return corrupt(reader, "a name that is none", e);
    buf_reset(&reader->name);
    buf_append_slice(&reader->name, name);
    return buf_failed(&reader->name, e);
}

/* One record of a pax header: "<length> key=value\n". */
static int take_record(struct tar_reader *reader, struct slice key, struct slice value,
                       bool is_global, struct extended *extended, struct larder_error *e)
{
    bool is_name = slice_equal(key, SLICE_LIT("path")),
         is_size = slice_equal(key, SLICE_LIT("size"));
    if (is_global && (is_name || is_size))
        return corrupt(reader, "one name or size for all members", e);
    if (is_name) {
        extended->has_name = true;
        return take_name(reader, value, e);
    }
    if (is_size) {
        extended->has_size = true;
        if (!slice_parse_u64(value, &extended->n_bytes))
            return corrupt(reader, "a size that is none", e);
    }
    if (slice_starts(key, SLICE_LIT("GNU.sparse.")))
        extended->is_sparse = true;
    return 0;
}

static int take_records(struct tar_reader *reader, struct slice data, bool is_global,
                        struct extended *extended, struct larder_error *e)
{
    while (data.n > 0) {
        uint64_t n;
        const char *blank = memchr(data.p, ' ', data.n);
        size_t n_digits = blank ? (size_t)(blank - data.p) : 0;
        if (!blank || !slice_parse_u64((struct slice){data.p, n_digits}, &n) || n > data.n ||
            n < n_digits + 4 || data.p[n - 1] != '\n')
            return corrupt(reader, "a damaged extended header", e);
        struct slice record = {blank + 1, (size_t)n - n_digits - 2};
        const char *equals = memchr(record.p, '=', record.n);
        if (!equals)
            return corrupt(reader, "a damaged extended header", e);
        struct slice key = {record.p, (size_t)(equals - record.p)};
        struct slice value = {equals + 1, record.n - key.n - 1};
        int r = take_record(reader, key, value, is_global, extended, e);
        if (r < 0)
            return r;
        data = (struct slice){data.p + n, data.n - (size_t)n};
    }
    return 0;
}

static int read_extended(struct tar_reader *reader, char type, uint64_t n_bytes,
                         struct extended *extended, struct larder_error *e)
{
    struct buf data = BUF_INIT(EXTENDED_BYTES_MAX);
    if (n_bytes > EXTENDED_BYTES_MAX)
        return error_set(
            e, LARDER_LIMIT, "tar file: extended header at %llu: %llu bytes, at most %lu",
            (unsigned long long)reader->at, (unsigned long long)n_bytes, EXTENDED_BYTES_MAX);
    char *to = buf_reserve(&data, (size_t)n_bytes + 1);
    if (!to)
        return buf_failed(&data, e);
    int r = 0;
    if (r == 0 &&
        fd_pread_full(reader->fd, to, (size_t)n_bytes, reader->at + TAR_BLOCK) != (ssize_t)n_bytes)
        r = corrupt(reader, "cut off", e);
    struct slice text = {to, (size_t)n_bytes};
    if (r == 0 && type == 'L') {
        extended->has_name = true;
        r = take_name(reader, (struct slice){to, strnlen(to, text.n)}, e);
    } else if (r == 0 && (type == 'x' || type == 'g')) {
        r = take_records(reader, text, type == 'g', extended, e);
    }
    buf_done(&data);
    return r;
}

static int header_name(struct tar_reader *reader, const char *header, struct larder_error *e)
{
    struct slice name = {header + NAME, strnlen(header + NAME, 100)};
    struct slice prefix = {header + PREFIX, strnlen(header + PREFIX, 155)};
    /* GNU's own format, "ustar  ", has other things there. */
    if (memcmp(header + MAGIC, "ustar", 6) != 0 || prefix.n == 0)
        return take_name(reader, name, e);
    int r = take_name(reader, prefix, e);
    buf_putc(&reader->name, '/');
    buf_append_slice(&reader->name, name);
    return r < 0 ? r : buf_failed(&reader->name, e);
}

static enum tar_type type_of(char flag, const struct extended *extended, const char *name)
{
    if (extended->is_sparse || flag == 'S')
        return TAR_SPARSE;
    size_t n = strlen(name);
    switch (flag) {
    case '0':
    case '\0':
    case '7':
        return n > 0 && name[n - 1] == '/' ? TAR_DIRECTORY : TAR_FILE;
    case '1':
        return TAR_HARDLINK;
    case '2':
        return TAR_SYMLINK;
    case '5':
        return TAR_DIRECTORY;
    default:
        return TAR_OTHER;
    }
}

static int read_header(struct tar_reader *reader, char *header, uint64_t *ret_bytes,
                       struct larder_error *e)
{
    ssize_t n = fd_pread_full(reader->fd, header, TAR_BLOCK, reader->at);
    if (n < 0)
        return error_errno(e, errno, "tar file");
    if (n == 0 || (n == TAR_BLOCK && is_zero(header)))
        return 0;
    if (n < (ssize_t)TAR_BLOCK)
        return corrupt(reader, "cut off", e);
    if (!checksum_is_good(header) || !number(header + SIZE, 12, ret_bytes))
        return corrupt(reader, "not a tar header", e);
    /* What has no content says a size all the same, now and then. */
    if (strchr("123456", header[TYPE]) && header[TYPE])
        *ret_bytes = 0;
    return 1;
}

int tar_next(struct tar_reader *reader, struct tar_member *ret, struct larder_error *e)
{
    struct extended extended = {0};
    char header[TAR_BLOCK];
    uint64_t n_bytes = 0;
    for (unsigned i = 0; i <= EXTENDED_MAX; i++) {
        int r = read_header(reader, header, &n_bytes, e);
        if (r < 0 || (r == 0 && i == 0))
            return r;
        if (r == 0)
            return corrupt(reader, "an extended header without its member", e);
        bool is_extended = header[TYPE] && strchr("xgLK", header[TYPE]);
        if (!is_extended && extended.has_size)
            n_bytes = extended.n_bytes;
        uint64_t content = reader->at + TAR_BLOCK;
        if (content > reader->n_bytes || n_bytes > reader->n_bytes - content)
            return corrupt(reader, "content beyond the end of the file", e);
        if (!is_extended) {
            r = extended.has_name ? 0 : header_name(reader, header, e);
            if (r < 0)
                return r;
            *ret = (struct tar_member){
                reader->name.p, type_of(header[TYPE], &extended, reader->name.p), content, n_bytes};
        } else {
            r = read_extended(reader, header[TYPE], n_bytes, &extended, e);
            if (r < 0)
                return r;
        }
        reader->at = content + tar_padded(n_bytes);
        if (!is_extended)
            return 1;
    }
    return corrupt(reader, "too many extended headers", e);
}

/* ---- writing ---- */

static void octal(char *field, size_t n, uint64_t value)
{
    for (size_t i = n - 1; i-- > 0; value >>= 3)
        field[i] = (char)('0' + (value & 7));
    field[n - 1] = '\0';
}

static void write_header(const char *name, char type, unsigned mode, uint64_t n_bytes,
                         struct buf *out)
{
    char header[TAR_BLOCK] = {0};
    unsigned sum = 0;
    memcpy(header + NAME, name, strnlen(name, 100));
    octal(header + MODE, 8, mode);
    octal(header + UID, 8, 0);
    octal(header + GID, 8, 0);
    octal(header + SIZE, 12, n_bytes < OCTAL_MAX ? n_bytes : 0);
    octal(header + MTIME, 12, 0);
    header[TYPE] = type;
    memcpy(header + MAGIC, "ustar\00000", 8);
    octal(header + MAJOR, 8, 0);
    octal(header + MINOR, 8, 0);
    memset(header + CHECKSUM, ' ', 8);
    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += (unsigned char)header[i];
    octal(header + CHECKSUM, 7, sum);
    buf_append(out, header, sizeof(header));
}

/* "<length> key=value\n", where the length counts its own digits, too. */
static void write_record(const char *key, const char *value, struct buf *out)
{
    size_t rest = strlen(key) + strlen(value) + 3, n = rest + 1;
    char digits[24];
    while (rest + (size_t)snprintf(digits, sizeof(digits), "%zu", n) != n)
        n++;
    buf_printf(out, "%s %s=%s\n", digits, key, value);
}

int tar_head(const char *name, uint64_t n_bytes, struct buf *out, struct larder_error *e)
{
    struct buf records = BUF_INIT(TAR_BLOCK);
    char text[24];
    size_t n = strlen(name);
    bool is_directory = n > 0 && name[n - 1] == '/';
    if (n > 100)
        write_record("path", name, &records);
    if (n_bytes >= OCTAL_MAX) {
        snprintf(text, sizeof(text), "%llu", (unsigned long long)n_bytes);
        write_record("size", text, &records);
    }
    if (records.n > 0) {
        static const char zeros[TAR_BLOCK];
        write_header("PaxHeaders.0/member", 'x', 0644, records.n, out);
        buf_append_slice(out, buf_slice(&records));
        buf_append(out, zeros, tar_padded(records.n) - records.n);
    }
    write_header(name, is_directory ? '5' : '0', is_directory ? 0755 : 0644, n_bytes, out);
    int r = buf_failed(&records, e);
    buf_done(&records);
    return r < 0 ? r : buf_failed(out, e);
}
