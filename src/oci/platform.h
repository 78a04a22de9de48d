/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Platforms as Go names them (image-spec image-index.md, "platform"): os, architecture, variant.
 */
#include <stdbool.h>

#include <larder/error.h>

#include "base/buf.h"
#include "base/mem.h"
#include "json/json.h"

/* Strings are borrowed; NULL: not said. */
struct oci_platform {
    const char *os;
    const char *architecture;
    const char *variant;
    const char *os_version;
    const struct json *os_features;
    const struct json *features; /* Docker's list only */
};

/* "linux/arm64/v8", "arm64" (of the host's os), "windows" (of the host's architecture), "x86_64"
 * and "aarch64" as uname says them; the result is normalized. The strings live in *ret_text
 * (malloc'd, caller frees). INVAL. */
int oci_platform_parse(const char *text, struct oci_platform *ret, char **ret_text,
                       struct larder_error *e);
/* Of this machine; static strings. */
void oci_platform_host(struct oci_platform *ret);
/* Reads a "platform" object; false when it has neither os nor architecture. */
bool oci_platform_read(const struct json *node, struct oci_platform *ret);
void oci_platform_format(const struct oci_platform *platform, struct buf *out);
/*
 * How well an image of `have` serves who asks for `want`: 0 exactly, more when it runs there though
 * a better one may exist (arm/v6 on v7, amd64 on amd64/v3; of those the least is best, and the
 * first among equals), -1 not at all. As containerd's platforms.Only, but another architecture
 * never serves. Names are normalized (x86_64, arm64/v8 = arm64, arm = arm/v7, amd64/v1 = amd64).
 * An os, architecture or os.version that `want` leaves out matches anything.
 */
int oci_platform_distance(const struct oci_platform *have, const struct oci_platform *want);
bool oci_platform_matches(const struct oci_platform *have, const struct oci_platform *want);
/* A total order (os, architecture, variant, os.version) for indexes that are built anew. */
int oci_platform_compare(const struct oci_platform *a, const struct oci_platform *b);
/* "x86_64" of "amd64", "aarch64" of "arm64", others as they are; and back. */
const char *platform_arch_to_uname(const char *go_arch);
const char *platform_arch_from_uname(const char *uname_arch);
