/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/unpack.h"

#include <string.h>

#include "archive/unpack_codec.h"
#include "base/error.h"

struct unpack {
    const struct unpack_codec *codec;
    void *state;
    uint64_t max_out_bytes;
    uint64_t out_bytes;
    unpack_sink *sink;
    void *arg;
    bool has_failed; /* codecs are not entered again after an error */
    bool is_finished;
    uint8_t out[UNPACK_OUT_BYTES];
};

static const struct {
    const char *name;
    const char *suffix;
    uint8_t magic[6];
    size_t magic_bytes;
    const struct unpack_codec *codec;
} formats[] = {
    [UNPACK_NONE] = {"none", NULL, {0}, 0, NULL},
    [UNPACK_GZIP] = {"gzip", ".gz", {0x1f, 0x8b, 0x08}, 3, &unpack_codec_gzip},
    [UNPACK_XZ] = {"xz", ".xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, &unpack_codec_xz},
    [UNPACK_ZSTD] = {"zstd", ".zst", {0x28, 0xb5, 0x2f, 0xfd}, 4, &unpack_codec_zstd},
    [UNPACK_BZIP2] = {"bzip2", ".bz2", {'B', 'Z', 'h'}, 3, &unpack_codec_bzip2},
    [UNPACK_LZ4] = {"lz4", NULL, {'b', 'v', '4', '1'}, 4, &unpack_codec_lz4},
};

enum unpack_format unpack_detect(const void *head, size_t n)
{
    for (size_t i = UNPACK_NONE + 1; i < ARRAY_LEN(formats); i++)
        if (n >= formats[i].magic_bytes &&
            memcmp(head, formats[i].magic, formats[i].magic_bytes) == 0)
            return (enum unpack_format)i;
    return UNPACK_NONE;
}

enum unpack_format unpack_from_name(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = UNPACK_NONE + 1; i < ARRAY_LEN(formats); i++) {
        if (!formats[i].suffix)
            continue;
        size_t suffix = strlen(formats[i].suffix);
        /* A name that is nothing but the suffix names no compressed file. */
        if (n > suffix && strcasecmp(name + n - suffix, formats[i].suffix) == 0)
            return (enum unpack_format)i;
    }
    return UNPACK_NONE;
}

const char *unpack_name(enum unpack_format format)
{
    return (size_t)format < ARRAY_LEN(formats) ? formats[format].name : "none";
}

int unpack_new(enum unpack_format format, uint64_t max_out_bytes, unpack_sink *sink, void *arg,
               struct unpack **ret, struct larder_error *e)
{
    if (format == UNPACK_NONE || (size_t)format >= ARRAY_LEN(formats))
        return error_set(e, LARDER_INVAL, "unpack: no compression format given");

    CLEANUP(unpack_freep) struct unpack *u = malloc(sizeof(*u));
    if (!u)
        return error_nomem(e);
    u->codec = formats[format].codec;
    u->state = NULL;
    u->max_out_bytes = max_out_bytes;
    u->out_bytes = 0;
    u->sink = sink;
    u->arg = arg;
    u->has_failed = false;
    u->is_finished = false;
    int rc = u->codec->open(&u->state, e);
    if (rc < 0)
        return rc;
    *ret = TAKE_PTR(u);
    return 0;
}

void unpack_free(struct unpack *u)
{
    if (!u)
        return;
    if (u->state)
        u->codec->close(u->state);
    free(u);
}

static int still_usable(const struct unpack *u, struct larder_error *e)
{
    if (u->has_failed || u->is_finished)
        return error_set(e, LARDER_INVAL, "%s stream: used after its %s", u->codec->name,
                         u->has_failed ? "failure" : "end");
    return 0;
}

int unpack_push(struct unpack *u, const void *data, size_t n, struct larder_error *e)
{
    int rc = still_usable(u, e);
    if (rc < 0 || n == 0)
        return rc;
    rc = u->codec->push(u->state, u, data, n, e);
    u->has_failed = rc < 0;
    return rc;
}

int unpack_finish(struct unpack *u, struct larder_error *e)
{
    int rc = still_usable(u, e);
    if (rc < 0)
        return rc;
    rc = u->codec->finish(u->state, u, e);
    u->has_failed = rc < 0;
    u->is_finished = rc == 0;
    return rc;
}

uint8_t *unpack_out(struct unpack *u)
{
    return u->out;
}

int unpack_emit(struct unpack *u, size_t n, struct larder_error *e)
{
    if (n == 0)
        return 0;
    if (n > u->max_out_bytes - u->out_bytes)
        return error_set(e, LARDER_LIMIT, "%s stream: unpacks to more than %llu bytes",
                         u->codec->name, (unsigned long long)u->max_out_bytes);
    u->out_bytes += n;
    return u->sink(u->arg, u->out, n, e);
}

int unpack_truncated(const struct unpack_codec *codec, struct larder_error *e)
{
    return error_set(e, LARDER_CORRUPT, "%s stream: ends too early", codec->name);
}

int unpack_damaged(const struct unpack_codec *codec, const char *how, struct larder_error *e)
{
    return error_set(e, LARDER_CORRUPT, "%s stream: %s", codec->name, how);
}
