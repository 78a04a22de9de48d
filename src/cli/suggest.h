/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * "Did you mean": the nearest of a list of words.
 */
#include <stddef.h>

/* Longest word that is compared; longer ones get no suggestion. */
#define SUGGEST_WORD_BYTES 64

struct suggest {
    const char *word;    /* what was typed */
    const char *nearest; /* best so far, borrowed from the candidates; NULL: none is near */
    size_t distance;
};

#define SUGGEST_INIT(typed) ((struct suggest){(typed), NULL, 0})

/* Offers one candidate. A candidate counts when a third of its letters or fewer are wrong, or when
 * the word is a beginning of it. */
void suggest_offer(struct suggest *s, const char *candidate);
