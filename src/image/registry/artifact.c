/* SPDX-License-Identifier: Apache-2.0 */
#include "image/registry/artifact.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/slice.h"
#include "base/text.h"

#define TITLE_KEY         "org.opencontainers.image.title"
#define DISKTYPE_KEY      "disktype"
#define TART_SIZE_KEY     "org.cirruslabs.tart.uncompressed-size"
#define TART_DIGEST_KEY   "org.cirruslabs.tart.uncompressed-content-digest"
#define MEMBERS_SHOWN_MAX 400

void image_artifact_done(struct image_artifact *artifact)
{
    free(artifact->blobs);
    free(artifact->title);
    memset(artifact, 0, sizeof(*artifact));
}

/* ---- indexes ---- */

static const char *wanted_disktype(const char *format)
{
    if (format && !strcmp(format, "raw"))
        return "applehv";
    if (format && !strcmp(format, "vhdx"))
        return "hyperv";
    return "qemu";
}

/* 0: not for this machine; higher is better. */
static int rank_member(const struct oci_descriptor *member, const char *format)
{
    struct oci_platform host;
    oci_platform_host(&host);
    if (media_type_is_index(member->media_type))
        return 0;
    if (!member->has_platform)
        return 1; /* better than nothing: an index of one artifact */
    struct oci_platform have = member->platform;
    if (have.architecture)
        have.architecture = platform_arch_from_uname(have.architecture);
    if (!have.architecture || strcmp(have.architecture, host.architecture) != 0)
        return 0;
    const char *disktype = oci_annotation(member->annotations, DISKTYPE_KEY);
    if (!disktype)
        return 2;
    return !strcmp(disktype, wanted_disktype(format)) ? 3 : 0;
}

static void list_members(const struct oci_manifest *index, struct buf *out)
{
    for (size_t i = 0; i < index->n_manifests; i++) {
        const struct oci_descriptor *member = &index->manifests[i];
        const char *disktype = oci_annotation(member->annotations, DISKTYPE_KEY);
        buf_puts(out, i > 0 ? ", " : "");
        if (member->has_platform)
            oci_platform_format(&member->platform, out);
        else
            buf_puts(out, "no platform");
        if (disktype)
            buf_printf(out, " (%s)", disktype);
    }
}

int image_artifact_member(const struct oci_manifest *index, const char *format,
                          const struct oci_descriptor **ret, struct larder_error *e)
{
    const struct oci_descriptor *best = NULL;
    int best_rank = 0;
    for (size_t i = 0; i < index->n_manifests; i++) {
        int rank = rank_member(&index->manifests[i], format);
        if (rank > best_rank) {
            best = &index->manifests[i];
            best_rank = rank;
        }
    }
    if (best) {
        *ret = best;
        return 0;
    }
    struct buf there = BUF_INIT(MEMBERS_SHOWN_MAX);
    struct buf clean = BUF_INIT(MEMBERS_SHOWN_MAX);
    list_members(index, &there);
    text_sanitize(buf_slice(&there), &clean);
    int rc = error_set(e, LARDER_NOENT, "no disk for this machine in the index, it has: %s",
                       clean.n > 0 ? clean.p : "nothing");
    buf_done(&there);
    buf_done(&clean);
    return rc;
}

/* ---- manifests ---- */

static bool is_tar_type(const char *type)
{
    struct slice s = slice_of(type);
    return slice_starts(s, SLICE_LIT(OCI_TYPE_LAYER)) ||
           slice_starts(s, SLICE_LIT(DOCKER_TYPE_LAYER));
}

/* Media types of what people push beside the disk. */
static bool is_companion_type(const char *type)
{
    static const char *const prefixes[] = {
        "text/",
        "application/json",
        "application/pgp-signature",
        OCI_TYPE_EMPTY,
        "application/vnd.cncf.helm.",
        "application/vnd.dev.cosign.",
        "application/vnd.dev.sigstore.",
        "application/vnd.in-toto",
        "application/spdx",
        "application/vnd.cyclonedx",
    };
    static const char *const suffixes[] = {"+json", "+zip", "+xml"};
    struct slice s = slice_of(type);
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (slice_starts(s, slice_of(prefixes[i])))
            return true;
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
        if (slice_ends(s, slice_of(suffixes[i])))
            return true;
    return false;
}

static bool is_companion_title(const char *title)
{
    static const char *const suffixes[] = {
        ".sha256", ".sha256sum", ".sha512", ".sha512sum", ".checksum", ".sig",  ".asc",
        ".pem",    ".cert",      ".crt",    ".sbom",      ".att",      ".json", ".txt",
        ".log",    ".zip",       ".html",   ".md",        "SUMS",
    };
    for (size_t i = 0; title && i < ARRAY_LEN(suffixes); i++)
        if (slice_ends(slice_of(title), slice_of(suffixes[i])))
            return true;
    return false;
}

