/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Records of images that no registry has. Included after the library's headers. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/text.h"
#include "update/record/record.h"

#define SAMPLE_REF      "docker://example.org/os:stable"
#define SAMPLE_PLATFORM "linux/amd64"
#define SAMPLE_TYPE     "application/vnd.oci.image.manifest.v1+json"
/* Version label of each: quotes, a backslash, a line end, and letters of two, three and four bytes.
 */
#define SAMPLE_LABEL \
    "\\\"quoted\\\" \\\\ \\n gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xa7 \\u00e9"

static inline struct larder_digest sample_digest(const char *text, size_t n)
{
    struct larder_digest digest;
    if (hash_of(LARDER_DIGEST_SHA256, text, n, &digest, NULL) < 0)
        abort();
    return digest;
}

/* An image of n_layers made up ones, with `seed` in its label. */
static inline void sample_image(const char *seed, size_t n_layers, struct buf *manifest,
                                struct buf *config)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct larder_digest digest;
    *manifest = BUF_INIT(RECORD_MANIFEST_BYTES_MAX);
    *config = BUF_INIT(RECORD_CONFIG_BYTES_MAX);
    buf_printf(config,
               "{\"architecture\":\"amd64\",\"os\":\"linux\",\n\t\"config\":{\"Labels\":{"
               "\"org.opencontainers.image.version\":\"%s " SAMPLE_LABEL "\"}},"
               "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}\n",
               seed);
    digest = sample_digest(config->p, config->n);
    buf_printf(manifest,
               "{\"schemaVersion\":2,\"mediaType\":\"" SAMPLE_TYPE "\",\"config\":{\"mediaType\":"
               "\"application/vnd.oci.image.config.v1+json\",\"digest\":\"%s\",\"size\":%zu},"
               "\"layers\":[",
               larder_digest_format(&digest, text), config->n);
    for (size_t i = 0; i < n_layers; i++) {
        char name[64];
        int n = snprintf(name, sizeof(name), "%.32s %zu", seed, i);
        digest = sample_digest(name, (size_t)n);
        buf_printf(manifest,
                   "%s{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\","
                   "\"digest\":\"%s\",\"size\":%zu}",
                   i ? "," : "", larder_digest_format(&digest, text), 1000 + i);
    }
    buf_printf(manifest, "],\"annotations\":{\"label\":\"" SAMPLE_LABEL "\"}}");
    if (buf_failed(manifest, NULL) < 0 || buf_failed(config, NULL) < 0)
        abort();
}

/* Of SAMPLE_REF; n_layers 0: the check found nothing new. */
static inline struct update_record sample_record(const char *seed, size_t n_layers)
{
    struct update_record record = {
        .ref = strdup(SAMPLE_REF),
        .platform = strdup(SAMPLE_PLATFORM),
        .name = strdup("example.org/os:stable"),
        .base = sample_digest("base", 4),
        .listed = sample_digest(seed, strlen(seed)),
        .manifest_digest = sample_digest("base", 4),
        .checked_ns = 1700000000123456789,
    };
    if (!record.ref || !record.platform || !record.name)
        abort();
    if (n_layers == 0)
        return record;
    record.has_update = true;
    record.media_type = strdup(SAMPLE_TYPE);
    sample_image(seed, n_layers, &record.manifest, &record.config);
    record.manifest_digest = sample_digest(record.manifest.p, record.manifest.n);
    return record;
}

static inline bool sample_same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static inline bool sample_same_digest(const struct larder_digest *a, const struct larder_digest *b)
{
    return a->alg == b->alg && (a->alg == LARDER_DIGEST_NONE || larder_digest_equal(a, b));
}

static inline bool sample_equal(const struct update_record *a, const struct update_record *b)
{
    return sample_same_text(a->ref, b->ref) && sample_same_text(a->platform, b->platform) &&
           sample_same_text(a->name, b->name) && sample_same_text(a->commit, b->commit) &&
           sample_same_text(a->media_type, b->media_type) &&
           sample_same_digest(&a->base, &b->base) && sample_same_digest(&a->listed, &b->listed) &&
           sample_same_digest(&a->manifest_digest, &b->manifest_digest) &&
           a->checked_ns == b->checked_ns && a->has_update == b->has_update &&
           a->is_rewritten == b->is_rewritten && a->manifest.n == b->manifest.n &&
           a->config.n == b->config.n &&
           (a->manifest.n == 0 || memcmp(a->manifest.p, b->manifest.p, a->manifest.n) == 0) &&
           (a->config.n == 0 || memcmp(a->config.p, b->config.p, a->config.n) == 0);
}
