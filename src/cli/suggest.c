/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/suggest.h"

#include <string.h>

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;

    return m < c ? m : c;
}

/* Levenshtein distance, one row at a time; both at most SUGGEST_WORD_BYTES long. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t row[SUGGEST_WORD_BYTES + 1];

    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t above = row[j];
            size_t change = diagonal + (a[i - 1] != b[j - 1]);

            row[j] = min3(row[j - 1] + 1, above + 1, change);
            diagonal = above;
        }
    }
    return row[b_len];
}

void suggest_offer(struct suggest *s, const char *candidate)
{
    size_t word_len = strlen(s->word);
    size_t len = strlen(candidate);
    size_t d;

    if (word_len == 0 || word_len > SUGGEST_WORD_BYTES || len > SUGGEST_WORD_BYTES)
        return;
    if (word_len >= 2 && strncmp(candidate, s->word, word_len) == 0) {
        d = 1;
    } else {
        d = distance(s->word, word_len, candidate, len);
        if (d > (len + 2) / 3)
            return;
    }
    if (s->nearest && d >= s->distance)
        return;
    s->nearest = candidate;
    s->distance = d;
}
