/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Disk images in OCI registries: which blobs of a manifest are the disk, and how they are packed.
 * Pure: looks at manifests that were read. The shapes in the wild:
 *
 *   oras, nosi       artifact; layers titled as files, the disk (perhaps compressed) beside sums,
 *                    signatures and reports: those are dropped, of the rest the largest is it
 *   podman machine   index of artifacts, a "disktype" annotation each, architectures as uname
 *                    says them; one layer
 *   containerDisk    (KubeVirt) an ordinary image; the disk is the file below /disk in a layer
 *   tart             layers of a type of its own: the disk cut in pieces, each LZ4
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "oci/manifest.h"

#define ARTIFACT_TART_DISK "application/vnd.cirruslabs.tart.disk.v2"

enum artifact_packing {
    ARTIFACT_FILE,   /* one blob that is the image, perhaps compressed */
    ARTIFACT_TAR,    /* the image is a file below disk/ in one of the blobs, topmost layer first */
    ARTIFACT_PIECES, /* the blobs' contents, each unpacked from LZ4, one after the other */
};

struct artifact_blob {
    struct larder_digest digest;
    uint64_t size_bytes;
    uint64_t unpacked_bytes;              /* 0: not said */
    struct larder_digest unpacked_digest; /* alg NONE: not said */
};

struct image_artifact {
    enum artifact_packing packing;
    struct artifact_blob *blobs;
    size_t n_blobs;
    char *title; /* file name of the blob ("debian.img.gz"); NULL: none was given */
};
void image_artifact_done(struct image_artifact *artifact);

/*
 * Which member of an index to take: one whose platform is this machine's (as Go or as uname names
 * it); of several, the one whose disktype suits the format asked for ("raw": applehv, "vhdx":
 * hyperv, else qemu). NOENT telling what there is.
 */
int image_artifact_member(const struct oci_manifest *index, const char *format,
                          const struct oci_descriptor **ret, struct larder_error *e);

/* What of a manifest is the disk. NOENT when nothing looks like one. */
int image_artifact_pick(const struct oci_manifest *manifest, struct image_artifact *ret,
                        struct larder_error *e);
