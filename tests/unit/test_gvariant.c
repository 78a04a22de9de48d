/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GVariant's normal form, beside GLib's own eyes: what we take for normal GLib does, too, and reads
 * the same from it; what GLib makes of types that we know is taken.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <glib.h>

#include "base/mem.h"
#include "update/reader/gvariant.h"

#define TRIES 40000

/* ---- what GLib writes ---- */

static const struct {
    const char *type, *text;
} samples[] = {
    {"s", "'text'"},
    {"s", "''"},
    {"s", "'w\303\266rds \342\202\254 \360\237\220\247'"},
    {"b", "true"},
    {"t", "5"},
    {"()", "()"},
    {"(yt)", "(1, 2)"},
    {"(ty)", "(1, 2)"},
    {"(sb)", "('a', true)"},
    {"(bs)", "(false, 'a')"},
    {"(sus)", "('abc', 7, 'de')"},
    {"a(yt)", "[(1, 2), (3, 4)]"},
    {"ay", "[]"},
    {"ab", "[true, false]"},
    {"as", "['', 'a', 'bcd']"},
    {"aas", "[[], ['a'], ['b', 'c']]"},
    {"a()", "[(), ()]"},
    {"v", "<'a'>"},
    {"v", "<<<5>>>"},
    {"av", "[<1>, <'two'>, <[3, 4]>]"},
    {"a{sv}", "{}"},
    {"a{sv}", "{'a': <'b'>, 'c': <uint64 1>, 'deep': <{'x': <(1, 'y')>}>, 'last': <[true]>}"},
    {"a{ta{su}}", "{5: {'a': 1}, 6: {}}"},
    {"aay", "[[1, 2, 3], [], [4]]"},
    {"(a{sv}aya(say)sstayay)",
     "({'a': <'b'>}, [], [('r', [1])], 'subject', 'body', 7, [1, 2], [3])"},
};

static struct slice bytes_of(GVariant *v)
{
    return (struct slice){g_variant_get_data(v), g_variant_get_size(v)};
}

static GVariant *sample(size_t i)
{
    GVariant *v =
        g_variant_parse(G_VARIANT_TYPE(samples[i].type), samples[i].text, NULL, NULL, NULL);
    if (!v)
        fail_msg("%s", samples[i].text);
    return v;
}

static bool glib_is_normal(const char *type, struct slice data)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data.p, data.n);
    g_autoptr(GVariant) v =
        g_variant_ref_sink(g_variant_new_from_bytes(G_VARIANT_TYPE(type), bytes, FALSE));
    return g_variant_is_normal_form(v);
}

static void taken(void **state __attribute__((unused)))
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        g_autoptr(GVariant) v = sample(i);
        if (!gvariant_is_normal(samples[i].type, bytes_of(v)))
            fail_msg("%s %s", samples[i].type, samples[i].text);
    }
}

static void of_all_sizes(void **state __attribute__((unused)))
{
    static const size_t sizes[] = {0,     1,     100,   200,   240,   250,    251,    252,    253,
                                   254,   255,   256,   257,   300,   5000,   65000,  65500,  65520,
                                   65530, 65531, 65532, 65533, 65534, 65535,  65536,  65537,  70000,
                                   65505, 65510, 65515, 65525, 65527, 100000, 300000, 1000000};
    struct slice type, value;

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        GVariantDict d;
        char *text = g_strnfill(sizes[i], 'x');
        g_variant_dict_init(&d, NULL);
        g_variant_dict_insert(&d, "first", "s", "1");
        g_variant_dict_insert(&d, "text", "s", text);
        g_variant_dict_insert(&d, "last", "t", GUINT64_TO_BE(7));
        g_autoptr(GVariant) dict = g_variant_ref_sink(g_variant_dict_end(&d));
        g_autoptr(GVariant) commit = g_variant_ref_sink(g_variant_new(
            "(@a{sv}@aya(say)sst@ay@ay)", dict,
            g_variant_new_from_data(G_VARIANT_TYPE("ay"), "", 0, TRUE, NULL, NULL), NULL, "s", "b",
            (guint64)1, g_variant_new_from_data(G_VARIANT_TYPE("ay"), "abc", 3, TRUE, NULL, NULL),
            g_variant_new_from_data(G_VARIANT_TYPE("ay"), "", 0, TRUE, NULL, NULL)));
        struct slice bytes = bytes_of(commit);
        if (!gvariant_is_normal(GVARIANT_COMMIT, bytes))
            fail_msg("a text of %zu bytes", sizes[i]);
        struct slice ours = gvariant_commit_dict(bytes);
        assert_true(slice_equal(ours, bytes_of(dict)));
        struct ostree_value values[] = {{.key = "text"}, {.key = "last"}, {.key = "none"}};
        gvariant_values(ours, values, ARRAY_LEN(values));
        assert_int_equal(values[0].type, OSTREE_VALUE_STRING);
        assert_string_equal(values[0].text, text);
        assert_int_equal(values[1].type, OSTREE_VALUE_NUMBER);
        assert_int_equal(values[1].number, 7);
        assert_int_equal(values[2].type, OSTREE_VALUE_NONE);
        assert_true(gvariant_look_up(ours, "first", &type, &value));
        assert_true(slice_equal(type, SLICE_LIT("s")) && value.n == 2);
        g_free(text);
    }
}