static const char *title_of(const struct oci_descriptor *layer)
{
    return oci_annotation(layer->annotations, TITLE_KEY);
}

static int add_blob(struct image_artifact *artifact, const struct oci_descriptor *layer,
                    struct larder_error *e)
{
    struct artifact_blob *more =
        reallocarray(artifact->blobs, artifact->n_blobs + 1, sizeof(*artifact->blobs));
    if (!more)
        return error_nomem(e);
    artifact->blobs = more;
    more[artifact->n_blobs++] =
        (struct artifact_blob){.digest = layer->digest, .size_bytes = layer->size_bytes};
    return 0;
}

static int add_piece(struct image_artifact *artifact, const struct oci_descriptor *layer,
                     struct larder_error *e)
{
    const char *size = oci_annotation(layer->annotations, TART_SIZE_KEY);
    const char *digest = oci_annotation(layer->annotations, TART_DIGEST_KEY);
    int rc = add_blob(artifact, layer, e);
    if (rc < 0)
        return rc;
    struct artifact_blob *blob = &artifact->blobs[artifact->n_blobs - 1];
    if (size && !slice_parse_u64(slice_of(size), &blob->unpacked_bytes))
        return error_set(e, LARDER_INVAL, "%s: '%.40s' is no size", TART_SIZE_KEY, size);
    rc = digest ? larder_digest_parse(digest, (size_t)-1, &blob->unpacked_digest, e) : 0;
    return rc < 0 ? error_context(e, TART_DIGEST_KEY) : 0;
}

static int pick_pieces(const struct oci_manifest *manifest, struct image_artifact *artifact,
                       struct larder_error *e)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < manifest->n_layers; i++)
        if (!strcmp(manifest->layers[i].media_type, ARTIFACT_TART_DISK))
            rc = add_piece(artifact, &manifest->layers[i], e);
    artifact->packing = ARTIFACT_PIECES;
    return rc;
}

/* Topmost first: a file in a later layer hides the one below. */
static int pick_tar(const struct oci_manifest *manifest, struct image_artifact *artifact,
                    struct larder_error *e)
{
    int rc = 0;
    for (size_t i = manifest->n_layers; rc == 0 && i > 0; i--)
        if (is_tar_type(manifest->layers[i - 1].media_type) &&
            !media_type_is_foreign(manifest->layers[i - 1].media_type))
            rc = add_blob(artifact, &manifest->layers[i - 1], e);
    artifact->packing = ARTIFACT_TAR;
    return rc;
}

static int pick_file(const struct oci_manifest *manifest, struct image_artifact *artifact,
                     struct larder_error *e)
{
    const struct oci_descriptor *best = NULL;
    for (size_t i = 0; i < manifest->n_layers; i++) {
        const struct oci_descriptor *layer = &manifest->layers[i];
        if (is_companion_type(layer->media_type) || is_companion_title(title_of(layer)))
            continue;
        if (!best || layer->size_bytes > best->size_bytes)
            best = layer;
    }
    if (!best)
        return 0;
    const char *title = title_of(best);
    artifact->packing = ARTIFACT_FILE;
    artifact->title = title ? strdup(title) : NULL;
    if (title && !artifact->title)
        return error_nomem(e);
    return add_blob(artifact, best, e);
}

static bool has_tart_disk(const struct oci_manifest *manifest)
{
    for (size_t i = 0; i < manifest->n_layers; i++)
        if (!strcmp(manifest->layers[i].media_type, ARTIFACT_TART_DISK))
            return true;
    return false;
}

int image_artifact_pick(const struct oci_manifest *manifest, struct image_artifact *ret,
                        struct larder_error *e)
{
    struct image_artifact artifact = {0};
    int rc;
    if (manifest->kind != OCI_KIND_IMAGE)
        return error_set(e, LARDER_INVAL, "an index, where the manifest of one disk was expected");
    if (has_tart_disk(manifest))
        rc = pick_pieces(manifest, &artifact, e);
    else if (media_type_is_config(manifest->config.media_type) && !manifest->artifact_type)
        rc = pick_tar(manifest, &artifact, e);
    else
        rc = pick_file(manifest, &artifact, e);
    if (rc == 0 && artifact.n_blobs == 0) {
        rc = error_set(e, LARDER_NOENT, "no disk image among the %zu layers", manifest->n_layers);
        error_hint(e, "`larder inspect --raw` shows them; name one by digest: ...@sha256:...");
    }
    if (rc < 0) {
        image_artifact_done(&artifact);
        return rc;
    }
    *ret = artifact;
    return 0;
}
