/* SPDX-License-Identifier: Apache-2.0 */
#include "update/reader/gvariant.h"

/* ostree's own types have five levels. */
#define LEVELS_MAX 32
/* Values in values: the content of a commit's files is not among them. */
#define VALUES_MAX (1UL << 18)
/* A signature's, by D-Bus, which these types are of. */
#define TYPE_BYTES_MAX 255

struct type {
    struct slice text;
    size_t align;
    size_t fixed; /* size of every value; 0: they differ */
};

/* ---- types (2.3, 2.4) ---- */

static const struct basic {
    char letter;
    unsigned char align, fixed;
} basics[] = {
    {'y', 1, 1}, {'b', 1, 1}, {'n', 2, 2}, {'q', 2, 2}, {'i', 4, 4}, {'u', 4, 4},
    {'x', 8, 8}, {'t', 8, 8}, {'d', 8, 8}, {'s', 1, 0}, {'v', 8, 0},
};

static size_t align_up(size_t n, size_t align)
{
    return (n + align - 1) & ~(align - 1);
}

static bool cut_type(struct slice *rest, unsigned level, struct type *ret);

/* What is between the brackets, and the closing one. */
static bool cut_members(struct slice *rest, char end, unsigned level, struct type *ret)
{
    bool is_fixed = true;
    size_t n = 0, size = 0;
    struct type member;

    ret->align = 1;
    for (; rest->n > 0 && *rest->p != end; n++) {
        char first = *rest->p;
        if (!cut_type(rest, level + 1, &member))
            return false;
        /* A key is of a basic type. */
        if (end == '}' && n == 0 && (member.text.n > 1 || first == 'v'))
            return false;
        ret->align = member.align > ret->align ? member.align : ret->align;
        is_fixed = is_fixed && member.fixed > 0;
        size = align_up(size, member.align) + member.fixed;
    }
    if (rest->n == 0 || (end == '}' && n != 2))
        return false;
    rest->p++;
    rest->n--;
    /* The unit, "()", takes a byte. */
    ret->fixed = !is_fixed ? 0 : n == 0 ? 1 : align_up(size, ret->align);
    return true;
}

/* Cuts one whole type. */
static bool cut_type(struct slice *rest, unsigned level, struct type *ret)
{
    struct slice all = *rest;
    bool is_good = false;

    if (level > LEVELS_MAX || rest->n == 0)
        return false;
    char first = *rest->p;
    rest->p++;
    rest->n--;
    *ret = (struct type){.align = 1};
    for (size_t i = 0; i < sizeof(basics) / sizeof(*basics) && !is_good; i++) {
        is_good = basics[i].letter == first;
        ret->align = basics[i].align;
        ret->fixed = basics[i].fixed;
    }
    if (first == 'a') {
        is_good = cut_type(rest, level + 1, ret);
        ret->fixed = 0;
    } else if (first == '(' || first == '{') {
        is_good = cut_members(rest, first == '(' ? ')' : '}', level, ret);
    }
    ret->text = (struct slice){all.p, all.n - rest->n};
    return is_good;
}

/* ---- containers (2.3.6, 2.5) ---- */

/* Bytes of each framing offset in a container of n bytes. */
static size_t offset_bytes(size_t n)
{
    return n > 0xffffffff ? 8 : n > 0xffff ? 4 : n > 0xff ? 2 : n > 0 ? 1 : 0;
}

/* Little-endian on every machine; the caller knows that it is there. */
static size_t read_offset(struct slice data, size_t at, size_t bytes)
{
    size_t value = 0;

    for (size_t i = bytes; i-- > 0;)
        value = value << 8 | (unsigned char)data.p[at + i];
    return value;
}

/* Whether these many offsets after a body are of no more bytes than they need. */
static bool is_tight(size_t body, size_t n_offsets, size_t bytes)
{
    return bytes <= 1 || offset_bytes(body + n_offsets * (bytes / 2)) == bytes;
}

