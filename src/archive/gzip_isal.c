/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gzip engine over isa-l: about twice zlib's speed. Its traps: a next member needs
 * isal_inflate_reset(), and whether it looks at the optional CRC of a member's header depends on
 * how the input was cut into pieces. So the header is read here (RFC 1952 section 2.3), and isa-l
 * gets what follows: deflate data and the trailer, which it checks.
 */
#include <limits.h>

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>

#include "archive/unpack_codec.h"
#include "base/error.h"

#define FIXED_BYTES 10
enum gzip_flags { FLAG_CRC = 2, FLAG_EXTRA = 4, FLAG_NAME = 8, FLAG_COMMENT = 16 };

/* Parts of a member's header in their order; those without their flag are skipped. */
enum header_part {
    PART_FIXED,
    PART_EXTRA_LENGTH,
    PART_EXTRA,
    PART_NAME,
    PART_COMMENT,
    PART_CRC,
    PART_NONE,
};

struct header {
    enum header_part part;
    uint32_t left; /* bytes of this part still to come, but for the texts */
    uint8_t flags;
    uint16_t extra_bytes;
    uint16_t stored_crc;
    uint32_t crc; /* of all bytes before the stored one */
};

struct gzip_engine {
    struct inflate_state s;
    struct header header;
};

/* ---- header ---- */

static bool has_part(const struct header *h, enum header_part part)
{
    static const uint8_t flag_of[] = {
        [PART_EXTRA_LENGTH] = FLAG_EXTRA, [PART_EXTRA] = FLAG_EXTRA, [PART_NAME] = FLAG_NAME,
        [PART_COMMENT] = FLAG_COMMENT,    [PART_CRC] = FLAG_CRC,
    };
    if (part == PART_EXTRA && h->extra_bytes == 0)
        return false;
    return (h->flags & flag_of[part]) != 0;
}

static void header_begin(struct header *h)
{
    *h = (struct header){.part = PART_FIXED, .left = FIXED_BYTES};
}

static void next_part(struct header *h)
{
    do
        h->part++;
    while (h->part != PART_NONE && !has_part(h, h->part));
    h->left = h->part == PART_EXTRA ? h->extra_bytes : 2;
}

/* The magic and the reserved flags were looked at before (gzip.c). */
static void header_byte(struct header *h, uint8_t byte)
{
    bool is_text = h->part == PART_NAME || h->part == PART_COMMENT;
    if (h->part == PART_CRC)
        h->stored_crc = (uint16_t)(h->stored_crc >> 8 | byte << 8);
    else
        h->crc = crc32_gzip_refl(h->crc, &byte, 1);
    if (h->part == PART_FIXED && h->left == FIXED_BYTES - 3)
        h->flags = byte;
    if (h->part == PART_EXTRA_LENGTH)
        h->extra_bytes = (uint16_t)(h->extra_bytes >> 8 | byte << 8);
    h->left--;
    if (is_text ? byte == 0 : h->left == 0)
        next_part(h);
}

/* Eats header bytes; false when the header's CRC is wrong. */
static bool header_push(struct header *h, const uint8_t **data, size_t *n)
{
    if (h->part == PART_NONE)
        return true;
    for (; *n > 0 && h->part != PART_NONE; (*data)++, (*n)--)
        header_byte(h, **data);
    return h->part != PART_NONE || !(h->flags & FLAG_CRC) || h->stored_crc == (h->crc & 0xffff);
}

/* ---- engine ---- */

int gzip_engine_new(struct gzip_engine **ret, struct larder_error *e)
{
    struct gzip_engine *engine = calloc(1, sizeof(*engine));
    if (!engine)
        return error_nomem(e);
    isal_inflate_init(&engine->s);
    engine->s.crc_flag = ISAL_GZIP_NO_HDR_VER;
    header_begin(&engine->header);
    *ret = engine;
    return 0;
}

void gzip_engine_free(struct gzip_engine *engine)
{
    free(engine);
}

void gzip_engine_reset(struct gzip_engine *engine)
{
    isal_inflate_reset(&engine->s);
    engine->s.crc_flag = ISAL_GZIP_NO_HDR_VER;
    header_begin(&engine->header);
}

static const char *reason(int rc)
{
    switch (rc) {
    case ISAL_INCORRECT_CHECKSUM:
        return "wrong checksum or length";
    default:
        return "damaged data";
    }
}

enum gzip_state gzip_engine_run(struct gzip_engine *engine, const uint8_t **data, size_t *n,
                                uint8_t *out, size_t out_cap, size_t *ret_out_bytes,
                                const char **ret_why)
{
    struct inflate_state *s = &engine->s;
    *ret_out_bytes = 0;
    if (!header_push(&engine->header, data, n)) {
        *ret_why = "bad member header";
        return GZIP_DAMAGED;
    }
    if (engine->header.part != PART_NONE)
        return GZIP_MORE;
    uint32_t give = *n > UINT_MAX ? UINT_MAX : (uint32_t)*n;
    /* isa-l's type is not const; it only reads. */
    union {
        const uint8_t *in;
        uint8_t *out;
    } next = {*data};
    s->next_in = next.out;
    s->avail_in = give;
    s->next_out = out;
    s->avail_out = (uint32_t)out_cap;
    int rc = isal_inflate(s);
    if (rc < 0) {
        *ret_why = reason(rc);
        return GZIP_DAMAGED;
    }
    uint32_t used = give - s->avail_in;
    *data += used;
    *n -= used;
    *ret_out_bytes = out_cap - s->avail_out;
    return s->block_state == ISAL_BLOCK_FINISH ? GZIP_MEMBER_END : GZIP_MORE;
}
