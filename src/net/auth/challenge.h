/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Parsers of what registries send beside bodies: WWW-Authenticate (RFC 9110 section 11.6.1), Link
 * (RFC 8288), token replies, Warning, upload Range. Pure, fuzzed.
 */
#include <stdbool.h>
#include <stdint.h>

#include <larder/error.h>

#include "base/buf.h"
#include "base/slice.h"

/* More is no offer but an attack. */
#define CHALLENGES_MAX 8

struct challenge {
    bool is_bearer; /* else Basic; other schemes are left out */
    char *realm;    /* NULL */
    char *service;
    char *scope;
    char *error; /* "insufficient_scope" */
};
/* Adds those of one header value to the array of CHALLENGES_MAX, as far as they fit; what makes no
 * sense is skipped. LIMIT (a parameter beyond 8 KiB), NOMEM; nothing is added then. */
int challenge_parse(struct slice value, struct challenge *challenges, size_t *n,
                    struct larder_error *e);
void challenges_done(struct challenge *challenges, size_t n);

/* What containers/image reads at most, too. */
#define TOKEN_BODY_MAX_BYTES (1u << 20)

struct token_reply {
    char *token; /* "token", else "access_token"; visible ASCII */
    char *refresh_token;
    int64_t lives_ns; /* from its receipt; 60 s to a day */
};
/* PROTO, LIMIT, NOMEM. Messages quote nothing of the reply. */
int token_reply_parse(struct slice body, struct token_reply *ret, struct larder_error *e);
void token_reply_done(struct token_reply *reply); /* wipes */

/* Target of rel="next"; *ret NULL without. malloc'd, as written (maybe relative), visible ASCII.
 * PROTO, LIMIT. */
int link_next(struct slice value, char **ret, struct larder_error *e);
/* "0-1233" of an upload: the last byte's offset. ("0-0" is also what servers say of an upload that
 * has no byte yet.) */
bool upload_range_parse(struct slice value, uint64_t *ret_last);
/* The text of 'Warning: 299 - "text"', unquoted; false when it is another or has control bytes. */
bool warning_parse(struct slice value, struct buf *out);
/* First message and code of a distribution error body, "DENIED: requested access ...", sanitized;
 * nothing is appended when it is none. */
void registry_error_text(struct slice body, struct buf *out);