/* An array of values that differ in size, and where its offsets are. */
struct array {
    struct slice data;
    size_t body, bytes, n;
};

static bool open_array(struct slice data, struct array *ret)
{
    size_t bytes = offset_bytes(data.n);

    *ret = (struct array){.data = data, .bytes = bytes};
    if (data.n == 0)
        return true;
    ret->body = read_offset(data, data.n - bytes, bytes);
    if (ret->body > data.n - bytes || (data.n - ret->body) % bytes != 0)
        return false;
    ret->n = (data.n - ret->body) / bytes;
    return is_tight(ret->body, ret->n, bytes);
}

static size_t end_of(const struct array *a, size_t i)
{
    return read_offset(a->data, a->body + i * a->bytes, a->bytes);
}

/* Skips to the next multiple, below end, by zeros only. */
static bool skip_padding(struct slice data, size_t align, size_t end, size_t *at)
{
    for (; *at & (align - 1); ++*at) {
        if (*at >= end || data.p[*at] != '\0')
            return false;
    }
    return true;
}

/* ---- normal form (2.7.3) ---- */

static bool check(struct type type, struct slice data, unsigned level, size_t *left);

static bool is_continued(struct slice s, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (((unsigned char)s.p[i] & 0xc0) != 0x80)
            return false;
    }
    return true;
}

/* RFC 3629, section 4. */
static bool is_utf8(struct slice s)
{
    while (s.n > 0) {
        unsigned char c = (unsigned char)s.p[0], d = s.n > 1 ? (unsigned char)s.p[1] : 0;
        size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
        if (n == 0 || n > s.n || !is_continued(s, n) || (c == 0xe0 && d < 0xa0) ||
            (c == 0xed && d > 0x9f) || (c == 0xf0 && d < 0x90) || (c == 0xf4 && d > 0x8f))
            return false;
        s.p += n;
        s.n -= n;
    }
    return true;
}

static bool check_string(struct slice data)
{
    return data.n > 0 && memchr(data.p, '\0', data.n) == data.p + data.n - 1 &&
           is_utf8((struct slice){data.p, data.n - 1});
}

/* Value, NUL, type: the last NUL is the one. */
static bool cut_variant(struct slice data, struct slice *ret_type, struct slice *ret_value)
{
    const char *nul = data.n > 0 ? memrchr(data.p, '\0', data.n) : NULL;

    if (!nul)
        return false;
    *ret_value = (struct slice){data.p, (size_t)(nul - data.p)};
    *ret_type = (struct slice){nul + 1, data.n - ret_value->n - 1};
    return ret_type->n <= TYPE_BYTES_MAX;
}

static bool check_variant(struct slice data, unsigned level, size_t *left)
{
    struct slice type_text, value;
    struct type type;

    return cut_variant(data, &type_text, &value) && cut_type(&type_text, 0, &type) &&
           type_text.n == 0 && check(type, value, level + 1, left);
}

static bool check_array(struct type type, struct slice data, unsigned level, size_t *left)
{
    struct slice rest = {type.text.p + 1, type.text.n - 1};
    struct type element;
    struct array array;
    size_t at = 0;

    if (!cut_type(&rest, 0, &element))
        return false;
    if (element.fixed > 0) {
        /* Any bytes are numbers. */
        bool is_plain = element.text.n == 1 && element.text.p[0] != 'b';
        for (; !is_plain && at + element.fixed <= data.n; at += element.fixed) {
            if (!check(element, (struct slice){data.p + at, element.fixed}, level + 1, left))
                return false;
        }
        return data.n % element.fixed == 0;
    }
    if (!open_array(data, &array))
        return false;
    for (size_t i = 0; i < array.n; i++) {
        size_t end = end_of(&array, i);
        if (end < at || end > array.body || !skip_padding(data, element.align, end, &at) ||
            !check(element, (struct slice){data.p + at, end - at}, level + 1, left))
            return false;
        at = end;
    }
    return at == array.body;
}

