/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/media_type.h"

#include <string.h>

#include "base/mem.h"

static bool is_one_of(const char *type, const char *const *list, size_t n)
{
    for (size_t i = 0; type && i < n; i++) {
        if (strcmp(type, list[i]) == 0)
            return true;
    }
    return false;
}

bool media_type_is_index(const char *type)
{
    static const char *const list[] = {OCI_TYPE_INDEX, DOCKER_TYPE_LIST};
    return is_one_of(type, list, ARRAY_LEN(list));
}

bool media_type_is_manifest(const char *type)
{
    static const char *const list[] = {OCI_TYPE_MANIFEST, DOCKER_TYPE_MANIFEST};
    return is_one_of(type, list, ARRAY_LEN(list));
}

bool media_type_is_schema1(const char *type)
{
    static const char *const list[] = {DOCKER_TYPE_SCHEMA1, DOCKER_TYPE_SCHEMA1_SIGNED};
    return is_one_of(type, list, ARRAY_LEN(list));
}

bool media_type_is_docker(const char *type)
{
    static const char *const list[] = {DOCKER_TYPE_LIST, DOCKER_TYPE_MANIFEST};
    return is_one_of(type, list, ARRAY_LEN(list));
}

bool media_type_is_config(const char *type)
{
    static const char *const list[] = {OCI_TYPE_CONFIG, DOCKER_TYPE_CONFIG};
    return is_one_of(type, list, ARRAY_LEN(list));
}

bool media_type_is_foreign(const char *type)
{
    static const char *const list[] = {
        DOCKER_TYPE_LAYER_FOREIGN_GZIP, DOCKER_TYPE_LAYER_FOREIGN,   OCI_TYPE_LAYER_FOREIGN,
        OCI_TYPE_LAYER_FOREIGN_GZIP,    OCI_TYPE_LAYER_FOREIGN_ZSTD,
    };
    return is_one_of(type, list, ARRAY_LEN(list));
}

/* RFC 6838 section 4.2, "restricted-name-chars"; registries are sent nothing wilder. */
static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$&-^_.+", c));
}

bool media_type_clean(struct slice type, char *out)
{
    const char *end = type.n ? memchr(type.p, ';', type.n) : NULL;
    if (end)
        type.n = (size_t)(end - type.p);
    type = slice_trim(type);
    if (type.n >= OCI_MEDIA_TYPE_BYTES)
        return false;
    const char *slash = type.n ? memchr(type.p, '/', type.n) : NULL;
    if (!slash || slash == type.p || slash + 1 == type.p + type.n)
        return false;
    for (size_t i = 0; i < type.n; i++) {
        if (!is_name_char(type.p[i]) && type.p + i != slash)
            return false;
    }
    memcpy(out, type.p, type.n);
    out[type.n] = '\0';
    return true;
}
