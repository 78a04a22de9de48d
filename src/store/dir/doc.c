/* SPDX-License-Identifier: Apache-2.0 */
#include "store/dir/doc.h"

#include <limits.h>
#include <string.h>

#include "base/text.h"

bool doc_get_i64(const struct json *doc, const char *key, int64_t *ret)
{
    /* Missing is what gives back whatever is asked for. */
    int64_t value = json_get_i64(doc, key, 0);
    if (value == 0 && json_get_i64(doc, key, 1) != 0)
        return false;
    *ret = value;
    return true;
}

bool doc_get_bits(const struct json *doc, const char *key, uint64_t *ret)
{
    int64_t value = 0;
    if (!doc_get_i64(doc, key, &value))
        return false;
    *ret = (uint64_t)value;
    return true;
}

int doc_set_bits(struct json *doc, const char *key, uint64_t value)
{
    return json_set_i64(doc, key, (int64_t)value);
}

bool doc_get_string(const struct json *doc, const char *key, const char **ret)
{
    const char *text = json_get_string(doc, key);
    if (!text)
        return false;
    *ret = text;
    return true;
}

int doc_set_text(struct json *doc, const char *key, const char *text)
{
    /* Every byte may become four. */
    struct buf clean = BUF_INIT(4 * strlen(text));
    text_sanitize(slice_of(text), &clean);
    int r = clean.failed ? -LARDER_NOMEM : json_set_string(doc, key, clean.p ? clean.p : "");
    buf_done(&clean);
    return r;
}

int doc_set_path(struct json *doc, const char *path)
{
    struct json *text = json_new_string(path);
    if (text)
        return json_set(doc, "path", text);
    size_t n = strlen(path);
    char *hex = malloc(2 * n + 1);
    if (!hex)
        return -LARDER_NOMEM;
    hex_encode((const uint8_t *)path, n, hex);
    int r = json_set_string(doc, "path_hex", hex);
    free(hex);
    return r;
}

char *doc_get_path(const struct json *doc)
{
    const char *path = json_get_string(doc, "path");
    if (path)
        return strdup(path);
    const char *hex = json_get_string(doc, "path_hex");
    if (!hex)
        return NULL;
    size_t n = strlen(hex) / 2;
    char *out = malloc(n + 1);
    if (out && (!hex_decode(slice_of(hex), (uint8_t *)out, n) || memchr(out, 0, n))) {
        free(out);
        return NULL;
    }
    if (out)
        out[n] = '\0';
    return out;
}
