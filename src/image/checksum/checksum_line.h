/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One line of a checksum file:
 *
 *     line     = comment / empty / gnu / reversed / tagged / bare
 *     comment  = "#" ...                            only when '#' is byte 0
 *     section  = "# " ALG " HASH"                   Gentoo: the algorithm of the lines that follow
 *     size     = "# " name ": " N ( " bytes" / "K" )
 *     gnu      = *blank ["\"] digest blank ( SP / "*" ) name
 *     reversed = *blank ["\"] digest blank name     not mixed with gnu in one file
 *     tagged   = *blank ["\"] ALG ["-" bits] [SP] "(" name ")" *blank "=" *blank value *blank
 *     bare     = *blank digest *blank
 *     digest   = [ ALG ":" ] ( HEX / BASE64 )
 *
 * A leading "\" means that the name is escaped (\\, \n, \r and nothing else). The algorithm of an
 * untagged digest comes from its prefix, else the section, else the name of the file, else the
 * length; whatever is known and contradicts the length is a contradiction, never a guess.
 */
#include <stdbool.h>
#include <stdint.h>

#include <larder/digest.h>

#include "base/slice.h"

/* What earlier lines and the file's name fixed; all zero at the beginning, then file_alg. */
struct checksum_state {
    enum larder_digest_alg file_alg;    /* promised by the file's name; NONE */
    enum larder_digest_alg section_alg; /* NONE: no section, or one we cannot read */
    bool is_foreign_section;            /* of an algorithm larder does not know */
    bool is_gnu, is_reversed;           /* the style of the first untagged line with a name */
};

enum checksum_line_kind {
    CHECKSUM_LINE_IGNORED,    /* empty, comment, section */
    CHECKSUM_LINE_DIGEST,     /* digest; name unless bare */
    CHECKSUM_LINE_SIZE,       /* size of name */
    CHECKSUM_LINE_FOREIGN,    /* well-formed, of an algorithm larder does not know */
    CHECKSUM_LINE_CONTRADICT, /* the length of the digest contradicts its algorithm */
    CHECKSUM_LINE_MALFORMED,
};

struct checksum_line {
    enum checksum_line_kind kind;
    bool is_bare;
    bool is_escaped; /* name still has its escapes */
    bool is_rounded; /* size_bytes came from a count of KiB */
    struct slice name;
    struct larder_digest digest;
    uint64_t size_bytes;
};

/* line has no line end. Never fails; advances the state. */
void checksum_line_parse(struct slice line, struct checksum_state *state,
                         struct checksum_line *ret);
/* malloc'd name with the escapes undone; NULL when out of memory (*ret_bad false) or bad (true). */
char *checksum_line_name(const struct checksum_line *line, bool *ret_bad);