/* ---- what GLib does not ---- */

static void refused(void **state __attribute__((unused)))
{
    static const struct {
        const char *type;
        struct slice data;
    } cases[] = {
        {"s", SLICE_INIT("")},
        {"s", SLICE_INIT("no end")},
        {"s", SLICE_INIT("a\0b\0")},
        {"s", SLICE_INIT("\377\0")},
        {"s", SLICE_INIT("\300\200\0")},
        {"s", SLICE_INIT("\355\240\200\0")},
        {"s", SLICE_INIT("\364\220\200\200\0")},
        {"s", SLICE_INIT("\342\202\0")},
        {"b", SLICE_INIT("\2")},
        {"b", SLICE_INIT("")},
        {"t", SLICE_INIT("1234567")},
        {"at", SLICE_INIT("123456789")},
        {"()", SLICE_INIT("")},
        {"()", SLICE_INIT("\1")},
        {"(yt)", SLICE_INIT("\1\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0")}, /* padding that is none */
        {"(ty)", SLICE_INIT("\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\1")},
        {"(ss)", SLICE_INIT("")},
        {"(ss)", SLICE_INIT("a\0b\0\5")}, /* ends behind the end */
        {"(ss)", SLICE_INIT("a\0b\0\3")},
        {"(sy)", SLICE_INIT("a\0\7\0\2")}, /* a byte that belongs to nobody */
        {"as", SLICE_INIT("a\0b\0\4\2")},  /* backwards */
        {"as", SLICE_INIT("a\0b\0\2\3")},  /* not all of it */
        {"as", SLICE_INIT("a\0\2\0\2\0")}, /* offsets that overlap */
        {"as", SLICE_INIT("a\0\377")},
        {"v", SLICE_INIT("")},
        {"v", SLICE_INIT("s")},
        {"v", SLICE_INIT("a\0\0")},
        {"v", SLICE_INIT("a\0\0ss")},
        {"v", SLICE_INIT("a\0\0z")},
        {"v", SLICE_INIT("\1\0(y")},
        {"v", SLICE_INIT("\1\0a")},
        {"v", SLICE_INIT("\0a{vs}")},
        {"v", SLICE_INIT("\0a{ssss}")},
        {"v", SLICE_INIT("\0a{s}")},
        {"v", SLICE_INIT("\0a{(s)s}")},
        {"v", SLICE_INIT("\0\0ms")}, /* these are GVariant's, but not ostree's */
        {"v", SLICE_INIT("/a\0\0o")},
        {"v", SLICE_INIT("s\0\0g")},
        {"a{sv}", SLICE_INIT("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")},
        {"a{sv}", SLICE_INIT("k\0\0\0\0\0\0\1v\0\0s\2\14")},
        {"a{sv}", SLICE_INIT("k\0\0\0\0\0\0\0v\0\0s\2\16")},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (gvariant_is_normal(cases[i].type, cases[i].data))
            fail_msg("case %zu, of %s", i, cases[i].type);
    }
    assert_true(gvariant_is_normal("a{sv}", (struct slice){NULL, 0}));
    assert_false(gvariant_is_normal(GVARIANT_COMMIT, (struct slice){NULL, 0}));
}

