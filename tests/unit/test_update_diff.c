/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Differences of images. A layer is a letter: its digest and size come from it ('a': 1 byte, 'b': 2
 * bytes ...). Upper-case ones of `to` are needed, "*" after one: here by its diff id.
 */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "update/answer.h"

#define LAYERS_MAX 32

struct side {
    struct image_layer layers[LAYERS_MAX];
    enum larder_update_presence presence[LAYERS_MAX];
    struct image_view view;
};

static void make_side(const char *text, struct side *s)
{
    memset(s, 0, sizeof(*s));
    s->view.layers = s->layers;
    for (const char *p = text; *p; p++) {
        size_t at = s->view.n_layers;
        if (*p == '*') {
            s->presence[at - 1] = LARDER_UPDATE_HERE_DIFF_ID;
            continue;
        }
        int letter = tolower(*p);
        s->layers[at].digest.alg = LARDER_DIGEST_SHA256;
        memset(s->layers[at].digest.bytes, letter, 32);
        s->layers[at].size_bytes = (uint64_t)letter - 'a' + 1;
        s->presence[at] = isupper(*p) ? LARDER_UPDATE_NEEDED : LARDER_UPDATE_HERE;
        s->view.n_layers++;
    }
}

/* "=a +b* -c": kept, added, removed; upper case: needed. */
static void list(const struct larder_update_diff *diff, char *out)
{
    static const char signs[] = {
        [LARDER_UPDATE_KEPT] = '=', [LARDER_UPDATE_ADDED] = '+', [LARDER_UPDATE_REMOVED] = '-'};
    for (size_t i = 0; i < diff->n_layers; i++) {
        const struct larder_update_layer *l = &diff->layers[i];
        char letter = (char)l->digest.bytes[0];
        out += sprintf(out, "%s%c%c%s", i ? " " : "", signs[l->change],
                       l->presence == LARDER_UPDATE_NEEDED ? toupper(letter) : letter,
                       l->presence == LARDER_UPDATE_HERE_DIFF_ID ? "*" : "");
    }
    *out = '\0';
}

static const struct {
    const char *from, *to, *list;
    struct larder_update_sum total, added, removed, here, needed;
} rows[] = {
    {"", "", "", {0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}},
    {"abc", "abc", "=a =b =c", {3, 6}, {0, 0}, {0, 0}, {3, 6}, {0, 0}},
    {"abc", "cab", "=c =a =b", {3, 6}, {0, 0}, {0, 0}, {3, 6}, {0, 0}},
    {"ab", "aC", "=a +C -b", {2, 4}, {1, 3}, {1, 2}, {1, 1}, {1, 3}},
    {"", "AB", "+A +B", {2, 3}, {2, 3}, {0, 0}, {0, 0}, {2, 3}},
    {"ab", "", "-a -b", {0, 0}, {0, 0}, {2, 3}, {0, 0}, {0, 0}},
    /* removed ones by digest, whatever their order was */
    {"fdeb", "Zb", "+Z =b -d -e -f", {2, 28}, {1, 26}, {3, 15}, {1, 2}, {1, 26}},
    /* added, but here: of another image, by digest or content */
    {"a", "bC*D", "+b +c* +D -a", {3, 9}, {3, 9}, {1, 1}, {2, 5}, {1, 4}},
    /* kept, but lost: the base's own blob is gone */
    {"ab", "Ab", "=A =b", {2, 3}, {0, 0}, {0, 0}, {1, 2}, {1, 1}},
    /* twice: once in each but the total's bytes */
    {"a", "aaBB", "=a +B", {2, 6}, {1, 2}, {0, 0}, {1, 1}, {1, 2}},
    {"aabbc", "bb", "=b -a -c", {1, 4}, {0, 0}, {2, 4}, {1, 2}, {0, 0}},
};

static void assert_sum(struct larder_update_sum a, struct larder_update_sum b)
{
    assert_int_equal(a.layers, b.layers);
    assert_int_equal(a.bytes, b.bytes);
}

static void compares(void **state __attribute__((unused)))
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct larder_update_diff diff;
        struct side from, to;
        char text[256];
        make_side(rows[i].from, &from);
        make_side(rows[i].to, &to);
        assert_int_equal(update_diff(&from.view, &to.view, to.presence, &diff, &e), 0);
        list(&diff, text);
        assert_string_equal(text, rows[i].list);
        assert_sum(diff.total, rows[i].total);
        assert_sum(diff.added, rows[i].added);
        assert_sum(diff.removed, rows[i].removed);
        assert_sum(diff.here, rows[i].here);
        assert_sum(diff.needed, rows[i].needed);
        free(diff.layers);
    }
}

static void adds_all_without_a_base(void **state __attribute__((unused)))
{
    struct larder_update_diff diff;
    struct side to;
    char text[256];
    make_side("bAa", &to);
    assert_int_equal(update_diff(NULL, &to.view, to.presence, &diff, NULL), 0);
    list(&diff, text);
    assert_string_equal(text, "+b +A");
    assert_sum(diff.added, (struct larder_update_sum){2, 3});
    assert_sum(diff.total, (struct larder_update_sum){2, 4});
    free(diff.layers);
}

static void keeps_sums_in_range(void **state __attribute__((unused)))
{
    struct larder_update_diff diff;
    struct side to;
    make_side("ABC", &to);
    for (size_t i = 0; i < 3; i++)
        to.layers[i].size_bytes = INT64_MAX;
    assert_int_equal(update_diff(NULL, &to.view, to.presence, &diff, NULL), 0);
    assert_true(diff.total.bytes == INT64_MAX);
    assert_true(diff.needed.bytes == INT64_MAX);
    free(diff.layers);
}

/* As large as a manifest may be, in a moment. */
static void compares_many(void **state __attribute__((unused)))
{
    struct larder_update_diff diff;
    struct image_view from = {.n_layers = OCI_MEMBERS_MAX}, to = {.n_layers = OCI_MEMBERS_MAX};
    enum larder_update_presence *presence = calloc(OCI_MEMBERS_MAX, sizeof(*presence));
    from.layers = calloc(from.n_layers, sizeof(*from.layers));
    to.layers = calloc(to.n_layers, sizeof(*to.layers));
    assert_true(presence && from.layers && to.layers);
    for (size_t i = 0; i < OCI_MEMBERS_MAX; i++) {
        size_t a = i, b = 2 * i; /* every second one is kept */
        from.layers[i].digest.alg = to.layers[i].digest.alg = LARDER_DIGEST_SHA256;
        memcpy(from.layers[i].digest.bytes, &a, sizeof(a));
        memcpy(to.layers[i].digest.bytes, &b, sizeof(b));
    }
    assert_int_equal(update_diff(&from, &to, presence, &diff, NULL), 0);
    assert_int_equal(diff.added.layers, OCI_MEMBERS_MAX / 2);
    assert_int_equal(diff.removed.layers, OCI_MEMBERS_MAX / 2);
    assert_int_equal(diff.n_layers, OCI_MEMBERS_MAX + OCI_MEMBERS_MAX / 2);
    free(diff.layers);
    free(from.layers);
    free(to.layers);
    free(presence);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compares),
        cmocka_unit_test(adds_all_without_a_base),
        cmocka_unit_test(keeps_sums_in_range),
        cmocka_unit_test(compares_many),
    };
    return cmocka_run_group_tests_name("update_diff", tests, NULL, NULL);
}
