/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Numbers of a fixed byte order at any offset of a buffer. A read past the end gives 0: callers
 * check the length of a header once, before its fields.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

static inline uint64_t endian_le(struct slice s, size_t offset, size_t width)
{
    uint64_t v = 0;

    if (offset > s.n || width > s.n - offset)
        return 0;
    for (size_t i = width; i > 0; i--)
        v = v << 8 | (unsigned char)s.p[offset + i - 1];
    return v;
}

static inline uint64_t endian_be(struct slice s, size_t offset, size_t width)
{
    uint64_t v = 0;

    if (offset > s.n || width > s.n - offset)
        return 0;
    for (size_t i = 0; i < width; i++)
        v = v << 8 | (unsigned char)s.p[offset + i];
    return v;
}

static inline uint32_t endian_le32(struct slice s, size_t offset)
{
    return (uint32_t)endian_le(s, offset, 4);
}

static inline uint32_t endian_be32(struct slice s, size_t offset)
{
    return (uint32_t)endian_be(s, offset, 4);
}