static void too_deep(void **state __attribute__((unused)))
{
    g_autoptr(GVariant) v = g_variant_ref_sink(g_variant_new_string("x"));
    size_t level = 0;

    for (; level < 100 && gvariant_is_normal(g_variant_get_type_string(v), bytes_of(v)); level++) {
        GVariant *outer = g_variant_ref_sink(g_variant_new_variant(v));
        g_variant_unref(v);
        v = outer;
    }
    assert_in_range(level, 20, 40);
    char brackets[600];
    memset(brackets, 'a', sizeof(brackets));
    brackets[0] = '\0';
    brackets[sizeof(brackets) - 1] = 's';
    assert_false(gvariant_is_normal("v", (struct slice){brackets, sizeof(brackets)}));
    assert_false(gvariant_is_normal("v", (struct slice){brackets + 500, 100}));
}

/* Seems to have millions of values: none of them is looked at one by one for long. */
static void too_many(void **state __attribute__((unused)))
{
    size_t n = 8UL << 20;
    char *zeros = calloc(1, n);

    assert_non_null(zeros);
    assert_false(gvariant_is_normal("a{sv}", (struct slice){zeros, n}));
    assert_false(gvariant_is_normal("a(b)", (struct slice){zeros, n}));
    assert_false(gvariant_is_normal("a()", (struct slice){zeros, n}));
    assert_true(gvariant_is_normal("ay", (struct slice){zeros, n}));
    free(zeros);
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static void damage(char *bytes, size_t *n, uint32_t *seed)
{
    unsigned times = 1 + next_random(seed) % 3;

    for (unsigned i = 0; i<times && * n> 0; i++) {
        size_t at = next_random(seed) % *n;
        switch (next_random(seed) % 5) {
        case 0:
            bytes[at] = (char)next_random(seed);
            break;
        case 1:
            bytes[at] = (char)(bytes[at] + 1);
            break;
        case 2:
            bytes[at] = (char)(bytes[at] ^ (1 << next_random(seed) % 8));
            break;
        case 3:
            memmove(bytes + at, bytes + at + 1, *n - at - 1);
            --*n;
            break;
        default:
            memmove(bytes + at + 1, bytes + at, *n - at);
            ++*n;
            break;
        }
    }
}

static void compare_values(struct slice data)
{
    static const char *const keys[] = {"a", "c", "deep", "last", ""};
    g_autoptr(GBytes) bytes = g_bytes_new(data.p, data.n);
    g_autoptr(GVariant) dict =
        g_variant_ref_sink(g_variant_new_from_bytes(G_VARIANT_TYPE_VARDICT, bytes, FALSE));
    struct slice type, value;

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        g_autoptr(GVariant) found = g_variant_lookup_value(dict, keys[i], NULL);
        assert_int_equal(gvariant_look_up(data, keys[i], &type, &value), found != NULL);
        if (found) {
            assert_true(slice_equal(type, slice_of(g_variant_get_type_string(found))));
            assert_true(slice_equal(value, bytes_of(found)));
        }
    }
}

/* Whatever we take, GLib takes; what we refuse of these GLib refuses. */
static void like_glib(void **state __attribute__((unused)))
{
    uint32_t seed = 1;
    size_t n_normal = 0, n_stricter = 0;

    for (size_t i = 0; i < TRIES; i++) {
        size_t which = i % ARRAY_LEN(samples);
        g_autoptr(GVariant) v = sample(which);
        struct slice whole = bytes_of(v);
        char *bytes = malloc(whole.n + 8);
        size_t n = whole.n;
        assert_non_null(bytes);
        if (n > 0)
            memcpy(bytes, whole.p, n);
        damage(bytes, &n, &seed);
        struct slice data = {bytes, n};
        bool ours = gvariant_is_normal(samples[which].type, data);
        bool theirs = glib_is_normal(samples[which].type, data);
        if (ours && !theirs)
            fail_msg("try %zu, of %s: GLib does not take it", i, samples[which].type);
        n_normal += ours;
        n_stricter += theirs && !ours;
        if (ours && strcmp(samples[which].type, GVARIANT_DICT) == 0)
            compare_values(data);
        free(bytes);
    }
    print_message("# %zu of %d were normal; %zu more to GLib\n", n_normal, TRIES, n_stricter);
    assert_in_range(n_normal, TRIES / 20, TRIES);
    assert_in_range(n_stricter, 0, TRIES / 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(taken),    cmocka_unit_test(of_all_sizes), cmocka_unit_test(refused),
        cmocka_unit_test(too_deep), cmocka_unit_test(too_many),     cmocka_unit_test(like_glib),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