/* Offsets are at the end, that of the first member last; the last member has none. */
static bool check_tuple(struct type type, struct slice data, unsigned level, size_t *left)
{
    struct slice rest = {type.text.p + 1, type.text.n - 2};
    size_t bytes = offset_bytes(data.n), at = 0, limit = data.n, n_offsets = 0;
    struct type member;

    while (rest.n > 0) {
        if (!cut_type(&rest, 0, &member) || !skip_padding(data, member.align, limit, &at))
            return false;
        size_t end = limit;
        if (member.fixed > 0) {
            end = at + member.fixed;
        } else if (rest.n > 0) {
            if (bytes == 0 || limit < bytes)
                return false;
            limit -= bytes;
            n_offsets++;
            end = read_offset(data, limit, bytes);
        }
        if (end < at || end > limit ||
            !check(member, (struct slice){data.p + at, end - at}, level + 1, left))
            return false;
        at = end;
    }
    for (; type.fixed > 0 && at < limit; at++) {
        if (data.p[at] != '\0')
            return false;
    }
    return at == limit && (n_offsets == 0 || is_tight(limit, n_offsets, bytes));
}

static bool check(struct type type, struct slice data, unsigned level, size_t *left)
{
    if (level > LEVELS_MAX || *left == 0 || (type.fixed > 0 && data.n != type.fixed))
        return false;
    --*left;
    switch (type.text.p[0]) {
    case 's':
        return check_string(data);
    case 'v':
        return check_variant(data, level, left);
    case 'b':
        return data.p[0] == '\0' || data.p[0] == '\1';
    case 'a':
        return check_array(type, data, level, left);
    case '(':
    case '{':
        return check_tuple(type, data, level, left);
    default:
        return true; /* a number */
    }
}

bool gvariant_is_normal(const char *type, struct slice data)
{
    struct slice rest = slice_of(type);
    size_t left = VALUES_MAX;
    struct type whole;

    if (!data.p)
        data = SLICE_LIT("");
    return cut_type(&rest, 0, &whole) && rest.n == 0 && check(whole, data, 0, &left);
}

/* ---- looking up, in what is in normal form ---- */

struct slice gvariant_commit_dict(struct slice commit)
{
    size_t bytes = offset_bytes(commit.n);
    return (struct slice){commit.p, read_offset(commit, commit.n - bytes, bytes)};
}

bool gvariant_look_up(struct slice dict, const char *key, struct slice *ret_type,
                      struct slice *ret_value)
{
    struct array array;
    size_t at = 0;

    if (!open_array(dict, &array))
        return false;
    for (size_t i = 0; i < array.n; i++) {
        size_t end = end_of(&array, i);
        at = align_up(at, 8);
        /* {sv}: the key, the variant, and where the key ended. */
        struct slice entry = {dict.p + at, end - at};
        size_t bytes = offset_bytes(entry.n);
        size_t value = align_up(read_offset(entry, entry.n - bytes, bytes), 8);
        if (strcmp(entry.p, key) == 0)
            return cut_variant((struct slice){entry.p + value, entry.n - bytes - value}, ret_type,
                               ret_value);
        at = end;
    }
    return false;
}

void gvariant_values(struct slice dict, struct ostree_value *values, size_t n)
{
    struct slice type, bytes;

    for (size_t i = 0; i < n; i++) {
        struct ostree_value *value = &values[i];
        *value = (struct ostree_value){.key = value->key};
        if (!gvariant_look_up(dict, value->key, &type, &bytes))
            continue;
        value->type = OSTREE_VALUE_OTHER;
        if (slice_equal(type, SLICE_LIT("s"))) {
            value->type = OSTREE_VALUE_STRING;
            value->text = bytes.p;
        } else if (slice_equal(type, SLICE_LIT("t"))) {
            value->type = OSTREE_VALUE_NUMBER;
            for (size_t k = 0; k < bytes.n; k++)
                value->number = value->number << 8 | (unsigned char)bytes.p[k];
        }
    }
}
